//! Modules on the reference backend: names, initial distributions, masks, statistics of padded batches.

use crate::backend::{Device, Program, Store};
use crate::dtype::DType;
use crate::grad::grad;
use crate::ir::{Builder, OutputKind, Tensor, Type};
use crate::nn::*;
use crate::ops::activation::Gelu as Form;
use crate::ops::cross_entropy::CrossEntropyOptions;
use crate::tensor::HostTensor;

fn names(params: &Params) -> Vec<String> {
    params.specs().into_iter().map(|s| s.name).collect()
}

/// Runs a graph once on the reference; states hold their first contents for seed 1. Returns the fetched outputs and
/// the store.
fn run(params: &Params, outs: &[&Tensor], feeds: &[(&str, &HostTensor)]) -> (Vec<HostTensor>, Store) {
    let builder = params.builder();
    for (i, t) in outs.iter().enumerate() {
        builder.output(format!("out{i}"), OutputKind::Fetch, t);
    }
    let store = Store::new(&Device::open("reference").unwrap());
    for (name, value) in params.init(1).unwrap() {
        store.insert(name, &value).unwrap();
    }
    let mut program = Program::compile(&store, builder.build().unwrap()).unwrap();
    (program.run(feeds).unwrap(), store)
}

fn wave(shape: impl Into<crate::Shape>, k: f32) -> HostTensor {
    let shape = shape.into();
    let n = shape.elems();
    HostTensor::f32(shape, (0..n).map(|i| (i as f32 * k + 0.3).sin()).collect()).unwrap()
}

/// Elementwise within 1e-5 relative to the largest magnitude: a few hundred f32 roundings of numbers of this size.
#[track_caller]
fn close(a: &HostTensor, b: &HostTensor) {
    assert_eq!(a.shape, b.shape);
    let scale = b.to_f64().iter().fold(1e-3, |m: f64, x| m.max(x.abs()));
    for (i, (x, y)) in a.to_f64().iter().zip(b.to_f64()).enumerate() {
        let fits = (x - y).abs() <= 1e-5 * scale;
        assert!(fits, "element {i}: {x} and {y}");
    }
}

#[test]
fn names_are_those_of_torch() {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let net = Sequential::new()
        .add(Conv2d::new(1, 4, 3).padding(1))
        .add(BatchNorm2d::new(4))
        .add(Relu)
        .add(MaxPool2d::new(2))
        .add(Flatten::new())
        .add(Linear::new(64, 10));
    let x = b.feed("x", DType::F32, [2, 1, 8, 8]);
    let y = net.forward(&params.scope().child("net"), &x);
    assert_eq!(y.shape()[..], [2, 10]);
    assert_eq!(
        names(&params),
        [
            "net.0.weight",
            "net.0.bias",
            "net.1.weight",
            "net.1.bias",
            "net.1.running_mean",
            "net.1.running_var",
            "net.1.num_batches_tracked",
            "net.5.weight",
            "net.5.bias"
        ]
    );
    assert_eq!(params.trainable().len(), 6);
    b.build().unwrap();

    let b = Builder::new();
    let params = Params::new(&b, Mode::Eval);
    let q = b.feed("q", DType::F32, [3, 2, 8]);
    let attention = MultiheadAttention { kdim: Some(5), add_bias_kv: true, ..MultiheadAttention::new(8, 2) };
    let k = b.feed("k", DType::F32, [4, 2, 5]);
    let v = b.feed("v", DType::F32, [4, 2, 8]);
    attention.attend(&params.scope(), &q, &k, &v, &MultiheadOptions::default());
    let mut found = names(&params);
    found.sort();
    assert_eq!(
        found,
        [
            "bias_k",
            "bias_v",
            "in_proj_bias",
            "k_proj_weight",
            "out_proj.bias",
            "out_proj.weight",
            "q_proj_weight",
            "v_proj_weight"
        ]
    );
    b.build().unwrap();
}

