//! Conformance cases of functions: a table from torch's names to builders, which read the arguments and attributes
//! they know. What a builder does not ask for is reported as unsupported, never ignored.

use crate::check::conformance::exec::{Built, Device, Inputs, Outcome, run_built};
use crate::check::conformance::file::{Case, unsupported};
use crate::error::Result;

/// Runs one case.
pub fn run(case: &Case, device: &Device) -> Result<Outcome> {
    let inputs = Inputs::new(case)?;
    let mut built = build(&case.name, &inputs)?;
    inputs.finish()?;
    built.leaves = inputs.leaves();
    run_built(case, device, &inputs.builder, &built)
}

fn build(name: &str, _x: &Inputs) -> Result<Built> {
    Err(unsupported(format!("function {name}")))
}
