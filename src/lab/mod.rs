//! `kiln lab`: small controlled experiments that answer questions of a deep-learning course, one file each. An experiment trains
//! its models with several seeds, makes tables and charts of what it measured, and words its answer from those numbers ([`Order`]): where
//! the seeds disagree, it says so. What the theory says is told apart, in the method or in brackets.
//!
//! A new experiment is a file with a `pub(super) const EXPERIMENT`, and a row in [`all`].

mod all_layers;
mod batch_size;
mod critical_points;
mod deep;
mod distance_decay;
mod finding;
mod gamma_beta;
mod hard_sigmoids;
mod heads;
mod hops;
mod invariance;
mod material;
mod mse;
mod one_sigma;
mod surface;

pub use finding::{Finding, Map, Order, Plot, Spread, Table};

use crate::backend::Device;
use crate::error::{Error, Result};
use std::cell::Cell;

/// A question, and the measurement that answers it.
pub struct Experiment {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The lecture that asks, 1 to 12 (Hung-yi Lee, Machine Learning 2021).
    pub lecture: u32,
    /// The question.
    pub question: &'static str,
    /// What is done to answer it.
    pub method: &'static str,
    /// Does it.
    pub run: fn(&Lab) -> Result<Finding>,
}

/// Every experiment, by lecture.
pub fn all() -> &'static [Experiment] {
    static ALL: &[Experiment] = &[
        surface::EXPERIMENT,
        hard_sigmoids::EXPERIMENT,
        deep::EXPERIMENT,
        all_layers::EXPERIMENT,
        critical_points::EXPERIMENT,
        batch_size::EXPERIMENT,
        one_sigma::EXPERIMENT,
        mse::EXPERIMENT,
        gamma_beta::EXPERIMENT,
        invariance::EXPERIMENT,
        heads::EXPERIMENT,
        distance_decay::EXPERIMENT,
        hops::EXPERIMENT,
    ];
    ALL
}

/// The experiment of this name, or an error with the names that there are.
pub fn find(name: &str) -> Result<&'static Experiment> {
    all().iter().find(|e| e.name == name).ok_or_else(|| {
        let names: Vec<&str> = all().iter().map(|e| e.name).collect();
        Error::input(name, format!("is no experiment; there are {}", names.join(", ")))
    })
}

/// On what and how thoroughly experiments run.
pub struct Lab<'a> {
    device: &'a Device,
    seeds: u64,
    effort: f64,
    say: &'a dyn Fn(&str),
    drawn: Cell<bool>,
}

/// Seeds from here on choose learning rates and are not among those that count.
const CHOOSING: u64 = 1000;
/// How many of them.
const CHOOSERS: u64 = 2;

impl<'a> Lab<'a> {
    /// Experiments on this device, each model with so many seeds (1 to 100), for `effort` (up to 100) times the epochs that it is
    /// meant to train; `say` hears what is being done.
    pub fn new(device: &'a Device, seeds: u64, effort: f64, say: &'a dyn Fn(&str)) -> Lab<'a> {
        Lab { device, seeds: seeds.clamp(1, 100), effort: effort.clamp(0.0, 100.0), say, drawn: Cell::new(false) }
    }
    /// True once an experiment has used the seeds; some have nothing to draw.
    pub fn drawn(&self) -> bool {
        self.drawn.get()
    }
    /// The device.
    pub fn device(&self) -> &Device {
        self.device
    }
    /// So many epochs (or updates), scaled by the effort; at least one.
    pub(crate) fn epochs(&self, full: u64) -> u64 {
        ((full as f64 * self.effort).round() as u64).max(1)
    }
    /// Tells the user what is being done.
    pub(crate) fn say(&self, what: &str) {
        (self.say)(what);
    }
    /// A measurement for each seed. The first error ends it.
    pub(crate) fn seeds<T>(&self, what: &str, mut measure: impl FnMut(u64) -> Result<T>) -> Result<Vec<T>> {
        self.drawn.set(true);
        (0..self.seeds)
            .map(|seed| {
                self.say(&format!("{what}, seed {seed}"));
                measure(seed)
            })
            .collect()
    }
    /// Of ascending learning rates the one with the lowest mean of `measure(seed, rate)` over two seeds that are not among those of
    /// [`Lab::seeds`], none of which may diverge; with a note if it is at an end of the rates, where a better one may lie beyond.
    pub(crate) fn rate(
        &self,
        what: &str,
        rates: &[f64],
        measure: impl Fn(u64, f64) -> Result<f64>,
    ) -> Result<(f64, &'static str)> {
        let mut best = (f64::INFINITY, None);
        for (i, &rate) in rates.iter().enumerate() {
            self.say(&format!("{what}: trying learning rate {rate}"));
            let each = (CHOOSING..CHOOSING + CHOOSERS).map(|seed| measure(seed, rate)).collect::<Result<Vec<f64>>>()?;
            let mean = each.iter().sum::<f64>() / CHOOSERS as f64;
            if mean < best.0 {
                best = (mean, Some(i));
            }
        }
        let Some(i) = best.1 else {
            return Err(Error::runtime(what, format!("diverges with every learning rate of {rates:?}")));
        };
        Ok((rates[i], if i == 0 || i + 1 == rates.len() { " (an end of those tried)" } else { "" }))
    }
}
