//! Operations on tensors. Most are plain functions that append primitives; those with a fused kernel or a derivative
//! better than that of their parts are composites: a body in primitives plus, optionally, a vjp and a kernel.
//!
//! The body run on the reference backend is the reference of the fused kernel: nobody writes a CPU twin of a kernel.

pub mod activation;
pub mod attention;
pub mod attention_variants;
pub mod batch_norm;
pub mod conv;
pub mod cross_entropy;
pub mod einsum;
pub mod elementwise;
pub mod embedding;
pub mod grid;
pub mod interpolate;
pub mod layer_norm;
pub mod linalg;
pub mod loss;
pub mod movement;
pub mod norms;
pub mod pool;
pub mod pooling;
pub mod reduce;
pub mod reparam;
pub mod resample;
pub mod rnn;
pub mod segments;
pub mod shaping;
pub mod softmax;
pub mod sorting;

pub use activation::Gelu;
pub use attention::AttentionOptions;
pub use batch_norm::{BatchNormOptions, BatchNormResult};
pub use conv::{ConvOptions, Padding};
pub use cross_entropy::CrossEntropyOptions;
pub use embedding::EmbeddingOptions;
pub use loss::Reduction;
pub use pooling::Pool;
pub use shaping::PadMode;

use crate::ir::{Builder, Tensor};
use std::any::Any;
use std::fmt::Debug;

/// What a composite's derivative is computed from.
pub struct VjpArgs<'a> {
    /// The graph being extended.
    pub builder: &'a Builder,
    /// The arguments of the call.
    pub args: &'a [Tensor],
    /// Its results.
    pub outs: &'a [Tensor],
    /// Cotangents of the results; `None` stands for zero. Every one that is given must be used, those of
    /// residuals included: a second derivative reaches them.
    pub cotangents: &'a [Option<Tensor>],
}

/// An operation defined by a body of primitives (and other composites).
pub trait Composite: Debug + Send + Sync + 'static {
    /// Name, as in torch where torch has it; also the stem of its kernel's files.
    fn name(&self) -> &'static str;
    /// Attributes as text. With the name and the argument types it identifies the operation.
    fn attrs(&self) -> String {
        String::new()
    }
    /// Number of results.
    fn outputs(&self) -> usize {
        1
    }
    /// The meaning: appends primitives on `args` to the builder and returns the results. Misfits are recorded with
    /// [`Tensor::fail`].
    fn body(&self, builder: &Builder, args: &[Tensor]) -> Vec<Tensor>;
    /// The derivative: one entry per argument, `None` for no gradient. The default differentiates the body.
    /// It must emit primitives and composites only, so that it can itself be differentiated.
    fn vjp(&self, _: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        None
    }
    /// Which arguments and which results mixed precision rounds to f16 ([`Builder::autocast`]): large ones that are kept for the
    /// backward pass. The computation itself, and all else, stays f32.
    fn rounds_to_f16(&self) -> (&'static [usize], &'static [usize]) {
        (&[], &[])
    }
    /// For kernels, which read the attributes of the composites that they implement.
    fn as_any(&self) -> &dyn Any;
}

/// Checks the ranks of a composite's arguments; the error is one placeholder result, after recording the misfit.
#[track_caller]
fn ranks(op: &str, args: &[Tensor], expected: &[usize]) -> Result<(), Vec<Tensor>> {
    let found: Vec<usize> = args.iter().map(Tensor::rank).collect();
    match args.first() {
        Some(first) if found != expected => {
            let types: Vec<String> = args.iter().map(|t| t.ty().to_string()).collect();
            let detail = format!("needs operands of ranks {expected:?}, got {}", types.join(", "));
            Err(vec![first.fail(op, detail, std::panic::Location::caller())])
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod edge_tests;
