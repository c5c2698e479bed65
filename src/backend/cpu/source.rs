//! Operands of jobs: a strided view of a buffer, readable in row-major order block by block. Contiguous views are read
//! in place, others are gathered. Also the check that a view stays inside its buffer, on which all kernels rely.

use super::memory::{Buffer, Words};
use super::turn::turn;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::Type;
use crate::plan::{Operand, Region, Source};
use crate::shape::View;
use std::sync::Arc;

/// Rows of a turned view that are worth a loop of their own.
pub(super) const FEW_ROWS: usize = 4;

/// An operand whose buffer is resolved and whose view is known to lie inside.
#[derive(Debug, Clone)]
pub(super) struct Arg {
    /// The memory; `None` for `Source::Iota`, whose element at position p is p.
    pub buffer: Option<Arc<Buffer>>,
    /// How the elements lie there.
    pub view: View,
    /// Their type.
    pub dtype: DType,
    /// The view collapsed to as few dimensions as possible.
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Arg {
    pub(super) fn new(operand: &Operand, buffer: Option<Arc<Buffer>>) -> Result<Arg> {
        let have = match (&operand.source, &buffer) {
            (Source::Iota, _) => u32::MAX as usize,
            (Source::Slot(_), Some(b)) => b.bytes() / operand.dtype.bytes(),
            (Source::Slot(_), None) => return Err(Error::internal("cpu compile", "an operand has no buffer")),
        };
        if operand.view.span().is_some_and(|(_, hi)| hi >= have) {
            let detail = format!("view {:?} exceeds its buffer of {have} elements", operand.view);
            return Err(Error::internal("cpu compile", detail));
        }
        let buffer = if operand.source == Source::Iota { None } else { buffer };
        Ok(Arg::of(buffer, operand.view.clone(), operand.dtype))
    }

    fn of(buffer: Option<Arc<Buffer>>, view: View, dtype: DType) -> Arg {
        let c = view.collapsed();
        Arg { buffer, view, dtype, shape: c.shape.0, strides: c.strides }
    }

    /// A dense operand that owns fresh memory, for intermediate results of one job.
    pub(super) fn dense(ty: &Type) -> Result<Arg> {
        let buffer = Arc::new(Buffer::zeroed(ty.bytes())?);
        Ok(Arg::of(Some(buffer), View::contiguous(&ty.shape), ty.dtype))
    }

    /// The same memory seen through another view. The caller keeps it inside what this one touches.
    pub(super) fn with_view(&self, view: View) -> Arg {
        Arg::of(self.buffer.clone(), view, self.dtype)
    }

    pub(super) fn elems(&self) -> usize {
        self.view.shape.elems()
    }

    /// Element `[0, .., 0]`, for kernels that go by strides. Not for `Iota`.
    pub(super) fn origin(&self) -> Words {
        match &self.buffer {
            Some(b) => b.words_ptr().at(self.view.offset),
            None => Words(std::ptr::dangling_mut()),
        }
    }

    /// Where the memory begins. Not for `Iota`.
    fn base(&self) -> Words {
        self.buffer.as_ref().map_or(Words(std::ptr::dangling_mut()), |b| b.words_ptr())
    }

    /// True if the rows of the view are columns of the memory: many rows are better gathered together.
    pub(super) fn turns(&self) -> bool {
        let rank = self.shape.len();
        let last = self.strides.last().copied().unwrap_or(0);
        rank >= 2 && self.strides[rank - 2] == 1 && last > 1 && self.buffer.is_some() && self.dtype != DType::F16
    }

    /// Elements of a row of the view, its dimensions collapsed.
    pub(super) fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The place where the elements lie one after the other in row-major order, if they do.
    pub(super) fn direct(&self) -> Option<Words> {
        (self.buffer.is_some() && self.view.is_contiguous()).then(|| self.origin())
    }

    /// True if all elements are the same one.
    pub(super) fn is_uniform(&self) -> bool {
        self.buffer.is_some()
            && self.elems() > 0
            && self.strides.iter().zip(&self.shape).all(|(&s, &n)| s == 0 || n == 1)
    }

    /// Copies elements `start .. start + out.len()` of the row-major order; an f16 fills the lower half of its word.
    pub(super) fn gather(&self, start: usize, out: &mut [u32]) {
        if out.is_empty() {
            return;
        }
        let rank = self.shape.len();
        let inner = self.shape[rank - 1];
        let stride = self.strides[rank - 1];
        // Index of `start`, odometer-wise.
        let mut index = [0usize; 16];
        let deep = rank > index.len();
        let mut position = self.view.offset as isize;
        let mut rest = start;
        for d in (0..rank).rev() {
            let i = rest % self.shape[d];
            rest /= self.shape[d];
            if d < 16 {
                index[d] = i;
            }
            position += i as isize * self.strides[d];
        }
        let mut column = start % inner;
        let mut done = 0;
        while done < out.len() {
            // Whole rows that are columns of the memory are turned together.
            let rows = if self.turns() && !deep && column == 0 { (out.len() - done) / inner } else { 0 };
            let rows = if rows > 0 { rows.min(self.shape[rank - 2] - index[rank - 2]) } else { 0 };
            if rows >= FEW_ROWS {
                let to = bytemuck::cast_slice_mut(&mut out[done..done + rows * inner]);
                // SAFETY: these elements and what lies between them are inside the view, which was checked.
                let from = unsafe { self.base().by(position).f32s((inner - 1) * stride as usize + rows) };
                turn(from, stride as usize, inner, rows, to, inner);
                done += rows * inner;
                position += rows as isize - 1;
                index[rank - 2] += rows - 1;
            } else {
                let len = (inner - column).min(out.len() - done);
                self.segment(position, stride, &mut out[done..done + len]);
                done += len;
            }
            if done == out.len() {
                break;
            }
            if deep {
                // More than 16 collapsed dimensions: start over from the flat position.
                return self.gather(start + done, &mut out[done..]);
            }
            position -= column as isize * stride;
            column = 0;
            let mut d = rank - 1;
            while d > 0 {
                d -= 1;
                index[d] += 1;
                position += self.strides[d];
                if index[d] < self.shape[d] {
                    break;
                }
                position -= self.strides[d] * self.shape[d] as isize;
                index[d] = 0;
            }
        }
    }

    #[inline(always)]
    fn segment(&self, position: isize, stride: isize, out: &mut [u32]) {
        let Some(buffer) = &self.buffer else {
            for (i, o) in out.iter_mut().enumerate() {
                *o = (position + i as isize * stride) as u32;
            }
            return;
        };
        let base = buffer.words_ptr().0;
        if self.dtype == DType::F16 {
            let halfs = base.cast::<u16>();
            for (i, o) in out.iter_mut().enumerate() {
                // SAFETY: as below, with elements of two bytes.
                *o = unsafe { *halfs.offset(position + i as isize * stride) }.into();
            }
            return;
        }
        // SAFETY: the view was checked against the buffer, and `position + i * stride` is inside the view; nobody
        // writes this buffer meanwhile, or only at elements that were read before (in-place operands).
        unsafe {
            match stride {
                1 => std::ptr::copy(base.offset(position), out.as_mut_ptr(), out.len()),
                0 => out.fill(*base.offset(position)),
                _ => {
                    let mut p = position;
                    for o in out.iter_mut() {
                        *o = *base.offset(p);
                        p += stride;
                    }
                }
            }
        }
    }

    /// All elements in row-major order.
    pub(super) fn gathered(&self) -> Vec<u32> {
        let mut out = vec![0; self.elems()];
        self.gather(0, &mut out);
        out
    }
}

/// A result: dense, row-major, from the start of its buffer.
#[derive(Debug, Clone)]
pub(super) struct Out {
    pub buffer: Arc<Buffer>,
    pub ty: Type,
}

impl Out {
    pub(super) fn words(&self) -> Words {
        self.buffer.words_ptr()
    }
    pub(super) fn elems(&self) -> usize {
        self.ty.shape.elems()
    }
}

/// A region with its memory.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    pub region: &'a Region,
    pub args: Vec<Arg>,
    pub outs: Vec<Out>,
}

