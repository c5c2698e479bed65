//! Reverse-mode differentiation on graphs under construction: derivatives are appended to the graph that they
//! differentiate, as primitives and composites only, so they can be differentiated again, to any order.
//!
//! One rule per primitive, by family, in a `match` without `_`. What is not differentiable has an explicit rule that
//! says so. A composite is differentiated by its own `vjp`, or else through its body, which is inlined.

mod checkpoint;
mod rules_elementwise;
mod rules_index;
mod rules_linalg;
mod rules_movement;
mod rules_reduce;

pub use checkpoint::checkpoint;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Builder, Graph, InputKind, Node, NodeId, OutputKind, Prim, Tensor, Value};
use crate::ops::VjpArgs;
use std::collections::HashMap;
use std::panic::Location;

/// What a rule returns: the cotangent of each argument, `None` for zero.
type Grads = Vec<Option<Tensor>>;

/// One application of a primitive, seen from its rule.
struct Site<'a> {
    builder: &'a Builder,
    node: &'a Node,
    args: &'a [Tensor],
    outs: &'a [Tensor],
    /// Cotangents of the results; at least one is there.
    cotangents: &'a [Option<Tensor>],
    /// Which arguments need a cotangent.
    needs: &'a [bool],
}

impl Site<'_> {
    /// Not differentiable, or constant almost everywhere: no argument gets anything.
    fn zero(&self) -> Grads {
        vec![None; self.args.len()]
    }
    /// The cotangent of the first result.
    fn g(&self) -> Option<&Tensor> {
        self.cotangents.first().and_then(Option::as_ref)
    }
    /// Sends `f(g)` to argument `arg`, and nothing to the others.
    fn to(&self, arg: usize, f: impl FnOnce(&Tensor) -> Tensor) -> Grads {
        let mut grads = self.zero();
        if let (Some(g), true) = (self.g(), self.needs[arg]) {
            grads[arg] = Some(f(g));
        }
        grads
    }
    /// A linear function of its first argument: `f` is the transposed function.
    fn linear(&self, f: impl FnOnce(&Tensor) -> Tensor) -> Grads {
        self.to(0, f)
    }
    /// One operand: `f(x, y, g)` for y = op(x).
    fn unary(&self, f: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Tensor) -> Grads {
        self.to(0, |g| f(&self.args[0], &self.outs[0], g))
    }
    /// Two operands: `f(a, b, y, g)` for the first and for the second.
    fn binary(
        &self,
        first: impl FnOnce(&Tensor, &Tensor, &Tensor, &Tensor) -> Tensor,
        second: impl FnOnce(&Tensor, &Tensor, &Tensor, &Tensor) -> Tensor,
    ) -> Grads {
        let (a, b, y) = (&self.args[0], &self.args[1], &self.outs[0]);
        let mut grads = self.to(0, |g| first(a, b, y, g));
        grads[1] = self.to(1, |g| second(a, b, y, g)).swap_remove(1);
        grads
    }
}

