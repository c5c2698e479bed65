//! Replaces every call for which the backend has no kernel by its body, recursively, and notes the reasons.

use crate::ir::{Call, Graph, Prim, Type, Value};
use crate::passes::Rewrite;
use crate::plan::{Caps, Note};

/// The graph with calls left only where `caps` has a kernel, and one note per composite that could have had one.
/// With `kernels` off every call is inlined, without notes.
pub fn lower(graph: &Graph, caps: &dyn Caps, kernels: bool) -> (Graph, Vec<Note>) {
    let mut notes = Vec::new();
    let g = lower_graph(graph, caps, kernels, &mut notes);
    notes.sort();
    notes.dedup();
    (g, notes)
}

fn lower_graph(graph: &Graph, caps: &dyn Caps, kernels: bool, notes: &mut Vec<Note>) -> Graph {
    let mut r = Rewrite::new(graph);
    for (id, node) in graph.iter() {
        let Prim::Call(call) = &node.prim else {
            if !matches!(node.prim, Prim::Input { .. }) {
                r.copy(id);
            }
            continue;
        };
        if kernels {
            let types: Vec<Type> = node.args.iter().map(|&a| graph.ty(a).clone()).collect();
            match caps.kernel(call, &types) {
                Ok(()) => {
                    let args = r.args(node);
                    r.copy_with(id, read_by(call, args, &types, caps));
                    continue;
                }
                Err(reason) if reason.is_empty() || is_plain(&call.body) => {}
                Err(reason) => notes.push(Note::Inlined { op: call.composite.name().into(), reason }),
            }
        }
        let body = lower_graph(&call.body, caps, kernels, notes);
        let args = r.args(node);
        let mut map: Vec<Value> = Vec::with_capacity(body.nodes.len());
        for inner in &body.nodes {
            let at = |v: &Value| Value { node: map[v.node.0 as usize].node, out: map[v.node.0 as usize].out + v.out };
            let value = match inner.prim {
                Prim::Input { index } => args[index],
                // The location of the call: the user's source, not that of the composite.
                _ => r.push(inner.prim.clone(), inner.args.iter().map(at).collect(), inner.types.clone(), node.loc),
            };
            map.push(value);
        }
        let outs = body.outputs.iter().map(|o| {
            let base = map[o.value.node.0 as usize];
            Value { node: base.node, out: base.out + o.value.out }
        });
        let outs = outs.collect();
        r.set(id, outs);
    }
    r.finish()
}

/// The arguments, with those that the kernel does not read replaced by the last one of their type that it reads.
fn read_by(call: &Call, args: Vec<Value>, types: &[Type], caps: &dyn Caps) -> Vec<Value> {
    let reads: Vec<bool> = (0..args.len()).map(|i| caps.reads(call, types, i)).collect();
    let other = |i: usize| (0..args.len()).rev().find(|&j| reads[j] && types[j] == types[i]).unwrap_or(i);
    (0..args.len()).map(|i| if reads[i] { args[i] } else { args[other(i)] }).collect()
}

/// True for bodies that fusion makes as fast as a kernel would be: only pointwise nodes, views and calls of such bodies.
fn is_plain(body: &Graph) -> bool {
    body.nodes.iter().all(|n| match &n.prim {
        Prim::Call(c) => is_plain(&c.body),
        Prim::Input { .. } | Prim::Const(_) | Prim::Iota { .. } | Prim::Random { .. } => true,
        p => p.is_pointwise() || p.is_view(),
    })
}
