//! When to use more than one thread, and how to cut the work. Cuts never depend on the number of threads unless the bits
//! do not depend on the cuts, so that results are bit-equal on reruns; only who computes a piece does.

use super::pool;

/// Work below this many (rough) nanoseconds stays on the calling thread: another may have to be woken.
const SERIAL_NS: f64 = 15_000.0;

/// Runs `f(i)` for `i` in `0..n`, where all together cost about `ns` nanoseconds on one thread.
pub(super) fn each(n: usize, ns: f64, f: impl Fn(usize) + Send + Sync) {
    if n <= 1 || ns < SERIAL_NS || pool::threads() == 1 {
        (0..n).for_each(f);
    } else {
        pool::run(n, &f);
    }
}

/// Runs `f(start, end)` on pieces of `0..n` of at least `grain` elements, where one element costs about `ns`.
pub(super) fn pieces(n: usize, grain: usize, ns: f64, f: impl Fn(usize, usize) + Send + Sync) {
    let grain = grain.max(1);
    let count = n.div_ceil(grain);
    each(count, n as f64 * ns, |i| f(i * grain, ((i + 1) * grain).min(n)));
}
