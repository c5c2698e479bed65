//! Sampling of images and volumes on a grid (spatial transformers): `affine_grid` and `grid_sample`.

use crate::dtype::DType;
use crate::ir::Tensor;
use std::panic::Location;

/// How [`Tensor::grid_sample`] makes values between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GridMode {
    /// The nearest pixel, halves to even.
    Nearest,
    /// Linear in all directions (of volumes too, where torch says `bilinear` as well).
    #[default]
    Bilinear,
    /// Cubic convolution with a = -3/4, of images only.
    Bicubic,
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

/// The pixels of images `[n, c, size..]`, flattened, to be read at whole coordinates.
struct Pixels<'a> {
    flat: Tensor,
    size: &'a [usize],
    points: usize,
}

impl Pixels<'_> {
    /// The pixels at these whole coordinates, one `[n, 1, points]` per dimension; 0 where there is none.
    fn at(&self, coordinates: &[Tensor]) -> Tensor {
        let within = |(t, &size): (&Tensor, &usize)| t.ge(&t.like(0.0)).and(&t.lt(&t.like(size as f64)));
        let mut inside: Option<Tensor> = None;
        let mut index: Option<Tensor> = None;
        for pair in coordinates.iter().zip(self.size) {
            let (also, &size) = (within(pair), pair.1);
            inside = Some(inside.map_or(also.clone(), |i| i.and(&also)));
            index = Some(index.map_or(pair.0.clone(), |i| i * size as f64 + pair.0));
        }
        let (Some(inside), Some(index)) = (inside, index) else { return self.flat.clone() };
        let index = index.cast(DType::I32);
        let shape = [self.flat.size(0), self.flat.size(1), self.points];
        let value = self.flat.gather(2, &inside.select(&index, &index.like(0.0)).broadcast_to(shape));
        inside.select(&value, &value.like(0.0))
    }

    /// The pixels at `whole`, between these and their next ones along the dimensions from `whole.len()` on.
    fn between(&self, whole: &[Tensor], points: &[Tensor]) -> Tensor {
        let d = whole.len();
        let Some(p) = points.get(d) else { return self.at(whole) };
        let low = p.floor().detach();
        let part = p - &low;
        let side = |t: Tensor| self.between(&[whole, &[t]].concat(), points);
        side(low.clone()) * (1.0 - &part) + side(low + 1.0) * part
    }
}

impl Tensor {
    /// The points `theta [x, y, 1]` of a regular grid of `size` (height, width; or depth, height, width):
    /// `theta [N, 2, 3]` -> `[N, H, W, 2]`, `[N, 3, 4]` -> `[N, D, H, W, 3]`; x before y before z, all -1 to 1 at the
    /// edges of the image (`align_corners`: at the centres of the corner pixels).
    #[track_caller]
    pub fn affine_grid(&self, size: &[usize], align_corners: bool) -> Tensor {
        let dims = size.len();
        if !(2..=3).contains(&dims) || self.rank() != 3 || self.size(1) != dims || self.size(2) != dims + 1 {
            let detail = format!("a grid of {size:?} needs theta [N,{dims},{}], got {}", dims + 1, self.ty());
            return self.fail("affine_grid", detail, Location::caller());
        }
        let axis = |n: usize| {
            let i = self.builder().iota(n).cast(DType::F32);
            match (align_corners, n) {
                (true, 1) => i * 0.0,
                (true, _) => i * (2.0 / (n as f64 - 1.0)) - 1.0,
                (false, _) => (i * 2.0 + 1.0) / n as f64 - 1.0,
            }
        };
        let mut shape = vec![1; dims + 2];
        (shape[0], shape[dims + 1]) = (self.size(0), dims);
        let column = |j: usize| self.narrow(2, j, 1).reshape(shape.clone());
        let terms = (0..dims).map(|j| column(j) * axis(size[dims - 1 - j]).along_axis(dims - j, dims + 2));
        terms.reduce(|a, b| a + b).map_or_else(|| self.clone(), |sum| sum + column(dims))
    }

