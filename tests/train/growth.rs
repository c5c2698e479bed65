//! Memory of the process over two thousand updates: it does not grow.
#![cfg(target_os = "linux")]

use crate::software;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Resident memory of a process in KiB, while it runs.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Resident memory after each of the first 60 epochs of 41 updates, in KiB. The run would go on for long; it is killed then.
fn by_epoch(device: &str) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(["train", "digits-mlp", "--device", device, "--epochs", "1000000"])
        .args(["--no-report", "--progress", "json", "--out", "run"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let epochs = lines.map(Result::unwrap).filter(|l| l.contains("\"event\":\"epoch\""));
    let found = epochs.take(60).map(|_| resident(child.id()).expect("the process is running")).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    found
}

#[test]
fn two_thousand_updates_take_no_more_memory_than_five_hundred() {
    let devices = [Some("cpu"), software().map(|_| "software")];
    for device in devices.into_iter().flatten() {
        let found = by_epoch(device);
        assert_eq!(found.len(), 60, "{device}");
        let (early, late) = (found[11], found[50..].iter().min().unwrap());
        assert!(*late < early + 256, "{device}: KiB of memory by epoch: {found:?}");
    }
}
