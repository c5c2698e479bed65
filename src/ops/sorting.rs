//! Sorting and selection along a dimension. NaN counts as the largest value.

use crate::ir::{Prim, Tensor};
use std::panic::Location;

impl Tensor {
    /// Sorted values along `dim` and their original positions (i32); stable.
    #[track_caller]
    pub fn sort(&self, dim: isize, descending: bool) -> (Tensor, Tensor) {
        let axis = self.axis("sort", dim, Location::caller());
        let input = self.at_least_vector();
        let mut outs = self.builder().apply_multi(Prim::Sort { axis, descending }, &[&input]).into_iter();
        match (outs.next(), outs.next()) {
            (Some(values), Some(index)) => (values.reshape(self.shape()), index.reshape(self.shape())),
            _ => (self.clone(), self.clone()),
        }
    }

    /// The `k` largest (or smallest) values along `dim`, in order, and their positions (i32).
    #[track_caller]
    pub fn topk(&self, k: usize, dim: isize, largest: bool) -> (Tensor, Tensor) {
        let (values, index) = self.sort(dim, largest);
        if self.rank() == 0 && k == 1 {
            return (values, index);
        }
        (values.narrow(dim, 0, k), index.narrow(dim, 0, k))
    }
}
