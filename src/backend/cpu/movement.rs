//! Regions that move elements: padding, joining, rows of tables and their adjoint, elements along an axis, arg-max.
//! All but the scatters write each result once; the scatters add in the order of the indices, column-parallel, so
//! that the sums do not depend on the number of threads.

use super::Job;
use super::dot::Readable;
use super::par;
use super::source::Bound;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Node, Prim};
use crate::plan::RegionKind;

/// Bytes move at about this many nanoseconds per word.
const MOVE_NS: f64 = 0.4;

/// The job of a region of one of these kinds, or `None` where the reference has to do it.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let body = &bound.region.body;
    let node = body.node(body.outputs.first()?.value.node);
    match bound.region.kind {
        RegionKind::Pad => pad(bound, node),
        RegionKind::Concat => concat(bound, node),
        RegionKind::Take => take(bound),
        RegionKind::ScatterAdd => scatter_add(bound, node),
        RegionKind::TakeAlong => take_along(bound, node),
        RegionKind::ArgMax => arg_max(bound, node),
        _ => None,
    }
}

fn pad(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::Pad { lo, hi: _, interior, value } = &node.prim else { return None };
    let (arg, out) = (bound.args.first()?.clone(), bound.outs.first()?.clone());
    let bits = value.bits();
    // The part of the operand that lands inside the result, and where.
    let (from, to) = (&arg.view.shape, &out.ty.shape);
    let rank = from.len();
    let (mut start, mut len) = (vec![0; rank], vec![0; rank]);
    for d in 0..rank {
        let step = interior[d] as i64 + 1;
        let first = if lo[d] < 0 { (-lo[d] + step - 1) / step } else { 0 };
        let end = (to[d] as i64 - lo[d] + step - 1).div_euclid(step).min(from[d] as i64);
        start[d] = first as usize;
        len[d] = (end - first).max(0) as usize;
    }
    let seen = arg.with_view(arg.view.slice(&start, &len, &vec![1; rank]));
    let strides: Vec<isize> = to.strides().iter().zip(interior).map(|(s, i)| s * (*i as isize + 1)).collect();
    let offset: i64 =
        (0..rank).map(|d| (lo[d] + start[d] as i64 * (interior[d] as i64 + 1)) * to.strides()[d] as i64).sum();
    let inner = len.last().copied().unwrap_or(1).max(1);
    let last = strides.last().copied().unwrap_or(1);
    let rows = seen.elems() / inner;
    let outer = len[..rank.saturating_sub(1)].to_vec();
    Some(Box::new(move || {
        par::pieces(out.elems(), 1 << 15, MOVE_NS / 2.0, |a, b| {
            // SAFETY: pieces of the result are disjoint.
            unsafe { out.words().at(a).u32s_mut(b - a) }.fill(bits);
        });
        par::pieces(rows, (8192 / inner).max(1), inner as f64 * MOVE_NS + 5.0, |a, b| {
            let mut line = vec![0; inner];
            for r in a..b {
                seen.gather(r * inner, &mut line);
                let (mut rest, mut at) = (r, offset as isize);
                for d in (0..outer.len()).rev() {
                    at += (rest % outer[d]) as isize * strides[d];
                    rest /= outer[d];
                }
                for (i, &w) in line.iter().enumerate() {
                    // SAFETY: by construction inside the result; rows are disjoint.
                    unsafe { *out.words().by(at + i as isize * last).0 = w };
                }
            }
        });
        Ok(())
    }))
}

fn concat(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::Concat { axis } = node.prim else { return None };
    let (args, out) = (bound.args.clone(), bound.outs.first()?.clone());
    let inner: usize = out.ty.shape[axis + 1..].iter().product();
    let outer: usize = out.ty.shape[..axis].iter().product();
    let row = out.ty.shape[axis] * inner;
    // A body may use its arguments in another order than they come.
    let order: Vec<usize> = node
        .args
        .iter()
        .map(|v| match bound.region.body.node(v.node).prim {
            Prim::Input { index } => Some(index),
            _ => None,
        })
        .collect::<Option<_>>()?;
    Some(Box::new(move || {
        let mut at = 0;
        for &a in &order {
            let arg = &args[a];
            let len = arg.view.shape[axis] * inner;
            if outer * len > 0 {
                par::pieces(outer, 8192usize.div_ceil(len), len as f64 * MOVE_NS, |from, to| {
                    for o in from..to {
                        // SAFETY: these parts of the result's rows are disjoint.
                        arg.gather(o * len, unsafe { out.words().at(o * row + at).u32s_mut(len) });
                    }
                });
            }
            at += len;
        }
        Ok(())
    }))
}

/// The indices as positions below `size`; the first bad one is the error.
pub(super) fn positions(op: &str, indices: &[u32], size: usize) -> Result<()> {
    match indices.iter().position(|&i| (i as i32) < 0 || i as usize >= size) {
        None => Ok(()),
        Some(at) => {
            let detail =
                format!("index {} at position {at} is out of range for a table of {size} entries", indices[at] as i32);
            Err(Error::runtime(op, detail))
        }
    }
}

