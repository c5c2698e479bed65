//! What keys of a file do, seen from outside: accumulation, warm-up, groups, warm starts, examinations of the loss surface,
//! samples, averages; and what is said about values that cannot be.

use crate::kiln;
use kiln::HostTensor;
use kiln::train::files::{load_weights, save_weights};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Trains `run.toml` with this text; standard output.
#[track_caller]
fn train(dir: &Path, text: &str, more: &[&str]) -> String {
    fs::write(dir.join("run.toml"), text).unwrap();
    let out = kiln(dir, &[&["train", "run.toml", "--device", "cpu", "--progress", "plain"], more].concat());
    assert!(out.status.success(), "{more:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap() + &String::from_utf8_lossy(&out.stderr)
}

fn events(run: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).filter(|e| e["event"] == kind).collect()
}

fn numbers(run: &Path, key: &str) -> Vec<f64> {
    events(run, "step").iter().map(|e| e[key].as_f64().unwrap()).collect()
}

const SMALL: &str = "[train]\nepochs = 2\nbatch = 8\nshuffle = false\nKEYS\n[data]\nkind = \"digits\"\ntest = 0.9\nvalidation = 0.2\n\
                     [model]\nkind = \"mlp\"\nhidden = [16]\n[optimizer]\nkind = \"sgd\"\nlr = 0.05\nmomentum = 0.9\n";

fn small(keys: &str) -> String {
    SMALL.replace("KEYS", keys)
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    // 144 examples: four updates of 32 and one of 16, which is two pieces.
    let said = train(d, &small("accumulate = 4"), &["--out", "pieces", "--profile", "--profile-update", "3"]);
    assert!(said.contains("update 3, kernel by kernel") && said.contains("10 updates in"), "{said}");
    train(d, &small("").replace("batch = 8", "batch = 32"), &["--out", "whole"]);
    let (a, b) = (numbers(&d.join("pieces"), "loss"), numbers(&d.join("whole"), "loss"));
    assert_eq!((a.len(), b.len()), (10, 10));
    for (a, b) in a.iter().zip(&b) {
        // Sums in another order, through ten updates.
        assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{a} instead of {b}");
    }
    // The trace has the kernels of four pieces and of the update: a matmul of each piece at least.
    let trace: Value = serde_json::from_str(&fs::read_to_string(d.join("pieces/trace.json")).unwrap()).unwrap();
    let products =
        |e: &&Value| e["tid"] == 2 && e["name"].as_str().is_some_and(|n| n.contains("matmul") || n.contains("dot"));
    let found = trace["traceEvents"].as_array().unwrap().iter().filter(products).count();
    assert!(found >= 4 * 2, "{found} products");
    // A resume in the middle is that run.
    train(d, &small("accumulate = 4"), &["--out", "resumed", "--stop-after", "3"]);
    assert!(kiln(d, &["train", "--resume", "resumed", "--device", "cpu"]).status.success());
    assert_eq!(numbers(&d.join("resumed"), "loss"), a);
}

#[test]
fn the_rate_warms_up_before_the_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let text = small("warmup = 4\nwarmup_start = 0.2") + "[schedule]\nkind = \"linear\"\n";
    train(d, &text, &["--out", "run", "--no-report"]);
    let lr = numbers(&d.join("run"), "lr");
    // 36 updates: four of warm-up from 0.2 of the rate, then 32 from the rate to 0.
    assert_eq!(lr.len(), 36);
    let wanted = |t: usize| match t {
        0..4 => 0.05 * (0.2 + 0.2 * t as f64),
        t => 0.05 * (1.0 - (t - 4) as f64 / 32.0),
    };
    for (t, lr) in lr.iter().enumerate() {
        assert!((lr - wanted(t)).abs() < 1e-12, "update {t}: {lr}");
    }
}

#[test]
fn the_loss_surface_is_examined_every_few_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let text = small("critical_every = 2").replace("epochs = 2", "epochs = 5").replace("hidden = [16]", "hidden = []");
    let said = train(d, &text, &["--out", "run", "--tensorboard"]);
    assert_eq!(said.matches("minimum ratio").count(), 2, "{said}");
    let found = events(&d.join("run"), "critical");
    assert_eq!(found.iter().map(|e| e["epoch"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 4]);
    for e in &found {
        let value = |key: &str| e[key][0]["value"].as_f64().unwrap();
        // A linear classifier's loss is convex.
        assert!(value("largest") > 0.0 && value("smallest") > -1e-3 * value("largest"), "{e}");
        assert!(e["grad_norm"].as_f64().unwrap() > 0.0 && e["minimum_ratio"].is_number() && e["verdict"].is_string());
    }
    assert!(fs::read_to_string(d.join("run/report.html")).unwrap().contains("Loss surface"));
    // Looking changes nothing.
    train(d, &text.replace("critical_every = 2", ""), &["--out", "other", "--no-report"]);
    assert_eq!(numbers(&d.join("run"), "loss"), numbers(&d.join("other"), "loss"));
}

