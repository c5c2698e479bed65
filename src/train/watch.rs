//! How a run is watched and stopped from outside: what it is told (`RunOptions`, `Stop`), and what it tells (`Watch`).

use crate::backend::DeviceInfo;
use crate::tensor::HostTensor;
use crate::train::checkpoint::Best;
use crate::train::curvature::Critical;
use crate::train::profile::Profile;
use crate::train::{Measures, Position, RunConfig, StepReport, Usage};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The wish that a run stops: it finishes its update, saves, and returns. Clones are one wish.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Utters the wish; true if it was uttered before.
    pub fn request(&self) -> bool {
        self.0.swap(true, Ordering::SeqCst)
    }
    /// True once it was uttered.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How a run is carried out; none of it changes the numbers.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The run's folder; `None` means the first free `runs/<preset>-<n>`.
    pub out: Option<PathBuf>,
    /// False keeps everything in memory.
    pub keep: bool,
    /// Ends the run after this update, with a checkpoint.
    pub stop_after: Option<u64>,
    /// Time between two checkpoints.
    pub checkpoint_every: Duration,
    /// So many of the newest checkpoints are kept (at least 1), and the one of the best validation loss.
    pub keep_checkpoints: usize,
    /// Ends the run after the present update, with a checkpoint.
    pub stop: Stop,
    /// Times this update kernel by kernel; see [`crate::train::profile`].
    pub profile: Option<u64>,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            out: None,
            keep: true,
            stop_after: None,
            checkpoint_every: Duration::from_secs(20),
            keep_checkpoints: 2,
            stop: Stop::default(),
            profile: None,
        }
    }
}

/// What there is to say when a run starts.
pub struct Start<'a> {
    /// The configuration.
    pub config: &'a RunConfig,
    /// The device.
    pub device: DeviceInfo,
    /// Why this one.
    pub reason: String,
    /// Trained numbers of the model.
    pub parameters: usize,
    /// Examples for training, validation and test.
    pub examples: [usize; 3],
    /// True if classes are predicted, so that accuracies mean something.
    pub has_classes: bool,
    /// Updates of one epoch.
    pub steps_per_epoch: usize,
    /// Where it continues; the default at a fresh start.
    pub position: Position,
    /// The run's folder.
    pub folder: Option<&'a Path>,
    /// What the user should know about the resume.
    pub warnings: Vec<String>,
}

/// An epoch that has ended.
pub struct EpochReport {
    /// Its number, from 1.
    pub epoch: u64,
    /// Updates so far.
    pub step: u64,
    /// Measured on the training batches while the weights changed.
    pub train: Measures,
    /// Measured on the validation part afterwards, if there is one.
    pub validation: Option<Measures>,
    /// Learning rate of its last update.
    pub lr: f64,
    /// How long the training part took.
    pub seconds: f64,
    /// Updates that were suppressed because the gradient was not finite.
    pub skipped: u64,
}

/// Who is told what happens.
pub trait Watch {
    /// Everything is checked and compiled.
    fn start(&mut self, _: &Start) {}
    /// A training step is done; the measures are those of the epoch so far.
    fn step(&mut self, _: &StepReport, _: &Measures) {}
    /// An epoch is done.
    fn epoch(&mut self, _: &EpochReport) {}
    /// True if [`Watch::histograms`] is to be called after each epoch.
    fn wants_histograms(&self) -> bool {
        false
    }
    /// After an epoch: weights (`weights/<name>`) and gradients of one batch (`gradients/<name>`).
    fn histograms(&mut self, _step: u64, _tensors: &[(String, HostTensor)]) {}
    /// The loss surface was examined after an epoch (`train.critical_every`).
    fn critical(&mut self, _epoch: u64, _step: u64, _: &Critical) {}
    /// The test part was measured.
    fn tested(&mut self, _step: u64, _: &Measures) {}
    /// The update that was to be timed has run, or training ended before it.
    fn profiled(&mut self, _: &Profile) {}
    /// Samples are being drawn: after an epoch, or at the end.
    fn sampling(&mut self) {}
    /// The samples.
    fn samples(&mut self, _step: u64, _: &[String]) {}
}

/// Several watches, told one after the other.
#[derive(Default)]
pub struct Watches<'a>(pub Vec<&'a mut dyn Watch>);

impl Watch for Watches<'_> {
    fn start(&mut self, s: &Start) {
        self.0.iter_mut().for_each(|w| w.start(s));
    }
    fn step(&mut self, r: &StepReport, m: &Measures) {
        self.0.iter_mut().for_each(|w| w.step(r, m));
    }
    fn epoch(&mut self, e: &EpochReport) {
        self.0.iter_mut().for_each(|w| w.epoch(e));
    }
    fn wants_histograms(&self) -> bool {
        self.0.iter().any(|w| w.wants_histograms())
    }
    fn histograms(&mut self, step: u64, tensors: &[(String, HostTensor)]) {
        self.0.iter_mut().for_each(|w| w.histograms(step, tensors));
    }
    fn critical(&mut self, epoch: u64, step: u64, point: &Critical) {
        self.0.iter_mut().for_each(|w| w.critical(epoch, step, point));
    }
    fn tested(&mut self, step: u64, m: &Measures) {
        self.0.iter_mut().for_each(|w| w.tested(step, m));
    }
    fn profiled(&mut self, p: &Profile) {
        self.0.iter_mut().for_each(|w| w.profiled(p));
    }
    fn sampling(&mut self) {
        self.0.iter_mut().for_each(|w| w.sampling());
    }
    fn samples(&mut self, step: u64, texts: &[String]) {
        self.0.iter_mut().for_each(|w| w.samples(step, texts));
    }
}

/// A watch that says nothing.
pub struct Silent;
impl Watch for Silent {}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The test part, measured once; `None` if there is none, or if the run was stopped before its end.
    pub test: Option<Measures>,
    /// The last measurement of the validation part.
    pub validation: Option<Measures>,
    /// The last epoch's training measures.
    pub train: Measures,
    /// How far it came.
    pub position: Position,
    /// The best state so far, by the validation loss.
    pub best: Option<Best>,
    /// True if it was stopped by [`Stop`].
    pub interrupted: bool,
    /// True if it came to its end.
    pub finished: bool,
    /// Time spent in training epochs by this process.
    pub seconds: f64,
    /// Time from the start of this process's run to its first finished step.
    pub first_step: f64,
    /// Suppressed updates in this process's part of the run.
    pub skipped: u64,
    /// Where the work was done.
    pub usage: Usage,
    /// The run's folder.
    pub folder: Option<PathBuf>,
    /// Texts drawn at the end.
    pub samples: Vec<String>,
}

/// The measures as JSON; what is not finite becomes null.
pub fn measures_json(m: &Measures) -> Value {
    json!({ "loss": m.loss(), "accuracy": m.accuracy(), "count": m.count })
}

impl Summary {
    /// The summary as JSON: what `--json` prints and `result.json` holds.
    pub fn to_json(&self) -> Value {
        json!({
            "test": self.test.as_ref().map(measures_json),
            "validation": self.validation.as_ref().map(measures_json),
            "train": measures_json(&self.train),
            "best": self.best.map(|b| json!({ "loss": b.loss, "epoch": b.epoch, "step": b.step })),
            "updates": self.position.step, "epochs": self.position.epoch, "seconds": self.seconds,
            "seconds_to_first_update": self.first_step, "suppressed_updates": self.skipped,
            "interrupted": self.interrupted, "finished": self.finished, "usage": self.usage,
            "folder": self.folder.as_deref().map(Path::to_string_lossy), "samples": self.samples,
        })
    }
}
