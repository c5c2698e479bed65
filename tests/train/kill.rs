//! Runs that end in any way but their own: killed, interrupted, with files cut short, with numbers that are not finite.

use crate::resume::{contents, same};
use crate::{config, into, options};
use kiln::backend::Device;
use kiln::rng::Rng;
use kiln::train::checkpoint;
use kiln::train::run::{Run, Silent, Stop, Watch};
use kiln::train::{Measures, RunConfig, RunOptions, StepReport};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const KEYS: [&str; 10] =
    ["train", "digits-mlp", "--device", "cpu", "--epochs", "4", "--batch", "128", "--set", "model.dropout=0.2"];

fn start(dir: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(args).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_at_random_moments_and_resumed_is_bit_equal() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let began = std::time::Instant::now();
    assert!(
        start(d, &[&KEYS[..], &["--checkpoint-every", "0", "--out", "straight"]].concat()).wait().unwrap().success()
    );
    let mut most = began.elapsed().as_micros() as usize;
    let mut rng = Rng::named(1, "tests/kill");
    let (mut kills, killed) = (0, d.join("killed"));
    let afresh = || start(d, &[&KEYS[..], &["--checkpoint-every", "0", "--out", "killed"]].concat());
    // A machine may be faster now than when it was timed: if no kill came before the end, kills come earlier.
    while kills == 0 && most > 0 {
        if killed.exists() {
            fs::remove_dir_all(&killed).unwrap();
        }
        let mut child = afresh();
        // A kill comes anywhere in what one life of the process takes, so that the run gets ahead and ends.
        for _ in 0..12 {
            std::thread::sleep(Duration::from_micros(rng.below(most) as u64));
            if child.try_wait().unwrap().is_some() {
                break;
            }
            // SIGKILL on Unix, TerminateProcess on Windows.
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            child = match killed.exists() {
                true => start(d, &["train", "--device", "cpu", "--checkpoint-every", "0", "--resume", "killed"]),
                false => afresh(),
            };
        }
        child.wait().unwrap();
        most /= 2;
    }
    assert!(kills > 0, "no kill came in time");
    assert!(killed.join("result.json").exists(), "the run ended after {kills} kills");
    same(&d.join("straight"), &killed);
}

/// Two epochs of three updates, with a checkpoint after each update.
fn small() -> RunConfig {
    config("digits-mlp", &[("epochs", "2"), ("batch", "512"), ("model.dropout", "0.2")])
}

fn every_update(out: Option<&Path>, stop_after: Option<u64>) -> RunOptions {
    RunOptions { checkpoint_every: Duration::ZERO, ..options(out, stop_after) }
}

#[test]
fn a_file_cut_short_costs_one_checkpoint_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::open("cpu").unwrap();
    let straight = dir.path().join("straight");
    into(&straight, small(), &device, None);
    struct Warnings(Vec<String>);
    impl Watch for Warnings {
        fn start(&mut self, s: &kiln::train::run::Start) {
            self.0 = s.warnings.clone();
        }
    }
    for (i, file) in ["weights.safetensors", "state.safetensors", "manifest.json"].iter().enumerate() {
        let folder = dir.path().join(format!("cut-{i}"));
        Run::new(small(), &device, every_update(Some(&folder), Some(4))).unwrap().train(&mut Silent).unwrap();
        let steps: Vec<u64> = checkpoint::list(&folder).iter().map(|(s, _)| *s).collect();
        assert_eq!(steps, [4, 3], "two are kept, and the best, which is that of update 3");
        let path = folder.join("checkpoints").join(checkpoint::name(4)).join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 3]).unwrap();
        let mut watch = Warnings(Vec::new());
        Run::resume(&folder, &device, every_update(None, None)).unwrap().train(&mut watch).unwrap();
        let said = watch.0.concat();
        assert!(said.contains("step-00000004") && said.contains("after update 3"), "{said}");
        same(&straight, &folder);
    }
}

