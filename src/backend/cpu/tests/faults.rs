//! Planted faults: each kernel is run with one mistake in what it is told, and the comparison with the right body must
//! notice. What is not noticed here would not be noticed in the other tests either.

use super::{Bound, Given, body, compare, run};
use crate::backend::reference::{self, Array, Precision};
use crate::dtype::Scalar;
use crate::ir::{Builder, ConvDims, Prim, ReduceOp, Tensor};
use crate::ops::attention::Attention;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::pool::{MaxPool, SumPool};
use crate::plan::RegionKind::{self, Concat, Conv, Dot, Fused, Pad, Pointwise, Reduce, ScatterAdd, Take};
use crate::rng::Rng;

type Body<'a> = &'a dyn Fn(&Builder, &[Tensor]) -> Vec<Tensor>;

/// Runs `wrong` on `given` (after `spoil`) and checks that the comparison with `right` fails.
fn caught(what: &str, kind: RegionKind, given: &[Given], spoil: impl Fn(&mut Vec<Given>), wrong: Body, right: Body) {
    let mut seen = given.to_vec();
    spoil(&mut seen);
    let got = run(kind, &body(&seen, wrong), &seen, &[]).unwrap();
    let inputs: Vec<Array> = given.iter().map(Given::array).collect();
    let want = reference::eval(&body(given, right), &inputs, Precision::F64).unwrap();
    let bound = Bound { rel: 1e-5, abs: 1e-4 };
    let noticed = std::panic::catch_unwind(|| compare(what, &got, &want, bound)).is_err();
    assert!(noticed, "{what}: the fault was not noticed");
}

fn conv(pad: i64, dilation: usize) -> Prim {
    Prim::Conv(ConvDims {
        stride: vec![1, 1],
        pad: vec![(1, 1), (pad, 2 * dilation as i64 - pad)],
        lhs_dilation: vec![1, 1],
        rhs_dilation: vec![1, dilation],
        groups: 1,
    })
}

#[test]
fn a_wrong_operand_or_attribute_shows() {
    let mut rng = Rng::named(40, "cpu/faults");
    let square = [Given::floats(&mut rng, &[33, 33]), Given::floats(&mut rng, &[33, 33])];
    let none = |_: &mut Vec<Given>| {};
    let turn = |g: &mut Vec<Given>| g[1].view = g[1].view.permute(&[1, 0]);
    let sum: Body = &|_, x| vec![&x[0] - &x[1]];
    caught("pointwise, transposed operand", Pointwise, &square, turn, sum, sum);
    caught("pointwise, exchanged operands", Pointwise, &square, none, &|_, x| vec![&x[1] - &x[0]], sum);
    let dot: Body = &|b, x| vec![b.apply(Prim::Dot, &[&x[0], &x[1]])];
    caught("dot, transposed operand", Dot, &square, turn, dot, dot);
    let fold = |axis| {
        move |b: &Builder, x: &[Tensor]| {
            vec![b.apply(Prim::Reduce { op: ReduceOp::Sum, axes: vec![axis] }, &[&x[0]]).reshape([33])]
        }
    };
    let reduce = |axis: usize| {
        let given = &square[..1];
        let graph = body(given, |b, x| vec![b.apply(Prim::Reduce { op: ReduceOp::Sum, axes: vec![axis] }, &[&x[0]])]);
        run(Reduce, &graph, given, &[]).unwrap()
    };
    let want = reference::eval(&body(&square[..1], fold(0)), &[square[0].array()], Precision::F64).unwrap();
    compare("the right axis", &reduce(0), &want, Bound { rel: 1e-5, abs: 1e-4 });
    let wrong = reduce(1);
    let noticed = std::panic::catch_unwind(|| compare("wrong axis", &wrong, &want, Bound { rel: 1e-5, abs: 1e-4 }));
    assert!(noticed.is_err());

    let images = [Given::floats(&mut rng, &[2, 3, 9, 9]), Given::floats(&mut rng, &[4, 3, 3, 3])];
    let right: Body = &|b, x| vec![b.apply(conv(1, 1), &[&x[0], &x[1]])];
    caught("conv, padding off by one", Conv, &images, none, &|b, x| vec![b.apply(conv(2, 1), &[&x[0], &x[1]])], right);
    caught("conv, wrong dilation", Conv, &images, none, &|b, x| vec![b.apply(conv(2, 2), &[&x[0], &x[1]])], right);
    let flip = |g: &mut Vec<Given>| g[1].view = g[1].view.reverse(&[2, 3]);
    caught("conv, flipped kernel", Conv, &images, flip, right, right);

    let pad = |lo: i64| {
        move |b: &Builder, x: &[Tensor]| {
            let (lo, hi) = (vec![lo, 0], vec![3 - lo, 0]);
            vec![b.apply(Prim::Pad { lo, hi, interior: vec![0, 1], value: Scalar::F32(0.0) }, &[&x[0]])]
        }
    };
    caught("pad, shifted", Pad, &square[..1], none, &pad(2), &pad(1));
    let join = |i: usize| move |b: &Builder, x: &[Tensor]| vec![b.apply(Prim::Concat { axis: 1 }, &[&x[i], &x[1 - i]])];
    caught("concat, exchanged", Concat, &square, none, &join(1), &join(0));
    let rows = [Given::floats(&mut rng, &[33, 5]), Given::below(&mut rng, &[33], 33)];
    let shift = |g: &mut Vec<Given>| g[1].words.rotate_left(1);
    let take: Body = &|b, x| vec![b.apply(Prim::Take, &[&x[0], &x[1]])];
    caught("take, next index", Take, &rows, shift, take, take);
    let scatter: Body = &|b, x| vec![b.apply(Prim::ScatterAdd { rows: 33 }, &[&x[0], &x[1]])];
    caught("scatter, next index", ScatterAdd, &rows, shift, scatter, scatter);
}

