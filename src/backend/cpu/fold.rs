//! Folding blocks of elements into one value or into a row of values: the inner loops of reductions. Float sums run in
//! 32 lanes of f32 inside a block and in f64 between blocks, so that the error does not grow with the length.

use super::math;
use super::memory::Words;
use super::simd::simd_fn;
use crate::dtype::DType;
use crate::ir::ReduceOp;

/// A reduction of an element type. Partial results are 64 bits: an f64 for floats, else the integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    SumF32,
    ProdF32,
    MaxF32,
    SumInt,
    ProdInt,
    MaxI32,
    MaxU32,
}

simd_fn! {
    /// The sum, in f64 from 32 lanes of f32. Blocks of at most a few thousand elements.
    pub(super) fn sum(x: &[f32]) -> f64 {
        let mut lanes = [0f32; 32];
        let mut chunks = x.chunks_exact(32);
        for c in &mut chunks {
            for i in 0..32 {
                lanes[i] += c[i];
            }
        }
        let mut tail = 0f64;
        for &v in chunks.remainder() {
            tail += v as f64;
        }
        let mut total = [0f64; 8];
        for i in 0..32 {
            total[i % 8] += lanes[i] as f64;
        }
        ((total[0] + total[4]) + (total[1] + total[5])) + ((total[2] + total[6]) + (total[3] + total[7])) + tail
    }
}

simd_fn! {
    /// The maximum, -inf of nothing, NaN if any is.
    pub(super) fn max(x: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 32];
        let mut chunks = x.chunks_exact(32);
        for c in &mut chunks {
            for i in 0..32 {
                lanes[i] = math::max(lanes[i], c[i]);
            }
        }
        let mut m = f32::NEG_INFINITY;
        for &v in chunks.remainder() {
            m = math::max(m, v);
        }
        for v in lanes {
            m = math::max(m, v);
        }
        m
    }
}

simd_fn! {
    /// `to[i]` += `x[i]`
    pub(super) fn add_row(to: &mut [f32], x: &[f32]) {
        for (a, &v) in to.iter_mut().zip(x) {
            *a += v;
        }
    }
}

simd_fn! {
    /// `to[i]` = max(`to[i]`, `x[i]`)
    pub(super) fn max_row(to: &mut [f32], x: &[f32]) {
        for (a, &v) in to.iter_mut().zip(x) {
            *a = math::max(*a, v);
        }
    }
}

simd_fn! {
    /// `wide[i]` += `narrow[i]`; `narrow[i]` = 0
    pub(super) fn flush(wide: &mut [f64], narrow: &mut [f32]) {
        for (a, v) in wide.iter_mut().zip(narrow.iter_mut()) {
            *a += *v as f64;
            *v = 0.0;
        }
    }
}

impl Fold {
    pub(super) fn new(op: ReduceOp, dtype: DType) -> Fold {
        match (op, dtype) {
            (ReduceOp::Sum, DType::F32) => Fold::SumF32,
            (ReduceOp::Prod, DType::F32) => Fold::ProdF32,
            (ReduceOp::Max, DType::F32) => Fold::MaxF32,
            (ReduceOp::Sum, _) => Fold::SumInt,
            (ReduceOp::Prod, _) => Fold::ProdInt,
            (ReduceOp::Max, DType::I32) => Fold::MaxI32,
            (ReduceOp::Max, _) => Fold::MaxU32,
        }
    }

    /// The value of nothing.
    pub(super) fn start(self) -> u64 {
        match self {
            Fold::SumF32 => 0f64.to_bits(),
            Fold::ProdF32 => 1f64.to_bits(),
            Fold::MaxF32 => f64::NEG_INFINITY.to_bits(),
            Fold::SumInt | Fold::MaxU32 => 0,
            Fold::ProdInt => 1,
            Fold::MaxI32 => i32::MIN as u32 as u64,
        }
    }

