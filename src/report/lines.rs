//! A run as JSON lines, for programs that read along: an object with the key `event` for the start, each second of
//! training, each epoch, the test, and the end.

use crate::train::curvature::Critical;
use crate::train::run::{EpochReport, Start};
use crate::train::watch::measures_json;
use crate::train::{Measures, StepReport, Summary, Watch};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Prints JSON lines on standard output.
pub struct JsonLines {
    last: Option<Instant>,
}

/// Time between two lines about steps.
const EVERY: Duration = Duration::from_secs(1);

impl JsonLines {
    /// A printer that has printed nothing.
    #[expect(clippy::new_without_default, reason = "as the other watches")]
    pub fn new() -> JsonLines {
        JsonLines { last: None }
    }

    fn say(&self, event: &str, mut value: Value) {
        value["event"] = json!(event);
        println!("{value}");
    }

    /// The last line.
    pub fn result(&self, s: &Summary) {
        self.say("end", s.to_json());
    }
}

impl Watch for JsonLines {
    fn start(&mut self, s: &Start) {
        let value = json!({
            "preset": s.config.preset, "seed": s.config.seed, "device": s.device.name, "driver": s.device.driver,
            "reason": s.reason, "parameters": s.parameters, "examples": s.examples, "epochs": s.config.epochs,
            "updates_per_epoch": s.steps_per_epoch, "update": s.position.step,
            "folder": s.folder.map(|f| f.to_string_lossy()), "warnings": s.warnings,
        });
        self.say("start", value);
    }
    fn step(&mut self, r: &StepReport, m: &Measures) {
        if self.last.is_some_and(|t| t.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let value = json!({
            "update": r.step, "loss": r.loss, "lr": r.lr, "grad_norm": r.grad_norm, "updated": r.updated,
            "epoch_so_far": measures_json(m),
        });
        self.say("step", value);
    }
    fn epoch(&mut self, e: &EpochReport) {
        let value = json!({
            "epoch": e.epoch, "update": e.step, "train": measures_json(&e.train),
            "validation": e.validation.as_ref().map(measures_json), "lr": e.lr, "seconds": e.seconds,
            "suppressed_updates": e.skipped,
        });
        self.say("epoch", value);
    }
    fn critical(&mut self, epoch: u64, step: u64, point: &Critical) {
        let mut value = point.to_json();
        (value["epoch"], value["update"]) = (json!(epoch), json!(step));
        self.say("critical", value);
    }
    fn samples(&mut self, step: u64, texts: &[String]) {
        self.say("samples", json!({ "update": step, "texts": texts }));
    }
    fn tested(&mut self, step: u64, m: &Measures) {
        self.say("test", json!({ "update": step, "test": measures_json(m) }));
    }
}
