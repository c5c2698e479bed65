//! Regions that work on the lines along one axis: running sums, sorting, and sums at indices along an axis. Lines are
//! independent, each is done by one thread in its order, so results do not depend on the number of threads.

use super::Job;
use super::dot::Readable;
use super::movement::positions;
use super::par;
use super::source::{Bound, Out};
use crate::dtype::DType;
use crate::ir::{Node, Prim};
use crate::plan::RegionKind;
use crate::shape::Shape;

/// Elements in an array are about this many nanoseconds away when they do not follow each other.
const STEP_NS: f64 = 2.0;
/// Elements that one task takes at least.
const GRAIN: usize = 4096;

/// The job of a region of one of these kinds, or `None` where the reference has to do it.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let body = &bound.region.body;
    let node = body.node(body.outputs.first()?.value.node);
    match bound.region.kind {
        RegionKind::CumSum => cum_sum(bound, node),
        RegionKind::Sort => sort(bound, node),
        RegionKind::ScatterAddAlong => scatter_add_along(bound, node),
        _ => None,
    }
}

/// The lines of a dense array along one axis.
#[derive(Debug, Clone, Copy)]
struct Lines {
    count: usize,
    /// Elements of a line.
    len: usize,
    /// Distance between them.
    step: usize,
}

impl Lines {
    fn of(shape: &Shape, axis: usize) -> Lines {
        let step: usize = shape[axis + 1..].iter().product();
        Lines { count: shape[..axis].iter().product::<usize>() * step, len: shape[axis], step }
    }

    /// Where line `i` begins.
    fn start(&self, i: usize) -> usize {
        i / self.step.max(1) * self.len * self.step + i % self.step.max(1)
    }

    /// Runs `f` on ranges of lines, where an element costs about `ns`.
    fn each(&self, ns: f64, f: impl Fn(usize, usize) + Send + Sync) {
        if self.count * self.len > 0 {
            par::pieces(self.count, GRAIN.div_ceil(self.len), self.len as f64 * ns, f);
        }
    }
}

/// Writes `value` to word `at` of a result.
///
/// # Safety
/// `at` is inside the result, and no other thread touches it.
unsafe fn put(out: &Out, at: usize, value: u32) {
    // SAFETY: promised by the caller.
    unsafe { *out.words().at(at).0 = value };
}

/// `out[k] = x[0] + .. + x[k]`, in f64 for floats.
fn cum_sum(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::CumSum { axis } = node.prim else { return None };
    let (source, out) = (Readable::dense(&bound.args[0])?, bound.outs.first()?.clone());
    let float = bound.args[0].dtype == DType::F32;
    let lines = Lines::of(&bound.args[0].view.shape, axis);
    let elems = bound.args[0].elems();
    Some(Box::new(move || {
        source.prepare();
        // SAFETY: the source is dense, and nobody writes it.
        let from = unsafe { source.arg.origin().u32s(elems) };
        lines.each(STEP_NS, |a, b| {
            for line in a..b {
                let at = (0..lines.len).map(|k| lines.start(line) + k * lines.step);
                let (mut sum, mut whole) = (0f64, 0u32);
                for p in at {
                    let word = if float {
                        sum += f32::from_bits(from[p]) as f64;
                        (sum as f32).to_bits()
                    } else {
                        whole = whole.wrapping_add(from[p]);
                        whole
                    };
                    // SAFETY: the result is as large as the source; lines are disjoint.
                    unsafe { put(&out, p, word) };
                }
            }
        });
        Ok(())
    }))
}

/// A word as a number that sorts like the element: NaN above all, -0 as 0.
fn key(word: u32, dtype: DType) -> u32 {
    match dtype {
        DType::U32 | DType::Bool | DType::F16 => word,
        DType::I32 => word ^ (1 << 31),
        DType::F32 => {
            let x = f32::from_bits(word);
            if x.is_nan() {
                return u32::MAX;
            }
            // Adding zero makes 0 of -0.
            let bits = (x + 0.0).to_bits();
            if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
        }
    }
}

