//! Derivatives of products: a matrix product's are matrix products, a convolution's are convolutions.

use super::{Grads, Site};
use crate::ir::{ConvDims, Prim, Tensor};

/// y = a b: g b^T, a^T g
pub(super) fn dot(site: &Site) -> Grads {
    let apply = |a: &Tensor, b: &Tensor| site.builder.apply(Prim::Dot, &[a, b]);
    site.binary(|_, b, _, g| apply(g, &b.t()), |a, _, _, g| apply(&a.t(), g))
}

/// `y[p]` = sum_q x~[p s + q r - lo] `w[q]`, with x~ = x dilated by l, s the stride and r the dilation of w.
///
/// `dx[i]` = sum_q `g[p]` `w[q]` over p s = i l + lo - q r: with q counted from the end, a convolution of g dilated by s
/// with the flipped w, stride l, dilation r, lo' = (k-1) r - lo.
/// `dw[q]` = sum_p `g[p]` x~[q r + p s - lo]: a convolution of x (dilated by l) with g as the kernel, stride r,
/// dilation s, lo' = lo, in which channels and batch change roles.
/// In both, hi' is what makes the size come out: it also restores the remainder that the stride left over.
pub(super) fn conv(dims: &ConvDims, site: &Site) -> Grads {
    let (x, w) = (&site.args[0], &site.args[1]);
    // An empty sum, or nothing to differentiate by; and no padding makes a convolution of size 0.
    if x.elems() == 0 || w.elems() == 0 || site.outs[0].elems() == 0 {
        return site.zero();
    }
    site.binary(|x, w, _, g| lhs(dims, x, w, g), |x, w, _, g| rhs(dims, x, w, g))
}

/// Extent of n elements at this distance.
fn extent(n: usize, step: usize) -> i64 {
    (n as i64 - 1) * step as i64 + 1
}

fn spatial(first: usize, rank: usize) -> Vec<isize> {
    (first as isize..rank as isize).collect()
}

fn lhs(dims: &ConvDims, x: &Tensor, w: &Tensor, g: &Tensor) -> Tensor {
    let mut pad = Vec::new();
    for d in 0..dims.stride.len() {
        let (n, k, p) = (x.shape()[2 + d], w.shape()[2 + d], g.shape()[2 + d]);
        let reach = extent(k, dims.rhs_dilation[d]);
        let lo = reach - 1 - dims.pad[d].0;
        let padded = extent(n, dims.lhs_dilation[d]) - 1 + reach;
        pad.push((lo, padded - extent(p, dims.stride[d]) - lo));
    }
    let back = ConvDims {
        stride: dims.lhs_dilation.clone(),
        pad,
        lhs_dilation: dims.stride.clone(),
        rhs_dilation: dims.rhs_dilation.clone(),
        groups: dims.groups,
    };
    // [G O, C, k..] -> [G C, O, k..], flipped
    let (groups, o, c) = (dims.groups, w.shape()[0] / dims.groups, w.shape()[1]);
    let kernel = &w.shape()[2..];
    let swapped = if groups == 1 {
        w.transpose(0, 1)
    } else {
        w.reshape([&[groups, o, c], kernel].concat()).transpose(1, 2).reshape([&[groups * c, o], kernel].concat())
    };
    g.conv(&swapped.flip(&spatial(2, w.rank())), back)
}

fn rhs(dims: &ConvDims, x: &Tensor, w: &Tensor, g: &Tensor) -> Tensor {
    let mut pad = Vec::new();
    for d in 0..dims.stride.len() {
        let (n, k, p) = (x.shape()[2 + d], w.shape()[2 + d], g.shape()[2 + d]);
        let padded = extent(p, dims.stride[d]) - 1 + extent(k, dims.rhs_dilation[d]);
        pad.push((dims.pad[d].0, padded - extent(n, dims.lhs_dilation[d]) - dims.pad[d].0));
    }
    let back = ConvDims {
        stride: dims.rhs_dilation.clone(),
        pad,
        lhs_dilation: dims.lhs_dilation.clone(),
        rhs_dilation: dims.stride.clone(),
        groups: dims.groups,
    };
    // x: [N, G C, s..] -> [C, G N, s..]; g: [N, O, p..] -> [O, N, p..]; result [C, O, k..] -> [O, C, k..]
    let (groups, batch, c) = (dims.groups, x.shape()[0], w.shape()[1]);
    let size = &x.shape()[2..];
    let swapped = if groups == 1 {
        x.transpose(0, 1)
    } else {
        x.reshape([&[batch, groups, c], size].concat()).transpose(0, 2).reshape([&[c, groups * batch], size].concat())
    };
    swapped.conv(&g.transpose(0, 1), back).transpose(0, 1)
}
