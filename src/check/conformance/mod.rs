//! The conformance runner: cases computed elsewhere (torch), run through kiln on a device and compared within the
//! tolerances that come with them. Nothing here looks at a case's file name, shapes or values to decide how to run it.

pub mod compare;
pub mod exec;
pub mod file;
mod functions;
mod hvp;
mod modules;
mod optimizers;
mod schedules;

use crate::backend::Device;

use crate::check::expect;
use crate::error::{Error, Result};
use exec::Outcome;
use file::{Case, Kind};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How to run a folder of cases.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A case of which any step ran on the CPU fails, but for those that `check/expect.rs` lists.
    pub no_fallback: bool,
    /// Only files whose name contains this.
    pub filter: Option<String>,
}

/// A case that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The file's name without extension.
    pub file: String,
    /// What is wrong: the worst element, or the error.
    pub detail: String,
}

/// The result of a folder of cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed, in the order of their names.
    pub failures: Vec<Failure>,
    /// Passed and failed cases per kind and name.
    pub table: BTreeMap<(String, String), (usize, usize)>,
    /// How long each case took, from its graph to the comparison, in the order of their names.
    pub times: Vec<(String, Duration)>,
}

impl Summary {
    /// The `count` cases that took longest, longest first.
    pub fn slowest(&self, count: usize) -> Vec<&(String, Duration)> {
        let mut all: Vec<&(String, Duration)> = self.times.iter().collect();
        all.sort_by_key(|(_, t)| std::cmp::Reverse(*t));
        all.truncate(count);
        all
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "FAIL {}: {}", failure.file, failure.detail)?;
        }
        for ((kind, name), (passed, failed)) in &self.table {
            writeln!(f, "{kind:<10} {name:<32} {passed:>4} passed {failed:>4} failed")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())
    }
}

/// Runs all `.safetensors` files of a folder, in the order of their names.
pub fn run(dir: &Path, device: &Device, options: &Options) -> Result<Summary> {
    let unreadable = |e: std::io::Error| Error::input(dir.display(), format!("cannot be read: {e}"));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let wanted = options.filter.as_ref().is_none_or(|f| name.contains(f.as_str()));
        if path.extension().is_some_and(|e| e == "safetensors") && wanted {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Error::input(dir.display(), "holds no .safetensors file (that the filter lets through)"));
    }
    paths.sort();
    let mut summary = Summary::default();
    for path in paths {
        let file = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let case = Case::read(&path);
        let row = case.as_ref().map_or(("?".to_string(), file.clone()), |c| (c.kind.word().into(), c.name.clone()));
        let counts = summary.table.entry(row).or_default();
        let start = Instant::now();
        let outcome = case.map_err(|e| e.to_string()).and_then(|c| check(&c, device, options));
        summary.times.push((file.clone(), start.elapsed()));
        match outcome {
            Ok(()) => {
                counts.0 += 1;
                summary.passed += 1;
            }
            Err(detail) => {
                counts.1 += 1;
                summary.failures.push(Failure { file, detail });
            }
        }
    }
    Ok(summary)
}

/// Runs one case and compares; the message says why it fails.
pub fn check(case: &Case, device: &Device, options: &Options) -> std::result::Result<(), String> {
    let outcome = execute(case, device).map_err(|e| e.to_string())?;
    for (name, want) in case.results() {
        let got = outcome.results.get(name).ok_or_else(|| format!("{name}: there is no such result"))?;
        compare::compare(name, got, want, case.tolerance(name))?;
    }
    if options.no_fallback
        && let Some(step) = outcome.fallbacks.iter().find(|_| !expect::may_fall_back(case))
    {
        return Err(format!("ran on the CPU: {step}"));
    }
    Ok(())
}

fn execute(case: &Case, device: &Device) -> Result<Outcome> {
    match case.kind {
        Kind::Function => functions::run(case, device),
        Kind::Module => modules::run(case, device),
        Kind::Optimizer => optimizers::run(case, device),
        Kind::Schedule => schedules::run(case),
        Kind::Hvp => hvp::run(case, device),
    }
}
