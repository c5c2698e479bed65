//! Layer norm and batch norm with their gradients. Statistics take two passes: the mean, from differences to the first
//! element and kept as a float and its remainder, then the squares of the deviations. One channel (or row) stays in cache through its passes.

use super::super::memory::Words;
use super::super::runner::Scratch;
use super::super::{Job, fold, par};
use super::{Dense, row};

/// A float and what it misses of the f64.
fn split(mean: f64) -> (f32, f32) {
    let hi = mean as f32;
    (hi, (mean - hi as f64) as f32)
}

/// The variance from the sum of the squares of `x - hi`, where the mean is `hi + lo`. No digits are lost: floats vary by
/// at least about as much as their mean is from a float.
fn variance(squares: f64, count: f64, lo: f32) -> f64 {
    let var = squares / count - lo as f64 * lo as f64;
    if var < 0.0 { 0.0 } else { var }
}

pub(super) fn layer_norm(dense: &Dense, eps: f64) -> Option<Job> {
    let d = dense.clone();
    let [rows, n] = d.shape(0)[..] else { return None };
    Some(Box::new(move || {
        d.prepare();
        // SAFETY: one weight and bias per column.
        let (w, b) = unsafe { (d.arg(1).f32s(n), d.arg(2).f32s(n)) };
        par::pieces(rows, (16_384 / n.max(1)).max(1), n as f64 * 0.4, |from, to| {
            for r in from..to {
                // SAFETY: rows of the results are disjoint, operands are not written.
                let (out, x) = unsafe { (d.out(0).at(r * n).f32s_mut(n), d.arg(0).at(r * n).f32s(n)) };
                let pivot = row::pivot(x);
                let mean = pivot as f64 + row::sum_from(x, pivot) / n as f64;
                let (hi, lo) = split(mean);
                let rstd = 1.0 / (variance(row::squares(x, hi), n as f64, lo) + eps).sqrt();
                row::normalize(out, x, hi, lo, rstd as f32, w, b);
                // SAFETY: as above.
                unsafe {
                    *d.out(1).at(r).0.cast() = hi;
                    *d.out(2).at(r).0.cast() = rstd as f32;
                }
            }
        });
        Ok(())
    }))
}

pub(super) fn layer_norm_grad(dense: &Dense) -> Option<Job> {
    let d = dense.clone();
    let [rows, n] = d.shape(0)[..] else { return None };
    // Fixed groups of rows, whose weight gradients are joined in order.
    let group = rows.div_ceil(16).max(32);
    let groups = rows.div_ceil(group);
    Some(Box::new(move || {
        d.prepare();
        // SAFETY: one weight per column, one mean and rstd per row.
        let (w, mean, rstd) = unsafe { (d.arg(1).f32s(n), d.arg(2).f32s(rows), d.arg(3).f32s(rows)) };
        let mut sums = vec![0f64; groups * 2 * n];
        let shared = Words(sums.as_mut_ptr().cast());
        par::each(groups, rows as f64 * n as f64 * 0.8, |k| {
            // SAFETY: each group has 2n doubles (4n words) of its own.
            let wide = unsafe { std::slice::from_raw_parts_mut(shared.at(k * 4 * n).0.cast::<f64>(), 2 * n) };
            let mut scratch = Scratch::new(2 * n);
            let narrow = scratch.f32s(2 * n);
            narrow.fill(0.0);
            let end = ((k + 1) * group).min(rows);
            for r in k * group..end {
                // SAFETY: rows of the result are disjoint.
                let out = unsafe { d.out(0).at(r * n).f32s_mut(n) };
                // SAFETY: operands are dense and not written.
                let (x, g) = unsafe { (d.arg(0).at(r * n).f32s(n), d.arg(4).at(r * n).f32s(n)) };
                let (along, across) = row::weighted(g, w, x, mean[r]);
                let a = rstd[r] as f64;
                let slope = across * a * a / n as f64;
                let (dw, db) = narrow.split_at_mut(n);
                row::layer_grad(out, g, x, w, dw, db, mean[r], rstd[r], (along / n as f64) as f32, slope as f32);
                if (r + 1) % 32 == 0 || r + 1 == end {
                    fold::flush(wide, narrow);
                }
            }
        });
        // SAFETY: one thread writes both sums.
        let (dw, db) = unsafe { (d.out(1).f32s_mut(n), d.out(2).f32s_mut(n)) };
        for i in 0..n {
            let total = |at: usize| (0..groups).map(|k| sums[k * 2 * n + at]).sum::<f64>() as f32;
            dw[i] = total(i);
            db[i] = total(n + i);
        }
        Ok(())
    }))
}