    /// Values of images `[N, C, H, W]` at the points of `grid [N, h, w, 2]` (x, y in -1..1): `[N, C, h, w]`; or of volumes
    /// `[N, C, D, H, W]` at those of `[N, d, h, w, 3]`. NaN in a grid stands for -1 where the outside is not zeros.
    #[track_caller]
    pub fn grid_sample(&self, grid: &Tensor, mode: GridMode, outside: Outside, align_corners: bool) -> Tensor {
        let dims = self.rank().saturating_sub(2);
        let volume = mode != GridMode::Bicubic && dims == 3;
        let fits = (dims == 2 || volume) && grid.rank() == self.rank() && grid.size(-1) == dims;
        if !fits || grid.size(0) != self.size(0) || self.elems() == 0 {
            let detail = format!(
                "{mode:?} needs [N,C,H,W] and [N,h,w,2] (or, but for Bicubic, [N,C,D,H,W] and [N,d,h,w,3]), got {} and {}",
                self.ty(),
                grid.ty()
            );
            return self.fail("grid_sample", detail, Location::caller());
        }
        let size = &self.shape()[2..];
        let (n, c) = (self.size(0), self.size(1));
        let points: usize = grid.shape()[1..=dims].iter().product();
        let placed = |p: Tensor, size: usize| match outside {
            Outside::Zeros => p,
            Outside::Border => bounded(&p, size),
            Outside::Reflection => bounded(&reflected(&p, size, align_corners), size),
        };
        let pixel = |d: usize| {
            let g = grid.narrow(-1, dims - 1 - d, 1).reshape([n, 1, points]);
            if align_corners {
                (g + 1.0) * ((size[d] as f64 - 1.0) / 2.0)
            } else {
                ((g + 1.0) * size[d] as f64 - 1.0) / 2.0
            }
        };
        let pixels = Pixels { flat: self.reshape([n, c, size.iter().product()]), size, points };
        let places = || (0..dims).map(|d| placed(pixel(d), size[d])).collect::<Vec<Tensor>>();
        let sampled = match mode {
            GridMode::Bilinear => pixels.between(&[], &places()),
            GridMode::Nearest => pixels.at(&places().iter().map(Tensor::round).collect::<Vec<_>>()),
            GridMode::Bicubic => {
                // Outside counts for each of the 16 pixels, not for the point.
                let taps = |d: usize| {
                    let p = pixel(d);
                    let low = p.floor().detach();
                    let weights = cubic_weights(&(p - &low));
                    let place = |k: usize| placed(&low + (k as f64 - 1.0), size[d]);
                    (0..4).map(place).zip(weights).collect::<Vec<(Tensor, Tensor)>>()
                };
                let (rows, columns) = (taps(0), taps(1));
                let row = |y: &Tensor| {
                    let parts = columns.iter().map(|(x, w)| pixels.at(&[y.clone(), x.clone()]) * w);
                    parts.reduce(|a, b| a + b)
                };
                let sum = rows.iter().filter_map(|(y, w)| Some(row(y)? * w)).reduce(|a, b| a + b);
                sum.unwrap_or_else(|| self.clone())
            }
        };
        let mut shape = self.shape().clone();
        shape.0[2..].copy_from_slice(&grid.shape()[1..=dims]);
        sampled.reshape(shape)
    }
}

/// The coordinate moved to the nearest pixel of 0..size, NaN to 0; no gradient where it is moved or at an edge.
fn bounded(p: &Tensor, size: usize) -> Tensor {
    let (zero, last) = (p.like(0.0), p.like(size as f64 - 1.0));
    let p = p.gt(&zero).select(p, &zero);
    p.lt(&last).select(&p, &last)
}

/// The weights of the four pixels around a point that lies `t` (0..1) behind the second one.
fn cubic_weights(t: &Tensor) -> [Tensor; 4] {
    const A: f64 = -0.75;
    let near = |x: &Tensor| (x * (A + 2.0) - (A + 3.0)) * x.square() + 1.0;
    let far = |x: &Tensor| ((x * A - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(&(t + 1.0)), near(t), near(&(1.0 - t)), far(&(2.0 - t))]
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
