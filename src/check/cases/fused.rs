//! Composites: odd sizes, and the inputs on which an unstable kernel fails (rows of mean 1e4 and deviation 1, logits of
//! 1e4, masks of -inf, rows without any key). Their gradients are cases too, as composites of their own.

use super::by;
use crate::check::case::{Case, Gen};
use crate::ir::{Builder, Tensor};
use crate::ops::Composite;
use crate::ops::attention::{Attention, AttentionGrad};
use crate::ops::batch_norm::{BatchNorm, BatchNormGrad};
use crate::ops::cross_entropy::{CrossEntropy, CrossEntropyGrad};
use crate::ops::layer_norm::{LayerNorm, LayerNormGrad};
use crate::ops::pool::{MaxPool, MaxPoolGrad, SumPool, SumPoolGrad};
use crate::ops::rnn::{Cell, Recurrence};
use crate::ops::softmax::{LogSoftmax, LogSoftmaxGrad, Softmax, SoftmaxGrad};

fn unit() -> Gen {
    Gen::Normal(0.0, 1.0)
}

/// A call of a composite on the inputs as they are.
fn call<C: Composite + Clone>(name: String, composite: C) -> Case {
    Case::new(name, move |b, t| b.call(composite.clone(), &t.iter().collect::<Vec<_>>()))
}

pub(super) fn cases() -> Vec<Case> {
    [softmax(), cross_entropy(), attention(), batch_norm(), layer_norm(), pooling(), recurrence()].concat()
}

fn softmax() -> Vec<Case> {
    let mut out = Vec::new();
    for [rows, n] in [[1, 1], [3, 63], [64, 64], [65, 257], [2, 1757]] {
        let size = by(&[rows, n]);
        out.push(call(format!("softmax/{size}"), Softmax).f32([rows, n], Gen::Normal(0.0, 3.0)).grad());
        out.push(call(format!("log_softmax/{size}"), LogSoftmax).f32([rows, n], Gen::Normal(0.0, 3.0)).grad());
        let probabilities = Gen::Uniform(0.0, 2.0 / n as f64);
        out.push(
            call(format!("softmax_grad/{size}"), SoftmaxGrad).f32([rows, n], probabilities).f32([rows, n], unit()),
        );
        out.push(
            call(format!("log_softmax_grad/{size}"), LogSoftmaxGrad)
                .f32([rows, n], Gen::Uniform(-9.0, -0.1))
                .f32([rows, n], unit()),
        );
    }
    let inf = f64::INFINITY;
    let masked = Gen::Fixed(vec![1.0, -inf, 2.0, -inf, -inf, 0.5, 3.0]);
    let logits = Gen::Uniform(-1e4, 1e4);
    out.push(call("softmax/logits_1e4".into(), Softmax).f32([5, 65], logits.clone()));
    out.push(call("log_softmax/logits_1e4".into(), LogSoftmax).f32([5, 65], logits));
    out.push(call("softmax/mean_1e4".into(), Softmax).f32([5, 65], Gen::Normal(1e4, 1.0)));
    out.push(call("softmax/minus_inf".into(), Softmax).f32([5, 33], masked.clone()));
    out.push(call("log_softmax/minus_inf".into(), LogSoftmax).f32([5, 33], masked));
    out.push(call("softmax/only_minus_inf".into(), Softmax).f32([2, 65], Gen::Fixed(vec![-inf])));
    out.push(call("softmax/nan".into(), Softmax).f32([2, 3], Gen::Fixed(vec![1.0, f64::NAN, 2.0, 1.0, 3.0, 2.0])));
    out
}

/// The loss, and the log of the sum of exponentials in one piece: its two parts shift against each other, so that only
/// their sum has a derivative.
fn entropy(name: String, composite: CrossEntropy) -> Case {
    Case::new(name, move |b, t| {
        let outs = b.call(composite.clone(), &t.iter().collect::<Vec<_>>());
        vec![outs[0].clone(), &outs[1] + &outs[2]]
    })
}

