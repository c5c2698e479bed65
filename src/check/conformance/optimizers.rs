//! Conformance cases of optimizers: a few steps with given gradients.

use crate::check::conformance::exec::{Device, Outcome};
use crate::check::conformance::file::{Case, unsupported};
use crate::error::Result;

/// Runs one case: a [`Session`](super::exec::Session) with `param.k` as state and `grad.<step>.k` as feeds.
pub fn run(case: &Case, _device: &Device) -> Result<Outcome> {
    Err(unsupported(format!("optimizer {}", case.name)))
}
