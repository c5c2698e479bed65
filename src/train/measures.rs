//! What training reports: positions, steps, and sums over predictions.

use crate::optim::scaler::FLOOR;

/// How far training has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Updates so far, suppressed ones included.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Batches of the present epoch that were taken.
    pub batch: usize,
}

/// What one training step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u64,
    /// Mean loss of its batch.
    pub loss: f64,
    /// Correct predictions in its batch.
    pub correct: f64,
    /// Predictions in its batch.
    pub count: usize,
    /// L2 norm of all gradients before clipping.
    pub grad_norm: f64,
    /// False if the gradient was not finite and the update was suppressed.
    pub updated: bool,
    /// The learning rate.
    pub lr: f64,
    /// The factor of the loss whose gradients were computed, in mixed precision.
    pub loss_scale: Option<f64>,
}

impl StepReport {
    /// False if loss or gradient were not finite. A gradient that the loss scale was too large for counts as finite: the next
    /// steps have a smaller one.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && (self.updated || self.loss_scale.is_some_and(|s| s > FLOOR))
    }
}

/// Sums over predictions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measures {
    /// Sum of the losses.
    pub loss_sum: f64,
    /// Correct predictions.
    pub correct: f64,
    /// Predictions.
    pub count: u64,
}

impl Measures {
    /// Adds a batch with this mean loss.
    pub fn add(&mut self, loss: f64, correct: f64, count: usize) {
        self.loss_sum += loss * count as f64;
        self.correct += correct;
        self.count += count as u64;
    }
    /// Mean loss; NaN without predictions.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.count as f64
    }
    /// Share of correct predictions; NaN without predictions.
    pub fn accuracy(&self) -> f64 {
        self.correct / self.count as f64
    }
}
