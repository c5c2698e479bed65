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
        Split::random_from(n, test, validation, &mut Rng::named(seed, "data/split"))
    }

    /// As [`Split::random`], with the classes in the same proportions in each part (to one example a class).
    pub fn stratified(labels: &[i32], test: f64, validation: f64, seed: u64) -> Result<Split> {
        Split::by_class(labels, |n, rng| Split::random_from(n, test, validation, rng), seed)
    }

    /// As [`Split::random`], with all examples of a group in the same part: groups are drawn until a part has its share of
    /// the examples, as near as whole groups allow.
    pub fn grouped(groups: &[usize], test: f64, validation: f64, seed: u64) -> Result<Split> {
        check_shares(test, validation)?;
        let count = groups.iter().max().map_or(0, |g| g + 1);
        let mut sizes = vec![0; count];
        groups.iter().for_each(|&g| sizes[g] += 1);
        let order = Rng::named(seed, "data/split").permutation(count);
        let tests = groups.len() as f64 * test;
        let wanted = [tests, (groups.len() as f64 - tests) * validation];
        // A group goes to the first part that it brings nearer to its share.
        let (mut have, mut part_of) = ([0.0, 0.0], vec![2; count]);
        for g in order {
            let size = sizes[g] as f64;
            if let Some(p) = (0..2).find(|&p| have[p] + size / 2.0 <= wanted[p]) {
                have[p] += size;
                part_of[g] = p;
            }
        }
        let part = |p: usize| (0..groups.len()).filter(|&i| part_of[groups[i]] == p).collect();
        Ok(Split { test: part(0), validation: part(1), train: part(2) })
    }

    /// Splits each class by itself with `split` and puts the parts together, sorted.
    fn by_class(labels: &[i32], split: impl Fn(usize, &mut Rng) -> Result<Split>, seed: u64) -> Result<Split> {
        let mut rng = Rng::named(seed, "data/split");
        let mut out = Split { train: Vec::new(), validation: Vec::new(), test: Vec::new() };
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            let members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
            let one = split(members.len(), &mut rng)?;
            let own = |part: Vec<usize>| part.into_iter().map(|i| members[i]).collect::<Vec<_>>();
            out.train.extend(own(one.train));
            out.validation.extend(own(one.validation));
            out.test.extend(own(one.test));
        }
        [&mut out.train, &mut out.validation, &mut out.test].into_iter().for_each(|p| p.sort_unstable());
        Ok(out)
    }

    fn random_from(n: usize, test: f64, validation: f64, rng: &mut Rng) -> Result<Split> {
        check_shares(test, validation)?;
        let order = rng.permutation(n);
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

    /// Fold `fold` of `folds` for cross-validation over everything that is not in the test part: every example is in the
    /// validation part of exactly one fold. With labels the classes are spread evenly, with groups each stays whole.
    pub fn fold(
        &self,
        fold: usize,
        folds: usize,
        labels: Option<&[i32]>,
        groups: Option<&[usize]>,
        seed: u64,
    ) -> Result<Split> {
        let mut all = [&self.train[..], &self.validation].concat();
        all.sort_unstable();
        if folds < 2 || fold >= folds || all.len() < folds {
            let detail = format!("fold {fold} of {folds} over {} examples; give 2 folds or more", all.len());
            return Err(Error::input("folds", detail));
        }
        let mut rng = Rng::named(seed, "data/folds");
        // Dealt out in turn: parts differ by one example at most, and each class is spread over them.
        let mut dealt: Vec<usize> = rng.permutation(all.len()).into_iter().map(|i| all[i]).collect();
        let of = match groups {
            Some(groups) => {
                let mut order: Vec<usize> = Vec::new();
                dealt.iter().for_each(|&i| {
                    if !order.contains(&groups[i]) {
                        order.push(groups[i]);
                    }
                });
                dealt.iter().map(|&i| order.iter().position(|&g| g == groups[i]).unwrap_or(0) % folds).collect()
            }
            None => {
                if let Some(labels) = labels {
                    dealt.sort_by_key(|&i| labels[i]);
                }
                (0..dealt.len()).map(|k| k % folds).collect::<Vec<usize>>()
            }
        };
        let part = |held: bool| {
            let mut p: Vec<usize> =
                dealt.iter().zip(&of).filter(|(_, f)| (**f == fold) == held).map(|(i, _)| *i).collect();
            p.sort_unstable();
            p
        };
        Ok(Split { train: part(false), validation: part(true), test: self.test.clone() })
    }

    /// A split by position: the last `test` of the examples, before them `validation` of the rest.
    pub fn ordered(n: usize, test: f64, validation: f64) -> Result<Split> {
        let sizes = Split::random(n, test, validation, 0)?;
        let (a, b) = (sizes.train.len(), sizes.train.len() + sizes.validation.len());
        Ok(Split { train: (0..a).collect(), validation: (a..b).collect(), test: (b..n).collect() })
    }
}

