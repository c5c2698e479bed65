//! Checkpointing (activation recomputation; Chen et al., arXiv 1604.06174): the backward pass computes a marked stretch
//! of the forward pass again instead of reading its intermediate values from memory, which are thus needed only for a
//! moment. A stretch is a range of nodes of the builder; the sweep of `pull_back` takes it as one unit.

use crate::grad::{accumulate, pull_back};
use crate::ir::{Builder, Node, NodeId, Prim, Tensor, Value};
use std::collections::HashMap;
use std::ops::Range;

/// Runs `f`, and lets derivatives compute again what it appends to the graph of `builder`: of all its values only those
/// that later operations read are kept from the forward to the backward pass. As `torch.utils.checkpoint`, but nothing
/// has to be passed in: whatever `f` captures (parameters, random streams) is found, random numbers are drawn again with
/// the same bits, and state is updated once. The values of derivatives do not change.
///
/// ```
/// use kiln::grad::{checkpoint, grad};
/// use kiln::{Builder, DType};
/// let b = Builder::new();
/// let x = b.feed("x", DType::F32, [8]);
/// let y = checkpoint(&b, || x.exp().sin().exp()); // the backward pass reads x alone
/// let g = grad(&y.sum(&[], false), &[&x]);
/// assert_eq!(g[0].shape(), x.shape());
/// ```
pub fn checkpoint<T>(builder: &Builder, f: impl FnOnce() -> T) -> T {
    let from = builder.len();
    let result = f();
    builder.mark_checkpoint(from..builder.len());
    result
}

/// The outermost stretches within `nodes` whose inner values nobody asks the cotangents of, in order.
pub(super) fn stretches(builder: &Builder, nodes: Range<usize>, wanted: &HashMap<Value, usize>) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let asked = |r: &Range<usize>| {
        let inner = |v: &Value| r.contains(&(v.node.0 as usize)) && !is_input(builder, v.node);
        wanted.keys().any(inner)
    };
    // They are marked when they end, inner ones before those around them.
    for range in builder.checkpoints().into_iter().rev() {
        let within = nodes.start <= range.start && range.end <= nodes.end;
        if within && !found.iter().any(|r| r.start <= range.start && range.end <= r.end) && !asked(&range) {
            found.push(range);
        }
    }
    found.sort_by_key(|r| r.start);
    found
}

fn is_input(builder: &Builder, node: NodeId) -> bool {
    builder.with_graph(|g| matches!(g.node(node).prim, Prim::Input { .. }))
}

/// Sends the cotangents of the values of `stretch` on to the values it reads, by way of a second copy of its nodes,
/// which waits for those cotangents. `reached` says which values' cotangents matter.
pub(super) fn pull_back_again(
    builder: &Builder,
    stretch: Range<usize>,
    cots: &mut HashMap<Value, Tensor>,
    reached: &dyn Fn(&Value) -> bool,
) {
    let inner = |v: &Value| stretch.contains(&(v.node.0 as usize)) && !is_input(builder, v.node);
    let mut outs: Vec<Value> = cots.keys().filter(|v| inner(v)).copied().collect();
    outs.sort();
    let cotangents: Vec<Tensor> = outs.iter().filter_map(|v| cots.get(v).cloned()).collect();
    if outs.is_empty() {
        return;
    }
    // What the stretch reads, in the order in which it does, as values that wait.
    let mut again: HashMap<Value, Tensor> = HashMap::new();
    let mut read: Vec<(Value, Tensor)> = Vec::new();
    let nodes: Vec<(usize, Node)> = stretch.clone().map(|n| (n, builder.node(NodeId(n as u32)))).collect();
    for (_, node) in &nodes {
        for v in node.args.iter().filter(|v| !inner(v)) {
            if !again.contains_key(v) {
                let late = builder.located(node.loc, || after(builder, *v, &cotangents));
                again.insert(*v, late.clone());
                read.push((*v, late));
            }
        }
    }
    let floor = builder.len();
    let mut at = HashMap::new();
    for (n, node) in nodes {
        at.insert(n, builder.len());
        if matches!(node.prim, Prim::Input { .. }) {
            continue;
        }
        let args = node.args.iter().map(|v| again[v].value()).collect();
        for (out, t) in builder.append(node.prim, args, node.types, node.loc).into_iter().enumerate() {
            again.insert(Value { node: NodeId(n as u32), out: out as u32 }, t);
        }
    }
    at.insert(stretch.end, builder.len());
    builder.round_alike(|v| again.get(&v).filter(|_| inner(&v)).map(Tensor::value));
    // A checkpoint within this one is one in its copy, too.
    for r in builder.checkpoints() {
        if stretch.start <= r.start && r.end <= stretch.end && r != stretch {
            builder.mark_checkpoint(at[&r.start]..at[&r.end]);
        }
    }
    let copies: Vec<Tensor> = outs.iter().map(|v| again[v].clone()).collect();
    let cotangents: Vec<Option<Tensor>> = cotangents.into_iter().map(Some).collect();
    let wrt: Vec<&Tensor> = read.iter().map(|(_, late)| late).collect();
    let needs: Vec<bool> = read.iter().map(|(v, t)| reached(v) && t.dtype().is_float()).collect();
    let grads = pull_back(builder, floor, &copies, &cotangents, &wrt, &needs);
    for ((v, _), g) in read.iter().zip(grads) {
        if let Some(g) = g {
            accumulate(cots, *v, g);
        }
    }
}

/// The value, for whoever is to wait for `others`. Constants need not wait.
fn after(builder: &Builder, v: Value, others: &[Tensor]) -> Tensor {
    let value = builder.tensor(v);
    if builder.with_graph(|g| matches!(g.node(v.node).prim, Prim::Const(_) | Prim::Iota { .. })) {
        return value;
    }
    let args: Vec<&Tensor> = std::iter::once(&value).chain(others).collect();
    builder.apply(Prim::After, &args)
}
