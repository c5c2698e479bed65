//! What a run shows and leaves behind for people: lines without escape codes, JSON lines, events, a report, a list, a trace.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// Runs the command, which must succeed; its standard output and error.
#[track_caller]
fn kiln(dir: &Path, args: &[&str]) -> (String, String) {
    let out = crate::kiln(dir, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (said, error) = (text(out.stdout), text(out.stderr));
    assert!(out.status.success(), "{args:?}: {error}");
    assert!(!said.contains('\u{1b}') && !error.contains('\u{1b}'), "{args:?}: escape codes in a pipe: {said}{error}");
    (said, error)
}

const TRAIN: [&str; 8] = ["train", "digits-mlp", "--device", "cpu", "--epochs", "2", "--batch", "256"];

#[test]
fn a_run_is_watched_reported_listed_and_diagnosed() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let more = ["--out", "runs/a", "--tensorboard", "--profile", "--profile-update", "4"];
    let (said, _) = kiln(d, &[&TRAIN[..], &more].concat());
    for part in ["epoch 2/2", "report:", "events:", "trace:", "launches", "cross_entropy"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let report = fs::read_to_string(d.join("runs/a/report.html")).unwrap();
    for part in ["Confusion matrix", "Worst examples", "data:image/png", "<polyline", "test accuracy", "hidden = [64]"]
    {
        assert!(report.contains(part), "no {part:?} in the report");
    }
    let trace: Value = serde_json::from_str(&fs::read_to_string(d.join("runs/a/trace.json")).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().len() > 5);
    let events: Vec<_> = fs::read_dir(d.join("runs/a/tensorboard")).unwrap().collect();
    assert_eq!(events.len(), 1);

    // JSON lines, each whole, and nothing else.
    let (said, _) =
        kiln(d, &[&TRAIN[..], &["--out", "runs/b", "--seed", "3", "--progress", "json", "--no-report"]].concat());
    let lines: Vec<Value> = said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|l| l["event"].as_str().unwrap()).filter(|k| *k != "step").collect();
    assert_eq!(kinds, ["start", "epoch", "epoch", "test", "end"]);
    assert!(!d.join("runs/b/report.html").exists());
    let (said, error) = kiln(d, &[&TRAIN[..], &["--out", "runs/c", "--lr", "0.01", "--progress", "quiet"]].concat());
    assert!(!said.contains("epoch 1/2") && said.contains("test accuracy") && error.is_empty(), "{said}{error}");

    let (said, _) = kiln(d, &["runs"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 4 && lines[0].contains("optimizer.lr") && lines[0].contains("seed"), "{said}");
    assert!(lines[1].starts_with("a    finished") && lines[3].contains("0.01"), "{said}");
    let (said, _) = kiln(d, &["runs", "runs", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap().as_array().unwrap().len(), 3);
    fs::remove_file(d.join("runs/b/result.json")).unwrap();
    let (said, _) = kiln(d, &["report", "runs/b", "--device", "cpu"]);
    assert!(said.trim().ends_with("report.html") && d.join("runs/b/report.html").exists());

    let (said, _) = kiln(d, &["diagnose", "runs/a", "--device", "cpu", "--baseline", "--baseline-epochs", "2"]);
    for part in ["logistic regression", "support vector", "because", "try"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn texts_are_continued_with_and_without_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let text: String = (0..3000).map(|i| if i % 7 == 6 { '\n' } else { (b'a' + (i * i % 11) as u8) as char }).collect();
    fs::write(d.join("text.txt"), text).unwrap();
    let keys = ["model.width=16", "model.heads=2", "model.layers=1", "data.context=16", "data.sample=5"];
    let mut args = vec!["train", "chars-gpt", "--data", "text.txt", "--device", "cpu", "--epochs", "1", "--out", "run"];
    keys.iter().for_each(|k| args.extend(["--set", k]));
    let (said, _) = kiln(d, &args);
    assert!(said.contains("sample 1"), "{said}");
    let predict = ["predict", "run", "abd", "--device", "cpu", "--length", "30", "--top-k", "5", "--top-p", "0.9"];
    let (cached, error) = kiln(d, &predict);
    assert!(error.contains("tokens/s") && error.contains("14 from the cache"), "{error}");
    assert_eq!(kiln(d, &[&predict[..], &["--no-cache"]].concat()).0, cached);
    let (json, _) = kiln(d, &[&predict[..], &["--json", "--stop", "\\n"]].concat());
    let value: Value = serde_json::from_str(&json).unwrap();
    assert!(!value["text"].as_str().unwrap().contains('\n') && value["tokens"].as_u64().unwrap() > 0, "{value}");
    let report = fs::read_to_string(d.join("run/report.html")).unwrap();
    assert!(report.contains("Samples") && report.contains("<blockquote>"));
}
