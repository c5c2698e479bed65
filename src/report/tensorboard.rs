//! Event files that TensorBoard reads: records of the TFRecord format (length, masked CRC-32C, bytes, masked CRC-32C), each
//! a protobuf message `tensorflow.Event` with scalars, histograms or texts. Only what is needed of protobuf is written.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file that grows.
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// A new event file in `folder`, which is made. `resumed_at` is the update after which a run continues: what older
    /// files say about later ones is dropped by TensorBoard.
    pub fn create(folder: &Path, resumed_at: Option<u64>) -> Result<EventWriter> {
        let failed = |e: std::io::Error| Error::input(folder.display(), format!("cannot write event files: {e}"));
        fs::create_dir_all(folder).map_err(failed)?;
        let now = wall_time();
        // The microseconds and the process keep two files of one second apart.
        let name = format!(
            "events.out.tfevents.{:010}.kiln.{}.{:06}",
            now as u64,
            std::process::id(),
            (now.fract() * 1e6) as u64
        );
        let path = folder.join(name);
        let mut writer = EventWriter { file: File::create(&path).map_err(failed)?, path };
        writer.record(&Message::default().double(1, now).bytes(3, b"brain.Event:2").0)?;
        if let Some(step) = resumed_at {
            // SessionLog { status: START }.
            writer.event(step, 7, &Message::default().int(1, 1))?;
        }
        Ok(writer)
    }

    /// A number at an update.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.value(tag, step, Message::default().float(2, value as f32))
    }

    /// How numbers are distributed at an update. Numbers that are not finite are left out.
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<()> {
        self.value(tag, step, Message::default().message(5, &histogram(values)))
    }

    /// A text at an update; Markdown.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<()> {
        const STRING: u64 = 7;
        let plugin = Message::default().message(1, &Message::default().bytes(1, b"text"));
        let shape = Message::default().message(2, &Message::default().int(1, 1));
        let tensor = Message::default().int(1, STRING).message(2, &shape).bytes(8, text.as_bytes());
        self.value(tag, step, Message::default().message(8, &tensor).message(9, &plugin))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn value(&mut self, tag: &str, step: u64, content: Message) -> Result<()> {
        let value = Message(Message::default().bytes(1, tag.as_bytes()).0.into_iter().chain(content.0).collect());
        self.event(step, 5, &Message::default().message(1, &value))
    }

    fn event(&mut self, step: u64, field: u64, what: &Message) -> Result<()> {
        self.record(&Message::default().double(1, wall_time()).int(2, step).message(field, what).0)
    }

    fn record(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = |e| Error::input(self.path.display(), format!("cannot write the file: {e}"));
        self.file.write_all(&record(bytes)).map_err(failed)
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// A record of the TFRecord format.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(bytes);
    out.extend(masked(crc32c(bytes)).to_le_bytes());
    out
}

/// The mask of TFRecord: a CRC of data that itself holds CRCs would be weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82F63B78.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut c, mut k) = (i as u32, 0);
            while k < 8 {
                c = if c & 1 == 1 { c >> 1 ^ 0x82F6_3B78 } else { c >> 1 };
                k += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |c, &b| TABLE[(c as u8 ^ b) as usize] ^ c >> 8)
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut x: u64) {
        while x >= 128 {
            self.0.push(x as u8 | 128);
            x >>= 7;
        }
        self.0.push(x as u8);
    }
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }
    fn int(mut self, field: u64, x: u64) -> Message {
        self.key(field, 0);
        self.varint(x);
        self
    }
    fn double(mut self, field: u64, x: f64) -> Message {
        self.key(field, 1);
        self.0.extend(x.to_le_bytes());
        self
    }
    fn float(mut self, field: u64, x: f32) -> Message {
        self.key(field, 5);
        self.0.extend(x.to_le_bytes());
        self
    }
    fn bytes(mut self, field: u64, x: &[u8]) -> Message {
        self.key(field, 2);
        self.varint(x.len() as u64);
        self.0.extend(x);
        self
    }
    fn message(self, field: u64, x: &Message) -> Message {
        self.bytes(field, &x.0)
    }
    fn doubles(self, field: u64, x: &[f64]) -> Message {
        self.bytes(field, &x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }
}

/// `HistogramProto` with 30 buckets of equal width between the smallest and the largest number.
fn histogram(values: &[f32]) -> Message {
    const BUCKETS: usize = 30;
    let finite = || values.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v));
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
    let width = if high > low { (high - low) / BUCKETS as f64 } else { 1.0 };
    let mut counts = vec![0.0; BUCKETS];
    for v in finite() {
        counts[(((v - low) / width) as usize).min(BUCKETS - 1)] += 1.0;
    }
    let limits: Vec<f64> = (1..=BUCKETS)
        .map(|i| if i == BUCKETS { high.max(low + width * i as f64) } else { low + width * i as f64 })
        .collect();
    let (sum, squares) = finite().fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
    Message::default()
        .double(1, low)
        .double(2, high)
        .double(3, finite().count() as f64)
        .double(4, sum)
        .double(5, squares)
        .doubles(6, &limits)
        .doubles(7, &counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[255; 32]), 0x62A8_AB43);
        // The first record that TensorFlow writes: length 24, "brain.Event:2" with a time of 1.0.
        let bytes = Message::default().double(1, 1.0).bytes(3, b"brain.Event:2").0;
        assert_eq!(bytes, [&[9, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, 26, 13][..], b"brain.Event:2"].concat());
        assert_eq!(record(&bytes)[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xA3, 0x7F, 0x4B, 0x22]);
    }

    #[test]
    fn messages_have_the_bytes_of_protobuf() {
        let value = Message::default().bytes(1, b"loss").float(2, 0.5);
        assert_eq!(value.0, [10, 4, b'l', b'o', b's', b's', 21, 0, 0, 0, 0x3F]);
        assert_eq!(Message::default().int(2, 300).0, [16, 0xAC, 2]);
        let h = histogram(&[0.0, 1.0, 1.0, f32::NAN, 3.0]);
        let number = |at: usize| f64::from_le_bytes(h.0[at + 1..at + 9].try_into().unwrap());
        assert_eq!([number(0), number(9), number(18), number(27), number(36)], [0.0, 3.0, 4.0, 5.0, 11.0]);
        // Two packed lists of 30 doubles: key, length 240 (two bytes), content.
        assert_eq!(h.0.len(), 45 + 2 * 243);
        assert!(histogram(&[]).0.len() == h.0.len() && histogram(&[2.0; 3]).0.len() == h.0.len());
    }

    #[test]
    fn files_are_rows_of_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = EventWriter::create(&dir.path().join("events"), Some(3)).unwrap();
        w.scalar("train/loss", 4, 0.25).unwrap();
        w.text("samples", 4, "In the beginning").unwrap();
        w.histogram("weights/a", 4, &[1.0, 2.0]).unwrap();
        let bytes = fs::read(w.path()).unwrap();
        let (mut at, mut count) = (0, 0);
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(record(&bytes[at + 12..at + 12 + length]), bytes[at..at + 16 + length]);
            (at, count) = (at + 16 + length, count + 1);
        }
        assert_eq!((at, count), (bytes.len(), 5));
    }
}
