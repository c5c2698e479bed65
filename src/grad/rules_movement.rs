//! Derivatives of the primitives that move elements: each is the transposed movement.

use super::{Grads, Site};
use crate::ir::{Prim, ReduceOp};
use crate::shape::Shape;

/// g in the old shape
pub(super) fn reshape(site: &Site) -> Grads {
    site.linear(|g| g.reshape(site.args[0].shape()))
}

/// g summed over the repeated dimensions
pub(super) fn broadcast(shape: &Shape, site: &Site) -> Grads {
    let from = site.args[0].shape();
    let axes: Vec<usize> = (0..shape.len()).filter(|&d| from[d] != shape[d]).collect();
    site.linear(|g| match axes.is_empty() {
        true => g.clone(),
        false => site.builder.apply(Prim::Reduce { op: ReduceOp::Sum, axes }, &[g]),
    })
}

/// g permuted back
pub(super) fn permute(perm: &[usize], site: &Site) -> Grads {
    let mut inverse = vec![0; perm.len()];
    for (d, &p) in perm.iter().enumerate() {
        inverse[p] = d;
    }
    site.linear(|g| site.builder.apply(Prim::Permute(inverse), &[g]))
}

/// g with zeros where nothing was taken
pub(super) fn slice(start: &[usize], step: &[usize], site: &Site) -> Grads {
    site.linear(|g| {
        let n = site.args[0].shape();
        let (mut lo, mut hi, mut interior) = (Vec::new(), Vec::new(), Vec::new());
        for d in 0..n.len() {
            let taken = g.shape()[d];
            let first = if taken == 0 { n[d] } else { start[d] };
            let reach = if taken == 0 { 0 } else { (taken - 1) * step[d] + 1 };
            lo.push(first as i64);
            hi.push((n[d] - first - reach) as i64);
            interior.push(step[d] - 1);
        }
        g.pad_interior(&lo, &hi, &interior, 0.0)
    })
}

/// What is left of g without the padding; zeros where elements were cropped
pub(super) fn pad(lo: &[i64], hi: &[i64], interior: &[usize], site: &Site) -> Grads {
    site.linear(|g| {
        let back = |v: &[i64]| v.iter().map(|&x| -x).collect::<Vec<i64>>();
        let whole = g.pad(&back(lo), &back(hi), 0.0);
        if interior.iter().all(|&i| i == 0) {
            return whole;
        }
        let n = site.args[0].shape();
        whole.slice(vec![0; n.len()], n.to_vec(), interior.iter().map(|&i| i + 1).collect())
    })
}

/// g reversed
pub(super) fn reverse(axes: &[usize], site: &Site) -> Grads {
    site.linear(|g| site.builder.apply(Prim::Reverse(axes.to_vec()), &[g]))
}

/// to each part its piece of g
pub(super) fn concat(axis: usize, site: &Site) -> Grads {
    let mut at = 0;
    let mut grads = site.zero();
    for (i, part) in site.args.iter().enumerate() {
        let len = part.shape()[axis];
        grads[i] = site.to(i, |g| g.narrow(axis as isize, at, len)).swap_remove(i);
        at += len;
    }
    grads
}
