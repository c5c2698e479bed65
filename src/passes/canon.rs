//! One form for each meaning: chains of one kind of view merged, views and casts that change nothing removed, views of
//! constants as one broadcast, `StopGrad` (which only differentiation looks at) removed.

use crate::dtype::{DType, Scalar};
use crate::ir::{Binary, Graph, Node, NodeId, Prim, Type, Unary, Value};
use crate::passes::Rewrite;
use crate::passes::fold::splat;
use crate::shape::Shape;
use std::collections::HashMap;

/// The graph in canonical form.
pub fn canon(graph: &Graph) -> Graph {
    let (mut r, stored, reads) = (Rewrite::new(graph), stored(graph), reads(graph));
    for (id, node) in graph.iter() {
        if matches!(node.prim, Prim::Input { .. }) {
            continue;
        }
        let args = r.args(node);
        let args = pooled_rectifier(&r, node, &args).unwrap_or(args);
        let turned = turned_product(&mut r, node, &args, &reads);
        if let Some(v) = turned.or_else(|| rewrite(&mut r, node, &args)) {
            r.set(id, vec![v]);
        } else {
            r.copy_with(id, args.clone());
        }
        if let Some(&same) = stored.get(&Value { node: id, out: 0 }) {
            mask_of_result(&mut r, id, node, &args, same);
        }
    }
    r.finish()
}

/// The gradient of max pooling whose result y went through a rectifier, `z = if y <= c { c } else { y }`, takes z for y: where they differ the
/// cotangent, `if z <= c { 0 } else { g }`, is 0 (whatever z's own mask says). Only z need be kept then.
fn pooled_rectifier(r: &Rewrite, node: &Node, args: &[Value]) -> Option<Vec<Value>> {
    let (Prim::Call(call), &[x, y, g]) = (&node.prim, args) else { return None };
    let select = |v: Value| {
        let node = r.new.node(v.node);
        (node.prim == Prim::Select).then(|| [node.args[0], node.args[1], node.args[2]])
    };
    let [mask, zero, _] = select(g).filter(|_| call.composite.name() == "max_pool_grad")?;
    let test = r.new.node(mask.node);
    let (z, c) = match test.args[..] {
        [a, b] if constant(r, b).is_some() => (a, b),
        [a, b] => (b, a),
        _ => return None,
    };
    let [_, limit, from] = select(z)?;
    let finite = matches!(constant(r, c), Some(Scalar::F32(c)) if !c.is_nan());
    let rectifies = test.prim == Prim::Binary(Binary::Le) && limit == c && from == y && finite;
    (rectifies && constant(r, zero) == Some(Scalar::F32(0.0))).then(|| vec![x, z, g])
}

/// How often each value is read, by nodes and as a result of the graph.
fn reads(graph: &Graph) -> HashMap<Value, usize> {
    let mut found = HashMap::new();
    let outputs = graph.outputs.iter().map(|o| o.value);
    let all = graph.iter().flat_map(|(_, n)| n.args.iter().copied()).chain(outputs);
    all.for_each(|v| *found.entry(v).or_insert(0) += 1);
    found
}

/// The transpose of a product that nothing else reads, computed as such: (a b)^T = b^T a^T, the same sums. The gradient of a
/// linear layer's weight then lies in memory as the weight does.
fn turned_product(r: &mut Rewrite, node: &Node, args: &[Value], reads: &HashMap<Value, usize>) -> Option<Value> {
    let Prim::Permute(order) = &node.prim else { return None };
    let product = r.new.node(args[0].node).clone();
    let (n, alone) = (order.len(), reads.get(&node.args[0]) == Some(&1));
    let swaps = n >= 2 && (0..n - 2).chain([n - 1, n - 2]).eq(order.iter().copied());
    if product.prim != Prim::Dot || !alone || !swaps {
        return None;
    }
    let mut turn = |v: Value| {
        let Type { dtype, shape } = r.new.ty(v).clone();
        let ty = Type::new(dtype, Shape(order.iter().map(|&d| shape[d]).collect()));
        r.push(Prim::Permute(order.clone()), vec![v], vec![ty], node.loc)
    };
    let turned = vec![turn(product.args[1]), turn(product.args[0])];
    Some(r.push(Prim::Dot, turned, node.types.clone(), node.loc))
}

