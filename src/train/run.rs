//! A run: a configuration carried out on a device, with epochs, validation, checkpoints, and the test part at the end.
//! It prints nothing; a [`Watch`] is told what happens.

use crate::backend::{Device, DeviceInfo};
use crate::error::{Error, Result};
use crate::train::checkpoint::{self, Identity, State};
use crate::train::folder::RunFolder;
use crate::train::generate::{Sampling, generate};
use crate::train::inspect::inspect;
use crate::train::task::{Output, Part};
use crate::train::trainer::is_model_state;
use crate::train::{Measures, Position, RunConfig, StepReport, Task, Trainer, Usage};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So many updates suppressed in a row end a run: it does not recover from that.
const MOST_SKIPPED: u64 = 50;
/// Sampled texts at the end of a run on text.
const SAMPLES: usize = 2;

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
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions { out: None, keep: true, stop_after: None, checkpoint_every: Duration::from_secs(20) }
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
    /// Updates of one epoch.
    pub steps_per_epoch: usize,
    /// Where it continues; the default at a fresh start.
    pub position: Position,
    /// The run's folder.
    pub folder: Option<&'a Path>,
    /// Something the user should know about the resume.
    pub warning: Option<String>,
}

/// An epoch that has ended.
pub struct EpochReport {
    /// Its number, from 1.
    pub epoch: u64,
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
    /// The samples at the end are being drawn.
    fn sampling(&mut self) {}
}

/// A watch that says nothing.
pub struct Silent;
impl Watch for Silent {}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The test part, measured once; `None` if the run was stopped before its end.
    pub test: Option<Measures>,
    /// The last measurement of the validation part.
    pub validation: Option<Measures>,
    /// The last epoch's training measures.
    pub train: Measures,
    /// How far it came.
    pub position: Position,
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

