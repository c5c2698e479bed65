//! Device tests of the kernels, against the reference backend on the same regions.

use super::harness::{self, as_gpu, by_subgroups, device, disagreement};
use super::kernels;
use crate::backend::Backend;
use crate::plan::{Region, RegionKind};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

fn skip() {
    eprintln!("no adapter: device tests are skipped");
}

/// Runs all samples of the kernels whose first stem starts with `stem`, as this device takes them and as a discrete GPU would, also by
/// subgroup operations.
fn samples_agree(stem: &str) {
    let Some(gpu) = device() else { return skip() };
    let mut wrong = Vec::new();
    let mut ran = 0;
    for kernel in kernels::all().iter().filter(|k| k.stems[0] == stem) {
        for region in (kernel.samples)() {
            assert!(!region.body.nodes.is_empty(), "a sample of {stem} does not build");
            if kernels::half::stored(&region) && !gpu.gpu_caps().f16 {
                continue;
            }
            ran += 1;
            wrong.extend([gpu, &as_gpu(gpu)].iter().filter_map(|gpu| disagreement(gpu, &region)));
            if kernel.variants.contains(&"subgroup") {
                wrong.extend(disagreement(&by_subgroups(gpu, stem), &region));
            }
        }
    }
    assert!(ran > 0, "no samples of {stem}");
    assert!(wrong.is_empty(), "{} of {ran} samples of {stem} disagree:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn pointwise() {
    samples_agree("pointwise");
}
#[test]
fn reduce() {
    samples_agree("reduce");
}
#[test]
fn argmax() {
    samples_agree("argmax");
}
#[test]
fn cumsum() {
    samples_agree("cumsum");
}
#[test]
fn sort() {
    samples_agree("sort_block");
}
#[test]
fn pad() {
    samples_agree("pad");
}
#[test]
fn concat() {
    samples_agree("copy_strided");
}
#[test]
fn take() {
    samples_agree("take");
}
#[test]
fn scatter_add() {
    samples_agree("scatter_add");
}
#[test]
fn take_along_and_its_adjoint() {
    samples_agree("take_along");
}

/// Held by tests that make faults, one at a time: a device has one record of them.
static FAULTS: Mutex<()> = Mutex::new(());

#[test]
fn an_index_out_of_range_is_named() {
    let Some(gpu) = device() else { return skip() };
    let _mine = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let region = &(kernels::take::KERNEL.samples)()[0];
    let mut memory = harness::data(region);
    if let Some(index) = memory.values_mut().nth(1) {
        index[2] = 99;
        index[5] = u32::MAX;
    }
    let e = harness::run(gpu, region, &memory).expect_err("row 99 of 10 is reported").to_string();
    assert!(e.contains("take") && e.contains("index 99 at position 2 is not in 0..10"), "{e}");
    assert!(gpu.check_status().is_ok(), "the record is cleared");
}

#[test]
fn a_target_out_of_range_is_named() {
    let Some(gpu) = device() else { return skip() };
    let _mine = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let kernel = &kernels::cross_entropy::KERNELS[0];
    let region = &(kernel.samples)()[1];
    let mut memory = harness::data(region);
    let Some(targets) = memory.values_mut().nth(1) else { panic!("the sample has targets") };
    // 2 is the ignored target of the samples; a negative one is as wrong as a large one, and the first row counts.
    targets.copy_from_slice(&[2, 9, 12, 0, u32::MAX]);
    for gpu in [gpu, &as_gpu(gpu)] {
        let e = harness::run(gpu, region, &memory).expect_err("class 12 of 10 is reported").to_string();
        assert!(e.contains("cross_entropy") && e.contains("index 12 at position 2 is not in 0..10"), "{e}");
    }
    for targets in memory.values_mut().skip(1) {
        targets.copy_from_slice(&[2, 9, 3, 0, u32::MAX]);
    }
    let e = harness::run(gpu, region, &memory).expect_err("class -1 is reported").to_string();
    assert!(e.contains("index -1 at position 4 is not in 0..10"), "{e}");
    assert!(gpu.check_status().is_ok(), "the record is cleared");
}

/// Samples whose results differ when each launch is cut in three, and the launches of all of them uncut and cut.
fn cut_samples(gpu: &super::Gpu, cut: &super::Gpu, samples: &[Region]) -> (Vec<String>, [usize; 2]) {
    let (mut wrong, mut launched) = (Vec::new(), [0; 2]);
    for region in samples {
        let memory = harness::data(region);
        let of = |gpu| harness::run_all(gpu, std::slice::from_ref(region), &memory).expect("the device takes samples");
        let ((want, whole), (got, parts)) = (of(gpu), of(cut));
        launched = [launched[0] + whole, launched[1] + parts];
        if got != want {
            wrong.push(format!("{whole} launches in {parts} parts give other bits:\n{}", region.body));
        }
    }
    (wrong, launched)
}

/// Of all kernels some samples, each launch in three parts where it has as many workgroups: what differs, and the kernels of which no
/// launch was cut.
fn cut_kernels(gpu: &super::Gpu) -> (Vec<String>, BTreeSet<&'static str>) {
    let cut = gpu.with_variants([(kernels::parts::PARTS.into(), "3".into())].into());
    let (mut wrong, mut whole) = (Vec::new(), BTreeSet::new());
    for kernel in kernels::all() {
        // A few of each kernel, since every text costs a compilation; all of one whose few are single workgroups.
        let f16 = gpu.gpu_caps().f16;
        let all: Vec<_> = (kernel.samples)().into_iter().filter(|r| f16 || !kernels::half::stored(r)).collect();
        let few: Vec<_> = all.iter().step_by(4).cloned().collect();
        let mut uncut = true;
        for samples in [few, all] {
            if uncut {
                let (w, [launches, parts]) = cut_samples(gpu, &cut, &samples);
                wrong.extend(w);
                uncut = parts == launches;
            }
        }
        if uncut {
            whole.insert(kernel.stems[0]);
        }
    }
    (wrong, whole)
}

#[test]
fn long_launches_in_parts_give_the_same_bits() {
    let Some(gpu) = device() else { return skip() };
    // Small workgroups, so that small samples have several; and few along x, so that numbers along y and z count too.
    let caps = super::GpuCaps { max_invocations: 8, max_workgroups: 16, ..gpu.gpu_caps().clone() };
    let gpu = &super::Gpu { caps, ..gpu.with_variants(Default::default()) };
    let (wrong, whole) = cut_kernels(gpu);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(whole.is_empty(), "no sample was cut of {whole:?}");
    let cut = gpu.with_variants([(kernels::parts::PARTS.into(), "3".into())].into());
    let samples: Vec<_> = (kernels::pointwise::KERNEL.samples)().into_iter().collect();
    for &mutation in kernels::parts::MUTATIONS {
        let (wrong, _) = cut_samples(gpu, &cut.mutated(mutation), &samples);
        assert!(!wrong.is_empty(), "{mutation:?} is not noticed");
    }
}

/// The same with the tiles and workgroups of a GPU, of which small samples often need one alone.
#[test]
fn long_launches_of_a_gpu_in_parts_give_the_same_bits() {
    let Some(gpu) = device() else { return skip() };
    let (wrong, whole) = cut_kernels(&as_gpu(gpu));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let hot = ["matmul_tiled", "conv2d_im2col", "attention", "softmax", "layer_norm", "batch_norm", "reduce"];
    let missed: Vec<_> = hot.iter().filter(|stem| whole.contains(*stem)).collect();
    assert!(missed.is_empty(), "no sample was cut of {missed:?}");
}

#[test]
fn chains() {
    let Some(gpu) = device() else { return skip() };
    let samples = kernels::samples::chains();
    let launched = |s: &Vec<_>| {
        let work: Vec<_> = s.iter().map(kernels::launches::work_of).collect();
        kernels::launches::launches(&work, gpu.gpu_caps()).map_or(usize::MAX, |l| l.len())
    };
    assert!(samples[..3].iter().all(|s| launched(s) < s.len()), "nothing shares a launch");
    let wrong: Vec<String> = samples.iter().filter_map(|s| harness::chain_disagreement(gpu, s)).collect();
    assert!(wrong.is_empty(), "{} of {} chains disagree:\n{}", wrong.len(), samples.len(), wrong.join("\n"));
    let missed = |m: &&kernels::Mutation| {
        let broken = gpu.mutated(**m);
        samples[..3].iter().all(|s| harness::chain_disagreement(&broken, s).is_none())
    };
    let missed: Vec<_> = kernels::chain::MUTATIONS.iter().filter(missed).collect();
    assert!(missed.is_empty(), "no sample notices {missed:?}");
}

/// Several kernels of one program, compiled on the device and by two others, or by nobody beforehand.
#[test]
fn what_other_devices_compile_is_the_same() {
    let Some(gpu) = device() else { return skip() };
    let off = [("chain".to_string(), "off".to_string())];
    let regions = kernels::samples::chains().swap_remove(3);
    let work: Vec<_> = regions.iter().map(kernels::launches::work_of).collect();
    let memory = harness::memory(&regions);
    let want = harness::run_all(&crate::backend::reference::Reference::new(), &regions, &memory).expect("runs").0;
    for most in [0, 2] {
        let helped = gpu.helped(most).with_variants(off.clone().into());
        let (got, launches) = harness::run_all(&helped, &regions, &memory).expect("compiles and runs");
        assert_eq!(launches, work.len(), "most {most}");
        let mut at = 0;
        for region in &regions {
            let outs = at..at + region.outs.len();
            at = outs.end;
            assert_eq!(harness::compare(region, &got[outs.clone()], &want[outs]), None);
        }
        assert!(helped.pipelines() >= 3, "{} pipelines", helped.pipelines());
        let lavapipe = gpu.info().driver.contains("llvmpipe");
        assert_eq!(helped.compiled_elsewhere() > 0, lavapipe && most > 0, "most {most}");
    }
}

#[test]
fn every_mutation_is_caught() {
    let Some(gpu) = device() else { return skip() };
    let mut missed: Vec<kernels::Mutation> = Vec::new();
    // Products, convolutions and fused kernels have a harness of their own.
    let here = |k: &&&kernels::KernelInfo| match k.serves {
        kernels::Serves::Kind(kind) => !matches!(kind, RegionKind::Dot | RegionKind::Conv),
        kernels::Serves::Composite(_) => false,
    };
    for kernel in kernels::all().iter().filter(here) {
        let samples = (kernel.samples)();
        // Some texts are for adapters with subgroups alone; that each fault occurs somewhere is tested without a device.
        let missing = if gpu.gpu_caps().lanes() == 8 { None } else { Some(true) };
        let noticed = |m: &&kernels::Mutation| harness::caught(gpu, **m, &samples).or(missing) == Some(true);
        missed.extend(kernel.mutations.iter().filter(|m| !noticed(m)));
    }
    assert!(missed.is_empty(), "no sample notices {missed:?}");
}

/// Attention's gradient takes the result and lse of the forward pass, and measurements have to give it those.
#[test]
fn variants_of_attentions_gradient_are_judged_on_what_the_forward_pass_gives() {
    let Some(gpu) = device() else { return skip() };
    let regions = (kernels::attention::KERNELS[1].samples)();
    if gpu.gpu_caps().software() && gpu.gpu_caps().lanes() < 8 {
        return eprintln!("not run: this adapter takes minutes to compile tiles of attention");
    }
    let gpu = as_gpu(gpu);
    let large = kernels::candidates::with_variant(&regions[2], gpu.gpu_caps(), "tile_64").is_ok();
    // Plain, causal, with a mask of bools and with one that is added, and the same in f16.
    let plain = [2, 4, 5, 6].map(|i| regions[i].clone());
    let half: Vec<Region> = match gpu.gpu_caps().f16 {
        true => plain.iter().filter_map(kernels::half::sample).collect(),
        false => Vec::new(),
    };
    for region in plain.iter().chain(&half) {
        let (names, faults) = crate::bench::variants::faults(&gpu, region).expect("variants run");
        assert_eq!(faults, Vec::<String>::new());
        let has = |v: &str| names.iter().any(|n| n == v);
        assert!(has("tile_32") && has("tile_64") == large && !has("flat"), "{names:?}");
    }
    // What rounding to f16 is allowed is not enough for a wrong kernel.
    let deltas = kernels::Mutation { stem: "attention_dq", find: "- stat1.y", replace: "" };
    let broken = gpu.mutated(deltas);
    for region in [&plain[0]].into_iter().chain(half.first()) {
        let (names, faults) = crate::bench::variants::faults(&broken, region).expect("variants run");
        let tiles = names.iter().filter(|n| n.starts_with("tile_")).count();
        assert!(tiles > 0 && faults.len() == tiles, "{names:?}: {faults:?}");
    }
}

#[test]
fn reruns_are_bit_equal_and_make_no_pipelines() {
    let Some(gpu) = device() else { return skip() };
    let samples: Vec<_> =
        [&kernels::reduce::KERNEL, &kernels::scatter_add::KERNEL].iter().flat_map(|k| (k.samples)()).collect();
    let all = || samples.iter().map(|r| harness::run(gpu, r, &harness::data(r))).collect::<crate::Result<Vec<_>>>();
    let first = all().expect("samples run");
    assert_eq!(first, all().expect("samples run again"));
}

#[test]
fn profiles_name_kernels_with_times() {
    use crate::backend::Work;
    let Some(gpu) = device() else { return skip() };
    let region = &(kernels::reduce::KERNEL.samples)()[10];
    let ids: Vec<_> = [region.args[0].view.shape.elems() * 4, region.outs[0].ty.bytes()]
        .map(|b| gpu.alloc(b).expect("memory"))
        .into();
    let work = Work::Run { region, args: vec![Some(ids[0])], outs: vec![ids[1]] };
    let mut run = gpu.compile(&[work]).expect("compiles");
    match run.profile() {
        Ok(times) => {
            assert_eq!(times.len(), run.dispatches());
            assert!(times.iter().all(|t| t.kernel == "reduce" && t.ns >= 0.0 && t.bytes > 0), "{times:?}");
        }
        Err(e) => assert!(e.to_string().contains("timestamps"), "{e}"),
    }
}
