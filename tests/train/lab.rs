//! The experiments: each runs to its end on the CPU path with finite numbers, its page holds what it printed, the numbers repeat; bad
//! requests are refused before anything runs.

use crate::kiln;
use kiln::Device;
use kiln::lab::{self, Lab};
use serde_json::Value;
use std::fs;

#[test]
fn every_experiment_makes_tables_a_picture_and_an_answer() {
    let device = Device::open("cpu").unwrap();
    let said = std::cell::Cell::new(0);
    let say = |_: &str| said.set(said.get() + 1);
    for e in lab::all() {
        let before = said.get();
        let found = (e.run)(&Lab::new(&device, 2, 0.01, &say)).unwrap_or_else(|err| panic!("{}: {err}", e.name));
        assert!(said.get() > before, "{} says nothing", e.name);
        assert!(!found.answer.is_empty() && !found.tables.is_empty(), "{}", e.name);
        assert!(!found.plots.is_empty() || !found.maps.is_empty(), "{} has no picture", e.name);
        for t in &found.tables {
            assert!(!t.rows.is_empty() && t.rows.iter().all(|r| r.len() == t.columns.len()), "{}: {t:?}", e.name);
        }
        assert!(found.plots.iter().all(|p| p.lines.iter().all(|(_, l)| !l.is_empty())), "{}", e.name);
        let (text, page) = (found.text(), found.page(e, "here"));
        assert!(page.contains("<svg") && !page.contains("no data"), "{}", e.name);
        assert!(!text.contains("NaN") && !text.contains("inf "), "{}: {text}", e.name);
    }
}

#[test]
fn an_experiment_repeats_and_agrees_on_an_adapter() {
    let run = |device: &Device| {
        let e = lab::find("loss-surface").unwrap();
        (e.run)(&Lab::new(device, 1, 0.1, &|_| ())).unwrap()
    };
    let cpu = run(&Device::open("cpu").unwrap());
    assert_eq!(cpu.text(), run(&Device::open("cpu").unwrap()).text());
    if let Some(adapter) = crate::software() {
        let other = run(&adapter);
        for ((name, a), (_, b)) in cpu.maps[0].paths.iter().zip(&other.maps[0].paths) {
            for (i, (p, q)) in a.iter().zip(b).enumerate() {
                // No step makes a difference larger, since learning rates times curvatures stay below 2. So 30 times the rounding of a
                // gradient below 100 that adds 64 terms, times plain descent's rate; the others divide by what gradients were.
                let bound = 30.0 * (64.0 * 2f64.powi(-24) * 100.0) * 0.08;
                assert!((p.0 - q.0).abs() < bound && (p.1 - q.1).abs() < bound, "{name}, step {i}: {p:?} and {q:?}");
            }
        }
    }
}

#[test]
fn the_command_lists_runs_and_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let list = kiln(dir.path(), &["lab"]);
    let text = String::from_utf8(list.stdout).unwrap();
    assert!(list.status.success() && lab::all().iter().all(|e| text.contains(e.name)), "{text}");
    let args = ["lab", "loss-surface", "--device", "cpu", "--effort", "0.1", "--json"];
    let out = kiln(dir.path(), &args);
    let value: Value = serde_json::from_slice(&out.stdout).unwrap();
    let found = &value["experiments"][0];
    assert_eq!(found["experiment"], "loss-surface");
    let page = fs::read_to_string(dir.path().join("lab/loss-surface.html")).unwrap();
    assert!(page.contains("<svg") && found["answer"].as_str().is_some_and(|a| !a.is_empty()));
    let refused = |args: &[&str], what: &str| {
        let out = kiln(dir.path(), args);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(what), "{args:?}: {text}");
    };
    refused(&["lab", "loss-surfaces"], "is no experiment; there are loss-surface, ");
    refused(&["lab", "loss-surface", "--seeds", "0"], "--seeds");
    refused(&["lab", "loss-surface", "--seeds", "1000"], "must be 1 to 100");
    refused(&["lab", "loss-surface", "--effort", "0"], "--effort");
    refused(&["lab", "loss-surface", "--effort", "1e9"], "at most 100");
    fs::write(dir.path().join("file"), "").unwrap();
    refused(&["lab", "loss-surface", "--device", "cpu", "--out", "file"], "cannot make the folder");
    // A page that cannot be written is named, and the experiments after it run all the same.
    fs::create_dir_all(dir.path().join("taken/loss-surface.html")).unwrap();
    let names = ["loss-surface", "all-layers", "all-layers"];
    let args =
        [&["lab"], &names[..], &["--device", "cpu", "--effort", "0.01", "--seeds", "1", "--out", "taken"]].concat();
    let out = kiln(dir.path(), &args);
    let (text, errors) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(out.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("error: loss-surface: ") && text.contains("Answer: A long narrow valley"),
        "{errors}{text}"
    );
    assert_eq!(text.matches("all-layers.html").count(), 1, "{text}");
}
