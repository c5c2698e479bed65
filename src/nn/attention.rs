//! Multi-head attention with torch's parameters, masks and options.

use crate::dtype::DType;
use crate::ir::Tensor;
use crate::nn::linear::{affine, place};
use crate::nn::split::split;
use crate::nn::{Dropout, Init, Linear, Module, Rotary, Scope};
use crate::ops::attention::AttentionOptions;
use std::panic::Location;

/// Attention in `num_heads` subspaces. Parameters: `in_proj_weight` (3E, E) with rows q, k, v (with `kdim` or `vdim`:
/// `q_proj_weight`, `k_proj_weight`, `v_proj_weight`), `in_proj_bias` (3E), `out_proj.weight`, `out_proj.bias`, and
/// with `add_bias_kv` `bias_k`, `bias_v` (1, 1, E).
#[derive(Debug, Clone, PartialEq)]
pub struct MultiheadAttention {
    /// E, the width of queries and results.
    pub embed_dim: usize,
    /// Number of heads; divides `embed_dim`.
    pub num_heads: usize,
    /// Probability with which a weight is dropped in training.
    pub dropout: f64,
    /// Whether the projections have biases.
    pub bias: bool,
    /// Width of the keys, if not E.
    pub kdim: Option<usize>,
    /// Width of the values, if not E.
    pub vdim: Option<usize>,
    /// (B, L, E) instead of torch's default (L, B, E).
    pub batch_first: bool,
    /// One more, learned, key and value.
    pub add_bias_kv: bool,
    /// One more key and value of zeros.
    pub add_zero_attn: bool,
    /// Turns queries and keys by their positions; its width is E/heads. Its buffer is `rotary.angles`.
    pub rotary: Option<Rotary>,
}

/// The optional arguments of [`MultiheadAttention::attend`].
#[derive(Debug, Clone, Default)]
pub struct MultiheadOptions<'a> {
    /// (B, S) or (S): bool, true is left out; or f32, added to the scores.
    pub key_padding_mask: Option<&'a Tensor>,
    /// (L, S), (heads, L, S) or (B*heads, L, S): bool, true is left out; or f32, added to the scores.
    pub attn_mask: Option<&'a Tensor>,
    /// Each query sees only keys at its own position and before.
    pub is_causal: bool,
    /// Also return the weights. Without them the fused attention is used, which never forms them.
    pub need_weights: bool,
    /// Return weights per head instead of their average.
    pub weights_per_head: bool,
}

impl MultiheadAttention {
    /// With torch's defaults.
    pub fn new(embed_dim: usize, num_heads: usize) -> MultiheadAttention {
        MultiheadAttention {
            embed_dim,
            num_heads,
            dropout: 0.0,
            bias: true,
            kdim: None,
            vdim: None,
            batch_first: false,
            add_bias_kv: false,
            add_zero_attn: false,
            rotary: None,
        }
    }
    /// The same for inputs (B, L, E).
    pub fn batch_first(mut self) -> MultiheadAttention {
        self.batch_first = true;
        self
    }

