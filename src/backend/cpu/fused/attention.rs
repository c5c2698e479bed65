//! Attention and its gradient, blocked over queries: the scores of a block are one product, turned into weights row by
//! row in cache, and multiplied with the values; T x T scores are never stored. Causal blocks see only the keys up to
//! their last query. One (batch, head) pair is one task, or several where the pairs are fewer than threads.

use super::super::dot::{Gemm, Readable};
use super::super::memory::Words;
use super::super::runner::Scratch;
use super::super::source::{Arg, Bound, Out};
use super::super::{Job, fold, par};
use super::row;
use crate::dtype::DType;

/// Queries per block: their scores against a few hundred keys fit L2, and products are large enough to be efficient.
const QUERIES: usize = 64;

/// Attributes of both composites.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attrs {
    pub causal: bool,
    pub scale: f32,
    pub has_mask: bool,
}

#[derive(Clone)]
struct Operands {
    attrs: Attrs,
    q: Readable,
    k: Readable,
    v: Readable,
    mask: Option<Readable>,
    b: usize,
    h: usize,
    l: usize,
    s: usize,
    e: usize,
    d: usize,
}

/// An operand read by strides, whose rows are dense.
fn rows(arg: &Arg) -> Option<Readable> {
    let v = &arg.view;
    let dense = v.shape.last() == Some(&1) || v.strides.last() == Some(&1);
    Readable::new(arg, arg.buffer.is_some() && dense && v.strides.iter().all(|&s| s >= 0))
}

/// Where row 0 of (b, h) begins, and the distance of rows.
fn matrix(r: &Readable, b: usize, h: usize) -> (Words, isize) {
    let s = &r.arg.view.strides;
    (r.arg.origin().at(b * s[0] as usize + h * s[1] as usize), s[2])
}

impl Operands {
    fn new(bound: &Bound, attrs: Attrs) -> Option<Operands> {
        if bound.is_in_place() {
            return None;
        }
        let [b, h, l, e] = bound.args[0].view.shape[..] else { return None };
        let [_, _, s, d] = bound.args[2].view.shape[..] else { return None };
        let mask = if attrs.has_mask { Some(Readable::dense(&bound.args[3])?) } else { None };
        let (q, k, v) = (rows(&bound.args[0])?, rows(&bound.args[1])?, rows(&bound.args[2])?);
        Some(Operands { attrs, q, k, v, mask, b, h, l, s, e, d })
    }

    fn prepare(&self) {
        [&self.q, &self.k, &self.v].into_iter().chain(&self.mask).for_each(Readable::prepare);
    }

    /// Keys that a query of the block ending at `end` may see.
    fn keys(&self, end: usize) -> usize {
        if self.attrs.causal { self.s.min(end) } else { self.s }
    }

    fn cost(&self) -> f64 {
        let half = if self.attrs.causal { 0.5 } else { 1.0 };
        (self.b * self.h * self.l * self.s) as f64 * ((self.e + self.d) as f64 / 40.0 + 0.5) * half
    }

    /// Scaled and masked scores of queries `from .. from + n` against `keys` keys, rows `keys` apart. Keys that a query
    /// may not see have -inf.
    ///
    /// # Safety
    /// `to` has `n * keys` words of this task's own.
    unsafe fn scores(&self, b: usize, h: usize, from: usize, n: usize, keys: usize, to: Words) {
        let ((q, q_row), (k, k_row)) = (matrix(&self.q, b, h), matrix(&self.k, b, h));
        let gemm = Gemm { m: n, n: keys, k: self.e, lhs: (q_row, 1), rhs: (1, k_row), dst: (keys as isize, 1) };
        // SAFETY: operands were checked when bound.
        unsafe { gemm.run(to, q.at(from * q_row as usize), k, false, false) };
        for i in 0..n {
            // SAFETY: row `i` of the block.
            let x = unsafe { to.at(i * keys).f32s_mut(keys) };
            if let Some(mask) = &self.mask {
                row::scale(x, self.attrs.scale);
                self.apply_mask(mask, b, h, from + i, x);
            }
            if self.attrs.causal {
                let seen = (from + i + 1).min(keys);
                x[seen..].fill(f32::NEG_INFINITY);
            }
        }
    }

    /// The factor that [`Operands::scores`] has left to the caller: with a mask it has scaled itself.
    fn late_scale(&self) -> f32 {
        if self.mask.is_some() { 1.0 } else { self.attrs.scale }
    }

