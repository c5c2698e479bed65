//! Deep, not fat: what do the same parameters do in many thin layers and in few wide ones?

use super::finding::short;
use super::material::{curve, digits, judge, mean_curve, mlp, points};
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
             at 1,024 others, as shares of the variance). And perceptrons of about 6,000 parameters with 1 to 6 hidden layers on the digits (20 epochs).",
    run,
};

/// Parameters of the networks on digits, about.
const BUDGET: usize = 6000;
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

fn trainer(lab: &Lab, shape: &[usize], loss: Loss, steps: u64, seed: u64) -> Trainer {
    Trainer::new(lab.device(), mlp(shape, Relu), loss, AdamW::new(), 0.005)
        .schedule(Schedule::WarmupCosine { warmup: 20, total: steps, min_lr: 0.0 })
        .seed(seed)
}

/// The error of the zigzag network whose weights are written down: a tooth is 2 relu(t) - 4 relu(t - 1/2).
fn by_hand(lab: &Lab, folds: usize, test: &Arrays) -> Result<f64> {
    let mut net = trainer(lab, &deep(folds), Loss::Mse, 1, 0);
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
    let (mut written, mut found_deep, mut found_flat) = (0.0f64, Vec::new(), Vec::new());
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
        for (i, (what, shape)) in
            [("trained, deep", deep(folds)), ("trained, flat", flat), ("trained, wide", wide)].into_iter().enumerate()
        {
            let errors = lab.seeds(&format!("{teeth} teeth, {what}"), |seed| {
                let mut net = trainer(lab, &shape, Loss::Mse, epochs * 32, seed);
                net.fit(&train, 64, epochs)?;
                Ok(judge(&mut net, &test)?.loss() * 12.0)
            })?;
            let error = Spread::of(&errors);
            row(what, &shape, error.to_string());
            match i {
                0 => found_deep.push(error.mean),
                1 => found_flat.push(error.mean),
                _ => {}
            }
        }
    }
    let mut dig = Table::new("Digits", &["hidden layers", "width", "parameters", "training loss", "test accuracy"]);
    let mut plot = Plot {
        title: "Digits: training loss, mean of the seeds".into(),
        x: "epoch",
        logarithmic: true,
        ..Plot::default()
    };
    let mut accuracies = Vec::new();
    for depth in DEPTHS {
        let shape = widths(64, 10, depth, BUDGET);
        let runs = lab.seeds(&format!("digits, {depth} hidden layers"), |seed| {
            let data = digits(seed)?;
            let epochs = lab.epochs(20);
            let steps = epochs * data.train.len().div_ceil(64) as u64;
            let mut net = trainer(lab, &shape, Loss::cross_entropy(), steps, seed);
            let losses: Vec<f64> = curve(&mut net, &data.train, 64, epochs)?.iter().map(|m| m.loss()).collect();
            Ok((losses, judge(&mut net, &data.test)?.accuracy()))
        })?;
        let loss = Spread::of(&runs.iter().map(|r| r.0.last().copied().unwrap_or(f64::NAN)).collect::<Vec<_>>());
        let test = Spread::of(&runs.iter().map(|r| r.1).collect::<Vec<_>>());
        let size = parameters(&shape).to_string();
        dig.row(vec![depth.to_string(), shape[1].to_string(), size, loss.to_string(), test.percent()]);
        let curves: Vec<Vec<f64>> = runs.into_iter().map(|r| r.0).collect();
        plot.lines.push((format!("{depth} of {}", shape[1]), mean_curve(&curves)));
        accuracies.push(test);
    }
    let last = FOLDS.len() - 1;
    let kinks = (1 << FOLDS[last]) - 1;
    let best = (0..DEPTHS.len()).fold(0, |b, i| if accuracies[i].mean > accuracies[b].mean { i } else { b });
    let deepest = accuracies[DEPTHS.len() - 1];
    let against = if deepest.below(&accuracies[0]) { "below it on every seed" } else { "within its scatter or above" };
    let answer = format!(
        "Layers multiply what they can represent: {} parameters in {} layers of two make {kinks} kinks (written down: error {} at most), where one hidden layer needs a rectifier for each. But training has to find it: from random weights \
         that shape ends at {} of the variance with {} teeth, one hidden layer of as many parameters at {}. On the digits, with about {BUDGET} parameters, {} hidden layer(s) end best, at {}; one at {}, {} at {}, {against}.",
        parameters(&deep(FOLDS[last])),
        FOLDS[last],
        short(written),
        short(found_deep[last]),
        1 << (FOLDS[last] - 1),
        short(found_flat[last]),
        DEPTHS[best],
        accuracies[best].percent(),
        accuracies[0].percent(),
        DEPTHS[DEPTHS.len() - 1],
        deepest.percent(),
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
