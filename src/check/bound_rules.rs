//! The error rule of every primitive: the error of its result for given errors of its operands, to first order, plus
//! what its own class allows. Called by `bound.rs` only.

use super::bound::Approx;
use super::tolerance::{U, class};
use crate::backend::reference::{Array, Values, apply};
use crate::dtype::{DType, Scalar};
use crate::error::Result;
use crate::ir::{Binary, Node, Prim, ReduceOp, Unary};

const UNKNOWN: f64 = f64::INFINITY;

/// |a| e, where an exact operand contributes nothing and an unknown one makes all unknown.
fn times(a: f64, e: f64) -> f64 {
    if e == 0.0 || (a == 0.0 && e.is_finite()) { 0.0 } else { a.abs() * e }
}

/// Whether a comparison of a and b may come out otherwise. Equal values count as the same computation: results that
/// are computed apart do not meet in all 53 bits.
fn undecided(a: f64, b: f64, error: f64) -> bool {
    error > 0.0 && a != b && !((a - b).abs() > error)
}

/// Runs the node on other arrays (errors, magnitudes) in the place of its operands.
fn rerun(node: &Node, args: &[&Array]) -> Result<Vec<f64>> {
    Ok(apply(node, args)?.swap_remove(0).to_f64())
}

fn magnitudes(a: &Approx) -> Array {
    Array::floats(a.value.shape.clone(), a.value.to_f64().iter().map(|x| x.abs()).collect())
}

fn magnitudes_and_errors(a: &Approx) -> Array {
    let sums = a.value.to_f64().iter().zip(&a.error).map(|(x, e)| x.abs() + e).collect();
    Array::floats(a.value.shape.clone(), sums)
}

