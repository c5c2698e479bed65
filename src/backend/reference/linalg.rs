//! Matrix products and convolutions: sums in f64, in the order of the definition.

use super::array::{Array, Values};
use super::movement::{each_index, position};
use crate::ir::ConvDims;
use crate::shape::Shape;

/// out[.., m, n] = sum_k a[.., m, k] * b[.., k, n]
pub(super) fn dot(a: &Array, b: &Array) -> Option<Array> {
    let (Values::F(x) | Values::H(x), Values::F(y) | Values::H(y)) = (&a.data, &b.data) else { return None };
    let r = a.shape.len();
    let (m, k, n) = (a.shape[r - 2], a.shape[r - 1], b.shape[r - 1]);
    let batch: usize = a.shape[..r - 2].iter().product();
    let mut shape = a.shape.clone();
    shape.0[r - 1] = n;
    let mut out = vec![0.0; shape.elems()];
    for p in 0..batch {
        for i in 0..m {
            let row = &mut out[(p * m + i) * n..(p * m + i + 1) * n];
            for j in 0..k {
                let factor = x[(p * m + i) * k + j];
                for (o, &v) in row.iter_mut().zip(&y[(p * k + j) * n..(p * k + j + 1) * n]) {
                    *o += factor * v;
                }
            }
        }
    }
    Some(Array { shape, data: Values::F(out) })
}

/// out[n, o, p] = sum_{c, q} x[n, group(o) c, (p * stride + q * rhs_dilation - lo) / lhs_dilation] * w[o, c, q],
/// where the position divides evenly and lies inside x; elsewhere x is 0.
pub(super) fn conv(dims: &ConvDims, shape: &Shape, x: &Array, w: &Array) -> Option<Array> {
    let (Values::F(xs) | Values::H(xs), Values::F(ws) | Values::H(ws)) = (&x.data, &w.data) else { return None };
    let (in_spatial, kernel) = (Shape::from(&x.shape[2..]), Shape::from(&w.shape[2..]));
    let out_spatial = Shape::from(&shape[2..]);
    let (in_size, kernel_size, out_size) = (in_spatial.elems(), kernel.elems(), out_spatial.elems());
    let (group_in, group_out) = (w.shape[1], w.shape[0] / dims.groups);
    let mut out = vec![0.0; shape.elems()];
    let mut out_at = 0;
    each_index(&out_spatial, |p| {
        // Which kernel element meets which input element at this output position.
        let mut meets = Vec::with_capacity(kernel_size);
        let mut source = vec![0; p.len()];
        each_index(&kernel, |q| {
            let inside = (0..p.len()).all(|d| {
                let at = (p[d] * dims.stride[d] + q[d] * dims.rhs_dilation[d]) as i64 - dims.pad[d].0;
                let step = dims.lhs_dilation[d] as i64;
                source[d] = (at / step).max(0) as usize;
                at >= 0 && at % step == 0 && source[d] < in_spatial[d]
            });
            if inside {
                meets.push((position(&kernel, q), position(&in_spatial, &source)));
            }
        });
        for n in 0..shape[0] {
            for o in 0..shape[1] {
                let mut sum = 0.0;
                for c in 0..group_in {
                    let channel = (n * x.shape[1] + o / group_out * group_in + c) * in_size;
                    let filter = (o * group_in + c) * kernel_size;
                    for &(q, s) in &meets {
                        sum += xs[channel + s] * ws[filter + q];
                    }
                }
                out[(n * shape[1] + o) * out_size + out_at] = sum;
            }
        }
        out_at += 1;
    });
    Some(Array { shape: shape.clone(), data: Values::F(out) })
}
