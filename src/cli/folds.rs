//! `kiln train --folds N`: cross-validation.

use crate::backend::Device;
use crate::cli::{Outcome, print_json};
use crate::error::{Error, Result};
use crate::report::number::{mean_and_deviation, percent, seconds};
use crate::train::run::{EpochReport, Run, Watch};
use crate::train::{Measures, RunConfig, RunOptions};
use serde_json::{Value, json};
use std::time::Instant;

fn measures_json(m: &Measures) -> Value {
    json!({ "loss": m.loss(), "accuracy": m.accuracy(), "count": m.count })
}

/// Keeps the curve of a run.
#[derive(Default)]
struct Curve(Vec<Value>);

impl Watch for Curve {
    fn epoch(&mut self, e: &EpochReport) {
        let validation = e.validation.as_ref().map(measures_json);
        self.0.push(json!({ "epoch": e.epoch, "train": measures_json(&e.train), "validation": validation }));
    }
}

/// Trains once per fold and reports the validation of each.
pub(super) fn over_folds(
    config: &RunConfig,
    folds: usize,
    device: &Device,
    options: &RunOptions,
    json: bool,
) -> Result<Outcome> {
    if folds < 2 {
        return Err(Error::input("--folds", format!("{folds} is no cross-validation; give 2 or more")));
    }
    let say = |line: String| if json { eprintln!("{line}") } else { println!("{line}") };
    let info = device.info();
    say(format!("{} on {} ({}): {}", config.preset, info.name, info.driver, device.reason()));
    let (mut found, mut rows): (Vec<Measures>, Vec<Value>) = (Vec::new(), Vec::new());
    for fold in 0..folds {
        let began = Instant::now();
        let config = RunConfig { fold: Some((fold, folds)), ..config.clone() };
        let out = options.out.as_ref().map(|o| o.join(format!("fold-{fold}")));
        let options = RunOptions { keep: out.is_some(), out, ..options.clone() };
        let mut curve = Curve::default();
        let summary = Run::new(config, device, options)?.train(&mut curve)?;
        let Some(v) = summary.validation else {
            return Err(Error::input("--folds", "this data set has no validation part to measure"));
        };
        let score = if v.correct > 0.0 { format!("accuracy {} ", percent(v.accuracy())) } else { String::new() };
        let time = seconds(began.elapsed().as_secs_f64());
        say(format!("fold {fold}  validation {score}(loss {:.4}, {} examples)  {time}", v.loss(), v.count));
        rows.push(json!({ "fold": fold, "validation": measures_json(&v), "train": measures_json(&summary.train),
                          "curve": curve.0 }));
        found.push(v);
    }
    let (loss, loss_deviation) = mean_and_deviation(&found.iter().map(Measures::loss).collect::<Vec<f64>>());
    let accuracies: Vec<f64> = found.iter().map(Measures::accuracy).collect();
    let (accuracy, deviation) = mean_and_deviation(&accuracies);
    if accuracies.iter().any(|a| *a > 0.0) {
        say(format!(
            "validation accuracy: mean {}, deviation {}, over {folds} folds",
            percent(accuracy),
            percent(deviation)
        ));
    }
    say(format!("validation loss: mean {loss:.4}, deviation {loss_deviation:.4}"));
    if json {
        print_json(&json!({
            "preset": config.preset, "folds": rows,
            "accuracy": { "mean": accuracy, "deviation": deviation },
            "loss": { "mean": loss, "deviation": loss_deviation },
        }));
    }
    Ok(Outcome::Good)
}
