//! Activations as modules without parameters, with torch's names and defaults. The lecture's hard sigmoid, a sum of two
//! rectifiers, is `Linear`, `Relu`, `Linear`; [`Hardsigmoid`] is torch's fixed curve.

use crate::ir::Tensor;
use crate::nn::{Module, Scope};
use crate::ops::activation::Gelu as Form;

/// A unit struct, or a struct with these settings and torch's defaults, applied as `|settings, x|`.
macro_rules! activation {
    ($name:ident, $what:literal, { $($(#[$doc:meta])* $field:ident: $ty:ty = $default:expr),+ }, $f:expr) => {
        #[doc = $what]
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $ty,)+
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $default),+ }
            }
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
                let f: fn(&$name, &Tensor) -> Tensor = $f;
                f(self, x)
            }
        }
    };
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

activation!(Identity, "x.", Tensor::clone);
activation!(Relu, "max(x, 0); NaN stays, the derivative at 0 is 0.", Tensor::relu);
activation!(Relu6, "x between 0 and 6.", |x| x.hardtanh(0.0, 6.0));
activation!(Gelu, "x Phi(x), Phi the distribution function of the standard normal.", |x| x.gelu(Form::Exact));
activation!(GeluTanh, "0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the approximation of GPT-2.", |x| x
    .gelu(Form::Tanh));
activation!(Tanh, "Hyperbolic tangent.", Tensor::tanh);
activation!(Sigmoid, "1 / (1 + e^-x).", Tensor::sigmoid);
activation!(Silu, "x / (1 + e^-x).", Tensor::silu);
activation!(Hardsigmoid, "x / 6 + 1/2 between 0 and 1.", Tensor::hardsigmoid);
activation!(Hardswish, "x times (x / 6 + 1/2 between 0 and 1).", |x| x * x.hardsigmoid());
activation!(Mish, "x tanh(ln(1 + e^x)).", |x| x * x.softplus(1.0, 20.0).tanh());
activation!(LogSigmoid, "-ln(1 + e^-x).", |x| -(-x).softplus(1.0, 20.0));
activation!(Softsign, "x / (1 + |x|).", |x| x / (x.abs() + 1.0));
activation!(
    Selu,
    "1.0507 (x where positive, else 1.67326 (e^x - 1)): keeps mean 0 and variance 1 (arXiv 1706.02515).",
    |x| x.elu(1.673_263_242_354_377_2) * 1.050_700_987_355_480_5
);
activation!(Elu, "x where positive, else alpha (e^x - 1).", {
    /// Minus the limit far below 0.
    alpha: f64 = 1.0
}, |s, x| x.elu(s.alpha));
activation!(LeakyRelu, "x where positive, else negative_slope x.", {
    /// Slope below 0.
    negative_slope: f64 = 0.01
}, |s, x| x.leaky_relu(s.negative_slope));
activation!(Hardtanh, "x between the bounds.", {
    /// Lower bound.
    min_val: f64 = -1.0,
    /// Upper bound.
    max_val: f64 = 1.0
}, |s, x| x.hardtanh(s.min_val, s.max_val));
activation!(Softplus, "ln(1 + e^(beta x)) / beta, and x itself where beta x > threshold.", {
    /// Sharpness of the bend.
    beta: f64 = 1.0,
    /// Where it counts as straight.
    threshold: f64 = 20.0
}, |s, x| x.softplus(s.beta, s.threshold));
activation!(Softmax, "e^x over its sum along a dimension.", {
    /// The dimension; negative ones count from the end.
    dim: isize = -1
}, |s, x| x.softmax(s.dim));
activation!(LogSoftmax, "x minus the logarithm of the sum of e^x along a dimension.", {
    /// The dimension; negative ones count from the end.
    dim: isize = -1
}, |s, x| x.log_softmax(s.dim));
activation!(Glu, "The first half along a dimension times the logistic function of the second.", {
    /// The dimension, of even size; negative ones count from the end.
    dim: isize = -1
}, |s, x| x.glu(s.dim));
