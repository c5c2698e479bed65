//! Configurations on their way: TOML from presets, files and `--set`, merged key by key, then checked strictly. What is not
//! known is answered with the section, the line, and the nearest known name.

use super::{NamedLayer, RunConfig, custom};
use crate::data::table::nearest;
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// Names and texts of the presets, the default first.
pub const PRESETS: &[(&str, &str)] = &[
    ("digits-cnn", include_str!("../presets/digits-cnn.toml")),
    ("digits-mlp", include_str!("../presets/digits-mlp.toml")),
    ("chars-gpt", include_str!("../presets/chars-gpt.toml")),
    ("mnist-cnn", include_str!("../presets/mnist-cnn.toml")),
];

fn preset_table(name: &str, source: &str) -> Result<Table> {
    let Some((_, text)) = PRESETS.iter().find(|(n, _)| *n == name) else {
        let known: Vec<&str> = PRESETS.iter().map(|(n, _)| *n).collect();
        let hint = nearest(name, known.iter().copied());
        let detail = format!("there is no preset {name:?}{hint}; there are {}, or give a TOML file", known.join(", "));
        return Err(Error::input(source, detail));
    };
    let mut table = parse(text, &format!("preset {name}"))?;
    table.insert("preset".into(), Value::String(name.into()));
    Ok(table)
}

/// A configuration on its way: a table of keys, and where they come from.
#[derive(Debug, Clone)]
pub struct Draft {
    table: Table,
    source: String,
    /// The file as it is, to find lines in.
    text: String,
}

impl Draft {
    /// A preset by name, or a TOML file: what ends in `.toml` or has a path separator is a file.
    pub fn open(what: &str) -> Result<Draft> {
        if what.ends_with(".toml") || what.contains(['/', '\\']) {
            return Draft::file(Path::new(what));
        }
        let table = preset_table(what, "preset")?;
        Ok(Draft { table, source: format!("preset {what}"), text: String::new() })
    }

