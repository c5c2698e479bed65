//! Passes: `Graph -> Graph`, pure. They make graphs smaller and bring them into the form that the planner expects:
//! no calls without a kernel, no `StopGrad`, no chains of views that one view expresses. They run after
//! differentiation; nothing here knows of devices beyond the questions of [`Caps`].

pub mod canon;
pub mod cse;
pub mod dce;
pub mod fold;
pub mod lower;
pub mod narrow;

use crate::error::{Loc, Result};
use crate::ir::{Graph, Node, NodeId, Prim, Type, Value, verify};
use crate::plan::{Caps, Note};

/// All passes in their order: fold canon cse dce, lower, and once more, since inlined bodies bring new chances; then, for
/// backends that read and write it, f16 into products and composites.
/// `kernels` off inlines every composite. The notes say which composites run as their bodies, and why.
pub fn run(graph: &Graph, caps: &dyn Caps, kernels: bool) -> Result<(Graph, Vec<Note>)> {
    let g = simplify(graph)?;
    let (g, notes) = lower::lower(&g, caps, kernels);
    check(&g, "lower")?;
    let g = simplify(&g)?;
    if !caps.narrows() {
        return Ok((g, notes));
    }
    let g = dce::dce(&narrow::narrow(&g));
    check(&g, "narrow")?;
    Ok((g, notes))
}

/// The passes that need no device: fold canon cse dce.
pub fn simplify(graph: &Graph) -> Result<Graph> {
    let mut g = dce::dce(graph);
    // Twice: a folded constant makes new views of constants, and a merged view new common subexpressions.
    for _ in 0..2 {
        g = fold::fold(&g);
        check(&g, "fold")?;
        g = canon::canon(&g);
        check(&g, "canon")?;
        g = cse::cse(&g);
        check(&g, "cse")?;
        g = dce::dce(&g);
        check(&g, "dce")?;
    }
    Ok(g)
}

fn check(graph: &Graph, stage: &str) -> Result<()> {
    if cfg!(debug_assertions) { verify::verify(graph, stage) } else { Ok(()) }
}

/// A graph that grows while another one is walked in order.
pub(crate) struct Rewrite<'g> {
    old: &'g Graph,
    /// The graph that grows.
    pub new: Graph,
    /// For each node of the old graph that was visited, what stands for its results in the new one.
    map: Vec<Vec<Value>>,
}

impl<'g> Rewrite<'g> {
    /// Starts with copies of all inputs, in their order, used or not: they are the graph's signature.
    pub fn new(old: &'g Graph) -> Rewrite<'g> {
        let mut r = Rewrite { old, new: Graph::default(), map: vec![Vec::new(); old.nodes.len()] };
        for spec in &old.inputs {
            let node = old.node(spec.value.node);
            let v = r.push(node.prim.clone(), vec![], node.types.clone(), node.loc);
            r.new.inputs.push(crate::ir::InputSpec { value: v, ..spec.clone() });
            r.map[spec.value.node.0 as usize] = vec![v];
        }
        r
    }

    /// Appends a node to the new graph; returns its first result.
    pub fn push(&mut self, prim: Prim, args: Vec<Value>, types: Vec<Type>, loc: Loc) -> Value {
        let node = NodeId(self.new.nodes.len() as u32);
        self.new.nodes.push(Node { prim, args, types, loc });
        Value { node, out: 0 }
    }

    /// What stands for an old value.
    pub fn get(&self, v: Value) -> Value {
        self.map[v.node.0 as usize][v.out as usize]
    }

    /// What stands for the arguments of an old node.
    pub fn args(&self, node: &Node) -> Vec<Value> {
        node.args.iter().map(|&a| self.get(a)).collect()
    }

    /// Lets `values` stand for the results of an old node.
    pub fn set(&mut self, id: NodeId, values: Vec<Value>) {
        self.map[id.0 as usize] = values;
    }

    /// Copies an old node as it is.
    pub fn copy(&mut self, id: NodeId) {
        self.copy_with(id, self.args(self.old.node(id)));
    }

    /// Copies an old node, with these arguments of the new graph.
    pub fn copy_with(&mut self, id: NodeId, args: Vec<Value>) {
        let node = self.old.node(id);
        let first = self.push(node.prim.clone(), args, node.types.clone(), node.loc);
        let all = (0..node.types.len() as u32).map(|out| Value { node: first.node, out }).collect();
        self.set(id, all);
    }

    /// The new graph, with the old one's outputs.
    pub fn finish(mut self) -> Graph {
        for out in &self.old.outputs {
            let value = self.get(out.value);
            self.new.outputs.push(crate::ir::OutputSpec { value, ..out.clone() });
        }
        self.new
    }
}
