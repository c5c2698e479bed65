//! Scaled dot-product attention as a composite with an explicit gradient, normalised to four dimensions, and torch's
//! `scaled_dot_product_attention` in front of it. Kernels for GPUs never store the L x S scores; the bodies here do.

use crate::dtype::DType;
use crate::ir::{Builder, Tensor};
use crate::ops::{Composite, VjpArgs, ranks};
use crate::shape::Shape;
use std::any::Any;
use std::panic::Location;

/// `q[b,h,l,e], k[b,h,s,e], v[b,h,s,d], (mask) -> out[b,h,l,d], lse[b,h,l]`: softmax of `scale q k^T` over s, times v.
/// The mask is bool (true takes part) or f32 (added), `[b or 1, h or 1, l or 1, s]`. With `causal` key j <= query i, both
/// counted from the start. lse is the log of the sum of the exponentials. A row with no key left: out 0, lse -inf.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Each query sees only keys at its own position and before.
    pub causal: bool,
    /// Factor of the scores.
    pub scale: f64,
    /// Whether there is a fourth argument.
    pub has_mask: bool,
}

/// `q, k, v, (mask), out, lse, g[b,h,l,d] -> dq, dk, dv` of [`Attention`] with the same attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGrad {
    /// Each query sees only keys at its own position and before.
    pub causal: bool,
    /// Factor of the scores.
    pub scale: f64,
    /// Whether the fourth argument is a mask.
    pub has_mask: bool,
}

/// `scale q k^T`, with -inf where a key does not take part.
fn scores(b: &Builder, q: &Tensor, k: &Tensor, mask: Option<&Tensor>, causal: bool, scale: f64) -> Tensor {
    let mut s = q.matmul(&k.t()) * scale;
    if let Some(m) = mask {
        s = match m.dtype() {
            DType::Bool => m.select(&s, &s.like(f64::NEG_INFINITY)),
            _ => s + m,
        };
    }
    if causal {
        let (rows, cols) = (s.size(-2), s.size(-1));
        let seen = b.iota(cols).le(&b.iota(rows).unsqueeze(1));
        s = seen.select(&s, &s.like(f64::NEG_INFINITY));
    }
    s
}

/// exp(scores - lse), made to sum to 1: an lse near 1e4 has an ulp of 1e-3, which all weights of a row would share. Rows
/// without a key (lse = -inf) give zeros.
fn weights(scores: &Tensor, lse: &Tensor) -> Tensor {
    let lse = lse.unsqueeze(-1);
    let dead = lse.eq(&lse.like(f64::NEG_INFINITY));
    let p = (scores - dead.select(&lse.like(0.0), &lse)).exp();
    let total = p.sum(&[-1], true).detach();
    p / dead.select(&total.like(1.0), &total)
}

/// The gradient of the scores: p * (d - sum(p * d)) with d = g v^T, and p itself. The sum is that of g * out, but taken like
/// this it cancels exactly where one key has all the weight.
fn scores_grad(scores: &Tensor, v: &Tensor, lse: &Tensor, g: &Tensor) -> (Tensor, Tensor) {
    let (p, d) = (weights(scores, lse), g.matmul(&v.t()));
    let ds = &p * (&d - (&p * &d).sum(&[-1], true));
    (ds, p)
}

