//! The generated hole of `pointwise`, of reduction prologues and of epilogues: a DAG of pointwise nodes as WGSL lines.

use crate::dtype::{DType, Scalar};
use crate::ir::{Binary, Graph, NodeId, Prim, Unary, Value};
use std::collections::HashMap;
use std::fmt::Write;

/// The WGSL type of a value inside an expression (a bool is a bool there, and f16 an f32).
pub fn value_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 => "f32",
        DType::I32 => "i32",
        DType::U32 => "u32",
        DType::Bool => "bool",
    }
}

/// A constant as WGSL text.
pub fn literal(s: Scalar) -> String {
    match s {
        Scalar::F32(x) => {
            let x = x as f32;
            if x.is_normal() || x.to_bits() == 0 { format!("{x:?}f") } else { format!("from_bits({}u)", x.to_bits()) }
        }
        Scalar::I32(x) => format!("i32({}u)", x as u32),
        Scalar::U32(x) => format!("{x}u"),
        Scalar::Bool(x) => format!("{x}"),
    }
}

/// A memory word `word` of storage type as a value of this type.
pub fn load(dtype: DType, word: &str) -> String {
    match dtype {
        DType::Bool => format!("({word} != 0u)"),
        DType::F16 => format!("f32({word})"),
        DType::F32 | DType::I32 | DType::U32 => word.to_string(),
    }
}

/// A value of this type as a memory word of its storage type. An f16 was rounded when it was made.
pub fn store(dtype: DType, value: &str) -> String {
    match dtype {
        DType::Bool => format!("u32({value})"),
        DType::F16 => format!("f16({value})"),
        DType::F32 | DType::I32 | DType::U32 => value.to_string(),
    }
}

/// One `let` line per pointwise node that is needed for `wanted` and not bound yet. `bound` holds the names of known
/// values (arguments, an accumulator) and receives those of the new ones.
pub fn lines(graph: &Graph, bound: &mut HashMap<Value, String>, wanted: &[Value]) -> Result<String, String> {
    let mut needed = vec![false; graph.nodes.len()];
    let mut stack: Vec<Value> = wanted.to_vec();
    while let Some(v) = stack.pop() {
        let at = v.node.0 as usize;
        if bound.contains_key(&v) || needed[at] {
            continue;
        }
        needed[at] = true;
        stack.extend(&graph.nodes[at].args);
    }
    let mut text = String::new();
    for (id, node) in graph.iter().filter(|(id, _)| needed[id.0 as usize]) {
        let value = Value { node: id, out: 0 };
        let args: Vec<&str> = node.args.iter().filter_map(|v| bound.get(v).map(String::as_str)).collect();
        if args.len() != node.args.len() {
            return Err(format!("{} uses a value that is not pointwise", node.prim.name()));
        }
        let name = match &node.prim {
            Prim::Const(s) => literal(*s),
            Prim::Broadcast(_) | Prim::Reshape(_) if is_const(graph, node.args[0]) => args[0].to_string(),
            Prim::StopGrad => args[0].to_string(),
            prim => {
                let from = node.args.first().map_or(DType::F32, |&v| graph.ty(v).dtype);
                let text_of = expression(prim, from, &args)?;
                let _ = writeln!(text, "    let v{}: {} = {text_of};", id.0, value_type(node.types[0].dtype));
                format!("v{}", id.0)
            }
        };
        bound.insert(value, name);
    }
    Ok(text)
}

/// Number of nodes that compute something: operations per element.
pub fn cost(graph: &Graph) -> u64 {
    graph.nodes.iter().filter(|n| n.prim.is_pointwise()).count() as u64
}

/// True if this is a constant, or a repeated one.
fn is_const(graph: &Graph, v: Value) -> bool {
    match graph.node(v.node).prim {
        Prim::Const(_) => true,
        Prim::Broadcast(_) | Prim::Reshape(_) => is_const(graph, graph.node(v.node).args[0]),
        _ => false,
    }
}

fn expression(prim: &Prim, from: DType, a: &[&str]) -> Result<String, String> {
    Ok(match prim {
        Prim::Unary(u) => unary(*u, from, a[0]),
        Prim::Binary(b) => binary(*b, from, a[0], a[1]),
        Prim::Select => format!("select({}, {}, {})", a[2], a[1], a[0]),
        Prim::Cast(to) => cast(from, *to, a[0]),
        other => return Err(format!("{} is not pointwise", other.name())),
    })
}

