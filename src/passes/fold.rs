//! Constants: pointwise operations on scalar constants (also repeated ones) are computed here, and operations that
//! change nothing are removed, only where that is exact for every input, NaN and -0.0 included.

use crate::dtype::{DType, Scalar};
use crate::ir::{Binary, Graph, Node, Prim, Type, Unary, Value};
use crate::passes::Rewrite;
use crate::shape::Shape;

/// The graph with constant expressions computed and neutral operations removed.
pub fn fold(graph: &Graph) -> Graph {
    let mut r = Rewrite::new(graph);
    // The constant that every element of a node's (first) result is equal to.
    let mut known: Vec<Option<Scalar>> = vec![None; graph.nodes.len()];
    for (id, node) in graph.iter() {
        let values: Vec<Option<Scalar>> = node.args.iter().map(|a| known[a.node.0 as usize]).collect();
        let arg = |k: usize| values.get(k).copied().flatten();
        let value = match &node.prim {
            Prim::Input { .. } => continue,
            Prim::Const(s) => Some(*s),
            p if p.is_view() => arg(0),
            p if p.is_pointwise() => constant(node, &arg),
            _ => None,
        };
        known[id.0 as usize] = value;
        if let Some(s) = value
            && node.prim.is_pointwise()
        {
            let v = splat(&mut r, s, node);
            r.set(id, vec![v]);
            continue;
        }
        match neutral(node, &arg) {
            Some(k) => {
                let v = r.get(node.args[k]);
                r.set(id, vec![v]);
            }
            None => r.copy(id),
        }
    }
    r.finish()
}

/// `s` repeated to the shape of `node`'s result.
pub(super) fn splat(r: &mut Rewrite, s: Scalar, node: &Node) -> Value {
    let shape = &node.types[0].shape;
    let mut v = r.push(Prim::Const(s), vec![], vec![Type::new(s.dtype(), Shape::default())], node.loc);
    if !shape.is_empty() {
        let ones = Shape(vec![1; shape.len()]);
        v = r.push(Prim::Reshape(ones.clone()), vec![v], vec![Type::new(s.dtype(), ones.clone())], node.loc);
        if ones != *shape {
            v = r.push(Prim::Broadcast(shape.clone()), vec![v], vec![Type::new(s.dtype(), shape.clone())], node.loc);
        }
    }
    v
}

/// The argument that the node is equal to, if it is.
fn neutral(node: &Node, arg: &dyn Fn(usize) -> Option<Scalar>) -> Option<usize> {
    let is = |k: usize, x: f64| match arg(k) {
        // By bits: x + 0.0 turns -0.0 into 0.0, x + -0.0 does not.
        Some(Scalar::F32(y)) => y.to_bits() == x.to_bits(),
        Some(Scalar::I32(y)) => y as f64 == x,
        Some(Scalar::U32(y)) => y as f64 == x,
        Some(Scalar::Bool(_)) | None => false,
    };
    let is_bool = |k: usize, x: bool| arg(k) == Some(Scalar::Bool(x));
    let float = node.types[0].dtype.is_float();
    let add_zero = if float { -0.0 } else { 0.0 };
    match node.prim {
        Prim::Binary(Binary::Add) if is(1, add_zero) => Some(0),
        Prim::Binary(Binary::Add) if is(0, add_zero) => Some(1),
        Prim::Binary(Binary::Sub) if is(1, 0.0) => Some(0),
        Prim::Binary(Binary::Mul) if is(1, 1.0) => Some(0),
        Prim::Binary(Binary::Mul) if is(0, 1.0) => Some(1),
        Prim::Binary(Binary::Div | Binary::Pow) if is(1, 1.0) => Some(0),
        Prim::Binary(Binary::And) if is_bool(1, true) => Some(0),
        Prim::Binary(Binary::And) if is_bool(0, true) => Some(1),
        Prim::Binary(Binary::Or) if is_bool(1, false) => Some(0),
        Prim::Binary(Binary::Or) if is_bool(0, false) => Some(1),
        Prim::Select if is_bool(0, true) => Some(1),
        Prim::Select if is_bool(0, false) => Some(2),
        Prim::Select if node.args[1] == node.args[2] => Some(1),
        _ => None,
    }
}

