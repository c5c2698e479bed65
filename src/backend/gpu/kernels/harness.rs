//! Runs kernel calls on an adapter without the rest of the backend, and compares them with the reference: every sample of a
//! kernel under every variant, and every mutation, which some sample must catch. Uses the one device of the test process.

use super::{Bind, IMAGE_WIDTH, KernelCall, KernelInfo, Mutation};
use crate::backend::gpu::caps::{AdapterClass, GpuCaps};
use crate::backend::gpu::pipelines::binding_type;
use crate::backend::reference::{Array, Precision, Values, eval};
use crate::dtype::DType;
use crate::plan::{Region, Source};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use wgpu::util::DeviceExt;

pub(super) struct Gpu {
    gpu: &'static crate::backend::gpu::Gpu,
    pub caps: GpuCaps,
    /// Pipelines by text: most samples share theirs, and each costs the adapter a compilation.
    pipelines: RefCell<HashMap<Arc<str>, (wgpu::ComputePipeline, wgpu::BindGroupLayout)>>,
    /// Texts have deliberate faults: they may not be trusted with their bounds.
    faulty: Cell<bool>,
}

impl Gpu {
    fn device(&self) -> &wgpu::Device {
        &self.gpu.shared.device.device
    }
    fn queue(&self) -> &wgpu::Queue {
        &self.gpu.shared.device.queue
    }
    fn pipeline(&self, call: &KernelCall) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
        if let Some(known) = self.pipelines.borrow().get(&call.source) {
            return known.clone();
        }
        let desc = wgpu::ShaderModuleDescriptor {
            label: Some(call.label),
            source: wgpu::ShaderSource::Wgsl(call.source.to_string().into()),
        };
        let module = match self.faulty.get() {
            true => self.device().create_shader_module(desc),
            // SAFETY: as for all texts that are not tampered with (`pipelines.rs`).
            false => unsafe {
                self.device().create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked())
            },
        };
        let ty = wgpu::BufferBindingType::Uniform;
        let uniform = wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let types = call.bindings.iter().map(|b| binding_type(b.writes(), matches!(b, Bind::Image { .. })));
        let entries: Vec<_> = (0u32..)
            .zip(types.chain([uniform]))
            .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty,
                count: None,
            })
            .collect();
        let layout =
            self.device().create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = self.device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(call.label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        self.pipelines.borrow_mut().insert(call.source.clone(), (pipeline.clone(), layout.clone()));
        (pipeline, layout)
    }
}

/// The device of all device tests, one kernel test at a time; `None` where the machine has no adapter and need not have.
pub(super) fn gpu() -> Option<MutexGuard<'static, Gpu>> {
    static GPU: OnceLock<Option<Mutex<Gpu>>> = OnceLock::new();
    let open = |gpu: &'static crate::backend::gpu::Gpu| {
        Mutex::new(Gpu { gpu, caps: gpu.gpu_caps().clone(), pipelines: RefCell::default(), faulty: Cell::new(false) })
    };
    let gpu = GPU.get_or_init(|| crate::backend::gpu::harness::device().map(open)).as_ref()?;
    Some(gpu.lock().unwrap_or_else(|e| e.into_inner()))
}

/// Deterministic numbers in [-1, 1).
pub(super) fn noise(seed: u32, i: usize) -> f64 {
    let mut h = (i as u32).wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 16)).wrapping_mul(0x21f0_aaad);
    h = (h ^ (h >> 15)).wrapping_mul(0x735a_2d97);
    h ^= h >> 15;
    f64::from((f64::from(h) / 2f64.powi(31) - 1.0) as f32)
}

