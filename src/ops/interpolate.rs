//! Resizing of lines, images and volumes: torch's `interpolate`, one dimension after the other. Places and weights are
//! computed in the graph from the number of the element, in f32 as torch does.

use crate::dtype::DType;
use crate::ir::Tensor;
use std::panic::Location;

/// How values between pixels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The pixel at floor(i scale).
    Nearest,
    /// The pixel at floor((i + 1/2) scale).
    NearestExact,
    /// Linear in all directions (torch's `linear`, `bilinear` and `trilinear`).
    Linear(Sampling),
    /// Cubic convolution in all directions, with a = -3/4 (a = -1/2 with `antialias`).
    Cubic(Sampling),
    /// The mean of the pixels that a pixel of the result covers: [`Tensor::adaptive_avg_pool`].
    Area,
}

/// Where the pixels of a [`Interpolation::Linear`] or [`Interpolation::Cubic`] result lie, and how wide they look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sampling {
    /// The centres of the corner pixels are the corners: first and last pixel map to first and last.
    pub align_corners: bool,
    /// Where the result is smaller, each of its pixels weighs all that it covers.
    pub antialias: bool,
}

/// The shape of the kernel of a weighted mean.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kernel {
    Hat,
    /// With this a.
    Cubic(f64),
}

impl Kernel {
    /// Half of the width, in pixels.
    fn reach(self) -> f64 {
        match self {
            Kernel::Hat => 1.0,
            Kernel::Cubic(_) => 2.0,
        }
    }

    /// The weight at distance |x|.
    fn weight(self, x: &Tensor) -> Tensor {
        let x = x.abs();
        match self {
            Kernel::Hat => (1.0 - x).relu(),
            Kernel::Cubic(a) => {
                let near = ((&x * (a + 2.0) - (a + 3.0)) * x.square()) + 1.0;
                let far = ((&x * a - 5.0 * a) * &x + 8.0 * a) * &x - 4.0 * a;
                let within = x.lt(&x.like(2.0)).select(&far, &x.like(0.0));
                x.le(&x.like(1.0)).select(&near, &within)
            }
        }
    }
}

impl Tensor {
    /// `[N, C, S..]` resized to `size` (per spatial dimension). `scale` is the distance of neighbours of the result in
    /// pixels of the input, if it is not n/m.
    #[track_caller]
    pub fn interpolate(&self, size: &[usize], scale: Option<&[f64]>, mode: Interpolation) -> Tensor {
        let dims = size.len();
        let fits = dims > 0 && self.rank() == dims + 2 && scale.is_none_or(|s| s.len() == dims);
        if !fits || size.contains(&0) || self.shape()[2..].contains(&0) {
            let detail = format!("cannot resize {} to {size:?}", self.ty());
            return self.fail("interpolate", detail, Location::caller());
        }
        if mode == Interpolation::Area {
            return self.adaptive_avg_pool(size);
        }
        (0..dims).fold(self.clone(), |t, d| t.resized(2 + d, size[d], scale.map(|s| s[d]), mode))
    }

    /// Dimension `axis` resized to `m`.
    fn resized(&self, axis: usize, m: usize, scale: Option<f64>, mode: Interpolation) -> Tensor {
        let n = self.shape()[axis];
        let step = scale.unwrap_or(n as f64 / m as f64);
        let last = n as f64 - 1.0;
        let whole = self.builder().iota(m);
        let i = whole.cast(DType::F32);
        let pick = |index: &Tensor| {
            let index = index.maximum(&index.like(0.0)).minimum(&index.like(last)).cast(DType::I32);
            self.index_select(axis as isize, &index)
        };
        let (n_of, m_of) = (n as f64, m as f64);
        let (kernel, sampling) = match mode {
            // Whole numbers where the scale is a fraction of sizes: without rounding.
            Interpolation::Nearest if scale.is_none() => return pick(&(whole * n_of / m_of)),
            Interpolation::NearestExact if scale.is_none() => {
                return pick(&((whole * 2.0 + 1.0) * n_of / (2.0 * m_of)));
            }
            Interpolation::Nearest => return pick(&(i * step).floor()),
            Interpolation::NearestExact => return pick(&((i + 0.5) * step).floor()),
            // As torch has it, a dimension that keeps its size is copied, whatever the scale.
            Interpolation::Linear(s) if m == n && !s.antialias => return self.clone(),
            Interpolation::Linear(s) => (Kernel::Hat, s),
            Interpolation::Cubic(s) => (Kernel::Cubic(if s.antialias { -0.5 } else { -0.75 }), s),
            Interpolation::Area => return self.clone(),
        };
        let step = match (sampling.align_corners, m) {
            (true, 1) => 0.0,
            (true, _) => last / (m as f64 - 1.0),
            (false, _) => step,
        };
        let along = |t: Tensor| t.along_axis(axis, self.rank());
        let weighted = |parts: Vec<Tensor>| parts.into_iter().reduce(|a, b| a + b).unwrap_or_else(|| self.clone());
        if sampling.antialias {
            let wide = step.max(1.0);
            let reach = kernel.reach() * wide;
            let centre = (i + 0.5) * step;
            let first = (&centre - reach + 0.5).floor().maximum(&centre.like(0.0));
            let end = (&centre + reach + 0.5).floor().minimum(&centre.like(n as f64));
            let taps: Vec<(Tensor, Tensor)> = (0..2 * reach.ceil() as usize + 1)
                .map(|k| {
                    let at = &first + k as f64;
                    let weight = kernel.weight(&((&at - &centre + 0.5) / wide));
                    let weight = at.lt(&end).select(&weight, &weight.like(0.0));
                    (at, weight)
                })
                .collect();
            let total = weighted(taps.iter().map(|(_, w)| w.clone()).collect());
            return weighted(taps.iter().map(|(at, w)| pick(at) * along(w / &total)).collect());
        }
        let source = if sampling.align_corners { i * step } else { (i + 0.5) * step - 0.5 };
        if let Kernel::Cubic(_) = kernel {
            let low = source.floor();
            let part = source - &low;
            let tap = |k: f64| pick(&(&low + k)) * along(kernel.weight(&(&part - k)));
            return weighted([-1.0, 0.0, 1.0, 2.0].map(tap).to_vec());
        }
        let source = source.maximum(&source.like(0.0));
        let low = source.floor().minimum(&source.like(last));
        let part = along(source - &low);
        pick(&low) * (1.0 - &part) + pick(&(low + 1.0)) * part
    }
}
