//! A `Task`: the data sets and the model that a configuration describes.

use crate::backend::Device;
use crate::data::images::MnistPart;
use crate::data::{Augment, Chars, Dataset, Images, Split, TextWindows, Vocabulary, embedded};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::nn::{BatchNorm2d, Conv2d, Dropout, Flatten, Gpt, Linear, MaxPool2d, Module, Relu, Scope, Sequential};
use crate::optim::{Adam, AdamW, Clip, Optimizer, Schedule, Sgd};
use crate::train::config::{DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig};
use crate::train::{Loss, RunConfig, Trainer};
use std::path::Path;

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
        /// Tokens of the input.
        source: Vocabulary,
        /// Tokens of the output.
        target: Vocabulary,
        /// Longest input and output, in tokens.
        lengths: [usize; 2],
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
        match &config.data {
            DataConfig::Digits { test, validation, shift } => {
                let images = embedded::digits()?;
                let split = Split::random(images.len(), *test, *validation, config.seed)?;
                let output = Output::Class { classes: images.classes(), size: images.size(), white: 16.0 };
                let part = |indices, shift| part(images.clone().augmented(Augment { shift }), indices);
                Ok(Task {
                    train: part(split.train, *shift),
                    validation: part(split.validation, 0),
                    test: part(split.test, 0),
                    output,
                    reader: None,
                })
            }
            DataConfig::Mnist { path, validation, shift, classes } => {
                if path.is_empty() {
                    let detail = "no folder was given; point --data at one with the IDX files of MNIST or Fashion-MNIST \
                                  (on Debian: apt install dataset-fashion-mnist, then --data \
                                  /usr/share/dataset-fashion-mnist)";
                    return Err(Error::input("data.path", detail));
                }
                let train = Images::from_folder(Path::new(path), MnistPart::Train, *classes)?;
                let test = Images::from_folder(Path::new(path), MnistPart::Test, *classes)?;
                if train.size() != test.size() {
                    let detail = format!("training images are {:?}, test images {:?}", train.size(), test.size());
                    return Err(Error::input(path, detail));
                }
                let split = Split::random(train.len(), 0.0, *validation, config.seed)?;
                let output = Output::Class { classes: *classes, size: train.size(), white: 255.0 };
                let all = (0..test.len()).collect();
                Ok(Task {
                    train: part(train.clone().augmented(Augment { shift: *shift }), split.train),
                    validation: part(train, split.validation),
                    test: part(test, all),
                    output,
                    reader: None,
                })
            }
            DataConfig::Text { path, context, test, validation, sample } => {
                let chars = match path.as_str() {
                    "" => embedded::king_james()?,
                    path => {
                        let bytes = std::fs::read(path)
                            .map_err(|e| Error::input(path, format!("cannot read the file: {e}")))?;
                        let text = String::from_utf8(crate::data::idx::gunzip(&bytes, path)?)
                            .map_err(|e| Error::input(path, format!("is not UTF-8 text: {e}")))?;
                        Chars::new(&text).map_err(|_| Error::input(path, "is empty; there is nothing to learn from"))?
                    }
                };
                let n = chars.tokens().len();
                let tests = n - (n as f64 * test).round() as usize;
                let fitted = tests - (tests as f64 * validation).round() as usize;
                let windows = |from: usize, to: usize| {
                    let data = TextWindows::new(chars.tokens().clone(), from, to, *context)?;
                    let indices = (0..data.len()).collect();
                    Ok(part(data, indices))
                };
                let nothing = Part { data: Box::new(Empty), indices: Vec::new() };
                Ok(Task {
                    train: windows(0, fitted)?,
                    validation: if *validation > 0.0 { windows(fitted, tests)? } else { nothing },
                    test: windows(tests, n)?,
                    output: Output::Char { context: *context, sample: *sample, chars },
                    reader: None,
                })
            }
        }
    }

    /// The trainer of a configuration over this data.
    pub fn trainer(&self, config: &RunConfig, device: &Device) -> Result<Trainer> {
        let updates = config.epochs * self.train.indices.len().div_ceil(config.batch) as u64;
        let clip = (config.clip_norm > 0.0).then_some(Clip::Norm(config.clip_norm));
        let loss = Loss::CrossEntropy { label_smoothing: config.label_smoothing, weight: Vec::new() };
        let (optimizer, lr) = (optimizer(&config.optimizer), config.optimizer.lr());
        let trainer = Trainer::boxed(device, self.model(&config.model)?, loss, optimizer, lr);
        Ok(trainer.schedule(schedule(config, lr, updates)).clip(clip).seed(config.seed))
    }

    fn model(&self, config: &ModelConfig) -> Result<Box<dyn Module>> {
        match (config, &self.output) {
            (ModelConfig::Mlp { hidden, dropout }, Output::Class { classes, size, .. }) => {
                Ok(Box::new(mlp(size[0] * size[1], hidden, *classes, *dropout)))
            }
            (ModelConfig::Cnn { stages, dropout }, Output::Class { classes, size, .. }) => {
                Ok(Box::new(cnn(*size, stages, *classes, *dropout)?))
            }
            (&ModelConfig::Gpt { layers, heads, width, dropout }, Output::Char { chars, context, .. }) => {
                Ok(Box::new(Gpt { vocab: chars.vocabulary().len(), context: *context, layers, heads, width, dropout }))
            }
            _ => Err(Error::input("model.kind", "does not fit the kind of the data")),
        }
    }
}

