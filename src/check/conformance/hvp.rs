//! Conformance cases of Hessian-vector products: an MLP with tanh between its layers, its loss, gradient, H v, and for
//! small ones the whole Hessian with its eigenvalues.

use crate::check::conformance::exec::{Device, Outcome};
use crate::check::conformance::file::{Case, unsupported};
use crate::error::Result;

/// Runs one case.
pub fn run(case: &Case, _device: &Device) -> Result<Outcome> {
    Err(unsupported(format!("hvp {}", case.name)))
}