#[test]
fn metrics_cut_short_do_not_stop_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::open("cpu").unwrap();
    let (straight, folder) = (dir.path().join("straight"), dir.path().join("run"));
    into(&straight, small(), &device, None);
    into(&folder, small(), &device, Some(3));
    let metrics = folder.join("metrics.jsonl");
    let text = fs::read(&metrics).unwrap();
    fs::write(&metrics, &text[..text.len() - 5]).unwrap();
    Run::resume(&folder, &device, options(None, None)).unwrap().train(&mut Silent).unwrap();
    let (a, b) = (contents(&straight), contents(&folder));
    assert!(a.0 == b.0, "the tensors differ");
    assert_eq!(b.2.lines().count() + 1, a.2.lines().count(), "one line is lost");
    assert!(b.2.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
}

#[test]
fn a_stop_is_saved_and_goes_on_bit_equal() {
    struct AtUpdate(u64, Stop);
    impl Watch for AtUpdate {
        fn step(&mut self, r: &StepReport, _: &Measures) {
            if r.step == self.0 {
                self.1.request();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let device = Device::open("cpu").unwrap();
    let (straight, folder) = (dir.path().join("straight"), dir.path().join("run"));
    into(&straight, small(), &device, None);
    let run = Run::new(small(), &device, options(Some(&folder), None)).unwrap();
    let stop = run.options().stop.clone();
    let summary = run.train(&mut AtUpdate(2, stop)).unwrap();
    assert!(summary.interrupted && summary.test.is_none() && summary.position.step < 6, "{summary:?}");
    Run::resume(&folder, &device, options(None, None)).unwrap().train(&mut Silent).unwrap();
    same(&straight, &folder);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let args = ["train", "digits-cnn", "--device", "cpu", "--epochs", "500", "--out", "run"];
    let child = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(args)
        .current_dir(d)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = d.join("run/metrics.jsonl");
    while fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let out = child.wait_with_output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(130), "{said}{error}");
    assert!(said.contains("train --resume run") && error.contains("once more"), "{said}{error}");
    assert!(checkpoint::newest(&d.join("run")).unwrap().unwrap().0.state.step > 0);
}

#[test]
fn numbers_that_are_not_finite_are_named_and_can_be_seen_again() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::open("cpu").unwrap();
    let folder = dir.path().join("run");
    // A rate of 1e30 throws the weights so far that the second forward pass overflows.
    let keys = [
        ("batch", "256"),
        ("optimizer.kind", "\"sgd\""),
        ("optimizer.lr", "1e30"),
        ("epochs", "20"),
        ("schedule.kind", "\"constant\""),
    ];
    let run = Run::new(config("digits-mlp", &keys), &device, options(Some(&folder), None)).unwrap();
    let error = run.train(&mut Silent).unwrap_err().to_string();
    assert!(error.contains("the output of layer 3") || error.contains("the loss"), "{error}");
    assert!(error.contains("from number 2 on") && error.contains("optimizer.lr"), "{error}");
    let saved = folder.join("checkpoints/nonfinite-00000002");
    assert!(error.contains(&saved.display().to_string()), "{error}");
    let batch = kiln::train::checkpoint::load_weights(&saved.join("batch.safetensors")).unwrap();
    assert_eq!(batch["image"].shape[..], [256, 1, 8, 8]);
    assert_eq!(checkpoint::load(&saved).unwrap().state.step, 1);
    // From there it happens at the first update.
    let again = Run::resume(&saved, &device, options(None, None)).unwrap().train(&mut Silent).unwrap_err().to_string();
    assert_eq!(again, error);
}

#[cfg(unix)]
#[test]
fn one_process_at_a_time_trains_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let device = Device::open("cpu").unwrap();
    let folder = d.join("run");
    into(&folder, small(), &device, Some(3));
    // What a killed process was writing when it ended.
    fs::write(folder.join("weights.safetensors.tmp4711"), "half").unwrap();
    let held = Run::resume(&folder, &device, options(None, None)).unwrap();
    assert!(!folder.join("weights.safetensors.tmp4711").exists());
    let error = Run::resume(&folder, &device, options(None, None)).err().unwrap().to_string();
    assert!(error.contains("another process is training"), "{error}");
    drop(held);
    assert!(Run::resume(&folder, &device, options(None, None)).is_ok());
}
