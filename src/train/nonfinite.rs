//! When training stops because losses or gradients are not finite: which tensor went bad first, by the name of its layer,
//! and a checkpoint from which it happens again. Called by a run; `Trainer::first_nonfinite` is for library users too.

use crate::data::Field;
use crate::data::dataset::take_rows;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Builder, OutputKind, Tensor};
use crate::nn::{Mode, Params};
use crate::optim::step::SKIPPED;
use crate::optim::{LossScaler, StepFeed};
use crate::tensor::HostTensor;
use crate::train::files::save_weights;
use crate::train::run::Run;
use crate::train::trainer::{feeds, rows_of, split_target};
use crate::train::{Position, Trainer, checkpoint, precision};
use std::fmt;

/// So many updates in a row without a finite loss and gradient end a run: an epoch's, but neither a few nor very many. A
/// run does not recover from that.
pub fn most_in_a_row(steps_per_epoch: usize) -> u64 {
    (steps_per_epoch as u64).clamp(5, 50)
}

/// A tensor with numbers that are not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, with the name of the layer.
    pub what: String,
    /// How many of its numbers are not finite.
    pub bad: usize,
    /// How many it has.
    pub of: usize,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} of its {} numbers are not finite)", self.what, self.bad, self.of)
    }
}

impl Trainer {
    /// Computes update number `step` (from 1) on `batch` with the present weights, without changing anything, and looks for
    /// the first tensor that is not finite: inputs, then parameters, then the results of layers in the order of the
    /// computation, then the loss, then gradients from the last layer to the first.
    pub fn first_nonfinite(&mut self, fields: &[Field], batch: &[HostTensor], step: u64) -> Result<Option<Finding>> {
        self.first_nonfinite_of(fields, batch, step, 0)
    }

    /// The same for one of the pieces in which a batch is computed.
    fn first_nonfinite_of(
        &mut self,
        fields: &[Field],
        batch: &[HostTensor],
        step: u64,
        piece: u32,
    ) -> Result<Option<Finding>> {
        let builder = Builder::new();
        let feed = StepFeed::declare(&builder);
        let params = Params::with(&builder, Mode::Train, Some(&feed.counter), None);
        let inputs = feeds(&builder, fields, rows_of(batch)?)?;
        let (target, given) = split_target(&inputs)?;
        let half = self.precision.is_half();
        let output = builder.autocast(half, || self.model.forward_all(&params.scope(), given));
        let loss = self.loss.measure(&output, target, true).loss;
        let trainable = params.trainable();
        let scaler = half.then(|| LossScaler::declare(&builder));
        let wrt: Vec<&Tensor> = trainable.iter().map(|(_, t)| t).collect();
        let grads = precision::grad(scaler.as_ref(), &loss, &wrt);

        let mut suspects: Vec<(String, Tensor)> = Vec::new();
        for (field, tensor) in fields.iter().zip(&inputs) {
            suspects.push((format!("the input {:?} of the batch", field.name), tensor.clone()));
        }
        for spec in params.specs() {
            let kind = if spec.trainable { "parameter" } else { "buffer" };
            suspects.extend(params.get(&spec.name).map(|t| (format!("the {kind} {}", spec.name), t)));
        }
        suspects.extend(params.results().into_iter().map(|(path, t)| (format!("the output of layer {path}"), t)));
        suspects.push(("the output of the model".into(), output));
        suspects.push(("the loss".into(), loss));
        let named = trainable.iter().zip(&grads).rev();
        suspects.extend(named.map(|((name, _), g)| (format!("the gradient of {name}"), g.clone())));
        suspects.retain(|(_, t)| t.dtype() == DType::F32);
        let count = |t: &Tensor| t.is_finite().not().cast(DType::F32).sum(&[], false).reshape([1]);
        let counts: Vec<Tensor> = suspects.iter().map(|(_, t)| count(t)).collect();
        builder.output("counts", OutputKind::Fetch, &Tensor::cat(&counts.iter().collect::<Vec<_>>(), 0));
        // Both feeds are declared; the learning rate is not used, but an input that nobody reads is still fed.
        let graph = builder.build()?;

        let mut program = crate::backend::Program::compile(&self.store, graph)?;
        let number = u32::try_from(step.saturating_sub(1)).unwrap_or(u32::MAX);
        let hyper = StepFeed::values(self.seed, number, piece, 0.0)?;
        let mut given: Vec<(&str, &HostTensor)> = fields.iter().map(|f| f.name.as_str()).zip(batch).collect();
        given.extend(hyper.iter().map(|(name, value)| (*name, value)));
        let wanted = program.feeds();
        given.retain(|(name, _)| wanted.iter().any(|(n, _)| n == name));
        let counts = program.run(&given)?.swap_remove(0);
        let first = counts.as_f32()?.iter().zip(suspects).find(|(n, _)| **n != 0.0);
        Ok(first.map(|(n, (what, t))| Finding { what, bad: *n as usize, of: t.elems() }))
    }
}

