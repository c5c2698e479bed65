//! Averages of the weights (`regularization.ema`, `regularization.swa`): training goes on with the weights themselves, while
//! what is measured and kept for use are the averages, which the optimizer holds among its states.

use crate::error::Result;
use crate::optim::Ema;
use crate::optim::regularize::averaged;
use crate::optim::step::SKIPPED;
use crate::tensor::{Data, HostTensor};
use crate::train::Trainer;
use crate::train::files::save_weights;
use crate::train::run::Run;
use std::collections::BTreeMap;

/// True if at least one of `steps` updates was made, so that an average has begun. `skipped` counts suppressed ones.
fn has_begun(steps: u64, skipped: Option<&HostTensor>) -> bool {
    let skipped = match skipped.map(|t| &t.data) {
        Some(Data::U32(n)) => n.first().copied().unwrap_or(0),
        _ => 0,
    };
    steps > u64::from(skipped)
}

/// The weights for use: averages in place of weights that have one, after `steps` updates.
pub fn for_use(
    weights: &[(String, HostTensor)],
    optimizer: &BTreeMap<String, HostTensor>,
    steps: u64,
) -> Vec<(String, HostTensor)> {
    let begun = has_begun(steps, optimizer.get(SKIPPED));
    let used = |(name, own): &(String, HostTensor)| {
        let average = optimizer.get(&Ema::state_name(name)).filter(|_| begun);
        (name.clone(), average.unwrap_or(own).clone())
    };
    weights.iter().map(used).collect()
}

impl Run {
    /// Makes the running statistics of batch norm anew for averaged weights, which they were not measured with, and the
    /// file of the weights with them.
    pub(super) fn renew_statistics(&mut self) -> Result<()> {
        let part = &self.task.train;
        let renewed = self.trainer.renew_statistics(&*part.data, &part.indices, self.config.batch)?;
        match &self.folder {
            Some(folder) if renewed => save_weights(&folder.weights(), &self.trainer.states(true)?),
            _ => Ok(()),
        }
    }
}

impl Trainer {
    /// Exchanges the weights with their averages, if the optimizer keeps them, or back. Training goes on with the weights.
    pub fn use_average(&mut self, on: bool) -> Result<()> {
        let pairs: Vec<(String, String)> =
            self.specs().iter().filter_map(|s| averaged(&s.name).map(|p| (s.name.clone(), p.to_string()))).collect();
        if self.averaged == on || pairs.is_empty() {
            return Ok(());
        }
        let skipped = self.store.contains(SKIPPED).then(|| self.store.get(SKIPPED)).transpose()?;
        if on && !has_begun(self.position().step, skipped.as_ref()) {
            return Ok(());
        }
        self.averaged = on;
        for (state, name) in pairs {
            let (average, weight) = (self.store.get(&state)?, self.store.get(&name)?);
            self.store.insert(name, &average)?;
            self.store.insert(state, &weight)?;
        }
        Ok(())
    }
}
