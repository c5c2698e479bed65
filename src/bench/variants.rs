//! All ways to compute a region on a GPU adapter: each variant that fits is first held against the f64 reference, element by
//! element within the bounds of `kiln check`, then timed. What `kiln bench --variants` prints and `kiln tune` decides by.

use super::{Case, Effort, attention, compile};
use crate::backend::gpu::Gpu;
use crate::backend::gpu::kernels::candidates::{Candidate, Pick, Picks, candidates, describe, key, texts};
use crate::backend::gpu::kernels::{BODY, COMPOSITES, chain};
use crate::backend::reference::{Array, gather, scatter};
use crate::backend::{Backend, BufferId, Device, Executable, Program, Work};
use crate::check::bound::{self, Approx};
use crate::check::{compare, slack};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::Prim;
use crate::plan::{Operand, Place, Region, RegionKind, SlotId, Source, Step};
use crate::rng::Rng;
use crate::tensor::HostTensor;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// One variant of a region.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timed {
    /// Its name.
    pub variant: String,
    /// True for what is chosen where no tuning file says otherwise.
    pub built_in: bool,
    /// Milliseconds per run: the median of alternating samples for the best few, one sample for the others.
    pub ms: f64,
    /// First and third quartile of the samples.
    pub range: [f64; 2],
    /// True if it was among the best few, which were measured again in turn; only those can be the best.
    pub settled: bool,
    /// Why it may not be picked: what `check` found.
    pub wrong: Option<String>,
    /// Digest of its kernels.
    #[serde(skip)]
    pub texts: String,
}

/// All variants of one region.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Variants {
    /// What the region computes.
    pub what: String,
    /// Its digest.
    pub region: String,
    /// The variants, fastest first; wrong ones last.
    pub rows: Vec<Timed>,
}

impl Variants {
    /// The fastest that is right.
    pub fn best(&self) -> Option<&Timed> {
        self.rows.iter().find(|r| r.wrong.is_none() && r.settled)
    }
    /// The built-in pick.
    pub fn built_in(&self) -> Option<&Timed> {
        self.rows.iter().find(|r| r.built_in)
    }
    /// The variant that is worth picking: right, and faster than the built-in one by 5 % and by more than both scatter. Any right one if
    /// the built-in one is wrong.
    pub fn pick(&self) -> Option<&Timed> {
        let (best, own) = (self.best()?, self.built_in()?);
        let faster = own.ms >= 1.05 * best.ms && own.range[0] > best.range[1];
        (!best.built_in && (faster || own.wrong.is_some())).then_some(best)
    }
    /// Of each frame the fastest number of pieces, and the built-in pick: what people want to see of a product's many rows.
    pub fn brief(&self) -> Vec<&Timed> {
        let mut frames = Vec::new();
        let first = |r: &&Timed| {
            let frame = Splits::frame(&r.variant);
            let new = !frames.contains(&frame);
            frames.push(frame);
            new || r.built_in || r.wrong.is_some()
        };
        self.rows.iter().filter(first).collect()
    }
    /// How many times as long as the best one the built-in pick takes.
    pub fn ratio(&self) -> f64 {
        match (self.built_in(), self.best()) {
            (Some(own), Some(best)) => own.ms / best.ms,
            _ => f64::INFINITY,
        }
    }
}

/// The different regions of programs that run on the device and have more than one variant there.
pub fn regions<'a>(programs: &[&'a Program], gpu: &Gpu) -> Vec<&'a Region> {
    let mut found: BTreeMap<String, &Region> = BTreeMap::new();
    let mut order = Vec::new();
    for step in programs.iter().flat_map(|p| &p.plan().steps) {
        let Step::Run { place: Place::Device, region } = step else { continue };
        let name = key(region);
        if !found.contains_key(&name) && candidates(region, gpu.gpu_caps()).is_ok_and(|c| c.len() > 1) {
            found.insert(name.clone(), region);
            order.push(name);
        }
    }
    order.iter().map(|name| found[name]).collect()
}

