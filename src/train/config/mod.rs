//! The description of a run: what `config.toml` in a run's folder holds, what a preset is, and what a user's TOML file
//! may say. A file names a preset to start from and the keys it changes, or gives all keys.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// Everything that determines a run, the device apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The preset it started from; names the run's folder.
    #[serde(default = "custom")]
    pub preset: String,
    /// Where everything random follows from.
    #[serde(default)]
    pub seed: u64,
    /// Passes over the training part.
    pub epochs: u64,
    /// Examples per update.
    pub batch: usize,
    /// Part of the target's weight that is spread over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Largest norm of all gradients together; 0 for no limit.
    #[serde(default)]
    pub clip_norm: f64,
    /// Where the examples come from.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// The rule of the updates.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the run.
    #[serde(default)]
    pub schedule: ScheduleConfig,
}

fn custom() -> String {
    "custom".to_string()
}

/// Where the examples come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataConfig {
    /// The embedded 8x8 digits, split at random.
    Digits {
        /// Share of all examples that is kept for the end.
        test: f64,
        /// Share of the rest that choices are made on.
        #[serde(default)]
        validation: f64,
        /// Training images are moved by up to so many pixels.
        #[serde(default)]
        shift: usize,
    },
    /// A folder with the four IDX files of MNIST, Fashion-MNIST or another data set of that form.
    Mnist {
        /// The folder; empty means that it must be given with --data.
        #[serde(default)]
        path: String,
        /// Share of the training part that choices are made on.
        #[serde(default)]
        validation: f64,
        /// Training images are moved by up to so many pixels.
        #[serde(default)]
        shift: usize,
        /// Number of classes.
        #[serde(default = "ten")]
        classes: usize,
    },
    /// A text, character by character: the end of it is the test part, before that comes the validation part.
    Text {
        /// A UTF-8 file; empty means the embedded King James text.
        #[serde(default)]
        path: String,
        /// Characters that the model sees at once.
        context: usize,
        /// Share of the text that is kept for the end.
        test: f64,
        /// Share of the rest that choices are made on.
        #[serde(default)]
        validation: f64,
        /// Characters of each sample that is printed at the end; 0 for none.
        #[serde(default)]
        sample: usize,
    },
}

fn ten() -> usize {
    10
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelConfig {
    /// Fully connected layers with ReLU between them.
    Mlp {
        /// Widths of the hidden layers.
        hidden: Vec<usize>,
        /// Probability that a hidden value is dropped.
        #[serde(default)]
        dropout: f64,
    },
    /// Stages of 3x3 convolutions, each with batch norm and ReLU, each stage ending in 2x2 max pooling; then one linear layer.
    Cnn {
        /// Channels of the convolutions of each stage.
        stages: Vec<Vec<usize>>,
        /// Probability that a feature is dropped before the linear layer.
        #[serde(default)]
        dropout: f64,
    },
    /// A decoder-only transformer.
    Gpt {
        /// Number of blocks.
        layers: usize,
        /// Attention heads per block.
        heads: usize,
        /// Size of the vector at each position.
        width: usize,
        /// Probability that a value is dropped after the embeddings and at the end of each branch.
        #[serde(default)]
        dropout: f64,
    },
}

/// The rule of the updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Gradient descent with momentum.
    Sgd {
        /// Learning rate.
        lr: f64,
        /// Share of the last direction that is kept.
        #[serde(default)]
        momentum: f64,
        /// Nesterov's look-ahead.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam.
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the two moments.
        #[serde(default = "betas")]
        betas: (f64, f64),
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// L2 penalty.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    Adamw {
        /// Learning rate.
        lr: f64,
        /// Decay of the two moments.
        #[serde(default = "betas")]
        betas: (f64, f64),
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// Share of each parameter (times lr) that every step removes.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
}

fn betas() -> (f64, f64) {
    (0.9, 0.999)
}
fn eps() -> f64 {
    1e-8
}
fn decay() -> f64 {
    0.01
}

impl OptimizerConfig {
    /// The learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            OptimizerConfig::Sgd { lr, .. } | OptimizerConfig::Adam { lr, .. } | OptimizerConfig::Adamw { lr, .. } => {
                *lr
            }
        }
    }
}