/// Values that products, convolutions and composites read, perhaps through views: they are in memory anyway. Those read
/// through conversions too, with false: what they are converted to is in memory.
fn stored(graph: &Graph) -> HashMap<Value, bool> {
    let mut found = HashMap::new();
    for (_, node) in graph.iter().filter(|(_, n)| matches!(n.prim, Prim::Dot | Prim::Conv(_) | Prim::Call(_))) {
        for &arg in &node.args {
            let (mut v, mut same) = (arg, true);
            loop {
                *found.entry(v).or_insert(same) |= same;
                let from = graph.node(v.node);
                let converts = matches!(from.prim, Prim::Cast(_));
                if !converts && !from.prim.is_view() {
                    break;
                }
                (v, same) = (from.args[0], same && !converts);
            }
        }
    }
    found
}

/// After `y = if x <= c { c } else { x }` with a constant c, as in a rectifier, lets `y <= c` stand for `x <= c` (the same with
/// `c <= x`): they are equal, NaN included, and the derivative then needs only the y that the next layer keeps. Where x is a
/// widened f16, and c is 0, y is one too, and it is the f16 that is kept. `same`: y is kept as it is.
fn mask_of_result(r: &mut Rewrite, id: NodeId, node: &Node, args: &[Value], same: bool) {
    let (Prim::Select, &[mask, c, x]) = (&node.prim, args) else { return };
    let test = r.new.node(mask.node).clone();
    if test.prim != Prim::Binary(Binary::Le) || (test.args != [x, c] && test.args != [c, x]) {
        return;
    }
    let Some(Scalar::F32(limit)) = constant(r, c) else { return };
    let mut y = r.get(Value { node: id, out: 0 });
    let from = r.new.node(x.node);
    if from.prim == Prim::Cast(DType::F32) && r.new.ty(from.args[0]).dtype == DType::F16 {
        if limit != 0.0 {
            return;
        }
        for dtype in [DType::F16, DType::F32] {
            y = r.push(Prim::Cast(dtype), vec![y], vec![Type::new(dtype, node.types[0].shape.clone())], node.loc);
        }
    } else if !same {
        return;
    }
    let args = test.args.iter().map(|&a| if a == x { y } else { a }).collect();
    let mask = r.push(test.prim, args, test.types, test.loc);
    r.set(node.args[0].node, vec![mask]);
}

/// A value equal to the node's only result, if there is a simpler one. `args` are values of the new graph.
fn rewrite(r: &mut Rewrite, node: &Node, args: &[Value]) -> Option<Value> {
    let &x = args.first()?;
    if is_identity(&node.prim, r.new.ty(x), &node.types[0]) {
        return Some(x);
    }
    let one = |r: &mut Rewrite, prim: Prim, args: Vec<Value>| Some(r.push(prim, args, node.types.clone(), node.loc));
    if node.prim.is_view()
        && let Some(s) = constant(r, x)
    {
        return splat_once(r, s, node, x);
    }
    let inner: Node = r.new.node(x.node).clone();
    let inner_arg = inner.args.first().copied();
    match (&node.prim, &inner.prim, inner_arg) {
        (Prim::Reshape(s), Prim::Reshape(_), Some(y)) => {
            if r.new.shape(y) == s {
                return Some(y);
            }
            one(r, Prim::Reshape(s.clone()), vec![y])
        }
        (Prim::Broadcast(s), Prim::Broadcast(_), Some(y)) => one(r, Prim::Broadcast(s.clone()), vec![y]),
        (Prim::Permute(p), Prim::Permute(q), Some(y)) => {
            let both: Vec<usize> = p.iter().map(|&d| q[d]).collect();
            if both.iter().copied().eq(0..both.len()) {
                return Some(y);
            }
            one(r, Prim::Permute(both), vec![y])
        }
        (Prim::Reverse(a), Prim::Reverse(b), Some(y)) => {
            let both: Vec<usize> = (0..node.types[0].shape.len()).filter(|d| a.contains(d) != b.contains(d)).collect();
            if both.is_empty() {
                return Some(y);
            }
            one(r, Prim::Reverse(both), vec![y])
        }
        (Prim::Slice { start, len, step }, Prim::Slice { start: start0, step: step0, .. }, Some(y))
            if !len.contains(&0) =>
        {
            let start = (0..start.len()).map(|d| start0[d] + start[d] * step0[d]).collect();
            let step = (0..step.len()).map(|d| step[d] * step0[d]).collect();
            one(r, Prim::Slice { start, len: len.clone(), step }, vec![y])
        }
        // Views of widened f16 are widened views: what reads them then finds the f16.
        (view, Prim::Cast(DType::F32), Some(y)) if view.is_view() && r.new.ty(y).dtype == DType::F16 => {
            let ty = Type::new(DType::F16, node.types[0].shape.clone());
            let seen = r.push(view.clone(), vec![y], vec![ty], node.loc);
            one(r, Prim::Cast(DType::F32), vec![seen])
        }
        // Rounded views are views of what is rounded: what computes it then writes the f16. Not where a view is larger or smaller.
        (Prim::Cast(DType::F16), Prim::Permute(_) | Prim::Reshape(_) | Prim::Reverse(_), Some(y))
            if r.new.ty(y).dtype == DType::F32 =>
        {
            let ty = Type::new(DType::F16, r.new.shape(y).clone());
            let half = r.push(Prim::Cast(DType::F16), vec![y], vec![ty], node.loc);
            one(r, inner.prim, vec![half])
        }
        // Every f16 is an f32.
        (Prim::Cast(DType::F16), Prim::Cast(DType::F32), Some(y)) if r.new.ty(y).dtype == DType::F16 => Some(y),
        // Booleans are 0 or 1 in every type.
        (Prim::Cast(d), Prim::Cast(_), Some(y)) if r.new.ty(y).dtype == DType::Bool => {
            if *d == DType::Bool {
                return Some(y);
            }
            one(r, Prim::Cast(*d), vec![y])
        }
        (Prim::Unary(Unary::Neg), Prim::Unary(Unary::Neg), Some(y)) => Some(y),
        (Prim::Unary(Unary::Not), Prim::Unary(Unary::Not), Some(y)) => Some(y),
        // x^2 = x * x and x^-1 = 1/x exactly, and both are far cheaper than a power.
        (Prim::Binary(Binary::Pow), _, _) => match constant(r, args[1]) {
            Some(Scalar::F32(2.0)) => one(r, Prim::Binary(Binary::Mul), vec![x, x]),
            Some(Scalar::F32(-1.0)) => one(r, Prim::Unary(Unary::Recip), vec![x]),
            _ => None,
        },
        // a + (-b) = a - b exactly.
        (Prim::Binary(Binary::Add), _, _) if node.types[0].dtype == DType::F32 => {
            let second = r.new.node(args[1].node).clone();
            match second.prim {
                Prim::Unary(Unary::Neg) => one(r, Prim::Binary(Binary::Sub), vec![x, second.args[0]]),
                _ => None,
            }
        }
        _ => None,
    }
}