    /// The result and, if asked for, the weights (B, L, S) or (B, heads, L, S). All inputs may lack the batch.
    #[track_caller]
    pub fn attend(
        &self,
        scope: &Scope,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        options: &MultiheadOptions,
    ) -> (Tensor, Option<Tensor>) {
        let (e, heads, loc) = (self.embed_dim, self.num_heads, Location::caller());
        let fail = |detail: String| (query.fail("multihead_attention", detail, loc), None);
        if heads == 0 || e % heads != 0 {
            return fail(format!("{}: {heads} heads do not divide the width {e}", place(scope)));
        }
        let (kdim, vdim) = (self.kdim.unwrap_or(e), self.vdim.unwrap_or(e));
        let rank = query.rank();
        let fits = [(query, e), (key, kdim), (value, vdim)].iter().all(|(t, n)| t.rank() == rank && t.size(-1) == *n);
        if !fits || !(2..=3).contains(&rank) {
            let detail = format!(
                "{} expects widths {e}, {kdim}, {vdim} and rank 2 or 3, got query {}, key {}, value {}",
                place(scope),
                query.ty(),
                key.ty(),
                value.ty()
            );
            return fail(detail);
        }
        // All as (B, L, width) from here on.
        let own = query.value() == key.value() && key.value() == value.value();
        let batch_first = |t: &Tensor| match (rank, self.batch_first) {
            (2, _) => t.unsqueeze(0),
            (_, true) => t.clone(),
            (_, false) => t.transpose(0, 1),
        };
        let (q, k, v) = (batch_first(query), batch_first(key), batch_first(value));
        if q.size(0) != k.size(0) || k.size(0) != v.size(0) || k.size(1) != v.size(1) {
            return fail(format!("sizes differ: query {}, key {}, value {}", query.ty(), key.ty(), value.ty()));
        }
        let (b, l, d) = (q.size(0), q.size(1), e / heads);
        let [mut q, mut k, mut v] = self.project(scope, [&q, &k, &v], own);
        if let Some(rotary) = &self.rotary {
            let place = scope.child("rotary");
            // Positions are the dimension before the last.
            let turn = |t: &Tensor| rotary.rotate(&place, &t.transpose(1, 2)).transpose(1, 2);
            (q, k) = (turn(&q), turn(&k));
        }
        if self.add_bias_kv {
            let extra = |name: &str| {
                let bias = scope.param(name, [1, 1, e], Init::XavierNormal { gain: 1.0 });
                bias.reshape([1, 1, heads, d]).broadcast_to([b, 1, heads, d])
            };
            k = Tensor::cat(&[&k, &extra("bias_k")], 1);
            v = Tensor::cat(&[&v, &extra("bias_v")], 1);
        }
        if self.add_zero_attn {
            k = k.pad(&[0; 4], &[0, 1, 0, 0], 0.0);
            v = v.pad(&[0; 4], &[0, 1, 0, 0], 0.0);
        }
        let mask = match self.mask(options, b, l, k.size(1)) {
            Ok(mask) => mask,
            Err(detail) => return fail(format!("{}: {detail}", place(scope))),
        };
        let by_head = |t: &Tensor| t.permute(&[0, 2, 1, 3]);
        let (q, k, v) = (by_head(&q), by_head(&k), by_head(&v));
        let explicit = options.need_weights || (self.dropout > 0.0 && scope.training());
        let (out, weights) = if explicit {
            let weights = weights(&q, &k, mask.as_ref(), options.is_causal);
            let dropped = Dropout::new(self.dropout).forward(scope, &weights);
            (dropped.matmul(&v), Some(dropped))
        } else {
            let allowed = mask.map(|m| if m.dtype() == DType::Bool { m.not() } else { m });
            let o = AttentionOptions { mask: allowed.as_ref(), is_causal: options.is_causal, ..Default::default() };
            (q.scaled_dot_product_attention(&k, &v, &o), None)
        };
        let out = out.permute(&[0, 2, 1, 3]).reshape([b, l, e]);
        let mut last = Linear::new(e, e).init(Init::TORCH_WEIGHT, Init::ZEROS);
        last.bias = self.bias;
        let out = last.forward(&scope.child("out_proj"), &out);
        let out = match (rank, self.batch_first) {
            (2, _) => out.squeeze(0),
            (_, true) => out,
            (_, false) => out.transpose(0, 1),
        };
        let weights = weights.filter(|_| options.need_weights).map(|w| {
            let w = if options.weights_per_head { w } else { w.mean(&[1], false) };
            if rank == 2 { w.squeeze(0) } else { w }
        });
        (out, weights)
    }

    /// Queries, keys and values as (B, positions, heads, E/heads). `own`: all three inputs are one tensor; one product
    /// then makes all three, which are views of its result.
    #[track_caller]
    fn project(&self, scope: &Scope, [q, k, v]: [&Tensor; 3], own: bool) -> [Tensor; 3] {
        let (e, heads) = (self.embed_dim, self.num_heads);
        let init = Init::XavierUniform { gain: 1.0 };
        let packed = self.kdim.unwrap_or(e) == e && self.vdim.unwrap_or(e) == e;
        let bias = self.bias.then(|| scope.param("in_proj_bias", [3 * e], Init::ZEROS));
        let headed = |t: &Tensor| t.reshape([t.size(0), t.size(1), heads, e / heads]);
        if packed && own {
            let weight = scope.param("in_proj_weight", [3 * e, e], init);
            let all = affine(q, &weight, bias.as_ref());
            return split_heads(&all, heads);
        }
        let weights = if packed {
            split(&scope.param("in_proj_weight", [3 * e, e], init), 0, 3)
        } else {
            vec![
                scope.param("q_proj_weight", [e, e], init.clone()),
                scope.param("k_proj_weight", [e, k.size(-1)], init.clone()),
                scope.param("v_proj_weight", [e, v.size(-1)], init),
            ]
        };
        let biases: Vec<Option<Tensor>> = match &bias {
            Some(b) => split(b, 0, 3).into_iter().map(Some).collect(),
            None => vec![None; 3],
        };
        let one = |i: usize, x: &Tensor| headed(&affine(x, &weights[i], biases[i].as_ref()));
        [one(0, q), one(1, k), one(2, v)]
    }

