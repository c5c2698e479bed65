//! Operands and results in f16: a product, convolution or composite that reads a value which was widened from f16 reads
//! the f16 itself, and a composite whose result is only ever rounded to f16 writes f16. The meaning stays: the conversions
//! go into the composite's body, and a product of f16 operands is that of their values. Only for backends whose kernels
//! load and store f16; for the others the conversions stay steps of their own.

use crate::dtype::DType;
use crate::ir::{Call, Graph, InputKind, InputSpec, Node, NodeId, OutputKind, OutputSpec, Prim, Type, Value};
use crate::passes::Rewrite;
use std::sync::Arc;

/// The graph with conversions from and to f16 taken into the nodes that need them. Those that nobody reads any more are
/// left to `dce`.
pub fn narrow(graph: &Graph) -> Graph {
    let rounded = only_rounded(graph);
    let mut r = Rewrite::new(graph);
    for (id, node) in graph.iter() {
        if matches!(node.prim, Prim::Input { .. }) {
            continue;
        }
        // The rounding of a result that is f16 already.
        if let (Prim::Cast(DType::F16), Some(&x)) = (&node.prim, node.args.first())
            && r.new.ty(r.get(x)).dtype == DType::F16
        {
            let v = r.get(x);
            r.set(id, vec![v]);
            continue;
        }
        if !matches!(node.prim, Prim::Dot | Prim::Conv(_) | Prim::Call(_)) {
            r.copy(id);
            continue;
        }
        let args: Vec<Value> = r.args(node).into_iter().map(|v| widened(&r.new, v).unwrap_or(v)).collect();
        let outs: Vec<bool> =
            (0..node.types.len() as u32).map(|out| rounded[id.0 as usize].get(out as usize) == Some(&true)).collect();
        let (prim, types) = match &node.prim {
            Prim::Call(call) => {
                let ins: Vec<DType> = args.iter().map(|&v| r.new.ty(v).dtype).collect();
                let call = converted(call, &ins, &outs, node);
                let types = call.body.outputs.iter().map(|o| call.body.ty(o.value).clone()).collect();
                (Prim::Call(call), types)
            }
            prim => (prim.clone(), node.types.clone()),
        };
        let count = types.len() as u32;
        let first = r.push(prim, args, types, node.loc);
        r.set(id, (0..count).map(|out| Value { node: first.node, out }).collect());
    }
    r.finish()
}

/// The f16 value that `v` is the widening of.
fn widened(graph: &Graph, v: Value) -> Option<Value> {
    let node = graph.node(v.node);
    let from = *node.args.first()?;
    (node.prim == Prim::Cast(DType::F32) && graph.ty(from).dtype == DType::F16).then_some(from)
}

/// For each result of each composite call, whether it is f32, is read, and every reader rounds it to f16.
fn only_rounded(graph: &Graph) -> Vec<Vec<bool>> {
    let mut read: Vec<Vec<bool>> = graph.nodes.iter().map(|n| vec![false; n.types.len()]).collect();
    let mut other = read.clone();
    for node in &graph.nodes {
        let rounds = node.prim == Prim::Cast(DType::F16);
        for v in &node.args {
            read[v.node.0 as usize][v.out as usize] = true;
            other[v.node.0 as usize][v.out as usize] |= !rounds;
        }
    }
    for out in &graph.outputs {
        other[out.value.node.0 as usize][out.value.out as usize] = true;
    }
    let one = |(n, node): (usize, &Node)| {
        let call = matches!(node.prim, Prim::Call(_));
        let out = |(o, t): (usize, &Type)| call && t.dtype == DType::F32 && read[n][o] && !other[n][o];
        node.types.iter().enumerate().map(out).collect()
    };
    graph.nodes.iter().enumerate().map(one).collect()
}

