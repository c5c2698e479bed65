//! Tests of programs on devices.

#[path = "device/budgets.rs"]
mod budgets;
#[path = "device/cases.rs"]
mod cases;
#[path = "device/programs.rs"]
mod programs;
#[path = "device/random_graphs.rs"]
mod random_graphs;
#[path = "device/steps.rs"]
mod steps;
