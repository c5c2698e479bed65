//! Checks: conformance cases, and comparisons of every kernel with the reference.

pub mod bounds;
pub mod conformance;
pub mod expect;
pub mod graphs;
pub mod lint;
pub mod random;
