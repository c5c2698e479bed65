//! Conformance cases of modules: the constructor's arguments become a module, its parameters the file's `param.*`.

use crate::check::conformance::exec::{Device, Outcome};
use crate::check::conformance::file::{Case, unsupported};
use crate::error::Result;

/// Runs one case; see `functions::run` for the pattern: inputs, graph, `run_built`.
pub fn run(case: &Case, _device: &Device) -> Result<Outcome> {
    Err(unsupported(format!("module {}", case.name)))
}
