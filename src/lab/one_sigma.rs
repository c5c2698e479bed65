//! Why does RMSProp keep an average for each parameter, and not one for all?

use super::material::{Digits, Run, classify, digits, mlp};
use super::{Experiment, Finding, Lab, Plot, Table};
use crate::data::{Arrays, Dataset};
use crate::error::{Error, Result};
use crate::nn::Relu;
use crate::optim::{Optimizer, RmsProp, RmsPropGlobal};
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "one-sigma",
    lecture: 6,
    question: "RMSProp divides each parameter's gradient by an average of its own: why is that better than one average for all?",
    method: "One average for all sets only the length of the step; averages of their own also make directions with small gradients move. A perceptron 64-32-10 with rectifiers learns the digits for 10 epochs in batches of 32 by RMSProp \
             with an average per parameter and with one for the whole gradient, once from pixels of 0 to 1 and once from pixels whose rows are divided by 1 to 100. Each gets the learning rate, of 0.0003 to 3 in steps of about 3, that has \
             the lowest training loss on two seeds of their own.",
    run,
};

const RATES: [f64; 9] = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// The images with their rows of pixels divided by 1 to 100.
fn uneven(data: &Arrays) -> Result<Arrays> {
    let all: Vec<usize> = (0..data.len()).collect();
    let mut fields = data.batch(&all, None)?.into_iter();
    let (Some(image), Some(label)) = (fields.next(), fields.next()) else {
        return Err(Error::internal("digits", "an example has no image or no label"));
    };
    let pixels = image.as_f32()?.iter().enumerate().map(|(i, v)| v / 100f32.powf((i / 8 % 8) as f32 / 7.0)).collect();
    Arrays::new(vec![("image", HostTensor::f32(image.shape.clone(), pixels)?), ("label", label)])
}

fn one(lab: &Lab, seed: u64, scaled: bool, global: bool, lr: f64) -> Result<Run> {
    let mut data = digits(seed)?;
    if scaled {
        data = Digits { train: uneven(&data.train)?, test: uneven(&data.test)? };
    }
    let optimizer: Box<dyn Optimizer> =
        if global { Box::new(RmsPropGlobal::default()) } else { Box::new(RmsProp::default()) };
    let model = Box::new(mlp(&[64, 32, 10], Relu));
    let mut trainer = Trainer::boxed(lab.device(), model, Loss::cross_entropy(), optimizer, lr).seed(seed);
    classify(&mut trainer, &data, 32, lab.epochs(10))
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut table =
        Table::new("After training", &["pixels", "averages", "learning rate", "training loss", "test accuracy"]);
    let (mut plots, mut verdicts) = (Vec::new(), Vec::new());
    for (scaled, pixels) in [(false, "even"), (true, "uneven")] {
        let mut plot =
            Plot { title: format!("Training loss, {pixels} pixels"), x: "epoch", logarithmic: true, ..Plot::default() };
        let mut ends = Vec::new();
        for (global, name) in [(false, "per parameter"), (true, "one for all")] {
            let what = format!("{pixels} pixels, {name}");
            let (lr, end) = lab.rate(&what, &RATES, |seed, lr| Ok(one(lab, seed, scaled, global, lr)?.last()))?;
            let runs = lab.seeds(&format!("{what}, learning rate {lr}"), |seed| one(lab, seed, scaled, global, lr))?;
            let cells = vec![pixels.into(), name.into(), format!("{lr}{end}")];
            ends.push(Run::enter(&runs, (&mut table, &mut plot), name, cells));
        }
        let (own, shared) = (ends[0], ends[1]);
        verdicts.push(format!(
            "With {pixels} pixels the training loss ends at {} with averages of their own and at {} with one for all, {}; on the test {} and {}",
            own.0,
            shared.0,
            shared.0.against(&own.0),
            own.1.percent(),
            shared.1.percent()
        ));
        plots.push(plot);
    }
    let answer = verdicts.join(". ") + ".";
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
