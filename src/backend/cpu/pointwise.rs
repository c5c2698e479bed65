//! Pointwise regions, plain copies among them, and the epilogues of matmul and convolution.

use super::Job;
use super::memory::Words;
use super::par;
use super::program::{BLOCK, Program, Request};
use super::runner::{Runner, Scratch};
use super::source::{Arg, Bound};
use crate::ir::NodeId;
use crate::plan::Written;

/// Elements per task: enough blocks that a task's constants do not matter.
const GRAIN: usize = 32 * BLOCK;

/// The job of a pointwise region, or `None` if the body has other nodes.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let written: Vec<Written> = (0..bound.outs.len()).map(|k| bound.region.written(k)).collect();
    // What comes before a joined result is several of the program's.
    let result = |k: usize| written[..k].iter().map(|w| w.pieces.len()).sum();
    let program = Program::compile(&Request {
        body: &bound.region.body,
        args: &bound.args,
        overwritten: (0..bound.args.len()).map(|a| bound.overwrites(a).map(result)).collect(),
        root: None,
        results: written.iter().flat_map(|w| w.pieces.iter().copied()).collect(),
        direct: true,
    })?;
    let n = bound.region.space().elems();
    if bound.outs.iter().zip(&written).any(|(o, w)| o.elems() != n * w.pieces.len()) {
        return None;
    }
    let (args, outs) = (bound.args.clone(), bound.outs.clone());
    let joined: usize = written.iter().map(|w| w.pieces.len()).filter(|&p| p > 1).sum();
    Some(Box::new(move || {
        par::pieces(n, GRAIN, program.cost, |start, end| {
            let mut runner = Runner::new(&program, &args, end - start);
            runner.stage(start, end);
            // What is joined comes to lie in rows; a block of it is computed beside them.
            let mut beside = Scratch::new(joined * BLOCK);
            let mut targets: Vec<Words> = Vec::with_capacity(program.results.len());
            let mut at = start;
            while at < end {
                let len = BLOCK.min(end - at);
                targets.clear();
                let mut next = beside.ptr();
                for (out, w) in outs.iter().zip(&written) {
                    if w.pieces.len() == 1 {
                        targets.push(out.words().at(at));
                        continue;
                    }
                    for _ in &w.pieces {
                        targets.push(next);
                        next = next.at(BLOCK);
                    }
                }
                // SAFETY: blocks of different pieces are disjoint, and end at the number of elements.
                unsafe { runner.block(at, len, None, &targets) };
                let mut results = targets.iter();
                for (out, w) in outs.iter().zip(&written) {
                    for (p, from) in results.by_ref().take(w.pieces.len()).enumerate().filter(|_| w.pieces.len() > 1) {
                        // SAFETY: a block's rows in the result are its own, as its elements are.
                        unsafe { to_rows(*from, out.words(), at, len, w.run, (p, w.pieces.len())) };
                    }
                }
                at += len;
            }
        });
        Ok(())
    }))
}

/// Copies elements `start .. start + len` of piece `p` of `n` to their rows in the joined result.
///
/// # Safety
/// `from` has `len` words; the places of these elements are inside `to`, and no other thread touches them.
unsafe fn to_rows(from: Words, to: Words, start: usize, len: usize, run: usize, (p, n): (usize, usize)) {
    let mut done = 0;
    while done < len {
        let (row, column) = ((start + done) / run, (start + done) % run);
        let count = (run - column).min(len - done);
        let place = to.at((row * n + p) * run + column);
        // SAFETY: as the caller promises.
        unsafe { place.u32s_mut(count).copy_from_slice(from.at(done).u32s(count)) };
        done += count;
    }
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
            overwritten: (0..bound.args.len()).map(|a| bound.overwrites(a)).collect(),
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
