//! How a run comes to the disk and back: checkpoints of a run in progress, its continuation, and its model for use.

use crate::backend::Device;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::train::average;
use crate::train::checkpoint::{self, FORMAT, Identity, Loaded, State};
use crate::train::files::{load_weights, save_weights};
use crate::train::folder::RunFolder;
use crate::train::run::{Run, prepare};
use crate::train::trainer::is_model_state;
use crate::train::{Measures, Position, RunConfig, RunOptions, Task, Trainer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Everything that a checkpoint holds, in memory.
pub(super) struct Snapshot {
    pub weights: Vec<(String, HostTensor)>,
    pub optimizer: Vec<(String, HostTensor)>,
    pub state: State,
}

impl Snapshot {
    /// The weights for use: averages, where the optimizer keeps them.
    pub fn for_use(&self) -> Vec<(String, HostTensor)> {
        average::for_use(&self.weights, &self.optimizer.iter().cloned().collect(), self.state.step)
    }
}

impl Run {
    /// Takes the best state of the run, model and averages, for its end. What was best is in memory, or after a resume in
    /// its checkpoint.
    pub(super) fn restore_best(&mut self) -> Result<()> {
        let Some(best) = self.best.filter(|b| b.step != self.trainer.position().step) else { return Ok(()) };
        let tensors: BTreeMap<String, HostTensor> = match (&self.kept_best, &self.folder) {
            (Some(s), _) => s.weights.iter().chain(&s.optimizer).cloned().collect(),
            (None, Some(folder)) => {
                let place = folder.path().join(checkpoint::FOLDER).join(checkpoint::name(best.step));
                let loaded = checkpoint::load(&place)?;
                loaded.weights.into_iter().chain(loaded.optimizer).collect()
            }
            (None, None) => return Ok(()),
        };
        self.trainer.load(&tensors, true, "the best state of the run")?;
        let Some(folder) = &self.folder else { return Ok(()) };
        let (weights, optimizer): (BTreeMap<_, _>, BTreeMap<_, _>) =
            tensors.into_iter().partition(|(name, _)| is_model_state(name));
        let weights: Vec<(String, HostTensor)> = weights.into_iter().collect();
        save_weights(&folder.weights(), &average::for_use(&weights, &optimizer, best.step))
    }

    /// Continues a run from its newest whole checkpoint, or from its beginning if it has none. `path` is the run's folder,
    /// or that of one of its checkpoints, which it then continues from; later checkpoints go.
    pub fn resume(path: &Path, device: &Device, options: RunOptions) -> Result<Run> {
        let began = Instant::now();
        let (run, chosen) = locate(path);
        let config = RunFolder::config(&run)?;
        if RunFolder::result(&run).is_some() {
            let detail = format!("has finished its {} epochs; there is nothing to resume", config.epochs);
            return Err(Error::input(run.display(), detail));
        }
        let mut folder = RunFolder::open(&run)?;
        let found = match chosen {
            Some(checkpoint) => Some((checkpoint::load(&checkpoint)?, Vec::new())),
            None => checkpoint::newest(&run)?,
        };
        let (task, mut trainer) = prepare(&config, device)?;
        let Some((loaded, problems)) = found else {
            folder.cut(0)?;
            let mut fresh = Run::from_parts(config, options, device, (task, trainer), Some(folder), began)?;
            fresh.warnings.push("the run has no checkpoint yet; it starts from its beginning".into());
            return Ok(fresh);
        };
        let Loaded { path: from, mut weights, optimizer, state } = loaded;
        weights.extend(optimizer);
        trainer.load(&weights, true, &from.display().to_string())?;
        trainer.resume_at(state.position(), state.scheduler.clone());
        let mut warnings = Vec::new();
        for problem in problems {
            warnings.push(format!("{problem}; going on from the checkpoint before it, after update {}", state.step));
        }
        let identity = Identity::of(device);
        if state.identity != identity {
            let (was, is) = (&state.identity, &identity);
            warnings.push(format!(
                "not bit-equal to a run that was never stopped: it ran on {} (kiln {}), and continues on {} (kiln {})",
                was.device, was.version, is.device, is.version
            ));
        }
        if !state.data.is_empty() && state.data != task.fingerprint()? {
            warnings.push("not bit-equal to a run that was never stopped: its data have changed since it began".into());
        }
        // What lies ahead will be computed again, and is whole then.
        let ahead: Vec<u64> =
            checkpoint::list(&run).into_iter().map(|(step, _)| step).filter(|s| *s > state.step).collect();
        checkpoint::forget(&run, &ahead)?;
        if let Some(best) = state.best.filter(|_| !ahead.is_empty())
            && let Ok(best) = checkpoint::load(&run.join(checkpoint::FOLDER).join(checkpoint::name(best.step)))
        {
            save_weights(&run.join("best.safetensors"), &best.for_use())?;
        }
        warnings.extend(folder.cut(state.metrics_bytes)?);
        let [loss_sum, correct] = state.sums.map(f64::from_bits);
        let mut resumed = Run::from_parts(config, options, device, (task, trainer), Some(folder), began)?;
        resumed.sums = Measures { loss_sum, correct, count: state.count };
        (resumed.skipped, resumed.in_a_row, resumed.best) = (state.skipped, state.in_a_row, state.best);
        (resumed.callbacks, resumed.warnings) = (state.callbacks, warnings);
        Ok(resumed)
    }

    /// Copies everything that a checkpoint needs.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let Position { step, epoch, batch } = self.trainer.position();
        let state = State {
            format: FORMAT,
            identity: Identity::of(&self.device),
            seed: self.config.seed,
            step,
            epoch,
            batch,
            scheduler: self.trainer.scheduler().clone(),
            sums: [self.sums.loss_sum.to_bits(), self.sums.correct.to_bits()],
            count: self.sums.count,
            skipped: self.skipped,
            in_a_row: self.in_a_row,
            best: self.best,
            data: self.fingerprint.clone(),
            callbacks: self.callbacks.clone(),
            metrics_bytes: self.folder.as_ref().map_or(0, RunFolder::metrics_bytes),
        };
        Ok(Snapshot { weights: self.trainer.states(true)?, optimizer: self.trainer.states(false)?, state })
    }

    /// Writes a checkpoint of the present state, and of the best one if that is not there yet; old ones go.
    pub(super) fn save(&mut self) -> Result<()> {
        if self.folder.is_none() {
            return Ok(());
        }
        let now = self.snapshot()?;
        let Some(folder) = &self.folder else { return Ok(()) };
        folder.sync()?;
        let write = |s: &Snapshot| {
            checkpoint::save(folder.path(), &checkpoint::name(s.state.step), &s.weights, &s.optimizer, &s.state)
        };
        if let Some(best) = self.unsaved_best.take() {
            save_weights(&folder.best(), &best.for_use())?;
            if best.state.step != now.state.step {
                write(&best)?;
            }
        }
        write(&now)?;
        save_weights(&folder.weights(), &now.for_use())?;
        checkpoint::prune(folder.path(), self.options.keep_checkpoints)
    }
}