impl Composite for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }
    fn attrs(&self) -> String {
        format!("causal={} scale={:?} has_mask={}", self.causal, self.scale, self.has_mask)
    }
    fn outputs(&self) -> usize {
        2
    }
    fn body(&self, b: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("attention", args, if self.has_mask { &[4; 4] } else { &[4; 3] }) {
            return [bad.clone(), bad].concat();
        }
        let s = scores(b, &args[0], &args[1], args.get(3), self.causal, self.scale);
        let max = s.amax(&[-1], true).detach();
        let dead = max.eq(&max.like(f64::NEG_INFINITY));
        let max = dead.select(&max.like(0.0), &max);
        let e = (s - &max).exp();
        let total = e.sum(&[-1], true);
        // Rows without a key divide by 1: their sum is 0, and so the unchosen branches stay finite in derivatives too.
        let safe = dead.select(&total.like(1.0), &total);
        let out = (e / &safe).matmul(&args[2]);
        let lse = dead.select(&max.like(f64::NEG_INFINITY), &(max + safe.log()));
        vec![out, lse.squeeze(-1)]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        if v.cotangents[1].is_some() {
            return None;
        }
        let g = v.cotangents[0].as_ref()?;
        let grad = AttentionGrad { causal: self.causal, scale: self.scale, has_mask: self.has_mask };
        let mut args: Vec<&Tensor> = v.args.iter().collect();
        args.extend([&v.outs[0], &v.outs[1], g]);
        let mut grads: Vec<Option<Tensor>> = v.builder.call(grad, &args).into_iter().map(Some).collect();
        if let Some(mask) = v.args.get(3) {
            // An added mask is rarely trained; where it is, its gradient costs the L x S scores. Dead code otherwise.
            grads.push(mask.dtype().is_float().then(|| {
                let s = scores(v.builder, &v.args[0], &v.args[1], Some(mask), self.causal, self.scale);
                let (ds, _) = scores_grad(&s, &v.args[2], &v.outs[1], g);
                let repeated: Vec<isize> = (0..4).filter(|&d| mask.size(d) == 1 && ds.size(d) != 1).collect();
                if repeated.is_empty() { ds } else { ds.sum(&repeated, true) }
            }));
        }
        Some(grads)
    }
    fn rounds_to_f16(&self) -> (&'static [usize], &'static [usize]) {
        (&[0, 1, 2], &[0])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention_grad"
    }
    fn attrs(&self) -> String {
        format!("causal={} scale={:?} has_mask={}", self.causal, self.scale, self.has_mask)
    }
    fn outputs(&self) -> usize {
        3
    }
    fn body(&self, b: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        let expected: &[usize] = if self.has_mask { &[4, 4, 4, 4, 4, 3, 4] } else { &[4, 4, 4, 4, 3, 4] };
        if let Err(bad) = ranks("attention_grad", args, expected) {
            return [bad.clone(), bad.clone(), bad].concat();
        }
        let (q, k, v) = (&args[0], &args[1], &args[2]);
        let mask = self.has_mask.then(|| &args[3]);
        let rest = &args[if self.has_mask { 4 } else { 3 }..];
        let s = scores(b, q, k, mask, self.causal, self.scale);
        let (ds, p) = scores_grad(&s, v, &rest[1], &rest[2]);
        let ds = ds * self.scale;
        vec![ds.matmul(k), ds.t().matmul(q), p.t().matmul(&rest[2])]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The optional arguments of [`Tensor::scaled_dot_product_attention`], with torch's defaults.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions<'a> {
    /// Bool (true takes part) or f32 (added to the scores), broadcast to `(.., L, S)`.
    pub mask: Option<&'a Tensor>,
    /// Each query sees only keys at its own position and before, both counted from the start.
    pub is_causal: bool,
    /// Factor of the scores; `None` is 1/sqrt(E).
    pub scale: Option<f64>,
    /// Key and value have fewer heads (dimension -3); each serves as many consecutive query heads.
    pub enable_gqa: bool,
}

impl Tensor {
    /// Attention of this query `(.., L, E)` to `key (.., S, E)` and `value (.., S, V)`: `(.., L, V)`. Leading dimensions
    /// broadcast. A query with no key left gives zeros, with zero gradients.
    #[track_caller]
    pub fn scaled_dot_product_attention(&self, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Tensor {
        const OP: &str = "scaled_dot_product_attention";
        let loc = Location::caller();
        let misfit = |what: &str| {
            let detail = format!("{what} (query {}, key {}, value {})", self.ty(), key.ty(), value.ty());
            self.fail(OP, detail, loc)
        };
        if [self, key, value].iter().any(|t| t.rank() < 2) {
            return misfit("needs rank >= 2");
        }
        if self.size(-1) != key.size(-1) || key.size(-2) != value.size(-2) {
            return misfit("sizes differ");
        }
        let scale = options.scale.unwrap_or_else(|| 1.0 / (self.size(-1) as f64).sqrt());
        // Heads per key head. A key head and its query heads become the dimensions b and h of the composite, so that
        // the repeated keys are a broadcast (a view), not a copy.
        let share = if options.enable_gqa {
            let (hq, hk) = (self.size(-3), key.size(-3));
            if self.rank() < 3 || key.rank() < 3 || hk == 0 || hq % hk != 0 || value.size(-3) != hk {
                return misfit("enable_gqa needs query heads in multiples of the key and value heads");
            }
            hq / hk
        } else {
            1
        };
        let split = |t: &Tensor, heads: usize| {
            let mut shape = t.shape().to_vec();
            if options.enable_gqa {
                let at = shape.len() - 3;
                let groups = shape[at] / heads.max(1);
                shape.splice(at..=at, [groups, heads]);
            }
            t.reshape(shape)
        };
        let (q, k, v) = (split(self, share), split(key, 1), split(value, 1));
        let lead = |t: &Tensor| Shape::from(&t.shape()[..t.rank() - 2]);
        let Some(batch) = lead(&q).broadcast(&lead(&k)).and_then(|s| s.broadcast(&lead(&v))) else {
            return misfit("leading dimensions do not broadcast");
        };
        let four = |t: &Tensor| {
            let (b, h) = outer_and_heads(&batch);
            let (rows, cols) = (t.size(-2), t.size(-1));
            t.broadcast_to([&batch[..], &[rows, cols]].concat()).reshape([b, h, rows, cols])
        };
        let (l, s) = (q.size(-2), k.size(-2));
        let mut args = vec![four(&q), four(&k), four(&v)];
        if let Some(mask) = options.mask {
            let full: Shape = if options.enable_gqa {
                let at = batch.len() - 2;
                let mut lead = batch[..at].to_vec();
                lead.extend([batch[at] * batch[at + 1], l, s]);
                lead.into()
            } else {
                [&batch[..], &[l, s]].concat().into()
            };
            if mask.shape().broadcast(&full).as_ref() != Some(&full) {
                return self.fail(OP, format!("mask {} does not broadcast to {full}", mask.ty()), loc);
            }
            args.push(mask_four(mask, &full, &batch, options.enable_gqa));
        }
        let attention = Attention { causal: options.is_causal, scale, has_mask: options.mask.is_some() };
        let out = self.builder().call(attention, &args.iter().collect::<Vec<_>>()).remove(0);
        let mut shape = [&batch[..], &[l, v.size(-1)]].concat();
        if options.enable_gqa {
            let at = batch.len() - 2;
            shape.splice(at..at + 2, [batch[at] * batch[at + 1]]);
        }
        out.reshape(shape)
    }
}

/// Leading dimensions folded into the two of the composite: the last one is h, all before it b.
fn outer_and_heads(batch: &Shape) -> (usize, usize) {
    match batch.split_last() {
        Some((&h, rest)) => (rest.iter().product(), h),
        None => (1, 1),
    }
}

/// A mask that broadcasts to `full` as `[b or 1, h or 1, l or 1, s]` for the leading dimensions `batch` (in which, with
/// `gqa`, the heads are two dimensions).
fn mask_four(mask: &Tensor, full: &Shape, batch: &Shape, gqa: bool) -> Tensor {
    let mut shape = vec![1; full.len() - mask.rank()];
    shape.extend_from_slice(mask.shape());
    let (at, s) = (full.len() - 2, full[full.len() - 1]);
    let rows = shape[at];
    let lead = &shape[..at];
    if lead.iter().all(|&n| n == 1) {
        return mask.reshape([1, 1, rows, shape[at + 1]]).broadcast_to([1, 1, rows, s]);
    }
    let (b, h) = outer_and_heads(batch);
    if !gqa {
        let outer = &lead[..at - 1];
        if outer.iter().all(|&n| n == 1) {
            return mask.reshape([1, lead[at - 1], rows, shape[at + 1]]).broadcast_to([1, lead[at - 1], rows, s]);
        }
        let mut wide = full[..at - 1].to_vec();
        wide.extend([lead[at - 1], rows, s]);
        return mask.broadcast_to(wide).reshape([b, lead[at - 1], rows, s]);
    }
    let mut wide = full[..at].to_vec();
    wide.extend([rows, s]);
    mask.broadcast_to(wide).reshape([b, h, rows, s])
}
