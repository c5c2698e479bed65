//! torch's pooling functions over one, two or three spatial dimensions, batched or not. They only normalise options:
//! the windows themselves are the composites of `pool.rs`.

use crate::dtype::{DType, Scalar};
use crate::error::Loc;
use crate::ir::{Binary, Prim, Tensor, Value};
use crate::ops::pool::{MaxPool, SumPool};
use std::panic::Location;

/// Windows of a pooling function, one entry per spatial dimension. `Pool::new([2, 2])` has torch's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Elements per window.
    pub kernel: Vec<usize>,
    /// Distance between windows; by default the kernel.
    pub stride: Vec<usize>,
    /// Padding on both sides; by default 0.
    pub padding: Vec<usize>,
    /// Distance between the elements of a window; by default 1. Average pooling takes only 1.
    pub dilation: Vec<usize>,
    /// Also a last window that reaches beyond the padding, if it starts within.
    pub ceil_mode: bool,
}

impl Pool {
    /// Windows of this size with torch's defaults.
    pub fn new(kernel: impl Into<Vec<usize>>) -> Pool {
        let kernel = kernel.into();
        let n = kernel.len();
        Pool { stride: kernel.clone(), padding: vec![0; n], dilation: vec![1; n], kernel, ceil_mode: false }
    }
    /// With another distance between windows.
    pub fn stride(mut self, stride: impl Into<Vec<usize>>) -> Pool {
        self.stride = stride.into();
        self
    }
    /// With padding on both sides.
    pub fn padding(mut self, padding: impl Into<Vec<usize>>) -> Pool {
        self.padding = padding.into();
        self
    }
    /// With distance between the elements of a window.
    pub fn dilation(mut self, dilation: impl Into<Vec<usize>>) -> Pool {
        self.dilation = dilation.into();
        self
    }
    /// With or without a last window that reaches beyond the padding.
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Pool {
        self.ceil_mode = ceil_mode;
        self
    }

    /// The input as `[n, c, spatial..]`, the number of windows and the padding (lo, hi) that gives exactly these.
    fn fit(&self, op: &str, x: &Tensor, loc: Loc) -> Option<Fit> {
        let dims = self.kernel.len();
        let bad = |detail: String| {
            x.fail(op, detail, loc);
            None
        };
        if dims == 0 || [self.stride.len(), self.padding.len(), self.dilation.len()] != [dims; 3] {
            return bad(format!("needs one stride, padding and dilation per entry of kernel {:?}", self.kernel));
        }
        if x.rank() != dims + 1 && x.rank() != dims + 2 {
            return bad(format!("needs {} spatial dimensions after [N, C] or [C], got {}", dims, x.ty()));
        }
        let entries = self.kernel.iter().chain(&self.stride).chain(&self.dilation);
        if entries.into_iter().any(|&n| n == 0) {
            return bad(format!("kernel, stride and dilation must be at least 1, got {self:?}"));
        }
        let batched = x.rank() == dims + 2;
        let input = if batched { x.clone() } else { x.unsqueeze(0) };
        let (mut out, mut pad) = (Vec::new(), Vec::new());
        for d in 0..dims {
            let (k, s, p) = (self.kernel[d], self.stride[d], self.padding[d]);
            let n = input.shape()[2 + d];
            let reach = self.dilation[d] * (k - 1) + 1;
            if p > reach / 2 {
                return bad(format!("padding {p} is more than half of the window ({reach}) in spatial dimension {d}"));
            }
            // Rounded up, a stride less one may be missing.
            let spare = if self.ceil_mode { s - 1 } else { 0 };
            if n + 2 * p + spare < reach || n == 0 {
                return bad(format!("the window ({reach}) exceeds spatial dimension {d} of {} padded by {p}", x.ty()));
            }
            let mut windows = (n + 2 * p + spare - reach) / s + 1;
            if self.ceil_mode && (windows - 1) * s >= n + p {
                windows -= 1;
            }
            // What the last window reaches beyond the low padding and the input; possibly less than p.
            let end = (windows - 1) * s + reach;
            pad.push((p, end.saturating_sub(n + p).max(if self.ceil_mode { 0 } else { p })));
            out.push(windows);
        }
        Some(Fit { input, batched, out, pad })
    }
}

