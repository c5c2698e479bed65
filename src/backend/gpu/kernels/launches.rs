//! Which regions of a program share a launch ([`chain`]). Members are looked for in the order of the steps; one that nobody waits for
//! is put off until a chain can take it along, past steps that do not touch its memory.

use super::KernelCall;
use super::chain::{self, MAX_PARTS, Member, STEM};
use crate::backend::gpu::caps::GpuCaps;
use crate::backend::{BufferId, Work};
use crate::plan::{Region, Source};
use std::collections::BTreeSet;

/// What is recorded: positions in the work.
#[derive(Debug)]
pub enum Launch {
    /// One piece of work by itself.
    One(usize),
    /// Several regions in one launch. The call's `Arg` and `Out` count through the arguments and results of all members.
    Chain(Vec<usize>, Box<KernelCall>),
}

/// Memory that has been read and written.
#[derive(Default)]
pub(super) struct Touched {
    reads: BTreeSet<BufferId>,
    writes: BTreeSet<BufferId>,
}

impl Touched {
    pub(super) fn of(work: &Work) -> Touched {
        match work {
            Work::Run { args, outs, .. } => {
                Touched { reads: args.iter().flatten().copied().collect(), writes: outs.iter().copied().collect() }
            }
            Work::Copy { from, to, .. } => Touched { reads: [*from].into(), writes: [*to].into() },
        }
    }
    /// True if the two cannot change places, or run at once.
    pub(super) fn conflicts(&self, other: &Touched) -> bool {
        !self.writes.is_disjoint(&other.writes)
            || !self.writes.is_disjoint(&other.reads)
            || !self.reads.is_disjoint(&other.writes)
    }
    pub(super) fn add(&mut self, other: &Touched) {
        self.reads.extend(&other.reads);
        self.writes.extend(&other.writes);
    }
    fn buffers(&self) -> usize {
        self.reads.union(&self.writes).count()
    }
}

/// Members that wait for more.
#[derive(Default)]
struct Waiting<'a> {
    members: Vec<Member<'a>>,
    touched: Touched,
}

impl<'a> Waiting<'a> {
    fn takes(&self, member: &Member, touched: &Touched, caps: &GpuCaps) -> bool {
        let parts = member.parts.len() + self.members.iter().map(|m| m.parts.len()).sum::<usize>();
        let words = member.words + self.members.iter().map(|m| m.words).sum::<u64>();
        let mut all = Touched { reads: self.touched.reads.clone(), writes: self.touched.writes.clone() };
        all.add(touched);
        parts <= MAX_PARTS && words <= chain::most(caps)[1] && all.buffers() <= caps.max_storage_buffers as usize
    }
    fn flush(&mut self, into: &mut Vec<Launch>, work: &[Work], caps: &GpuCaps) -> Result<(), String> {
        let Waiting { members, .. } = std::mem::take(self);
        if members.len() > 1 {
            into.push(Launch::Chain(
                members.iter().map(|m| m.at).collect(),
                Box::new(chain::call(members, work, caps)?),
            ));
        } else {
            into.extend(members.iter().map(|m| Launch::One(m.at)));
        }
        Ok(())
    }
}

/// What is launched for this work, in order: every piece of it once, none before what it needs.
pub fn launches(work: &[Work], caps: &GpuCaps) -> Result<Vec<Launch>, String> {
    let mut all = Vec::with_capacity(work.len());
    if caps.wanted(STEM) == Some("off") {
        all.extend((0..work.len()).map(Launch::One));
        return Ok(all);
    }
    let mut waiting = Waiting::default();
    for (at, item) in work.iter().enumerate() {
        let touched = Touched::of(item);
        match Member::of(at, item, caps) {
            Some(member) => {
                if !waiting.takes(&member, &touched, caps) {
                    waiting.flush(&mut all, work, caps)?;
                }
                waiting.members.push(member);
                waiting.touched.add(&touched);
            }
            None => {
                if waiting.touched.conflicts(&touched) {
                    waiting.flush(&mut all, work, caps)?;
                }
                all.push(Launch::One(at));
            }
        }
    }
    waiting.flush(&mut all, work, caps)?;
    Ok(all)
}

/// True if a chain can take this region along: a variant of its own would gain less than a launch of its own costs.
pub fn small(region: &Region, caps: &GpuCaps) -> bool {
    let untuned = GpuCaps { picks: Default::default(), ..caps.clone() };
    Member::of(0, &work_of(region), &untuned).is_some()
}

