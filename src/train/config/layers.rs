//! The layers of the model kind `layers`.

use super::named::NamedLayer;
use serde::{Deserialize, Serialize};

/// One size for all dimensions, or one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// The same in both dimensions.
    All(usize),
    /// Height and width.
    Each([usize; 2]),
}

impl Size {
    /// Height and width.
    pub fn pair(self) -> [usize; 2] {
        match self {
            Size::All(n) => [n; 2],
            Size::Each(pair) => pair,
        }
    }
}

/// The activation inside a transformer layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0)
    #[default]
    Relu,
    /// x Phi(x)
    Gelu,
}

/// A layer. The sizes of its input follow from the layers before it. In a configuration, a layer without settings may be
/// written as its name alone: `"relu"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerConfig {
    /// Fully connected, on the last dimension.
    Linear {
        /// Width of the output; without it the number of classes (or of values) of the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out: Option<usize>,
        /// Whether there is a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Convolution over images (N, C, H, W).
    Conv {
        /// Channels of the output.
        out: usize,
        /// Height and width of the window.
        #[serde(default = "three")]
        kernel: Size,
        /// Step of the window.
        #[serde(default = "one")]
        stride: Size,
        /// Zeros around the image.
        #[serde(default = "zero")]
        padding: Size,
        /// Distance between neighbouring elements of the window.
        #[serde(default = "one")]
        dilation: Size,
        /// Number of groups into which the channels split.
        #[serde(default = "one_int")]
        groups: usize,
        /// Whether there is a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Convolution over the time of (N, T, C).
    Conv1d {
        /// Numbers per time step of the output.
        out: usize,
        /// Length of the window.
        #[serde(default = "three_int")]
        kernel: usize,
        /// Step of the window.
        #[serde(default = "one_int")]
        stride: usize,
        /// Zeros before and after.
        #[serde(default)]
        padding: usize,
        /// Distance between neighbouring elements of the window.
        #[serde(default = "one_int")]
        dilation: usize,
        /// Number of groups into which the channels split.
        #[serde(default = "one_int")]
        groups: usize,
        /// Whether there is a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Batch norm over dimension 1 of (N, C), (N, C, L) or (N, C, H, W).
    BatchNorm {
        /// Added to the variance.
        #[serde(default = "norm_eps")]
        eps: f64,
        /// Weight of a batch in the running statistics.
        #[serde(default = "tenth")]
        momentum: f64,
    },
    /// Layer norm over the last dimension.
    LayerNorm {
        /// Added to the variance.
        #[serde(default = "norm_eps")]
        eps: f64,
    },
    /// RMS norm over the last dimension.
    RmsNorm {
        /// Added to the mean square.
        #[serde(default = "norm_eps")]
        eps: f64,
    },
    /// Instance norm over each channel (dimension 1) of each example.
    InstanceNorm {
        /// Added to the variance.
        #[serde(default = "norm_eps")]
        eps: f64,
    },
    /// Group norm over groups of channels (dimension 1).
    GroupNorm {
        /// Number of groups.
        groups: usize,
    },
    /// max(x, 0)
    Relu {},
    /// x Phi(x)
    Gelu {},
    /// Hyperbolic tangent.
    Tanh {},
    /// 1 / (1 + e^-x)
    Sigmoid {},
    /// x / (1 + e^-x)
    Silu {},
    /// x where positive, else e^x - 1
    Elu {},
    /// x where positive, else a share of x.
    LeakyRelu {
        /// The share.
        #[serde(default = "hundredth")]
        slope: f64,
    },
    /// x / 6 + 1/2 between 0 and 1
    HardSigmoid {},
    /// ln(1 + e^x)
    Softplus {},
    /// The maximum of each window of an image.
    MaxPool {
        /// Height and width of the window, and its step.
        #[serde(default = "two")]
        kernel: Size,
        /// Step of the window instead of its size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Size>,
        /// Border around the image.
        #[serde(default = "zero")]
        padding: Size,
    },
    /// The mean of each window of an image.
    AvgPool {
        /// Height and width of the window, and its step.
        #[serde(default = "two")]
        kernel: Size,
        /// Step of the window instead of its size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Size>,
        /// Zeros around the image.
        #[serde(default = "zero")]
        padding: Size,
    },
    /// Means over a grid that divides the image evenly.
    AdaptiveAvgPool {
        /// Height and width of the result.
        #[serde(default = "one")]
        out: Size,
    },
    /// All dimensions from `start` on merged into one.
    Flatten {
        /// First merged dimension.
        #[serde(default = "one_int")]
        start: usize,
    },
    /// Zeros at random in training.
    Dropout {
        /// Probability of a zero.
        #[serde(default = "half")]
        p: f64,
    },
    /// x + layers(x); where the shape changes, shortcut(x) + layers(x).
    Residual {
        /// The branch.
        layers: Vec<NamedLayer>,
        /// Layers on the way past it; empty: none.
        #[serde(default)]
        shortcut: Vec<NamedLayer>,
    },
    /// A vector for each token.
    Embedding {
        /// Length of the vectors.
        dim: usize,
        /// Number of tokens; without it that of the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        num: Option<usize>,
    },
    /// Adds a vector for each position of (N, T, C).
    Positions {
        /// Learned (started with deviation 0.02) instead of sinusoidal.
        #[serde(default)]
        learned: bool,
    },
    /// A recurrent network on (N, T, C).
    Rnn {
        /// Width of the state.
        hidden: usize,
        /// Layers, one on top of the other.
        #[serde(default = "one_int")]
        layers: usize,
        /// In both directions, results joined. The backward direction reads what pads a sequence first.
        #[serde(default)]
        bidirectional: bool,
        /// Probability that a result between two layers is dropped.
        #[serde(default)]
        dropout: f64,
    },
    /// An LSTM on (N, T, C).
    Lstm {
        /// Width of the state.
        hidden: usize,
        /// Layers, one on top of the other.
        #[serde(default = "one_int")]
        layers: usize,
        /// In both directions, results joined. The backward direction reads what pads a sequence first.
        #[serde(default)]
        bidirectional: bool,
        /// Probability that a result between two layers is dropped.
        #[serde(default)]
        dropout: f64,
    },
    /// A GRU on (N, T, C).
    Gru {
        /// Width of the state.
        hidden: usize,
        /// Layers, one on top of the other.
        #[serde(default = "one_int")]
        layers: usize,
        /// In both directions, results joined. The backward direction reads what pads a sequence first.
        #[serde(default)]
        bidirectional: bool,
        /// Probability that a result between two layers is dropped.
        #[serde(default)]
        dropout: f64,
    },
    /// Self-attention and a feed-forward part on (N, T, C), as torch's TransformerEncoder; what pads is not seen.
    TransformerEncoder {
        /// Attention heads.
        heads: usize,
        /// Width between the two linear layers; 0: four times the width.
        #[serde(default)]
        feedforward: usize,
        /// Layers, one on top of the other.
        #[serde(default = "one_int")]
        layers: usize,
        /// Probability that a value is dropped.
        #[serde(default = "tenth")]
        dropout: f64,
        /// Norms before each branch instead of after.
        #[serde(default)]
        norm_first: bool,
        /// Between the two linear layers.
        #[serde(default)]
        activation: Activation,
        /// Each position sees only those before it.
        #[serde(default)]
        causal: bool,
        /// A layer norm after the last layer, as the `norm` of torch's TransformerEncoder.
        #[serde(default)]
        norm: bool,
    },
    /// Conformer layers on (N, T, C): self-attention and a convolution over time; what pads is not seen.
    Conformer {
        /// Attention heads.
        heads: usize,
        /// Width inside the feed-forward parts; 0: four times the width.
        #[serde(default)]
        feedforward: usize,
        /// Layers, one on top of the other.
        #[serde(default = "one_int")]
        layers: usize,
        /// Odd length of the window of the convolution.
        #[serde(default = "fifteen")]
        kernel: usize,
        /// Probability that a value is dropped.
        #[serde(default = "tenth")]
        dropout: f64,
        /// Group norm instead of batch norm in the convolution, which then does not see other sequences.
        #[serde(default)]
        group_norm: bool,
    },
    /// Attention over the neighbours of each node of a graph, on (1, nodes, C).
    GraphAttention {
        /// Width of the output, per head; without it the number of classes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out: Option<usize>,
        /// Heads.
        #[serde(default = "one_int")]
        heads: usize,
        /// Heads side by side instead of their mean.
        #[serde(default = "yes")]
        concat: bool,
        /// Probability that a neighbour is dropped.
        #[serde(default)]
        dropout: f64,
    },
    /// An image (N, C, H, W) as a sequence of square patches (N, T, dim), as a vision transformer sees it.
    Patches {
        /// Height and width of a patch.
        size: Size,
        /// Length of the vectors.
        dim: usize,
        /// Puts a learned vector in front, whose result `first` takes.
        #[serde(default)]
        class_token: bool,
    },
    /// Position 0 of (N, T, C).
    First {},
    /// The last position of each sequence of (N, T, C) that does not pad.
    Last {},
    /// The mean over the positions of (N, T, C) that do not pad.
    Mean {},
    /// The maximum over the positions of (N, T, C) that do not pad.
    Max {},
}

fn yes() -> bool {
    true
}
fn zero() -> Size {
    Size::All(0)
}
fn one() -> Size {
    Size::All(1)
}
fn two() -> Size {
    Size::All(2)
}
fn three() -> Size {
    Size::All(3)
}
fn one_int() -> usize {
    1
}
fn norm_eps() -> f64 {
    1e-5
}
fn tenth() -> f64 {
    0.1
}
fn hundredth() -> f64 {
    0.01
}
fn fifteen() -> usize {
    15
}
fn three_int() -> usize {
    3
}
fn half() -> f64 {
    0.5
}

impl LayerConfig {
    /// Its name in a configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            LayerConfig::Linear { .. } => "linear",
            LayerConfig::Conv { .. } => "conv",
            LayerConfig::Conv1d { .. } => "conv1d",
            LayerConfig::RmsNorm { .. } => "rms_norm",
            LayerConfig::InstanceNorm { .. } => "instance_norm",
            LayerConfig::Elu {} => "elu",
            LayerConfig::LeakyRelu { .. } => "leaky_relu",
            LayerConfig::HardSigmoid {} => "hard_sigmoid",
            LayerConfig::Softplus {} => "softplus",
            LayerConfig::BatchNorm { .. } => "batch_norm",
            LayerConfig::LayerNorm { .. } => "layer_norm",
            LayerConfig::GroupNorm { .. } => "group_norm",
            LayerConfig::Relu {} => "relu",
            LayerConfig::Gelu {} => "gelu",
            LayerConfig::Tanh {} => "tanh",
            LayerConfig::Sigmoid {} => "sigmoid",
            LayerConfig::Silu {} => "silu",
            LayerConfig::MaxPool { .. } => "max_pool",
            LayerConfig::AvgPool { .. } => "avg_pool",
            LayerConfig::AdaptiveAvgPool { .. } => "adaptive_avg_pool",
            LayerConfig::Flatten { .. } => "flatten",
            LayerConfig::Dropout { .. } => "dropout",
            LayerConfig::Residual { .. } => "residual",
            LayerConfig::Embedding { .. } => "embedding",
            LayerConfig::Positions { .. } => "positions",
            LayerConfig::Rnn { .. } => "rnn",
            LayerConfig::Lstm { .. } => "lstm",
            LayerConfig::Gru { .. } => "gru",
            LayerConfig::TransformerEncoder { .. } => "transformer_encoder",
            LayerConfig::Conformer { .. } => "conformer",
            LayerConfig::GraphAttention { .. } => "graph_attention",
            LayerConfig::Patches { .. } => "patches",
            LayerConfig::First {} => "first",
            LayerConfig::Last {} => "last",
            LayerConfig::Mean {} => "mean",
            LayerConfig::Max {} => "max",
        }
    }
}
