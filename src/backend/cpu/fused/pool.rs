//! Pooling with its gradients, one plane per task step. Forward, a whole line of windows takes one element of each at a
//! time; backward, a plane belongs to one thread, so that scattering into it is deterministic.

use super::super::memory::Words;
use super::super::simd::simd_fn;
use super::super::{Job, math, par};
use super::Dense;

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Max,
    MaxGrad,
    Sum,
    SumGrad,
}

/// Window geometry in three spatial dimensions (missing ones have size 1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    rank: usize,
    kernel: [usize; 3],
    stride: [usize; 3],
    pad: [usize; 3],
    dilation: [usize; 3],
}

impl Windows {
    /// `None` for more than three dimensions.
    pub(super) fn new(
        kernel: &[usize],
        stride: &[usize],
        pad: &[(usize, usize)],
        dilation: &[usize],
    ) -> Option<Windows> {
        let rank = kernel.len();
        let skip = 3usize.checked_sub(rank)?;
        let mut w = Windows { rank, kernel: [1; 3], stride: [1; 3], pad: [0; 3], dilation: [1; 3] };
        for d in 0..rank {
            w.kernel[skip + d] = kernel[d];
            w.stride[skip + d] = stride[d];
            w.pad[skip + d] = pad[d].0;
            w.dilation[skip + d] = dilation[d];
        }
        Some(w)
    }

    fn sizes(&self, shape: &[usize]) -> Option<[usize; 3]> {
        let mut s = [1; 3];
        let skip = 3 - self.rank;
        (shape.len() == self.rank + 2).then(|| s[skip..].copy_from_slice(&shape[2..]))?;
        Some(s)
    }

    /// Position in dimension `d` of element `k` of window `p`, or `None` in the padding.
    #[inline(always)]
    fn at(&self, d: usize, p: usize, k: usize, n: usize) -> Option<usize> {
        (p * self.stride[d] + k * self.dilation[d]).checked_sub(self.pad[d]).filter(|&i| i < n)
    }

    /// The windows of the last dimension whose element `k` is inside: first, end, and where the first one's is.
    #[inline(always)]
    fn line(&self, k: usize, n: usize, windows: usize) -> (usize, usize, usize) {
        let (offset, stride) = (k * self.dilation[2], self.stride[2]);
        let first = self.pad[2].saturating_sub(offset).div_ceil(stride).min(windows);
        let end = (n + self.pad[2]).saturating_sub(offset).div_ceil(stride).clamp(first, windows);
        (first, end, (first * stride + offset).saturating_sub(self.pad[2]))
    }
}

simd_fn! {
    /// `out[i]` = max(`out[i]`, `x[i * stride]`)
    fn max_line(out: &mut [f32], x: &[f32], stride: usize) {
        match stride {
            1 => out.iter_mut().zip(x).for_each(|(o, &x)| *o = math::max(*o, x)),
            2 => out.iter_mut().zip(x.chunks(2)).for_each(|(o, x)| *o = math::max(*o, x[0])),
            _ => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, &x)| *o = math::max(*o, x)),
        }
    }
}

simd_fn! {
    /// `out[i]` += `x[i * stride]`
    fn add_line(out: &mut [f32], x: &[f32], stride: usize) {
        match stride {
            1 => out.iter_mut().zip(x).for_each(|(o, &x)| *o += x),
            _ => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, &x)| *o += x),
        }
    }
}

simd_fn! {
    /// `out[i * stride]` += `g[i]`
    fn spread_line(out: &mut [f32], g: &[f32], stride: usize) {
        out.iter_mut().step_by(stride).zip(g).for_each(|(o, &g)| *o += g);
    }
}

pub(super) fn job(dense: &Dense, w: Windows, kind: Kind) -> Option<Job> {
    let d = dense.clone();
    let (small, large) = match kind {
        Kind::Max | Kind::Sum => (&d.outs[0].ty.shape, d.shape(0)),
        Kind::MaxGrad => (d.shape(1), d.shape(0)),
        Kind::SumGrad => (d.shape(0), &d.outs[0].ty.shape),
    };
    let planes = large[0] * large[1];
    let (windows, input) = (w.sizes(small)?, w.sizes(large)?);
    let (len_out, len_in): (usize, usize) = (windows.iter().product(), input.iter().product());
    let taps: usize = w.kernel.iter().product();
    let cost = (len_out * taps) as f64 * if kind == Kind::MaxGrad { 1.0 } else { 0.4 } + len_in as f64 * 0.1;
    Some(Box::new(move || {
        d.prepare();
        par::pieces(planes, (16_384 / len_in.max(1)).max(1), cost, |from, to| {
            for plane in from..to {
                let (small, large) = (plane * len_out, plane * len_in);
                // SAFETY: planes of the result are disjoint, operands are dense and not written.
                unsafe {
                    match kind {
                        Kind::Max | Kind::Sum => {
                            let x = d.arg(0).at(large).f32s(len_in);
                            forward(&w, kind, x, input, windows, d.out(0).at(small).f32s_mut(len_out));
                        }
                        Kind::SumGrad => {
                            let g = d.arg(0).at(small).f32s(len_out);
                            sum_grad(&w, g, input, windows, d.out(0).at(large).f32s_mut(len_in));
                        }
                        Kind::MaxGrad => {
                            let plane = |i: usize, at: usize, n: usize| d.arg(i).at(at).f32s(n);
                            let (x, y, g) =
                                (plane(0, large, len_in), plane(1, small, len_out), plane(2, small, len_out));
                            let dx = d.out(0).at(large);
                            // `pad` is what lies before; windows may also reach beyond the end.
                            let within = (0..3).all(|a| windows[a] * w.stride[a] <= input[a]);
                            let quarters = w.kernel == [1, 2, 2] && w.stride == [1, 2, 2] && w.dilation == [1; 3];
                            if quarters && w.pad == [0; 3] && within {
                                quarter_grad(x, y, g, input, windows, dx);
                            } else {
                                max_grad(&w, x, y, g, input, windows, dx.f32s_mut(len_in));
                            }
                        }
                    }
                }
            }
        });
        Ok(())
    }))
}

