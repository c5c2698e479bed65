//! Tests of programs on devices.

#[path = "device/programs.rs"]
mod programs;
