//! Tests of what needs no device: passes and planner.

#[path = "null/plans.rs"]
mod plans;
