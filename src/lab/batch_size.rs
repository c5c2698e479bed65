//! Small or large batches: time per epoch, and what is learnt in equal epochs.

use super::material::{Run, curve, digits, judge, mlp};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::Dataset;
use crate::error::Result;
use crate::nn::Relu;
use crate::optim::Sgd;
use crate::train::{Loss, Trainer};
use std::time::Instant;

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "batch-size",
    lecture: 5,
    question: "Small or large batches: which is faster, and which learns better?",
    method: "A perceptron 64-64-10 with rectifiers learns the digits for 30 epochs by gradient descent with momentum 0.9, in batches of 1, 8, 64, 360 and of all training images, each with the learning rate, of 0.0003 to 1 in steps of about 3, \
             that has the lowest training loss on two seeds of their own. The loss is measured on the training images after the last update. The time is that of the last epoch, with this device.",
    run,
};

/// The last is cut to all there are.
const BATCHES: [usize; 5] = [1, 8, 64, 360, usize::MAX];
const RATES: [f64; 8] = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

/// A run, the loss after it, and seconds of its last epoch.
struct Timed {
    run: Run,
    after: f64,
    seconds: f64,
}

fn one(lab: &Lab, seed: u64, batch: usize, lr: f64, epochs: u64) -> Result<Timed> {
    let data = digits(seed)?;
    let batch = batch.min(data.train.len());
    let model = mlp(&[64, 64, 10], Relu);
    let mut trainer = Trainer::new(lab.device(), model, Loss::cross_entropy(), Sgd::new().momentum(0.9), lr).seed(seed);
    let mut losses: Vec<f64> = curve(&mut trainer, &data.train, batch, epochs - 1)?.iter().map(|m| m.loss()).collect();
    let start = Instant::now();
    losses.push(trainer.fit(&data.train, batch, 1)?.loss());
    let seconds = start.elapsed().as_secs_f64();
    let after = judge(&mut trainer, &data.train)?.loss();
    Ok(Timed { run: Run { curve: losses, held_out: judge(&mut trainer, &data.test)?.accuracy() }, after, seconds })
}

fn run(lab: &Lab) -> Result<Finding> {
    let epochs = lab.epochs(30).max(2);
    let all = digits(0)?.train.len();
    let mut table = Table::new(
        format!("After {epochs} epochs"),
        &["batch", "updates per epoch", "learning rate", "seconds per epoch", "training loss", "test accuracy"],
    );
    let mut plot = Plot {
        title: "Loss while training, mean of the seeds".into(),
        x: "epoch",
        logarithmic: true,
        ..Plot::default()
    };
    let mut rows: Vec<(usize, Spread, Spread)> = Vec::new();
    for batch in BATCHES.map(|b| b.min(all)) {
        let what = format!("batches of {batch}");
        let (lr, end) = lab.rate(&what, &RATES, |seed, lr| Ok(one(lab, seed, batch, lr, epochs)?.after))?;
        let runs = lab.seeds(&format!("{what}, learning rate {lr}"), |seed| one(lab, seed, batch, lr, epochs))?;
        let spread = |f: &dyn Fn(&Timed) -> f64| Spread::of(runs.iter().map(f));
        let (seconds, test) = (spread(&|r| r.seconds), spread(&|r| r.run.held_out));
        table.row(vec![
            batch.to_string(),
            all.div_ceil(batch).to_string(),
            format!("{lr}{end}"),
            seconds.to_string(),
            spread(&|r| r.after).to_string(),
            test.percent(),
        ]);
        let runs: Vec<Run> = runs.into_iter().map(|r| r.run).collect();
        plot.lines.push((what, Run::line(&runs)));
        rows.push((batch, seconds, test));
    }
    let [one, .., whole] = &rows[..] else { return Ok(Finding::default()) };
    let each: Vec<String> = rows.iter().map(|(b, s, _)| format!("{b}: {:.1} ms", 1e3 * s.mean)).collect();
    let answer = format!(
        "Seconds: an epoch takes, by the size of the batch, {}. Learning in as many epochs: one by one the test accuracy ends at {}, all images at once at {}, {}.",
        each.join(", "),
        one.2.percent(),
        whole.2.percent(),
        whole.2.against(&one.2)
    );
    Ok(Finding { answer, tables: vec![table], plots: vec![plot], ..Finding::default() })
}
