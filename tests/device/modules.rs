//! Modules against PyTorch's numbers (`tests/golden/modules.json`, which `modules.py` beside it makes), against settings in
//! which they must do nothing or the same as others, and against numbers worked out by hand. Their derivatives by every
//! parameter, on every device, are checked by the cases `module/..` of the registry.

use kiln::grad::grad;
use kiln::ir::OutputKind;
use kiln::nn::*;
use kiln::{Builder, DType, Device, HostTensor, Program, Store, Tensor};
use serde_json::Value;

/// Runs the graph that `build` makes once; `content` may replace the first content of a parameter or buffer.
fn run(
    device: &str,
    mode: Mode,
    content: &dyn Fn(&str) -> Option<Vec<f64>>,
    build: impl Fn(&Scope) -> Vec<Tensor>,
) -> Vec<HostTensor> {
    runs(device, mode, content, build, 1)
}

/// As [`run`], several times, with the states moving on; the last results.
fn runs(
    device: &str,
    mode: Mode,
    content: &dyn Fn(&str) -> Option<Vec<f64>>,
    build: impl Fn(&Scope) -> Vec<Tensor>,
    times: usize,
) -> Vec<HostTensor> {
    let b = Builder::new();
    let params = Params::new(&b, mode);
    for (i, t) in build(&params.scope()).iter().enumerate() {
        b.output(format!("out{i}"), OutputKind::Fetch, t);
    }
    params.emit_updates();
    let store = Store::new(&Device::open(device).unwrap());
    for (name, mut value) in params.init(1).unwrap() {
        if let Some(v) = content(&name) {
            value = HostTensor::f32(value.shape, v.into_iter().map(|x| x as f32).collect()).unwrap();
        }
        store.insert(name, &value).unwrap();
    }
    let mut program = Program::compile(&store, b.build().unwrap()).unwrap();
    (0..times).map(|_| program.run(&[]).unwrap()).last().unwrap()
}

fn as_drawn(_: &str) -> Option<Vec<f64>> {
    None
}

/// sin(k i + start), as a constant of the graph.
fn wave(b: &Builder, shape: &[usize], k: f64, start: f64) -> Tensor {
    (b.iota(shape.iter().product()).cast(DType::F32) * k + start).sin().reshape(shape)
}

/// Elementwise within 2e-5 of the largest magnitude: a few hundred roundings of f32 numbers of this size.
#[track_caller]
fn close(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3, |m: f64, x| m.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 2e-5 * scale, "{what}: element {i} is {g}, not {w}");
    }
}

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A module on the inputs of its golden case.
type Forward = Box<dyn Fn(&Scope, &[Tensor]) -> Tensor>;

