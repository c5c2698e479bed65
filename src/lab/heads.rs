//! Multi-head attention: is q W^{q,1} after W^q the same model as W^{q,1} alone?

use super::finding::short;
use super::material::{Digits, Run, classify, digits};
use super::{Experiment, Finding, Lab, Plot, Table};
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
             another, in the other the second alone; the other is also trained from the product of the first one's initial \
             matrices. All learn for 20 epochs (AdamW, learning rate 0.003, batches of 32). Then the two matrices of the trained model are multiplied and put into the other one, and their results compared.",
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

/// The one-matrix model with the state of a two-matrix model, whose pairs of matrices are multiplied.
fn folded(lab: &Lab, model: &Trainer, data: &Digits, seed: u64) -> Result<Trainer> {
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
    Ok(other)
}

/// Largest difference of a logit between a two-matrix model and its folded form, as a share of the largest logit.
fn off(lab: &Lab, model: &mut Trainer, data: &Digits, seed: u64) -> Result<f64> {
    let images = &data.test.batch(&(0..64).collect::<Vec<_>>(), None)?[0];
    let mut other = folded(lab, model, data, seed)?;
    let (a, b) = (model.predict(images)?.to_f64(), other.predict(images)?.to_f64());
    let most = a.iter().map(|x| x.abs()).fold(0.0, f64::max);
    // A difference that is no number counts as infinite.
    let far = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).map(|d| if d.is_nan() { f64::INFINITY } else { d });
    Ok(far.fold(0.0, f64::max) / most)
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut table = Table::new("After training", &["queries, keys and values", "training loss", "test accuracy"]);
    let mut plot =
        Plot { title: "Training loss, mean of the seeds".into(), x: "epoch", logarithmic: true, ..Plot::default() };
    let (mut ends, mut folds) = (Vec::new(), Vec::new());
    for (kind, name) in
        ["two matrices after another", "one matrix", "one matrix, started as the product"].into_iter().enumerate()
    {
        let runs = lab.seeds(name, |seed| {
            let data = digits(seed)?;
            let mut model = trainer(lab, kind != 1, seed);
            if kind == 2 {
                model.prepare(&data.train.fields(), 32)?;
                model = folded(lab, &model, &data, seed)?;
            }
            let run = classify(&mut model, &data, 32, lab.epochs(20))?;
            let off = if kind == 0 { off(lab, &mut model, &data, seed)? } else { 0.0 };
            Ok((run, off))
        })?;
        folds.extend(runs.iter().map(|r| r.1));
        let runs: Vec<Run> = runs.into_iter().map(|r| r.0).collect();
        ends.push(Run::enter(&runs, (&mut table, &mut plot), name, vec![name.into()]));
    }
    let [two, one, product] = ends[..] else { return Ok(Finding::default()) };
    let answer = format!(
        "The same functions: a product of two matrices of that width is one matrix, and one matrix is its product with the identity. Folded together, the trained models' results change by at most {} of the largest. Trained, two matrices \
         end at a training loss of {}; one matrix at {}, {}; one that starts as the product at {}, {}. On the test {}, {} and {}.",
        short(folds.into_iter().fold(0.0, f64::max)),
        two.0,
        one.0,
        one.0.against(&two.0),
        product.0,
        product.0.against(&two.0),
        two.1.percent(),
        one.1.percent(),
        product.1.percent()
    );
    Ok(Finding { answer, tables: vec![table], plots: vec![plot], ..Finding::default() })
}
