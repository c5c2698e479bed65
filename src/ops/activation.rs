//! Activations and other pointwise functions of one tensor, with torch's names, values and gradients at special points.
//!
//! All are plain primitives that fuse. Where a branch is not chosen its operand is replaced before the computation, so
//! that neither the value nor a derivative of it can be infinite (0 * inf would be NaN).

use crate::ir::{Binary, Prim, Tensor};
use std::panic::Location;

/// Below this exponent e^-x is still finite in f32, and sigmoid is 1.6e-38, which counts as 0.
const SIGMOID_FLOOR: f64 = -87.0;
/// Where silu (at most 1.6e-38 times this) counts as 0.
const SILU_FLOOR: f64 = -1e4;
/// ln(1 + e^x) = x in f32 from here on (e^-40 = 4e-18).
const SOFTPLUS_LINEAR: f64 = 40.0;
/// The tanh form of gelu is exactly x or 0 in f32 beyond this (its tanh argument is 43).
const GELU_SATURATED: f64 = 10.0;

/// Which formula [`Tensor::gelu`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Gelu {
    /// x Phi(x), with the error function.
    #[default]
    Exact,
    /// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    Tanh,
}

impl Tensor {
    /// x where positive, else 0; the gradient at 0 is 0; NaN stays.
    #[track_caller]
    pub fn relu(&self) -> Tensor {
        let zero = self.like(0.0);
        self.le(&zero).select(&zero, self)
    }

    /// 1 / (1 + e^-x), also far from 0 without overflow in any derivative.
    #[track_caller]
    pub fn sigmoid(&self) -> Tensor {
        ((-self.maximum(&self.like(SIGMOID_FLOOR))).exp() + 1.0).reciprocal()
    }

    /// x sigmoid(x); NaN at minus infinity, where torch's product is infinity times 0.
    #[track_caller]
    pub fn silu(&self) -> Tensor {
        // From here down the product is 0 in f32, which the floor of the sigmoid times a huge x would not be.
        let product = self.maximum(&self.like(SILU_FLOOR)) * self.sigmoid();
        self.eq(&self.like(f64::NEG_INFINITY)).select(&self.like(f64::NAN), &product)
    }

    /// The Gaussian error linear unit.
    #[track_caller]
    pub fn gelu(&self, form: Gelu) -> Tensor {
        match form {
            Gelu::Exact => self * 0.5 * ((self * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0),
            Gelu::Tanh => {
                // Clamped, because x^3 overflows, and its derivative times the vanished one of tanh would be NaN.
                let x = self.clamp(Some(-GELU_SATURATED), Some(GELU_SATURATED));
                let inner = (&x + x.square() * &x * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
                self * 0.5 * (inner.tanh() + 1.0)
            }
        }
    }

    /// x where positive, else alpha (e^x - 1).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        let zero = self.like(0.0);
        let left = self.le(&zero);
        left.select(&(left.select(self, &zero).expm1() * alpha), self)
    }

    /// x where positive, else slope x; the gradient at 0 is the slope.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        self.le(&self.like(0.0)).select(&(self * slope), self)
    }

    /// ln(1 + e^(beta x)) / beta, and x itself where beta x > threshold.
    #[track_caller]
    pub fn softplus(&self, beta: f64, threshold: f64) -> Tensor {
        let z = if beta == 1.0 { self.clone() } else { self * beta };
        let linear = z.gt(&z.like(threshold.min(SOFTPLUS_LINEAR)));
        let curve = linear.select(&z.like(0.0), &z).exp().log1p();
        linear.select(self, &if beta == 1.0 { curve } else { curve / beta })
    }

    /// x / 6 + 1/2 between 0 and 1; the gradient at the bounds is 0.
    #[track_caller]
    pub fn hardsigmoid(&self) -> Tensor {
        let (low, high) = (self.le(&self.like(-3.0)), self.ge(&self.like(3.0)));
        low.select(&self.like(0.0), &high.select(&self.like(1.0), &(self / 6.0 + 0.5)))
    }

    /// x between the bounds; the gradient at the bounds is 0.
    #[track_caller]
    pub fn hardtanh(&self, min: f64, max: f64) -> Tensor {
        let (min, max) = (self.like(min), self.like(max));
        self.le(&min).select(&min, &self.ge(&max).select(&max, self))
    }

    /// The first half along `dim` times the logistic function of the second.
    #[track_caller]
    pub fn glu(&self, dim: isize) -> Tensor {
        let loc = Location::caller();
        let axis = self.axis("glu", dim, loc) as isize;
        if self.rank() == 0 || !self.size(axis).is_multiple_of(2) {
            return self.fail("glu", format!("dimension {dim} of {} does not halve", self.ty()), loc);
        }
        let n = self.size(axis) / 2;
        self.narrow(axis, 0, n) * self.narrow(axis, n, n).sigmoid()
    }

    /// x between the bounds that are given; the gradient at the bounds is 1. Where min > max the result is max; a bound
    /// that is NaN makes all NaN.
    #[track_caller]
    pub fn clamp(&self, min: Option<f64>, max: Option<f64>) -> Tensor {
        if [min, max].into_iter().flatten().any(f64::is_nan) {
            return self.like(f64::NAN);
        }
        let mut x = self.clone();
        if let Some(min) = min.map(|m| self.like(m)) {
            x = x.lt(&min).select(&min, &x);
        }
        if let Some(max) = max.map(|m| self.like(m)) {
            x = max.lt(&x).select(&max, &x);
        }
        x
    }

    /// x^n for a number n. Small whole and half powers are products, roots and reciprocals.
    #[track_caller]
    pub fn powf(&self, n: f64) -> Tensor {
        if n == 0.0 {
            self.like(1.0)
        } else if n == 1.0 {
            self.clone()
        } else if n == 2.0 {
            self.square()
        } else if n == 3.0 {
            self.square() * self
        } else if n == -1.0 {
            self.reciprocal()
        } else if n == -2.0 {
            self.square().reciprocal()
        } else if n == 0.5 {
            self.sqrt()
        } else if n == -0.5 {
            self.rsqrt()
        } else {
            self.builder().apply(Prim::Binary(Binary::Pow), &[self, &self.like(n)])
        }
    }

    /// Square root, with gradient 0 (not infinity) at 0: for norms and deviations.
    #[track_caller]
    pub(crate) fn sqrt_flat_at_zero(&self) -> Tensor {
        let zero = self.like(0.0);
        let flat = self.eq(&zero);
        flat.select(&zero, &flat.select(&self.like(1.0), self).sqrt())
    }

    /// self + alpha other, as torch's `add` with its `alpha`.
    #[track_caller]
    pub fn add_scaled(&self, other: &Tensor, alpha: f64) -> Tensor {
        if alpha == 1.0 { self + other } else { self + other * alpha }
    }
}
