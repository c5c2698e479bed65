//! The conformer (arXiv 2005.08100), with the parameters of torchaudio's `ConformerLayer` and `Conformer`.

use crate::ir::Tensor;
use crate::nn::linear::place;
use crate::nn::{
    BatchNorm1d, Conv1d, Dropout, Glu, GroupNorm, LayerNorm, Linear, Module, MultiheadAttention, MultiheadOptions,
    Scope, Sequential, Silu,
};
use std::panic::Location;

/// Half a feed-forward part, self-attention, convolution, half a feed-forward part, norm, each but the last added to what it
/// is given. Parameters: `ffn1`, `self_attn_layer_norm`, `self_attn`, `conv_module`, `ffn2`, `final_layer_norm`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformerLayer {
    /// D, the width.
    pub input_dim: usize,
    /// Width inside the feed-forward parts.
    pub ffn_dim: usize,
    /// Attention heads; divides `input_dim`.
    pub num_attention_heads: usize,
    /// Odd size of the window of the depthwise convolution.
    pub depthwise_conv_kernel_size: usize,
    /// Probability of a zero, in all places where torchaudio drops.
    pub dropout: f64,
    /// Group norm with one group instead of batch norm in the convolution part.
    pub use_group_norm: bool,
    /// The convolution before the attention.
    pub convolution_first: bool,
}

impl ConformerLayer {
    /// torchaudio's defaults: no dropout, batch norm, attention first.
    pub fn new(input_dim: usize, ffn_dim: usize, heads: usize, kernel: usize) -> ConformerLayer {
        ConformerLayer {
            input_dim,
            ffn_dim,
            num_attention_heads: heads,
            depthwise_conv_kernel_size: kernel,
            dropout: 0.0,
            use_group_norm: false,
            convolution_first: false,
        }
    }

    /// The layer on (T, B, D). `key_padding_mask` (B, T) is true (bool) at positions that no other one sees.
    #[track_caller]
    pub fn encode(&self, s: &Scope, x: &Tensor, key_padding_mask: Option<&Tensor>) -> Tensor {
        const OP: &str = "conformer";
        let (d, loc) = (self.input_dim, Location::caller());
        if x.rank() != 3 || x.size(2) != d {
            return x.fail(OP, format!("{} expects (T, B, {d}), got {}", place(s), x.ty()), loc);
        }
        if self.depthwise_conv_kernel_size.is_multiple_of(2) {
            let detail = format!("{}: the kernel {} must be odd", place(s), self.depthwise_conv_kernel_size);
            return x.fail(OP, detail, loc);
        }
        let mut x = self.feed_forward(&s.child("ffn1"), x) * 0.5 + x;
        if self.convolution_first {
            x = self.convolution(&s.child("conv_module"), &x) + x;
        }
        x = self.attention(s, &x, key_padding_mask) + x;
        if !self.convolution_first {
            x = self.convolution(&s.child("conv_module"), &x) + x;
        }
        x = self.feed_forward(&s.child("ffn2"), &x) * 0.5 + x;
        s.run("final_layer_norm", &LayerNorm::new([d]), &x)
    }

    #[track_caller]
    fn feed_forward(&self, s: &Scope, x: &Tensor) -> Tensor {
        let (d, inner) = (self.input_dim, self.ffn_dim);
        let layers = Sequential::new()
            .add(LayerNorm::new([d]))
            .add(Linear::new(d, inner))
            .add(Silu)
            .add(Dropout::new(self.dropout))
            .add(Linear::new(inner, d))
            .add(Dropout::new(self.dropout));
        s.run("sequential", &layers, x)
    }

    #[track_caller]
    fn attention(&self, s: &Scope, x: &Tensor, key_padding_mask: Option<&Tensor>) -> Tensor {
        let x = s.run("self_attn_layer_norm", &LayerNorm::new([self.input_dim]), x);
        let heads = MultiheadAttention {
            dropout: self.dropout,
            ..MultiheadAttention::new(self.input_dim, self.num_attention_heads)
        };
        let options = MultiheadOptions { key_padding_mask, ..Default::default() };
        let (y, _) = heads.attend(&s.child("self_attn"), &x, &x, &x, &options);
        s.run("self_attn_dropout", &Dropout::new(self.dropout), &y)
    }

    #[track_caller]
    fn convolution(&self, s: &Scope, x: &Tensor) -> Tensor {
        let (d, k) = (self.input_dim, self.depthwise_conv_kernel_size);
        let layers = Sequential::new()
            .add(Conv1d::new(d, 2 * d, 1))
            .add(Glu { dim: 1 })
            .add(Conv1d::new(d, d, k).padding((k - 1) / 2).groups(d));
        let layers = match self.use_group_norm {
            true => layers.add(GroupNorm::new(1, d)),
            false => layers.add(BatchNorm1d::new(d)),
        };
        let layers = layers.add(Silu).add(Conv1d::new(d, d, 1)).add(Dropout::new(self.dropout));
        let y = s.run("layer_norm", &LayerNorm::new([d]), x);
        // (T, B, D) to (B, D, T) and back.
        s.run("sequential", &layers, &y.permute(&[1, 2, 0])).permute(&[2, 0, 1])
    }
}

impl Module for ConformerLayer {
    /// On (T, B, D), without padding.
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.encode(scope, x, None)
    }
}

/// Conformer layers in a row, `conformer_layers.N`, on (B, T, D).
#[derive(Debug, Clone, PartialEq)]
pub struct Conformer {
    /// Each of the layers.
    pub layer: ConformerLayer,
    /// How many.
    pub num_layers: usize,
}

impl Conformer {
    /// The layers on (B, T, D), of which the first `lengths` (B) (i32) positions of each row count, or all.
    #[track_caller]
    pub fn encode(&self, s: &Scope, x: &Tensor, lengths: Option<&Tensor>) -> Tensor {
        let (x, layers) = (x.transpose(0, 1), s.child("conformer_layers"));
        let positions = x.builder().iota(x.size(0)).unsqueeze(0);
        let padding = lengths.map(|n| positions.ge(&n.unsqueeze(1)));
        let y = (0..self.num_layers).fold(x, |x, i| self.layer.encode(&layers.child(i), &x, padding.as_ref()));
        y.transpose(0, 1)
    }
}

impl Module for Conformer {
    /// On (B, T, D), all of whose positions count.
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.encode(scope, x, None)
    }
}
