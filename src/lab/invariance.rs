//! Is a convolutional network invariant to shift, scale and rotation?

use super::material::{digits, judge, mlp};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::{Arrays, Dataset};
use crate::error::Result;
use crate::nn::{Conv2d, Flatten, Linear, MaxPool2d, Module, Relu, Sequential, SpatialTransformer};
use crate::optim::AdamW;
use crate::rng::Rng;
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "invariance",
    lecture: 9,
    question: "Does a convolutional network still recognize what was shifted, turned or scaled?",
    method: "A perceptron, a convolutional network without and with max pooling, one with a spatial transformer before it and one that is trained on images moved at random (up to 1.5 pixels, 30 degrees, a factor of \
             1.3) learn the digits for 20 epochs (AdamW, learning rate 0.003, batches of 32). Then the held-out digits are moved, bilinearly.",
    run,
};

/// How an image is moved: right and down in pixels, turned by degrees, enlarged.
#[derive(Debug, Clone, Copy)]
struct Motion {
    shift: [f64; 2],
    degrees: f64,
    scale: f64,
}

const STILL: Motion = Motion { shift: [0.0; 2], degrees: 0.0, scale: 1.0 };
const SIDE: usize = 8;

/// An image moved about its centre; what comes in from outside is 0.
fn moved(image: &[f32], m: Motion) -> Vec<f32> {
    let (sin, cos) = m.degrees.to_radians().sin_cos();
    let centre = (SIDE as f64 - 1.0) / 2.0;
    let pixel = |x: i64, y: i64| {
        let inside = |v: i64| (0..SIDE as i64).contains(&v);
        if inside(x) && inside(y) { f64::from(image[y as usize * SIDE + x as usize]) } else { 0.0 }
    };
    let at = |i: usize| {
        let (dx, dy) = ((i % SIDE) as f64 - centre - m.shift[0], (i / SIDE) as f64 - centre - m.shift[1]);
        let (x, y) = ((cos * dx + sin * dy) / m.scale + centre, (cos * dy - sin * dx) / m.scale + centre);
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let row = |y: i64| (1.0 - fx) * pixel(x0 as i64, y) + fx * pixel(x0 as i64 + 1, y);
        ((1.0 - fy) * row(y0 as i64) + fy * row(y0 as i64 + 1)) as f32
    };
    (0..SIDE * SIDE).map(at).collect()
}

/// All images moved, each by what `motion` says.
fn all_moved(data: &Arrays, mut motion: impl FnMut() -> Motion) -> Result<Arrays> {
    let all: Vec<usize> = (0..data.len()).collect();
    let fields = data.batch(&all, None)?;
    let (image, label) = (&fields[0], fields[1].clone());
    let pixels = image.as_f32()?.chunks(SIDE * SIDE).flat_map(|i| moved(i, motion())).collect();
    Arrays::new(vec![("image", HostTensor::f32(image.shape.clone(), pixels)?), ("label", label)])
}

/// What is done to the digits, in what unit, and how far with what motion.
type Way = (&'static str, &'static str, Vec<(f64, Motion)>);

const MODELS: [&str; 5] = ["perceptron", "convolutions", "with pooling", "spatial transformer", "trained on moved"];

fn model(kind: usize) -> Box<dyn Module> {
    let plain = || {
        Sequential::new()
            .add(Conv2d::new(1, 16, 3).padding(1))
            .add(Relu)
            .add(Conv2d::new(16, 16, 3).padding(1))
            .add(Relu)
    };
    let pooled = || {
        let first = Sequential::new().add(Conv2d::new(1, 16, 3).padding(1)).add(Relu).add(MaxPool2d::new(2));
        let second = first.add(Conv2d::new(16, 32, 3).padding(1)).add(Relu).add(MaxPool2d::new(2));
        second.add(Flatten::new()).add(Linear::new(128, 10))
    };
    match kind {
        0 => Box::new(mlp(&[64, 64, 10], Relu)),
        1 => Box::new(plain().add(Flatten::new()).add(Linear::new(1024, 10))),
        3 => {
            let localization = Sequential::new().add(Flatten::new()).add(Linear::new(64, 32)).add(Relu);
            Box::new(Sequential::new().add(SpatialTransformer::new(localization)).add(pooled()))
        }
        _ => Box::new(pooled()),
    }
}

fn trained(lab: &Lab, kind: usize, seed: u64, data: &Arrays) -> Result<Trainer> {
    let optimizer = Box::new(AdamW::new());
    let mut trainer = Trainer::boxed(lab.device(), model(kind), Loss::cross_entropy(), optimizer, 0.003).seed(seed);
    let mut rng = Rng::named(seed, "motions");
    for _ in 0..lab.epochs(20) {
        if kind == 4 {
            let mut draw = |reach: f64| rng.range(-reach, reach);
            let random =
                || Motion { shift: [draw(1.5), draw(1.5)], degrees: draw(30.0), scale: 1.3f64.powf(draw(1.0)) };
            trainer.fit(&all_moved(data, random)?, 32, 1)?;
        } else {
            trainer.fit(data, 32, 1)?;
        }
    }
    Ok(trainer)
}