fn take(bound: &Bound) -> Option<Job> {
    let (table, index) = (Readable::dense(&bound.args[0])?, bound.args[1].clone());
    let out = bound.outs.first()?.clone();
    let rows = bound.args[0].view.shape[0];
    let width: usize = out.ty.shape[1..].iter().product();
    Some(Box::new(move || {
        table.prepare();
        let ids = index.gathered();
        positions("take", &ids, rows)?;
        let source = table.arg.origin();
        par::pieces(ids.len(), (8192 / width.max(1)).max(1), width as f64 * MOVE_NS + 2.0, |a, b| {
            for (i, &id) in ids.iter().enumerate().take(b).skip(a) {
                // SAFETY: the row was checked against the table; rows of the result are disjoint.
                unsafe {
                    let from = source.at(id as usize * width).u32s(width);
                    out.words().at(i * width).u32s_mut(width).copy_from_slice(from);
                }
            }
        });
        Ok(())
    }))
}

fn scatter_add(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::ScatterAdd { rows } = node.prim else { return None };
    if bound.args[0].dtype != DType::F32 {
        return None;
    }
    let (source, index) = (Readable::dense(&bound.args[0])?, bound.args[1].clone());
    let out = bound.outs.first()?.clone();
    let width: usize = out.ty.shape[1..].iter().product();
    Some(Box::new(move || {
        source.prepare();
        let ids = index.gathered();
        positions("scatter_add", &ids, rows)?;
        // Strips of columns: every sum is made by one thread in the order of the indices.
        let strip = 64.min(width.max(1));
        let strips = width.div_ceil(strip);
        par::each(strips, (ids.len() + rows) as f64 * width as f64 * MOVE_NS, |s| {
            let (c, n) = (s * strip, strip.min(width - s * strip));
            // In f64, because many rows may meet in one.
            let mut sums = vec![0f64; rows * n];
            for (i, &id) in ids.iter().enumerate() {
                // SAFETY: inside the source, which nobody writes.
                let from = unsafe { source.arg.origin().at(i * width + c).f32s(n) };
                let to = &mut sums[id as usize * n..][..n];
                to.iter_mut().zip(from).for_each(|(a, &x)| *a += x as f64);
            }
            for (r, row) in sums.chunks_exact(n).enumerate() {
                // SAFETY: strips of the result are disjoint.
                let to = unsafe { out.words().at(r * width + c).f32s_mut(n) };
                to.iter_mut().zip(row).for_each(|(o, &x)| *o = x as f32);
            }
        });
        Ok(())
    }))
}

fn take_along(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::TakeAlong { axis } = node.prim else { return None };
    let (table, index) = (bound.args[0].clone(), bound.args[1].clone());
    table.buffer.as_ref()?;
    let out = bound.outs.first()?.clone();
    let shape = out.ty.shape.clone();
    let size = table.view.shape[axis];
    let strides = table.view.strides.clone();
    Some(Box::new(move || {
        let ids = index.gathered();
        positions("take_along", &ids, size)?;
        let origin = table.origin();
        par::pieces(ids.len(), 4096, 6.0, |a, b| {
            for (i, &id) in ids.iter().enumerate().take(b).skip(a) {
                let (mut rest, mut at) = (i, 0isize);
                for d in (0..shape.len()).rev() {
                    let k = if d == axis { id as usize } else { rest % shape[d] };
                    rest /= shape[d];
                    at += k as isize * strides[d];
                }
                // SAFETY: every index is below the table's sizes; elements of the result are disjoint.
                unsafe { *out.words().at(i).0 = *origin.by(at).0 };
            }
        });
        Ok(())
    }))
}

fn arg_max(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::ArgMax { axis } = node.prim else { return None };
    let (arg, out) = (Readable::dense(&bound.args[0])?, bound.outs.first()?.clone());
    if bound.args[0].dtype != DType::F32 {
        return None;
    }
    let shape = &bound.args[0].view.shape;
    let inner: usize = shape[axis + 1..].iter().product();
    let n = shape[axis];
    Some(Box::new(move || {
        arg.prepare();
        par::pieces(out.elems(), 256, n as f64, |a, b| {
            for o in a..b {
                let base = arg.arg.origin().at(o / inner.max(1) * n * inner + o % inner.max(1));
                let (mut best, mut at) = (f32::NEG_INFINITY, 0);
                for i in 0..n {
                    // SAFETY: inside the operand; the result's elements are disjoint.
                    let x = unsafe { *base.at(i * inner).f32s(1).as_ptr() };
                    if x > best || x.is_nan() {
                        (best, at) = (x, i);
                        if x.is_nan() {
                            break;
                        }
                    }
                }
                // SAFETY: as above.
                unsafe { *out.words().at(o).0 = at as u32 };
            }
        });
        Ok(())
    }))
}
