//! Matrix products through the `gemm` crate, which takes any strides: transposes and broadcast batches are read in
//! place. The epilogue follows while a matrix (or a slice of rows) is still in cache.

use super::Job;
use super::memory::Words;
use super::par;
use super::pointwise::Epilogue;
use super::pool;
use super::runner::Scratch;
use super::source::{Arg, Bound};
use super::turn::turn;
use crate::ir::{Prim, Type};
use crate::shape::{Shape, View, collapse};

/// Products summed before they are added to the result, at most: what the `gemm` crate itself takes at once everywhere.
const DEPTH: usize = 512;

/// Floats between the rows of a copy: rows a power of two apart would share few lines of the caches.
const GAP: usize = 16;

/// One product `dst[m, n] = lhs[m, k] rhs[k, n]`: sizes and strides (row, column).
#[derive(Debug, Clone, Copy)]
pub(super) struct Gemm {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub lhs: (isize, isize),
    pub rhs: (isize, isize),
    pub dst: (isize, isize),
}

impl Gemm {
    /// Computes it, adding to what is in `dst` if `add`.
    ///
    /// # Safety
    /// All elements that the strides reach from the three pointers are inside live memory; nobody else touches those
    /// of `dst`, nobody writes those of the others.
    pub(super) unsafe fn run(&self, dst: Words, lhs: Words, rhs: Words, add: bool, parallel: bool) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        if !parallel {
            // SAFETY: promised by the caller.
            return unsafe { self.block(dst, lhs, rhs, add) };
        }
        // SAFETY: as above.
        unsafe { self.in_pieces(self.cut(pool::threads()), dst, lhs, rhs, add) }
    }

    /// How many pieces to cut the result into, down and across, for so many threads.
    fn cut(&self, threads: usize) -> (usize, usize) {
        let (mut down, mut across) = (1, 1);
        // Small results have other loops, with other bits.
        while down * across < threads && self.m.min(self.n) >= 8 {
            let (height, width) = (self.m / down, self.n / across);
            if height.max(width) < 128 {
                break;
            }
            *(if height >= width { &mut down } else { &mut across }) *= 2;
        }
        (down, across)
    }

    /// Computes each piece of the result on a thread. The bits do not depend on the cut: an element is the sum of parts of
    /// `DEPTH` products at most, in their order, and the crate cuts no part of that length again.
    ///
    /// # Safety
    /// As [`Gemm::run`].
    unsafe fn in_pieces(&self, (down, across): (usize, usize), dst: Words, lhs: Words, rhs: Words, add: bool) {
        let parts = self.k.div_ceil(DEPTH).max(1);
        let depth = self.k.div_ceil(parts);
        let turns = self.rhs.0 == 1 && self.rhs.1 > 1 && self.dst.1 == 1 && self.m >= 16 && self.n >= 8;
        let mut turned = Scratch::new(if turns { self.k * (self.n + GAP) } else { 0 });
        let (mut rhs, mut right) = (rhs, self.rhs);
        if turns {
            // SAFETY: promised by the caller; the scratch has room.
            unsafe { self.turn(rhs, turned.ptr()) };
            (rhs, right) = (turned.ptr(), ((self.n + GAP) as isize, 1));
        }
        // Cuts between whole vectors.
        let cut = |n: usize, i: usize, of: usize| (n.div_ceil(16) * i / of * 16).min(n);
        par::each(down * across, self.cost(), |i| {
            let (row, column) = (i / across, i % across);
            let (top, left) = (cut(self.m, row, down), cut(self.n, column, across));
            let (m, n) = (cut(self.m, row + 1, down) - top, cut(self.n, column + 1, across) - left);
            for part in 0..parts {
                let first = part * depth;
                let piece = Gemm { m, n, k: depth.min(self.k - first), rhs: right, ..*self };
                let at = |strides: (isize, isize), row: usize, column: usize| {
                    row as isize * strides.0 + column as isize * strides.1
                };
                let (to, a) = (dst.by(at(self.dst, top, left)), lhs.by(at(self.lhs, top, first)));
                let b = rhs.by(at(right, first, left));
                // SAFETY: within what the caller promises; pieces of the result are disjoint.
                unsafe { piece.block(to, a, b, add || part > 0) };
            }
        });
    }

    /// Copies a right side of columns, in which the crate's loops are slow, as rows with a gap after each.
    ///
    /// # Safety
    /// `rhs` as for [`Gemm::run`], `to` has room for k rows and gaps.
    unsafe fn turn(&self, rhs: Words, to: Words) {
        let (stride, step) = (self.rhs.1 as usize, self.n + GAP);
        let some = (16_384 / step).next_multiple_of(8).max(8);
        par::pieces(self.k, some, self.n as f64 * 0.4, |from, end| {
            let rows = end - from;
            // SAFETY: promised by the caller; rows of the copy are disjoint.
            let (columns, to) =
                unsafe { (rhs.at(from).f32s((self.n - 1) * stride + rows), to.at(from * step).f32s_mut(rows * step)) };
            turn(columns, stride, self.n, rows, to, step);
        });
    }

    /// Computes it on this thread.
    ///
    /// # Safety
    /// As [`Gemm::run`].
    unsafe fn block(&self, dst: Words, lhs: Words, rhs: Words, add: bool) {
        // SAFETY: promised by the caller.
        unsafe {
            gemm::gemm(
                self.m,
                self.n,
                self.k,
                dst.0.cast::<f32>(),
                self.dst.1,
                self.dst.0,
                add,
                lhs.0.cast::<f32>().cast_const(),
                self.lhs.1,
                self.lhs.0,
                rhs.0.cast::<f32>().cast_const(),
                self.rhs.1,
                self.rhs.0,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }

    /// Rough nanoseconds on one thread.
    pub(super) fn cost(&self) -> f64 {
        self.m as f64 * self.n as f64 * self.k as f64 / 40.0 + 300.0
    }
}

/// An operand that a kernel reads by non-negative strides; others are copied first, at each run.
#[derive(Debug, Clone)]
pub(super) struct Readable {
    pub arg: Arg,
    from: Option<Arg>,
}

impl Readable {
    pub(super) fn new(arg: &Arg, keep: bool) -> Option<Readable> {
        if keep {
            return Some(Readable { arg: arg.clone(), from: None });
        }
        let copy = Arg::dense(&Type::new(arg.dtype, arg.view.shape.clone())).ok()?;
        Some(Readable { arg: copy, from: Some(arg.clone()) })
    }

    /// An operand that must lie densely.
    pub(super) fn dense(arg: &Arg) -> Option<Readable> {
        Readable::new(arg, arg.direct().is_some())
    }

    /// Makes the copy, if one is needed.
    pub(super) fn prepare(&self) {
        let Some(from) = &self.from else { return };
        let to = self.arg.origin();
        par::pieces(from.elems(), 1 << 14, 0.5, |start, end| {
            // SAFETY: the copy is private to this job and as large as the operand; pieces are disjoint.
            from.gather(start, unsafe { to.at(start).u32s_mut(end - start) });
        });
    }
}

struct Dot {
    lhs: Readable,
    rhs: Readable,
    gemm: Gemm,
    /// Batch dimensions that both operands step through, with their strides.
    batch: Shape,
    steps: [Vec<isize>; 2],
    epilogue: Epilogue,
    /// Where products go when the result's own memory is still to be read.
    aside: Option<Arg>,
}

/// The job of a product, or `None` if its epilogue is not pointwise.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let body = &bound.region.body;
    let (root, _) = body.iter().find(|(_, n)| matches!(n.prim, Prim::Dot))?;
    let epilogue = Epilogue::new(bound, root)?;
    let forward = |a: &Arg| a.view.strides.iter().all(|&s| s >= 0);
    let lhs = Readable::new(&bound.args[0], forward(&bound.args[0]))?;
    let rhs = Readable::new(&bound.args[1], forward(&bound.args[1]))?;
    let out = bound.outs.first()?.clone();
    let (a, b): (&View, &View) = (&lhs.arg.view, &rhs.arg.view);
    let r = a.shape.len();
    let (mut m, k, n) = (a.shape[r - 2], a.shape[r - 1], b.shape[r - 1]);
    let strides = [a.strides[..r - 2].to_vec(), b.strides[..r - 2].to_vec()];
    let (mut batch, mut steps) = collapse(&Shape(a.shape[..r - 2].to_vec()), &strides);
    let row = a.strides[r - 2];
    // A batch that the right side repeats over is more rows of the left side, if these follow each other.
    while let (Some(&count), Some(&sa), Some(&0)) = (batch.0.last(), steps[0].last(), steps[1].last()) {
        if count != 1 && sa != m as isize * row {
            break;
        }
        m *= count;
        batch.0.pop();
        for s in &mut steps {
            s.pop();
        }
    }
    let gemm =
        Gemm { m, n, k, lhs: (row, a.strides[r - 1]), rhs: (b.strides[r - 2], b.strides[r - 1]), dst: (n as isize, 1) };
    let aside = if bound.is_in_place() { Some(Arg::dense(&out.ty).ok()?) } else { None };
    let steps: [Vec<isize>; 2] = steps.try_into().ok()?;
    let dot = Dot { lhs, rhs, gemm, batch, steps, epilogue, aside };
    Some(Box::new(move || {
        dot.run(out.words(), out.elems());
        Ok(())
    }))
}