/// The rule of each primitive.
#[deny(clippy::wildcard_enum_match_arm)]
fn rule(site: &Site) -> Grads {
    match &site.node.prim {
        Prim::Input { .. } | Prim::Const(_) | Prim::Iota { .. } => site.zero(),
        // Bits have no derivative.
        Prim::Random { .. } => site.zero(),
        Prim::Unary(u) => rules_elementwise::unary(*u, site),
        Prim::Binary(b) => rules_elementwise::binary(*b, site),
        Prim::Select => rules_elementwise::select(site),
        // d cast(x) = cast(dx) between floats (`accumulate` casts); to or from integers there is none.
        Prim::Cast(to) => match to.is_float() && site.args[0].dtype().is_float() {
            true => site.linear(Tensor::clone),
            false => site.zero(),
        },
        // By definition.
        Prim::StopGrad => site.zero(),
        // The value of the first argument; the others are only waited for.
        Prim::After => site.linear(Tensor::clone),
        Prim::Reduce { op, axes } => rules_reduce::reduce(*op, axes, site),
        // An index.
        Prim::ArgMax { .. } => site.zero(),
        Prim::CumSum { axis } => rules_reduce::cumsum(*axis, site),
        Prim::Sort { axis, .. } => rules_reduce::sort(*axis, site),
        Prim::Reshape(_) => rules_movement::reshape(site),
        Prim::Broadcast(shape) => rules_movement::broadcast(shape, site),
        Prim::Permute(perm) => rules_movement::permute(perm, site),
        Prim::Slice { start, step, .. } => rules_movement::slice(start, step, site),
        Prim::Pad { lo, hi, interior, .. } => rules_movement::pad(lo, hi, interior, site),
        Prim::Reverse(axes) => rules_movement::reverse(axes, site),
        Prim::Concat { axis } => rules_movement::concat(*axis, site),
        Prim::Dot => rules_linalg::dot(site),
        Prim::Conv(dims) => rules_linalg::conv(dims, site),
        Prim::Take => rules_index::take(site),
        Prim::ScatterAdd { .. } => rules_index::scatter_add(site),
        Prim::TakeAlong { axis } => rules_index::take_along(*axis, site),
        Prim::ScatterAddAlong { axis, .. } => rules_index::scatter_add_along(*axis, site),
        Prim::Call(_) => call(site),
    }
}

/// A composite: its own vjp, or the derivative of its body, inlined.
fn call(site: &Site) -> Grads {
    let Prim::Call(call) = &site.node.prim else { return site.zero() };
    // In mixed precision the rounded results are those that are kept.
    let outs: Vec<Tensor> = site.outs.iter().map(|t| site.builder.kept(t)).collect();
    let own = call.composite.vjp(&VjpArgs {
        builder: site.builder,
        args: site.args,
        outs: &outs,
        cotangents: site.cotangents,
    });
    let Some(grads) = own else {
        let floor = site.builder.len();
        let outs = site.builder.inline(&call.body, site.args);
        let wrt: Vec<&Tensor> = site.args.iter().collect();
        return pull_back(site.builder, floor, &outs, site.cotangents, &wrt, site.needs);
    };
    let fits = |(g, a): (&Option<Tensor>, &Tensor)| g.as_ref().is_none_or(|g| g.ty() == a.ty());
    if grads.len() != site.args.len() || !grads.iter().zip(site.args).all(fits) {
        let detail = format!("its vjp returns {grads:?} for arguments {:?}", site.args);
        site.builder.fail(call.composite.name(), detail, site.node.loc, site.args[0].ty());
        return site.zero();
    }
    grads
}

