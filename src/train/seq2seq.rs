//! The transformer that reads one sequence of tokens and writes another.

use crate::data::vocabulary::PAD;
use crate::dtype::DType;
use crate::ir::Tensor;
use crate::nn::{
    Dropout, Embedding, LayerNorm, Linear, Masks, Module, Scope, TransformerConfig, TransformerDecoderLayer,
    TransformerEncoderLayer,
};
use crate::ops::reparam::sinusoidal_positions;
use crate::train::config::model::EncoderDecoder as Config;
use std::panic::Location;

/// Source tokens i32 (N, S) and the target up to the token before, i32 (N, T), to logits (N, T, tokens). Norms before each
/// branch, sinusoidal positions. Parameters: `encoder.embedding`, `encoder.layers.N`, `encoder.norm`, the same of `decoder`,
/// `head`. What pads the source is not seen.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDecoder {
    /// Sizes.
    pub config: Config,
    /// Number of source tokens.
    pub source: usize,
    /// Number of target tokens.
    pub target: usize,
}

impl EncoderDecoder {
    fn layer(&self) -> TransformerConfig {
        TransformerConfig {
            dim_feedforward: self.config.feedforward,
            dropout: self.config.dropout,
            norm_first: true,
            batch_first: true,
            ..TransformerConfig::new(self.config.width, self.config.heads)
        }
    }

    /// Embedded tokens with positions.
    #[track_caller]
    fn embed(&self, scope: &Scope, tokens: &Tensor, rows: usize) -> Tensor {
        let width = self.config.width;
        // Drawn small and scaled up, so that rows and positions are of one size.
        let table = Embedding::new(rows, width).std((width as f64).powf(-0.5));
        let x = scope.run("embedding", &table, tokens) * (width as f64).sqrt();
        let x = x + sinusoidal_positions(tokens.builder(), tokens.size(1), width, 10_000.0);
        scope.run("dropout", &Dropout::new(self.config.dropout), &x)
    }

    /// Source tokens i32 (N, S) to (N, S, width), and which of them pad (bool).
    #[track_caller]
    pub fn encode(&self, scope: &Scope, source: &Tensor) -> (Tensor, Tensor) {
        let scope = scope.child("encoder");
        let pads = source.eq(&source.like(f64::from(PAD)));
        let masks = Masks { key_padding_mask: Some(&pads), ..Default::default() };
        let layer = TransformerEncoderLayer(self.layer());
        let x = self.embed(&scope, source, self.source);
        let layers = scope.child("layers");
        let x = (0..self.config.layers[0]).fold(x, |x, i| layers.visit(i, |s| layer.encode(s, &x, &masks)));
        (scope.run("norm", &LayerNorm::new([self.config.width]), &x), pads)
    }

    /// Logits (N, T, tokens) of the token after each of `before`, i32 (N, T), for an encoded source.
    #[track_caller]
    pub fn decode(&self, scope: &Scope, memory: &Tensor, pads: &Tensor, before: &Tensor) -> Tensor {
        let root = scope;
        let scope = scope.child("decoder");
        let own = Masks { is_causal: true, ..Default::default() };
        let cross = Masks { key_padding_mask: Some(pads), ..Default::default() };
        let layer = TransformerDecoderLayer(self.layer());
        let x = self.embed(&scope, before, self.target);
        let layers = scope.child("layers");
        let x =
            (0..self.config.layers[1]).fold(x, |x, i| layers.visit(i, |s| layer.decode(s, &x, memory, &own, &cross)));
        let x = scope.run("norm", &LayerNorm::new([self.config.width]), &x);
        root.run("head", &Linear::new(self.config.width, self.target), &x)
    }
}

impl Module for EncoderDecoder {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.fail("encoder_decoder", "needs two inputs: source and target tokens", Location::caller())
    }

    #[track_caller]
    fn forward_all(&self, scope: &Scope, inputs: &[Tensor]) -> Tensor {
        match inputs {
            [source, before] if source.dtype() == DType::I32 && source.rank() == 2 && before.rank() == 2 => {
                let (memory, pads) = self.encode(scope, source);
                self.decode(scope, &memory, &pads, before)
            }
            _ => self.forward(scope, &inputs[0]),
        }
    }
}
