//! Checks a whole graph: topological order, types by inference, inputs and outputs. Run between passes in debug builds.

use crate::error::{Error, Result};
use crate::ir::graph::{Graph, InputKind, OutputKind, Type, Value};
use crate::ir::infer::infer;
use crate::ir::prim::Prim;

/// Errors with the first node that breaks a rule of graphs. `stage` names who made the graph.
pub fn verify(graph: &Graph, stage: &str) -> Result<()> {
    let fail = |detail: String| Err(Error::internal(stage, detail));
    let known = |v: &Value, before: usize| {
        let node = v.node.0 as usize;
        node < before && (v.out as usize) < graph.nodes[node].types.len()
    };
    for (i, node) in graph.nodes.iter().enumerate() {
        if let Some(bad) = node.args.iter().find(|v| !known(v, i)) {
            return fail(format!("node %{i} ({}) uses {bad}, which is not defined before it", node.prim.name()));
        }
        let args: Vec<&Type> = node.args.iter().map(|&v| graph.ty(v)).collect();
        match &node.prim {
            Prim::Input { index } => {
                if graph.inputs.get(*index).is_none_or(|s| s.value.node.0 as usize != i) {
                    return fail(format!("node %{i} is input {index}, which the input list does not name"));
                }
            }
            Prim::Call(call) => {
                let ins: Vec<&Type> = call.body.inputs.iter().map(|s| call.body.ty(s.value)).collect();
                let outs: Vec<&Type> = call.body.outputs.iter().map(|o| call.body.ty(o.value)).collect();
                if ins != args || outs != node.types.iter().collect::<Vec<_>>() {
                    return fail(format!("node %{i} ({}) has other types than its body", node.prim.name()));
                }
            }
            prim => match infer(prim, &args) {
                Ok(types) if types == node.types => {}
                Ok(types) => {
                    return fail(format!(
                        "node %{i} ({}) has types {:?}, its rule gives {types:?}",
                        prim.name(),
                        node.types
                    ));
                }
                Err(e) => return fail(format!("node %{i} ({}): {e}", prim.name())),
            },
        }
    }
    for out in &graph.outputs {
        if !known(&out.value, graph.nodes.len()) {
            return fail(format!("output {:?} is {}, which does not exist", out.name, out.value));
        }
        let state = graph.inputs.iter().find(|s| s.name == out.name && s.kind == InputKind::State);
        if out.kind == OutputKind::State && state.is_none_or(|s| graph.ty(s.value) != graph.ty(out.value)) {
            return fail(format!("output {:?} updates a state that is missing or of another type", out.name));
        }
    }
    Ok(())
}