impl<'a> Bound<'a> {
    pub(super) fn new(
        region: &'a Region,
        buffers: Vec<Option<Arc<Buffer>>>,
        outs: Vec<Arc<Buffer>>,
    ) -> Result<Bound<'a>> {
        if buffers.len() != region.args.len() || outs.len() != region.outs.len() {
            return Err(Error::internal("cpu compile", "operands and buffers differ in number"));
        }
        let args = region.args.iter().zip(buffers).map(|(o, b)| Arg::new(o, b)).collect::<Result<Vec<Arg>>>()?;
        let mut results = Vec::with_capacity(outs.len());
        for (target, buffer) in region.outs.iter().zip(outs) {
            if target.ty.bytes() > buffer.bytes() {
                let detail = format!("a result {} exceeds its buffer of {} bytes", target.ty, buffer.bytes());
                return Err(Error::internal("cpu compile", detail));
            }
            results.push(Out { buffer, ty: target.ty.clone() });
        }
        let bound = Bound { region, args, outs: results };
        for (a, arg) in bound.args.iter().enumerate() {
            for (k, out) in bound.outs.iter().enumerate() {
                let shared = arg.buffer.as_ref().is_some_and(|b| Arc::ptr_eq(b, &out.buffer));
                let whole = arg.view.is_identity(out.elems());
                if shared && !(whole && region.in_place.get(k).is_some_and(Option::is_some)) && arg.elems() > 0 {
                    let detail = format!("result {k} overwrites argument {a}, which the region does not allow");
                    return Err(Error::internal("cpu compile", detail));
                }
            }
        }
        Ok(bound)
    }

    /// True if any argument shares its memory with a result: then the result must not be written before all is read.
    pub(super) fn is_in_place(&self) -> bool {
        (0..self.args.len()).any(|a| self.overwrites(a).is_some())
    }

    /// The result that shares the memory of argument `a`.
    pub(super) fn overwrites(&self, a: usize) -> Option<usize> {
        let buffer = self.args[a].buffer.as_ref()?;
        self.outs.iter().position(|o| Arc::ptr_eq(buffer, &o.buffer))
    }
}
