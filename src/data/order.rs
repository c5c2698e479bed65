//! Who is in which part of the data, and in which order an epoch visits it. Both are pure functions of the seed (and the
//! epoch), so that a resume needs to remember only a position.

use crate::error::{Error, Result};
use crate::rng::{Rng, stream_id};

/// Disjoint parts of a data set, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the weights are fitted to.
    pub train: Vec<usize>,
    /// What choices are made on; empty if no part was asked for.
    pub validation: Vec<usize>,
    /// What is looked at once, at the end.
    pub test: Vec<usize>,
}

impl Split {
    /// A random split of `n` examples: `test` of all of them, then `validation` of the rest. Each part is sorted.
    pub fn random(n: usize, test: f64, validation: f64, seed: u64) -> Result<Split> {
        for (name, part) in [("test", test), ("validation", validation)] {
            if !(0.0..1.0).contains(&part) {
                let detail = format!("{part} is not a part of the data; give a number from 0 up to (not including) 1");
                return Err(Error::input(format!("data.{name}"), detail));
            }
        }
        let order = Rng::named(seed, "data/split").permutation(n);
        let tests = (n as f64 * test).round() as usize;
        let validations = ((n - tests) as f64 * validation).round() as usize;
        let part = |from: usize, to: usize| {
            let mut p = order[from..to].to_vec();
            p.sort_unstable();
            p
        };
        Ok(Split {
            test: part(0, tests),
            validation: part(tests, tests + validations),
            train: part(tests + validations, n),
        })
    }

    /// A split by position: the last `test` of the examples, before them `validation` of the rest.
    pub fn ordered(n: usize, test: f64, validation: f64) -> Result<Split> {
        let sizes = Split::random(n, test, validation, 0)?;
        let (a, b) = (sizes.train.len(), sizes.train.len() + sizes.validation.len());
        Ok(Split { train: (0..a).collect(), validation: (a..b).collect(), test: (b..n).collect() })
    }
}

/// The batches of one epoch.
#[derive(Debug, Clone)]
pub struct Batches {
    order: Vec<usize>,
    batch: usize,
}

impl Batches {
    /// The batches of training epoch `epoch` over `part`, in an order drawn from the seed and the epoch. The last one
    /// may be short.
    pub fn shuffled(part: &[usize], batch: usize, seed: u64, epoch: u64) -> Batches {
        // The epoch enters the key, not the position in a sequence: any epoch's order can be made without the others.
        let key = seed ^ epoch.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let order =
            Rng::new(key, stream_id("data/order")).permutation(part.len()).into_iter().map(|i| part[i]).collect();
        Batches { order, batch: batch.max(1) }
    }

    /// The batches of `part` in its own order.
    pub fn ordered(part: &[usize], batch: usize) -> Batches {
        Batches { order: part.to_vec(), batch: batch.max(1) }
    }

    /// Number of batches, the short last one included.
    pub fn len(&self) -> usize {
        self.order.len().div_ceil(self.batch)
    }

    /// True if there is nothing to visit.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The examples of batch `i`; empty beyond the last.
    pub fn get(&self, i: usize) -> &[usize] {
        let from = (i * self.batch).min(self.order.len());
        &self.order[from..(from + self.batch).min(self.order.len())]
    }

    /// The batches from number `first` on.
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = &[usize]> {
        (first..self.len()).map(|i| self.get(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_complete() {
        let s = Split::random(1797, 0.2, 0.1, 3).unwrap();
        assert_eq!((s.test.len(), s.validation.len(), s.train.len()), (359, 144, 1294));
        let mut all = [s.train.clone(), s.validation.clone(), s.test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1797).collect::<Vec<_>>());
        assert_eq!(s, Split::random(1797, 0.2, 0.1, 3).unwrap());
        assert_ne!(s.test, Split::random(1797, 0.2, 0.1, 4).unwrap().test);
        // The test part does not depend on how the rest is divided.
        assert_eq!(s.test, Split::random(1797, 0.2, 0.0, 3).unwrap().test);
    }

    #[test]
    fn an_epoch_visits_everything_once_and_epochs_differ() {
        let part: Vec<usize> = (100..137).collect();
        let epoch = |e| Batches::shuffled(&part, 8, 5, e);
        let b = epoch(0);
        assert_eq!(b.len(), 5);
        assert_eq!(b.get(4).len(), 5);
        assert!(b.get(5).is_empty());
        let mut seen: Vec<usize> = b.iter_from(0).flatten().copied().collect();
        assert_ne!(seen, part);
        seen.sort_unstable();
        assert_eq!(seen, part);
        assert_ne!(epoch(0).get(0), epoch(1).get(0));
        assert_eq!(epoch(7).get(3), epoch(7).get(3));
    }

    #[test]
    fn impossible_parts_are_refused() {
        assert!(Split::random(10, 1.0, 0.0, 0).is_err());
        assert!(Split::random(10, 0.2, f64::NAN, 0).is_err());
    }
}
