//! `kiln train --find-lr`: a range test of the learning rate, as a table with the suggestion.

use crate::backend::Device;
use crate::cli::{Outcome, print_json};
use crate::error::Result;
use crate::train::trainer::FindLr;
use crate::train::{RunConfig, Task};
use serde_json::json;

/// Rows of the table are so many updates apart; the suggested one is always there.
const APART: usize = 4;

/// Runs the test for this configuration, whose learning rate and schedule do not matter, and prints what it saw.
pub fn run(config: &RunConfig, device: &Device, json: bool) -> Result<Outcome> {
    let task = Task::open(config)?;
    let mut trainer = task.trainer(config, device)?;
    let options = FindLr::default();
    let curve = trainer.find_lr(&*task.train.data, &task.train.indices, config.update_batch(), &options)?;
    if json {
        let points: Vec<_> =
            curve.points.iter().map(|p| json!({ "lr": p.lr, "loss": p.loss, "smoothed": p.smoothed })).collect();
        print_json(&json!({ "preset": config.preset, "points": points, "suggestion": curve.lr() }));
        return Ok(Outcome::Good);
    }
    println!("{} on {}: {}", config.preset, device.info().name, device.reason());
    println!("{:>10}  {:>10}  {:>10}", "lr", "loss", "smoothed");
    for (i, p) in curve.points.iter().enumerate() {
        let chosen = curve.suggestion == Some(i);
        if chosen || i % APART == 0 || i + 1 == curve.points.len() {
            let mark = if chosen { "  <-- the loss falls fastest" } else { "" };
            println!("{:>10.2e}  {:>10.4}  {:>10.4}{mark}", p.lr, p.loss, p.smoothed);
        }
    }
    match curve.lr() {
        Some(lr) => println!("suggestion: --lr {lr:.2e}"),
        None => println!("no suggestion: {} updates before the loss grew are too few", curve.points.len()),
    }
    Ok(Outcome::Good)
}
