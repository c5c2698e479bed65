//! Items: what is left of a graph when views are absorbed. Every node that computes becomes an item whose arguments are
//! strided views of inputs, of other items or of the integers (`Iota`), or constants. A view that strides cannot
//! express, and what a single-node region cannot read (constants, integers), becomes a copy item.

use crate::dtype::{DType, Scalar};
use crate::error::{Error, Loc, Result};
use crate::ir::{Graph, InputKind, OutputKind, Prim, Type, Value};
use crate::plan::RegionKind;
use crate::shape::{Shape, View};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What a view looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Base {
    /// The integers.
    Iota,
    /// An input of the graph.
    Input(usize),
    /// A result of an item.
    Item(usize, u32),
}

/// An argument of an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Arg {
    /// A constant, repeated to this shape.
    Const(Scalar, Shape),
    /// A view.
    View { base: Base, view: View, dtype: DType },
}

impl Arg {
    /// Its shape.
    pub fn shape(&self) -> &Shape {
        match self {
            Arg::Const(_, s) => s,
            Arg::View { view, .. } => &view.shape,
        }
    }
    /// Its element type.
    pub fn dtype(&self) -> DType {
        match self {
            Arg::Const(s, _) => s.dtype(),
            Arg::View { dtype, .. } => *dtype,
        }
    }
    /// The item that it is a result of.
    pub fn item(&self) -> Option<usize> {
        match self {
            Arg::View { base: Base::Item(p, _), .. } => Some(*p),
            _ => None,
        }
    }
}

/// A computation: one primitive, or a copy.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// `None` for a copy of the only argument.
    pub prim: Option<Prim>,
    /// Which loops it needs.
    pub kind: RegionKind,
    /// What it reads.
    pub args: Vec<Arg>,
    /// Types of its results.
    pub outs: Vec<Type>,
    /// The index space of its loops: for a `Reduce` that of its argument, else that of its (first) result.
    pub shape: Shape,
    /// Items that must be computed before it although it does not read them (`Prim::After`).
    pub after: BTreeSet<usize>,
    /// Where the user's source made it.
    pub loc: Loc,
    /// Made by the planner for one region alone, which computes a value again instead of reading it.
    pub copied: bool,
}

impl Item {
    /// Lets it read, and wait for, other items in the place of those it did.
    pub fn redirect(&mut self, to: impl Fn(usize) -> usize) {
        for arg in &mut self.args {
            if let Arg::View { base: Base::Item(p, _), .. } = arg {
                *p = to(*p);
            }
        }
        self.after = self.after.iter().map(|&p| to(p)).collect();
    }

    /// The items that it reads or waits for.
    pub fn sources(&self) -> impl Iterator<Item = usize> {
        self.reads().chain(self.after.iter().copied())
    }

    /// The items that it reads.
    pub fn reads(&self) -> impl Iterator<Item = usize> {
        self.args.iter().filter_map(Arg::item)
    }
}

/// A graph as items, in topological order.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub items: Vec<Item>,
    /// For each output of the graph, the item result that holds it densely; `None` for a state that keeps its value.
    pub outputs: Vec<Option<(usize, u32)>>,
}

/// Turns a graph into items.
pub(super) fn items(graph: &Graph) -> Result<Items> {
    let mut b = ItemBuilder { out: Items::default(), copies: HashMap::new() };
    let mut values: Vec<Vec<Arg>> = Vec::with_capacity(graph.nodes.len());
    // For each node, the items that whoever reads it as a view must wait for.
    let mut waits: Vec<BTreeSet<usize>> = Vec::with_capacity(graph.nodes.len());
    let whole = |base, ty: &Type| Arg::View { base, view: View::contiguous(&ty.shape), dtype: ty.dtype };
    for node in &graph.nodes {
        let arg = |v: &Value| values[v.node.0 as usize][v.out as usize].clone();
        let mut after: BTreeSet<usize> = node.args.iter().flat_map(|v| &waits[v.node.0 as usize]).copied().collect();
        if matches!(node.prim, Prim::After) {
            after.extend(node.args[1..].iter().filter_map(|v| arg(v).item()));
        }
        let results = match &node.prim {
            Prim::Input { index } => vec![whole(Base::Input(*index), &node.types[0])],
            Prim::Const(s) => vec![Arg::Const(*s, Shape::default())],
            Prim::Iota { .. } => vec![whole(Base::Iota, &node.types[0])],
            Prim::StopGrad | Prim::After => vec![arg(&node.args[0])],
            p if p.is_view() => vec![b.view(p, arg(&node.args[0]), &node.types[0].shape, node.loc)],
            p => {
                let Some(kind) = kind(p) else {
                    return Err(Error::internal("plan", format!("{} cannot be a region", p.name())));
                };
                let mut args: Vec<Arg> = node.args.iter().map(arg).collect();
                let loops = matches!(kind, RegionKind::Pointwise | RegionKind::Reduce);
                if !loops || matches!(p, Prim::Random { .. }) {
                    args = args.into_iter().map(|a| b.in_memory(a, node.loc)).collect();
                }
                let shape =
                    if kind == RegionKind::Reduce { args[0].shape().clone() } else { node.types[0].shape.clone() };
                let types = node.types.clone();
                let id = b.push(Item {
                    prim: Some(p.clone()),
                    kind,
                    args,
                    outs: types,
                    shape,
                    after: std::mem::take(&mut after),
                    loc: node.loc,
                    copied: false,
                });
                node.types.iter().enumerate().map(|(out, t)| whole(Base::Item(id, out as u32), t)).collect()
            }
        };
        values.push(results);
        waits.push(after);
    }
    let mut states = HashSet::new();
    for out in &graph.outputs {
        let arg = values[out.value.node.0 as usize][out.value.out as usize].clone();
        let loc = graph.node(out.value.node).loc;
        if out.kind == OutputKind::State && b.keeps(graph, &out.name, &arg) {
            b.out.outputs.push(None);
            continue;
        }
        let mut dense = b.dense(&arg);
        if out.kind == OutputKind::State {
            // Each state has memory of its own: the second one that takes the same value takes a copy.
            dense = dense.filter(|d| states.insert(*d));
        }
        let at = match dense {
            Some(at) => at,
            None => (b.copy(arg, loc), 0),
        };
        b.out.outputs.push(Some(at));
    }
    Ok(b.out)
}

