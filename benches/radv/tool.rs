//! What Mesa's RADV driver makes of the hot kernels on AMD chips that need not be there: its null device compiles for the
//! chip that `RADV_FORCE_FAMILY` names, and tells registers, spills, workgroup memory, waves and the machine code.
//! Nothing runs.

use ash::vk;
use kiln::backend::gpu::kernels::launches::{self, Launch};
use kiln::backend::gpu::kernels::{self, Bind, KernelCall};
use kiln::backend::gpu::{AdapterClass, GpuCaps};
use kiln::ir::{Call, ConvDims, OutputKind, Type};
use kiln::plan::{self, Caps, Limits, PlanOptions, Region, RegionKind, Step};
use kiln::{Builder, DType, Shape, bench};
use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt::Write;

/// Chips, under the names that versions of RADV have for them.
pub const CHIPS: [(&str, &[&str]); 3] =
    [("navi31", &["NAVI31", "GFX1100"]), ("navi21", &["NAVI21"]), ("vega10", &["VEGA10"])];

/// Where Debian and others put the driver's description.
const DRIVERS: [&str; 2] =
    ["/usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "/usr/share/vulkan/icd.d/radeon_icd.json"];

/// What the compiler says of one kernel on one chip.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub vgprs: u64,
    /// Registers of both kinds.
    pub spilled: u64,
    /// Bytes of memory per wave for what has no register: spilled vectors, and arrays that are indexed by variables.
    pub scratch: u64,
    pub lds: u64,
    pub waves: u64,
    pub wave_size: u32,
    pub code: u64,
    /// [`fma_share`] in percent.
    pub fma: Option<f64>,
    /// Instructions that read global memory, by bytes per lane: 4 or fewer, 8 or 12, 16.
    pub loads: [usize; 3],
}

/// A GPU that selection believes in: what its class and limits ask for is planned and chosen, without a device.
pub struct Paper(pub GpuCaps);

impl Paper {
    /// A card of the kind that RADV drives.
    pub fn new(class: AdapterClass) -> Paper {
        let caps = GpuCaps::sample(class, Some((32, 64)));
        let large = GpuCaps { workgroup_bytes: 32 << 10, max_storage_buffers: 31, max_invocations: 1024, ..caps };
        Paper(GpuCaps { coherent: true, max_binding_bytes: 2 << 30, max_workgroup_size: [1024, 1024, 64], ..large })
    }
}

impl Caps for Paper {
    fn limits(&self) -> Limits {
        Limits { max_operands: 24, max_slot_bytes: self.0.max_binding_bytes as usize }
    }
    fn kernel(&self, call: &Call, args: &[Type]) -> Result<(), String> {
        kernels::takes(call, args, &self.0)
    }
    fn supports(&self, region: &Region) -> Result<(), String> {
        kernels::select(region, &self.0).map(drop)
    }
    fn reads_strided(&self, region: &Region, arg: usize) -> bool {
        matches!(region.kind, RegionKind::Pointwise | RegionKind::Reduce)
            || kernels::find(region).is_ok_and(|k| (k.strided)(region, arg))
    }
}

/// The regions of a workload of `kiln bench` on this device.
fn regions(workload: &bench::Workload, device: &Paper) -> Vec<Region> {
    let b = Builder::new();
    let inputs: Vec<_> =
        workload.inputs.iter().enumerate().map(|(i, s)| b.feed(format!("{i}"), DType::F32, s)).collect();
    for (i, t) in (workload.build)(&inputs).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, t);
    }
    let plan = plan::plan(&b.build().unwrap(), device, None, &PlanOptions::default()).unwrap();
    let regions = plan.steps.into_iter().filter_map(|s| match s {
        Step::Run { region, .. } => Some(region),
        Step::Copy { .. } => None,
    });
    regions.collect()
}

/// The workloads of `kiln bench` with their calls on this device, and launches that several small regions share.
pub fn all(device: &Paper) -> Vec<(String, KernelCall)> {
    let chosen = |r: &Region| kernels::select(r, &device.0).unwrap();
    let chains = chains(device).into_iter().map(|c| ("small regions".to_string(), c));
    each(device, chosen).into_iter().chain(chains).collect()
}

/// The same with every variant that such a card would not get by itself; those of a split k have the texts of whole ones, but for the last lines.
pub fn variants(device: &Paper) -> Vec<(String, KernelCall)> {
    let others = |r: &Region| {
        let all = kernels::candidates::candidates(r, &device.0).unwrap().into_iter();
        all.filter(|c| !c.built_in && !c.variant.contains(':')).flat_map(|c| c.calls).collect()
    };
    each(device, others)
}

