//! Order: a topological order of the steps that frees memory early, with every reader of a state's old value before
//! the step that overwrites it. Where that is impossible (or memory is not reused) the new value is computed aside and
//! copied into the state at the end.

use crate::error::{Error, Result};
use crate::ir::{Graph, OutputKind};
use crate::plan::place::{Draft, Val};
use crate::plan::{Place, Region, RegionKind, SlotId, Source, Step};
use std::collections::{BTreeSet, HashMap};

/// For each value that is written straight into a state's memory, the input of that state.
pub(super) type Bound = HashMap<SlotId, usize>;

/// The values that a step reads.
pub(super) fn reads(step: &Step) -> Vec<SlotId> {
    match step {
        Step::Run { region, .. } => region
            .args
            .iter()
            .filter_map(|a| match a.source {
                Source::Slot(id) => Some(id),
                Source::Iota => None,
            })
            .collect(),
        Step::Copy { from, .. } => vec![*from],
    }
}

/// The values that a step writes.
pub(super) fn writes(step: &Step) -> Vec<SlotId> {
    match step {
        Step::Run { region, .. } => region.outs.iter().map(|t| t.slot).collect(),
        Step::Copy { to, .. } => vec![*to],
    }
}

/// True if the region may write a result over `id`: it is pointwise, and reads it only whole and in order.
pub(super) fn overwrites(region: &Region, id: SlotId, elems: usize) -> bool {
    region.kind == RegionKind::Pointwise
        && region.args.iter().filter(|a| a.source == Source::Slot(id)).all(|a| a.view.is_identity(elems))
}

/// Orders the draft's steps. With `reuse` off no state is written in place.
pub(super) fn order(draft: &mut Draft, graph: &Graph, reuse: bool) -> Result<Bound> {
    let mut bound = Bound::new();
    let mut deps = Deps::of(draft);
    for (k, spec) in graph.outputs.iter().enumerate() {
        let (OutputKind::State, Some(value)) = (&spec.kind, draft.outputs[k]) else { continue };
        let Some(input) = graph.inputs.iter().position(|s| s.name == spec.name) else { continue };
        let bytes = draft.values[value.0 as usize].bytes;
        let elems = graph.shape(spec.value).elems();
        let Some(old) = draft.values.iter().position(|v| v.input == Some(input)) else { continue };
        let readers: Vec<usize> = deps.readers.get(&SlotId(old as u32)).cloned().unwrap_or_default();
        let direct = reuse
            && deps.producer.get(&value).copied().is_some_and(|p| {
                let itself = match &draft.steps[p] {
                    Step::Run { place: Place::Device, region } => overwrites(region, SlotId(old as u32), elems),
                    Step::Run { place: Place::Host, .. } => false,
                    Step::Copy { from, .. } => from.0 as usize != old,
                };
                (itself || !readers.contains(&p)) && deps.before_all(&readers, p)
            });
        if direct {
            bound.insert(value, input);
        } else if let Some(&p) = deps.producer.get(&value) {
            let to = SlotId(draft.values.len() as u32);
            draft.values.push(Val { place: Place::Device, bytes, input: None });
            draft.steps.push(Step::Copy { from: value, to });
            let copy = deps.add();
            deps.edge(p, copy);
            deps.readers.entry(value).or_default().push(copy);
            deps.producer.insert(to, copy);
            readers.iter().for_each(|&r| deps.edge(r, copy));
            draft.outputs[k] = Some(to);
            bound.insert(to, input);
        }
    }
    deps.schedule(draft)?;
    Ok(bound)
}

struct Deps {
    next: Vec<BTreeSet<usize>>,
    producer: HashMap<SlotId, usize>,
    readers: HashMap<SlotId, Vec<usize>>,
}

impl Deps {
    fn of(draft: &Draft) -> Deps {
        let mut d =
            Deps { next: vec![BTreeSet::new(); draft.steps.len()], producer: HashMap::new(), readers: HashMap::new() };
        for (i, step) in draft.steps.iter().enumerate() {
            for id in reads(step) {
                if let Some(&p) = d.producer.get(&id) {
                    d.next[p].insert(i);
                }
                let readers = d.readers.entry(id).or_default();
                if readers.last() != Some(&i) {
                    readers.push(i);
                }
            }
            for id in writes(step) {
                d.producer.insert(id, i);
            }
        }
        draft.order.iter().for_each(|&(first, second)| d.edge(first, second));
        d
    }

    fn add(&mut self) -> usize {
        self.next.push(BTreeSet::new());
        self.next.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize) {
        if from != to {
            self.next[from].insert(to);
        }
    }

    /// Puts all of `earlier` before `step`, or changes nothing and returns false if one of them needs its result.
    fn before_all(&mut self, earlier: &[usize], step: usize) -> bool {
        let wanted: BTreeSet<usize> = earlier.iter().copied().filter(|&e| e != step).collect();
        if !wanted.is_empty() {
            let mut seen = vec![false; self.next.len()];
            let mut open: Vec<usize> = vec![step];
            while let Some(s) = open.pop() {
                if wanted.contains(&s) {
                    return false;
                }
                if !std::mem::replace(&mut seen[s], true) {
                    open.extend(&self.next[s]);
                }
            }
        }
        wanted.into_iter().for_each(|e| self.edge(e, step));
        true
    }

    /// List scheduling: of the steps that are ready, first those that free at least as much memory as they take, else
    /// the earliest. Both in the order of the graph, which follows the model.
    fn schedule(&self, draft: &mut Draft) -> Result<()> {
        let n = draft.steps.len();
        let mut waits = vec![0usize; n];
        self.next.iter().flatten().for_each(|&s| waits[s] += 1);
        let mut left: HashMap<SlotId, usize> = self.readers.iter().map(|(&id, r)| (id, r.len())).collect();
        for id in draft.outputs.iter().flatten() {
            *left.entry(*id).or_default() += 1; // Outputs stay.
        }
        let mut ready: BTreeSet<usize> = (0..n).filter(|&s| waits[s] == 0).collect();
        let mut sequence = Vec::with_capacity(n);
        while !ready.is_empty() {
            let frees = |s: usize| {
                let mut read = reads(&draft.steps[s]);
                read.sort_unstable();
                read.dedup();
                let val = |id: &SlotId| &draft.values[id.0 as usize];
                let dying = read.iter().filter(|id| val(id).input.is_none() && left.get(id) == Some(&1));
                let freed: usize = dying.map(|id| val(id).bytes).sum();
                let taken: usize = writes(&draft.steps[s]).iter().map(|id| val(id).bytes).sum();
                freed >= taken
            };
            // The window bounds the search; what is far away in the graph is no candidate for now anyway.
            let chosen = ready.iter().copied().take(32).find(|&s| frees(s)).or(ready.first().copied());
            let Some(s) = chosen else { break };
            ready.remove(&s);
            let mut read = reads(&draft.steps[s]);
            read.sort_unstable();
            read.dedup();
            for id in read {
                if let Some(count) = left.get_mut(&id) {
                    *count = count.saturating_sub(1);
                }
            }
            sequence.push(s);
            for &t in &self.next[s] {
                waits[t] -= 1;
                if waits[t] == 0 {
                    ready.insert(t);
                }
            }
        }
        if sequence.len() != n {
            return Err(Error::internal("plan", "the steps depend on each other in a cycle"));
        }
        let mut steps: Vec<Option<Step>> = std::mem::take(&mut draft.steps).into_iter().map(Some).collect();
        draft.steps = sequence.into_iter().filter_map(|s| steps[s].take()).collect();
        Ok(())
    }
}
