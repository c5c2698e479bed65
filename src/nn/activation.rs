//! Activations as modules without parameters.

use crate::ir::Tensor;
use crate::nn::{Module, Scope};

macro_rules! activation {
    ($name:ident, $what:literal, $f:expr) => {
        #[doc = $what]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl Module for $name {
            #[track_caller]
            fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
                let f: fn(&Tensor) -> Tensor = $f;
                f(x)
            }
        }
    };
}

activation!(Relu, "max(x, 0); NaN stays, the derivative at 0 is 0.", relu);
activation!(Gelu, "x Phi(x), Phi the distribution function of the standard normal.", gelu);
activation!(GeluTanh, "0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the approximation of GPT-2.", gelu_tanh);
activation!(Tanh, "Hyperbolic tangent.", Tensor::tanh);
activation!(Sigmoid, "1 / (1 + e^-x).", sigmoid);
activation!(Silu, "x / (1 + e^-x).", |x| x * sigmoid(x));

fn relu(x: &Tensor) -> Tensor {
    x.le(&x.like(0.0)).select(&x.like(0.0), x)
}

fn gelu(x: &Tensor) -> Tensor {
    x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)
}

pub(crate) fn gelu_tanh(x: &Tensor) -> Tensor {
    let inner = (x + x * x * x * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
    x * 0.5 * (inner.tanh() + 1.0)
}

/// By tanh, which saturates without overflow on either side.
fn sigmoid(x: &Tensor) -> Tensor {
    (x * 0.5).tanh() * 0.5 + 0.5
}
