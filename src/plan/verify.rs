//! Checks a finished plan against the draft that it was made from, by following what each slot holds. Independent of
//! the memory planner: it knows no lifetimes, only which value every read must find.

use crate::error::{Error, Result};
use crate::ir::{Graph, OutputKind};
use crate::plan::order::Bound;
use crate::plan::place::Draft;
use crate::plan::{Operand, Place, Plan, Region, RegionKind, SlotId, SlotKind, Source, Step};

/// Errors with the first step of `plan` that would read or destroy the wrong value.
pub(super) fn verify(plan: &Plan, draft: &Draft, graph: &Graph, bound: &Bound) -> Result<()> {
    structure(plan)?;
    if plan.steps.len() != draft.steps.len() {
        return fail(format!("{} steps became {}", draft.steps.len(), plan.steps.len()));
    }
    // What each slot holds: a value of the draft.
    let mut holds: Vec<Option<SlotId>> = vec![None; plan.slots.len()];
    for (s, slot) in plan.slots.iter().enumerate() {
        let (SlotKind::State(name) | SlotKind::Feed(name)) = &slot.kind else { continue };
        let input = graph.inputs.iter().position(|i| i.name == *name);
        holds[s] = draft.values.iter().position(|v| v.input.is_some() && v.input == input).map(|v| SlotId(v as u32));
    }
    let empty = |v: SlotId| draft.values[v.0 as usize].bytes == 0;
    for (i, (step, meant)) in plan.steps.iter().zip(&draft.steps).enumerate() {
        let at = format!("step {i}");
        let reads = step_reads(step).into_iter().zip(step_reads(meant));
        for (slot, value) in reads {
            if holds[slot.0 as usize] != Some(value) && !empty(value) {
                let found = holds[slot.0 as usize];
                return fail(format!("{at} needs value {} in slot {}, which holds {found:?}", value.0, slot.0));
            }
        }
        for (slot, value) in step_writes(step).into_iter().zip(step_writes(meant)) {
            let bytes = draft.values[value.0 as usize].bytes;
            if plan.slots[slot.0 as usize].bytes < bytes {
                return fail(format!("{at} writes {bytes} bytes into slot {}, which is smaller", slot.0));
            }
            match &plan.slots[slot.0 as usize].kind {
                SlotKind::Feed(name) => return fail(format!("{at} overwrites feed {name:?}")),
                SlotKind::State(name) => {
                    let input = bound.get(&value).map(|&k| graph.inputs[k].name.as_str());
                    if input != Some(name) {
                        return fail(format!("{at} writes another value into state {name:?}"));
                    }
                }
                SlotKind::Fetch | SlotKind::Transient => {}
            }
            holds[slot.0 as usize] = Some(value);
        }
    }
    let mut fetched = plan.outputs.iter();
    for (spec, value) in graph.outputs.iter().zip(&draft.outputs) {
        let slot = match spec.kind {
            OutputKind::Fetch => fetched.next().map(|o| o.slot),
            OutputKind::State => {
                let is = |k: &SlotKind| matches!(k, SlotKind::State(name) if *name == spec.name);
                plan.slots.iter().position(|s| is(&s.kind)).map(|s| SlotId(s as u32))
            }
        };
        let (Some(slot), Some(value)) = (slot, value) else { continue };
        if holds[slot.0 as usize] != Some(*value) && !empty(*value) {
            return fail(format!("output {:?} is not in its slot at the end", spec.name));
        }
    }
    Ok(())
}

/// What can be said of a plan alone: sizes, places, and no step that writes what it reads but in place.
pub(crate) fn structure(plan: &Plan) -> Result<()> {
    let slot = |id: SlotId, at: &str| match plan.slots.get(id.0 as usize) {
        Some(s) => Ok(s),
        None => Err(Error::internal("plan", format!("{at} uses slot {}, which does not exist", id.0))),
    };
    for (i, step) in plan.steps.iter().enumerate() {
        let at = format!("step {i}");
        match step {
            Step::Copy { from, to } => {
                slot(*from, &at)?;
                slot(*to, &at)?;
                if from == to {
                    return fail(format!("{at} copies slot {} to itself", from.0));
                }
            }
            Step::Run { place, region } => {
                for arg in &region.args {
                    if let Source::Slot(id) = arg.source {
                        let s = slot(id, &at)?;
                        in_place_of(*place, s.place, &at)?;
                        if arg.view.span().is_some_and(|(_, last)| (last + 1) * arg.dtype.bytes() > s.bytes) {
                            return fail(format!("{at} reads beyond the {} bytes of slot {}", s.bytes, id.0));
                        }
                    }
                }
                for (k, out) in region.outs.iter().enumerate() {
                    let s = slot(out.slot, &at)?;
                    in_place_of(*place, s.place, &at)?;
                    if out.ty.bytes() > s.bytes {
                        return fail(format!("{at} writes beyond the {} bytes of slot {}", s.bytes, out.slot.0));
                    }
                    aliasing(region, k, &at)?;
                }
            }
        }
    }
    Ok(())
}

fn in_place_of(step: Place, slot: Place, at: &str) -> Result<()> {
    if step == slot { Ok(()) } else { fail(format!("{at} runs on {step:?} and touches memory on {slot:?}")) }
}

