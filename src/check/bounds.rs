//! Error bounds by propagation: a graph becomes one that also computes, for every output, how far a correct f32
//! implementation may lie from the exact (f64) result, element by element.
//!
//! Each primitive has the rule of first-order error analysis: what its arguments' errors become, plus its own rounding
//! (u = 2^-23, since WGSL may round either way; sums of K terms K*u*sum|x|; elementary functions as WGSL specifies or
//! as kiln's own versions promise). The rules are sound for any order of summation. Where a decision hangs on an inexact
//! value (a comparison, floor, argmax) the bound is the size of the jump, so tolerances open only at discontinuities.
//!
//! The bound graph is evaluated by the reference in f64. It is not differentiable and never runs on a device.

use crate::dtype::{DType, Scalar};
use crate::error::Result;
use crate::ir::{Binary, Builder, Graph, OutputKind, Prim, ReduceOp, Tensor, Unary};

/// One unit of rounding in f32, either way.
const U: f64 = 1.1920928955078125e-7;
/// What may vanish when subnormal numbers are flushed.
const TINY: f64 = 1.1754943508222875e-38;
/// Stands for "no bound": larger than any tolerance, small enough to stay finite in products.
const UNKNOWN: f64 = 1e30;

/// The graph with an output `bound.<name>` (f32, same shape) after each output. Calls must have been inlined.
pub fn bounds(graph: &Graph) -> Result<Graph> {
    let b = Builder::new();
    let mut map: Vec<Vec<Pair>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let args: Vec<Pair> = node.args.iter().map(|v| map[v.node.0 as usize][v.out as usize].clone()).collect();
        let values = match &node.prim {
            Prim::Input { index } => {
                let spec = &graph.inputs[*index];
                vec![b.input(spec.name.clone(), spec.kind.clone(), node.types[0].clone())]
            }
            p => b.append(p.clone(), args.iter().map(|a| a.value.value()).collect(), node.types.clone(), node.loc),
        };
        let errors = rule(&b, &node.prim, &args, &values);
        let pair = |(value, error): (Tensor, Option<Tensor>)| Pair { value, error };
        map.push(values.into_iter().zip(errors).map(pair).collect());
    }
    for out in &graph.outputs {
        let pair = &map[out.value.node.0 as usize][out.value.out as usize];
        b.output(out.name.clone(), OutputKind::Fetch, &pair.value);
        let error = pair.error.clone().unwrap_or_else(|| b.full(pair.value.shape(), 0.0));
        b.output(format!("bound.{}", out.name), OutputKind::Fetch, &error);
    }
    b.build()
}

/// A value and its error bound; `None` for exact values.
#[derive(Clone)]
struct Pair {
    value: Tensor,
    error: Option<Tensor>,
}

impl Pair {
    fn error(&self) -> Tensor {
        self.error.clone().unwrap_or_else(|| self.value.builder().full(self.value.shape(), 0.0))
    }
    /// |x| + error.
    fn reach(&self) -> Tensor {
        let x = if self.value.dtype() == DType::F16 { self.value.cast(DType::F32) } else { self.value.clone() }.abs();
        self.error.as_ref().map_or(x.clone(), |e| &x + e)
    }
}

/// `k` rounding units of `y`, and what flushing may take.
fn ulps(y: &Tensor, k: f64) -> Tensor {
    y.abs() * (k * U) + TINY
}

fn unknown(y: &Tensor) -> Tensor {
    y.builder().full(y.shape(), UNKNOWN)
}

/// Bools as 0.0 and 1.0.
fn float(c: &Tensor) -> Tensor {
    c.cast(DType::F32)
}