impl Run {
    /// The error of a run whose last `in_a_row` updates had no finite loss and gradient; saves what it takes to see it again.
    pub(super) fn stopped_by_nonfinite(&mut self) -> Result<Error> {
        let now = self.trainer.position();
        let part = &self.task.train;
        let per_epoch = self.config.updates_per_epoch(part.indices.len()).max(1) as u64;
        // Suppressed updates changed nothing: the present weights are those before the first of them.
        let before = now.step - self.in_a_row.min(now.step);
        let position = Position { step: before, epoch: before / per_epoch, batch: (before % per_epoch) as usize };
        let (batches, draw) = self.trainer.batches(&part.indices, self.config.update_batch(), position.epoch);
        let fields = part.data.fields();
        let batch = part.data.batch(batches.get(position.batch), Some(draw))?;
        let (rows, mut finding) = (rows_of(&batch)?, None);
        for (number, from) in (0..rows).step_by(self.config.batch).enumerate() {
            if finding.is_some() {
                break;
            }
            let indices: Vec<usize> = (from..rows.min(from + self.config.batch)).collect();
            let piece = batch.iter().map(|t| take_rows(t, &indices)).collect::<Result<Vec<_>>>()?;
            finding = self.trainer.first_nonfinite_of(&fields, &piece, before + 1, number as u32)?;
        }
        let mut detail = format!(
            "the loss or its gradient was not finite in {} updates in a row, from number {} on",
            self.in_a_row,
            before + 1
        );
        match finding {
            Some(found) => detail += &format!("; the first tensor that went bad there is {found}"),
            None => detail += "; computed again, update and all, it is finite: the device may be at fault",
        }
        if let Some(folder) = &self.folder {
            folder.sync()?;
            let mut snapshot = self.snapshot()?;
            for (name, t) in &mut snapshot.optimizer {
                if name == SKIPPED
                    && let crate::tensor::Data::U32(v) = &mut t.data
                {
                    v.iter_mut().for_each(|n| *n = n.saturating_sub(self.in_a_row as u32));
                }
            }
            let s = &mut snapshot.state;
            (s.step, s.epoch, s.batch, s.in_a_row) = (position.step, position.epoch, position.batch, 0);
            s.skipped = s.skipped.saturating_sub(self.in_a_row);
            let name = format!("nonfinite-{:08}", before + 1);
            let path = checkpoint::save(folder.path(), &name, &snapshot.weights, &snapshot.optimizer, &snapshot.state)?;
            let named: Vec<(String, HostTensor)> = fields.iter().map(|f| f.name.clone()).zip(batch).collect();
            save_weights(&path.join("batch.safetensors"), &named)?;
            let path = path.display();
            detail += &format!(
                "; the state before it and its batch are in {path}: `kiln train --resume {path}` comes to it at once"
            );
        }
        Ok(Error::runtime("training", detail + "; lower optimizer.lr, or set clip_norm"))
    }
}
