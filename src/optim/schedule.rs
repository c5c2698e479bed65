//! Learning-rate schedules: functions of the number of updates so far, in f64 on the host, with torch's values. Only the
//! plateau schedule has state, which it lets be saved. The graph sees a schedule only as a number in the step's feed.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Which way [`Schedule::OneCycle`] goes from one rate to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Half a cosine.
    #[default]
    Cos,
    /// A straight line.
    Linear,
}

/// What becomes of the amplitude of [`Schedule::Cyclic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CyclicMode {
    /// It stays.
    #[default]
    Triangular,
    /// It halves with each cycle.
    Triangular2,
    /// It is multiplied by `gamma` with each step.
    ExpRange,
}

/// A learning rate as a function of the base rate B and the number t of updates so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// B.
    #[default]
    Constant,
    /// B times `factor` for `total_iters` updates, then B (torch's `ConstantLR`).
    ConstantFactor {
        /// The factor at the start.
        #[serde(default = "third")]
        factor: f64,
        /// Updates with it.
        #[serde(default = "five")]
        total_iters: u64,
    },
    /// B gamma^(t div step_size).
    Step {
        /// Updates between two cuts.
        step_size: u64,
        /// Factor of a cut.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// B times gamma for each milestone reached.
    MultiStep {
        /// Updates after which the rate is cut.
        milestones: Vec<u64>,
        /// Factor of a cut.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// B gamma^t.
    Exponential {
        /// Factor of each update.
        gamma: f64,
    },
    /// B times a factor that goes straight from `start_factor` to `end_factor` in `total_iters` updates, and stays.
    Linear {
        /// Factor at the start.
        #[serde(default = "third")]
        start_factor: f64,
        /// Factor at the end.
        #[serde(default = "one")]
        end_factor: f64,
        /// Updates until the end.
        #[serde(default = "five")]
        total_iters: u64,
    },
    /// B (1 - min(t, T)/T)^power.
    Polynomial {
        /// T, updates until 0.
        #[serde(default = "five")]
        total_iters: u64,
        /// The exponent.
        #[serde(default = "one")]
        power: f64,
    },
    /// eta_min + (B - eta_min) (1 + cos(pi t / t_max)) / 2, also beyond t_max.
    Cosine {
        /// Updates until the lowest rate.
        t_max: u64,
        /// The lowest rate.
        #[serde(default)]
        eta_min: f64,
    },
    /// As `Cosine`, starting anew after periods t_0, t_0 t_mult, t_0 t_mult^2, ..
    CosineRestarts {
        /// Length of the first period.
        t_0: u64,
        /// Factor from one period to the next, at least 1.
        #[serde(default = "one_int")]
        t_mult: u64,
        /// The lowest rate.
        #[serde(default)]
        eta_min: f64,
    },
    /// Up to `max_lr` and down to almost nothing in `total_steps` updates, momentum the other way. B is not used.
    OneCycle {
        /// The highest rate.
        max_lr: f64,
        /// Updates in all.
        total_steps: u64,
        /// Share of the updates that goes up.
        #[serde(default = "three_tenths")]
        pct_start: f64,
        /// Along which curve.
        #[serde(default)]
        anneal: Anneal,
        /// The first rate is max_lr / div_factor.
        #[serde(default = "twenty_five")]
        div_factor: f64,
        /// The last rate is the first / final_div_factor.
        #[serde(default = "ten_thousand")]
        final_div_factor: f64,
        /// Down to the first rate as fast as up, then to the last.
        #[serde(default)]
        three_phase: bool,
        /// Lowest and highest momentum, in the place of the optimizer's (of Adam's first decay); `None`: it stays.
        #[serde(default = "one_cycle_momentum")]
        momentum: Option<(f64, f64)>,
    },
    /// A triangle between `base_lr` and `max_lr`, momentum the other way. B is not used.
    Cyclic {
        /// The lowest rate.
        base_lr: f64,
        /// The highest rate.
        max_lr: f64,
        /// Updates upwards.
        #[serde(default = "two_thousand")]
        step_size_up: u64,
        /// Updates downwards; as many as upwards if missing.
        #[serde(default)]
        step_size_down: Option<u64>,
        /// What becomes of the amplitude.
        #[serde(default)]
        mode: CyclicMode,
        /// Factor for `CyclicMode::ExpRange`.
        #[serde(default = "one")]
        gamma: f64,
        /// Lowest and highest momentum, in the place of the optimizer's (of Adam's first decay); `None`: it stays.
        #[serde(default = "cyclic_momentum")]
        momentum: Option<(f64, f64)>,
    },
    /// B d_model^-0.5 min(s^-0.5, s warmup^-1.5) with s = t + 1.
    Noam {
        /// Width of the model.
        d_model: u64,
        /// Updates until the highest rate.
        warmup: u64,
    },
    /// B (t + 1)/warmup for t < warmup, then half a cosine down to `min_lr` at `total`, where it stays.
    WarmupCosine {
        /// Updates of the straight rise.
        warmup: u64,
        /// Updates in all.
        total: u64,
        /// The lowest rate.
        #[serde(default)]
        min_lr: f64,
    },
    /// Another schedule, which starts after `steps` updates; before that its first rate times a factor that goes straight
    /// from `start_factor` towards 1. Where the other one starts at B, this is torch's `SequentialLR` of `LinearLR` and it.
    Warmup {
        /// Updates of the rise.
        steps: u64,
        /// Factor at the start.
        #[serde(default = "third")]
        start_factor: f64,
        /// What follows.
        then: Box<Schedule>,
    },
    /// Lower whenever a metric has stopped improving; see [`Scheduler::observe`].
    Plateau(Plateau),
}

fn tenth() -> f64 {
    0.1
}
fn third() -> f64 {
    1.0 / 3.0
}
fn one() -> f64 {
    1.0
}
fn one_int() -> u64 {
    1
}
fn five() -> u64 {
    5
}
fn three_tenths() -> f64 {
    0.3
}
fn twenty_five() -> f64 {
    25.0
}
fn ten_thousand() -> f64 {
    1e4
}
fn two_thousand() -> u64 {
    2000
}
fn one_cycle_momentum() -> Option<(f64, f64)> {
    Some((0.85, 0.95))
}
fn cyclic_momentum() -> Option<(f64, f64)> {
    Some((0.8, 0.9))
}

/// When [`Schedule::Plateau`] lowers the rate, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// True if a larger metric is better.
    pub maximize: bool,
    /// Factor of a cut.
    pub factor: f64,
    /// Observations without improvement that are put up with.
    pub patience: u64,
    /// How much better counts as better.
    pub threshold: f64,
    /// True if the threshold is a difference; else it is a share of the best.
    pub absolute: bool,
    /// Observations after a cut during which nothing counts.
    pub cooldown: u64,
    /// The lowest rate.
    pub min_lr: f64,
    /// Smaller changes of the rate are not made.
    pub eps: f64,
}

