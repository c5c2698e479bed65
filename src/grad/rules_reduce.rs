//! Derivatives of reductions, running sums and sorting.

use super::{Grads, Site};
use crate::dtype::DType;
use crate::ir::{Prim, ReduceOp, Tensor};

#[deny(clippy::wildcard_enum_match_arm)]
pub(super) fn reduce(op: ReduceOp, axes: &[usize], site: &Site) -> Grads {
    let x = &site.args[0];
    match op {
        // g repeated
        ReduceOp::Sum => site.linear(|g| g.broadcast_to(x.shape())),
        // g / count where x = y, else 0: shared evenly among equal maxima. A NaN equals nothing: 0 / 0, as torch.
        ReduceOp::Max => site.unary(|x, y, g| {
            let hit = x.eq(&y.broadcast_to(x.shape()));
            let count =
                site.builder.apply(Prim::Reduce { op: ReduceOp::Sum, axes: axes.to_vec() }, &[&hit.cast(DType::F32)]);
            hit.select(&g.broadcast_to(x.shape()), &x.like(0.0)) / count
        }),
        // g times the product of all others
        ReduceOp::Prod => site.unary(|x, _, g| g.broadcast_to(x.shape()) * products_of_others(x, axes)),
    }
}

/// For each element, the product of the others that are reduced with it: exclusive products from the left times
/// exclusive products from the right. No division, so zeros need no care, and every step is differentiable again.
fn products_of_others(x: &Tensor, axes: &[usize]) -> Tensor {
    let kept: Vec<usize> = (0..x.rank()).filter(|d| !axes.contains(d)).collect();
    let perm: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let mut inverse = vec![0isize; perm.len()];
    for (d, &p) in perm.iter().enumerate() {
        inverse[p] = d as isize;
    }
    let last = x.permute(&perm.iter().map(|&p| p as isize).collect::<Vec<_>>());
    let n: usize = axes.iter().map(|&a| x.shape()[a]).product();
    let outer: usize = kept.iter().map(|&d| x.shape()[d]).product();
    let rows = last.reshape([outer, n]);
    let left = products_before(&rows, n);
    let right = products_before(&rows.flip(&[1]), n).flip(&[1]);
    (left * right).reshape(last.shape()).permute(&inverse)
}

/// Row by row, the product of all elements before each: after k doublings an element holds the product of 2^k.
fn products_before(rows: &Tensor, n: usize) -> Tensor {
    let shifted = |t: &Tensor, by: usize| t.pad(&[0, by as i64], &[0, -(by as i64)], 1.0);
    if n == 0 {
        return rows.clone();
    }
    let mut t = shifted(rows, 1);
    let mut reach = 1;
    while reach + 1 < n {
        t = &t * shifted(&t, reach);
        reach *= 2;
    }
    t
}

/// g summed from the end
pub(super) fn cumsum(axis: usize, site: &Site) -> Grads {
    let axis = axis as isize;
    site.linear(|g| g.flip(&[axis]).cumsum(axis).flip(&[axis]))
}

/// each element of g to where its value came from; the second result is an index
pub(super) fn sort(axis: usize, site: &Site) -> Grads {
    let shape = site.args[0].shape().clone();
    site.linear(|g| site.builder.apply(Prim::ScatterAddAlong { axis, shape }, &[g, &site.outs[1]]))
}