fn check_shares(test: f64, validation: f64) -> Result<()> {
    for (name, part) in [("test", test), ("validation", validation)] {
        if !(0.0..1.0).contains(&part) {
            let detail = format!("{part} is not a part of the data; give a number from 0 up to (not including) 1");
            return Err(Error::input(format!("data.{name}"), detail));
        }
    }
    Ok(())
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

    /// The same without a short last batch, unless it is the only one.
    pub fn whole(mut self) -> Batches {
        let whole = self.order.len() / self.batch * self.batch;
        if whole > 0 {
            self.order.truncate(whole);
        }
        self
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
    fn stratified_parts_keep_the_proportions() {
        let labels: Vec<i32> = (0..120).map(|i| if i < 90 { 0 } else { 1 }).collect();
        let s = Split::stratified(&labels, 0.2, 0.25, 1).unwrap();
        let ones = |p: &[usize]| p.iter().filter(|&&i| labels[i] == 1).count();
        assert_eq!((s.test.len(), ones(&s.test)), (24, 6));
        assert_eq!((s.validation.len(), ones(&s.validation)), (24, 6));
        let mut all = [s.train, s.validation, s.test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..120).collect::<Vec<_>>());
    }

    #[test]
    fn groups_stay_whole() {
        let groups: Vec<usize> = (0..100).map(|i| i / 7).collect();
        let s = Split::grouped(&groups, 0.3, 0.2, 4).unwrap();
        let of = |p: &[usize]| p.iter().map(|&i| groups[i]).collect::<std::collections::BTreeSet<_>>();
        let (a, b, c) = (of(&s.train), of(&s.validation), of(&s.test));
        assert!(a.is_disjoint(&b) && a.is_disjoint(&c) && b.is_disjoint(&c));
        assert!((24..=36).contains(&s.test.len()) && (8..=20).contains(&s.validation.len()), "{s:?}");
        let f = s.fold(1, 3, None, Some(&groups), 0).unwrap();
        assert!(of(&f.train).is_disjoint(&of(&f.validation)) && !f.validation.is_empty());
    }

    #[test]
    fn folds_hold_each_example_out_once() {
        let labels: Vec<i32> = (0..50).map(|i| i % 5 / 3).collect();
        let s = Split::random(50, 0.2, 0.1, 0).unwrap();
        let folds: Vec<Split> = (0..4).map(|k| s.fold(k, 4, Some(&labels), None, 9).unwrap()).collect();
        let mut held: Vec<usize> = folds.iter().flat_map(|f| f.validation.clone()).collect();
        held.sort_unstable();
        let mut all = [s.train.clone(), s.validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(held, all);
        let ones: Vec<usize> = folds.iter().map(|f| f.validation.iter().filter(|&&i| labels[i] == 1).count()).collect();
        assert!(ones.iter().max().unwrap() - ones.iter().min().unwrap() <= 1, "{ones:?}");
        assert!(folds.iter().all(|f| f.train.len() + f.validation.len() == 40 && f.test == s.test));
        assert!(s.fold(0, 1, None, None, 0).is_err() && s.fold(4, 4, None, None, 0).is_err());
    }

    #[test]
    fn impossible_parts_are_refused() {
        assert!(Split::random(10, 1.0, 0.0, 0).is_err());
        assert!(Split::random(10, 0.2, f64::NAN, 0).is_err());
    }
}
