//! The reference: what every primitive means, in the plainest loops that say it, with f64 arithmetic. Everything else
//! in kiln is checked against this. Not fast, and not clever: no views, no fusion, no reuse of memory.
//!
//! Under [`Precision::F32`] the float results of each node are rounded to f32 (sums inside a node stay f64): the
//! meaning of a graph. Under [`Precision::F64`] nothing is rounded: what tolerances and gradient checks are made from.

mod array;
mod device;
mod elementwise;
mod index;
mod linalg;
mod movement;
mod reduce;

pub use array::{Array, Values};
pub use device::{Reference, gather, scatter};

use crate::dtype::Scalar;
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, Prim};
use crate::rng;
use crate::shape::Shape;
use std::rc::Rc;

/// Whether results are rounded to the element type (f32, f16) between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Float results of every node are rounded to their type.
    F32,
    /// Nothing is rounded; constants keep their f64 value.
    F64,
}

/// The outputs of `graph` (all kinds, in order) for `inputs` (in the order of the graph's inputs).
pub fn eval(graph: &Graph, inputs: &[Array], precision: Precision) -> Result<Vec<Array>> {
    if inputs.len() != graph.inputs.len() {
        let detail = format!("the graph has {} inputs, {} were given", graph.inputs.len(), inputs.len());
        return Err(Error::input("reference", detail));
    }
    for (spec, given) in graph.inputs.iter().zip(inputs) {
        if graph.ty(spec.value) != &given.ty() {
            let detail = format!("is {} in the graph, {} was given", graph.ty(spec.value), given.ty());
            return Err(Error::input(format!("input {:?}", spec.name), detail));
        }
    }
    run(graph, inputs.iter().cloned().map(Rc::new).collect(), precision)
        .map(|outs| outs.into_iter().map(|a| Rc::try_unwrap(a).unwrap_or_else(|a| (*a).clone())).collect())
}

/// Evaluates all nodes in order, dropping each value after its last use.
fn run(graph: &Graph, inputs: Vec<Rc<Array>>, precision: Precision) -> Result<Vec<Rc<Array>>> {
    let mut uses = graph.use_counts();
    let mut values: Vec<Vec<Rc<Array>>> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.iter() {
        let args: Vec<Rc<Array>> =
            node.args.iter().map(|v| values[v.node.0 as usize][v.out as usize].clone()).collect();
        let outs = match &node.prim {
            Prim::Input { index } => vec![inputs[*index].clone()],
            Prim::Call(call) => run(&call.body, args, precision)?,
            prim if uses[id.0 as usize] == 0 && !reports(prim) => Vec::new(),
            _ => {
                let args: Vec<&Array> = args.iter().map(|a| &**a).collect();
                let mut outs = apply(node, &args)?;
                if precision == Precision::F32 {
                    outs.iter_mut().for_each(Array::round);
                }
                outs.into_iter().map(Rc::new).collect()
            }
        };
        values.push(outs);
        for v in &node.args {
            let left = &mut uses[v.node.0 as usize];
            *left -= 1;
            if *left == 0 {
                values[v.node.0 as usize] = Vec::new();
            }
        }
    }
    Ok(graph.outputs.iter().map(|o| values[o.value.node.0 as usize][o.value.out as usize].clone()).collect())
}

/// True for primitives that may fail at run time; they run also if nobody uses their result.
fn reports(prim: &Prim) -> bool {
    matches!(prim, Prim::Take | Prim::ScatterAdd { .. } | Prim::TakeAlong { .. } | Prim::ScatterAddAlong { .. })
}

/// The rule of each primitive. Types were checked when the graph was built.
#[deny(clippy::wildcard_enum_match_arm)]
pub(crate) fn apply(node: &Node, args: &[&Array]) -> Result<Vec<Array>> {
    let one = |a: Array| Ok(vec![a]);
    let out_shape = || node.types[0].shape.clone();
    match &node.prim {
        Prim::Input { .. } | Prim::Call(_) => {
            Err(Error::internal("reference", format!("{} has no rule of its own", node.prim.name())))
        }
        Prim::Const(s) => one(Array::scalar(*s)),
        Prim::Iota { len } => one(Array { shape: Shape(vec![*len]), data: Values::I((0..*len as i32).collect()) }),
        Prim::Random { stream, shape } => {
            let Values::U(c) = &args[0].data else { return Err(mistyped(node)) };
            let words = rng::words([c[0], c[1], c[2], c[3]], *stream, shape.elems());
            one(Array { shape: shape.clone(), data: Values::U(words) })
        }
        Prim::Unary(u) => elementwise::unary(*u, args[0]).ok_or_else(|| mistyped(node)).and_then(one),
        Prim::Binary(b) => elementwise::binary(*b, args[0], args[1]).ok_or_else(|| mistyped(node)).and_then(one),
        Prim::Select => elementwise::select(args[0], args[1], args[2]).ok_or_else(|| mistyped(node)).and_then(one),
        Prim::Cast(dtype) => one(elementwise::cast(*dtype, args[0])),
        Prim::StopGrad | Prim::After => one(args[0].clone()),
        Prim::Reduce { op, axes } => reduce::reduce(*op, axes, args[0]).ok_or_else(|| mistyped(node)).and_then(one),
        Prim::ArgMax { axis } => one(reduce::argmax(*axis, args[0])),
        Prim::CumSum { axis } => reduce::cumsum(*axis, args[0]).ok_or_else(|| mistyped(node)).and_then(one),
        Prim::Sort { axis, descending } => Ok(reduce::sort(*axis, *descending, args[0])),
        Prim::Reshape(s) => one(Array { shape: s.clone(), data: args[0].data.clone() }),
        Prim::Broadcast(s) => one(movement::broadcast(s, args[0])),
        Prim::Permute(perm) => one(movement::permute(perm, &out_shape(), args[0])),
        Prim::Slice { start, len, step } => one(movement::slice(start, len, step, args[0])),
        Prim::Pad { lo, interior, value, .. } => one(movement::pad(lo, interior, *value, &out_shape(), args[0])),
        Prim::Reverse(axes) => one(movement::reverse(axes, args[0])),
        Prim::Concat { axis } => movement::concat(*axis, args).ok_or_else(|| mistyped(node)).and_then(one),
        Prim::Dot => linalg::dot(args[0], args[1]).ok_or_else(|| mistyped(node)).and_then(one),
        Prim::Conv(dims) => {
            linalg::conv(dims, &out_shape(), args[0], args[1]).ok_or_else(|| mistyped(node)).and_then(one)
        }
        Prim::Take => index::take(args[0], args[1]).and_then(one),
        Prim::ScatterAdd { rows } => index::scatter_add(*rows, args[0], args[1]).and_then(one),
        Prim::TakeAlong { axis } => index::take_along(*axis, args[0], args[1]).and_then(one),
        Prim::ScatterAddAlong { axis, shape } => index::scatter_add_along(*axis, shape, args[0], args[1]).and_then(one),
    }
}

fn mistyped(node: &Node) -> Error {
    let detail = format!("{} at {} was evaluated on types that its type rule forbids", node.prim.name(), node.loc);
    Error::internal("reference", detail)
}

impl Array {
    /// A scalar.
    pub fn scalar(s: Scalar) -> Array {
        let data = match s {
            Scalar::F32(x) => Values::F(vec![x]),
            Scalar::I32(x) => Values::I(vec![x]),
            Scalar::U32(x) => Values::U(vec![x]),
            Scalar::Bool(x) => Values::B(vec![u32::from(x)]),
        };
        Array { shape: Shape::default(), data }
    }
}

#[cfg(test)]
mod tests;