#[test]
fn a_wrong_composite_shows() {
    let mut rng = Rng::named(41, "cpu/fused faults");
    let none = |_: &mut Vec<Given>| {};
    let norm = [Given::floats(&mut rng, &[6, 20]), Given::floats(&mut rng, &[20]), Given::floats(&mut rng, &[20])];
    let layer = |eps: f64| move |b: &Builder, x: &[Tensor]| b.call(LayerNorm { eps }, &[&x[0], &x[1], &x[2]]);
    caught("layer norm, wrong eps", Fused, &norm, none, &layer(1e-2), &layer(1e-5));
    let swap = |g: &mut Vec<Given>| g.swap(1, 2);
    caught("layer norm, weight as bias", Fused, &norm, swap, &layer(1e-5), &layer(1e-5));
    let planes = [Given::floats(&mut rng, &[3, 5, 40]), Given::floats(&mut rng, &[5]), Given::floats(&mut rng, &[5])];
    let batch: Body = &|b, x| b.call(BatchNorm { eps: 1e-5 }, &[&x[0], &x[1], &x[2]]);
    caught("batch norm, weight as bias", Fused, &planes, swap, batch, batch);
    let one = |g: &mut Vec<Given>| g[0].words[77] ^= 1 << 23;
    caught("batch norm, one wrong element", Fused, &planes, one, batch, batch);
    let rows = [Given::floats(&mut rng, &[9, 12]), Given::below(&mut rng, &[9], 12)];
    let loss = |label_smoothing: f64| {
        move |b: &Builder, x: &[Tensor]| b.call(CrossEntropy { ignore_index: -1, label_smoothing }, &[&x[0], &x[1]])
    };
    caught("cross entropy, lost smoothing", Fused, &rows, none, &loss(0.0), &loss(0.1));
    let image = [Given::floats(&mut rng, &[1, 2, 9, 9])];
    let pool = |pad: usize| {
        move |b: &Builder, x: &[Tensor]| {
            let pad = vec![(pad, 2 - pad), (1, 1)];
            b.call(MaxPool { kernel: vec![3, 3], stride: vec![1, 1], pad, dilation: vec![1, 1] }, &[&x[0]])
        }
    };
    caught("max pool, shifted", Fused, &image, none, &pool(0), &pool(1));
    let sums = |step: usize| {
        move |b: &Builder, x: &[Tensor]| {
            let (kernel, pad) = (vec![2, 2], vec![(0, step - 1), (0, 0)]);
            b.call(SumPool { kernel, stride: vec![1, 1], pad, dilation: vec![step, 1] }, &[&x[0]])
        }
    };
    caught("sum pool, wrong dilation", Fused, &image, none, &sums(2), &sums(1));
    let heads = [0; 3].map(|_| Given::floats(&mut rng, &[1, 2, 10, 8]));
    let attend = |causal: bool, scale: f64| {
        move |b: &Builder, x: &[Tensor]| b.call(Attention { causal, scale, has_mask: false }, &[&x[0], &x[1], &x[2]])
    };
    caught("attention, not causal", Fused, &heads, none, &attend(false, 0.3), &attend(true, 0.3));
    caught("attention, lost scale", Fused, &heads, none, &attend(true, 1.0), &attend(true, 0.3));
    caught("attention, keys as values", Fused, &heads, |g| g.swap(1, 2), &attend(true, 0.3), &attend(true, 0.3));
}