/// The errors of each result.
#[deny(clippy::wildcard_enum_match_arm)]
pub(super) fn errors(node: &Node, args: &[&Approx], outs: &[Array]) -> Result<Vec<Vec<f64>>> {
    let y = outs[0].to_f64();
    let one = |e: Vec<f64>| Ok(vec![e]);
    match &node.prim {
        Prim::Const(s) => {
            let rounding = match s {
                Scalar::F32(x) if x.is_finite() => (x - f64::from(*x as f32)).abs(),
                Scalar::F32(_) | Scalar::I32(_) | Scalar::U32(_) | Scalar::Bool(_) => 0.0,
            };
            one(vec![rounding])
        }
        Prim::Input { .. } | Prim::Call(_) | Prim::Iota { .. } | Prim::Random { .. } => one(vec![0.0; y.len()]),
        Prim::Unary(u) => one(pointwise(args, &y, |x, e, y| unary(*u, x[0], e[0], y))),
        Prim::Binary(b) => {
            let (a, floats) = (args[0], args[0].value.ty().dtype.is_float());
            one(pointwise(&[a, args[1]], &y, |x, e, y| binary(*b, floats, [x[0], x[1]], [e[0], e[1]], y)))
        }
        Prim::Select => one(pointwise(args, &y, |x, e, _| match (e[0] > 0.0, x[0] != 0.0) {
            (false, true) => e[1],
            (false, false) => e[2],
            (true, _) if x[1] == x[2] => e[1].max(e[2]),
            (true, _) => e[1].max(e[2]) + (x[1] - x[2]).abs(),
        })),
        Prim::Cast(to) => {
            let from = args[0].value.ty().dtype;
            one(pointwise(args, &y, |x, e, y| cast(from, *to, x[0], e[0], y)))
        }
        Prim::StopGrad | Prim::After => one(args[0].error.clone()),
        Prim::Reduce { op, axes } => {
            let x = args[0];
            let n: usize = axes.iter().map(|&a| x.value.shape[a]).product();
            match op {
                ReduceOp::Sum => one(sums(node, &[x], n, &y)?),
                // The larger of values that are each off by at most e is off by at most the largest e.
                ReduceOp::Max => one(rerun(node, &[&x.errors()])?.into_iter().map(|e| e.max(0.0)).collect()),
                ReduceOp::Prod => {
                    let (with, without) = (rerun(node, &[&magnitudes_and_errors(x)])?, rerun(node, &[&magnitudes(x)])?);
                    let own = |i: usize| class(&node.prim, 0.0, n).allows(y[i], 0.0);
                    one((0..y.len()).map(|i| with[i] - without[i] + own(i)).collect())
                }
            }
        }
        Prim::CumSum { axis } => one(sums(node, &[args[0]], args[0].value.shape[*axis], &y)?),
        Prim::ArgMax { axis } => one(argmax(*axis, args[0], &y)),
        Prim::Sort { axis, .. } => Ok(sort(*axis, args[0], outs)),
        Prim::Dot => one(sums(node, args, args[0].value.shape[args[0].value.shape.len() - 1], &y)?),
        Prim::Conv(_) => one(sums(node, args, args[1].value.shape[1..].iter().product(), &y)?),
        Prim::Reshape(_)
        | Prim::Broadcast(_)
        | Prim::Permute(_)
        | Prim::Slice { .. }
        | Prim::Reverse(_)
        | Prim::Concat { .. } => {
            let errors: Vec<Array> = args.iter().map(|a| a.errors()).collect();
            one(rerun(node, &errors.iter().collect::<Vec<_>>())?)
        }
        Prim::Pad { lo, hi, interior, .. } => {
            let value = Scalar::F32(0.0);
            let prim = Prim::Pad { lo: lo.clone(), hi: hi.clone(), interior: interior.clone(), value };
            one(rerun(&Node { prim, ..node.clone() }, &[&args[0].errors()])?)
        }
        Prim::Take | Prim::TakeAlong { .. } => {
            let taken = rerun(node, &[&args[0].errors(), &args[1].value])?;
            let each = taken.len() / args[1].error.len().max(1);
            one(taken.into_iter().enumerate().map(|(i, e)| e + args[1].error[i / each.max(1)]).collect())
        }
        Prim::ScatterAdd { .. } | Prim::ScatterAddAlong { .. } => {
            if args[1].error.iter().any(|&e| e > 0.0) {
                return one(vec![UNKNOWN; y.len()]);
            }
            let n = args[1].value.shape.first().copied().unwrap_or(1).max(1);
            let n = if matches!(node.prim, Prim::ScatterAdd { .. }) { n } else { args[1].value.shape.elems() };
            let added = rerun(node, &[&args[0].errors(), &args[1].value])?;
            let total = rerun(node, &[&magnitudes(args[0]), &args[1].value])?;
            let floats = args[0].value.ty().dtype.is_float();
            let own = |i: usize| if floats { class(&node.prim, 0.0, n).allows(y[i], total[i]) } else { 0.0 };
            one((0..y.len()).map(|i| added[i] + own(i)).collect())
        }
    }
}

/// Applies `f(operands, errors, result)` to each element.
fn pointwise(args: &[&Approx], y: &[f64], f: impl Fn(&[f64], &[f64], f64) -> f64) -> Vec<f64> {
    let values: Vec<Vec<f64>> = args.iter().map(|a| a.value.to_f64()).collect();
    let (mut x, mut e) = (vec![0.0; args.len()], vec![0.0; args.len()]);
    let element = |(i, &y): (usize, &f64)| {
        for k in 0..args.len() {
            (x[k], e[k]) = (values[k][i], args[k].error[i]);
        }
        f(&x, &e, y)
    };
    y.iter().enumerate().map(element).collect()
}

