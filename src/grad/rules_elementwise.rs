//! Derivatives of the pointwise primitives. x, a, b: operands; y: result; g: cotangent of y.

use super::{Grads, Site};
use crate::ir::{Binary, Unary};
use std::f64::consts::FRAC_2_SQRT_PI;

#[deny(clippy::wildcard_enum_match_arm)]
pub(super) fn unary(op: Unary, site: &Site) -> Grads {
    match op {
        // -g
        Unary::Neg => site.linear(|g| -g),
        // g y
        Unary::Exp => site.unary(|_, y, g| g * y),
        // g e^x; not g (y + 1), which cancels where x is far below 0
        Unary::Expm1 => site.unary(|x, _, g| g * x.exp()),
        // g / x
        Unary::Log => site.unary(|x, _, g| g / x),
        // g / (1 + x)
        Unary::Log1p => site.unary(|x, _, g| g / (x + 1.0)),
        // g / (2 y): infinite at 0, as torch
        Unary::Sqrt => site.unary(|_, y, g| g / (y * 2.0)),
        // -g y^2
        Unary::Recip => site.unary(|_, y, g| -(g * (y * y))),
        // g cos x
        Unary::Sin => site.unary(|x, _, g| g * x.cos()),
        // -g sin x
        Unary::Cos => site.unary(|x, _, g| -(g * x.sin())),
        // g (1 - y^2)
        Unary::Tanh => site.unary(|_, y, g| g * (1.0 - y * y)),
        // g 2/sqrt(pi) e^(-x^2)
        Unary::Erf => site.unary(|x, _, g| g * ((-(x * x)).exp() * FRAC_2_SQRT_PI)),
        // constant almost everywhere
        Unary::Floor | Unary::Round | Unary::Sign => site.zero(),
        // g sign x: 0 at 0
        Unary::Abs => site.unary(|x, _, g| g * x.sign()),
        // bools
        Unary::IsFinite | Unary::Not => site.zero(),
    }
}

#[deny(clippy::wildcard_enum_match_arm)]
pub(super) fn binary(op: Binary, site: &Site) -> Grads {
    match op {
        // g, g
        Binary::Add => site.binary(|_, _, _, g| g.clone(), |_, _, _, g| g.clone()),
        // g, -g
        Binary::Sub => site.binary(|_, _, _, g| g.clone(), |_, _, _, g| -g),
        // g b, g a
        Binary::Mul => site.binary(|_, b, _, g| g * b, |a, _, _, g| g * a),
        // g / b, -g y / b
        Binary::Div => site.binary(|_, b, _, g| g / b, |_, b, y, g| -(g * (y / b))),
        // y = a - b floor(a / b): g, -g floor(a / b)
        Binary::Rem => site.binary(|_, _, _, g| g.clone(), |a, b, _, g| -(g * (a / b).floor())),
        // g b a^(b-1), 0 where b = 0; g y ln a, 0 where a = 0 and b >= 0. The exponent and the logarithm get a harmless
        // operand where their result is not chosen: else its derivative would be 0 * inf.
        Binary::Pow => site.binary(
            |a, b, _, g| {
                let flat = b.eq(&b.like(0.0));
                let safe = flat.select(&b.like(1.0), b);
                flat.select(&g.like(0.0), &(g * (b * a.pow(&(safe - 1.0)))))
            },
            |a, b, y, g| {
                let flat = a.eq(&a.like(0.0)).and(&b.ge(&b.like(0.0)));
                let safe = flat.select(&a.like(1.0), a);
                flat.select(&g.like(0.0), &(g * (y * safe.log())))
            },
        ),
        // g to the larger, half each where equal (and g to both where one is NaN, as torch)
        Binary::Max => site.binary(
            |a, b, _, g| a.eq(b).select(&(g * 0.5), &a.lt(b).select(&g.like(0.0), g)),
            |a, b, _, g| a.eq(b).select(&(g * 0.5), &b.lt(a).select(&g.like(0.0), g)),
        ),
        // g to the smaller, half each where equal
        Binary::Min => site.binary(
            |a, b, _, g| a.eq(b).select(&(g * 0.5), &b.lt(a).select(&g.like(0.0), g)),
            |a, b, _, g| a.eq(b).select(&(g * 0.5), &a.lt(b).select(&g.like(0.0), g)),
        ),
        // bools
        Binary::Lt | Binary::Le | Binary::Eq | Binary::And | Binary::Or => site.zero(),
    }
}

/// g where chosen, exactly 0 where not (never g * mask: an infinite g times 0 is NaN).
pub(super) fn select(site: &Site) -> Grads {
    let c = &site.args[0];
    let mut grads = site.to(1, |g| c.select(g, &g.like(0.0)));
    grads[2] = site.to(2, |g| c.select(&g.like(0.0), g)).swap_remove(2);
    grads
}
