//! Softmax over groups of rows that an index names: what attention over an edge list needs. There is no scatter of maxima;
//! rows are sorted by their group (stably, so that runs give the same bits) and maxima run along the sorted rows.

use crate::dtype::DType;
use crate::ir::{Prim, Tensor};
use std::panic::Location;

impl Tensor {
    /// Softmax of the scores `[E, H]` over the rows with the same `segment` (i32 `[E]`, below `count`). Where `valid`
    /// (bool `[E]`) is false the result is 0 and the row counts for nothing; its segment must be in range all the same.
    /// Large scores do not overflow: the maximum of each segment is subtracted first.
    #[track_caller]
    pub fn segment_softmax(&self, segment: &Tensor, count: usize, valid: Option<&Tensor>) -> Tensor {
        const OP: &str = "segment_softmax";
        let loc = Location::caller();
        let e = segment.elems();
        if self.rank() != 2 || segment.rank() != 1 || segment.dtype() != DType::I32 || self.size(0) != e {
            let detail = format!("needs scores [E,H] and i32 [E], got {} and {}", self.ty(), segment.ty());
            return self.fail(OP, detail, loc);
        }
        if let Some(v) = valid.filter(|v| v.dtype() != DType::Bool || v.shape()[..] != [e]) {
            return self.fail(OP, format!("validity must be bool [{e}], got {}", v.ty()), loc);
        }
        if e == 0 {
            return self.clone();
        }
        let scores = match valid {
            Some(v) => v.unsqueeze(1).select(self, &self.like(f64::NEG_INFINITY)),
            None => self.clone(),
        };
        let max = scores.detach().segment_max(segment, count).take(segment);
        // A segment of -inf alone: 0, not NaN.
        let dead = max.eq(&max.like(f64::NEG_INFINITY));
        let exps = (scores - dead.select(&max.like(0.0), &max)).exp();
        let sums = self.builder().apply(Prim::ScatterAdd { rows: count }, &[&exps, segment]).take(segment);
        exps / dead.select(&sums.like(1.0), &sums)
    }

    /// The largest of the rows `[E, H]` with each segment, `[count, H]`; -inf for a segment without rows. Not
    /// differentiable.
    #[track_caller]
    fn segment_max(&self, segment: &Tensor, count: usize) -> Tensor {
        let (b, e) = (self.builder(), self.size(0));
        let (sorted, order) = segment.sort(0, false);
        let mut max = self.take(&order);
        // After round k each row holds the maximum of itself and the 2^k - 1 rows before it in its segment.
        let mut reach = 1;
        while reach < e {
            let shifted = |t: &Tensor, fill: f64| {
                let mut lo = vec![0; t.rank()];
                lo[0] = reach as i64;
                t.narrow(0, 0, e - reach).pad(&lo, &vec![0; t.rank()], fill)
            };
            let same = shifted(&sorted, -1.0).eq(&sorted).unsqueeze(1);
            max = same.select(&max.maximum(&shifted(&max, f64::NEG_INFINITY)), &max);
            reach *= 2;
        }
        // The last row of each segment holds its maximum, and is the only one that counts in the sums.
        let last = match e {
            1 => sorted.eq(&sorted),
            _ => {
                let differs = sorted.narrow(0, 1, e - 1).eq(&sorted.narrow(0, 0, e - 1)).not();
                differs.cast(DType::F32).pad(&[0], &[1], 1.0).gt(&b.full([e], 0.5))
            }
        };
        let add = |rows: &Tensor| b.apply(Prim::ScatterAdd { rows: count }, &[rows, &sorted]);
        let found = add(&last.unsqueeze(1).select(&max, &max.like(0.0)));
        let present = add(&last.cast(DType::F32)).gt(&b.full([count], 0.5));
        present.unsqueeze(1).select(&found, &found.like(f64::NEG_INFINITY))
    }
}