/// Sorted elements and where they were; equal elements keep their order, also descending.
fn sort(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::Sort { axis, descending } = node.prim else { return None };
    let source = Readable::dense(&bound.args[0])?;
    let dtype = bound.args[0].dtype;
    let outputs = bound.region.body.outputs.iter().map(|o| o.value.out);
    let outs: Vec<(u32, Out)> = outputs.zip(bound.outs.iter().cloned()).collect();
    let lines = Lines::of(&bound.args[0].view.shape, axis);
    let elems = bound.args[0].elems();
    let ns = 4.0 * (lines.len.max(2) as f64).log2();
    Some(Box::new(move || {
        source.prepare();
        // SAFETY: the source is dense, and nobody writes it.
        let from = unsafe { source.arg.origin().u32s(elems) };
        lines.each(ns, |a, b| {
            // Key above position: an unstable sort of these is a stable one of the keys.
            let mut order: Vec<u64> = Vec::with_capacity(lines.len);
            for line in a..b {
                let start = lines.start(line);
                order.clear();
                order.extend((0..lines.len).map(|k| {
                    let key = key(from[start + k * lines.step], dtype);
                    (if descending { !key } else { key } as u64) << 32 | k as u64
                }));
                order.sort_unstable();
                for (k, packed) in order.iter().enumerate() {
                    let was = *packed as u32;
                    let value = from[start + was as usize * lines.step];
                    for (which, out) in &outs {
                        // SAFETY: results are as large as the source; lines are disjoint.
                        unsafe { put(out, start + k * lines.step, if *which == 0 { value } else { was }) };
                    }
                }
            }
        });
        Ok(())
    }))
}

/// out = 0; `out[i with i[axis] = index[i]] += src[i]`, in the order of the line, in f64 for floats.
fn scatter_add_along(bound: &Bound, node: &Node) -> Option<Job> {
    let Prim::ScatterAddAlong { axis, .. } = node.prim else { return None };
    let (source, index) = (Readable::dense(&bound.args[0])?, bound.args[1].clone());
    let out = bound.outs.first()?.clone();
    let float = match bound.args[0].dtype {
        DType::F32 => true,
        DType::I32 | DType::U32 => false,
        DType::Bool | DType::F16 => return None,
    };
    let shape = bound.args[1].view.shape.clone();
    let (lines, strides) = (Lines::of(&shape, axis), out.ty.shape.strides());
    let (size, step, elems) = (out.ty.shape[axis], strides[axis] as usize, shape.elems());
    Some(Box::new(move || {
        source.prepare();
        let ids = index.gathered();
        positions("scatter_add_along", &ids, size)?;
        // SAFETY: the source is dense, and nobody writes it.
        let from = unsafe { source.arg.origin().u32s(elems) };
        par::pieces(out.elems(), 1 << 15, 0.2, |a, b| {
            // SAFETY: pieces of the result are disjoint.
            unsafe { out.words().at(a).u32s_mut(b - a) }.fill(0);
        });
        lines.each(2.0 * STEP_NS, |a, b| {
            let (mut sums, mut whole) = (vec![0f64; size], vec![0u32; size]);
            for line in a..b {
                let start = lines.start(line);
                sums.fill(0.0);
                whole.fill(0);
                for p in (0..lines.len).map(|k| start + k * lines.step) {
                    if float {
                        sums[ids[p] as usize] += f32::from_bits(from[p]) as f64;
                    } else {
                        let sum = &mut whole[ids[p] as usize];
                        *sum = sum.wrapping_add(from[p]);
                    }
                }
                // The line of the result at the same coordinates; its other dimensions may be larger.
                let (mut rest, mut at) = (start, 0);
                for d in (0..shape.len()).rev() {
                    at += rest % shape[d] * strides[d] as usize;
                    rest /= shape[d];
                }
                for k in 0..size {
                    let word = if float { (sums[k] as f32).to_bits() } else { whole[k] };
                    // SAFETY: the index is no larger than the result outside of the axis; lines are disjoint.
                    unsafe { put(&out, at + k * step, word) };
                }
            }
        });
        Ok(())
    }))
}