fn goldens() -> Vec<(&'static str, Vec<Vec<usize>>, Forward)> {
    fn one(name: &'static str, shape: &[usize], m: impl Module + 'static) -> (&'static str, Vec<Vec<usize>>, Forward) {
        (name, vec![shape.to_vec()], Box::new(move |s, x| m.forward(s, &x[0])))
    }
    let small = TransformerConfig { dim_feedforward: 16, dropout: 0.0, ..TransformerConfig::new(8, 2) };
    let transformer = Transformer { config: small, num_encoder_layers: 2, num_decoder_layers: 2 };
    let whole: Forward = Box::new(move |s, x| {
        let (all, left) = (Masks::default(), Masks { is_causal: true, ..Default::default() });
        transformer.run(s, &x[0], &x[1], [&all, &left, &all])
    });
    let padded = ConvTranspose1d { output_padding: [1], ..ConvTranspose::new(4, 6, 3).stride(2).padding(1).groups(2) };
    let x = [2, 4, 6];
    vec![
        ("transformer", vec![vec![4, 2, 8], vec![3, 2, 8]], whole),
        one("conformer", &[5, 2, 8], ConformerLayer::new(8, 12, 2, 3)),
        one("conv1d", &[2, 4, 7], Conv1d::new(4, 6, 3).stride(2).padding(1).groups(2)),
        one("conv3d", &[1, 2, 3, 4, 3], Conv3d::new(2, 3, 2)),
        one("conv_transpose1d", &[2, 4, 5], padded),
        one("conv_transpose2d", &[1, 2, 3, 2], ConvTranspose2d::new(2, 3, 3).stride(2)),
        one("instance_norm1d", &[2, 3, 5], InstanceNorm1d::new(3).affine()),
        one("rms_norm", &[3, 7], RmsNorm::new([7])),
        one("weight_norm", &[4, 5], WeightNorm::new(Linear::new(5, 3))),
        one("elu", &x, Elu { alpha: 0.7 }),
        one("leaky_relu", &x, LeakyRelu { negative_slope: 0.2 }),
        one("hardsigmoid", &x, Hardsigmoid),
        one("hardswish", &x, Hardswish),
        one("hardtanh", &x, Hardtanh { min_val: -0.3, max_val: 0.5 }),
        one("softplus", &x, Softplus { beta: 2.0, ..Default::default() }),
        one("log_softmax", &x, LogSoftmax::default()),
        one("glu", &x, Glu { dim: 1 }),
        one("mish", &x, Mish),
        one("selu", &x, Selu),
        one("log_sigmoid", &x, LogSigmoid),
        one("softsign", &x, Softsign),
        one("max_pool1d", &x, MaxPool1d::new(2)),
        one("avg_pool1d", &x, AvgPool1d::new(3)),
    ]
}

#[test]
fn as_in_pytorch() {
    let file: Value = serde_json::from_str(include_str!("../golden/modules.json")).unwrap();
    let tried = goldens();
    assert_eq!(file.as_object().unwrap().len(), tried.len(), "every golden case is used");
    for (name, shapes, forward) in tried {
        let case = &file[name];
        let names: Vec<String> = case["grads"].as_object().unwrap().keys().cloned().collect();
        // Parameters have torch's names: `names` is sorted, and both sides must have exactly these.
        let content = |p: &str| {
            let k = names.iter().position(|n| n == p)?;
            Some((0..100_000).map(|i| 0.3 * (0.37 * f64::from(i) + k as f64).sin()).collect::<Vec<f64>>())
        };
        for device in ["reference", "cpu", "software"] {
            let b = Builder::new();
            let params = Params::new(&b, Mode::Train);
            let xs: Vec<Tensor> = shapes.iter().enumerate().map(|(k, s)| wave(&b, s, 0.7, 0.3 + k as f64)).collect();
            let y = forward(&params.scope(), &xs);
            let trainable = params.trainable();
            let loss = (&y * wave(&b, y.shape(), 0.9, 0.3)).sum(&[], false);
            let wrt: Vec<&Tensor> = xs.iter().chain(trainable.iter().map(|(_, t)| t)).collect();
            let mut outs = vec![y];
            outs.extend(grad(&loss, &wrt).iter().flat_map(|g| {
                [(g * wave(&b, g.shape(), 0.5, 0.3)).sum(&[], false), g.square().sum(&[], false).sqrt()]
            }));
            for (i, t) in outs.iter().enumerate() {
                b.output(format!("out{i}"), OutputKind::Fetch, t);
            }
            let mut found: Vec<&str> = trainable.iter().map(|(n, _)| n.as_str()).collect();
            found.sort_unstable();
            assert_eq!(found, names, "{name}");
            let store = Store::new(&Device::open(device).unwrap());
            for (p, mut value) in params.init(1).unwrap() {
                if let Some(v) = content(&p) {
                    let n = value.len();
                    value = HostTensor::f32(value.shape, v[..n].iter().map(|&x| x as f32).collect()).unwrap();
                }
                store.insert(p, &value).unwrap();
            }
            let mut program = Program::compile(&store, b.build().unwrap()).unwrap();
            assert_eq!(program.stats().fallbacks, 0, "{name} on {device}: {:?}", program.plan().notes);
            let results = program.run(&[]).unwrap();
            close(&format!("{name} on {device}"), &results[0].to_f64(), &floats(&case["out"]));
            let inputs = case["inputs"].as_array().unwrap().iter().map(|v| ("input", v));
            let parameters = trainable.iter().map(|(n, _)| (n.as_str(), &case["grads"][n.as_str()]));
            for ((p, want), got) in inputs.chain(parameters).zip(results[1..].chunks(2)) {
                let (want, elems) = (floats(want), 300.0f64);
                let [dot, norm] = [0, 1].map(|i| got[i].to_f64()[0]);
                // The dot product with a wave is within the norm times the root of the number of elements, here at most
                // 300; gradients that cancel (a bias before a norm) are small beside others, hence the absolute part.
                let room = 2e-5 * (want[1] * elems.sqrt() + 0.1);
                assert!((dot - want[0]).abs() <= room, "{name} on {device}: gradient of {p}: {dot}, not {}", want[0]);
                assert!((norm - want[1]).abs() <= room, "{name} on {device}: norm for {p}: {norm}, not {}", want[1]);
            }
        }
    }
}

