//! What a model is trained on and measured by: a loss, and for classifiers the number of correct predictions.

use crate::dtype::{DType, Scalar};
use crate::ir::{Builder, Tensor};
use crate::ops::cross_entropy::CrossEntropyOptions;
use crate::ops::loss::Reduction;
use crate::tensor::{Data, HostTensor};

/// Targets of this class do not count: what fills up sequences.
pub const IGNORED: i32 = -100;

/// The loss of a model's output against its target. Targets are classes (i32), shares of all classes (f32, where
/// augmentation mixes examples), or numbers (f32). A loss of numbers on classes compares the softmax of the output with
/// the one-hot target, so that cross-entropy has something to be compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// Softmax and cross-entropy in nats of logits (.., classes) with classes i32 (..) or shares f32 (.., classes).
    CrossEntropy {
        /// Part of the target's weight that is spread over all classes; only in training.
        label_smoothing: f64,
        /// Weight of each class in the mean; empty: all 1. Only in training.
        weight: Vec<f64>,
    },
    /// Mean of the squared differences; output and target have one shape.
    Mse,
    /// Mean of the absolute differences.
    L1,
    /// Squared below `beta`, absolute beyond; torch's `SmoothL1Loss`.
    SmoothL1 {
        /// Where the two meet.
        beta: f64,
    },
    /// Squared below `delta`, absolute beyond, `delta` times as steep; torch's `HuberLoss`.
    Huber {
        /// Where the two meet.
        delta: f64,
    },
    /// Binary cross-entropy of logits with targets from 0 to 1, or with classes: one logit for classes 0 and 1, else one
    /// per class against all others.
    BceWithLogits {
        /// Weight of the targets 1; only in training.
        pos_weight: f64,
    },
    /// How far the score of each wrong class is above that of the right one minus a margin: torch's `MultiMarginLoss`,
    /// the loss of a linear support vector machine.
    Hinge {
        /// The margin.
        margin: f64,
        /// True for the square of the distance.
        squared: bool,
    },
}

/// A batch, measured: scalars of the graph.
pub struct Measured {
    /// The mean of the loss.
    pub loss: Tensor,
    /// How many predictions are correct (f32); zero where there is no such thing.
    pub correct: Tensor,
    /// Over how many predictions the mean goes, ignored ones included.
    pub count: usize,
}

impl Loss {
    /// Cross-entropy without label smoothing.
    pub fn cross_entropy() -> Loss {
        Loss::CrossEntropy { label_smoothing: 0.0, weight: Vec::new() }
    }

    /// True for losses that only classes have.
    pub fn is_classification(&self) -> bool {
        matches!(self, Loss::CrossEntropy { .. } | Loss::Hinge { .. })
    }

    /// Appends the measurement of `output` against `target`.
    #[track_caller]
    pub fn measure(&self, output: &Tensor, target: &Tensor, training: bool) -> Measured {
        if target.dtype() == DType::I32 {
            return self.of_classes(output, target, training);
        }
        if let Loss::CrossEntropy { .. } = self {
            let (rows, classes) = (output.elems() / output.size(-1).max(1), output.size(-1));
            let (logits, shares) = (output.reshape([rows, classes]), target.reshape([rows, classes]));
            let hits = logits.argmax(1, false).eq(&shares.argmax(1, false)).cast(DType::F32);
            let loss = self.cross_entropy_of(&logits, &shares, training);
            return Measured { loss, correct: hits.sum(&[], false), count: rows };
        }
        let loss = self.of_numbers(output, target, training);
        Measured { correct: loss.like(0.0), loss, count: target.size(0) }
    }

    /// Against classes.
    #[track_caller]
    fn of_classes(&self, output: &Tensor, target: &Tensor, training: bool) -> Measured {
        let (rows, width) = (target.elems(), output.size(-1));
        let target = target.reshape([rows]);
        // One logit for two classes.
        let single = width == 1 && output.elems() == rows && matches!(self, Loss::BceWithLogits { .. });
        let logits = output.reshape([rows, width]);
        let chosen = match single {
            true => logits.reshape([rows]).gt(&logits.builder().constant(Scalar::F32(0.0))).cast(DType::I32),
            false => logits.argmax(1, false),
        };
        let correct = chosen.eq(&target).cast(DType::F32).sum(&[], false);
        let loss = match self {
            Loss::CrossEntropy { .. } => self.cross_entropy_of(&logits, &target, training),
            Loss::Hinge { margin, squared } => {
                logits.multi_margin_loss(&target, None, 1 + u32::from(*squared), *margin, Reduction::Mean)
            }
            Loss::BceWithLogits { .. } if single => {
                self.of_numbers(&logits.reshape([rows]), &target.cast(DType::F32), training)
            }
            Loss::BceWithLogits { .. } => self.of_numbers(&logits, &target.one_hot(width).cast(DType::F32), training),
            _ => self.of_numbers(&logits.softmax(1), &target.one_hot(width).cast(DType::F32), training),
        };
        Measured { loss, correct, count: rows }
    }

    #[track_caller]
    fn cross_entropy_of(&self, logits: &Tensor, target: &Tensor, training: bool) -> Tensor {
        let Loss::CrossEntropy { label_smoothing, weight } = self else { return logits.clone() };
        let weight = (training && !weight.is_empty()).then(|| vector(logits.builder(), weight));
        let label_smoothing = if training { *label_smoothing } else { 0.0 };
        let options = CrossEntropyOptions { label_smoothing, weight: weight.as_ref(), ..Default::default() };
        logits.cross_entropy(target, &options)
    }

    /// Against numbers of the output's shape.
    #[track_caller]
    fn of_numbers(&self, output: &Tensor, target: &Tensor, training: bool) -> Tensor {
        if output.shape() != target.shape() && output.builder().is_ok() {
            let detail = format!("the model gives {}, the target is {}", output.ty(), target.ty());
            return output.fail("loss", detail, std::panic::Location::caller());
        }
        match self {
            Loss::L1 => output.l1_loss(target, Reduction::Mean),
            Loss::SmoothL1 { beta } => output.smooth_l1_loss(target, *beta, Reduction::Mean),
            Loss::Huber { delta } => output.huber_loss(target, *delta, Reduction::Mean),
            Loss::BceWithLogits { pos_weight } => {
                let weight = (training && *pos_weight != 1.0).then(|| output.like(*pos_weight));
                output.binary_cross_entropy_with_logits(target, None, weight.as_ref(), Reduction::Mean)
            }
            Loss::Hinge { .. } => {
                let detail = format!("needs classes as targets, got {}", target.ty());
                output.fail("hinge loss", detail, std::panic::Location::caller())
            }
            Loss::Mse | Loss::CrossEntropy { .. } => output.mse_loss(target, Reduction::Mean),
        }
    }

    /// Over how many predictions the mean of a batch with these targets goes.
    pub fn count(&self, target: &HostTensor) -> usize {
        match (&target.data, self) {
            (Data::I32(classes), _) => classes.iter().filter(|&&c| c != IGNORED).count(),
            (_, Loss::CrossEntropy { .. }) => target.len() / target.shape.last().copied().unwrap_or(1).max(1),
            _ => target.shape.first().copied().unwrap_or(1),
        }
    }
}

/// Numbers as a vector of the graph.
#[track_caller]
fn vector(builder: &Builder, values: &[f64]) -> Tensor {
    let parts: Vec<Tensor> = values.iter().map(|&v| builder.full([1], v)).collect();
    Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0)
}
