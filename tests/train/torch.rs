//! Weights go to PyTorch and come from it, and training follows its curves. The files were made by PyTorch
//! (`tests/data/torch/make.py`): weights before and after 50 updates, the data, the losses.

use kiln::backend::Device;
use kiln::ir::Tensor;
use kiln::nn::{
    BatchNorm2d, Conv2d, Embedding, FeedForwardActivation, Linear, Lstm, MaxPool2d, Module, Relu, RnnConfig, Scope,
    Sequential, Tanh, TransformerConfig, TransformerEncoderLayer,
};
use kiln::optim::{Adam, AdamW, Clip, Optimizer, Sgd};
use kiln::train::files::{load_weights, save_weights};
use kiln::train::{Loss, Trainer};
use kiln::{HostTensor, data::Field};
use std::collections::BTreeMap;
use std::path::PathBuf;

const BATCH: usize = 16;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch").join(format!("{name}.safetensors"))
}

fn mlp() -> impl Module {
    Sequential::new().add(Linear::new(12, 32)).add(Relu).add(Linear::new(32, 24)).add(Tanh).add(Linear::new(24, 5))
}

fn cnn() -> impl Module {
    let conv = |n: usize, m: usize| Conv2d { bias: false, ..Conv2d::new(n, m, 3).padding(1) };
    let stage = |net: Sequential, n: usize, m: usize| {
        net.add(conv(n, m)).add(BatchNorm2d::new(m)).add(Relu).add(MaxPool2d::new(2))
    };
    let features = stage(stage(Sequential::new(), 1, 6), 6, 8);
    move |s: &Scope, x: &Tensor| {
        let x = s.run("features", &features, x).flatten(1, -1);
        s.run("classifier", &Linear::new(32, 5), &x)
    }
}

fn lstm() -> impl Module {
    |s: &Scope, x: &Tensor| {
        let y = s.run("rnn", &Lstm::new(RnnConfig::new(6, 12).layers(2).batch_first()), x);
        let (batch, steps) = (y.size(0), y.size(1));
        s.run("head", &Linear::new(12, 5), &y.narrow(1, steps - 1, 1).reshape([batch, 12]))
    }
}

fn encoder() -> impl Module {
    let config = TransformerConfig {
        dim_feedforward: 32,
        dropout: 0.0,
        activation: FeedForwardActivation::Gelu,
        norm_first: true,
        batch_first: true,
        ..TransformerConfig::new(16, 4)
    };
    move |s: &Scope, x: &Tensor| {
        let x = s.run("embedding", &Embedding::new(11, 16), x);
        let layers = s.child("encoder").child("layers");
        let x = (0..2).fold(x, |x, i| layers.run(i, &TransformerEncoderLayer(config.clone()), &x));
        s.run("head", &Linear::new(16, 5), &x.mean(&[1], false))
    }
}

fn trainer(model: impl Module + 'static, optimizer: impl Optimizer + 'static, lr: f64, clip: Option<f64>) -> Trainer {
    let device = Device::open("cpu").unwrap();
    Trainer::new(&device, model, Loss::cross_entropy(), optimizer, lr).clip(clip.map(Clip::Norm))
}

type Tensors = BTreeMap<String, HostTensor>;

/// Root of the sum of the squares of all numbers of `a - b`, over the trained tensors of `a`.
fn distance(a: &Tensors, b: &Tensors) -> f64 {
    let counted = a.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked"));
    let squares = counted.flat_map(|(name, t)| {
        let other = b[name].to_f64();
        t.to_f64().into_iter().zip(other).map(|(x, y)| (x - y).powi(2)).collect::<Vec<_>>()
    });
    squares.sum::<f64>().sqrt()
}

