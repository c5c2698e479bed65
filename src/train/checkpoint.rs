//! Checkpoints. A run keeps them in `checkpoints/step-<number>/`, each a folder with `weights.safetensors` (what the model
//! is, torch's names), `state.safetensors` (the optimizer, and as JSON in its metadata positions, counters and memories)
//! and `manifest.json` (length and SHA-256 of the two). The folder gets its name when all three are on the disk; what was
//! cut short or changed afterwards does not agree with its manifest, and the checkpoint before it is used.

use crate::backend::{BackendKind, Device};
use crate::error::{Error, Result};
use crate::optim::schedule::Scheduler;
use crate::tensor::HostTensor;
use crate::train::Position;
use crate::train::files::{decode, encode, metadata, sha256, sync_folder, write_synced};
pub use crate::train::files::{load_weights, save_weights};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the layout of run folders and checkpoints that this kiln writes. It reads this one and all before it, from 1 on.
pub const FORMAT: u32 = 1;
/// Key of the JSON in the metadata of a state file.
const KEY: &str = "kiln.state";
const WEIGHTS: &str = "weights.safetensors";
const STATE: &str = "state.safetensors";
const MANIFEST: &str = "manifest.json";
/// Name of the folder of checkpoints in a run's folder.
pub const FOLDER: &str = "checkpoints";

/// Which device, driver and version computed: the same identity continues bit by bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Kind, name and driver of the device.
    pub device: String,
    /// Where its kernel variants were chosen.
    pub tuning: String,
    /// Version of kiln.
    pub version: String,
}

