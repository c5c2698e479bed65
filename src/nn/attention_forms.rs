//! Self-attention layers of other forms: truncated, linear, with distance decay; and additive attention. The first three
//! share the projections of multi-head attention, with torch's names.

use crate::ir::Tensor;
use crate::nn::attention::split_heads;
use crate::nn::linear::{affine, place};
use crate::nn::{Init, Linear, Module, Scope};
use std::panic::Location;

/// How [`SelfAttention`] weighs the values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// Dot products, only with |i - j| <= window: truncated attention.
    Windowed {
        /// How far a position sees to each side.
        window: usize,
        /// And only to the left.
        is_causal: bool,
    },
    /// The kernel elu(x) + 1 in the place of the exponential (arXiv 2006.16236); linear in the length unless causal.
    Linear {
        /// Only to the left.
        is_causal: bool,
    },
    /// Dot products times exp(-decay d(i, j)) before the softmax.
    DistanceDecay {
        /// The decay at the start.
        decay: f64,
        /// Positions are pixels of an image of this width, row by row, and distances Euclidean; `None`: |i - j|.
        grid_width: Option<usize>,
        /// The decay is a parameter, `decay` (heads).
        learned: bool,
    },
}

/// Multi-head self-attention of (B, T, E) or (T, E) in one of these forms. Parameters: `in_proj_weight` (3E, E) with rows
/// q, k, v, `in_proj_bias` (3E), `out_proj.weight`, `out_proj.bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfAttention {
    /// E, the width.
    pub embed_dim: usize,
    /// Number of heads; divides `embed_dim`.
    pub num_heads: usize,
    /// Whether the projections have biases.
    pub bias: bool,
    /// How values are weighed.
    pub form: Form,
}

impl SelfAttention {
    /// Heads with biases.
    pub fn new(embed_dim: usize, num_heads: usize, form: Form) -> SelfAttention {
        SelfAttention { embed_dim, num_heads, bias: true, form }
    }
}

impl Module for SelfAttention {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        const OP: &str = "self_attention";
        let (e, heads, loc) = (self.embed_dim, self.num_heads, Location::caller());
        if heads == 0 || e % heads != 0 {
            return x.fail(OP, format!("{}: {heads} heads do not divide the width {e}", place(scope)), loc);
        }
        if !matches!(x.rank(), 2 | 3) || x.size(-1) != e {
            return x.fail(OP, format!("{} expects (B, T, {e}) or (T, {e}), got {}", place(scope), x.ty()), loc);
        }
        let batch = if x.rank() == 3 { x.clone() } else { x.unsqueeze(0) };
        let weight = scope.param("in_proj_weight", [3 * e, e], Init::XavierUniform { gain: 1.0 });
        let bias = self.bias.then(|| scope.param("in_proj_bias", [3 * e], Init::ZEROS));
        let packed = affine(&batch, &weight, bias.as_ref());
        let [q, k, v] = split_heads(&packed, heads).map(|t| t.permute(&[0, 2, 1, 3]));
        let y = match self.form {
            Form::Windowed { window, is_causal } => q.windowed_attention(&k, &v, window, is_causal).0,
            Form::Linear { is_causal } => q.linear_attention(&k, &v, is_causal),
            Form::DistanceDecay { decay, grid_width, learned } => {
                let decay = match learned {
                    true => scope.param("decay", [heads], Init::Constant(decay)).reshape([heads, 1, 1]),
                    false => x.builder().full([], decay),
                };
                q.distance_decay_attention_by(&k, &v, &decay, grid_width).0
            }
        };
        let mut last = Linear::new(e, e).init(Init::TORCH_WEIGHT, Init::ZEROS);
        last.bias = self.bias;
        scope.run("out_proj", &last, &y.permute(&[0, 2, 1, 3]).reshape(x.shape()))
    }
}

/// Attention whose scores are a small network of query and key: `v . tanh(w_q q_i + w_k k_j)` (arXiv 1409.0473).
/// Parameters: `w_q` (hidden, query_dim), `w_k` (hidden, key_dim), `v` (hidden).
#[derive(Debug, Clone, PartialEq)]
pub struct AdditiveAttention {
    /// Width of the queries.
    pub query_dim: usize,
    /// Width of the keys.
    pub key_dim: usize,
    /// Width of the network.
    pub hidden: usize,
}

impl AdditiveAttention {
    /// Of queries (.., L, query_dim) to keys (.., S, key_dim) and values (.., S, V): the results (.., L, V) and the weights
    /// (.., L, S). `mask` is bool, (L, S) or (.., L, S), true takes part.
    #[track_caller]
    pub fn attend(
        &self,
        scope: &Scope,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let fits = |t: &Tensor, n: usize| t.rank() >= 2 && t.size(-1) == n;
        if !fits(query, self.query_dim) || !fits(key, self.key_dim) || value.rank() < 2 {
            let (q, k) = (self.query_dim, self.key_dim);
            let given = format!("{}, {}, {}", query.ty(), key.ty(), value.ty());
            let detail = format!("{} expects (.., L, {q}), (.., S, {k}), (.., S, V), got {given}", place(scope));
            let bad = query.fail("additive_attention", detail, Location::caller());
            return (bad.clone(), bad);
        }
        let a = self.hidden;
        let w_q = scope.param("w_q", [a, self.query_dim], Init::TORCH_WEIGHT);
        let w_k = scope.param("w_k", [a, self.key_dim], Init::TORCH_WEIGHT);
        let v = scope.param("v", [a], Init::torch_bias(a));
        query.additive_attention(key, value, [&w_q, &w_k, &v], mask)
    }
}

impl Module for AdditiveAttention {
    /// Self-attention without a mask.
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.attend(scope, x, x, x, None).0
    }
}