    fn apply_mask(&self, mask: &Readable, b: usize, h: usize, query: usize, x: &mut [f32]) {
        let shape = &mask.arg.view.shape;
        let pick = |i: usize, n: usize| if n == 1 { 0 } else { i };
        let row = (pick(b, shape[0]) * shape[1] + pick(h, shape[1])) * shape[2] + pick(query, shape[2]);
        let wide = shape[3] != 1;
        let at = mask.arg.origin().at(row * shape[3]);
        let len = if wide { x.len() } else { 1 };
        if mask.arg.dtype == DType::F32 {
            // SAFETY: a row of the mask.
            let m = unsafe { at.f32s(len) };
            x.iter_mut().enumerate().for_each(|(i, v)| *v += m[if wide { i } else { 0 }]);
        } else {
            // SAFETY: as above.
            let m = unsafe { at.u32s(len) };
            for (i, v) in x.iter_mut().enumerate() {
                if m[if wide { i } else { 0 }] == 0 {
                    *v = f32::NEG_INFINITY;
                }
            }
        }
    }
}

pub(super) fn job(bound: &Bound, attrs: Attrs) -> Option<Job> {
    let o = Operands::new(bound, attrs)?;
    let outs = bound.outs.clone();
    let blocks = o.l.div_ceil(QUERIES);
    Some(Box::new(move || {
        o.prepare();
        par::each(o.b * o.h * blocks, o.cost(), |i| {
            // Long blocks first: causal ones near the end see the most keys.
            let (pair, block) = (i / blocks, blocks - 1 - i % blocks);
            // SAFETY: blocks of queries are disjoint in both results.
            unsafe { forward(&o, &outs, pair, block * QUERIES) };
        });
        Ok(())
    }))
}

/// # Safety
/// Queries `from ..` of this pair belong to the caller.
unsafe fn forward(o: &Operands, outs: &[Out], pair: usize, from: usize) {
    let (b, h) = (pair / o.h, pair % o.h);
    let n = QUERIES.min(o.l - from);
    let keys = o.keys(from + n);
    let (out, lse) = (outs[0].words().at((pair * o.l + from) * o.d), outs[1].words().at(pair * o.l + from));
    // SAFETY: as promised.
    let (result, lse) = unsafe { (out.f32s_mut(n * o.d), lse.f32s_mut(n)) };
    if keys == 0 {
        result.fill(0.0);
        lse.fill(f32::NEG_INFINITY);
        return;
    }
    let mut scratch = Scratch::new(n * keys);
    let scores = scratch.ptr();
    let mut factors = [0f32; QUERIES];
    // SAFETY: the scratch is this task's own.
    unsafe { o.scores(b, h, from, n, keys, scores) };
    let scale = o.late_scale();
    for (i, (factor, lse)) in factors.iter_mut().zip(lse.iter_mut()).enumerate() {
        // SAFETY: row `i` of the scratch.
        let x = unsafe { scores.at(i * keys).f32s_mut(keys) };
        // The largest scaled score; with a negative scale that is the smallest score.
        let max = if scale >= 0.0 {
            fold::max(x) * scale
        } else {
            x.iter().map(|&v| v * scale).filter(|v| *v != f32::INFINITY).fold(f32::NEG_INFINITY, f32::max)
        };
        if max == f32::NEG_INFINITY {
            x.fill(0.0);
            *lse = f32::NEG_INFINITY;
            continue;
        }
        exp_row(x, scale, max);
        let sum = row::sum(x);
        *factor = (1.0 / sum) as f32;
        *lse = (max as f64 + sum.ln()) as f32;
    }
    let (v, v_row) = matrix(&o.v, b, h);
    let gemm = Gemm { m: n, n: o.d, k: keys, lhs: (keys as isize, 1), rhs: (v_row, 1), dst: (o.d as isize, 1) };
    // SAFETY: as above.
    unsafe { gemm.run(out, scores, v, false, false) };
    for (i, &factor) in factors.iter().enumerate().take(n) {
        // SAFETY: as above.
        row::scale(unsafe { out.at(i * o.d).f32s_mut(o.d) }, factor);
    }
}

