//! Reductions with a pointwise prologue. Neighbouring dimensions of one fate (kept or folded) merge; what is innermost
//! decides the loops: folded, then rows of consecutive elements become one value; kept, then rows are folded onto each
//! other. Work is cut into segments of fixed size whose partial results are joined in order: same bits on every rerun.

use super::Job;
use super::fold::{Fold, RowFold};
use super::memory::Words;
use super::par;
use super::program::{BLOCK, Op, Program, Request, Stream};
use super::runner::Runner;
use super::source::{Arg, Bound};
use crate::ir::Prim;
use std::sync::Mutex;

/// Elements per segment.
const SEGMENT: usize = 32 * BLOCK;

/// Some dimensions, as sizes and strides in the row-major order of the whole.
#[derive(Debug, Clone, Default)]
struct Dims(Vec<(usize, usize)>);

impl Dims {
    fn count(&self) -> usize {
        self.0.iter().map(|d| d.0).product()
    }
    /// Flat position of the `i`-th index, row-major.
    fn position(&self, mut i: usize) -> usize {
        let mut at = 0;
        for &(n, stride) in self.0.iter().rev() {
            at += i % n * stride;
            i /= n;
        }
        at
    }
}

#[derive(Debug, Clone)]
struct Layout {
    /// Kept and folded dimensions outside of the innermost loops.
    kept: Dims,
    folded: Dims,
    /// The folded dimension of the innermost loops (rows, if they are kept inside).
    length: usize,
    /// The kept innermost dimension; 1 if the innermost is folded.
    width: usize,
}

fn layout(shape: &[usize], axes: &[usize]) -> Layout {
    // (size, folded), merged.
    let mut dims: Vec<(usize, bool)> = Vec::new();
    for (d, &n) in shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
        let folded = axes.contains(&d);
        match dims.last_mut() {
            Some((m, f)) if *f == folded => *m *= n,
            _ => dims.push((n, folded)),
        }
    }
    let mut stride = 1;
    let (mut length, mut width) = (1, 1);
    if let Some(&(n, false)) = dims.last() {
        width = n;
        stride = n;
        dims.pop();
    }
    if let Some(&(n, true)) = dims.last() {
        length = n;
        stride *= n;
        dims.pop();
    }
    let (mut kept, mut folded) = (Dims::default(), Dims::default());
    for &(n, is_folded) in dims.iter().rev() {
        (if is_folded { &mut folded } else { &mut kept }).0.insert(0, (n, stride));
        stride *= n;
    }
    Layout { kept, folded, length, width }
}

/// The job of a reduction, or `None` if its prologue is not pointwise.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let body = &bound.region.body;
    let [output] = &body.outputs[..] else { return None };
    let node = body.node(output.value.node);
    let Prim::Reduce { op, axes } = &node.prim else { return None };
    let program = Program::compile(&Request {
        body,
        args: &bound.args,
        overwritten: vec![None; bound.args.len()],
        root: None,
        results: vec![node.args[0]],
        direct: false,
    })?;
    let ty = body.ty(node.args[0]);
    let fold = Fold::new(*op, ty.dtype);
    let layout = layout(&ty.shape, axes);
    let empty = ty.shape.elems() == 0;
    let (mut args, out) = (bound.args.clone(), bound.outs.first()?.clone());
    if ty.shape.iter().enumerate().all(|(d, &n)| n == 1 || axes.contains(&d)) {
        in_memory_order(&program, &mut args);
    }
    Some(Box::new(move || {
        let direct = Runner::direct(&program, &args);
        let task = Task { program: &program, args: &args, direct, fold, layout: &layout, out: out.words() };
        if empty {
            // SAFETY: the whole result, in this thread alone.
            unsafe { out.words().u32s_mut(out.elems()) }.fill(fold.finish(fold.start()));
        } else if layout.width == 1 {
            task.inner();
        } else {
            task.outer();
        }
        Ok(())
    }))
}

