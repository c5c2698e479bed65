//! Mixed precision: what a training step stores and reads in f16. Parameters, optimizer state, norms, losses and sums stay
//! f32; operands and results of products and convolutions, and what norms, pooling and attention keep for the backward
//! pass, are f16 ([`crate::Builder::autocast`]). Evaluation and prediction use the f32 weights in f32.

use crate::backend::{BackendKind, Device, Program};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::optim::LossScaler;
use crate::plan::{RegionKind, Step};
use serde::{Deserialize, Serialize};

/// The type of what a training step keeps and multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// f16 in memory, f32 sums, and a loss scale that follows the gradients ([`LossScaler`]).
    F16,
}

impl Precision {
    /// True for f16.
    pub fn is_half(self) -> bool {
        self == Precision::F16
    }

    /// Errors if the device cannot do it. The CPU path can, but slowly.
    pub fn check(self, device: &Device) -> Result<()> {
        let info = device.info();
        if self.is_half() && info.kind == BackendKind::Gpu && !device.caps().narrows() {
            let detail = "its shaders have no f16 (the feature SHADER_F16), which train.precision = \"f16\" needs; take \
                          precision = \"f32\", or another device (`kiln devices` says which have it)";
            return Err(Error::device(&info.name, detail));
        }
        Ok(())
    }

    /// What a user should know of it on this device, if anything.
    pub fn remark(self, device: &Device) -> Option<String> {
        let slow = self.is_half() && device.info().kind == BackendKind::Cpu;
        slow.then(|| "the CPU path leaves f16 to the reference: right, but slower than precision = \"f32\"".to_string())
    }
}

/// How many products and convolutions these programs have, and how many of them read f16 in both operands.
pub fn products(programs: &[&Program]) -> (usize, usize) {
    let (mut all, mut narrow) = (0, 0);
    for step in programs.iter().flat_map(|p| &p.plan().steps) {
        if let Step::Run { region, .. } = step
            && matches!(region.kind, RegionKind::Dot | RegionKind::Conv)
        {
            all += 1;
            narrow += usize::from(region.args[..2].iter().all(|a| a.dtype == DType::F16));
        }
    }
    (all, narrow)
}

/// Gradients of the loss, or of the scaled loss where there is a scale.
#[track_caller]
pub(super) fn grad(scaler: Option<&LossScaler>, loss: &Tensor, wrt: &[&Tensor]) -> Vec<Tensor> {
    match scaler {
        Some(scaler) => scaler.scaled_grad(loss, wrt),
        None => crate::grad::grad(loss, wrt),
    }
}

/// Gradients without the scale.
#[track_caller]
pub(super) fn unscaled(scaler: Option<&LossScaler>, grads: Vec<Tensor>) -> Vec<Tensor> {
    match scaler {
        Some(scaler) => scaler.unscale(&grads),
        None => grads,
    }
}
