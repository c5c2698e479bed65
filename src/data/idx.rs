//! IDX files, the format of MNIST and its relatives: four bytes of magic (0, 0, element type, rank), the dimensions as
//! big-endian u32, the elements. Gzipped files are recognised by their content, not by their name. Only unsigned bytes,
//! which is what these data sets hold.

use crate::error::{Error, Result};
use std::fs;
use std::io::Read;
use std::path::Path;

/// The contents of an IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// Sizes of the dimensions, outermost first.
    pub dims: Vec<usize>,
    /// The elements, row-major.
    pub data: Vec<u8>,
}

impl Idx {
    /// Reads a file. Errors name the file and what about it is wrong.
    pub fn open(path: &Path) -> Result<Idx> {
        let bytes = fs::read(path).map_err(|e| Error::input(path.display(), format!("cannot read the file: {e}")))?;
        Idx::parse(&bytes, &path.display().to_string())
    }

    /// Reads the bytes of a file that errors call `name`.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Idx> {
        let bytes = gunzip(bytes, name)?;
        let bad = |detail: String| Error::input(name, detail);
        let [zero0, zero1, kind, rank, rest @ ..] = &bytes[..] else {
            return Err(bad(format!("truncated: {} bytes, an IDX file starts with a magic of 4 bytes", bytes.len())));
        };
        if (*zero0, *zero1) != (0, 0) || !(0x08..=0x0E).contains(kind) {
            return Err(bad(format!(
                "wrong IDX magic {:02x} {:02x} {:02x} {:02x}; an IDX file of bytes starts with 00 00 08 and the number \
                 of dimensions. Is this the right file?",
                bytes[0], bytes[1], kind, rank
            )));
        }
        if *kind != 0x08 {
            return Err(bad(format!("IDX element type 0x{kind:02x} is not supported, only unsigned bytes (0x08)")));
        }
        let rank = *rank as usize;
        if rest.len() < 4 * rank {
            return Err(bad(format!("truncated: the header of {rank} dimensions is not complete")));
        }
        let (header, data) = rest.split_at(4 * rank);
        let dims: Vec<usize> =
            header.chunks_exact(4).map(|d| u32::from_be_bytes([d[0], d[1], d[2], d[3]]) as usize).collect();
        let elems = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        match elems {
            Some(n) if n == data.len() => Ok(Idx { dims, data: data.to_vec() }),
            Some(n) if n > data.len() => {
                Err(bad(format!("truncated: dimensions {dims:?} need {n} bytes, the file holds {}", data.len())))
            }
            _ => Err(bad(format!("dimensions {dims:?} do not fit the {} bytes of the file", data.len()))),
        }
    }
}

/// The bytes themselves, or what they decompress to if they are gzip. Errors call the file `name`.
pub fn gunzip(bytes: &[u8], name: &str) -> Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1F, 0x8B]) {
        return Ok(bytes.to_vec());
    }
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).map_err(|e| {
        Error::input(name, format!("the gzip data is truncated or corrupt ({e}); fetch the file again"))
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        Idx::parse(bytes, "some-file").unwrap_err().to_string()
    }

    #[test]
    fn reads_dimensions_and_bytes() {
        let idx = Idx::parse(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6], "f").unwrap();
        assert_eq!(idx, Idx { dims: vec![2, 3], data: vec![1, 2, 3, 4, 5, 6] });
    }

    #[test]
    fn bad_files_are_named() {
        assert!(message(b"PK\x03\x04....").contains("wrong IDX magic 50 4b 03 04"));
        assert!(message(&[0, 0]).contains("truncated: 2 bytes"));
        assert!(message(&[0, 0, 8, 2, 0, 0, 0, 2]).contains("header"));
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 3, 1, 2]).contains("need 3 bytes, the file holds 2"));
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 1, 1, 2]).contains("do not fit"));
        assert!(
            message(&[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]).contains("do not fit")
        );
        assert!(message(&[0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0]).contains("0x0d"));
        assert!(message(&[0x1F, 0x8B, 8, 0, 0]).contains("gzip"));
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 3, 1, 2]).starts_with("some-file: "));
    }
}