/// x = exp(x * scale - shift), with -inf giving 0 under any scale.
fn exp_row(x: &mut [f32], scale: f32, shift: f32) {
    if scale > 0.0 {
        return row::exp_in_place(x, scale, shift);
    }
    for v in x.iter_mut() {
        let e = [*v];
        row::exp_of(std::slice::from_mut(v), &e, scale, shift);
        if e[0] == f32::NEG_INFINITY {
            *v = 0.0;
        }
    }
}

pub(super) fn grad_job(bound: &Bound, attrs: Attrs) -> Option<Job> {
    let o = Operands::new(bound, attrs)?;
    let first = 3 + usize::from(attrs.has_mask);
    let lse = Readable::dense(&bound.args[first + 1])?;
    let g = rows(&bound.args[first + 2])?;
    let outs = bound.outs.clone();
    Some(Box::new(move || {
        o.prepare();
        [&lse, &g].into_iter().for_each(Readable::prepare);
        par::each(o.b * o.h, o.cost() * 3.0, |pair| {
            // SAFETY: the gradients of this pair belong to this task.
            unsafe { backward(&o, &lse, &g, &outs, pair) };
        });
        Ok(())
    }))
}

/// # Safety
/// All three results of this pair belong to the caller.
unsafe fn backward(o: &Operands, lse: &Readable, g: &Readable, outs: &[Out], pair: usize) {
    let (b, h) = (pair / o.h, pair % o.h);
    let (dq, dk, dv) = (
        outs[0].words().at(pair * o.l * o.e),
        outs[1].words().at(pair * o.s * o.e),
        outs[2].words().at(pair * o.s * o.d),
    );
    // SAFETY: as promised.
    unsafe {
        dq.f32s_mut(o.l * o.e).fill(0.0);
        dk.f32s_mut(o.s * o.e).fill(0.0);
        dv.f32s_mut(o.s * o.d).fill(0.0);
    }
    let ((q, q_row), (k, k_row)) = (matrix(&o.q, b, h), matrix(&o.k, b, h));
    let ((v, v_row), (g, g_row)) = (matrix(&o.v, b, h), matrix(g, b, h));
    // SAFETY: one log-sum per query.
    let lse = unsafe { lse.arg.origin().at(pair * o.l).f32s(o.l) };
    let scale = o.late_scale();
    let mut from = 0;
    while from < o.l {
        let n = QUERIES.min(o.l - from);
        let keys = o.keys(from + n);
        let mut scratch = Scratch::new(2 * n * keys);
        let (p, dp) = (scratch.ptr(), scratch.ptr().at(n * keys));
        let (row_len, dense) = (keys as isize, |len: usize| (len as isize, 1));
        let g_block = g.at(from * g_row as usize);
        // SAFETY: the scratch has two blocks of scores; the results belong to the caller; operands are in range.
        unsafe {
            o.scores(b, h, from, n, keys, p);
            for i in 0..n {
                let x = p.at(i * keys).f32s_mut(keys);
                match lse[from + i] {
                    f32::NEG_INFINITY => x.fill(0.0),
                    lse => {
                        exp_row(x, scale, lse);
                        // An lse near 1e4 has an ulp of 1e-3, which all weights of the row would share.
                        row::scale(x, (1.0 / row::sum(x)) as f32);
                    }
                }
            }
            let down = Gemm { m: keys, n: o.d, k: n, lhs: (1, row_len), rhs: (g_row, 1), dst: dense(o.d) };
            down.run(dv, p, g_block, true, false);
            let back = Gemm { m: n, n: keys, k: o.d, lhs: (g_row, 1), rhs: (1, v_row), dst: dense(keys) };
            back.run(dp, g_block, v, false, false);
            for i in 0..n {
                let (x, d) = (p.at(i * keys).f32s_mut(keys), dp.at(i * keys).f32s(keys));
                // The same as the sum of g * out, but it cancels exactly where one key has all the weight.
                let along = row::dot(x, d) as f32;
                row::scores_grad(x, d, along, o.attrs.scale);
            }
            let to_q = Gemm { m: n, n: o.e, k: keys, lhs: dense(keys), rhs: (k_row, 1), dst: dense(o.e) };
            to_q.run(dq.at(from * o.e), p, k, false, false);
            let to_k = Gemm { m: keys, n: o.e, k: n, lhs: (1, row_len), rhs: (q_row, 1), dst: dense(o.e) };
            to_k.run(dk, p, q.at(from * q_row as usize), true, false);
        }
        from += n;
    }
}
