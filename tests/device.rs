//! Tests of programs on devices.

#[path = "device/budgets.rs"]
mod budgets;
#[path = "device/cases.rs"]
mod cases;
#[path = "device/half.rs"]
mod half_precision;
#[path = "device/index.rs"]
mod index;
#[path = "device/modules.rs"]
mod modules;
#[path = "device/programs.rs"]
mod programs;
#[path = "device/random_graphs.rs"]
mod random_graphs;
#[path = "device/recurrence.rs"]
mod recurrence;
#[path = "device/saturation.rs"]
mod saturation;
#[path = "device/steps.rs"]
mod steps;
