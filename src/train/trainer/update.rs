//! The end of a training step: gradients without their scale, the update, and what the host reads of the step.

use super::{METRICS, Trainer};
use crate::backend::{Fetches, Program};
use crate::dtype::DType;
use crate::error::Result;
use crate::ir::{Builder, OutputKind, Tensor};
use crate::nn::Params;
use crate::optim::{self, LossScaler, StepFeed};
use crate::tensor::HostTensor;
use crate::train::precision;
use crate::train::profile::Profile;

impl Trainer {
    /// Appends the update by these gradients, of the scaled loss where there is a scale, and the metrics of the step.
    pub(super) fn finish_step(
        &mut self,
        builder: &Builder,
        params: &Params,
        measured: [&Tensor; 2],
        grads: Vec<Tensor>,
        feed: &StepFeed,
        scaler: Option<LossScaler>,
    ) -> Result<()> {
        let grads = precision::unscaled(scaler.as_ref(), grads);
        let applied = optim::apply(params, &*self.optimizer, &grads, feed, self.clip);
        let ok = applied.ok.cast(DType::F32);
        let mut scalars = vec![measured[0], measured[1], &applied.grad_norm, &ok];
        if let Some(scaler) = &scaler {
            scaler.update(&applied.ok);
            scalars.push(scaler.scale());
        }
        pack(builder, &scalars);
        if !builder.is_ok() {
            // Building the graph says why.
            return Ok(());
        }
        self.fill(params.specs())?;
        self.fill(applied.states)?;
        self.fill(if scaler.is_some() { LossScaler::specs() } else { Vec::new() })
    }
}

/// Declares scalars as one fetched vector: one small readback a step.
pub(super) fn pack(builder: &Builder, scalars: &[&Tensor]) {
    let parts: Vec<Tensor> = scalars.iter().map(|s| s.reshape([1])).collect();
    builder.output(METRICS, OutputKind::Fetch, &Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0));
}

/// Starts a program, timed if it belongs to the update that is profiled.
pub(super) fn launch(
    profile: &mut Option<Profile>,
    program: &mut Program,
    given: &[(&str, &HostTensor)],
) -> Result<Fetches> {
    match profile {
        Some(profile) => profile.launch(program, given),
        None => program.launch(given),
    }
}
