//! Loops over one row of floats that the fused kernels share. Sums run in lanes of f32 for a few dozen elements, and in
//! f64 between.

use super::super::fold::sum_of;
use super::super::math;
use super::super::simd::simd_fn;

pub(super) use super::super::fold::sum;

/// A pivot for the sum of a row or channel that begins with `x`.
pub(super) fn pivot(x: &[f32]) -> f32 {
    x.first().copied().filter(|x| x.is_finite()).unwrap_or(0.0)
}

simd_fn! {
    /// The sum of `x - pivot`: near the pivot no digits are lost, however far it is from zero.
    pub(super) fn sum_from(x: &[f32], pivot: f32) -> f64 {
        sum_of!(64, |x| total: x - pivot)
    }
}

simd_fn! {
    /// The sum of the products of two rows.
    pub(super) fn dot(x: &[f32], y: &[f32]) -> f64 {
        sum_of!(64, |x, y| total: x * y)
    }
}

simd_fn! {
    /// The sum of squares of `x - hi`.
    pub(super) fn squares(x: &[f32], hi: f32) -> f64 {
        sum_of!(64, |x| total: (x - hi) * (x - hi))
    }
}

simd_fn! {
    /// The sum of `g * (x - hi)`.
    pub(super) fn moment(g: &[f32], x: &[f32], hi: f32) -> f64 {
        sum_of!(64, |g, x| total: g * (x - hi))
    }
}

simd_fn! {
    /// The sums of `g * w` and `g * w * (x - mean)`.
    pub(super) fn weighted(g: &[f32], w: &[f32], x: &[f32], mean: f32) -> (f64, f64) {
        sum_of!(32, |g, w, x| along: g * w, across: g * w * (x - mean))
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