/// A case as it is planned, with all composites as their bodies, and with all that have kernels as kernels: for those whose plans
/// differ. Results are compared with the CPU path.
pub fn whole(case: &dyn Case, device: &Device, effort: &Effort) -> Result<Option<Variants>> {
    let Some(gpu) = device.gpu() else { return Ok(None) };
    let other = |names: &[&str], variant: &str| {
        let variants = names.iter().map(|n| (n.to_string(), variant.to_string())).collect();
        let host = Some(device.backend(Place::Host).clone());
        Device::with(Arc::new(gpu.with_variants(variants)), host, device.reason())
    };
    let (bodies, kernels) = (other(&[COMPOSITES], BODY), other(&["attention", "attention_grad"], "kernel"));
    let ways = [("planned", device), ("bodies", &bodies), ("kernels", &kernels)];
    let (mut plans, mut rows): (Vec<String>, Vec<Timed>) = Default::default();
    // Twice in turn, and the better of both counts: what else the machine does meanwhile hits one way or the other.
    for round in 0..2 {
        for (variant, device) in ways {
            if round == 1 && !rows.iter().any(|r| r.variant == variant) {
                continue;
            }
            if round == 0 {
                let plan = compile(case, device)?.plan().to_string();
                if plans.contains(&plan) {
                    continue;
                }
                plans.push(plan);
            }
            let row = super::measure(case, device, effort)?;
            let (ms, range) = (row.ms, [row.ms_min, row.ms_max]);
            match rows.iter_mut().find(|r| r.variant == variant) {
                Some(r) if ms < r.ms => (r.ms, r.range) = (ms, range),
                Some(_) => {}
                None => {
                    let (built_in, texts) = (rows.is_empty(), String::new());
                    let variant = variant.to_string();
                    rows.push(Timed { variant, built_in, ms, range, settled: true, wrong: None, texts });
                }
            }
        }
        if rows.len() < 2 {
            return Ok(None);
        }
    }
    rows.sort_by(|a, b| a.ms.total_cmp(&b.ms));
    let what = "the whole workload, composites by kernels or by their bodies".to_string();
    Ok(Some(Variants { what, region: case.name().to_string(), rows }))
}

/// A device's memory for one region, with data to compute on.
struct Bed<'a> {
    gpu: &'a Gpu,
    region: &'a Region,
    slots: BTreeMap<SlotId, (BufferId, Vec<u32>)>,
}

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        self.slots.values().for_each(|(id, _)| self.gpu.free(*id));
    }
}

/// Number of rows that the indices in argument `arg` may name; 1 where they are no indices.
fn rows(region: &Region, arg: usize) -> usize {
    let value = region.body.inputs[arg].value;
    let user = region.body.nodes.iter().find(|n| n.args.get(1) == Some(&value));
    match user.map(|n| &n.prim) {
        Some(Prim::Take) => region.args[0].view.shape[0],
        Some(Prim::ScatterAdd { rows }) => *rows,
        Some(Prim::TakeAlong { axis }) => region.args[0].view.shape[*axis],
        Some(Prim::ScatterAddAlong { axis, shape }) => shape[*axis],
        _ => 1,
    }
}

/// Words that a slot holds: signed noise for sums of products, positive numbers for what may divide and take roots.
fn words(region: &Region, arg: usize, len: usize) -> Vec<u32> {
    let mut rng = Rng::named(5, &format!("{arg}"));
    let signed = matches!(region.kind, RegionKind::Dot | RegionKind::Conv);
    let real = |rng: &mut Rng| if signed { rng.range(-1.0, 1.0) } else { rng.range(0.1, 1.5) } as f32;
    let half = |x: f32| u32::from(half::f16::from_f32(x).to_bits());
    let below = rows(region, arg);
    let word = |_| match region.args[arg].dtype {
        DType::F32 => real(&mut rng).to_bits(),
        DType::F16 => half(real(&mut rng)) | half(real(&mut rng)) << 16,
        DType::I32 | DType::U32 => rng.below(below) as u32,
        DType::Bool => rng.below(2) as u32,
    };
    (0..len).map(word).collect()
}