fn cross_entropy() -> Vec<Case> {
    let mut out = Vec::new();
    for (n, c, label_smoothing) in [(1, 1, 0.0), (3, 65, 0.0), (65, 10, 0.1), (64, 257, 0.0), (5, 63, 0.2)] {
        let size = format!("{n}x{c}/smoothing{label_smoothing}");
        let forward = CrossEntropy { ignore_index: -100, label_smoothing };
        let target = Gen::Int(0, c as i32);
        out.push(
            entropy(format!("cross_entropy/{size}"), forward)
                .f32([n, c], Gen::Normal(0.0, 3.0))
                .i32([n], target.clone())
                .grad(),
        );
        let backward = CrossEntropyGrad { ignore_index: -100, label_smoothing };
        out.push(
            call(format!("cross_entropy_grad/{size}"), backward)
                .f32([n, c], unit())
                .i32([n], target)
                .f32([n], Gen::Uniform(0.0, 2.0))
                .f32([n], Gen::Uniform(5.0, 7.0))
                .f32([n], unit()),
        );
    }
    let some_ignored = Gen::Fixed(vec![2.0, -100.0, 0.0, -100.0, -100.0, 4.0]);
    let forward = CrossEntropy { ignore_index: -100, label_smoothing: 0.1 };
    out.push(
        entropy("cross_entropy/ignored".into(), forward.clone()).f32([9, 5], unit()).i32([9], some_ignored).grad(),
    );
    out.push(
        entropy("cross_entropy/ignore_class".into(), CrossEntropy { ignore_index: 1, label_smoothing: 0.0 })
            .f32([9, 3], unit())
            .i32([9], Gen::Int(0, 3))
            .grad(),
    );
    out.push(
        entropy("cross_entropy/logits_1e4".into(), CrossEntropy { ignore_index: -100, label_smoothing: 0.0 })
            .f32([5, 65], Gen::Uniform(-1e4, 1e4))
            .i32([5], Gen::Int(0, 65)),
    );
    out
}

fn attention() -> Vec<Case> {
    let mut out = Vec::new();
    // b, h, l, s, e, d
    for [b, h, l, s, e, d] in [[1, 1, 1, 1, 1, 1], [2, 3, 5, 7, 4, 3], [1, 2, 65, 63, 16, 16], [2, 1, 33, 65, 64, 64]] {
        for causal in [false, true] {
            let name = format!("attention/{}{}", by(&[b, h, l, s, e, d]), if causal { "/causal" } else { "" });
            let scale = 1.0 / (e as f64).sqrt();
            let case = call(name, Attention { causal, scale, has_mask: false })
                .f32([b, h, l, e], unit())
                .f32([b, h, s, e], unit())
                .f32([b, h, s, d], unit());
            // Both gradients of the largest would take minutes in f64.
            out.push(case.grad());
        }
    }
    let masked = |name: &str, causal: bool| {
        call(format!("attention/{name}"), Attention { causal, scale: 0.5, has_mask: true })
            .f32([2, 3, 5, 4], unit())
            .f32([2, 3, 9, 4], unit())
            .f32([2, 3, 9, 4], unit())
    };
    let inf = f64::INFINITY;
    let added = Gen::Fixed(vec![0.0, -inf, 0.5, 0.0, -1.0, -inf, 0.0, 0.25, 0.0]);
    out.push(masked("mask_bool", false).bool([2, 3, 5, 9], Gen::Bool(0.7)).grad());
    out.push(masked("mask_bool_broadcast/causal", true).bool([1, 1, 5, 9], Gen::Bool(0.7)).grad());
    out.push(masked("mask_keys", false).bool([2, 1, 1, 9], Gen::Bool(0.7)).grad());
    out.push(masked("mask_added", false).f32([2, 3, 5, 9], unit()).grad());
    out.push(masked("mask_added_broadcast", false).f32([1, 3, 1, 9], unit()).grad());
    out.push(masked("mask_minus_inf", false).f32([1, 1, 5, 9], added));
    // Every third query sees nothing: zeros out, -inf as its log of sums, zero gradients.
    let rows = Gen::Fixed([vec![1.0; 18], vec![0.0; 9]].concat());
    out.push(masked("row_without_keys", false).bool([2, 3, 5, 9], rows.clone()).grad());
    out.push(
        masked("row_without_keys/causal", true)
            .bool([1, 1, 5, 9], Gen::Fixed([vec![0.0; 9], vec![1.0; 9]].concat()))
            .grad(),
    );
    out.push(masked("no_keys_at_all", false).bool([2, 3, 5, 9], Gen::Bool(0.0)).grad());
    out.push(
        call("attention/logits_1e4".into(), Attention { causal: false, scale: 1.0, has_mask: false })
            .f32([1, 2, 9, 4], Gen::Normal(0.0, 100.0))
            .f32([1, 2, 33, 4], Gen::Normal(0.0, 100.0))
            .f32([1, 2, 33, 4], unit()),
    );
    for causal in [false, true] {
        // Kernels rely on the result and lse being those of the operands.
        let both = move |b: &Builder, t: &[Tensor]| {
            let out = b.call(Attention { causal, scale: 0.25, has_mask: false }, &[&t[0], &t[1], &t[2]]);
            let grad = AttentionGrad { causal, scale: 0.25, has_mask: false };
            b.call(grad, &[&t[0], &t[1], &t[2], &out[0], &out[1], &t[3]])
        };
        out.push(
            Case::new(format!("attention_grad/2x3x17x33x8{}", if causal { "/causal" } else { "" }), both)
                .f32([2, 3, 17, 8], unit())
                .f32([2, 3, 33, 8], unit())
                .f32([2, 3, 33, 8], unit())
                .f32([2, 3, 17, 8], unit()),
        );
    }
    out
}

