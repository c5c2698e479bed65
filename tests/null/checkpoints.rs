//! Checkpointed stretches: the same values, computed twice and kept for a shorter time.

use crate::training_steps::planned;
use kiln::backend::reference::{Array, Precision, eval};
use kiln::grad::{checkpoint, grad, hvp};
use kiln::ir::{OutputKind, Prim, Type};
use kiln::nn::{Dropout, LayerNorm, Linear, Mode, Module, Params, Scope};
use kiln::ops::Gelu;
use kiln::plan::{Plan, Region, RegionKind, Step};
use kiln::rng::Rng;
use kiln::{Builder, DType, Graph, Tensor};

const ROWS: usize = 32;
const WIDTH: usize = 16;

/// A residual block with dropout; its hidden layer is four times as wide.
fn block(scope: &Scope, x: &Tensor) -> Tensor {
    let y = scope.run("norm", &LayerNorm::new([WIDTH]), x);
    let y = scope.run("up", &Linear::new(WIDTH, 4 * WIDTH), &y).gelu(Gelu::Exact);
    x + Dropout::new(0.2).forward(scope, &scope.run("down", &Linear::new(4 * WIDTH, WIDTH), &y))
}

/// Which stretches are marked.
#[derive(Clone, Copy, PartialEq)]
enum Marks {
    None,
    /// Each block.
    Blocks,
    /// Each pair of blocks, and each block in it.
    Nested,
}

/// Loss and gradients of `depth` blocks, and a Hessian-vector product.
fn deep(depth: usize, marks: Marks, second: bool) -> Graph {
    let b = Builder::new();
    let counter = b.feed("counter", DType::U32, [4]);
    let x = b.feed("x", DType::F32, [ROWS, WIDTH]);
    let params = Params::with(&b, Mode::Train, Some(&counter), None);
    let one = |i: usize, x: &Tensor| {
        let scope = params.scope().child(i);
        if marks == Marks::None { block(&scope, x) } else { checkpoint(&b, || block(&scope, x)) }
    };
    let pair = |i: usize, x: &Tensor| {
        let both = || one(i + 1, &one(i, x));
        if marks == Marks::Nested { checkpoint(&b, both) } else { both() }
    };
    let y = (0..depth).step_by(2).fold(x.clone(), |x, i| pair(i, &x));
    let loss = y.square().mean(&[], false);
    let trainable: Vec<Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
    let wrt: Vec<&Tensor> = trainable.iter().chain([&x]).collect();
    let derivatives = if second { hvp(&loss, &wrt, &wrt) } else { grad(&loss, &wrt) };
    b.output("loss", OutputKind::Fetch, &loss);
    for (i, g) in derivatives.iter().enumerate() {
        b.output(format!("d{i}"), OutputKind::Fetch, g);
    }
    b.build().unwrap()
}

fn values(graph: &Graph) -> Vec<Vec<f64>> {
    let draw = |name: &str, ty: &Type| match ty.dtype {
        DType::U32 => Array::from_words(ty, vec![7, 0, 3, 0]),
        _ => {
            let mut rng = Rng::named(1, name);
            Array::floats(ty.shape.clone(), (0..ty.shape.elems()).map(|_| rng.normal()).collect())
        }
    };
    let inputs: Vec<Array> = graph.inputs.iter().map(|i| draw(&i.name, graph.ty(i.value))).collect();
    eval(graph, &inputs, Precision::F64).unwrap().iter().map(Array::to_f64).collect()
}

fn count(graph: &Graph, wanted: impl Fn(&Prim) -> bool) -> usize {
    graph.nodes.iter().filter(|n| wanted(&n.prim)).count()
}

#[test]
fn gradients_keep_every_bit() {
    let plain = values(&deep(4, Marks::None, false));
    for marks in [Marks::Blocks, Marks::Nested] {
        let graph = deep(4, marks, false);
        assert!(count(&graph, |p| matches!(p, Prim::After)) > 0);
        assert!(values(&graph) == plain);
    }
}

