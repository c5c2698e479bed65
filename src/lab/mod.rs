//! `kiln lab`: small controlled experiments that answer questions of a deep-learning course, one file each. An experiment trains
//! its models with several seeds, makes tables and charts of what it measured, and words its answer from those numbers: where
//! the seeds disagree, it says so.
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

pub use finding::{Finding, Plot, Spread, Table};

use crate::backend::Device;
use crate::error::{Error, Result};

/// A question, and the measurement that answers it.
pub struct Experiment {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The lecture that asks (Hung-yi Lee, Machine Learning 2021, numbered as in the README).
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
}

impl<'a> Lab<'a> {
    /// Experiments on this device, each model with so many seeds (at least 1), for `effort` times the epochs that it is meant to
    /// train; `say` hears what is being done.
    pub fn new(device: &'a Device, seeds: u64, effort: f64, say: &'a dyn Fn(&str)) -> Lab<'a> {
        Lab { device, seeds: seeds.max(1), effort, say }
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
        (0..self.seeds)
            .map(|seed| {
                self.say(&format!("{what}, seed {seed}"));
                measure(seed)
            })
            .collect()
    }
}
