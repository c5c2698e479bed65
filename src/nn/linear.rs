//! Fully connected layer.

use crate::ir::Tensor;
use crate::nn::{Init, Module, Scope};
use std::panic::Location;

/// `y = x W^T + b` on the last dimension. Parameters: `weight` (out, in), `bias` (out).
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Size of the last dimension of the input.
    pub in_features: usize,
    /// Size of the last dimension of the output.
    pub out_features: usize,
    /// Whether `b` is there.
    pub bias: bool,
    /// Distribution of the weight at the start.
    pub init: Init,
    /// Distribution of the bias at the start; `None`: uniform within 1/sqrt(in), as torch.
    pub init_bias: Option<Init>,
}

impl Linear {
    /// With bias and torch's initial distributions.
    pub fn new(in_features: usize, out_features: usize) -> Linear {
        Linear { in_features, out_features, bias: true, init: Init::TORCH_WEIGHT, init_bias: None }
    }
    /// The same without bias.
    pub fn without_bias(mut self) -> Linear {
        self.bias = false;
        self
    }
    /// The same with these distributions at the start.
    pub fn init(mut self, weight: Init, bias: Init) -> Linear {
        (self.init, self.init_bias) = (weight, Some(bias));
        self
    }
}

impl Module for Linear {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let (n, m) = (self.in_features, self.out_features);
        if x.rank() == 0 || x.size(-1) != n {
            let detail = format!("{} expects {n} features in the last dimension, got {}", place(scope), x.ty());
            return x.fail("linear", detail, Location::caller());
        }
        let weight = scope.param("weight", [m, n], self.init.clone());
        if !self.bias {
            return x.matmul(&weight.t());
        }
        let init = self.init_bias.clone().unwrap_or_else(|| Init::torch_bias(n));
        affine(x, &weight, Some(&scope.param("bias", [m], init)))
    }
}

/// x W^T + b. Rows are merged before the product and the bias is added to the merged rows, directly behind the product,
/// so that the planner makes one matmul with an epilogue of it.
#[track_caller]
pub(crate) fn affine(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let (m, n) = (weight.size(0), weight.size(1));
    let mut shape = x.shape().clone();
    let rows = if x.rank() == 0 { 1 } else { x.shape()[..x.rank() - 1].iter().product() };
    let y = x.reshape([rows, n]).matmul(&weight.t());
    let y = match bias {
        Some(b) => y + b,
        None => y,
    };
    if let Some(last) = shape.0.last_mut() {
        *last = m;
    }
    y.reshape(shape)
}

/// Name of the module in an error: its path, or what stands for the root.
pub(crate) fn place(scope: &Scope) -> String {
    if scope.path().is_empty() { "the module".into() } else { format!("{:?}", scope.path()) }
}
