//! The section `[model]`: compact kinds, or a list of layers.

use super::named::NamedLayer;
use super::section::section;
use serde::{Deserialize, Serialize};

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Fully connected layers with ReLU between them.
    Mlp(Mlp),
    /// Stages of 3x3 convolutions, each with batch norm and ReLU, each stage ending in 2x2 max pooling; then one linear layer.
    Cnn(Cnn),
    /// A decoder-only transformer.
    Gpt(Gpt),
    /// A transformer that reads one sequence and writes another.
    EncoderDecoder(EncoderDecoder),
    /// Layers, one after the other.
    Layers(Layers),
}

section!(
    /// Fully connected layers.
    Mlp {
        /// Widths of the hidden layers.
        hidden: Vec<usize> = Vec::new(),
        /// Probability that a hidden value is dropped.
        dropout: f64 = 0.0,
    }
);

section!(
    /// A convolutional network.
    Cnn {
        /// Channels of the convolutions of each stage.
        stages: Vec<Vec<usize>> = vec![vec![16], vec![32]],
        /// Probability that a feature is dropped before the linear layer.
        dropout: f64 = 0.0,
    }
);

section!(
    /// A decoder-only transformer.
    Gpt {
        /// Number of blocks.
        layers: usize = 4,
        /// Attention heads per block.
        heads: usize = 4,
        /// Size of the vector at each position.
        width: usize = 128,
        /// Probability that a value is dropped after the embeddings and at the end of each branch.
        dropout: f64 = 0.0,
        /// Whether the backward pass computes each block again instead of keeping its inner values.
        checkpoint: bool = false,
    }
);

section!(
    /// An encoder and a decoder.
    EncoderDecoder {
        /// Encoder and decoder layers.
        layers: [usize; 2] = [2, 2],
        /// Attention heads per layer.
        heads: usize = 4,
        /// Size of the vector at each position.
        width: usize = 128,
        /// Width between the two linear layers of each layer.
        feedforward: usize = 512,
        /// Probability that a value is dropped.
        dropout: f64 = 0.1,
    }
);

section!(
    /// A list of layers.
    Layers {
        /// The layers, first to last.
        layers: Vec<NamedLayer> = Vec::new(),
    }
);
