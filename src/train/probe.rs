//! Gradients of a batch without an update: what histograms are made of.

use crate::backend::Program;
use crate::data::Field;
use crate::error::Result;
use crate::grad::grad;
use crate::ir::{Builder, OutputKind};
use crate::nn::{Mode, Params};
use crate::optim::StepFeed;
use crate::tensor::HostTensor;
use crate::train::Trainer;
use crate::train::trainer::{feeds, rows_of, split_target};

/// A compiled program that gives the gradients of all trained parameters.
pub struct Probe {
    program: Program,
    names: Vec<String>,
    rows: usize,
}

impl Trainer {
    /// The gradients of the training loss of `batch` by the parameters' names, with the present weights; changes nothing.
    /// `probe` keeps the program between calls.
    pub fn gradients(
        &mut self,
        probe: &mut Option<Probe>,
        fields: &[Field],
        batch: &[HostTensor],
    ) -> Result<Vec<(String, HostTensor)>> {
        let rows = rows_of(batch)?;
        if probe.as_ref().is_none_or(|p| p.rows != rows) {
            *probe = Some(self.compile_probe(fields, rows)?);
        }
        let Some(Probe { program, names, .. }) = probe else { return Ok(Vec::new()) };
        let step = u32::try_from(self.position.step).unwrap_or(u32::MAX);
        let hyper = StepFeed::values(self.seed, step, 0, 0.0)?;
        let mut given: Vec<(&str, &HostTensor)> = fields.iter().map(|f| f.name.as_str()).zip(batch).collect();
        given.extend(hyper.iter().map(|(name, value)| (*name, value)));
        let wanted = program.feeds();
        given.retain(|(name, _)| wanted.iter().any(|(n, _)| n == name));
        Ok(names.iter().cloned().zip(program.run(&given)?).collect())
    }

    fn compile_probe(&self, fields: &[Field], rows: usize) -> Result<Probe> {
        let builder = Builder::new();
        let feed = StepFeed::declare(&builder);
        let params = Params::with(&builder, Mode::Train, Some(&feed.counter), None);
        let inputs = feeds(&builder, fields, rows)?;
        let (target, given) = split_target(&inputs)?;
        let output = self.model.forward_all(&params.scope(), given);
        let loss = self.loss.measure(&output, target, true).loss;
        let trainable = params.trainable();
        let grads = grad(&loss, &trainable.iter().map(|(_, t)| t).collect::<Vec<_>>());
        for ((name, _), g) in trainable.iter().zip(&grads) {
            builder.output(name.clone(), OutputKind::Fetch, g);
        }
        let program = Program::compile(&self.store, builder.build()?)?;
        Ok(Probe { program, names: trainable.into_iter().map(|(name, _)| name).collect(), rows })
    }
}
