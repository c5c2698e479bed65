//! Other forms of attention, which also return their weights: additive, with distance decay, windowed, linear, and over
//! a graph. Plain primitives: the weights are a result, so nothing is saved by not storing them.

use crate::dtype::DType;
use crate::ir::{Builder, Tensor};
use crate::ops::PadMode;
use std::panic::Location;

impl Tensor {
    /// Softmax along the last dimension over the elements where `mask` (bool, broadcast) is true; rows without any are 0.
    #[track_caller]
    pub fn masked_softmax(&self, mask: &Tensor) -> Tensor {
        let (mask, x) = mask.broadcast_with(self, "masked_softmax");
        let x = mask.select(&x, &x.like(f64::NEG_INFINITY));
        let max = x.amax(&[-1], true).detach();
        let dead = max.eq(&max.like(f64::NEG_INFINITY));
        let e = (x - dead.select(&max.like(0.0), &max)).exp();
        let total = e.sum(&[-1], true);
        e / dead.select(&total.like(1.0), &total)
    }

    /// `e_ij = v . tanh(w_q q_i + w_k k_j)`: softmax over j times `value`, and the weights. `w_q`, `w_k` are `[A, D]`.
    #[track_caller]
    pub fn additive_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        [w_q, w_k, v]: [&Tensor; 3],
        mask: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let (q, k) = (self.linear(w_q, None), key.linear(w_k, None));
        let e = (q.unsqueeze(-2) + k.unsqueeze(-3)).tanh().matmul(v);
        let weights = match mask {
            Some(m) => e.masked_softmax(m),
            None => e.softmax(-1),
        };
        (weights.matmul(value), weights)
    }

    /// `e_ij = (q_i . k_j / sqrt(D)) exp(-decay d(i, j))`: softmax over j times `value`, and the weights. d is |i - j|, or on a
    /// grid (of this width) the distance of the pixels (i div W, i mod W).
    #[track_caller]
    pub fn distance_decay_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        decay: f64,
        grid_width: Option<usize>,
    ) -> (Tensor, Tensor) {
        self.distance_decay_attention_by(key, value, &self.builder().full([], decay), grid_width)
    }

    /// [`Tensor::distance_decay_attention`] with a decay that is a tensor (f32) and broadcasts to the scores `[.., L, S]`.
    #[track_caller]
    pub fn distance_decay_attention_by(
        &self,
        key: &Tensor,
        value: &Tensor,
        decay: &Tensor,
        grid_width: Option<usize>,
    ) -> (Tensor, Tensor) {
        let distance = distances(self.builder(), self.size(-2), key.size(-2), grid_width);
        let scores = self.matmul(&key.t()) / (self.size(-1) as f64).sqrt();
        let weights = (scores * (distance * -decay).exp()).softmax(-1);
        (weights.matmul(value), weights)
    }

    /// Scaled dot-product attention to the keys with |i - j| <= window (and j <= i if causal), and the weights.
    #[track_caller]
    pub fn windowed_attention(&self, key: &Tensor, value: &Tensor, window: usize, is_causal: bool) -> (Tensor, Tensor) {
        let (i, j) = positions(self, key);
        let distance = (&i - &j).abs();
        let mut seen = distance.le(&distance.like(window as f64));
        if is_causal {
            seen = seen.and(&j.le(&i));
        }
        let scores = self.matmul(&key.t()) / (self.size(-1) as f64).sqrt();
        let weights = scores.masked_softmax(&seen);
        (weights.matmul(value), weights)
    }

    /// Attention with the kernel f(x) = elu(x) + 1 in the place of the exponential, in time linear in the length
    /// (Katharopoulos et al., arXiv 2006.16236). Causal ones go by pieces of 64 positions: inside a piece by scores,
    /// before it by the sums of f(k) v^T and f(k) up to its start.
    #[track_caller]
    pub fn linear_attention(&self, key: &Tensor, value: &Tensor, is_causal: bool) -> Tensor {
        let (q, k) = (self.elu(1.0) + 1.0, key.elu(1.0) + 1.0);
        if is_causal && self.size(-2) == key.size(-2) && self.size(-2) > 2 * PIECE {
            return causal_by_pieces(&q, &k, value);
        }
        if is_causal {
            let a = q.matmul(&k.t()).tril(0);
            return a.matmul(value) / a.sum(&[-1], true);
        }
        let total = k.sum(&[-2], true);
        q.matmul(&k.t().matmul(value)) / (q * total).sum(&[-1], true)
    }

    /// One head of graph attention over the nodes `[N, F]`: `h = x W^T`, `e_ij = leaky_relu(a_1 . h_i + a_2 . h_j)`, softmax
    /// over the j that `adjacency [N, N]` joins to i. Returns the weighted sums of h, and the weights.
    #[track_caller]
    pub fn graph_attention(&self, weight: &Tensor, a: &Tensor, adjacency: &Tensor, slope: f64) -> (Tensor, Tensor) {
        let o = weight.size(0);
        if a.shape()[..] != [2 * o] {
            let detail = format!("a must have {} elements, got {}", 2 * o, a.ty());
            let bad = self.fail("graph_attention", detail, Location::caller());
            return (bad.clone(), bad);
        }
        let h = self.linear(weight, None);
        let (from, to) = (h.matmul(&a.narrow(0, 0, o)), h.matmul(&a.narrow(0, o, o)));
        let weights = (from.unsqueeze(1) + to.unsqueeze(0)).leaky_relu(slope).masked_softmax(adjacency);
        (weights.matmul(&h), weights)
    }
}

