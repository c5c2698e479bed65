//! Executes programs block by block. A runner belongs to one task on one thread; its registers come from a pool of the
//! thread, so that nothing is allocated per run once the pool is warm.

use super::lanes::{self, Convert};
use super::memory::Words;
use super::program::{BLOCK, Inst, Op, Program, Stream, Uniform};
use super::source::{Arg, FEW_ROWS};
use crate::ir::Unary;
use std::cell::RefCell;

thread_local! {
    static POOL: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

/// Scratch memory of a task, given back to the thread's pool when dropped.
pub(super) struct Scratch {
    words: Vec<u32>,
    skip: usize,
}

impl Scratch {
    /// At least `len` words with unspecified content, on a cache line's start.
    pub(super) fn new(len: usize) -> Scratch {
        let mut words = POOL.with(|pool| pool.borrow_mut().pop()).unwrap_or_default();
        if words.len() < len + 16 {
            words.resize(len + 16, 0);
        }
        let skip = words.as_ptr().align_offset(64).min(16);
        Scratch { words, skip }
    }

    pub(super) fn ptr(&mut self) -> Words {
        Words(self.words[self.skip..].as_mut_ptr())
    }

    /// The first `len` words as floats.
    pub(super) fn f32s(&mut self, len: usize) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.words[self.skip..self.skip + len])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        // A thread that is being torn down has no pool any more; the memory is then simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < 8 {
                pool.push(words);
            }
        });
    }
}

/// A program being run by one task.
pub(super) struct Runner<'a> {
    program: &'a Program,
    args: &'a [Arg],
    /// Keeps the registers that `slots` points into.
    _scratch: Scratch,
    /// Keeps what [`Runner::stage`] has gathered.
    staged: Vec<Scratch>,
    /// Where each slot is for the current block.
    slots: Vec<Words>,
    /// For each stream, where it lies if it can be read in place.
    direct: Vec<Option<Words>>,
}

