//! Pooling windows as composites: maximum and sum over strided windows, with gradients that gather (deterministic, no
//! scatter). torch's `max_pool`, `avg_pool` and friends, which bring any options into this form, are in `pooling.rs`.

use crate::ir::{Builder, Tensor};
use crate::ops::{Composite, VjpArgs};
use crate::shape::Shape;
use std::any::Any;
use std::panic::Location;

/// `x[n,c,spatial..] -> y`: the maximum of each window, NaN if any element is. Padding counts as -inf.
/// Per spatial dimension: out = (n + lo + hi - dilation (kernel-1) - 1) / stride + 1.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxPool {
    /// Elements per window.
    pub kernel: Vec<usize>,
    /// Distance between windows.
    pub stride: Vec<usize>,
    /// Padding before and after.
    pub pad: Vec<(usize, usize)>,
    /// Distance between the elements of a window.
    pub dilation: Vec<usize>,
}

/// `x, y, g -> dx` of [`MaxPool`]: g goes to the first element of the window, in row-major order, that is the maximum
/// (the first NaN if there is one). Padding takes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxPoolGrad {
    /// Elements per window.
    pub kernel: Vec<usize>,
    /// Distance between windows.
    pub stride: Vec<usize>,
    /// Padding before and after.
    pub pad: Vec<(usize, usize)>,
    /// Distance between the elements of a window.
    pub dilation: Vec<usize>,
}

/// `x[n,c,spatial..] -> y`: the sum of each window, padding counting as 0. Geometry as for [`MaxPool`].
#[derive(Debug, Clone, PartialEq)]
pub struct SumPool {
    /// Elements per window.
    pub kernel: Vec<usize>,
    /// Distance between windows.
    pub stride: Vec<usize>,
    /// Padding before and after.
    pub pad: Vec<(usize, usize)>,
    /// Distance between the elements of a window.
    pub dilation: Vec<usize>,
}

/// `g -> dx` of [`SumPool`]: each element gets the sum of g over the windows that cover it.
#[derive(Debug, Clone, PartialEq)]
pub struct SumPoolGrad {
    /// Elements per window.
    pub kernel: Vec<usize>,
    /// Distance between windows.
    pub stride: Vec<usize>,
    /// Padding before and after.
    pub pad: Vec<(usize, usize)>,
    /// Distance between the elements of a window.
    pub dilation: Vec<usize>,
    /// Shape of the pooled input `[n,c,spatial..]`.
    pub input: Shape,
}

/// The geometry of one of the four, borrowed.
struct Windows<'a> {
    kernel: &'a [usize],
    stride: &'a [usize],
    pad: &'a [(usize, usize)],
    dilation: &'a [usize],
}

macro_rules! windows {
    ($($ty:ty),*) => {$(
        impl $ty {
            fn windows(&self) -> Windows<'_> {
                Windows { kernel: &self.kernel, stride: &self.stride, pad: &self.pad, dilation: &self.dilation }
            }
        }
    )*};
}
windows!(MaxPool, MaxPoolGrad, SumPool, SumPoolGrad);

/// Number of windows along one dimension of size `n`, or `None` if not even one fits.
pub fn pool_out_size(n: usize, kernel: usize, stride: usize, pad: (usize, usize), dilation: usize) -> Option<usize> {
    let reach = dilation * kernel.checked_sub(1)? + 1;
    let room = (n + pad.0 + pad.1).checked_sub(reach)?;
    Some(room.checked_div(stride)? + 1)
}

