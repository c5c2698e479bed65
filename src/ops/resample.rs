//! Windows as columns (`unfold`) and columns summed into images (`fold`).

use crate::ir::Tensor;
use std::panic::Location;

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
}