/// Where everything is folded, the order of the elements is ours to choose: that of memory, if all operands that are
/// read as streams lie in the same permuted order (the norm of a gradient that came out transposed).
fn in_memory_order(program: &Program, args: &mut [Arg]) {
    let random = program.insts.iter().any(|i| matches!(i.op, Op::Random { .. }));
    let streams = program.streams.iter().map(|s| match s {
        Stream::Arg { arg, .. } => Some(*arg),
        Stream::Accumulator => None,
    });
    let Some(streams) = streams.collect::<Option<Vec<usize>>>().filter(|s| !s.is_empty() && !random) else { return };
    let first = &args[streams[0]].view;
    let mut order: Vec<usize> = (0..first.shape.len()).collect();
    order.sort_by_key(|&d| std::cmp::Reverse(first.strides[d]));
    let permuted: Vec<Arg> = streams.iter().map(|&a| args[a].with_view(args[a].view.permute(&order))).collect();
    if permuted.iter().all(|a| a.direct().is_some()) {
        streams.iter().zip(permuted).for_each(|(&a, view)| args[a] = view);
    }
}

struct Task<'a> {
    program: &'a Program,
    args: &'a [Arg],
    /// Where the elements lie, if nothing is done to them before they are folded.
    direct: Option<Words>,
    fold: Fold,
    layout: &'a Layout,
    out: Words,
}

