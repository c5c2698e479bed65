//! PyTorch's loss curves through `kiln train FILE.toml`: weights that PyTorch wrote, data in the order of their files, the
//! losses in `metrics.jsonl` and the weights in the run's folder. The files are in `tests/data/torch/runs`, made by
//! PyTorch (`tests/data/torch/make.py`). And the other way: PyTorch loads what the command wrote.

use kiln::train::files::{load_weights, save_weights};
use kiln::train::folder::RunFolder;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NETS: [&str; 4] = ["mlp", "cnn", "lstm", "encoder"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch/runs").join(name)
}

fn kiln(dir: &Path, args: &[&str]) -> Output {
    let out = crate::kiln(dir, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// Trains the run of this network into the folder `net` of `dir`.
fn train(dir: &Path, net: &str, more: &[&str]) -> PathBuf {
    let toml = file(&format!("{net}.toml"));
    let args = ["train", toml.to_str().unwrap(), "--device", "cpu", "--out", net, "--progress", "quiet"];
    kiln(dir, &[&args[..], more].concat());
    dir.join(net)
}

/// Name, type, shape and bytes of each tensor of a file.
fn raw(path: &Path) -> BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(n, v)| (n, (v.dtype(), v.shape().to_vec(), v.data().to_vec()))).collect()
}

/// What torch must find to take a file: names, types and shapes.
fn header(path: &Path) -> BTreeMap<String, (safetensors::Dtype, Vec<usize>)> {
    raw(path).into_iter().map(|(name, (dtype, shape, _))| (name, (dtype, shape))).collect()
}

/// Root of the sum of squares of all differences of floats between two files.
fn distance(a: &Path, b: &Path) -> f64 {
    let (a, b) = (load_weights(a).unwrap(), load_weights(b).unwrap());
    assert!(a.keys().eq(b.keys()), "{:?} and {:?}", a.keys(), b.keys());
    let floats = a.iter().filter(|(_, t)| t.dtype().is_float());
    floats
        .flat_map(|(n, t)| t.to_f64().into_iter().zip(b[n].to_f64()))
        .map(|(x, y)| (x - y).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[test]
fn runs_of_the_command_follow_torch() {
    let dir = tempfile::tempdir().unwrap();
    for net in NETS {
        let run = train(dir.path(), net, &[]);
        let theirs: Vec<f64> = fs::read_to_string(file(&format!("{net}.losses.txt")))
            .unwrap()
            .lines()
            .map(|l| l.parse().unwrap())
            .collect();
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let events: Vec<Value> = metrics.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let ours: Vec<f64> =
            events.iter().filter(|e| e["event"] == "step").map(|e| e["loss"].as_f64().unwrap()).collect();
        assert_eq!((ours.len(), theirs.len()), (50, 50), "{net}");
        assert!(theirs[49] <= 0.7 * theirs[0], "{net}: the loss falls by 30 %");
        let errors: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b).collect();
        // Each by itself: a maximum would pass over NaN.
        assert!(errors.iter().all(|&e| e <= 1e-4), "{net}: losses differ by {errors:?}");
        let worst = errors.iter().copied().fold(0.0, f64::max);
        let (weights, start, end) = (
            run.join("weights.safetensors"),
            file(&format!("{net}.start.safetensors")),
            file(&format!("{net}.end.safetensors")),
        );
        assert_eq!(header(&weights), header(&end), "{net}: names, types and shapes are torch's");
        let (error, update) = (distance(&weights, &end), distance(&start, &end));
        assert!(error <= 1e-3 * update, "{net}: {error:.2e} away from torch's end, after an update of {update:.2e}");
        // No part is kept for a test, so that none is measured, and the run is finished all the same.
        assert!(RunFolder::result(&run).unwrap()["test"].is_null());
        // What is measured and predicted then is what there is.
        let said = |args: &[&str]| {
            let out = kiln(dir.path(), &[args, &["--device", "cpu", "--json"]].concat());
            serde_json::from_slice::<Value>(&out.stdout).unwrap()
        };
        assert_eq!(said(&["eval", net])["part"], "train");
        assert!(!said(&["predict", net, "74"]).is_null());
        let inputs = file(&if net == "mlp" { "mlp.csv".to_string() } else { format!("{net}.x.npy") });
        let all = said(&["predict", net, inputs.to_str().unwrap()]);
        assert_eq!(all["predictions"].as_array().unwrap().len(), 75, "{net}");
        println!("{net}: losses to {worst:.1e}, weights to {:.1e} of the update", error / update);
        if net == "cnn" {
            let counted = |path: &Path| raw(path).remove("1.num_batches_tracked").unwrap();
            assert_eq!(counted(&weights), counted(&end), "batches are counted, in 64 bits");
        }
    }
}

#[test]
fn written_again_weights_are_the_bytes_of_torch() {
    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again.safetensors");
    for net in NETS {
        for end in ["start", "end"] {
            let path = file(&format!("{net}.{end}.safetensors"));
            let tensors: Vec<_> = load_weights(&path).unwrap().into_iter().collect();
            save_weights(&again, &tensors).unwrap();
            assert!(raw(&again) == raw(&path), "{net}.{end}");
        }
    }
}

/// The mean of the last 25 weights with batch norm's statistics made anew is that of torch's `AveragedModel` and
/// `update_bn`.
#[test]
fn averaged_weights_get_their_own_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let run = train(dir.path(), "cnn", &["--set", "regularization.swa=0.5"]);
    let (weights, theirs) = (run.join("weights.safetensors"), file("cnn.swa.safetensors"));
    assert_eq!(header(&weights), header(&theirs));
    let update = distance(&file("cnn.start.safetensors"), &theirs);
    let error = distance(&weights, &theirs);
    assert!(error <= 1e-3 * update, "{error:.2e} away from torch's average, after an update of {update:.2e}");
    // Those of training are far from it: the mean was not their network.
    let last = kiln::train::checkpoint::newest(&run).unwrap().unwrap().0;
    let (ours, renewed) = (&last.weights["1.running_mean"], &load_weights(&weights).unwrap()["1.running_mean"]);
    let moved: f64 = ours.to_f64().iter().zip(renewed.to_f64()).map(|(a, b)| (a - b).abs()).sum();
    assert!(moved > 1e-3 * update, "{moved:.2e}");
    assert_eq!(raw(&weights)["1.num_batches_tracked"].2, 5i64.to_le_bytes());
}

