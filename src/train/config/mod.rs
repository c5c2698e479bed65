//! The description of a run: what `config.toml` in a run's folder holds, what a preset is, and what a user's TOML file
//! may say. A file names a preset to start from and the keys it changes, or gives all keys. Each section has a file here;
//! `draft` reads, `text` writes with comments.

pub mod data;
pub mod draft;
pub mod layers;
pub mod model;
pub mod named;
pub mod optimizer;
pub mod parts;
mod ranges;
pub mod section;
pub mod text;

pub use data::DataConfig;
pub use draft::{Draft, PRESETS};
pub use layers::LayerConfig;
pub use model::ModelConfig;
pub use named::NamedLayer;
pub use optimizer::{GroupConfig, LookaheadConfig, OptimizerConfig, ScheduleConfig};
pub use parts::{AugmentConfig, ClassWeights, EarlyStoppingConfig, LossConfig, RegularizationConfig};

use crate::train::Precision;
use serde::{Deserialize, Serialize};

/// Everything that determines a run, the device apart. In a file the keys from `seed` to `fold` are in the section
/// `[train]`.
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
    /// Examples that are computed at once; with `accumulate` 1, examples per update.
    pub batch: usize,
    /// Batches whose gradients make one update.
    #[serde(default = "one_int")]
    pub accumulate: usize,
    /// Updates in which the learning rate rises in a straight line before the schedule begins.
    #[serde(default)]
    pub warmup: u64,
    /// Where it rises from, as a share of the schedule's first rate.
    #[serde(default = "third")]
    pub warmup_start: f64,
    /// Largest norm of all gradients together; 0 for no limit.
    #[serde(default)]
    pub clip_norm: f64,
    /// Largest size of each element of a gradient; 0 for no limit.
    #[serde(default)]
    pub clip_value: f64,
    /// What a training step keeps and multiplies: f32, or f16 with f32 sums and a loss scale.
    #[serde(default)]
    pub precision: Precision,
    /// Whether each epoch visits the examples in an order of its own.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// Whether the examples of an epoch that do not fill a batch are left out.
    #[serde(default)]
    pub drop_last: bool,
    /// Threads that prepare batches in the background; 0: none.
    #[serde(default = "one_int")]
    pub workers: usize,
    /// Epochs between two examinations of the loss surface; 0: none.
    #[serde(default)]
    pub critical_every: u64,
    /// A safetensors file that the weights start from; empty: drawn from the seed.
    #[serde(default)]
    pub init: String,
    /// Fold k of n of a cross-validation, k from 0: the validation part is that fold; absent: no folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<(usize, usize)>,
    /// Where the examples come from.
    pub data: DataConfig,
    /// Random changes of training examples.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// The network.
    pub model: ModelConfig,
    /// What is minimised.
    #[serde(default)]
    pub loss: LossConfig,
    /// The rule of the updates.
    pub optimizer: OptimizerConfig,
    /// Slow weights behind the trained ones.
    #[serde(default)]
    pub lookahead: LookaheadConfig,
    /// The learning rate over the run.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// What keeps weights small or smooth.
    #[serde(default)]
    pub regularization: RegularizationConfig,
    /// Ends a run that does not get better.
    #[serde(default)]
    pub early_stopping: EarlyStoppingConfig,
    /// Parameters with settings of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupConfig>,
}

fn custom() -> String {
    "custom".to_string()
}
fn yes() -> bool {
    true
}
fn one_int() -> usize {
    1
}
fn third() -> f64 {
    1.0 / 3.0
}

