//! The composites with a kernel, against their bodies in f64.

use super::{Bound, Given, body, check, run};
use crate::backend::cpu::Cpu;
use crate::dtype::DType;
use crate::error::Error;
use crate::grad::grad;
use crate::ir::{Builder, OutputKind, Prim, Type};
use crate::ops::Composite;
use crate::ops::attention::{Attention, AttentionGrad};
use crate::ops::batch_norm::{BatchNorm, BatchNormGrad};
use crate::ops::cross_entropy::{CrossEntropy, CrossEntropyGrad};
use crate::ops::layer_norm::{LayerNorm, LayerNormGrad};
use crate::ops::pool::{MaxPool, MaxPoolGrad, SumPool, SumPoolGrad};
use crate::ops::softmax::{LogSoftmax, LogSoftmaxGrad, Softmax, SoftmaxGrad};
use crate::plan::{Caps, PlanOptions, Region, RegionKind::Fused, Step, plan};
use crate::rng::Rng;
use crate::shape::Shape;

/// Checks a composite on dense operands and that the CPU path says it has a kernel for it.
fn check_call(what: &str, given: &[Given], bound: Bound, composite: impl Composite + Clone) {
    let graph = body(given, |b, x| b.call(composite.clone(), &x.iter().collect::<Vec<_>>()));
    let types: Vec<Type> = given.iter().map(Given::ty).collect();
    let call = graph.nodes.iter().find_map(|n| match &n.prim {
        Prim::Call(call) => Some(call.clone()),
        _ => None,
    });
    assert_eq!(Cpu::new().kernel(&call.unwrap(), &types), Ok(()), "{what}");
    check(what, Fused, given, &[], bound, |b, x| b.call(composite, &x.iter().collect::<Vec<_>>()));
}

/// Results of rows: exp within (3 + 2|x|) u, sums in lanes; terms up to 4.
const ROWS: Bound = Bound { rel: 3e-6, abs: 2e-6 };

#[test]
fn softmax_family() {
    let mut rng = Rng::named(30, "cpu/softmax");
    for [rows, n] in [[1, 1], [3, 7], [17, 65], [5, 1757], [200, 100], [4, 0]] {
        let (x, g) = (Given::floats(&mut rng, &[rows, n]), Given::floats(&mut rng, &[rows, n]));
        let what = format!("{rows}x{n}");
        check_call(&what, std::slice::from_ref(&x), ROWS, Softmax);
        check_call(&what, std::slice::from_ref(&x), ROWS, LogSoftmax);
        let long = Bound { abs: 4e-7 * n as f64 + 2e-6, ..ROWS };
        check_call(&what, &[x.clone(), g.clone()], long, SoftmaxGrad);
        check_call(&what, &[x, g], Bound { abs: 8e-6 * n as f64 + 2e-6, ..ROWS }, LogSoftmaxGrad);
    }
    let mut x = Given::floats(&mut rng, &[2, 40]);
    x.words[3] = 1e4f32.to_bits();
    x.words[50] = f32::NEG_INFINITY.to_bits();
    check_call("extremes", &[x.clone()], ROWS, Softmax);
    check_call("extremes", &[x], Bound { rel: 1e-6, abs: 1e-3 }, LogSoftmax);
}

