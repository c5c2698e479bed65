//! Folding elements into one value or into a row of values: the inner loops of reductions. Float sums run in lanes of f32
//! for a few dozen elements and in f64 between, so that the error does not grow with the length.

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

/// Elements per f32 sum: with 64 lanes, 32 additions each.
pub(super) const STRETCH: usize = 2048;

/// The sum of eight lanes.
#[inline(always)]
pub(super) fn join(x: [f64; 8]) -> f64 {
    ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]))
}

/// `sum_of!(64, |x, y| name: expression of x and y, ..)`: the sum of each expression over the elements of the slices x and
/// y, in f64 from so many lanes of f32 (all names together fill the registers at 64). For bodies of `simd_fn!`.
macro_rules! sum_of {
    ($lanes:literal, |$($x:ident),+| $($sum:ident: $e:expr),+) => {{
        const LANES: usize = $lanes;
        let n = usize::MAX$(.min($x.len()))+;
        // Lanes of f64, and what is left over at the end.
        $(let mut $sum = ([0f64; 8], 0f64);)+
        let mut from = 0;
        while from < n {
            let len = (n - from).min($crate::backend::cpu::fold::STRETCH);
            $(let $x = $x[from..from + len].as_chunks::<LANES>();)+
            if len >= LANES {
                $(let mut $sum = (&mut $sum.0, [0f32; LANES]);)+
                for c in 0..len / LANES {
                    $(let $x = &$x.0[c];)+
                    for k in 0..LANES {
                        $(let $x = $x[k];)+
                        $($sum.1[k] += $e;)+
                    }
                }
                for c in 0..LANES / 8 {
                    for k in 0..8 {
                        $($sum.0[k] += $sum.1[c * 8 + k] as f64;)+
                    }
                }
            }
            $(let $x = $x.1.as_chunks::<8>();)+
            for c in 0..len % LANES / 8 {
                $(let $x = &$x.0[c];)+
                for k in 0..8 {
                    $(let $x = $x[k];)+
                    $($sum.0[k] += ($e) as f64;)+
                }
            }
            for k in 0..len % 8 {
                $(let $x = $x.1[k];)+
                $($sum.1 += ($e) as f64;)+
            }
            from += len;
        }
        ($($crate::backend::cpu::fold::join($sum.0) + $sum.1),+)
    }};
}
pub(super) use sum_of;

simd_fn! {
    /// The sum. Fours are added first: lanes of f32 then last twice as long at the same error, and the sums of lanes cost half.
    pub(super) fn sum(x: &[f32]) -> f64 {
        let (stretches, x) = x.as_chunks::<{ 2 * STRETCH }>();
        let mut wide = [0f64; 8];
        for stretch in stretches {
            let mut lanes = [0f32; 32];
            for c in stretch.as_chunks::<128>().0 {
                for k in 0..32 {
                    lanes[k] += (c[k] + c[k + 32]) + (c[k + 64] + c[k + 96]);
                }
            }
            for c in 0..4 {
                for k in 0..8 {
                    wide[k] += lanes[c * 8 + k] as f64;
                }
            }
        }
        join(wide) + sum_of!(64, |x| total: x)
    }
}

simd_fn! {
    /// The maximum, -inf of nothing, NaN if any is.
    pub(super) fn max(x: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 64];
        let (chunks, rest) = x.as_chunks::<64>();
        for c in chunks {
            for i in 0..64 {
                lanes[i] = math::max(lanes[i], c[i]);
            }
        }
        let (eights, rest) = rest.as_chunks::<8>();
        for c in eights {
            for i in 0..8 {
                lanes[i] = math::max(lanes[i], c[i]);
            }
        }
        for half in [32, 16, 8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] = math::max(lanes[i], lanes[i + half]);
            }
        }
        rest.iter().fold(lanes[0], |m, &v| math::max(m, v))
    }
}

simd_fn! {
    /// `to[i]` += the sum of rows of x, each `step` elements after the one before it; eight at a time.
    fn add_rows(to: &mut [f32], x: &[f32], step: usize) {
        let n = to.len();
        let rows = (x.len() - n) / step + 1;
        let row = |r: usize| &x[r * step..r * step + n];
        let eights = rows / 8 * 8;
        let mut r = 0;
        while r < eights {
            let (a, b, c, d) = (row(r), row(r + 1), row(r + 2), row(r + 3));
            let (e, f, g, h) = (row(r + 4), row(r + 5), row(r + 6), row(r + 7));
            for i in 0..n {
                to[i] += ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]));
            }
            r += 8;
        }
        while r < rows {
            for (a, &v) in to.iter_mut().zip(row(r)) {
                *a += v;
            }
            r += 1;
        }
    }
}

simd_fn! {
    /// `to[i]` += `x[i]`
    fn add_wide(to: &mut [f64], x: &[f64]) {
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

    /// Folds `rows` rows, each `step` words after the one before it.
    ///
    /// # Safety
    /// Each row has as many words as this has values; nobody writes from the first to the last of all of them.
    pub(super) unsafe fn rows(&mut self, first: Words, rows: usize, step: usize) {
        match self.fold {
            Fold::SumF32 => {
                let mut done = 0;
                while done < rows {
                    let n = (NARROW_ROWS - self.pending).min(rows - done);
                    let len = (n - 1) * step + self.narrow.len();
                    // SAFETY: promised by the caller; what lies between the rows is the same operand's.
                    add_rows(&mut self.narrow, unsafe { first.at(done * step).f32s(len) }, step);
                    self.pending += n;
                    if self.pending == NARROW_ROWS {
                        flush(&mut self.wide, &mut self.narrow);
                        self.pending = 0;
                    }
                    done += n;
                }
            }
            Fold::MaxF32 => {
                let n = self.narrow.len();
                // SAFETY: promised by the caller.
                (0..rows).for_each(|r| max_row(&mut self.narrow, unsafe { first.at(r * step).f32s(n) }));
            }
            Fold::ProdF32 | Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => {
                for r in 0..rows {
                    // SAFETY: promised by the caller.
                    let words = unsafe { first.at(r * step).u32s(self.other.len()) };
                    for (acc, &w) in self.other.iter_mut().zip(words) {
                        *acc = self.fold.join(*acc, self.fold.widen(w));
                    }
                }
            }
        }
    }

    /// Folds what another has folded after this.
    pub(super) fn join(&mut self, mut later: RowFold) {
        match self.fold {
            Fold::SumF32 => {
                flush(&mut self.wide, &mut self.narrow);
                flush(&mut later.wide, &mut later.narrow);
                add_wide(&mut self.wide, &later.wide);
            }
            Fold::MaxF32 => max_row(&mut self.narrow, &later.narrow),
            Fold::ProdF32 | Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => {
                for (acc, &v) in self.other.iter_mut().zip(&later.other) {
                    *acc = self.fold.join(*acc, v);
                }
            }
        }
    }

    /// Writes the words that the values end as.
    pub(super) fn finish(mut self, out: &mut [u32]) {
        match self.fold {
            Fold::SumF32 => {
                flush(&mut self.wide, &mut self.narrow);
                out.iter_mut().zip(&self.wide).for_each(|(o, &x)| *o = (x as f32).to_bits());
            }
            Fold::MaxF32 => out.iter_mut().zip(&self.narrow).for_each(|(o, &x)| *o = x.to_bits()),
            Fold::ProdF32 | Fold::SumInt | Fold::ProdInt | Fold::MaxI32 | Fold::MaxU32 => {
                out.iter_mut().zip(&self.other).for_each(|(o, &acc)| *o = self.fold.finish(acc));
            }
        }
    }
}