impl Default for Plateau {
    fn default() -> Plateau {
        Plateau {
            maximize: false,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            absolute: false,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

/// What a plateau schedule remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    /// The present rate.
    pub lr: f64,
    /// The best metric so far.
    pub best: Option<f64>,
    /// Observations in a row that were not better.
    pub bad: u64,
    /// Observations of the cooldown that are left.
    pub cooldown: u64,
}

impl Schedule {
    /// The learning rate after `t` updates. (For a plateau the base rate: its rate depends on what it observes.)
    pub fn lr(&self, base: f64, t: u64) -> f64 {
        let s = t as f64;
        match self {
            Schedule::Constant | Schedule::Plateau(_) => base,
            Schedule::Warmup { steps, start_factor, then } => match t.checked_sub(*steps) {
                Some(after) => then.lr(base, after),
                None => then.lr(base, 0) * (start_factor + (1.0 - start_factor) * share(t, *steps)),
            },
            Schedule::ConstantFactor { factor, total_iters } => base * if t < *total_iters { *factor } else { 1.0 },
            Schedule::Step { step_size, gamma } => base * powu(*gamma, t / (*step_size).max(1)),
            Schedule::MultiStep { milestones, gamma } => {
                base * powu(*gamma, milestones.iter().filter(|&&m| m <= t).count() as u64)
            }
            Schedule::Exponential { gamma } => base * powu(*gamma, t),
            Schedule::Linear { start_factor, end_factor, total_iters } => {
                base * (start_factor + (end_factor - start_factor) * share(t, *total_iters))
            }
            Schedule::Polynomial { total_iters, power } => base * (1.0 - share(t, *total_iters)).powf(*power),
            Schedule::Cosine { t_max, eta_min } => cosine(base, *eta_min, s / (*t_max).max(1) as f64),
            Schedule::CosineRestarts { t_0, t_mult, eta_min } => {
                let (mut left, mut period) = (t, (*t_0).max(1));
                if *t_mult <= 1 {
                    left %= period;
                }
                while left >= period {
                    left -= period;
                    period = period.saturating_mul(*t_mult);
                }
                cosine(base, *eta_min, left as f64 / period as f64)
            }
            Schedule::OneCycle { max_lr, div_factor, final_div_factor, .. } => {
                let first = max_lr / div_factor;
                self.one_cycle(t, first, *max_lr, first / final_div_factor)
            }
            Schedule::Cyclic { base_lr, max_lr, .. } => base_lr + (max_lr - base_lr) * self.cyclic_height(t),
            Schedule::Noam { d_model, warmup } => {
                let rise = (s + 1.0) * ((*warmup).max(1) as f64).powf(-1.5);
                base * (*d_model as f64).powf(-0.5) * (s + 1.0).powf(-0.5).min(rise)
            }
            Schedule::WarmupCosine { warmup, total, min_lr } => {
                if t < *warmup {
                    base * (s + 1.0) / *warmup as f64
                } else {
                    cosine(base, *min_lr, share(t - warmup, total.saturating_sub(*warmup)))
                }
            }
        }
    }

    /// The settings of a plateau, also of one after a warm-up.
    fn plateau(&self) -> Option<&Plateau> {
        match self {
            Schedule::Plateau(p) => Some(p),
            Schedule::Warmup { then, .. } => then.plateau(),
            _ => None,
        }
    }

    /// The momentum after `t` updates, where the schedule moves it.
    pub fn momentum(&self, t: u64) -> Option<f64> {
        match self {
            Schedule::OneCycle { momentum, .. } => momentum.map(|(low, high)| self.one_cycle(t, high, low, high)),
            Schedule::Cyclic { momentum, .. } => {
                momentum.map(|(low, high)| high - (high - low) * self.cyclic_height(t))
            }
            Schedule::Warmup { steps, then, .. } => then.momentum(t.saturating_sub(*steps)),
            _ => None,
        }
    }

    /// The value of a one-cycle curve from `first` over `middle` to `last`. Its phases may end between two updates.
    fn one_cycle(&self, t: u64, first: f64, middle: f64, last: f64) -> f64 {
        let Schedule::OneCycle { total_steps, pct_start, anneal, three_phase, .. } = self else { return first };
        let total = *total_steps as f64;
        let up = pct_start * total - 1.0;
        let phases = if *three_phase {
            vec![(up, first, middle), (2.0 * pct_start * total - 2.0, middle, first), (total - 1.0, first, last)]
        } else {
            vec![(up, first, middle), (total - 1.0, middle, last)]
        };
        let (t, mut start, count) = (t as f64, 0.0, phases.len());
        for (i, (end, from, to)) in phases.into_iter().enumerate() {
            if t <= end || i + 1 == count {
                let x = if end > start { (t - start) / (end - start) } else { 1.0 };
                return match anneal {
                    Anneal::Cos => to + (from - to) / 2.0 * (1.0 + (PI * x).cos()),
                    Anneal::Linear => from + (to - from) * x,
                };
            }
            start = end;
        }
        last
    }

    /// Height of the triangle of `Cyclic`, 0 to 1, with the amplitude's scaling.
    fn cyclic_height(&self, t: u64) -> f64 {
        let Schedule::Cyclic { step_size_up, step_size_down, mode, gamma, .. } = self else { return 0.0 };
        let up = (*step_size_up).max(1);
        let period = up + step_size_down.unwrap_or(up);
        let (cycle, place) = (t / period, t % period);
        let height =
            if place <= up { place as f64 / up as f64 } else { (period - place) as f64 / (period - up) as f64 };
        height
            * match mode {
                CyclicMode::Triangular => 1.0,
                CyclicMode::Triangular2 => powu(0.5, cycle),
                CyclicMode::ExpRange => powu(*gamma, t),
            }
    }
}

/// min(t, total) / total; 1 if there is nothing to go.
fn share(t: u64, total: u64) -> f64 {
    if total == 0 { 1.0 } else { t.min(total) as f64 / total as f64 }
}

/// From `high` at x = 0 to `low` at x = 1 along half a cosine.
fn cosine(high: f64, low: f64, x: f64) -> f64 {
    low + (high - low) * (1.0 + (PI * x).cos()) / 2.0
}

fn powu(x: f64, n: u64) -> f64 {
    x.powi(n.min(i32::MAX as u64) as i32)
}

/// A schedule in use: base rate, and the memory that a plateau needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduler {
    /// The base rate B.
    pub base: f64,
    /// The function.
    pub schedule: Schedule,
    /// The memory of a plateau, to be saved with a checkpoint.
    pub plateau: Option<PlateauState>,
}

impl Scheduler {
    /// A schedule at its start.
    pub fn new(base: f64, schedule: Schedule) -> Scheduler {
        let plateau = schedule.plateau().map(|_| PlateauState { lr: base, best: None, bad: 0, cooldown: 0 });
        Scheduler { base, schedule, plateau }
    }

