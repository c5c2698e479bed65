//! Every shader text that the kernels can make: valid, its barriers in uniform control flow, translatable to SPIR-V, MSL
//! and HLSL, its bindings and `Params` as the host believes. Needs no device.

use kiln::backend::gpu::kernels::launches::{self, Launch};
use kiln::backend::gpu::kernels::{self, Bind, Grid, KernelCall, KernelInfo, chain, parts};
use kiln::backend::gpu::{AdapterClass, GpuCaps};
use kiln::check::lint;
use kiln::plan::Region;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};

/// The sorts of adapters that selection distinguishes, each also with every variant forced.
fn capabilities(kernel: &KernelInfo) -> Vec<GpuCaps> {
    let mut all = Vec::new();
    for class in [AdapterClass::Discrete, AdapterClass::Integrated, AdapterClass::Software] {
        for subgroups in [None, Some((4, 4)), Some((8, 8)), Some((32, 64))] {
            let caps = GpuCaps {
                workgroup_bytes: 32 << 10,
                max_storage_buffers: 31,
                f16: true,
                int64: subgroups != Some((4, 4)),
                coherent: subgroups.is_some(),
                ..GpuCaps::sample(class, subgroups)
            };
            all.push(caps.clone());
            for variant in kernel.variants {
                let asked = kernel.asked_by().map(|s| (s.to_string(), variant.to_string()));
                let variants: BTreeMap<_, _> = asked.collect();
                all.push(GpuCaps { variants, ..caps.clone() });
            }
        }
    }
    all
}

/// Every distinct call of a kernel, by text and overrides.
fn calls(kernel: &KernelInfo) -> Vec<KernelCall> {
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    // Each sample also with its operands and results in f16.
    let half = |r: Region| [kernels::half::sample(&r), Some(r)].into_iter().flatten();
    let samples: Vec<Region> = (kernel.samples)().into_iter().flat_map(half).collect();
    for caps in capabilities(kernel) {
        for region in &samples {
            // A forced variant may not fit a sample; that some variant fits each is tested below.
            for call in kernels::select(region, &caps).unwrap_or_default() {
                if seen.insert((call.source.clone(), format!("{:?}", call.overrides))) {
                    all.push(call);
                }
            }
        }
    }
    all
}

/// Every distinct text of a chain of samples.
fn chains() -> Vec<KernelCall> {
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    for caps in capabilities(&kernels::pointwise::KERNEL) {
        for regions in kernels::samples::chains() {
            let work: Vec<_> = regions.iter().map(launches::work_of).collect();
            for launch in launches::launches(&work, &caps).expect("chains have texts") {
                match launch {
                    Launch::Chain(_, call) if seen.insert(call.source.clone()) => all.push(*call),
                    _ => {}
                }
            }
        }
    }
    all
}

fn parse(call: &KernelCall) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(&call.source).map_err(|e| e.emit_to_string(&call.source))?;
    let info = Validator::new(
        ValidationFlags::all(),
        Capabilities::SUBGROUP
            | Capabilities::SHADER_FLOAT16
            | Capabilities::SHADER_INT64
            | Capabilities::MEMORY_DECORATION_COHERENT,
    )
    .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
    .subgroup_operations(naga::valid::SubgroupOperationSet::all())
    .validate(&module)
    .map_err(|e| e.emit_to_string(&call.source))?;
    Ok((module, info))
}

/// What is wrong with the declared bindings and `Params`.
fn reflection(call: &KernelCall, module: &Module) -> Option<String> {
    let uniform = call.bindings.len() as u32;
    for (_, global) in module.global_variables.iter() {
        let Some(at) = &global.binding else { continue };
        match global.space {
            AddressSpace::Storage { access } => {
                let writes = access.contains(StorageAccess::STORE);
                match call.bindings.get(at.binding as usize) {
                    Some(bind) if bind.writes() == writes => {}
                    other => return Some(format!("binding {} is {other:?}, the text writes: {writes}", at.binding)),
                }
            }
            AddressSpace::Uniform => {
                if at.binding != uniform {
                    return Some(format!("Params are at {} and not at {uniform}", at.binding));
                }
                // Chains have one struct a part.
                let (ty, parts) = match module.types[global.ty].inner {
                    TypeInner::Array { base, size: naga::ArraySize::Constant(n), .. } => (base, n.get()),
                    _ => (global.ty, 1),
                };
                let TypeInner::Struct { members, span } = &module.types[ty].inner else {
                    return Some("Params are no struct".into());
                };
                let span = span * parts;
                let wgsl: Vec<(&str, usize)> =
                    members.iter().map(|m| (m.name.as_deref().unwrap_or(""), m.offset as usize)).collect();
                let (own, part) = wgsl.split_at(call.params.fields.len().min(wgsl.len()));
                let behind = call.params.bytes.len();
                let of_part = parts::MEMBERS.into_iter().zip([32, 16].map(|n| behind.saturating_sub(n)));
                if own != call.params.fields || !(part.is_empty() || of_part.eq(part.iter().copied())) {
                    return Some(format!("Params differ: {wgsl:?} and {:?}", call.params.fields));
                }
                if (span as usize).next_multiple_of(16) != call.params.bytes.len().next_multiple_of(16) {
                    return Some(format!("Params have {span} and {} bytes", call.params.bytes.len()));
                }
            }
            AddressSpace::Handle => {
                let TypeInner::Image { class: naga::ImageClass::Storage { access, .. }, .. } =
                    module.types[global.ty].inner
                else {
                    return Some(format!("binding {} is no storage texture", at.binding));
                };
                let writes = access.contains(StorageAccess::STORE);
                match call.bindings.get(at.binding as usize) {
                    Some(Bind::Image { write, .. }) if *write == writes => {}
                    other => return Some(format!("binding {} is {other:?}, the text writes: {writes}", at.binding)),
                }
            }
            _ => {}
        }
    }
    None
}

