//! Memory: which slot holds which value. States and feeds have slots of their own, fetched results too; all else shares
//! transient slots by lifetime, best fit, and takes over the memory of an argument that dies where that is safe.

use crate::ir::{Graph, InputKind, OutputKind};
use crate::plan::order::{Bound, overwrites, reads, writes};
use crate::plan::place::Draft;
use crate::plan::{Place, Plan, PlanOutput, Slot, SlotId, SlotKind, Source, Step};
use std::collections::HashMap;

struct Memory<'a> {
    draft: &'a Draft,
    slots: Vec<Slot>,
    /// The slot of each value.
    of: HashMap<SlotId, SlotId>,
    /// Free transient slots.
    free: Vec<SlotId>,
    /// The last step that reads each value.
    last: HashMap<SlotId, usize>,
}

/// Replaces the values of an ordered draft by slots.
pub(super) fn assign(draft: &Draft, graph: &Graph, bound: &Bound, reuse: bool) -> Plan {
    let mut m = Memory { draft, slots: Vec::new(), of: HashMap::new(), free: Vec::new(), last: HashMap::new() };
    let mut state_slots = HashMap::new();
    for (i, v) in draft.values.iter().enumerate() {
        if let Some(k) = v.input {
            let name = graph.inputs[k].name.clone();
            let kind = match graph.inputs[k].kind {
                InputKind::State => SlotKind::State(name),
                InputKind::Feed => SlotKind::Feed(name),
            };
            let slot = m.slot(v.place, kind, v.bytes);
            m.of.insert(SlotId(i as u32), slot);
            state_slots.insert(k, slot);
        }
    }
    for (value, input) in bound {
        m.of.insert(*value, state_slots[input]);
    }
    for (spec, value) in graph.outputs.iter().zip(&draft.outputs) {
        if let (OutputKind::Fetch, Some(v)) = (&spec.kind, value)
            && !m.of.contains_key(v)
        {
            let val = &draft.values[v.0 as usize];
            let slot = m.slot(val.place, SlotKind::Fetch, val.bytes);
            m.of.insert(*v, slot);
        }
    }
    for (i, step) in draft.steps.iter().enumerate() {
        for id in reads(step) {
            m.last.insert(id, i);
        }
    }
    let mut steps = Vec::with_capacity(draft.steps.len());
    for i in 0..draft.steps.len() {
        steps.push(m.step(i, reuse));
    }
    let fetched = graph.outputs.iter().zip(&draft.outputs).filter(|(spec, _)| spec.kind == OutputKind::Fetch);
    let outputs = fetched
        .filter_map(|(spec, value)| {
            let slot = m.of.get(value.as_ref()?).copied();
            // A value of no bytes that no step writes still needs a slot to be read from.
            let slot = slot.unwrap_or_else(|| m.slot(Place::Device, SlotKind::Fetch, 0));
            Some(PlanOutput { name: spec.name.clone(), ty: graph.ty(spec.value).clone(), slot })
        })
        .collect();
    Plan { slots: m.slots, steps, outputs, notes: draft.notes.clone() }
}