/// A pooling input brought into the form of the composites.
struct Fit {
    input: Tensor,
    batched: bool,
    out: Vec<usize>,
    pad: Vec<(usize, usize)>,
}

impl Fit {
    fn finish(&self, y: Tensor) -> Tensor {
        if self.batched { y } else { y.squeeze(0) }
    }
}

impl Tensor {
    /// Maximum over the windows of `[N, C, spatial..]` or `[C, spatial..]`; padding counts as -inf. The gradient goes to
    /// the first maximum of a window in row-major order. NaN wins.
    #[track_caller]
    pub fn max_pool(&self, pool: &Pool) -> Tensor {
        if let Some((x, floor)) = self.rectified() {
            // What a rectifier leaves of the largest is the largest of what it leaves, and so are the gradients: where both
            // differ in which element they take, the rectifier's derivative is 0. It then runs over far fewer elements.
            let largest = x.max_pool(pool);
            let floor = largest.like(floor);
            return largest.le(&floor).select(&floor, &largest);
        }
        let Some(fit) = pool.fit("max_pool", self, Location::caller()) else { return self.clone() };
        let max = MaxPool {
            kernel: pool.kernel.clone(),
            stride: pool.stride.clone(),
            pad: fit.pad.clone(),
            dilation: pool.dilation.clone(),
        };
        fit.finish(self.builder().call(max, &[&fit.input]).remove(0))
    }

    /// x and c if this is `if x <= c { c } else { x }` with a constant c.
    fn rectified(&self) -> Option<(Tensor, f64)> {
        let node = |v: Value| self.builder().node(v.node);
        let select = node(self.value());
        let (Prim::Select, &[mask, floor, x]) = (&select.prim, &select.args[..]) else { return None };
        let test = node(mask);
        let mut constant = node(floor);
        while constant.prim.is_view() {
            constant = node(constant.args[0]);
        }
        match constant.prim {
            Prim::Const(Scalar::F32(c)) if test.prim == Prim::Binary(Binary::Le) && test.args == [x, floor] => {
                Some((self.builder().tensor(x), c))
            }
            _ => None,
        }
    }

    /// Where [`Tensor::max_pool`] finds the maximum of each window: the place (i32) among the elements of the spatial
    /// dimensions, in row-major order; of equal ones the first.
    #[track_caller]
    pub fn max_pool_indices(&self, pool: &Pool) -> Tensor {
        let Some(fit) = pool.fit("max_pool", self, Location::caller()) else { return self.clone() };
        let (dims, max) = (fit.out.len(), self.max_pool(pool));
        let max = if fit.batched { max } else { max.unsqueeze(0) };
        let (mut lo, mut hi) = (vec![0, 0], vec![0, 0]);
        for &(before, after) in &fit.pad {
            lo.push(before as i64);
            hi.push(after as i64);
        }
        let spatial = &fit.input.shape()[2..];
        let padded = fit.input.detach().pad(&lo, &hi, f64::NEG_INFINITY);
        // The place of each padded element, -1 in the padding.
        let count: usize = spatial.iter().product();
        let places = self.builder().iota(count).reshape([&[1, 1], spatial].concat()).pad(&lo, &hi, -1.0);
        let mut found: Option<Tensor> = None;
        for position in (0..pool.kernel.iter().product::<usize>()).rev() {
            let (mut start, mut step, mut rest) = (vec![0; dims + 2], vec![1; dims + 2], position);
            for d in (0..dims).rev() {
                start[2 + d] = (rest % pool.kernel[d]) * pool.dilation[d];
                step[2 + d] = pool.stride[d];
                rest /= pool.kernel[d];
            }
            let element = |t: &Tensor| t.slice(start.clone(), [&t.shape()[..2], &fit.out].concat(), step.clone());
            let (value, place) = (element(&padded), element(&places));
            let here = value.eq(&max).or(&value.is_nan()).and(&place.ge(&place.like(0.0)));
            let before = found.unwrap_or_else(|| max.cast(DType::I32).like(0.0));
            found = Some(here.select(&place, &before));
        }
        fit.finish(found.unwrap_or(max))
    }

