//! Batch renormalisation (arXiv 1702.03275): batch norm whose training sees what evaluation will use.

use crate::dtype::DType;
use crate::ir::{Tensor, Type};
use crate::nn::linear::place;
use crate::nn::{Init, Module, Scope};
use crate::ops::reparam;
use crate::shape::Shape;
use std::panic::Location;

/// Normalises (N, C, ..) with the statistics of the batch, corrected towards the running ones by r = s / running_std within
/// [1/r_max, r_max] and d = (m - running_mean) / running_std within [-d_max, d_max], both constants for the gradient.
/// Evaluation uses the running statistics. Parameters: `weight`, `bias` (C). Buffers: `running_mean`, `running_std` (C),
/// `num_batches_tracked`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchRenorm {
    /// C, the number of channels (dimension 1).
    pub num_features: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Weight of a batch in the running statistics.
    pub momentum: f64,
    /// Limits of r and d once they are open: (r_max, d_max).
    pub limits: (f64, f64),
    /// The numbers of batches between which the limits open, straight from (1, 0), which is batch norm.
    pub opening: (u64, u64),
}

impl BatchRenorm {
    /// r up to 3 and d up to 5 after a start as batch norm, as in the paper, here in the first 1000 to 5000 batches.
    pub fn new(num_features: usize) -> BatchRenorm {
        BatchRenorm { num_features, eps: 1e-5, momentum: 0.1, limits: (3.0, 5.0), opening: (1000, 5000) }
    }
    /// The same with these limits from the first batch on.
    pub fn limits(mut self, r_max: f64, d_max: f64) -> BatchRenorm {
        (self.limits, self.opening) = ((r_max, d_max), (0, 0));
        self
    }
}

impl Module for BatchRenorm {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        const OP: &str = "batch_renorm";
        let (c, loc) = (self.num_features, Location::caller());
        if x.rank() < 2 || x.size(1) != c {
            return x.fail(OP, format!("{} expects {c} channels in dimension 1, got {}", place(scope), x.ty()), loc);
        }
        if scope.training() && scope.row_weight().is_some() {
            let detail =
                format!("{}: a padded batch has no statistics of its own; train on whole batches", place(scope));
            return x.fail(OP, detail, loc);
        }
        let mean = scope.buffer("running_mean", [c], Init::ZEROS);
        let std = scope.buffer("running_std", [c], Init::ONES);
        let count = scope.buffer_of("num_batches_tracked", Type::new(DType::I32, Shape::default()), Init::ZEROS);
        let (from, to) = (self.opening.0 as f64, self.opening.1 as f64);
        let open = match to > from {
            true => ((count.cast(DType::F32) - from) / (to - from)).hardtanh(0.0, 1.0),
            false => count.cast(DType::F32).ge(&x.builder().full([], from)).cast(DType::F32),
        };
        let [y, new_mean, new_std] = x.batch_renorm(&reparam::BatchRenorm {
            running_mean: &mean,
            running_std: &std,
            weight: &scope.param("weight", [c], Init::ONES),
            bias: &scope.param("bias", [c], Init::ZEROS),
            r_max: &(&open * (self.limits.0 - 1.0) + 1.0),
            d_max: &(&open * self.limits.1),
            momentum: self.momentum,
            eps: self.eps,
            training: scope.training(),
        });
        if scope.training() {
            scope.update("running_mean", &new_mean);
            scope.update("running_std", &new_std);
            scope.update("num_batches_tracked", &(&count + count.like(1.0)));
        }
        y
    }
}