/// The error bounds of a primitive's results.
#[deny(clippy::wildcard_enum_match_arm)]
fn rule(b: &Builder, prim: &Prim, args: &[Pair], out: &[Tensor]) -> Vec<Option<Tensor>> {
    let y = &out[0];
    let exact = args.iter().all(|a| a.error.is_none());
    // An index that may be another one: anything may come out.
    let loose_index = |k: usize| args.get(k).is_some_and(|a| a.error.is_some());
    let linear = |f: &dyn Fn(&Tensor) -> Tensor| vec![args[0].error.as_ref().map(f)];
    let same = |e: &Tensor| b.apply(prim.clone(), &[e]);
    match prim {
        Prim::Input { .. } | Prim::Iota { .. } | Prim::Random { .. } => vec![None],
        Prim::Const(Scalar::F32(x)) if (*x as f32) as f64 == *x => vec![None],
        Prim::Const(Scalar::F32(_)) => vec![Some(ulps(y, 1.0))],
        Prim::Const(_) => vec![None],
        Prim::Unary(u) => vec![unary(*u, &args[0], y)],
        Prim::Binary(op) => vec![binary(*op, &args[0], &args[1], y)],
        Prim::Select => {
            let chosen = args[0].value.select(&args[1].error(), &args[2].error());
            let jump = args[0].error.as_ref().map(|c| {
                let gap = float_of(&args[1].value) - float_of(&args[2].value);
                c * (gap.abs() + args[1].error() + args[2].error())
            });
            vec![if exact { None } else { Some(jump.map_or(chosen.clone(), |j| &chosen + j)) }]
        }
        Prim::Cast(to) => vec![cast(*to, &args[0], y)],
        Prim::StopGrad | Prim::After => vec![args[0].error.clone()],
        Prim::Reduce { op, axes } => vec![reduce(*op, axes, &args[0], y)],
        Prim::ArgMax { .. } => vec![(!exact).then(|| unknown(y))],
        Prim::CumSum { .. } if !y.dtype().is_float() => vec![(!exact).then(|| unknown(y))],
        Prim::CumSum { axis } => {
            let n = y.shape()[*axis] as f64;
            let own = args[0].reach().cumsum(*axis as isize) * (n * U) + TINY;
            let inner = args[0].error.as_ref().map(|e| e.cumsum(*axis as isize));
            vec![Some(inner.map_or(own.clone(), |e| e + own))]
        }
        // Sorting is 1-Lipschitz in the largest error along the axis; positions may change when values do.
        Prim::Sort { axis, .. } => {
            let worst = args[0].error.as_ref().map(|e| e.amax(&[*axis as isize], true).broadcast_to(y.shape()));
            vec![worst, (!exact).then(|| unknown(&out[1]))]
        }
        Prim::Reshape(_) | Prim::Broadcast(_) | Prim::Permute(_) | Prim::Slice { .. } | Prim::Reverse(_) => {
            linear(&same)
        }
        Prim::Pad { lo, hi, interior, .. } => linear(&|e| e.pad_interior(lo, hi, interior, 0.0)),
        Prim::Concat { axis } => {
            let errors: Vec<Tensor> = args.iter().map(Pair::error).collect();
            vec![(!exact).then(|| b.apply(Prim::Concat { axis: *axis }, &errors.iter().collect::<Vec<_>>()))]
        }
        Prim::Dot => vec![Some(bilinear(prim, &args[0], &args[1], args[0].value.size(-1)))],
        Prim::Conv(_) => {
            let terms = args[1].value.shape().iter().skip(1).product();
            vec![Some(bilinear(prim, &args[0], &args[1], terms))]
        }
        Prim::Take | Prim::TakeAlong { .. } => {
            let moved = args[0].error.as_ref().map(|e| b.apply(prim.clone(), &[e, &args[1].value]));
            vec![if loose_index(1) { Some(unknown(y)) } else { moved }]
        }
        Prim::ScatterAdd { .. } | Prim::ScatterAddAlong { .. } => {
            if loose_index(1) {
                return vec![Some(unknown(y))];
            }
            if !y.dtype().is_float() {
                return vec![None];
            }
            // At most all rows meet in one place.
            let terms = args[1].value.elems().max(1) as f64;
            let per = args[0].error() + args[0].reach() * (terms * U);
            vec![Some(b.apply(prim.clone(), &[&per, &args[1].value]) + TINY)]
        }
        Prim::Call(_) => out.iter().map(|y| Some(unknown(y))).collect(),
    }
}

fn float_of(x: &Tensor) -> Tensor {
    x.cast(DType::F32)
}

/// |A|E_b + E_a|B| + E_a E_b + (K + 2) u |A||B|, each product by the same primitive on absolute values.
fn bilinear(prim: &Prim, a: &Pair, c: &Pair, terms: usize) -> Tensor {
    let apply = |x: &Tensor, w: &Tensor| x.builder().apply(prim.clone(), &[x, w]);
    let own = apply(&a.reach(), &c.reach()) * ((terms + 2) as f64 * U) + TINY;
    let left = a.error.as_ref().map(|e| apply(e, &c.reach()));
    let right = c.error.as_ref().map(|e| apply(&a.value.abs(), e));
    [left, right].into_iter().flatten().fold(own, |sum, e| sum + e)
}