impl Identity {
    /// The identity of a device in this process.
    pub fn of(device: &Device) -> Identity {
        let info = device.info();
        let kind = match info.kind {
            BackendKind::Reference => "reference",
            BackendKind::Cpu => "cpu",
            BackendKind::Gpu => "gpu",
        };
        Identity {
            device: format!("{kind}: {} ({})", info.name, info.driver),
            tuning: "built-in".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// The best state of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Updates before it.
    pub step: u64,
    /// Epochs before it.
    pub epoch: u64,
    /// Its validation loss (training loss where nothing is kept for validation).
    pub loss: f64,
}

/// What a run remembers beside its tensors. Fields that came later have defaults, so that older files can be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of the layout, [`FORMAT`].
    pub format: u32,
    /// Who computed so far.
    pub identity: Identity,
    /// The seed; with the position it gives all random numbers.
    pub seed: u64,
    /// Updates so far.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Batches of the present epoch that were taken.
    pub batch: usize,
    /// The schedule and what it remembers.
    pub scheduler: Scheduler,
    /// Loss sum and correct predictions of the present epoch, as bits: sums that are not finite are no JSON numbers.
    pub sums: [u64; 2],
    /// Predictions of the present epoch.
    pub count: u64,
    /// Updates that were suppressed in the present epoch.
    pub skipped: u64,
    /// Updates without a finite loss and gradient up to here without one that had them.
    #[serde(default)]
    pub in_a_row: u64,
    /// The best state so far; its checkpoint is kept.
    #[serde(default)]
    pub best: Option<Best>,
    /// A hash of the data ([`Task::fingerprint`](crate::train::Task::fingerprint)); empty: not known.
    #[serde(default)]
    pub data: String,
    /// What callbacks remember, by their names.
    #[serde(default)]
    pub callbacks: BTreeMap<String, serde_json::Value>,
    /// Bytes of metrics.jsonl that belong to this state.
    pub metrics_bytes: u64,
}

impl State {
    /// Where training continues.
    pub fn position(&self) -> Position {
        Position { step: self.step, epoch: self.epoch, batch: self.batch }
    }
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    kiln: String,
    files: BTreeMap<String, FileEntry>,
    /// The checkpoints, by their updates, that this one refers to.
    #[serde(default)]
    needs: Vec<u64>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct FileEntry {
    bytes: usize,
    sha256: String,
}

impl FileEntry {
    fn of(bytes: &[u8]) -> FileEntry {
        FileEntry { bytes: bytes.len(), sha256: sha256(bytes) }
    }
}

/// A checkpoint that agrees with its manifest.
pub struct Loaded {
    /// Its folder.
    pub path: PathBuf,
    /// Parameters and buffers of the model.
    pub weights: BTreeMap<String, HostTensor>,
    /// States of the optimizer and the guard.
    pub optimizer: BTreeMap<String, HostTensor>,
    /// The rest.
    pub state: State,
}

impl Loaded {
    /// The weights for use: averages, where the optimizer keeps them.
    pub fn for_use(&self) -> Vec<(String, HostTensor)> {
        let weights: Vec<(String, HostTensor)> = self.weights.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
        crate::train::average::for_use(&weights, &self.optimizer, self.state.step)
    }
}

/// Writes the checkpoint `name` (such as `step-00000120`) below `run`; one of this name is replaced. Returns its folder.
pub fn save(
    run: &Path,
    name: &str,
    weights: &[(String, HostTensor)],
    optimizer: &[(String, HostTensor)],
    state: &State,
) -> Result<PathBuf> {
    let folder = run.join(FOLDER);
    let (path, temporary) = (folder.join(name), folder.join(format!(".{name}.tmp{}", std::process::id())));
    let text = serde_json::to_string(state).map_err(|e| Error::internal("checkpoint", e.to_string()))?;
    let files = [(WEIGHTS, encode(weights, &[])?), (STATE, encode(optimizer, &[(KEY, text)])?)];
    let manifest = Manifest {
        format: FORMAT,
        kiln: env!("CARGO_PKG_VERSION").into(),
        files: files.iter().map(|(name, bytes)| (name.to_string(), FileEntry::of(bytes))).collect(),
        needs: state.best.iter().map(|b| b.step).collect(),
    };
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::internal("checkpoint", e.to_string()))?;
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&temporary)?;
        for (name, bytes) in &files {
            write_synced(&temporary.join(name), bytes)?;
        }
        write_synced(&temporary.join(MANIFEST), &manifest)?;
        sync_folder(&temporary)?;
        if path.exists() {
            // Only after a resume from before it, which comes to the same state again. A crash between the two renames
            // leaves the checkpoint before this one, which leads here once more.
            remove(&path)?;
        }
        fs::rename(&temporary, &path)?;
        sync_folder(&folder)
    };
    write().map_err(|e| {
        let _ = fs::remove_dir_all(&temporary);
        Error::input(path.display(), format!("cannot write the checkpoint: {e}"))
    })?;
    Ok(path)
}

/// The name of the checkpoint after `step` updates.
pub fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Takes a checkpoint away; first its name, so that no half of it is ever seen.
fn remove(path: &Path) -> std::io::Result<()> {
    let hidden = format!(".{}.old{}", path.file_name().unwrap_or_default().to_string_lossy(), std::process::id());
    let hidden = path.with_file_name(hidden);
    fs::rename(path, &hidden)?;
    fs::remove_dir_all(&hidden)
}

/// The checkpoints of a run by their names, the newest first, whole or not.
pub fn list(run: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(run.join(FOLDER)).into_iter().flatten().flatten();
    let numbered = |entry: fs::DirEntry| {
        let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
        Some((step, entry.path()))
    };
    let mut found: Vec<(u64, PathBuf)> = entries.filter_map(numbered).collect();
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    found
}

/// Removes the checkpoints after these numbers of updates.
pub fn forget(run: &Path, steps: &[u64]) -> Result<()> {
    for (step, path) in list(run) {
        if steps.contains(&step) {
            remove(&path).map_err(|e| Error::input(path.display(), format!("cannot remove it: {e}")))?;
        }
    }
    Ok(())
}

