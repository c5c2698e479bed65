//! A module whose inner values the backward pass computes again instead of keeping them.

use crate::grad::checkpoint;
use crate::ir::Tensor;
use crate::nn::{Module, Scope};

/// The module itself, with the same parameters under the same names; in training its intermediate values are not kept
/// for the backward pass, which computes them again from the module's input ([`crate::grad::checkpoint`]). Around each
/// block of a deep model it trades about a third more arithmetic for memory that hardly grows with the depth.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint<M>(pub M);

impl<M: Module> Module for Checkpoint<M> {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        checkpoint(x.builder(), || self.0.forward(scope, x))
    }
}