#[deny(clippy::wildcard_enum_match_arm)]
fn unary(op: Unary, x: f64, e: f64, y: f64) -> f64 {
    let own = class(&Prim::Unary(op), x, 1).allows(y, y.abs());
    // A pole within reach of the operand.
    let pole = |at: f64| if e > 0.0 && (x - at).abs() <= e { UNKNOWN } else { 0.0 };
    let jump = |f: fn(f64) -> f64| if e > 0.0 { times(1.0, f(x + e) - f(x - e)) } else { 0.0 };
    own + match op {
        Unary::Neg | Unary::Abs => e,
        Unary::Exp => times(y, e.exp_m1()),
        Unary::Expm1 => times(y + 1.0, e.exp_m1()),
        Unary::Log => pole(0.0) + if e > 0.0 { e / (x.abs() - e).max(0.0) } else { 0.0 },
        Unary::Log1p => pole(-1.0) + if e > 0.0 { e / ((1.0 + x).abs() - e).max(0.0) } else { 0.0 },
        // The square root of x + e; also right at 0.
        Unary::Sqrt if e > 0.0 => {
            if x > e {
                e / (x.sqrt() + (x - e).sqrt())
            } else {
                (x.abs() + e).sqrt()
            }
        }
        Unary::Sqrt => 0.0,
        Unary::Recip => pole(0.0) + if e > 0.0 { times(y, e / (x.abs() - e).max(0.0)) } else { 0.0 },
        // Reducing a large argument costs its rounding.
        Unary::Sin | Unary::Cos => e + U * x.abs().min(1e4),
        Unary::Tanh => e,
        Unary::Erf => e * std::f64::consts::FRAC_2_SQRT_PI,
        Unary::Floor => jump(f64::floor),
        Unary::Round => jump(f64::round_ties_even),
        Unary::Sign => {
            if undecided(x, 0.0, e) {
                2.0
            } else {
                0.0
            }
        }
        Unary::IsFinite => {
            if e.is_finite() {
                0.0
            } else {
                UNKNOWN
            }
        }
        Unary::Not => e,
    }
}

#[deny(clippy::wildcard_enum_match_arm)]
fn binary(op: Binary, floats: bool, x: [f64; 2], e: [f64; 2], y: f64) -> f64 {
    let [a, b] = x;
    let either = e[0] + e[1];
    if !floats && !matches!(op, Binary::And | Binary::Or) {
        return if either > 0.0 { UNKNOWN } else { 0.0 };
    }
    let own = class(&Prim::Binary(op), a, 1).allows(y, y.abs());
    let compared = if undecided(a, b, either) { UNKNOWN } else { 0.0 };
    match op {
        Binary::Add | Binary::Sub => either + own,
        Binary::Mul => times(a, e[1]) + times(b, e[0]) + times(e[0], e[1]) + own,
        Binary::Div => {
            let room = (b.abs() - e[1]).max(0.0);
            let flow = if either > 0.0 { (e[0] + times(y, e[1])) / room } else { 0.0 };
            if either > 0.0 && room == 0.0 { UNKNOWN } else { flow + own }
        }
        Binary::Rem => {
            // Near a multiple of b the quotient may fall on the other side.
            let steps = (a / b).abs();
            let error = either + times(steps, e[1]) + 3.0 * U * (a.abs() + b.abs());
            if (y.abs() <= error || (b.abs() - y.abs()).abs() <= error) && !(y == 0.0 && either == 0.0) {
                b.abs() + error
            } else {
                error + own
            }
        }
        Binary::Pow => {
            if !y.is_finite() || a <= 0.0 {
                return if either > 0.0 { UNKNOWN } else { own };
            }
            // exp2 has 3 + 2|t| ULP at t = b log2 a, whose own error is 2^-21 |b| or 3 ULP.
            let t = (b * a.log2()).abs();
            let flow = times(y, times(b, e[0] / a) + times(a.ln(), e[1]));
            flow + own + (5.0 * t + 4.0 * b.abs()) * U * y.abs()
        }
        Binary::Max | Binary::Min => e[0].max(e[1]),
        Binary::Lt | Binary::Le | Binary::Eq => compared,
        // A certain operand that decides makes the other irrelevant.
        Binary::And => {
            if (a == 0.0 && e[0] == 0.0) || (b == 0.0 && e[1] == 0.0) {
                0.0
            } else {
                either
            }
        }
        Binary::Or => {
            if (a != 0.0 && e[0] == 0.0) || (b != 0.0 && e[1] == 0.0) {
                0.0
            } else {
                either
            }
        }
    }
}

