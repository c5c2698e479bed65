//! The range test for a first learning rate (arXiv 1506.01186) with the settings of Lightning's finder: short training with
//! a rate that rises exponentially, and the suggestion where the smoothed loss falls fastest.

use super::{Position, StepReport, Trainer};
use crate::data::{Batches, Dataset, Draw};
use crate::error::{Error, Result};
use crate::optim::{Schedule, schedule::Scheduler};

/// How [`Trainer::find_lr`] goes through the rates.
#[derive(Debug, Clone, PartialEq)]
pub struct FindLr {
    /// The first rate.
    pub min_lr: f64,
    /// The last rate.
    pub max_lr: f64,
    /// Updates, at least 2.
    pub steps: usize,
    /// Stops when the smoothed loss is this many times the best so far; `None`: goes to the end.
    pub stop_at: Option<f64>,
    /// Share of the smoothed loss that each update keeps.
    pub smoothing: f64,
    /// Points at the start and at the end that are no candidates.
    pub skip: (usize, usize),
}

impl Default for FindLr {
    fn default() -> FindLr {
        FindLr { min_lr: 1e-8, max_lr: 1.0, steps: 100, stop_at: Some(4.0), smoothing: 0.98, skip: (10, 1) }
    }
}

/// One update of a range test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrPoint {
    /// The learning rate.
    pub lr: f64,
    /// The loss of its batch.
    pub loss: f64,
    /// The smoothed loss.
    pub smoothed: f64,
}

/// What a range test saw.
#[derive(Debug, Clone, PartialEq)]
pub struct LrCurve {
    /// The updates in order.
    pub points: Vec<LrPoint>,
    /// The point at which the smoothed loss falls fastest over the logarithm of the rate, if there are points enough.
    pub suggestion: Option<usize>,
}

impl LrCurve {
    /// The losses of updates with these rates. Losses that are not finite end the curve.
    pub fn of(measured: impl IntoIterator<Item = (f64, f64)>, options: &FindLr) -> LrCurve {
        let (mut points, mut average, mut best): (Vec<LrPoint>, f64, f64) = (Vec::new(), 0.0, f64::INFINITY);
        for (lr, loss) in measured {
            average = options.smoothing * average + (1.0 - options.smoothing) * loss;
            let smoothed = average / (1.0 - options.smoothing.powi(points.len() as i32 + 1));
            if !smoothed.is_finite() {
                break;
            }
            points.push(LrPoint { lr, loss, smoothed });
            if points.len() > 1 && options.stop_at.is_some_and(|times| smoothed > times * best) {
                break;
            }
            best = best.min(smoothed);
        }
        let suggestion = steepest(&points, options.skip);
        LrCurve { points, suggestion }
    }

    /// The suggested learning rate.
    pub fn lr(&self) -> Option<f64> {
        self.suggestion.map(|i| self.points[i].lr)
    }

    /// True if the curve has come to its end before all its updates were done.
    fn is_over(&self, taken: usize) -> bool {
        self.points.len() < taken
    }
}

/// The candidate with the least slope, by central differences, one-sided at both ends. The rates are evenly spaced by
/// their logarithm, so that the index stands for it.
fn steepest(points: &[LrPoint], (start, end): (usize, usize)) -> Option<usize> {
    let candidates = points.get(start..points.len().saturating_sub(end))?;
    let n = candidates.len();
    if n < 2 {
        return None;
    }
    let slope = |i: usize| {
        let (a, b) = (i.saturating_sub(1), (i + 1).min(n - 1));
        (candidates[b].smoothed - candidates[a].smoothed) / (b - a) as f64
    };
    (0..n).min_by(|&i, &j| slope(i).total_cmp(&slope(j))).map(|i| start + i)
}