#[test]
fn parameters_are_frozen_and_scaled_by_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let groups = "[[groups]]\npattern = \"1.*\"\nfreeze = true\n[[groups]]\npattern = \"*.bias\"\nlr_scale = 0.5\n";
    let one = small("").replace("momentum = 0.9", "momentum = 0.0");
    let weights = |name: &str, groups: &str| {
        train(d, &(one.clone() + groups), &["--out", name, "--no-report", "--stop-after", "1"]);
        load_weights(&d.join(name).join("weights.safetensors")).unwrap()
    };
    // The same after no update to speak of: a rate so small that nothing moves.
    let start = weights("start", "[[groups]]\npattern = \"*\"\nlr_scale = 0.0\n");
    let (free, grouped) = (weights("free", ""), weights("grouped", groups));
    let moved = |w: &std::collections::BTreeMap<String, HostTensor>, name: &str| -> Vec<f64> {
        w[name].to_f64().iter().zip(start[name].to_f64()).map(|(a, b)| a - b).collect()
    };
    for name in ["1.weight", "1.bias"] {
        assert!(moved(&free, name).iter().any(|x| *x != 0.0), "{name} moves without groups");
        assert!(moved(&grouped, name).iter().all(|x| *x == 0.0), "{name} is frozen");
    }
    assert_eq!(grouped["3.weight"], free["3.weight"]);
    for (half, whole) in moved(&grouped, "3.bias").iter().zip(moved(&free, "3.bias")) {
        assert!((half - whole / 2.0).abs() <= 1e-7, "{half} of {whole}");
    }
    let refused = |groups: &str, word: &str| {
        fs::write(d.join("run.toml"), one.clone() + groups).unwrap();
        let out = kiln(d, &["train", "run.toml", "--device", "cpu"]);
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && error.contains(word), "{groups}: {error}");
    };
    refused("[[groups]]\npattern = \"features.*\"\nfreeze = true\n", "fits none of the parameters: 1.weight");
    refused("[[groups]]\npattern = \"*\"\nfreeze = true\n", "nothing to train");
    refused("[[groups]]\npattern = \"*\"\nlr_scale = -1.0\n", "groups.lr_scale");
}

#[test]
fn a_part_of_a_file_starts_a_run_and_the_rest_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    train(d, &small(""), &["--out", "first", "--no-report", "--stop-after", "2"]);
    let file = d.join("first/weights.safetensors");
    let mut tensors = load_weights(&file).unwrap();
    tensors.insert("extra".into(), HostTensor::scalar(1.0));
    tensors.remove("1.bias");
    save_weights(&d.join("part.safetensors"), &tensors.clone().into_iter().collect::<Vec<_>>()).unwrap();
    let text = small("init = \"part.safetensors\"").replace("hidden = [16]", "hidden = [16]\ndropout = 0.0");
    let said = train(d, &text, &["--out", "second", "--no-report", "--stop-after", "1", "--set", "optimizer.lr=1e-30"]);
    for part in ["warning: a warm start", "3 tensors taken", "left as they are: 1.bias", "not in the model: extra"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let started = load_weights(&d.join("second/weights.safetensors")).unwrap();
    assert_eq!(started["1.weight"], tensors["1.weight"]);
}

