//! torch's functions that rearrange elements: sizes with -1, rolling, triangles, pieces, padding modes, and indexing by
//! tensors. On top of the plain methods of `movement.rs`.

use crate::dtype::DType;
use crate::ir::{Prim, Tensor};
use crate::shape::Shape;
use std::panic::Location;

/// What [`Tensor::pad_with`] puts around a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PadMode {
    /// This value.
    Constant(f64),
    /// The tensor mirrored at its edge, the edge itself not repeated.
    Reflect,
    /// The element at the edge.
    Replicate,
    /// The tensor repeated, as if its ends were joined.
    Circular,
}

impl PadMode {
    /// The mode of this torch name; `value` is that of `constant`, and of `zeros` it is 0.
    pub fn named(name: &str, value: f64) -> Option<PadMode> {
        Some(match name {
            "constant" => PadMode::Constant(value),
            "zeros" => PadMode::Constant(0.0),
            "reflect" => PadMode::Reflect,
            "replicate" => PadMode::Replicate,
            "circular" => PadMode::Circular,
            _ => return None,
        })
    }
}

impl Tensor {
    /// The same elements in another shape, in which one size may be -1: what is left.
    #[track_caller]
    pub fn view(&self, sizes: &[isize]) -> Tensor {
        let known: usize = sizes.iter().filter(|&&n| n >= 0).map(|&n| n as usize).product();
        let open = sizes.iter().filter(|&&n| n < 0).count();
        let bad = sizes.iter().any(|&n| n < -1) || open > 1;
        if bad || (open == 1 && (known == 0 || !self.elems().is_multiple_of(known))) {
            let detail = format!("{} cannot take the shape {sizes:?}", self.ty());
            return self.fail("reshape", detail, Location::caller());
        }
        let fill = |n: isize| if n < 0 { self.elems() / known } else { n as usize };
        self.reshape(Shape(sizes.iter().map(|&n| fill(n)).collect()))
    }

    /// Repeats dimensions of size 1 to these sizes; -1 keeps a size; more sizes than dimensions add leading ones.
    #[track_caller]
    pub fn expand(&self, sizes: &[isize]) -> Tensor {
        let lead = sizes.len().wrapping_sub(self.rank());
        if sizes.len() < self.rank() || sizes.iter().enumerate().any(|(d, &n)| n < -1 || (n == -1 && d < lead)) {
            let detail = format!("{} cannot expand to {sizes:?}", self.ty());
            return self.fail("expand", detail, Location::caller());
        }
        let size = |(d, &n): (usize, &isize)| if n < 0 { self.shape()[d - lead] } else { n as usize };
        self.broadcast_to(Shape(sizes.iter().enumerate().map(size).collect()))
    }

    /// Elements moved by `shifts[i]` places along `dims[i]`, those that leave at the end re-entering at the start. Without
    /// dimensions the flattened tensor is rolled.
    #[track_caller]
    pub fn roll(&self, shifts: &[i64], dims: &[isize]) -> Tensor {
        let loc = Location::caller();
        if dims.is_empty() && shifts.len() == 1 {
            return self.reshape([self.elems()]).roll(shifts, &[0]).reshape(self.shape());
        }
        if shifts.len() != dims.len() {
            return self.fail("roll", format!("{} shifts for {} dimensions", shifts.len(), dims.len()), loc);
        }
        let mut t = self.clone();
        for (&shift, &dim) in shifts.iter().zip(dims) {
            let n = t.size(self.axis("roll", dim, loc) as isize);
            let by = if n == 0 { 0 } else { shift.rem_euclid(n as i64) as usize };
            if by != 0 {
                t = Tensor::cat(&[&t.narrow(dim, n - by, by), &t.narrow(dim, 0, n - by)], dim);
            }
        }
        t
    }

    /// The elements of the last two dimensions up to diagonal `diagonal`; 0 above it.
    #[track_caller]
    pub fn tril(&self, diagonal: i64) -> Tensor {
        self.triangle("tril", |row, col| col.le(&(row + diagonal as f64)))
    }

    /// The elements of the last two dimensions from diagonal `diagonal` on; 0 below it.
    #[track_caller]
    pub fn triu(&self, diagonal: i64) -> Tensor {
        self.triangle("triu", |row, col| col.ge(&(row + diagonal as f64)))
    }

    #[track_caller]
    fn triangle(&self, op: &str, keep: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
        if self.rank() < 2 {
            return self.fail(op, format!("needs rank >= 2, got {}", self.ty()), Location::caller());
        }
        let row = self.builder().iota(self.size(-2)).unsqueeze(1);
        let col = self.builder().iota(self.size(-1));
        keep(&row, &col).select(self, &self.like(0.0))
    }

    /// Pieces of these sizes along `dim`, one after the other.
    #[track_caller]
    pub fn split_sizes(&self, sizes: &[usize], dim: isize) -> Vec<Tensor> {
        let mut start = 0;
        let n = self.size(dim);
        if sizes.iter().sum::<usize>() != n {
            let detail = format!("pieces {sizes:?} do not add up to dimension {dim} of {}", self.ty());
            let bad = self.fail("split", detail, Location::caller());
            return vec![bad; sizes.len()];
        }
        let piece = |&len: &usize| {
            start += len;
            self.narrow(dim, start - len, len)
        };
        sizes.iter().map(piece).collect()
    }