impl Trainer {
    /// Trains for a few updates with a rising learning rate and puts everything back: weights, states, position.
    pub fn find_lr(&mut self, data: &dyn Dataset, part: &[usize], batch: usize, options: &FindLr) -> Result<LrCurve> {
        let FindLr { min_lr, max_lr, steps, .. } = *options;
        if !(min_lr > 0.0 && max_lr > min_lr && max_lr.is_finite()) || steps < 2 || part.is_empty() || batch == 0 {
            let detail = format!(
                "needs 0 < min_lr < max_lr, two steps and examples; got {min_lr} to {max_lr}, {steps} steps, {} examples \
                 in batches of {batch}",
                part.len()
            );
            return Err(Error::input("learning-rate finder", detail));
        }
        self.drain()?;
        let fields = data.fields();
        let (position, scheduler) = (self.position, self.scheduler.clone());
        let gamma = (max_lr / min_lr).powf(1.0 / (steps - 1) as f64);
        self.resume_at(Position::default(), Scheduler::new(min_lr, Schedule::Exponential { gamma }));
        self.prepare(&fields, batch.min(part.len()))?;
        let saved: Vec<String> = self.specs.iter().map(|s| s.name.clone()).collect();
        let saved = saved.into_iter().map(|n| Ok((n.clone(), self.store.get(&n)?))).collect::<Result<Vec<_>>>()?;
        let curve = self.rising(data, part, batch, options);
        for (name, value) in saved {
            self.store.insert(name, &value)?;
        }
        self.resume_at(position, scheduler);
        curve
    }

    fn rising(&mut self, data: &dyn Dataset, part: &[usize], batch: usize, options: &FindLr) -> Result<LrCurve> {
        let fields = data.fields();
        let mut reports: Vec<StepReport> = Vec::new();
        let curve = |reports: &[StepReport]| LrCurve::of(reports.iter().map(|r| (r.lr, r.loss)), options);
        'all: for epoch in 0.. {
            let batches = Batches::shuffled(part, batch, self.seed, epoch);
            for i in 0..batches.len() {
                if self.position.step >= options.steps as u64 || curve(&reports).is_over(reports.len()) {
                    break 'all;
                }
                let tensors =
                    data.batch(batches.get(i), Some(Draw { seed: self.seed, epoch, shuffled: self.shuffle }))?;
                let done = self.step(&fields, &tensors)?;
                reports.extend(done);
            }
        }
        let rest = self.drain()?;
        reports.extend(rest);
        Ok(curve(&reports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> FindLr {
        FindLr { skip: (1, 1), smoothing: 0.0, ..FindLr::default() }
    }

    #[test]
    fn the_suggestion_is_where_the_loss_falls_fastest() {
        let losses = [5.0, 4.9, 4.5, 3.0, 2.5, 2.6, 9.0, 11.0];
        let measured = losses.iter().enumerate().map(|(i, &l)| (10f64.powi(i as i32 - 8), l));
        let curve = LrCurve::of(measured.clone(), &options());
        // The slopes of candidates 1 to 6: -0.4, -0.95, -1, -0.2, 3.25, 6.4.
        assert_eq!((curve.points.len(), curve.suggestion, curve.lr()), (8, Some(3), Some(1e-5)));
        let early = LrCurve::of(measured.clone(), &FindLr { stop_at: Some(2.0), ..options() });
        assert_eq!(early.points.len(), 7, "9 is more than twice 2.5");
        let short = LrCurve::of(measured.clone().take(3), &options());
        assert_eq!(short.suggestion, None, "one candidate has no slope");
        let broken = LrCurve::of(measured.map(|(lr, l)| (lr, if l > 8.0 { f64::NAN } else { l })), &options());
        assert_eq!((broken.points.len(), broken.suggestion), (6, Some(3)));
    }

    #[test]
    fn smoothing_is_corrected_for_its_start() {
        let curve = LrCurve::of([(1.0, 3.0), (2.0, 1.0)], &FindLr { smoothing: 0.5, ..options() });
        // 0.5 * 1.5 + 0.5 * 1 = 1.25, divided by 1 - 0.25.
        assert_eq!((curve.points[0].smoothed, curve.points[1].smoothed), (3.0, 1.25 / 0.75));
    }
}
