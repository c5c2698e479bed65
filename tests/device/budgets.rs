//! What a training step of each preset costs, as committed text: kernel launches, submits, pipelines, bytes, fallbacks,
//! inlined composites. A change that raises a number must change `tests/golden/steps.txt` too, and say why.
//! `KILN_UPDATE_GOLDEN=1` rewrites the file.

use kiln::Device;
use kiln::train::Task;
use kiln::train::config::Draft;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn idx(magic: [u8; 4], dims: &[u32], bytes: usize) -> Vec<u8> {
    let mut file = magic.to_vec();
    dims.iter().for_each(|d| file.extend(d.to_be_bytes()));
    file.extend(std::iter::repeat_n(1u8, bytes));
    file
}

/// A folder that looks like MNIST, for its shapes only.
fn mnist_like(dir: &Path) {
    for (stem, n) in [("train", 256u32), ("t10k", 16)] {
        let images = idx([0, 0, 8, 3], &[n, 28, 28], n as usize * 784);
        std::fs::write(dir.join(format!("{stem}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(dir.join(format!("{stem}-labels-idx1-ubyte")), idx([0, 0, 8, 1], &[n], n as usize)).unwrap();
    }
}

fn line(preset: &str, request: &str, mnist: &Path) -> String {
    let device = Device::open(request).unwrap();
    let mut draft = Draft::open(preset).unwrap();
    if preset == "mnist-cnn" {
        draft.set("data.path", &format!("{:?}", mnist.display().to_string())).unwrap();
    }
    let config = draft.finish().unwrap();
    let task = Task::open(&config).unwrap();
    let mut trainer = task.trainer(&config, &device).unwrap();
    trainer.prepare(&task.train.data.fields(), config.batch).unwrap();
    let program = trainer.step_program(config.batch).unwrap();
    let (stats, plan) = (program.stats(), program.plan().summary());
    let (taken, needed) = (plan.transient_bytes, plan.peak_live_bytes);
    assert!(20 * taken <= 23 * needed, "{preset} {request}: {taken} bytes for {needed} that are needed at once");
    format!(
        "{preset} {request}: dispatches {} submits {} pipelines {} copies {} read {} KiB written {} KiB transient {} KiB (at least {}) fallbacks {} inlined {}",
        stats.dispatches,
        stats.submits,
        stats.pipelines,
        plan.copies,
        plan.bytes_read / 1024,
        plan.bytes_written / 1024,
        plan.transient_bytes / 1024,
        plan.peak_live_bytes / 1024,
        stats.fallbacks,
        stats.inlined
    )
}

#[test]
fn training_steps_cost_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    mnist_like(dir.path());
    let mut now = String::new();
    for preset in ["digits-mlp", "digits-cnn", "mnist-cnn", "chars-gpt"] {
        for request in ["cpu", "software"] {
            writeln!(now, "{}", line(preset, request, dir.path())).unwrap();
        }
    }
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/steps.txt");
    if std::env::var_os("KILN_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(now, committed, "if this is meant, run again with KILN_UPDATE_GOLDEN=1 and say why in the commit");
}
