//! Runs single regions on a backend, with data made for them: for the device tests of kernels, and of their mutations.

use super::caps::AdapterClass;
use super::kernels::launches::{launches, work_of};
use super::kernels::{self, Mutation};
use super::{Gpu, Request, adapters};
use crate::backend::reference::Reference;
use crate::backend::{Backend, BufferId, Work};
use crate::dtype::DType;
use crate::ir::{Binary, Prim, Unary};
use crate::plan::{Region, SlotId, Source};
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The one device of this test process, or `None` where there is no adapter at all; that is a failure where
/// `KILN_REQUIRE_ADAPTER` is set.
pub(crate) fn device() -> Option<&'static Gpu> {
    static DEVICE: OnceLock<Option<Gpu>> = OnceLock::new();
    let open = || {
        let all = adapters();
        let request = if all.first()?.caps.software() { Request::Software } else { Request::Gpu };
        Some(Gpu::open(&request).expect("an adapter that is listed opens"))
    };
    let device = DEVICE.get_or_init(open).as_ref();
    assert!(
        device.is_some() || !crate::config::config().require_adapter,
        "no adapter, and KILN_REQUIRE_ADAPTER is set"
    );
    device
}

/// The words of each slot that a region reads.
pub(crate) type Memory = BTreeMap<SlotId, Vec<u32>>;

const SPECIAL: [f32; 18] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    0.5,
    1.5,
    2.5,
    -2.0,
    3.0,
    88.0,
    -88.0,
    1e-3,
    1e30,
    -1e-30,
    20.0,
];

/// Largest valid index of argument `arg` plus one, if it holds indices.
fn index_limit(region: &Region, arg: usize) -> Option<usize> {
    let value = region.body.inputs[arg].value;
    region.body.nodes.iter().find(|n| n.args.get(1) == Some(&value)).and_then(|n| match &n.prim {
        Prim::Take => Some(region.args[0].view.shape[0]),
        Prim::ScatterAdd { rows } => Some(*rows),
        Prim::TakeAlong { axis } => Some(region.args[0].view.shape[*axis]),
        Prim::ScatterAddAlong { axis, shape } => Some(shape[*axis]),
        Prim::Call(c) if c.composite.name().starts_with("cross_entropy") => Some(region.args[0].view.shape[1]),
        _ => None,
    })
}

/// Data for a region: specials and several magnitudes for pointwise work, ties for what orders, valid indices.
pub(crate) fn data(region: &Region) -> Memory {
    let mut memory = Memory::new();
    let has = |f: &dyn Fn(&Prim) -> bool| region.body.nodes.iter().any(|n| f(&n.prim));
    let trig = has(&|p| matches!(p, Prim::Unary(Unary::Sin | Unary::Cos)));
    let orders = has(&|p| matches!(p, Prim::ArgMax { .. } | Prim::Sort { .. }));
    let special = region.kind == crate::plan::RegionKind::Pointwise && !has(&|p| matches!(p, Prim::Cast(_)));
    let rem = has(&|p| matches!(p, Prim::Binary(Binary::Rem)));
    for (i, arg) in region.args.iter().enumerate() {
        let Source::Slot(slot) = arg.source else { continue };
        let len = arg.view.span().map_or(0, |(_, hi)| ((hi + 1) * arg.dtype.bytes()).div_ceil(4));
        let mut rng = Rng::named(11, &format!("{i}"));
        let limit = index_limit(region, i);
        let words = (0..len).map(|k| match arg.dtype {
            DType::F32 if special && k < SPECIAL.len() * 2 => {
                let x = SPECIAL[(k + i * (1 + k / SPECIAL.len())) % SPECIAL.len()];
                let far = (trig && x.abs() > 1e20) || (rem && x != 0.0 && !(1e-9..1e9).contains(&x.abs()));
                if far { 12345.67f32 } else { x }.to_bits()
            }
            DType::F32 if orders => (rng.range(-3.0, 3.0).round() as f32).to_bits(),
            DType::F32 => {
                let scale = if special { [0.01, 1.0, 5.0, 300.0][k % 4] } else { 1.5 };
                (rng.range(-scale, scale) as f32).to_bits()
            }
            // Two in a word.
            DType::F16 => [0, 16].iter().map(|s| half(rng.range(-3.0, 3.0) as f32) << s).sum(),
            DType::I32 if limit.is_some() => rng.below(limit.unwrap_or(1)) as u32,
            DType::I32 => (rng.below(41) as i32 - 20) as u32,
            DType::U32 => rng.below(30) as u32,
            DType::Bool => rng.below(2) as u32,
        });
        memory.entry(slot).or_insert_with(|| words.collect());
    }
    memory
}