impl<'a> Runner<'a> {
    /// A runner for blocks of at most `width` elements (at most [`BLOCK`]).
    pub(super) fn new(program: &'a Program, args: &'a [Arg], width: usize) -> Runner<'a> {
        let own = program.registers + program.streams.len();
        let mut scratch = Scratch::new(own * BLOCK);
        let base = scratch.ptr();
        let mut slots: Vec<Words> = (0..own).map(|i| base.at(i * BLOCK)).collect();
        if program.direct {
            slots.resize(own + program.results.len(), base);
        }
        let direct = program
            .streams
            .iter()
            .map(|s| match s {
                Stream::Arg { arg, copied: false } => args[*arg].direct(),
                Stream::Arg { .. } | Stream::Accumulator => None,
            })
            .collect();
        let mut runner = Runner { program, args, _scratch: scratch, staged: Vec::new(), slots, direct };
        runner.fill_uniforms(width.min(BLOCK));
        runner
    }

    /// Gathers the elements `start .. end` of operands that are better gathered many rows at a time. Until the next call,
    /// blocks lie inside of that range.
    pub(super) fn stage(&mut self, start: usize, end: usize) {
        self.staged.clear();
        for (stream, direct) in self.program.streams.iter().zip(&mut self.direct) {
            let Stream::Arg { arg, copied: false } = stream else { continue };
            let arg = &self.args[*arg];
            if arg.turns() && end - start >= FEW_ROWS * arg.row_len() {
                let mut scratch = Scratch::new(end - start);
                arg.gather(start, bytemuck::cast_slice_mut(scratch.f32s(end - start)));
                *direct = Some(scratch.ptr().by(-(start as isize)));
                self.staged.push(scratch);
            }
        }
    }

    /// Where all the elements of a program's only result lie, if it does nothing and reads them in place.
    pub(super) fn direct(program: &Program, args: &[Arg]) -> Option<Words> {
        match (&program.streams[..], program.insts.is_empty() && !program.direct, &program.results[..]) {
            (&[Stream::Arg { arg, copied: false }], true, &[slot]) if slot as usize == program.registers => {
                args[arg].direct()
            }
            _ => None,
        }
    }

    fn fill_uniforms(&mut self, width: usize) {
        for uniform in &self.program.uniforms {
            let (slot, bits) = match uniform {
                Uniform::Bits(slot, bits) => (*slot, *bits),
                Uniform::Arg(slot, arg) => {
                    let mut one = [0];
                    self.args[*arg].gather(0, &mut one);
                    (*slot, one[0])
                }
                Uniform::Inst(inst) => {
                    // SAFETY: registers of at least one word each.
                    unsafe { self.execute(inst, 0, 1) };
                    // SAFETY: as above.
                    (inst.dst, unsafe { *self.slots[inst.dst as usize].0 })
                }
            };
            // SAFETY: a register has BLOCK words, and belongs to this runner.
            unsafe { self.slots[slot as usize].u32s_mut(width) }.fill(bits);
        }
    }

    /// Runs the block of `len` elements from `start` of the row-major order. `accumulator` is where the kernel's own
    /// values of this block lie; `outs` is where the block's results go, if the program writes them.
    ///
    /// # Safety
    /// `len` is at most the runner's width; `start + len` is at most the number of elements of the operands;
    /// `accumulator` and each of `outs` have `len` words that no other thread touches.
    pub(super) unsafe fn block(&mut self, start: usize, len: usize, accumulator: Option<Words>, outs: &[Words]) {
        let registers = self.program.registers;
        for (i, stream) in self.program.streams.iter().enumerate() {
            let slot = registers + i;
            if let Some(p) = self.direct[i] {
                self.slots[slot] = p.at(start);
                continue;
            }
            // SAFETY: a stream has BLOCK words of scratch, distinct from every other slot's.
            let own = unsafe { self.slots[slot].u32s_mut(len) };
            match (stream, accumulator) {
                (Stream::Arg { arg, .. }, _) => self.args[*arg].gather(start, own),
                // SAFETY: promised by the caller.
                (Stream::Accumulator, Some(p)) => own.copy_from_slice(unsafe { p.u32s(len) }),
                (Stream::Accumulator, None) => own.fill(0),
            }
        }
        let first = registers + self.program.streams.len();
        for (k, out) in outs.iter().enumerate() {
            self.slots[first + k] = *out;
        }
        for inst in &self.program.insts {
            // SAFETY: all slots have `len` words: registers by their size, streams and results by the caller's promise.
            unsafe { self.execute(inst, start, len) };
        }
    }

    /// Where result `k` of the last block lies.
    #[inline(always)]
    pub(super) fn result(&self, k: usize) -> Words {
        self.slots[self.program.results[k] as usize]
    }

    /// # Safety
    /// Every slot that the instruction names has `n` words; its destination is none of its sources (by `allocate`), but
    /// for copies and choices.
    unsafe fn execute(&self, inst: &Inst, start: usize, n: usize) {
        let slot = |i: usize| self.slots[inst.args[i] as usize];
        let dst = self.slots[inst.dst as usize];
        // SAFETY: as promised; slices are made only of the operands that the operation has.
        unsafe {
            match inst.op {
                Op::Unary(op @ (Unary::Sin | Unary::Cos)) => {
                    let (out, a) = (dst.f32s_mut(n), slot(0).f32s(n));
                    lanes::unary_f32(op, out, a);
                    if !lanes::trig_fits(a) {
                        lanes::patch_trig(op, out, a);
                    }
                }
                Op::Unary(op) => lanes::unary_f32(op, dst.f32s_mut(n), slot(0).f32s(n)),
                Op::UnaryInt(op) => lanes::unary_i32(op, dst.u32s_mut(n), slot(0).u32s(n)),
                Op::Not => lanes::not(dst.u32s_mut(n), slot(0).u32s(n)),
                Op::IsFinite => lanes::is_finite(dst.u32s_mut(n), slot(0).u32s(n)),
                Op::Binary(op) => lanes::binary_f32(op, dst.f32s_mut(n), slot(0).f32s(n), slot(1).f32s(n)),
                Op::Compare(op) => lanes::compare_f32(op, dst.u32s_mut(n), slot(0).f32s(n), slot(1).f32s(n)),
                Op::BinaryInt(op) => lanes::binary_i32(op, dst.u32s_mut(n), slot(0).u32s(n), slot(1).u32s(n)),
                Op::BinaryUnsigned(op) => lanes::binary_u32(op, dst.u32s_mut(n), slot(0).u32s(n), slot(1).u32s(n)),
                Op::MulAdd => lanes::mul_add(dst.f32s_mut(n), slot(0).f32s(n), slot(1).f32s(n), slot(2).f32s(n)),
                Op::Choose => {
                    let from = if *slot(0).0 != 0 { slot(1) } else { slot(2) };
                    // The value may have been computed where it is wanted.
                    if from.0 != dst.0 {
                        dst.u32s_mut(n).copy_from_slice(from.u32s(n));
                    }
                }
                Op::Select => lanes::select(dst.u32s_mut(n), slot(0).u32s(n), slot(1).u32s(n), slot(2).u32s(n)),
                // A result that is the operand whose place it takes.
                Op::Convert(Convert::Copy) if slot(0).0 == dst.0 => {}
                Op::Convert(c) => lanes::convert(c, dst.u32s_mut(n), slot(0).u32s(n)),
                Op::Random { arg, stream } => {
                    let mut counter = [0; 4];
                    self.args[arg].gather(0, &mut counter);
                    let out = dst.u32s_mut(n);
                    // The generator works in blocks of four words; a block of ours may start inside one.
                    let head = (start.next_multiple_of(4) - start).min(n);
                    for (i, o) in out[..head].iter_mut().enumerate() {
                        *o = crate::rng::word(counter, stream, (start + i) as u32);
                    }
                    lanes::random(&mut out[head..], start + head, counter, stream);
                }
            }
        }
    }
}
