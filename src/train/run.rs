//! A run: a configuration carried out on a device, with epochs, validation, checkpoints, and the test part at the end.
//! It prints nothing; a [`Watch`] is told what happens.

use crate::backend::Device;
use crate::error::{Error, Result};
use crate::optim::wrap::fits;
use crate::train::checkpoint::Best;
use crate::train::files::load_weights;
use crate::train::folder::RunFolder;
use crate::train::inspect::inspect;
use crate::train::nonfinite;
use crate::train::probe::Probe;
use crate::train::profile::Profile;
use crate::train::resume::Snapshot;
pub use crate::train::resume::{Opened, WeightsOf, open};
use crate::train::stopping::Stopping;
use crate::train::task::{Output, Part};
use crate::train::trainer::is_model_state;
pub use crate::train::watch::{EpochReport, RunOptions, Silent, Start, Stop, Summary, Watch, Watches};
use crate::train::{Measures, Position, RunConfig, Surface, Task, Trainer, Usage};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Under which name early stopping is among the callbacks.
const STOPPING: &str = "early_stopping";

/// A run that is ready to train.
pub struct Run {
    pub(super) config: RunConfig,
    pub(super) options: RunOptions,
    pub(super) device: Device,
    pub(super) task: Task,
    pub(super) trainer: Trainer,
    pub(super) folder: Option<RunFolder>,
    /// Sums over the present epoch.
    pub(super) sums: Measures,
    /// Suppressed updates of the present epoch.
    pub(super) skipped: u64,
    /// Updates without a finite loss and gradient, up to the last one.
    pub(super) in_a_row: u64,
    pub(super) best: Option<Best>,
    /// The best state, until it is on the disk.
    pub(super) unsaved_best: Option<Snapshot>,
    /// The best state, if early stopping may go back to it.
    pub(super) kept_best: Option<Snapshot>,
    /// Of the data, for checkpoints.
    pub(super) fingerprint: String,
    pub(super) callbacks: BTreeMap<String, Value>,
    pub(super) warnings: Vec<String>,
    /// Compiled for histograms.
    pub(super) probe: Option<Probe>,
    /// Compiled for `train.critical_every`.
    pub(super) surface: Option<Surface>,
    pub(super) began: Instant,
}

impl Run {
    /// A new run. Everything is checked and compiled before its folder is made.
    pub fn new(config: RunConfig, device: &Device, options: RunOptions) -> Result<Run> {
        let began = Instant::now();
        if let Some(out) = options.out.as_deref().filter(|o| options.keep && o.exists()) {
            let detail = "exists already; choose another folder, or continue the run in it with --resume";
            return Err(Error::input(out.display(), detail));
        }
        let (task, mut trainer) = prepare(&config, device)?;
        let mut warnings: Vec<String> = one_class(&task).into_iter().chain(config.precision.remark(device)).collect();
        if !config.init.is_empty() {
            let found = trainer.warm_start(&load_weights(Path::new(&config.init))?, &config.init)?;
            if !found.is_complete() {
                warnings.push(format!("a warm start from a part of {}: {found}", config.init));
            }
        }
        let folder = options.keep.then(|| RunFolder::create(options.out.as_deref(), &config)).transpose()?;
        let mut run = Run::from_parts(config, options, device, (task, trainer), folder, began)?;
        run.warnings = warnings;
        Ok(run)
    }

    pub(super) fn from_parts(
        config: RunConfig,
        options: RunOptions,
        device: &Device,
        (task, trainer): (Task, Trainer),
        folder: Option<RunFolder>,
        began: Instant,
    ) -> Result<Run> {
        Ok(Run {
            fingerprint: task.fingerprint()?,
            config,
            options,
            device: device.clone(),
            task,
            trainer,
            folder,
            sums: Measures::default(),
            skipped: 0,
            in_a_row: 0,
            best: None,
            unsaved_best: None,
            kept_best: None,
            callbacks: BTreeMap::new(),
            warnings: Vec::new(),
            probe: None,
            surface: None,
            began,
        })
    }

