//! Rules with data-dependent positions. An index out of range is an error that names the operation, the index, where
//! it stands and the size of what it indexes.

use super::array::{Array, Values};
use super::movement::{each_index, position};
use crate::error::{Error, Result};
use crate::shape::Shape;

fn indices<'a>(op: &str, index: &'a Array) -> Result<&'a [i32]> {
    match &index.data {
        Values::I(v) => Ok(v),
        Values::F(_) | Values::H(_) | Values::U(_) | Values::B(_) => {
            Err(Error::internal("reference", format!("{op} was evaluated on indices of another type than i32")))
        }
    }
}

/// The index as a position below `size`.
fn checked(op: &str, index: i32, at: usize, size: usize) -> Result<usize> {
    usize::try_from(index).ok().filter(|&i| i < size).ok_or_else(|| {
        Error::runtime(op, format!("index {index} at position {at} is out of range for a table of {size} entries"))
    })
}

/// `out[i]` = `table[index[i]`]
pub(super) fn take(table: &Array, index: &Array) -> Result<Array> {
    let rows = table.shape[0];
    let width: usize = table.shape[1..].iter().product();
    let ids = indices("take", index)?;
    let mut positions = Vec::with_capacity(ids.len() * width);
    for (at, &i) in ids.iter().enumerate() {
        let row = checked("take", i, at, rows)?;
        positions.extend(row * width..(row + 1) * width);
    }
    let mut shape = table.shape.clone();
    shape.0[0] = ids.len();
    Ok(table.pick(shape, &positions))
}

/// out = 0; `out[to[i]`] += `src[i]`, in the order of i. `shape` is that of out.
fn scatter(op: &str, shape: Shape, src: &Array, to: &[usize]) -> Result<Array> {
    fn add<T: Copy>(v: &[T], to: &[usize], n: usize, zero: T, f: impl Fn(T, T) -> T) -> Vec<T> {
        let mut out = vec![zero; n];
        for (&x, &t) in v.iter().zip(to) {
            out[t] = f(out[t], x);
        }
        out
    }
    let n = shape.elems();
    let data = match &src.data {
        Values::F(v) => Values::F(add(v, to, n, 0.0, |a, b| a + b)),
        Values::I(v) => Values::I(add(v, to, n, 0, i32::wrapping_add)),
        Values::U(v) => Values::U(add(v, to, n, 0, u32::wrapping_add)),
        Values::H(_) | Values::B(_) => {
            return Err(Error::internal("reference", format!("{op} was evaluated on {}", src.data.dtype())));
        }
    };
    Ok(Array { shape, data })
}

/// out = 0; `out[index[i]`] += `src[i]`, rows in the order of i
pub(super) fn scatter_add(rows: usize, src: &Array, index: &Array) -> Result<Array> {
    let width: usize = src.shape[1..].iter().product();
    let mut to = Vec::with_capacity(src.shape.elems());
    for (at, &i) in indices("scatter_add", index)?.iter().enumerate() {
        let row = checked("scatter_add", i, at, rows)?;
        to.extend(row * width..(row + 1) * width);
    }
    let mut shape = src.shape.clone();
    shape.0[0] = rows;
    scatter("scatter_add", shape, src, &to)
}

/// For each element of `index`, the position in an array of shape `full` that it points to along `axis`.
fn along(op: &str, axis: usize, full: &Shape, index: &Array) -> Result<Vec<usize>> {
    let ids = indices(op, index)?;
    let mut to = Vec::with_capacity(ids.len());
    let mut target = vec![0; full.len()];
    let mut failed = None;
    each_index(&index.shape, |i| {
        let at = to.len();
        target.copy_from_slice(i);
        match checked(op, ids[at], at, full[axis]) {
            Ok(p) => target[axis] = p,
            Err(e) => failed = failed.take().or(Some(e)),
        }
        to.push(position(full, &target));
    });
    failed.map_or(Ok(to), Err)
}

/// `out[i]` = `x[i with i[axis]` = `index[i]`]
pub(super) fn take_along(axis: usize, x: &Array, index: &Array) -> Result<Array> {
    let from = along("take_along", axis, &x.shape, index)?;
    Ok(x.pick(index.shape.clone(), &from))
}

/// out = 0; `out[i with i[axis]` = `index[i]`] += `src[i]`, in row-major order of i
pub(super) fn scatter_add_along(axis: usize, shape: &Shape, src: &Array, index: &Array) -> Result<Array> {
    let to = along("scatter_add_along", axis, shape, index)?;
    scatter("scatter_add_along", shape.clone(), src, &to)
}