/// What lies in the slots of a region's arguments: `fill(arg, element of the view)`; memory that no view reaches is NaN.
pub(super) fn contents(region: &Region, fill: &dyn Fn(usize, usize) -> f64) -> (Vec<Vec<u32>>, Vec<Array>) {
    let (mut slots, mut arrays) = (Vec::new(), Vec::new());
    for (i, arg) in region.args.iter().enumerate() {
        let reach = arg.view.span().map_or(0, |(_, hi)| hi + 1);
        let mut words = vec![f32::NAN.to_bits(); reach.next_multiple_of(4).max(4)];
        let elems = arg.view.shape.elems();
        let dense = arg.view.shape.strides();
        let mut values = vec![0.0; elems];
        for (e, value) in values.iter_mut().enumerate() {
            let mut at = arg.view.offset as isize;
            let (mut rest, mut first) = (e as isize, e);
            for (d, &s) in dense.iter().enumerate() {
                let c = if s == 0 { 0 } else { rest / s };
                rest -= c * s;
                at += c * arg.view.strides[d];
                if arg.view.strides[d] == 0 {
                    first -= (c * s) as usize;
                }
            }
            // Repeated elements have the value of the first.
            let v = match arg.dtype {
                DType::F16 => half::f16::from_f32(fill(i, first) as f32).to_f64(),
                DType::F32 | DType::I32 | DType::U32 | DType::Bool => fill(i, first),
            };
            *value = v;
            if matches!(arg.source, Source::Slot(_)) {
                words[at as usize] = match arg.dtype {
                    DType::F32 => (v as f32).to_bits(),
                    DType::F16 => half::f16::from_f32(v as f32).to_bits().into(),
                    DType::I32 => (v as i32) as u32,
                    DType::U32 | DType::Bool => v as u32,
                };
            }
        }
        let data = match arg.dtype {
            DType::F32 => Values::F(values),
            DType::F16 => Values::H(values),
            DType::I32 => Values::I(values.iter().map(|&v| v as i32).collect()),
            DType::U32 => Values::U(values.iter().map(|&v| v as u32).collect()),
            DType::Bool => Values::B(values.iter().map(|&v| v as u32).collect()),
        };
        arrays.push(Array { shape: arg.view.shape.clone(), data });
        if arg.dtype == DType::F16 {
            words = words.chunks(2).map(|w| w[0] & 0xffff | w[1] << 16).chain([0, 0]).collect();
        }
        slots.push(words);
    }
    (slots, arrays)
}

/// Bounds of the error of each result: `bound(reference arrays, output, element, exact value)`.
pub(super) type Bound<'a> = &'a dyn Fn(&[Array], usize, usize, f64) -> f64;

/// A scratch texture full of NaN.
fn image(gpu: &Gpu, texels: u64, poison: &dyn Fn(usize) -> Vec<u32>) -> wgpu::TextureView {
    let rows = texels.div_ceil(u64::from(IMAGE_WIDTH)).max(1) as u32;
    let texture = gpu.device().create_texture_with_data(
        gpu.queue(),
        &wgpu::TextureDescriptor {
            label: None,
            size: wgpu::Extent3d { width: IMAGE_WIDTH, height: rows, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba32Float,
            usage: wgpu::TextureUsages::STORAGE_BINDING,
            view_formats: &[],
        },
        wgpu::util::TextureDataOrder::LayerMajor,
        bytemuck::cast_slice(&poison((4 * IMAGE_WIDTH * rows) as usize)),
    );
    texture.create_view(&Default::default())
}

/// Runs the calls; `repeat` times for timing. Returns the words of the results and seconds per run.
pub(super) fn run(
    gpu: &Gpu,
    region: &Region,
    calls: &[KernelCall],
    slots: &[Vec<u32>],
    repeat: usize,
) -> (Vec<Vec<u32>>, f64) {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let storage = |words: &[u32]| {
        let contents = bytemuck::cast_slice(words);
        gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
    };
    let args: Vec<wgpu::Buffer> = slots.iter().map(|s| storage(s)).collect();
    let poison = |elems: usize| vec![0x7fc0_1234u32; elems.next_multiple_of(4).max(4)];
    let outs: Vec<wgpu::Buffer> = region.outs.iter().map(|o| storage(&poison(o.ty.shape.elems()))).collect();
    let status = storage(&[0; 16]);
    let mut scratch: BTreeMap<usize, wgpu::Buffer> = BTreeMap::new();
    let mut images: BTreeMap<usize, wgpu::TextureView> = BTreeMap::new();
    let binds = || calls.iter().flat_map(|c| &c.bindings);
    for bind in binds() {
        match *bind {
            Bind::Scratch { id, bytes, .. } => {
                scratch.entry(id).or_insert_with(|| storage(&poison(bytes as usize / 4)));
            }
            Bind::Image { id, .. } => {
                let most = binds().map(|b| match *b {
                    Bind::Image { id: other, texels, .. } if other == id => texels,
                    _ => 0,
                });
                images.entry(id).or_insert_with(|| image(gpu, most.max().unwrap_or(0), &poison));
            }
            _ => {}
        }
    }
    let mut ready = Vec::new();
    for call in calls {
        let (pipeline, layout) = gpu.pipeline(call);
        let params = gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: &call.params.bytes,
            usage: wgpu::BufferUsages::UNIFORM,
        });
        let resource = |b: &Bind| match *b {
            Bind::Arg(a) => args[a].as_entire_binding(),
            Bind::Out(o) => outs[o].as_entire_binding(),
            Bind::InPlace(a, _) => args[a].as_entire_binding(),
            Bind::Scratch { id, .. } => scratch[&id].as_entire_binding(),
            Bind::Image { id, .. } => wgpu::BindingResource::TextureView(&images[&id]),
            Bind::Status => status.as_entire_binding(),
        };
        let bound = call.bindings.iter().map(resource).chain([params.as_entire_binding()]);
        let entries: Vec<_> =
            (0u32..).zip(bound).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let group = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        });
        ready.push((pipeline, group, call.grid));
    }
    let submit = || {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (pipeline, group, grid) in &ready {
            if grid.count() > 0 {
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(grid.0[0], grid.0[1], grid.0[2]);
            }
        }
        drop(pass);
        gpu.queue().submit([encoder.finish()]);
        let _ = gpu.device().poll(wgpu::PollType::wait_indefinitely());
    };
    submit();
    let mut best = f64::INFINITY;
    for _ in 1..repeat {
        let start = std::time::Instant::now();
        submit();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let read = |b: &wgpu::Buffer| {
        let to = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: b.size(),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(b, 0, &to, 0, b.size());
        gpu.queue().submit([encoder.finish()]);
        to.slice(..).map_async(wgpu::MapMode::Read, |_| ());
        let _ = gpu.device().poll(wgpu::PollType::wait_indefinitely());
        let view = to.slice(..).get_mapped_range().expect("the buffer is mapped");
        bytemuck::pod_collect_to_vec::<u8, u32>(&view)
    };
    let results = region.outs.iter().zip(&outs).zip(&region.in_place).map(|((o, b), place)| {
        let mut words = read(place.map_or(b, |a| &args[a]));
        if o.ty.dtype == DType::F16 {
            words = words.iter().flat_map(|w| [w & 0xffff, w >> 16]).collect();
        }
        words.truncate(o.ty.shape.elems());
        words
    });
    let results = results.collect();
    gpu.gpu.shared.wait().expect("the device takes the calls");
    (results, best)
}

