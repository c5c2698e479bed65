//! Optimizers as graph transformations: a rule appends its update to the graph of loss and gradients, so that the new
//! parameters and the new optimizer state are outputs of one plan. Per-step numbers (learning rate, step) are a small
//! feed; a schedule never recompiles. The host computes nothing but the schedule.

pub mod adam;
pub mod clip;
pub mod schedule;
pub mod sgd;
pub mod step;

pub use adam::{Adam, AdamW};
pub use clip::{Clip, clip_grad_norm, clip_grad_value, global_norm};
pub use schedule::Schedule;
pub use sgd::Sgd;
pub use step::{Applied, StepFeed, UpdateCx, apply};

use crate::ir::Tensor;

/// A rule that turns parameters and gradients into new parameters.
pub trait Optimizer {
    /// Appends the update of all `params` by their `grads` (of the same shapes): declares its own states with
    /// [`UpdateCx::state`] and emits new contents of states and parameters with [`UpdateCx::set`].
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]);

    /// Name and settings as text, for reports and checkpoints.
    fn describe(&self) -> String;
}
