//! Why does RMSProp keep an average for each parameter, and not one for all?

use super::material::{curve, digits, judge, mean_curve, mlp};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::{Arrays, Dataset};
use crate::error::Result;
use crate::nn::Relu;
use crate::optim::{Optimizer, RmsProp, RmsPropGlobal};
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "one-sigma",
    lecture: 6,
    question: "RMSProp divides each parameter's gradient by an average of its own: why is that better than one average for all?",
    method: "A perceptron 64-32-10 with rectifiers learns the digits for 10 epochs in batches of 32 by RMSProp with an average per parameter and with one for the whole gradient, once from pixels of 0 to 1 and once from \
             pixels whose rows differ in scale by factors up to 100. Each gets the best of the learning rates 0.0003 to 1 (steps of about 3) by the training loss of a seed of its own.",
    run,
};

const RATES: [f64; 8] = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

/// The images with their rows of pixels divided by 1 to 100.
fn uneven(data: &Arrays) -> Result<Arrays> {
    let all: Vec<usize> = (0..data.len()).collect();
    let mut t = data.batch(&all, None)?;
    let label = t.pop();
    let image = t.pop();
    let (Some(image), Some(label)) = (image, label) else { return Ok(data.clone()) };
    let pixels = image.as_f32()?.iter().enumerate().map(|(i, v)| v / 100f32.powf((i / 8 % 8) as f32 / 7.0)).collect();
    Arrays::new(vec![("image", HostTensor::f32(image.shape.clone(), pixels)?), ("label", label)])
}

fn one(lab: &Lab, seed: u64, scaled: bool, global: bool, lr: f64) -> Result<(Vec<f64>, f64)> {
    let data = digits(seed)?;
    let (train, test) = if scaled { (uneven(&data.train)?, uneven(&data.test)?) } else { (data.train, data.test) };
    let optimizer: Box<dyn Optimizer> =
        if global { Box::new(RmsPropGlobal::default()) } else { Box::new(RmsProp::default()) };
    let model = mlp(&[64, 32, 10], Relu);
    let mut trainer = Trainer::boxed(lab.device(), Box::new(model), Loss::cross_entropy(), optimizer, lr).seed(seed);
    let losses = curve(&mut trainer, &train, 32, lab.epochs(10))?.iter().map(|m| m.loss()).collect();
    Ok((losses, judge(&mut trainer, &test)?.accuracy()))
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut table =
        Table::new("After training", &["pixels", "averages", "learning rate", "training loss", "test accuracy"]);
    let mut plots = Vec::new();
    let mut verdicts = Vec::new();
    for (scaled, pixels) in [(false, "even"), (true, "uneven")] {
        let mut plot =
            Plot { title: format!("Training loss, {pixels} pixels"), x: "epoch", logarithmic: true, ..Plot::default() };
        let mut ends = Vec::new();
        for (global, name) in [(false, "per parameter"), (true, "one for all")] {
            let mut best = (f64::INFINITY, RATES[0]);
            for lr in RATES {
                let loss = one(lab, 1000, scaled, global, lr)?.0.last().copied().unwrap_or(f64::NAN);
                if loss < best.0 {
                    best = (loss, lr);
                }
            }
            let runs = lab.seeds(&format!("{pixels} pixels, {name}, learning rate {}", best.1), |seed| {
                one(lab, seed, scaled, global, best.1)
            })?;
            let loss = Spread::of(&runs.iter().map(|r| r.0.last().copied().unwrap_or(f64::NAN)).collect::<Vec<_>>());
            let test = Spread::of(&runs.iter().map(|r| r.1).collect::<Vec<_>>());
            table.row(vec![pixels.into(), name.into(), best.1.to_string(), loss.to_string(), test.percent()]);
            plot.lines.push((name.into(), mean_curve(&runs.into_iter().map(|r| r.0).collect::<Vec<_>>())));
            ends.push(loss);
        }
        let (own, shared) = (ends[0], ends[1]);
        verdicts.push(match (own.below(&shared), shared.below(&own)) {
            (true, _) => format!(
                "with {pixels} pixels averages of their own end lower on every seed ({own}, one for all {shared})"
            ),
            (_, true) => {
                format!("with {pixels} pixels one average for all ends lower on every seed ({shared}, their own {own})")
            }
            _ => format!("with {pixels} pixels the two are within the scatter of the seeds ({own} and {shared})"),
        });
        plots.push(plot);
    }
    let answer = format!(
        "One average only sets the length of the step, as a learning rate would; averages of their own also make directions with small gradients move. Measured: {}.",
        verdicts.join("; ")
    );
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
