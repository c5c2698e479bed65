//! The loss surface of a model of two parameters, and the ways down it.

use super::finding::{Map, short};
use super::{Experiment, Finding, Lab, Table};
use crate::data::Arrays;
use crate::error::Result;
use crate::nn::Linear;
use crate::optim::{Adagrad, Adam, Optimizer, Sgd};
use crate::rng::Rng;
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "loss-surface",
    lecture: 1,
    question: "What does the loss of y = w x + b look like over w and b, and how do optimizers walk on it?",
    method: "64 points with x from 2 to 4 and y = 1.5 x - 2 with noise of deviation 0.2: since x is far from 0, w and b can make up for each other, and the squared error has a long narrow valley. From (-1, 4) four optimizers make \
             300 steps over all points: gradient descent with a learning rate of 0.08, the same with momentum 0.9 at 0.02, Adam at 0.1 and Adagrad at 1.",
    run,
};

const AREA: [f64; 4] = [-2.0, 4.0, -6.0, 6.0];
const SIDE: usize = 60;

fn data() -> Result<(Arrays, Vec<(f64, f64)>)> {
    let mut rng = Rng::named(0, "line");
    let points: Vec<(f64, f64)> = (0..64)
        .map(|_| {
            let x = rng.range(2.0, 4.0);
            (x, 1.5 * x - 2.0 + 0.2 * rng.normal())
        })
        .collect();
    let column =
        |f: &dyn Fn(&(f64, f64)) -> f64| HostTensor::f32([64, 1], points.iter().map(|p| f(p) as f32).collect());
    Ok((Arrays::new(vec![("x", column(&|p| p.0)?), ("y", column(&|p| p.1)?)])?, points))
}

fn loss(points: &[(f64, f64)], w: f64, b: f64) -> f64 {
    points.iter().map(|(x, y)| (w * x + b - y).powi(2)).sum::<f64>() / points.len() as f64
}

fn run(lab: &Lab) -> Result<Finding> {
    let (data, points) = data()?;
    let at = |i: usize, low: f64, high: f64| low + (i as f64 + 0.5) / SIDE as f64 * (high - low);
    let [left, right, bottom, top] = AREA;
    let values =
        (0..SIDE).map(|r| (0..SIDE).map(|c| loss(&points, at(c, left, right), at(r, bottom, top))).collect()).collect();
    let ways: [(&str, Box<dyn Optimizer>, f64); 4] = [
        ("gradient descent", Box::new(Sgd::new()), 0.08),
        ("momentum", Box::new(Sgd::new().momentum(0.9)), 0.02),
        ("Adam", Box::<Adam>::default(), 0.1),
        ("Adagrad", Box::<Adagrad>::default(), 1.0),
    ];
    // Least squares, for comparison.
    let n = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let slope = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum::<f64>()
        / points.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>();
    let least = loss(&points, slope, my - slope * mx);
    // The curvatures are those of [[mean x^2, mean x], [mean x, 1]], twice; their ratio is how long the valley is for its width.
    let square = points.iter().map(|(x, _)| x * x).sum::<f64>() / n;
    let (half, apart) = ((square + 1.0) / 2.0, (((square - 1.0) / 2.0).powi(2) + mx * mx).sqrt());
    let stretched = (half + apart) / (half - apart);
    let steps = lab.epochs(300) as usize;
    let shown = [steps.min(10), steps.div_ceil(3), steps];
    let titles = shown.map(|n| format!("after {n} steps"));
    let columns: Vec<&str> =
        ["optimizer"].into_iter().chain(titles.iter().map(String::as_str)).chain(["w", "b"]).collect();
    let mut table = Table::new("Loss above the least possible one", &columns);
    let mut map = Map {
        title: "Loss over w (across) and b (up), dark where it is small".into(),
        area: AREA,
        values,
        ..Map::default()
    };
    let mut ends = Vec::new();
    for (name, optimizer, lr) in ways {
        lab.say(name);
        let mut trainer = Trainer::boxed(lab.device(), Box::new(Linear::new(1, 1)), Loss::Mse, optimizer, lr);
        trainer.prepare(&crate::data::Dataset::fields(&data), 64)?;
        trainer.store().insert("weight", &HostTensor::f32([1, 1], vec![-1.0])?)?;
        trainer.store().insert("bias", &HostTensor::f32([1], vec![4.0])?)?;
        let here = |trainer: &Trainer| -> Result<(f64, f64)> {
            Ok((trainer.store().get("weight")?.item()?.into(), trainer.store().get("bias")?.item()?.into()))
        };
        let mut path = vec![here(&trainer)?];
        for _ in 0..steps {
            trainer.fit(&data, 64, 1)?;
            path.push(here(&trainer)?);
        }
        let above = |i: usize| {
            let (w, b) = path[i];
            loss(&points, w, b) - least
        };
        let (w, b) = path[steps];
        let falls = shown.map(|n| short(above(n)));
        table.row([name.to_string()].into_iter().chain(falls).chain([short(w), short(b)]).collect());
        ends.push((name, above(steps)));
        map.paths.push((name.into(), path));
    }
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (first, last) = (&ends[0], &ends[ends.len() - 1]);
    let answer = format!(
        "A long narrow valley: the loss curves {} times as much across it as along it. Least squares reach {} at w = {}, b = {}. With these learning rates (one each, chosen by hand) after {steps} steps {} is nearest ({} above), {} farthest ({} above).",
        short(stretched),
        short(least),
        short(slope),
        short(my - slope * mx),
        first.0,
        short(first.1),
        last.0,
        short(last.1),
    );
    Ok(Finding { answer, tables: vec![table], maps: vec![map], ..Finding::default() })
}
