//! Batches prepared by threads in the background while the device works. They come in the order of the epoch whatever the
//! number of threads; a few are held at most, and the data set is read where it is, never copied.

use crate::data::{Batches, Dataset, Draw};
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};

/// Batches that may be ready beyond one for each thread.
const AHEAD: usize = 2;

struct State {
    /// The next batch that a thread takes up.
    next: usize,
    /// The next batch that is handed out.
    wanted: usize,
    ready: BTreeMap<usize, Result<Vec<HostTensor>>>,
    stopped: bool,
}

struct Shared<'a> {
    data: &'a dyn Dataset,
    batches: &'a Batches,
    draw: Option<Draw>,
    depth: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// Hands out the batches of an epoch in order.
pub struct Loader<'a> {
    shared: &'a Shared<'a>,
    workers: usize,
}

/// Runs `f` with the batches from number `first` on, prepared by `workers` threads (0: when they are asked for).
pub fn with<R>(
    data: &dyn Dataset,
    batches: &Batches,
    first: usize,
    draw: Option<Draw>,
    workers: usize,
    f: impl FnOnce(&mut Loader) -> R,
) -> R {
    let state = State { next: first, wanted: first, ready: BTreeMap::new(), stopped: false };
    // More threads than batches would have nothing to do.
    let workers = workers.min(batches.len().saturating_sub(first));
    let shared =
        Shared { data, batches, draw, depth: workers + AHEAD, state: Mutex::new(state), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| shared.work());
        }
        // Threads end when this does, also if `f` panics.
        let _stop = Stop(&shared);
        f(&mut Loader { shared: &shared, workers })
    })
}

struct Stop<'a>(&'a Shared<'a>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.0.changed.notify_all();
    }
}

impl Shared<'_> {
    fn make(&self, i: usize) -> Result<Vec<HostTensor>> {
        let made = catch_unwind(AssertUnwindSafe(|| self.data.batch(self.batches.get(i), self.draw)));
        made.unwrap_or_else(|_| Err(Error::internal("data", format!("reading batch {i} panicked"))))
    }

    fn work(&self) {
        loop {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.stopped && state.next >= state.wanted + self.depth {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped || state.next >= self.batches.len() {
                return;
            }
            let i = state.next;
            state.next += 1;
            drop(state);
            let made = self.make(i);
            self.state.lock().unwrap_or_else(PoisonError::into_inner).ready.insert(i, made);
            self.changed.notify_all();
        }
    }
}

impl Loader<'_> {
    /// The next batch; `None` after the last.
    pub fn take(&mut self) -> Option<Result<Vec<HostTensor>>> {
        let shared = self.shared;
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let i = state.wanted;
        if i >= shared.batches.len() {
            return None;
        }
        state.wanted += 1;
        if self.workers == 0 {
            return Some(shared.make(i));
        }
        // One place has become free.
        shared.changed.notify_all();
        loop {
            if let Some(batch) = state.ready.remove(&i) {
                return Some(batch);
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Field;
    use crate::dtype::DType;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Example i is the number i; the first ones take longest.
    struct Slow {
        made: AtomicUsize,
    }

    impl Dataset for Slow {
        fn len(&self) -> usize {
            40
        }
        fn fields(&self) -> Vec<Field> {
            vec![Field::new("x", DType::I32, [])]
        }
        fn batch(&self, indices: &[usize], _: Option<Draw>) -> Result<Vec<HostTensor>> {
            if indices[0] == 39 {
                return Err(Error::input("example 39", "is broken"));
            }
            assert_ne!(indices[0], 38, "planted");
            std::thread::sleep(Duration::from_millis(if indices[0].is_multiple_of(4) { 3 } else { 0 }));
            self.made.fetch_add(1, Ordering::SeqCst);
            Ok(vec![HostTensor::i32([indices.len()], indices.iter().map(|&i| i as i32).collect())?])
        }
    }

    fn slow() -> Slow {
        Slow { made: AtomicUsize::new(0) }
    }

    #[test]
    fn the_order_does_not_depend_on_the_threads() {
        let part: Vec<usize> = (0..36).collect();
        let batches = Batches::shuffled(&part, 2, 1, 0);
        for workers in [0, 1, 3, 100] {
            let got: Vec<i32> = with(&slow(), &batches, 3, None, workers, |loader| {
                std::iter::from_fn(|| loader.take()).flat_map(|b| b.unwrap()[0].as_i32().unwrap().to_vec()).collect()
            });
            let wanted: Vec<i32> = batches.iter_from(3).flatten().map(|&i| i as i32).collect();
            assert_eq!(got, wanted, "{workers} threads");
        }
    }

    #[test]
    fn only_a_few_batches_are_held() {
        let (set, part) = (slow(), (0..36).collect::<Vec<usize>>());
        let batches = Batches::ordered(&part, 1);
        with(&set, &batches, 0, None, 2, |loader| {
            loader.take().unwrap().unwrap();
            std::thread::sleep(Duration::from_millis(60));
            // One taken, and at most depth more.
            assert!(set.made.load(Ordering::SeqCst) <= 1 + 2 + AHEAD);
        });
    }

    #[test]
    fn errors_and_panics_come_where_the_batch_would() {
        let batches = Batches::ordered(&[0, 39, 38], 1);
        with(&slow(), &batches, 0, None, 2, |loader| {
            assert!(loader.take().unwrap().is_ok());
            assert!(loader.take().unwrap().unwrap_err().to_string().contains("broken"));
            assert!(loader.take().unwrap().unwrap_err().to_string().contains("panicked"));
            assert!(loader.take().is_none());
        });
    }
}
