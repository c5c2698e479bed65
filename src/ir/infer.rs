//! The type rule of every primitive: argument types -> result types, or a message that says what does not fit.

use crate::dtype::DType;
use crate::ir::graph::Type;
use crate::ir::prim::{Binary, ConvDims, Prim, ReduceOp, Unary};
use crate::shape::Shape;

/// Result types of `prim` on these arguments. `Input` and `Call` have none of their own: the builder knows theirs.
#[deny(clippy::wildcard_enum_match_arm)]
pub fn infer(prim: &Prim, args: &[&Type]) -> Result<Vec<Type>, String> {
    let one = |t: Type| Ok(vec![t]);
    if let Some(t) = args.iter().find(|t| t.dtype == DType::F16 && !takes_f16(prim)) {
        return Err(format!("does not compute on {t}, whose type is for storage; cast it to f32 first"));
    }
    match prim {
        Prim::Input { .. } | Prim::Call(_) => Err("has no type rule of its own".into()),
        Prim::Const(s) => arity(args, 0).and_then(|()| one(Type::new(s.dtype(), Shape::default()))),
        Prim::Iota { len } => arity(args, 0).and_then(|()| one(Type::new(DType::I32, [*len]))),
        Prim::Random { shape, .. } => {
            arity(args, 1)?;
            if *args[0] != Type::new(DType::U32, [4]) {
                return Err(format!("the counter must be u32[4], got {}", args[0]));
            }
            one(Type::new(DType::U32, shape.clone()))
        }
        Prim::Unary(u) => arity(args, 1).and_then(|()| unary(*u, args[0])).and_then(one),
        Prim::Binary(b) => arity(args, 2).and_then(|()| binary(*b, args[0], args[1])).and_then(one),
        Prim::Select => {
            arity(args, 3)?;
            if args[0].dtype != DType::Bool {
                return Err(format!("the condition must be bool, got {}", args[0]));
            }
            if args[1] != args[2] || args[0].shape != args[1].shape {
                return Err(format!("operands differ ({}, {}, {})", args[0], args[1], args[2]));
            }
            one(args[1].clone())
        }
        Prim::Cast(d) => arity(args, 1).and_then(|()| one(Type::new(*d, args[0].shape.clone()))),
        Prim::StopGrad => arity(args, 1).and_then(|()| one(args[0].clone())),
        Prim::After => match args.first() {
            Some(first) => one((*first).clone()),
            None => Err("needs at least one operand".into()),
        },
        Prim::Reduce { op, axes } => {
            arity(args, 1)?;
            axes_fit(args[0], axes)?;
            match op {
                ReduceOp::Sum | ReduceOp::Max | ReduceOp::Prod => not_bool(args[0])?,
            }
            one(Type::new(args[0].dtype, args[0].shape.keep_reduced(axes)))
        }
        Prim::ArgMax { axis } => {
            arity(args, 1)?;
            axes_fit(args[0], &[*axis])?;
            if args[0].shape[*axis] == 0 {
                return Err(format!("dimension {axis} of {} is empty", args[0]));
            }
            one(Type::new(DType::I32, args[0].shape.keep_reduced(&[*axis])))
        }
        Prim::CumSum { axis } => {
            arity(args, 1)?;
            axes_fit(args[0], &[*axis])?;
            not_bool(args[0])?;
            one(args[0].clone())
        }
        Prim::Sort { axis, .. } => {
            arity(args, 1)?;
            axes_fit(args[0], &[*axis])?;
            Ok(vec![args[0].clone(), Type::new(DType::I32, args[0].shape.clone())])
        }
        Prim::Reshape(s) => {
            arity(args, 1)?;
            if s.elems() != args[0].shape.elems() {
                return Err(format!("{} has {} elements, {s} has {}", args[0], args[0].shape.elems(), s.elems()));
            }
            one(Type::new(args[0].dtype, s.clone()))
        }
        Prim::Broadcast(s) => {
            arity(args, 1)?;
            let from = &args[0].shape;
            if from.len() != s.len() || from.iter().zip(s.iter()).any(|(&a, &b)| a != b && a != 1) {
                return Err(format!("{} does not broadcast to {s}", args[0]));
            }
            one(Type::new(args[0].dtype, s.clone()))
        }
        Prim::Permute(perm) => {
            arity(args, 1)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..args[0].shape.len()) {
                return Err(format!("{perm:?} is not a permutation of the dimensions of {}", args[0]));
            }
            one(Type::new(args[0].dtype, Shape(perm.iter().map(|&p| args[0].shape[p]).collect())))
        }
        Prim::Slice { start, len, step } => {
            arity(args, 1)?;
            let s = &args[0].shape;
            if [start.len(), len.len(), step.len()] != [s.len(); 3] {
                return Err(format!("needs one start, length and step per dimension of {}", args[0]));
            }
            for d in 0..s.len() {
                let end = if len[d] == 0 { start[d] } else { start[d] + (len[d] - 1) * step[d] + 1 };
                if step[d] == 0 || end > s[d] {
                    return Err(format!(
                        "{} elements from {} in steps of {} exceed dimension {d} of {}",
                        len[d], start[d], step[d], args[0]
                    ));
                }
            }
            one(Type::new(args[0].dtype, Shape(len.clone())))
        }
        Prim::Pad { lo, hi, interior, value } => {
            arity(args, 1)?;
            let s = &args[0].shape;
            if [lo.len(), hi.len(), interior.len()] != [s.len(); 3] {
                return Err(format!("needs one lo, hi and interior per dimension of {}", args[0]));
            }
            if value.dtype() != args[0].dtype {
                return Err(format!("the padding value is {}, the operand {}", value.dtype(), args[0]));
            }
            let mut out = Vec::new();
            for d in 0..s.len() {
                let inner = s[d] as i64 + s[d].saturating_sub(1) as i64 * interior[d] as i64;
                let n = inner + lo[d] + hi[d];
                if n < 0 {
                    return Err(format!(
                        "padding ({}, {}) crops more than dimension {d} of {} has",
                        lo[d], hi[d], args[0]
                    ));
                }
                out.push(n as usize);
            }
            one(Type::new(args[0].dtype, Shape(out)))
        }
        Prim::Reverse(axes) => {
            arity(args, 1)?;
            axes_fit(args[0], axes)?;
            one(args[0].clone())
        }
        Prim::Concat { axis } => {
            let first = *args.first().ok_or("needs at least one operand")?;
            axes_fit(first, &[*axis])?;
            let mut shape = first.shape.clone();
            shape.0[*axis] = 0;
            for t in args {
                if t.dtype != first.dtype
                    || t.shape.len() != first.shape.len()
                    || t.shape.without(&[*axis]) != first.shape.without(&[*axis])
                {
                    return Err(format!("operands {first} and {t} differ outside dimension {axis}"));
                }
                shape.0[*axis] += t.shape[*axis];
            }
            one(Type::new(first.dtype, shape))
        }
        Prim::Dot => arity(args, 2).and_then(|()| dot(args[0], args[1])).and_then(one),
        Prim::Conv(dims) => arity(args, 2).and_then(|()| conv(dims, args[0], args[1])).and_then(one),
        Prim::Take => {
            arity(args, 2)?;
            index_type(args[1])?;
            if args[0].shape.is_empty() || args[1].shape.len() != 1 {
                return Err(format!(
                    "needs a table of rank >= 1 and indices of rank 1, got {} and {}",
                    args[0], args[1]
                ));
            }
            let mut shape = args[0].shape.clone();
            shape.0[0] = args[1].shape[0];
            one(Type::new(args[0].dtype, shape))
        }
        Prim::ScatterAdd { rows } => {
            arity(args, 2)?;
            index_type(args[1])?;
            if args[0].shape.is_empty() || args[1].shape.len() != 1 || args[0].shape[0] != args[1].shape[0] {
                return Err(format!("needs one index per row, got {} and {}", args[0], args[1]));
            }
            let mut shape = args[0].shape.clone();
            shape.0[0] = *rows;
            one(Type::new(args[0].dtype, shape))
        }
        Prim::TakeAlong { axis } => {
            arity(args, 2)?;
            index_type(args[1])?;
            along_fits(*axis, &args[0].shape, &args[1].shape)?;
            one(Type::new(args[0].dtype, args[1].shape.clone()))
        }
        Prim::ScatterAddAlong { axis, shape } => {
            arity(args, 2)?;
            index_type(args[1])?;
            if args[0].shape != args[1].shape {
                return Err(format!("source {} and index {} differ in shape", args[0], args[1]));
            }
            along_fits(*axis, shape, &args[1].shape)?;
            one(Type::new(args[0].dtype, shape.clone()))
        }
    }
}