/// What a translation says, if it fails.
fn translations(call: &KernelCall, module: &Module, info: &ModuleInfo) -> Result<(), String> {
    let constants = call.overrides.iter().map(|&(n, v)| (n.to_string(), v)).collect();
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) = naga::back::pipeline_constants::process_overrides(module, info, entry, &constants)
        .map_err(|e| format!("overrides: {e}"))?;
    naga::back::spv::write_vec(&module, &info, &Default::default(), None).map_err(|e| format!("SPIR-V: {e}"))?;
    let msl = naga::back::msl::Options { lang_version: (2, 4), ..Default::default() };
    naga::back::msl::write_string(&module, &info, &msl, &Default::default()).map_err(|e| format!("MSL: {e}"))?;
    let hlsl = naga::back::hlsl::Options { shader_model: naga::back::hlsl::ShaderModel::V6_2, ..Default::default() };
    let (mut text, pipeline) = (String::new(), Default::default());
    naga::back::hlsl::Writer::new(&mut text, &hlsl, &pipeline)
        .write(&module, &info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    Ok(())
}

#[test]
fn every_text_is_valid_translatable_and_synchronised() {
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    let alone = kernels::all().iter().map(|k| calls(k));
    let mut uncut = BTreeSet::new();
    let mut cut = |c: KernelCall| {
        let pieces = parts::cut(KernelCall { grid: Grid([5, 1, 1]), ..c }, 2);
        if pieces.len() == 1 {
            uncut.insert(pieces[0].label);
        }
        pieces.into_iter().next()
    };
    let in_parts = kernels::all().iter().map(|k| calls(k).into_iter().filter_map(&mut cut).collect());
    for texts in alone.chain([chains()]).chain(in_parts) {
        for call in texts {
            count += 1;
            let name = format!("{} ({})", call.label, call.variant);
            let (module, info) = match parse(&call) {
                Ok(parsed) => parsed,
                Err(e) => {
                    wrong.insert(format!("{name}: {e}"));
                    continue;
                }
            };
            // Who exchanges values with neighbours counts lanes as subgroups do.
            if call.source.contains("subgroupShuffle") && !call.source.contains("let lane = subgroup * size + place;") {
                wrong.insert(format!("{name}: lanes are not numbered by subgroup"));
            }
            wrong.extend(lint::barriers(&module).into_iter().map(|e| format!("{name}: {e}")));
            wrong.extend(reflection(&call, &module).map(|e| format!("{name}: {e}")));
            wrong.extend(translations(&call, &module, &info).err().map(|e| format!("{name}: {e}")));
        }
    }
    assert!(count >= 200, "only {count} texts");
    // One workgroup checks all indices.
    assert_eq!(uncut, BTreeSet::from(["check_index"]));
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn samples_reach_every_stem_and_variant_and_always_have_a_kernel() {
    let mut wrong = Vec::new();
    for kernel in kernels::all() {
        let caps = GpuCaps { f16: true, ..GpuCaps::default_limits() };
        for region in (kernel.samples)() {
            wrong.extend(kernels::select(&region, &caps).err().map(|e| format!("{:?}: {e}", kernel.serves)));
        }
        let made: Vec<_> = calls(kernel).iter().map(|c| (c.label, c.variant)).collect();
        wrong.extend(kernel.stems.iter().filter(|s| !made.iter().any(|m| m.0 == **s)).map(|s| format!("stem {s}")));
        wrong.extend(
            kernel.variants.iter().filter(|v| !made.iter().any(|m| m.1 == **v)).map(|v| format!("variant {v}")),
        );
    }
    assert!(wrong.is_empty(), "not reached, or without a kernel: {}", wrong.join("; "));
}

#[test]
fn mutations_change_texts_that_stay_valid() {
    let mut wrong = Vec::new();
    let texts = kernels::all().iter().map(|k| (calls(k), k.mutations)).chain([(chains(), chain::MUTATIONS)]);
    for (texts, mutations) in texts {
        for m in mutations {
            let mut of: Vec<_> =
                texts.iter().filter(|c| c.label == m.stem && c.source.contains(m.find)).cloned().collect();
            of.iter_mut().for_each(|c| c.source = c.source.replace(m.find, m.replace).into());
            match of.iter().map(parse).find_map(Result::err) {
                Some(e) => wrong.push(format!("{m:?} does not compile: {e}")),
                None if of.is_empty() => wrong.push(format!("{m:?} occurs nowhere")),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
