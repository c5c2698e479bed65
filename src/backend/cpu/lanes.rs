//! Loops over blocks of elements, one per operation, each compiled for every instruction set. Operands and result are
//! distinct slices of equal length, so that the loops vectorise without alias checks.

use super::math;
use super::simd::simd_fn;
use crate::ir::{Binary, Unary};

macro_rules! map {
    ($out:ident, $a:ident, |$x:ident| $e:expr) => {
        for (o, &$x) in $out.iter_mut().zip($a.iter()) {
            *o = $e;
        }
    };
    ($out:ident, $a:ident, $b:ident, |$x:ident, $y:ident| $e:expr) => {
        for ((o, &$x), &$y) in $out.iter_mut().zip($a.iter()).zip($b.iter()) {
            *o = $e;
        }
    };
}

simd_fn! {
    /// A unary function with float results.
    pub(super) fn unary_f32(op: Unary, out: &mut [f32], a: &[f32]) {
        match op {
            Unary::Neg => map!(out, a, |x| -x),
            Unary::Exp => map!(out, a, |x| math::exp(x)),
            Unary::Expm1 => map!(out, a, |x| math::expm1(x)),
            Unary::Log => map!(out, a, |x| math::log(x)),
            Unary::Log1p => map!(out, a, |x| math::log1p(x)),
            Unary::Sqrt => map!(out, a, |x| x.sqrt()),
            Unary::Recip => map!(out, a, |x| 1.0 / x),
            Unary::Sin => map!(out, a, |x| math::sin(x)),
            Unary::Cos => map!(out, a, |x| math::cos(x)),
            Unary::Tanh => map!(out, a, |x| math::tanh(x)),
            Unary::Erf => map!(out, a, |x| math::erf(x)),
            Unary::Floor => map!(out, a, |x| x.floor()),
            Unary::Round => map!(out, a, |x| x.round_ties_even()),
            Unary::Sign => map!(out, a, |x| math::sign(x)),
            Unary::Abs => map!(out, a, |x| x.abs()),
            // Those with other result types are not floats; `program` never asks for them here.
            Unary::IsFinite | Unary::Not => {}
        }
    }
}

/// Replaces what [`unary_f32`] cannot reduce exactly enough.
pub(super) fn patch_trig(op: Unary, out: &mut [f32], a: &[f32]) {
    for (o, &x) in out.iter_mut().zip(a) {
        if !(x.abs() <= math::TRIG_LIMIT) {
            *o = if op == Unary::Sin { (x as f64).sin() as f32 } else { (x as f64).cos() as f32 };
        }
    }
}

simd_fn! {
    /// True if all |x| are at most the limit of the trigonometric loops.
    pub(super) fn trig_fits(a: &[f32]) -> bool {
        let mut over = 0u32;
        for &x in a {
            over |= u32::from(!(x.abs() <= math::TRIG_LIMIT));
        }
        over == 0
    }
}

simd_fn! {
    /// A binary function of floats with float results.
    pub(super) fn binary_f32(op: Binary, out: &mut [f32], a: &[f32], b: &[f32]) {
        match op {
            Binary::Add => map!(out, a, b, |x, y| x + y),
            Binary::Sub => map!(out, a, b, |x, y| x - y),
            Binary::Mul => map!(out, a, b, |x, y| x * y),
            Binary::Div => map!(out, a, b, |x, y| x / y),
            Binary::Max => map!(out, a, b, |x, y| math::max(x, y)),
            Binary::Min => map!(out, a, b, |x, y| math::min(x, y)),
            Binary::Rem => map!(out, a, b, |x, y| math::rem(x, y)),
            Binary::Pow => map!(out, a, b, |x, y| (x as f64).powf(y as f64) as f32),
            Binary::Lt | Binary::Le | Binary::Eq | Binary::And | Binary::Or => {}
        }
    }
}

simd_fn! {
    /// a * b + c, with two roundings: the same on processors without fused instructions.
    pub(super) fn mul_add(out: &mut [f32], a: &[f32], b: &[f32], c: &[f32]) {
        for (((o, &x), &y), &z) in out.iter_mut().zip(a).zip(b).zip(c) {
            *o = x * y + z;
        }
    }
}

simd_fn! {
    /// A comparison of floats.
    pub(super) fn compare_f32(op: Binary, out: &mut [u32], a: &[f32], b: &[f32]) {
        match op {
            Binary::Lt => map!(out, a, b, |x, y| u32::from(x < y)),
            Binary::Le => map!(out, a, b, |x, y| u32::from(x <= y)),
            _ => map!(out, a, b, |x, y| u32::from(x == y)),
        }
    }
}

simd_fn! {
    /// A binary function of signed integers, comparisons included.
    pub(super) fn binary_i32(op: Binary, out: &mut [u32], a: &[u32], b: &[u32]) {
        match op {
            Binary::Add => map!(out, a, b, |x, y| x.wrapping_add(y)),
            Binary::Sub => map!(out, a, b, |x, y| x.wrapping_sub(y)),
            Binary::Mul => map!(out, a, b, |x, y| x.wrapping_mul(y)),
            Binary::Div => map!(out, a, b, |x, y| if y == 0 { 0 } else { (x as i32).wrapping_div(y as i32) as u32 }),
            Binary::Rem => map!(out, a, b, |x, y| floored_rem(x as i32, y as i32) as u32),
            Binary::Max => map!(out, a, b, |x, y| (x as i32).max(y as i32) as u32),
            Binary::Min => map!(out, a, b, |x, y| (x as i32).min(y as i32) as u32),
            Binary::Lt => map!(out, a, b, |x, y| u32::from((x as i32) < y as i32)),
            Binary::Le => map!(out, a, b, |x, y| u32::from(x as i32 <= y as i32)),
            Binary::Eq => map!(out, a, b, |x, y| u32::from(x == y)),
            Binary::Pow | Binary::And | Binary::Or => {}
        }
    }
}