    /// A TOML file. If it names a preset, it changes that preset's keys; tables are merged key by key unless their
    /// `kind` differs.
    pub fn file(path: &Path) -> Result<Draft> {
        let source = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::input(&source, format!("cannot read the file: {e}")))?;
        let mut draft = Draft::text(&text, source)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if !draft.table.contains_key("preset") && stem.chars().all(|c| c.is_alphanumeric() || "-_".contains(c)) {
            draft.table.insert("preset".into(), stem.as_ref().into());
        }
        draft.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(draft)
    }

    /// Makes the paths of a file that are relative to its folder absolute; those that are not there stay as they are.
    fn resolve(&mut self, folder: &Path) {
        let absolute = |value: &mut Value| {
            let Some(path) = value.as_str().filter(|p| !p.is_empty()).map(|p| folder.join(p)) else { return };
            if let (true, Ok(path)) = (path.exists(), std::path::absolute(&path)) {
                *value = Value::String(path.to_string_lossy().into_owned());
            }
        };
        if let Some(Value::Table(data)) = self.table.get_mut("data") {
            ["path", "test_path", "validation_path", "targets", "nodes"]
                .iter()
                .filter_map(|k| data.get_mut(*k).map(absolute))
                .count();
        }
        self.table.get_mut("init").map(absolute);
    }

    /// The text of a TOML file that errors call `source`.
    pub fn text(text: &str, source: String) -> Result<Draft> {
        let own = parse(text, &source)?;
        let table = match own.get("preset").and_then(Value::as_str) {
            // A complete file, such as one that was printed, has only its name from a preset.
            Some(name) if !is_name_only(name, &own) => {
                let mut base = preset_table(name, &source)?;
                merge(&mut base, own);
                base
            }
            _ => own,
        };
        Ok(Draft { table, source, text: text.to_string() })
    }

    /// The text of a complete configuration, such as a run's own: its preset is a name only.
    pub fn complete(text: &str, source: String) -> Result<Draft> {
        Ok(Draft { table: parse(text, &source)?, source, text: text.to_string() })
    }

    /// Sets a key, `a.b` for key b of table a. The value is TOML; what is not TOML counts as a string.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let parsed = format!("x = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("x"));
        let mut value = parsed.unwrap_or_else(|| Value::String(value.to_string()));
        for part in key.rsplit('.') {
            value = Value::Table(Table::from_iter([(part.to_string(), value)]));
        }
        match value {
            Value::Table(mut t) => {
                normalize(&mut t).map_err(|detail| Error::input(key, detail))?;
                merge(&mut self.table, t);
                Ok(())
            }
            other => Err(Error::input(key, format!("cannot be set to {other}"))),
        }
    }

    /// The finished configuration. Errors name the file, the line where there is one, the section, unknown keys with the
    /// nearest known one, missing keys, and bad values.
    pub fn finish(mut self) -> Result<RunConfig> {
        self.known()?;
        // The loss that there is without a section is meant by one without a kind.
        if let Some(Value::Table(loss)) = self.table.get_mut("loss") {
            loss.entry("kind").or_insert_with(|| "cross_entropy".into());
        }
        for (name, value) in &self.table {
            match (name.as_str(), value) {
                ("data", v) => self.section::<super::DataConfig>(name, v)?,
                ("model", v) => {
                    self.layers("model", v)?;
                    self.section::<super::ModelConfig>(name, v)?;
                }
                ("loss", v) => self.section::<super::LossConfig>(name, v)?,
                ("optimizer", v) => self.section::<super::OptimizerConfig>(name, v)?,
                ("schedule", v) => self.section::<super::ScheduleConfig>(name, v)?,
                ("augment", v) => self.section::<super::AugmentConfig>(name, v)?,
                ("regularization", v) => self.section::<super::RegularizationConfig>(name, v)?,
                ("early_stopping", v) => self.section::<super::EarlyStoppingConfig>(name, v)?,
                ("lookahead", v) => self.section::<super::LookaheadConfig>(name, v)?,
                ("groups", Value::Array(groups)) => {
                    groups.iter().try_for_each(|g| self.section::<super::GroupConfig>("groups", g))?;
                }
                _ => {}
            }
        }
        let source = &self.source;
        let config: RunConfig = self.table.clone().try_into().map_err(|e: toml::de::Error| {
            let hint = match e.message().starts_with("missing field") {
                true => "; give it, or start from a preset with the line preset = \"digits-cnn\"",
                false => "",
            };
            match culprit::<RunConfig>(&self.table, e.message()) {
                Some(key) => {
                    let section = if TRAIN.contains(&key.as_str()) { "train." } else { "" };
                    let line = find_line(&self.text, "", &key, None);
                    Error::input(format!("{source}: {line}{section}{key}"), plain(e.message()))
                }
                None => Error::input(source, format!("{}{hint}", plain(e.message()))),
            }
        })?;
        config.check().map_err(|(key, detail)| {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            let line = find_line(&self.text, section, name, None);
            Error::input(format!("{source}: {line}{key}"), detail)
        })?;
        Ok(config)
    }

    /// Refuses keys at the top that there are none of.
    fn known(&self) -> Result<()> {
        let known = |k: &str| k == "preset" || TRAIN.contains(&k) || SECTIONS.contains(&k);
        let Some(key) = self.table.keys().find(|k| !known(k)) else { return Ok(()) };
        let all = || TRAIN.iter().chain(SECTIONS).copied();
        let hint = nearest(key, all()).replace('"', "`");
        let line = find_line(&self.text, "", key, None);
        let names = |list: &[&str]| list.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        let detail =
            format!("{line}unknown key `{key}`{hint} [train] has {}; sections are {}", names(TRAIN), names(SECTIONS));
        Err(Error::input(&self.source, detail))
    }

    /// Reads one section by itself, so that an error can say which.
    fn section<T: DeserializeOwned>(&self, name: &str, value: &Value) -> Result<()> {
        value.clone().try_into::<T>().map(|_| ()).map_err(|e| {
            let key = value.as_table().and_then(|table| culprit::<T>(table, e.message()));
            self.explain(name, key.as_deref(), &e)
        })
    }

    /// Reads each layer of a list by itself, and the layers in it.
    fn layers(&self, path: &str, value: &Value) -> Result<()> {
        for key in ["layers", "shortcut"] {
            let Some(Value::Array(layers)) = value.get(key) else { continue };
            for (i, layer) in layers.iter().enumerate().filter(|(_, l)| l.is_table()) {
                let path = format!("{path}.{key}[{i}]");
                self.layers(&path, layer)?;
                self.section::<NamedLayer>(&path, layer)?;
            }
        }
        Ok(())
    }

    /// What serde says, with the section, the line, and the nearest known name.
    fn explain(&self, section: &str, key: Option<&str>, e: &toml::de::Error) -> Error {
        let message = e.message().trim_end();
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
        let top = section.split(['.', '[']).next().unwrap_or(section);
        if let Some(key) = key {
            let line = find_line(&self.text, top, key, None);
            return Error::input(format!("{}: {line}{section}.{key}", self.source), plain(message));
        }
        let (hint, line) = match quoted.split_first() {
            Some((name, known)) if unknown => {
                let hint = nearest(name, known.iter().copied()).replace('"', "`");
                let value = message.starts_with("unknown variant").then_some(*name);
                (hint, find_line(&self.text, top, name, value))
            }
            _ => (String::new(), String::new()),
        };
        Error::input(format!("{}: {line}{section}", self.source), format!("{}{hint}", plain(message)))
    }
}

