//! Tuning files: which variant of a kernel a region gets on one adapter, as `kiln tune` measured it. One TOML file per adapter, in
//! the folder that `KILN_TUNING` names. What does not fit (another driver, another kiln, a damaged file) is not used, with a reason.

use super::kernels::candidates::{Pick, Picks};
use crate::backend::DeviceInfo;
use crate::config::config;
use crate::error::Result;
use crate::train::files::{sha256, write_whole};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Changes when the meaning of a file changes.
const FORMAT: u32 = 1;

/// The content of a tuning file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    format: u32,
    kiln: String,
    adapter: String,
    driver: String,
    /// The picks, by region.
    #[serde(rename = "pick", default)]
    pub entries: Vec<Entry>,
}

/// One pick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What the region computes, for people.
    pub what: String,
    /// The region's digest (`kernels::candidates::key`).
    pub region: String,
    /// The fastest variant.
    pub variant: String,
    /// Digest of its kernels (`kernels::candidates::texts`).
    pub texts: String,
    /// Milliseconds that it took.
    pub ms: f64,
    /// Milliseconds that the built-in pick took.
    pub built_in_ms: f64,
}

impl Tuning {
    /// Nothing yet, for this adapter.
    pub fn new(info: &DeviceInfo) -> Tuning {
        let kiln = env!("CARGO_PKG_VERSION").to_string();
        Tuning { format: FORMAT, kiln, adapter: info.name.clone(), driver: info.driver.clone(), entries: Vec::new() }
    }

    /// Puts an entry in, in place of the one of the same region.
    pub fn put(&mut self, entry: Entry) {
        self.remove(&entry.region);
        let at = self.entries.partition_point(|e| (&e.what, &e.region) < (&entry.what, &entry.region));
        self.entries.insert(at, entry);
    }

    /// Forgets what is said of a region: the built-in pick is the best.
    pub fn remove(&mut self, region: &str) {
        self.entries.retain(|e| e.region != region);
    }

    /// As kernel selection takes it.
    pub fn picks(&self) -> Picks {
        let pick = |e: &Entry| Pick { variant: e.variant.clone(), texts: e.texts.clone() };
        self.entries.iter().map(|e| (e.region.clone(), pick(e))).collect()
    }

    /// Reads the file of an adapter: `None` if there is none, the reason if it cannot be used.
    pub fn read(path: &Path, info: &DeviceInfo) -> Result<Option<Tuning>, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("cannot be read: {e}")),
        };
        let file: Tuning =
            toml::from_str(&text).map_err(|e| format!("is damaged: {}", e.to_string().trim().replace('\n', " ")))?;
        let new = Tuning::new(info);
        if (file.format, &file.kiln) != (new.format, &new.kiln) {
            return Err(format!("is of kiln {} (format {}), this is {}", file.kiln, file.format, new.kiln));
        }
        if (&file.adapter, &file.driver) != (&new.adapter, &new.driver) {
            return Err(format!("is about {} ({}), not {} ({})", file.adapter, file.driver, new.adapter, new.driver));
        }
        for (i, e) in file.entries.iter().enumerate() {
            let sound = |ms: f64| ms.is_finite() && ms > 0.0;
            if e.variant.is_empty() || !sound(e.ms) || !sound(e.built_in_ms) {
                return Err(format!("is damaged: pick {} ({}) has no variant or no times", i + 1, e.what));
            }
            if file.entries[..i].iter().any(|other| other.region == e.region) {
                return Err(format!("is damaged: there are two picks for region {} ({})", e.region, e.what));
            }
        }
        Ok(Some(file))
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |e: String| crate::Error::input(path.display(), e);
        let text = toml::to_string(self).map_err(|e| failed(e.to_string()))?;
        let head = "# Measured by `kiln tune`; delete this file, or set KILN_TUNING=0, to be without.\n";
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| failed(format!("cannot make the folder: {e}")))?;
        }
        write_whole(path, format!("{head}{text}").as_bytes())
    }
}

