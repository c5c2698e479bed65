//! Bad input to the command: exit code 2, one message that says what, where and what to do, nothing half-written, no panic.

use crate::kiln;
use std::fs;
use std::path::{Path, PathBuf};

/// Runs the command, which must fail with code 2, a message that contains all of `words`, and no new file in `dir`.
#[track_caller]
fn refused(dir: &Path, args: &[&str], words: &[&str]) {
    let before = tree(dir);
    let out = kiln(dir, args);
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {error}");
    assert!(!error.contains("panicked"), "{args:?}: {error}");
    for word in words {
        assert!(error.contains(word), "{args:?}: no {word:?} in {error}");
    }
    assert_eq!(tree(dir), before, "{args:?}: files changed");
}

/// All files below a folder with their lengths.
fn tree(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(d) = open.pop() {
        for entry in fs::read_dir(d).unwrap().flatten() {
            let path = entry.path();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                open.push(path.clone());
            }
            found.push((path, if meta.is_file() { meta.len() } else { 0 }));
        }
    }
    found.sort();
    found
}

/// A finished small run in `dir`/run.
fn trained(dir: &Path) -> PathBuf {
    let args = ["train", "digits-mlp", "--device", "cpu", "--epochs", "1", "--batch", "512", "--out", "run"];
    let out = kiln(dir, &args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    dir.join("run")
}

#[test]
fn presets_keys_and_toml() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    refused(d, &["train", "digits-rnn"], &["digits-rnn", "digits-cnn", "chars-gpt", "TOML"]);
    refused(d, &["train", "missing.toml"], &["missing.toml", "cannot read"]);
    let write = |text: &str| fs::write(d.join("run.toml"), text).unwrap();
    write("preset = \"digits-cnn\"\nepoch = 3\n");
    refused(d, &["train", "run.toml"], &["run.toml", "`epoch`", "`epochs`"]);
    write("preset = \"digits-cnn\"\n[model]\nkind = \"cnn\"\nstage = 3\n");
    refused(d, &["train", "run.toml"], &["run.toml", "`stage`", "`stages`"]);
    write("preset = \"digits-cnn\"\nbatch = [\n");
    refused(d, &["train", "run.toml"], &["run.toml", "line", "TOML"]);
    write("preset = \"digits-cnn\"\n[model]\nstages = [[4], [4], [4], [4], [4]]\n");
    refused(d, &["train", "run.toml", "--device", "cpu"], &["stages", "fewer"]);
    refused(d, &["train", "--set", "optimizer.lr=-1"], &["optimizer.lr", "positive"]);
    refused(d, &["train", "--set", "batch"], &["--set", "KEY=VALUE"]);
    refused(d, &["train", "--seeds", "9-0"], &["--seeds", "0-9"]);
    refused(d, &["frobnicate"], &["frobnicate"]);
}

#[test]
fn devices() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["train"][..], &["bench"], &["devices"]] {
        let args = [command, &["--device", "Voodoo 3"]].concat();
        refused(dir.path(), &args, &["Voodoo 3", "adapter"]);
    }
}

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, dims.len() as u8];
    out.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    out.extend(data);
    out
}

/// A folder with MNIST's file names: 20 training and 10 test images of 4x4 pixels.
fn mnist(d: &Path) {
    for (stem, n) in [("train", 20u32), ("t10k", 10)] {
        let pixels: Vec<u8> = (0..n * 16).map(|i| (i * 37 % 256) as u8).collect();
        fs::write(d.join(format!("{stem}-images-idx3-ubyte")), idx(&[n, 4, 4], &pixels)).unwrap();
        let labels: Vec<u8> = (0..n).map(|i| (i % 10) as u8).collect();
        fs::write(d.join(format!("{stem}-labels-idx1-ubyte")), idx(&[n], &labels)).unwrap();
    }
}