#[inline(always)]
fn floored_rem(x: i32, y: i32) -> i32 {
    if y == 0 {
        return 0;
    }
    let r = x.wrapping_rem(y);
    if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
}

simd_fn! {
    /// A binary function of unsigned integers or bools, comparisons included.
    pub(super) fn binary_u32(op: Binary, out: &mut [u32], a: &[u32], b: &[u32]) {
        match op {
            Binary::Add => map!(out, a, b, |x, y| x.wrapping_add(y)),
            Binary::Sub => map!(out, a, b, |x, y| x.wrapping_sub(y)),
            Binary::Mul => map!(out, a, b, |x, y| x.wrapping_mul(y)),
            Binary::Div => map!(out, a, b, |x, y| x.checked_div(y).unwrap_or(0)),
            Binary::Rem => map!(out, a, b, |x, y| x.checked_rem(y).unwrap_or(0)),
            Binary::Max => map!(out, a, b, |x, y| x.max(y)),
            Binary::Min => map!(out, a, b, |x, y| x.min(y)),
            Binary::Lt => map!(out, a, b, |x, y| u32::from(x < y)),
            Binary::Le => map!(out, a, b, |x, y| u32::from(x <= y)),
            Binary::Eq => map!(out, a, b, |x, y| u32::from(x == y)),
            Binary::And => map!(out, a, b, |x, y| x & y),
            Binary::Or => map!(out, a, b, |x, y| x | y),
            Binary::Pow => {}
        }
    }
}

simd_fn! {
    /// A unary function of signed integers.
    pub(super) fn unary_i32(op: Unary, out: &mut [u32], a: &[u32]) {
        match op {
            Unary::Neg => map!(out, a, |x| x.wrapping_neg()),
            Unary::Sign => map!(out, a, |x| (x as i32).signum() as u32),
            _ => map!(out, a, |x| (x as i32).wrapping_abs() as u32),
        }
    }
}

simd_fn! {
    /// Logical not of bools.
    pub(super) fn not(out: &mut [u32], a: &[u32]) {
        map!(out, a, |x| u32::from(x == 0));
    }
}

simd_fn! {
    /// Neither NaN nor infinite.
    pub(super) fn is_finite(out: &mut [u32], a: &[u32]) {
        map!(out, a, |x| u32::from(x & 0x7f80_0000 != 0x7f80_0000));
    }
}

simd_fn! {
    /// The second where the first is true, else the third.
    pub(super) fn select(out: &mut [u32], c: &[u32], a: &[u32], b: &[u32]) {
        for (((o, &c), &x), &y) in out.iter_mut().zip(c).zip(a).zip(b) {
            *o = if c != 0 { x } else { y };
        }
    }
}

/// A conversion between element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convert {
    /// f32 to i32
    FloatToInt,
    /// f32 to u32
    FloatToUnsigned,
    /// f32 to bool
    FloatToBool,
    /// i32 to f32
    IntToFloat,
    /// u32 or bool to f32
    UnsignedToFloat,
    /// any integer to bool
    IntToBool,
    /// f32 to f16, which within a program is the f32 of that value
    RoundToHalf,
    /// the same bits
    Copy,
}

simd_fn! {
    /// Converts a block.
    pub(super) fn convert(op: Convert, out: &mut [u32], a: &[u32]) {
        match op {
            Convert::FloatToInt => map!(out, a, |x| f32::from_bits(x) as i32 as u32),
            Convert::FloatToUnsigned => map!(out, a, |x| f32::from_bits(x) as u32),
            Convert::FloatToBool => map!(out, a, |x| u32::from(f32::from_bits(x) != 0.0)),
            Convert::IntToFloat => map!(out, a, |x| (x as i32 as f32).to_bits()),
            Convert::UnsignedToFloat => map!(out, a, |x| (x as f32).to_bits()),
            Convert::IntToBool => map!(out, a, |x| u32::from(x != 0)),
            Convert::RoundToHalf => {
                map!(out, a, |x| half::f16::from_f32(f32::from_bits(x)).to_f32().to_bits())
            }
            Convert::Copy => out.copy_from_slice(a),
        }
    }
}

simd_fn! {
    /// The words `start ..` of a random stream, four per block of the generator; `start` is a multiple of 4.
    pub(super) fn random(out: &mut [u32], start: usize, counter: [u32; 4], stream: u32) {
        let mut chunks = out.chunks_exact_mut(4);
        let mut block = (start / 4) as u32;
        for chunk in &mut chunks {
            let c = [block, counter[2], counter[3], stream];
            chunk.copy_from_slice(&crate::rng::philox4x32_10(c, [counter[0], counter[1]]));
            block = block.wrapping_add(1);
        }
        let rest = chunks.into_remainder();
        if !rest.is_empty() {
            let c = [block, counter[2], counter[3], stream];
            rest.copy_from_slice(&crate::rng::philox4x32_10(c, [counter[0], counter[1]])[..rest.len()]);
        }
    }
}