#[test]
fn one_name_is_one_tensor_and_misfits_are_errors() {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let s = params.scope().child("layers").child(0);
    let first = s.param("weight", [2, 3], Init::ZEROS);
    assert_eq!(first.value(), s.param("weight", [2, 3], Init::ZEROS).value());
    assert_eq!(names(&params), ["layers.0.weight"]);
    s.param("weight", [3, 2], Init::ZEROS);
    let message = b.build().unwrap_err().to_string();
    assert!(message.contains("layers.0.weight") && message.contains("[2,3]") && message.contains("[3,2]"), "{message}");
    assert!(message.contains("nn/tests.rs"), "{message}");

    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let x = b.feed("x", DType::F32, [2, 7]);
    params.scope().run("fc1", &Linear::new(8, 4), &x);
    let message = b.build().unwrap_err().to_string();
    assert!(message.contains("fc1") && message.contains("8 features") && message.contains("f32[2,7]"), "{message}");

    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let x = b.feed("x", DType::F32, [2, 7]);
    params.scope().run("drop", &Dropout::new(0.5), &x);
    assert!(b.build().unwrap_err().to_string().contains("counter"));
}

#[test]
fn initial_distributions() {
    let draw =
        |init: Init, shape: [usize; 2], name: &str| init.draw(name, &Type::new(DType::F32, shape), 3).unwrap().to_f64();
    let moments = |v: &[f64]| {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64)
    };
    // Linear: uniform within 1/sqrt(64) = 0.125, variance bound^2/3. Five standard errors each; those of the variance
    // are sqrt(4/45) bound^2 / sqrt(n) for a uniform and sqrt(2/n) for a normal distribution.
    let v = draw(Init::TORCH_WEIGHT, [200, 64], "w");
    let (mean, var) = moments(&v);
    let n = v.len() as f64;
    assert!(v.iter().all(|x| x.abs() <= 0.125) && v.iter().any(|x| x.abs() > 0.1245));
    assert!(mean.abs() < 5.0 * 0.125 / (3.0 * n).sqrt(), "mean {mean}");
    assert!((var - 0.125f64.powi(2) / 3.0).abs() < 5.0 * (4.0f64 / 45.0).sqrt() * 0.125f64.powi(2) / n.sqrt());
    let v = draw(Init::Normal { std: 2.0 }, [100, 100], "e");
    let (mean, var) = moments(&v);
    assert!(mean.abs() < 5.0 * 2.0 / 100.0 && (var / 4.0 - 1.0).abs() < 5.0 * 2f64.sqrt() / 100.0, "{mean} {var}");
    // fan_in 30, fan_out 10: sqrt(6/40).
    let v = draw(Init::XavierUniform { gain: 1.0 }, [10, 30], "x");
    assert!(v.iter().all(|x| x.abs() <= 0.15f64.sqrt() + 1e-7) && v.iter().any(|x| x.abs() > 0.36));
    let v = draw(Init::NormalZeroRow { std: 1.0, row: 1 }, [3, 4], "p");
    assert!(v[4..8].iter().all(|x| *x == 0.0) && v[..4].iter().chain(&v[8..]).all(|x| *x != 0.0));
    // A function of name and seed, not of order.
    assert_ne!(draw(Init::TORCH_WEIGHT, [4, 4], "a"), draw(Init::TORCH_WEIGHT, [4, 4], "b"));
    assert_eq!(draw(Init::TORCH_WEIGHT, [4, 4], "a"), draw(Init::TORCH_WEIGHT, [4, 4], "a"));
}