impl Windows<'_> {
    fn attrs(&self) -> String {
        format!("kernel={:?} stride={:?} pad={:?} dilation={:?}", self.kernel, self.stride, self.pad, self.dilation)
    }

    /// Output sizes for an input of `shape`, or what does not fit.
    fn out(&self, shape: &Shape) -> Result<Vec<usize>, String> {
        let dims = shape.len().saturating_sub(2);
        if dims == 0 || [self.kernel.len(), self.stride.len(), self.pad.len(), self.dilation.len()] != [dims; 4] {
            return Err(format!(
                "needs [n,c,spatial..] and one kernel size, stride, padding and dilation per spatial dimension, got {shape} with {}",
                self.attrs()
            ));
        }
        let size = |d: usize| {
            pool_out_size(shape[2 + d], self.kernel[d], self.stride[d], self.pad[d], self.dilation[d])
                .ok_or_else(|| format!("no window fits {shape} in spatial dimension {d} ({})", self.attrs()))
        };
        (0..dims).map(size).collect()
    }

    /// As [`Windows::out`], recording a misfit of operation `op`.
    fn out_or_fail(&self, op: &str, x: &Tensor, shape: &Shape) -> Result<Vec<usize>, Vec<Tensor>> {
        self.out(shape).map_err(|detail| vec![x.fail(op, detail, Location::caller())])
    }

    /// `x` with its padding, filled with `value`.
    fn padded(&self, x: &Tensor, value: f64) -> Tensor {
        let side = |f: fn(&(usize, usize)) -> usize| -> Vec<i64> {
            [0, 0].into_iter().chain(self.pad.iter().map(|p| f(p) as i64)).collect()
        };
        x.pad(&side(|p| p.0), &side(|p| p.1), value)
    }

    /// The inverse: without the padding.
    fn cropped(&self, x: &Tensor) -> Tensor {
        let side = |f: fn(&(usize, usize)) -> usize| -> Vec<i64> {
            [0, 0].into_iter().chain(self.pad.iter().map(|p| -(f(p) as i64))).collect()
        };
        x.pad(&side(|p| p.0), &side(|p| p.1), 0.0)
    }

    /// Folds the windows of a padded input, one spatial dimension after the other: `f` must be associative and
    /// commutative.
    fn fold(&self, padded: Tensor, out: &[usize], f: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
        let mut t = padded;
        for (d, &len) in out.iter().enumerate() {
            let at = |j: usize| t.slice_axis(2 + d as isize, j * self.dilation[d], len, self.stride[d]);
            t = (1..self.kernel[d]).fold(at(0), |acc, j| f(&acc, &at(j)));
        }
        t
    }

    /// Element `offset` of each window of a padded input.
    fn element(&self, padded: &Tensor, offset: &[usize], out: &[usize]) -> Tensor {
        let (mut start, mut len, mut step) = (vec![0, 0], padded.shape()[..2].to_vec(), vec![1, 1]);
        for d in 0..out.len() {
            start.push(offset[d] * self.dilation[d]);
            len.push(out[d]);
            step.push(self.stride[d]);
        }
        padded.slice(start, len, step)
    }

    /// The adjoint of taking element `offset[d]` of each window in the spatial dimensions `dims`: zeros of the padded
    /// size `full[d]`, with `g` at those places.
    fn spread(&self, g: &Tensor, dims: &[usize], offset: &[usize], full: &[usize]) -> Tensor {
        let (mut lo, mut hi, mut interior) = (vec![0i64; g.rank()], vec![0i64; g.rank()], vec![0; g.rank()]);
        for &d in dims {
            let axis = 2 + d;
            let first = offset[d] * self.dilation[d];
            let last = first + (g.shape()[axis].max(1) - 1) * self.stride[d];
            lo[axis] = first as i64;
            hi[axis] = full[d] as i64 - last as i64 - 1;
            interior[axis] = self.stride[d] - 1;
        }
        g.pad_interior(&lo, &hi, &interior, 0.0)
    }

    /// Sizes of the padded input.
    fn full(&self, shape: &Shape) -> Vec<usize> {
        shape[2..].iter().zip(self.pad).map(|(n, p)| n + p.0 + p.1).collect()
    }
}

