//! What experiments share: the embedded digits, points of functions, multilayer perceptrons, curves of training.

use super::{Plot, Spread, Table};
use crate::data::{Arrays, Dataset, Split, embedded};
use crate::error::Result;
use crate::nn::{Flatten, Linear, Module, Sequential};
use crate::rng::Rng;
use crate::tensor::HostTensor;
use crate::train::{Measures, Trainer};

/// Examples of a batch where nothing is learnt from them.
const EVAL: usize = 512;

/// The embedded digits, f32 (1, 8, 8) from 0 to 1, in two parts.
pub(super) struct Digits {
    pub train: Arrays,
    pub test: Arrays,
}

/// The digits with a fifth of each class held out, drawn from the seed.
pub(super) fn digits(seed: u64) -> Result<Digits> {
    let all = embedded::digits()?;
    let split = Split::stratified(all.labels(), 0.2, 0.0, seed)?;
    let part = |indices: &[usize]| -> Result<Arrays> {
        let mut tensors = all.batch(indices, None)?.into_iter();
        match (tensors.next(), tensors.next()) {
            (Some(image), Some(label)) => Arrays::new(vec![("image", image), ("label", label)]),
            _ => Err(crate::error::Error::internal("digits", "an example has no image or no label")),
        }
    };
    Ok(Digits { train: part(&split.train)?, test: part(&split.test)? })
}

/// So many points of [-1, 1]^dims with the values of a function there: f32 (n, dims) and (n, 1).
pub(super) fn points(n: usize, dims: usize, name: &str, f: impl Fn(&[f32]) -> f32) -> Result<Arrays> {
    let mut rng = Rng::named(0, name);
    let x: Vec<f32> = (0..n * dims).map(|_| rng.range(-1.0, 1.0) as f32).collect();
    let y = x.chunks(dims).map(f).collect();
    Arrays::new(vec![("x", HostTensor::f32([n, dims], x)?), ("y", HostTensor::f32([n, 1], y)?)])
}

/// Linear layers of these widths, the first being the number of inputs, with an activation between them; examples are flattened.
pub(super) fn mlp<A: Module + Clone + 'static>(widths: &[usize], activation: A) -> Sequential {
    let mut model = Sequential::new().add(Flatten::new());
    for (i, pair) in widths.windows(2).enumerate() {
        if i > 0 {
            model = model.add(activation.clone());
        }
        model = model.add(Linear::new(pair[0], pair[1]));
    }
    model
}

/// Trains for some epochs; the measures of each, taken while training.
pub(super) fn curve(trainer: &mut Trainer, data: &Arrays, batch: usize, epochs: u64) -> Result<Vec<Measures>> {
    (0..epochs).map(|_| trainer.fit(data, batch, 1)).collect()
}

/// Measures on all of a data set.
pub(super) fn judge(trainer: &mut Trainer, data: &Arrays) -> Result<Measures> {
    let all: Vec<usize> = (0..data.len()).collect();
    trainer.evaluate(data, &all, EVAL.min(all.len()))
}

/// One training: a number for each epoch, and one from held-out examples at the end.
pub(super) struct Run {
    pub curve: Vec<f64>,
    pub held_out: f64,
}

/// Trains a classifier for some epochs: its losses while training, and the accuracy on the test part.
pub(super) fn classify(trainer: &mut Trainer, data: &Digits, batch: usize, epochs: u64) -> Result<Run> {
    let curve = curve(trainer, &data.train, batch, epochs)?.iter().map(Measures::loss).collect();
    Ok(Run { curve, held_out: judge(trainer, &data.test)?.accuracy() })
}

impl Run {
    /// The last number of the curve.
    pub fn last(&self) -> f64 {
        self.curve.last().copied().unwrap_or(f64::NAN)
    }
    /// The last numbers of the seeds' curves, and what was held out.
    pub fn ends(runs: &[Run]) -> (Spread, Spread) {
        (Spread::of(runs.iter().map(Run::last)), Spread::of(runs.iter().map(|r| r.held_out)))
    }
    /// Enters what the seeds gave: a row of these cells with [`Run::ends`] behind them, which it returns, and a line of this name.
    pub fn enter(
        runs: &[Run],
        (table, plot): (&mut Table, &mut Plot),
        name: &str,
        mut cells: Vec<String>,
    ) -> (Spread, Spread) {
        let (last, held_out) = Run::ends(runs);
        cells.extend([last.to_string(), held_out.percent()]);
        table.row(cells);
        plot.lines.push((name.into(), Run::line(runs)));
        (last, held_out)
    }
    /// The mean of the curves, as points of a chart that begin at x = 1.
    pub fn line(runs: &[Run]) -> Vec<(f64, f64)> {
        let n = runs.iter().map(|r| r.curve.len()).min().unwrap_or(0);
        let mean = |i: usize| runs.iter().map(|r| r.curve[i]).sum::<f64>() / runs.len() as f64;
        (0..n).map(|i| ((i + 1) as f64, mean(i))).collect()
    }
}
