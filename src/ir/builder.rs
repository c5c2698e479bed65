//! The builder appends nodes to a graph and hands out `Tensor`s, cheap handles on their values.
//!
//! Building never panics and needs no `?`: the builder keeps the first error, with the caller's location, every later
//! operation does nothing, and [`Builder::build`] returns the error. The tensor methods themselves live in `ops/`.

use crate::dtype::{DType, Scalar};
use crate::error::{Error, Loc, Result};
use crate::ir::graph::{Graph, InputKind, InputSpec, Node, NodeId, OutputKind, OutputSpec, Type, Value};
use crate::ir::infer::infer;
use crate::ir::prim::{Call, Prim};
use crate::ops::Composite;
use crate::shape::Shape;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Default)]
struct Inner {
    graph: Graph,
    error: Option<Error>,
    /// If set, the location of every node that is appended.
    site: Option<Loc>,
    /// Stretches of nodes that derivatives compute again, in the order in which they ended.
    checkpoints: Vec<Range<usize>>,
    /// Whether what is appended is rounded to f16 where that pays; and what stands for the values that were.
    half: bool,
    rounded: HashMap<Value, Value>,
}

/// A graph under construction. Clones share it.
#[derive(Clone, Default)]
pub struct Builder {
    inner: Rc<RefCell<Inner>>,
}

/// A value of a graph under construction: a cheap handle, not data.
#[derive(Clone)]
pub struct Tensor {
    builder: Builder,
    value: Value,
    ty: Rc<Type>,
}

/// What a tensor refers to after the builder met an error.
const POISON: Value = Value { node: NodeId(u32::MAX), out: 0 };

impl Builder {
    /// An empty graph.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// A new input. Its name must be unique.
    #[track_caller]
    pub fn input(&self, name: impl Into<String>, kind: InputKind, ty: Type) -> Tensor {
        let (name, loc) = (name.into(), Location::caller());
        if self.inner.borrow().graph.inputs.iter().any(|i| i.name == name) {
            return self.fail("input", format!("there is an input named {name:?} already"), loc, &ty);
        }
        let index = self.inner.borrow().graph.inputs.len();
        let t = self.append(Prim::Input { index }, vec![], vec![ty], loc).remove(0);
        if self.is_ok() {
            self.inner.borrow_mut().graph.inputs.push(InputSpec { name, kind, value: t.value });
        }
        t
    }

    /// An input that is given at each run.
    #[track_caller]
    pub fn feed(&self, name: impl Into<String>, dtype: DType, shape: impl Into<Shape>) -> Tensor {
        self.input(name, InputKind::Feed, Type::new(dtype, shape))
    }

    /// An input that lives in a store under `name`.
    #[track_caller]
    pub fn state(&self, name: impl Into<String>, dtype: DType, shape: impl Into<Shape>) -> Tensor {
        self.input(name, InputKind::State, Type::new(dtype, shape))
    }

    /// A scalar constant.
    #[track_caller]
    pub fn constant(&self, s: Scalar) -> Tensor {
        self.apply(Prim::Const(s), &[])
    }

    /// A constant float repeated to `shape`.
    #[track_caller]
    pub fn full(&self, shape: impl Into<Shape>, x: f64) -> Tensor {
        self.constant(Scalar::F32(x)).broadcast_to(shape)
    }

    /// `i32[len]`: 0, 1, .., len-1.
    #[track_caller]
    pub fn iota(&self, len: usize) -> Tensor {
        self.apply(Prim::Iota { len }, &[])
    }

    /// Declares an output.
    #[track_caller]
    pub fn output(&self, name: impl Into<String>, kind: OutputKind, t: &Tensor) {
        let (name, loc) = (name.into(), Location::caller());
        if !self.is_ok() {
            return;
        }
        if !self.owns(t) {
            self.set_error("output", "the tensor belongs to another graph", loc);
            return;
        }
        let mut inner = self.inner.borrow_mut();
        if inner.graph.outputs.iter().any(|o| o.name == name && o.kind == kind) {
            drop(inner);
            return self.set_error("output", &format!("there is an output named {name:?} already"), loc);
        }
        if kind == OutputKind::State {
            let state = inner.graph.inputs.iter().find(|i| i.name == name && i.kind == InputKind::State);
            let wrong = match state {
                None => Some(format!("there is no state named {name:?}")),
                Some(i) if inner.graph.ty(i.value) != &*t.ty => {
                    Some(format!("state {name:?} is {}, the new value {}", inner.graph.ty(i.value), t.ty))
                }
                Some(_) => None,
            };
            if let Some(detail) = wrong {
                drop(inner);
                return self.set_error("output", &detail, loc);
            }
        }
        inner.graph.outputs.push(OutputSpec { name, kind, value: t.value });
    }