#[test]
fn dropout_drops_a_share_and_its_gradient_the_same() {
    let b = Builder::new();
    let counter = b.feed("counter", DType::U32, [4]);
    let params = Params::with(&b, Mode::Train, Some(&counter), None);
    let x = b.feed("x", DType::F32, [4000]);
    let first = params.scope().run("a", &Dropout::new(0.25), &x);
    let again = params.scope().run("a", &Dropout::new(0.25), &x);
    let g = grad(&(&first * &first).sum(&[], false), &[&x]).remove(0);
    let ones = HostTensor::f32([4000], vec![1.0; 4000]).unwrap();
    let counter = HostTensor::u32([4], vec![5, 0, 9, 0]).unwrap();
    let (outs, _) = run(&params, &[&first, &again, &g], &[("x", &ones), ("counter", &counter)]);
    let [first, again, g] = [0, 1, 2].map(|i| outs[i].to_f64());
    let kept = first.iter().filter(|v| **v != 0.0).count() as f64;
    // Five standard deviations of a binomial count.
    assert!((kept - 3000.0).abs() < 5.0 * (4000.0f64 * 0.25 * 0.75).sqrt(), "{kept} kept");
    let scale = f64::from(1.0f32 / 0.75);
    assert!(first.iter().all(|v| *v == 0.0 || (v - scale).abs() < 1e-6));
    assert_ne!(first, again, "a second use draws anew");
    // d(y^2)/dx = 2 y * scale where kept, 0 where dropped.
    assert!(first.iter().zip(&g).all(|(y, g)| (2.0 * y * scale - g).abs() < 1e-5));

    let b = Builder::new();
    let params = Params::new(&b, Mode::Eval);
    let x = b.feed("x", DType::F32, [3]);
    assert_eq!(Dropout::new(0.9).forward(&params.scope(), &x).value(), x.value());
}

/// After n batches the running statistics are the plain averages, whatever they were at the start.
#[test]
fn batch_norm_without_momentum_averages() {
    let (b, c) = (Builder::new(), 2);
    let params = Params::new(&b, Mode::Train);
    let mut norm = BatchNorm1d::new(c);
    norm.0.momentum = None;
    let x = b.feed("x", DType::F32, [3, c]);
    let y = norm.forward(&params.scope(), &x);
    b.output("y", OutputKind::Fetch, &y);
    params.emit_updates();
    let store = Store::new(&Device::open("reference").unwrap());
    for (name, value) in params.init(1).unwrap() {
        store.insert(name, &value).unwrap();
    }
    let mut program = Program::compile(&store, b.build().unwrap()).unwrap();
    for values in [[0.0, 1.0, 3.0, 4.0, 6.0, 7.0], [3.0, 1.0, 3.0, 4.0, 3.0, 7.0]] {
        program.run(&[("x", &HostTensor::f32([3, c], values.to_vec()).unwrap())]).unwrap();
    }
    // Means (3, 4) and (3, 4); unbiased variances (9, 9) and (0, 9).
    close(&store.get("running_mean").unwrap(), &HostTensor::f32([c], vec![3.0, 4.0]).unwrap());
    close(&store.get("running_var").unwrap(), &HostTensor::f32([c], vec![4.5, 9.0]).unwrap());
}

#[test]
fn recurrent_networks() {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Eval);
    let x = b.feed("x", DType::F32, [5, 3]);
    let lstm = Lstm { proj_size: 2, ..Lstm::new(RnnConfig::new(3, 4).layers(2).bidirectional()) };
    let (out, h_n, c_n) = lstm.run(&params.scope().child("rnn"), &x, None, None);
    assert_eq!((&out.shape()[..], &h_n.shape()[..], &c_n.shape()[..]), (&[5, 4][..], &[4, 2][..], &[4, 4][..]));
    let found = names(&params);
    let first = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"].map(|n| format!("rnn.{n}_l0"));
    assert_eq!(found[..5], first);
    assert_eq!((found.len(), found[19].as_str()), (20, "rnn.weight_hr_l1_reverse"));
    assert!(params.specs().iter().all(|s| s.init == Init::Uniform { bound: 0.5 }));
    let gru = Gru::new(RnnConfig::new(3, 4).batch_first());
    let batch = b.feed("batch", DType::F32, [2, 5, 3]);
    let (g, last) = gru.run(&params.scope().child("gru"), &batch, None);
    assert_eq!((&g.shape()[..], &last.shape()[..]), (&[2, 5, 4][..], &[1, 2, 4][..]));
    let xs = wave([5, 3], 0.7);
    let (outs, _) = run(&params, &[&out, &h_n, &g, &last], &[("x", &xs), ("batch", &wave([2, 5, 3], 0.9))]);
    // The last states are rows of the results: forward of the last position, backward of the first.
    let (o, h) = (outs[0].to_f64(), outs[1].to_f64());
    assert_eq!((&o[16..18], &o[2..4]), (&h[4..6], &h[6..8]));
    let (g, last) = (outs[2].to_f64(), outs[3].to_f64());
    assert_eq!((&g[16..20], &g[36..40]), (&last[..4], &last[4..]));

    let b = Builder::new();
    let params = Params::new(&b, Mode::Eval);
    let x = b.feed("x", DType::F32, [5, 2, 7]);
    Rnn::relu(RnnConfig::new(3, 4)).run(&params.scope().child("net"), &x, None);
    let e = b.build().unwrap_err().to_string();
    assert!(e.contains("net") && e.contains("I = 3"), "{e}");
}