fn batch_norm() -> Vec<Case> {
    let mut out = Vec::new();
    let weight = Gen::Uniform(0.5, 1.5);
    for [n, c, s] in [[2, 1, 1], [3, 5, 1], [65, 3, 1], [2, 3, 63], [5, 7, 65], [3, 65, 17]] {
        let size = by(&[n, c, s]);
        out.push(
            call(format!("batch_norm/{size}"), BatchNorm { eps: 1e-5 })
                .f32([n, c, s], Gen::Normal(1.0, 2.0))
                .f32([c], weight.clone())
                .f32([c], unit())
                .grad(),
        );
        out.push(
            call(format!("batch_norm_grad/{size}"), BatchNormGrad { eps: 1e-5 })
                .f32([n, c, s], Gen::Normal(1.0, 2.0))
                .f32([c], weight.clone())
                .f32([c], Gen::Normal(1.0, 0.1))
                .f32([c], Gen::Uniform(3.0, 5.0))
                .f32([n, c, s], unit()),
        );
    }
    for (name, values) in [("mean_1e4", Gen::Normal(1e4, 1.0)), ("constant", Gen::Fixed(vec![3.0]))] {
        out.push(
            call(format!("batch_norm/{name}"), BatchNorm { eps: 1e-5 })
                .f32([5, 3, 33], values)
                .f32([3], weight.clone())
                .f32([3], unit()),
        );
    }
    out
}

fn layer_norm() -> Vec<Case> {
    let mut out = Vec::new();
    let weight = Gen::Uniform(0.5, 1.5);
    for [rows, n] in [[1, 2], [3, 63], [65, 64], [5, 257], [2, 1757]] {
        let size = by(&[rows, n]);
        out.push(
            call(format!("layer_norm/{size}"), LayerNorm { eps: 1e-5 })
                .f32([rows, n], Gen::Normal(1.0, 2.0))
                .f32([n], weight.clone())
                .f32([n], unit())
                .grad(),
        );
        out.push(
            call(format!("layer_norm_grad/{size}"), LayerNormGrad { eps: 1e-5 })
                .f32([rows, n], Gen::Normal(1.0, 2.0))
                .f32([n], weight.clone())
                .f32([rows], Gen::Normal(1.0, 0.1))
                .f32([rows], Gen::Uniform(0.4, 0.6))
                .f32([rows, n], unit()),
        );
    }
    for (name, values) in [("mean_1e4", Gen::Normal(1e4, 1.0)), ("constant", Gen::Fixed(vec![3.0]))] {
        out.push(
            call(format!("layer_norm/{name}"), LayerNorm { eps: 1e-5 })
                .f32([5, 65], values)
                .f32([65], weight.clone())
                .f32([65], unit()),
        );
    }
    out
}

fn recurrence() -> Vec<Case> {
    let mut out = Vec::new();
    // Steps, batch, state, projected state.
    for ([t, b, h, p], reverse) in [([1, 1, 1, 1], false), ([4, 3, 5, 5], true), ([3, 2, 17, 9], false)] {
        for cell in [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru] {
            let (composite, rows) = (Recurrence { cell, reverse }, cell.gates() * h);
            let p = if cell == Cell::Lstm { p } else { h };
            let weight = Gen::Normal(0.0, 1.0 / (h as f64).sqrt());
            let name = format!("{}/{}", composite.name(), by(&[t, b, h, p]));
            let case =
                call(name, composite).f32([t, b, rows], unit()).f32([rows, p], weight.clone()).f32([b, p], unit());
            let case = match cell {
                Cell::Tanh | Cell::Relu => case,
                Cell::Lstm if p < h => case.f32([b, h], unit()).f32([p, h], weight),
                Cell::Lstm => case.f32([b, h], unit()),
                Cell::Gru => case.f32([rows], unit()),
            };
            // Differences may step over the kink of relu.
            out.push(if cell == Cell::Relu { case } else { case.grad() });
        }
    }
    out
}