/// Samples, channels, elements of a channel in a sample.
struct Planes {
    n: usize,
    c: usize,
    s: usize,
}

impl Planes {
    fn new(d: &Dense) -> Option<Planes> {
        let [n, c, s] = d.shape(0)[..] else { return None };
        Some(Planes { n, c, s })
    }
    /// Where sample `i` of channel `c` begins.
    fn at(&self, i: usize, c: usize) -> usize {
        (i * self.c + c) * self.s
    }
    fn count(&self) -> f64 {
        (self.n * self.s) as f64
    }
    fn cost(&self) -> f64 {
        (self.n * self.c * self.s) as f64 * 0.6
    }
    /// Short planes are collected, so that the loops have something to run over: all samples of a channel in a row.
    fn gathers(&self) -> bool {
        self.s < 32 && self.n > 1
    }
    /// Copies the samples of channel `c`.
    fn collect(&self, from: Words, c: usize, to: &mut [f32]) {
        for (i, chunk) in to.chunks_exact_mut(self.s.max(1)).enumerate() {
            // SAFETY: inside the operand, which has this layout.
            let plane = unsafe { from.at(self.at(i, c)).f32s(self.s) };
            for (t, &v) in chunk.iter_mut().zip(plane) {
                *t = v;
            }
        }
    }
    /// Copies them back.
    ///
    /// # Safety
    /// Channel `c` of the result belongs to the caller.
    unsafe fn spread(&self, from: &[f32], c: usize, to: Words) {
        for (i, chunk) in from.chunks_exact(self.s.max(1)).enumerate() {
            // SAFETY: promised by the caller.
            let plane = unsafe { to.at(self.at(i, c)).f32s_mut(self.s) };
            for (t, &v) in plane.iter_mut().zip(chunk) {
                *t = v;
            }
        }
    }
}

/// Calls `f` with each stretch of channel `c` of the operands, either planes in place or the collected whole.
macro_rules! stretches {
    ($p:expr, $c:expr, $collected:expr, [$($from:expr),*], |$($x:ident),*| $body:expr) => {
        match $collected {
            Some([$($x),*]) => $body,
            None => {
                for i in 0..$p.n {
                    let at = $p.at(i, $c);
                    // SAFETY: planes of the operands.
                    let ($($x,)*) = unsafe { ($($from.at(at).f32s($p.s),)*) };
                    $body
                }
            }
        }
    };
}

