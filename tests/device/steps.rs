//! Training steps of small models (dropout, batch norm, attention; clipping and guard) on every device: parameters,
//! buffers and optimizer states after three steps agree with those of the reference.

use kiln::grad::grad;
use kiln::ir::OutputKind;
use kiln::nn::scope::init;
use kiln::nn::{BatchNorm2d, Conv2d, Dropout, Flatten, Gpt, Linear, MaxPool2d, Mode, Module, Params, Relu, Sequential};
use kiln::optim::{AdamW, Clip, LossScaler, Optimizer, Sgd, StepFeed, apply};
use kiln::rng::Rng;
use kiln::{Builder, DType, Device, HostTensor, Program, Store, Tensor};

/// A model with its input, class targets and rule.
struct Setup {
    model: Box<dyn Module>,
    input: HostTensor,
    classes: usize,
    targets: usize,
    rule: Box<dyn Optimizer>,
}

fn normals(shape: &[usize]) -> HostTensor {
    let mut rng = Rng::named(3, "input");
    HostTensor::f32(shape, (0..shape.iter().product()).map(|_| rng.normal() as f32).collect()).unwrap()
}

fn setups(half: bool) -> Vec<(&'static str, Setup)> {
    let mlp = Sequential::new().add(Linear::new(9, 33)).add(Relu).add(Dropout::new(0.25)).add(Linear::new(33, 5));
    let cnn = Sequential::new()
        .add(Conv2d::new(2, 7, 3).padding(1))
        .add(BatchNorm2d::new(7))
        .add(Relu)
        .add(MaxPool2d::new(2))
        .add(Flatten::new())
        .add(Linear::new(63, 5));
    let gpt = Gpt { vocab: 11, context: 7, layers: 2, heads: 2, width: 12, dropout: 0.1, checkpoint: false };
    let tokens = HostTensor::i32([3, 7], (0..21).map(|i| i * i % 11).collect()).unwrap();
    // A gradient that is 0 but for rounding decides the sign of an Adam step where eps is small against it: with 1e-4
    // it does not; in f16, whose roundings are larger, with 1e-2.
    let adam = || Box::new(AdamW { eps: if half { 1e-2 } else { 1e-4 }, ..AdamW::new() });
    let setup = |model, input, classes, targets, rule| Setup { model, input, classes, targets, rule };
    vec![
        ("mlp", setup(Box::new(mlp) as _, normals(&[6, 9]), 5, 6, adam() as _)),
        ("cnn", setup(Box::new(cnn), normals(&[4, 2, 7, 7]), 5, 4, Box::new(Sgd::new().momentum(0.9).nesterov()))),
        ("checkpointed gpt", setup(Box::new(Gpt { checkpoint: true, ..gpt.clone() }), tokens.clone(), 11, 21, adam())),
        ("gpt", setup(Box::new(gpt), tokens, 11, 21, adam())),
    ]
}

