//! Does attention that fades with the distance help, in one dimension and over the pixels of an image?

use super::material::{curve, digits, judge, mean_curve};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::error::Result;
use crate::ir::Tensor;
use crate::nn::{Form, LearnedPositions, Linear, Module, Scope, SelfAttention};
use crate::optim::AdamW;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "distance-decay",
    lecture: 11,
    question: "Self-attention whose scores fade with the distance: does it help, along a sequence and over the pixels of an image?",
    method: "Each of the 64 pixels of a digit is a token, its value a linear layer's input. Two layers of self-attention (width 16, 4 heads, residual, rectifier) and the mean over the pixels classify it, after 15 epochs (AdamW, learning \
             rate 0.01, batches of 32). Scores are multiplied by exp(-d) of a distance times a decay before the softmax: no decay; along the row-by-row sequence; in the plane; each learned per head from 0.3 on. All that with learned \
             positions added to the tokens, and without.",
    run,
};

const WIDTH: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Pixels {
    form: Form,
    positions: bool,
}

impl Module for Pixels {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let mut x = scope.run("embed", &Linear::new(1, WIDTH), &x.reshape([x.size(0), 64, 1]));
        if self.positions {
            let positions = LearnedPositions { std: 0.5, ..LearnedPositions::new(WIDTH, 64) };
            x = scope.run("positions", &positions, &x);
        }
        for layer in 0..2 {
            let seen = scope.run(format!("attention{layer}"), &SelfAttention::new(WIDTH, 4, self.form), &x);
            let mixed = scope.run(format!("mix{layer}"), &Linear::new(WIDTH, WIDTH), &(&x + seen)).relu();
            x = x + mixed;
        }
        scope.run("classes", &Linear::new(WIDTH, 10), &x.mean(&[1], false))
    }
}

fn run(lab: &Lab) -> Result<Finding> {
    let decaying = |grid_width| Form::DistanceDecay { decay: 0.3, grid_width, learned: true };
    let none = Form::DistanceDecay { decay: 0.0, grid_width: None, learned: false };
    let forms = [(none, "no decay"), (decaying(None), "along the sequence"), (decaying(Some(8)), "in the plane")];
    let mut table = Table::new("After training", &["positions", "decay", "training loss", "test accuracy"]);
    let (mut plots, mut verdicts) = (Vec::new(), Vec::new());
    for (positions, with) in [(false, "without positions"), (true, "with learned positions")] {
        let mut plot =
            Plot { title: format!("Training loss {with}"), x: "epoch", logarithmic: true, ..Plot::default() };
        let mut ends = Vec::new();
        for (form, name) in forms {
            let runs = lab.seeds(&format!("{with}, {name}"), |seed| {
                let data = digits(seed)?;
                let model = Pixels { form, positions };
                let mut trainer =
                    Trainer::new(lab.device(), model, Loss::cross_entropy(), AdamW::new(), 0.01).seed(seed);
                let losses: Vec<f64> =
                    curve(&mut trainer, &data.train, 32, lab.epochs(15))?.iter().map(|m| m.loss()).collect();
                Ok((losses, judge(&mut trainer, &data.test)?.accuracy()))
            })?;
            let loss = Spread::of(&runs.iter().map(|r| r.0.last().copied().unwrap_or(f64::NAN)).collect::<Vec<_>>());
            let test = Spread::of(&runs.iter().map(|r| r.1).collect::<Vec<_>>());
            table.row(vec![with.into(), name.into(), loss.to_string(), test.percent()]);
            plot.lines.push((name.into(), mean_curve(&runs.into_iter().map(|r| r.0).collect::<Vec<_>>())));
            ends.push(test);
        }
        let against = |i: usize, j: usize| match (ends[j].below(&ends[i]), ends[i].below(&ends[j])) {
            (true, _) => "above on every seed",
            (_, true) => "below on every seed",
            _ => "within the scatter of the seeds",
        };
        verdicts.push(format!(
            "{with}, no decay ends at {}; along the sequence at {} ({}), in the plane at {} ({}, and compared with the sequence {})",
            ends[0].percent(),
            ends[1].percent(),
            against(1, 0),
            ends[2].percent(),
            against(2, 0),
            against(2, 1)
        ));
        plots.push(plot);
    }
    let answer = format!("Test accuracy: {}.", verdicts.join("; "));
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
