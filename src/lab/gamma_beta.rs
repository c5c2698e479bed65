//! Batch normalization: why learn gamma and beta, when they could undo it?

use super::material::{Run, classify, digits};
use super::{Experiment, Finding, Lab, Plot, Table};
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
    method: "A perceptron with four hidden layers of 32 rectifiers learns the digits for 15 epochs in batches of 32 by gradient descent: without normalization (what putting the batch's \
             mean and deviation back amounts to), normalized without gamma and beta, and with them. With the learning rate, of 0.01 to \
             3 in steps of about 3, that has the lowest training loss on two seeds of their own; and with 0.03, 0.3 and 3, to see how much the choice matters. (Theory: gamma and beta are parameters, so \
             the next layer sees the mean and deviation that training has set, whatever the layers before do to the batch.)",
    run,
};

const RATES: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
const SHOWN: [f64; 3] = [0.03, 0.3, 3.0];
const NORMS: [(Norm, &str); 3] =
    [(Norm::Undone, "put back (none)"), (Norm::Plain, "without gamma, beta"), (Norm::Learned, "with gamma, beta")];

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

fn one(lab: &Lab, norm: Norm, seed: u64, lr: f64) -> Result<Run> {
    let mut trainer = Trainer::new(lab.device(), model(norm), Loss::cross_entropy(), Sgd::new(), lr).seed(seed);
    classify(&mut trainer, &digits(seed)?, 32, lab.epochs(15))
}

fn run(lab: &Lab) -> Result<Finding> {
    let columns = ["learning rate", "normalization", "training loss", "test accuracy"];
    let mut best = Table::new("With the best learning rate of each", &columns);
    let mut shown = Table::new("With the same learning rates", &columns);
    let (mut plots, mut ends) = (Vec::new(), Vec::new());
    for (norm, name) in NORMS {
        let (lr, end) = lab.rate(name, &RATES, |seed, lr| Ok(one(lab, norm, seed, lr)?.last()))?;
        let runs = lab.seeds(&format!("{name}, learning rate {lr}"), |seed| one(lab, norm, seed, lr))?;
        let (loss, test) = Run::ends(&runs);
        best.row(vec![format!("{lr}{end}"), name.into(), loss.to_string(), test.percent()]);
        ends.push((lr, test));
    }
    for lr in SHOWN {
        let mut plot = Plot {
            title: format!("Training loss, learning rate {lr}"),
            x: "epoch",
            logarithmic: true,
            ..Plot::default()
        };
        for (norm, name) in NORMS {
            let runs = lab.seeds(&format!("learning rate {lr}, {name}"), |seed| one(lab, norm, seed, lr))?;
            Run::enter(&runs, (&mut shown, &mut plot), name, vec![lr.to_string(), name.into()]);
        }
        plots.push(plot);
    }
    let [none, plain, learned] = ends[..] else { return Ok(Finding::default()) };
    let answer = format!(
        "Putting the batch's own mean and deviation back is no normalization: it ends at {} of the test (learning rate {}). Normalized without gamma and beta: {} (at {}), {}. With them: {} (at {}), compared with those without {}, with none {}.",
        none.1.percent(),
        none.0,
        plain.1.percent(),
        plain.0,
        plain.1.against(&none.1),
        learned.1.percent(),
        learned.0,
        learned.1.against(&plain.1),
        learned.1.against(&none.1),
    );
    Ok(Finding { answer, tables: vec![best, shown], plots, ..Finding::default() })
}