    /// Minimum over the windows: `-max_pool(-x)`.
    #[track_caller]
    pub fn min_pool(&self, pool: &Pool) -> Tensor {
        -(-self).max_pool(pool)
    }

    /// Mean over the windows. The divisor of a window is `divisor`, or else its elements: those of the padding too
    /// with `count_include_pad`, but never those that `ceil_mode` adds beyond the padding.
    #[track_caller]
    pub fn avg_pool(&self, pool: &Pool, count_include_pad: bool, divisor: Option<i64>) -> Tensor {
        let loc = Location::caller();
        if pool.dilation.iter().any(|&d| d != 1) {
            return self.fail("avg_pool", "takes no dilation", loc);
        }
        if divisor == Some(0) {
            return self.fail("avg_pool", "the divisor must not be 0", loc);
        }
        let Some(fit) = pool.fit("avg_pool", self, loc) else { return self.clone() };
        let sum = SumPool {
            kernel: pool.kernel.clone(),
            stride: pool.stride.clone(),
            pad: fit.pad.clone(),
            dilation: pool.dilation.clone(),
        };
        let mut y = self.builder().call(sum, &[&fit.input]).remove(0);
        if let Some(divisor) = divisor {
            return fit.finish(y / divisor as f64);
        }
        let mut whole = 1;
        for (d, &windows) in fit.out.iter().enumerate() {
            let (n, k, s, p) = (fit.input.shape()[2 + d], pool.kernel[d], pool.stride[d], pool.padding[d]);
            // The countable positions, on the axis that begins with the padding.
            let (first, end) = if count_include_pad { (0, n + 2 * p) } else { (p, n + p) };
            if first == 0 && (windows - 1) * s + k <= end {
                whole *= k;
                continue;
            }
            let start = windows_start(&y, windows, s);
            let stop = (&start + k as f64).minimum(&start.like(end as f64));
            let count = (stop - start.maximum(&start.like(first as f64))).cast(DType::F32);
            y = y / count.along_axis(2 + d, fit.input.rank());
        }
        fit.finish(if whole == 1 { y } else { y / whole as f64 })
    }

    /// Mean over windows chosen such that dimension d gets `output_size[d]` of them: window i of m over n elements is
    /// `floor(i n / m) .. ceil((i+1) n / m)`. The last dimensions are pooled, as many as `output_size` has entries.
    #[track_caller]
    pub fn adaptive_avg_pool(&self, output_size: &[usize]) -> Tensor {
        let loc = Location::caller();
        let dims = output_size.len();
        if dims == 0 || self.rank() < dims || output_size.contains(&0) || self.rank() > dims + 2 {
            let detail = format!("cannot pool {} to {output_size:?}", self.ty());
            return self.fail("adaptive_avg_pool", detail, loc);
        }
        let at = self.rank() - dims;
        let sizes = &self.shape()[at..];
        if self.rank() > dims && sizes.iter().zip(output_size).all(|(&n, &m)| n > 0 && n % m == 0) {
            let kernel: Vec<usize> = sizes.iter().zip(output_size).map(|(n, m)| n / m).collect();
            return self.avg_pool(&Pool::new(kernel), true, None);
        }
        let mut t = self.clone();
        for (d, &m) in output_size.iter().enumerate() {
            let (axis, n) = ((at + d) as isize, t.shape()[at + d]);
            let parts: Vec<Tensor> = (0..m)
                .map(|i| {
                    let (start, end) = (i * n / m, ((i + 1) * n).div_ceil(m));
                    t.narrow(axis, start, end - start).mean(&[axis], true)
                })
                .collect();
            t = Tensor::cat(&parts.iter().collect::<Vec<_>>(), axis);
        }
        t
    }
}

/// `i32[windows]`: where each window starts on the padded axis.
fn windows_start(like: &Tensor, windows: usize, stride: usize) -> Tensor {
    let i = like.builder().iota(windows);
    &i * stride as f64
}
