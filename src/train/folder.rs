//! The folder of a run. It is made, whole, when everything that can be wrong with the input has been checked.
#![doc = include_str!("FORMAT.md")]

use crate::error::{Error, Result};
use crate::train::RunConfig;
use crate::train::checkpoint::FORMAT;
use crate::train::config::Draft;
use crate::train::files::{sync_folder, write_whole};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// File with the version of the layout.
const VERSION: &str = "run.json";
const METRICS: &str = "metrics.jsonl";
const RESULT: &str = "result.json";

/// What `run.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    format: u32,
    kiln: String,
}

/// A run's folder with its metrics file open for appending.
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    bytes: u64,
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    Error::input(path.display(), format!("cannot make the run's folder: {e}; choose another with --out"))
}

/// Removes what a killed process was writing: files whose names end in `.tmp` and its number. What cannot be removed stays.
fn sweep(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.rsplit_once(".tmp").is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl RunFolder {
    /// Makes the folder `out`, or the first free `runs/<preset>-<n>`, with the configuration in it.
    pub fn create(out: Option<&Path>, config: &RunConfig) -> Result<RunFolder> {
        let parent = match out {
            Some(path) => path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            None => Path::new("runs"),
        };
        fs::create_dir_all(parent).map_err(|e| failed(parent, &e))?;
        // Filled under a name of its own first: a folder of a run has a configuration from its first moment on.
        let new = parent.join(format!(".new-run.tmp{}", std::process::id()));
        let path = RunFolder::fill(&new, config).and_then(|()| RunFolder::claim(&new, out, parent, &config.preset));
        if path.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        let path = path?;
        sync_folder(parent).map_err(|e| failed(&path, &e))?;
        RunFolder::open(&path)
    }

    fn fill(new: &Path, config: &RunConfig) -> Result<()> {
        fs::create_dir_all(new).map_err(|e| failed(new, &e))?;
        write_whole(&new.join("config.toml"), config.to_toml()?.as_bytes())?;
        let version = Version { format: FORMAT, kiln: env!("CARGO_PKG_VERSION").into() };
        let text = serde_json::to_vec(&version).map_err(|e| Error::internal("run folder", e.to_string()))?;
        write_whole(&new.join(VERSION), &text)?;
        File::create(new.join(METRICS)).map_err(|e| failed(new, &e)).map(drop)
    }

    /// Gives the filled folder its name.
    fn claim(new: &Path, out: Option<&Path>, parent: &Path, preset: &str) -> Result<PathBuf> {
        if let Some(path) = out {
            if path.exists() {
                let detail = "exists already; choose another folder, or continue the run in it with --resume";
                return Err(Error::input(path.display(), detail));
            }
            return fs::rename(new, path).map(|()| path.to_path_buf()).map_err(|e| failed(path, &e));
        }
        for n in 1.. {
            let path = parent.join(format!("{preset}-{n}"));
            // Another process may take the name in between: renaming onto its folder, which is not empty, fails.
            if !path.exists() {
                match fs::rename(new, &path) {
                    Ok(()) => return Ok(path),
                    Err(_) if path.exists() => {}
                    Err(e) => return Err(failed(&path, &e)),
                }
            }
        }
        Err(Error::input(parent.display(), "has no free name for the run's folder; choose one with --out"))
    }

    /// The configuration of an existing run.
    pub fn config(path: &Path) -> Result<RunConfig> {
        let file = path.join("config.toml");
        if !file.is_file() {
            let detail =
                "is not the folder of a run (it holds no config.toml); `kiln train` prints the folder of each run";
            return Err(Error::input(path.display(), detail));
        }
        RunFolder::check_version(path)?;
        // Its preset key only names it: the file is complete, and presets may change with versions.
        let text = fs::read_to_string(&file)
            .map_err(|e| Error::input(file.display(), format!("cannot read the file: {e}")))?;
        Draft::complete(&text, file.display().to_string())?.finish()
    }

    /// Errors if the folder was written by a later kiln in a layout that this one does not know.
    fn check_version(path: &Path) -> Result<()> {
        let file = path.join(VERSION);
        let bytes = fs::read(&file).map_err(|e| {
            let detail = format!("cannot be read ({e}); a run's folder of this kiln has this file with its format");
            Error::input(file.display(), detail)
        })?;
        let version: Version = serde_json::from_slice(&bytes).map_err(|e| {
            Error::input(file.display(), format!("is damaged: {e}; it should be {{\"format\": {FORMAT}}}"))
        })?;
        if version.format > FORMAT {
            let Version { format, kiln } = version;
            let detail =
                format!("the run has format {format} of kiln {kiln}, this kiln reads up to {FORMAT}; use a newer kiln");
            return Err(Error::input(path.display(), detail));
        }
        Ok(())
    }

    /// Opens an existing run to go on with it, which no other process may do meanwhile.
    pub fn open(path: &Path) -> Result<RunFolder> {
        let file = path.join(METRICS);
        let failed = |e: std::io::Error| Error::input(file.display(), format!("cannot continue the file: {e}"));
        let metrics = OpenOptions::new().read(true).append(true).create(true).open(&file).map_err(failed)?;
        // Held until this process ends, however it does. On Windows a lock would keep readers out.
        if cfg!(unix) && matches!(metrics.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::input(
                path.display(),
                "another process is training in this folder; wait for it, or stop it",
            ));
        }
        sweep(path);
        let bytes = metrics.metadata().map_err(failed)?.len();
        Ok(RunFolder { path: path.to_path_buf(), metrics, bytes })
    }

    /// Lets the metrics continue after `bytes`: lines beyond belong to steps that are done again. The result says so if the
    /// file is shorter than that: lines are lost, but training needs none of them.
    pub fn cut(&mut self, bytes: u64) -> Result<Option<String>> {
        let file = self.path.join(METRICS);
        let failed = |e: std::io::Error| Error::input(file.display(), format!("cannot continue the file: {e}"));
        let length = self.metrics.metadata().map_err(failed)?.len();
        let (mut bytes, mut lost) = (bytes, None);
        if length < bytes {
            let mut text = Vec::new();
            self.metrics.read_to_end(&mut text).map_err(failed)?;
            let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1) as u64;
            lost = Some(format!(
                "{} was cut short: it has {length} bytes of the {bytes} before the checkpoint; its lines after byte {whole} are lost",
                file.display()
            ));
            bytes = whole;
        }
        self.metrics.set_len(bytes).map_err(failed)?;
        self.bytes = bytes;
        Ok(lost)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The file of the last weights: a copy for other programs.
    pub fn weights(&self) -> PathBuf {
        self.path.join("weights.safetensors")
    }
    /// The file of the best weights: a copy for other programs.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }
    /// Brings the metrics to the disk.
    pub fn sync(&self) -> Result<()> {
        self.metrics.sync_data().map_err(|e| {
            Error::input(self.path.join(METRICS).display(), format!("cannot bring the file to the disk: {e}"))
        })
    }

    /// Writes what the run came to: its last act.
    pub fn finish(&self, result: &serde_json::Value) -> Result<()> {
        write_whole(&self.path.join(RESULT), format!("{result:#}\n").as_bytes())
    }

    /// What a finished run came to; `None` for one that has not finished.
    pub fn result(path: &Path) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(path.join(RESULT)).ok()?).ok()
    }
    /// Length of the metrics so far.
    pub fn metrics_bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends lines to the metrics.
    pub fn log(&mut self, lines: &[serde_json::Value]) -> Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.metrics
            .write_all(text.as_bytes())
            .map_err(|e| Error::input(self.path.join(METRICS).display(), format!("cannot write the file: {e}")))?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}
