//! Reductions over dimensions. An empty list of dimensions means all; `keepdim` keeps them with size 1.

use crate::ir::{Prim, ReduceOp, Tensor};
use std::panic::Location;

impl Tensor {
    #[track_caller]
    fn reduce(&self, name: &str, op: ReduceOp, dims: &[isize], keepdim: bool) -> Tensor {
        let axes = self.axes(name, dims, Location::caller());
        let kept = if axes.is_empty() {
            self.clone()
        } else {
            self.builder().apply(Prim::Reduce { op, axes: axes.clone() }, &[self])
        };
        if keepdim { kept } else { kept.reshape(self.shape().without(&axes)) }
    }

    /// Sum over `dims`.
    #[track_caller]
    pub fn sum(&self, dims: &[isize], keepdim: bool) -> Tensor {
        self.reduce("sum", ReduceOp::Sum, dims, keepdim)
    }
    /// Mean over `dims`.
    #[track_caller]
    pub fn mean(&self, dims: &[isize], keepdim: bool) -> Tensor {
        let axes = self.axes("mean", dims, Location::caller());
        let n: usize = axes.iter().map(|&a| self.shape().get(a).copied().unwrap_or(1)).product();
        // The sum divided, not multiplied by 1/n: 1/0 and 0 * inf would differ from 0/0 = NaN on an empty mean.
        self.sum(dims, keepdim) / n as f64
    }
    /// Product over `dims`.
    #[track_caller]
    pub fn prod(&self, dims: &[isize], keepdim: bool) -> Tensor {
        self.reduce("prod", ReduceOp::Prod, dims, keepdim)
    }
    /// Maximum over `dims`; NaN if any element is. The gradient is shared equally among equal maxima.
    #[track_caller]
    pub fn amax(&self, dims: &[isize], keepdim: bool) -> Tensor {
        self.reduce("amax", ReduceOp::Max, dims, keepdim)
    }
    /// Minimum over `dims`; NaN if any element is. The gradient is shared equally among equal minima.
    #[track_caller]
    pub fn amin(&self, dims: &[isize], keepdim: bool) -> Tensor {
        -(-self).amax(dims, keepdim)
    }
    /// Index (i32) of the first maximum along `dim`; a NaN wins.
    #[track_caller]
    pub fn argmax(&self, dim: isize, keepdim: bool) -> Tensor {
        let axis = self.axis("argmax", dim, Location::caller());
        let kept = self.builder().apply(Prim::ArgMax { axis }, &[self]);
        if keepdim { kept } else { kept.reshape(self.shape().without(&[axis])) }
    }
    /// Inclusive running sum along `dim`.
    #[track_caller]
    pub fn cumsum(&self, dim: isize) -> Tensor {
        let axis = self.axis("cumsum", dim, Location::caller());
        self.builder().apply(Prim::CumSum { axis }, &[self])
    }
}
