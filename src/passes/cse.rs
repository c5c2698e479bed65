//! Common subexpressions: nodes with the same primitive, attributes, arguments and types are computed once. Random
//! numbers too: they are functions of their counter.

use crate::ir::{Graph, Prim, Type, Value};
use crate::passes::Rewrite;
use std::collections::HashMap;

/// The graph with equal nodes merged.
pub fn cse(graph: &Graph) -> Graph {
    type Key = (String, String, Vec<Value>, Vec<Type>);
    let mut seen: HashMap<Key, Vec<Value>> = HashMap::new();
    let mut r = Rewrite::new(graph);
    for (id, node) in graph.iter() {
        if matches!(node.prim, Prim::Input { .. }) {
            continue;
        }
        let key = (node.prim.name(), node.prim.attrs(), r.args(node), node.types.clone());
        if let Some(values) = seen.get(&key) {
            r.set(id, values.clone());
            continue;
        }
        r.copy(id);
        let values = (0..node.types.len() as u32).map(|out| r.get(Value { node: id, out })).collect();
        seen.insert(key, values);
    }
    r.finish()
}
