//! What a run does between its updates: measures after each epoch, histograms, examinations of the loss surface, samples, and
//! at the end the test part.

use crate::error::Result;
use crate::tensor::HostTensor;
use crate::train::checkpoint::{Best, Identity};
use crate::train::curvature::{Examine, Surface};
use crate::train::generate::{Sampling, generate};
use crate::train::run::{EpochReport, Run, measure};
use crate::train::task::Output;
use crate::train::{Position, Summary, Watch};
use serde_json::json;

/// Sampled texts at the end of a run on text.
const SAMPLES: usize = 2;
/// Examples of the training part over which the loss surface is examined.
const EXAMINED: usize = 512;

impl Run {
    pub(super) fn end_epoch(&mut self, seconds: f64, out: &mut Summary, watch: &mut dyn Watch) -> Result<()> {
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
        if self.config.critical_every > 0 && position.epoch.is_multiple_of(self.config.critical_every) {
            self.examine(watch)?;
        }
        // The samples of the last epoch are those of the end.
        if position.epoch < self.config.epochs {
            self.sample(1, watch)?;
        }
        Ok(())
    }

    /// What kind of point of the loss surface the weights are at.
    fn examine(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let Position { step, epoch, .. } = self.trainer.position();
        let surface = match &mut self.surface {
            Some(surface) => surface,
            none => {
                let part = &self.task.train;
                let some = &part.indices[..part.indices.len().min(EXAMINED)];
                none.insert(Surface::of(&mut self.trainer, &*part.data, some, self.config.batch)?)
            }
        };
        let point = surface.examine(&Examine::default())?;
        if let Some(folder) = &mut self.folder {
            let mut line = point.to_json();
            (line["event"], line["epoch"], line["step"]) = (json!("critical"), json!(epoch), json!(step));
            folder.log(&[line])?;
        }
        watch.critical(epoch, step, &point);
        Ok(())
    }

    /// Texts from the model as it is for use, if the run is on text and asks for some.
    fn sample(&mut self, count: usize, watch: &mut dyn Watch) -> Result<Vec<String>> {
        let Output::Char { chars, context, sample, .. } = &self.task.output else { return Ok(Vec::new()) };
        if *sample == 0 {
            return Ok(Vec::new());
        }
        watch.sampling();
        let first = chars.decode(&chars.tokens()[..1]);
        let prompt = if chars.encode("\n").is_ok() { "\n" } else { &first };
        let how = Sampling { length: *sample, seed: self.config.seed, ..Sampling::default() };
        let was = self.trainer.averaged;
        self.trainer.use_average(true)?;
        let made = generate(&mut self.trainer, chars, *context, &vec![prompt; count], &how);
        self.trainer.use_average(was)?;
        let (texts, Position { step, epoch, .. }) = (made?.texts, self.trainer.position());
        if let Some(folder) = &mut self.folder {
            folder.log(&[json!({ "event": "samples", "epoch": epoch, "step": step, "texts": texts })])?;
        }
        watch.samples(step, &texts);
        Ok(texts)
    }

    /// The weights, and the gradients of the first batch of the epoch that has ended.
    fn distributions(&mut self) -> Result<Vec<(String, HostTensor)>> {
        let part = &self.task.train;
        let epoch = self.trainer.position().epoch.saturating_sub(1);
        // One piece of the batch, where it is computed in pieces.
        let (batches, draw) = self.trainer.batches(&part.indices, self.config.batch, epoch);
        let batch = part.data.batch(batches.get(0), Some(draw))?;
        let grads = self.trainer.gradients(&mut self.probe, &part.data.fields(), &batch)?;
        let named = |kind: &str, (name, t): (String, HostTensor)| (format!("{kind}/{name}"), t);
        let mut out: Vec<_> = self.trainer.states(true)?.into_iter().map(|x| named("weights", x)).collect();
        out.extend(grads.into_iter().map(|x| named("gradients", x)));
        Ok(out)
    }

    pub(super) fn finish(&mut self, out: &mut Summary, watch: &mut dyn Watch) -> Result<()> {
        self.trainer.use_average(true)?;
        if self.config.regularization.swa > 0.0 {
            self.renew_statistics()?;
        }
        if !self.task.test.indices.is_empty() {
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
        }
        out.samples = self.sample(SAMPLES, watch)?;
        out.finished = true;
        if let Some(folder) = &self.folder {
            let mut result = out.to_json();
            let identity = Identity::of(&self.device);
            (result["device"], result["kiln"]) = (json!(identity.device), json!(identity.version));
            folder.finish(&result)?;
        }
        Ok(())
    }
}
