//! Small or large batches: time per epoch, and what is learnt in equal epochs.

use super::material::{curve, digits, judge, mean_curve, mlp};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::error::Result;
use crate::nn::Relu;
use crate::optim::Sgd;
use crate::train::{Loss, Trainer};
use std::time::Instant;

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "batch-size",
    lecture: 5,
    question: "Small or large batches: which is faster, and which learns better?",
    method: "A perceptron 64-64-10 with rectifiers learns the digits for 30 epochs by gradient descent with momentum 0.9, with batches of 1 to 1,440 (all of the training images), each with the best of the learning \
             rates 0.001, 0.003, 0.01, 0.03, 0.1 and 0.3 by the training loss. The time is that of the last epoch, with this device.",
    run,
};

const BATCHES: [usize; 5] = [1, 8, 64, 360, 1440];
const RATES: [f64; 6] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3];

struct Run {
    losses: Vec<f64>,
    test: f64,
    seconds: f64,
}

fn one(lab: &Lab, seed: u64, batch: usize, lr: f64, epochs: u64) -> Result<Run> {
    let data = digits(seed)?;
    let model = mlp(&[64, 64, 10], Relu);
    let mut trainer = Trainer::new(lab.device(), model, Loss::cross_entropy(), Sgd::new().momentum(0.9), lr).seed(seed);
    let mut losses: Vec<f64> = curve(&mut trainer, &data.train, batch, epochs - 1)?.iter().map(|m| m.loss()).collect();
    let start = Instant::now();
    losses.push(trainer.fit(&data.train, batch, 1)?.loss());
    let seconds = start.elapsed().as_secs_f64();
    Ok(Run { losses, test: judge(&mut trainer, &data.test)?.accuracy(), seconds })
}

fn run(lab: &Lab) -> Result<Finding> {
    let epochs = lab.epochs(30).max(2);
    let mut table = Table::new(
        format!("After {epochs} epochs"),
        &["batch", "updates per epoch", "learning rate", "seconds per epoch", "training loss", "test accuracy"],
    );
    let mut plot =
        Plot { title: "Training loss, mean of the seeds".into(), x: "epoch", logarithmic: true, ..Plot::default() };
    let mut rows: Vec<(usize, Spread, Spread)> = Vec::new();
    for batch in BATCHES {
        // The learning rate by one seed of its own, so that none of those that count has chosen.
        let mut best = (f64::INFINITY, RATES[0]);
        for lr in RATES {
            let loss = one(lab, 1000, batch, lr, epochs)?.losses.last().copied().unwrap_or(f64::NAN);
            if loss < best.0 {
                best = (loss, lr);
            }
        }
        let runs = lab.seeds(&format!("batches of {batch}, learning rate {}", best.1), |seed| {
            one(lab, seed, batch, best.1, epochs)
        })?;
        let spread = |f: &dyn Fn(&Run) -> f64| Spread::of(&runs.iter().map(f).collect::<Vec<_>>());
        let (seconds, test) = (spread(&|r| r.seconds), spread(&|r| r.test));
        let loss = spread(&|r| r.losses.last().copied().unwrap_or(f64::NAN));
        table.row(vec![
            batch.to_string(),
            1440usize.div_ceil(batch).to_string(),
            best.1.to_string(),
            seconds.to_string(),
            loss.to_string(),
            test.percent(),
        ]);
        plot.lines
            .push((format!("batches of {batch}"), mean_curve(&runs.into_iter().map(|r| r.losses).collect::<Vec<_>>())));
        rows.push((batch, seconds, test));
    }
    let fastest = rows.iter().min_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    let best = rows.iter().max_by(|a, b| a.2.mean.total_cmp(&b.2.mean));
    let (Some(fastest), Some(best), Some(large)) = (fastest, best, rows.last()) else {
        return Ok(Finding::default());
    };
    let faster = rows[0].1.mean / fastest.1.mean;
    let verdict = if best.0 == large.0 {
        "the largest batch also learns best".to_string()
    } else if large.2.below(&best.2) {
        format!(
            "in as many epochs batches of {} end at {}, all images at once at {}: every seed of the one above every seed of the other",
            best.0,
            best.2.percent(),
            large.2.percent()
        )
    } else {
        format!(
            "batches of {} end highest, at {}, and all images at once at {}, which is within the scatter of the seeds",
            best.0,
            best.2.percent(),
            large.2.percent()
        )
    };
    let answer = format!(
        "An epoch is fastest in batches of {} (one by one it takes {faster:.0} times as long), and {verdict}.",
        fastest.0
    );
    Ok(Finding { answer, tables: vec![table], plots: vec![plot], ..Finding::default() })
}
