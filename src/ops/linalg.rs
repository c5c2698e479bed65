//! Matrix products and convolutions as methods. Transposes and broadcast batches are views, which kernels read in place.

use crate::ir::{ConvDims, Prim, Tensor};
use std::panic::Location;

impl Tensor {
    /// Matrix product with numpy's rules: 1-D operands gain and lose a dimension, batch dimensions broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        let loc = Location::caller();
        // After an error shapes mean nothing, and a vector may stay one whatever is done to it.
        if !self.builder().is_ok() {
            return self.clone();
        }
        if self.rank() == 0 || other.rank() == 0 {
            return self.fail("matmul", format!("needs rank >= 1, got {} and {}", self.ty(), other.ty()), loc);
        }
        if self.rank() == 1 {
            let out = self.unsqueeze(0).matmul(other);
            return out.squeeze(if other.rank() == 1 { -1 } else { -2 });
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

    /// x W^T + b for this x `[.., in]`, `weight [out, in]` and `bias [out]`.
    #[track_caller]
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        // torch takes a vector as a single output without its dimension.
        let y = if weight.rank() == 1 { self.matmul(weight) } else { self.matmul(&weight.t()) };
        match bias {
            Some(b) => y + b,
            None => y,
        }
    }

    /// beta self + alpha (a b).
    #[track_caller]
    pub fn addmm(&self, a: &Tensor, b: &Tensor, beta: f64, alpha: f64) -> Tensor {
        let scaled = |t: Tensor, by: f64| if by == 1.0 { t } else { t * by };
        let product = scaled(a.matmul(b), alpha);
        // With beta = 0 the summand is ignored, NaN included.
        if beta == 0.0 { product } else { scaled(self.clone(), beta) + product }
    }

    /// Product of two batches of matrices, `[b, m, k]` and `[b, k, n]`.
    #[track_caller]
    pub fn bmm(&self, other: &Tensor) -> Tensor {
        if self.rank() != 3 || other.rank() != 3 || self.size(0) != other.size(0) {
            let detail = format!("needs [b,m,k] and [b,k,n], got {} and {}", self.ty(), other.ty());
            return self.fail("bmm", detail, Location::caller());
        }
        self.matmul(other)
    }

    /// All products of the elements of two vectors: `[n]`, `[m]` -> `[n, m]`.
    #[track_caller]
    pub fn outer(&self, other: &Tensor) -> Tensor {
        if self.rank() != 1 || other.rank() != 1 {
            let detail = format!("needs two vectors, got {} and {}", self.ty(), other.ty());
            return self.fail("outer", detail, Location::caller());
        }
        self.unsqueeze(1) * other.unsqueeze(0)
    }

    /// As [`Tensor::matmul`], after swapping the last two dimensions of the operands that are marked.
    #[track_caller]
    pub fn matmul_transposed(&self, other: &Tensor, transpose_self: bool, transpose_other: bool) -> Tensor {
        let turned = |t: &Tensor, turn: bool| if turn { t.t() } else { t.clone() };
        turned(self, transpose_self).matmul(&turned(other, transpose_other))
    }

    /// Convolution (cross-correlation) of `[N, C, S..]` with `weight [O, C/groups, K..]`; see [`ConvDims`].
    #[track_caller]
    pub fn conv(&self, weight: &Tensor, dims: ConvDims) -> Tensor {
        self.builder().apply(Prim::Conv(dims), &[self, weight])
    }
}
