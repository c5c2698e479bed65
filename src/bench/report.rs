//! A benchmark's report as a file, and the comparison of two of them.

use super::{Peaks, Row};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything that one run of `kiln bench` measured, and on what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The device's name.
    pub device: String,
    /// Its driver and version.
    pub driver: String,
    /// True if it computes on the CPU.
    pub software: bool,
    /// The version of kiln.
    pub kiln: String,
    /// The operating system and processor architecture.
    pub system: String,
    /// Samples per workload.
    pub samples: usize,
    /// The device's limits.
    pub peaks: Peaks,
    /// The workloads.
    pub rows: Vec<Row>,
}

/// How a workload's time changed between two reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Less time, by more than both series scatter.
    Faster(f64),
    /// More time, by more than both series scatter.
    Slower(f64),
    /// The difference is within the scatter.
    Noise(f64),
}

impl Change {
    /// From the old row to the new one; the number is the ratio of the medians, new over old. A difference counts if it
    /// exceeds half the range of the old samples plus half that of the new ones.
    pub fn of(old: &Row, new: &Row) -> Change {
        let ratio = new.ms / old.ms;
        let scatter = (old.ms_max - old.ms_min + new.ms_max - new.ms_min) / 2.0;
        match new.ms - old.ms {
            d if d > scatter => Change::Slower(ratio),
            d if -d > scatter => Change::Faster(ratio),
            _ => Change::Noise(ratio),
        }
    }
}

impl Report {
    /// Reads a report that `kiln bench --report` wrote.
    pub fn read(path: &Path) -> Result<Report> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::input(path.display().to_string(), e.to_string()))?;
        serde_json::from_str(&text).map_err(|e| {
            let detail = format!("is no report of this version's `kiln bench --report`: {e}");
            Error::input(path.display().to_string(), detail)
        })
    }

    /// As text, for files and for `--json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Each workload that both reports have, with its change.
    pub fn changes<'a>(&'a self, old: &Report) -> Vec<(&'a str, Change)> {
        let before = |new: &Row| old.rows.iter().find(|r| r.name == new.name).cloned();
        self.rows.iter().filter_map(|new| Some((new.name.as_str(), Change::of(&before(new)?, new)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ms: f64, ms_min: f64, ms_max: f64) -> Row {
        Row { name: "w".into(), ms, ms_min, ms_max, ..Row::default() }
    }

    #[test]
    fn a_regression_is_one_only_beyond_the_scatter() {
        let old = row(10.0, 9.0, 11.0);
        assert_eq!(Change::of(&old, &row(11.5, 11.0, 12.0)), Change::Noise(1.15));
        assert_eq!(Change::of(&old, &row(12.0, 11.5, 12.5)), Change::Slower(1.2));
        assert_eq!(Change::of(&old, &row(8.0, 7.9, 8.1)), Change::Faster(0.8));
        assert_eq!(Change::of(&old, &row(20.0, 9.0, 40.0)), Change::Noise(2.0));
    }

    #[test]
    fn reports_come_back_as_written_and_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let peaks = Peaks { gflops: 1.0, gbytes: 2.0, launch_ms: 0.1 };
        let report = Report {
            device: "d".into(),
            driver: "v".into(),
            software: true,
            kiln: "0".into(),
            system: "s".into(),
            samples: 3,
            peaks,
            rows: vec![row(1.0, 0.5, 2.0)],
        };
        std::fs::write(&path, report.to_json()).unwrap();
        let back = Report::read(&path).unwrap();
        assert_eq!(back.rows, report.rows);
        assert_eq!(back.changes(&report), [("w", Change::Noise(1.0))]);
        std::fs::write(&path, "{}").unwrap();
        let e = Report::read(&path).unwrap_err().to_string();
        assert!(e.contains("report.json") && e.contains("missing field"), "{e}");
        assert!(Report::read(&dir.path().join("none.json")).is_err());
    }
}
