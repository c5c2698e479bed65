//! Matrix products and convolutions as methods. Transposes and broadcast batches are views, which kernels read in place.

use crate::ir::{ConvDims, Prim, Tensor};
use std::panic::Location;

impl Tensor {
    /// Matrix product with numpy's rules: 1-D operands gain and lose a dimension, batch dimensions broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        let loc = Location::caller();
        if self.rank() == 0 || other.rank() == 0 {
            return self.fail("matmul", format!("needs rank >= 1, got {} and {}", self.ty(), other.ty()), loc);
        }
        if self.rank() == 1 {
            let out = self.unsqueeze(0).matmul(other);
            return if other.rank() == 1 { out } else { out.squeeze(-2) };
        }
        if other.rank() == 1 {
            return self.matmul(&other.unsqueeze(1)).squeeze(-1);
        }
        let (m, k, n) = (self.size(-2), self.size(-1), other.size(-1));
        if k != other.size(-2) {
            return self.fail("matmul", format!("inner sizes differ (lhs {}, rhs {})", self.ty(), other.ty()), loc);
        }
        if other.rank() == 2 && self.rank() > 2 {
            // One tall product instead of a batch that reads the same rhs: its gradient is one product too.
            let rows: usize = self.shape()[..self.rank() - 1].iter().product();
            let out = self.builder().apply(Prim::Dot, &[&self.reshape([rows, k]), other]);
            let mut shape = self.shape()[..self.rank() - 1].to_vec();
            shape.push(n);
            return out.reshape(shape);
        }
        let lhs_batch = crate::shape::Shape::from(&self.shape()[..self.rank() - 2]);
        let rhs_batch = crate::shape::Shape::from(&other.shape()[..other.rank() - 2]);
        let Some(batch) = lhs_batch.broadcast(&rhs_batch) else {
            let detail = format!("batch dimensions do not broadcast (lhs {}, rhs {})", self.ty(), other.ty());
            return self.fail("matmul", detail, loc);
        };
        let with = |rows: usize, cols: usize| [&batch[..], &[rows, cols]].concat();
        self.builder().apply(Prim::Dot, &[&self.broadcast_to(with(m, k)), &other.broadcast_to(with(k, n))])
    }

    /// Convolution (cross-correlation) of `[N, C, S..]` with `weight [O, C/groups, K..]`; see [`ConvDims`].
    #[track_caller]
    pub fn conv(&self, weight: &Tensor, dims: ConvDims) -> Tensor {
        self.builder().apply(Prim::Conv(dims), &[self, weight])
    }
}
