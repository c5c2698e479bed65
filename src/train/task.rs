//! A `Task`: the data sets and the model that a configuration describes.

use crate::backend::Device;
use crate::data::augment::Augmented;
use crate::data::pairs::{Pairs, Sides};
use crate::data::{Chars, Dataset};
use crate::error::{Error, Result};
use crate::optim::{Clip, Ema, Lookahead, Optimizer, Regularized, Schedule, Swa};
use crate::train::config::parts::Weighting;
use crate::train::config::{AugmentConfig, ClassWeights, DataConfig, LossConfig};
use crate::train::files::sha256;
use crate::train::model::{self, Shapes};
use crate::train::{Loss, RunConfig, Trainer, sources};
use std::path::Path;
use std::sync::Arc;

/// So many training examples enter the hash of the data.
const HASHED: usize = 64;

/// A part of the examples of a data set.
pub struct Part {
    /// The data set.
    pub data: Box<dyn Dataset>,
    /// Which of its examples.
    pub indices: Vec<usize>,
}

/// The data of a run.
pub struct Task {
    /// What the weights are fitted to.
    pub train: Part,
    /// What choices are made on; may have no examples.
    pub validation: Part,
    /// What is looked at once, at the end.
    pub test: Part,
    /// What the run predicts.
    pub output: Output,
    /// Reads inputs in the form of the data, for predictions; `None` where the kind of the data has none.
    pub reader: Option<Box<dyn Reader>>,
    /// Number of tokens of inputs that are tokens, where the output does not tell it.
    pub(crate) tokens: Option<usize>,
    /// Classes of the training examples, in order; empty where there are none.
    pub(crate) train_labels: Vec<i32>,
}

/// Makes inputs of the model from a file of the user's.
pub trait Reader {
    /// The inputs in this file (one tensor per input, the first dimension counts the examples), prepared as the training
    /// data were.
    fn read(&self, path: &Path) -> Result<Vec<crate::HostTensor>>;
}

/// What a run predicts.
pub enum Output {
    /// The class of an image of this height and width.
    Class {
        /// Number of classes.
        classes: usize,
        /// Height and width of the images.
        size: [usize; 2],
        /// The value of a white pixel in the files.
        white: f32,
    },
    /// One of these classes, by name.
    Label {
        /// Names of the classes, in the order of their numbers.
        names: Vec<String>,
    },
    /// Numbers. The model sees and gives them standardised: `output * std + mean` is what the file has.
    Value {
        /// Names of the numbers.
        names: Vec<String>,
        /// Means in the training part.
        mean: Vec<f64>,
        /// Standard deviations in the training part.
        std: Vec<f64>,
    },
    /// A sequence for a sequence: the inputs are i32 [n, S] and, shifted right by one, i32 [n, T]; logits [n, T, tokens].
    Pair {
        /// The sentences.
        pairs: Pairs,
        /// The tokens of both sides.
        sides: Sides,
    },
    /// The next character.
    Char {
        /// The text with its vocabulary.
        chars: Chars,
        /// How many characters the model sees at once.
        context: usize,
        /// Length of the samples.
        sample: usize,
    },
}

impl Task {
    /// Reads the data of a configuration.
    pub fn open(config: &RunConfig) -> Result<Task> {
        let mut task = match &config.data {
            DataConfig::Digits(d) => sources::digits(config, d),
            DataConfig::Mnist(d) => sources::mnist(config, d),
            DataConfig::Cifar(d) => sources::cifar(config, d),
            DataConfig::Images(d) => sources::images(config, d),
            DataConfig::Table(d) => sources::table(config, d),
            DataConfig::Series(d) => sources::series(config, d),
            DataConfig::Npy(d) => sources::npy::open(config, d),
            DataConfig::Text(d) => sources::text(config, d),
            DataConfig::Pairs(d) => sources::pairs(config, d),
            DataConfig::Graph(d) => sources::graph(config, d),
        }?;
        if config.augment != AugmentConfig::default() {
            let classes = task.shapes().outputs;
            let inner: Arc<dyn Dataset> = task.train.data.into();
            let augmented = Augmented::new(inner, config.augment.clone(), &task.train.indices, classes)?;
            task.train.data = Box::new(augmented);
        }
        Ok(task)
    }

    /// The trainer of a configuration over this data.
    pub fn trainer(&self, config: &RunConfig, device: &Device) -> Result<Trainer> {
        let updates = config.epochs.saturating_mul(config.updates_per_epoch(self.train.indices.len()) as u64);
        let clip = match (config.clip_norm, config.clip_value) {
            (norm, _) if norm > 0.0 => Some(Clip::Norm(norm)),
            (_, value) if value > 0.0 => Some(Clip::Value(value)),
            _ => None,
        };
        let lr = config.optimizer.lr();
        let model = model::build(&config.model, &self.shapes())?;
        let trainer = Trainer::boxed(device, model, self.loss(&config.loss)?, self.optimizer(config, updates)?, lr);
        if config.warmup > 0 && config.warmup >= updates {
            let detail = format!("{} updates of warm-up, but the run has {updates} in all", config.warmup);
            return Err(Error::input("train.warmup", detail));
        }
        let mut schedule = config.schedule.build(lr, config.epochs, updates, config.warmup);
        if config.warmup > 0 {
            let (steps, start_factor) = (config.warmup, config.warmup_start);
            schedule = Schedule::Warmup { steps, start_factor, then: Box::new(schedule) };
        }
        let trainer = trainer.schedule(schedule).clip(clip).seed(config.seed);
        let trainer = trainer
            .shuffle(config.shuffle)
            .drop_last(config.drop_last)
            .workers(config.workers)
            .precision(config.precision);
        // Pieces of `batch` examples: nothing is cut where one is an update.
        Ok(trainer.micro_batch(if config.accumulate > 1 { config.batch } else { 0 }))
    }