/// What is wrong with a value: its key, and the detail.
type Wrong = (&'static str, String);

fn share(key: &'static str, x: f64) -> std::result::Result<(), Wrong> {
    match (0.0..1.0).contains(&x) {
        true => Ok(()),
        false => Err((key, format!("{x} must be from 0 up to (not including) 1"))),
    }
}

fn positive(key: &'static str, x: usize) -> std::result::Result<(), Wrong> {
    match x {
        0 => Err((key, "must be at least 1".to_string())),
        _ => Ok(()),
    }
}

fn not_negative(key: &'static str, x: f64) -> std::result::Result<(), Wrong> {
    match x >= 0.0 && x.is_finite() {
        true => Ok(()),
        false => Err((key, format!("{x} must be 0 or positive"))),
    }
}

impl RunConfig {
    /// Examples of one update, unless the training part has fewer.
    pub fn update_batch(&self) -> usize {
        self.batch.saturating_mul(self.accumulate)
    }

    /// Updates of an epoch over so many examples.
    pub fn updates_per_epoch(&self, examples: usize) -> usize {
        match self.drop_last && examples >= self.update_batch() {
            true => examples / self.update_batch(),
            false => examples.div_ceil(self.update_batch()),
        }
    }

    /// Ranges that the types do not say: the key, and what is wrong with it.
    fn check(&self) -> std::result::Result<(), Wrong> {
        positive("train.batch", self.batch)?;
        positive("train.accumulate", self.accumulate)?;
        positive("train.epochs", self.epochs as usize)?;
        if !(0.0..=1.0).contains(&self.warmup_start) {
            return Err(("train.warmup_start", format!("{} must be from 0 to 1", self.warmup_start)));
        }
        not_negative("train.clip_norm", self.clip_norm)?;
        not_negative("train.clip_value", self.clip_value)?;
        if self.clip_norm > 0.0 && self.clip_value > 0.0 {
            return Err(("train.clip_value", "and clip_norm exclude each other".into()));
        }
        if let Some((k, n)) = self.fold.filter(|(k, n)| *n < 2 || k >= n) {
            return Err(("train.fold", format!("[{k}, {n}] must be [fold from 0, number of folds from 2]")));
        }
        let lr = self.optimizer.lr();
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(("optimizer.lr", format!("{lr} must be a positive number")));
        }
        if let LossConfig::CrossEntropy { label_smoothing, .. } = self.loss {
            share("loss.label_smoothing", label_smoothing)?;
        }
        self.check_data()?;
        self.check_parts()?;
        self.check_rules()?;
        match &self.model {
            ModelConfig::Mlp(m) => {
                m.hidden.iter().try_for_each(|&n| positive("model.hidden", n))?;
                share("model.dropout", m.dropout)?;
            }
            ModelConfig::Cnn(m) => {
                m.stages.iter().flatten().try_for_each(|&n| positive("model.stages", n))?;
                share("model.dropout", m.dropout)?;
            }
            ModelConfig::Gpt(m) => {
                positive("model.layers", m.layers)?;
                heads(m.heads, m.width)?;
                share("model.dropout", m.dropout)?;
            }
            ModelConfig::EncoderDecoder(m) => {
                m.layers.iter().try_for_each(|&n| positive("model.layers", n))?;
                positive("model.feedforward", m.feedforward)?;
                heads(m.heads, m.width)?;
                share("model.dropout", m.dropout)?;
            }
            ModelConfig::Layers(m) => {
                positive("model.layers", m.layers.len())?;
                ranges::layers(&m.layers)?;
            }
        }
        let wanted = match (&self.data, &self.model) {
            (DataConfig::Text(_), ModelConfig::Gpt(_) | ModelConfig::Layers(_)) => None,
            (DataConfig::Pairs(_), ModelConfig::EncoderDecoder(_)) => None,
            (DataConfig::Text(_), _) => Some("text needs the model kind gpt or layers"),
            (DataConfig::Pairs(_), _) => Some("pairs of sentences need the model kind encoder_decoder"),
            (_, ModelConfig::Gpt(_)) => Some("the kind gpt needs data of the kind text"),
            (_, ModelConfig::EncoderDecoder(_)) => Some("the kind encoder_decoder needs data of the kind pairs"),
            _ => None,
        };
        wanted.map_or(Ok(()), |w| Err(("model.kind", w.to_string())))
    }

    fn check_data(&self) -> std::result::Result<(), Wrong> {
        let (test, validation) = self.data.shares();
        share("data.test", test)?;
        share("data.validation", validation)?;
        match &self.data {
            DataConfig::Mnist(d) => positive("data.classes", d.classes),
            DataConfig::Text(d) => positive("data.context", d.context),
            DataConfig::Images(d) => d.size.iter().try_for_each(|&n| positive("data.size", n)),
            DataConfig::Pairs(d) => {
                positive("data.source", d.source)?;
                positive("data.target", d.target)
            }
            DataConfig::Table(d) if d.target.is_empty() => {
                Err(("data.target", "is missing: the column to predict, such as [\"species\"]".into()))
            }
            DataConfig::Table(d) if d.delimiter.chars().count() > 1 => {
                Err(("data.delimiter", format!("{:?} must be one character", d.delimiter)))
            }
            _ => Ok(()),
        }
    }

    fn check_parts(&self) -> std::result::Result<(), Wrong> {
        let (a, r) = (&self.augment, &self.regularization);
        for (key, p) in [("augment.flip_horizontal", a.flip_horizontal), ("augment.flip_vertical", a.flip_vertical)] {
            if !(0.0..=1.0).contains(&p) {
                return Err((key, format!("{p} must be a probability, from 0 to 1")));
            }
        }
        share("augment.shift", a.shift)?;
        share("augment.scale", a.scale)?;
        not_negative("augment.rotate", a.rotate)?;
        not_negative("augment.noise", a.noise)?;
        not_negative("augment.mixup", a.mixup)?;
        not_negative("regularization.l1", r.l1)?;
        not_negative("regularization.l2", r.l2)?;
        not_negative("regularization.decoupled_decay", r.decoupled_decay)?;
        not_negative("regularization.max_norm", r.max_norm)?;
        share("regularization.ema", r.ema)?;
        share("regularization.swa", r.swa)?;
        if r.ema > 0.0 && r.swa > 0.0 {
            return Err(("regularization.swa", "and ema exclude each other".into()));
        }
        share("lookahead.alpha", self.lookahead.alpha.min(0.999))?;
        not_negative("early_stopping.min_delta", self.early_stopping.min_delta)
    }
}

