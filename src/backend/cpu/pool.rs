//! The threads of the CPU path. The caller of a piece of work takes part in it and never sleeps meanwhile, helpers that
//! were needed a moment ago are still awake: steps of a few microseconds are worth sharing, and a training step is a
//! hundred of them. Rayon in its place, on two cores (`kiln bench --device cpu`, old and new binary in turn, medians of three): 1.05 to
//! 1.07 of the time for the steps of the larger models, 1.2 to 1.4 for what takes a tenth of a millisecond, no difference for large
//! products.

use crate::config::config;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;

/// Looks at the next piece of work before a helper lets others run, and before it sleeps.
const SPINS: usize = 2000;
/// Times that it lets others run before it sleeps: some tens of microseconds if nobody wants to.
const YIELDS: usize = 100;

/// Work in progress, on its caller's stack.
struct Task<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The next item of one thread's share of the work, and where the share ends; a cache line of its own.
#[repr(align(128))]
struct Share {
    next: AtomicUsize,
    end: AtomicUsize,
}

struct Helper {
    thread: Thread,
    asleep: AtomicBool,
}

struct Pool {
    helpers: Vec<OnceLock<Helper>>,
    shares: Vec<Share>,
    /// The work of the moment, or null.
    task: AtomicPtr<Task<'static>>,
    /// Changes with every new piece of work.
    round: AtomicUsize,
    /// Helpers that may hold a pointer to the work of the moment.
    inside: AtomicUsize,
    /// Held by the thread whose work it is.
    owner: Mutex<()>,
}

/// The pool, the caller among its threads.
fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    static START: std::sync::Once = std::sync::Once::new();
    let pool = POOL.get_or_init(|| {
        let threads = threads();
        Pool {
            helpers: (1..threads).map(|_| OnceLock::new()).collect(),
            shares: (0..threads).map(|_| Share { next: AtomicUsize::new(0), end: AtomicUsize::new(0) }).collect(),
            task: AtomicPtr::new(std::ptr::null_mut()),
            round: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            owner: Mutex::new(()),
        }
    });
    START.call_once(|| {
        for (i, slot) in pool.helpers.iter().enumerate() {
            // A helper that the system refuses is one that never comes: its share is taken by the others.
            let spawned = std::thread::Builder::new().name(format!("kiln-cpu-{i}")).spawn(move || pool.help(i));
            if let Ok(handle) = spawned {
                let _ = slot.set(Helper { thread: handle.thread().clone(), asleep: AtomicBool::new(false) });
            }
        }
    });
    pool
}

/// Threads at most, for numbers that nobody means.
const MOST: usize = 1024;

/// Threads that [`run`] uses: all cores, if nobody says how many.
pub(super) fn threads() -> usize {
    config().threads.unwrap_or_else(rayon::current_num_threads).clamp(1, MOST)
}

/// Runs `f(i)` for `i` in `0..n`, each once, on all threads; on the caller's alone if they are busy with other work. A
/// panic of `f` is passed on after all threads have left.
pub(super) fn run(n: usize, f: &(dyn Fn(usize) + Sync)) {
    let pool = pool();
    let owner = match pool.owner.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(e)) => e.into_inner(),
        Err(TryLockError::WouldBlock) => return (0..n).for_each(f),
    };
    let threads = pool.shares.len();
    for (t, share) in pool.shares.iter().enumerate() {
        share.next.store(t * n / threads, SeqCst);
        share.end.store((t + 1) * n / threads, SeqCst);
    }
    let task = Task { f, panic: Mutex::new(None) };
    pool.task.store((&raw const task).cast_mut().cast(), SeqCst);
    pool.round.fetch_add(1, SeqCst);
    for helper in pool.helpers.iter().take(n - 1).filter_map(OnceLock::get) {
        if helper.asleep.swap(false, SeqCst) {
            helper.thread.unpark();
        }
    }
    pool.work(&task, 0);
    pool.task.store(std::ptr::null_mut(), SeqCst);
    // A helper counts itself before it looks for work: whoever saw this task is among those waited for.
    let mut spins = 0;
    while pool.inside.load(SeqCst) != 0 {
        spins += 1;
        if spins < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    drop(owner);
    if let Some(panic) = task.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

impl Pool {
    /// Takes items, of share `mine` first, then of the others.
    fn work(&self, task: &Task, mine: usize) {
        let threads = self.shares.len();
        for t in 0..threads {
            let share = &self.shares[(mine + t) % threads];
            let end = share.end.load(SeqCst);
            while share.next.load(SeqCst) < end {
                let i = share.next.fetch_add(1, SeqCst);
                if i >= end {
                    break;
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (task.f)(i))) {
                    task.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                }
            }
        }
    }

    /// What a helper does for ever.
    fn help(&self, i: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait(i, seen);
            self.inside.fetch_add(1, SeqCst);
            let task = self.task.load(SeqCst);
            // SAFETY: the task lives until its caller has seen `inside` at 0, after it has taken the pointer away; we
            // counted ourselves before we read the pointer.
            if let Some(task) = unsafe { task.as_ref() } {
                self.work(task, i + 1);
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// Returns the round when it is another than `seen`.
    fn wait(&self, i: usize, seen: usize) -> usize {
        let round = || Some(self.round.load(SeqCst)).filter(|r| *r != seen);
        for step in 0..SPINS + YIELDS {
            if let Some(round) = round() {
                return round;
            }
            if step < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        loop {
            // The helper's own entry may be a moment later than the helper.
            let Some(me) = self.helpers[i].get() else {
                std::thread::yield_now();
                continue;
            };
            me.asleep.store(true, SeqCst);
            if let Some(round) = round() {
                me.asleep.store(false, SeqCst);
                return round;
            }
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_done_once_from_many_threads_at_once() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in (1..200).chain([5000]) {
                        let done: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                        run(n, &|i| {
                            done[i].fetch_add(1, SeqCst);
                        });
                        assert!(done.iter().all(|d| d.load(SeqCst) == 1), "of {n}");
                    }
                });
            }
        });
    }

    #[test]
    fn work_inside_of_work_and_work_after_sleep_are_done() {
        let sum = AtomicUsize::new(0);
        run(8, &|_| {
            run(4, &|i| {
                sum.fetch_add(i, SeqCst);
            })
        });
        assert_eq!(sum.load(SeqCst), 8 * 6);
        std::thread::sleep(std::time::Duration::from_millis(20));
        run(3, &|i| {
            sum.fetch_add(i, SeqCst);
        });
        assert_eq!(sum.load(SeqCst), 51);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let caught = catch_unwind(|| {
            run(16, &|i| {
                if i == 9 {
                    panic!("item {i}");
                }
            })
        });
        assert_eq!(caught.unwrap_err().downcast_ref::<String>().unwrap(), "item 9");
        let count = AtomicUsize::new(0);
        run(16, &|_| {
            count.fetch_add(1, SeqCst);
        });
        assert_eq!(count.load(SeqCst), 16);
    }
}