/// The second sweep adds the terms of a value and of its copies in another order.
#[test]
fn second_derivatives_stay() {
    let plain = values(&deep(4, Marks::None, true));
    for marks in [Marks::Blocks, Marks::Nested] {
        for (k, (want, got)) in plain.iter().zip(values(&deep(4, marks, true))).enumerate() {
            let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            assert!(largest.is_finite());
            for (w, g) in want.iter().zip(got) {
                assert!((w - g).abs() <= 1e-12 * largest, "output {k}: {g} instead of {w} (largest {largest})");
            }
        }
    }
}

#[test]
fn the_peak_of_a_deep_model_falls_by_more_than_half() {
    let peak = |marks| planned(&deep(24, marks, false)).peak_live_bytes;
    let (plain, blocks) = (peak(Marks::None), peak(Marks::Blocks));
    assert!(2 * blocks < plain, "{blocks} of {plain} bytes");
}

/// Products of a plan: those of the forward pass, those computed again, two per product in the backward pass.
#[test]
fn nothing_is_computed_more_than_twice() {
    let dots = |plan: &Plan| plan.summary().regions[&RegionKind::Dot];
    let (plain, blocks) =
        (dots(&planned(&deep(8, Marks::None, false))), dots(&planned(&deep(8, Marks::Blocks, false))));
    assert_eq!(plain, 8 * 6);
    // The second product of each block is not needed again.
    assert_eq!(blocks, plain + 8);
}

/// A stretch in which the user asks for a gradient of an inner value is differentiated as any other.
#[test]
fn inner_values_can_be_asked_for() {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [3]);
    let (inner, y) = checkpoint(&b, || {
        let inner = x.exp();
        (inner.clone(), inner.square())
    });
    for (i, g) in grad(&y.sum(&[], false), &[&inner, &x]).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, g);
    }
    let out = eval(&b.build().unwrap(), &[Array::floats([3], vec![0.0, 1.0, 2.0])], Precision::F64).unwrap();
    for (k, x) in [0.0f64, 1.0, 2.0].into_iter().enumerate() {
        assert_eq!(out[0].to_f64()[k], 2.0 * x.exp());
        assert!((out[1].to_f64()[k] - 2.0 * (2.0 * x).exp()).abs() <= 1e-12 * (2.0 * x).exp());
    }
}

/// The second sum over `h` is its last reader: alone it would run at once, to free `h`. It waits for the cotangent.
#[test]
fn what_is_computed_again_waits() {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [64, 8]);
    let (w, v) = (b.state("w", DType::F32, [8, 128]), b.state("v", DType::F32, [64, 32]));
    let h = x.matmul(&w);
    let y = checkpoint(&b, || h.sum(&[1], false).exp());
    let loss = y.reshape([1, 64]).matmul(&v).square().mean(&[], false);
    for (i, g) in grad(&loss, &[&w, &v]).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, g);
    }
    let plan = planned(&b.build().unwrap());
    let sums_h = |r: &Region| r.kind == RegionKind::Reduce && r.args.iter().any(|a| a.view.shape.elems() == 64 * 128);
    let cotangent = |r: &Region| r.kind == RegionKind::Dot && r.outs[0].ty.shape.elems() == 64;
    let at = |wanted: &dyn Fn(&Region) -> bool| -> Vec<usize> {
        let runs = plan.steps.iter().enumerate();
        runs.filter(|(_, s)| matches!(s, Step::Run { region, .. } if wanted(region))).map(|(i, _)| i).collect()
    };
    let (sums, cotangents) = (at(&sums_h), at(&cotangent));
    assert!(sums.len() == 2 && cotangents.len() == 1, "{plan}");
    assert!(sums[0] < cotangents[0] && cotangents[0] < sums[1], "{plan}");
}