    /// The learning rate after `t` updates.
    pub fn lr(&self, t: u64) -> f64 {
        self.schedule.lr(self.plateau.as_ref().map_or(self.base, |p| p.lr), t)
    }

    /// The momentum after `t` updates, where the schedule moves it.
    pub fn momentum(&self, t: u64) -> Option<f64> {
        self.schedule.momentum(t)
    }

    /// Tells a plateau the metric, usually once an epoch; other schedules ignore it.
    pub fn observe(&mut self, metric: f64) {
        let (Some(p), Some(s)) = (self.schedule.plateau(), &mut self.plateau) else { return };
        let best = s.best.unwrap_or(if p.maximize { f64::NEG_INFINITY } else { f64::INFINITY });
        let better = match (p.maximize, p.absolute) {
            (false, false) => metric < best * (1.0 - p.threshold),
            (false, true) => metric < best - p.threshold,
            (true, false) => metric > best * (1.0 + p.threshold),
            (true, true) => metric > best + p.threshold,
        };
        if better {
            s.best = Some(metric);
            s.bad = 0;
        } else {
            s.bad += 1;
        }
        if s.cooldown > 0 {
            s.cooldown -= 1;
            s.bad = 0;
        }
        if s.bad > p.patience {
            let lower = (s.lr * p.factor).max(p.min_lr);
            if s.lr - lower > p.eps {
                s.lr = lower;
            }
            s.cooldown = p.cooldown;
            s.bad = 0;
        }
    }
}
