//! Memory: which slot holds which value. States and feeds have slots of their own, fetched results too. All else lives
//! in blocks: a value, with those that take over its memory where that is safe, from its first write to its last read.
//! Blocks whose lifetimes do not meet share a slot. The largest are placed first, each in the smallest slot that is free
//! for its whole life ("greedy by size for shared objects", Pisarchyk and Lee, arXiv 2001.03288): knowing the whole plan
//! beats taking slots as the steps come, which gives small values to large slots.

use crate::ir::{Graph, InputKind, OutputKind};
use crate::plan::order::{Bound, overwrites, reads, writes};
use crate::plan::place::Draft;
use crate::plan::{Place, Plan, PlanOutput, Region, Slot, SlotId, SlotKind, Source, Step};
use std::collections::HashMap;

/// Where a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// In a slot of its own kind: a state's, a feed's, a fetched result's.
    Slot(SlotId),
    /// In a block of transient memory.
    Block(usize),
}

/// A stretch of transient memory: which steps it is needed in, first and last.
#[derive(Debug, Clone, Copy)]
struct Block {
    place: Place,
    bytes: usize,
    from: usize,
    to: usize,
}

struct Memory<'a> {
    draft: &'a Draft,
    slots: Vec<Slot>,
    blocks: Vec<Block>,
    /// The home of each value.
    of: HashMap<SlotId, Home>,
    /// The last step that reads each value.
    last: HashMap<SlotId, usize>,
}

/// Replaces the values of an ordered draft by slots.
pub(super) fn assign(draft: &Draft, graph: &Graph, bound: &Bound, reuse: bool) -> Plan {
    let mut m = Memory { draft, slots: Vec::new(), blocks: Vec::new(), of: HashMap::new(), last: HashMap::new() };
    m.fixed(graph, bound);
    for (i, step) in draft.steps.iter().enumerate() {
        for id in reads(step) {
            m.last.insert(id, i);
        }
    }
    let mut steps: Vec<Step> = (0..draft.steps.len()).map(|i| m.step(i, reuse)).collect();
    let peak_live_bytes = peak(&m.blocks, steps.len());
    let shared = m.share(reuse);
    let place = |id: &mut SlotId| {
        *id = match m.of[id] {
            Home::Slot(slot) => slot,
            Home::Block(block) => shared[block],
        }
    };
    for step in &mut steps {
        match step {
            Step::Run { region, .. } => {
                for arg in &mut region.args {
                    if let Source::Slot(id) = &mut arg.source {
                        place(id);
                    }
                }
                region.outs.iter_mut().for_each(|t| place(&mut t.slot));
            }
            Step::Copy { from, to } => {
                place(from);
                place(to);
            }
        }
    }
    let mut slots = std::mem::take(&mut m.slots);
    let fetched = graph.outputs.iter().zip(&draft.outputs).filter(|(spec, _)| spec.kind == OutputKind::Fetch);
    let outputs = fetched.filter_map(|(spec, value)| {
        let slot = match m.of.get(value.as_ref()?) {
            Some(Home::Slot(slot)) => *slot,
            Some(Home::Block(block)) => shared[*block],
            // A value of no bytes that no step writes still needs a slot to be read from.
            None => {
                slots.push(Slot { place: Place::Device, kind: SlotKind::Fetch, bytes: 0 });
                SlotId(slots.len() as u32 - 1)
            }
        };
        Some(PlanOutput { name: spec.name.clone(), ty: graph.ty(spec.value).clone(), slot })
    });
    let outputs = outputs.collect();
    Plan { slots, steps, outputs, notes: draft.notes.clone(), peak_live_bytes }
}

/// The most bytes of blocks that are needed in one step.
fn peak(blocks: &[Block], steps: usize) -> usize {
    let mut change = vec![0isize; steps + 1];
    for b in blocks {
        change[b.from] += b.bytes as isize;
        change[b.to + 1] -= b.bytes as isize;
    }
    let mut live = 0isize;
    let sums = change.into_iter().map(|c| {
        live += c;
        live as usize
    });
    sums.max().unwrap_or(0)
}

