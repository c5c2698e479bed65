//! The sections `[optimizer]`, `[schedule]`, `[lookahead]` and `[[groups]]`.

use super::section::section;
use crate::error::{Error, Result};
use crate::optim::{self, Group, Groups, Optimizer, Schedule};
use serde::{Deserialize, Serialize};

macro_rules! optimizers {
    ($( $(#[$doc:meta])* $name:ident $kind:literal {
        $( $(#[doc = $field_doc:literal])* $field:ident : $ty:ty = $default:expr ),* $(,)?
    } )*) => {
        /// The settings of each optimizer, with torch's names and defaults.
        pub mod settings {
            use serde::{Deserialize, Serialize};
            $( super::section!(
                $(#[$doc])*
                $name {
                    /// Learning rate.
                    lr: f64 = 1e-3,
                    $( $(#[doc = $field_doc])* $field: $ty = $default, )*
                }
            ); )*
        }

        /// The rule of the updates.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum OptimizerConfig {
            $( $(#[$doc])* #[serde(rename = $kind)] $name(settings::$name), )*
        }

        impl OptimizerConfig {
            /// The learning rate.
            pub fn lr(&self) -> f64 {
                match self { $( OptimizerConfig::$name(o) => o.lr, )* }
            }

            /// The optimizer.
            pub fn build(&self) -> Box<dyn Optimizer> {
                match self {
                    $( OptimizerConfig::$name(o) => Box::new(optim::$name { $( $field: o.$field, )* }), )*
                }
            }

            /// What each kind is, with its keys and their meanings.
            pub fn kinds() -> Vec<(&'static str, &'static [(&'static str, &'static str)])> {
                use super::section::Documented;
                vec![ $( ($kind, settings::$name::KEYS), )* ]
            }

            /// Name in a configuration.
            pub fn kind(&self) -> &'static str {
                match self { $( OptimizerConfig::$name(_) => $kind, )* }
            }
        }
    };
}

optimizers! {
    /// Gradient descent with momentum.
    Sgd "sgd" {
        /// Share of the last direction that is kept.
        momentum: f64 = 0.0,
        /// How much less the gradient adds to the direction.
        dampening: f64 = 0.0,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
        /// Nesterov's look-ahead.
        nesterov: bool = false,
        /// What momentum remembers: "torch" the sum of gradients, "velocity" the last step, "average" a moving average.
        form: crate::optim::MomentumForm = crate::optim::MomentumForm::Torch,
    }
    /// Adam.
    Adam "adam" {
        /// Decay of the two moments.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the root of the second moment.
        eps: f64 = 1e-8,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
        /// The weight decay shrinks the parameters instead, as that of adamw.
        decoupled_weight_decay: bool = false,
        /// Divides by the largest second moment so far.
        amsgrad: bool = false,
    }
    /// Adam with decoupled weight decay.
    AdamW "adamw" {
        /// Decay of the two moments.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the root of the second moment.
        eps: f64 = 1e-8,
        /// Share of each parameter (times lr) that every step removes.
        weight_decay: f64 = 0.01,
        /// Divides by the largest second moment so far.
        amsgrad: bool = false,
    }
    /// Adam by the largest gradient.
    Adamax "adamax" {
        /// Decay of the moment and of the maximum.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the magnitude.
        eps: f64 = 1e-8,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
    }
    /// Adam with Nesterov momentum.
    NAdam "nadam" {
        /// Decay of the two moments.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the root of the second moment.
        eps: f64 = 1e-8,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
        /// The weight decay shrinks the parameters instead, as that of adamw.
        decoupled_weight_decay: bool = false,
        /// How fast the momentum approaches the first beta.
        momentum_decay: f64 = 0.004,
    }
    /// Adam with a rectified rate.
    RAdam "radam" {
        /// Decay of the two moments.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the root of the second moment.
        eps: f64 = 1e-8,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
        /// The weight decay shrinks the parameters instead, as that of adamw.
        decoupled_weight_decay: bool = false,
    }
    /// Rates by the sum of all squared gradients.
    Adagrad "adagrad" {
        /// How fast the rate falls with the number of steps.
        lr_decay: f64 = 0.0,
        /// The sum at the start.
        initial_accumulator_value: f64 = 0.0,
        /// Added to the root.
        eps: f64 = 1e-10,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
    }
    /// Steps in the units of the parameters.
    Adadelta "adadelta" {
        /// Decay of both averages.
        rho: f64 = 0.9,
        /// Added below the roots.
        eps: f64 = 1e-6,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
    }
    /// Rates by the root mean square of recent gradients.
    RmsProp "rmsprop" {
        /// Decay of the averages.
        alpha: f64 = 0.99,
        /// Added to the root.
        eps: f64 = 1e-8,
        /// Share of the last direction that is kept.
        momentum: f64 = 0.0,
        /// Divides by the standard deviation instead of the root mean square.
        centered: bool = false,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
    }
    /// RMSProp with one average for all parameters together.
    RmsPropGlobal "rmsprop_global" {
        /// Decay of the average.
        alpha: f64 = 0.99,
        /// Added to the root.
        eps: f64 = 1e-8,
    }
    /// Gradient descent along the gradient divided by its norm.
    Ngd "ngd" {
        /// Added to the norm.
        eps: f64 = 1e-8,
    }
    /// Layerwise rates for large batches, on SGD.
    Lars "lars" {
        /// Share of the last step that is kept.
        momentum: f64 = 0.9,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
        /// How far a tensor may move, as a share of its norm.
        trust_coefficient: f64 = 0.001,
        /// Added to the denominator.
        eps: f64 = 1e-8,
    }
    /// Layerwise rates for large batches, on Adam.
    Lamb "lamb" {
        /// Decay of the two moments.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the root of the second moment.
        eps: f64 = 1e-6,
        /// Share of each parameter in the direction.
        weight_decay: f64 = 0.0,
    }
    /// Adam with bounds that narrow to an SGD rate.
    AdaBound "adabound" {
        /// The step size in the end.
        final_lr: f64 = 0.1,
        /// Decay of the two moments.
        betas: (f64, f64) = (0.9, 0.999),
        /// How fast the band narrows.
        gamma: f64 = 1e-3,
        /// Added to the root of the second moment.
        eps: f64 = 1e-8,
        /// L2 penalty.
        weight_decay: f64 = 0.0,
    }
    /// Adam that switches to SGD.
    Swats "swats" {
        /// Decay of the two moments.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the root of the second moment.
        eps: f64 = 1e-8,
        /// How close rate and average must be to switch.
        tolerance: f64 = 1e-9,
    }
    /// The sign of a momentum.
    Lion "lion" {
        /// Share of the momentum in the direction, and its decay.
        betas: (f64, f64) = (0.9, 0.99),
        /// Share of each parameter (times lr) that every step removes.
        weight_decay: f64 = 0.0,
    }
}

section!(
    /// Parameters whose names fit a pattern, with settings of their own. The first group that fits counts.
    GroupConfig {
        /// Fits a name if it is equal, with `*` for any run of characters: `*.bias`, `h.0.*`.
        pattern: String = String::new(),
        /// Factor of the learning rate.
        lr_scale: f64 = 1.0,
        /// Weight decay instead of the optimizer's.
        weight_decay: Option<f64> = None,
        /// Leaves the parameters as they are.
        freeze: bool = false,
    }
);

section!(
    /// Every `k` steps slow weights move by `alpha` towards the trained ones, which return to them.
    LookaheadConfig {
        /// Steps between two moves; 0: no lookahead.
        k: u64 = 0,
        /// How far they move.
        alpha: f64 = 0.5,
    }
);

impl OptimizerConfig {
    /// The same with another weight decay. Errors if this optimizer has none.
    fn with_decay(&self, decay: f64) -> Result<OptimizerConfig> {
        let broken = |e: &dyn std::fmt::Display| Error::internal("config", e.to_string());
        let mut table = toml::Table::try_from(self).map_err(|e| broken(&e))?;
        if table.insert("weight_decay".into(), toml::Value::Float(decay)).is_none() {
            let detail = format!("the optimizer {} has no weight decay", self.kind());
            return Err(Error::input("groups.weight_decay", detail));
        }
        table.try_into().map_err(|e: toml::de::Error| broken(&e))
    }

    /// The optimizer with these groups.
    pub fn grouped(&self, groups: &[GroupConfig]) -> Result<Box<dyn Optimizer>> {
        if groups.is_empty() {
            return Ok(self.build());
        }
        let shared = matches!(
            self,
            OptimizerConfig::NAdam(_)
                | OptimizerConfig::RmsPropGlobal(_)
                | OptimizerConfig::Ngd(_)
                | OptimizerConfig::Swats(_)
        );
        if shared && groups.iter().any(|g| !g.freeze) {
            let detail = format!("{} looks at all parameters together; its groups can only freeze", self.kind());
            return Err(Error::input("groups", detail));
        }
        let group = |g: &GroupConfig| {
            let own = g.weight_decay.map_or_else(|| Ok(self.clone()), |d| self.with_decay(d))?;
            let optimizer = (!g.freeze).then(|| own.build());
            Ok(Group { pattern: g.pattern.clone(), lr_scale: g.lr_scale, optimizer })
        };
        let groups = groups.iter().map(group).collect::<Result<Vec<Group>>>()?;
        Ok(Box::new(Groups { groups, rest: self.build() }))
    }
}

/// The learning rate over the run. Its lengths are epochs or shares of the run's
/// updates, so that it fits any length; `noam` alone counts updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// It stays.
    Constant {},
    /// Cut by `gamma` after each `every` epochs.
    Step {
        /// Epochs between two cuts.
        every: u64,
        /// Factor of a cut.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// Cut by `gamma` at each of these epochs.
    MultiStep {
        /// Epochs after which the rate is cut.
        at: Vec<f64>,
        /// Factor of a cut.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// Multiplied by `gamma` in each epoch, a little with every update.
    Exponential {
        /// Factor of an epoch.
        gamma: f64,
    },
    /// A straight line from `start` to `end` times the rate.
    Linear {
        /// Factor at the start.
        #[serde(default = "one")]
        start: f64,
        /// Factor at the end.
        #[serde(default)]
        end: f64,
    },
    /// (1 - share of the run)^power times the rate.
    Polynomial {
        /// The exponent.
        #[serde(default = "one")]
        power: f64,
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
    /// Half cosines that start anew after `every` epochs, each period `stretch` times as long as the last.
    CosineRestarts {
        /// Epochs of the first period.
        every: f64,
        /// Factor from one period to the next.
        #[serde(default = "one_int")]
        stretch: u64,
        /// Lowest rate as a share of the highest.
        #[serde(default)]
        min: f64,
    },
    /// Up from 1/25 of the rate over the share `rise` of the updates and down to almost nothing.
    OneCycle {
        /// Share of the updates that goes up.
        #[serde(default = "rise")]
        rise: f64,
        /// Lowest and highest momentum, which then goes the other way, such as [0.85, 0.95]; without it it stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        momentum: Option<(f64, f64)>,
    },
    /// A triangle between `low` times the rate and the rate.
    Cyclic {
        /// Lowest rate as a share of the highest.
        #[serde(default = "tenth")]
        low: f64,
        /// Epochs of the way up, and as many down.
        every: f64,
        /// Lowest and highest momentum, which then goes the other way, such as [0.85, 0.95]; without it it stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        momentum: Option<(f64, f64)>,
    },
    /// The transformer's: rate d_model^-0.5 min(t^-0.5, t warmup^-1.5) after t updates.
    Noam {
        /// Width of the model.
        d_model: u64,
        /// Updates until the highest rate.
        warmup: u64,
    },
    /// Cut by `factor` whenever the validation loss (else the training loss) has stopped falling.
    Plateau {
        /// Factor of a cut.
        #[serde(default = "tenth")]
        factor: f64,
        /// Epochs without improvement that are put up with.
        #[serde(default = "ten")]
        patience: u64,
        /// How much better, as a share, counts as better.
        #[serde(default = "threshold")]
        threshold: f64,
        /// Epochs after a cut during which nothing counts.
        #[serde(default)]
        cooldown: u64,
        /// Lowest rate as a share of the highest.
        #[serde(default)]
        min: f64,
    },
}

impl Default for ScheduleConfig {
    fn default() -> ScheduleConfig {
        ScheduleConfig::Constant {}
    }
}

fn tenth() -> f64 {
    0.1
}
fn one() -> f64 {
    1.0
}
fn one_int() -> u64 {
    1
}
fn rise() -> f64 {
    0.3
}
fn ten() -> u64 {
    10
}
fn threshold() -> f64 {
    1e-4
}

impl ScheduleConfig {
    /// The schedule of a run of `updates` in `epochs`, with the rate `lr`, after `warmup` of the updates.
    pub fn build(&self, lr: f64, epochs: u64, updates: u64, warmup: u64) -> Schedule {
        let per_epoch = updates as f64 / epochs.max(1) as f64;
        let left = updates - warmup.min(updates);
        let at = |epochs: f64| ((epochs * per_epoch).round() as u64).max(1);
        match *self {
            ScheduleConfig::Constant {} => Schedule::Constant,
            ScheduleConfig::Step { every, gamma } => {
                Schedule::Step { step_size: (every * updates / epochs.max(1)).max(1), gamma }
            }
            ScheduleConfig::MultiStep { at: ref places, gamma } => {
                Schedule::MultiStep { milestones: places.iter().map(|&e| at(e)).collect(), gamma }
            }
            ScheduleConfig::Exponential { gamma } => {
                Schedule::Exponential { gamma: gamma.powf(1.0 / per_epoch.max(1.0)) }
            }
            ScheduleConfig::Linear { start, end } => {
                Schedule::Linear { start_factor: start, end_factor: end, total_iters: left }
            }
            ScheduleConfig::Polynomial { power } => Schedule::Polynomial { total_iters: left, power },
            ScheduleConfig::Cosine { warmup, min } => {
                let warmup = (left as f64 * warmup).round() as u64;
                Schedule::WarmupCosine { warmup, total: left, min_lr: min * lr }
            }
            ScheduleConfig::CosineRestarts { every, stretch, min } => {
                Schedule::CosineRestarts { t_0: at(every), t_mult: stretch, eta_min: min * lr }
            }
            ScheduleConfig::OneCycle { rise, momentum } => Schedule::OneCycle {
                max_lr: lr,
                total_steps: left,
                pct_start: rise,
                anneal: Default::default(),
                div_factor: 25.0,
                final_div_factor: 1e4,
                three_phase: false,
                momentum,
            },
            ScheduleConfig::Cyclic { low, every, momentum } => Schedule::Cyclic {
                base_lr: low * lr,
                max_lr: lr,
                step_size_up: at(every),
                step_size_down: None,
                mode: Default::default(),
                gamma: 1.0,
                momentum,
            },
            ScheduleConfig::Noam { d_model, warmup } => Schedule::Noam { d_model, warmup },
            ScheduleConfig::Plateau { factor, patience, threshold, cooldown, min } => {
                Schedule::Plateau(optim::schedule::Plateau {
                    factor,
                    patience,
                    threshold,
                    cooldown,
                    min_lr: min * lr,
                    ..Default::default()
                })
            }
        }
    }
}