fn half(x: f32) -> u32 {
    half::f16::from_f32(x).to_bits().into()
}

/// The words of each result after running the region once.
pub(crate) fn run(backend: &dyn Backend, region: &Region, memory: &Memory) -> crate::Result<Vec<Vec<u32>>> {
    Ok(run_all(backend, std::slice::from_ref(region), memory)?.0)
}

/// The words of each result of each region after running them in order, and the number of launches.
pub(crate) fn run_all(
    backend: &dyn Backend,
    regions: &[Region],
    memory: &Memory,
) -> crate::Result<(Vec<Vec<u32>>, usize)> {
    // One at a time: the fault record belongs to the whole device.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffers: BTreeMap<SlotId, BufferId> = BTreeMap::new();
    for (slot, words) in memory {
        let id = backend.alloc(words.len() * 4)?;
        backend.write(id, bytemuck::cast_slice(words))?;
        buffers.insert(*slot, id);
    }
    for out in regions.iter().flat_map(|r| &r.outs) {
        if let std::collections::btree_map::Entry::Vacant(e) = buffers.entry(out.slot) {
            e.insert(backend.alloc(out.ty.bytes())?);
        }
    }
    let slot_of = |s: &Source| match s {
        Source::Slot(s) => Some(buffers[s]),
        Source::Iota => None,
    };
    let work: Vec<Work> = regions
        .iter()
        .map(|region| Work::Run {
            region,
            args: region.args.iter().map(|a| slot_of(&a.source)).collect(),
            outs: region.outs.iter().map(|o| buffers[&o.slot]).collect(),
        })
        .collect();
    let mut ready = backend.compile(&work)?;
    ready.run()?;
    let read = |o: &crate::plan::Target| {
        let bytes = backend.read(buffers[&o.slot], o.ty.bytes())?.wait()?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    };
    let outs = regions.iter().flat_map(|r| &r.outs).map(read).collect::<crate::Result<_>>();
    backend.check_status()?;
    for id in buffers.into_values() {
        backend.free(id);
    }
    Ok((outs?, ready.dispatches()))
}

/// How far sums of this region may be off: a bound on depth times magnitude, in units of f32's last place.
fn slack(region: &Region) -> f32 {
    let terms = |n: &crate::ir::Node| match &n.prim {
        Prim::Reduce { axes, .. } => {
            let shape = region.body.shape(n.args[0]);
            axes.iter().map(|&a| shape[a]).product::<usize>()
        }
        Prim::CumSum { axis } => region.body.shape(n.args[0])[*axis],
        Prim::ScatterAdd { .. } | Prim::ScatterAddAlong { .. } => 40,
        _ => 0,
    };
    let most = region.body.nodes.iter().map(terms).max().unwrap_or(0) as f32;
    // Private folds are at most a quarter of 4096 elements deep, each partial sum at most `most` * 1.5^2.
    f32::EPSILON * most * 2.25 * (most.min(1024.0) / 4.0 + 12.0).sqrt()
}

