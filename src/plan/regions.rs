//! Builds the region of a cluster of items: the operands it reads from memory, each once, and the body that says what
//! is computed from them.

use crate::dtype::Scalar;
use crate::ir::{Graph, InputKind, InputSpec, Node, NodeId, OutputKind, OutputSpec, Prim, Type, Value};
use crate::plan::items::{Arg, Base, Item, Items};
use crate::plan::{Operand, Region, RegionKind, SlotId, Source, Target};
use crate::shape::{Shape, View};
use std::collections::HashMap;

/// Items that run as one region.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    /// Which loops. For other kinds than `Pointwise`: those of the one member that is not pointwise.
    pub kind: RegionKind,
    /// The index space of the pointwise members. Theirs may be written differently; the number of elements is the same.
    pub shape: Shape,
    /// Items, ascending.
    pub members: Vec<usize>,
}

/// An argument in the index space of a cluster, or `None` if no strides express it there. The counter of a `Random` and
/// the arguments of the members that are not pointwise keep their shape.
pub(super) fn view_in(item: &Item, view: &View, shape: &Shape) -> Option<View> {
    match (&item.prim, item.kind) {
        (Some(Prim::Random { .. }), _) => Some(view.clone()),
        (_, RegionKind::Pointwise | RegionKind::Reduce) => view.reshape(shape),
        _ => Some(view.clone()),
    }
}

/// The operands that a cluster reads from outside, each once; `None` if some view does not fit the index space.
pub(super) fn operands(items: &Items, cluster: &Cluster) -> Option<Vec<(Base, View)>> {
    let mut found: Vec<(Base, View)> = Vec::new();
    for &m in &cluster.members {
        let item = &items.items[m];
        for arg in &item.args {
            let Arg::View { base, view, .. } = arg else { continue };
            if matches!(base, Base::Item(id, _) if cluster.members.binary_search(id).is_ok()) {
                continue;
            }
            let operand = (*base, view_in(item, view, &cluster.shape)?);
            if !found.contains(&operand) {
                found.push(operand);
            }
        }
    }
    Some(found)
}

/// The region of a cluster with the results `outs`, or `None` if some view does not fit its index space. `slot` names
/// memory; a result lies in the slot of its base.
pub(super) fn region(
    items: &Items,
    cluster: &Cluster,
    outs: &[(usize, u32)],
    slot: &dyn Fn(Base) -> SlotId,
) -> Option<Region> {
    let mut b = Body { graph: Graph::default(), args: Vec::new(), slot, known: HashMap::new(), consts: HashMap::new() };
    let mut values: HashMap<(usize, u32), Value> = HashMap::new();
    let looped = matches!(cluster.kind, RegionKind::Pointwise | RegionKind::Reduce);
    // Arguments of the one member that is not pointwise come first and in order, also if some are equal.
    let first = if looped { None } else { cluster.members.iter().find(|&&m| items.items[m].kind == cluster.kind) };
    if let Some(&m) = first {
        for arg in &items.items[m].args {
            if let Arg::View { base, view, dtype } = arg {
                b.operand(*base, view.clone(), Type { dtype: *dtype, shape: view.shape.clone() }, items.items[m].loc);
                b.known.clear();
            }
        }
    }
    for &m in &cluster.members {
        let item = &items.items[m];
        let pointwise = item.kind == RegionKind::Pointwise;
        let mut args = Vec::with_capacity(item.args.len());
        for (k, arg) in item.args.iter().enumerate() {
            args.push(match arg {
                Arg::Const(s, _) => b.splat(*s, &cluster.shape, item),
                Arg::View { base: Base::Item(id, out), .. } if values.contains_key(&(*id, *out)) => {
                    values[&(*id, *out)]
                }
                Arg::View { .. } if first == Some(&m) => Value { node: NodeId(k as u32), out: 0 },
                Arg::View { base, view, dtype } => {
                    let view = view_in(item, view, &cluster.shape)?;
                    let ty = Type { dtype: *dtype, shape: view.shape.clone() };
                    b.operand(*base, view, ty, item.loc)
                }
            });
        }
        if looped && item.kind == RegionKind::Concat {
            b.in_own_shape(&mut args, item);
        }
        let mut prim = item.prim.clone();
        if let Some(Prim::Random { shape, .. }) = &mut prim {
            *shape = cluster.shape.clone();
        }
        match prim {
            None => {
                values.insert((m, 0), args[0]);
            }
            Some(prim) => {
                let seen = |t: &Type| {
                    let shape = if pointwise { cluster.shape.clone() } else { t.shape.clone() };
                    Type { dtype: t.dtype, shape }
                };
                let node = b.push(prim, args, item.outs.iter().map(seen).collect(), item);
                for out in 0..item.outs.len() as u32 {
                    values.insert((m, out), Value { node, out });
                }
            }
        }
    }
    let mut targets = Vec::with_capacity(outs.len());
    for (k, at) in outs.iter().enumerate() {
        let value = *values.get(at)?;
        b.graph.outputs.push(OutputSpec { name: format!("{k}"), kind: OutputKind::Fetch, value });
        targets.push(Target { slot: slot(Base::Item(at.0, at.1)), ty: b.graph.ty(value).clone() });
    }
    let in_place = vec![None; targets.len()];
    Some(Region { kind: cluster.kind, body: b.graph, args: b.args, outs: targets, in_place })
}