/// All states after three steps, the second of which has an input that makes the gradient infinite, where it can. `half`: in
/// mixed precision.
fn states(device: &Device, setup: &Setup, half: bool) -> Vec<(String, HostTensor)> {
    let b = Builder::new();
    let feed = StepFeed::declare(&b);
    let params = Params::with(&b, Mode::Train, Some(&feed.counter), None);
    let x = b.feed("x", setup.input.dtype(), &setup.input.shape);
    let y = b.feed("y", DType::I32, [setup.targets]);
    let scale = b.feed("scale", DType::F32, [1]);
    let output = b.autocast(half, || setup.model.forward(&params.scope(), &x));
    let logits = output.reshape([setup.targets, setup.classes]);
    let loss = (logits.cross_entropy(&y, &Default::default()) * &scale).sum(&[], false);
    let named = params.trainable();
    let wrt: Vec<&Tensor> = named.iter().map(|(_, t)| t).collect();
    let scaler = half.then(|| LossScaler::declare(&b));
    let grads = match &scaler {
        Some(s) => s.unscale(&s.scaled_grad(&loss, &wrt)),
        None => grad(&loss, &wrt),
    };
    let applied = apply(&params, &*setup.rule, &grads, &feed, Some(Clip::Norm(1.0)));
    let mut specs = applied.states;
    if let Some(scaler) = &scaler {
        scaler.update(&applied.ok);
        specs.extend(LossScaler::specs());
    }
    b.output("loss", OutputKind::Fetch, &loss);
    let store = Store::new(device);
    for (name, value) in params.init(5).unwrap().into_iter().chain(init(&specs, 5).unwrap()) {
        store.insert(name, &value).unwrap();
    }
    let mut program = Program::compile(&store, b.build().unwrap()).unwrap();
    assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
    let targets = HostTensor::i32([setup.targets], (0..setup.targets).map(|i| (i % setup.classes) as i32).collect());
    let targets = targets.unwrap();
    for (step, scale) in [1.0, f32::INFINITY, 2.0].into_iter().enumerate() {
        let values = StepFeed::values(1, step as u32, 0, 1e-2).unwrap();
        let scale = HostTensor::f32([1], vec![scale]).unwrap();
        let mut feeds = vec![("x", &setup.input), ("y", &targets), ("scale", &scale)];
        feeds.extend(values.iter().map(|(n, t)| (*n, t)));
        program.run(&feeds).unwrap();
    }
    store.names().into_iter().map(|n| (n.clone(), store.get(&n).unwrap())).collect()
}

fn agrees_with_the_reference(device: &Device, half: bool) {
    let reference = Device::open("reference").unwrap();
    for (model, setup) in setups(half) {
        let (want, got) = (states(&reference, &setup, half), states(device, &setup, half));
        assert_eq!(want.len(), got.len());
        let skipped =
            |s: &[(String, HostTensor)]| s.iter().find(|(n, _)| n == "status.skipped").map(|(_, t)| t.clone());
        assert_eq!(skipped(&want), skipped(&got), "{model}");
        for ((name, want), (_, got)) in want.iter().zip(&got) {
            if want.dtype() != DType::F32 {
                assert_eq!(want, got, "{model} {name}");
                if name == "status.skipped" {
                    assert_eq!(want.to_f64(), [1.0]);
                }
                continue;
            }
            // Sums of at most 63 products through a dozen layers and two steps: a few hundred roundings of 6e-8.
            // In f16 such a rounding decides now and then the next one, of 5e-4, of one of many numbers in a sum.
            // Where a gradient is 0 but for rounding, that is all there is.
            let (unit, least) = if half { (2e-3, 2e-6) } else { (1e-4, 1e-7) };
            let largest = want.to_f64().iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (i, (w, g)) in want.to_f64().iter().zip(got.to_f64()).enumerate() {
                let fits = (w - g).abs() <= unit * largest + least;
                assert!(fits, "{model} {name} element {i}: {g} instead of {w} (largest {largest})");
            }
        }
    }
}

/// What is computed again in the backward pass is rounded again: checkpoints change no bit in mixed precision either.
#[test]
fn checkpoints_keep_the_numbers_in_mixed_precision() {
    let reference = Device::open("reference").unwrap();
    let of = |name: &str| {
        let (_, setup) = setups(true).into_iter().find(|(n, _)| *n == name).unwrap();
        states(&reference, &setup, true)
    };
    assert_eq!(of("gpt"), of("checkpointed gpt"));
}

#[test]
fn on_the_cpu() {
    agrees_with_the_reference(&Device::open("cpu").unwrap(), false);
    agrees_with_the_reference(&Device::open("cpu").unwrap(), true);
}

/// On a machine without an adapter this says so and checks nothing, unless `KILN_REQUIRE_ADAPTER` is set.
#[test]
fn on_a_software_adapter() {
    match Device::open("software") {
        Ok(device) => {
            agrees_with_the_reference(&device, false);
            agrees_with_the_reference(&device, true);
        }
        Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
        Err(e) => panic!("{e}"),
    }
}
