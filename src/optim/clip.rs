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

/// Tensors of at most this many elements are joined before their squares are summed: a launch for each costs more than a copy.
const SMALL: usize = 1024;
/// Fewer tensors than this are not joined.
const FEW: usize = 6;

/// L2 norm of all tensors as one vector, a scalar.
#[track_caller]
pub fn global_norm(grads: &[&Tensor]) -> Tensor {
    let (small, large): (Vec<&Tensor>, Vec<&Tensor>) = grads.iter().partition(|g| g.elems() <= SMALL);
    let squares = |t: &Tensor| t.square().sum(&[], false);
    let mut sums: Vec<Tensor> = large.into_iter().map(squares).collect();
    match small.len() {
        0..FEW => sums.extend(small.into_iter().map(squares)),
        _ => sums.push(squares(&joined(&small))),
    }
    total(sums).sqrt()
}

/// All elements in a row.
#[track_caller]
fn joined(parts: &[&Tensor]) -> Tensor {
    let flat: Vec<Tensor> = parts.iter().map(|t| t.reshape([t.elems()])).collect();
    Tensor::cat(&flat.iter().collect::<Vec<_>>(), 0)
}

/// The sum of scalars. A kernel binds only a few operands, and fusion would put any tree of additions into one: more
/// scalars than `FEW` are joined to a vector and this is summed, which keeps every region small.
#[track_caller]
pub(crate) fn total(parts: Vec<Tensor>) -> Tensor {
    match parts.len() {
        0..FEW => parts[1..].iter().fold(parts[0].clone(), |a, b| a + b),
        _ => joined(&parts.iter().collect::<Vec<_>>()).sum(&[], false),
    }
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