impl Memory<'_> {
    /// Gives inputs, states and fetched results their slots.
    fn fixed(&mut self, graph: &Graph, bound: &Bound) {
        let mut states = HashMap::new();
        for (i, v) in self.draft.values.iter().enumerate() {
            let Some(k) = v.input else { continue };
            let name = graph.inputs[k].name.clone();
            let kind = match graph.inputs[k].kind {
                InputKind::State => SlotKind::State(name),
                InputKind::Feed => SlotKind::Feed(name),
            };
            let slot = self.slot(v.place, kind, v.bytes);
            self.of.insert(SlotId(i as u32), Home::Slot(slot));
            states.insert(k, slot);
        }
        for (value, input) in bound {
            self.of.insert(*value, Home::Slot(states[input]));
        }
        for (spec, value) in graph.outputs.iter().zip(&self.draft.outputs) {
            if let (OutputKind::Fetch, Some(v)) = (&spec.kind, value)
                && !self.of.contains_key(v)
            {
                let val = &self.draft.values[v.0 as usize];
                let slot = self.slot(val.place, SlotKind::Fetch, val.bytes);
                self.of.insert(*v, Home::Slot(slot));
            }
        }
    }

    fn slot(&mut self, place: Place, kind: SlotKind, bytes: usize) -> SlotId {
        self.slots.push(Slot { place, kind, bytes });
        SlotId(self.slots.len() as u32 - 1)
    }

    /// Step `i`, still over values, with in-place results chosen and all its values at home.
    fn step(&mut self, i: usize, reuse: bool) -> Step {
        let mut step = self.draft.steps[i].clone();
        if let Step::Run { region, .. } = &mut step {
            for k in 0..region.outs.len() {
                region.in_place[k] = self.takeover(i, region, k, reuse);
            }
        }
        // What is read but never written is a value of no bytes.
        for id in writes(&step).into_iter().chain(reads(&step)) {
            if !self.of.contains_key(&id) {
                let val = &self.draft.values[id.0 as usize];
                let to = self.last.get(&id).copied().unwrap_or(i).max(i);
                self.of.insert(id, Home::Block(self.blocks.len()));
                self.blocks.push(Block { place: val.place, bytes: val.bytes, from: i, to });
            }
        }
        step
    }

    /// The argument whose memory result `k` of step `i` takes over. Records the home of the result.
    fn takeover(&mut self, i: usize, region: &Region, k: usize, reuse: bool) -> Option<usize> {
        let out = &region.outs[k];
        let elems = out.ty.shape.elems();
        let place = self.draft.values[out.slot.0 as usize].place;
        for (a, arg) in region.args.iter().enumerate() {
            let Source::Slot(id) = arg.source else { continue };
            let Some(&home) = self.of.get(&id) else { continue };
            let val = &self.draft.values[id.0 as usize];
            let alike = arg.dtype.bytes() == out.ty.dtype.bytes() && val.bytes == out.ty.bytes();
            if !alike || !overwrites(region, id, elems) || elems == 0 {
                continue;
            }
            match (self.of.get(&out.slot), home) {
                // The result is bound to a state's slot, which the region also reads.
                (Some(&bound), home) if bound == home => return Some(a),
                (Some(_), _) | (None, Home::Slot(_)) => {}
                (None, Home::Block(block)) => {
                    let taken = region.outs.iter().any(|t| self.of.get(&t.slot) == Some(&home));
                    if reuse && !taken && val.place == place && self.last.get(&id) == Some(&i) {
                        self.of.insert(out.slot, home);
                        let last = self.last.get(&out.slot).copied().unwrap_or(i);
                        self.blocks[block].to = self.blocks[block].to.max(last);
                        return Some(a);
                    }
                }
            }
        }
        None
    }

    /// The slot of each block.
    fn share(&mut self, reuse: bool) -> Vec<SlotId> {
        let mut order: Vec<usize> = (0..self.blocks.len()).collect();
        if reuse {
            order.sort_by_key(|&b| (std::cmp::Reverse(self.blocks[b].bytes), self.blocks[b].from));
        }
        let mut tenants: Vec<(SlotId, Vec<usize>)> = Vec::new();
        let mut slots = vec![SlotId(0); self.blocks.len()];
        for b in order {
            let block = self.blocks[b];
            let meets = |&t: &usize| block.from <= self.blocks[t].to && self.blocks[t].from <= block.to;
            // Blocks come in descending size, so the last free slot is the smallest that is large enough.
            let free = tenants.iter_mut().rfind(|(slot, blocks)| {
                reuse && self.slots[slot.0 as usize].place == block.place && !blocks.iter().any(meets)
            });
            match free {
                Some((slot, blocks)) => {
                    slots[b] = *slot;
                    blocks.push(b);
                }
                None => {
                    self.slots.push(Slot { place: block.place, kind: SlotKind::Transient, bytes: block.bytes });
                    slots[b] = SlotId(self.slots.len() as u32 - 1);
                    tenants.push((slots[b], vec![b]));
                }
            }
        }
        slots
    }
}
