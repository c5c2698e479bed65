//! The example configurations, dry runs, printed configurations, folds, and what is said about mistakes in a file.

use crate::{kiln, options};
use kiln::backend::Device;
use kiln::train::config::{Draft, PRESETS};
use kiln::train::inspect::inspect;
use kiln::train::run::{Run, Silent};
use kiln::train::{RunConfig, RunOptions, Summary, Task};
use std::fs;
use std::path::{Path, PathBuf};

fn example(name: &str, keys: &[(&str, &str)]) -> RunConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/runs").join(name);
    let mut draft = Draft::file(&path).unwrap();
    keys.iter().for_each(|(k, v)| draft.set(k, v).unwrap());
    draft.finish().unwrap()
}

fn train(config: RunConfig, stop_after: Option<u64>) -> Summary {
    let options = RunOptions { keep: false, ..options(None, stop_after) };
    Run::new(config, &Device::open("cpu").unwrap(), options).unwrap().train(&mut Silent).unwrap()
}

#[test]
fn every_example_builds_and_takes_steps() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/runs");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5);
    for path in files {
        let config = Draft::file(&path).and_then(Draft::finish).unwrap();
        let table = inspect(&config, &Task::open(&config).unwrap()).unwrap();
        let (layers, flops) = (table.layers.len(), table.flops);
        assert!(layers > 1 && flops > 0 && table.parameters > 0, "{path:?}");
        let inside: usize = table.layers.iter().map(|l| l.parameters).sum();
        assert!(inside <= table.parameters, "{path:?}: no parameter counts twice");
        let summary = train(RunConfig { batch: config.batch.min(8), ..config }, Some(2));
        assert!(summary.train.loss().is_nan() || summary.train.loss().is_finite());
        assert_eq!((summary.position.step, summary.skipped), (2, 0), "{path:?}");
    }
}

#[test]
fn a_table_is_learnt() {
    let summary = train(example("penguins.toml", &[("train.epochs", "30")]), None);
    let accuracy = summary.test.unwrap().accuracy();
    assert!(accuracy >= 0.9, "penguins of the test part: {accuracy}");
}

#[test]
fn the_layer_table_counts_parameters_and_operations() {
    let config = example("digits-layers.toml", &[]);
    let table = inspect(&config, &Task::open(&config).unwrap()).unwrap();
    let first = &table.layers[0];
    assert_eq!((first.path.as_str(), first.kind.as_str()), ("0", "conv"));
    assert_eq!(first.output.shape.0, [32, 16, 8, 8]);
    // 16 filters of 3x3 on one channel, at 32 x 8x8 places; a multiply and an add each.
    assert_eq!((first.parameters, first.flops), (16 * 9, 2 * 32 * 64 * 16 * 9));
    let all: usize = table.layers.iter().map(|l| l.parameters).sum();
    assert_eq!(all, table.parameters);
}