/// True if the node passes its first argument on as it is.
fn is_identity(prim: &Prim, arg: &Type, out: &Type) -> bool {
    match prim {
        Prim::StopGrad => true,
        Prim::Cast(d) => *d == arg.dtype,
        Prim::Reshape(_) | Prim::Broadcast(_) => arg == out,
        Prim::Permute(p) => {
            // Moving dimensions of size 1 among others changes the shape, so it is not the identity; it is a reshape.
            p.iter().copied().eq(0..p.len())
        }
        Prim::Slice { start, step, .. } => arg == out && start.iter().all(|&s| s == 0) && step.iter().all(|&s| s == 1),
        Prim::Pad { lo, hi, interior, .. } => {
            arg == out && lo.iter().chain(hi).all(|&x| x == 0) && interior.iter().all(|&x| x == 0)
        }
        Prim::Reverse(axes) => axes.iter().all(|&a| arg.shape[a] <= 1),
        Prim::Reduce { axes, .. } => axes.iter().all(|&a| arg.shape[a] == 1),
        Prim::Concat { .. } => arg == out,
        _ => false,
    }
}

/// The scalar that every element of a view of a constant is equal to.
fn constant(r: &Rewrite, v: Value) -> Option<Scalar> {
    let node = r.new.node(v.node);
    match &node.prim {
        Prim::Const(s) => Some(*s),
        p if p.is_view() => constant(r, node.args[0]),
        _ => None,
    }
}

/// The canonical form of a repeated constant: `const`, `reshape` to ones, `broadcast`. `None` if the node has it.
fn splat_once(r: &mut Rewrite, s: Scalar, node: &Node, arg: Value) -> Option<Value> {
    let is = |r: &Rewrite, id: NodeId, f: fn(&Prim) -> bool| f(&r.new.node(id).prim);
    let done = match &node.prim {
        Prim::Reshape(to) => is(r, arg.node, |p| matches!(p, Prim::Const(_))) && to.iter().all(|&n| n == 1),
        Prim::Broadcast(_) => {
            let ones = r.new.node(arg.node);
            matches!(ones.prim, Prim::Reshape(_))
                && ones.types[0].shape.iter().all(|&n| n == 1)
                && is(r, ones.args[0].node, |p| matches!(p, Prim::Const(_)))
        }
        _ => false,
    };
    if done { None } else { Some(splat(r, s, node)) }
}
