//! Deep, not fat: what do the same parameters do in many thin layers and in few wide ones?

use super::finding::short;
use super::material::{Run, classify, digits, judge, mlp, points};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::{Arrays, Dataset};
use crate::error::Result;
use crate::nn::Relu;
use crate::optim::{AdamW, Schedule};
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "deep-not-fat",
    lecture: 2,
    question: "With the same number of parameters: is it better to have many thin layers or few wide ones?",
    method: "What they can represent: a zigzag of one variable with 2^(k-1) teeth is k layers of two rectifiers, whose weights are written down; with one hidden layer each kink needs a rectifier. What training finds: networks of that \
             deep shape, and with one hidden layer of as many parameters and of twice as many rectifiers as there are kinks, from random weights (2,048 points, 100 epochs, AdamW, learning rate 0.005 with a cosine, batches of 64; errors \
             at 1,024 others, as shares of the variance). And perceptrons of about 6,000 parameters with 1 to 6 hidden layers on the digits (20 epochs, each with the learning rate, of 0.001 to 0.1 in \
             steps of about 3, that has the lowest training loss on two seeds of their own).",
    run,
};

/// Parameters of the networks on digits, about.
const BUDGET: usize = 6000;
const RATES: [f64; 5] = [0.001, 0.003, 0.01, 0.03, 0.1];
const DEPTHS: [usize; 5] = [1, 2, 3, 4, 6];
const FOLDS: [usize; 4] = [2, 3, 4, 5];

/// A zigzag between 0 and 1 with 2^(folds - 1) teeth on [-1, 1].
fn zigzag(x: &[f32], folds: usize) -> f32 {
    (0..folds).fold((x[0] + 1.0) / 2.0, |t, _| 1.0 - (2.0 * t - 1.0).abs())
}

/// Widths of a perceptron with so many hidden layers and about so many parameters.
fn widths(inputs: usize, outputs: usize, depth: usize, budget: usize) -> Vec<usize> {
    let shape = |w: usize| [vec![inputs], vec![w; depth], vec![outputs]].concat();
    let mut w = 1;
    while parameters(&shape(w + 1)) <= budget {
        w += 1;
    }
    shape(w)
}

fn parameters(widths: &[usize]) -> usize {
    widths.windows(2).map(|p| (p[0] + 1) * p[1]).sum()
}

fn trainer(lab: &Lab, shape: &[usize], loss: Loss, (lr, steps): (f64, u64), seed: u64) -> Trainer {
    Trainer::new(lab.device(), mlp(shape, Relu), loss, AdamW::new(), lr)
        .schedule(Schedule::WarmupCosine { warmup: 20, total: steps, min_lr: 0.0 })
        .seed(seed)
}

/// The error of the zigzag network whose weights are written down: a tooth is 2 relu(t) - 4 relu(t - 1/2).
fn by_hand(lab: &Lab, folds: usize, test: &Arrays) -> Result<f64> {
    let mut net = trainer(lab, &deep(folds), Loss::Mse, (0.005, 1), 0);
    net.prepare(&test.fields(), 1)?;
    for layer in 0..=folds {
        // Layer 0 of the perceptron flattens; the first linear layer also makes t = (x + 1) / 2 of x.
        let (weight, bias) = match layer {
            0 => (HostTensor::f32([2, 1], vec![0.5, 0.5])?, HostTensor::f32([2], vec![0.5, 0.0])?),
            l if l == folds => (HostTensor::f32([1, 2], vec![2.0, -4.0])?, HostTensor::f32([1], vec![0.0])?),
            _ => (HostTensor::f32([2, 2], vec![2.0, -4.0, 2.0, -4.0])?, HostTensor::f32([2], vec![0.0, -0.5])?),
        };
        net.store().insert(format!("{}.weight", 2 * layer + 1), &weight)?;
        net.store().insert(format!("{}.bias", 2 * layer + 1), &bias)?;
    }
    Ok(judge(&mut net, test)?.loss() * 12.0)
}

fn deep(folds: usize) -> Vec<usize> {
    [vec![1], vec![2; folds], vec![1]].concat()
}