#[test]
fn dry_runs_print_the_table_and_shape_errors_name_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let out = kiln(d, &["train", "digits-cnn", "--dry-run", "--device", "cpu"]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for word in ["features.0", "f32[32,16,8,8]", "parameters", "MFLOP", "optimizer", "MiB", "train 1,294"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert!(fs::read_dir(d).unwrap().next().is_none(), "nothing is written");
    let refused = |layers: &str, words: &[&str]| {
        let head = "preset = \"digits-cnn\"\n[model]\nkind = \"layers\"\n";
        fs::write(d.join("run.toml"), format!("{head}layers = [{layers}]\n")).unwrap();
        let out = kiln(d, &["train", "run.toml", "--dry-run", "--device", "cpu"]);
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{layers}: {error}");
        words.iter().for_each(|w| assert!(error.contains(w), "{layers}: no {w:?} in {error}"));
    };
    refused("\"flatten\", { kind = \"conv\", out = 4 }, \"linear\"", &["layer 1 (conv)", "images", "[32,64]"]);
    refused("{ kind = \"residual\", layers = [{ kind = \"conv\", out = 4 }] }", &["layer 0", "residual", "shortcut"]);
    refused("\"flatten\", { kind = \"linear\", out = 7 }", &["[32,7]", "10 classes", "f32[32, 10]"]);
    refused("\"flatten\", { kind = \"linear\", outs = 7 }", &["run.toml", "line 4", "layers[1]", "did you mean `out`"]);
    refused("\"flaten\"", &["layers[0]", "`flaten`", "did you mean `flatten`"]);
    refused("\"linear\"", &["8", "10 classes"]);
}

#[test]
fn printed_configurations_train_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for (name, _) in PRESETS {
        let out = kiln(d, &["train", name, "--print-config"]);
        assert!(out.status.success());
        let text = String::from_utf8(out.stdout).unwrap();
        let config = Draft::text(&text, "printed".into()).unwrap().finish().unwrap();
        assert_eq!(config, Draft::open(name).unwrap().finish().unwrap());
        assert!(text.contains("# Passes over the training part.\nepochs = ") && text.contains("label_smoothing"));
    }
    let text = kiln(d, &["train", "digits-mlp", "--print-config"]).stdout;
    fs::write(d.join("mine.toml"), text).unwrap();
    let args = ["train", "mine.toml", "--device", "cpu", "--set", "train.epochs=1", "--set", "train.batch=512"];
    let out = kiln(d, &[&args[..], &["--out", "run"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(fs::read_to_string(d.join("run/config.toml")).unwrap().contains("[train]"));
}

#[test]
fn mistakes_are_answered_with_the_nearest_name() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let refused = |text: &str, words: &[&str]| {
        fs::write(d.join("run.toml"), format!("preset = \"digits-cnn\"\n{text}")).unwrap();
        let out = kiln(d, &["train", "run.toml", "--device", "cpu"]);
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{text}: {error}");
        words.iter().for_each(|w| assert!(error.contains(w), "{text}: no {w:?} in {error}"));
    };
    refused("[train]\nepoch = 3\n", &["run.toml", "line 3", "`epoch`", "did you mean `epochs`"]);
    refused("[optimiser]\nlr = 3\n", &["`optimiser`", "did you mean `optimizer`"]);
    refused("[data]\nvalidaton = 0.1\n", &["line 3", "data", "did you mean `validation`"]);
    refused("[optimizer]\nkind = \"adamm\"\n", &["line 3", "optimizer", "`adamm`", "did you mean `adam"]);
    refused("[optimizer]\nkind = \"sgd\"\nlr = 0.1\nmomentun = 1\n", &["line 5", "did you mean `momentum`"]);
    refused("[loss]\nkind = \"hinge\"\nmargins = 1\n", &["line 4", "loss", "did you mean `margin`"]);
    refused("[regularization]\nema = 1.5\n", &["line 3", "regularization.ema", "1.5"]);
    refused("[augment]\nflip_horizontal = 2\n", &["augment.flip_horizontal", "probability"]);
    refused("[loss]\nkind = \"cross_entropy\"\nclass_weights = [1.0]\n", &["loss.class_weights", "10 weights"]);
    refused("[[groups]]\npattern = \"*.bias\"\nweight_decai = 1\n", &["groups", "did you mean `weight_decay`"]);
    refused("epochs = 2\n[train]\nepochs = 3\n", &["`epochs`", "twice"]);
}

#[test]
fn folds_hold_every_example_out_once() {
    let config = |fold| RunConfig { fold: Some((fold, 4)), ..example("penguins.toml", &[]) };
    let tasks: Vec<Task> = (0..4).map(|k| Task::open(&config(k)).unwrap()).collect();
    let mut held: Vec<usize> = tasks.iter().flat_map(|t| t.validation.indices.clone()).collect();
    held.sort_unstable();
    let mut rest = [tasks[0].train.indices.clone(), tasks[0].validation.indices.clone()].concat();
    rest.sort_unstable();
    assert_eq!(held, rest);
    assert!(tasks.iter().all(|t| t.test.indices == tasks[0].test.indices));
    let dir = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/runs/penguins.toml");
    let file = file.to_str().unwrap();
    let args = ["train", file, "--folds", "3", "--set", "train.epochs=3", "--device", "cpu", "--json"];
    let out = kiln(dir.path(), &args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let folds = value["folds"].as_array().unwrap();
    assert_eq!(folds.len(), 3);
    assert!(folds.iter().all(|f| f["curve"].as_array().unwrap().len() == 3));
    let mean: f64 = folds.iter().map(|f| f["validation"]["accuracy"].as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!((value["accuracy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
}

#[test]
fn background_threads_do_not_change_the_numbers() {
    let with = |workers: &str| {
        let keys =
            [("train.workers", workers), ("train.epochs", "2"), ("augment.mixup", "0.3"), ("augment.noise", "0.1")];
        train(example("digits-layers.toml", &keys), Some(12)).train
    };
    let (none, three) = (with("0"), with("3"));
    assert_eq!((none.loss_sum.to_bits(), none.count), (three.loss_sum.to_bits(), three.count));
}
