//! Running statistics of batch norm for weights that were not trained with them, such as averages: as torch's `update_bn`.

use super::{Trainer, feeds, rows_of, split_target};
use crate::backend::Program;
use crate::data::{Batches, Dataset, Draw, Field};
use crate::error::Result;
use crate::ir::{Builder, OutputKind};
use crate::nn::{ParamSpec, Params};
use crate::optim::StepFeed;
use crate::tensor::HostTensor;
use std::collections::BTreeMap;

/// The buffer that batch norm has and other layers have not.
const VARIANCE: &str = "running_var";

impl Trainer {
    /// Resets the running statistics of all batch norms and makes them the plain averages over the batches of `part`, by the
    /// present weights, in training mode (dropout drops). False, and nothing is done, if the model has none.
    pub fn renew_statistics(&mut self, data: &dyn Dataset, part: &[usize], batch: usize) -> Result<bool> {
        let (fields, mut programs) = (data.fields(), BTreeMap::<usize, Program>::new());
        let draw = Draw { seed: self.seed, epoch: self.position.epoch, shuffled: self.shuffle };
        let batches = Batches::ordered(part, batch);
        let batches = if self.drop_last { batches.whole() } else { batches };
        for (number, indices) in batches.iter_from(0).enumerate() {
            let tensors = data.batch(indices, Some(draw))?;
            let rows = rows_of(&tensors)?;
            if !programs.contains_key(&rows) {
                let Some((program, reset)) = self.compile_statistics(&fields, rows)? else { return Ok(false) };
                for spec in reset.iter().filter(|_| programs.is_empty()) {
                    self.store.insert(spec.name.clone(), &spec.init.draw(&spec.name, &spec.ty, self.seed)?)?;
                }
                programs.insert(rows, program);
            }
            let Some(program) = programs.get_mut(&rows) else { continue };
            let hyper = StepFeed::values(self.seed, u32::MAX, number as u32, 0.0)?;
            let mut given: Vec<(&str, &HostTensor)> = fields.iter().map(|f| f.name.as_str()).zip(&tensors).collect();
            given.extend(hyper.iter().map(|(name, value)| (*name, value)));
            let wanted = program.feeds();
            given.retain(|(name, _)| wanted.iter().any(|(n, _)| n == name));
            program.run(&given)?;
        }
        self.store.device().check_status()?;
        Ok(!programs.is_empty())
    }

    /// The forward pass with statistics as its results, and the buffers that it moves.
    fn compile_statistics(&self, fields: &[Field], rows: usize) -> Result<Option<(Program, Vec<ParamSpec>)>> {
        let builder = Builder::new();
        let feed = StepFeed::declare(&builder);
        let params = Params::averaging(&builder, &feed.counter);
        let inputs = feeds(&builder, fields, rows)?;
        let (_, given) = split_target(&inputs)?;
        self.model.forward_all(&params.scope(), given);
        let updates = params.updates();
        let counted = |name: &str| {
            let scope = name.rfind('.').map_or("", |dot| &name[..=dot]);
            updates.iter().any(|(other, _)| *other == format!("{scope}{VARIANCE}"))
        };
        let moved: Vec<_> = updates.iter().filter(|(name, _)| counted(name)).collect();
        if moved.is_empty() {
            return Ok(None);
        }
        for (name, new) in &moved {
            builder.output(name.clone(), OutputKind::State, new);
        }
        let specs = params.specs().into_iter().filter(|s| moved.iter().any(|(name, _)| *name == s.name)).collect();
        Ok(Some((Program::compile(&self.store, builder.build()?)?, specs)))
    }
}