/// The key of a section whose value has the wrong type, if that is what is wrong with it: the one without which the error is
/// another one.
fn culprit<T: DeserializeOwned>(section: &Table, message: &str) -> Option<String> {
    if !["invalid type", "invalid value", "invalid length"].iter().any(|m| message.starts_with(m)) {
        return None;
    }
    let keys = section.keys().filter(|key| *key != "kind");
    let same_without = |key: &&String| {
        let mut rest = section.clone();
        rest.remove(*key);
        rest.try_into::<T>().err().is_some_and(|e| e.message() == message)
    };
    keys.into_iter().find(|key| !same_without(key)).cloned()
}

/// What serde says, in words for those who do not write Rust.
fn plain(message: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number of 0 or more"),
        ("expected u64", "expected a whole number of 0 or more"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("a tuple of size", "a list of length"),
        ("internally tagged enum DataConfig", "a section with a kind"),
        ("internally tagged enum ModelConfig", "a section with a kind"),
        ("variant identifier", "the name of a kind, in quotes"),
        ("a sequence", "a list"),
        ("a map", "a section"),
    ];
    words.iter().fold(message.trim_end().to_string(), |text, (from, to)| text.replace(from, to))
}

/// True if a file does not build on the preset that it names.
fn is_name_only(name: &str, own: &Table) -> bool {
    let complete = ["data", "model", "optimizer"].iter().all(|k| own.contains_key(*k));
    name == custom() || complete && PRESETS.iter().all(|(n, _)| *n != name)
}

/// Keys of the section `[train]`, which may also stand at the top of a file.
pub(super) const TRAIN: &[&str] = &[
    "seed",
    "epochs",
    "batch",
    "accumulate",
    "warmup",
    "warmup_start",
    "clip_norm",
    "clip_value",
    "precision",
    "shuffle",
    "drop_last",
    "workers",
    "critical_every",
    "init",
    "fold",
];
/// The other sections.
pub(super) const SECTIONS: &[&str] = &[
    "data",
    "augment",
    "model",
    "loss",
    "optimizer",
    "lookahead",
    "schedule",
    "regularization",
    "early_stopping",
    "groups",
];

/// `line N: ` for the line of a key in a section, or of a value in quotes; empty if it is not in the text.
fn find_line(text: &str, section: &str, key: &str, value: Option<&str>) -> String {
    let mut inside = section.is_empty();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(header) = line.strip_prefix('[').map(|h| h.trim_matches(['[', ']', ' ']))
            && !line.contains('=')
            && line.ends_with(']')
            && header.chars().all(|c| c.is_alphanumeric() || "_.".contains(c))
        {
            inside = section.is_empty() || header == section || header.starts_with(&format!("{section}."));
        }
        let is_key = |(at, _): (usize, &str)| {
            let before = line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            before && line[at + key.len()..].trim_start().starts_with('=')
        };
        let found = match value {
            Some(value) => line.contains(&format!("\"{value}\"")),
            None => line.match_indices(key).any(is_key),
        };
        if inside && found {
            return format!("line {}: ", number + 1);
        }
    }
    String::new()
}

/// Brings older and shorter forms to the one that is checked: the keys of `[train]` go to the top, `label_smoothing` at
/// the top goes to `[loss]`, a layer that is a name becomes a table.
fn normalize(table: &mut Table) -> std::result::Result<(), String> {
    match table.remove("train") {
        None => {}
        Some(Value::Table(train)) => {
            for (key, value) in train {
                if table.contains_key(&key) {
                    return Err(format!("the key `{key}` is given twice, at the top and in [train]"));
                }
                if SECTIONS.contains(&key.as_str()) {
                    return Err(format!("[{key}] is a section of its own, not in [train]"));
                }
                table.insert(key, value);
            }
        }
        Some(_) => return Err("`train` must be a section".into()),
    }
    if let Some(smoothing) = table.remove("label_smoothing") {
        let loss = table.entry("loss").or_insert_with(|| Value::Table(Table::new()));
        if let Some(loss) = loss.as_table_mut() {
            loss.insert("label_smoothing".into(), smoothing);
        }
    }
    if let Some(model) = table.get_mut("model") {
        name_layers(model);
    }
    Ok(())
}

fn name_layers(value: &mut Value) {
    for key in ["layers", "shortcut"] {
        let Some(Value::Array(layers)) = value.get_mut(key) else { continue };
        for layer in layers {
            match layer {
                Value::String(kind) => *layer = Value::Table(Table::from_iter([("kind".into(), kind.as_str().into())])),
                layer => name_layers(layer),
            }
        }
    }
}

fn parse(text: &str, source: &str) -> Result<Table> {
    let mut table = text.parse::<Table>().map_err(|e| {
        let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        Error::input(source, format!("line {line} is not valid TOML: {}", e.message()))
    })?;
    normalize(&mut table).map_err(|detail| Error::input(source, detail))?;
    Ok(table)
}

/// Puts `over` on top of `base`, table by table; a table of another `kind` replaces the old one.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new))
                if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
            {
                merge(old, new)
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