struct Body<'a> {
    graph: Graph,
    args: Vec<Operand>,
    slot: &'a dyn Fn(Base) -> SlotId,
    known: HashMap<(Base, View), Value>,
    consts: HashMap<Scalar, Value>,
}

impl Body<'_> {
    fn push(&mut self, prim: Prim, args: Vec<Value>, types: Vec<Type>, item: &Item) -> NodeId {
        let node = NodeId(self.graph.nodes.len() as u32);
        self.graph.nodes.push(Node { prim, args, types, loc: item.loc });
        node
    }

    /// The body's input for a view of memory.
    fn operand(&mut self, base: Base, view: View, ty: Type, loc: crate::error::Loc) -> Value {
        if let Some(&v) = self.known.get(&(base, view.clone())) {
            return v;
        }
        let source = if base == Base::Iota { Source::Iota } else { Source::Slot((self.slot)(base)) };
        let index = self.args.len();
        let node = NodeId(self.graph.nodes.len() as u32);
        let value = Value { node, out: 0 };
        self.graph.nodes.push(Node { prim: Prim::Input { index }, args: vec![], types: vec![ty.clone()], loc });
        self.graph.inputs.push(InputSpec { name: format!("{index}"), kind: InputKind::Feed, value });
        self.args.push(Operand { source, view: view.clone(), dtype: ty.dtype });
        self.known.insert((base, view), value);
        value
    }

    /// The values that an item joins, in the shapes in which it joins them.
    fn in_own_shape(&mut self, values: &mut [Value], item: &Item) {
        for (value, arg) in values.iter_mut().zip(&item.args) {
            if self.graph.shape(*value) != arg.shape() {
                let ty = Type { dtype: arg.dtype(), shape: arg.shape().clone() };
                let node = self.push(Prim::Reshape(ty.shape.clone()), vec![*value], vec![ty], item);
                *value = Value { node, out: 0 };
            }
        }
    }

    /// A constant repeated to the index space: `Const`, `Reshape` to ones, `Broadcast`.
    fn splat(&mut self, s: Scalar, shape: &Shape, item: &Item) -> Value {
        if let Some(&v) = self.consts.get(&s) {
            return v;
        }
        let mut node = self.push(Prim::Const(s), vec![], vec![Type::new(s.dtype(), Shape::default())], item);
        let ones = Shape(vec![1; shape.len()]);
        for step in [&ones, shape] {
            if self.graph.node(node).types[0].shape != *step {
                let prim =
                    if std::ptr::eq(step, shape) { Prim::Broadcast(step.clone()) } else { Prim::Reshape(step.clone()) };
                let arg = Value { node, out: 0 };
                node = self.push(prim, vec![arg], vec![Type { dtype: s.dtype(), shape: step.clone() }], item);
            }
        }
        let v = Value { node, out: 0 };
        self.consts.insert(s, v);
        v
    }
}