/// True for what takes f16: conversions, views, what only passes values on, and products, which multiply in f32.
fn takes_f16(prim: &Prim) -> bool {
    prim.is_view() || matches!(prim, Prim::Cast(_) | Prim::StopGrad | Prim::After | Prim::Dot | Prim::Conv(_))
}

fn arity(args: &[&Type], n: usize) -> Result<(), String> {
    if args.len() == n { Ok(()) } else { Err(format!("takes {n} operands, got {}", args.len())) }
}

fn not_bool(t: &Type) -> Result<(), String> {
    if t.dtype == DType::Bool { Err(format!("does not take {t}; cast it first")) } else { Ok(()) }
}

fn index_type(t: &Type) -> Result<(), String> {
    if t.dtype == DType::I32 { Ok(()) } else { Err(format!("indices must be i32, got {t}")) }
}

fn axes_fit(t: &Type, axes: &[usize]) -> Result<(), String> {
    if axes.iter().any(|&a| a >= t.shape.len()) || !axes.is_sorted_by(|a, b| a < b) {
        return Err(format!("dimensions {axes:?} are not distinct, ascending dimensions of {t}"));
    }
    Ok(())
}

fn along_fits(axis: usize, full: &Shape, index: &Shape) -> Result<(), String> {
    let fits = full.len() == index.len() && axis < full.len();
    if !fits || (0..full.len()).any(|d| d != axis && index[d] > full[d]) {
        return Err(format!("index shape {index} does not fit {full} along dimension {axis}"));
    }
    Ok(())
}

