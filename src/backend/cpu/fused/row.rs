//! Loops over one row of floats that the fused kernels share. Sums run in 32 lanes over stretches of at most
//! [`STRETCH`] elements, and in f64 between.

use super::super::fold;
use super::super::math;
use super::super::simd::simd_fn;

/// Elements per f32 sum.
const STRETCH: usize = 2048;

/// The sum of a row.
pub(super) fn sum(x: &[f32]) -> f64 {
    x.chunks(STRETCH).map(fold::sum).sum()
}

/// The sum of `x - pivot`: near the pivot no digits are lost, however far it is from zero.
pub(super) fn sum_from(x: &[f32], pivot: f32) -> f64 {
    x.chunks(STRETCH).map(|x| sum_from_stretch(x, pivot)).sum()
}

/// A pivot for the sum of a row or channel that begins with `x`.
pub(super) fn pivot(x: &[f32]) -> f32 {
    x.first().copied().filter(|x| x.is_finite()).unwrap_or(0.0)
}

/// The sum of the products of two rows.
pub(super) fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.chunks(STRETCH).zip(y.chunks(STRETCH)).map(|(x, y)| dot_stretch(x, y)).sum()
}

/// The sum of squares of `(x - hi) - lo`.
pub(super) fn squares(x: &[f32], hi: f32, lo: f32) -> f64 {
    x.chunks(STRETCH).map(|x| squares_stretch(x, hi, lo)).sum()
}

/// The sum of `g * (x - hi)`.
pub(super) fn moment(g: &[f32], x: &[f32], hi: f32) -> f64 {
    g.chunks(STRETCH).zip(x.chunks(STRETCH)).map(|(g, x)| moment_stretch(g, x, hi)).sum()
}

/// The sums of `g * w` and `g * w * (x - mean)`.
pub(super) fn weighted(g: &[f32], w: &[f32], x: &[f32], mean: f32) -> (f64, f64) {
    let parts = g.chunks(STRETCH).zip(w.chunks(STRETCH)).zip(x.chunks(STRETCH));
    parts.map(|((g, w), x)| weighted_stretch(g, w, x, mean)).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// Sums an expression of elements in 32 lanes.
macro_rules! lanes {
    ($n:expr, |$i:ident| $e:expr) => {{
        let n: usize = $n;
        let mut lanes = [0f32; 32];
        let whole = n / 32 * 32;
        let mut base = 0;
        while base < whole {
            for k in 0..32 {
                let $i = base + k;
                lanes[k] += $e;
            }
            base += 32;
        }
        let mut total = 0f64;
        for $i in whole..n {
            total += ($e) as f64;
        }
        for v in lanes {
            total += v as f64;
        }
        total
    }};
}

simd_fn! {
    fn sum_from_stretch(x: &[f32], pivot: f32) -> f64 {
        lanes!(x.len(), |i| x[i] - pivot)
    }
}

simd_fn! {
    fn dot_stretch(x: &[f32], y: &[f32]) -> f64 {
        let n = x.len().min(y.len());
        let (x, y) = (&x[..n], &y[..n]);
        lanes!(n, |i| x[i] * y[i])
    }
}

simd_fn! {
    fn squares_stretch(x: &[f32], hi: f32, lo: f32) -> f64 {
        lanes!(x.len(), |i| { let d = (x[i] - hi) - lo; d * d })
    }
}

simd_fn! {
    fn moment_stretch(g: &[f32], x: &[f32], hi: f32) -> f64 {
        let n = x.len().min(g.len());
        let (g, x) = (&g[..n], &x[..n]);
        lanes!(n, |i| g[i] * (x[i] - hi))
    }
}

simd_fn! {
    fn weighted_stretch(g: &[f32], w: &[f32], x: &[f32], mean: f32) -> (f64, f64) {
        let n = x.len().min(g.len()).min(w.len());
        let (g, w, x) = (&g[..n], &w[..n], &x[..n]);
        (lanes!(n, |i| g[i] * w[i]), lanes!(n, |i| g[i] * w[i] * (x[i] - mean)))
    }
}

simd_fn! {
    /// out = exp(x * scale - shift)
    pub(super) fn exp_of(out: &mut [f32], x: &[f32], scale: f32, shift: f32) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = math::exp(x * scale - shift);
        }
    }
}