    /// How it is carried out.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// The compiled trainer.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Trains to the end (or to where the options stop it) and measures the test part.
    pub fn train(mut self, watch: &mut dyn Watch) -> Result<Summary> {
        self.announce(watch);
        let mut out = Summary {
            test: None,
            validation: None,
            train: self.sums,
            position: self.trainer.position(),
            best: None,
            interrupted: false,
            finished: false,
            seconds: 0.0,
            first_step: 0.0,
            skipped: 0,
            usage: Usage::default(),
            folder: self.folder.as_ref().map(|f| f.path().to_path_buf()),
            samples: Vec::new(),
        };
        let limit = self.options.stop_after.unwrap_or(u64::MAX);
        let mut saved = Instant::now();
        self.trainer.set_profile(self.options.profile.map(Profile::of_update));
        while self.goes_on(limit) {
            let epoch_began = Instant::now();
            let ended = self.epoch(limit, saved, &mut out, watch)?;
            let seconds = epoch_began.elapsed().as_secs_f64();
            out.seconds += seconds;
            if ended {
                self.end_epoch(seconds, &mut out, watch)?;
            }
            if !self.goes_on(limit) || saved.elapsed() >= self.options.checkpoint_every {
                self.save()?;
                saved = Instant::now();
            }
        }
        if let Some(profile) = self.trainer.set_profile(None) {
            watch.profiled(&profile);
        }
        out.position = self.trainer.position();
        out.best = self.best;
        out.usage = self.trainer.usage().clone();
        out.interrupted = self.options.stop.requested();
        let over = out.position.epoch >= self.config.epochs || self.stopping().is_over(&self.config.early_stopping);
        if over && !out.interrupted {
            let e = &self.config.early_stopping;
            if e.patience > 0 && e.restore_best {
                self.restore_best()?;
            }
            self.finish(&mut out, watch)?;
        }
        Ok(out)
    }

    fn goes_on(&self, limit: u64) -> bool {
        let Position { epoch, step, .. } = self.trainer.position();
        let stopped = self.stopping().is_over(&self.config.early_stopping);
        epoch < self.config.epochs && step < limit && !stopped && !self.options.stop.requested()
    }

    /// What early stopping remembers.
    fn stopping(&self) -> Stopping {
        let kept = self.callbacks.get(STOPPING).and_then(|v| serde_json::from_value(v.clone()).ok());
        kept.unwrap_or_default()
    }

    /// True if the epoch with these measures is the best so far: by what early stopping looks at, else by the loss.
    pub(super) fn is_best(&mut self, measures: &Measures) -> bool {
        let loss = measures.loss();
        if self.config.early_stopping.patience == 0 {
            return loss.is_finite() && self.best.is_none_or(|b| loss < b.loss);
        }
        let mut stopping = self.stopping();
        let better = stopping.observe(&self.config.early_stopping, measures);
        self.callbacks.insert(STOPPING.into(), json!(stopping));
        better && loss.is_finite()
    }

    fn announce(&self, watch: &mut dyn Watch) {
        let trained = self.trainer.specs().iter().filter(|s| s.trainable && is_model_state(&s.name));
        let task = &self.task;
        watch.start(&Start {
            config: &self.config,
            device: self.device.info(),
            reason: self.device.reason().to_string(),
            parameters: trained.map(|s| s.ty.shape.elems()).sum(),
            examples: [&task.train, &task.validation, &task.test].map(|p| p.indices.len()),
            has_classes: !matches!(task.output, Output::Value { .. }),
            steps_per_epoch: self.config.updates_per_epoch(task.train.indices.len()),
            position: self.trainer.position(),
            folder: self.folder.as_ref().map(RunFolder::path),
            warnings: self.warnings.clone(),
        });
    }

