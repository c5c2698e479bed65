//! Does one update move all layers at once?

use super::finding::short;
use super::material::{digits, judge, mlp};
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::error::Result;
use crate::nn::Tanh;
use crate::optim::Sgd;
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "all-layers",
    lecture: 2,
    question: "Does one update move all layers at once?",
    method: "A perceptron 64-32-32-32-10 with tanh on the digits takes one step of gradient descent over all training images, with learning rates from 0.03 to 30. Then each layer is moved by its own part of that step \
             alone, the others staying where they were: the falls of the loss by single layers are added up and compared with the fall by the whole step.",
    run,
};

const LAYERS: usize = 4;
const RATES: [f64; 7] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Falls of the loss: by the whole step, and by each layer's part.
struct Falls {
    whole: f64,
    parts: Vec<f64>,
    /// Norm of each layer's change over the norm of its weights.
    moved: Vec<f64>,
}

/// The linear layer that a parameter belongs to; 0 flattens, then linear layers and activations take turns.
fn layer_of(name: &str) -> Option<usize> {
    let place: usize = name.split('.').next()?.parse().ok()?;
    (place % 2 == 1).then_some(place / 2)
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|v| v * v).sum::<f64>().sqrt()
}

fn falls(lab: &Lab, seed: u64, lr: f64) -> Result<Falls> {
    let data = digits(seed)?.train;
    let n = crate::data::Dataset::len(&data);
    let model = mlp(&[64, 32, 32, 32, 10], Tanh);
    let mut trainer = Trainer::new(lab.device(), model, Loss::cross_entropy(), Sgd::new(), lr).seed(seed);
    let start_loss = judge(&mut trainer, &data)?.loss();
    let before = trainer.states(true)?;
    trainer.fit(&data, n, 1)?;
    let after = trainer.states(true)?;
    let whole = start_loss - judge(&mut trainer, &data)?.loss();
    let (mut parts, mut moved) = (Vec::new(), Vec::new());
    for layer in 0..LAYERS {
        let mine = |(name, _): &&(String, HostTensor)| layer_of(name) == Some(layer);
        for ((name, old), (_, new)) in before.iter().zip(&after) {
            trainer.store().insert(name.as_str(), if layer_of(name) == Some(layer) { new } else { old })?;
        }
        parts.push(start_loss - judge(&mut trainer, &data)?.loss());
        let all = |states: &[(String, HostTensor)]| {
            states.iter().filter(mine).flat_map(|(_, t)| t.to_f64()).collect::<Vec<_>>()
        };
        let (old, new) = (all(&before), all(&after));
        moved.push(norm(new.iter().zip(&old).map(|(a, b)| a - b)) / norm(old.into_iter()));
    }
    Ok(Falls { whole, parts, moved })
}

fn run(lab: &Lab) -> Result<Finding> {
    let mut moved = Table::new(
        "How far one step of learning rate 0.1 moves each layer, as a share of its weights",
        &["layer", "moved"],
    );
    let mut falls_table = Table::new(
        "Fall of the loss by one step",
        &["learning rate", "all layers", "single layers, added up", "all / sum"],
    );
    let (mut line, mut everywhere, mut pairs) = (Vec::new(), true, Vec::new());
    for lr in RATES {
        let all = lab.seeds(&format!("learning rate {lr}"), |seed| falls(lab, seed, lr))?;
        let spread = |f: &dyn Fn(&Falls) -> f64| Spread::of(all.iter().map(f));
        let (whole, sum) = (spread(&|f| f.whole), spread(&|f| f.parts.iter().sum()));
        // A ratio says something where both fall.
        let ratio = (whole.low > 0.0 && sum.low > 0.0).then_some(whole.mean / sum.mean);
        let shown = ratio.map_or("-".into(), short);
        falls_table.row(vec![lr.to_string(), whole.to_string(), sum.to_string(), shown]);
        if let Some(ratio) = ratio {
            line.push((lr.log10(), ratio));
            pairs.push((lr, ratio));
        }
        everywhere &= all.iter().all(|f| f.moved.iter().all(|m| *m > 0.0));
        if lr == 0.1 {
            for layer in 0..LAYERS {
                moved.row(vec![(layer + 1).to_string(), spread(&|f| f.moved[layer]).to_string()]);
            }
        }
    }
    let apart = match (pairs.first(), pairs.last()) {
        (Some((small, a)), Some((large, b))) => format!(
            "at a learning rate of {small} the whole step lowers the loss by {} times what the layers do one by one, added up; at {large}, the largest at which both lower it on every seed, by {} times",
            short(*a),
            short(*b)
        ),
        _ => "no learning rate lowered the loss on every seed".to_string(),
    };
    let answer = if everywhere {
        format!(
            "Yes: one step changed every layer, on every seed and at every learning rate. Each layer's part is computed as if the others stood still, and that is true for small steps only: {apart}."
        )
    } else {
        format!("Not every layer moved in every run; {apart}.")
    };
    let plot = Plot {
        title: "Fall by the whole step over the sum of falls by single layers".into(),
        x: "log10 of the learning rate",
        logarithmic: false,
        lines: vec![("all / sum".into(), line)],
    };
    Ok(Finding { answer, tables: vec![falls_table, moved], plots: vec![plot], ..Finding::default() })
}
