//! Warm starts: weights from a part of another model's file. What fits by name and shape is taken; the rest is listed.

use crate::error::{Error, Result};
use crate::ir::Type;
use crate::tensor::HostTensor;
use crate::train::Trainer;
use crate::train::names::adapted;
use crate::train::trainer::is_model_state;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What a warm start did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WarmStart {
    /// Parameters and buffers that were taken from the file.
    pub taken: Vec<String>,
    /// Those of the model that the file has not; they keep their content.
    pub missing: Vec<String>,
    /// Those of the file that the model has not.
    pub unused: Vec<String>,
    /// Those that both have in different shapes, with the shapes; they keep their content.
    pub different: Vec<String>,
}

impl WarmStart {
    /// True if the file and the model are of one kind: nothing is left over on either side.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.different.is_empty()
    }
}

impl fmt::Display for WarmStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors taken", self.taken.len())?;
        let lists = [
            ("not in the file, left as they are", &self.missing),
            ("of other shapes, left as they are", &self.different),
            ("in the file, but not in the model", &self.unused),
        ];
        for (what, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "; {} {what}: {}", names.len(), names.join(", "))?;
        }
        Ok(())
    }
}

impl Trainer {
    /// Takes from `tensors` what fits the model by name, type and shape. The programs for training (or use) must have been
    /// made ([`Trainer::prepare`]), so that the model's tensors are known. Errors if nothing fits; `source` names the
    /// file in the error.
    pub fn warm_start(&mut self, tensors: &BTreeMap<String, HostTensor>, source: &str) -> Result<WarmStart> {
        let mut out = WarmStart::default();
        let mut fitting = Vec::new();
        let wanted: Vec<&str> = self.specs().iter().map(|s| s.name.as_str()).collect();
        let tensors = &*adapted(tensors, &wanted);
        for spec in self.specs().iter().filter(|s| is_model_state(&s.name)) {
            match tensors.get(&spec.name) {
                None => out.missing.push(spec.name.clone()),
                Some(t) => {
                    let given = Type::new(t.dtype(), t.shape.clone());
                    match given == spec.ty {
                        true => fitting.push((spec.name.clone(), t)),
                        false => out.different.push(format!("{} ({given}, not {})", spec.name, spec.ty)),
                    }
                }
            }
        }
        let known = |name: &String| self.specs().iter().any(|s| s.name == *name);
        out.unused = tensors.keys().filter(|name| !known(name)).cloned().collect();
        out.taken = fitting.iter().map(|(name, _)| name.clone()).collect();
        if fitting.is_empty() {
            let detail = format!("holds nothing that fits the model ({out}); is it of another kind of model?");
            return Err(Error::input(source, detail));
        }
        for (name, t) in fitting {
            self.store().insert(name, t)?;
        }
        Ok(out)
    }
}