/// The reverse sweep over the nodes from `floor` on. Cotangents of `wrt[i]` are computed where `needs[i]`; a value
/// that occurs several times in `wrt` gets its cotangent at the first place, so that the entries can be summed.
fn pull_back(
    builder: &Builder,
    floor: usize,
    outputs: &[Tensor],
    cotangents: &[Option<Tensor>],
    wrt: &[&Tensor],
    needs: &[bool],
) -> Grads {
    if !builder.is_ok() {
        return vec![None; wrt.len()];
    }
    let mut wanted: HashMap<Value, usize> = HashMap::new();
    for (i, t) in wrt.iter().enumerate() {
        if needs[i] && t.dtype().is_float() {
            wanted.entry(t.value()).or_insert(i);
        }
    }
    // Cotangents gathered so far.
    let mut cots: HashMap<Value, Tensor> = HashMap::new();
    for (out, g) in outputs.iter().zip(cotangents) {
        if let Some(g) = g {
            accumulate(&mut cots, out.value(), g.clone());
        }
    }
    let end = outputs.iter().map(|t| t.value().node.0 as usize + 1).max().unwrap_or(0);
    let depends = dependants(builder, floor, end, &wanted);
    let reached =
        |v: &Value| wanted.contains_key(v) || (v.node.0 as usize >= floor && depends[v.node.0 as usize - floor]);
    let mut stretches = checkpoint::stretches(builder, floor..end, &wanted);
    let mut next = end;
    while next > floor {
        let n = next - 1;
        if let Some(stretch) = stretches.pop_if(|s| s.end == next) {
            next = stretch.start;
            if depends[next - floor..stretch.end - floor].contains(&true) {
                checkpoint::pull_back_again(builder, stretch, &mut cots, &reached);
            }
            continue;
        }
        next = n;
        let id = NodeId(n as u32);
        if !depends[n - floor] {
            continue;
        }
        let node = builder.node(id);
        let outs: Vec<Value> = (0..node.types.len() as u32).map(|out| Value { node: id, out }).collect();
        // A wanted result keeps its cotangent for the end; what flows on is a copy of the handle.
        let own: Vec<Option<Tensor>> = outs.iter().map(|v| cots.get(v).cloned()).collect();
        if own.iter().all(Option::is_none) {
            continue;
        }
        let needs: Vec<bool> = node.args.iter().map(|v| reached(v) && builder.tensor(*v).dtype().is_float()).collect();
        let args: Vec<Tensor> = node.args.iter().map(|&v| builder.tensor(v)).collect();
        let outs: Vec<Tensor> = outs.into_iter().map(|v| builder.tensor(v)).collect();
        let site = Site { builder, node: &node, args: &args, outs: &outs, cotangents: &own, needs: &needs };
        builder.located(node.loc, || {
            for (i, g) in rule(&site).into_iter().enumerate() {
                if let (Some(g), true) = (g, needs[i]) {
                    // The operand of a product may be f16, and the argument of a cast.
                    accumulate(&mut cots, args[i].value(), g.cast(args[i].dtype()));
                }
            }
        });
        if !builder.is_ok() {
            return vec![None; wrt.len()];
        }
    }
    let first = |(i, t): (usize, &&Tensor)| (wanted.get(&t.value()) == Some(&i)).then(|| cots.get(&t.value()).cloned());
    wrt.iter().enumerate().map(|e| first(e).flatten()).collect()
}

fn accumulate(cots: &mut HashMap<Value, Tensor>, v: Value, g: Tensor) {
    let sum = match cots.get(&v) {
        // f16 is for storage: its sums are made in f32.
        Some(so_far) => (so_far.cast(DType::F32) + g.cast(DType::F32)).cast(g.dtype()),
        None => g,
    };
    cots.insert(v, sum);
}

/// For each node in `floor..end`, whether an argument of it is wanted or depends on something wanted.
fn dependants(builder: &Builder, floor: usize, end: usize, wanted: &HashMap<Value, usize>) -> Vec<bool> {
    builder.with_graph(|graph| {
        let mut depends = vec![false; end.saturating_sub(floor)];
        for n in floor..end {
            let node = &graph.nodes[n];
            depends[n - floor] = node.args.iter().any(|v| {
                let a = v.node.0 as usize;
                wanted.contains_key(v) || (a >= floor && depends[a - floor])
            });
        }
        depends
    })
}

/// The cotangents of `wrt` for these cotangents of `outputs` (`None`: zero). `None` where nothing flows. All tensors
/// must belong to one graph, to which the derivative is appended.
#[track_caller]
pub fn vjp(outputs: &[Tensor], cotangents: &[Option<Tensor>], wrt: &[&Tensor]) -> Vec<Option<Tensor>> {
    let loc = Location::caller();
    let Some(first) = outputs.first() else { return vec![None; wrt.len()] };
    let misfit = outputs.iter().zip(cotangents).find(|(o, g)| g.as_ref().is_some_and(|g| g.ty() != o.ty()));
    if outputs.len() != cotangents.len() || misfit.is_some() {
        first.fail("vjp", format!("cotangents {cotangents:?} do not fit the outputs {outputs:?}"), loc);
        return vec![None; wrt.len()];
    }
    let builder = first.builder();
    let grads = pull_back(builder, 0, outputs, cotangents, wrt, &vec![true; wrt.len()]);
    // A tensor that is listed twice gets the same answer twice.
    let at = |t: &Tensor| wrt.iter().position(|u| u.value() == t.value());
    wrt.iter().map(|t| at(t).and_then(|i| grads[i].clone())).collect()
}

