//! Removes nodes that no output needs. Inputs stay: they are the graph's signature.

use crate::ir::{Graph, Prim};
use crate::passes::Rewrite;

/// The graph without dead nodes.
pub fn dce(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.nodes.len()];
    for out in &graph.outputs {
        live[out.value.node.0 as usize] = true;
    }
    for (id, node) in graph.iter().rev() {
        if live[id.0 as usize] {
            for arg in &node.args {
                live[arg.node.0 as usize] = true;
            }
        }
    }
    let mut r = Rewrite::new(graph);
    for (id, node) in graph.iter() {
        if live[id.0 as usize] && !matches!(node.prim, Prim::Input { .. }) {
            r.copy(id);
        }
    }
    r.finish()
}