/// The call on arguments of these types, with the results marked in `outs` in f16.
fn converted(call: &Call, ins: &[DType], outs: &[bool], node: &Node) -> Call {
    let old = &call.body;
    let same = old.inputs.iter().zip(ins).all(|(spec, &d)| old.ty(spec.value).dtype == d);
    if same && !outs.contains(&true) {
        return call.clone();
    }
    let mut body = Graph::default();
    let mut map: Vec<NodeId> = Vec::with_capacity(old.nodes.len());
    let push = |body: &mut Graph, prim: Prim, args: Vec<Value>, types: Vec<Type>| {
        body.nodes.push(Node { prim, args, types, loc: node.loc });
        NodeId(body.nodes.len() as u32 - 1)
    };
    for inner in &old.nodes {
        let args = inner.args.iter().map(|v| Value { node: map[v.node.0 as usize], out: v.out }).collect();
        let at = match inner.prim {
            Prim::Input { index } => {
                let ty = &inner.types[0];
                let given = Type::new(ins[index], ty.shape.clone());
                let at = push(&mut body, inner.prim.clone(), args, vec![given.clone()]);
                let value = Value { node: at, out: 0 };
                body.inputs.push(InputSpec { name: format!("{index}"), kind: InputKind::Feed, value });
                match given == *ty {
                    true => at,
                    false => push(&mut body, Prim::Cast(ty.dtype), vec![value], vec![ty.clone()]),
                }
            }
            _ => push(&mut body, inner.prim.clone(), args, inner.types.clone()),
        };
        map.push(at);
    }
    // Inputs are named by their position and may have been met in another order.
    body.inputs.sort_by_key(|spec| match body.nodes[spec.value.node.0 as usize].prim {
        Prim::Input { index } => index,
        _ => usize::MAX,
    });
    for (spec, &round) in old.outputs.iter().zip(outs) {
        let mut value = Value { node: map[spec.value.node.0 as usize], out: spec.value.out };
        if round {
            let ty = Type::new(DType::F16, body.ty(value).shape.clone());
            value = Value { node: push(&mut body, Prim::Cast(DType::F16), vec![value], vec![ty]), out: 0 };
        }
        body.outputs.push(OutputSpec { name: spec.name.clone(), kind: OutputKind::Fetch, value });
    }
    Call { composite: call.composite.clone(), body: Arc::new(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::reference::{Array, Precision, eval};
    use crate::ir::{Builder, Tensor, verify};
    use crate::ops::BatchNormOptions;

    fn rounded(t: &Tensor) -> Tensor {
        t.cast(DType::F16).cast(DType::F32)
    }

    /// A product and a batch norm of rounded operands with a rounded result read and write f16, and give the same numbers.
    #[test]
    fn conversions_move_into_products_and_composites() {
        let b = Builder::new();
        let (x, w) = (b.feed("x", DType::F32, [6, 5]), b.feed("w", DType::F32, [5, 4]));
        let y = rounded(&rounded(&x).matmul(&rounded(&w)));
        let z = y.batch_norm(&BatchNormOptions { training: true, ..Default::default() }).output;
        b.output("z", OutputKind::Fetch, &rounded(&z).exp());
        let old = crate::passes::simplify(&b.build().unwrap()).unwrap();
        let new = crate::passes::simplify(&narrow(&old)).unwrap();
        verify::verify(&new, "narrow").unwrap();
        let dot = new.nodes.iter().find(|n| n.prim == Prim::Dot).unwrap();
        assert!(dot.args.iter().all(|&v| new.ty(v).dtype == DType::F16), "{new}");
        let call = new.nodes.iter().find(|n| matches!(n.prim, Prim::Call(_))).unwrap();
        assert_eq!((new.ty(call.args[0]).dtype, call.types[0].dtype), (DType::F16, DType::F16), "{new}");
        let numbers = |n: usize, k: f64| (0..n).map(|i| f64::from(((i as f64 * k).sin() * 3.0) as f32)).collect();
        let given = [Array::floats([6, 5], numbers(30, 0.7)), Array::floats([5, 4], numbers(20, 1.3))];
        let [a, b] = [&old, &new].map(|g| eval(g, &given, Precision::F32).unwrap());
        assert_eq!(a, b);
    }
}
