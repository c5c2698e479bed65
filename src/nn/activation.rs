//! Activations as modules without parameters.

use crate::ir::Tensor;
use crate::nn::{Module, Scope};
use crate::ops::activation::Gelu as Form;

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

activation!(Relu, "max(x, 0); NaN stays, the derivative at 0 is 0.", Tensor::relu);
activation!(Gelu, "x Phi(x), Phi the distribution function of the standard normal.", |x| x.gelu(Form::Exact));
activation!(GeluTanh, "0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the approximation of GPT-2.", |x| x
    .gelu(Form::Tanh));
activation!(Tanh, "Hyperbolic tangent.", Tensor::tanh);
activation!(Sigmoid, "1 / (1 + e^-x).", Tensor::sigmoid);
activation!(Silu, "x / (1 + e^-x).", Tensor::silu);
