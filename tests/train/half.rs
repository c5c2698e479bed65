//! Training in mixed precision: the loss scale and the updates that it skips, resuming, batches in pieces, memory, and devices
//! that cannot.

use crate::resume::check;
use crate::{config, into, options, software};
use kiln::HostTensor;
use kiln::backend::reference::Reference;
use kiln::backend::{Backend, BackendKind, BufferId, Device, DeviceInfo, Executable, Pending, Work};
use kiln::ir::{Call, Type};
use kiln::optim::scaler::{CLEAN_UPDATES, FLOOR, LOSS_SCALE};
use kiln::plan::{Caps, Limits, Region, SlotKind};
use kiln::train::precision::products;
use kiln::train::run::{Run, Silent};
use kiln::train::{RunConfig, StepReport, Task, Trainer};
use std::sync::Arc;

fn mlp(more: &[(&str, &str)]) -> RunConfig {
    let keys = [("epochs", "2"), ("batch", "512"), ("model.dropout", "0.2"), ("train.precision", "f16")];
    config("digits-mlp", &[&keys[..], more].concat())
}

/// The CPU path, and the software adapter if there is one.
fn devices() -> Vec<Device> {
    [Device::open("cpu").ok(), software()].into_iter().flatten().collect()
}

/// One update on the first `rows` examples.
fn update(trainer: &mut Trainer, task: &Task, rows: usize) -> StepReport {
    let part = &task.train;
    let batch = part.data.batch(&part.indices[..rows], None).unwrap();
    let mut reports = trainer.step(&part.data.fields(), &batch).unwrap();
    reports.extend(trainer.drain().unwrap());
    reports.pop().unwrap()
}

fn bits(trainer: &Trainer) -> Vec<(String, Vec<u8>)> {
    let states = [trainer.states(true).unwrap(), trainer.states(false).unwrap()].concat();
    states.into_iter().map(|(name, t)| (name, t.as_bytes().to_vec())).collect()
}

fn number(trainer: &Trainer, name: &str) -> f64 {
    trainer.store().get(name).unwrap().to_f64()[0]
}

/// A scale under which the gradient overflows f16: nothing changes but the scale and the counters, and the run goes on.
#[test]
fn a_skipped_update_changes_no_bit() {
    for device in devices() {
        let config = mlp(&[]);
        let task = Task::open(&config).unwrap();
        let mut trainer = task.trainer(&config, &device).unwrap();
        assert!(update(&mut trainer, &task, 64).updated);
        assert_eq!((number(&trainer, LOSS_SCALE), number(&trainer, CLEAN_UPDATES)), (65_536.0, 1.0));
        let before = bits(&trainer);
        let large = 2f32.powi(30);
        trainer.store().insert(LOSS_SCALE, &HostTensor::f32([1], vec![large]).unwrap()).unwrap();
        let report = update(&mut trainer, &task, 64);
        assert!(!report.updated && report.loss.is_finite() && report.is_finite(), "{report:?}");
        assert_eq!(report.loss_scale, Some(f64::from(large)));
        assert_eq!((number(&trainer, LOSS_SCALE), number(&trainer, CLEAN_UPDATES)), (f64::from(large) / 2.0, 0.0));
        assert_eq!(number(&trainer, "status.skipped"), 1.0);
        for ((name, old), (_, new)) in before.iter().zip(bits(&trainer)) {
            assert!(*old == new || name.starts_with("status."), "{name} changed");
        }
        let taken = (0..20).find(|_| update(&mut trainer, &task, 64).updated);
        assert!(taken.is_some(), "the scale comes down until the gradient is finite");
        assert!(number(&trainer, LOSS_SCALE) < 2f64.powi(29));
    }
}

#[test]
fn what_the_scale_can_mend_counts_as_finite() {
    let report = |loss: f64, updated: bool, loss_scale: Option<f64>| {
        StepReport { step: 1, loss, correct: 0.0, count: 1, grad_norm: 1.0, updated, lr: 0.1, loss_scale }.is_finite()
    };
    assert!(report(1.0, true, None) && report(1.0, true, Some(1.0)) && report(1.0, false, Some(1.0)));
    assert!(!report(1.0, false, None) && !report(1.0, false, Some(FLOOR)));
    assert!(!report(f64::NAN, false, Some(1.0)) && !report(f64::INFINITY, true, Some(1.0)));
}

/// A loss that is not finite ends the run as in f32.
#[test]
fn a_loss_that_is_not_finite_still_stops_a_run() {
    let config = mlp(&[
        ("epochs", "40"),
        ("optimizer", "{ kind = \"sgd\", lr = 1e30 }"),
        ("schedule", "{ kind = \"constant\" }"),
    ]);
    let run = Run::new(config, &Device::open("cpu").unwrap(), options(None, None)).unwrap();
    let e = run.train(&mut Silent).expect_err("the run stops").to_string();
    assert!(e.contains("not finite in"), "{e}");
}