/// Where the tuning file of an adapter is; `None` where `KILN_TUNING=0` switches tuning off, or the system has no such place.
pub fn path(info: &DeviceInfo) -> Option<PathBuf> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = info.name.chars().map(plain).collect();
    let mut parts: Vec<&str> = name.split('-').filter(|p| !p.is_empty()).collect();
    // Adapters differ in their names: what is cut off a long one is rather a driver's version.
    parts.truncate(8);
    config().tuning_dir().map(|dir| dir.join(format!("{}.toml", parts.join("-"))))
}

/// What tells these picks from others, for people and for resumed runs.
pub(super) fn name(picks: &Picks) -> String {
    let digest = sha256(format!("{picks:?}").as_bytes());
    format!("{} tuned picks {}", picks.len(), &digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendKind;

    fn info(driver: &str) -> DeviceInfo {
        let (kind, name) = (BackendKind::Gpu, "Radeon (TM) Pro".to_string());
        DeviceInfo { kind, name, driver: driver.into(), software: false }
    }

    fn entry(region: &str, variant: &str) -> Entry {
        let (what, texts) = (format!("[dot] {region}"), "t".to_string());
        Entry { what, region: region.into(), variant: variant.into(), texts, ms: 0.5, built_in_ms: 1.25 }
    }

    #[test]
    fn files_come_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.toml");
        assert_eq!(Tuning::read(&path, &info("1")), Ok(None));
        let mut file = Tuning::new(&info("1"));
        ["r2", "r1"].iter().for_each(|r| file.put(entry(r, "tiled_64:2")));
        file.put(entry("r2", "tiled_32"));
        file.write(&path).unwrap();
        let text = fs::read(&path).unwrap();
        let back = Tuning::read(&path, &info("1")).unwrap().unwrap();
        assert_eq!(back, file);
        let variants: Vec<_> = back.picks().into_iter().map(|(r, p)| (r, p.variant)).collect();
        assert_eq!(variants, [("r1".into(), "tiled_64:2".into()), ("r2".to_string(), "tiled_32".to_string())]);
        // In whichever order they were measured, the file is the same.
        let mut other = Tuning::new(&info("1"));
        [("r1", "tiled_64:2"), ("r2", "tiled_32")].iter().for_each(|(r, v)| other.put(entry(r, v)));
        other.write(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text);
        file.remove("r1");
        assert_eq!(file.entries.len(), 1);
    }

    #[test]
    fn stale_and_damaged_files_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.toml");
        let mut file = Tuning::new(&info("1"));
        file.put(entry("r1", "tiled_64"));
        file.write(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let why = |text: &str, driver: &str| {
            fs::write(&path, text).unwrap();
            Tuning::read(&path, &info(driver)).unwrap_err()
        };
        assert!(why(&good, "2").contains("not Radeon (TM) Pro (2)"));
        let version = format!("kiln = \"{}\"", env!("CARGO_PKG_VERSION"));
        assert!(why(&good.replace(&version, "kiln = \"0.0.0\""), "1").contains("kiln 0.0.0"));
        assert!(why(&good.replace("format = 1", "format = 2"), "1").contains("format 2"));
        for damaged in [
            good[..good.len() / 2].to_string(),
            good.replace("variant =", "varient ="),
            good.replace("\"tiled_64\"", "\"\""),
            good.replace("ms = 0.5", "ms = nan"),
            format!("{good}{}", &good[good.find("[[pick]]").unwrap()..]),
            "\u{0}\u{1}".into(),
        ] {
            assert!(why(&damaged, "1").contains("damaged"), "{damaged}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(Tuning::read(&path, &info("1")).unwrap_err().contains("cannot be read"));
        fs::write(&path, good).unwrap();
        assert!(Tuning::read(&path, &info("1")).unwrap().is_some());
    }
}
