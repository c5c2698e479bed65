//! Does attention that fades with the distance help, in one dimension and over the pixels of an image?

use super::material::{Run, classify, digits};
use super::{Experiment, Finding, Lab, Plot, Table};
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
             rate 0.01, batches of 32). Scores are multiplied by exp(-decay * distance) before the softmax, so that far ones become 0 (and their weights those of any \
             score of 0): no decay; along the row-by-row sequence; in the plane; each learned per head from 0.3 on. All that with learned \
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
                let model = Pixels { form, positions };
                let mut trainer =
                    Trainer::new(lab.device(), model, Loss::cross_entropy(), AdamW::new(), 0.01).seed(seed);
                classify(&mut trainer, &digits(seed)?, 32, lab.epochs(15))
            })?;
            ends.push(Run::enter(&runs, (&mut table, &mut plot), name, vec![with.into(), name.into()]).1);
        }
        let [none, line, plane] = ends[..] else { return Ok(Finding::default()) };
        verdicts.push(format!(
            "{with}: no decay {}; along the sequence {}, {}; in the plane {}, {}, and compared with the sequence {}",
            none.percent(),
            line.percent(),
            line.against(&none),
            plane.percent(),
            plane.against(&none),
            plane.against(&line)
        ));
        plots.push(plot);
    }
    let answer = format!("Test accuracy {}.", verdicts.join(". And "));
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
