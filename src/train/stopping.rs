//! Early stopping: ends a run whose validation does not get better any more. What it remembers is saved with a checkpoint,
//! so that a resumed run stops where the uninterrupted one does.

use crate::train::Measures;
use crate::train::config::EarlyStoppingConfig;
use crate::train::config::parts::Monitor;
use serde::{Deserialize, Serialize};

/// What early stopping remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stopping {
    /// The best value so far, larger is better, as bits: JSON has no infinities.
    best: Option<u64>,
    /// Epochs since then.
    bad: u64,
}

impl EarlyStoppingConfig {
    /// The value that is looked at, turned so that larger is better.
    pub fn value(&self, measures: &Measures) -> f64 {
        match self.monitor {
            Monitor::Loss => -measures.loss(),
            Monitor::Accuracy => measures.accuracy(),
        }
    }
}

impl Stopping {
    /// Takes the measures of one more epoch. True if it is the best so far, by `min_delta` at least. NaN is never better.
    pub fn observe(&mut self, config: &EarlyStoppingConfig, measures: &Measures) -> bool {
        let value = config.value(measures);
        let better = match self.best.map(f64::from_bits) {
            None => !value.is_nan(),
            Some(best) => value > best + config.min_delta,
        };
        if better {
            *self = Stopping { best: Some(value.to_bits()), bad: 0 };
        } else {
            self.bad += 1;
        }
        better
    }

    /// True if the run should end.
    pub fn is_over(&self, config: &EarlyStoppingConfig) -> bool {
        config.patience > 0 && self.bad >= config.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measures(loss: f64) -> Measures {
        Measures { loss_sum: loss, correct: 0.0, count: 1 }
    }

    #[test]
    fn stops_after_patience_epochs_without_enough_improvement() {
        let config = EarlyStoppingConfig { patience: 2, min_delta: 0.1, ..Default::default() };
        let mut s = Stopping::default();
        let mut seen = Vec::new();
        for loss in [1.0, 0.95, 0.8, 0.75, f64::NAN] {
            seen.push((s.observe(&config, &measures(loss)), s.is_over(&config)));
            // As a checkpoint keeps it.
            s = serde_json::from_value(serde_json::to_value(s).unwrap()).unwrap();
        }
        assert_eq!(seen, [(true, false), (false, false), (true, false), (false, false), (false, true)]);
        let mut never = Stopping::default();
        let off = EarlyStoppingConfig::default();
        assert!((0..99).all(|_| {
            never.observe(&off, &measures(1.0));
            !never.is_over(&off)
        }));
    }

    #[test]
    fn accuracy_should_rise() {
        let config = EarlyStoppingConfig { patience: 1, monitor: Monitor::Accuracy, ..Default::default() };
        let mut s = Stopping::default();
        assert!(s.observe(&config, &Measures { correct: 0.5, count: 1, loss_sum: 0.0 }));
        assert!(s.observe(&config, &Measures { correct: 0.6, count: 1, loss_sum: 9.0 }));
        assert!(!s.observe(&config, &Measures { correct: 0.6, count: 1, loss_sum: 0.0 }) && s.is_over(&config));
    }
}
