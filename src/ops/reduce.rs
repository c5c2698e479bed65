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
        let kept = self.builder().apply(Prim::ArgMax { axis }, &[&self.at_least_vector()]);
        let dropped = if self.rank() == 0 { self.shape().clone() } else { self.shape().without(&[axis]) };
        if keepdim && self.rank() > 0 { kept } else { kept.reshape(dropped) }
    }
    /// Inclusive running sum along `dim`.
    #[track_caller]
    pub fn cumsum(&self, dim: isize) -> Tensor {
        let axis = self.axis("cumsum", dim, Location::caller());
        self.builder().apply(Prim::CumSum { axis }, &[&self.at_least_vector()]).reshape(self.shape())
    }

    /// Index (i32) of the first minimum along `dim`; a NaN wins.
    #[track_caller]
    pub fn argmin(&self, dim: isize, keepdim: bool) -> Tensor {
        (-self).argmax(dim, keepdim)
    }
    /// log(sum(e^x)) over `dims`, without overflow.
    #[track_caller]
    pub fn logsumexp(&self, dims: &[isize], keepdim: bool) -> Tensor {
        let max = self.amax(dims, true).detach();
        let shift = max.is_finite().select(&max, &max.like(0.0));
        let kept = (self - &shift).exp().sum(dims, true).log() + shift;
        if keepdim {
            kept
        } else {
            kept.reshape(self.shape().without(&self.axes("logsumexp", dims, Location::caller())))
        }
    }
    /// Variance over `dims`: the squared deviations divided by their number less `correction` (1: unbiased), in two passes.
    #[track_caller]
    pub fn var(&self, dims: &[isize], correction: f64, keepdim: bool) -> Tensor {
        let axes = self.axes("var", dims, Location::caller());
        let n: usize = axes.iter().map(|&a| self.shape()[a]).product();
        let deviation = self - self.mean(dims, true);
        let sum = deviation.square().sum(dims, keepdim);
        let count = (n as f64 - correction).max(0.0);
        if count > 0.0 {
            return sum / count;
        }
        // What a division by 0 gives, chosen rather than computed: compilers fold that.
        let result = sum.gt(&sum.like(0.0)).select(&sum.like(f64::INFINITY), &sum.like(f64::NAN));
        result.detach() + sum
    }
    /// Standard deviation over `dims`; its gradient is 0 where it is 0.
    #[track_caller]
    pub fn std(&self, dims: &[isize], correction: f64, keepdim: bool) -> Tensor {
        self.var(dims, correction, keepdim).sqrt_flat_at_zero()
    }
    /// (sum |x|^p)^(1/p) over `dims`; max |x| for p = inf, min |x| for -inf, the number of non-zeros for 0. The gradient
    /// at a zero vector is 0.
    #[track_caller]
    pub fn norm(&self, p: f64, dims: &[isize], keepdim: bool) -> Tensor {
        let zero = self.like(0.0);
        if p == f64::INFINITY {
            self.abs().amax(dims, keepdim)
        } else if p == f64::NEG_INFINITY {
            self.abs().amin(dims, keepdim)
        } else if p == 0.0 {
            self.eq(&zero).select(&zero, &self.like(1.0)).sum(dims, keepdim)
        } else if p == 1.0 {
            self.abs().sum(dims, keepdim)
        } else if p == 2.0 {
            self.square().sum(dims, keepdim).sqrt_flat_at_zero()
        } else {
            // 0^p and total^(1/p) have infinite derivatives at 0 for some p: both are replaced there.
            let empty = self.eq(&zero);
            let powers = empty.select(&zero, &empty.select(&self.like(1.0), &self.abs()).powf(p));
            let total = powers.sum(dims, keepdim);
            // Of a negative power one zero makes the sum infinite, and the norm 0.
            let smallest = if p < 0.0 { self.abs().amin(dims, keepdim).detach() } else { total.clone() };
            let none = smallest.eq(&total.like(0.0));
            none.select(&total.like(0.0), &none.select(&total.like(1.0), &total).powf(1.0 / p))
        }
    }
}
