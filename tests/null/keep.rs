//! What the backward pass computes again instead of reading: the forward's regions store no intermediate results.

use crate::training_steps::planned;
use kiln::grad::grad;
use kiln::ir::{Node, OutputKind, Prim, Unary};
use kiln::ops::{Gelu, Pool};
use kiln::passes::simplify;
use kiln::plan::{Plan, Region, RegionKind, Step};
use kiln::{Builder, DType, Tensor};

fn regions(plan: &Plan) -> impl Iterator<Item = &Region> {
    plan.steps.iter().filter_map(|s| match s {
        Step::Run { region, .. } => Some(region),
        Step::Copy { .. } => None,
    })
}

/// The gradients of a perceptron with one hidden layer of [128, 256].
fn perceptron(activation: impl Fn(&Tensor) -> Tensor) -> Plan {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [128, 64]);
    let params = [("w1", vec![256, 64]), ("b1", vec![256]), ("w2", vec![32, 256])];
    let [w1, b1, w2] = params.map(|(name, shape)| b.state(name, DType::F32, shape));
    let hidden = x.matmul(&w1.t()) + &b1;
    let loss = activation(&hidden).matmul(&w2.t()).square().mean(&[], false);
    for (k, g) in grad(&loss, &[&w1, &b1, &w2]).iter().enumerate() {
        b.output(format!("g{k}"), OutputKind::Fetch, g);
    }
    planned(&b.build().unwrap())
}

/// How many tensors of the hidden layer's size are written. Three are needed: before the activation, after it, and the
/// gradient before it; two where the derivative follows from the result.
fn stored(plan: &Plan) -> usize {
    regions(plan).flat_map(|r| &r.outs).filter(|t| t.ty.shape.elems() == 128 * 256).count()
}

#[test]
fn activations_store_no_intermediates() {
    for (name, needed, plan) in [
        ("gelu", 3, perceptron(|x| x.gelu(Gelu::Exact))),
        ("gelu by tanh", 3, perceptron(|x| x.gelu(Gelu::Tanh))),
        ("relu", 2, perceptron(Tensor::relu)),
        ("elu", 3, perceptron(|x| x.elu(1.0))),
    ] {
        assert_eq!(stored(&plan), needed, "{name}\n{plan}");
        // The gradient before the activation is the epilogue of the product that makes the one after it.
        let alone =
            regions(&plan).filter(|r| r.kind == RegionKind::Pointwise && r.outs[0].ty.shape.elems() == 128 * 256);
        assert_eq!(alone.count(), needed - 2, "{name}\n{plan}");
    }
}

/// No copy turns them: the products that make them are turned instead.
#[test]
fn gradients_of_weights_lie_as_the_weights() {
    let plan = perceptron(Tensor::relu);
    assert!(regions(&plan).all(|r| r.kind != RegionKind::Pointwise), "{plan}");
}

/// Both sides of `x == max(x)` must see the same bits, so x is stored, however cheap it is.
#[test]
fn what_is_compared_is_not_computed_twice() {
    let b = Builder::new();
    let [x, y, z] = ["x", "y", "z"].map(|name| b.feed(name, DType::F32, [128, 256]));
    let t = (&x * &y + &z).tanh();
    let loss = t.amax(&[1], false).sum(&[], false);
    b.output("g", OutputKind::Fetch, &grad(&loss, &[&x])[0]);
    let plan = planned(&b.build().unwrap());
    let tanh = |r: &&Region| r.body.nodes.iter().any(|n| matches!(n.prim, Prim::Unary(Unary::Tanh)));
    assert_eq!(regions(&plan).filter(tanh).count(), 1, "{plan}");
}

/// The gradient of pooling takes what the rectifier behind it leaves for the largest elements: these need not be kept.
#[test]
fn pooled_values_are_kept_once() {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [2, 3, 8, 8]);
    let w = b.feed("w", DType::F32, [48, 5]);
    let pooled = x.relu().max_pool(&Pool::new([2, 2]));
    let loss = pooled.reshape([2, 48]).matmul(&w).square().sum(&[], false);
    b.output("g", OutputKind::Fetch, &grad(&loss, &[&x])[0]);
    let graph = simplify(&b.build().unwrap()).unwrap();
    let call = |n: &&Node| matches!(&n.prim, Prim::Call(c) if c.composite.name() == "max_pool_grad");
    let gradient = graph.nodes.iter().find(call).unwrap();
    assert_eq!(graph.node(gradient.args[1].node).prim, Prim::Select, "{graph}");
}
