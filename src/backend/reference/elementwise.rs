//! Pointwise rules: unary, binary, select, cast. `None` stands for types that the type rule forbids.

use super::array::{Array, Values};
use crate::dtype::DType;
use crate::ir::{Binary, Unary};

/// One operand.
#[deny(clippy::wildcard_enum_match_arm)]
pub(super) fn unary(op: Unary, x: &Array) -> Option<Array> {
    let data = match &x.data {
        Values::F(v) => match op {
            Unary::IsFinite => Values::B(v.iter().map(|x| u32::from(x.is_finite())).collect()),
            Unary::Not => return None,
            Unary::Neg => map(v, |x| -x),
            Unary::Exp => map(v, f64::exp),
            Unary::Expm1 => map(v, f64::exp_m1),
            Unary::Log => map(v, f64::ln),
            Unary::Log1p => map(v, f64::ln_1p),
            Unary::Sqrt => map(v, f64::sqrt),
            Unary::Recip => map(v, |x| 1.0 / x),
            Unary::Sin => map(v, f64::sin),
            Unary::Cos => map(v, f64::cos),
            Unary::Tanh => map(v, f64::tanh),
            Unary::Erf => map(v, libm::erf),
            Unary::Floor => map(v, f64::floor),
            Unary::Round => map(v, f64::round_ties_even),
            Unary::Sign => map(v, |x| if x == 0.0 || x.is_nan() { 0.0 } else { x.signum() }),
            Unary::Abs => map(v, f64::abs),
        },
        Values::I(v) => match op {
            Unary::Neg => Values::I(v.iter().map(|x| x.wrapping_neg()).collect()),
            Unary::Sign => Values::I(v.iter().map(|x| x.signum()).collect()),
            Unary::Abs => Values::I(v.iter().map(|x| x.wrapping_abs()).collect()),
            Unary::Exp
            | Unary::Expm1
            | Unary::Log
            | Unary::Log1p
            | Unary::Sqrt
            | Unary::Recip
            | Unary::Sin
            | Unary::Cos
            | Unary::Tanh
            | Unary::Erf
            | Unary::Floor
            | Unary::Round
            | Unary::IsFinite
            | Unary::Not => return None,
        },
        Values::B(v) if op == Unary::Not => Values::B(v.iter().map(|&x| u32::from(x == 0)).collect()),
        Values::H(_) | Values::U(_) | Values::B(_) => return None,
    };
    Some(Array { shape: x.shape.clone(), data })
}

fn map(v: &[f64], f: impl Fn(f64) -> f64) -> Values {
    Values::F(v.iter().map(|&x| f(x)).collect())
}

/// Two operands of one type and shape.
pub(super) fn binary(op: Binary, a: &Array, b: &Array) -> Option<Array> {
    let data = match (&a.data, &b.data) {
        (Values::F(a), Values::F(b)) => floats(op, a, b)?,
        (Values::I(a), Values::I(b)) => signed(op, a, b)?,
        (Values::U(a), Values::U(b)) => unsigned(op, a, b)?,
        (Values::B(a), Values::B(b)) => bools(op, a, b)?,
        _ => return None,
    };
    Some(Array { shape: a.shape.clone(), data })
}

fn zip<T: Copy, U>(a: &[T], b: &[T], f: impl Fn(T, T) -> U) -> Vec<U> {
    a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect()
}

/// Remainder with the sign of the divisor, as Python's `%` and torch's `remainder`.
fn floored_rem(x: f64, y: f64) -> f64 {
    let r = x % y;
    if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
}

#[deny(clippy::wildcard_enum_match_arm)]
fn floats(op: Binary, a: &[f64], b: &[f64]) -> Option<Values> {
    Some(match op {
        Binary::Add => Values::F(zip(a, b, |x, y| x + y)),
        Binary::Sub => Values::F(zip(a, b, |x, y| x - y)),
        Binary::Mul => Values::F(zip(a, b, |x, y| x * y)),
        Binary::Div => Values::F(zip(a, b, |x, y| x / y)),
        Binary::Rem => Values::F(zip(a, b, floored_rem)),
        Binary::Pow => Values::F(zip(a, b, f64::powf)),
        Binary::Max => Values::F(zip(a, b, |x, y| if x >= y || x.is_nan() { x } else { y })),
        Binary::Min => Values::F(zip(a, b, |x, y| if x <= y || x.is_nan() { x } else { y })),
        Binary::Lt => Values::B(zip(a, b, |x, y| u32::from(x < y))),
        Binary::Le => Values::B(zip(a, b, |x, y| u32::from(x <= y))),
        Binary::Eq => Values::B(zip(a, b, |x, y| u32::from(x == y))),
        Binary::And | Binary::Or => return None,
    })
}

#[deny(clippy::wildcard_enum_match_arm)]
fn signed(op: Binary, a: &[i32], b: &[i32]) -> Option<Values> {
    Some(match op {
        Binary::Add => Values::I(zip(a, b, i32::wrapping_add)),
        Binary::Sub => Values::I(zip(a, b, i32::wrapping_sub)),
        Binary::Mul => Values::I(zip(a, b, i32::wrapping_mul)),
        Binary::Div => Values::I(zip(a, b, |x, y| if y == 0 { 0 } else { x.wrapping_div(y) })),
        Binary::Rem => Values::I(zip(a, b, |x, y| {
            let r = if y == 0 { 0 } else { x.wrapping_rem(y) };
            if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
        })),
        Binary::Max => Values::I(zip(a, b, i32::max)),
        Binary::Min => Values::I(zip(a, b, i32::min)),
        Binary::Lt => Values::B(zip(a, b, |x, y| u32::from(x < y))),
        Binary::Le => Values::B(zip(a, b, |x, y| u32::from(x <= y))),
        Binary::Eq => Values::B(zip(a, b, |x, y| u32::from(x == y))),
        Binary::Pow | Binary::And | Binary::Or => return None,
    })
}