/// What `calls` makes of every region of the workloads.
fn each(device: &Paper, calls: impl Fn(&Region) -> Vec<KernelCall>) -> Vec<(String, KernelCall)> {
    let mut workloads = bench::all();
    // Too long for a benchmark on software adapters, and what the largest tiles are for.
    let one = || vec![1; 2];
    let dims = ConvDims { stride: one(), pad: vec![(1, 1); 2], lhs_dilation: one(), rhs_dilation: one(), groups: 1 };
    let large = |name: &str, inputs: [&[usize]; 2]| bench::Workload {
        name: name.into(),
        inputs: inputs.iter().map(|s| Shape::from(*s)).collect(),
        build: Box::new(|x| vec![x[0].matmul(&x[1])]),
        flops: 0.0,
        bytes: 0.0,
    };
    workloads.push(large("matmul_4096", [&[4096, 4096], &[4096, 4096]]));
    workloads.push(large("matmul_16x4096x4096", [&[16, 4096], &[4096, 4096]]));
    workloads.push(bench::Workload {
        build: Box::new(move |x| vec![x[0].conv(&x[1], dims.clone())]),
        ..large("conv_32x128x56_128_fwd", [&[32, 128, 56, 56], &[128, 128, 3, 3]])
    });
    let of = |w: &bench::Workload| regions(w, device).iter().flat_map(&calls).collect::<Vec<_>>();
    let named = |w: &bench::Workload| of(w).into_iter().map(|c| (w.name.to_string(), c)).collect::<Vec<_>>();
    workloads.iter().flat_map(named).collect()
}

fn chains(device: &Paper) -> Vec<KernelCall> {
    let mut calls = Vec::new();
    for regions in kernels::samples::chains().iter().take(2) {
        let work: Vec<_> = regions.iter().map(launches::work_of).collect();
        for launch in launches::launches(&work, &device.0).unwrap() {
            if let Launch::Chain(_, call) = launch {
                calls.push(*call);
            }
        }
    }
    calls
}

/// The driver's description, if RADV is installed, and its library.
pub fn driver() -> Option<(&'static str, Vec<u8>)> {
    let description = DRIVERS.into_iter().find(|p| std::path::Path::new(p).exists())?;
    let text: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(description).ok()?).ok()?;
    let library = std::fs::read(text["ICD"]["library_path"].as_str()?).ok()?;
    Some((description, library))
}