fn run(lab: &Lab) -> Result<Finding> {
    let epochs = lab.epochs(100);
    let mut zig = Table::new(
        "Zigzag: squared error, the variance being 1",
        &["teeth", "network", "hidden layers", "width", "parameters", "error"],
    );
    let (mut written, mut last) = (0.0f64, Vec::new());
    for folds in FOLDS {
        let (train, test) =
            (points(2048, 1, "train", |x| zigzag(x, folds))?, points(1024, 1, "test", |x| zigzag(x, folds))?);
        let teeth = (1 << (folds - 1)).to_string();
        let mut row = |what: &str, shape: &[usize], error: String| {
            let (layers, size) = (shape.len() - 2, parameters(shape));
            zig.row(vec![
                teeth.clone(),
                what.into(),
                layers.to_string(),
                shape[1].to_string(),
                size.to_string(),
                error,
            ]);
        };
        let error = by_hand(lab, folds, &test)?;
        written = written.max(error);
        row("written down", &deep(folds), short(error));
        let flat = widths(1, 1, 1, parameters(&deep(folds)));
        let wide = vec![1, 2 * ((1 << folds) - 1), 1];
        last.clear();
        for (what, shape) in [("trained, deep", deep(folds)), ("trained, flat", flat), ("trained, wide", wide)] {
            let errors = lab.seeds(&format!("{teeth} teeth, {what}"), |seed| {
                let mut net = trainer(lab, &shape, Loss::Mse, (0.005, epochs * 32), seed);
                net.fit(&train, 64, epochs)?;
                Ok(judge(&mut net, &test)?.loss() * 12.0)
            })?;
            let error = Spread::of(errors);
            row(what, &shape, error.to_string());
            last.push(error);
        }
    }
    let columns = ["hidden layers", "width", "parameters", "learning rate", "training loss", "test accuracy"];
    let mut dig = Table::new("Digits", &columns);
    let mut plot = Plot {
        title: "Digits: training loss, mean of the seeds".into(),
        x: "epoch",
        logarithmic: true,
        ..Plot::default()
    };
    let mut accuracies = Vec::new();
    for depth in DEPTHS {
        let shape = widths(64, 10, depth, BUDGET);
        let one = |seed: u64, lr: f64| {
            let data = digits(seed)?;
            let epochs = lab.epochs(20);
            let steps = epochs * data.train.len().div_ceil(64) as u64;
            classify(&mut trainer(lab, &shape, Loss::cross_entropy(), (lr, steps), seed), &data, 64, epochs)
        };
        let what = format!("digits, {depth} hidden layers");
        let (lr, end) = lab.rate(&what, &RATES, |seed, lr| Ok(one(seed, lr)?.last()))?;
        let runs = lab.seeds(&format!("{what}, learning rate {lr}"), |seed| one(seed, lr))?;
        let mut cells = [depth, shape[1], parameters(&shape)].map(|n| n.to_string()).to_vec();
        cells.push(format!("{lr}{end}"));
        let line = format!("{depth} of {}", shape[1]);
        accuracies.push(Run::enter(&runs, (&mut dig, &mut plot), &line, cells).1);
    }
    let folds = FOLDS[FOLDS.len() - 1];
    let ([deep_error, flat_error, wide_error], [one, .., deepest]) = (&last[..], &accuracies[..]) else {
        return Ok(Finding::default());
    };
    let answer = format!(
        "Layers multiply what a network can represent: {} parameters in {folds} layers of two make {} kinks (written down: error {} at most), where one hidden layer needs a rectifier for each. Training has to find it: from random \
         weights, with the one learning rate tried, that shape ends at {deep_error} of the variance, one hidden layer of as many parameters at {flat_error}, one with twice as many rectifiers as kinks at {wide_error}. On the digits, with about {BUDGET} parameters, one hidden layer ends \
         at {}, {} at {}, {}.",
        parameters(&deep(folds)),
        (1 << folds) - 1,
        short(written),
        one.percent(),
        DEPTHS[DEPTHS.len() - 1],
        deepest.percent(),
        deepest.against(one)
    );
    Ok(Finding { answer, tables: vec![zig, dig], plots: vec![plot], ..Finding::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_keep_to_the_budget() {
        for depth in DEPTHS {
            let shape = widths(64, 10, depth, BUDGET);
            assert_eq!(shape.len(), depth + 2);
            assert!((5700..=BUDGET).contains(&parameters(&shape)), "{depth}: {}", parameters(&shape));
        }
        assert_eq!(parameters(&[1, 2, 1]), 7);
    }

    #[test]
    fn the_written_network_is_the_zigzag() {
        let device = crate::backend::Device::open("cpu").expect("the CPU path");
        let lab = Lab::new(&device, 1, 1.0, &|_| ());
        for folds in FOLDS {
            let test = points(256, 1, "test", |x| zigzag(x, folds)).expect("points");
            // Each fold doubles the rounding of t, 2^-25: 12 * (2^folds * 2^-24)^2 at most.
            let bound = 12.0 * f64::from(folds as i32 - 24).exp2().powi(2);
            let error = by_hand(&lab, folds, &test).expect("a network");
            assert!(error <= bound, "{folds} folds: {error:e} above {bound:e}");
        }
    }
}