/// Positions of a piece of [`Tensor::linear_attention`].
const PIECE: usize = 64;

/// Causal linear attention of feature maps q, k `[.., L, D]` and v `[.., L, E]` of equal length.
#[track_caller]
fn causal_by_pieces(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let len = q.size(-2);
    let n = len.div_ceil(PIECE);
    // Zeros after the end add nothing to any sum.
    let pieces = |t: &Tensor| {
        let padded = t.pad_with(&[(0, 0), (0, (n * PIECE - len) as i64)], PadMode::Constant(0.0));
        let mut shape = t.shape().to_vec();
        let width = shape[t.rank() - 1];
        shape.truncate(t.rank() - 2);
        shape.extend([n, PIECE, width]);
        padded.reshape(shape)
    };
    let whole = |t: Tensor| {
        let mut shape = t.shape().to_vec();
        let width = shape[t.rank() - 1];
        shape.truncate(t.rank() - 3);
        shape.extend([n * PIECE, width]);
        t.reshape(shape).narrow(-2, 0, len)
    };
    // What came before each piece: sums along the pieces, moved on by one.
    let before = |sums: Tensor| {
        let upto = sums.cumsum(-3).narrow(-3, 0, n - 1);
        upto.pad_with(&[(0, 0), (0, 0), (1, 0)], PadMode::Constant(0.0))
    };
    let (q, k, v) = (pieces(q), pieces(k), pieces(v));
    let inside = q.matmul(&k.t()).tril(0);
    let sums = inside.matmul(&v) + q.matmul(&before(k.t().matmul(&v)));
    let weights = inside.sum(&[-1], true) + (&q * before(k.sum(&[-2], true))).sum(&[-1], true);
    whole(sums) / whole(weights)
}

/// `f32[L, S]`: the distance of query i and key j, |i - j|, or on a grid of this width that of the pixels
/// (i div W, i mod W).
#[track_caller]
pub fn distances(builder: &Builder, queries: usize, keys: usize, grid_width: Option<usize>) -> Tensor {
    let (i, j) = (builder.iota(queries).unsqueeze(1), builder.iota(keys).unsqueeze(0));
    match grid_width {
        None => (i - j).abs().cast(DType::F32),
        Some(w) => {
            let w = w.max(1) as f64;
            let row = &i / w - &j / w;
            let column = i.rem(&i.like(w)) - j.rem(&j.like(w));
            (&row * &row + &column * &column).cast(DType::F32).sqrt()
        }
    }
}

/// Positions of queries `[L, 1]` and keys `[1, S]` (i32).
fn positions(query: &Tensor, key: &Tensor) -> (Tensor, Tensor) {
    let of = |t: &Tensor| query.builder().iota(t.size(-2));
    (of(query).unsqueeze(1), of(key).unsqueeze(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::reference::{Array, Precision, eval};
    use crate::grad::grad;
    use crate::ir::OutputKind;

    /// By pieces and by all scores, with derivatives, at lengths that end inside a piece and at its end.
    #[test]
    fn causal_linear_attention_by_pieces_is_that_by_scores() {
        for len in [129, 192, 200] {
            let b = Builder::new();
            let x: Vec<Tensor> =
                [3, 3, 2].iter().enumerate().map(|(i, &w)| b.feed(format!("{i}"), DType::F32, [2, len, w])).collect();
            let pieces = x[0].linear_attention(&x[1], &x[2], true);
            let (q, k) = (x[0].elu(1.0) + 1.0, x[1].elu(1.0) + 1.0);
            let a = q.matmul(&k.t()).tril(0);
            let scores = a.matmul(&x[2]) / a.sum(&[-1], true);
            let mut outs = Vec::new();
            for y in [pieces, scores] {
                let wave = (b.iota(y.elems()).cast(DType::F32) * 0.7).sin().reshape(y.shape());
                let by = grad(&(&y * wave).sum(&[], false), &[&x[0], &x[1], &x[2]]);
                outs.extend([y].into_iter().chain(by));
            }
            outs.iter().enumerate().for_each(|(i, t)| b.output(format!("{i}"), OutputKind::Fetch, t));
            let fill = |w: usize, k: f64| {
                Array::floats(vec![2, len, w], (0..2 * len * w).map(|i| (i as f64 * k + 0.3).sin()).collect())
            };
            let inputs = [fill(3, 0.37), fill(3, 0.59), fill(2, 0.83)];
            let outs = eval(&b.build().unwrap(), &inputs, Precision::F64).unwrap();
            for (k, (a, b)) in outs[..4].iter().zip(&outs[4..]).enumerate() {
                let far = a.as_floats().iter().zip(b.as_floats()).find(|(a, b)| !((*a - *b).abs() < 1e-10));
                assert_eq!((far, a.as_floats().len()), (None, b.as_floats().len()), "length {len}, result {k}");
            }
        }
    }
}