#[test]
fn cross_entropy_with_smoothing_and_ignored_rows() {
    let mut rng = Rng::named(31, "cpu/ce");
    for ((ignore_index, label_smoothing), [n, c]) in
        [(-100, 0.0), (3, 0.0), (2, 0.1)].into_iter().zip([[33, 10], [9, 65], [128, 1000]])
    {
        let (x, t) = (Given::floats(&mut rng, &[n, c]), Given::below(&mut rng, &[n], c.min(10)));
        let given = [x.clone(), t.clone()];
        check_call("cross entropy", &given, ROWS, CrossEntropy { ignore_index, label_smoothing });
        let (mut max, log_sum) = (Given::floats(&mut rng, &[n]), Given::floats(&mut rng, &[n]));
        let g = Given::floats(&mut rng, &[n]);
        max.words.iter_mut().for_each(|w| *w = (f32::from_bits(*w) + 6.0).to_bits());
        check_call("its gradient", &[x, t, max, log_sum, g], ROWS, CrossEntropyGrad { ignore_index, label_smoothing });
    }
    let mut given = [Given::floats(&mut rng, &[4, 5]), Given::below(&mut rng, &[4], 5)];
    given[1].words[2] = 5;
    let graph = body(&given, |b, x| b.call(CrossEntropy { ignore_index: -100, label_smoothing: 0.0 }, &[&x[0], &x[1]]));
    match run(Fused, &graph, &given, &[]) {
        Err(Error::Runtime { detail, .. }) => {
            assert!(detail.starts_with("class 5 at position 2 is out of range"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
}

/// A positive vector, for variances.
fn positive(rng: &mut Rng, n: usize) -> Given {
    let mut g = Given::floats(rng, &[n]);
    g.words.iter_mut().for_each(|w| *w = (f32::from_bits(*w).abs() + 0.3).to_bits());
    g
}

#[test]
fn layer_norm_and_gradient() {
    let mut rng = Rng::named(32, "cpu/ln");
    for [rows, n] in [[1, 1], [3, 7], [70, 65], [600, 128], [5, 3000]] {
        let [w, b] = [0; 2].map(|_| Given::floats(&mut rng, &[n]));
        let mut x = Given::floats(&mut rng, &[rows, n]);
        check_call(
            "layer norm",
            &[x.clone(), w.clone(), b.clone()],
            Bound { rel: 1e-5, abs: 1e-5 },
            LayerNorm { eps: 1e-5 },
        );
        let (mean, rstd, g) =
            (Given::floats(&mut rng, &[rows]), positive(&mut rng, rows), Given::floats(&mut rng, &[rows, n]));
        let bound = Bound { rel: 1e-5, abs: 1e-6 * (rows.max(16) as f64) };
        check_call("its gradient", &[x.clone(), w.clone(), mean, rstd, g], bound, LayerNormGrad { eps: 1e-5 });
        // A mean of 1e4 with deviations of 1: E[x^2] - mean^2 in f32 has no correct digit here. The input's own
        // granularity is 1e-3, which is exact; the bound is u * (c1 + c2 * |x - mean| / std).
        x.words.iter_mut().for_each(|w| *w = (f32::from_bits(*w) + 1e4).to_bits());
        if n > 1 {
            check_call("far mean", &[x, w, b], Bound { rel: 1e-5, abs: 2e-5 }, LayerNorm { eps: 1e-5 });
        }
    }
}

#[test]
fn batch_norm_and_gradient() {
    let mut rng = Rng::named(33, "cpu/bn");
    for shape in [[4, 3, 1], [33, 5, 1], [8, 6, 16], [3, 4, 49], [2, 3, 784], [1, 2, 100]] {
        let c = shape[1];
        let [w, b, mean] = [0; 3].map(|_| Given::floats(&mut rng, &[c]));
        let (mut x, g) = (Given::floats(&mut rng, &shape), Given::floats(&mut rng, &shape));
        check_call(
            "batch norm",
            &[x.clone(), w.clone(), b.clone()],
            Bound { rel: 1e-5, abs: 1e-5 },
            BatchNorm { eps: 1e-5 },
        );
        let bound = Bound { rel: 1e-5, abs: 1e-6 * (shape[0] * shape[2]).max(16) as f64 };
        let var = positive(&mut rng, c);
        check_call("its gradient", &[x.clone(), w.clone(), mean, var, g], bound, BatchNormGrad { eps: 1e-5 });
        x.words.iter_mut().for_each(|w| *w = (f32::from_bits(*w) + 1e4).to_bits());
        check_call("far mean", &[x, w, b], Bound { rel: 1e-5, abs: 3e-5 }, BatchNorm { eps: 1e-5 });
    }
}

#[test]
fn pooling_and_gradients() {
    let mut rng = Rng::named(34, "cpu/pool");
    type Geometry = (Vec<usize>, Vec<usize>, Vec<usize>, Vec<(usize, usize)>, Vec<usize>);
    let cases: Vec<Geometry> = vec![
        (vec![2, 3, 8, 8], vec![2, 2], vec![2, 2], vec![(0, 0); 2], vec![1, 1]),
        (vec![2, 3, 9, 7], vec![2, 2], vec![2, 2], vec![(0, 0); 2], vec![1, 1]),
        (vec![2, 3, 9, 11], vec![3, 3], vec![2, 1], vec![(1, 1), (0, 1)], vec![1, 1]),
        (vec![1, 2, 12, 12], vec![2, 3], vec![1, 3], vec![(0, 0), (1, 1)], vec![3, 2]),
        (vec![3, 2, 17], vec![3], vec![2], vec![(1, 0)], vec![1]),
        (vec![1, 2, 4, 5, 6], vec![2, 2, 2], vec![2, 1, 2], vec![(0, 1), (1, 0), (0, 0)], vec![1, 1, 1]),
    ];
    for (shape, kernel, stride, pad, dilation) in cases {
        // Few values, so that ties are common.
        let mut x = Given::below(&mut rng, &shape, 5).of_type(DType::F32);
        x.words.iter_mut().for_each(|w| *w = (*w as f32).to_bits());
        let what = format!("{shape:?} {kernel:?} {stride:?} {pad:?} {dilation:?}");
        let tight = Bound { rel: 1e-6, abs: 1e-6 };
        let p =
            MaxPool { kernel: kernel.clone(), stride: stride.clone(), pad: pad.clone(), dilation: dilation.clone() };
        check_call(&what, &[x.clone()], tight, p.clone());
        let graph = body(&[x.clone()], |b, t| b.call(p, &[&t[0]]));
        let y_words = run(Fused, &graph, &[x.clone()], &[]).unwrap().remove(0);
        let y_shape: Vec<usize> = graph.shape(graph.outputs[0].value).to_vec();
        let y = Given { words: y_words, ..Given::floats(&mut rng, &y_shape) };
        let g = Given::floats(&mut rng, &y_shape);
        let p = MaxPoolGrad {
            kernel: kernel.clone(),
            stride: stride.clone(),
            pad: pad.clone(),
            dilation: dilation.clone(),
        };
        check_call(&what, &[x.clone(), y, g.clone()], tight, p);
        let p =
            SumPool { kernel: kernel.clone(), stride: stride.clone(), pad: pad.clone(), dilation: dilation.clone() };
        check_call(&what, &[Given::floats(&mut rng, &shape)], Bound { rel: 1e-6, abs: 4e-6 }, p);
        let p = SumPoolGrad { kernel, stride, pad, dilation, input: Shape(shape.clone()) };
        check_call(&what, &[g], Bound { rel: 1e-6, abs: 4e-6 }, p);
    }
}

#[test]
fn attention_and_gradient() {
    let mut rng = Rng::named(35, "cpu/attention");
    for [b, h, l, s, e, d] in [[1, 1, 1, 1, 1, 1], [2, 3, 7, 9, 5, 6], [1, 2, 65, 130, 16, 8], [2, 1, 150, 150, 8, 8]] {
        for (causal, mask) in [(false, None), (true, None), (false, Some(DType::Bool)), (true, Some(DType::F32))] {
            let scale = 1.0 / (e as f64).sqrt();
            let turned = |rng: &mut Rng, n: usize, w: usize| {
                Given::floats(rng, &[b, n, h, w]).seen(|v| v.permute(&[0, 2, 1, 3]))
            };
            let mut given =
                vec![turned(&mut rng, l, e), turned(&mut rng, s, e), Given::floats(&mut rng, &[b, h, s, d])];
            match mask {
                Some(DType::Bool) => {
                    let mut m = Given::below(&mut rng, &[b, 1, l, s], 2).of_type(DType::Bool);
                    // A query that sees nothing.
                    m.words[..s].fill(0);
                    given.push(m);
                }
                Some(_) => given.push(Given::floats(&mut rng, &[1, h, 1, s])),
                None => {}
            }
            let has_mask = mask.is_some();
            let what = format!("{b} {h} {l} {s} {e} {d} causal {causal} mask {mask:?}");
            let forward = Attention { causal, scale, has_mask };
            check_call(&what, &given, Bound { rel: 1e-5, abs: 1e-5 }, forward.clone());
            let graph = body(&given, |b, x| b.call(forward, &x.iter().collect::<Vec<_>>()));
            let mut outs = run(Fused, &graph, &given, &[]).unwrap();
            let (lse, out) = (outs.pop().unwrap(), outs.pop().unwrap());
            given.push(Given { words: out, ..Given::floats(&mut rng, &[b, h, l, d]) });
            given.push(Given { words: lse, ..Given::floats(&mut rng, &[b, h, l]) });
            given.push(turned(&mut rng, l, d));
            let bound = Bound { rel: 2e-5, abs: 3e-5 };
            check_call(&what, &given, bound, AttentionGrad { causal, scale, has_mask });
        }
    }
}

/// The gradient of attention reads neither its result nor a copy of something else in its place.
#[test]
fn results_of_attention_are_not_kept() {
    let b = Builder::new();
    let [q, k, v, g] = ["q", "k", "v", "g"].map(|n| b.feed(n, DType::F32, [2, 16, 4, 8]).permute(&[0, 2, 1, 3]));
    let y = q.scaled_dot_product_attention(&k, &v, &Default::default());
    b.output("dq", OutputKind::Fetch, &grad(&(y * g).sum(&[], false), &[&q])[0]);
    let plan = plan(&b.build().unwrap(), &Cpu::new(), None, &PlanOptions::default()).unwrap();
    let regions: Vec<Region> = plan
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::Run { region, .. } => Some(region.clone()),
            Step::Copy { .. } => None,
        })
        .collect();
    assert_eq!(regions.iter().map(|r| r.kind).collect::<Vec<_>>(), [Fused; 2], "{plan}");
    assert_eq!(regions[1].args[3].source, regions[1].args[5].source, "{plan}");
}