#[deny(clippy::wildcard_enum_match_arm)]
fn unary(u: Unary, t: &Type) -> Result<Type, String> {
    let float = || if t.dtype.is_float() { Ok(t.clone()) } else { Err(format!("needs floats, got {t}")) };
    match u {
        Unary::Neg | Unary::Sign | Unary::Abs => {
            if t.dtype.is_float() || t.dtype == DType::I32 {
                Ok(t.clone())
            } else {
                Err(format!("needs signed numbers, got {t}"))
            }
        }
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
        | Unary::Round => float(),
        Unary::IsFinite => float().map(|t| Type::new(DType::Bool, t.shape)),
        Unary::Not => {
            if t.dtype == DType::Bool {
                Ok(t.clone())
            } else {
                Err(format!("needs bools, got {t}"))
            }
        }
    }
}

#[deny(clippy::wildcard_enum_match_arm)]
fn binary(b: Binary, x: &Type, y: &Type) -> Result<Type, String> {
    if x != y {
        return Err(format!("operands differ ({x}, {y})"));
    }
    match b {
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Rem | Binary::Max | Binary::Min => {
            not_bool(x)?;
            Ok(x.clone())
        }
        Binary::Pow => {
            if x.dtype.is_float() {
                Ok(x.clone())
            } else {
                Err(format!("needs floats, got {x}"))
            }
        }
        Binary::Lt | Binary::Le | Binary::Eq => Ok(Type::new(DType::Bool, x.shape.clone())),
        Binary::And | Binary::Or => {
            if x.dtype == DType::Bool {
                Ok(x.clone())
            } else {
                Err(format!("needs bools, got {x}"))
            }
        }
    }
}

fn dot(a: &Type, b: &Type) -> Result<Type, String> {
    let r = a.shape.len();
    let floats = a.dtype.is_float() && b.dtype.is_float();
    if !floats || r < 2 || b.shape.len() != r || a.shape[..r - 2] != b.shape[..r - 2] {
        return Err(format!("needs floats with equal batch dimensions, got {a} and {b}"));
    }
    if a.shape[r - 1] != b.shape[r - 2] {
        return Err(format!("inner sizes differ (lhs {a}, rhs {b})"));
    }
    let mut shape = a.shape.clone();
    shape.0[r - 1] = b.shape[r - 1];
    Ok(Type::new(DType::F32, shape))
}

fn conv(dims: &ConvDims, x: &Type, w: &Type) -> Result<Type, String> {
    let spatial = x.shape.len().saturating_sub(2);
    if !x.dtype.is_float() || !w.dtype.is_float() || x.shape.len() < 3 || w.shape.len() != x.shape.len() {
        return Err(format!("needs floats of equal rank >= 3, got {x} and {w}"));
    }
    let lens = [dims.stride.len(), dims.pad.len(), dims.lhs_dilation.len(), dims.rhs_dilation.len()];
    if lens != [spatial; 4] {
        return Err(format!("needs stride, padding and dilation for {spatial} spatial dimensions"));
    }
    let g = dims.groups;
    if g == 0 || x.shape[1] != w.shape[1] * g || !w.shape[0].is_multiple_of(g) {
        return Err(format!("channels do not fit {g} groups (input {x}, weight {w})"));
    }
    let mut out = vec![x.shape[0], w.shape[0]];
    for d in 0..spatial {
        if dims.stride[d] == 0 || dims.lhs_dilation[d] == 0 || dims.rhs_dilation[d] == 0 {
            return Err("stride and dilation must be at least 1".into());
        }
        out.push(conv_out_size(x.shape[2 + d], w.shape[2 + d], dims, d).ok_or_else(|| {
            format!("the kernel of {w} is larger than the padded input {x} in spatial dimension {d}")
        })?);
    }
    Ok(Type::new(DType::F32, Shape(out)))
}

/// Output size of a convolution in one spatial dimension, or `None` if the kernel does not fit once.
pub fn conv_out_size(n: usize, k: usize, dims: &ConvDims, d: usize) -> Option<usize> {
    let dilated = if n == 0 { 0 } else { (n as i64 - 1) * dims.lhs_dilation[d] as i64 + 1 };
    let padded = dilated + dims.pad[d].0 + dims.pad[d].1;
    let reach = dims.rhs_dilation[d] as i64 * (k as i64 - 1) + 1;
    if k == 0 || padded < reach {
        return None;
    }
    Some(((padded - reach) / dims.stride[d] as i64 + 1) as usize)
}
