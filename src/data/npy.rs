//! `.npy` files (numpy's array format, versions 1 to 3) and plain text numbers, as float tensors: the inputs of
//! `kiln predict`. Little-endian f4, f8, i1, i2, i4, i8, u1, u2, u4 and bool in C order.

use crate::error::{Error, Result};
use crate::tensor::HostTensor;

/// The array of a `.npy` file as f32. Errors call the file `name`.
pub fn parse(bytes: &[u8], name: &str) -> Result<HostTensor> {
    let bad = |detail: String| Error::input(name, detail);
    let truncated = || bad("truncated .npy file".to_string());
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(|| bad("not a .npy file (wrong magic)".to_string()))?;
    let &[major, _, ref rest @ ..] = rest else { return Err(truncated()) };
    let (len, rest) = match (major, rest) {
        (1, &[a, b, ref rest @ ..]) => (u16::from_le_bytes([a, b]) as usize, rest),
        (2 | 3, &[a, b, c, d, ref rest @ ..]) => (u32::from_le_bytes([a, b, c, d]) as usize, rest),
        (1..=3, _) => return Err(truncated()),
        _ => return Err(bad(format!("version {major} of the .npy format is not known"))),
    };
    if rest.len() < len {
        return Err(truncated());
    }
    let (header, data) = rest.split_at(len);
    let header = String::from_utf8_lossy(header);
    let descr = quoted(&header, "descr").ok_or_else(|| bad("the header has no 'descr'".to_string()))?;
    if after(&header, "fortran_order").is_some_and(|v| v.starts_with("True")) {
        return Err(bad("the array is in Fortran order; save it with np.ascontiguousarray".to_string()));
    }
    let shape = shape(&header).ok_or_else(|| bad("the header has no 'shape'".to_string()))?;
    let values = elements(descr, data).ok_or_else(|| {
        bad(format!("element type {descr:?} is not supported; save it as float32 (array.astype('float32'))"))
    })?;
    let elems = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if elems != Some(values.len()) {
        return Err(bad(format!("shape {shape:?} does not fit the {} elements of the file", values.len())));
    }
    HostTensor::f32(shape, values)
}

/// The numbers of a text, separated by blanks, commas or semicolons, as a vector. Errors call the text `name`.
pub fn parse_numbers(text: &str, name: &str) -> Result<Vec<f32>> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|w| !w.is_empty());
    let number = |w: &str| w.parse::<f32>().map_err(|_| Error::input(name, format!("{w:?} is not a number")));
    let values = words.map(number).collect::<Result<Vec<f32>>>()?;
    if values.is_empty() {
        return Err(Error::input(name, "no numbers in it"));
    }
    Ok(values)
}

/// The text after `'key':` in the header, a Python dictionary literal.
fn after<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let at = header.find(&format!("'{key}'"))? + key.len() + 2;
    Some(header[at..].trim_start().strip_prefix(':')?.trim_start())
}

fn quoted<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    after(header, key)?.strip_prefix('\'')?.split('\'').next()
}

fn shape(header: &str) -> Option<Vec<usize>> {
    let inside = after(header, "shape")?.strip_prefix('(')?.split(')').next()?;
    inside.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect()
}

fn elements(descr: &str, data: &[u8]) -> Option<Vec<f32>> {
    macro_rules! read {
        ($t:ty) => {{
            const N: usize = size_of::<$t>();
            let word = |b: &[u8]| <[u8; N]>::try_from(b).map_or(0 as $t, <$t>::from_le_bytes);
            data.chunks_exact(N).map(|b| word(b) as f32).collect()
        }};
    }
    Some(match descr.trim_start_matches(['<', '|', '=']) {
        "f4" => read!(f32),
        "f8" => read!(f64),
        "i1" => read!(i8),
        "i2" => read!(i16),
        "i4" => read!(i32),
        "i8" => read!(i64),
        "u1" | "b1" => read!(u8),
        "u2" => read!(u16),
        "u4" => read!(u32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.bytes());
        out.extend(data);
        out
    }

    #[test]
    fn arrays_of_floats_and_bytes() {
        let bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(parse(&npy("<f4", "(2,)", &bytes), "f").unwrap(), HostTensor::f32([2], vec![1.5, -2.0]).unwrap());
        let t = parse(&npy("|u1", "(1, 3)", &[7, 8, 255]), "f").unwrap();
        assert_eq!(t, HostTensor::f32([1, 3], vec![7.0, 8.0, 255.0]).unwrap());
        assert_eq!(parse(&npy("<f8", "()", &2.0f64.to_le_bytes()), "f").unwrap(), HostTensor::scalar(2.0));
    }

    #[test]
    fn bad_files_are_named() {
        let message = |b: &[u8]| parse(b, "x.npy").unwrap_err().to_string();
        assert!(message(b"hello").contains("x.npy: not a .npy file"));
        assert!(message(b"\x93NUMPY\x01\x00\xff").contains("truncated"));
        assert!(message(&npy("<c8", "(1,)", &[0; 8])).contains("\"<c8\""));
        assert!(message(&npy("<f4", "(3,)", &[0; 8])).contains("does not fit"));
        assert!(parse_numbers("1, 2 x", "t").unwrap_err().to_string().contains("\"x\""));
        assert_eq!(parse_numbers("1, 2\n-3.5e0;4", "t").unwrap(), [1.0, 2.0, -3.5, 4.0]);
    }
}
