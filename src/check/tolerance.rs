//! How exactly each primitive must be computed in f32: one class per primitive, from the WGSL accuracy table and the
//! usual error bounds of sums. A test never picks a number; `bound.rs` composes these classes along a graph.

use crate::ir::{Binary, Prim, ReduceOp, Unary};

/// Relative spacing of f32: twice the unit roundoff, because WGSL lets an implementation round either way.
pub const U: f64 = 1.0 / 8_388_608.0;

/// What may be flushed to zero: the smallest normal f32, four times (operands and result).
pub const TINY: f64 = 4.0 * 1.175_494_350_822_287_5e-38;

/// How exactly a primitive is computed from exact operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Class {
    /// Bit for bit: movement, comparisons, integers, maxima.
    Exact,
    /// Within so many units in the last place.
    Ulp(f64),
    /// `(relative, absolute)` error of a function without an exact implementation, in units of `U`.
    Transcendental(f64, f64),
    /// A sum of so many terms per result: [`summation`] times the sum of their magnitudes.
    Reduction(usize),
}

/// Rounding errors, in units of `U` and relative to the sum of magnitudes, of a sum of n terms in any order: n at most
/// (Higham, section 4.2); for long sums 4 sqrt(n), which independent roundings exceed with negligible probability.
pub fn summation(n: usize) -> f64 {
    let n = n as f64;
    n.min(4.0 * n.sqrt())
}

/// The class of `prim`. `x` is its (first) operand where the accuracy depends on it; `n` the number of terms of a sum.
#[deny(clippy::wildcard_enum_match_arm)]
pub fn class(prim: &Prim, x: f64, n: usize) -> Class {
    match prim {
        Prim::Unary(u) => unary(*u, x),
        Prim::Binary(b) => match b {
            Binary::Add | Binary::Sub | Binary::Mul => Class::Ulp(1.0),
            Binary::Div => Class::Ulp(2.5),
            // a - b floor(a / b), each step rounded; `bound.rs` adds what depends on a.
            Binary::Rem => Class::Ulp(3.0),
            // exp2(b log2 a); `bound.rs` adds what depends on the exponent.
            Binary::Pow => Class::Ulp(4.0),
            Binary::Max | Binary::Min | Binary::Lt | Binary::Le | Binary::Eq | Binary::And | Binary::Or => Class::Exact,
        },
        Prim::Reduce { op, .. } => match op {
            ReduceOp::Sum => Class::Reduction(n),
            ReduceOp::Max => Class::Exact,
            ReduceOp::Prod => Class::Ulp(n as f64),
        },
        Prim::CumSum { .. } | Prim::Dot | Prim::Conv(_) | Prim::ScatterAdd { .. } | Prim::ScatterAddAlong { .. } => {
            Class::Reduction(n)
        }
        // i32 beyond 2^24 rounds; all else is exact, and rounding an exact value costs nothing.
        Prim::Cast(_) => Class::Ulp(1.0),
        Prim::Input { .. }
        | Prim::Const(_)
        | Prim::Iota { .. }
        | Prim::Random { .. }
        | Prim::Select
        | Prim::StopGrad
        | Prim::After
        | Prim::ArgMax { .. }
        | Prim::Sort { .. }
        | Prim::Reshape(_)
        | Prim::Broadcast(_)
        | Prim::Permute(_)
        | Prim::Slice { .. }
        | Prim::Pad { .. }
        | Prim::Reverse(_)
        | Prim::Concat { .. }
        | Prim::Take
        | Prim::TakeAlong { .. }
        | Prim::Call(_) => Class::Exact,
    }
}

#[deny(clippy::wildcard_enum_match_arm)]
fn unary(u: Unary, x: f64) -> Class {
    match u {
        Unary::Neg | Unary::Floor | Unary::Round | Unary::Sign | Unary::Abs | Unary::IsFinite | Unary::Not => {
            Class::Exact
        }
        // WGSL: 3 + 2|x| ULP
        Unary::Exp => Class::Ulp(3.0 + 2.0 * x.abs()),
        // own: as exp, plus the steps of its series or correction
        Unary::Expm1 => Class::Ulp(8.0 + 2.0 * x.abs()),
        // WGSL: 2^-21 absolute (4 U) on [0.5, 2], else 3 ULP
        Unary::Log if (0.5..=2.0).contains(&x) => Class::Transcendental(3.0, 4.0),
        Unary::Log => Class::Ulp(3.0),
        // own: relative also near 0, which is what it is for
        Unary::Log1p => Class::Ulp(8.0),
        // WGSL: inherited from 1 / inverseSqrt
        Unary::Sqrt => Class::Ulp(4.5),
        Unary::Recip => Class::Ulp(2.5),
        // own: WGSL's 2^-11 is not enough; 1e-6 absolute, and the rounding of a large argument's reduction
        Unary::Sin | Unary::Cos => Class::Transcendental(0.0, 8.0),
        // own: 1e-6 absolute
        Unary::Tanh => Class::Transcendental(0.0, 8.0),
        // own: 2e-6 absolute
        Unary::Erf => Class::Transcendental(0.0, 16.0),
    }
}

impl Class {
    /// The error allowed in a result `y` whose terms have magnitudes summing to `magnitude`. A result that is not
    /// finite has none: it must be hit.
    pub fn allows(self, y: f64, magnitude: f64) -> f64 {
        if !y.is_finite() {
            return 0.0;
        }
        match self {
            Class::Exact => 0.0,
            Class::Ulp(_) if y == 0.0 => TINY,
            Class::Ulp(k) => k * U * y.abs() + TINY,
            Class::Transcendental(relative, absolute) => (relative * y.abs() + absolute) * U + TINY,
            Class::Reduction(n) => summation(n) * U * magnitude + TINY,
        }
    }
}
