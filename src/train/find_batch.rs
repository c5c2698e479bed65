//! The search for a batch size: how fast updates are with batches that double, as far as the memory goes.

use crate::backend::Device;
use crate::data::Draw;
use crate::error::{Error, Result};
use crate::train::memory::planned;
use crate::train::{RunConfig, Task};
use std::time::Instant;

/// How [`find_batch`] goes through the sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct FindBatch {
    /// The first size; each is twice the one before it.
    pub first: usize,
    /// Bytes that the plans of an update may take.
    pub memory: usize,
    /// Seconds that each size is measured for, at least.
    pub seconds: f64,
    /// The suggestion is the smallest size with at least this share of the highest rate.
    pub enough: f64,
}

/// A measured size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchPoint {
    /// Examples.
    pub batch: usize,
    /// Bytes that the plan of an update takes: states, the batch, and intermediate values at their most.
    pub bytes: usize,
    /// Seconds of an update, where nothing else was in its way: the least that was measured.
    pub seconds: f64,
}

impl BatchPoint {
    /// Examples per second.
    pub fn rate(&self) -> f64 {
        self.batch as f64 / self.seconds
    }
}

/// What a search saw.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchSizes {
    /// The sizes, ascending.
    pub points: Vec<BatchPoint>,
    /// Why it went no further.
    pub end: String,
}

impl BatchSizes {
    /// The smallest size with at least the share `enough` of the highest rate.
    pub fn suggestion(&self, enough: f64) -> Option<usize> {
        let best = self.points.iter().map(BatchPoint::rate).fold(0.0, f64::max);
        self.points.iter().position(|p| p.rate() >= enough * best)
    }

    /// Bytes that the plan for a batch of this size will take: plans grow by the same number of bytes with each example.
    fn foretell(&self, batch: usize) -> Option<usize> {
        let [.., a, b] = self.points[..] else { return None };
        let each = (b.bytes.saturating_sub(a.bytes)) as f64 / (b.batch - a.batch) as f64;
        Some(b.bytes + (each * (batch - b.batch) as f64) as usize)
    }
}

/// Times updates of a configuration by batches of sizes that double, until the training part or the memory ends. Its own
/// batch size does not matter, and nothing is kept. Errors if not even the first size can be computed.
pub fn find_batch(config: &RunConfig, device: &Device, options: &FindBatch) -> Result<BatchSizes> {
    let task = Task::open(config)?;
    let examples = task.train.indices.len();
    if examples == 0 {
        return Err(Error::input("data", "no examples are left for training"));
    }
    let mut found = BatchSizes { points: Vec::new(), end: format!("the training part has {examples} examples") };
    let mut batch = options.first.clamp(1, examples);
    loop {
        if found.foretell(batch).is_some_and(|bytes| bytes > options.memory) {
            found.end = format!("a batch of {batch} would take more than the memory");
            break;
        }
        match measure(config, &task, device, batch, options) {
            Ok(point) if point.bytes > options.memory && !found.points.is_empty() => {
                found.end = format!("a batch of {batch} takes more than the memory");
                break;
            }
            Ok(point) => found.points.push(point),
            Err(e) if found.points.is_empty() => return Err(e),
            Err(e) => {
                found.end = format!("a batch of {batch} cannot be computed: {e}");
                break;
            }
        }
        if batch == examples {
            break;
        }
        batch = (2 * batch).min(examples);
    }
    Ok(found)
}

/// Updates that are not counted: what they use for the first time is made then.
const WARM_UP: usize = 2;
/// Updates between two looks at the clock, so that several are in flight.
const TOGETHER: usize = 4;

fn measure(config: &RunConfig, task: &Task, device: &Device, batch: usize, options: &FindBatch) -> Result<BatchPoint> {
    let config = RunConfig { batch, accumulate: 1, warmup: 0, ..config.clone() };
    // A trainer of its own, so that the memory of the sizes before it is free again.
    let mut trainer = task.trainer(&config, device)?;
    let data = &*task.train.data;
    let fields = data.fields();
    let tensors =
        data.batch(&task.train.indices[..batch], Some(Draw { seed: config.seed, epoch: 0, shuffled: config.shuffle }))?;
    trainer.prepare(&fields, batch)?;
    let bytes = planned(&trainer.update_programs(batch)).get("together").copied().unwrap_or(0);
    for _ in 0..WARM_UP {
        trainer.step(&fields, &tensors)?;
    }
    trainer.drain()?;
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || began.elapsed().as_secs_f64() < options.seconds {
        let from = Instant::now();
        for _ in 0..TOGETHER {
            trainer.step(&fields, &tensors)?;
        }
        trainer.drain()?;
        times.push(from.elapsed().as_secs_f64() / TOGETHER as f64);
    }
    Ok(BatchPoint { batch, bytes, seconds: times.into_iter().fold(f64::INFINITY, f64::min) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggestion_is_the_smallest_that_is_nearly_as_fast() {
        let point = |batch, bytes, seconds| BatchPoint { batch, bytes, seconds };
        // 100, 190, 350, 400, 410 examples a second.
        let points = vec![
            point(1, 110, 0.01),
            point(2, 120, 2.0 / 190.0),
            point(4, 140, 4.0 / 350.0),
            point(8, 180, 0.02),
            point(16, 260, 16.0 / 410.0),
        ];
        let found = BatchSizes { points, end: String::new() };
        assert_eq!(found.suggestion(0.9), Some(3));
        assert_eq!(found.suggestion(0.85), Some(2));
        assert_eq!(found.suggestion(1.0), Some(4));
        assert_eq!(found.foretell(32), Some(420), "100 bytes, and 10 for each example");
        assert_eq!(BatchSizes { points: vec![], ..found }.suggestion(0.9), None);
    }
}