/// `tests/data/torch/runs/NET.kiln.safetensors` was written by the command, and torch loaded it strictly and computed
/// `NET.kiln.outputs.npy` with it: kiln gives these outputs too, and writes the file as it was.
#[test]
fn torch_computed_the_same_with_what_kiln_wrote() {
    let dir = tempfile::tempdir().unwrap();
    for net in NETS {
        let weights = file(&format!("{net}.kiln.safetensors"));
        let run = train(dir.path(), net, &["--stop-after", "1"]);
        assert_eq!(
            header(&run.join("weights.safetensors")),
            header(&weights),
            "{net}: what torch took is what is written"
        );
        same_outputs(dir.path(), net, &weights, &file(&format!("{net}.kiln.outputs.npy")));
    }
}

/// Compares kiln's outputs for the examples of a run with those in a file.
fn same_outputs(dir: &Path, net: &str, weights: &Path, outputs: &Path) {
    use kiln::backend::Device;
    use kiln::train::run::{WeightsOf, open};
    let device = Device::open("cpu").unwrap();
    let which = WeightsOf::File(weights.to_path_buf());
    let mut opened = open(&dir.join(net), &device, &which).unwrap();
    let part = &opened.task.train;
    let mut batch = part.data.batch(&part.indices, None).unwrap();
    batch.pop();
    let ours = opened.trainer.predict_all(&batch).unwrap();
    let theirs = kiln::data::npy::parse(&fs::read(outputs).unwrap(), "outputs").unwrap();
    assert_eq!(ours.shape, theirs.shape, "{net}");
    // One forward pass: a few hundred roundings of sums of numbers near 1.
    for (a, b) in ours.to_f64().into_iter().zip(theirs.to_f64()) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{net}: output {a} instead of {b}");
    }
}

/// Where there is a Python with torch (`python3`, or the program in the variable PYTHON), it loads what kiln has just
/// written and computes the same. Elsewhere this says so and checks nothing; the test above compares with what torch
/// computed when its files were made.
#[test]
fn torch_loads_what_kiln_writes() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = Command::new(&python).args(["-c", "import numpy, safetensors.torch, torch"]).output();
    if !probe.is_ok_and(|o| o.status.success()) {
        eprintln!("not run: {python} has no torch");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch/make.py");
    let dir = tempfile::tempdir().unwrap();
    for net in NETS {
        let weights = train(dir.path(), net, &[]).join("weights.safetensors");
        let out = Command::new(&python).arg(&script).arg(&weights).arg(net).output().unwrap();
        let (said, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.contains("All keys matched"), "{net}: {said}{error}");
        same_outputs(dir.path(), net, &weights, &weights.with_file_name("weights.safetensors.outputs.npy"));
    }
}
