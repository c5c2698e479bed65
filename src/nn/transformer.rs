//! Encoder and decoder layers of the transformer with torch's parameters, norms before or after, their stacks, and the whole.

use crate::ir::Tensor;
use crate::nn::{Dropout, Gelu, Init, LayerNorm, Linear, Module, MultiheadAttention, MultiheadOptions, Relu, Scope};

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

    fn norm(&self) -> LayerNorm {
        LayerNorm { eps: self.layer_norm_eps, bias: self.bias, ..LayerNorm::new([self.d_model]) }
    }

    /// The end of a stack.
    #[track_caller]
    fn last_norm(&self, s: &Scope, present: bool, x: Tensor) -> Tensor {
        if present { s.run("norm", &self.norm(), &x) } else { x }
    }

    /// x + branch(x) with the norm `name` before the branch or after the sum.
    #[track_caller]
    fn residual(&self, s: &Scope, name: &str, x: &Tensor, branch: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let norm = self.norm();
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
    /// (L, S), (heads, L, S) or (B*heads, L, S): bool, true is left out; or f32, added to the scores.
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

/// `num_layers` encoder layers, `layers.N`, and a norm after the last, `norm`.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerEncoder {
    /// Each of the layers.
    pub layer: TransformerEncoderLayer,
    /// How many.
    pub num_layers: usize,
    /// Whether the result is normalised.
    pub norm: bool,
}

impl TransformerEncoder {
    /// The layers on `src`.
    #[track_caller]
    pub fn encode(&self, s: &Scope, src: &Tensor, masks: &Masks) -> Tensor {
        let layers = s.child("layers");
        let x = (0..self.num_layers).fold(src.clone(), |x, i| self.layer.encode(&layers.child(i), &x, masks));
        self.layer.0.last_norm(s, self.norm, x)
    }
}

impl Module for TransformerEncoder {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.encode(scope, x, &Masks::default())
    }
}

/// `num_layers` decoder layers, `layers.N`, and a norm after the last, `norm`.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerDecoder {
    /// Each of the layers.
    pub layer: TransformerDecoderLayer,
    /// How many.
    pub num_layers: usize,
    /// Whether the result is normalised.
    pub norm: bool,
}

impl TransformerDecoder {
    /// The layers on `tgt`, each of which looks at `memory`.
    #[track_caller]
    pub fn decode(&self, s: &Scope, tgt: &Tensor, memory: &Tensor, own: &Masks, cross: &Masks) -> Tensor {
        let layers = s.child("layers");
        let one = |x: Tensor, i: usize| self.layer.decode(&layers.child(i), &x, memory, own, cross);
        let x = (0..self.num_layers).fold(tgt.clone(), one);
        self.layer.0.last_norm(s, self.norm, x)
    }
}

/// Encoder and decoder, as torch's `Transformer`: `encoder` and `decoder`, each ending in a norm; matrices start from
/// Xavier's uniform distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformer {
    /// Of all layers.
    pub config: TransformerConfig,
    /// Layers of the encoder.
    pub num_encoder_layers: usize,
    /// Layers of the decoder.
    pub num_decoder_layers: usize,
}

impl Transformer {
    /// torch's defaults: six layers each, 2048 between the linear layers, dropout 0.1.
    pub fn new(d_model: usize, nhead: usize) -> Transformer {
        Transformer { config: TransformerConfig::new(d_model, nhead), num_encoder_layers: 6, num_decoder_layers: 6 }
    }

    /// `src` through the encoder: what the decoder looks at.
    #[track_caller]
    pub fn encode(&self, s: &Scope, src: &Tensor, masks: &Masks) -> Tensor {
        let layer = TransformerEncoderLayer(self.config.clone());
        let stack = TransformerEncoder { layer, num_layers: self.num_encoder_layers, norm: true };
        stack.encode(&xavier(s).child("encoder"), src, masks)
    }

    /// `tgt` through the decoder, which looks at the encoder's result `memory`.
    #[track_caller]
    pub fn decode(&self, s: &Scope, tgt: &Tensor, memory: &Tensor, own: &Masks, cross: &Masks) -> Tensor {
        let layer = TransformerDecoderLayer(self.config.clone());
        let stack = TransformerDecoder { layer, num_layers: self.num_decoder_layers, norm: true };
        stack.decode(&xavier(s).child("decoder"), tgt, memory, own, cross)
    }

    /// Both: `src` (S, B, E) and `tgt` (T, B, E), or batch first, to (T, B, E). The masks are those of the encoder, of the
    /// decoder, and of the decoder's look at the encoder.
    #[track_caller]
    pub fn run(&self, s: &Scope, src: &Tensor, tgt: &Tensor, [own_src, own_tgt, cross]: [&Masks; 3]) -> Tensor {
        let memory = self.encode(s, src, own_src);
        self.decode(s, tgt, &memory, own_tgt, cross)
    }
}

fn xavier(s: &Scope) -> Scope {
    s.matrices_from(Init::XavierUniform { gain: 1.0 })
}