#[test]
fn data_files() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let train = ["train", "mnist-cnn", "--device", "cpu", "--epochs", "1", "--data", "."];
    refused(d, &["train", "mnist-cnn"], &["--data", "IDX"]);
    refused(d, &["train", "mnist-cnn", "--data", "nowhere"], &["nowhere", "not a folder"]);
    refused(d, &train, &["train-images-idx3-ubyte", "MNIST"]);
    mnist(d);
    let images = d.join("train-images-idx3-ubyte");
    let whole = fs::read(&images).unwrap();
    fs::write(&images, &whole[..100]).unwrap();
    refused(d, &train, &["train-images-idx3-ubyte", "truncated"]);
    fs::write(&images, [b"PK", &whole[2..]].concat()).unwrap();
    refused(d, &train, &["train-images-idx3-ubyte", "magic"]);
    fs::write(&images, &whole).unwrap();
    let labels = d.join("train-labels-idx1-ubyte");
    let good = fs::read(&labels).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() = 10;
    fs::write(&labels, &bad).unwrap();
    refused(d, &train, &["label 10", "example 19", "10 classes"]);
    fs::write(&labels, idx(&[3], &[1, 2, 3])).unwrap();
    refused(d, &train, &["20 images", "[3]"]);
    fs::write(&labels, &good).unwrap();
    let ok = kiln(d, &[&train[..], &["--out", "run"]].concat());
    assert!(ok.status.success(), "{}", String::from_utf8_lossy(&ok.stderr));
    refused(d, &["train", "chars-gpt", "--data", "none.txt"], &["none.txt", "cannot read"]);
    fs::write(d.join("short.txt"), "too short").unwrap();
    refused(d, &["train", "chars-gpt", "--data", "short.txt"], &["too few", "context"]);
    fs::write(d.join("binary.txt"), [0xFF, 0xFE, 0x00]).unwrap();
    refused(d, &["train", "chars-gpt", "--data", "binary.txt"], &["binary.txt", "UTF-8"]);
}

#[test]
fn runs_and_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let run = trained(d);
    refused(d, &["train", "digits-mlp", "--device", "cpu", "--out", "run"], &["run", "exists", "--resume"]);
    refused(d, &["train", "--device", "cpu", "--resume", "run"], &["finished"]);
    refused(d, &["eval", "nowhere", "--device", "cpu"], &["nowhere", "config.toml"]);
    let eval = ["eval", "run", "--device", "cpu"];
    assert!(kiln(d, &eval).status.success());
    // A checkpoint of another model: a tensor of another shape, then one too few.
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    fs::write(run.join("config.toml"), config.replace("hidden = [64]", "hidden = [32]")).unwrap();
    refused(d, &eval, &["weights.safetensors", "1.weight", "another model"]);
    fs::write(run.join("config.toml"), config.replace("hidden = [64]", "hidden = [64, 64]")).unwrap();
    refused(d, &eval, &["weights.safetensors", "another model"]);
    fs::write(run.join("config.toml"), &config).unwrap();
    // Corrupt files: the checkpoint has the same weights, and is taken with a warning.
    let weights = run.join("weights.safetensors");
    let whole = fs::read(&weights).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"{}", b""] {
        fs::write(&weights, bytes).unwrap();
        let out = kiln(d, &eval);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.contains("weights.safetensors") && said.contains("step-"), "{said}");
    }
    let file = ["eval", "run", "--device", "cpu", "--weights"];
    refused(d, &[&file[..], &["run/weights.safetensors"]].concat(), &["weights.safetensors", "safetensors"]);
    refused(d, &[&file[..], &["missing.safetensors"]].concat(), &["missing.safetensors", "cannot read"]);
    assert!(kiln(d, &[&file[..], &["best"]].concat()).status.success());
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    refused(d, &eval, &["weights.safetensors", "safetensors"]);
    fs::remove_file(&weights).unwrap();
    refused(d, &eval, &["weights.safetensors", "cannot read"]);
    // A run of a later kiln.
    fs::write(run.join("run.json"), "{\"format\": 99, \"kiln\": \"9.0.0\"}").unwrap();
    refused(d, &eval, &["format 99", "9.0.0", "newer kiln"]);
}

#[test]
fn inputs_of_predict() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    trained(d);
    let predict = |input: &str, words: &[&str]| refused(d, &["predict", "run", input, "--device", "cpu"], words);
    predict("100000", &["example 100000", "359"]);
    predict("no-such-file", &["no-such-file", "cannot read"]);
    fs::write(d.join("small.txt"), "1 2 3").unwrap();
    predict("small.txt", &["small.txt", "3 numbers", "8x8"]);
    fs::write(d.join("words.txt"), "one two").unwrap();
    predict("words.txt", &["\"one\"", "not a number"]);
    fs::write(d.join("x.npy"), b"\x93NUMPY\x01\x00\x10").unwrap();
    predict("x.npy", &["x.npy", "truncated"]);
    fs::write(d.join("ok.txt"), vec!["8"; 64].join(" ")).unwrap();
    for input in ["0", "ok.txt"] {
        let out = kiln(d, &["predict", "run", input, "--device", "cpu", "--json"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let p = value["predictions"][0]["probabilities"].as_array().unwrap();
        let sum: f64 = p.iter().map(|v| v.as_f64().unwrap()).sum();
        assert!(p.len() == 10 && (sum - 1.0).abs() < 1e-9, "{value}");
    }
}