/// Removes all checkpoints but the newest `keep` (at least 1) and those that they refer to, and what a killed process left.
pub fn prune(run: &Path, keep: usize) -> Result<()> {
    let failed = |path: &Path, e: std::io::Error| Error::input(path.display(), format!("cannot remove it: {e}"));
    let mut all = list(run);
    let old = all.split_off(keep.max(1).min(all.len()));
    let needed: Vec<u64> = all
        .iter()
        .filter_map(|(_, path)| serde_json::from_slice::<Manifest>(&fs::read(path.join(MANIFEST)).ok()?).ok())
        .flat_map(|manifest| manifest.needs)
        .collect();
    for (_, path) in old.into_iter().filter(|(step, _)| !needed.contains(step)) {
        remove(&path).map_err(|e| failed(&path, e))?;
    }
    for entry in fs::read_dir(run.join(FOLDER)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') {
            fs::remove_dir_all(entry.path()).map_err(|e| failed(&entry.path(), e))?;
        }
    }
    Ok(())
}

/// Reads a checkpoint's folder. Errors say what does not agree with the manifest.
pub fn load(path: &Path) -> Result<Loaded> {
    let broken = |detail: String| Error::input(path.display(), detail);
    let text = fs::read(path.join(MANIFEST)).map_err(|e| broken(format!("has no readable {MANIFEST}: {e}")))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| broken(format!("its {MANIFEST} is cut short or damaged: {e}")))?;
    if manifest.format > FORMAT {
        let detail = format!(
            "has format {} of kiln {}, this kiln ({}) reads up to {FORMAT}; use a newer kiln",
            manifest.format,
            manifest.kiln,
            env!("CARGO_PKG_VERSION")
        );
        return Err(broken(detail));
    }
    let whole = |name: &str| -> Result<Vec<u8>> {
        let entry = manifest.files.get(name).ok_or_else(|| broken(format!("its {MANIFEST} names no {name}")))?;
        let bytes = fs::read(path.join(name)).map_err(|e| broken(format!("its {name} cannot be read: {e}")))?;
        if bytes.len() != entry.bytes {
            let detail = format!("its {name} has {} bytes instead of {}: it was cut short", bytes.len(), entry.bytes);
            return Err(broken(detail));
        }
        match FileEntry::of(&bytes) == *entry {
            true => Ok(bytes),
            false => Err(broken(format!("its {name} does not have the hash of the {MANIFEST}: it was changed"))),
        }
    };
    let source = |name: &str| path.join(name).display().to_string();
    let weights = decode(&whole(WEIGHTS)?, &source(WEIGHTS))?;
    let bytes = whole(STATE)?;
    let optimizer = decode(&bytes, &source(STATE))?;
    let text = metadata(&bytes, KEY)
        .ok_or_else(|| broken(format!("its {STATE} is no checkpoint of a run: it holds only tensors")))?;
    let state = serde_json::from_str(&text).map_err(|e| {
        broken(format!("the description in its {STATE} cannot be read: {e}; is it of another version?"))
    })?;
    Ok(Loaded { path: path.to_path_buf(), weights, optimizer, state })
}

