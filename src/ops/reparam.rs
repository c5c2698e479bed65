//! Weights and inputs in other coordinates: weight norm, spectral norm, batch renormalisation, cosine similarity, and
//! sinusoidal positions.

use crate::dtype::DType;
use crate::ir::{Builder, Tensor};
use std::panic::Location;

/// The arguments of [`Tensor::batch_renorm`] beside the input.
#[derive(Debug, Clone)]
pub struct BatchRenorm<'a> {
    /// Running mean `[C]`.
    pub running_mean: &'a Tensor,
    /// Running standard deviation `[C]`.
    pub running_std: &'a Tensor,
    /// Factor `[C]`.
    pub weight: &'a Tensor,
    /// Summand `[C]`.
    pub bias: &'a Tensor,
    /// A scalar: the ratio of deviations is clipped to 1/r_max ..= r_max.
    pub r_max: &'a Tensor,
    /// A scalar: the shift of the mean is clipped to -d_max ..= d_max.
    pub d_max: &'a Tensor,
    /// Weight of this batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
    /// Use the statistics of this batch, corrected towards the running ones, and update those.
    pub training: bool,
}

impl Tensor {
    /// `g v / norm(v)` with this v, the norm over all dimensions but `dim`.
    #[track_caller]
    pub fn weight_norm(&self, g: &Tensor, dim: isize) -> Tensor {
        let axis = self.axis("weight_norm", dim, Location::caller()) as isize;
        // torch takes -1 for "no dimension": one norm of the whole tensor.
        let axis = if dim == -1 { -1 } else { axis };
        let others: Vec<isize> = (0..self.rank() as isize).filter(|&d| d != axis).collect();
        let norm = if others.is_empty() { self.abs() } else { self.norm(2.0, &others, true) };
        self * (g / norm)
    }

    /// This weight divided by its largest singular value, as estimated by `iterations` of the power method from the
    /// vectors `u` and `v` (constants for the gradient). Returns the weight and both vectors.
    #[track_caller]
    pub fn spectral_norm(&self, u: &Tensor, v: &Tensor, iterations: usize, dim: isize, eps: f64) -> [Tensor; 3] {
        let axis = self.axis("spectral_norm", dim, Location::caller()) as isize;
        let first = self.transpose(0, axis);
        // torch moves `dim` to the front and keeps the order of the others.
        let order: Vec<isize> = std::iter::once(axis).chain((0..self.rank() as isize).filter(|&d| d != axis)).collect();
        let w = self.permute(&order).reshape([first.size(0), self.elems() / first.size(0).max(1)]);
        let fixed = w.detach();
        let (mut u, mut v) = (u.detach(), v.detach());
        for _ in 0..iterations {
            u = fixed.matmul(&v).normalize(2.0, &[0], eps).detach();
            v = fixed.t().matmul(&u).normalize(2.0, &[0], eps).detach();
        }
        let sigma = (&u * w.matmul(&v)).sum(&[], false);
        [self / sigma, u, v]
    }

    /// Batch renormalisation of `[N, C, ..]` (arXiv 1702.03275): the result, the new running mean and deviation.
    #[track_caller]
    pub fn batch_renorm(&self, o: &BatchRenorm) -> [Tensor; 3] {
        let dims: Vec<isize> = (0..self.rank() as isize).filter(|&d| d != 1).collect();
        let channel = |t: &Tensor| t.along_axis(1, self.rank());
        let (mean, std) = (channel(o.running_mean), channel(o.running_std));
        let affine = |x: Tensor| x * channel(o.weight) + channel(o.bias);
        if !o.training {
            return [affine((self - mean) / std), o.running_mean.clone(), o.running_std.clone()];
        }
        let m = self.mean(&dims, true);
        let centred = self - &m;
        let s = (centred.square().mean(&dims, true) + o.eps).sqrt();
        let r = (&s / &std).detach().maximum(&o.r_max.reciprocal()).minimum(o.r_max).detach();
        let d = ((&m - &mean) / &std).detach().maximum(&-o.d_max).minimum(o.d_max).detach();
        let towards = |old: &Tensor, new: &Tensor| old + (new.detach().reshape(old.shape()) - old) * o.momentum;
        let (new_mean, new_std) = (towards(o.running_mean, &m), towards(o.running_std, &s));
        [affine(centred / s * r + d), new_mean, new_std]
    }

    /// The cosine of the angle between this and `other` along `dim`; each norm is at least `eps`.
    #[track_caller]
    pub fn cosine_similarity(&self, other: &Tensor, dim: isize, eps: f64) -> Tensor {
        let (a, b) = self.broadcast_with(other, "cosine_similarity");
        let unit = |t: &Tensor| t / t.norm(2.0, &[dim], true).clamp(Some(eps), None);
        (unit(&a) * unit(&b)).sum(&[dim], false)
    }
}

/// `[length, dim]`: sin(p base^(-2i/dim)) in column 2i and the cosine in column 2i+1; an odd `dim` drops the last cosine.
#[track_caller]
pub fn sinusoidal_positions(builder: &Builder, length: usize, dim: usize, base: f64) -> Tensor {
    let pairs = dim.div_ceil(2);
    let position = builder.iota(length).cast(DType::F32).unsqueeze(1);
    let exponent = builder.iota(pairs).cast(DType::F32) * (-2.0 / dim.max(1) as f64);
    let angle = position * exponent.like(base).pow(&exponent);
    let both = Tensor::stack(&[&angle.sin(), &angle.cos()], 2).reshape([length, 2 * pairs]);
    both.narrow(1, 0, dim)
}