#[test]
fn forms_of_attention_in_their_degenerate_settings() {
    let layers: [Box<dyn Module>; 4] = [
        Box::new(MultiheadAttention::new(6, 2).batch_first()),
        Box::new(SelfAttention::new(6, 2, Form::Windowed { window: 4, is_causal: false })),
        Box::new(SelfAttention::new(6, 2, Form::DistanceDecay { decay: 0.0, grid_width: None, learned: true })),
        Box::new(SelfAttention::new(6, 2, Form::DistanceDecay { decay: 0.0, grid_width: Some(2), learned: false })),
    ];
    let found: Vec<Vec<f64>> = layers
        .iter()
        .map(|l| run("cpu", Mode::Eval, &as_drawn, |s| vec![l.forward(s, &wave(s.builder(), &[2, 5, 6], 0.7, 0.3))]))
        .map(|r| r[0].to_f64())
        .collect();
    for other in &found[1..] {
        close("a window over all, or no decay, is plain attention", other, &found[0]);
    }
    let narrow = SelfAttention::new(6, 2, Form::Windowed { window: 0, is_causal: false });
    let alone = run("cpu", Mode::Eval, &as_drawn, |s| {
        let x = wave(s.builder(), &[2, 5, 6], 0.7, 0.3);
        // With no neighbours the result is the projected value.
        let value = s.param("in_proj_weight", [18, 6], Init::XavierUniform { gain: 1.0 }).narrow(0, 12, 6);
        let last = s.child("out_proj").param("weight", [6, 6], Init::TORCH_WEIGHT);
        vec![narrow.forward(s, &x), x.matmul(&value.t()).matmul(&last.t())]
    });
    close("window 0", &alone[0].to_f64(), &alone[1].to_f64());
}

