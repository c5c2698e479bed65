//! A bilinear form of two inputs, and the rectifier with a learned slope.

use crate::ir::Tensor;
use crate::nn::linear::place;
use crate::nn::{Init, Module, Scope};
use std::panic::Location;

/// y_o = x1^T W_o x2 + b_o. Parameters: `weight` (out, in1, in2), `bias` (out).
#[derive(Debug, Clone, PartialEq)]
pub struct Bilinear {
    /// Size of the last dimension of the first input.
    pub in1_features: usize,
    /// Size of the last dimension of the second input.
    pub in2_features: usize,
    /// Size of the last dimension of the output.
    pub out_features: usize,
    /// Whether `b` is there.
    pub bias: bool,
}

impl Bilinear {
    /// The form on two inputs whose other dimensions are equal.
    #[track_caller]
    pub fn forward(&self, scope: &Scope, x1: &Tensor, x2: &Tensor) -> Tensor {
        let (n1, n2, o) = (self.in1_features, self.in2_features, self.out_features);
        let fits = x1.rank() > 0 && x1.rank() == x2.rank() && x1.size(-1) == n1 && x2.size(-1) == n2;
        let lead = x1.rank().saturating_sub(1);
        if !fits || x1.shape()[..lead] != x2.shape()[..lead] {
            let detail = format!("{} expects (.., {n1}) and (.., {n2}), got {} and {}", place(scope), x1.ty(), x2.ty());
            return x1.fail("bilinear", detail, Location::caller());
        }
        let rows: usize = x1.shape()[..lead].iter().product();
        let init = Init::torch_bias(n1);
        let weight = scope.param("weight", [o, n1, n2], init.clone());
        // (rows, n1) x (n1, o n2), then for each row (o, n2) x (n2, 1).
        let half = x1.reshape([rows, n1]).matmul(&weight.permute(&[1, 0, 2]).reshape([n1, o * n2]));
        let y = half.reshape([rows, o, n2]).matmul(&x2.reshape([rows, n2, 1])).reshape([rows, o]);
        let y = if self.bias { y + scope.param("bias", [o], init) } else { y };
        y.reshape([&x1.shape()[..lead], &[o]].concat())
    }
}

/// x where positive, else a x. Parameter: `weight` (1, or one per channel of dimension 1), 0.25 at the start.
#[derive(Debug, Clone, PartialEq)]
pub struct PRelu {
    /// 1, or the number of channels.
    pub num_parameters: usize,
    /// The slope at the start.
    pub init: f64,
}

impl Default for PRelu {
    fn default() -> PRelu {
        PRelu { num_parameters: 1, init: 0.25 }
    }
}

impl Module for PRelu {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let n = self.num_parameters;
        if n != 1 && (x.rank() < 2 || x.size(1) != n) {
            let detail = format!("{} expects {n} channels in dimension 1, got {}", place(scope), x.ty());
            return x.fail("prelu", detail, Location::caller());
        }
        let mut along = vec![1; x.rank()];
        if n != 1 {
            along[1] = n;
        }
        let weight = scope.param("weight", [n], Init::Constant(self.init)).reshape(along);
        x.gt(&x.like(0.0)).select(x, &(x * weight))
    }
}