impl Memory<'_> {
    fn slot(&mut self, place: Place, kind: SlotKind, bytes: usize) -> SlotId {
        self.slots.push(Slot { place, kind, bytes });
        SlotId(self.slots.len() as u32 - 1)
    }

    /// The step over slots, with in-place results chosen and dead values given back.
    fn step(&mut self, i: usize, reuse: bool) -> Step {
        let mut step = self.draft.steps[i].clone();
        let (read, written) = (reads(&step), writes(&step));
        if let Step::Run { region, .. } = &mut step {
            for k in 0..region.outs.len() {
                region.in_place[k] = self.takeover(i, region, k, reuse);
            }
        }
        // New values get memory before the dead ones give theirs back: a step never writes what it reads.
        for &id in &written {
            if !self.of.contains_key(&id) {
                let val = &self.draft.values[id.0 as usize];
                let slot = self.transient(val.place, val.bytes, reuse);
                self.of.insert(id, slot);
            }
        }
        let mut dead: Vec<SlotId> = read.iter().filter(|id| self.last.get(id) == Some(&i)).copied().collect();
        dead.extend(written.iter().filter(|id| !self.last.contains_key(id)));
        for id in &read {
            // A value of no bytes has no step that writes it.
            if !self.of.contains_key(id) {
                let val = &self.draft.values[id.0 as usize];
                let slot = self.slot(val.place, SlotKind::Transient, val.bytes);
                self.of.insert(*id, slot);
            }
        }
        let kept: Vec<SlotId> = written.iter().filter(|id| self.last.contains_key(id)).map(|id| self.of[id]).collect();
        let mut freed: Vec<SlotId> = dead.iter().map(|id| self.of[id]).collect();
        freed.sort_unstable();
        freed.dedup();
        for slot in freed {
            if self.slots[slot.0 as usize].kind == SlotKind::Transient && !kept.contains(&slot) {
                self.free.push(slot);
            }
        }
        let of = &self.of;
        match &mut step {
            Step::Run { region, .. } => {
                for arg in &mut region.args {
                    if let Source::Slot(id) = &mut arg.source {
                        *id = of[id];
                    }
                }
                region.outs.iter_mut().for_each(|t| t.slot = of[&t.slot]);
            }
            Step::Copy { from, to } => (*from, *to) = (of[from], of[to]),
        }
        step
    }

    /// The argument whose memory result `k` takes over. Records the slot of the result.
    fn takeover(&mut self, i: usize, region: &crate::plan::Region, k: usize, reuse: bool) -> Option<usize> {
        let out = &region.outs[k];
        let elems = out.ty.shape.elems();
        let place = self.draft.values[out.slot.0 as usize].place;
        for (a, arg) in region.args.iter().enumerate() {
            let Source::Slot(id) = arg.source else { continue };
            let Some(&slot) = self.of.get(&id) else { continue };
            let val = &self.draft.values[id.0 as usize];
            if val.bytes != elems * 4 || !overwrites(region, id, elems) || elems == 0 {
                continue;
            }
            match self.of.get(&out.slot) {
                // The result is bound to a state's slot, which the region also reads.
                Some(&bound) if bound == slot => return Some(a),
                Some(_) => {}
                None => {
                    let transient = self.slots[slot.0 as usize].kind == SlotKind::Transient;
                    let taken = region.outs.iter().any(|t| self.of.get(&t.slot) == Some(&slot));
                    if reuse && transient && !taken && val.place == place && self.last.get(&id) == Some(&i) {
                        self.of.insert(out.slot, slot);
                        return Some(a);
                    }
                }
            }
        }
        None
    }

    /// A free slot of at least this size, else the largest free one grown, else a new one.
    fn transient(&mut self, place: Place, bytes: usize, reuse: bool) -> SlotId {
        let here = |m: &Self, s: &SlotId| m.slots[s.0 as usize].place == place;
        let size = |m: &Self, s: &SlotId| m.slots[s.0 as usize].bytes;
        let candidates: Vec<SlotId> =
            self.free.iter().filter(|s| reuse && bytes > 0 && here(self, s) && size(self, s) > 0).copied().collect();
        let fitting = candidates.iter().filter(|s| size(self, s) >= bytes).min_by_key(|s| (size(self, s), s.0));
        let chosen = fitting.or_else(|| candidates.iter().max_by_key(|s| (size(self, s), s.0))).copied();
        match chosen {
            Some(slot) => {
                self.free.retain(|s| *s != slot);
                let grown = &mut self.slots[slot.0 as usize].bytes;
                *grown = (*grown).max(bytes);
                slot
            }
            None => self.slot(place, SlotKind::Transient, bytes),
        }
    }
}
