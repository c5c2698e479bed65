//! A run as TensorBoard shows it: scalars of steps and epochs, histograms of weights and gradients, texts.

use crate::error::Result;
use crate::report::tensorboard::EventWriter;
use crate::tensor::{Data, HostTensor};
use crate::train::curvature::Critical;
use crate::train::run::{EpochReport, Start};
use crate::train::{Measures, StepReport, Watch};
use std::path::PathBuf;

/// Writes event files into the folder `tensorboard` of a run while it goes on.
#[derive(Default)]
pub struct Board {
    writer: Option<EventWriter>,
    folder: Option<PathBuf>,
}

impl Board {
    /// A board that begins with its run.
    pub fn new() -> Board {
        Board::default()
    }

    /// Where the event files are, once the run has begun (in a folder).
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// Writes with the writer; a disk that fails ends the board, not the run.
    fn write(&mut self, f: impl FnOnce(&mut EventWriter) -> Result<()>) {
        if let Some(writer) = &mut self.writer
            && let Err(e) = f(writer)
        {
            log::warn!("{e}; no more events for TensorBoard");
            self.writer = None;
        }
    }
}

impl Watch for Board {
    fn start(&mut self, s: &Start) {
        let Some(folder) = s.folder.map(|f| f.join("tensorboard")) else { return };
        let resumed = (s.position.step > 0).then_some(s.position.step);
        match EventWriter::create(&folder, resumed) {
            Ok(writer) => (self.writer, self.folder) = (Some(writer), Some(folder)),
            Err(e) => log::warn!("{e}; training goes on without events for TensorBoard"),
        }
        let config = s.config.to_toml().unwrap_or_default();
        // A code block of Markdown.
        let text: String = config.lines().map(|line| format!("    {line}\n")).collect();
        self.write(|w| w.text("config", s.position.step, &text));
    }
    fn step(&mut self, r: &StepReport, _: &Measures) {
        self.write(|w| {
            w.scalar("step/loss", r.step, r.loss)?;
            w.scalar("step/grad_norm", r.step, r.grad_norm)?;
            w.scalar("step/lr", r.step, r.lr)
        });
    }
    fn epoch(&mut self, e: &EpochReport) {
        self.write(|w| {
            w.scalar("epoch/train_loss", e.step, e.train.loss())?;
            w.scalar("epoch/train_accuracy", e.step, e.train.accuracy())?;
            w.scalar("epoch/suppressed_updates", e.step, e.skipped as f64)?;
            if let Some(v) = &e.validation {
                w.scalar("epoch/validation_loss", e.step, v.loss())?;
                w.scalar("epoch/validation_accuracy", e.step, v.accuracy())?;
            }
            Ok(())
        });
    }
    fn wants_histograms(&self) -> bool {
        self.writer.is_some()
    }
    fn histograms(&mut self, step: u64, tensors: &[(String, HostTensor)]) {
        for (name, t) in tensors {
            if let Data::F32(values) = &t.data {
                self.write(|w| w.histogram(name, step, values));
            }
        }
    }
    fn critical(&mut self, _: u64, step: u64, point: &Critical) {
        self.write(|w| {
            w.scalar("critical/grad_norm", step, point.grad_norm)?;
            w.scalar("critical/minimum_ratio", step, point.minimum_ratio)?;
            for (name, pairs) in [("smallest", &point.smallest), ("largest", &point.largest)] {
                if let Some(pair) = pairs.first() {
                    w.scalar(&format!("critical/{name}_eigenvalue"), step, pair.value)?;
                }
            }
            w.text("critical", step, &point.to_string())
        });
    }
    fn tested(&mut self, step: u64, m: &Measures) {
        self.write(|w| {
            w.scalar("test/loss", step, m.loss())?;
            w.scalar("test/accuracy", step, m.accuracy())
        });
    }
    fn samples(&mut self, step: u64, texts: &[String]) {
        for (i, text) in texts.iter().enumerate() {
            self.write(|w| w.text(&format!("samples/{}", i + 1), step, text));
        }
    }
}
