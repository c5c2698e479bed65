//! Why is a classifier trained on cross-entropy and not on squared errors?

use super::finding::short;
use super::material::{curve, digits, judge, mean_curve};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::error::Result;
use crate::nn::{Flatten, Init, Linear, Sequential, Tanh};
use crate::optim::Sgd;
use crate::train::curvature::Surface;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "mse-or-cross-entropy",
    lecture: 7,
    question: "Why is a classifier trained on cross-entropy and not on the squared error of its softmax?",
    method: "A perceptron 64-32-10 with tanh learns the digits for 20 epochs in batches of 32 by gradient descent, each loss with the best of the learning rates 0.03 to 30 (steps of about 3) by its accuracy on the \
             training images with a seed of its own: from torch's initial weights, and from a bad start, where the last layer's weights are drawn 20 times as large, so that the softmax is sure and mostly wrong.",
    run,
};

const RATES: [f64; 7] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

struct Run {
    /// Accuracy on training batches, by epoch.
    train: Vec<f64>,
    test: f64,
    /// Norm of the gradient at the start.
    gradient: f64,
}

fn one(lab: &Lab, seed: u64, loss: &Loss, bad: bool, lr: f64) -> Result<Run> {
    let data = digits(seed)?;
    let bound = 1.0 / 32f64.sqrt() * if bad { 20.0 } else { 1.0 };
    let last = Linear::new(32, 10).init(Init::Uniform { bound }, Init::ZEROS);
    let model = Sequential::new().add(Flatten::new()).add(Linear::new(64, 32)).add(Tanh).add(last);
    let mut trainer = Trainer::new(lab.device(), model, loss.clone(), Sgd::new(), lr).seed(seed);
    let first: Vec<usize> = (0..256).collect();
    let gradient = {
        let mut surface = Surface::of(&mut trainer, &data.train, &first, 256)?;
        surface.gradient()?.1.iter().map(|g| g * g).sum::<f64>().sqrt()
    };
    let train = curve(&mut trainer, &data.train, 32, lab.epochs(20))?.iter().map(|m| m.accuracy()).collect();
    Ok(Run { train, test: judge(&mut trainer, &data.test)?.accuracy(), gradient })
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut table = Table::new(
        "After training",
        &["start", "loss", "learning rate", "gradient at the start", "training accuracy", "test accuracy"],
    );
    let (mut plots, mut verdicts) = (Vec::new(), Vec::new());
    for (bad, start) in [(false, "usual"), (true, "bad")] {
        let mut plot = Plot {
            title: format!("Training accuracy from the {start} start"),
            x: "epoch",
            logarithmic: false,
            ..Plot::default()
        };
        let mut ends = Vec::new();
        for (loss, name) in [(Loss::cross_entropy(), "cross-entropy"), (Loss::Mse, "squared error")] {
            let mut best = (-1.0, RATES[0]);
            for lr in RATES {
                let accuracy = one(lab, 1000, &loss, bad, lr)?.train.last().copied().unwrap_or(-1.0);
                if accuracy > best.0 {
                    best = (accuracy, lr);
                }
            }
            let runs = lab.seeds(&format!("{start} start, {name}, learning rate {}", best.1), |seed| {
                one(lab, seed, &loss, bad, best.1)
            })?;
            let spread = |f: &dyn Fn(&Run) -> f64| Spread::of(&runs.iter().map(f).collect::<Vec<_>>());
            let (train, test) = (spread(&|r| r.train.last().copied().unwrap_or(f64::NAN)), spread(&|r| r.test));
            let gradient = spread(&|r| r.gradient);
            table.row(vec![
                start.into(),
                name.into(),
                best.1.to_string(),
                gradient.to_string(),
                train.percent(),
                test.percent(),
            ]);
            plot.lines.push((name.into(), mean_curve(&runs.into_iter().map(|r| r.train).collect::<Vec<_>>())));
            ends.push((train, test, gradient));
        }
        let (ce, mse) = (ends[0], ends[1]);
        let ratio = short(ce.2.mean / mse.2.mean);
        verdicts.push(match (mse.1.below(&ce.1), ce.1.below(&mse.1)) {
            (true, _) => format!("from the {start} start its gradient is {ratio} times as large, and on every seed it ends higher ({} and {} on the test)", ce.1.percent(), mse.1.percent()),
            (_, true) => format!("from the {start} start its gradient is {ratio} times as large, and yet the squared error ends higher on every seed ({} and {})", mse.1.percent(), ce.1.percent()),
            _ => format!("from the {start} start its gradient is {ratio} times as large, and the ends are within the scatter of the seeds ({} and {})", ce.1.percent(), mse.1.percent()),
        });
        plots.push(plot);
    }
    let answer = format!(
        "Where the softmax is sure and wrong, the squared error is flat: its gradient carries the factor p (1 - p), which cross-entropy's logarithm cancels. Cross-entropy beside the squared error: {}.",
        verdicts.join("; ")
    );
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