pub(super) fn batch_norm(dense: &Dense, eps: f64) -> Option<Job> {
    let d = dense.clone();
    let p = Planes::new(&d)?;
    Some(Box::new(move || {
        d.prepare();
        // SAFETY: one weight and bias per channel.
        let (w, b) = unsafe { (d.arg(1).f32s(p.c), d.arg(2).f32s(p.c)) };
        let len = p.n * p.s;
        par::each(p.c, p.cost(), |c| {
            let mut scratch = Scratch::new(if p.gathers() { 2 * len } else { 0 });
            let (mut own, mut result) = (None, None);
            if p.gathers() {
                let (x, y) = scratch.f32s(2 * len).split_at_mut(len);
                p.collect(d.arg(0), c, x);
                (own, result) = (Some([&*x]), Some(y));
            }
            let (mut total, mut pivot) = (0.0, None);
            stretches!(p, c, own, [d.arg(0)], |x| total += row::sum_from(x, *pivot.get_or_insert(row::pivot(x))));
            let mean = pivot.unwrap_or(0.0) as f64 + total / p.count();
            let (hi, lo) = split(mean);
            let mut squares = 0.0;
            stretches!(p, c, own, [d.arg(0)], |x| squares += row::squares(x, hi));
            let var = variance(squares, p.count(), lo);
            let scale = (w[c] as f64 / (var + eps).sqrt()) as f32;
            match (own, result) {
                (Some([x]), Some(y)) => {
                    row::affine(y, x, hi, lo, scale, b[c]);
                    // SAFETY: this channel belongs to this task.
                    unsafe { p.spread(y, c, d.out(0)) };
                }
                _ => {
                    for i in 0..p.n {
                        let at = p.at(i, c);
                        // SAFETY: as above.
                        let (y, x) = unsafe { (d.out(0).at(at).f32s_mut(p.s), d.arg(0).at(at).f32s(p.s)) };
                        row::affine(y, x, hi, lo, scale, b[c]);
                    }
                }
            }
            // SAFETY: as above.
            unsafe {
                *d.out(1).at(c).0.cast() = hi;
                *d.out(2).at(c).0.cast() = var as f32;
            }
        });
        Ok(())
    }))
}

pub(super) fn batch_norm_grad(dense: &Dense, eps: f64) -> Option<Job> {
    let d = dense.clone();
    let p = Planes::new(&d)?;
    Some(Box::new(move || {
        d.prepare();
        // SAFETY: one of each per channel.
        let (w, mean, var) = unsafe { (d.arg(1).f32s(p.c), d.arg(2).f32s(p.c), d.arg(3).f32s(p.c)) };
        let len = p.n * p.s;
        par::each(p.c, p.cost() * 1.5, |c| {
            let mut scratch = Scratch::new(if p.gathers() { 3 * len } else { 0 });
            let (mut own, mut result) = (None, None);
            if p.gathers() {
                let (x, rest) = scratch.f32s(3 * len).split_at_mut(len);
                let (g, dx) = rest.split_at_mut(len);
                p.collect(d.arg(0), c, x);
                p.collect(d.arg(4), c, g);
                (own, result) = (Some([&*x, &*g]), Some(dx));
            }
            let (mut db, mut dw) = (0.0, 0.0);
            stretches!(p, c, own, [d.arg(0), d.arg(4)], |x, g| {
                db += row::sum(g);
                dw += row::moment(g, x, mean[c]);
            });
            let rstd = 1.0 / (var[c] as f64 + eps).sqrt();
            dw *= rstd;
            let a = (w[c] as f64 * rstd) as f32;
            let (mean_g, slope) = ((db / p.count()) as f32, (dw * rstd / p.count()) as f32);
            match (own, result) {
                (Some([x, g]), Some(dx)) => {
                    row::norm_grad(dx, g, x, mean[c], a, mean_g, slope);
                    // SAFETY: this channel belongs to this task.
                    unsafe { p.spread(dx, c, d.out(0)) };
                }
                _ => {
                    for i in 0..p.n {
                        let at = p.at(i, c);
                        // SAFETY: as above.
                        let dx = unsafe { d.out(0).at(at).f32s_mut(p.s) };
                        // SAFETY: planes of the operands.
                        let (x, g) = unsafe { (d.arg(0).at(at).f32s(p.s), d.arg(4).at(at).f32s(p.s)) };
                        row::norm_grad(dx, g, x, mean[c], a, mean_g, slope);
                    }
                }
            }
            // SAFETY: as above.
            unsafe {
                *d.out(1).at(c).0.cast() = dw as f32;
                *d.out(2).at(c).0.cast() = db as f32;
            }
        });
        Ok(())
    }))
}
