//! `kiln critical`: what it says of the end of a run, and the step off it.

use crate::kiln;
use kiln::HostTensor;
use kiln::train::files::load_weights;
use std::path::Path;
use std::process::Output;

fn json(out: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{}", String::from_utf8_lossy(&out.stderr)))
}

/// A run of a small model, stopped early: its loss surface has negative curvature there.
fn trained(dir: &Path) {
    let size = "model.hidden=[4]";
    let args = ["train", "digits-mlp", "--device", "cpu", "--epochs", "1", "--set", size, "--out", "run"];
    let out = kiln(dir, &args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_point_is_examined_and_left() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path());
    let args = ["critical", "run", "--device", "cpu", "--examples", "64", "--json"];
    let point = json(&kiln(dir.path(), &[&args[..], &["--escape", "moved.safetensors"]].concat()));
    let number = |v: &serde_json::Value| v.as_f64().unwrap();
    let (lowest, highest) = (number(&point["smallest"][0]["value"]), number(&point["largest"][0]["value"]));
    assert!(lowest < 0.0 && highest > 0.0, "{point}");
    assert!((0.0..=1.0).contains(&number(&point["minimum_ratio"])), "{point}");
    assert_eq!(point["verdict"], "slope", "one epoch is no critical point: {point}");
    let (before, after) = (number(&point["escape"]["before"]), number(&point["escape"]["after"]));
    assert!(after < before && before == number(&point["loss"]), "{point}");
    // The file holds the moved weights: the same examples have the lower loss there, and the run has its own still.
    let moved = json(&kiln(dir.path(), &[&args[..], &["--weights", "moved.safetensors"]].concat()));
    assert!((number(&moved["loss"]) - after).abs() <= 1e-5 * after, "{moved} after {after}");
    let same =
        |file: &str| -> Vec<HostTensor> { load_weights(&dir.path().join(file)).unwrap().into_values().collect() };
    assert_ne!(same("moved.safetensors"), same("run/weights.safetensors"));
    assert_eq!(number(&json(&kiln(dir.path(), &args))["loss"]), before);
}

#[test]
fn what_cannot_be_examined_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let says = |args: &[&str], words: &str| {
        let out = kiln(dir.path(), args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && text.contains(words), "{args:?}: {text}");
    };
    says(&["critical", "nowhere"], "nowhere");
    says(&["critical", "nowhere", "--examples", "0"], "must be at least 1");
}
