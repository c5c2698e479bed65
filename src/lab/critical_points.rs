//! When training stalls, is it at a local minimum or at a saddle point?

use super::finding::short;
use super::material::{mlp, points};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::Dataset;
use crate::error::Result;
use crate::nn::Tanh;
use crate::optim::Sgd;
use crate::rng::Rng;
use crate::train::curvature::{Critical, Examine, Surface, Verdict};
use crate::train::lanczos::Eigenpair;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "critical-points",
    lecture: 4,
    question: "Where the gradient becomes small, is it a local minimum or a saddle point?",
    method: "A perceptron 2-6-6-1 with tanh (67 parameters) learns sin(3 x) y from 256 points by gradient descent over all of them (learning rate 0.1). At doubling numbers of updates the norm of the gradient, all \
             eigenvalues of the Hessian and the share of positive ones (the minimum ratio) are computed. At the last saddle point of a run (gradient below 0.01, a negative eigenvalue) \
             the best of 24 steps along the eigenvector is compared with the best along a random direction of the same lengths.",
    run,
};

/// One run: updates and what was found there; and of its last saddle point the loss, and the lowest along the eigenvector and along a random
/// direction.
struct Way {
    points: Vec<(u64, Critical)>,
    escape: Option<[f64; 3]>,
}

fn way(lab: &Lab, seed: u64) -> Result<Way> {
    let data = points(256, 2, "saddle", |x| (3.0 * x[0]).sin() * x[1])?;
    let all: Vec<usize> = (0..data.len()).collect();
    let mut trainer = Trainer::new(lab.device(), mlp(&[2, 6, 6, 1], Tanh), Loss::Mse, Sgd::new(), 0.1).seed(seed);
    let (mut points, mut saddle, mut done, mut next) = (Vec::new(), None, 0, 16);
    while next <= lab.epochs(16384).max(16) {
        trainer.fit(&data, data.len(), next - done)?;
        done = next;
        let mut surface = Surface::of(&mut trainer, &data, &all, data.len())?;
        let point = surface.examine(&Examine { gradient: 1e-2, ..Examine::default() })?;
        if point.verdict == Verdict::Saddle {
            saddle = Some((trainer.states(true)?, point.smallest[0].clone()));
        }
        points.push((done, point));
        next *= 2;
    }
    let Some((there, pair)) = saddle else { return Ok(Way { points, escape: None }) };
    let mut surface = Surface::of(&mut trainer, &data, &all, data.len())?;
    let mut best = |pair: &Eigenpair| -> Result<(f64, f64)> {
        there.iter().try_for_each(|(name, value)| trainer.store().insert(name.as_str(), value))?;
        let step = surface.escape(pair)?;
        Ok((step.before, step.after))
    };
    let mut rng = Rng::named(seed, "direction");
    let mut vector: Vec<f64> = pair.vector.iter().map(|_| rng.normal()).collect();
    let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|v| *v /= length);
    let (before, along) = best(&pair)?;
    let (_, elsewhere) = best(&Eigenpair { vector, ..pair })?;
    Ok(Way { points, escape: Some([before, along, elsewhere]) })
}

fn run(lab: &Lab) -> Result<Finding> {
    let runs = lab.seeds("gradient descent with its Hessian", |seed| way(lab, seed))?;
    let mut table = Table::new(
        "Along training",
        &["updates", "loss", "gradient norm", "smallest eigenvalue", "largest", "minimum ratio", "small gradient at"],
    );
    let length = runs.iter().map(|r| r.points.len()).min().unwrap_or(0);
    for i in 0..length {
        let spread = |f: &dyn Fn(&Critical) -> f64| Spread::of(runs.iter().map(|r| f(&r.points[i].1))).to_string();
        let end = |pairs: &[Eigenpair]| pairs.first().map_or(f64::NAN, |p| p.value);
        let count = |v: Verdict| runs.iter().filter(|r| r.points[i].1.verdict == v).count();
        let kinds = [
            (Verdict::Saddle, "saddle"),
            (Verdict::Minimum, "minimum"),
            (Verdict::Flat, "flat minimum"),
            (Verdict::Maximum, "maximum"),
        ];
        let seen: Vec<String> =
            kinds.into_iter().filter(|k| count(k.0) > 0).map(|(v, name)| format!("{} {name}", count(v))).collect();
        table.row(vec![
            runs[0].points[i].0.to_string(),
            spread(&|c| c.loss),
            spread(&|c| c.grad_norm),
            spread(&|c| end(&c.smallest)),
            spread(&|c| end(&c.largest)),
            spread(&|c| c.minimum_ratio),
            if seen.is_empty() { "none".into() } else { seen.join(", ") },
        ]);
    }
    let has = |v: fn(Verdict) -> bool| runs.iter().filter(|r| r.points.iter().any(|p| v(p.1.verdict))).count();
    let (saddles, minima) = (has(|v| v == Verdict::Saddle), has(|v| matches!(v, Verdict::Minimum | Verdict::Flat)));
    let highest = runs.iter().flat_map(|r| &r.points).map(|p| p.1.minimum_ratio).fold(0.0, f64::max);
    let escapes: Vec<[f64; 3]> = runs.iter().filter_map(|r| r.escape).collect();
    let of = |i: usize| Spread::of(escapes.iter().map(|e| e[i]));
    let off = match escapes.len() {
        0 => "no run met a saddle point to step off".to_string(),
        n => format!(
            "from the last saddle point of {n} run(s), at a loss of {}, the best step along the eigenvector reaches {}, the best along a random direction {}",
            of(0),
            of(1),
            of(2)
        ),
    };
    let answer = format!(
        "Of {} runs {saddles} passed points where the gradient is below 0.01 and an eigenvalue negative, saddle points, and {minima} a minimum (flat ones included). The highest minimum ratio seen anywhere is {}: {off}.",
        runs.len(),
        short(highest)
    );
    let line =
        |f: fn(&Critical) -> f64| runs[0].points.iter().map(|(n, c)| ((*n as f64).log2(), f(c))).collect::<Vec<_>>();
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
