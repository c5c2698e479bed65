//! Softmax and log-softmax with their gradients, as composites over the rows of a matrix, and the `Tensor` methods
//! that bring any dimension into that form. Not the cross-entropy, which never stores the probabilities.

use crate::ir::{Builder, Tensor};
use crate::ops::{Composite, VjpArgs, ranks};
use std::any::Any;
use std::panic::Location;

/// `x[rows, n] -> y[rows, n]`: `exp(x - max) / sum(exp(x - max))` along each row. A row of only -inf gives NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax;

/// `y, g -> dx = y * (g - sum(g * y))` along each row.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftmaxGrad;

/// `x[rows, n] -> y[rows, n]`: `x - max - log(sum(exp(x - max)))` along each row.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSoftmax;

/// `y, g -> dx = g - exp(y) * sum(g)` along each row.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSoftmaxGrad;

impl Composite for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("softmax", args, &[2]) {
            return bad;
        }
        let e = shifted(&args[0]).exp();
        vec![&e / e.sum(&[1], true)]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        let g = v.cotangents[0].as_ref()?;
        Some(v.builder.call(SoftmaxGrad, &[&v.outs[0], g]).into_iter().map(Some).collect())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("softmax_grad", args, &[2, 2]) {
            return bad;
        }
        let (y, g) = (&args[0], &args[1]);
        vec![y * (g - (g * y).sum(&[1], true))]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("log_softmax", args, &[2]) {
            return bad;
        }
        let d = shifted(&args[0]);
        vec![&d - d.exp().sum(&[1], true).log()]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        let g = v.cotangents[0].as_ref()?;
        Some(v.builder.call(LogSoftmaxGrad, &[&v.outs[0], g]).into_iter().map(Some).collect())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for LogSoftmaxGrad {
    fn name(&self) -> &'static str {
        "log_softmax_grad"
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("log_softmax_grad", args, &[2, 2]) {
            return bad;
        }
        let (y, g) = (&args[0], &args[1]);
        vec![g - y.exp() * g.sum(&[1], true)]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `x - max(x)` of each row. The maximum is a constant to the derivative: softmax does not depend on the shift.
fn shifted(x: &Tensor) -> Tensor {
    x - x.amax(&[1], true).detach()
}

impl Tensor {
    /// `exp(x) / sum(exp(x))` along `dim`. A slice of only -inf gives NaN.
    #[track_caller]
    pub fn softmax(&self, dim: isize) -> Tensor {
        self.along_rows("softmax", dim, |x| x.builder().call(Softmax, &[x]).remove(0))
    }

    /// `x - log(sum(exp(x)))` along `dim`.
    #[track_caller]
    pub fn log_softmax(&self, dim: isize) -> Tensor {
        self.along_rows("log_softmax", dim, |x| x.builder().call(LogSoftmax, &[x]).remove(0))
    }

    /// Applies `f`, which works along the rows of a matrix and keeps its shape, along dimension `dim`.
    #[track_caller]
    fn along_rows(&self, op: &str, dim: isize, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
        if self.rank() == 0 {
            return f(&self.reshape([1, 1])).reshape(self.shape());
        }
        let axis = self.axis(op, dim, Location::caller()) as isize;
        let moved = self.transpose(axis, -1);
        let n = moved.size(-1);
        let rows: usize = moved.shape()[..moved.rank() - 1].iter().product();
        f(&moved.reshape([rows, n])).reshape(moved.shape()).transpose(axis, -1)
    }
}