#[test]
fn padded_rows_do_not_enter_batch_norm() {
    let data = wave([5, 3, 2, 2], 1.7);
    let outcome = |rows: usize, weights: Option<Vec<f32>>| {
        let b = Builder::new();
        let w = weights.as_ref().map(|_| b.feed("w", DType::F32, [rows]));
        let params = Params::with(&b, Mode::Train, None, w.as_ref());
        let x = b.feed("x", DType::F32, [rows, 3, 2, 2]);
        let y = BatchNorm2d::new(3).forward(&params.scope(), &x);
        params.emit_updates();
        let input = HostTensor::f32([rows, 3, 2, 2], data.as_f32().unwrap()[..rows * 12].to_vec()).unwrap();
        let weights = weights.map(|w| HostTensor::f32([rows], w).unwrap());
        let mut feeds = vec![("x", &input)];
        feeds.extend(weights.as_ref().map(|w| ("w", w)));
        let (outs, store) = run(&params, &[&y], &feeds);
        let head = HostTensor::f32([3 * 12], outs[0].as_f32().unwrap()[..36].to_vec()).unwrap();
        let buffers = ["running_mean", "running_var", "num_batches_tracked"].map(|n| store.get(n).unwrap());
        (head, buffers)
    };
    let (alone, buffers) = outcome(3, None);
    let (padded, buffers_padded) = outcome(5, Some(vec![1.0, 1.0, 1.0, 0.0, 0.0]));
    close(&padded, &alone);
    close(&buffers_padded[0], &buffers[0]);
    close(&buffers_padded[1], &buffers[1]);
    assert_eq!(buffers_padded[2].as_i32().unwrap(), [1]);
    let (unmasked, _) = outcome(5, None);
    assert_ne!(unmasked, alone, "the rows that were left out do matter");
}

#[test]
fn pieces_and_their_gradient() {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Eval);
    let x = b.feed("x", DType::F32, [2, 6]);
    let parts = super::split::split(&x, 1, 3);
    let loss = (&parts[0] * &parts[2] + &parts[0] * 3.0).sum(&[], false);
    let g = grad(&loss, &[&x]).remove(0);
    let input = HostTensor::f32([2, 6], (1..=12).map(|i| i as f32).collect()).unwrap();
    let (outs, _) = run(&params, &[&parts[1], &g], &[("x", &input)]);
    assert_eq!(outs[0].as_f32().unwrap(), [3.0, 4.0, 9.0, 10.0]);
    assert_eq!(outs[1].as_f32().unwrap(), [8.0, 9.0, 0.0, 0.0, 1.0, 2.0, 14.0, 15.0, 0.0, 0.0, 7.0, 8.0]);
}

