//! Pointwise regions, plain copies among them, and the epilogues of matmul and convolution.

use super::Job;
use super::memory::Words;
use super::par;
use super::program::{BLOCK, Program, Request};
use super::runner::Runner;
use super::source::{Arg, Bound};
use crate::ir::NodeId;

/// Elements per task: enough blocks that a task's constants do not matter.
const GRAIN: usize = 32 * BLOCK;

/// The job of a pointwise region, or `None` if the body has other nodes.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let program = Program::compile(&Request {
        body: &bound.region.body,
        args: &bound.args,
        overwritten: (0..bound.args.len()).map(|a| bound.is_overwritten(a)).collect(),
        root: None,
        results: bound.region.body.outputs.iter().map(|o| o.value).collect(),
        direct: true,
    })?;
    let n = bound.outs.first()?.elems();
    if bound.outs.iter().any(|o| o.elems() != n) {
        return None;
    }
    let (args, outs) = (bound.args.clone(), bound.outs.clone());
    Some(Box::new(move || {
        par::pieces(n, GRAIN, program.cost, |start, end| {
            let mut runner = Runner::new(&program, &args, end - start);
            let mut targets: Vec<Words> = outs.iter().map(|o| o.words().at(start)).collect();
            let mut at = start;
            while at < end {
                let len = BLOCK.min(end - at);
                // SAFETY: blocks of different pieces are disjoint, and end at the number of elements.
                unsafe { runner.block(at, len, None, &targets) };
                targets.iter_mut().for_each(|t| *t = t.at(len));
                at += len;
            }
        });
        Ok(())
    }))
}

/// What follows a matmul or convolution: a program on its values, or nothing.
#[derive(Debug, Clone)]
pub(super) struct Epilogue {
    program: Option<Program>,
    args: Vec<Arg>,
}

impl Epilogue {
    /// The epilogue of `root` in a region, or `None` if it is not pointwise.
    pub(super) fn new(bound: &Bound, root: NodeId) -> Option<Epilogue> {
        let body = &bound.region.body;
        let [out] = &body.outputs[..] else { return None };
        if out.value.node == root {
            return Some(Epilogue { program: None, args: Vec::new() });
        }
        let program = Program::compile(&Request {
            body,
            args: &bound.args,
            overwritten: (0..bound.args.len()).map(|a| bound.is_overwritten(a)).collect(),
            root: Some(root),
            results: vec![out.value],
            direct: true,
        })?;
        Some(Epilogue { program: Some(program), args: bound.args.clone() })
    }

    /// No work at all.
    pub(super) fn is_none(&self) -> bool {
        self.program.is_none()
    }

    /// Nanoseconds per element.
    pub(super) fn cost(&self) -> f64 {
        self.program.as_ref().map_or(0.0, |p| p.cost)
    }

    /// Applies it to elements `start .. start + len` of the result at `out`; `values` is where the kernel's values of
    /// this range lie, which may be the same place.
    ///
    /// # Safety
    /// The range is inside the result, and no other thread touches it; `values` has `len` words.
    pub(super) unsafe fn apply(&self, values: Words, out: Words, start: usize, len: usize) {
        let Some(program) = &self.program else { return };
        let mut runner = Runner::new(program, &self.args, len);
        let mut done = 0;
        while done < len {
            let n = BLOCK.min(len - done);
            // SAFETY: by the caller's promise; the accumulator is copied before the results are written.
            unsafe { runner.block(start + done, n, Some(values.at(done)), &[out.at(start + done)]) };
            done += n;
        }
    }
}