    /// Appends a primitive with one result.
    #[track_caller]
    pub fn apply(&self, prim: Prim, args: &[&Tensor]) -> Tensor {
        self.apply_multi(prim, args).remove(0)
    }

    /// Appends a primitive; one tensor per result (at least one, also after an error).
    #[track_caller]
    pub fn apply_multi(&self, prim: Prim, args: &[&Tensor]) -> Vec<Tensor> {
        self.apply_at(prim, args, Location::caller())
    }

    /// As [`Builder::apply_multi`], for a caller that has the user's location.
    pub fn apply_at(&self, prim: Prim, args: &[&Tensor], loc: Loc) -> Vec<Tensor> {
        let hint = args.first().map_or_else(|| Type::new(DType::F32, Shape::default()), |t| (*t.ty).clone());
        if !self.is_ok() {
            let count = if matches!(prim, Prim::Sort { .. }) { 2 } else { 1 };
            return vec![self.poison(&hint); count];
        }
        if let Some(stray) = args.iter().find(|t| !self.owns(t)) {
            let detail = format!("operand {} belongs to another graph", stray.ty);
            return vec![self.fail(&prim.name(), detail, loc, &hint); 2];
        }
        let half = matches!(prim, Prim::Dot | Prim::Conv(_)) && self.inner.borrow().half;
        let own: Vec<Tensor> = args.iter().map(|&t| if half { self.rounded(t, loc) } else { t.clone() }).collect();
        let types: Vec<&Type> = own.iter().map(|t| &*t.ty).collect();
        match infer(&prim, &types) {
            Ok(out) => {
                let out = self.append(prim, own.iter().map(|t| t.value).collect(), out, loc);
                if half { out.iter().map(|t| self.rounded(t, loc)).collect() } else { out }
            }
            Err(detail) => vec![self.fail(&prim.name(), detail, loc, &hint); 2],
        }
    }

    /// Appends a call of a composite. Its result types are those of its body, which is built here for these arguments.
    #[track_caller]
    pub fn call(&self, composite: impl Composite, args: &[&Tensor]) -> Vec<Tensor> {
        self.call_arc(Arc::new(composite), args, Location::caller())
    }

    /// As [`Builder::call`], for a caller that has the composite shared and the user's location.
    pub fn call_arc(&self, composite: Arc<dyn Composite>, args: &[&Tensor], loc: Loc) -> Vec<Tensor> {
        let hint = args.first().map_or_else(|| Type::new(DType::F32, Shape::default()), |t| (*t.ty).clone());
        let count = composite.outputs();
        if !self.is_ok() {
            return vec![self.poison(&hint); count];
        }
        if args.iter().any(|t| !self.owns(t)) {
            return vec![self.fail(composite.name(), "an operand belongs to another graph", loc, &hint); count];
        }
        let (round_args, round_outs) =
            if self.inner.borrow().half { composite.rounds_to_f16() } else { (&[][..], &[][..]) };
        let own = |(i, t): (usize, &&Tensor)| match round_args.contains(&i) {
            true => self.rounded(t, loc),
            false => (*t).clone(),
        };
        let args: Vec<Tensor> = args.iter().enumerate().map(own).collect();
        let inner = Builder::new();
        let inputs: Vec<Tensor> = args
            .iter()
            .enumerate()
            .map(|(i, t)| inner.input(format!("{i}"), InputKind::Feed, (*t.ty).clone()))
            .collect();
        let outs = composite.body(&inner, &inputs);
        for (i, t) in outs.iter().enumerate() {
            inner.output(format!("{i}"), OutputKind::Fetch, t);
        }
        let body = match inner.build() {
            Ok(body) => body,
            Err(Error::Graph { op, detail, .. }) => {
                let detail = if op == composite.name() { detail } else { format!("{op}: {detail}") };
                return vec![self.fail(composite.name(), detail, loc, &hint); count];
            }
            Err(e) => return vec![self.fail(composite.name(), e.to_string(), loc, &hint); count],
        };
        if body.outputs.len() != count {
            let detail = format!("the body gives {} results, outputs() says {count}", body.outputs.len());
            return vec![self.fail(composite.name(), detail, loc, &hint); count];
        }
        let types = body.outputs.iter().map(|o| body.ty(o.value).clone()).collect();
        let prim = Prim::Call(Call { composite, body: Arc::new(body) });
        let mut outs = self.append(prim, args.iter().map(|t| t.value).collect(), types, loc);
        for &o in round_outs {
            outs[o] = self.rounded(&outs[o], loc);
        }
        outs
    }

