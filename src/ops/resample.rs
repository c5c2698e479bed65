//! Windows as columns (`unfold`, `fold`), resizing of images, and sampling on a grid (spatial transformers).

use crate::dtype::DType;
use crate::ir::Tensor;
use std::panic::Location;

/// How values between pixels are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The pixel at floor(i scale); on a grid the nearest one, halves to even.
    Nearest,
    /// Linear in both directions. `align_corners` maps first and last pixel to first and last.
    Bilinear {
        /// Whether the corner pixels' centres are the corners.
        align_corners: bool,
    },
}

/// What a grid finds outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// The pixel at the border.
    Border,
    /// The image mirrored.
    Reflection,
}

/// Windows of `unfold` and `fold`, per spatial dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfold {
    /// Elements per window.
    pub kernel: [usize; 2],
    /// Distance between the elements of a window.
    pub dilation: [usize; 2],
    /// Zeros on both sides.
    pub padding: [usize; 2],
    /// Distance between windows.
    pub stride: [usize; 2],
}

impl Unfold {
    /// Windows per dimension of an image of this size, or `None` if not one fits.
    fn out(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let one = |d: usize| {
            let pad = (self.padding[d], self.padding[d]);
            super::pool::pool_out_size(size[d], self.kernel[d], self.stride[d], pad, self.dilation[d])
        };
        Some([one(0)?, one(1)?])
    }
}

impl Tensor {
    /// The windows of `[N, C, H, W]` (or `[C, H, W]`) as columns: `[N, C kh kw, L]`.
    #[track_caller]
    pub fn unfold(&self, u: &Unfold) -> Tensor {
        let loc = Location::caller();
        if self.rank() == 3 {
            return self.unsqueeze(0).unfold(u).squeeze(0);
        }
        let Some(out) = (self.rank() == 4).then(|| u.out([self.size(2), self.size(3)])).flatten() else {
            return self.fail("unfold", format!("no window {u:?} fits {}", self.ty()), loc);
        };
        let p = [0, 0, u.padding[0] as i64, u.padding[1] as i64];
        let padded = self.pad(&p, &p, 0.0);
        let mut columns = Vec::new();
        for i in 0..u.kernel[0] {
            for j in 0..u.kernel[1] {
                let start = vec![0, 0, i * u.dilation[0], j * u.dilation[1]];
                let len = vec![self.size(0), self.size(1), out[0], out[1]];
                columns.push(padded.slice(start, len, vec![1, 1, u.stride[0], u.stride[1]]));
            }
        }
        let stacked = Tensor::stack(&columns.iter().collect::<Vec<_>>(), 2);
        stacked.reshape([self.size(0), self.size(1) * u.kernel[0] * u.kernel[1], out[0] * out[1]])
    }

    /// The adjoint of [`Tensor::unfold`]: columns `[N, C kh kw, L]` summed into images `[N, C, H, W]` of this size.
    #[track_caller]
    pub fn fold(&self, size: [usize; 2], u: &Unfold) -> Tensor {
        let loc = Location::caller();
        if self.rank() == 2 {
            return self.unsqueeze(0).fold(size, u).squeeze(0);
        }
        let k = u.kernel[0] * u.kernel[1];
        let Some(out) = u
            .out(size)
            .filter(|o| self.rank() == 3 && k > 0 && self.size(1).is_multiple_of(k) && self.size(2) == o[0] * o[1])
        else {
            return self.fail("fold", format!("{} are not the windows {u:?} of images of {size:?}", self.ty()), loc);
        };
        let (n, c) = (self.size(0), self.size(1) / k);
        let parts = self.reshape([n, c, k, out[0], out[1]]);
        let mut sum: Option<Tensor> = None;
        for at in 0..k {
            let part = parts.narrow(2, at, 1).squeeze(2);
            let (mut lo, mut hi, mut interior) = ([0i64; 4], [0i64; 4], [0; 4]);
            for (d, offset) in [at / u.kernel[1], at % u.kernel[1]].into_iter().enumerate() {
                let first = (offset * u.dilation[d]) as i64;
                let last = first + ((out[d] - 1) * u.stride[d]) as i64;
                lo[2 + d] = first;
                hi[2 + d] = (size[d] + 2 * u.padding[d]) as i64 - 1 - last;
                interior[2 + d] = u.stride[d] - 1;
            }
            let spread = part.pad_interior(&lo, &hi, &interior, 0.0);
            sum = Some(match sum {
                Some(s) => s + spread,
                None => spread,
            });
        }
        let crop = [0, 0, -(u.padding[0] as i64), -(u.padding[1] as i64)];
        sum.map_or_else(|| self.clone(), |s| s.pad(&crop, &crop, 0.0))
    }