/// A region's work on the buffers of the same numbers as its slots.
#[doc(hidden)]
pub fn work_of(region: &Region) -> Work<'_> {
    let buffer = |s: &Source| match s {
        Source::Slot(s) => Some(BufferId(s.0.into())),
        Source::Iota => None,
    };
    let args = region.args.iter().map(|a| buffer(&a.source)).collect();
    Work::Run { region, args, outs: region.outs.iter().map(|o| BufferId(o.slot.0.into())).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::AdapterClass;
    use crate::backend::gpu::kernels::samples;
    use crate::rng::Rng;

    fn software() -> GpuCaps {
        GpuCaps { max_storage_buffers: 31, ..GpuCaps::sample(AdapterClass::Software, Some((8, 8))) }
    }

    #[test]
    fn barriers_stand_where_a_member_needs_what_another_wrote() {
        let regions = &samples::chains()[0];
        let work: Vec<Work> = regions.iter().map(work_of).collect();
        let all = launches(&work, &software()).expect("the samples have texts");
        let [Launch::Chain(ats, call)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(*ats, (0..8).collect::<Vec<_>>());
        let main: Vec<&str> = call.source.split("fn main").nth(1).expect("a main").lines().map(str::trim).collect();
        let (b, s) = ("storageBarrier();", |i: usize| format!("stage_{i}(lane);"));
        let want = [&s(0), &s(1), b, &s(2), &s(3), b, &s(4), b, &s(5), &s(6), &s(7), &s(8), b, &s(9)];
        assert_eq!(main[1..main.len() - 1], want);
    }

    #[test]
    fn a_member_waits_past_what_does_not_touch_its_memory() {
        let chain = &samples::chains()[0];
        // Too large for a chain: reads slot 20 and writes 21, or writes what the first member reads.
        let large = |out: u32| samples::negated(5000, 20, out);
        let (free, hit) = (large(21), large(1));
        let order = |regions: &[&Region], caps: &GpuCaps| {
            let work: Vec<Work> = regions.iter().map(|r| work_of(r)).collect();
            let at = |l: Launch| match l {
                Launch::One(at) => vec![at],
                Launch::Chain(ats, _) => ats,
            };
            launches(&work, caps).expect("the samples have texts").into_iter().map(at).collect::<Vec<_>>()
        };
        assert_eq!(order(&[&chain[0], &free, &chain[1]], &software()), [vec![1], vec![0, 2]]);
        assert_eq!(order(&[&chain[0], &hit, &chain[1]], &software()), [vec![0], vec![1], vec![2]]);
        let off = GpuCaps { variants: [(STEM.into(), "off".into())].into(), ..software() };
        assert_eq!(order(&[&chain[0], &chain[1]], &off), [vec![0], vec![1]]);
        let few = GpuCaps { max_storage_buffers: 4, ..software() };
        assert_eq!(order(&[&chain[0], &chain[1], &chain[2]], &few), [vec![0], vec![1, 2]]);
    }

    /// Buffers that work reads and writes.
    fn touched(work: &Work) -> (Vec<BufferId>, Vec<BufferId>) {
        match work {
            Work::Run { args, outs, .. } => (args.iter().flatten().copied().collect(), outs.clone()),
            Work::Copy { from, to, .. } => (vec![*from], vec![*to]),
        }
    }

    /// Random steps on few buffers: of two that touch the same memory, which one of them writes, the later one is launched later, or after
    /// a barrier in the same chain.
    #[test]
    fn order_holds_where_memory_asks_for_it() {
        let mut chains = 0;
        for seed in 0..300 {
            let mut rng = Rng::named(seed, "launches");
            let mut slots = [0u32; 3].map(|_| rng.below(6) as u32);
            let mut pick = |of: &mut [u32; 3]| {
                *of = [0u32; 3].map(|_| rng.below(6) as u32);
                rng.below(8)
            };
            let regions: Vec<Option<Region>> = (0..12)
                .map(|_| match (pick(&mut slots), slots) {
                    (0, _) => None,
                    (1, [a, _, o]) => Some(samples::negated(5000, a, if a == o { 6 } else { o })),
                    (2, [a, _, o]) if a == o => Some(samples::negated(16, a, 6)),
                    (_, [a, b, o]) => Some(samples::added(16, [a, b], if b == o { 6 } else { o })),
                })
                .collect();
            let copy = || Work::Copy { from: BufferId(1), to: BufferId(2), bytes: 64 };
            let work: Vec<Work> = regions.iter().map(|r| r.as_ref().map_or_else(copy, work_of)).collect();
            let all = launches(&work, &software()).expect("texts");
            // Where each piece of work is: its launch, and there how many barriers are before it.
            let mut place = vec![None; work.len()];
            for (l, launch) in all.iter().enumerate() {
                let (ats, text) = match launch {
                    Launch::One(at) => (vec![*at], String::new()),
                    Launch::Chain(ats, call) => (ats.clone(), call.source.to_string()),
                };
                chains += usize::from(ats.len() > 1);
                for (m, at) in ats.into_iter().enumerate() {
                    let main = text.split("fn main").nth(1).unwrap_or_default();
                    let before = main.split(&format!("stage_{m}(")).next().unwrap_or_default();
                    assert_eq!(place[at].replace((l, before.matches("storageBarrier").count())), None, "seed {seed}");
                }
            }
            for j in 0..work.len() {
                assert!(place[j].is_some(), "seed {seed}: {j} is left out");
                for i in 0..j {
                    let ((r, w), (r2, w2)) = (touched(&work[i]), touched(&work[j]));
                    let meets = |a: &[BufferId], b: &[BufferId]| a.iter().any(|x| b.contains(x));
                    if meets(&w, &r2) || meets(&r, &w2) || meets(&w, &w2) {
                        assert!(place[i] < place[j], "seed {seed}: {i} at {:?}, {j} at {:?}", place[i], place[j]);
                    }
                }
            }
        }
        assert!(chains > 300, "{chains} chains");
    }

    #[test]
    fn a_chain_ends_at_its_limits() {
        let sizes = |n: usize, elems: usize, caps: &GpuCaps| {
            let regions: Vec<Region> = (0..n).map(|_| samples::negated(elems, 0, 1)).collect();
            let work: Vec<Work> = regions.iter().map(work_of).collect();
            let of = |l: Launch| if let Launch::Chain(ats, _) = l { ats.len() } else { 1 };
            launches(&work, caps).expect("texts").into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(sizes(MAX_PARTS + 1, 1, &software()), [MAX_PARTS, 1]);
        // Each reads and writes 8 Ki words, of which a chain takes twice as many; a member with one more is none.
        assert_eq!(sizes(3, 4 << 10, &software()), [2, 1]);
        assert_eq!(sizes(2, (4 << 10) + 1, &software()), [1, 1]);
        let gpu = GpuCaps::sample(AdapterClass::Discrete, None);
        assert_eq!(sizes(5, 512, &gpu), [4, 1]);
        assert_eq!(sizes(2, 513, &gpu), [1, 1]);
    }
}