    /// One partial result from two, the earlier first.
    pub(super) fn join(self, a: u64, b: u64) -> u64 {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        match self {
            Fold::SumF32 => (x + y).to_bits(),
            Fold::ProdF32 => (x * y).to_bits(),
            Fold::MaxF32 => {
                if x > y || x.is_nan() {
                    a
                } else {
                    b
                }
            }
            Fold::SumInt => (a as u32).wrapping_add(b as u32) as u64,
            Fold::ProdInt => (a as u32).wrapping_mul(b as u32) as u64,
            Fold::MaxI32 => (a as u32 as i32).max(b as u32 as i32) as u32 as u64,
            Fold::MaxU32 => a.max(b),
        }
    }

    /// The word of an element as a partial result.
    fn widen(self, word: u32) -> u64 {
        match self {
            Fold::SumF32 | Fold::ProdF32 | Fold::MaxF32 => (f32::from_bits(word) as f64).to_bits(),
            Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => word as u64,
        }
    }

    /// The word that a partial result ends as.
    pub(super) fn finish(self, acc: u64) -> u32 {
        match self {
            Fold::SumF32 | Fold::ProdF32 | Fold::MaxF32 => (f64::from_bits(acc) as f32).to_bits(),
            Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => acc as u32,
        }
    }

    /// Folds a block into one value.
    ///
    /// # Safety
    /// `block` has `n` words that nobody writes.
    pub(super) unsafe fn block(self, block: Words, n: usize) -> u64 {
        // SAFETY: promised by the caller.
        match self {
            Fold::SumF32 => sum(unsafe { block.f32s(n) }).to_bits(),
            // SAFETY: promised by the caller.
            Fold::MaxF32 => (max(unsafe { block.f32s(n) }) as f64).to_bits(),
            Fold::ProdF32 | Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => {
                // SAFETY: promised by the caller.
                unsafe { block.u32s(n) }.iter().fold(self.start(), |acc, &w| self.join(acc, self.widen(w)))
            }
        }
    }
}

/// Rows added in f32 before they go to f64.
const NARROW_ROWS: usize = 32;

/// A row of values into which rows are folded.
pub(super) struct RowFold {
    fold: Fold,
    narrow: Vec<f32>,
    wide: Vec<f64>,
    other: Vec<u64>,
    pending: usize,
}

impl RowFold {
    pub(super) fn new(fold: Fold, width: usize) -> RowFold {
        let start = if fold == Fold::MaxF32 { f32::NEG_INFINITY } else { 0.0 };
        let float = matches!(fold, Fold::SumF32 | Fold::MaxF32);
        RowFold {
            fold,
            narrow: if float { vec![start; width] } else { Vec::new() },
            wide: if fold == Fold::SumF32 { vec![0.0; width] } else { Vec::new() },
            other: if float { Vec::new() } else { vec![fold.start(); width] },
            pending: 0,
        }
    }

    /// Folds one row.
    ///
    /// # Safety
    /// `row` has as many words as this has values, and nobody writes them.
    #[inline(always)]
    pub(super) unsafe fn row(&mut self, row: Words) {
        match self.fold {
            Fold::SumF32 => {
                // SAFETY: promised by the caller.
                add_row(&mut self.narrow, unsafe { row.f32s(self.wide.len()) });
                self.pending += 1;
                if self.pending == NARROW_ROWS {
                    flush(&mut self.wide, &mut self.narrow);
                    self.pending = 0;
                }
            }
            Fold::MaxF32 => {
                let n = self.narrow.len();
                // SAFETY: promised by the caller.
                max_row(&mut self.narrow, unsafe { row.f32s(n) });
            }
            Fold::ProdF32 | Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => {
                // SAFETY: promised by the caller.
                let words = unsafe { row.u32s(self.other.len()) };
                for (acc, &w) in self.other.iter_mut().zip(words) {
                    *acc = self.fold.join(*acc, self.fold.widen(w));
                }
            }
        }
    }

    /// The partial results.
    pub(super) fn partials(mut self) -> Vec<u64> {
        match self.fold {
            Fold::SumF32 => {
                flush(&mut self.wide, &mut self.narrow);
                self.wide.iter().map(|x| x.to_bits()).collect()
            }
            Fold::MaxF32 => self.narrow.iter().map(|&x| (x as f64).to_bits()).collect(),
            Fold::ProdF32 | Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => self.other,
        }
    }
}
