//! Elementwise methods and operators of tensors, with numpy's broadcasting. Plain primitives only.

use crate::dtype::{DType, Scalar};
use crate::ir::{Binary, Prim, Tensor, Unary};
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::panic::Location;

impl Tensor {
    /// A scalar constant of this tensor's type, repeated to its shape.
    #[track_caller]
    pub fn like(&self, x: f64) -> Tensor {
        self.builder().constant(Scalar::of(self.dtype(), x)).broadcast_to(self.shape()).cast(self.dtype())
    }

    /// Both tensors repeated to their common shape; an error if there is none.
    #[track_caller]
    pub fn broadcast_with(&self, other: &Tensor, op: &str) -> (Tensor, Tensor) {
        match self.shape().broadcast(other.shape()) {
            Some(shape) => (self.broadcast_to(&shape), other.broadcast_to(&shape)),
            None => {
                let detail = format!("shapes do not broadcast (lhs {}, rhs {})", self.ty(), other.ty());
                let bad = self.fail(op, detail, Location::caller());
                (bad.clone(), bad)
            }
        }
    }

    #[track_caller]
    fn binary(&self, op: Binary, other: &Tensor) -> Tensor {
        let (a, b) = self.broadcast_with(other, &Prim::Binary(op).name());
        self.builder().apply(Prim::Binary(op), &[&a, &b])
    }

    #[track_caller]
    fn unary(&self, op: Unary) -> Tensor {
        self.builder().apply(Prim::Unary(op), &[self])
    }

    /// The larger of both, elementwise; NaN if either is.
    #[track_caller]
    pub fn maximum(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Max, other)
    }
    /// The smaller of both, elementwise; NaN if either is.
    #[track_caller]
    pub fn minimum(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Min, other)
    }
    /// `self ^ other`.
    #[track_caller]
    pub fn pow(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Pow, other)
    }
    /// Remainder with the sign of the divisor.
    #[track_caller]
    pub fn rem(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Rem, other)
    }
    /// `self < other`, as bools.
    #[track_caller]
    pub fn lt(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Lt, other)
    }
    /// `self <= other`, as bools.
    #[track_caller]
    pub fn le(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Le, other)
    }
    /// `self > other`, as bools.
    #[track_caller]
    pub fn gt(&self, other: &Tensor) -> Tensor {
        other.binary(Binary::Lt, self)
    }
    /// `self >= other`, as bools.
    #[track_caller]
    pub fn ge(&self, other: &Tensor) -> Tensor {
        other.binary(Binary::Le, self)
    }
    /// `self == other`, as bools.
    #[track_caller]
    pub fn eq(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Eq, other)
    }
    /// Logical and of bools.
    #[track_caller]
    pub fn and(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::And, other)
    }
    /// Logical or of bools.
    #[track_caller]
    pub fn or(&self, other: &Tensor) -> Tensor {
        self.binary(Binary::Or, other)
    }
    /// Logical not of bools.
    #[track_caller]
    pub fn not(&self) -> Tensor {
        self.unary(Unary::Not)
    }
    /// `self` (bools) ? `on_true` : `on_false`, with broadcasting of all three.
    #[track_caller]
    pub fn select(&self, on_true: &Tensor, on_false: &Tensor) -> Tensor {
        let (t, f) = on_true.broadcast_with(on_false, "select");
        let (c, t) = self.broadcast_with(&t, "select");
        let f = f.broadcast_to(t.shape());
        self.builder().apply(Prim::Select, &[&c, &t, &f])
    }

    /// The value with no gradient.
    #[track_caller]
    pub fn detach(&self) -> Tensor {
        self.builder().apply(Prim::StopGrad, &[self])
    }
    /// The value in another element type.
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype() { self.clone() } else { self.builder().apply(Prim::Cast(dtype), &[self]) }
    }
    /// e^x
    #[track_caller]
    pub fn exp(&self) -> Tensor {
        self.unary(Unary::Exp)
    }
    /// e^x - 1, accurate near 0
    #[track_caller]
    pub fn expm1(&self) -> Tensor {
        self.unary(Unary::Expm1)
    }
    /// Natural logarithm.
    #[track_caller]
    pub fn log(&self) -> Tensor {
        self.unary(Unary::Log)
    }
    /// ln(1 + x), accurate near 0
    #[track_caller]
    pub fn log1p(&self) -> Tensor {
        self.unary(Unary::Log1p)
    }
    /// Square root.
    #[track_caller]
    pub fn sqrt(&self) -> Tensor {
        self.unary(Unary::Sqrt)
    }
    /// 1 / sqrt(x)
    #[track_caller]
    pub fn rsqrt(&self) -> Tensor {
        self.sqrt().reciprocal()
    }
    /// 1 / x
    #[track_caller]
    pub fn reciprocal(&self) -> Tensor {
        self.unary(Unary::Recip)
    }
    /// Sine of radians.
    #[track_caller]
    pub fn sin(&self) -> Tensor {
        self.unary(Unary::Sin)
    }
    /// Cosine of radians.
    #[track_caller]
    pub fn cos(&self) -> Tensor {
        self.unary(Unary::Cos)
    }
    /// Hyperbolic tangent.
    #[track_caller]
    pub fn tanh(&self) -> Tensor {
        self.unary(Unary::Tanh)
    }
    /// Error function.
    #[track_caller]
    pub fn erf(&self) -> Tensor {
        self.unary(Unary::Erf)
    }
    /// Largest integer not above x.
    #[track_caller]
    pub fn floor(&self) -> Tensor {
        self.unary(Unary::Floor)
    }
    /// Nearest integer, halves to even.
    #[track_caller]
    pub fn round(&self) -> Tensor {
        self.unary(Unary::Round)
    }
    /// -1, 0 or 1; NaN for NaN.
    #[track_caller]
    pub fn sign(&self) -> Tensor {
        self.unary(Unary::Sign)
    }
    /// |x|
    #[track_caller]
    pub fn abs(&self) -> Tensor {
        self.unary(Unary::Abs)
    }
    /// Neither NaN nor infinite, as bools.
    #[track_caller]
    pub fn is_finite(&self) -> Tensor {
        self.unary(Unary::IsFinite)
    }
    /// NaN, as bools. Written such that no compiler that assumes NaN away can fold it (as it may fold `x != x`).
    #[track_caller]
    pub fn is_nan(&self) -> Tensor {
        let infinite = self.like(f32::MAX as f64).lt(&self.abs());
        self.is_finite().or(&infinite).not()
    }
    /// x * x
    #[track_caller]
    pub fn square(&self) -> Tensor {
        self.binary(Binary::Mul, self)
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:expr) => {
        impl $trait<&Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                self.binary($op, other)
            }
        }
        impl $trait<Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                self.binary($op, &other)
            }
        }
        impl $trait<&Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                self.binary($op, other)
            }
        }
        impl $trait<Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                self.binary($op, &other)
            }
        }
        impl $trait<f64> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                self.binary($op, &self.like(other))
            }
        }
        impl $trait<f64> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: f64) -> Tensor {
                self.binary($op, &self.like(other))
            }
        }
        impl $trait<&Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                other.like(self).binary($op, other)
            }
        }
        impl $trait<Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                other.like(self).binary($op, &other)
            }
        }
    };
}

operator!(Add, add, Binary::Add);
operator!(Sub, sub, Binary::Sub);
operator!(Mul, mul, Binary::Mul);
operator!(Div, div, Binary::Div);

impl Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.unary(Unary::Neg)
    }
}
impl Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.unary(Unary::Neg)
    }
}
