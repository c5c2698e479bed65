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
    method: "The digits lie in the middle of 14 x 14 pixels, so that little of them leaves when they are moved. A perceptron, a convolutional network without and with max pooling, one with a spatial transformer before it and one that is trained \
             on images moved at random (up to 2 pixels, 30 degrees, a factor of 1.3) learn them for 20 epochs (AdamW, learning rate 0.003, batches of 32). Then the held-out digits are moved, bilinearly, within that reach and beyond.",
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
const SIDE: usize = 14;
/// Pixels added on each side of a digit.
const MARGIN: usize = 3;

/// The digits in the middle of larger images.
fn framed(data: &Arrays) -> Result<Arrays> {
    let all: Vec<usize> = (0..data.len()).collect();
    let fields = data.batch(&all, None)?;
    let frame = |image: &[f32]| {
        let mut out = vec![0.0; SIDE * SIDE];
        for (y, row) in image.chunks(8).enumerate() {
            out[(y + MARGIN) * SIDE + MARGIN..][..8].copy_from_slice(row);
        }
        out
    };
    let pixels = fields[0].as_f32()?.chunks(64).flat_map(frame).collect();
    Arrays::new(vec![("image", HostTensor::f32([all.len(), 1, SIDE, SIDE], pixels)?), ("label", fields[1].clone())])
}

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
        second.add(Flatten::new()).add(Linear::new(32 * 9, 10))
    };
    match kind {
        0 => Box::new(mlp(&[196, 64, 10], Relu)),
        1 => Box::new(plain().add(Flatten::new()).add(Linear::new(16 * 196, 10))),
        3 => {
            let localization = Sequential::new().add(Flatten::new()).add(Linear::new(196, 32)).add(Relu);
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
                || Motion { shift: [draw(2.0), draw(2.0)], degrees: draw(30.0), scale: 1.3f64.powf(draw(1.0)) };
            trainer.fit(&all_moved(data, random)?, 32, 1)?;
        } else {
            trainer.fit(data, 32, 1)?;
        }
    }
    Ok(trainer)
}

fn run(lab: &Lab) -> Result<Finding> {
    let shifts = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0].map(|d| (d, Motion { shift: [d, 0.0], ..STILL }));
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
                let (train, test) = (framed(&data.train)?, framed(&data.test)?);
                let mut trainer = trained(lab, kind, seed, &train)?;
                let on = |m: &Motion| Ok(judge(&mut trainer, &all_moved(&test, || *m)?)?.accuracy());
                motions.iter().map(on).collect::<Result<Vec<f64>>>()
            })
        })
        .collect::<Result<_>>()?;
    let spread = |kind: usize, at: usize| Spread::of(accuracies[kind].iter().map(|s| s[at]));
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
    let at = |way: usize, step: f64| {
        let before: usize = ways[..way].iter().map(|w| w.2.len()).sum();
        before + ways[way].2.iter().position(|m| m.0 == step).unwrap_or(0)
    };
    let hard = [
        (at(0, 2.0), "shifted by 2 pixels"),
        (at(1, 30.0), "turned by 30 degrees"),
        (at(2, 1.3), "enlarged by 1.3"),
        (at(1, 60.0), "turned by 60 degrees, beyond what the last was trained on"),
    ];
    let told = |(at, what): &(usize, &str)| {
        let each: Vec<String> =
            (0..MODELS.len()).map(|kind| format!("{} {:.0} %", MODELS[kind], 100.0 * spread(kind, *at).mean)).collect();
        let order = spread(4, *at).against(&spread(2, *at));
        format!("{what}: {} (the last against the same network without: {order})", each.join(", "))
    };
    let each: Vec<String> = std::iter::once(&(0, "not moved")).chain(&hard).map(told).collect();
    let answer = format!("Mean test accuracy, {}.", each.join(". "));
    Ok(Finding { answer, tables, plots, ..Finding::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motions_move() {
        let mut image = vec![0.0; SIDE * SIDE];
        image[6 * SIDE + 5] = 1.0;
        let at = |m: Motion| {
            let out = moved(&image, m);
            out.iter().position(|v| *v > 0.99).map(|i| (i % SIDE, i / SIDE))
        };
        assert_eq!(at(STILL), Some((5, 6)));
        assert_eq!(at(Motion { shift: [2.0, -1.0], ..STILL }), Some((7, 5)));
        // About the centre (6.5, 6.5), clockwise as y points down: (-1.5, -0.5) becomes (0.5, -1.5).
        assert_eq!(at(Motion { degrees: 90.0, ..STILL }), Some((7, 5)));
        let half = moved(&image, Motion { shift: [0.5, 0.0], ..STILL });
        assert_eq!((half[6 * SIDE + 5], half[6 * SIDE + 6]), (0.5, 0.5));
    }

    #[test]
    fn frames_keep_the_digits() {
        let data = digits(0).unwrap().test;
        let of = |data: &Arrays| data.batch(&[3], None).unwrap()[0].as_f32().unwrap().to_vec();
        let (small, large) = (of(&data), of(&framed(&data).unwrap()));
        assert_eq!(large.len(), SIDE * SIDE);
        assert!((0..64).all(|i| small[i] == large[(i / 8 + MARGIN) * SIDE + i % 8 + MARGIN]));
        assert_eq!(small.iter().sum::<f32>(), large.iter().sum::<f32>());
    }
}