impl Composite for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }
    fn attrs(&self) -> String {
        self.windows().attrs()
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        let (x, w) = (&args[0], self.windows());
        match w.out_or_fail("max_pool", x, x.shape()) {
            Ok(out) => vec![w.fold(w.padded(x, f64::NEG_INFINITY), &out, |a, b| a.maximum(b))],
            Err(bad) => bad,
        }
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        let g = v.cotangents[0].as_ref()?;
        let grad = MaxPoolGrad {
            kernel: self.kernel.clone(),
            stride: self.stride.clone(),
            pad: self.pad.clone(),
            dilation: self.dilation.clone(),
        };
        Some(v.builder.call(grad, &[&v.args[0], &v.outs[0], g]).into_iter().map(Some).collect())
    }
    fn rounds_to_f16(&self) -> (&'static [usize], &'static [usize]) {
        (&[0], &[0])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max_pool_grad"
    }
    fn attrs(&self) -> String {
        self.windows().attrs()
    }
    fn body(&self, b: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        let (x, y, g, w) = (&args[0], &args[1], &args[2], self.windows());
        let out = match w.out_or_fail("max_pool_grad", x, x.shape()) {
            Ok(out) => out,
            Err(bad) => return bad,
        };
        let (full, dims): (_, Vec<usize>) = (w.full(x.shape()), (0..out.len()).collect());
        let padded = w.padded(x, f64::NEG_INFINITY);
        // Where a window of only -inf meets the padding, the padding is no maximum.
        let inside = self.pad.iter().any(|&p| p != (0, 0)).then(|| {
            let yes = b.constant(crate::dtype::Scalar::Bool(true)).broadcast_to(x.shape());
            w.padded(&yes, 0.0)
        });
        let (mut taken, mut dx): (Option<Tensor>, Option<Tensor>) = (None, None);
        for position in 0..self.kernel.iter().product() {
            let mut offset = vec![0; out.len()];
            let mut rest = position;
            for d in dims.iter().rev() {
                offset[*d] = rest % self.kernel[*d];
                rest /= self.kernel[*d];
            }
            let e = w.element(&padded, &offset, &out);
            let mut chosen = e.eq(y).or(&e.is_nan());
            if let Some(inside) = &inside {
                chosen = chosen.and(&w.element(inside, &offset, &out));
            }
            let first = match &taken {
                Some(t) => chosen.and(&t.not()),
                None => chosen.clone(),
            };
            taken = Some(match taken {
                Some(t) => t.or(&chosen),
                None => chosen,
            });
            let part = w.spread(&first.select(g, &g.like(0.0)), &dims, &offset, &full);
            dx = Some(match dx {
                Some(sum) => sum + part,
                None => part,
            });
        }
        vec![dx.map_or_else(|| x.like(0.0), |dx| w.cropped(&dx))]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for SumPool {
    fn name(&self) -> &'static str {
        "sum_pool"
    }
    fn attrs(&self) -> String {
        self.windows().attrs()
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        let (x, w) = (&args[0], self.windows());
        match w.out_or_fail("sum_pool", x, x.shape()) {
            Ok(out) => vec![w.fold(w.padded(x, 0.0), &out, |a, b| a + b)],
            Err(bad) => bad,
        }
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        let g = v.cotangents[0].as_ref()?;
        let grad = SumPoolGrad {
            kernel: self.kernel.clone(),
            stride: self.stride.clone(),
            pad: self.pad.clone(),
            dilation: self.dilation.clone(),
            input: v.args[0].shape().clone(),
        };
        Some(v.builder.call(grad, &[g]).into_iter().map(Some).collect())
    }
    fn rounds_to_f16(&self) -> (&'static [usize], &'static [usize]) {
        (&[0], &[])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for SumPoolGrad {
    fn name(&self) -> &'static str {
        "sum_pool_grad"
    }
    fn attrs(&self) -> String {
        format!("{} input={}", self.windows().attrs(), self.input)
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        let (g, w) = (&args[0], self.windows());
        let out = match w.out_or_fail("sum_pool_grad", g, &self.input) {
            Ok(out) => out,
            Err(bad) => return bad,
        };
        if g.shape()[..] != [&self.input[..2], &out].concat() {
            let detail = format!("cotangent {} does not fit the windows of {}", g.ty(), self.input);
            return vec![g.fail("sum_pool_grad", detail, Location::caller())];
        }
        let full = w.full(&self.input);
        let mut t = g.clone();
        for d in (0..out.len()).rev() {
            let mut offset = vec![0; out.len()];
            let mut parts = (0..self.kernel[d]).map(|j| {
                offset[d] = j;
                w.spread(&t, &[d], &offset, &full)
            });
            let first = parts.next().unwrap_or_else(|| t.clone());
            t = parts.fold(first, |acc, p| acc + p);
        }
        vec![w.cropped(&t)]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
