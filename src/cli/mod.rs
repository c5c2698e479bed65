//! The commands, one file each, thin over the library. Exit codes: 0 done, 1 a check found failures, 2 the input (or
//! the machine) does not allow what was asked, with one message on standard error that says what, where and what to do;
//! 130 stopped by Ctrl-C, with everything saved.

pub mod bench;
pub mod check;
pub mod critical;
pub mod devices;
pub mod diagnose;
mod dry_run;
pub mod eval;
mod find_batch;
mod find_lr;
mod folds;
pub mod knobs;
pub mod lab;
pub mod predict;
pub mod runs;
pub mod train;
pub mod tune;
mod variants;

use crate::error::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Trains neural networks on any GPU (Vulkan, Metal, DX12), or on the CPU.
///
/// Start with `kiln train`: it trains a small network on a data set that comes with kiln, and says how to go on.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Eval(eval::EvalArgs),
    Predict(predict::PredictArgs),
    Runs(runs::RunsArgs),
    Report(runs::ReportArgs),
    Diagnose(diagnose::DiagnoseArgs),
    Critical(critical::CriticalArgs),
    Devices(devices::DevicesArgs),
    Check(check::CheckArgs),
    Bench(bench::BenchArgs),
    Tune(tune::TuneArgs),
    Lab(lab::LabArgs),
    Knobs(knobs::KnobsArgs),
}

/// How a command ended that met no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is well.
    Good,
    /// It ran, and what it checked is not as it should be.
    Failed,
    /// The user stopped it.
    Interrupted,
}

/// Exit code of what was stopped by Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match crate::config::config().debug {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    // Only kiln's own messages: those of the graphics stack are not about anything that the user did.
    let logger = env_logger::Builder::new().filter_module("kiln", level).try_init();
    debug_assert!(logger.is_ok(), "the logger was set before main");
    match run(&cli.command) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command) -> Result<Outcome> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Runs(args) => runs::run(args),
        Command::Report(args) => runs::report(args),
        Command::Diagnose(args) => diagnose::run(args),
        Command::Critical(args) => critical::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args).map(|()| Outcome::Good),
        Command::Tune(args) => tune::run(args),
        Command::Lab(args) => lab::run(args),
        Command::Knobs(args) => knobs::run(args),
    }
}

/// The option that chooses a device, the same for every command.
#[derive(Debug, clap::Args)]
pub struct DeviceArg {
    /// Where to compute: auto, cpu, reference, gpu, software, or part of an adapter's name.
    ///
    /// auto takes a discrete or integrated GPU if there is one, else the CPU path. software is a GPU driver that
    /// computes on the CPU, for tests. reference is slow and simple: the definition of every result. `kiln devices`
    /// lists the adapters of this machine.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
}

impl DeviceArg {
    /// Opens the device, with what `kiln tune` picked for it.
    pub fn open(&self) -> Result<crate::backend::Device> {
        Ok(crate::backend::Device::open(&self.device)?.tuned())
    }
}

/// Prints a value as JSON on standard output.
pub(crate) fn print_json(value: &serde_json::Value) {
    println!("{value:#}");
}
