//! Why is a classifier trained on cross-entropy and not on squared errors?

use super::finding::short;
use super::material::{Run, curve, digits, judge};
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
    method: "Where the softmax is sure and wrong, the gradient of the squared error carries the factor p (1 - p), which the logarithm of cross-entropy cancels. A perceptron 64-32-10 with tanh learns the digits for 20 epochs in batches of 32 by \
             gradient descent, each loss with the learning rate, of 0.03 to 300 in steps of about 3, that has the highest accuracy on the training images on two seeds of their own: from torch's initial weights, and from a bad start, where \
             the last layer's weights are drawn 20 times as large, so that the softmax is sure and mostly wrong. The squared error is a mean over the ten classes; its gradients are given as if it were their sum.",
    run,
};

const RATES: [f64; 9] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
const CLASSES: f64 = 10.0;

/// A training by accuracy on its batches, and the norm of the gradient at its start.
fn one(lab: &Lab, seed: u64, loss: &Loss, bad: bool, lr: f64) -> Result<(Run, f64)> {
    let data = digits(seed)?;
    let bound = 1.0 / 32f64.sqrt() * if bad { 20.0 } else { 1.0 };
    let last = Linear::new(32, 10).init(Init::Uniform { bound }, Init::ZEROS);
    let model = Sequential::new().add(Flatten::new()).add(Linear::new(64, 32)).add(Tanh).add(last);
    let mut trainer = Trainer::new(lab.device(), model, loss.clone(), Sgd::new(), lr).seed(seed);
    let first: Vec<usize> = (0..256).collect();
    let mut surface = Surface::of(&mut trainer, &data.train, &first, 256)?;
    let norm = surface.gradient()?.1.iter().map(|g| g * g).sum::<f64>().sqrt();
    let summed = if *loss == Loss::Mse { CLASSES * norm } else { norm };
    let accuracies = curve(&mut trainer, &data.train, 32, lab.epochs(20))?.iter().map(|m| m.accuracy()).collect();
    Ok((Run { curve: accuracies, held_out: judge(&mut trainer, &data.test)?.accuracy() }, summed))
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
            let what = format!("{start} start, {name}");
            let (lr, end) = lab.rate(&what, &RATES, |seed, lr| Ok(-one(lab, seed, &loss, bad, lr)?.0.last()))?;
            let runs = lab.seeds(&format!("{what}, learning rate {lr}"), |seed| one(lab, seed, &loss, bad, lr))?;
            let gradient = Spread::of(runs.iter().map(|r| r.1));
            let runs: Vec<Run> = runs.into_iter().map(|r| r.0).collect();
            let (train, test) = Run::ends(&runs);
            let cells = [format!("{lr}{end}"), gradient.to_string(), train.percent(), test.percent()];
            table.row([start, name].map(String::from).into_iter().chain(cells).collect());
            plot.lines.push((name.into(), Run::line(&runs)));
            ends.push((train, test, gradient));
        }
        let (ce, mse) = (ends[0], ends[1]);
        verdicts.push(format!(
            "From the {start} start its gradient is {} times that of the squared error, and it ends at {} of the training images and {} of the test, the squared error at {} and {}, {}",
            short(ce.2.mean / mse.2.mean),
            ce.0.percent(),
            ce.1.percent(),
            mse.0.percent(),
            mse.1.percent(),
            mse.1.against(&ce.1)
        ));
        plots.push(plot);
    }
    let answer = format!("Cross-entropy: {}.", verdicts.join(". "));
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