fn follows(name: &str, mut trainer: Trainer) {
    let (start, end) = (load_weights(&file(&format!("{name}.start"))), load_weights(&file(&format!("{name}.end"))));
    let (start, end, facts) = (start.unwrap(), end.unwrap(), load_weights(&file(&format!("{name}.data"))).unwrap());
    let (x, y) = (&facts["x"], &facts["y"]);
    let rows = |t: &HostTensor, from: usize| {
        let indices: Vec<usize> = (from..from + BATCH).collect();
        kiln::data::dataset::take_rows(t, &indices).unwrap()
    };
    let fields = [Field::new("x", x.dtype(), &x.shape[1..]), Field::new("y", y.dtype(), &y.shape[1..])];
    trainer.prepare(&fields, BATCH).unwrap();
    // Exactly torch's tensors: names, shapes, and none too many on either side.
    trainer.load(&start, false, name).unwrap();

    // And the other way: what kiln writes is what torch wrote, bit by bit.
    let dir = tempfile::tempdir().unwrap();
    let written = dir.path().join("w.safetensors");
    save_weights(&written, &trainer.states(true).unwrap()).unwrap();
    let raw = |path: &std::path::Path| {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = |(name, v): (String, safetensors::tensor::TensorView)| {
            (name, (v.dtype(), v.shape().to_vec(), v.data().to_vec()))
        };
        file.tensors().into_iter().map(view).collect::<BTreeMap<_, _>>()
    };
    assert!(raw(&written) == raw(&file(&format!("{name}.start"))), "{name}: written weights differ");

    // One forward pass: a few hundred roundings of sums of numbers near 1.
    let first = trainer.predict(&rows(x, 0)).unwrap();
    for (ours, theirs) in first.to_f64().into_iter().zip(facts["first"].to_f64()) {
        assert!((ours - theirs).abs() <= 1e-5 * theirs.abs().max(1.0), "{name}: output {ours} instead of {theirs}");
    }

    let losses = facts["losses"].to_f64();
    assert!(losses[49] <= 0.7 * losses[0], "{name}: the loss falls by 30 %");
    let mut ours = Vec::new();
    for step in 0..losses.len() {
        let from = step * BATCH % x.shape[0];
        ours.extend(trainer.step(&fields, &[rows(x, from), rows(y, from)]).unwrap());
    }
    ours.extend(trainer.drain().unwrap());
    let mut worst = 0f64;
    for (r, theirs) in ours.iter().zip(&losses) {
        let error = (r.loss - theirs).abs() / theirs.abs();
        assert!(error <= 1e-4, "{name}: loss {} of update {} instead of {theirs}", r.loss, r.step);
        worst = worst.max(error);
    }
    assert_eq!(ours.len(), losses.len());
    let now: Tensors = trainer.states(true).unwrap().into_iter().collect();
    let (error, update) = (distance(&now, &end), distance(&start, &end));
    assert!(error <= 1e-3 * update, "{name}: {error:.2e} away from torch's end, after an update of {update:.2e}");
    println!("{name}: losses to {worst:.1e}, weights to {:.1e} of the update", error / update);
}

#[test]
fn a_fully_connected_network() {
    follows(
        "mlp",
        trainer(mlp(), Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4, ..Sgd::default() }, 0.1, None),
    );
}

#[test]
fn a_convolutional_network_with_batch_norm() {
    follows("cnn", trainer(cnn(), Adam::default(), 0.003, None));
}

#[test]
fn a_recurrent_network() {
    follows("lstm", trainer(lstm(), AdamW { weight_decay: 0.05, ..AdamW::default() }, 0.02, Some(1.0)));
}

#[test]
fn a_transformer_encoder() {
    follows("encoder", trainer(encoder(), Sgd { momentum: 0.9, ..Sgd::default() }, 0.1, Some(1.0)));
}

#[test]
fn a_part_of_a_checkpoint_is_taken_and_the_rest_listed() {
    let start = load_weights(&file("mlp.start")).unwrap();
    let other = Sequential::new().add(Linear::new(12, 32)).add(Relu).add(Linear::new(32, 7)).add(Relu).add(Relu);
    let mut trainer = trainer(other.add(Linear::new(7, 3)), Sgd::default(), 0.1, None);
    let fields = [Field::new("x", kiln::DType::F32, [12]), Field::new("y", kiln::DType::I32, [])];
    trainer.prepare(&fields, BATCH).unwrap();
    let report = trainer.warm_start(&start, "mlp").unwrap();
    assert_eq!(report.taken, ["0.weight", "0.bias"]);
    assert_eq!(report.missing, ["5.weight", "5.bias"]);
    assert_eq!(report.unused, ["4.bias", "4.weight"]);
    assert_eq!(report.different.len(), 2);
    let said = report.to_string();
    assert!(said.contains("2.weight (f32[24,32], not f32[7,32])") && !report.is_complete(), "{said}");
    assert_eq!(trainer.store().get("0.weight").unwrap(), start["0.weight"]);
    let error = trainer.warm_start(&Tensors::new(), "empty.safetensors").unwrap_err().to_string();
    assert!(error.contains("empty.safetensors") && error.contains("nothing that fits"), "{error}");
}
