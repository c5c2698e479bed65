//! Tests of training runs: resume, determinism, loss curves across devices, and bad input to the command.

#[path = "train/bad_input.rs"]
mod bad_input;
#[path = "train/configs.rs"]
mod configs;
#[path = "train/critical.rs"]
mod critical;
#[path = "train/curves.rs"]
mod curves;
#[path = "train/growth.rs"]
mod growth;
#[path = "train/half.rs"]
mod half;
#[path = "train/keys.rs"]
mod keys;
#[path = "train/kill.rs"]
mod kill;
#[path = "train/lab.rs"]
mod lab;
#[path = "train/pairs.rs"]
mod pairs;
#[path = "train/pieces.rs"]
mod pieces;
#[path = "train/resume.rs"]
mod resume;
#[path = "train/torch.rs"]
mod torch;
#[path = "train/torch_runs.rs"]
mod torch_runs;
#[path = "train/watching.rs"]
mod watching;

use kiln::backend::Device;
use kiln::train::config::Draft;
use kiln::train::run::{Run, Silent, Watch};
use kiln::train::{Measures, RunConfig, RunOptions, StepReport, Summary};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// What the command did in a folder.
fn kiln(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kiln")).args(args).current_dir(dir).output().unwrap()
}

/// A preset with keys changed, as (key, value) pairs.
fn config(preset: &str, keys: &[(&str, &str)]) -> RunConfig {
    let mut draft = Draft::open(preset).unwrap();
    for (key, value) in keys {
        draft.set(key, value).unwrap();
    }
    draft.finish().unwrap()
}

/// A small convolutional run: two batches and a short one per epoch, dropout and shifts on.
fn small_cnn(seed: u64) -> RunConfig {
    let keys = [
        ("epochs", "3"),
        ("batch", "64"),
        ("data.test", "0.9"),
        ("data.validation", "0.2"),
        ("data.shift", "1"),
        ("model.stages", "[[4], [6]]"),
        ("model.dropout", "0.3"),
        ("seed", &seed.to_string()),
    ];
    config("digits-cnn", &keys)
}

fn options(out: Option<&Path>, stop_after: Option<u64>) -> RunOptions {
    let checkpoint_every = Duration::from_secs(3600);
    RunOptions {
        out: out.map(Path::to_path_buf),
        keep: out.is_some(),
        stop_after,
        checkpoint_every,
        ..RunOptions::default()
    }
}

/// Runs in memory and collects the losses of all steps.
fn losses(config: RunConfig, device: &Device, steps: Option<u64>) -> (Vec<f64>, Summary) {
    struct Losses(Vec<f64>);
    impl Watch for Losses {
        fn step(&mut self, r: &StepReport, _: &Measures) {
            assert_eq!(r.step, self.0.len() as u64 + 1, "steps are reported in order");
            assert!(r.updated, "update {} was suppressed", r.step);
            self.0.push(r.loss);
        }
    }
    let mut watch = Losses(Vec::new());
    let summary = Run::new(config, device, options(None, steps)).unwrap().train(&mut watch).unwrap();
    (watch.0, summary)
}

/// Runs into a folder.
fn into(folder: &Path, config: RunConfig, device: &Device, stop_after: Option<u64>) -> Summary {
    Run::new(config, device, options(Some(folder), stop_after)).unwrap().train(&mut Silent).unwrap()
}

/// The software adapter; `None` where there is none, which is a failure if KILN_REQUIRE_ADAPTER is set.
fn software() -> Option<Device> {
    match Device::open("software") {
        Ok(device) => Some(device),
        Err(e) => {
            assert!(!kiln::config::config().require_adapter, "{e}");
            eprintln!("not run: {e}");
            None
        }
    }
}