#[deny(clippy::wildcard_enum_match_arm)]
fn unary(u: Unary, x: &Pair, y: &Tensor) -> Option<Tensor> {
    let v = &x.value;
    let e = x.error();
    let exact = x.error.is_none();
    // The largest |f'| within the error, times the error, plus the function's own error.
    let with = |slope: Tensor, own: Tensor| Some(slope * &e + own);
    let lipschitz = |own: Tensor| Some(&e + own);
    match u {
        Unary::Neg | Unary::Abs => x.error.clone(),
        // e^x (e^E - 1); WGSL allows (3 + 2|x|) ulp.
        Unary::Exp => with_exp(v, &e, y),
        Unary::Expm1 => with_exp(v, &e, &v.exp()),
        // |ln(1 + E/x)| <= E / (|x| - E); 3 ulp and 2^-21 near 1.
        Unary::Log => with(inverse(&room(v, &e)), ulps(y, 4.0) + 4.8e-7),
        Unary::Log1p => with(inverse(&room(&(v + 1.0), &e)), ulps(y, 8.0) + ulps(v, 8.0)),
        // 1 / (2 sqrt(x - E))
        Unary::Sqrt => {
            let slope = inverse(&room(v, &e).sqrt()) * 0.5;
            if exact { Some(ulps(y, 5.0)) } else { with(slope, ulps(y, 5.0)) }
        }
        // E / (x (|x| - E))
        Unary::Recip => {
            let slope = inverse(&(v.abs() * room(v, &e)));
            if exact { Some(ulps(y, 3.0)) } else { with(slope, ulps(y, 3.0)) }
        }
        Unary::Sin | Unary::Cos => lipschitz(ulps(y, 8.0) + 5e-7 + ulps(v, 1.0)),
        Unary::Tanh => lipschitz(ulps(y, 8.0) + 1e-6),
        // |erf'| <= 2/sqrt(pi)
        Unary::Erf => with(y.like(1.13), ulps(y, 8.0) + 2e-6),
        // One more where an integer (for round: a half) lies within the error.
        Unary::Floor | Unary::Round => (!exact).then(|| {
            let at = if u == Unary::Floor { v.clone() } else { v + 0.5 };
            let gap = (&at - at.round()).abs();
            float(&gap.le(&(&e + 1e-30))) + e.floor()
        }),
        Unary::Sign => (!exact).then(|| float(&float_of(v).abs().le(&e)) * 2.0),
        Unary::IsFinite => None,
        Unary::Not => x.error.clone(),
    }
}

/// The error of e^x for an argument that is off by `e`.
fn with_exp(v: &Tensor, e: &Tensor, exp: &Tensor) -> Option<Tensor> {
    let own = (v.abs() * 2.0 + 4.0) * exp.abs() * U + TINY;
    Some(exp.abs() * e.minimum(&e.like(50.0)).expm1() + own)
}

/// |x| - E, and nothing where the error reaches zero.
fn room(x: &Tensor, e: &Tensor) -> Tensor {
    (x.abs() - e).maximum(&x.like(0.0))
}

/// 1/x, and no bound at zero.
fn inverse(x: &Tensor) -> Tensor {
    x.maximum(&x.like(1.0 / UNKNOWN)).reciprocal()
}