    /// Both masks as one that broadcasts to (B, heads, L, S): bool (true is left out) if both are, else f32 to add.
    /// `s` counts the keys with the appended ones, which no mask hides.
    fn mask(&self, o: &MultiheadOptions, b: usize, l: usize, s: usize) -> Result<Option<Tensor>, String> {
        let extra = usize::from(self.add_bias_kv) + usize::from(self.add_zero_attn);
        let given = s - extra;
        let shown = |t: &Tensor| t.pad(&[0; 4], &[0, 0, 0, extra as i64], 0.0);
        let mut masks = Vec::new();
        if let Some(m) = o.key_padding_mask {
            if m.elems() != b * given || m.size(-1) != given {
                return Err(format!("key_padding_mask is {}, expected ({b}, {given})", m.ty()));
            }
            masks.push(shown(&m.reshape([b, 1, 1, given])));
        }
        if let Some(m) = o.attn_mask {
            let shape = match m.shape()[..] {
                [x, y] if x == l && y == given => [1, 1, l, given],
                [n, x, y] if n == b * self.num_heads && x == l && y == given => [b, self.num_heads, l, given],
                [n, x, y] if n == self.num_heads && x == l && y == given => [1, n, l, given],
                [1, x, y] if x == l && y == given => [1, 1, l, given],
                _ => {
                    let h = self.num_heads;
                    return Err(format!(
                        "attn_mask is {}, expected ({l}, {given}), ({h}, {l}, {given}) or ({}, {l}, {given})",
                        m.ty(),
                        b * h
                    ));
                }
            };
            masks.push(shown(&m.reshape(shape)));
        }
        if let Some(m) = masks.iter().find(|m| !matches!(m.dtype(), DType::Bool | DType::F32)) {
            return Err(format!("a mask must be bool or f32, got {}", m.ty()));
        }
        let all_bool = masks.iter().all(|m| m.dtype() == DType::Bool);
        Ok(masks.into_iter().map(|m| if all_bool { m } else { additive(&m) }).reduce(|a, b| match all_bool {
            true => a.or(&b),
            false => a + b,
        }))
    }
}

/// -inf where a bool mask is true, 0 elsewhere; an f32 mask as it is.
fn additive(mask: &Tensor) -> Tensor {
    if mask.dtype() == DType::F32 {
        return mask.clone();
    }
    let b = mask.builder();
    mask.select(&b.full(mask.shape(), f64::NEG_INFINITY), &b.full(mask.shape(), 0.0))
}

/// softmax(q k^T / sqrt(d) + mask), (B, heads, L, S); `mask` is true (or -inf) where a key is left out.
#[track_caller]
fn weights(q: &Tensor, k: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
    let (l, s) = (q.size(2), k.size(2));
    let mut scores = (q * (1.0 / (q.size(-1) as f64).sqrt())).matmul(&k.t());
    if let Some(mask) = mask {
        scores = scores + additive(mask);
    }
    if causal {
        let b = q.builder();
        let later = b.iota(l).reshape([l, 1]).lt(&b.iota(s).reshape([1, s]));
        scores = later.select(&scores.like(f64::NEG_INFINITY), &scores);
    }
    scores.softmax(-1)
}

/// A packed projection (B, T, 3E) as queries, keys and values (B, T, heads, E/heads): views of it, whose gradients one
/// concatenation packs again.
#[track_caller]
pub(crate) fn split_heads(packed: &Tensor, heads: usize) -> [Tensor; 3] {
    let (b, t, e) = (packed.size(0), packed.size(1), packed.size(2) / 3);
    let parts = split(&packed.reshape([b, t, 3, heads, e / heads]), 2, 3);
    [0, 1, 2].map(|i| parts[i].reshape([b, t, heads, e / heads]))
}

impl Module for MultiheadAttention {
    /// Self-attention without masks.
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.attend(scope, x, x, x, &MultiheadOptions::default()).0
    }
}