/// The first element of the results that is not within its bound.
pub(super) fn compare(region: &Region, got: &[Vec<u32>], args: &[Array], bound: Bound) -> Result<(), String> {
    let want = eval(&region.body, args, Precision::F64).map_err(|e| e.to_string())?;
    for (o, (got, want)) in got.iter().zip(&want).enumerate() {
        for (i, (&g, w)) in got.iter().zip(want.to_f64()).enumerate() {
            let g = match want.data {
                Values::F(_) => f64::from(f32::from_bits(g)),
                Values::H(_) => half::f16::from_bits(g as u16).to_f64(),
                Values::I(_) => f64::from(g as i32),
                Values::U(_) | Values::B(_) => f64::from(g),
            };
            let same = (g.is_nan() && w.is_nan()) || g == w;
            let bound = bound(args, o, i, w);
            // The result is rounded to f16 after all else: half a unit of 11 bits, or of 2^-24.
            let rounding = (w.abs() + bound) * 2f64.powi(-11) + 2f64.powi(-25);
            let bound = if matches!(want.data, Values::H(_)) { bound + rounding } else { bound };
            if !same && !((g - w).abs() <= bound) {
                return Err(format!(
                    "result {o} element {i} of {}: {g} instead of {w} (bound {bound:e})",
                    want.shape()
                ));
            }
        }
    }
    Ok(())
}

trait Shaped {
    fn shape(&self) -> String;
}
impl Shaped for Array {
    fn shape(&self) -> String {
        self.shape.to_string()
    }
}

/// In place of a variant's name: what a discrete GPU would take by itself.
const GPU: &str = "of a GPU";
/// The same with subgroup operations.
const SUBGROUPS: &str = "of a GPU by subgroups";
/// Defaults of GPUs that no sample is large enough for: they run every sample too.
const LARGE: &str = "tile_64";
/// Variants that do not run on subgroups of eight lanes.
const OTHER_SIZES: [&str; 3] = ["subgroup_4", "broadcast_1", "broadcast_4"];

