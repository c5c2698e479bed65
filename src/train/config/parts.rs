//! The small sections: `[loss]`, `[augment]`, `[regularization]`, `[early_stopping]`.

use super::section::section;
use serde::{Deserialize, Serialize};

/// How much each class counts in the training loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// `none`: all the same; `balanced`: examples / (classes * examples of the class), in the training part.
    Named(Weighting),
    /// One weight per class.
    Each(Vec<f64>),
}

/// A rule for weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// All 1.
    None,
    /// By rarity.
    Balanced,
}

/// What is minimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LossConfig {
    /// Softmax and cross-entropy of classes.
    CrossEntropy {
        /// Part of the target's weight that is spread over all classes.
        #[serde(default)]
        label_smoothing: f64,
        /// Weight of each class: `none`, `balanced`, or a list.
        #[serde(default = "unweighted")]
        class_weights: ClassWeights,
    },
    /// Mean squared difference.
    Mse {},
    /// Mean absolute difference.
    L1 {},
    /// Squared below `beta`, absolute beyond.
    SmoothL1 {
        /// Where the two meet.
        #[serde(default = "one")]
        beta: f64,
    },
    /// Squared below `delta`, absolute beyond, `delta` times as steep.
    Huber {
        /// Where the two meet.
        #[serde(default = "one")]
        delta: f64,
    },
    /// Binary cross-entropy of logits.
    BceWithLogits {
        /// Weight of the targets 1.
        #[serde(default = "one")]
        pos_weight: f64,
    },
    /// The loss of a linear support vector machine, for several classes.
    Hinge {
        /// How far the right class must be ahead.
        #[serde(default = "one")]
        margin: f64,
        /// Squares the distance.
        #[serde(default)]
        squared: bool,
    },
}

fn one() -> f64 {
    1.0
}
fn unweighted() -> ClassWeights {
    ClassWeights::Named(Weighting::None)
}

impl Default for LossConfig {
    fn default() -> LossConfig {
        LossConfig::CrossEntropy { label_smoothing: 0.0, class_weights: unweighted() }
    }
}

section!(
    /// Random changes of training examples, drawn anew for each example and epoch. Flips to cutout are for images.
    AugmentConfig {
        /// Probability of mirroring left and right.
        flip_horizontal: f64 = 0.0,
        /// Probability of mirroring up and down.
        flip_vertical: f64 = 0.0,
        /// Pads with so many zeros on each side and takes a part of the old size at random.
        crop: usize = 0,
        /// Largest shift as a share of height and width, between pixels too.
        shift: f64 = 0.0,
        /// Largest rotation in degrees.
        rotate: f64 = 0.0,
        /// Largest change of size, as a share: 0.1 gives factors from 0.9 to 1.1.
        scale: f64 = 0.0,
        /// Standard deviation of normal noise that is added to the input, whatever it is.
        noise: f64 = 0.0,
        /// Side of a square that is set to zero at a random place.
        cutout: usize = 0,
        /// Mixes each example with another of the training part by a share from Beta(a, a); 0 for none. For classes.
        mixup: f64 = 0.0,
    }
);

section!(
    /// What keeps weights small or smooth.
    RegularizationConfig {
        /// Adds l1 * sign(w) to the gradient of weights (tensors of two dimensions or more).
        l1: f64 = 0.0,
        /// Adds l2 * w to the gradient of weights: the gradient of l2/2 |w|^2.
        l2: f64 = 0.0,
        /// Takes lr * decay * w off weights beside the optimizer's own update.
        decoupled_decay: f64 = 0.0,
        /// Largest norm of the weights into one unit (a row of the tensor); 0 for none.
        max_norm: f64 = 0.0,
        /// Measures and keeps an exponential average of the weights; each update keeps this share; 0 for none.
        ema: f64 = 0.0,
        /// Measures and keeps the mean of the weights from this share of the run on; 0 for none.
        swa: f64 = 0.0,
    }
);

/// What early stopping looks at, measured on the validation part (on the training part if there is none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// The loss, which should fall.
    #[default]
    Loss,
    /// The accuracy, which should rise.
    Accuracy,
}

section!(
    /// Ends a run that does not get better.
    EarlyStoppingConfig {
        /// Epochs without improvement after which the run ends; 0: never.
        patience: u64 = 0,
        /// How much better counts as better.
        min_delta: f64 = 0.0,
        /// What is looked at: `loss` or `accuracy`.
        monitor: Monitor = Monitor::Loss,
        /// Takes the weights of the best epoch for the end.
        restore_best: bool = true,
    }
);
