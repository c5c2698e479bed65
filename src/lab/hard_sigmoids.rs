//! Can sums of hard sigmoids approximate a continuous function of several variables?

use super::finding::short;
use super::material::{judge, points};
use super::{Experiment, Finding, Lab, Order, Plot, Spread, Table};
use crate::data::Dataset;
use crate::error::Result;
use crate::nn::{Hardsigmoid, Init, Linear, Sequential};
use crate::optim::{AdamW, Schedule};
use crate::report::number::mean_and_deviation;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "hard-sigmoids",
    lecture: 2,
    question: "Can sums of hard sigmoids approximate a continuous function of n variables?",
    method: "A hidden layer of w hard sigmoids of linear functions of x and a linear layer behind it learn cos(3 |x|) + x1 / 2 from 4,096 points of [-1, 1]^n (AdamW, \
             learning rate 0.01 with a cosine, batches of 128, 120 epochs). The hidden weights and biases are drawn from -10 to 10, so that the steps of the hard sigmoids, which are 6 / |w| wide, lie within the \
             domain: from torch's initial weights all of it is on the linear part, and training often stays there. The error is measured at 2,048 points that were not trained on, as a share of the function's \
             standard deviation.",
    run,
};

const WIDTHS: [usize; 4] = [4, 16, 64, 256];
const BATCH: usize = 128;

fn target(x: &[f32]) -> f32 {
    (3.0 * x.iter().map(|v| v * v).sum::<f32>().sqrt()).cos() + 0.5 * x[0]
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut table = Table::new(
        "Error at unseen points, in standard deviations of the function",
        &["n", "w = 4", "w = 16", "w = 64", "w = 256"],
    );
    let mut plot =
        Plot { title: "Error by width".into(), x: "log2 of the width", logarithmic: true, ..Plot::default() };
    let (mut answers, mut falls) = (Vec::new(), true);
    for n in 1..=3 {
        let (train, test) = (points(4096, n, "train", target)?, points(2048, n, "test", target)?);
        let all: Vec<usize> = (0..test.len()).collect();
        let deviation = mean_and_deviation(&test.batch(&all, None)?[1].to_f64()).1;
        let epochs = lab.epochs(120);
        let (mut row, mut line, mut spreads) = (vec![n.to_string()], Vec::new(), Vec::new());
        for width in WIDTHS {
            let errors = lab.seeds(&format!("{n} variables, {width} hard sigmoids"), |seed| {
                let hidden = Linear::new(n, width).init(Init::Uniform { bound: 10.0 }, Init::Uniform { bound: 10.0 });
                let model = Sequential::new().add(hidden).add(Hardsigmoid).add(Linear::new(width, 1));
                let total = epochs * (4096 / BATCH) as u64;
                let mut trainer = Trainer::new(lab.device(), model, Loss::Mse, AdamW::new(), 0.01)
                    .schedule(Schedule::WarmupCosine { warmup: 20, total, min_lr: 0.0 })
                    .seed(seed);
                trainer.fit(&train, BATCH, epochs)?;
                Ok(judge(&mut trainer, &test)?.loss().sqrt() / deviation)
            })?;
            let spread = Spread::of(errors.iter().copied());
            row.push(spread.to_string());
            line.push(((width as f64).log2(), spread.mean));
            spreads.push(spread);
        }
        let last: Spread = spreads[WIDTHS.len() - 1];
        falls &= spreads.windows(2).all(|pair| pair[1].against(&pair[0]) == Order::Below);
        answers.push(format!("{} with {n} variable{}", short(last.mean), if n == 1 { "" } else { "s" }));
        table.row(row);
        plot.lines.push((format!("{n} variables"), line));
    }
    let ends = answers.join(", ");
    let answer = if falls {
        format!(
            "As far as training finds them, yes: from each width to the next the error falls on every seed, with 256 hard sigmoids to these shares of the standard deviation: {ends}. (Theory: sums of ridges come as close to \
             any continuous function as one likes, Cybenko 1989, Leshno et al. 1993; how many it takes grows with n.)"
        )
    } else {
        format!(
            "Not from each width to the next on every seed. With 256 hard sigmoids the errors are, as shares of the standard deviation: {ends}."
        )
    };
    Ok(Finding { answer, tables: vec![table], plots: vec![plot], ..Finding::default() })
}