impl<'a> Bed<'a> {
    fn new(gpu: &'a Gpu, region: &'a Region) -> Result<Bed<'a>> {
        let mut sizes: BTreeMap<SlotId, (usize, Option<usize>)> = BTreeMap::new();
        for (i, arg) in region.args.iter().enumerate() {
            let Source::Slot(slot) = arg.source else { continue };
            let bytes = arg.view.span().map_or(0, |(_, hi)| (hi + 1) * arg.dtype.bytes());
            let size = sizes.entry(slot).or_insert((0, Some(i)));
            size.0 = size.0.max(bytes);
        }
        for out in &region.outs {
            let size = sizes.entry(out.slot).or_insert((0, None));
            size.0 = size.0.max(out.ty.bytes());
        }
        let mut bed = Bed { gpu, region, slots: BTreeMap::new() };
        for (slot, (bytes, arg)) in sizes {
            let len = bytes.div_ceil(4);
            // A result that nobody writes shows as NaN.
            let words = arg.map_or_else(|| vec![0x7fc0_1234; len], |arg| words(region, arg, len));
            bed.slots.insert(slot, (gpu.alloc(4 * len)?, words));
        }
        Ok(bed)
    }

    /// Gives arguments that depend on others their values.
    fn settle(&mut self) -> Result<()> {
        for (operand, values) in attention::dependent(self.region, &|a| self.given(a))? {
            if let Source::Slot(slot) = operand.source
                && let Some((_, words)) = self.slots.get_mut(&slot)
            {
                scatter(operand, &values, words)?;
            }
        }
        Ok(())
    }

    fn given(&self, arg: &Operand) -> Result<Array> {
        let words = if let Source::Slot(s) = arg.source { Some(&self.slots[&s].1[..]) } else { None };
        gather(arg, words)
    }

    fn work(&self) -> Work<'_> {
        let id = |slot: &SlotId| self.slots[slot].0;
        let arg = |source: &Source| if let Source::Slot(s) = source { Some(id(s)) } else { None };
        Work::Run {
            region: self.region,
            args: self.region.args.iter().map(|a| arg(&a.source)).collect(),
            outs: self.region.outs.iter().map(|o| id(&o.slot)).collect(),
        }
    }

    fn fill(&self) -> Result<()> {
        self.slots.values().try_for_each(|(id, words)| self.gpu.write(*id, bytemuck::cast_slice(words)))
    }

    /// The reference with its bounds, on data that belongs together.
    fn expected(&mut self) -> Result<Vec<Approx>> {
        self.settle()?;
        let args = self.region.args.iter().map(|a| self.given(a)).collect::<Result<Vec<Array>>>()?;
        let mut all = bound::evaluate(&self.region.body, &args)?;
        for (out, more) in all.iter_mut().zip(attention::rounding(self.region, &args).into_iter().flatten()) {
            out.error.iter_mut().for_each(|e| *e += more);
        }
        Ok(all)
    }

    /// Runs once on fresh data: what is wrong with the results, if something is.
    fn wrong(&self, run: &mut dyn Executable, expected: &[Approx]) -> Result<Option<String>> {
        self.fill()?;
        run.run()?;
        let mut wrong = None;
        for (out, want) in self.region.outs.iter().zip(expected) {
            let bytes = self.gpu.read(self.slots[&out.slot].0, out.ty.bytes())?.wait()?;
            let got = HostTensor::from_bytes(out.ty.dtype, out.ty.shape.clone(), &bytes)?;
            let found = compare(&got, want, slack(&self.region.body)).err();
            wrong = wrong.or(found.map(|m| m.to_string()));
        }
        self.gpu.check_status()?;
        Ok(wrong)
    }

    /// Seconds of one launch among as many as `run` holds.
    fn time(&self, run: &mut dyn Executable, times: usize) -> Result<f64> {
        let start = Instant::now();
        run.run()?;
        self.gpu.sync()?;
        Ok(start.elapsed().as_secs_f64() / times as f64)
    }
}