/// The name that this driver has for a chip: a driver that is given another one ends the process.
pub fn known(library: &[u8], names: &[&'static str]) -> Option<&'static str> {
    let has = |name: &str| {
        let text = [b"\0", name.as_bytes(), b"\0"].concat();
        library.windows(text.len()).any(|w| w == text)
    };
    names.iter().copied().find(|name| has(name))
}

/// A null device of one chip.
pub struct Chip {
    _entry: ash::Entry,
    instance: ash::Instance,
    device: ash::Device,
    properties: ash::khr::pipeline_executable_properties::Device,
}

impl Chip {
    /// Opens the chip of this name; the error says why there is none.
    ///
    /// Sets environment variables, which the Vulkan loader and the driver read: call it while no other thread does.
    pub fn open(driver: &str, name: &str) -> Result<Chip, String> {
        // SAFETY: the caller runs no other thread that touches the environment.
        unsafe {
            std::env::set_var("VK_DRIVER_FILES", driver);
            std::env::set_var("VK_ICD_FILENAMES", driver);
            std::env::set_var("RADV_FORCE_FAMILY", name);
            std::env::set_var("RADV_DEBUG", "nocache");
        }
        let text = |what: &str, e: vk::Result| format!("{what} on {name}: {e}");
        // SAFETY: the loader is a Vulkan loader.
        let entry = unsafe { ash::Entry::load() }.map_err(|e| format!("no Vulkan loader: {e}"))?;
        let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
        let info = vk::InstanceCreateInfo::default().application_info(&app);
        // SAFETY: `info` is valid; the instance is destroyed once.
        let instance = unsafe { entry.create_instance(&info, None) }.map_err(|e| text("instance", e))?;
        // SAFETY: the instance lives.
        let found = unsafe { instance.enumerate_physical_devices() }.unwrap_or_default();
        let Some(&physical) = found.first() else {
            // SAFETY: nothing was made of it.
            unsafe { instance.destroy_instance(None) };
            return Err(format!("RADV knows no chip {name:?}"));
        };
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let extensions = [ash::khr::pipeline_executable_properties::NAME.as_ptr()];
        let mut wanted =
            vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let mut memory = vk::PhysicalDeviceVulkanMemoryModelFeatures::default().vulkan_memory_model(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .push_next(&mut wanted)
            .push_next(&mut memory);
        // SAFETY: family 0 and the extension exist on RADV.
        let device = unsafe { instance.create_device(physical, &info, None) }.map_err(|e| text("device", e))?;
        let properties = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
        Ok(Chip { _entry: entry, instance, device, properties })
    }

    /// Compiles one kernel.
    pub fn compile(&self, call: &KernelCall) -> Result<Figures, String> {
        let words = spirv(call)?;
        let text = |e: vk::Result| format!("{}: {e}", call.label);
        let kind = |bind: &Bind| match bind {
            Bind::Image { .. } => vk::DescriptorType::STORAGE_IMAGE,
            _ => vk::DescriptorType::STORAGE_BUFFER,
        };
        let kinds = call.bindings.iter().map(kind).chain([vk::DescriptorType::UNIFORM_BUFFER]);
        let bindings: Vec<_> = kinds
            .enumerate()
            .map(|(i, kind)| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(i as u32)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let d = &self.device;
        // SAFETY: every structure is valid for its call, and what is made is destroyed once, below.
        unsafe {
            let sets = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let set = d.create_descriptor_set_layout(&sets, None).map_err(text)?;
            let layout_info = vk::PipelineLayoutCreateInfo::default().set_layouts(std::slice::from_ref(&set));
            let layout = d.create_pipeline_layout(&layout_info, None).map_err(text)?;
            let module =
                d.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None).map_err(text)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags);
            let made = d.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let figures = made.map_err(|(_, e)| text(e)).and_then(|pipelines| {
                let figures = self.read(pipelines[0]).map_err(text);
                d.destroy_pipeline(pipelines[0], None);
                figures
            });
            d.destroy_shader_module(module, None);
            d.destroy_pipeline_layout(layout, None);
            d.destroy_descriptor_set_layout(set, None);
            figures
        }
    }

    /// # Safety
    /// The pipeline was made with statistics and representations.
    unsafe fn read(&self, pipeline: vk::Pipeline) -> Result<Figures, vk::Result> {
        let mut figures = Figures::default();
        let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: by the caller's promise.
        let executables = unsafe { self.properties.get_pipeline_executable_properties(&of) }?;
        figures.wave_size = executables.first().map_or(0, |e| e.subgroup_size);
        let of = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        // SAFETY: as above; RADV's statistics are all unsigned.
        for s in unsafe { self.properties.get_pipeline_executable_statistics(&of) }? {
            let value = unsafe { s.value.u64 };
            match name(&s.name).as_str() {
                "VGPRs" => figures.vgprs = value,
                "Spilled VGPRs" | "Spilled SGPRs" => figures.spilled += value,
                "Scratch size" => figures.scratch = value,
                "LDS size" => figures.lds = value,
                "Subgroups per SIMD" => figures.waves = value,
                "Code size" => figures.code = value,
                _ => {}
            }
        }
        // The texts are fetched in two calls: sizes, then contents.
        // SAFETY: as above.
        let mut texts = unsafe { self.properties.get_pipeline_executable_internal_representations(&of) }?;
        let mut buffers: Vec<Vec<u8>> = texts.iter().map(|t| vec![0; t.data_size]).collect();
        for (t, buffer) in texts.iter_mut().zip(&mut buffers) {
            t.p_data = buffer.as_mut_ptr().cast();
        }
        let mut count = texts.len() as u32;
        // SAFETY: as many structures as the driver has, each with room for its text.
        unsafe {
            (self.properties.fp().get_pipeline_executable_internal_representations_khr)(
                self.device.handle(),
                &of,
                &mut count,
                texts.as_mut_ptr(),
            )
        }
        .result()?;
        for (t, buffer) in texts.iter().zip(&buffers) {
            if name(&t.name).contains("Assembly") {
                let text = String::from_utf8_lossy(buffer);
                (figures.fma, figures.loads) = (fma_share(&text), loads(&text));
            }
        }
        Ok(figures)
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        // SAFETY: nothing that was made of them is left.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

fn name(raw: &[std::ffi::c_char]) -> String {
    // SAFETY: Vulkan's names end with a zero inside their arrays.
    unsafe { CStr::from_ptr(raw.as_ptr()) }.to_string_lossy().into_owned()
}

/// SPIR-V as wgpu makes it with its checks off, which is how kiln makes pipelines.
fn spirv(call: &KernelCall) -> Result<Vec<u32>, String> {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(&call.source).map_err(|e| e.emit_to_string(&call.source))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&call.source))?;
    let constants = call.overrides.iter().map(|&(n, v)| (n.to_string(), v)).collect();
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) = naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants)
        .map_err(|e| format!("overrides: {e}"))?;
    let options = naga::back::spv::Options {
        lang_version: (1, 3),
        zero_initialize_workgroup_memory: naga::back::spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..Default::default()
    };
    naga::back::spv::write_vec(&module, &info, &options, None).map_err(|e| e.to_string())
}

