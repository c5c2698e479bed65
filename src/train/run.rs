//! A run: a configuration carried out on a device, with epochs, validation, checkpoints, and the test part at the end.
//! It prints nothing; a [`Watch`] is told what happens.

use crate::backend::Device;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::train::checkpoint::{Best, Identity};
use crate::train::files::load_weights;
use crate::train::folder::RunFolder;
use crate::train::generate::{Sampling, generate};
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
use crate::train::{Measures, Position, RunConfig, Task, Trainer, Usage};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Under which name early stopping is among the callbacks.
const STOPPING: &str = "early_stopping";
/// Sampled texts at the end of a run on text.
const SAMPLES: usize = 2;

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
    pub(super) callbacks: BTreeMap<String, Value>,
    pub(super) warnings: Vec<String>,
    /// Compiled for histograms.
    probe: Option<Probe>,
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
        let mut warnings = Vec::new();
        if !config.init.is_empty() {
            let found = trainer.warm_start(&load_weights(Path::new(&config.init))?, &config.init)?;
            if !found.is_complete() {
                warnings.push(format!("a warm start from a part of {}: {found}", config.init));
            }
        }
        let folder = options.keep.then(|| RunFolder::create(options.out.as_deref(), &config)).transpose()?;
        let mut run = Run::from_parts(config, options, device, (task, trainer), folder, began);
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
    ) -> Run {
        Run {
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
            began,
        }
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
    fn is_best(&mut self, measures: &Measures) -> bool {
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
            steps_per_epoch: task.train.indices.len().div_ceil(self.config.batch),
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
        let most = nonfinite::most_in_a_row(part.indices.len().div_ceil(self.config.batch));
        let began = self.began;
        let ended = self.trainer.epoch(&*part.data, &part.indices, self.config.batch, limit, &mut |report| {
            if out.first_step == 0.0 {
                out.first_step = began.elapsed().as_secs_f64();
            }
            if report.updated {
                sums.add(report.loss, report.correct, report.count);
            } else {
                (*skipped, out.skipped) = (*skipped + 1, out.skipped + 1);
            }
            *in_a_row = if report.updated && report.loss.is_finite() { 0 } else { *in_a_row + 1 };
            if let Some(folder) = folder {
                folder.log(&[json!({
                    "event": "step", "step": report.step, "loss": report.loss, "lr": report.lr,
                    "grad_norm": report.grad_norm, "updated": report.updated,
                })])?;
            }
            watch.step(&report, sums);
            Ok(*in_a_row < most && saved.elapsed() < every && !stop.requested())
        })?;
        match self.in_a_row >= most {
            true => Err(self.stopped_by_nonfinite()?),
            false => Ok(ended),
        }
    }

    fn end_epoch(&mut self, seconds: f64, out: &mut Summary, watch: &mut dyn Watch) -> Result<()> {
        let position = self.trainer.position();
        let validation = match self.task.validation.indices.is_empty() {
            true => None,
            false => Some(measure(&mut self.trainer, &self.task.validation, self.config.batch)?),
        };
        let train = std::mem::take(&mut self.sums);
        let report = EpochReport {
            epoch: position.epoch,
            step: position.step,
            train,
            validation,
            lr: self.trainer.scheduler().lr(position.step.saturating_sub(1)),
            seconds,
            skipped: std::mem::take(&mut self.skipped),
        };
        let loss = validation.unwrap_or(train).loss();
        self.trainer.observe(loss);
        if let Some(folder) = &mut self.folder {
            let mut line = json!({
                "event": "epoch", "epoch": report.epoch, "step": position.step, "train_loss": train.loss(),
                "train_accuracy": train.accuracy(), "skipped": report.skipped,
            });
            if let Some(v) = &validation {
                line["validation_loss"] = json!(v.loss());
                line["validation_accuracy"] = json!(v.accuracy());
            }
            folder.log(&[line])?;
        }
        (out.train, out.validation) = (train, validation);
        if self.is_best(&validation.unwrap_or(train)) {
            self.best = Some(Best { step: position.step, epoch: position.epoch, loss });
            self.unsaved_best = self.folder.is_some().then(|| self.snapshot()).transpose()?;
            let e = &self.config.early_stopping;
            self.kept_best = (e.patience > 0 && e.restore_best).then(|| self.snapshot()).transpose()?;
        }
        watch.epoch(&report);
        if watch.wants_histograms() {
            watch.histograms(position.step, &self.distributions()?);
        }
        Ok(())
    }

    /// The weights, and the gradients of the first batch of the epoch that has ended.
    fn distributions(&mut self) -> Result<Vec<(String, HostTensor)>> {
        let part = &self.task.train;
        let epoch = self.trainer.position().epoch.saturating_sub(1);
        let (batches, draw) = self.trainer.batches(&part.indices, self.config.batch, epoch);
        let batch = part.data.batch(batches.get(0), Some(draw))?;
        let grads = self.trainer.gradients(&mut self.probe, &part.data.fields(), &batch)?;
        let named = |kind: &str, (name, t): (String, HostTensor)| (format!("{kind}/{name}"), t);
        let mut out: Vec<_> = self.trainer.states(true)?.into_iter().map(|x| named("weights", x)).collect();
        out.extend(grads.into_iter().map(|x| named("gradients", x)));
        Ok(out)
    }

    fn finish(&mut self, out: &mut Summary, watch: &mut dyn Watch) -> Result<()> {
        self.trainer.use_average(true)?;
        let test = measure(&mut self.trainer, &self.task.test, self.config.batch)?;
        out.test = Some(test);
        watch.tested(out.position.step, &test);
        if let Some(folder) = &mut self.folder {
            let line = json!({
                "event": "test", "step": out.position.step, "loss": test.loss(), "accuracy": test.accuracy(),
                "count": test.count,
            });
            folder.log(&[line])?;
        }
        if let Output::Char { chars, context, sample, .. } = &self.task.output
            && *sample > 0
        {
            watch.sampling();
            let prompts = ["\n"; SAMPLES];
            let known = if chars.encode("\n").is_ok() { prompts } else { [""; SAMPLES] };
            let first = chars.decode(&chars.tokens()[..1]);
            let prompts = known.map(|p| if p.is_empty() { first.as_str() } else { p });
            let how = Sampling { length: *sample, seed: self.config.seed, ..Sampling::default() };
            out.samples = generate(&mut self.trainer, chars, *context, &prompts, &how)?.texts;
            watch.samples(out.position.step, &out.samples);
        }
        if let Some(folder) = &self.folder {
            let mut result = out.to_json();
            let identity = Identity::of(&self.device);
            (result["device"], result["kiln"]) = (json!(identity.device), json!(identity.version));
            folder.finish(&result)?;
        }
        Ok(())
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
    let mut trainer = task.trainer(config, device)?;
    trainer.prepare(&task.train.data.fields(), config.batch.min(examples))?;
    Ok((task, trainer))
}

/// Measures the model on a part, in batches that are larger than those of training: nothing has to be kept for a gradient.
pub fn measure(trainer: &mut Trainer, part: &Part, batch: usize) -> Result<Measures> {
    let batch = (4 * batch).clamp(1, part.indices.len().max(1));
    trainer.evaluate(&*part.data, &part.indices, batch)
}