/// How long one sample lasts at least, where 32 launches take so long.
const SAMPLE: f64 = 4e-3;
/// The best few are measured again in turn, up to this many and within this factor of the best.
const FINALISTS: usize = 8;
const NEAR: f64 = 1.6;

/// Which splits of k need no measurement: of a frame that is far from the best without, and beyond the number from which on more
/// pieces cost more.
#[derive(Default)]
struct Splits {
    /// The best and the last time of each frame.
    frames: BTreeMap<String, (f64, f64)>,
}

impl Splits {
    fn frame(variant: &str) -> String {
        variant.split(':').next().unwrap_or_default().to_string()
    }
    fn took(&mut self, variant: &str, seconds: f64) {
        let times = self.frames.entry(Splits::frame(variant)).or_insert((f64::INFINITY, 0.0));
        *times = (times.0.min(seconds), seconds);
    }
    fn hopeless(&self, variant: &str, best: f64) -> bool {
        let Some((own, last)) = self.frames.get(&Splits::frame(variant)).filter(|_| variant.contains(':')) else {
            return false;
        };
        *own > 8.0 * best || *last > 1.3 * own
    }
}

/// A variant on its way through the measurement.
struct Runner {
    timed: Timed,
    run: Box<dyn Executable>,
    times: usize,
    samples: Vec<f64>,
}

/// The device with only this candidate for a region, in launches of its own.
pub fn only(gpu: &Gpu, region: &str, candidate: &Candidate) -> Gpu {
    let pick = Pick { variant: candidate.variant.clone(), texts: texts(&candidate.calls) };
    let picks: Picks = if candidate.built_in { Picks::new() } else { [(region.to_string(), pick)].into() };
    let mut variants = gpu.gpu_caps().variants.clone();
    variants.insert(chain::STEM.into(), "off".into());
    gpu.with_picks(picks).with_variants(variants)
}

/// Runs every variant of a region once: their names, and what is wrong with those that the reference refuses.
pub fn faults(gpu: &Gpu, region: &Region) -> Result<(Vec<String>, Vec<String>)> {
    let (name, what) = (key(region), describe(region));
    let fail = |why: String| Error::internal(format!("variants of {what}"), why);
    let mut bed = Bed::new(gpu, region)?;
    let expected = bed.expected()?;
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for candidate in candidates(region, gpu.gpu_caps()).map_err(fail)? {
        let mut run = only(gpu, &name, &candidate).compile(&[bed.work()])?;
        let found = bed.wrong(&mut *run, &expected)?;
        wrong.extend(found.map(|e| format!("{} of {what}: {e}", candidate.variant)));
        names.push(candidate.variant);
    }
    Ok((names, wrong))
}

