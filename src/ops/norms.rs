//! Normalisations that have no kernel of their own: group and instance norm (rows of a layer norm), RMS norm, and
//! division by a vector norm.

use crate::ir::Tensor;
use crate::ops::layer_norm::LayerNorm;
use std::panic::Location;

impl Tensor {
    /// Normalises each of `groups` groups of channels of `[N, C, ..]`, then scales and shifts per channel.
    #[track_caller]
    pub fn group_norm(&self, groups: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        self.norm_groups("group_norm", groups, weight, bias, eps, Location::caller())
    }

    /// Normalises each channel of each sample of `[N, C, ..]`, then scales and shifts per channel.
    #[track_caller]
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        self.norm_groups("instance_norm", self.size(1), weight, bias, eps, Location::caller())
    }

    fn norm_groups(
        &self,
        op: &str,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        loc: crate::error::Loc,
    ) -> Tensor {
        let c = self.size(1);
        if self.rank() < 2 || groups == 0 || !c.is_multiple_of(groups) {
            return self.fail(op, format!("{} does not split into {groups} groups of channels", self.ty()), loc);
        }
        for t in [weight, bias].into_iter().flatten() {
            if t.shape()[..] != [c] {
                return self.fail(op, format!("{} is not one value per channel of {}", t.ty(), self.ty()), loc);
            }
        }
        let rows = self.size(0) * groups;
        let n = self.shape()[1..].iter().product::<usize>() / groups;
        let (one, zero) = (self.builder().full([n], 1.0), self.builder().full([n], 0.0));
        let mut y = self.builder().call(LayerNorm { eps }, &[&self.reshape([rows, n]), &one, &zero]).remove(0);
        y = y.reshape(self.shape());
        if let Some(w) = weight {
            y = y * w.along_axis(1, self.rank());
        }
        if let Some(b) = bias {
            y = y + b.along_axis(1, self.rank());
        }
        y
    }

    /// x / sqrt(mean(x^2) + eps) over the trailing dimensions `normalized_shape`, times `weight`.
    #[track_caller]
    pub fn rms_norm(&self, normalized_shape: &[usize], weight: Option<&Tensor>, eps: f64) -> Tensor {
        if normalized_shape.is_empty() || !self.shape().ends_with(normalized_shape) {
            let detail = format!("{} does not end in the normalized shape {normalized_shape:?}", self.ty());
            return self.fail("rms_norm", detail, Location::caller());
        }
        let dims: Vec<isize> = (1..=normalized_shape.len() as isize).map(|d| -d).collect();
        let y = self * (self.square().mean(&dims, true) + eps).rsqrt();
        match weight {
            Some(w) => y * w,
            None => y,
        }
    }

    /// x / max(norm, eps) with the p-norm over `dims`.
    #[track_caller]
    pub fn normalize(&self, p: f64, dims: &[isize], eps: f64) -> Tensor {
        self / self.norm(p, dims, true).clamp(Some(eps), None)
    }
}