fn cast(from: DType, to: DType, x: f64, e: f64, y: f64) -> f64 {
    match (from.is_float(), to) {
        (true, DType::F32) => e,
        // Half a unit of 11 bits, or of 2^-24; what is near the end may become infinite.
        (_, DType::F16) if x.abs() + e < 65_504.0 => e + (x.abs() + e) * 2f64.powi(-11) + 2f64.powi(-25),
        (_, DType::F16) if x.is_finite() || e > 0.0 => UNKNOWN,
        (_, DType::F16) => 0.0,
        (true, DType::Bool) => {
            if undecided(x, 0.0, e) {
                UNKNOWN
            } else {
                0.0
            }
        }
        (true, _) => {
            if e > 0.0 && (x + e).trunc() != (x - e).trunc() {
                UNKNOWN
            } else {
                0.0
            }
        }
        // Integers of more than 24 bits are rounded.
        (false, DType::F32) => e + if y.abs() > 16_777_216.0 { U * y.abs() } else { 0.0 },
        (false, _) => e,
    }
}

/// Linear functions with nonnegative coefficients of one operand, or of the products of two: the error of each term is
/// what grows it from |a||b| to (|a| + e)(|b| + f), and the sum adds the roundings of n terms.
fn sums(node: &Node, args: &[&Approx], n: usize, y: &[f64]) -> Result<Vec<f64>> {
    if !args[0].value.ty().dtype.is_float() {
        return rerun(node, &[&args[0].errors()]);
    }
    let without: Vec<Array> = args.iter().map(|a| magnitudes(a)).collect();
    let total = rerun(node, &without.iter().collect::<Vec<_>>())?;
    let exact = args.iter().all(|a| a.error.iter().all(|&e| e == 0.0));
    let grown = if exact {
        vec![0.0; total.len()]
    } else if args.len() == 1 {
        rerun(node, &[&args[0].errors()])?
    } else {
        let with: Vec<Array> = args.iter().map(|a| magnitudes_and_errors(a)).collect();
        let with = rerun(node, &with.iter().collect::<Vec<_>>())?;
        with.iter().zip(&total).map(|(w, t)| (w - t).max(0.0)).collect()
    };
    let own = |i: usize| class(&node.prim, 0.0, n).allows(y[i], total[i]);
    // A sum that is not finite although its terms' errors are finite is certain: which infinity, or NaN.
    let settled = |i: usize| if y[i].is_finite() || !exact { grown[i] + own(i) } else { 0.0 };
    Ok((0..y.len()).map(settled).collect())
}

/// Starts of the lines along `axis`, and the distance of their elements.
fn lines(a: &Array, axis: usize) -> impl Iterator<Item = Vec<usize>> {
    let (n, inner) = (a.shape[axis], a.shape[axis + 1..].iter().product::<usize>());
    let outer: usize = a.shape[..axis].iter().product();
    (0..outer)
        .flat_map(move |o| (0..inner).map(move |i| (0..n).map(|k| (o * n + k) * inner + i).collect::<Vec<usize>>()))
}

fn argmax(axis: usize, x: &Approx, y: &[f64]) -> Vec<f64> {
    let v = x.value.to_f64();
    let line = |(at, best): (Vec<usize>, &f64)| {
        let top = at[*best as usize];
        let rival = at.iter().any(|&p| undecided(v[p], v[top], x.error[p] + x.error[top]));
        if rival { UNKNOWN } else { 0.0 }
    };
    lines(&x.value, axis).zip(y).map(line).collect()
}

fn sort(axis: usize, x: &Approx, outs: &[Array]) -> Vec<Vec<f64>> {
    let (sorted, Values::I(from)) = (outs[0].to_f64(), &outs[1].data) else { return vec![Vec::new(); 2] };
    let (mut values, mut indices) = (vec![0.0; sorted.len()], vec![0.0; sorted.len()]);
    for at in lines(&x.value, axis) {
        let worst = at.iter().map(|&p| x.error[p]).fold(0.0, f64::max);
        for (k, &p) in at.iter().enumerate() {
            values[p] = worst;
            if let Some(&next) = at.get(k + 1) {
                let error = x.error[at[from[p] as usize]] + x.error[at[from[next] as usize]];
                if undecided(sorted[p], sorted[next], error) {
                    (indices[p], indices[next]) = (UNKNOWN, UNKNOWN);
                }
            }
        }
    }
    vec![values, indices]
}