fn part(data: impl Dataset + 'static, indices: Vec<usize>) -> Part {
    Part { data: Box::new(data), indices }
}

/// No examples at all.
struct Empty;

impl Dataset for Empty {
    fn len(&self) -> usize {
        0
    }
    fn fields(&self) -> Vec<crate::data::Field> {
        Vec::new()
    }
    fn batch(&self, _: &[usize], _: Option<crate::data::Draw>) -> Result<Vec<crate::HostTensor>> {
        Ok(Vec::new())
    }
}

/// Fully connected layers with ReLU between them, on flattened inputs.
pub fn mlp(inputs: usize, hidden: &[usize], outputs: usize, dropout: f64) -> Sequential {
    let (mut net, mut width) = (Sequential::new().add(Flatten::new()), inputs);
    for &next in hidden {
        net = net.add(Linear::new(width, next)).add(Relu);
        if dropout > 0.0 {
            net = net.add(Dropout::new(dropout));
        }
        width = next;
    }
    net.add(Linear::new(width, outputs))
}

/// Stages of 3x3 convolutions with batch norm and ReLU, each stage ending in 2x2 max pooling; then one linear layer.
/// Parameters: `features.N...`, `classifier...`. Errors if the image is too small for so many stages.
pub fn cnn(size: [usize; 2], stages: &[Vec<usize>], classes: usize, dropout: f64) -> Result<impl Module + use<>> {
    let [mut h, mut w] = size;
    let (mut features, mut channels) = (Sequential::new(), 1);
    for stage in stages {
        if h < 2 || w < 2 {
            let detail = format!("{} stages halve images of {size:?} pixels to nothing; take fewer", stages.len());
            return Err(Error::input("model.stages", detail));
        }
        for &next in stage {
            // No bias: batch norm would remove it.
            let conv = Conv2d { bias: false, ..Conv2d::new(channels, next, 3).padding(1) };
            features = features.add(conv).add(BatchNorm2d::new(next)).add(Relu);
            channels = next;
        }
        features = features.add(MaxPool2d::new(2));
        (h, w) = (h / 2, w / 2);
    }
    let classifier = Linear::new(channels * h * w, classes);
    Ok(move |scope: &Scope, x: &Tensor| {
        let x = scope.run("features", &features, x).flatten(1, -1);
        let x = scope.run("dropout", &Dropout::new(dropout), &x);
        scope.run("classifier", &classifier, &x)
    })
}

fn optimizer(config: &OptimizerConfig) -> Box<dyn Optimizer> {
    match *config {
        OptimizerConfig::Sgd { momentum, nesterov, weight_decay, .. } => {
            Box::new(Sgd { momentum, nesterov, weight_decay, ..Sgd::default() })
        }
        OptimizerConfig::Adam { betas, eps, weight_decay, .. } => {
            Box::new(Adam { betas, eps, weight_decay, ..Adam::default() })
        }
        OptimizerConfig::Adamw { betas, eps, weight_decay, .. } => {
            Box::new(AdamW { betas, eps, weight_decay, ..AdamW::default() })
        }
    }
}

fn schedule(config: &RunConfig, lr: f64, updates: u64) -> Schedule {
    match config.schedule {
        ScheduleConfig::Constant => Schedule::Constant,
        ScheduleConfig::Step { every, gamma } => {
            Schedule::Step { step_size: (every * updates / config.epochs.max(1)).max(1), gamma }
        }
        ScheduleConfig::Cosine { warmup, min } => {
            let warmup = (updates as f64 * warmup).round() as u64;
            Schedule::WarmupCosine { warmup, total: updates, min_lr: min * lr }
        }
        ScheduleConfig::OneCycle { rise } => Schedule::OneCycle {
            max_lr: lr,
            total_steps: updates,
            pct_start: rise,
            anneal: Default::default(),
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
            // The momentum that a schedule may move does not enter the step's graph.
            momentum: (0.85, 0.95),
        },
    }
}