    /// Pieces of `size` along `dim`, the last one possibly smaller.
    #[track_caller]
    pub fn split(&self, size: usize, dim: isize) -> Vec<Tensor> {
        let n = self.size(dim);
        if size == 0 && n > 0 {
            return vec![self.fail("split", "pieces must not be empty", Location::caller())];
        }
        let sizes: Vec<usize> = (0..n).step_by(size.max(1)).map(|at| size.min(n - at)).collect();
        self.split_sizes(if sizes.is_empty() { &[0] } else { &sizes }, dim)
    }

    /// At most `chunks` pieces of ceil(n / chunks) along `dim`, the last one possibly smaller.
    #[track_caller]
    pub fn chunk(&self, chunks: usize, dim: isize) -> Vec<Tensor> {
        if self.size(dim) == 0 {
            return vec![self.clone(); chunks.max(1)];
        }
        self.split(self.size(dim).div_ceil(chunks.max(1)).max(1), dim)
    }

    /// Pads the last dimensions: pairs (before, after) from the last dimension backwards; negative ones crop.
    #[track_caller]
    pub fn pad_with(&self, pairs: &[(i64, i64)], mode: PadMode) -> Tensor {
        let loc = Location::caller();
        if pairs.len() > self.rank() {
            return self.fail("pad", format!("{} pairs for {}", pairs.len(), self.ty()), loc);
        }
        let (mut lo, mut hi) = (vec![0; self.rank()], vec![0; self.rank()]);
        for (i, &(before, after)) in pairs.iter().enumerate() {
            (lo[self.rank() - 1 - i], hi[self.rank() - 1 - i]) = (before, after);
        }
        if let PadMode::Constant(value) = mode {
            return self.pad(&lo, &hi, value);
        }
        let crop = |v: &[i64]| v.iter().map(|&n| n.min(0)).collect::<Vec<i64>>();
        // Circular padding repeats what is left; the other modes look beyond where they crop.
        let circular = mode == PadMode::Circular;
        let mut t = if circular { self.pad(&crop(&lo), &crop(&hi), 0.0) } else { self.clone() };
        for d in 0..self.rank() {
            let (n, before, after) = (t.shape()[d], lo[d].max(0) as usize, hi[d].max(0) as usize);
            if before + after == 0 {
                continue;
            }
            let dim = d as isize;
            let mut parts = vec![t.clone()];
            match mode {
                PadMode::Reflect if before.max(after) < n => {
                    parts.insert(0, t.narrow(dim, 1, before).flip(&[dim]));
                    parts.push(t.narrow(dim, n - 1 - after, after).flip(&[dim]));
                }
                PadMode::Circular if before.max(after) <= n => {
                    parts.insert(0, t.narrow(dim, n - before, before));
                    parts.push(t.narrow(dim, 0, after));
                }
                PadMode::Replicate if n > 0 => {
                    let edge = |at: usize, len: usize| {
                        let mut shape = t.shape().clone();
                        shape.0[d] = len;
                        t.narrow(dim, at, 1).broadcast_to(shape)
                    };
                    parts.insert(0, edge(0, before));
                    parts.push(edge(n - 1, after));
                }
                _ => return self.fail("pad", format!("padding {pairs:?} is more than {} can give", self.ty()), loc),
            }
            parts.retain(|p| p.shape()[d] > 0);
            t = Tensor::cat(&parts.iter().collect::<Vec<_>>(), dim);
        }
        if circular { t } else { t.pad(&crop(&lo), &crop(&hi), 0.0) }
    }

    /// The slices along `dim` at these positions (i32, one dimension).
    #[track_caller]
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Tensor {
        let loc = Location::caller();
        if index.rank() > 1 {
            return self.fail("index_select", format!("the index must be a vector, got {}", index.ty()), loc);
        }
        let axis = self.axis("index_select", dim, loc) as isize;
        if self.rank() == 0 {
            return self.reshape([1]).index_select(0, index).reshape([]);
        }
        self.transpose(0, axis).take(&index.reshape([index.elems()])).transpose(0, axis)
    }

    /// A copy to which `src` is added: `out[i with i[dim] = index[i]] += src[i]` for all i of `index`, which may be smaller
    /// than `src`.
    #[track_caller]
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Tensor {
        let loc = Location::caller();
        let axis = self.axis("scatter_add", dim, loc);
        if self.rank() == 0 {
            let vectors = [self, index, src].map(Tensor::at_least_vector);
            return vectors[0].scatter_add(0, &vectors[1], &vectors[2]).reshape(self.shape());
        }
        let fits = src.rank() == index.rank() && index.shape().iter().zip(src.shape().iter()).all(|(i, s)| i <= s);
        if !fits || src.dtype() != self.dtype() {
            let detail = format!("index {} and source {} do not fit {}", index.ty(), src.ty(), self.ty());
            return self.fail("scatter_add", detail, loc);
        }
        let r = index.rank();
        let src = if src.shape() == index.shape() {
            src.clone()
        } else {
            src.slice(vec![0; r], index.shape().to_vec(), vec![1; r])
        };
        self + self.builder().apply(Prim::ScatterAddAlong { axis, shape: self.shape().clone() }, &[&src, index])
    }

    /// 1 (i32) at the place that each element (i32) names in a new last dimension of size `classes`, else 0. An element
    /// out of range is an error at run time.
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Tensor {
        let places = self.builder().iota(classes);
        // The place of place i is i; the lookup is there for its check.
        places.take(self).unsqueeze(-1).eq(&places).cast(DType::I32)
    }
}
