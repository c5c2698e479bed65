//! Checkpoint files. `weights.safetensors` holds what the model is (torch-style names), for use; `state.safetensors` holds
//! all that a bit-equal resume needs in one file: the weights again, the optimizer, and as JSON the positions and counters.
//! Every file is written under another name and renamed, so that what is there is whole.

use crate::backend::{BackendKind, Device};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::optim::schedule::Scheduler;
use crate::tensor::HostTensor;
use crate::train::Position;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Key of the JSON in the metadata of a state file.
const KEY: &str = "kiln.state";

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

/// What a run remembers beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
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
    /// Loss sum and correct predictions of the present epoch, as bits: JSON would not keep every one.
    pub sums: [u64; 2],
    /// Predictions of the present epoch.
    pub count: u64,
    /// Updates that were suppressed in the present epoch.
    pub skipped: u64,
    /// Bytes of metrics.jsonl that belong to this state.
    pub metrics_bytes: u64,
}

impl State {
    /// Where training continues.
    pub fn position(&self) -> Position {
        Position { step: self.step, epoch: self.epoch, batch: self.batch }
    }
}

/// Writes a file under another name in its folder, then renames it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        // What cannot be removed is at least not under the real name.
        let _ = fs::remove_file(&temporary);
        Error::input(path.display(), format!("cannot write the file: {e}"))
    })
}

/// Tensors as the bytes of a safetensors file, with a text under `KEY` if there is one.
fn encode(tensors: &[(String, HostTensor)], text: Option<String>) -> Result<Vec<u8>> {
    let broken = |e: safetensors::SafeTensorError| Error::internal("checkpoint", e.to_string());
    let views = tensors
        .iter()
        .map(|(name, t)| {
            let dtype = match t.dtype() {
                DType::F32 => Dtype::F32,
                DType::I32 => Dtype::I32,
                DType::U32 | DType::Bool => Dtype::U32,
            };
            Ok((name.as_str(), TensorView::new(dtype, t.shape.to_vec(), t.as_bytes()).map_err(broken)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = text.map(|t| HashMap::from([(KEY.to_string(), t)]));
    safetensors::serialize(views, metadata).map_err(broken)
}

fn decode(bytes: &[u8], source: &str) -> Result<BTreeMap<String, HostTensor>> {
    let corrupt = |e: safetensors::SafeTensorError| {
        Error::input(source, format!("is not a whole safetensors file ({e}); take another checkpoint"))
    };
    let file = SafeTensors::deserialize(bytes).map_err(corrupt)?;
    let tensor = |(name, view): (String, TensorView)| {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I32 => DType::I32,
            Dtype::U32 => DType::U32,
            other => {
                let detail = format!("{name:?} has element type {other:?}, expected F32, I32 or U32");
                return Err(Error::input(source, detail));
            }
        };
        let value = HostTensor::from_bytes(dtype, view.shape(), view.data())?;
        Ok((name, value))
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::input(path.display(), format!("cannot read the file: {e}")))
}

/// Writes a weights file.
pub fn save_weights(path: &Path, tensors: &[(String, HostTensor)]) -> Result<()> {
    write_whole(path, &encode(tensors, None)?)
}

/// Reads a weights file.
pub fn load_weights(path: &Path) -> Result<BTreeMap<String, HostTensor>> {
    decode(&read(path)?, &path.display().to_string())
}

/// Writes a state file.
pub fn save_state(path: &Path, tensors: &[(String, HostTensor)], state: &State) -> Result<()> {
    let text = serde_json::to_string(state).map_err(|e| Error::internal("checkpoint", e.to_string()))?;
    write_whole(path, &encode(tensors, Some(text))?)
}

/// Reads a state file.
pub fn load_state(path: &Path) -> Result<(BTreeMap<String, HostTensor>, State)> {
    let (bytes, source) = (read(path)?, path.display().to_string());
    let tensors = decode(&bytes, &source)?;
    let metadata = SafeTensors::read_metadata(&bytes).ok().and_then(|(_, m)| m.metadata().clone());
    let text = metadata.and_then(|mut m| m.remove(KEY));
    let text = text.ok_or_else(|| Error::input(&source, "is no checkpoint of a run: it holds only tensors"))?;
    let state = serde_json::from_str(&text).map_err(|e| {
        Error::input(&source, format!("its description cannot be read: {e}; is it of another version?"))
    })?;
    Ok((tensors, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Schedule;

    fn state() -> State {
        State {
            identity: Identity { device: "d".into(), tuning: "t".into(), version: "v".into() },
            seed: u64::MAX,
            step: 3,
            epoch: 1,
            batch: 2,
            scheduler: Scheduler::new(0.1, Schedule::Cosine { t_max: 7, eta_min: 0.0 }),
            sums: [0.1f64.to_bits(), 2.0f64.to_bits()],
            count: 5,
            skipped: 0,
            metrics_bytes: 12,
        }
    }

    #[test]
    fn states_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let tensors = vec![
            ("a.weight".to_string(), HostTensor::f32([2], vec![0.1, f32::NAN]).unwrap()),
            ("b".to_string(), HostTensor::i32([0, 3], vec![]).unwrap()),
        ];
        save_state(&path, &tensors, &state()).unwrap();
        let (read, s) = load_state(&path).unwrap();
        assert_eq!(s, state());
        assert_eq!(read["a.weight"].as_bytes(), tensors[0].1.as_bytes());
        assert_eq!(read["b"], tensors[1].1);
        // Nothing but the file itself is left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn corrupt_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        save_weights(&path, &[("a".to_string(), HostTensor::scalar(1.0))]).unwrap();
        assert!(load_state(&path).unwrap_err().to_string().contains("no checkpoint"));
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 1], &whole[..4], b"rubbish that is long enough to have a header"] {
            fs::write(&path, bytes).unwrap();
            let message = load_weights(&path).unwrap_err().to_string();
            assert!(message.contains("w.safetensors") && message.contains("safetensors file"), "{message}");
        }
        assert!(load_weights(&dir.path().join("none")).unwrap_err().to_string().contains("cannot read"));
    }
}
