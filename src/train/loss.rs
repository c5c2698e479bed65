//! What a model is trained on and measured by: a loss, and for classifiers the number of correct predictions.

use crate::ir::Tensor;
use crate::ops::cross_entropy::CrossEntropyOptions;

/// The loss of a model's output against its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Softmax and cross-entropy in nats of logits (.., classes) with classes i32 (..).
    CrossEntropy {
        /// Part of the target's weight that is spread over all classes; only in training.
        label_smoothing: f64,
    },
    /// Mean of the squared differences; output and target have one shape.
    Mse,
}

/// A batch, measured: scalars of the graph.
pub struct Measured {
    /// The mean of the loss.
    pub loss: Tensor,
    /// How many predictions are correct (f32); zero where there is no such thing.
    pub correct: Tensor,
    /// Over how many predictions the mean goes.
    pub count: usize,
}

impl Loss {
    /// Cross-entropy without label smoothing.
    pub fn cross_entropy() -> Loss {
        Loss::CrossEntropy { label_smoothing: 0.0 }
    }

    /// True if predictions are correct or not.
    pub fn is_classification(&self) -> bool {
        matches!(self, Loss::CrossEntropy { .. })
    }

    /// Appends the measurement of `output` against `target`.
    #[track_caller]
    pub fn measure(&self, output: &Tensor, target: &Tensor, training: bool) -> Measured {
        match self {
            Loss::CrossEntropy { label_smoothing } => {
                let (rows, classes) = (target.elems(), output.size(-1));
                let logits = output.reshape([rows, classes]);
                let target = target.reshape([rows]);
                let label_smoothing = if training { *label_smoothing } else { 0.0 };
                let options = CrossEntropyOptions { label_smoothing, ..Default::default() };
                let hits = logits.argmax(1, false).eq(&target).cast(crate::DType::F32);
                Measured { loss: logits.cross_entropy(&target, &options), correct: hits.sum(&[], false), count: rows }
            }
            Loss::Mse => {
                let loss = (output - target).square().mean(&[], false);
                Measured { correct: loss.like(0.0), loss, count: target.size(0) }
            }
        }
    }

    /// Over how many predictions the mean of a batch with these targets goes.
    pub fn count(&self, target: &crate::HostTensor) -> usize {
        match self {
            Loss::CrossEntropy { .. } => target.len(),
            Loss::Mse => target.shape.first().copied().unwrap_or(1),
        }
    }
}
