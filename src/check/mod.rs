//! Checks: conformance cases, and comparisons of every kernel with the reference.

pub mod conformance;
pub mod expect;