    /// `[N, C, S..]` resized to `size` (per spatial dimension). `scale` is the distance of neighbours of the result in
    /// pixels of the input, if it is not n/m.
    #[track_caller]
    pub fn interpolate(&self, size: &[usize], scale: Option<&[f64]>, mode: Interpolation) -> Tensor {
        let dims = size.len();
        if dims == 0 || self.rank() != dims + 2 || scale.is_some_and(|s| s.len() != dims) {
            let detail = format!("cannot resize {} to {size:?}", self.ty());
            return self.fail("interpolate", detail, Location::caller());
        }
        let mut t = self.clone();
        for (d, &m) in size.iter().enumerate() {
            let axis = 2 + d;
            let n = self.shape()[axis];
            let step = scale.map_or(n as f64 / m.max(1) as f64, |s| s[d]);
            let i = self.builder().iota(m);
            t = match mode {
                Interpolation::Nearest => {
                    // Whole numbers where the scale is a fraction of sizes: i n / m without rounding.
                    let source = match scale {
                        None => (&i * n as f64) / m.max(1) as f64,
                        Some(_) => (i.cast(DType::F32) * step).floor().cast(DType::I32),
                    };
                    t.index_select(axis as isize, &source.minimum(&source.like(n as f64 - 1.0)))
                }
                Interpolation::Bilinear { align_corners } => {
                    let i = i.cast(DType::F32);
                    let source = if align_corners {
                        i * if m > 1 { (n as f64 - 1.0) / (m as f64 - 1.0) } else { 0.0 }
                    } else {
                        let s = (i + 0.5) * step - 0.5;
                        s.maximum(&s.like(0.0))
                    };
                    let low = source.floor().minimum(&source.like(n as f64 - 1.0));
                    let part = (source - &low).along_axis(axis, self.rank());
                    let low = low.cast(DType::I32);
                    let high = (&low + 1.0).minimum(&low.like(n as f64 - 1.0));
                    let pick = |index: &Tensor| t.index_select(axis as isize, index);
                    pick(&low) * (1.0 - &part) + pick(&high) * part
                }
            };
        }
        t
    }

    /// The points `theta [x, y, 1]` of a regular grid: `theta [N, 2, 3]` -> `[N, H, W, 2]`, x before y, both -1 to 1 at
    /// the edges of the image (`align_corners`: at the centres of the corner pixels).
    #[track_caller]
    pub fn affine_grid(&self, height: usize, width: usize, align_corners: bool) -> Tensor {
        if self.rank() != 3 || self.size(1) != 2 || self.size(2) != 3 {
            return self.fail("affine_grid", format!("theta must be [N,2,3], got {}", self.ty()), Location::caller());
        }
        let axis = |n: usize| {
            let i = self.builder().iota(n).cast(DType::F32);
            match (align_corners, n) {
                (true, 1) => i * 0.0,
                (true, _) => i * (2.0 / (n as f64 - 1.0)) - 1.0,
                (false, _) => (i * 2.0 + 1.0) / n as f64 - 1.0,
            }
        };
        let (x, y) = (axis(width).reshape([1, 1, width, 1]), axis(height).reshape([1, height, 1, 1]));
        let column = |j: usize| self.narrow(2, j, 1).reshape([self.size(0), 1, 1, 2]);
        column(0) * x + column(1) * y + column(2)
    }

    /// Values of images `[N, C, H, W]` at the points of `grid [N, h, w, 2]` (x, y in -1..1): `[N, C, h, w]`.
    #[track_caller]
    pub fn grid_sample(&self, grid: &Tensor, bilinear: bool, outside: Outside, align_corners: bool) -> Tensor {
        if self.rank() != 4 || grid.rank() != 4 || grid.size(3) != 2 || grid.size(0) != self.size(0) {
            let detail = format!("needs [N,C,H,W] and [N,h,w,2], got {} and {}", self.ty(), grid.ty());
            return self.fail("grid_sample", detail, Location::caller());
        }
        let (n, c) = (self.size(0), self.size(1));
        let points = grid.size(1) * grid.size(2);
        let pixel = |k: usize, size: usize| {
            let g = grid.narrow(3, k, 1).reshape([n, 1, points]);
            let p = if align_corners {
                (g + 1.0) * ((size as f64 - 1.0) / 2.0)
            } else {
                ((g + 1.0) * size as f64 - 1.0) / 2.0
            };
            let bound = |p: &Tensor| p.hardtanh(0.0, size as f64 - 1.0);
            match outside {
                Outside::Zeros => p,
                Outside::Border => bound(&p),
                Outside::Reflection => bound(&reflected(&p, size, align_corners)),
            }
        };
        let (h, w) = (self.size(2), self.size(3));
        let (x, y) = (pixel(0, w), pixel(1, h));
        let flat = self.reshape([n, c, h * w]);
        // The pixel at whole coordinates; 0 where there is none.
        let at = |x: &Tensor, y: &Tensor| {
            let within = |t: &Tensor, size: usize| t.ge(&t.like(0.0)).and(&t.lt(&t.like(size as f64)));
            let inside = within(x, w).and(&within(y, h));
            let index = (y * w as f64 + x).cast(DType::I32);
            let index = inside.select(&index, &index.like(0.0)).broadcast_to([n, c, points]);
            let value = flat.gather(2, &index);
            inside.select(&value, &value.like(0.0))
        };
        let sampled = if bilinear {
            let (x0, y0) = (x.floor().detach(), y.floor().detach());
            let (fx, fy) = (&x - &x0, &y - &y0);
            let (x1, y1) = (&x0 + 1.0, &y0 + 1.0);
            let top = at(&x0, &y0) * (1.0 - &fx) + at(&x1, &y0) * &fx;
            let bottom = at(&x0, &y1) * (1.0 - &fx) + at(&x1, &y1) * &fx;
            top * (1.0 - &fy) + bottom * fy
        } else {
            at(&x.round(), &y.round())
        };
        sampled.reshape([n, c, grid.size(1), grid.size(2)])
    }
}

/// Pixel coordinates mirrored into the image: about -1/2 and size-1/2, or 0 and size-1 with `align_corners`.
fn reflected(p: &Tensor, size: usize, align_corners: bool) -> Tensor {
    let (low, span) = if align_corners { (0.0, size as f64 - 1.0) } else { (-0.5, size as f64) };
    if span == 0.0 {
        return p * 0.0;
    }
    let d = (p - low).abs();
    let turns = (&d / span).floor().detach();
    let rest = d - &turns * span;
    let odd = (&turns * 0.5 - (&turns * 0.5).floor()).gt(&turns.like(0.25));
    odd.select(&(span - &rest), &rest) + low
}