impl Dot {
    fn run(&self, out: Words, elems: usize) {
        if elems == 0 {
            return;
        }
        self.lhs.prepare();
        self.rhs.prepare();
        let values = self.aside.as_ref().map_or(out, Arg::origin);
        let (count, size) = (self.batch.elems(), self.gemm.m * self.gemm.n);
        let one = self.gemm.cost() + size as f64 * self.epilogue.cost();
        if count > 1 && (count >= pool::threads() || one < 50_000.0) {
            par::each(count, count as f64 * one, |i| {
                // SAFETY: matrix `i` of the result belongs to this task; the operands were checked when bound.
                unsafe {
                    self.product(i, values, false);
                    self.epilogue.apply(values.at(i * size), out, i * size, size);
                }
            });
            return;
        }
        for i in 0..count {
            // SAFETY: as above, one matrix after the other.
            unsafe { self.product(i, values, self.gemm.cost() > 30_000.0) };
            if !self.epilogue.is_none() {
                par::pieces(size, 16 * 1024, self.epilogue.cost(), |start, end| {
                    let at = i * size + start;
                    // SAFETY: pieces of the result are disjoint.
                    unsafe { self.epilogue.apply(values.at(at), out, at, end - start) };
                });
            }
        }
    }

    /// # Safety
    /// Nobody else touches matrix `i` of `values`.
    unsafe fn product(&self, i: usize, values: Words, parallel: bool) {
        let (mut rest, mut at) = (i, [0isize; 2]);
        for d in (0..self.batch.len()).rev() {
            let index = (rest % self.batch[d]) as isize;
            rest /= self.batch[d];
            at[0] += index * self.steps[0][d];
            at[1] += index * self.steps[1][d];
        }
        let lhs = self.lhs.arg.origin().at(at[0] as usize);
        let rhs = self.rhs.arg.origin().at(at[1] as usize);
        // SAFETY: promised by the caller; the views were checked against their buffers.
        unsafe { self.gemm.run(values.at(i * self.gemm.m * self.gemm.n), lhs, rhs, false, parallel) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_bits_of_the_whole() {
        for (m, n, k) in [(128, 784, 300), (200, 130, 1030), (64, 333, 3136), (257, 9, 70), (8, 140, 600)] {
            let data = |len: usize, step: u32| -> Vec<f32> {
                (0..len as u32).map(|i| (i.wrapping_mul(step) >> 12) as f32 / 1e6 - 0.5).collect()
            };
            let (a, b) = (data(m * k, 2_654_435_761), data(k * n, 2_246_822_519));
            let words = |v: &[f32]| Words(v.as_ptr().cast_mut().cast());
            let (lhs, rhs) = ([(k as isize, 1), (1, m as isize)], [(n as isize, 1), (1, k as isize)]);
            for (lhs, rhs) in lhs.into_iter().flat_map(|l| rhs.map(|r| (l, r))) {
                let gemm = Gemm { m, n, k, lhs, rhs, dst: (n as isize, 1) };
                let results = [(1, 1), (2, 1), (1, 2), gemm.cut(16)].map(|cut| {
                    let mut c = vec![0f32; m * n];
                    // SAFETY: the three vectors have the sizes of the matrices; the result is not shared.
                    unsafe { gemm.in_pieces(cut, Words(c.as_mut_ptr().cast()), words(&a), words(&b), false) };
                    c
                });
                assert!(results.iter().all(|c| *c == results[0]), "{m} x {n} x {k}, {lhs:?}, {rhs:?}");
                let (row, column) = (m / 2, n / 3);
                let product = |i: usize| {
                    let x = a[(row as isize * lhs.0 + i as isize * lhs.1) as usize];
                    x as f64 * b[(i as isize * rhs.0 + column as isize * rhs.1) as usize] as f64
                };
                let exact: f64 = (0..k).map(product).sum();
                let size: f64 = (0..k).map(|i| product(i).abs()).sum();
                assert!((results[0][row * n + column] as f64 - exact).abs() <= k as f64 * 6e-8 * size);
            }
        }
    }
}