struct Window {
    name: &'static str,
    x: Vec<usize>,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    pad: Vec<(usize, usize)>,
    dilation: Vec<usize>,
}

fn windows() -> Vec<Window> {
    let two = |name,
               x: [usize; 4],
               kernel: [usize; 2],
               stride: [usize; 2],
               pad: [(usize, usize); 2],
               dilation: [usize; 2]| {
        Window {
            name,
            x: x.to_vec(),
            kernel: kernel.to_vec(),
            stride: stride.to_vec(),
            pad: pad.to_vec(),
            dilation: dilation.to_vec(),
        }
    };
    vec![
        two("2x2", [2, 3, 8, 6], [2, 2], [2, 2], [(0, 0); 2], [1, 1]),
        two("remainder", [2, 3, 9, 7], [2, 2], [2, 2], [(0, 0); 2], [1, 1]),
        two("overlap", [1, 5, 9, 7], [3, 3], [1, 2], [(1, 1), (0, 1)], [1, 1]),
        two("dilated", [2, 2, 11, 9], [3, 2], [2, 1], [(1, 1), (0, 0)], [2, 3]),
        two("gaps", [1, 2, 13, 13], [2, 2], [4, 5], [(0, 0); 2], [1, 1]),
        two("one", [1, 1, 1, 1], [1, 1], [1, 1], [(0, 0); 2], [1, 1]),
        two("wide", [3, 65, 4, 4], [2, 2], [2, 2], [(0, 0); 2], [1, 1]),
        Window {
            name: "1d",
            x: vec![2, 3, 65],
            kernel: vec![3],
            stride: vec![2],
            pad: vec![(1, 1)],
            dilation: vec![1],
        },
    ]
}

fn pooling() -> Vec<Case> {
    let mut out = Vec::new();
    for Window { name, x, kernel, stride, pad, dilation } in windows() {
        let (k, s, p, d) = (kernel.clone(), stride.clone(), pad.clone(), dilation.clone());
        let max = MaxPool { kernel: k, stride: s, pad: p, dilation: d };
        out.push(call(format!("max_pool/{name}"), max.clone()).f32(x.clone(), Gen::Distinct).grad());
        let (k, s, p, d) = (kernel.clone(), stride.clone(), pad.clone(), dilation.clone());
        let grad = MaxPoolGrad { kernel: k, stride: s, pad: p, dilation: d };
        // Whole numbers make ties: the first maximum takes all.
        let ties = Case::new(format!("max_pool_grad/{name}/ties"), move |b, t| {
            let y = b.call(max.clone(), &[&t[0]]).remove(0);
            let g = (&y + 0.5) * 0.25;
            b.call(grad.clone(), &[&t[0], &y, &g])
        });
        out.push(ties.f32(x.clone(), Gen::Int(0, 3)));
        let (k, s, p, d) = (kernel.clone(), stride.clone(), pad.clone(), dilation.clone());
        let sum = SumPool { kernel: k, stride: s, pad: p, dilation: d };
        out.push(call(format!("sum_pool/{name}"), sum.clone()).f32(x.clone(), unit()).grad());
        let grad = SumPoolGrad { kernel, stride, pad, dilation, input: x.clone().into() };
        out.push(
            Case::new(format!("sum_pool_grad/{name}"), move |b, t| {
                let y = b.call(sum.clone(), &[&t[0]]).remove(0);
                b.call(grad.clone(), &[&y])
            })
            .f32(x, unit()),
        );
    }
    let nan = Gen::Fixed(vec![1.0, f64::NAN, 3.0, f64::NEG_INFINITY, 5.0]);
    let max = MaxPool { kernel: vec![2, 2], stride: vec![2, 2], pad: vec![(0, 0); 2], dilation: vec![1, 1] };
    out.push(call("max_pool/nan".into(), max).f32([1, 2, 6, 4], nan));
    out
}
