//! Batch normalization: why learn gamma and beta, when they could undo it?

use super::material::{curve, digits, judge, mean_curve};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::error::Result;
use crate::ir::Tensor;
use crate::nn::norm::BatchNorm;
use crate::nn::{BatchNorm1d, Flatten, Linear, Module, Relu, Scope, Sequential};
use crate::optim::Sgd;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "gamma-beta",
    lecture: 8,
    question: "Batch normalization takes mean and deviation away: why learn gamma and beta instead of putting them back?",
    method: "A perceptron with four hidden layers of 32 rectifiers learns the digits for 15 epochs in batches of 32 by gradient descent, with learning rates 0.03, 0.3 and 3: without normalization (what putting the batch's \
             mean and deviation back amounts to), normalized without gamma and beta, and with them.",
    run,
};

const RATES: [f64; 3] = [0.03, 0.3, 3.0];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Norm {
    /// Batch statistics put back: the identity.
    Undone,
    Plain,
    Learned,
}

impl Module for Norm {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let norm = BatchNorm { affine: *self == Norm::Learned, ..BatchNorm::new(x.size(1)) };
        if *self == Norm::Undone { x.clone() } else { BatchNorm1d(norm).forward(scope, x) }
    }
}

fn model(norm: Norm) -> Sequential {
    let mut model = Sequential::new().add(Flatten::new());
    for pair in [64, 32, 32, 32, 32].windows(2) {
        model = model.add(Linear::new(pair[0], pair[1])).add(norm).add(Relu);
    }
    model.add(Linear::new(32, 10))
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut table = Table::new("After training", &["learning rate", "normalization", "training loss", "test accuracy"]);
    let mut plots = Vec::new();
    // Of each the learning rate with the lowest training loss, that loss, and the accuracy there.
    let mut best: Vec<(Norm, f64, Spread, Spread)> = Vec::new();
    for lr in RATES {
        let mut plot = Plot {
            title: format!("Training loss, learning rate {lr}"),
            x: "epoch",
            logarithmic: true,
            ..Plot::default()
        };
        for (norm, name) in [
            (Norm::Undone, "put back (none)"),
            (Norm::Plain, "without gamma, beta"),
            (Norm::Learned, "with gamma, beta"),
        ] {
            let runs = lab.seeds(&format!("learning rate {lr}, {name}"), |seed| {
                let data = digits(seed)?;
                let mut trainer =
                    Trainer::new(lab.device(), model(norm), Loss::cross_entropy(), Sgd::new(), lr).seed(seed);
                let losses: Vec<f64> =
                    curve(&mut trainer, &data.train, 32, lab.epochs(15))?.iter().map(|m| m.loss()).collect();
                Ok((losses, judge(&mut trainer, &data.test)?.accuracy()))
            })?;
            let loss = Spread::of(&runs.iter().map(|r| r.0.last().copied().unwrap_or(f64::NAN)).collect::<Vec<_>>());
            let test = Spread::of(&runs.iter().map(|r| r.1).collect::<Vec<_>>());
            table.row(vec![lr.to_string(), name.into(), loss.to_string(), test.percent()]);
            plot.lines.push((name.into(), mean_curve(&runs.into_iter().map(|r| r.0).collect::<Vec<_>>())));
            match best.iter_mut().find(|b| b.0 == norm) {
                Some(b) if loss.mean < b.2.mean => *b = (norm, lr, loss, test),
                Some(_) => {}
                None => best.push((norm, lr, loss, test)),
            }
        }
        plots.push(plot);
    }
    let of = |norm| best.iter().find(|b| b.0 == norm).map_or((f64::NAN, Spread::of(&[])), |b| (b.1, b.3));
    let (none, plain, learned) = (of(Norm::Undone), of(Norm::Plain), of(Norm::Learned));
    let against = |a: &Spread, b: &Spread| match (b.below(a), a.below(b)) {
        (true, _) => "above it on every seed",
        (_, true) => "below it on every seed",
        _ => "within the scatter of the seeds",
    };
    let answer = format!(
        "Putting the batch's own mean and deviation back is no normalization at all. Gamma and beta are parameters instead: whatever the layers before do to the batch, the next layer sees the mean and deviation that training has \
         set for it. Each at the learning rate with the lowest training loss, accuracy on the test: put back {} (at {}); without gamma and beta {} (at {}), {}; with them {} (at {}), compared with those without {}.",
        none.1.percent(),
        none.0,
        plain.1.percent(),
        plain.0,
        against(&plain.1, &none.1),
        learned.1.percent(),
        learned.0,
        against(&learned.1, &plain.1),
    );
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