#[test]
fn a_resumed_run_is_the_same_run() {
    for device in devices() {
        check(&device, mlp(&[]), &[1, 3]);
    }
    // The scaler's states are in checkpoints.
    let dir = tempfile::tempdir().unwrap();
    into(dir.path().join("run").as_path(), mlp(&[]), &Device::open("cpu").unwrap(), Some(2));
    let (loaded, _) = kiln::train::checkpoint::newest(&dir.path().join("run")).unwrap().unwrap();
    assert_eq!(loaded.optimizer[LOSS_SCALE].to_f64(), [65_536.0]);
    assert_eq!(loaded.optimizer[CLEAN_UPDATES].to_f64(), [2.0]);
}

/// The sums of pieces are of scaled gradients, with one scale for all: one update by two halves is that by the whole batch.
#[test]
fn batches_in_pieces_have_one_scale() {
    let device = Device::open("cpu").unwrap();
    let config = mlp(&[("model.dropout", "0"), ("optimizer", "{ kind = \"sgd\", lr = 0.5 }")]);
    let task = Task::open(&config).unwrap();
    let weights = |pieces: usize| {
        let mut trainer = task.trainer(&config, &device).unwrap().micro_batch(pieces);
        let report = update(&mut trainer, &task, 64);
        assert!(report.updated && report.loss_scale == Some(65_536.0), "{report:?}");
        (report.grad_norm, trainer.states(true).unwrap())
    };
    let ((norm, whole), (norm2, pieces)) = (weights(0), weights(32));
    assert!((norm - norm2).abs() < 2e-3 * norm, "{norm} {norm2}");
    for ((name, a), (_, b)) in whole.iter().zip(&pieces) {
        for (x, y) in a.to_f64().iter().zip(b.to_f64()) {
            assert!((x - y).abs() < 1e-3, "{name}: {x} {y}");
        }
    }
}

/// What `--dry-run` prints, on an adapter.
#[test]
fn the_planned_memory_of_a_cnn_step_falls_to_six_tenths() {
    let Some(device) = software() else { return };
    let step = |precision: &str| {
        let config = config("digits-cnn", &[("train.precision", precision)]);
        let task = Task::open(&config).unwrap();
        let mut trainer = task.trainer(&config, &device).unwrap();
        trainer.prepare(&task.train.data.fields(), config.batch).unwrap();
        let plan = trainer.step_program(config.batch).unwrap().plan().clone();
        let transient = plan.slots.iter().filter(|s| s.kind == SlotKind::Transient).map(|s| s.bytes).sum::<usize>();
        let (all, narrow) = products(&[trainer.step_program(config.batch).unwrap()]);
        assert_eq!(plan.summary().fallbacks, 0, "{:?}", plan.notes);
        (transient as f64, all, narrow)
    };
    let ((full, _, none), (half, all, narrow)) = (step("f32"), step("f16"));
    assert!(half <= 0.6 * full, "{half} of {full} bytes");
    assert!(none == 0 && narrow == all && all > 8, "{narrow} of {all} products read f16");
}

/// An adapter without f16 in shaders.
struct Old(Reference);

impl Caps for Old {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn kernel(&self, call: &Call, args: &[Type]) -> Result<(), String> {
        self.0.kernel(call, args)
    }
    fn supports(&self, region: &Region) -> Result<(), String> {
        self.0.supports(region)
    }
    fn reads_strided(&self, region: &Region, arg: usize) -> bool {
        self.0.reads_strided(region, arg)
    }
}

impl Backend for Old {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { kind: BackendKind::Gpu, name: "an old one".into(), ..self.0.info() }
    }
    fn as_caps(&self) -> &dyn Caps {
        self
    }
    fn alloc(&self, bytes: usize) -> kiln::Result<BufferId> {
        self.0.alloc(bytes)
    }
    fn free(&self, buffer: BufferId) {
        self.0.free(buffer);
    }
    fn write(&self, buffer: BufferId, bytes: &[u8]) -> kiln::Result<()> {
        self.0.write(buffer, bytes)
    }
    fn read(&self, buffer: BufferId, bytes: usize) -> kiln::Result<Box<dyn Pending>> {
        self.0.read(buffer, bytes)
    }
    fn compile(&self, work: &[Work]) -> kiln::Result<Box<dyn Executable>> {
        self.0.compile(work)
    }
    fn sync(&self) -> kiln::Result<()> {
        self.0.sync()
    }
    fn check_status(&self) -> kiln::Result<()> {
        self.0.check_status()
    }
}

#[test]
fn an_adapter_without_f16_says_so() {
    let device = Device::with(Arc::new(Old(Reference::new())), None, "for a test");
    let e = Run::new(mlp(&[]), &device, options(None, None)).err().expect("no f16").to_string();
    assert!(e.contains("an old one") && e.contains("SHADER_F16") && e.contains("precision = \"f32\""), "{e}");
    assert!(Run::new(mlp(&[("train.precision", "f32")]), &device, options(None, None)).is_ok());
    let wrong = kiln::train::config::Draft::text("preset = \"digits-mlp\"\nprecision = \"f8\"\n", "my.toml".into());
    let e = wrong.and_then(|d| d.finish()).unwrap_err().to_string();
    assert!(e.contains("my.toml") && e.contains("f8") && e.contains("f16"), "{e}");
}