#[deny(clippy::wildcard_enum_match_arm)]
fn unsigned(op: Binary, a: &[u32], b: &[u32]) -> Option<Values> {
    Some(match op {
        Binary::Add => Values::U(zip(a, b, u32::wrapping_add)),
        Binary::Sub => Values::U(zip(a, b, u32::wrapping_sub)),
        Binary::Mul => Values::U(zip(a, b, u32::wrapping_mul)),
        Binary::Div => Values::U(zip(a, b, |x, y| x.checked_div(y).unwrap_or(0))),
        Binary::Rem => Values::U(zip(a, b, |x, y| x.checked_rem(y).unwrap_or(0))),
        Binary::Max => Values::U(zip(a, b, u32::max)),
        Binary::Min => Values::U(zip(a, b, u32::min)),
        Binary::Lt => Values::B(zip(a, b, |x, y| u32::from(x < y))),
        Binary::Le => Values::B(zip(a, b, |x, y| u32::from(x <= y))),
        Binary::Eq => Values::B(zip(a, b, |x, y| u32::from(x == y))),
        Binary::Pow | Binary::And | Binary::Or => return None,
    })
}

#[deny(clippy::wildcard_enum_match_arm)]
fn bools(op: Binary, a: &[u32], b: &[u32]) -> Option<Values> {
    Some(Values::B(match op {
        Binary::And => zip(a, b, |x, y| x & y),
        Binary::Or => zip(a, b, |x, y| x | y),
        Binary::Lt => zip(a, b, |x, y| u32::from(x < y)),
        Binary::Le => zip(a, b, |x, y| u32::from(x <= y)),
        Binary::Eq => zip(a, b, |x, y| u32::from(x == y)),
        Binary::Add
        | Binary::Sub
        | Binary::Mul
        | Binary::Div
        | Binary::Rem
        | Binary::Pow
        | Binary::Max
        | Binary::Min => return None,
    }))
}

/// The second operand where the first is true, else the third.
pub(super) fn select(c: &Array, t: &Array, f: &Array) -> Option<Array> {
    let Values::B(c) = &c.data else { return None };
    fn choose<T: Copy>(c: &[u32], t: &[T], f: &[T]) -> Vec<T> {
        c.iter().zip(t.iter().zip(f)).map(|(&c, (&t, &f))| if c != 0 { t } else { f }).collect()
    }
    let data = match (&t.data, &f.data) {
        (Values::F(t), Values::F(f)) => Values::F(choose(c, t, f)),
        (Values::I(t), Values::I(f)) => Values::I(choose(c, t, f)),
        (Values::U(t), Values::U(f)) => Values::U(choose(c, t, f)),
        (Values::B(t), Values::B(f)) => Values::B(choose(c, t, f)),
        _ => return None,
    };
    Some(Array { shape: t.shape.clone(), data })
}

/// Float to integer truncates and saturates, NaN gives 0; integers keep their bits; to bool is `!= 0`.
pub(super) fn cast(dtype: DType, x: &Array) -> Array {
    let data = match (&x.data, dtype) {
        (Values::F(v) | Values::H(v), DType::F32) => Values::F(v.clone()),
        // Rounded like every result.
        (Values::F(v) | Values::H(v), DType::F16) => Values::H(v.clone()),
        (Values::I(v), DType::F16) => Values::H(v.iter().map(|&x| f64::from(x)).collect()),
        (Values::U(v) | Values::B(v), DType::F16) => Values::H(v.iter().map(|&x| f64::from(x)).collect()),
        (Values::F(v) | Values::H(v), DType::I32) => Values::I(v.iter().map(|&x| x as i32).collect()),
        (Values::F(v) | Values::H(v), DType::U32) => Values::U(v.iter().map(|&x| x as u32).collect()),
        (Values::F(v) | Values::H(v), DType::Bool) => Values::B(v.iter().map(|&x| u32::from(x != 0.0)).collect()),
        (Values::I(v), DType::F32) => Values::F(v.iter().map(|&x| f64::from(x)).collect()),
        (Values::I(v), DType::I32) => Values::I(v.clone()),
        (Values::I(v), DType::U32) => Values::U(v.iter().map(|&x| x as u32).collect()),
        (Values::I(v), DType::Bool) => Values::B(v.iter().map(|&x| u32::from(x != 0)).collect()),
        (Values::U(v) | Values::B(v), DType::F32) => Values::F(v.iter().map(|&x| f64::from(x)).collect()),
        (Values::U(v) | Values::B(v), DType::I32) => Values::I(v.iter().map(|&x| x as i32).collect()),
        (Values::U(v) | Values::B(v), DType::U32) => Values::U(v.clone()),
        (Values::U(v) | Values::B(v), DType::Bool) => Values::B(v.iter().map(|&x| u32::from(x != 0)).collect()),
    };
    Array { shape: x.shape.clone(), data }
}
