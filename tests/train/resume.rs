//! A run that was stopped and resumed is the run that was never stopped, bit by bit: state, weights and metrics.

use crate::{config, into, options, small_cnn, software};
use kiln::backend::Device;
use kiln::train::RunConfig;
use kiln::train::checkpoint::{self, load_weights};
use kiln::train::run::{Run, Start, Watch};
use std::fs;
use std::path::Path;

/// Everything that a finished run left, but for the configuration and the times.
pub fn contents(folder: &Path) -> (Vec<(String, Vec<u8>)>, String, String) {
    let (loaded, problems) = checkpoint::newest(folder).unwrap().unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let weights = load_weights(&folder.join("weights.safetensors")).unwrap();
    assert_eq!(weights, loaded.for_use().into_iter().collect(), "weights are those of the checkpoint");
    let best = loaded.state.best.unwrap();
    let kept = checkpoint::load(&folder.join("checkpoints").join(checkpoint::name(best.step))).unwrap();
    let best = load_weights(&folder.join("best.safetensors")).unwrap();
    assert_eq!(best, kept.for_use().into_iter().collect(), "the best weights are kept");
    let mut bits: Vec<(String, Vec<u8>)> =
        kept.weights.iter().map(|(n, t)| (format!("best.{n}"), t.as_bytes().to_vec())).collect();
    bits.extend(loaded.weights.iter().chain(&loaded.optimizer).map(|(n, t)| (n.clone(), t.as_bytes().to_vec())));
    (bits, format!("{:?}", loaded.state), fs::read_to_string(folder.join("metrics.jsonl")).unwrap())
}

fn resume(folder: &Path, device: &Device, stop_after: Option<u64>) -> Vec<String> {
    struct Warnings(Vec<String>);
    impl Watch for Warnings {
        fn start(&mut self, s: &Start) {
            self.0 = s.warnings.clone();
        }
    }
    let mut watch = Warnings(Vec::new());
    Run::resume(folder, device, options(None, stop_after)).unwrap().train(&mut watch).unwrap();
    watch.0
}

#[track_caller]
pub fn same(straight: &Path, stopped: &Path) {
    let (a, b) = (contents(straight), contents(stopped));
    assert_eq!(a.1, b.1, "the state differs");
    assert_eq!(a.2, b.2, "the metrics differ");
    let names = |x: &[(String, Vec<u8>)]| x.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a.0), names(&b.0));
    for ((name, x), (_, y)) in a.0.iter().zip(&b.0) {
        assert!(x == y, "{name} differs");
    }
    let steps = a.2.lines().filter(|l| l.contains("\"step\"") && l.contains("grad_norm")).count();
    let events: std::collections::BTreeSet<&str> = a.2.lines().collect();
    assert_eq!(events.len(), a.2.lines().count(), "no line is there twice");
    assert!(steps > 0);
}

/// Stops after each of `stops` and compares with the run in one go.
pub fn check(device: &Device, config: RunConfig, stops: &[u64]) {
    let dir = tempfile::tempdir().unwrap();
    let (straight, stopped) = (dir.path().join("straight"), dir.path().join("stopped"));
    assert!(into(&straight, config.clone(), device, None).test.is_some());
    assert!(into(&stopped, config, device, Some(stops[0])).test.is_none());
    for stop in &stops[1..] {
        assert!(resume(&stopped, device, Some(*stop)).is_empty());
    }
    // What a crash after the checkpoint leaves behind: lines of steps that will be done again.
    let metrics = stopped.join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text + "{\"event\":\"step\",\"step\":99}\n{\"eve").unwrap();
    assert!(resume(&stopped, device, None).is_empty());
    same(&straight, &stopped);
}

#[test]
fn cpu_within_and_between_epochs() {
    let device = Device::open("cpu").unwrap();
    // 144 training examples in batches of 64: three steps an epoch, the third short.
    check(&device, small_cnn(1), &[1]);
    check(&device, small_cnn(1), &[2, 3, 7]);
}