fn unary(u: Unary, from: DType, x: &str) -> String {
    match (u, from) {
        (Unary::Neg, _) => format!("-({x})"),
        (Unary::Exp, _) => format!("exp_({x})"),
        (Unary::Expm1, _) => format!("expm1_({x})"),
        (Unary::Log, _) => format!("log_({x})"),
        (Unary::Log1p, _) => format!("log1p_({x})"),
        (Unary::Sqrt, _) => format!("sqrt({x})"),
        (Unary::Recip, _) => format!("1.0 / ({x})"),
        (Unary::Sin, _) => format!("sin_({x})"),
        (Unary::Cos, _) => format!("cos_({x})"),
        (Unary::Tanh, _) => format!("tanh_({x})"),
        (Unary::Erf, _) => format!("erf_({x})"),
        (Unary::Floor, _) => format!("floor({x})"),
        (Unary::Round, _) => format!("round({x})"),
        (Unary::Sign, DType::F32) => format!("sign_({x})"),
        (Unary::Sign, DType::I32) => format!("sign({x})"),
        (Unary::Sign, _) => format!("min({x}, 1u)"),
        (Unary::Abs, DType::F32) => format!("from_bits(bitcast<u32>({x}) & 0x7fffffffu)"),
        (Unary::Abs, _) => format!("abs({x})"),
        (Unary::IsFinite, _) => format!("is_finite({x})"),
        (Unary::Not, _) => format!("!({x})"),
    }
}

fn binary(b: Binary, from: DType, x: &str, y: &str) -> String {
    let float = from == DType::F32;
    match b {
        Binary::Add => format!("{x} + {y}"),
        Binary::Sub => format!("{x} - {y}"),
        // Compilers make 0 of a product with a constant zero, also of infinity's and NaN's.
        Binary::Mul if float && is_zero(y) => format!("times_zero({x}, bitcast<u32>({y}))"),
        Binary::Mul if float && is_zero(x) => format!("times_zero({y}, bitcast<u32>({x}))"),
        Binary::Mul => format!("{x} * {y}"),
        // SPIR-V leaves a quotient with a constant zero undefined, and Mesa makes it 0.
        Binary::Div if float && y == "0.0f" => format!("{x} * inf()"),
        Binary::Div if float => format!("{x} / {y}"),
        Binary::Div => format!("div_{from}({x}, {y})"),
        Binary::Rem if float => format!("rem_({x}, {y})"),
        Binary::Rem => format!("rem_{from}({x}, {y})"),
        Binary::Pow => format!("pow_({x}, {y})"),
        Binary::Max if float => format!("max_nan({x}, {y})"),
        Binary::Min if float => format!("min_nan({x}, {y})"),
        Binary::Max if from == DType::Bool => format!("{x} || {y}"),
        Binary::Min if from == DType::Bool => format!("{x} && {y}"),
        Binary::Max => format!("max({x}, {y})"),
        Binary::Min => format!("min({x}, {y})"),
        Binary::Lt if from == DType::Bool => format!("!({x}) && {y}"),
        Binary::Le if from == DType::Bool => format!("!({x}) || {y}"),
        Binary::Lt => format!("{x} < {y}"),
        Binary::Le => format!("{x} <= {y}"),
        Binary::Eq => format!("{x} == {y}"),
        Binary::And => format!("{x} && {y}"),
        Binary::Or => format!("{x} || {y}"),
    }
}

/// True for the [`literal`] of a zero of either sign.
fn is_zero(text: &str) -> bool {
    text == literal(Scalar::F32(0.0)) || text == literal(Scalar::F32(-0.0))
}

fn cast(from: DType, to: DType, x: &str) -> String {
    // Inside an expression f16 is an f32 that was rounded.
    let from = if from == DType::F16 { DType::F32 } else { from };
    match (from, to) {
        _ if from == to => x.to_string(),
        (DType::F32, DType::F16) => format!("half_({x})"),
        (_, DType::F16) => format!("half_(f32({x}))"),
        (DType::F32, DType::I32) => format!("to_i32({x})"),
        (DType::F32, DType::U32) => format!("to_u32({x})"),
        (DType::F32, DType::Bool) => format!("(bitcast<u32>({x}) & 0x7fffffffu) != 0u"),
        (DType::I32, DType::Bool) => format!("{x} != 0"),
        (DType::U32, DType::Bool) => format!("{x} != 0u"),
        (_, to) => format!("{}({x})", value_type(to)),
    }
}

/// The node that a value comes from, if it is this graph's input number `.0`.
pub fn input_of(graph: &Graph, node: NodeId) -> Option<usize> {
    match graph.node(node).prim {
        Prim::Input { index } => Some(index),
        _ => None,
    }
}
