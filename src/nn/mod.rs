//! Neural-network modules. A module is a plain struct that holds configuration; its parameters live in a parameter tree
//! and are declared by name, through a [`Scope`], while the graph is built. Names, shapes and initial distributions are
//! torch's, so that a `state_dict` loads as it is. Nothing here has kernels or memory of its own.

pub mod activation;
pub mod attention;
pub mod attention_forms;
pub mod batch_renorm;
pub mod bilinear;
pub mod checkpoint;
pub mod conformer;
pub mod conv;
pub mod dropout;
pub mod embedding;
pub mod gpt;
pub mod graph;
pub mod init;
pub mod linear;
pub mod norm;
pub mod pool;
pub mod positions;
pub mod reparam;
pub mod rnn;
pub mod scope;
pub mod sequential;
mod split;
pub mod transformer;
pub mod vision;

pub use activation::{
    Elu, Gelu, GeluTanh, Glu, Hardsigmoid, Hardswish, Hardtanh, Identity, LeakyRelu, LogSigmoid, LogSoftmax, Mish,
    Relu, Relu6, Selu, Sigmoid, Silu, Softmax, Softplus, Softsign, Tanh,
};
pub use attention::{MultiheadAttention, MultiheadOptions};
pub use attention_forms::{AdditiveAttention, Form, SelfAttention};
pub use batch_renorm::BatchRenorm;
pub use bilinear::{Bilinear, PRelu};
pub use checkpoint::Checkpoint;
pub use conformer::{Conformer, ConformerLayer};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d, ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gpt::Gpt;
pub use graph::{Edges, GraphAttention, HopAttention, hop_masks};
pub use init::Init;
pub use linear::Linear;
pub use norm::{
    BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, InstanceNorm, InstanceNorm1d, InstanceNorm2d, LayerNorm, RmsNorm,
};
pub use pool::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AvgPool, AvgPool1d, AvgPool2d, MaxPool, MaxPool1d,
    MaxPool2d, MinPool, MinPool1d, MinPool2d,
};
pub use positions::{Alibi, LearnedPositions, RelativeBias, Rotary, SinusoidalPositions};
pub use reparam::{SpectralNorm, WeightNorm};
pub use rnn::{Gru, Lstm, Rnn, RnnConfig};
pub use scope::{Mode, ParamSpec, Params, Scope, Visit};
pub use sequential::{Flatten, Sequential};
pub use transformer::{
    FeedForwardActivation, Masks, Transformer, TransformerConfig, TransformerDecoder, TransformerDecoderLayer,
    TransformerEncoder, TransformerEncoderLayer,
};
pub use vision::{SaganAttention, SpatialTransformer};

use crate::ir::Tensor;

/// A layer or a whole network with one input and one output. Closures of this signature are modules too.
pub trait Module {
    /// Appends the computation to the graph of `x`; parameters are declared in `scope`.
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor;

    /// The same for data whose examples have several inputs, such as sequences with their lengths. A module that knows
    /// of one input takes the first.
    #[track_caller]
    fn forward_all(&self, scope: &Scope, inputs: &[Tensor]) -> Tensor {
        self.forward(scope, &inputs[0])
    }

    /// One position of a causal model: `tokens` i32 (B, 1) at `position` (i32 scalar) give what `forward` gives at that
    /// position, from caches of the positions before, which are buffers of `scope` with their updates. `None` for modules
    /// that cannot do that.
    fn decode(&self, _scope: &Scope, _tokens: &Tensor, _position: &Tensor) -> Option<Tensor> {
        None
    }
}

impl<F: Fn(&Scope, &Tensor) -> Tensor> Module for F {
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self(scope, x)
    }
}

impl Module for Box<dyn Module> {
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        (**self).forward(scope, x)
    }

    fn forward_all(&self, scope: &Scope, inputs: &[Tensor]) -> Tensor {
        (**self).forward_all(scope, inputs)
    }

    fn decode(&self, scope: &Scope, tokens: &Tensor, position: &Tensor) -> Option<Tensor> {
        (**self).decode(scope, tokens, position)
    }
}

#[cfg(test)]
mod tests;