    /// Appends copies of all nodes of `graph`, with `args` in the place of its inputs; returns its outputs.
    pub fn inline(&self, graph: &Graph, args: &[Tensor]) -> Vec<Tensor> {
        let mut map: Vec<Vec<Tensor>> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            if let Prim::Input { index } = node.prim {
                map.push(vec![args[index].clone()]);
                continue;
            }
            let values = node.args.iter().map(|v| map[v.node.0 as usize][v.out as usize].value).collect();
            if self.is_ok() {
                map.push(self.append(node.prim.clone(), values, node.types.clone(), node.loc));
            } else {
                map.push(node.types.iter().map(|t| self.poison(t)).collect());
            }
        }
        graph.outputs.iter().map(|o| map[o.value.node.0 as usize][o.value.out as usize].clone()).collect()
    }

    /// Appends a node whose types are known, without inference: for passes, which copy nodes from graph to graph.
    pub fn append(&self, prim: Prim, args: Vec<Value>, types: Vec<Type>, loc: Loc) -> Vec<Tensor> {
        if !self.is_ok() {
            return types.iter().map(|t| self.poison(t)).collect();
        }
        let mut inner = self.inner.borrow_mut();
        let loc = inner.site.unwrap_or(loc);
        let node = NodeId(inner.graph.nodes.len() as u32);
        inner.graph.nodes.push(Node { prim, args, types: types.clone(), loc });
        drop(inner);
        let handle =
            |(out, ty)| Tensor { builder: self.clone(), value: Value { node, out: out as u32 }, ty: Rc::new(ty) };
        types.into_iter().enumerate().map(handle).collect()
    }

    /// Runs `f` in mixed precision, if `half`: operands and results of products and convolutions that it appends are rounded
    /// to f16, and those of composites that say so ([`Composite::rounds_to_f16`]). All types stay f32, so that nothing else
    /// changes: the plan stores, and kernels read and write, the f16. Derivatives are rounded at the same places, whether
    /// or not they are built inside. As `torch.autocast`, whose rules for f16 these are.
    pub fn autocast<R>(&self, half: bool, f: impl FnOnce() -> R) -> R {
        let outer = std::mem::replace(&mut self.inner.borrow_mut().half, half);
        let result = f();
        self.inner.borrow_mut().half = outer;
        result
    }

    /// `t` rounded to f16, as f32: what reads it can read the f16. The same tensor for the same one, and `t` itself if it is
    /// rounded already or holds no floats.
    fn rounded(&self, t: &Tensor, loc: Loc) -> Tensor {
        if t.dtype() != DType::F32 || !self.is_ok() {
            return t.clone();
        }
        let node = self.node(t.value.node);
        // A view is rounded by rounding what it looks at: it then is a view of f16, and not a copy. Not so a slice, which may
        // be a small part of it.
        let through = node.prim.is_view() && !matches!(node.prim, Prim::Slice { .. });
        let known = self.inner.borrow().rounded.get(&t.value).copied();
        let value = match known {
            Some(value) => return self.tensor(value),
            None if self.is_rounded(t.value) => return t.clone(),
            None if through => {
                let base = self.rounded(&self.tensor(node.args[0]), loc);
                self.append(node.prim, vec![base.value], node.types, loc)
            }
            None => {
                let half =
                    self.append(Prim::Cast(DType::F16), vec![t.value], vec![Type::new(DType::F16, t.shape())], loc);
                self.append(Prim::Cast(DType::F32), vec![half[0].value], vec![(*t.ty).clone()], loc)
            }
        };
        self.inner.borrow_mut().rounded.insert(t.value, value[0].value);
        value[0].clone()
    }

    /// `t`, or what stands for it rounded to f16, where it was.
    pub(crate) fn kept(&self, t: &Tensor) -> Tensor {
        let known = self.inner.borrow().rounded.get(&t.value).copied();
        known.map_or_else(|| t.clone(), |v| self.tensor(v))
    }

    /// Lets copies of values that were rounded know the copies of what stands for them; `copy` gives a value's.
    pub(crate) fn round_alike(&self, copy: impl Fn(Value) -> Option<Value>) {
        let known = self.inner.borrow().rounded.clone();
        let copies = known.into_iter().filter_map(|(v, r)| Some((copy(v)?, copy(r)?)));
        let copies: Vec<_> = copies.collect();
        self.inner.borrow_mut().rounded.extend(copies);
    }

    /// True for f16 widened to f32, and for views of it.
    fn is_rounded(&self, v: Value) -> bool {
        let node = self.node(v.node);
        match (&node.prim, node.args.first()) {
            (Prim::Cast(DType::F32), Some(&x)) => self.tensor(x).dtype() == DType::F16,
            (p, Some(&x)) if p.is_view() => self.is_rounded(x),
            _ => false,
        }
    }

    /// Runs `f`; what it appends is located at `loc`. For transformations whose nodes stem from a node of the user's.
    pub fn located<R>(&self, loc: Loc, f: impl FnOnce() -> R) -> R {
        let outer = self.inner.borrow_mut().site.replace(loc);
        let result = f();
        self.inner.borrow_mut().site = outer;
        result
    }

    /// Lets derivatives compute these nodes again instead of keeping their values (`grad::checkpoint`).
    pub(crate) fn mark_checkpoint(&self, nodes: Range<usize>) {
        if self.is_ok() && !nodes.is_empty() {
            self.inner.borrow_mut().checkpoints.push(nodes);
        }
    }

    /// What was marked so far.
    pub(crate) fn checkpoints(&self) -> Vec<Range<usize>> {
        self.inner.borrow().checkpoints.clone()
    }

    /// The handle of a value of this graph.
    pub fn tensor(&self, value: Value) -> Tensor {
        let ty = self.inner.borrow().graph.ty(value).clone();
        Tensor { builder: self.clone(), value, ty: Rc::new(ty) }
    }

    /// A copy of one node, for transformations that walk a graph which they extend.
    pub fn node(&self, id: NodeId) -> Node {
        self.inner.borrow().graph.node(id).clone()
    }

    /// Number of nodes so far.
    pub fn len(&self) -> usize {
        self.inner.borrow().graph.nodes.len()
    }

    /// True before the first node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records an error (the first one wins) and returns a placeholder of type `hint`.
    pub fn fail(&self, op: &str, detail: impl Into<String>, loc: Loc, hint: &Type) -> Tensor {
        self.set_error(op, &detail.into(), loc);
        self.poison(hint)
    }

    /// True while no operation has failed.
    pub fn is_ok(&self) -> bool {
        self.inner.borrow().error.is_none()
    }

    /// The finished graph, or the first error. The builder is empty afterwards.
    pub fn build(&self) -> Result<Graph> {
        let inner = std::mem::take(&mut *self.inner.borrow_mut());
        match inner.error {
            Some(e) => Err(e),
            None => Ok(inner.graph),
        }
    }

    /// Reads the graph as it is so far.
    pub fn with_graph<R>(&self, f: impl FnOnce(&Graph) -> R) -> R {
        f(&self.inner.borrow().graph)
    }

    fn set_error(&self, op: &str, detail: &str, loc: Loc) {
        let mut inner = self.inner.borrow_mut();
        if inner.error.is_none() {
            inner.error = Some(Error::graph(op, detail, loc));
        }
    }

    fn poison(&self, ty: &Type) -> Tensor {
        Tensor { builder: self.clone(), value: POISON, ty: Rc::new(ty.clone()) }
    }

    fn owns(&self, t: &Tensor) -> bool {
        Rc::ptr_eq(&self.inner, &t.builder.inner)
    }
}

impl Tensor {
    /// The graph that this tensor belongs to.
    pub fn builder(&self) -> &Builder {
        &self.builder
    }
    /// The value that this tensor stands for.
    pub fn value(&self) -> Value {
        self.value
    }
    /// Element type and shape.
    pub fn ty(&self) -> &Type {
        &self.ty
    }
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }
    /// Sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.ty.shape.len()
    }
    /// Size of dimension `d`; negative counts from the end. 1 where there is no such dimension.
    pub fn size(&self, d: isize) -> usize {
        let r = self.rank() as isize;
        let d = if d < 0 { d + r } else { d };
        self.ty.shape.get(d.max(-1) as usize).copied().unwrap_or(1)
    }
    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.ty.shape.elems()
    }
    /// Records an error of operation `op` at the caller and returns a placeholder like `self`.
    pub fn fail(&self, op: &str, detail: impl Into<String>, loc: Loc) -> Tensor {
        self.builder.fail(op, detail, loc, &self.ty)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.value, self.ty)
    }
}