#[test]
fn texts_are_sampled_after_each_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let text: String = (0..1500).map(|i| if i % 7 == 6 { '\n' } else { (b'a' + (i * i % 11) as u8) as char }).collect();
    fs::write(d.join("text.txt"), text).unwrap();
    let toml = "[train]\nepochs = 3\nbatch = 16\n[data]\nkind = \"text\"\npath = \"text.txt\"\ncontext = 16\nsample = 12\n\
                [model]\nkind = \"gpt\"\nwidth = 16\nheads = 2\nlayers = 1\n[optimizer]\nkind = \"adamw\"\nlr = 1e-2\n\
                [regularization]\nema = 0.9\n";
    let said = train(d, toml, &["--out", "run", "--tensorboard"]);
    assert_eq!((said.matches("--- sample ---").count(), said.matches("--- sample 2 ---").count()), (2, 1), "{said}");
    let drawn = events(&d.join("run"), "samples");
    let lengths: Vec<usize> = drawn.iter().map(|e| e["texts"].as_array().unwrap().len()).collect();
    assert_eq!(lengths, [1, 1, 2]);
    assert!(drawn.iter().all(|e| e["texts"][0].as_str().unwrap().chars().count() == 12));
    let report = fs::read_to_string(d.join("run/report.html")).unwrap();
    assert_eq!(report.matches("<p class=\"muted\">after epoch").count(), 2);
    let board = fs::read_dir(d.join("run/tensorboard")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(board).unwrap();
    let tags = bytes.windows(9).filter(|w| w == b"samples/1").count();
    assert!(tags >= 3, "{tags} samples in the event file");
    // Sampling changes nothing: neither weights nor, with averages standing in for them, the way on.
    train(d, &toml.replace("sample = 12", "sample = 0"), &["--out", "silent", "--no-report"]);
    assert_eq!(numbers(&d.join("run"), "loss"), numbers(&d.join("silent"), "loss"));
}

#[test]
fn batch_sizes_are_timed_as_far_as_the_memory_goes() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let find = |more: &[&str]| {
        let args = ["train", "digits-mlp", "--device", "cpu", "--find-batch-size", "--json"];
        let out = kiln(d, &[&args[..], more].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<Value>(&out.stdout).unwrap()
    };
    let found = find(&["--set", "data.test=0.9"]);
    let points = found["points"].as_array().unwrap();
    let sizes: Vec<u64> = points.iter().map(|p| p["batch"].as_u64().unwrap()).collect();
    let of = |key: &str| -> Vec<f64> { points.iter().map(|p| p[key].as_f64().unwrap()).collect() };
    let examples = *sizes.last().unwrap();
    assert!(
        sizes.starts_with(&[8, 16, 32, 64]) && examples >= 128 && found["end"].as_str().unwrap().contains("examples")
    );
    assert!(of("bytes").windows(2).all(|w| w[1] > w[0]) && of("samples_per_second").iter().all(|r| *r > 0.0));
    assert!(sizes.contains(&found["suggestion"].as_u64().unwrap()));
    let little = find(&["--memory", "1", "--set", "data.test=0.1", "--set", "model.hidden=[256]"]);
    assert!(little["end"].as_str().unwrap().contains("more than the memory"), "{little}");
    assert!(little["points"].as_array().unwrap().iter().skip(1).all(|p| p["bytes"].as_u64().unwrap() <= 1 << 20));
    assert!(fs::read_dir(d).unwrap().next().is_none(), "no folder is made");
    let table = kiln(d, &["train", "digits-mlp", "--device", "cpu", "--find-batch-size", "--set", "data.test=0.97"]);
    let said = String::from_utf8_lossy(&table.stdout);
    assert!(said.contains("samples/s") && said.contains("suggestion: --batch"), "{said}");
}