/// Result `k` shares memory with no other result, and with arguments only as `in_place` says.
fn aliasing(region: &Region, k: usize, at: &str) -> Result<()> {
    let out = &region.outs[k];
    if region.outs.iter().enumerate().any(|(j, o)| j != k && o.slot == out.slot) {
        return fail(format!("{at} writes two results into slot {}", out.slot.0));
    }
    let same = |arg: &Operand| arg.source == Source::Slot(out.slot);
    match region.in_place.get(k).copied().flatten() {
        None if region.args.iter().any(same) => {
            fail(format!("{at} reads and writes slot {} without saying so", out.slot.0))
        }
        None => Ok(()),
        Some(a) => {
            let elems = out.ty.shape.elems();
            let taken = region.args.get(a).is_some_and(same);
            let whole = region.args.iter().filter(|arg| same(arg)).all(|arg| arg.view.is_identity(elems));
            if taken && whole && region.kind == RegionKind::Pointwise {
                Ok(())
            } else {
                fail(format!("{at} may not write result {k} over argument {a}"))
            }
        }
    }
}

fn step_reads(step: &Step) -> Vec<SlotId> {
    match step {
        Step::Copy { from, .. } => vec![*from],
        Step::Run { region, .. } => {
            let slots = region.args.iter().filter_map(|a| match a.source {
                Source::Slot(id) => Some(id),
                Source::Iota => None,
            });
            slots.collect()
        }
    }
}

fn step_writes(step: &Step) -> Vec<SlotId> {
    match step {
        Step::Copy { to, .. } => vec![*to],
        Step::Run { region, .. } => region.outs.iter().map(|t| t.slot).collect(),
    }
}

fn fail<T>(detail: String) -> Result<T> {
    Err(Error::internal("plan verifier", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::reference::Reference;
    use crate::ir::Builder;
    use crate::plan::{Caps, fuse, items, memory, order, place};
    use crate::{DType, passes};

    struct Planned {
        plan: Plan,
        draft: Draft,
        graph: Graph,
        bound: Bound,
    }

    impl Planned {
        fn verify(&self) -> Result<()> {
            verify(&self.plan, &self.draft, &self.graph, &self.bound)
        }

        fn region(&mut self, step: usize) -> &mut Region {
            match &mut self.plan.steps[step] {
                Step::Run { region, .. } => region,
                Step::Copy { .. } => panic!("step {step} is a copy"),
            }
        }

        #[track_caller]
        fn must_fail(&self, with: &str) {
            let message = self.verify().unwrap_err().to_string();
            assert!(message.contains(with), "{message}\n{}", self.plan);
        }
    }

    /// Steps 0 to 3: a = exp x; c = tanh a; d = a + c; the state p becomes p + d.
    fn planned(reuse: bool) -> Planned {
        let b = Builder::new();
        let x = b.feed("x", DType::F32, [64]);
        let p = b.state("p", DType::F32, [64]);
        let a = x.exp();
        let d = &a + &a.tanh();
        b.output("p", OutputKind::State, &(&p + &d));
        let device = Reference::new();
        let (graph, _) = passes::run(&b.build().unwrap(), &device, true).unwrap();
        let items = items::items(&graph).unwrap();
        let clusters = fuse::fuse(&items, device.limits(), false, &|_| true);
        let mut draft = place::Placer::new(&graph, &items, &device, None).run(&clusters.list).unwrap();
        let bound = order::order(&mut draft, &graph, reuse).unwrap();
        let plan = memory::assign(&draft, &graph, &bound, reuse);
        let planned = Planned { plan, draft, graph, bound };
        planned.verify().unwrap();
        planned
    }

    #[test]
    fn a_live_slot_that_is_overwritten_is_found() {
        let mut p = planned(true);
        let a = p.region(0).outs[0].slot;
        let tanh = p.region(1);
        tanh.outs[0].slot = a;
        tanh.in_place[0] = Some(0);
        p.must_fail("step 2 needs value");
    }

    #[test]
    fn a_read_before_the_write_is_found() {
        let mut p = planned(false);
        p.plan.steps.swap(0, 1);
        p.draft.steps.swap(0, 1);
        p.must_fail("which holds None");
    }

    #[test]
    fn an_operand_that_aliases_a_result_is_found() {
        let mut p = planned(true);
        let a = p.region(0).outs[0].slot;
        p.region(1).outs[0].slot = a;
        p.region(1).in_place[0] = None;
        p.must_fail("without saying so");
        p.region(1).in_place[0] = Some(7);
        p.must_fail("may not write result 0 over argument 7");
    }

    #[test]
    fn a_state_that_is_not_copied_back_is_found() {
        let mut p = planned(false);
        assert!(matches!(p.plan.steps.pop(), Some(Step::Copy { .. })), "{}", p.plan);
        p.draft.steps.pop();
        p.must_fail("not in its slot at the end");
    }

    #[test]
    fn a_state_that_gets_another_value_is_found() {
        let mut p = planned(true);
        let state = p.plan.slots.iter().position(|s| s.kind == SlotKind::State("p".into())).unwrap();
        p.region(0).outs[0].slot = SlotId(state as u32);
        p.must_fail("writes another value into state");
    }

    #[test]
    fn a_slot_that_is_too_small_is_found() {
        let mut p = planned(true);
        let a = p.region(0).outs[0].slot;
        p.plan.slots[a.0 as usize].bytes -= 4;
        p.must_fail("beyond the 252 bytes");
    }
}