/// The learning rate over the run, in shares of its updates, so that it fits any length.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// It stays.
    #[default]
    Constant,
    /// Cut by `gamma` after each `every` epochs.
    Step {
        /// Epochs between two cuts.
        every: u64,
        /// Factor of a cut.
        gamma: f64,
    },
    /// A straight rise over the share `warmup` of the updates, then half a cosine down to `min` times the rate.
    Cosine {
        /// Share of the updates that rises.
        #[serde(default)]
        warmup: f64,
        /// Lowest rate as a share of the highest.
        #[serde(default)]
        min: f64,
    },
    /// Up from 1/25 of the rate over the share `rise` of the updates and down to almost nothing.
    OneCycle {
        /// Share of the updates that goes up.
        #[serde(default = "rise")]
        rise: f64,
    },
}

fn rise() -> f64 {
    0.3
}

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
        let detail = format!("there is no preset {name:?}; there are {}, or give a TOML file", known.join(", "));
        return Err(Error::input(source, detail));
    };
    let mut table = text
        .parse::<Table>()
        .map_err(|e| Error::internal("presets", format!("{name} is not TOML: {}", e.message())))?;
    table.insert("preset".into(), Value::String(name.into()));
    Ok(table)
}

/// A configuration on its way: a table of keys, and where they come from.
#[derive(Debug, Clone)]
pub struct Draft {
    table: Table,
    source: String,
}

impl Draft {
    /// A preset by name, or a TOML file: what ends in `.toml` or has a path separator is a file.
    pub fn open(what: &str) -> Result<Draft> {
        if what.ends_with(".toml") || what.contains(['/', '\\']) {
            return Draft::file(Path::new(what));
        }
        Ok(Draft { table: preset_table(what, "preset")?, source: format!("preset {what}") })
    }

    /// A TOML file. If it names a preset, it changes that preset's keys; tables are merged key by key unless their
    /// `kind` differs.
    pub fn file(path: &Path) -> Result<Draft> {
        let source = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::input(&source, format!("cannot read the file: {e}")))?;
        Draft::text(&text, source)
    }

    /// The text of a TOML file that errors call `source`.
    pub fn text(text: &str, source: String) -> Result<Draft> {
        let own = parse(text, &source)?;
        let table = match own.get("preset").and_then(Value::as_str) {
            Some(name) if name != custom() => {
                let mut base = preset_table(name, &source)?;
                merge(&mut base, own);
                base
            }
            _ => own,
        };
        Ok(Draft { table, source })
    }

    /// The text of a complete configuration, such as a run's own: its preset is a name only.
    pub fn complete(text: &str, source: String) -> Result<Draft> {
        Ok(Draft { table: parse(text, &source)?, source })
    }

    /// Sets a key, `a.b` for key b of table a. The value is TOML; what is not TOML counts as a string.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let parsed = format!("x = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("x"));
        let mut value = parsed.unwrap_or_else(|| Value::String(value.to_string()));
        for part in key.rsplit('.') {
            value = Value::Table(Table::from_iter([(part.to_string(), value)]));
        }
        match value {
            Value::Table(t) => merge(&mut self.table, t),
            other => return Err(Error::input(key, format!("cannot be set to {other}"))),
        }
        Ok(())
    }

    /// The finished configuration. Errors name unknown keys with the known ones, missing keys, and bad values.
    pub fn finish(self) -> Result<RunConfig> {
        let source = self.source;
        let config: RunConfig = self.table.try_into().map_err(|e: toml::de::Error| {
            let hint = match e.message().starts_with("missing field") {
                true => "; give it, or start from a preset with the line preset = \"digits-cnn\"",
                false => "",
            };
            let place =
                e.to_string().lines().find(|l| l.contains("in `")).map(|l| format!(" ({l})")).unwrap_or_default();
            Error::input(&source, format!("{}{place}{hint}", e.message().trim_end()))
        })?;
        config.check().map_err(|(key, detail)| Error::input(format!("{source}: {key}"), detail))?;
        Ok(config)
    }
}

fn parse(text: &str, source: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| {
        let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        Error::input(source, format!("line {line} is not valid TOML: {}", e.message()))
    })
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

