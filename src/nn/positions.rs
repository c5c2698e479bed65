//! What tells attention where things stand: positions added to the inputs (sinusoids, or learned), biases of the scores by
//! distance (learned, or falling straight), and rotations of queries and keys.

use crate::dtype::DType;
use crate::ir::{Builder, Tensor, Type};
use crate::nn::linear::place;
use crate::nn::{Embedding, Init, Module, Scope};
use std::panic::Location;

/// Adds sines and cosines of the position to (.., T, dim): `sin(p base^(-2i/dim))` in column 2i, the cosine in 2i+1
/// (arXiv 1706.03762). Buffer: `pe` (max_len, dim), computed in f64 on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct SinusoidalPositions {
    /// Width of the inputs.
    pub dim: usize,
    /// Longest sequence.
    pub max_len: usize,
    /// Where the wave lengths end.
    pub base: f64,
}

impl SinusoidalPositions {
    /// For at most 5000 positions, wave lengths from 2 pi to 2 pi 10000.
    pub fn new(dim: usize) -> SinusoidalPositions {
        SinusoidalPositions { dim, max_len: 5000, base: 10000.0 }
    }
}

impl Module for SinusoidalPositions {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let Some(length) = length(scope, x, self.dim, self.max_len) else { return x.clone() };
        let table = scope.buffer("pe", [self.max_len, self.dim], Init::Sinusoids { base: self.base });
        x + table.narrow(0, 0, length)
    }
}

/// Adds a learned vector per position to (.., T, dim). Parameter: `weight` (max_len, dim).
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedPositions {
    /// Width of the inputs.
    pub dim: usize,
    /// Longest sequence.
    pub max_len: usize,
    /// Standard deviation at the start.
    pub std: f64,
}

impl LearnedPositions {
    /// Drawn from N(0, 0.02^2), as GPT-2.
    pub fn new(dim: usize, max_len: usize) -> LearnedPositions {
        LearnedPositions { dim, max_len, std: 0.02 }
    }
}

impl Module for LearnedPositions {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let Some(length) = length(scope, x, self.dim, self.max_len) else { return x.clone() };
        x + Embedding::new(self.max_len, self.dim).std(self.std).weight(scope).narrow(0, 0, length)
    }
}

/// T of (.., T, dim) if it is at most `max_len`; else records the misfit.
#[track_caller]
fn length(scope: &Scope, x: &Tensor, dim: usize, max_len: usize) -> Option<usize> {
    if x.rank() >= 2 && x.size(-1) == dim && x.size(-2) <= max_len {
        return Some(x.size(-2));
    }
    let detail = format!("{} expects (.., T <= {max_len}, {dim}), got {}", place(scope), x.ty());
    x.fail("positions", detail, Location::caller());
    None
}

/// A learned number for each head and distance j - i, clipped to -max_distance ..= max_distance, to be added to the scores
/// of query i and key j (arXiv 1910.10683, without its buckets). Parameter: `weight` (2 max_distance + 1, heads), zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct RelativeBias {
    /// Number of heads.
    pub heads: usize,
    /// Distances beyond count as this one.
    pub max_distance: usize,
}

impl RelativeBias {
    /// (heads, queries, keys), f32: an `attn_mask` of [`crate::nn::MultiheadOptions`].
    #[track_caller]
    pub fn bias(&self, scope: &Scope, queries: usize, keys: usize) -> Tensor {
        let m = self.max_distance as f64;
        let table = scope.param("weight", [2 * self.max_distance + 1, self.heads], Init::ZEROS);
        let builder = scope.builder();
        let distance = builder.iota(keys).unsqueeze(0) - builder.iota(queries).unsqueeze(1);
        let index = distance.maximum(&distance.like(-m)).minimum(&distance.like(m)) + m;
        table.take(&index).permute(&[2, 0, 1])
    }
}