#[test]
fn positions() {
    assert_eq!(Alibi::new(4).slopes(), [0.25, 0.0625, 0.015625, 0.00390625]);
    // Six heads: those of four, then the first and third of eight (2^-1, 2^-3).
    assert_eq!(Alibi::new(6).slopes(), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    let content = |n: &str| (n == "bias.weight").then(|| (0..10).map(f64::from).collect());
    let r = run("cpu", Mode::Eval, &content, |s| {
        let b = s.builder();
        let rotary = Rotary { max_len: 9, ..Rotary::new(4) };
        let (q, k) = (wave(b, &[1, 4], 0.7, 0.3).broadcast_to([6, 4]), wave(b, &[1, 4], 0.4, 1.0).broadcast_to([6, 4]));
        let halves = Rotary { interleaved: false, ..rotary.clone() };
        let scores = |r: &Rotary| r.rotate(s, &q).matmul(&r.rotate(s, &k).t());
        let x = b.full([2, 3, 4], 0.0);
        let table = s.child("sin").run("pe", &SinusoidalPositions { max_len: 8, ..SinusoidalPositions::new(4) }, &x);
        let bias = RelativeBias { heads: 2, max_distance: 2 }.bias(&s.child("bias"), 2, 4);
        let grid = Alibi { heads: 1, grid_width: Some(2) }.bias(b, 4, 4);
        vec![scores(&rotary), scores(&halves), table, bias, grid, rotary.rotate(s, &q).square().sum(&[1], false)]
    });
    for scores in &r[..2] {
        let v = scores.to_f64();
        for i in 0..6 {
            for j in 0..6 {
                // Equal distances, equal scores; those of position 0 and distance d stand in the first row or column.
                let same = if j >= i { v[j - i] } else { v[(i - j) * 6] };
                assert!((v[i * 6 + j] - same).abs() < 1e-5, "{i} {j}: {} and {same}", v[i * 6 + j]);
            }
        }
        assert!((v[0] - v[3]).abs() > 1e-2, "the distance matters");
    }
    let row = |p: f64| [p.sin(), p.cos(), (p / 100.0).sin(), (p / 100.0).cos()];
    let want: Vec<f64> = [0.0, 1.0, 2.0, 0.0, 1.0, 2.0].into_iter().flat_map(row).collect();
    close("sinusoids", &r[2].to_f64(), &want);
    // Head 0 holds 0, 2, .., head 1 holds 1, 3, ..; distances 0 1 2 3 and -1 0 1 2 of at most 2.
    let head = |h: f64| [0.0, 1.0, 2.0, 2.0, -1.0, 0.0, 1.0, 2.0].map(|d: f64| 2.0 * (d + 2.0) + h);
    close("relative bias", &r[3].to_f64(), &[head(0.0), head(1.0)].concat());
    let far = 2f64.sqrt();
    let distances = [0., 1., 1., far, 1., 0., far, 1., 1., far, 0., 1., far, 1., 1., 0.];
    close("decay over a grid", &r[4].to_f64(), &distances.map(|d: f64| -d / 256.0));
    let norms = r[5].to_f64();
    assert!(norms.iter().all(|n| (n - norms[0]).abs() < 1e-5), "{norms:?}");
}

#[test]
fn blocks_that_start_as_the_identity() {
    let r = run("cpu", Mode::Train, &as_drawn, |s| {
        let x = wave(s.builder(), &[2, 9, 3, 4], 0.7, 0.3);
        let warp = SpatialTransformer::new(Conv2d::new(9, 2, 3));
        let larger = SpatialTransformer { output_size: Some([6, 8]), ..warp.clone() };
        let sagan = s.run("sagan", &SaganAttention::new(9), &x);
        vec![x.clone(), sagan, s.run("warp", &warp, &x), s.run("warp", &larger, &x)]
    });
    close("SAGAN attention", &r[1].to_f64(), &r[0].to_f64());
    close("spatial transformer", &r[2].to_f64(), &r[0].to_f64());
    assert_eq!(r[3].shape[..], [2, 9, 6, 8]);
}

/// A shift by one pixel to the right: theta moves x by 2/W.
#[test]
fn a_spatial_transformer_moves_the_image() {
    let content = |n: &str| (n == "fc_loc.bias").then(|| vec![1.0, 0.0, 0.5, 0.0, 1.0, 0.0]);
    let r = run("cpu", Mode::Eval, &content, |s| {
        let x = s.builder().iota(8).cast(DType::F32).reshape([1, 1, 2, 4]);
        vec![SpatialTransformer::new(Flatten::new()).forward(s, &x)]
    });
    close("shifted", &r[0].to_f64(), &[1.0, 2.0, 3.0, 0.0, 5.0, 6.0, 7.0, 0.0]);
}

#[test]
fn graph_attention_over_a_mask_and_over_edges() {
    let layer = GraphAttention::new(3, 2, 2);
    let r = run("cpu", Mode::Eval, &as_drawn, |s| {
        let b = s.builder();
        let row = |nodes: &[f64]| {
            let parts: Vec<Tensor> = nodes.iter().map(|&n| b.full([1, 1], n)).collect();
            Tensor::cat(&parts.iter().collect::<Vec<_>>(), 1).cast(DType::I32)
        };
        // 0 <- 1, 0 <- 2, 0 <- 0, 2 <- 1; node 3 looks at nobody, node 1 at itself.
        let (from, to) = ([1.0, 2.0, 0.0, 1.0, 1.0, 3.0], [0.0, 0.0, 0.0, 2.0, 1.0, 0.0]);
        let index = Tensor::cat(&[&row(&from), &row(&to)], 0);
        let valid = b.iota(6).lt(&b.iota(6).like(5.0));
        let mut mask = b.full([4, 4], 0.0).gt(&b.full([4, 4], 0.0));
        for (f, t) in from.iter().zip(&to).take(5) {
            let (i, j) = (b.iota(4).unsqueeze(1), b.iota(4).unsqueeze(0));
            mask = mask.or(&i.eq(&i.like(*t)).and(&j.eq(&j.like(*f))));
        }
        // Large features: without the maximum subtracted the exponentials overflow.
        let x = wave(b, &[4, 3], 0.7, 0.3) * 100.0;
        let y = layer.attend(s, &x, Edges::List { index: &index, valid: Some(&valid) });
        let hops = hop_masks(&mask, 2, false);
        let far = HopAttention { layer: layer.clone() }.attend(s, &x, &[Edges::Mask(&hops[0]), Edges::Mask(&hops[1])]);
        let h = x.matmul(&s.child("lin").param("weight", [4, 3], Init::XavierUniform { gain: 1.0 }).t());
        vec![y, layer.attend(s, &x, Edges::Mask(&mask)), h, hops[1].cast(DType::I32), far]
    });
    close("edges and mask", &r[0].to_f64(), &r[1].to_f64());
    let (y, h) = (r[0].to_f64(), r[2].to_f64());
    close("one neighbour", &y[4..12], &[&h[4..8], &h[4..8]].concat());
    close("no neighbour", &y[12..], &[0.0; 4]);
    assert!(r[3].to_f64().iter().all(|&m| m == 0.0), "1, the only one beyond 2, is also next to 0");
    assert_eq!(r[4].shape[..], [4, 4]);
    let r = run("cpu", Mode::Eval, &as_drawn, |s| {
        // 0 - 1 - 2 - 3, both ways.
        let (i, j) = (s.builder().iota(4).unsqueeze(1), s.builder().iota(4).unsqueeze(0));
        let apart = (&i - &j).abs();
        let path = apart.eq(&apart.like(1.0));
        hop_masks(&path, 3, true).iter().map(|m| m.cast(DType::I32)).collect()
    });
    for (k, mask) in r.iter().enumerate() {
        let want: Vec<f64> = (0..16)
            .map(|n: i32| (n / 4 - n % 4).abs())
            .map(|d| f64::from(d == k as i32 + 1 || k == 0 && d == 0))
            .collect();
        assert_eq!(mask.to_f64(), want, "distance {}", k + 1);
    }
}

#[test]
fn weights_in_other_coordinates() {
    let r = run("cpu", Mode::Train, &as_drawn, |s| {
        let x = wave(s.builder(), &[4, 5], 0.7, 0.3);
        let y = WeightNorm::new(Linear::new(5, 3).without_bias()).forward(s, &x);
        vec![y, x.matmul(&s.child("parametrizations.weight").param("original1", [3, 5], Init::TORCH_WEIGHT).t())]
    });
    close("weight norm starts as the plain layer", &r[0].to_f64(), &r[1].to_f64());
    // Singular values 3, 1, 1/2; the power method needs some steps, as the buffers start from another weight.
    let content = |n: &str| n.ends_with("original").then(|| vec![3.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.5]);
    let layer = SpectralNorm::new(Linear::new(3, 3).without_bias());
    let through = |s: &Scope| vec![layer.forward(s, &s.builder().full([1, 3], 1.0))];
    let r = runs("cpu", Mode::Train, &content, through, 30);
    close("spectral norm", &r[0].to_f64(), &[1.0, 1.0 / 3.0, 1.0 / 6.0]);
    // As drawn: the 15 rounds before the first step have found the largest singular value, so that the weight divided by it
    // has none beyond 1, and one close to it.
    let r = run("cpu", Mode::Eval, &as_drawn, |s| {
        let weight = layer.forward(s, &s.builder().iota(3).unsqueeze(1).eq(&s.builder().iota(3)).cast(DType::F32));
        let mut gram = weight.matmul(&weight.t());
        for _ in 0..6 {
            gram = gram.matmul(&gram);
        }
        // The 64th power of the squares of the singular values: its trace is that of the largest, nearly.
        let i = s.builder().iota(3);
        let diagonal = i.unsqueeze(1).eq(&i).select(&gram, &gram.like(0.0));
        vec![diagonal.sum(&[], false)]
    });
    let trace = r[0].to_f64()[0];
    assert!(trace > 0.5 && trace < 2.0, "{trace}");
}

#[test]
fn batch_renorm_opens_slowly() {
    let x = |b: &Builder| wave(b, &[6, 3], 0.7, 0.3) * 2.0;
    let r = run("cpu", Mode::Train, &as_drawn, |s| {
        let x = x(s.builder());
        vec![s.run("a", &BatchRenorm::new(3), &x), s.run("b", &BatchNorm1d::new(3), &x)]
    });
    close("closed limits are batch norm", &r[0].to_f64(), &r[1].to_f64());
    let open = BatchRenorm::new(3).limits(1e3, 1e3);
    let r = run("cpu", Mode::Train, &as_drawn, |s| vec![open.forward(s, &x(s.builder())), x(s.builder())]);
    // Wide limits: the running statistics, mean 0 and deviation 1, are what normalises.
    close("open limits are the running statistics", &r[0].to_f64(), &r[1].to_f64());
}

#[test]
fn misfits_are_named() {
    let fails = |m: &dyn Module, shape: &[usize], words: &[&str]| {
        let b = Builder::new();
        let x = b.feed("x", DType::F32, shape);
        m.forward(&Params::new(&b, Mode::Train).scope().child("net"), &x);
        let text = b.build().unwrap_err().to_string();
        assert!(words.iter().all(|w| text.contains(w)) && text.contains("net"), "{text}");
    };
    fails(&Conv1d::new(4, 6, 3), &[2, 3, 9], &["conv1d", "4 channels", "f32[2,3,9]"]);
    fails(&ConvTranspose2d::new(4, 6, 3).groups(4), &[2, 4, 9, 9], &["conv_transpose2d", "4 groups"]);
    fails(&SaganAttention::new(8), &[2, 8, 9], &["sagan_attention", "(N, 8, H, W)"]);
    fails(&ConformerLayer::new(8, 8, 2, 4), &[5, 2, 8], &["kernel 4", "odd"]);
    fails(&SelfAttention::new(6, 4, Form::Linear { is_causal: false }), &[2, 5, 6], &["4 heads", "width 6"]);
    fails(&SinusoidalPositions { max_len: 4, ..SinusoidalPositions::new(6) }, &[5, 6], &["T <= 4", "f32[5,6]"]);
    fails(&InstanceNorm2d::new(3), &[2, 3, 4], &["instance_norm2d", "3 channels"]);
}

/// By images and by the six numbers, at a place where no sampled point is a pixel's centre.
#[test]
fn derivatives_of_a_spatial_transformer() {
    use kiln::check::case::{Case, Gen};
    let theta = vec![0.83, 0.11, 0.07, -0.09, 0.77, 0.13];
    let case = Case::new("spatial_transformer", |b, t| {
        let scope = Params::new(b, Mode::Train).scope();
        let bias = t[1].clone() * 0.5;
        let scope = scope.replacing("fc_loc.bias", move |_, _, _| bias.clone());
        let b = b.clone();
        let scope = scope.replacing("fc_loc.weight", move |_, shape, _| b.full(shape.clone(), 1e-3));
        vec![SpatialTransformer::new(Flatten::new()).forward(&scope, &t[0])]
    });
    // The check doubles what it feeds.
    let case = case.f32([1, 2, 5, 4], Gen::Normal(0.0, 1.0)).f32([6], Gen::Fixed(theta)).grad();
    kiln::check::gradcheck::gradcheck(&case, 3).unwrap();
}
