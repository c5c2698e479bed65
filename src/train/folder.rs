//! The folder of a run: `config.toml`, `metrics.jsonl` (a JSON object a line), `weights.safetensors`, `state.safetensors`.
//! It is made when everything that can be wrong with the input has been checked.

use crate::error::{Error, Result};
use crate::train::RunConfig;
use crate::train::checkpoint::write_whole;
use crate::train::config::Draft;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A run's folder with its metrics file open for appending.
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    bytes: u64,
}

impl RunFolder {
    /// Makes the folder `out`, or the first free `runs/<preset>-<n>`, with the configuration in it.
    pub fn create(out: Option<&Path>, config: &RunConfig) -> Result<RunFolder> {
        let failed = |path: &Path, e: std::io::Error| {
            Error::input(path.display(), format!("cannot make the run's folder: {e}; choose another with --out"))
        };
        let path = match out {
            Some(path) => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
                }
                fs::create_dir(path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::AlreadyExists => {
                        let detail = "exists already; choose another folder, or continue the run in it with --resume";
                        Error::input(path.display(), detail)
                    }
                    _ => failed(path, e),
                })?;
                path.to_path_buf()
            }
            None => {
                let runs = Path::new("runs");
                fs::create_dir_all(runs).map_err(|e| failed(runs, e))?;
                let mut n = 1;
                loop {
                    let path = runs.join(format!("{}-{n}", config.preset));
                    match fs::create_dir(&path) {
                        Ok(()) => break path,
                        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
                        Err(e) => return Err(failed(&path, e)),
                    }
                }
            }
        };
        write_whole(&path.join("config.toml"), config.to_toml()?.as_bytes())?;
        let metrics = path.join("metrics.jsonl");
        let file = File::create(&metrics).map_err(|e| failed(&metrics, e))?;
        Ok(RunFolder { path, metrics: file, bytes: 0 })
    }

    /// The configuration of an existing run.
    pub fn config(path: &Path) -> Result<RunConfig> {
        let file = path.join("config.toml");
        if !file.is_file() {
            let detail =
                "is not the folder of a run (it holds no config.toml); `kiln train` prints the folder of each run";
            return Err(Error::input(path.display(), detail));
        }
        // Its preset key only names it: the file is complete, and presets may change with versions.
        let text = fs::read_to_string(&file)
            .map_err(|e| Error::input(file.display(), format!("cannot read the file: {e}")))?;
        Draft::complete(&text, file.display().to_string())?.finish()
    }

    /// Opens an existing run whose metrics continue after `bytes`: lines beyond belong to steps that are done again.
    pub fn reopen(path: &Path, bytes: u64) -> Result<RunFolder> {
        let file = path.join("metrics.jsonl");
        let failed = |e: std::io::Error| Error::input(file.display(), format!("cannot continue the file: {e}"));
        let metrics = OpenOptions::new().append(true).create(true).open(&file).map_err(failed)?;
        let length = metrics.metadata().map_err(failed)?.len();
        if length < bytes {
            let detail = format!("has {length} bytes, but the checkpoint was made after {bytes}; it was changed since");
            return Err(Error::input(file.display(), detail));
        }
        metrics.set_len(bytes).map_err(failed)?;
        Ok(RunFolder { path: path.to_path_buf(), metrics, bytes })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The file of the weights.
    pub fn weights(&self) -> PathBuf {
        self.path.join("weights.safetensors")
    }
    /// The file of the state.
    pub fn state(&self) -> PathBuf {
        self.path.join("state.safetensors")
    }
    /// Length of the metrics so far.
    pub fn metrics_bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends lines to the metrics.
    pub fn log(&mut self, lines: &[serde_json::Value]) -> Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.metrics.write_all(text.as_bytes()).map_err(|e| {
            Error::input(self.path.join("metrics.jsonl").display(), format!("cannot write the file: {e}"))
        })?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}
