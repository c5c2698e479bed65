//! The runs of a folder side by side: how far each came, its best and its final measures, and where their configurations
//! differ.

use crate::error::{Error, Result};
use crate::report::page::{events, name};
use crate::train::checkpoint;
use crate::train::folder::RunFolder;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A run, as a list shows it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its folder.
    pub path: PathBuf,
    /// `finished`, or where it stands.
    pub state: String,
    /// Epochs that have ended.
    pub epochs: u64,
    /// Updates.
    pub updates: u64,
    /// The lowest validation loss (training loss where there is none), and its epoch.
    pub best: Option<(f64, u64)>,
    /// The highest validation accuracy.
    pub accuracy: Option<f64>,
    /// Loss and accuracy of the test part.
    pub test: Option<(f64, f64)>,
    /// The configuration as text: key with its sections, value.
    pub config: BTreeMap<String, String>,
}

impl Entry {
    /// Reads the folder of a run.
    pub fn read(path: &Path) -> Result<Entry> {
        let file = path.join("config.toml");
        let text = fs::read_to_string(&file)
            .map_err(|e| Error::input(file.display(), format!("cannot read the file: {e}")))?;
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| Error::input(file.display(), e.message().to_string()))?;
        let mut config = BTreeMap::new();
        flatten("", &toml::Value::Table(table), &mut config);
        let events = events(path)?;
        let epochs: Vec<&Value> = events.iter().filter(|e| e["event"] == "epoch").collect();
        let loss = |e: &Value| e["validation_loss"].as_f64().or(e["train_loss"].as_f64());
        let losses = epochs.iter().filter_map(|e| Some((loss(e)?, e["epoch"].as_u64()?)));
        let accuracies = epochs.iter().filter_map(|e| e["validation_accuracy"].as_f64());
        let test = events.iter().rev().find(|e| e["event"] == "test");
        let updates = events.iter().rev().find_map(|e| e["step"].as_u64()).unwrap_or(0);
        let state = match (RunFolder::result(path).is_some(), checkpoint::list(path).first()) {
            (true, _) => "finished".into(),
            (false, Some((step, _))) => format!("saved at {step}"),
            (false, None) => "not saved".into(),
        };
        Ok(Entry {
            path: path.to_path_buf(),
            state,
            epochs: epochs.len() as u64,
            updates,
            best: losses.min_by(|a, b| a.0.total_cmp(&b.0)),
            accuracy: accuracies.max_by(f64::total_cmp),
            test: test.and_then(|t| Some((t["loss"].as_f64()?, t["accuracy"].as_f64()?))),
            config,
        })
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "run": self.path.to_string_lossy(), "state": self.state, "epochs": self.epochs, "updates": self.updates,
            "best_loss": self.best.map(|b| b.0), "best_epoch": self.best.map(|b| b.1),
            "best_accuracy": self.accuracy, "test_loss": self.test.map(|t| t.0),
            "test_accuracy": self.test.map(|t| t.1), "config": self.config,
        })
    }
}

fn flatten(prefix: &str, value: &toml::Value, out: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, out);
            }
        }
        other => drop(out.insert(prefix.to_string(), other.to_string())),
    }
}

/// The runs in `dir`, by name, or `dir` itself if it is one. Folders that cannot be read are in the second list.
pub fn find(dir: &Path) -> Result<(Vec<Entry>, Vec<String>)> {
    let is_run = |p: &Path| p.join("config.toml").is_file() && p.join("metrics.jsonl").is_file();
    let mut paths: Vec<PathBuf> = match is_run(dir) {
        true => vec![dir.to_path_buf()],
        false => {
            let entries = fs::read_dir(dir).map_err(|e| {
                Error::input(dir.display(), format!("cannot read the folder: {e}; `kiln train` makes runs in runs/"))
            })?;
            entries.flatten().map(|e| e.path()).filter(|p| is_run(p)).collect()
        }
    };
    // digits-2 before digits-10.
    paths.sort_by_key(|p| {
        let name = name(p);
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        (name[..digits].to_string(), name[digits..].parse::<u64>().unwrap_or(0), name.clone())
    });
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match Entry::read(&path) {
            Ok(entry) => found.push(entry),
            Err(e) => problems.push(e.to_string()),
        }
    }
    Ok((found, problems))
}

/// The keys whose values differ between the runs.
pub fn differences(entries: &[Entry]) -> Vec<String> {
    let keys: BTreeSet<&String> = entries.iter().flat_map(|e| e.config.keys()).collect();
    let differs = |key: &&String| entries.iter().any(|e| e.config.get(*key) != entries[0].config.get(*key));
    keys.into_iter().filter(differs).cloned().collect()
}

/// A table of text: the first row is its head; columns are as wide as they must be.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(s, &w)| format!("{s:<w$}")).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &Path, name: &str, lr: f64, loss: f64) {
        let path = dir.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("config.toml"), format!("epochs = 2\n[optimizer]\nlr = {lr}\n")).unwrap();
        let lines = format!(
            "{{\"event\":\"step\",\"step\":1,\"loss\":3.0}}\n{{\"event\":\"epoch\",\"epoch\":1,\"step\":1,\"train_loss\":1.0,\"validation_loss\":{loss},\"validation_accuracy\":0.5}}\n{{\"event\":\"epoch\",\"epoch\":2,\"step\":2,\"train_loss\":0.5,\"validation_loss\":{},\"validation_accuracy\":0.4}}\n{{\"cut",
            loss + 1.0
        );
        fs::write(path.join("metrics.jsonl"), lines).unwrap();
    }

    #[test]
    fn runs_are_found_in_order_and_compared() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "a-10", 0.1, 0.7);
        run(dir.path(), "a-2", 0.2, 0.9);
        fs::create_dir(dir.path().join("something")).unwrap();
        let (found, problems) = find(dir.path()).unwrap();
        assert!(problems.is_empty());
        assert_eq!(found.iter().map(|e| name(&e.path)).collect::<Vec<_>>(), ["a-2", "a-10"]);
        assert_eq!(differences(&found), ["optimizer.lr"]);
        let e = &found[1];
        assert_eq!((e.best, e.accuracy, e.epochs, e.updates), (Some((0.7, 1)), Some(0.5), 2, 2));
        assert_eq!((e.state.as_str(), e.test), ("not saved", None));
        assert_eq!(find(&dir.path().join("a-2")).unwrap().0.len(), 1);
        assert!(find(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
        fs::write(dir.path().join("a-2/config.toml"), "= nonsense").unwrap();
        assert_eq!(find(dir.path()).unwrap().1.len(), 1);
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["run".to_string(), "loss".into()], vec!["long name".into(), "1".into()]];
        assert_eq!(table(&rows), "run        loss\nlong name  1\n");
    }
}