    fn optimizer(&self, config: &RunConfig, updates: u64) -> Result<Box<dyn Optimizer>> {
        let mut rule = config.optimizer.grouped(&config.groups)?;
        let r = &config.regularization;
        if r.l1 > 0.0 || r.l2 > 0.0 || r.decoupled_decay > 0.0 || r.max_norm > 0.0 {
            let (l1, l2, decoupled_decay, max_norm) = (r.l1, r.l2, r.decoupled_decay, r.max_norm);
            rule = Box::new(Regularized { inner: rule, l1, l2, decoupled_decay, max_norm });
        }
        if config.lookahead.k > 0 {
            rule = Box::new(Lookahead { inner: rule, k: config.lookahead.k, alpha: config.lookahead.alpha });
        }
        if r.ema > 0.0 {
            rule = Box::new(Ema { inner: rule, decay: r.ema });
        } else if r.swa > 0.0 {
            rule = Box::new(Swa { inner: rule, start: (updates as f64 * r.swa).round() as u64 });
        }
        Ok(rule)
    }

    /// The part that says most about new data, with its name: the test part, or where there is none the validation part, or
    /// the training part.
    pub fn unseen(&self) -> (&'static str, &Part) {
        let parts = [("test", &self.test), ("validation", &self.validation), ("train", &self.train)];
        parts.into_iter().find(|(_, p)| !p.indices.is_empty()).unwrap_or(parts[0])
    }

    /// A hash of the data: the examples of each part by number, and some training examples throughout by content.
    pub fn fingerprint(&self) -> Result<String> {
        let mut bytes = Vec::new();
        for part in [&self.train, &self.validation, &self.test] {
            bytes.extend((part.indices.len() as u64).to_le_bytes());
            bytes.extend(part.indices.iter().flat_map(|&i| (i as u64).to_le_bytes()));
        }
        let all = &self.train.indices;
        let some: Vec<usize> = all.iter().copied().step_by(all.len().div_ceil(HASHED).max(1)).collect();
        if !some.is_empty() {
            self.train.data.batch(&some, None)?.iter().for_each(|t| bytes.extend(t.as_bytes()));
        }
        Ok(sha256(&bytes))
    }

    /// What a model must know of this data.
    pub fn shapes(&self) -> Shapes {
        let input = self.train.data.fields().first().map(|f| f.shape.to_vec()).unwrap_or_default();
        let (outputs, tokens) = match &self.output {
            Output::Class { classes, .. } => (*classes, None),
            Output::Label { names } | Output::Value { names, .. } => (names.len(), self.tokens.map(|n| [n; 2])),
            Output::Char { chars, .. } => (chars.vocabulary().len(), Some([chars.vocabulary().len(); 2])),
            Output::Pair { sides: Sides { source, target, .. }, .. } => {
                (target.len(), Some([source.len(), target.len()]))
            }
        };
        Shapes { input, outputs, tokens }
    }

    /// The loss of a configuration, with the weights of the classes of this data.
    pub fn loss(&self, config: &LossConfig) -> Result<Loss> {
        let classes = self.shapes().outputs;
        let is_value = matches!(self.output, Output::Value { .. });
        Ok(match config {
            LossConfig::CrossEntropy { .. } | LossConfig::Hinge { .. } if is_value => {
                let detail = "this loss is for classes, the targets are numbers; take mse, l1, smooth_l1 or huber";
                return Err(Error::input("loss.kind", detail));
            }
            LossConfig::CrossEntropy { label_smoothing, class_weights } => {
                let weight = match class_weights {
                    ClassWeights::Named(Weighting::None) => Vec::new(),
                    ClassWeights::Named(Weighting::Balanced) if self.train_labels.is_empty() => {
                        let detail = "balanced needs examples with one class each";
                        return Err(Error::input("loss.class_weights", detail));
                    }
                    ClassWeights::Named(Weighting::Balanced) => balanced(&self.train_labels, classes),
                    ClassWeights::Each(w) if w.len() != classes || w.iter().any(|x| !(*x >= 0.0)) => {
                        let detail = format!("{w:?} must be {classes} weights of 0 or more, one per class");
                        return Err(Error::input("loss.class_weights", detail));
                    }
                    ClassWeights::Each(w) => w.clone(),
                };
                Loss::CrossEntropy { label_smoothing: *label_smoothing, weight }
            }
            LossConfig::Mse {} => Loss::Mse,
            LossConfig::L1 {} => Loss::L1,
            LossConfig::SmoothL1 { beta } => Loss::SmoothL1 { beta: *beta },
            LossConfig::Huber { delta } => Loss::Huber { delta: *delta },
            LossConfig::BceWithLogits { pos_weight } => Loss::BceWithLogits { pos_weight: *pos_weight },
            LossConfig::Hinge { margin, squared } => Loss::Hinge { margin: *margin, squared: *squared },
        })
    }
}

/// examples / (classes * examples of the class); 0 for a class without examples.
fn balanced(labels: &[i32], classes: usize) -> Vec<f64> {
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|&l| counts[l as usize] += 1);
    let weight = |&n: &usize| if n == 0 { 0.0 } else { labels.len() as f64 / (classes * n) as f64 };
    counts.iter().map(weight).collect()
}
