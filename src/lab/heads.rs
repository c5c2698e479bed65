//! Multi-head attention: is q W^{q,1} after W^q the same model as W^{q,1} alone?

use super::finding::short;
use super::material::{curve, digits, judge, mean_curve};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::Dataset;
use crate::error::Result;
use crate::ir::Tensor;
use crate::nn::{LearnedPositions, Linear, Module, Scope};
use crate::ops::attention::AttentionOptions;
use crate::optim::AdamW;
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "heads",
    lecture: 11,
    question: "Multi-head attention: is q W^{q,1} after q = x W^q the same model as W^{q,1} alone?",
    method: "A digit is a sequence of 8 rows of 8 pixels; one layer of self-attention with 4 heads of width 8 and the mean over the rows classify it. In one model queries, keys and values of the heads are two matrices after \
             another, in the other the second alone. Both learn for 20 epochs (AdamW, learning rate 0.003, batches of 32). Then the two matrices of the trained model are multiplied and put into the other one, and their results compared.",
    run,
};

const WIDTH: usize = 32;
const HEADS: usize = 4;
const PARTS: [&str; 3] = ["q", "k", "v"];

/// Digits as sequences of rows; queries, keys and values by two matrices or one.
#[derive(Debug, Clone, Copy)]
struct Rows {
    twice: bool,
}

impl Module for Rows {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let n = x.size(0);
        let x = scope.run("embed", &Linear::new(8, WIDTH), &x.reshape([n, 8, 8]));
        let x = scope.run("positions", &LearnedPositions { std: 0.5, ..LearnedPositions::new(WIDTH, 8) }, &x);
        let linear = Linear::new(WIDTH, WIDTH).without_bias();
        let [q, k, v] = PARTS.map(|part| {
            let first = if self.twice { scope.run(format!("{part}_first"), &linear, &x) } else { x.clone() };
            let all = scope.run(part, &linear, &first);
            all.reshape([n, 8, HEADS, WIDTH / HEADS]).permute(&[0, 2, 1, 3])
        });
        let y = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default());
        let y = scope.run("out", &Linear::new(WIDTH, WIDTH), &y.permute(&[0, 2, 1, 3]).reshape([n, 8, WIDTH]));
        scope.run("classes", &Linear::new(WIDTH, 10), &y.relu().mean(&[1], false))
    }
}

fn trainer(lab: &Lab, twice: bool, seed: u64) -> Trainer {
    Trainer::new(lab.device(), Rows { twice }, Loss::cross_entropy(), AdamW::new(), 0.003).seed(seed)
}

/// second * first, f32 (WIDTH, WIDTH).
fn product(second: &HostTensor, first: &HostTensor) -> Result<HostTensor> {
    let (a, b) = (second.to_f64(), first.to_f64());
    let at = |i: usize| (0..WIDTH).map(|k| a[i / WIDTH * WIDTH + k] * b[k * WIDTH + i % WIDTH]).sum::<f64>() as f32;
    HostTensor::f32([WIDTH, WIDTH], (0..WIDTH * WIDTH).map(at).collect())
}

struct Run {
    losses: Vec<f64>,
    test: f64,
    /// Largest difference of a logit between the model and its folded form, and the largest logit.
    folded: Option<(f64, f64)>,
}

fn one(lab: &Lab, twice: bool, seed: u64) -> Result<Run> {
    let data = digits(seed)?;
    let mut model = trainer(lab, twice, seed);
    let losses = curve(&mut model, &data.train, 32, lab.epochs(20))?.iter().map(|m| m.loss()).collect();
    let test = judge(&mut model, &data.test)?.accuracy();
    let folded = twice
        .then(|| -> Result<(f64, f64)> {
            let mut other = trainer(lab, false, seed);
            other.prepare(&data.train.fields(), 32)?;
            for name in other.states(true)?.into_iter().map(|s| s.0) {
                let own = model.store().get(&name)?;
                let part = PARTS.iter().find(|p| name == format!("{p}.weight"));
                let value = match part {
                    Some(part) => product(&own, &model.store().get(&format!("{part}_first.weight"))?)?,
                    None => own,
                };
                other.store().insert(name.as_str(), &value)?;
            }
            let images = &data.test.batch(&(0..64).collect::<Vec<_>>(), None)?[0];
            let (a, b) = (model.predict(images)?.to_f64(), other.predict(images)?.to_f64());
            let most = |x: &mut dyn Iterator<Item = f64>| x.map(f64::abs).fold(0.0, f64::max);
            Ok((most(&mut a.iter().zip(&b).map(|(x, y)| x - y)), most(&mut a.iter().copied())))
        })
        .transpose()?;
    Ok(Run { losses, test, folded })
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut table = Table::new("After training", &["queries, keys and values", "training loss", "test accuracy"]);
    let mut plot =
        Plot { title: "Training loss, mean of the seeds".into(), x: "epoch", logarithmic: true, ..Plot::default() };
    let (mut ends, mut folds) = (Vec::new(), Vec::new());
    for (twice, name) in [(true, "two matrices after another"), (false, "one matrix")] {
        let runs = lab.seeds(name, |seed| one(lab, twice, seed))?;
        let loss = Spread::of(&runs.iter().map(|r| r.losses.last().copied().unwrap_or(f64::NAN)).collect::<Vec<_>>());
        let test = Spread::of(&runs.iter().map(|r| r.test).collect::<Vec<_>>());
        table.row(vec![name.into(), loss.to_string(), test.percent()]);
        folds.extend(runs.iter().filter_map(|r| r.folded));
        plot.lines.push((name.into(), mean_curve(&runs.into_iter().map(|r| r.losses).collect::<Vec<_>>())));
        ends.push((loss, test));
    }
    let off = folds.iter().map(|f| f.0 / f.1).fold(0.0, f64::max);
    let (two, one) = (ends[0], ends[1]);
    let trained = match (two.0.below(&one.0), one.0.below(&two.0)) {
        (true, _) => format!("two matrices end at a lower training loss on every seed ({} and {})", two.0, one.0),
        (_, true) => format!("one matrix ends at a lower training loss on every seed ({} and {})", one.0, two.0),
        _ => format!("their training losses are within the scatter of the seeds ({} and {})", two.0, one.0),
    };
    let answer = format!(
        "The same functions: a product of two matrices of that width is one matrix, and one matrix is the product with the identity. Folded together, the trained model's results change by at most {} of the largest. But not the same \
         training, since a step of each factor is another step of the product: {trained}; on the test {} and {}.",
        short(off),
        two.1.percent(),
        one.1.percent()
    );
    Ok(Finding { answer, tables: vec![table], plots: vec![plot], ..Finding::default() })
}
