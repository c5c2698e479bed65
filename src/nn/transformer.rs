//! Encoder and decoder layers of the transformer with torch's parameters, before or after norm.

use crate::ir::Tensor;
use crate::nn::{Dropout, Gelu, LayerNorm, Linear, Module, MultiheadAttention, MultiheadOptions, Relu, Scope};

/// The activation between the two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FeedForwardActivation {
    /// max(x, 0)
    #[default]
    Relu,
    /// x Phi(x)
    Gelu,
}

/// What encoder and decoder layers have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerConfig {
    /// Width of the model.
    pub d_model: usize,
    /// Number of attention heads.
    pub nhead: usize,
    /// Width between the two linear layers.
    pub dim_feedforward: usize,
    /// Probability of a zero, in all places where torch drops.
    pub dropout: f64,
    /// Between the two linear layers.
    pub activation: FeedForwardActivation,
    /// Norms before each branch instead of after each sum.
    pub norm_first: bool,
    /// (B, T, E) instead of torch's default (T, B, E).
    pub batch_first: bool,
    /// Added to the variances of the norms.
    pub layer_norm_eps: f64,
    /// Whether linear layers, projections and norms have biases.
    pub bias: bool,
}

impl TransformerConfig {
    /// torch's defaults.
    pub fn new(d_model: usize, nhead: usize) -> TransformerConfig {
        TransformerConfig {
            d_model,
            nhead,
            dim_feedforward: 2048,
            dropout: 0.1,
            activation: FeedForwardActivation::Relu,
            norm_first: false,
            batch_first: false,
            layer_norm_eps: 1e-5,
            bias: true,
        }
    }

    /// x + branch(x) with the norm `name` before the branch or after the sum.
    #[track_caller]
    fn residual(&self, s: &Scope, name: &str, x: &Tensor, branch: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let norm = LayerNorm { eps: self.layer_norm_eps, bias: self.bias, ..LayerNorm::new([self.d_model]) };
        let dropout = Dropout::new(self.dropout);
        let drop = |y: Tensor| s.run(format!("dropout_{name}"), &dropout, &y);
        match self.norm_first {
            true => x + drop(branch(&s.run(name, &norm, x))),
            false => s.run(name, &norm, &(x + drop(branch(x)))),
        }
    }

    #[track_caller]
    fn attention(&self, s: &Scope, name: &str, x: &Tensor, memory: &Tensor, masks: &Masks) -> Tensor {
        let layer = MultiheadAttention {
            dropout: self.dropout,
            bias: self.bias,
            batch_first: self.batch_first,
            ..MultiheadAttention::new(self.d_model, self.nhead)
        };
        let options = MultiheadOptions {
            attn_mask: masks.mask,
            key_padding_mask: masks.key_padding_mask,
            is_causal: masks.is_causal,
            ..Default::default()
        };
        layer.attend(&s.child(name), x, memory, memory, &options).0
    }

    #[track_caller]
    fn feed_forward(&self, s: &Scope, x: &Tensor) -> Tensor {
        let linear = |n: usize, m: usize| Linear { bias: self.bias, ..Linear::new(n, m) };
        let y = s.run("linear1", &linear(self.d_model, self.dim_feedforward), x);
        let y = match self.activation {
            FeedForwardActivation::Relu => Relu.forward(s, &y),
            FeedForwardActivation::Gelu => Gelu.forward(s, &y),
        };
        let y = s.run("dropout", &Dropout::new(self.dropout), &y);
        s.run("linear2", &linear(self.dim_feedforward, self.d_model), &y)
    }
}

/// What one attention leaves out; see [`MultiheadOptions`].
#[derive(Debug, Clone, Default)]
pub struct Masks<'a> {
    /// (L, S) or (B*heads, L, S): bool, true is left out; or f32, added to the scores.
    pub mask: Option<&'a Tensor>,
    /// (B, S): bool, true is left out; or f32, added to the scores.
    pub key_padding_mask: Option<&'a Tensor>,
    /// Each query sees only keys at its own position and before.
    pub is_causal: bool,
}

/// Self-attention (`self_attn`, `norm1`), then the feed-forward part (`linear1`, `linear2`, `norm2`).
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerEncoderLayer(pub TransformerConfig);

impl TransformerEncoderLayer {
    /// The layer on `src`.
    #[track_caller]
    pub fn encode(&self, s: &Scope, src: &Tensor, masks: &Masks) -> Tensor {
        let c = &self.0;
        let x = c.residual(s, "norm1", src, |x| c.attention(s, "self_attn", x, x, masks));
        c.residual(s, "norm2", &x, |x| c.feed_forward(s, x))
    }
}

impl Module for TransformerEncoderLayer {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.encode(scope, x, &Masks::default())
    }
}

/// Self-attention (`self_attn`, `norm1`), attention to the encoder's result (`multihead_attn`, `norm2`), then the
/// feed-forward part (`linear1`, `linear2`, `norm3`).
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerDecoderLayer(pub TransformerConfig);

impl TransformerDecoderLayer {
    /// The layer on `tgt`, which looks at `memory`.
    #[track_caller]
    pub fn decode(&self, s: &Scope, tgt: &Tensor, memory: &Tensor, own: &Masks, cross: &Masks) -> Tensor {
        let c = &self.0;
        let x = c.residual(s, "norm1", tgt, |x| c.attention(s, "self_attn", x, x, own));
        let x = c.residual(s, "norm2", &x, |x| c.attention(s, "multihead_attn", x, memory, cross));
        c.residual(s, "norm3", &x, |x| c.feed_forward(s, x))
    }
}