    /// Trains until the epoch's end, the limit, or a checkpoint is due. True at the epoch's end.
    fn epoch(&mut self, limit: u64, saved: Instant, out: &mut Summary, watch: &mut dyn Watch) -> Result<bool> {
        let (sums, skipped, folder, in_a_row) =
            (&mut self.sums, &mut self.skipped, &mut self.folder, &mut self.in_a_row);
        let (every, stop) = (self.options.checkpoint_every, self.options.stop.clone());
        let part = &self.task.train;
        let batch = self.config.update_batch();
        let most = nonfinite::most_in_a_row(self.config.updates_per_epoch(part.indices.len()));
        let began = self.began;
        let ended = self.trainer.epoch(&*part.data, &part.indices, batch, limit, &mut |report| {
            if out.first_step == 0.0 {
                out.first_step = began.elapsed().as_secs_f64();
            }
            if report.updated {
                sums.add(report.loss, report.correct, report.count);
            } else {
                (*skipped, out.skipped) = (*skipped + 1, out.skipped + 1);
            }
            *in_a_row = if report.is_finite() { 0 } else { *in_a_row + 1 };
            if let Some(folder) = folder {
                let mut line = json!({
                    "event": "step", "step": report.step, "loss": report.loss, "lr": report.lr,
                    "grad_norm": report.grad_norm, "updated": report.updated,
                });
                if let Some(scale) = report.loss_scale {
                    line["loss_scale"] = json!(scale);
                }
                folder.log(&[line])?;
            }
            watch.step(&report, sums);
            Ok(*in_a_row < most && saved.elapsed() < every && !stop.requested())
        })?;
        match self.in_a_row >= most {
            true => Err(self.stopped_by_nonfinite()?),
            false => Ok(ended),
        }
    }
}

/// Data and compiled first training step of a configuration.
pub(super) fn prepare(config: &RunConfig, device: &Device) -> Result<(Task, Trainer)> {
    let task = Task::open(config)?;
    let examples = task.train.indices.len();
    if examples == 0 {
        return Err(Error::input(
            "data",
            "no examples are left for training; make data.test or data.validation smaller",
        ));
    }
    inspect(config, &task)?;
    // The short last batch, or its last piece: batch norm takes no single example.
    let rest = if config.drop_last { 0 } else { examples % config.update_batch() % config.batch };
    if rest > 0 {
        inspect(&RunConfig { batch: rest, ..config.clone() }, &task).map_err(|e| {
            let detail = format!(
                "the last batch of an epoch has {rest} of the {examples} examples, with which the model does not work ({e}); \
                 take another batch, or drop_last = true"
            );
            Error::input("train.batch", detail)
        })?;
    }
    let mut trainer = task.trainer(config, device)?;
    trainer.prepare(&task.train.data.fields(), config.update_batch().min(examples))?;
    check_groups(config, &trainer)?;
    Ok((task, trainer))
}

/// Errors if a group has no parameter, or if none is left to train.
fn check_groups(config: &RunConfig, trainer: &Trainer) -> Result<()> {
    let trained = trainer.specs().iter().filter(|s| s.trainable && is_model_state(&s.name));
    let names: Vec<&str> = trained.map(|s| s.name.as_str()).collect();
    let group_of = |name: &&str| config.groups.iter().position(|g| fits(&g.pattern, name));
    let groups: Vec<Option<usize>> = names.iter().map(group_of).collect();
    for (i, g) in config.groups.iter().enumerate() {
        if !names.iter().any(|n| fits(&g.pattern, n)) {
            let detail = format!("{:?} fits none of the parameters: {}", g.pattern, names.join(", "));
            return Err(Error::input("groups.pattern", detail));
        }
        if !groups.contains(&Some(i)) {
            let detail = format!("every parameter that {:?} fits belongs to a group before it", g.pattern);
            return Err(Error::input("groups.pattern", detail));
        }
    }
    match groups.iter().all(|g| g.is_some_and(|i| config.groups[i].freeze)) {
        true => Err(Error::input("groups.freeze", "all parameters are frozen; there is nothing to train")),
        false => Ok(()),
    }
}

/// What should be said about the classes of the training part.
fn one_class(task: &Task) -> Option<String> {
    let first = *task.train_labels.first()?;
    let name = match &task.output {
        Output::Label { names } => names.get(first as usize).cloned().unwrap_or_default(),
        _ => first.to_string(),
    };
    let all = task.train_labels.iter().all(|&l| l == first);
    all.then(|| format!("all training examples are of the class {name:?}: there is nothing to tell apart"))
}

/// Measures the model on a part, in batches that are larger than those of training: nothing has to be kept for a gradient.
pub fn measure(trainer: &mut Trainer, part: &Part, batch: usize) -> Result<Measures> {
    let batch = batch.saturating_mul(4).clamp(1, part.indices.len().max(1));
    trainer.evaluate(&*part.data, &part.indices, batch)
}
