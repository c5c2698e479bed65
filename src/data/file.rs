//! Files of data as bytes or text, gzipped or not: recognised by their content, never by their name.

use crate::data::idx::gunzip;
use crate::error::{Error, Result};
use std::path::Path;

/// The bytes of a file, decompressed. Errors name the file.
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|e| Error::input(path.display(), format!("cannot read the file: {e}")))?;
    match bytes.starts_with(&[0x1F, 0x8B]) {
        true => gunzip(&bytes, &path.display().to_string()),
        false => Ok(bytes),
    }
}

/// The UTF-8 text of a file, decompressed, without a byte order mark. Errors name the file, and the line that is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let text = String::from_utf8(bytes(path)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        let detail = format!("is not UTF-8 text (line {line}); convert it, for example with iconv -t UTF-8");
        Error::input(path.display(), detail)
    })?;
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_string).unwrap_or(text))
}