/// Everything that has a memory or draws at random, at once.
#[test]
fn augmentation_averages_and_schedules_on_the_cpu() {
    let keys = [
        ("epochs", "3"),
        ("data.test", "0.9"),
        ("data.validation", "0.2"),
        ("batch", "64"),
        ("model.hidden", "[12]"),
        ("model.dropout", "0.2"),
        ("train.workers", "2"),
        ("augment.rotate", "10"),
        ("augment.noise", "0.05"),
        ("augment.mixup", "0.2"),
        ("regularization.l1", "1e-4"),
        ("regularization.l2", "1e-3"),
        ("regularization.decoupled_decay", "0.01"),
        ("regularization.max_norm", "2"),
        ("regularization.ema", "0.9"),
        ("lookahead.k", "2"),
        ("schedule", "{ kind = \"plateau\", patience = 0, factor = 0.5 }"),
        ("loss", "{ kind = \"cross_entropy\", class_weights = \"balanced\" }"),
    ];
    check(&Device::open("cpu").unwrap(), config("digits-mlp", &keys), &[2, 4]);
    let swa = [&keys[..14], &[("regularization.swa", "0.4"), ("train.workers", "0")]].concat();
    check(&Device::open("cpu").unwrap(), config("digits-mlp", &swa), &[5]);
}

/// A run that gets worse ends after its patience, with the weights of its best epoch; also when it was resumed meanwhile.
#[test]
fn early_stopping_takes_the_best_weights() {
    let device = Device::open("cpu").unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Steps far too large after the first epochs: one cycle up to a rate at which nothing is learnt.
    let keys = [
        ("epochs", "30"),
        ("batch", "128"),
        ("data.test", "0.5"),
        ("data.validation", "0.3"),
        ("optimizer", "{ kind = \"sgd\", lr = 40.0 }"),
        ("schedule", "{ kind = \"one_cycle\", rise = 0.9 }"),
        ("early_stopping.patience", "2"),
    ];
    let config = config("digits-mlp", &keys);
    let (straight, stopped) = (dir.path().join("straight"), dir.path().join("stopped"));
    let summary = into(&straight, config.clone(), &device, None);
    let best = summary.best.unwrap();
    assert_eq!(summary.position.epoch, best.epoch + 2, "two epochs without improvement");
    assert!(summary.position.epoch < 30 && summary.test.is_some());
    let weights = |folder: &Path, name: &str| load_weights(&folder.join(name)).unwrap();
    assert_eq!(weights(&straight, "weights.safetensors"), weights(&straight, "best.safetensors"));
    // Stopped after the best epoch, so that the resumed process finds the best weights on the disk only.
    let after_best = best.step + 1;
    assert!(into(&stopped, config, &device, Some(after_best)).test.is_none());
    resume(&stopped, &device, None);
    let file = |folder: &Path, name: &str| fs::read(folder.join(name)).unwrap();
    for name in ["weights.safetensors", "best.safetensors", "metrics.jsonl"] {
        assert_eq!(file(&straight, name), file(&stopped, name), "{name}");
    }
}

#[test]
fn reference() {
    let keys =
        [("epochs", "2"), ("data.test", "0.9"), ("batch", "50"), ("model.hidden", "[8]"), ("model.dropout", "0.2")];
    check(&Device::open("reference").unwrap(), config("digits-mlp", &keys), &[2]);
}

#[test]
fn text_on_the_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.txt");
    let text: String = (0..3000).map(|i| if i % 7 == 6 { '\n' } else { (b'a' + (i * i % 11) as u8) as char }).collect();
    fs::write(&path, text).unwrap();
    let path = format!("{:?}", path.to_str().unwrap());
    let keys = [
        ("epochs", "2"),
        ("batch", "16"),
        ("data.path", path.as_str()),
        ("data.context", "16"),
        ("data.sample", "5"),
        ("model.width", "16"),
        ("model.heads", "2"),
        ("model.layers", "1"),
        ("model.dropout", "0.1"),
    ];
    check(&Device::open("cpu").unwrap(), config("chars-gpt", &keys), &[3]);
}

#[test]
fn software_adapter() {
    if let Some(device) = software() {
        check(&device, config("digits-mlp", &[("epochs", "2"), ("batch", "512"), ("model.dropout", "0.2")]), &[2]);
    }
}

#[test]
fn another_device_says_not_bit_equal() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let config = config("digits-mlp", &[("epochs", "1"), ("batch", "512")]);
    into(&folder, config, &Device::open("cpu").unwrap(), Some(1));
    let warning = resume(&folder, &Device::open("reference").unwrap(), None).concat();
    assert!(warning.contains("not bit-equal"), "{warning}");
}

#[test]
fn a_finished_run_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let device = Device::open("cpu").unwrap();
    let config = config("digits-mlp", &[("epochs", "1"), ("batch", "512")]);
    into(&folder, config, &device, None);
    let e = Run::resume(&folder, &device, options(None, None)).err().unwrap().to_string();
    assert!(e.contains("finished"), "{e}");
}
