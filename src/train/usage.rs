//! Where the work of a run was done: how many runs of its programs stayed on the device, what fell back to the CPU and
//! which composites ran as their bodies. Counted from plans, so it costs nothing.

use crate::backend::Program;
use crate::plan::Note;
use serde::Serialize;
use std::collections::BTreeSet;

/// Counts over programs and their runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Training steps that ran on the device alone.
    pub steps_on_device: u64,
    /// Training steps of which some part ran on the CPU for want of support.
    pub steps_with_fallback: u64,
    /// Kernel launches of one training step.
    pub dispatches: usize,
    /// Submits of one training step.
    pub submits: usize,
    /// What fell back and why, as text.
    pub fallbacks: BTreeSet<String>,
    /// Which composites ran as their bodies and why, as text.
    pub inlined: BTreeSet<String>,
}

impl Usage {
    /// Adds what the planner said about a program.
    pub fn compiled(&mut self, program: &Program, is_step: bool) {
        for note in &program.plan().notes {
            match note {
                Note::Fallback { op, reason } => self.fallbacks.insert(format!("{op}: {reason}")),
                Note::Inlined { op, reason } => self.inlined.insert(format!("{op}: {reason}")),
            };
        }
        if is_step {
            let stats = program.stats();
            self.step_costs([(stats.dispatches, stats.submits)].into_iter());
        }
    }

    /// Kernel launches and submits of the programs that a training step runs; those of the first step are kept.
    pub fn step_costs(&mut self, programs: impl Iterator<Item = (usize, usize)>) {
        if self.dispatches == 0 {
            (self.dispatches, self.submits) = programs.fold((0, 0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        }
    }

    /// Counts one training step, which was one run of this program.
    pub fn stepped(&mut self, program: &Program) {
        self.step(program.stats().fallbacks > 0);
    }

    /// Counts one training step.
    pub fn step(&mut self, fell_back: bool) {
        match fell_back {
            false => self.steps_on_device += 1,
            true => self.steps_with_fallback += 1,
        }
    }
}