/// A run that is ready to train.
pub struct Run {
    config: RunConfig,
    options: RunOptions,
    device: Device,
    task: Task,
    trainer: Trainer,
    folder: Option<RunFolder>,
    sums: Measures,
    skipped: u64,
    warning: Option<String>,
    began: Instant,
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
        if !config.init.is_empty() {
            trainer.load(&checkpoint::load_weights(Path::new(&config.init))?, false, &config.init)?;
        }
        let folder = options.keep.then(|| RunFolder::create(options.out.as_deref(), &config)).transpose()?;
        Ok(Run {
            config,
            options,
            device: device.clone(),
            task,
            trainer,
            folder,
            sums: Measures::default(),
            skipped: 0,
            warning: None,
            began,
        })
    }

    /// Continues the run in a folder from its last checkpoint.
    pub fn resume(path: &Path, device: &Device, options: RunOptions) -> Result<Run> {
        let began = Instant::now();
        let config = RunFolder::config(path)?;
        let file = path.join("state.safetensors");
        let (tensors, state) = checkpoint::load_state(&file)?;
        if state.epoch >= config.epochs {
            let detail = format!("has finished its {} epochs; there is nothing to resume", config.epochs);
            return Err(Error::input(path.display(), detail));
        }
        let (task, mut trainer) = prepare(&config, device)?;
        trainer.load(&tensors, true, &file.display().to_string())?;
        let identity = Identity::of(device);
        let warning = (state.identity != identity).then(|| {
            let (was, is) = (&state.identity, &identity);
            format!(
                "not bit-equal to a run that was never stopped: it ran on {} (kiln {}), and continues on {} (kiln {})",
                was.device, was.version, is.device, is.version
            )
        });
        trainer.resume_at(state.position(), state.scheduler.clone());
        let [loss_sum, correct] = state.sums.map(f64::from_bits);
        Ok(Run {
            config,
            options,
            device: device.clone(),
            task,
            trainer,
            folder: Some(RunFolder::reopen(path, state.metrics_bytes)?),
            sums: Measures { loss_sum, correct, count: state.count },
            skipped: state.skipped,
            warning,
            began,
        })
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
            seconds: 0.0,
            first_step: 0.0,
            skipped: 0,
            usage: Usage::default(),
            folder: self.folder.as_ref().map(|f| f.path().to_path_buf()),
            samples: Vec::new(),
        };
        let limit = self.options.stop_after.unwrap_or(u64::MAX);
        let mut saved = Instant::now();
        while self.trainer.position().epoch < self.config.epochs && self.trainer.position().step < limit {
            let epoch_began = Instant::now();
            let ended = self.epoch(limit, saved, &mut out, watch)?;
            out.seconds += epoch_began.elapsed().as_secs_f64();
            if let Some(seconds) = ended.then(|| epoch_began.elapsed().as_secs_f64()) {
                self.end_epoch(seconds, &mut out, watch)?;
            }
            let last = self.trainer.position().epoch >= self.config.epochs || self.trainer.position().step >= limit;
            if last || saved.elapsed() >= self.options.checkpoint_every {
                self.save()?;
                saved = Instant::now();
            }
        }
        out.position = self.trainer.position();
        if out.position.epoch >= self.config.epochs {
            self.finish(&mut out, watch)?;
        }
        out.usage = self.trainer.usage().clone();
        Ok(out)
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
            warning: self.warning.clone(),
        });
    }

    /// Trains until the epoch's end, the limit, or a checkpoint is due. True at the epoch's end.
    fn epoch(&mut self, limit: u64, saved: Instant, out: &mut Summary, watch: &mut dyn Watch) -> Result<bool> {
        let (sums, skipped, folder) = (&mut self.sums, &mut self.skipped, &mut self.folder);
        let every = self.options.checkpoint_every;
        let mut in_a_row = 0;
        let part = &self.task.train;
        let began = self.began;
        self.trainer.epoch(&*part.data, &part.indices, self.config.batch, limit, &mut |report| {
            if out.first_step == 0.0 {
                out.first_step = began.elapsed().as_secs_f64();
            }
            if report.updated {
                in_a_row = 0;
                sums.add(report.loss, report.correct, report.count);
            } else {
                (in_a_row, *skipped, out.skipped) = (in_a_row + 1, *skipped + 1, out.skipped + 1);
            }
            if let Some(folder) = folder {
                folder.log(&[json!({
                    "event": "step", "step": report.step, "loss": report.loss, "lr": report.lr,
                    "grad_norm": report.grad_norm, "updated": report.updated,
                })])?;
            }
            watch.step(&report, sums);
            if in_a_row >= MOST_SKIPPED {
                let detail = format!(
                    "the gradient was not finite in {MOST_SKIPPED} updates in a row, the last of them number {}; lower \
                     optimizer.lr, or set clip_norm",
                    report.step
                );
                return Err(Error::runtime("training", detail));
            }
            Ok(saved.elapsed() < every)
        })
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
            train,
            validation,
            lr: self.trainer.scheduler().lr(position.step.saturating_sub(1)),
            seconds,
            skipped: std::mem::take(&mut self.skipped),
        };
        self.trainer.observe(validation.unwrap_or(train).loss());
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
        watch.epoch(&report);
        Ok(())
    }

    fn finish(&mut self, out: &mut Summary, watch: &mut dyn Watch) -> Result<()> {
        let test = measure(&mut self.trainer, &self.task.test, self.config.batch)?;
        out.test = Some(test);
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
            let how = Sampling { length: *sample, temperature: 0.8, seed: self.config.seed };
            out.samples = generate(&mut self.trainer, chars, *context, &prompts, how)?;
        }
        Ok(())
    }

    /// Writes the weights and the state, the state last: it is what a resume starts from.
    fn save(&mut self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut tensors = self.trainer.states(true)?;
        checkpoint::save_weights(&folder.weights(), &tensors)?;
        tensors.extend(self.trainer.states(false)?);
        let Position { step, epoch, batch } = self.trainer.position();
        let state = State {
            identity: Identity::of(&self.device),
            seed: self.config.seed,
            step,
            epoch,
            batch,
            scheduler: self.trainer.scheduler().clone(),
            sums: [self.sums.loss_sum.to_bits(), self.sums.correct.to_bits()],
            count: self.sums.count,
            skipped: self.skipped,
            metrics_bytes: folder.metrics_bytes(),
        };
        checkpoint::save_state(&folder.state(), &tensors, &state)
    }
}

/// Data and compiled first training step of a configuration.
fn prepare(config: &RunConfig, device: &Device) -> Result<(Task, Trainer)> {
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

/// The trained model of a run's folder, ready for evaluation and prediction.
pub fn open(path: &Path, device: &Device) -> Result<(RunConfig, Task, Trainer)> {
    let config = RunFolder::config(path)?;
    let task = Task::open(&config)?;
    let mut trainer = task.trainer(&config, device)?;
    let fields = task.test.data.fields();
    let inputs = fields.get(..fields.len().saturating_sub(1)).unwrap_or_default();
    let file = path.join("weights.safetensors");
    let weights = checkpoint::load_weights(&file)?;
    trainer.prepare_predict(inputs, 1)?;
    trainer.load(&weights, false, &file.display().to_string())?;
    Ok((config, task, trainer))
}
