//! What a trainer holds, as named tensors for checkpoints, and back.

use super::{Trainer, is_model_state};
use crate::error::{Error, Result};
use crate::ir::Type;
use crate::nn::ParamSpec;
use crate::tensor::HostTensor;
use crate::train::names::adapted;
use std::collections::BTreeMap;

impl Trainer {
    /// All states of this kind with their contents: the model's (parameters and buffers), or the optimizer's.
    pub fn states(&self, of_model: bool) -> Result<Vec<(String, HostTensor)>> {
        let wanted = |s: &&ParamSpec| is_model_state(&s.name) == of_model;
        self.specs.iter().filter(wanted).map(|s| Ok((s.name.clone(), self.store.get(&s.name)?))).collect()
    }

    /// Replaces the contents of states. Errors, before anything is written, unless `tensors` are exactly those of this
    /// model (with `all`: and of its optimizer), in name, type and shape. `source` names them in errors.
    pub fn load(&mut self, tensors: &BTreeMap<String, HostTensor>, all: bool, source: &str) -> Result<()> {
        let wanted: Vec<&ParamSpec> = self.specs.iter().filter(|s| all || is_model_state(&s.name)).collect();
        let names: Vec<&str> = wanted.iter().map(|s| s.name.as_str()).collect();
        let tensors = &*adapted(tensors, &names);
        let todo = "it belongs to another model; use the run's own config.toml";
        for spec in &wanted {
            let Some(t) = tensors.get(&spec.name) else {
                return Err(Error::input(source, format!("holds no {:?} ({}); {todo}", spec.name, spec.ty)));
            };
            let given = Type::new(t.dtype(), t.shape.clone());
            if given != spec.ty {
                let detail = format!("{:?} is {given}, but the model has {}; {todo}", spec.name, spec.ty);
                return Err(Error::input(source, detail));
            }
        }
        if let Some(extra) = tensors.keys().find(|n| !wanted.iter().any(|s| s.name == **n)) {
            return Err(Error::input(source, format!("holds {extra:?}, which the model has not; {todo}")));
        }
        for (name, t) in tensors {
            self.store.insert(name.clone(), t)?;
        }
        Ok(())
    }
}