/// The run's folder, and the checkpoint if `path` is one.
fn locate(path: &Path) -> (PathBuf, Option<PathBuf>) {
    let is_checkpoint = path.parent().and_then(Path::file_name).is_some_and(|n| n == checkpoint::FOLDER);
    match path.parent().and_then(Path::parent).filter(|_| is_checkpoint && !path.join("config.toml").exists()) {
        Some(run) if run.as_os_str().is_empty() => (PathBuf::from("."), Some(path.to_path_buf())),
        Some(run) => (run.to_path_buf(), Some(path.to_path_buf())),
        None => (path.to_path_buf(), None),
    }
}

/// Which weights of a run are used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WeightsOf {
    /// Those at its end (so far).
    #[default]
    Last,
    /// Those of its best validation loss.
    Best,
    /// Those of a safetensors file, of kiln or of PyTorch.
    File(PathBuf),
}

impl std::str::FromStr for WeightsOf {
    type Err = std::convert::Infallible;
    fn from_str(s: &str) -> std::result::Result<WeightsOf, Self::Err> {
        Ok(match s {
            "last" => WeightsOf::Last,
            "best" => WeightsOf::Best,
            file => WeightsOf::File(file.into()),
        })
    }
}

/// The model of a run, ready for evaluation and prediction.
pub struct Opened {
    /// Its configuration.
    pub config: RunConfig,
    /// Its data.
    pub task: Task,
    /// Its model with the weights.
    pub trainer: Trainer,
    /// What the user should know about the weights.
    pub warnings: Vec<String>,
}

/// The model of a run's folder. Where a file of weights is damaged or missing, a whole checkpoint's are taken, with a warning.
pub fn open(path: &Path, device: &Device, which: &WeightsOf) -> Result<Opened> {
    let config = RunFolder::config(path)?;
    let (file, can_replace) = match which {
        WeightsOf::Last => (path.join("weights.safetensors"), true),
        WeightsOf::Best => (path.join("best.safetensors"), false),
        WeightsOf::File(file) => (file.clone(), false),
    };
    let mut warnings = Vec::new();
    let weights = match load_weights(&file) {
        Ok(weights) => weights,
        Err(e) if can_replace => match checkpoint::newest(path) {
            Ok(Some((loaded, _))) => {
                let from = loaded.path.display();
                warnings.push(format!("{e}; taking the weights of {from}, after update {}", loaded.state.step));
                loaded.for_use().into_iter().collect()
            }
            _ => return Err(e),
        },
        Err(e) => return Err(e),
    };
    let task = Task::open(&config)?;
    let mut trainer = task.trainer(&config, device)?;
    let fields = task.test.data.fields();
    let inputs = fields.get(..fields.len().saturating_sub(1)).unwrap_or_default();
    trainer.prepare_predict(inputs, 1)?;
    trainer.load(&weights, false, &file.display().to_string())?;
    Ok(Opened { config, task, trainer, warnings })
}