/// The first disagreement of two runs of a region, as text.
pub(crate) fn compare(region: &Region, got: &[Vec<u32>], want: &[Vec<u32>]) -> Option<String> {
    let slack = slack(region);
    for (o, out) in region.outs.iter().enumerate() {
        for (k, (&g, &w)) in got[o].iter().zip(&want[o]).enumerate() {
            let (a, b) = (f32::from_bits(g), f32::from_bits(w));
            let close = match out.ty.dtype {
                DType::F32 => a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= slack + 1e-7 + 5e-6 * b.abs(),
                // Two in a word, the last perhaps alone. What an f32 before it may differ by can be one unit in f16.
                DType::F16 => [0, 16].iter().enumerate().all(|(i, s)| {
                    let [a, b] = [g, w].map(|x| half::f16::from_bits((x >> s) as u16).to_f32());
                    let beyond = 2 * k + i >= out.ty.shape.elems();
                    beyond || a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-3 * b.abs() + 6e-8
                }),
                _ => g == w,
            };
            if !close {
                let both = if out.ty.dtype == DType::F32 { format!("{a} for {b}") } else { format!("{g} for {w}") };
                return Some(format!("result {o} at {k}: {both}\n{}", region.body));
            }
        }
    }
    None
}

/// Runs a region on the device and on the reference; the first disagreement.
pub(crate) fn disagreement(gpu: &Gpu, region: &Region) -> Option<String> {
    let memory = data(region);
    let want = run(&Reference::new(), region, &memory).expect("the reference takes every sample");
    match run(gpu, region, &memory) {
        Ok(got) => compare(region, &got, &want),
        Err(e) => Some(format!("{e}\n{}", region.body)),
    }
}

/// Whether some sample of the kernel notices this fault; `None` if no text on this adapter has it.
pub(crate) fn caught(gpu: &Gpu, mutation: Mutation, samples: &[Region]) -> Option<bool> {
    let broken = gpu.mutated(mutation);
    let mut occurs = false;
    for gpu in [broken.as_class(AdapterClass::Software), as_gpu(&broken), by_subgroups(&broken, mutation.stem)] {
        for region in samples {
            let calls = kernels::select(region, gpu.gpu_caps()).unwrap_or_default();
            if calls.iter().any(|c| c.label == mutation.stem && c.source.contains(mutation.find)) {
                occurs = true;
                if disagreement(&gpu, region).is_some() {
                    return Some(true);
                }
            }
        }
    }
    occurs.then_some(false)
}

/// This device with the kernels that a discrete GPU of its limits would get.
pub(crate) fn as_gpu(gpu: &Gpu) -> Gpu {
    gpu.as_class(AdapterClass::Discrete)
}

/// The same, where the kernel has one, with its variant that folds by subgroup operations.
pub(crate) fn by_subgroups(gpu: &Gpu, stem: &str) -> Gpu {
    as_gpu(&gpu.with_variants([(stem.to_string(), "subgroup".to_string())].into()))
}

/// Data for all regions: of a slot what the first that reads it wants.
pub(crate) fn memory(regions: &[Region]) -> Memory {
    let mut memory = Memory::new();
    for region in regions {
        for (slot, words) in data(region) {
            memory.entry(slot).or_insert(words);
        }
    }
    memory
}

/// Runs regions in order on the device and on the reference; the first disagreement, of the number of launches too.
pub(crate) fn chain_disagreement(gpu: &Gpu, regions: &[Region]) -> Option<String> {
    let memory = memory(regions);
    let want = run_all(&Reference::new(), regions, &memory).expect("the reference takes every sample").0;
    let work: Vec<Work> = regions.iter().map(work_of).collect();
    let launched = launches(&work, gpu.gpu_caps()).map_or(0, |l| l.len());
    let got = match run_all(gpu, regions, &memory) {
        Ok((got, n)) if n == launched => got,
        Ok((_, n)) => return Some(format!("{n} launches instead of {launched}")),
        Err(e) => return Some(e.to_string()),
    };
    let mut at = 0;
    regions.iter().find_map(|r| {
        let outs = at..at + r.outs.len();
        at = outs.end;
        compare(r, &got[outs.clone()], &want[outs])
    })
}
