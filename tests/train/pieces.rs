//! Batches in pieces, and the learning-rate finder: both leave the numbers of plain training as they are.

use kiln::backend::Device;
use kiln::data::dataset::{Arrays, Dataset};
use kiln::nn::{Linear, Sequential, Tanh};
use kiln::optim::{AdamW, Clip, Optimizer, Schedule, Sgd};
use kiln::train::trainer::FindLr;
use kiln::train::{Loss, Trainer};
use kiln::{HostTensor, rng::Rng};

fn data() -> Arrays {
    let mut rng = Rng::named(1, "pieces");
    let x = HostTensor::f32([40, 6], (0..240).map(|_| rng.normal() as f32).collect()).unwrap();
    // -100 is ignored; the third batch of ten has a piece without any other class.
    let class = |i: i32| if i % 7 == 0 || (20..24).contains(&i) { -100 } else { i * i % 3 };
    let y = HostTensor::i32([40], (0..40).map(class).collect()).unwrap();
    Arrays::new(vec![("x", x), ("y", y)]).unwrap()
}

fn trainer(device: &Device, loss: Loss, rule: impl Optimizer + 'static) -> Trainer {
    let net = Sequential::new().add(Linear::new(6, 9)).add(Tanh).add(Linear::new(9, 3));
    Trainer::new(device, net, loss, rule, 0.05).seed(3).clip(Some(Clip::Norm(0.5)))
}

/// Losses, correct predictions and norms of two rounds over the data in batches of ten, and the weights at the end.
fn numbers(mut trainer: Trainer) -> Vec<f64> {
    let data = data();
    let fields = data.fields();
    let mut out = Vec::new();
    for k in 0..8usize {
        let indices: Vec<usize> = (0..10).map(|i| (k * 10 + i) % 40).collect();
        let batch = data.batch(&indices, None).unwrap();
        trainer.step(&fields, &batch).unwrap().into_iter().chain(trainer.drain().unwrap()).for_each(|r| {
            assert!(r.updated);
            out.extend([r.loss, r.correct, r.grad_norm]);
        });
    }
    for (_, t) in trainer.states(true).unwrap() {
        out.extend(t.to_f64());
    }
    out
}

fn agree(device: &str) {
    let device = Device::open(device).unwrap();
    let weighted = Loss::CrossEntropy { label_smoothing: 0.1, weight: vec![1.0, 0.5, 2.0] };
    for loss in [Loss::cross_entropy(), weighted] {
        let one_cycle: Schedule =
            serde_json::from_str(r#"{"kind": "one_cycle", "max_lr": 0.1, "total_steps": 8}"#).unwrap();
        let whole = numbers(trainer(&device, loss.clone(), AdamW { eps: 1e-3, ..AdamW::new() }));
        let sgd = || trainer(&device, loss.clone(), Sgd::new().momentum(0.9)).schedule(one_cycle.clone());
        let momentum = numbers(sgd());
        // Four, four and two; one piece; three pieces of at most seven, of which there are two.
        for rows in [4, 10, 7] {
            let adam = trainer(&device, loss.clone(), AdamW { eps: 1e-3, ..AdamW::new() }).micro_batch(rows);
            for (pieces, whole) in [(numbers(adam), &whole), (numbers(sgd().micro_batch(rows)), &momentum)] {
                assert_eq!(pieces.len(), whole.len());
                for (p, w) in pieces.iter().zip(whole) {
                    // Sums in another order, through eight updates: some dozens of roundings of numbers near 1.
                    assert!((p - w).abs() <= 2e-5 * w.abs().max(1.0), "{rows} rows: {p}, not {w}");
                }
            }
        }
    }
}

#[test]
fn pieces_are_the_whole_on_the_reference() {
    agree("reference");
}

#[test]
fn pieces_are_the_whole_on_the_cpu() {
    agree("cpu");
}

/// On a machine without an adapter this says so and checks nothing, unless `KILN_REQUIRE_ADAPTER` is set.
#[test]
fn pieces_are_the_whole_on_a_software_adapter() {
    match Device::open("software") {
        Ok(_) => agree("software"),
        Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn the_finder_finds_and_puts_everything_back() {
    let device = Device::open("cpu").unwrap();
    let (data, all): (Arrays, Vec<usize>) = (data(), (0..40).collect());
    let mut tried = trainer(&device, Loss::cross_entropy(), Sgd::new().momentum(0.9));
    let options = FindLr { min_lr: 1e-4, max_lr: 1e3, steps: 60, ..FindLr::default() };
    let curve = tried.find_lr(&data, &all, 10, &options).unwrap();
    let lr = curve.lr().expect("sixty updates are enough");
    assert!(curve.points[0].lr == 1e-4 && lr > 1e-4 && lr < 1e3, "{lr}");
    assert!(curve.points.windows(2).all(|p| p[1].lr > p[0].lr));
    // Training from here is training from the start, bit by bit.
    assert_eq!(numbers(tried), numbers(trainer(&device, Loss::cross_entropy(), Sgd::new().momentum(0.9))));
    let mut bad = trainer(&device, Loss::cross_entropy(), Sgd::new());
    let text = bad.find_lr(&data, &all, 10, &FindLr { min_lr: 0.0, ..options }).unwrap_err().to_string();
    assert!(text.contains("min_lr"), "{text}");
}
