//! Small images inside a page: PNG bytes and `data:` addresses.

use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use std::io::Write;

/// An image f32 [channels, height, width] (1: grey, 3: colour) as a PNG of 8 bits, with the smallest number black and the
/// largest white.
pub fn png(image: &HostTensor) -> Result<Vec<u8>> {
    let &[channels @ (1 | 3), height, width] = &image.shape[..] else {
        return Err(Error::input("image", format!("{} is no [1 or 3, height, width]", image.shape)));
    };
    let values = image.as_f32()?;
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    let mut rows = Vec::with_capacity(height * (1 + channels * width));
    for y in 0..height {
        // Each row begins with its filter: none.
        rows.push(0);
        for x in 0..width {
            // What is not finite casts to 0 or 255.
            rows.extend((0..channels).map(|c| ((values[(c * height + y) * width + x] - low) * scale).round() as u8));
        }
    }
    let failed = |e: std::io::Error| Error::internal("png", e.to_string());
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&rows).map_err(failed)?;
    let packed = packed.finish().map_err(failed)?;

    let mut header = Vec::new();
    header.extend((width as u32).to_be_bytes());
    header.extend((height as u32).to_be_bytes());
    // 8 bits; grey or colour; the only compression and filter methods; not interlaced.
    header.extend([8, if channels == 1 { 0 } else { 2 }, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", &header), (b"IDAT", &packed), (b"IEND", &Vec::new())] {
        out.extend((data.len() as u32).to_be_bytes());
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(data);
        out.extend(kind);
        out.extend(data);
        out.extend(crc.sum().to_be_bytes());
    }
    Ok(out)
}

/// Bytes as a `data:` address.
pub fn data_address(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", base64(bytes))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, &b| w << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, 10.
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn images_can_be_read_back() {
        let grey = HostTensor::f32([1, 2, 3], vec![0.0, 0.5, 1.0, 1.0, 0.25, 0.0]).unwrap();
        let read = image::load_from_memory(&png(&grey).unwrap()).unwrap().to_luma8();
        assert_eq!((read.dimensions(), read.into_raw()), ((3, 2), vec![0, 128, 255, 255, 64, 0]));
        let color = HostTensor::f32([3, 1, 1], vec![-1.0, 1.0, 0.0]).unwrap();
        let read = image::load_from_memory(&png(&color).unwrap()).unwrap().to_rgb8();
        assert_eq!(read.into_raw(), [0, 255, 128]);
        assert!(png(&HostTensor::scalar(1.0)).is_err());
    }
}
