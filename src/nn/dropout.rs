//! Dropout, inverted: what is kept is scaled up, so that evaluation does nothing.

use crate::ir::Tensor;
use crate::nn::linear::place;
use crate::nn::{Module, Scope};
use std::panic::Location;

/// In training each element is 0 with probability `p` and else divided by `1 - p`; in evaluation nothing happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Probability of a zero.
    pub p: f64,
}

impl Dropout {
    /// Drops with probability `p`.
    pub fn new(p: f64) -> Dropout {
        Dropout { p }
    }
}

impl Module for Dropout {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        if !(0.0..=1.0).contains(&self.p) {
            let detail = format!("{}: probability {} is not within [0, 1]", place(scope), self.p);
            return x.fail("dropout", detail, Location::caller());
        }
        if !scope.training() || self.p == 0.0 {
            return x.clone();
        }
        if self.p == 1.0 {
            return x * 0.0;
        }
        let keep = scope.keep_mask("dropout", x.shape(), self.p);
        keep.select(&(x * (1.0 / (1.0 - self.p))), &x.like(0.0))
    }
}