#[test]
fn attention_is_the_same_with_and_without_weights() {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Eval);
    let x = b.feed("x", DType::F32, [2, 5, 8]);
    let layer =
        MultiheadAttention { add_zero_attn: true, add_bias_kv: true, ..MultiheadAttention::new(8, 2).batch_first() };
    let mask = b.iota(5).reshape([5, 1]).lt(&b.iota(5).reshape([1, 5]));
    let attend = |x: &Tensor, options: MultiheadOptions| layer.attend(&params.scope(), x, x, x, &options);
    let masked = MultiheadOptions { attn_mask: Some(&mask), ..Default::default() };
    let (fast, none) = attend(&x, masked.clone());
    assert!(none.is_none());
    let (slow, weights) = attend(&x, MultiheadOptions { need_weights: true, ..masked });
    let copy = &x + 0.0;
    // Three tensors instead of one: the projections are made one by one.
    let (apart, _) = layer.attend(
        &params.scope(),
        &x,
        &copy,
        &copy,
        &MultiheadOptions { attn_mask: Some(&mask), ..Default::default() },
    );
    let (outs, _) = run(&params, &[&fast, &slow, &apart, &weights.unwrap()], &[("x", &wave([2, 5, 8], 0.7))]);
    close(&outs[0], &outs[1]);
    close(&outs[2], &outs[1]);
    assert_eq!(outs[3].shape[..], [2, 5, 7]);
    for row in outs[3].to_f64().chunks(7) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    }
    let first = &outs[3].to_f64()[..7];
    assert!(first[0] > 0.0 && first[1..5].iter().all(|w| *w == 0.0) && first[5] > 0.0 && first[6] > 0.0, "{first:?}");
}

#[test]
fn gpt_starts_at_the_uniform_loss_and_never_looks_ahead() {
    let gpt = Gpt { vocab: 11, context: 8, layers: 2, heads: 2, width: 16, dropout: 0.0, checkpoint: false };
    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let tokens = b.feed("tokens", DType::I32, [2, 6]);
    let logits = gpt.forward(&params.scope(), &tokens);
    let targets = b.feed("targets", DType::I32, [12]);
    let loss = logits.reshape([12, 11]).cross_entropy(&targets, &CrossEntropyOptions::default());
    let wrt = params.trainable();
    let grads = grad(&loss, &wrt.iter().map(|(_, t)| t).collect::<Vec<_>>());
    let names: Vec<&str> = wrt.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names[..4], ["wpe.weight", "wte.weight", "h.0.ln_1.weight", "h.0.ln_1.bias"]);
    assert!(names.contains(&"h.1.attn.c_attn.weight") && names.contains(&"h.1.mlp.c_proj.bias"), "{names:?}");
    assert_eq!(names.last(), Some(&"head.weight"));
    let mut outs = vec![&logits, &loss];
    outs.extend(&grads);
    let input = HostTensor::i32([2, 6], vec![1, 2, 3, 4, 5, 6, 1, 2, 3, 9, 9, 9]).unwrap();
    let target = HostTensor::i32([12], (0..12).map(|i| i % 11).collect()).unwrap();
    let (outs, _) = run(&params, &outs, &[("tokens", &input), ("targets", &target)]);
    assert!((outs[1].item().unwrap() as f64 - 11f64.ln()).abs() < 0.05, "{:?}", outs[1]);
    let logits = outs[0].to_f64();
    // Both rows agree up to position 2 and differ after it.
    assert_eq!(logits[..33], logits[66..99]);
    assert_ne!(logits[33..44], logits[99..110]);
    for (name, g) in names.iter().zip(&outs[2..]) {
        assert!(g.to_f64().iter().all(|x| x.is_finite()) && g.to_f64().iter().any(|x| *x != 0.0), "{name}");
    }
}

#[test]
fn closures_are_modules() {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Eval);
    let swish = |_: &Scope, x: &Tensor| x * x.sigmoid();
    let net = Sequential::new().add(swish).add(|s: &Scope, x: &Tensor| x * s.param("scale", [1], Init::ONES));
    let x = b.feed("x", DType::F32, [3]);
    let y = net.forward(&params.scope(), &x);
    let reference = GeluTanh.forward(&params.scope(), &x);
    assert_eq!(names(&params), ["1.scale"]);
    let same = x.gelu(Form::Tanh);
    let input = HostTensor::f32([3], vec![-1.0, 0.0, 2.0]).unwrap();
    let (outs, _) = run(&params, &[&y, &reference, &same], &[("x", &input)]);
    // 2 / (1 + e^-2)
    assert!((outs[0].to_f64()[2] - 1.761594155955765).abs() < 1e-6);
    assert_eq!(outs[1], outs[2]);
}