impl Task<'_> {
    /// Rows of consecutive elements become one value each.
    fn inner(&self) {
        let Layout { kept, folded, length, .. } = self.layout;
        let (outputs, repeats) = (kept.count(), folded.count());
        let cost = self.program.cost.max(0.1);
        if repeats == 1 && *length <= BLOCK / 2 && kept.0.len() <= 1 {
            return self.short_rows(outputs, cost);
        }
        // What is only read goes by in larger pieces.
        let segment = if self.direct.is_some() { 4 * SEGMENT } else { SEGMENT };
        let segments = length.div_ceil(segment);
        let pieces = repeats * segments;
        let ns = (outputs * repeats * length) as f64 * cost;
        if pieces == 1 {
            let group = (segment / length).max(1);
            par::pieces(outputs, group, ns / outputs as f64, |from, to| {
                let mut runner = None;
                for o in from..to {
                    let acc = self.stretch(&mut runner, kept.position(o), *length);
                    // SAFETY: output `o` belongs to this task.
                    unsafe { *self.out.at(o).0 = self.fold.finish(acc) };
                }
            });
            return;
        }
        let partials: Vec<Mutex<u64>> = (0..outputs * pieces).map(|_| Mutex::new(0)).collect();
        let group = (segment / length).max(1);
        par::pieces(outputs * pieces, group, ns / (outputs * pieces) as f64, |from, to| {
            let mut runner = None;
            for (i, partial) in partials.iter().enumerate().take(to).skip(from) {
                let (o, piece) = (i / pieces, i % pieces);
                let (q, s) = (piece / segments, piece % segments);
                let at = kept.position(o) + folded.position(q) + s * segment;
                let acc = self.stretch(&mut runner, at, segment.min(length - s * segment));
                *partial.lock().unwrap_or_else(|e| e.into_inner()) = acc;
            }
        });
        for (o, own) in partials.chunks(pieces).enumerate() {
            let values = own.iter().map(|m| *m.lock().unwrap_or_else(|e| e.into_inner()));
            let acc = values.fold(self.fold.start(), |a, b| self.fold.join(a, b));
            // SAFETY: one thread writes all outputs.
            unsafe { *self.out.at(o).0 = self.fold.finish(acc) };
        }
    }

    /// Folds `len` consecutive elements, with a runner that is made when it is needed.
    fn stretch<'r>(&'r self, runner: &mut Option<Runner<'r>>, start: usize, len: usize) -> u64 {
        if let Some(elements) = self.direct {
            // SAFETY: inside the operand.
            return unsafe { self.fold.block(elements.at(start), len) };
        }
        let runner = runner.get_or_insert_with(|| Runner::new(self.program, self.args, BLOCK));
        let mut acc = self.fold.start();
        let mut done = 0;
        while done < len {
            let n = BLOCK.min(len - done);
            // SAFETY: inside the operands; the result is read before the next block.
            let part = unsafe {
                runner.block(start + done, n, None, &[]);
                self.fold.block(runner.result(0), n)
            };
            acc = self.fold.join(acc, part);
            done += n;
        }
        acc
    }

    /// Several short rows per block.
    fn short_rows(&self, outputs: usize, cost: f64) {
        let length = self.layout.length;
        let rows = BLOCK / length;
        let group = (SEGMENT / (rows * length)).max(1) * rows;
        par::pieces(outputs, group, length as f64 * cost + 2.0, |from, to| {
            let mut runner = Runner::new(self.program, self.args, BLOCK);
            let mut o = from;
            while o < to {
                let m = rows.min(to - o);
                // SAFETY: rows `o .. o + m` are consecutive and inside; their outputs belong to this task.
                unsafe {
                    let block = self.direct.map(|elements| elements.at(o * length)).unwrap_or_else(|| {
                        runner.block(o * length, m * length, None, &[]);
                        runner.result(0)
                    });
                    for r in 0..m {
                        let acc = self.fold.block(block.at(r * length), length);
                        *self.out.at(o + r).0 = self.fold.finish(acc);
                    }
                }
                o += m;
            }
        });
    }

    /// Rows are folded onto each other.
    fn outer(&self) {
        let Layout { kept, folded, length, width } = self.layout;
        let (length, width) = (*length, *width);
        let strip = width.min(if self.direct.is_some() { 4 * BLOCK } else { BLOCK });
        let strips = width.div_ceil(strip);
        // Rows of a segment lie inside one outer repeat.
        let rows = (2 * SEGMENT / strip).max(128).min(length);
        let segments = length.div_ceil(rows);
        let pieces = folded.count() * segments;
        let tasks = kept.count() * strips * pieces;
        let ns = (kept.count() * folded.count() * length * width) as f64 * self.program.cost.max(0.1);
        let partials: Vec<Mutex<Option<RowFold>>> = (0..tasks).map(|_| Mutex::new(None)).collect();
        par::each(tasks, ns, |i| {
            let (strip_at, piece) = (i / pieces, i % pieces);
            let (o, c) = (strip_at / strips, strip_at % strips * strip);
            let (q, s) = (piece / segments, piece % segments * rows);
            let base = kept.position(o) + folded.position(q) + s * width + c;
            let n = strip.min(width - c);
            let folded = self.rows(base, rows.min(length - s), n);
            *partials[i].lock().unwrap_or_else(|e| e.into_inner()) = Some(folded);
        });
        for (strip_at, own) in partials.chunks(pieces).enumerate() {
            let (o, c) = (strip_at / strips, strip_at % strips * strip);
            let mut parts = own.iter().filter_map(|part| part.lock().unwrap_or_else(|e| e.into_inner()).take());
            let Some(mut total) = parts.next() else { continue };
            parts.for_each(|part| total.join(part));
            // SAFETY: one thread writes all outputs.
            total.finish(unsafe { self.out.at(o * width + c).u32s_mut(strip.min(width - c)) });
        }
    }

    /// Folds `rows` rows of `n` elements from `base`, a row being `width` elements apart from the next.
    fn rows(&self, base: usize, rows: usize, n: usize) -> RowFold {
        let width = self.layout.width;
        let mut acc = RowFold::new(self.fold, n);
        if let Some(elements) = self.direct {
            // SAFETY: inside the operand.
            unsafe { acc.rows(elements.at(base), rows, width) };
            return acc;
        }
        let mut runner = Runner::new(self.program, self.args, BLOCK);
        // Narrow rows are consecutive: several fit a block.
        let group = if n == width { BLOCK / n } else { 1 };
        let mut r = 0;
        while r < rows {
            let m = group.min(rows - r);
            // SAFETY: inside the operands; the result is read before the next block.
            unsafe {
                runner.block(base + r * width, m * n, None, &[]);
                acc.rows(runner.result(0), m, n);
            }
            r += m;
        }
        acc
    }
}