/// Which region kind a primitive needs; `None` for those that are no computation.
fn kind(prim: &Prim) -> Option<RegionKind> {
    Some(match prim {
        Prim::Random { .. } | Prim::Unary(_) | Prim::Binary(_) | Prim::Select | Prim::Cast(_) => RegionKind::Pointwise,
        Prim::Reduce { .. } => RegionKind::Reduce,
        Prim::ArgMax { .. } => RegionKind::ArgMax,
        Prim::CumSum { .. } => RegionKind::CumSum,
        Prim::Sort { .. } => RegionKind::Sort,
        Prim::Pad { .. } => RegionKind::Pad,
        Prim::Concat { .. } => RegionKind::Concat,
        Prim::Dot => RegionKind::Dot,
        Prim::Conv(_) => RegionKind::Conv,
        Prim::Take => RegionKind::Take,
        Prim::ScatterAdd { .. } => RegionKind::ScatterAdd,
        Prim::TakeAlong { .. } => RegionKind::TakeAlong,
        Prim::ScatterAddAlong { .. } => RegionKind::ScatterAddAlong,
        Prim::Call(_) => RegionKind::Fused,
        Prim::Input { .. } | Prim::Const(_) | Prim::Iota { .. } | Prim::StopGrad | Prim::After => return None,
        Prim::Reshape(_) | Prim::Broadcast(_) | Prim::Permute(_) | Prim::Slice { .. } | Prim::Reverse(_) => {
            return None;
        }
    })
}

struct ItemBuilder {
    out: Items,
    copies: HashMap<Arg, usize>,
}

impl ItemBuilder {
    fn push(&mut self, item: Item) -> usize {
        self.out.items.push(item);
        self.out.items.len() - 1
    }

    /// The item that writes `arg` densely; made once per argument.
    fn copy(&mut self, arg: Arg, loc: Loc) -> usize {
        if let Some(&id) = self.copies.get(&arg) {
            return id;
        }
        let shape = arg.shape().clone();
        let outs = vec![Type { dtype: arg.dtype(), shape: shape.clone() }];
        self.copies.insert(arg.clone(), self.out.items.len());
        self.push(Item {
            prim: None,
            kind: RegionKind::Pointwise,
            args: vec![arg],
            outs,
            shape,
            after: BTreeSet::new(),
            loc,
            copied: false,
        })
    }

    /// `arg` as a view of memory: constants become one element, repeated by stride 0; integers are written out.
    fn in_memory(&mut self, arg: Arg, loc: Loc) -> Arg {
        let dtype = arg.dtype();
        match arg {
            Arg::Const(s, shape) => {
                let id = self.copy(Arg::Const(s, Shape::default()), loc);
                let view = View { strides: vec![0; shape.len()], shape, offset: 0 };
                Arg::View { base: Base::Item(id, 0), view, dtype }
            }
            Arg::View { base: Base::Iota, ref view, .. } => {
                let view = View::contiguous(&view.shape);
                Arg::View { base: Base::Item(self.copy(arg, loc), 0), view, dtype }
            }
            memory => memory,
        }
    }

    /// `arg` seen through a view primitive.
    fn view(&mut self, prim: &Prim, arg: Arg, shape: &Shape, loc: Loc) -> Arg {
        let (base, view, dtype) = match arg {
            Arg::Const(s, _) => return Arg::Const(s, shape.clone()),
            Arg::View { base, view, dtype } => (base, view, dtype),
        };
        let through = match prim {
            Prim::Reshape(s) => view.reshape(s),
            Prim::Broadcast(s) => Some(view.broadcast(s)),
            Prim::Permute(p) => Some(view.permute(p)),
            Prim::Slice { start, len, step } => Some(view.slice(start, len, step)),
            Prim::Reverse(axes) => Some(view.reverse(axes)),
            _ => None,
        };
        match through {
            Some(view) => Arg::View { base, view, dtype },
            None => {
                let id = self.copy(Arg::View { base, view, dtype }, loc);
                Arg::View { base: Base::Item(id, 0), view: View::contiguous(shape), dtype }
            }
        }
    }

    /// The item result of which `arg` is the whole, in order.
    fn dense(&self, arg: &Arg) -> Option<(usize, u32)> {
        match arg {
            Arg::View { base: Base::Item(id, out), view, .. } => {
                let elems = self.out.items[*id].outs[*out as usize].shape.elems();
                view.is_identity(elems).then_some((*id, *out))
            }
            _ => None,
        }
    }

    /// True if `arg` is the old value of the state of this name.
    fn keeps(&self, graph: &Graph, state: &str, arg: &Arg) -> bool {
        match arg {
            Arg::View { base: Base::Input(k), view, .. } => {
                let spec = &graph.inputs[*k];
                spec.kind == InputKind::State && spec.name == state && view.is_identity(graph.shape(spec.value).elems())
            }
            _ => false,
        }
    }
}
