//! Rules along dimensions: reductions, argmax, running sums, sorting.

use super::array::{Array, Values};
use super::movement::{each_index, position};
use crate::ir::ReduceOp;
use crate::shape::Shape;
use std::cmp::Ordering;

/// For each element of `x` in order, the position in the reduced shape that it falls on.
fn targets(shape: &Shape, kept: &Shape) -> Vec<usize> {
    let mut out = Vec::with_capacity(shape.elems());
    let mut target = vec![0; shape.len()];
    each_index(shape, |i| {
        for d in 0..i.len() {
            target[d] = if kept[d] == 1 { 0 } else { i[d] };
        }
        out.push(position(kept, &target));
    });
    out
}

fn fold<T: Copy>(v: &[T], targets: &[usize], n: usize, init: T, f: impl Fn(T, T) -> T) -> Vec<T> {
    let mut out = vec![init; n];
    for (&x, &t) in v.iter().zip(targets) {
        out[t] = f(out[t], x);
    }
    out
}

/// Folds over `axes`, in row-major order of the elements.
pub(super) fn reduce(op: ReduceOp, axes: &[usize], x: &Array) -> Option<Array> {
    let shape = x.shape.keep_reduced(axes);
    let (to, n) = (targets(&x.shape, &shape), shape.elems());
    let data = match (&x.data, op) {
        (Values::F(v), ReduceOp::Sum) => Values::F(fold(v, &to, n, 0.0, |a, b| a + b)),
        (Values::F(v), ReduceOp::Prod) => Values::F(fold(v, &to, n, 1.0, |a, b| a * b)),
        (Values::F(v), ReduceOp::Max) => {
            Values::F(fold(v, &to, n, f64::NEG_INFINITY, |a, b| if a >= b || a.is_nan() { a } else { b }))
        }
        (Values::I(v), ReduceOp::Sum) => Values::I(fold(v, &to, n, 0, i32::wrapping_add)),
        (Values::I(v), ReduceOp::Prod) => Values::I(fold(v, &to, n, 1, i32::wrapping_mul)),
        (Values::I(v), ReduceOp::Max) => Values::I(fold(v, &to, n, i32::MIN, i32::max)),
        (Values::U(v), ReduceOp::Sum) => Values::U(fold(v, &to, n, 0, u32::wrapping_add)),
        (Values::U(v), ReduceOp::Prod) => Values::U(fold(v, &to, n, 1, u32::wrapping_mul)),
        (Values::U(v), ReduceOp::Max) => Values::U(fold(v, &to, n, 0, u32::max)),
        (Values::H(_) | Values::B(_), ReduceOp::Sum | ReduceOp::Prod | ReduceOp::Max) => return None,
    };
    Some(Array { shape, data })
}

/// The lines of `x` along `axis`: for each, the position of its first element, and the distance between elements.
fn lines(shape: &Shape, axis: usize) -> (Vec<usize>, usize) {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let starts = (0..outer).flat_map(|o| (0..inner).map(move |i| o * shape[axis] * inner + i)).collect();
    (starts, inner)
}

/// NaN is the largest and equals itself; -0 equals 0.
fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Compares two elements of whichever type.
fn comparator(data: &Values) -> Box<dyn Fn(usize, usize) -> Ordering + '_> {
    match data {
        Values::F(v) | Values::H(v) => Box::new(|a, b| order(v[a], v[b])),
        Values::I(v) => Box::new(|a, b| v[a].cmp(&v[b])),
        Values::U(v) | Values::B(v) => Box::new(|a, b| v[a].cmp(&v[b])),
    }
}

/// Position along `axis` of the first maximum; a NaN wins.
pub(super) fn argmax(axis: usize, x: &Array) -> Array {
    let compare = comparator(&x.data);
    let (starts, stride) = lines(&x.shape, axis);
    let best = |&start: &usize| {
        let mut best = 0;
        for k in 1..x.shape[axis] {
            if compare(start + k * stride, start + best * stride) == Ordering::Greater {
                best = k;
            }
        }
        best as i32
    };
    Array { shape: x.shape.keep_reduced(&[axis]), data: Values::I(starts.iter().map(best).collect()) }
}

/// Inclusive running sum along `axis`.
pub(super) fn cumsum(axis: usize, x: &Array) -> Option<Array> {
    fn run<T: Copy>(v: &[T], shape: &Shape, axis: usize, add: impl Fn(T, T) -> T) -> Vec<T> {
        let mut out = v.to_vec();
        let (starts, stride) = lines(shape, axis);
        for s in starts {
            for k in 1..shape[axis] {
                let p = s + k * stride;
                out[p] = add(out[p - stride], out[p]);
            }
        }
        out
    }
    let data = match &x.data {
        Values::F(v) => Values::F(run(v, &x.shape, axis, |a, b| a + b)),
        Values::I(v) => Values::I(run(v, &x.shape, axis, i32::wrapping_add)),
        Values::U(v) => Values::U(run(v, &x.shape, axis, u32::wrapping_add)),
        Values::H(_) | Values::B(_) => return None,
    };
    Some(Array { shape: x.shape.clone(), data })
}

/// Sorted values and where they were; equal elements keep their order, also descending.
pub(super) fn sort(axis: usize, descending: bool, x: &Array) -> Vec<Array> {
    let compare = comparator(&x.data);
    let (starts, stride) = lines(&x.shape, axis);
    let mut positions = vec![0; x.shape.elems()];
    let mut ranks = vec![0; x.shape.elems()];
    for s in starts {
        let mut line: Vec<usize> = (0..x.shape[axis]).collect();
        line.sort_by(|&a, &b| {
            let ord = compare(s + a * stride, s + b * stride);
            if descending { ord.reverse() } else { ord }
        });
        for (k, from) in line.into_iter().enumerate() {
            positions[s + k * stride] = s + from * stride;
            ranks[s + k * stride] = from as i32;
        }
    }
    let index = Array { shape: x.shape.clone(), data: Values::I(ranks) };
    vec![x.pick(x.shape.clone(), &positions), index]
}
