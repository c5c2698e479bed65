//! Files that are whole or not there: written under another name, brought to the disk, renamed; tensors as safetensors;
//! the hashes by which a file that was cut short is found out. Who calls it: checkpoints, run folders, weights.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Writes a file under another name in its folder, brings it to the disk, then renames it: a reader, also one after a
/// crash, finds the old content or the new one, never a part.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        write_synced(&temporary, bytes)?;
        fs::rename(&temporary, path)?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|e| {
        // What cannot be removed is at least not under the real name.
        let _ = fs::remove_file(&temporary);
        Error::input(path.display(), format!("cannot write the file: {e}"))
    })
}

/// Writes a file in place and brings it to the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Brings the names in a folder to the disk, where the system has that.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Windows opens no folders as files; there the rename itself is journalled.
    if cfg!(unix) { fs::File::open(path)?.sync_all() } else { Ok(()) }
}

/// The SHA-256 of some bytes, as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Tensors as the bytes of a safetensors file, with texts in its metadata. Types are torch's.
pub fn encode(tensors: &[(String, HostTensor)], metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let broken = |e: safetensors::SafeTensorError| Error::internal("checkpoint", e.to_string());
    let wide: Vec<Option<Vec<u8>>> = tensors.iter().map(|(name, t)| counter_bytes(name, t)).collect();
    let views = tensors
        .iter()
        .zip(&wide)
        .map(|((name, t), wide)| {
            let (dtype, bytes) = match (t.dtype(), wide) {
                (_, Some(wide)) => (Dtype::I64, &wide[..]),
                (DType::F32, None) => (Dtype::F32, t.as_bytes()),
                (DType::F16, None) => (Dtype::F16, t.as_bytes()),
                (DType::I32, None) => (Dtype::I32, t.as_bytes()),
                (DType::U32 | DType::Bool, None) => (Dtype::U32, t.as_bytes()),
            };
            Ok((name.as_str(), TensorView::new(dtype, t.shape.to_vec(), bytes).map_err(broken)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    safetensors::serialize(views, (!metadata.is_empty()).then_some(metadata)).map_err(broken)
}

/// A counter of batches (batch norm's) as torch keeps it, in 64 bits; `None` for any other tensor.
fn counter_bytes(name: &str, t: &HostTensor) -> Option<Vec<u8>> {
    let counter = t.as_i32().ok().filter(|_| name.rsplit('.').next() == Some("num_batches_tracked"))?;
    Some(counter.iter().flat_map(|&n| i64::from(n).to_le_bytes()).collect())
}

/// The tensors of a safetensors file. 16-bit and 64-bit floats become f32; 64-bit integers (torch's counters) become i32
/// if they fit. `source` names the file in errors.
pub fn decode(bytes: &[u8], source: &str) -> Result<BTreeMap<String, HostTensor>> {
    let corrupt = |e: safetensors::SafeTensorError| {
        Error::input(source, format!("is not a whole safetensors file ({e}); take another checkpoint"))
    };
    let file = SafeTensors::deserialize(bytes).map_err(corrupt)?;
    file.tensors().into_iter().map(|(name, view)| Ok((name.clone(), tensor(&name, &view, source)?))).collect()
}

fn tensor(name: &str, view: &TensorView, source: &str) -> Result<HostTensor> {
    let (shape, data) = (view.shape(), view.data());
    match view.dtype() {
        Dtype::F32 => HostTensor::from_bytes(DType::F32, shape, data),
        Dtype::I32 => HostTensor::from_bytes(DType::I32, shape, data),
        Dtype::U32 => HostTensor::from_bytes(DType::U32, shape, data),
        Dtype::F64 => {
            let values = data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect();
            HostTensor::f32(shape, values)
        }
        Dtype::BF16 => {
            let bits = data.as_chunks::<2>().0.iter().map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
            HostTensor::f32(shape, bits.collect())
        }
        Dtype::F16 => {
            let values = data.as_chunks::<2>().0.iter().map(|b| half_to_f32(u16::from_le_bytes(*b))).collect();
            HostTensor::f32(shape, values)
        }
        Dtype::I64 => {
            let values = data.as_chunks::<8>().0.iter().map(|b| i32::try_from(i64::from_le_bytes(*b)));
            let values = values.collect::<std::result::Result<Vec<i32>, _>>().map_err(|_| {
                Error::input(source, format!("{name:?} holds 64-bit integers that do not fit into 32 bits"))
            })?;
            HostTensor::i32(shape, values)
        }
        Dtype::BOOL => HostTensor::u32(shape, data.iter().map(|&b| u32::from(b != 0)).collect()),
        other => {
            let detail = format!("{name:?} has element type {other:?}, which kiln does not read; convert it to F32");
            Err(Error::input(source, detail))
        }
    }
}

/// An IEEE half as f32, exactly.
fn half_to_f32(h: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(h >> 15) << 31, u32::from(h >> 10 & 31), u32::from(h & 1023));
    match exponent {
        // Zero and subnormals: fraction * 2^-24.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        31 => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// One text of the metadata of a safetensors file.
pub fn metadata(bytes: &[u8], key: &str) -> Option<String> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    header.metadata().as_ref()?.get(key).cloned()
}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::input(path.display(), format!("cannot read the file: {e}")))
}

/// Writes a weights file.
pub fn save_weights(path: &Path, tensors: &[(String, HostTensor)]) -> Result<()> {
    write_whole(path, &encode(tensors, &[])?)
}

/// Reads a weights file.
pub fn load_weights(path: &Path) -> Result<BTreeMap<String, HostTensor>> {
    decode(&read(path)?, &path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrupt_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        save_weights(&path, &[("a".to_string(), HostTensor::scalar(1.0))]).unwrap();
        // Nothing but the file itself is left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 1], &whole[..4], b"rubbish that is long enough to have a header"] {
            fs::write(&path, bytes).unwrap();
            let message = load_weights(&path).unwrap_err().to_string();
            assert!(message.contains("w.safetensors") && message.contains("safetensors file"), "{message}");
        }
        assert!(load_weights(&dir.path().join("none")).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn other_element_types_are_converted() {
        let file = |dtype, shape: Vec<usize>, data: &[u8]| {
            safetensors::serialize([("x", TensorView::new(dtype, shape, data).unwrap())], None).unwrap()
        };
        let read = |bytes: &[u8]| decode(bytes, "f").map(|mut m| m.remove("x").unwrap());
        let halves: Vec<u8> =
            [0x3C00u16, 0xC000, 0x0001, 0x7C00, 0x7BFF].iter().flat_map(|h| h.to_le_bytes()).collect();
        let x = read(&file(Dtype::F16, vec![5], &halves)).unwrap();
        assert_eq!(x.as_f32().unwrap(), [1.0, -2.0, 2f32.powi(-24), f32::INFINITY, 65504.0]);
        let x = read(&file(Dtype::BF16, vec![1], &0xBF80u16.to_le_bytes())).unwrap();
        assert_eq!(x.as_f32().unwrap(), [-1.0]);
        let x = read(&file(Dtype::F64, vec![], &0.5f64.to_le_bytes())).unwrap();
        assert_eq!(x, HostTensor::scalar(0.5));
        let x = read(&file(Dtype::I64, vec![1], &(-7i64).to_le_bytes())).unwrap();
        assert_eq!(x.as_i32().unwrap(), [-7]);
        let e = read(&file(Dtype::I64, vec![1], &i64::MAX.to_le_bytes())).unwrap_err().to_string();
        assert!(e.contains("\"x\"") && e.contains("32 bits"), "{e}");
        let e = read(&file(Dtype::U8, vec![1], &[1])).unwrap_err().to_string();
        assert!(e.contains("U8") && e.contains("F32"), "{e}");
    }

    #[test]
    fn hashes_are_sha256() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