simd_fn! {
    /// x = exp(x * scale - shift)
    pub(super) fn exp_in_place(x: &mut [f32], scale: f32, shift: f32) {
        for v in x.iter_mut() {
            *v = math::exp(*v * scale - shift);
        }
    }
}

simd_fn! {
    /// x *= by
    pub(super) fn scale(x: &mut [f32], by: f32) {
        for v in x.iter_mut() {
            *v *= by;
        }
    }
}

simd_fn! {
    /// out = y * (g - s)
    pub(super) fn softmax_grad(out: &mut [f32], y: &[f32], g: &[f32], s: f32) {
        for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
            *o = y * (g - s);
        }
    }
}

simd_fn! {
    /// x *= (d - s) * by
    pub(super) fn scores_grad(x: &mut [f32], d: &[f32], s: f32, by: f32) {
        for (x, &d) in x.iter_mut().zip(d) {
            *x *= (d - s) * by;
        }
    }
}

simd_fn! {
    /// out = (x - a) - b
    pub(super) fn shifted(out: &mut [f32], x: &[f32], a: f32, b: f32) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = (x - a) - b;
        }
    }
}

simd_fn! {
    /// out = g - exp(y) * s
    pub(super) fn log_softmax_grad(out: &mut [f32], y: &[f32], g: &[f32], s: f32) {
        for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
            *o = g - math::exp(y) * s;
        }
    }
}

simd_fn! {
    /// out = g * (exp(x - max - log_sum) - spread)
    pub(super) fn cross_entropy_grad(out: &mut [f32], x: &[f32], max: f32, log_sum: f32, g: f32, spread: f32) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = g * (math::exp(x - max - log_sum) - spread);
        }
    }
}

simd_fn! {
    /// out = ((x - hi) - lo) * scale + bias
    pub(super) fn affine(out: &mut [f32], x: &[f32], hi: f32, lo: f32, scale: f32, bias: f32) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = ((x - hi) - lo) * scale + bias;
        }
    }
}

simd_fn! {
    /// out = ((x - hi) - lo) * scale * w + b
    pub(super) fn normalize(out: &mut [f32], x: &[f32], hi: f32, lo: f32, scale: f32, w: &[f32], b: &[f32]) {
        for (((o, &x), &w), &b) in out.iter_mut().zip(x).zip(w).zip(b) {
            *o = ((x - hi) - lo) * scale * w + b;
        }
    }
}

simd_fn! {
    /// out = a * (g - mean_g - (x - mean) * slope)
    pub(super) fn norm_grad(out: &mut [f32], g: &[f32], x: &[f32], mean: f32, a: f32, mean_g: f32, slope: f32) {
        for ((o, &g), &x) in out.iter_mut().zip(g).zip(x) {
            *o = a * ((g - mean_g) - (x - mean) * slope);
        }
    }
}

simd_fn! {
    /// out = a * (g * w - mean_g - (x - mean) * slope); dw += g * (x - mean) * a; db += g
    pub(super) fn layer_grad(
        out: &mut [f32], g: &[f32], x: &[f32], w: &[f32], dw: &mut [f32], db: &mut [f32],
        mean: f32, a: f32, mean_g: f32, slope: f32,
    ) {
        let n = out.len().min(g.len()).min(x.len()).min(w.len()).min(dw.len()).min(db.len());
        let (out, g, x, w, dw, db) = (&mut out[..n], &g[..n], &x[..n], &w[..n], &mut dw[..n], &mut db[..n]);
        for i in 0..n {
            let d = x[i] - mean;
            out[i] = a * ((g[i] * w[i] - mean_g) - d * slope);
            dw[i] += g[i] * (d * a);
            db[i] += g[i];
        }
    }
}