fn run(lab: &Lab) -> Result<Finding> {
    let shifts = [0.0, 0.5, 1.0, 1.5, 2.0].map(|d| (d, Motion { shift: [d, 0.0], ..STILL }));
    let turns = [0.0, 10.0, 20.0, 30.0, 45.0, 60.0].map(|d| (d, Motion { degrees: d, ..STILL }));
    let scales = [0.6, 0.75, 0.9, 1.0, 1.15, 1.3, 1.5].map(|s| (s, Motion { scale: s, ..STILL }));
    let ways: [Way; 3] = [
        ("shifted to the right", "pixels", shifts.into()),
        ("turned", "degrees", turns.into()),
        ("scaled", "factor", scales.into()),
    ];
    let motions: Vec<Motion> = ways.iter().flat_map(|w| w.2.iter().map(|m| m.1)).collect();
    // [model][seed][motion]
    let accuracies: Vec<Vec<Vec<f64>>> = (0..MODELS.len())
        .map(|kind| {
            lab.seeds(MODELS[kind], |seed| {
                let data = digits(seed)?;
                let mut trainer = trained(lab, kind, seed, &data.train)?;
                let on = |m: &Motion| Ok(judge(&mut trainer, &all_moved(&data.test, || *m)?)?.accuracy());
                motions.iter().map(on).collect::<Result<Vec<f64>>>()
            })
        })
        .collect::<Result<_>>()?;
    let spread = |kind: usize, at: usize| Spread::of(&accuracies[kind].iter().map(|s| s[at]).collect::<Vec<_>>());
    let (mut tables, mut plots, mut first) = (Vec::new(), Vec::new(), 0);
    for (what, unit, steps) in &ways {
        let columns: Vec<&str> = std::iter::once(*unit).chain(MODELS).collect();
        let mut table = Table::new(format!("Test accuracy on digits {what}"), &columns);
        for (i, (step, _)) in steps.iter().enumerate() {
            let cells = (0..MODELS.len()).map(|kind| spread(kind, first + i).percent());
            table.row(std::iter::once(step.to_string()).chain(cells).collect());
        }
        let line =
            |kind: usize| steps.iter().enumerate().map(|(i, (x, _))| (*x, spread(kind, first + i).mean)).collect();
        let lines = (0..MODELS.len()).map(|kind| (MODELS[kind].to_string(), line(kind))).collect();
        plots.push(Plot { title: format!("Test accuracy on digits {what}"), x: unit, logarithmic: false, lines });
        tables.push(table);
        first += steps.len();
    }
    // A shift by one pixel, a turn by 30 degrees, a scale of 1.3: positions in `motions`.
    let hard = [(2, "shifted by a pixel"), (8, "turned by 30 degrees"), (16, "enlarged by 1.3")];
    let told = |kind: usize| {
        let each: Vec<String> =
            hard.iter().map(|(at, what)| format!("{:.0} % {what}", 100.0 * spread(kind, *at).mean)).collect();
        format!("{}: {:.0} % still, {}", MODELS[kind], 100.0 * spread(kind, 0).mean, each.join(", "))
    };
    let pooling = [0usize, 1, 2].map(|i| spread(2, hard[i].0).below(&spread(4, hard[i].0)));
    let helped = pooling.iter().filter(|p| **p).count();
    let answer = format!(
        "Not by itself. {}. Training on moved images is above the same network without in {helped} of these 3 motions on every seed.",
        (0..MODELS.len()).map(told).collect::<Vec<_>>().join("; ")
    );
    Ok(Finding { answer, tables, plots, ..Finding::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motions_move() {
        let mut image = vec![0.0; 64];
        image[3 * 8 + 2] = 1.0;
        let at = |m: Motion| {
            let out = moved(&image, m);
            out.iter().position(|v| *v > 0.99).map(|i| (i % 8, i / 8))
        };
        assert_eq!(at(STILL), Some((2, 3)));
        assert_eq!(at(Motion { shift: [2.0, -1.0], ..STILL }), Some((4, 2)));
        // About the centre (3.5, 3.5), clockwise as y points down: (-1.5, -0.5) becomes (0.5, -1.5).
        assert_eq!(at(Motion { degrees: 90.0, ..STILL }), Some((4, 2)));
        let half = moved(&image, Motion { shift: [0.5, 0.0], ..STILL });
        assert_eq!((half[3 * 8 + 2], half[3 * 8 + 3]), (0.5, 0.5));
    }
}
