//! Softmax, log-softmax and cross-entropy with their gradients, one row at a time: the row stays in L1 through its
//! passes (maximum, exponentials, sum, scaling).

use super::super::runner::Scratch;
use super::super::{Job, fold, math, par};
use super::{Dense, row};
use crate::error::Error;
use crate::ops::cross_entropy::{CrossEntropy, CrossEntropyGrad};

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Softmax,
    SoftmaxGrad,
    LogSoftmax,
    LogSoftmaxGrad,
}

/// Rows per task.
fn group(n: usize) -> usize {
    (16_384 / n.max(1)).max(1)
}

pub(super) fn job(dense: &Dense, kind: Kind) -> Option<Job> {
    let d = dense.clone();
    let [rows, n] = d.shape(0)[..] else { return None };
    Some(Box::new(move || {
        d.prepare();
        if n == 0 {
            return Ok(());
        }
        par::pieces(rows, group(n), n as f64 * 0.8, |from, to| {
            for r in from..to {
                // SAFETY: rows of the result are disjoint, operands are dense and not written.
                let (out, x) = unsafe { (d.out(0).at(r * n).f32s_mut(n), d.arg(0).at(r * n).f32s(n)) };
                // SAFETY: as above; only the gradients have a second operand.
                let g = || unsafe { d.arg(1).at(r * n).f32s(n) };
                match kind {
                    Kind::Softmax => {
                        row::exp_of(out, x, 1.0, fold::max(x));
                        row::scale(out, (1.0 / row::sum(out)) as f32);
                    }
                    Kind::SoftmaxGrad => {
                        let g = g();
                        row::softmax_grad(out, x, g, row::dot(x, g) as f32);
                    }
                    Kind::LogSoftmax => {
                        let max = fold::max(x);
                        row::exp_of(out, x, 1.0, max);
                        let sum = row::sum(out);
                        row::shifted(out, x, max, sum.ln() as f32);
                    }
                    Kind::LogSoftmaxGrad => {
                        let g = g();
                        row::log_softmax_grad(out, x, g, row::sum(g) as f32);
                    }
                }
            }
        });
        Ok(())
    }))
}

pub(super) fn cross_entropy(dense: &Dense, attrs: &CrossEntropy) -> Option<Job> {
    let (d, attrs) = (dense.clone(), attrs.clone());
    let [rows, n] = d.shape(0)[..] else { return None };
    Some(Box::new(move || {
        d.prepare();
        // SAFETY: one class per row.
        let target = unsafe { d.arg(1).u32s(rows) };
        let valid = |t: i32| t == attrs.ignore_index || (t >= 0 && (t as usize) < n);
        if let Some(at) = target.iter().position(|&t| !valid(t as i32)) {
            let detail = format!("class {} at position {at} is out of range for {n} classes", target[at] as i32);
            return Err(Error::runtime("cross_entropy", detail));
        }
        par::pieces(rows, group(n), n as f64 * 0.8 + 10.0, |from, to| {
            let mut scratch = Scratch::new(n);
            for (r, &class) in target.iter().enumerate().take(to).skip(from) {
                // SAFETY: rows are disjoint.
                let x = unsafe { d.arg(0).at(r * n).f32s(n) };
                let max = fold::max(x);
                let e = scratch.f32s(n);
                row::exp_of(e, x, 1.0, max);
                let log_sum = row::sum(e).ln();
                let (t, smooth) = (class as i32, attrs.label_smoothing);
                let loss = if t == attrs.ignore_index {
                    0.0
                } else {
                    let own = (x[t as usize] - max) as f64 - log_sum;
                    let mut loss = -own * (1.0 - smooth);
                    if smooth != 0.0 {
                        let all = row::sum(x) - n as f64 * (max as f64 + log_sum);
                        loss -= all * smooth / n as f64;
                    }
                    loss
                };
                // SAFETY: as above.
                unsafe {
                    *d.out(0).at(r).0.cast() = loss as f32;
                    *d.out(1).at(r).0.cast() = max;
                    *d.out(2).at(r).0.cast() = log_sum as f32;
                }
            }
        });
        Ok(())
    }))
}

pub(super) fn cross_entropy_grad(dense: &Dense, attrs: &CrossEntropyGrad) -> Option<Job> {
    let (d, attrs) = (dense.clone(), attrs.clone());
    let [rows, n] = d.shape(0)[..] else { return None };
    Some(Box::new(move || {
        d.prepare();
        // SAFETY: one class, one maximum, one log-sum and one cotangent per row.
        let (target, max) = unsafe { (d.arg(1).u32s(rows), d.arg(2).f32s(rows)) };
        let (log_sum, g) = unsafe { (d.arg(3).f32s(rows), d.arg(4).f32s(rows)) };
        let spread = (attrs.label_smoothing / n as f64) as f32;
        let own = (1.0 - attrs.label_smoothing + attrs.label_smoothing / n as f64) as f32;
        par::pieces(rows, group(n), n as f64 * 0.6 + 5.0, |from, to| {
            for r in from..to {
                // SAFETY: rows of the result are disjoint.
                let (out, x) = unsafe { (d.out(0).at(r * n).f32s_mut(n), d.arg(0).at(r * n).f32s(n)) };
                let t = target[r] as i32;
                if t == attrs.ignore_index {
                    out.fill(0.0);
                    continue;
                }
                row::cross_entropy_grad(out, x, max[r], log_sum[r], g[r], spread);
                if let Some(o) = usize::try_from(t).ok().and_then(|t| out.get_mut(t).map(|o| (o, x[t]))) {
                    *o.0 = g[r] * (math::exp(o.1 - max[r] - log_sum[r]) - own);
                }
            }
        });
        Ok(())
    }))
}