/// The value of a pointwise node on constants, where both f32 and f64 agree on it up to rounding.
fn constant(node: &Node, arg: &dyn Fn(usize) -> Option<Scalar>) -> Option<Scalar> {
    let out = node.types[0].dtype;
    let s = match (&node.prim, arg(0)?) {
        (Prim::StopGrad, x) => x,
        // There are no constants in f16.
        (Prim::Cast(d), _) if *d == DType::F16 => return None,
        (Prim::Cast(d), x) => cast(x, *d),
        (Prim::Unary(u), x) => unary(*u, x)?,
        (Prim::Binary(b), x) => binary(*b, x, arg(1)?)?,
        (Prim::Select, Scalar::Bool(c)) => {
            let (t, f) = (arg(1)?, arg(2)?);
            if c { t } else { f }
        }
        _ => return None,
    };
    // What overflows or vanishes in f32 is left to the device, which computes it step by step.
    let odd = matches!(s, Scalar::F32(x) if x.is_finite() && x != 0.0 && !(x as f32).is_normal());
    (s.dtype() == out && !odd).then_some(s)
}

fn cast(x: Scalar, to: DType) -> Scalar {
    match (x, to) {
        (Scalar::F32(x), DType::I32) => Scalar::I32((x as f32) as i32),
        (Scalar::F32(x), DType::U32) => Scalar::U32((x as f32) as u32),
        (Scalar::I32(x), DType::U32) => Scalar::U32(x as u32),
        (Scalar::U32(x), DType::I32) => Scalar::I32(x as i32),
        (x, d) if x.dtype() == d => x,
        (Scalar::I32(x), DType::F32) => Scalar::F32((x as f32) as f64),
        (Scalar::U32(x), DType::F32) => Scalar::F32((x as f32) as f64),
        (x, d) => Scalar::of(d, x.as_f64()),
    }
}

fn unary(u: Unary, x: Scalar) -> Option<Scalar> {
    Some(match (u, x) {
        (Unary::Neg, Scalar::F32(x)) => Scalar::F32(-x),
        (Unary::Neg, Scalar::I32(x)) => Scalar::I32(x.wrapping_neg()),
        (Unary::Abs, Scalar::F32(x)) => Scalar::F32(x.abs()),
        (Unary::Exp, Scalar::F32(x)) => Scalar::F32(x.exp()),
        (Unary::Log, Scalar::F32(x)) if x > 0.0 => Scalar::F32(x.ln()),
        (Unary::Sqrt, Scalar::F32(x)) if x >= 0.0 => Scalar::F32(x.sqrt()),
        (Unary::Recip, Scalar::F32(x)) if x != 0.0 => Scalar::F32(1.0 / x),
        (Unary::IsFinite, Scalar::F32(x)) => Scalar::Bool((x as f32).is_finite()),
        (Unary::Not, Scalar::Bool(x)) => Scalar::Bool(!x),
        _ => return None,
    })
}

fn binary(b: Binary, x: Scalar, y: Scalar) -> Option<Scalar> {
    Some(match (x, y) {
        (Scalar::F32(x), Scalar::F32(y)) => match b {
            Binary::Add => Scalar::F32(x + y),
            Binary::Sub => Scalar::F32(x - y),
            Binary::Mul => Scalar::F32(x * y),
            Binary::Div if y != 0.0 => Scalar::F32(x / y),
            Binary::Lt => Scalar::Bool((x as f32) < (y as f32)),
            Binary::Le => Scalar::Bool((x as f32) <= (y as f32)),
            Binary::Eq => Scalar::Bool((x as f32) == (y as f32)),
            _ => return None,
        },
        (Scalar::I32(x), Scalar::I32(y)) => match b {
            Binary::Add => Scalar::I32(x.wrapping_add(y)),
            Binary::Sub => Scalar::I32(x.wrapping_sub(y)),
            Binary::Mul => Scalar::I32(x.wrapping_mul(y)),
            Binary::Lt => Scalar::Bool(x < y),
            Binary::Le => Scalar::Bool(x <= y),
            Binary::Eq => Scalar::Bool(x == y),
            _ => return None,
        },
        (Scalar::Bool(x), Scalar::Bool(y)) => match b {
            Binary::And => Scalar::Bool(x && y),
            Binary::Or => Scalar::Bool(x || y),
            Binary::Eq => Scalar::Bool(x == y),
            _ => return None,
        },
        _ => return None,
    })
}