impl RunConfig {
    /// This configuration as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::internal("config", e.to_string()))
    }

    /// Ranges that the types do not say: the key, and what is wrong with it.
    fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let share = |key: &'static str, x: f64| match (0.0..1.0).contains(&x) {
            true => Ok(()),
            false => Err((key, format!("{x} must be from 0 up to (not including) 1"))),
        };
        let positive = |key: &'static str, x: usize| match x {
            0 => Err((key, "must be at least 1".to_string())),
            _ => Ok(()),
        };
        positive("batch", self.batch)?;
        positive("epochs", self.epochs as usize)?;
        share("label_smoothing", self.label_smoothing)?;
        let lr = self.optimizer.lr();
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(("optimizer.lr", format!("{lr} must be a positive number")));
        }
        if !(self.clip_norm >= 0.0) {
            return Err(("clip_norm", format!("{} must be 0 (no limit) or positive", self.clip_norm)));
        }
        match &self.data {
            DataConfig::Digits { test, validation, .. } => {
                share("data.test", *test)?;
                share("data.validation", *validation)?;
            }
            DataConfig::Mnist { validation, classes, .. } => {
                share("data.validation", *validation)?;
                positive("data.classes", *classes)?;
            }
            DataConfig::Text { context, test, validation, .. } => {
                share("data.test", *test)?;
                share("data.validation", *validation)?;
                positive("data.context", *context)?;
            }
        }
        let dropout = match &self.model {
            ModelConfig::Mlp { dropout, hidden } => {
                hidden.iter().try_for_each(|&n| positive("model.hidden", n))?;
                dropout
            }
            ModelConfig::Cnn { dropout, stages } => {
                stages.iter().flatten().try_for_each(|&n| positive("model.stages", n))?;
                dropout
            }
            ModelConfig::Gpt { dropout, layers, heads, width } => {
                positive("model.layers", *layers)?;
                positive("model.width", *width)?;
                if *heads == 0 || width % heads != 0 {
                    return Err(("model.heads", format!("{heads} heads do not divide the width {width}")));
                }
                dropout
            }
        };
        share("model.dropout", *dropout)?;
        match (&self.data, &self.model) {
            (DataConfig::Text { .. }, ModelConfig::Gpt { .. }) => Ok(()),
            (DataConfig::Text { .. }, _) => Err(("model.kind", "text needs the model kind gpt".to_string())),
            (_, ModelConfig::Gpt { .. }) => Err(("model.kind", "images need the model kind mlp or cnn".to_string())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Draft::text(text, "my.toml".into()).and_then(Draft::finish).unwrap_err().to_string()
    }

    #[test]
    fn presets_are_complete_and_round_trip() {
        for (name, _) in PRESETS {
            let config = Draft::open(name).unwrap().finish().unwrap();
            assert_eq!(config.preset, *name);
            let again = Draft::text(&config.to_toml().unwrap(), "again".into()).unwrap().finish().unwrap();
            assert_eq!(again, config);
        }
    }

    #[test]
    fn a_file_changes_the_keys_of_its_preset() {
        let text = "preset = \"digits-cnn\"\nepochs = 3\n[optimizer]\nlr = 0.5\n";
        let mut draft = Draft::text(text, "f".into()).unwrap();
        draft.set("data.shift", "2").unwrap();
        draft.set("seed", "9").unwrap();
        let config = draft.finish().unwrap();
        assert_eq!((config.epochs, config.optimizer.lr(), config.seed), (3, 0.5, 9));
        assert!(matches!(config.data, DataConfig::Digits { shift: 2, .. }));
        let text = "preset = \"digits-cnn\"\n[model]\nkind = \"mlp\"\nhidden = [8]\n";
        let config = Draft::text(text, "f".into()).unwrap().finish().unwrap();
        assert_eq!(config.model, ModelConfig::Mlp { hidden: vec![8], dropout: 0.0 });
    }

    #[test]
    fn mistakes_are_named_with_the_file() {
        let m = message("preset = \"digits-cnn\"\nepoch = 3\n");
        assert!(m.starts_with("my.toml: ") && m.contains("`epoch`") && m.contains("`epochs`"), "{m}");
        let m = message("preset = \"digits-cnn\"\n[data]\nshfit = 3\n");
        assert!(m.contains("`shfit`") && m.contains("`shift`"), "{m}");
        let m = message("preset = \"digits-cnn\"\n[model]\nkind = \"resnet\"\n");
        assert!(m.contains("resnet") && m.contains("`cnn`"), "{m}");
        let m = message("epochs = 3\nbatch = = 4\n");
        assert!(m.contains("line 2"), "{m}");
        assert!(message("epochs = 3\n").contains("missing field"));
        assert!(message("preset = \"nonsense\"").contains("digits-mlp"));
        assert!(message("preset = \"digits-cnn\"\nbatch = 0").contains("batch"));
        assert!(message("preset = \"digits-cnn\"\nbatch = \"many\"").contains("many"));
        assert!(message("preset = \"digits-cnn\"\n[data]\ntest = 1.5").contains("data.test"));
    }
}
