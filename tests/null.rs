//! Tests of what needs no device: passes and planner.

#[path = "null/checkpoints.rs"]
mod checkpoints;
#[path = "null/half.rs"]
mod half;
#[path = "null/keep.rs"]
mod keep;
#[path = "null/plans.rs"]
mod plans;
#[path = "null/properties.rs"]
mod properties;
#[path = "null/training_steps.rs"]
mod training_steps;