#[test]
fn a_reader_that_goes_away_does_not_end_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for more in [&["--out", "plain"][..], &["--out", "json", "--progress", "json"]] {
        let args = ["train", "digits-mlp", "--device", "cpu", "--epochs", "2", "--batch", "256"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.args(args).args(more).current_dir(d).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{more:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(d.join(more[1]).join("result.json").exists(), "{more:?}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .arg("runs")
        .arg(".")
        .current_dir(d)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn values_that_cannot_be_are_named_with_key_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let refused = |text: &str, words: &[&str]| {
        fs::write(d.join("run.toml"), text).unwrap();
        let out = kiln(d, &["train", "run.toml", "--device", "cpu"]);
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{text}: {error}");
        words.iter().for_each(|w| assert!(error.contains(w), "{text}: no {w:?} in {error}"));
    };
    let preset = |rest: &str| format!("preset = \"digits-mlp\"\n{rest}\n");
    let layers = |list: &str| preset(&format!("[model]\nkind = \"layers\"\nlayers = [{list}]"));
    refused(&preset("[optimizer]\nlr = \"fast\""), &["run.toml", "line 3", "optimizer.lr", "expected a number"]);
    refused(&preset("[train]\nbatch = 1.5"), &["line 3", "train.batch", "a whole number of 0 or more"]);
    refused(&preset("[train]\nbatch = -3"), &["line 3", "train.batch", "-3"]);
    refused(&preset("[train]\nshuffle = \"no\""), &["line 3", "train.shuffle", "true or false"]);
    refused(&preset("[data]\nvalidation = 1.0"), &["line 3", "data.validation", "not including"]);
    refused(&preset("[data]\nvalidation = \"all\""), &["line 3", "data.validation", "expected a number"]);
    refused(&preset("[optimizer]\nkind = \"adam\"\nbetas = [0.9, 1.5]"), &["line 4", "optimizer.betas", "1.5"]);
    refused(&preset("[optimizer]\nkind = \"adam\"\nbetas = [0.9]"), &["line 4", "optimizer.betas", "list of length 2"]);
    refused(&preset("[optimizer]\nlr = -0.1"), &["line 3", "optimizer.lr", "positive"]);
    refused(&preset("[schedule]\nkind = \"cosine\"\nwarmup = 2.0"), &["line 4", "schedule.warmup", "2"]);
    refused(&preset("[train]\nwarmup = 100000"), &["train.warmup", "has 1640 in all"]);
    refused(&preset("[train]\naccumulate = 0"), &["train.accumulate"]);
    refused("preset = \"digits-cnnn\"", &["digits-cnnn", "did you mean \"digits-cnn\""]);
    refused("data = 3\n", &["a section with a kind"]);
    refused(&layers("\"flatten\", { kind = \"linear\", out = 0 }, \"linear\""), &["layer 1 (linear)", "out = 0"]);
    refused(&layers("\"flatten\", { kind = \"dropout\", p = 2.0 }, \"linear\""), &["layer 1 (dropout)", "p = 2"]);
    refused(&layers("{ kind = \"max_pool\", kernel = [2, 0] }"), &["layer 0 (max_pool)", "kernel = 0"]);
    refused(
        &layers("\"flatten\", { kind = \"linear\", name = \"a\", out = 3 }, { kind = \"linear\", name = \"a\" }"),
        &["layers 1 and 2", "\"a\""],
    );
    refused(&layers("{ kind = \"flatten\", name = 3 }"), &["layers[0]", "name of a layer"]);
    refused(&layers("{ kind = \"flatten\", name = \"a..b\" }"), &["a..b", "joined by dots"]);
    let mut saved = Command::new(env!("CARGO_BIN_EXE_kiln"));
    saved.args(["train", "digits-mlp", "--device", "cpu", "--set", "train.batch=9223372036854775807"]).current_dir(d);
    let most = ["--set", "train.accumulate=9", "--epochs", "9223372036854775807", "--stop-after", "1"];
    assert!(saved.args(most).output().unwrap().status.success());
}

/// A `.npy` file of f32.
fn npy(path: &Path, shape: &str, values: &[f32]) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    fs::write(path, out).unwrap();
}

#[test]
fn arrays_that_cannot_be_learnt_from_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let toml = "[train]\nepochs = 1\nbatch = 4\n[data]\nkind = \"npy\"\npath = \"x.npy\"\ntargets = \"y.npy\"\nclasses = 2\n\
                [model]\nkind = \"layers\"\nlayers = [\"linear\"]\n[optimizer]\nkind = \"sgd\"\nlr = 0.1\n";
    let said = |x: &[f32], y: &[f32], toml: &str| {
        npy(&d.join("x.npy"), &format!("({}, 2)", x.len() / 2), x);
        npy(&d.join("y.npy"), &format!("({},)", y.len()), y);
        fs::write(d.join("run.toml"), toml).unwrap();
        let out = kiln(d, &["train", "run.toml", "--device", "cpu", "--no-report"]);
        (out.status.code(), String::from_utf8(out.stdout).unwrap() + &String::from_utf8_lossy(&out.stderr))
    };
    let refused = |x: &[f32], y: &[f32], toml: &str, words: &[&str]| {
        let (code, text) = said(x, y, toml);
        assert_eq!(code, Some(2), "{text}");
        words.iter().for_each(|w| assert!(text.contains(w), "no {w:?} in {text}"));
    };
    let (x, y): (Vec<f32>, Vec<f32>) = ((0..20).map(|i| i as f32).collect(), (0..10).map(|i| (i % 2) as f32).collect());
    let with = |list: &[f32], at: usize, v: f32| {
        let mut list = list.to_vec();
        list[at] = v;
        list
    };
    refused(&with(&x, 7, f32::NAN), &y, toml, &["x.npy", "example 3", "NaN"]);
    refused(&x, &with(&y, 5, f32::INFINITY), toml, &["y.npy", "example 5", "inf"]);
    refused(&x, &with(&y, 5, 2.0), toml, &["y.npy", "element 5 is 2", "0 to 1"]);
    refused(&[], &[], toml, &["x.npy", "no examples"]);
    refused(&x, &y[..9], toml, &["10,2", "9"]);
    let tokens = toml.replace("[\"linear\"]", "[{ kind = \"embedding\", dim = 3, num = 20 }, \"mean\", \"linear\"]");
    refused(&with(&x, 3, 20.0), &y, &tokens, &["x.npy", "element 3 is 20", "no token from 0 to 19"]);
    refused(&with(&x, 3, 0.5), &y, &tokens, &["element 3 is 0.5", "no token"]);
    assert_eq!(said(&x, &y, &tokens).0, Some(0));
    let (code, text) = said(&x, &[1.0; 10], toml);
    assert!(code == Some(0) && text.contains("warning: all training examples are of the class \"1\""), "{text}");
}

#[test]
fn a_short_last_batch_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let toml = "[train]\nepochs = 2\nbatch = 4\nshuffle = false\nKEYS\n[data]\nkind = \"npy\"\npath = \"x.npy\"\n\
                targets = \"y.npy\"\nclasses = 2\ntest = 0.0\n[model]\nkind = \"layers\"\n\
                layers = [{ kind = \"linear\", out = 3 }, \"batch_norm\", \"linear\"]\n[optimizer]\nkind = \"sgd\"\nlr = 0.1\n";
    npy(&d.join("x.npy"), "(9, 2)", &(0..18).map(|i| (i * i % 7) as f32).collect::<Vec<_>>());
    npy(&d.join("y.npy"), "(9,)", &(0..9).map(|i| (i % 2) as f32).collect::<Vec<_>>());
    fs::write(d.join("run.toml"), toml.replace("KEYS", "")).unwrap();
    // Nine examples are two batches of four and a single example, of which batch norm knows no variance.
    let out = kiln(d, &["train", "run.toml", "--device", "cpu"]);
    let error = String::from_utf8_lossy(&out.stderr);
    for word in ["train.batch", "1 of the 9 examples", "more than one value", "drop_last"] {
        assert!(out.status.code() == Some(2) && error.contains(word), "no {word:?} in {error}");
    }
    assert!(!d.join("runs").exists(), "it is said before anything is made");
    train(d, &toml.replace("KEYS", "drop_last = true"), &["--out", "run", "--set", "regularization.swa=0.5"]);
    assert_eq!(numbers(&d.join("run"), "loss").len(), 4);
    // Other data under the same name are said when the run goes on.
    let rest = ["--stop-after", "2", "--no-report"];
    train(d, &toml.replace("KEYS", "drop_last = true"), &[&["--out", "same"], &rest[..]].concat());
    train(d, &toml.replace("KEYS", "drop_last = true"), &[&["--out", "other"], &rest[..]].concat());
    let resumed = |run: &str| {
        let out = kiln(d, &["train", "--resume", run, "--device", "cpu"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap() + &String::from_utf8_lossy(&out.stderr)
    };
    assert!(!resumed("same").contains("its data have changed"));
    npy(&d.join("x.npy"), "(9, 2)", &(0..18).map(|i| (i * i % 5) as f32).collect::<Vec<_>>());
    assert!(resumed("other").contains("its data have changed"));
}

/// The profile of an accumulated update has the kernels of all pieces, on a software adapter too.
#[test]
fn profiles_cover_accumulated_updates_on_a_software_adapter() {
    if crate::software().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    fs::write(d.join("run.toml"), small("accumulate = 2").replace("batch = 8", "batch = 24")).unwrap();
    let args = ["train", "run.toml", "--device", "software", "--profile", "--profile-update", "2", "--no-report"];
    let out = kiln(d, &[&args[..], &["--stop-after", "3", "--out", "run", "--progress", "plain"]].concat());
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("update 2, kernel by kernel"), "{said}");
    let kernels = |file: &str| {
        let trace: Value = serde_json::from_str(&fs::read_to_string(d.join(file)).unwrap()).unwrap();
        trace["traceEvents"].as_array().unwrap().iter().filter(|e| e["tid"] == 2 && e["ph"] == "X").count()
    };
    fs::write(d.join("run.toml"), small("").replace("batch = 8", "batch = 24")).unwrap();
    let out = kiln(d, &[&args[..], &["--stop-after", "3", "--out", "whole"]].concat());
    assert!(out.status.success());
    let (pieces, whole) = (kernels("run/trace.json"), kernels("whole/trace.json"));
    assert!(pieces > whole && whole > 5, "{pieces} launches in two pieces, {whole} in one");
}