/// The instructions of a line of machine code: two for a dual issue.
fn instructions(line: &str) -> Vec<&str> {
    let code = line.split(';').next().unwrap_or_default();
    code.split("::").filter_map(|part| part.split_whitespace().next()).collect()
}

/// Lanes of multiply-adds among those of vector arithmetic in the innermost loop with most of them; what its iterations may branch over
/// counts too.
pub fn fma_share(assembly: &str) -> Option<f64> {
    // Multiply-adds and vector instructions up to each line.
    let mut counts = vec![(0, 0)];
    let mut labels: HashMap<&str, usize> = HashMap::new();
    let mut best: Option<(usize, usize)> = None;
    // Where loops begin that have ended.
    let mut ended = Vec::new();
    for (at, line) in assembly.lines().enumerate() {
        let words = instructions(line);
        let (mut fma, mut all) = counts[at];
        for word in &words {
            let op = word.trim_start_matches("v_dual_").trim_start_matches("v_");
            let multiply_add = ["fma", "mac_f32", "mad_f32", "pk_fma"].iter().any(|f| op.starts_with(f));
            if word.starts_with("v_") {
                all += 1;
                fma += usize::from(multiply_add);
            }
        }
        counts.push((fma, all));
        let label = words.first().and_then(|w| w.strip_suffix(':'));
        labels.extend(label.map(|l| (l, at)));
        if !words.first().is_some_and(|w| w.starts_with("s_cbranch") || w.starts_with("s_branch")) {
            continue;
        }
        let target = line.split(';').next().and_then(|code| code.split_whitespace().nth(1));
        if let Some(&start) = target.and_then(|t| labels.get(t)) {
            // Another branch back to the same place is of the same loop.
            let innermost = !ended.iter().any(|&inner| inner > start);
            ended.push(start);
            let own = fma - counts[start].0;
            if innermost && own > best.map_or(7, |b| b.0) {
                best = Some((own, all - counts[start].1));
            }
        }
    }
    best.map(|(fma, all)| 100.0 * fma as f64 / all as f64)
}

/// How many instructions read global memory: 4 bytes a lane or fewer, 8 or 12, 16.
pub fn loads(assembly: &str) -> [usize; 3] {
    let mut counts = [0; 3];
    for word in assembly.lines().flat_map(instructions) {
        if ["buffer_load", "global_load", "flat_load"].iter().any(|p| word.starts_with(p)) {
            let wide = |suffixes: &[&str]| suffixes.iter().any(|s| word.ends_with(s));
            let class =
                if wide(&["dwordx4", "b128"]) { 2 } else { usize::from(wide(&["dwordx2", "dwordx3", "b64", "b96"])) };
            counts[class] += 1;
        }
    }
    counts
}

/// One row of the table.
pub fn row(chip: &str, workload: &str, call: &KernelCall, f: &Figures) -> String {
    let mut text = String::new();
    let fma = f.fma.map_or("-".to_string(), |x| format!("{x:.0} %"));
    let [narrow, middle, wide] = f.loads;
    let _ = write!(
        text,
        "| {chip} | {workload} | {} {} | {} | {} | {} | {} | {} of {} | {} | {fma} | {narrow}/{middle}/{wide} |",
        call.label, call.variant, f.vgprs, f.spilled, f.scratch, f.lds, f.waves, f.wave_size, f.code
    );
    text
}

/// The heading of the table.
pub const HEADING: &str = "| chip | workload | kernel, variant | VGPRs | spills | scratch | LDS | waves per SIMD of lanes | code | FMA in the main loop | loads of 4/8-12/16 bytes |
|---|---|---|---|---|---|---|---|---|---|---|";
