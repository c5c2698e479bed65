//! Optimizers as graph transformations: a rule appends its update to the graph of loss and gradients, so that the new
//! parameters and the new optimizer state are outputs of one plan. Per-step numbers (learning rate, step) are a small
//! feed; a schedule never recompiles. The host computes nothing but the schedule.

pub mod adam;
pub mod adam_family;
pub mod adaptive;
pub mod clip;
pub mod large_batch;
pub mod regularize;
pub mod scaler;
pub mod schedule;
pub mod sgd;
pub mod step;
pub mod swats;
pub mod wrap;

pub use adam::{Adam, AdamW};
pub use adam_family::{AdaBound, Adamax, Lion, NAdam, RAdam};
pub use adaptive::{Adadelta, Adagrad, Ngd, RmsProp, RmsPropGlobal, Rprop};
pub use clip::{Clip, clip_grad_norm, clip_grad_value, global_norm};
pub use large_batch::{Lamb, Lars};
pub use regularize::{Regularized, Swa};
pub use scaler::LossScaler;
pub use schedule::{Schedule, Scheduler};
pub use sgd::{MomentumForm, Sgd};
pub use step::{Applied, Decay, StepFeed, UpdateCx, apply};
pub use swats::Swats;
pub use wrap::{Ema, Group, Groups, Lookahead, Maximize};

use crate::ir::Tensor;

/// A rule that turns parameters and gradients into new parameters.
pub trait Optimizer {
    /// Appends the update of all `params` by their `grads` (of the same shapes): declares its own states with
    /// [`UpdateCx::state`] and emits new contents of states and parameters with [`UpdateCx::set`].
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]);

    /// Name and settings as text, for reports and checkpoints.
    fn describe(&self) -> String;
}

impl Optimizer for Box<dyn Optimizer> {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        (**self).update(cx, params, grads);
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

#[cfg(test)]
mod tests;
