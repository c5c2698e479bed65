//! Which regions of a program share a launch ([`chain`]). Members are looked for in the order of the steps; one that nobody waits for
//! is put off until a chain can take it along, past steps that do not touch its memory.

use super::KernelCall;
use super::chain::{self, MAX_PARTS, MOST, Member, STEM};
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
        parts <= MAX_PARTS && words <= MOST && all.buffers() <= caps.max_storage_buffers as usize
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

/// True if a chain would take this region along: a variant of its own would gain less than a launch of its own costs.
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
        let large = |out: u32| samples::far(5000, 20, out);
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
}