fn heads(heads: usize, width: usize) -> std::result::Result<(), Wrong> {
    positive("model.width", width)?;
    match heads == 0 || !width.is_multiple_of(heads) {
        true => Err(("model.heads", format!("{heads} heads do not divide the width {width}"))),
        false => Ok(()),
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
        assert!(matches!(&config.data, DataConfig::Digits(d) if d.shift == 2));
        let text = "preset = \"digits-cnn\"\n[model]\nkind = \"mlp\"\nhidden = [8]\n";
        let config = Draft::text(text, "f".into()).unwrap().finish().unwrap();
        assert_eq!(config.model, ModelConfig::Mlp(model::Mlp { hidden: vec![8], dropout: 0.0 }));
    }

    #[test]
    fn a_loss_without_a_kind_is_the_one_that_there_is() {
        let mut draft = Draft::open("digits-mlp").unwrap();
        draft.set("loss.label_smoothing", "0.1").unwrap();
        let config = draft.finish().unwrap();
        assert!(matches!(config.loss, LossConfig::CrossEntropy { label_smoothing: 0.1, .. }));
    }

    #[test]
    fn configurations_of_older_runs_are_read() {
        let text = "preset = \"digits-cnn\"\nseed = 3\nepochs = 30\nbatch = 32\nlabel_smoothing = 0.05\nclip_norm = 0.0\n\n\
                    [data]\nkind = \"digits\"\ntest = 0.2\nvalidation = 0.1\nshift = 1\n\n[model]\nkind = \"cnn\"\n\
                    stages = [[16, 32], [64]]\ndropout = 0.2\n\n[optimizer]\nkind = \"adamw\"\nlr = 0.003\n\
                    betas = [0.9, 0.999]\neps = 1e-8\nweight_decay = 0.01\n\n[schedule]\nkind = \"one_cycle\"\nrise = 0.3\n";
        let config = Draft::complete(text, "config.toml".into()).unwrap().finish().unwrap();
        assert_eq!(config, RunConfig { seed: 3, ..Draft::open("digits-cnn").unwrap().finish().unwrap() });
        assert!(matches!(config.loss, LossConfig::CrossEntropy { label_smoothing: 0.05, .. }));
        let constant = text.replace("kind = \"one_cycle\"\nrise = 0.3", "kind = \"constant\"");
        let config = Draft::complete(&constant, "config.toml".into()).unwrap().finish().unwrap();
        assert_eq!(config.schedule, ScheduleConfig::Constant {});
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