/// Every sample under the defaults and under each of `variants` (which need not fit every sample) agrees with the reference; each
/// mutation of the kernel is caught by one of them.
pub(super) fn check(
    kernel: &KernelInfo,
    stem: &str,
    variants: &[&'static str],
    fill: &dyn Fn(&Region, usize, usize) -> f64,
    bound: Bound,
) {
    let Some(gpu) = gpu() else {
        eprintln!("no adapter: {stem} is not tested");
        return;
    };
    let mut caught = vec![(false, false); kernel.mutations.len()];
    let (mut ran, mut seen) = (0, BTreeSet::new());
    // The defaults of a software adapter and of a GPU of these limits run every sample, and with subgroups what fits; each variant a third of them,
    // in turn, because every text costs a compilation.
    for (turn, variant) in ["", GPU, SUBGROUPS].iter().chain(variants).enumerate() {
        if gpu.caps.lanes() < 8 && stem.starts_with("attention") && [LARGE, SUBGROUPS].contains(variant) {
            // Some adapters compile them for minutes.
            continue;
        }
        let mut caps = gpu.caps.clone();
        match *variant {
            "" => caps.class = AdapterClass::Software,
            GPU => caps.class = AdapterClass::Discrete,
            SUBGROUPS => {
                caps.class = AdapterClass::Discrete;
                caps.variants.insert(stem.into(), "subgroup".into());
            }
            v => drop(caps.variants.insert(stem.into(), v.into())),
        }
        let mine = |n: usize, of: usize| (n + turn).is_multiple_of(of);
        let own = (kernel.samples)();
        // The same with operands and results in f16, half as many.
        let half: Vec<Region> = own.iter().filter(|_| caps.f16).filter_map(super::half::sample).collect();
        let own = own.iter().enumerate().filter(|(n, _)| turn < 3 || *variant == LARGE || mine(*n, 3));
        for (n, region) in own.chain(half.iter().enumerate().filter(|(n, _)| turn == 0 || mine(*n, 6))) {
            let calls = match super::selected(kernel, region, &caps) {
                Ok(calls) => calls,
                Err(e) if turn < 2 => panic!("{stem} sample {n} {variant}: {e}"),
                Err(_) => continue,
            };
            if *variant == SUBGROUPS && !calls.iter().any(|c| c.variant.starts_with("subgroup")) {
                continue;
            }
            let (slots, args) = contents(region, &|a, i| fill(region, a, i));
            let (got, _) = run(&gpu, region, &calls, &slots, 1);
            if let Err(e) = compare(region, &got, &args, bound) {
                panic!("{stem} sample {n} variant {variant:?} ({}): {e}\n{}", calls[0].variant, region.body);
            }
            ran += 1;
            seen.extend(calls.iter().filter(|_| turn != 1).map(|c| (c.variant, *variant == SUBGROUPS)));
            for (m, (occurs, hit)) in kernel.mutations.iter().zip(&mut caught) {
                if !*hit && calls.iter().any(|c| c.label == m.stem && c.source.contains(m.find)) {
                    gpu.faulty.set(true);
                    let (got, _) = run(&gpu, region, &mutated(&calls, m), &slots, 1);
                    gpu.faulty.set(false);
                    (*occurs, *hit) = (true, compare(region, &got, &args, bound).is_err());
                }
            }
        }
    }
    assert!(ran > 0);
    let base = |v: &'static str| v.split(':').next().unwrap_or_default().trim_end_matches("_t");
    let mut wanted: Vec<_> = variants.iter().map(|&v| (base(v), false)).collect();
    wanted.extend(kernel.variants.contains(&"subgroup").then_some(("subgroup", true)));
    wanted.retain(|(v, _)| gpu.caps.lanes() == 8 && !OTHER_SIZES.contains(v));
    for (v, as_gpu) in wanted {
        assert!(seen.iter().any(|s| s.0 == v && s.1 >= as_gpu), "{stem}: no sample has a variant {v:?}");
    }
    // Some texts are for subgroups of eight alone; that each fault occurs somewhere is tested without a device.
    for (m, (occurs, hit)) in kernel.mutations.iter().zip(&caught) {
        assert!(*hit || !occurs && gpu.caps.lanes() != 8, "{stem}: no sample catches {:?} -> {:?}", m.find, m.replace);
    }
}

fn mutated(calls: &[KernelCall], m: &Mutation) -> Vec<KernelCall> {
    let mut calls = calls.to_vec();
    for c in calls.iter_mut().filter(|c| c.label == m.stem) {
        c.source = c.source.replace(m.find, m.replace).into();
    }
    calls
}