/// The newest whole checkpoint of a run, and what was wrong with newer ones. `None` if the run has none at all. Errors if
/// it has some, and none is whole.
pub fn newest(run: &Path) -> Result<Option<(Loaded, Vec<String>)>> {
    let mut problems = Vec::new();
    let all = list(run);
    for (_, path) in &all {
        match load(path) {
            Ok(found) => return Ok(Some((found, problems))),
            Err(e) => problems.push(e.to_string()),
        }
    }
    match all.is_empty() {
        true => Ok(None),
        false => {
            let detail = format!("none of its checkpoints is whole; start a new run: {}", problems.join("; "));
            Err(Error::input(run.display(), detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Schedule;

    fn state(step: u64) -> State {
        State {
            format: FORMAT,
            identity: Identity { device: "d".into(), tuning: "t".into(), version: "v".into() },
            seed: u64::MAX,
            step,
            epoch: 1,
            batch: 2,
            scheduler: Scheduler::new(0.1, Schedule::Cosine { t_max: 7, eta_min: 0.0 }),
            sums: [0.1f64.to_bits(), f64::NAN.to_bits()],
            count: 5,
            skipped: 0,
            in_a_row: 0,
            best: Some(Best { step: 1, epoch: 0, loss: 0.1 + 0.2 }),
            data: "abc".into(),
            callbacks: BTreeMap::from([("patience".into(), serde_json::json!({"bad": 3}))]),
            metrics_bytes: 12,
        }
    }

    fn write(run: &Path, step: u64) -> PathBuf {
        let weights = vec![("a.weight".to_string(), HostTensor::f32([2], vec![step as f32, f32::NAN]).unwrap())];
        let optimizer = vec![("optim.b".to_string(), HostTensor::i32([0, 3], vec![]).unwrap())];
        save(run, &name(step), &weights, &optimizer, &state(step)).unwrap()
    }

    #[test]
    fn checkpoints_round_trip_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        for step in [1, 2, 3, 4] {
            write(dir.path(), step);
        }
        fs::create_dir(dir.path().join(FOLDER).join(".step-00000009.tmp1")).unwrap();
        prune(dir.path(), 2).unwrap();
        let steps: Vec<u64> = list(dir.path()).iter().map(|(s, _)| *s).collect();
        assert_eq!(steps, [4, 3, 1]);
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 3, "leftovers go too");
        let (loaded, problems) = newest(dir.path()).unwrap().unwrap();
        assert!(problems.is_empty());
        assert_eq!(loaded.state, state(4));
        assert_eq!(loaded.weights["a.weight"].as_f32().unwrap()[0], 4.0);
        assert_eq!(loaded.optimizer["optim.b"].shape[..], [0, 3]);
        // Written again, as after a resume from before it.
        write(dir.path(), 4);
        assert_eq!(newest(dir.path()).unwrap().unwrap().0.state, state(4));
    }

    #[test]
    fn every_cut_and_every_change_is_found_and_the_one_before_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 1);
        let path = write(dir.path(), 2);
        for file in [WEIGHTS, STATE, MANIFEST] {
            let whole = fs::read(path.join(file)).unwrap();
            for length in 0..whole.len() {
                fs::write(path.join(file), &whole[..length]).unwrap();
                let (loaded, problems) = newest(dir.path()).unwrap().unwrap();
                assert_eq!(loaded.state.step, 1, "{file} cut to {length} bytes");
                assert!(problems.len() == 1 && problems[0].contains("step-00000002"), "{problems:?}");
            }
            fs::write(path.join(file), &whole).unwrap();
        }
        for file in [WEIGHTS, STATE] {
            let whole = fs::read(path.join(file)).unwrap();
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                fs::write(path.join(file), &changed).unwrap();
                assert_eq!(newest(dir.path()).unwrap().unwrap().0.state.step, 1, "{file} changed at {at}");
            }
            fs::write(path.join(file), &whole).unwrap();
            fs::remove_file(path.join(file)).unwrap();
            assert_eq!(newest(dir.path()).unwrap().unwrap().0.state.step, 1, "{file} is missing");
            fs::write(path.join(file), &whole).unwrap();
        }
        assert_eq!(newest(dir.path()).unwrap().unwrap().0.state.step, 2);
    }

    #[test]
    fn runs_without_a_whole_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        assert!(newest(dir.path()).unwrap().is_none());
        let path = write(dir.path(), 3);
        let manifest = fs::read_to_string(path.join(MANIFEST)).unwrap();
        fs::write(path.join(MANIFEST), manifest.replace("\"format\": 1", "\"format\": 99")).unwrap();
        let e = newest(dir.path()).err().unwrap().to_string();
        assert!(e.contains("format 99") && e.contains("newer kiln"), "{e}");
    }
}
