//! Tests of programs on devices.

#[path = "device/budgets.rs"]
mod budgets;
#[path = "device/cases.rs"]
mod cases;
#[path = "../benches/host/counting.rs"]
mod counting;
#[path = "device/half.rs"]
mod half_precision;
#[path = "device/host.rs"]
mod host;
#[path = "device/index.rs"]
mod index;
#[path = "device/modules.rs"]
mod modules;
#[path = "device/programs.rs"]
mod programs;
#[path = "device/random_graphs.rs"]
mod random_graphs;
#[path = "../benches/host/raw.rs"]
mod raw;
#[path = "device/recurrence.rs"]
mod recurrence;
#[path = "device/saturation.rs"]
mod saturation;
#[path = "device/steps.rs"]
mod steps;
#[path = "device/variants.rs"]
mod variants;
