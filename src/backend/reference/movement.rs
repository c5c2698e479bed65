//! Rules that move elements: each computes, for every element of the result, where it comes from. Deliberately
//! independent of `shape::View`, which the planner uses for the same operations.

use super::array::{Array, Values, each};
use crate::dtype::Scalar;
use crate::shape::Shape;

/// All indices of a shape in row-major order, each handed to `f`.
pub(super) fn each_index(shape: &Shape, mut f: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.elems() {
        f(&index);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            if index[d] < shape[d] {
                break;
            }
            index[d] = 0;
        }
    }
}

/// The row-major position of an index.
pub(super) fn position(shape: &Shape, index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |p, (&n, &i)| p * n + i)
}

/// The array whose element at `i` is `x` at `from(i)`.
fn moved(shape: Shape, x: &Array, from: impl Fn(&[usize], &mut [usize])) -> Array {
    let mut positions = Vec::with_capacity(shape.elems());
    let mut source = vec![0; x.shape.len()];
    each_index(&shape, |i| {
        from(i, &mut source);
        positions.push(position(&x.shape, &source));
    });
    x.pick(shape, &positions)
}

/// `out[i]` = `x[i, but 0 where x has size 1]`
pub(super) fn broadcast(shape: &Shape, x: &Array) -> Array {
    moved(shape.clone(), x, |i, s| {
        for d in 0..s.len() {
            s[d] = if x.shape[d] == 1 { 0 } else { i[d] };
        }
    })
}

/// `out[i]` = `x[j]` with `j[perm[d]`] = `i[d]`
pub(super) fn permute(perm: &[usize], shape: &Shape, x: &Array) -> Array {
    moved(shape.clone(), x, |i, s| {
        for (d, &p) in perm.iter().enumerate() {
            s[p] = i[d];
        }
    })
}

/// `out[i]` = `x[start + i * step]`
pub(super) fn slice(start: &[usize], len: &[usize], step: &[usize], x: &Array) -> Array {
    moved(Shape(len.to_vec()), x, |i, s| {
        for d in 0..s.len() {
            s[d] = start[d] + i[d] * step[d];
        }
    })
}

/// `out[i]` = `x[i with i[a]` = `n[a]` - 1 - `i[a]` for the axes a]
pub(super) fn reverse(axes: &[usize], x: &Array) -> Array {
    moved(x.shape.clone(), x, |i, s| {
        for d in 0..s.len() {
            s[d] = if axes.contains(&d) { x.shape[d] - 1 - i[d] } else { i[d] };
        }
    })
}

/// out = value, except `out[lo + i * (interior + 1)]` = `x[i]` where that lies inside
pub(super) fn pad(lo: &[i64], interior: &[usize], value: Scalar, shape: &Shape, x: &Array) -> Array {
    const OUTSIDE: usize = usize::MAX;
    let mut positions = Vec::with_capacity(shape.elems());
    let mut source = vec![0; x.shape.len()];
    each_index(shape, |i| {
        let inside = (0..i.len()).all(|d| {
            let (p, step) = (i[d] as i64 - lo[d], interior[d] as i64 + 1);
            source[d] = (p / step).max(0) as usize;
            p >= 0 && p % step == 0 && source[d] < x.shape[d]
        });
        positions.push(if inside { position(&x.shape, &source) } else { OUTSIDE });
    });
    fn fill<T: Copy>(v: &[T], positions: &[usize], value: T) -> Vec<T> {
        positions.iter().map(|&p| if p == OUTSIDE { value } else { v[p] }).collect()
    }
    let data = match &x.data {
        Values::F(v) => Values::F(fill(v, &positions, value.as_f64())),
        Values::H(v) => Values::H(fill(v, &positions, value.as_f64())),
        Values::I(v) => Values::I(fill(v, &positions, value.bits() as i32)),
        Values::U(v) => Values::U(fill(v, &positions, value.bits())),
        Values::B(v) => Values::B(fill(v, &positions, value.bits())),
    };
    Array { shape: shape.clone(), data }
}

/// The parts one after another along `axis`.
pub(super) fn concat(axis: usize, parts: &[&Array]) -> Option<Array> {
    let first = parts.first()?;
    let mut shape = first.shape.clone();
    shape.0[axis] = parts.iter().map(|p| p.shape[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    // All parts in one flat array, and the order in which the result takes it: per outer index, one run of each part.
    let mut flat = first.data.clone();
    for p in &parts[1..] {
        match (&mut flat, &p.data) {
            (Values::F(a), Values::F(b)) => a.extend_from_slice(b),
            (Values::I(a), Values::I(b)) => a.extend_from_slice(b),
            (Values::U(a), Values::U(b)) | (Values::B(a), Values::B(b)) => a.extend_from_slice(b),
            _ => return None,
        }
    }
    let mut positions = Vec::with_capacity(shape.elems());
    for o in 0..outer {
        let mut base = 0;
        for p in parts {
            let run: usize = p.shape[axis..].iter().product();
            positions.extend(base + o * run..base + (o + 1) * run);
            base += p.shape.elems();
        }
    }
    let data = each!(&flat, v => positions.iter().map(|&p| v[p]).collect());
    Some(Array { shape, data })
}
