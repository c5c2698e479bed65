//! Gradient clipping, by the norm of all gradients as one vector or element by element, as torch does it.

use crate::ir::Tensor;

/// How gradients are limited before the update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// Scaled down so that their common norm is at most this.
    Norm(f64),
    /// Each element limited to [-v, v].
    Value(f64),
}

impl Clip {
    /// The clipped gradients, given the L2 norm of all of them.
    #[track_caller]
    pub fn apply(&self, grads: &[&Tensor], norm: &Tensor) -> Vec<Tensor> {
        match *self {
            Clip::Norm(max) => scale_to(grads, norm, max),
            Clip::Value(v) => clip_grad_value(grads, v),
        }
    }
}

/// L2 norm of all tensors as one vector, a scalar.
#[track_caller]
pub fn global_norm(grads: &[&Tensor]) -> Tensor {
    let sums: Vec<Tensor> = grads.iter().map(|g| g.square().sum(&[], false)).collect();
    total(sums).sqrt()
}

/// The sum of scalars. A kernel binds only a few operands, and fusion would put any tree of additions into one: more
/// scalars than `FEW` are joined to vectors and these summed, which keeps every region small.
#[track_caller]
pub(crate) fn total(mut parts: Vec<Tensor>) -> Tensor {
    const FEW: usize = 6;
    while parts.len() > FEW {
        let sum = |group: &[Tensor]| {
            let joined: Vec<Tensor> = group.iter().map(|t| t.reshape([1])).collect();
            Tensor::cat(&joined.iter().collect::<Vec<_>>(), 0).sum(&[], false)
        };
        parts = parts.chunks(FEW).map(sum).collect();
    }
    parts[1..].iter().fold(parts[0].clone(), |a, b| a + b)
}

/// g * min(1, max_norm / (norm + 1e-6)). Returns the clipped gradients and the norm of order `p` (may be infinite) of
/// all of them as one vector. At least one gradient.
#[track_caller]
pub fn clip_grad_norm(grads: &[&Tensor], max_norm: f64, p: f64) -> (Vec<Tensor>, Tensor) {
    let norm = if p == 2.0 {
        global_norm(grads)
    } else {
        // The norm of the norms, as torch has it: for p = 0 that counts the tensors that are not zero.
        let norms: Vec<Tensor> = grads.iter().map(|g| g.norm(p, &[], false).reshape([1])).collect();
        Tensor::cat(&norms.iter().collect::<Vec<_>>(), 0).norm(p, &[], false)
    };
    (scale_to(grads, &norm, max_norm), norm)
}

#[track_caller]
fn scale_to(grads: &[&Tensor], norm: &Tensor, max_norm: f64) -> Vec<Tensor> {
    let coef = (norm.like(max_norm) / (norm + 1e-6)).minimum(&norm.like(1.0));
    grads.iter().map(|g| *g * &coef).collect()
}

/// Each element limited to [-v, v]; NaN stays.
#[track_caller]
pub fn clip_grad_value(grads: &[&Tensor], v: f64) -> Vec<Tensor> {
    grads.iter().map(|g| g.maximum(&g.like(-v)).minimum(&g.like(v))).collect()
}