/// Scores that fall with the distance, by a slope of its own for each head: -m_h d(i, j), m_h = 2^(-8 h / heads) for
/// h = 1 .. heads (ALiBi, arXiv 2108.12409; for numbers of heads that are no power of two its interpolation).
#[derive(Debug, Clone, PartialEq)]
pub struct Alibi {
    /// Number of heads.
    pub heads: usize,
    /// Positions are pixels of an image of this width, row by row, and distances Euclidean; `None`: |i - j|.
    pub grid_width: Option<usize>,
}

impl Alibi {
    /// Over a sequence.
    pub fn new(heads: usize) -> Alibi {
        Alibi { heads, grid_width: None }
    }

    /// The slopes m_h.
    pub fn slopes(&self) -> Vec<f64> {
        let geometric = |n: usize| (1..=n).map(move |h| (-8.0 * h as f64 / n as f64).exp2());
        let power = if self.heads.is_power_of_two() { self.heads } else { self.heads.next_power_of_two() / 2 };
        geometric(power).chain(geometric(2 * power.max(1)).step_by(2)).take(self.heads).collect()
    }

    /// (heads, queries, keys), f32: an `attn_mask` of [`crate::nn::MultiheadOptions`].
    #[track_caller]
    pub fn bias(&self, builder: &Builder, queries: usize, keys: usize) -> Tensor {
        if self.heads == 0 {
            let hint = Type::new(DType::F32, [0, queries, keys]);
            return builder.fail("alibi", "needs at least one head", Location::caller(), &hint);
        }
        let slopes: Vec<Tensor> = self.slopes().iter().map(|m| builder.full([1, 1, 1], -m)).collect();
        let slopes = Tensor::cat(&slopes.iter().collect::<Vec<_>>(), 0);
        slopes * crate::ops::attention_variants::distances(builder, queries, keys, self.grid_width)
    }
}

/// Turns pairs of features by angles that grow with the position, so that scores of rotated queries and keys depend on the
/// distance alone (RoPE, arXiv 2104.09864): pair k of position p turns by p base^(-2k/dim). Buffer: `angles` (max_len, dim),
/// sine and cosine of each angle, computed in f64 on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Width of a head, even.
    pub dim: usize,
    /// Longest sequence.
    pub max_len: usize,
    /// Where the wave lengths end.
    pub base: f64,
    /// Pairs are (2k, 2k + 1), as in the paper, instead of (k, k + dim/2), as in GPT-NeoX and Llama.
    pub interleaved: bool,
}

impl Rotary {
    /// For at most 5000 positions and neighbouring pairs.
    pub fn new(dim: usize) -> Rotary {
        Rotary { dim, max_len: 5000, base: 10000.0, interleaved: true }
    }

    /// The rotated (.., T, dim).
    #[track_caller]
    pub fn rotate(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let (dim, half) = (self.dim, self.dim / 2);
        if !dim.is_multiple_of(2) || dim == 0 {
            let detail = format!("{}: {dim} features do not form pairs", place(scope));
            return x.fail("rotary", detail, Location::caller());
        }
        let Some(length) = length(scope, x, dim, self.max_len) else { return x.clone() };
        let table = scope.buffer("angles", [self.max_len, dim], Init::Sinusoids { base: self.base });
        let table = table.narrow(0, 0, length).reshape([length, half, 2]);
        let of = |t: &Tensor, axis: isize, i: usize| t.narrow(axis, i, 1).squeeze(axis);
        let (sin, cos) = (of(&table, 2, 0), of(&table, 2, 1));
        let (pairs, axis) = if self.interleaved { ([half, 2], -1) } else { ([2, half], -2) };
        let split = x.reshape([&x.shape()[..x.rank() - 1], &pairs].concat());
        let (a, b) = (of(&split, axis, 0), of(&split, axis, 1));
        let turned = [&a * &cos - &b * &sin, &a * &sin + &b * &cos];
        Tensor::stack(&[&turned[0], &turned[1]], axis).reshape(x.shape())
    }
}