#[deny(clippy::wildcard_enum_match_arm)]
fn binary(op: Binary, a: &Pair, c: &Pair, y: &Tensor) -> Option<Tensor> {
    let exact = a.error.is_none() && c.error.is_none();
    if !a.value.dtype().is_float() {
        let is_bool = y.dtype() == DType::Bool;
        return (!exact).then(|| if is_bool { y.builder().full(y.shape(), 1.0) } else { unknown(y) });
    }
    let (ea, ec) = (a.error(), c.error());
    let sum = &ea + &ec;
    match op {
        Binary::Add | Binary::Sub => Some(&sum + ulps(y, 1.0)),
        Binary::Mul => {
            let cross = &ea * c.reach() + a.value.abs() * &ec;
            Some(cross + ulps(y, 1.0))
        }
        // (E_a + |a/c| E_c) / (|c| - E_c)
        Binary::Div => {
            let own = ulps(y, 3.0);
            if exact {
                return Some(own);
            }
            Some((ea + y.abs() * &ec) * inverse(&room(&c.value, &ec)) + own)
        }
        Binary::Max | Binary::Min => (!exact).then(|| ea.maximum(&ec)),
        // Where a/b is near an integer the remainder may jump by |b|.
        Binary::Rem => {
            let ratio = &a.value / &c.value;
            let gap = (&ratio - ratio.round()).abs();
            let near =
                float(&gap.le(&(&sum * inverse(&c.value.abs()) * (ratio.abs() + 2.0) + ratio.abs() * (4.0 * U))));
            Some(near * c.value.abs() + &ea + (ratio.abs() + 1.0) * &ec + ulps(&a.value, 4.0))
        }
        // y = e^(b ln a): relative error |b| E_a/(|a| - E_a) + |ln a| E_b, and that of exp and log.
        Binary::Pow => {
            let log = a.value.abs().maximum(&y.like(1e-30)).log().abs();
            let own = ulps(y, 16.0) * ((&c.value.abs()) * &log + 1.0);
            if exact {
                return Some(own);
            }
            let relative = c.reach() * &ea * inverse(&room(&a.value, &ea)) + log * &ec;
            Some(y.abs() * relative.minimum(&y.like(50.0)).expm1() + own)
        }
        Binary::Lt | Binary::Le | Binary::Eq => (!exact).then(|| float(&(&a.value - &c.value).abs().le(&sum))),
        Binary::And | Binary::Or => (!exact).then(|| ea.maximum(&ec)),
    }
}

fn cast(to: DType, x: &Pair, y: &Tensor) -> Option<Tensor> {
    match (x.value.dtype(), to) {
        // Half a unit of 11 bits, or of 2^-24; what is near the end may become infinite.
        (DType::F32, DType::F16) => {
            let reach = x.reach();
            let error = x.error() + &reach * 2f64.powi(-11) + 2f64.powi(-25);
            Some(reach.ge(&reach.like(65_504.0)).select(&reach.like(UNKNOWN), &error))
        }
        (DType::F32, DType::I32 | DType::U32) => x.error.as_ref().map(|e| {
            let gap = (&x.value - x.value.round()).abs();
            float(&gap.le(e)) + e.floor()
        }),
        (DType::F32, DType::Bool) => x.error.as_ref().map(|e| float(&x.value.abs().le(e))),
        (DType::I32 | DType::U32, DType::F32) => Some(x.error() + ulps(y, 1.0)),
        (_, DType::Bool) => x.error.as_ref().map(|_| y.builder().full(y.shape(), 1.0)),
        _ => x.error.clone(),
    }
}

#[deny(clippy::wildcard_enum_match_arm)]
fn reduce(op: ReduceOp, axes: &[usize], x: &Pair, y: &Tensor) -> Option<Tensor> {
    if !y.dtype().is_float() {
        return x.error.as_ref().map(|_| unknown(y));
    }
    let fold = |op: ReduceOp, t: &Tensor| t.builder().apply(Prim::Reduce { op, axes: axes.to_vec() }, &[t]);
    let n: usize = axes.iter().map(|&a| x.value.shape()[a]).product();
    match op {
        ReduceOp::Sum => {
            let own = fold(ReduceOp::Sum, &x.reach()) * (n as f64 * U) + TINY;
            Some(x.error.as_ref().map_or(own.clone(), |e| fold(ReduceOp::Sum, e) + own))
        }
        // prod(|x| + E) - prod|x| + n u prod(|x| + E)
        ReduceOp::Prod => {
            let reach = fold(ReduceOp::Prod, &x.reach());
            Some((&reach - fold(ReduceOp::Prod, &x.value.abs())).abs() + reach * (n as f64 * U) + TINY)
        }
        ReduceOp::Max => {
            let zero = |e: &Tensor| fold(ReduceOp::Max, e).maximum(&y.like(0.0));
            x.error.as_ref().map(zero)
        }
    }
}

/// Every call replaced by its body, recursively: the form that [`bounds`] takes.
pub fn inlined(graph: &Graph) -> Graph {
    let caps = crate::backend::reference::Reference::new();
    crate::passes::lower::lower(graph, &caps, false).0
}

/// True for a bound that says nothing.
pub fn is_unbounded(bound: f64) -> bool {
    !(bound < UNKNOWN.sqrt())
}
