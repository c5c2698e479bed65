//! Conformance cases of learning-rate schedules: host arithmetic only.

use crate::check::conformance::exec::Outcome;
use crate::check::conformance::file::{Case, unsupported};
use crate::error::Result;

/// Runs one case: `lr` (and `momentum`) for each number of steps.
pub fn run(case: &Case) -> Result<Outcome> {
    Err(unsupported(format!("schedule {}", case.name)))
}