/// Checks and times all variants of a region. Without `effort.check` none counts as wrong.
pub fn measure(gpu: &Gpu, region: &Region, effort: &Effort) -> Result<Variants> {
    let (name, what) = (key(region), describe(region));
    let fail = |why: String| Error::internal(format!("variants of {what}"), why);
    let all = candidates(region, gpu.gpu_caps()).map_err(fail)?;
    let mut bed = Bed::new(gpu, region)?;
    let expected = effort.check.then(|| bed.expected()).transpose()?;
    let (mut best, mut runners, mut wrong) = (f64::INFINITY, Vec::new(), Vec::new());
    let mut splits = Splits::default();
    for candidate in &all {
        if !candidate.built_in && splits.hopeless(&candidate.variant, best) {
            continue;
        }
        let own = only(gpu, &name, candidate);
        let mut run = own.compile(&[bed.work()])?;
        let (variant, built_in) = (candidate.variant.clone(), candidate.built_in);
        let mut timed = Timed {
            variant,
            built_in,
            ms: 0.0,
            range: [0.0; 2],
            settled: false,
            wrong: None,
            texts: texts(&candidate.calls),
        };
        match &expected {
            Some(expected) => timed.wrong = bed.wrong(&mut *run, expected)?,
            None => {
                bed.fill()?;
                run.run()?;
            }
        }
        gpu.sync()?;
        let mut once = bed.time(&mut *run, 1)?;
        if once < 4.0 * best {
            once = once.min(bed.time(&mut *run, 1)?);
        }
        let mut times = 1;
        if once < SAMPLE && once < 4.0 * best {
            times = ((SAMPLE / once).ceil() as usize).clamp(1, 32);
            let works: Vec<Work> = (0..times).map(|_| bed.work()).collect();
            run = own.compile(&works)?;
            bed.time(&mut *run, times)?;
            once = bed.time(&mut *run, times)?.min(bed.time(&mut *run, times)?);
        }
        (timed.ms, timed.range) = (1e3 * once, [1e3 * once; 2]);
        if timed.wrong.is_some() {
            wrong.push(timed);
            continue;
        }
        best = best.min(once);
        splits.took(&timed.variant, once);
        runners.push(Runner { timed, run, times, samples: Vec::new() });
    }
    runners.sort_by(|a, b| a.timed.ms.total_cmp(&b.timed.ms));
    for (i, r) in runners.iter_mut().enumerate() {
        r.timed.settled = r.timed.built_in || (i < FINALISTS && r.timed.ms <= NEAR * 1e3 * best);
    }
    for _ in 0..effort.samples.max(1) {
        for r in runners.iter_mut().filter(|r| r.timed.settled) {
            let sample = bed.time(&mut *r.run, r.times)?;
            r.samples.push(sample);
        }
    }
    for r in runners.iter_mut().filter(|r| !r.samples.is_empty()) {
        r.samples.sort_by(f64::total_cmp);
        let at = |quarter: usize| 1e3 * r.samples[quarter * (r.samples.len() - 1) / 4];
        (r.timed.ms, r.timed.range) = (at(2), [at(1), at(3)]);
    }
    runners.sort_by(|a, b| a.timed.ms.total_cmp(&b.timed.ms));
    let rows = runners.into_iter().map(|r| r.timed).chain(wrong).collect();
    Ok(Variants { what, region: name, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(variant: &str, ms: f64, scatter: f64, built_in: bool) -> Timed {
        let range = [ms - scatter, ms + scatter];
        Timed { variant: variant.into(), built_in, ms, range, settled: true, wrong: None, texts: String::new() }
    }

    fn picked(rows: Vec<Timed>) -> Option<String> {
        Variants { what: String::new(), region: String::new(), rows }.pick().map(|t| t.variant.clone())
    }

    #[test]
    fn a_pick_is_right_and_faster_beyond_the_scatter() {
        assert_eq!(picked(vec![row("a", 1.0, 0.1, false), row("b", 1.5, 0.1, true)]).as_deref(), Some("a"));
        assert_eq!(picked(vec![row("a", 1.0, 0.3, false), row("b", 1.5, 0.3, true)]), None);
        assert_eq!(picked(vec![row("a", 1.0, 0.001, false), row("b", 1.03, 0.001, true)]), None);
        assert_eq!(picked(vec![row("b", 1.0, 0.1, true), row("a", 1.5, 0.1, false)]), None);
        let wrong = |t: Timed| Timed { wrong: Some("differs".into()), ..t };
        assert_eq!(picked(vec![row("b", 1.5, 0.1, true), wrong(row("a", 1.0, 0.1, false))]), None);
        assert_eq!(picked(vec![row("a", 9.0, 0.1, false), wrong(row("b", 1.5, 0.1, true))]).as_deref(), Some("a"));
    }

    #[test]
    fn splits_are_tried_until_they_cost_more() {
        let mut splits = Splits::default();
        splits.took("tiled_32", 8.0);
        splits.took("direct_1x1", 90.0);
        assert!(!splits.hopeless("tiled_32:2", 8.0) && splits.hopeless("direct_1x1:2", 8.0));
        assert!(!splits.hopeless("tiled_64", 0.1), "no split");
        splits.took("tiled_32:2", 5.0);
        assert!(!splits.hopeless("tiled_32:4", 5.0));
        splits.took("tiled_32:4", 7.0);
        assert!(splits.hopeless("tiled_32:8", 5.0));
    }
}