fn forward(w: &Windows, kind: Kind, x: &[f32], input: [usize; 3], windows: [usize; 3], out: &mut [f32]) {
    out.fill(if kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
    lines(w, input, windows, |line, row, first, end, at| {
        let to = &mut out[line * windows[2]..][first..end];
        let from = &x[row * input[2]..][at..input[2]];
        match kind {
            Kind::Max => max_line(to, from, w.stride[2]),
            _ => add_line(to, from, w.stride[2]),
        }
    });
}

fn sum_grad(w: &Windows, g: &[f32], input: [usize; 3], windows: [usize; 3], dx: &mut [f32]) {
    dx.fill(0.0);
    lines(w, input, windows, |line, row, first, end, at| {
        let from = &g[line * windows[2]..][first..end];
        spread_line(&mut dx[row * input[2]..][at..input[2]], from, w.stride[2]);
    });
}

/// For each line of windows and each element of the window: the line, the row of the input that the element is in, the
/// windows whose element is inside, and where the first one's is in the row.
fn lines(w: &Windows, input: [usize; 3], windows: [usize; 3], mut f: impl FnMut(usize, usize, usize, usize, usize)) {
    for p0 in 0..windows[0] {
        for p1 in 0..windows[1] {
            let line = p0 * windows[1] + p1;
            for k0 in 0..w.kernel[0] {
                let Some(i0) = w.at(0, p0, k0, input[0]) else { continue };
                for k1 in 0..w.kernel[1] {
                    let Some(i1) = w.at(1, p1, k1, input[1]) else { continue };
                    for k2 in 0..w.kernel[2] {
                        let (first, end, at) = w.line(k2, input[2], windows[2]);
                        if first < end {
                            f(line, i0 * input[1] + i1, first, end, at);
                        }
                    }
                }
            }
        }
    }
}

/// The first element, in row-major order, that is the window's maximum or NaN gets the window's cotangent.
fn max_grad(w: &Windows, x: &[f32], y: &[f32], g: &[f32], input: [usize; 3], windows: [usize; 3], dx: &mut [f32]) {
    dx.fill(0.0);
    let mut p = 0;
    for p0 in 0..windows[0] {
        for p1 in 0..windows[1] {
            for p2 in 0..windows[2] {
                'window: for k0 in 0..w.kernel[0] {
                    let Some(i0) = w.at(0, p0, k0, input[0]) else { continue };
                    for k1 in 0..w.kernel[1] {
                        let Some(i1) = w.at(1, p1, k1, input[1]) else { continue };
                        for k2 in 0..w.kernel[2] {
                            let Some(i2) = w.at(2, p2, k2, input[2]) else { continue };
                            let at = (i0 * input[1] + i1) * input[2] + i2;
                            if x[at] == y[p] || x[at].is_nan() {
                                dx[at] += g[p];
                                break 'window;
                            }
                        }
                    }
                }
                p += 1;
            }
        }
    }
}

/// The same for 2x2 windows side by side, without branches.
///
/// # Safety
/// `dx` has a plane of the input's size that no other thread touches.
unsafe fn quarter_grad(x: &[f32], y: &[f32], g: &[f32], input: [usize; 3], windows: [usize; 3], dx: Words) {
    let (width, cols) = (input[2], windows[2]);
    for p0 in 0..windows[0] {
        for row in 0..input[1] {
            if row >= 2 * windows[1] {
                // SAFETY: an odd last row, in no window.
                unsafe { dx.at((p0 * input[1] + row) * width).f32s_mut(width) }.fill(0.0);
            }
        }
        for p1 in 0..windows[1] {
            let (line, top) = ((p0 * windows[1] + p1) * cols, (p0 * input[1] + 2 * p1) * width);
            // SAFETY: two distinct rows of the plane.
            let (upper, lower) = unsafe { (dx.at(top).f32s_mut(width), dx.at(top + width).f32s_mut(width)) };
            quarter_line(
                upper,
                lower,
                &x[top..][..width],
                &x[top + width..][..width],
                &y[line..][..cols],
                &g[line..][..cols],
            );
            upper[2 * cols..].fill(0.0);
            lower[2 * cols..].fill(0.0);
        }
    }
}

simd_fn! {
    fn quarter_line(upper: &mut [f32], lower: &mut [f32], x0: &[f32], x1: &[f32], y: &[f32], g: &[f32]) {
        let windows = upper.chunks_exact_mut(2).zip(lower.chunks_exact_mut(2));
        let elements = x0.chunks_exact(2).zip(x1.chunks_exact(2)).zip(y.iter().zip(g));
        for ((u, l), ((a, b), (&y, &g))) in windows.zip(elements) {
            let hit = |v: f32| v == y || v.is_nan();
            let (h0, h1, h2, h3) = (hit(a[0]), hit(a[1]), hit(b[0]), hit(b[1]));
            u[0] = if h0 { g } else { 0.0 };
            u[1] = if h1 & !h0 { g } else { 0.0 };
            l[0] = if h2 & !(h0 | h1) { g } else { 0.0 };
            l[1] = if h3 & !(h0 | h1 | h2) { g } else { 0.0 };
        }
    }
}
