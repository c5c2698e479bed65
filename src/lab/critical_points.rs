//! When training stalls, is it at a local minimum or at a saddle point?

use super::finding::short;
use super::material::{mlp, points};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::Dataset;
use crate::error::Result;
use crate::nn::Tanh;
use crate::optim::Sgd;
use crate::train::curvature::{Critical, Examine, Surface, Verdict};
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "critical-points",
    lecture: 4,
    question: "Where the gradient becomes small, is it a local minimum or a saddle point?",
    method: "A perceptron 2-6-6-1 with tanh (67 parameters) learns sin(3 x) y from 256 points by gradient descent over all of them (learning rate 0.1). At doubling numbers of updates the norm of the gradient, all \
             eigenvalues of the Hessian and the share of positive ones (the minimum ratio) are computed. At the last point whose smallest eigenvalue is clearly negative a step along its eigenvector is tried.",
    run,
};

/// Points of one run: updates and what was found there.
type Way = Vec<(u64, Critical)>;

fn way(lab: &Lab, seed: u64) -> Result<(Way, Option<(f64, f64)>)> {
    let data = points(256, 2, "saddle", |x| (3.0 * x[0]).sin() * x[1])?;
    let all: Vec<usize> = (0..data.len()).collect();
    let mut trainer = Trainer::new(lab.device(), mlp(&[2, 6, 6, 1], Tanh), Loss::Mse, Sgd::new(), 0.1).seed(seed);
    let (mut way, mut escape, mut done, mut next) = (Way::new(), None, 0, 16);
    while next <= lab.epochs(16384).max(16) {
        trainer.fit(&data, data.len(), next - done)?;
        done = next;
        let mut surface = Surface::of(&mut trainer, &data, &all, data.len())?;
        let point = surface.examine(&Examine { gradient: 1e-2, ..Examine::default() })?;
        if let Some(pair) = point.smallest.first().filter(|p| p.value < -1e-3) {
            let here = trainer.states(true)?;
            let step = surface.escape(pair)?;
            escape = Some((step.before, step.after));
            // Training goes on from where it was.
            here.iter().try_for_each(|(name, value)| trainer.store().insert(name.as_str(), value))?;
        }
        way.push((done, point));
        next *= 2;
    }
    Ok((way, escape))
}

fn run(lab: &Lab) -> Result<Finding> {
    let runs = lab.seeds("gradient descent with its Hessian", |seed| way(lab, seed))?;
    let mut table = Table::new(
        "Along training",
        &["updates", "loss", "gradient norm", "smallest eigenvalue", "largest", "minimum ratio", "small gradient at"],
    );
    let length = runs.iter().map(|r| r.0.len()).min().unwrap_or(0);
    for i in 0..length {
        let spread = |f: &dyn Fn(&Critical) -> f64| {
            Spread::of(&runs.iter().map(|r| f(&r.0[i].1)).collect::<Vec<_>>()).to_string()
        };
        let end = |pairs: &[crate::train::lanczos::Eigenpair]| pairs.first().map_or(f64::NAN, |p| p.value);
        let count = |v: Verdict| runs.iter().filter(|r| r.0[i].1.verdict == v).count();
        let kinds = [
            (Verdict::Saddle, "saddle"),
            (Verdict::Minimum, "minimum"),
            (Verdict::Flat, "flat minimum"),
            (Verdict::Maximum, "maximum"),
        ];
        let seen: Vec<String> =
            kinds.into_iter().filter(|k| count(k.0) > 0).map(|(v, name)| format!("{} {name}", count(v))).collect();
        table.row(vec![
            runs[0].0[i].0.to_string(),
            spread(&|c| c.loss),
            spread(&|c| c.grad_norm),
            spread(&|c| end(&c.smallest)),
            spread(&|c| end(&c.largest)),
            spread(&|c| c.minimum_ratio),
            if seen.is_empty() { "none".into() } else { seen.join(", ") },
        ]);
    }
    let points = || runs.iter().flat_map(|r| r.0.iter().map(|p| &p.1));
    let small = points().filter(|c| c.verdict != Verdict::Slope).count();
    let saddles = points().filter(|c| c.verdict == Verdict::Saddle).count();
    let escapes: Vec<(f64, f64)> = runs.iter().filter_map(|r| r.1).collect();
    let lower = escapes.iter().filter(|e| e.1 < e.0).count();
    let highest = points().map(|c| c.minimum_ratio).fold(0.0, f64::max);
    let answer = format!(
        "Of {small} points on the way with a gradient below 0.01, {saddles} have a negative eigenvalue: saddle points, in at least one direction not minima; the highest minimum ratio seen anywhere is {}. From the last point with a \
         clearly negative eigenvalue a step along its eigenvector lowered the loss in {lower} of {} runs.",
        short(highest),
        escapes.len()
    );
    let line = |f: fn(&Critical) -> f64| runs[0].0.iter().map(|(n, c)| ((*n as f64).log2(), f(c))).collect::<Vec<_>>();
    let plot = Plot {
        title: "Seed 0: loss, gradient norm and minimum ratio".into(),
        x: "log2 of the updates",
        logarithmic: true,
        lines: vec![
            ("loss".into(), line(|c| c.loss)),
            ("gradient norm".into(), line(|c| c.grad_norm)),
            ("minimum ratio".into(), line(|c| c.minimum_ratio)),
        ],
    };
    Ok(Finding { answer, tables: vec![table], plots: vec![plot], ..Finding::default() })
}