/// The gradient of a scalar with respect to each of `wrt`: zeros where it does not depend on it.
#[track_caller]
pub fn grad(loss: &Tensor, wrt: &[&Tensor]) -> Vec<Tensor> {
    if loss.elems() != 1 || !loss.dtype().is_float() {
        loss.fail("grad", format!("the loss must be a float with one element, got {}", loss.ty()), Location::caller());
    }
    if let Some(t) = wrt.iter().find(|t| !t.dtype().is_float()) {
        t.fail("grad", format!("{} is not differentiable", t.ty()), Location::caller());
    }
    let grads = vjp(std::slice::from_ref(loss), &[Some(loss.like(1.0))], wrt);
    grads.into_iter().zip(wrt).map(|(g, t)| g.unwrap_or_else(|| t.like(0.0))).collect()
}

/// The Hessian-vector product: the gradient of `<grad loss, v>`, with `v` (one per `wrt`) held constant.
#[track_caller]
pub fn hvp(loss: &Tensor, wrt: &[&Tensor], v: &[&Tensor]) -> Vec<Tensor> {
    if wrt.len() != v.len() || wrt.iter().zip(v).any(|(w, v)| w.ty() != v.ty()) {
        loss.fail("hvp", format!("the vectors {v:?} do not fit {wrt:?}"), Location::caller());
        return wrt.iter().map(|t| t.like(0.0)).collect();
    }
    let grads = grad(loss, wrt);
    let along = grads.iter().zip(v).map(|(g, v)| (g * &v.detach()).sum(&[], false));
    match along.reduce(|a, b| a + b) {
        Some(slope) => grad(&slope, wrt),
        None => Vec::new(),
    }
}

/// The full Hessian `[P, P]`, P the number of elements of all `wrt` together, in their order. One row per backward
/// pass in the graph: for small P only.
#[track_caller]
pub fn hessian(loss: &Tensor, wrt: &[&Tensor]) -> Tensor {
    let flat = |grads: &[Tensor]| {
        let parts: Vec<Tensor> = grads.iter().map(|g| g.reshape([g.elems()])).collect();
        Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0)
    };
    if wrt.is_empty() {
        return loss.fail("hessian", "needs at least one tensor to differentiate by", Location::caller());
    }
    let gradient = flat(&grad(loss, wrt));
    let rows: Vec<Tensor> =
        (0..gradient.elems()).map(|i| flat(&grad(&gradient.narrow(0, i, 1), wrt)).unsqueeze(0)).collect();
    match rows.is_empty() {
        true => gradient.reshape([0, 0]),
        false => Tensor::cat(&rows.iter().collect::<Vec<_>>(), 0),
    }
}

/// `graph` with derivatives: a further input `cot.<name>` for each float output that is fetched, and a further output
/// `grad.<name>` for each of the inputs `wrt`, the gradient of the sum of output * cotangent over those outputs.
pub fn vjp_graph(graph: &Graph, wrt: &[&str]) -> Result<Graph> {
    let b = Builder::new();
    let inputs: Vec<Tensor> =
        graph.inputs.iter().map(|i| b.input(i.name.clone(), i.kind.clone(), graph.ty(i.value).clone())).collect();
    let outs = b.inline(graph, &inputs);
    let mut cotangents = Vec::new();
    for (spec, out) in graph.outputs.iter().zip(&outs) {
        b.output(spec.name.clone(), spec.kind.clone(), out);
        let seeded = spec.kind == OutputKind::Fetch && out.dtype() == DType::F32;
        cotangents.push(seeded.then(|| b.input(format!("cot.{}", spec.name), InputKind::Feed, out.ty().clone())));
    }
    let mut tensors = Vec::new();
    for name in wrt {
        let i =
            graph.inputs.iter().position(|i| i.name == *name).ok_or_else(|| {
                Error::input("vjp_graph", format!("the graph has no input {name:?} to differentiate by"))
            })?;
        tensors.push(&inputs[i]);
    }
    for ((name, t), g) in wrt.iter().zip(&tensors).zip(vjp(&outs, &cotangents, &tensors)) {
        b.output(format!("grad.{name}"), OutputKind::Fetch, &g.unwrap_or_else(|| t.like(0.0)));
    }
    b.build()
}

#[cfg(test)]
mod tests;
