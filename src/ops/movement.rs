//! Methods that move elements without computing: shapes, slices, padding, joining, indexing. Plain primitives only.

use crate::dtype::Scalar;
use crate::error::Loc;
use crate::ir::{Prim, Tensor};
use crate::shape::Shape;
use std::panic::Location;

impl Tensor {
    /// `dim` counted from the front (negative counts from the end), or an error at `loc` and 0.
    pub(crate) fn axis(&self, op: &str, dim: isize, loc: Loc) -> usize {
        let r = self.rank() as isize;
        // A scalar has no dimensions, but torch takes 0 and -1 for it: callers treat it as a vector of one element.
        if r == 0 && (dim == 0 || dim == -1) {
            return 0;
        }
        let d = if dim < 0 { dim + r } else { dim };
        if d < 0 || d >= r {
            self.fail(op, format!("{} has no dimension {dim}", self.ty()), loc);
            return 0;
        }
        d as usize
    }

    /// Several dimensions, sorted and distinct; an empty list means all of them.
    pub(crate) fn axes(&self, op: &str, dims: &[isize], loc: Loc) -> Vec<usize> {
        if dims.is_empty() {
            return (0..self.rank()).collect();
        }
        if self.rank() == 0 {
            for &d in dims {
                self.axis(op, d, loc);
            }
            return Vec::new();
        }
        let mut axes: Vec<usize> = dims.iter().map(|&d| self.axis(op, d, loc)).collect();
        axes.sort_unstable();
        if axes.windows(2).any(|w| w[0] == w[1]) {
            self.fail(op, format!("dimensions {dims:?} of {} repeat", self.ty()), loc);
            axes.dedup();
        }
        axes
    }

    /// A scalar as a vector of one element, anything else as it is: torch lets a scalar pass for one where a dimension is
    /// named.
    #[track_caller]
    pub(crate) fn at_least_vector(&self) -> Tensor {
        if self.rank() == 0 { self.reshape([1]) } else { self.clone() }
    }

    /// The same elements in another shape.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        if shape == *self.shape() { self.clone() } else { self.builder().apply(Prim::Reshape(shape), &[self]) }
    }

    /// Repeats dimensions of size 1, and adds leading ones, to reach `shape`.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Tensor {
        let shape: Shape = shape.into();
        if shape == *self.shape() {
            return self.clone();
        }
        if shape.len() < self.rank() {
            return self.fail("broadcast", format!("{} does not broadcast to {shape}", self.ty()), Location::caller());
        }
        let mut same_rank = vec![1; shape.len() - self.rank()];
        same_rank.extend_from_slice(self.shape());
        let t = self.reshape(same_rank);
        if *t.shape() == shape { t } else { self.builder().apply(Prim::Broadcast(shape), &[&t]) }
    }

    /// A vector as a tensor of `rank` dimensions that varies along `axis` only.
    #[track_caller]
    pub(crate) fn along_axis(&self, axis: usize, rank: usize) -> Tensor {
        let mut shape = vec![1; rank];
        if let Some(n) = shape.get_mut(axis) {
            *n = self.elems();
        }
        self.reshape(shape)
    }

    /// New dimension `d` is old dimension `dims[d]` (negative counts from the end).
    #[track_caller]
    pub fn permute(&self, dims: &[isize]) -> Tensor {
        let loc = Location::caller();
        let perm: Vec<usize> = dims.iter().map(|&d| self.axis("permute", d, loc)).collect();
        if perm.iter().copied().eq(0..self.rank()) {
            self.clone()
        } else {
            self.builder().apply(Prim::Permute(perm), &[self])
        }
    }

    /// Swaps two dimensions.
    #[track_caller]
    pub fn transpose(&self, dim0: isize, dim1: isize) -> Tensor {
        let loc = Location::caller();
        let (a, b) = (self.axis("transpose", dim0, loc), self.axis("transpose", dim1, loc));
        let mut perm: Vec<isize> = (0..self.rank() as isize).collect();
        if a < perm.len() && b < perm.len() {
            perm.swap(a, b);
        }
        self.permute(&perm)
    }

    /// Swaps the last two dimensions.
    #[track_caller]
    pub fn t(&self) -> Tensor {
        self.transpose(-2, -1)
    }

    /// A dimension of size 1 inserted before dimension `dim` (of the result).
    #[track_caller]
    pub fn unsqueeze(&self, dim: isize) -> Tensor {
        let r = self.rank() as isize + 1;
        let d = if dim < 0 { dim + r } else { dim };
        if d < 0 || d >= r {
            return self.fail(
                "unsqueeze",
                format!("no dimension {dim} in the result of {}", self.ty()),
                Location::caller(),
            );
        }
        let mut shape = self.shape().clone();
        shape.0.insert(d as usize, 1);
        self.reshape(shape)
    }

    /// Without dimension `dim`, if its size is 1.
    #[track_caller]
    pub fn squeeze(&self, dim: isize) -> Tensor {
        let d = self.axis("squeeze", dim, Location::caller());
        if self.shape().get(d) == Some(&1) { self.reshape(self.shape().without(&[d])) } else { self.clone() }
    }

    /// Dimensions `start..=end` merged into one.
    #[track_caller]
    pub fn flatten(&self, start: isize, end: isize) -> Tensor {
        if self.rank() == 0 {
            return self.reshape([1]);
        }
        let loc = Location::caller();
        let (a, b) = (self.axis("flatten", start, loc), self.axis("flatten", end, loc));
        if a > b {
            return self.fail("flatten", format!("start {start} lies after end {end}"), loc);
        }
        let s = self.shape();
        let mut shape = s[..a].to_vec();
        shape.push(s[a..=b].iter().product());
        shape.extend_from_slice(&s[b + 1..]);
        self.reshape(shape)
    }

    /// `len` elements of dimension `dim` from `start`.
    #[track_caller]
    pub fn narrow(&self, dim: isize, start: usize, len: usize) -> Tensor {
        self.slice_axis(dim, start, len, 1)
    }

    /// `len` elements of dimension `dim`: start, start + step, ..
    #[track_caller]
    pub fn slice_axis(&self, dim: isize, start: usize, len: usize, step: usize) -> Tensor {
        let d = self.axis("slice", dim, Location::caller());
        let r = self.rank();
        let (mut starts, mut lens, mut steps) = (vec![0; r], self.shape().to_vec(), vec![1; r]);
        if d < r {
            (starts[d], lens[d], steps[d]) = (start, len, step);
        }
        self.slice(starts, lens, steps)
    }

    /// `len[d]` elements of each dimension d: `start[d]`, `start[d]` + `step[d]`, ..
    #[track_caller]
    pub fn slice(&self, start: Vec<usize>, len: Vec<usize>, step: Vec<usize>) -> Tensor {
        self.builder().apply(Prim::Slice { start, len, step }, &[self])
    }

    /// Padded with `value`: `lo[d]` elements before and `hi[d]` after in each dimension (negative crops).
    #[track_caller]
    pub fn pad(&self, lo: &[i64], hi: &[i64], value: f64) -> Tensor {
        self.pad_interior(lo, hi, &vec![0; self.rank()], value)
    }

    /// As [`Tensor::pad`], with `interior[d]` further elements between neighbours.
    #[track_caller]
    pub fn pad_interior(&self, lo: &[i64], hi: &[i64], interior: &[usize], value: f64) -> Tensor {
        let none = lo.iter().chain(hi).all(|&x| x == 0) && interior.iter().all(|&x| x == 0);
        if none && lo.len() == self.rank() {
            return self.clone();
        }
        let value = Scalar::of(self.dtype(), value);
        self.builder()
            .apply(Prim::Pad { lo: lo.to_vec(), hi: hi.to_vec(), interior: interior.to_vec(), value }, &[self])
    }

    /// The order of elements reversed along `dims`.
    #[track_caller]
    pub fn flip(&self, dims: &[isize]) -> Tensor {
        if dims.is_empty() {
            return self.clone();
        }
        let axes = self.axes("flip", dims, Location::caller());
        self.builder().apply(Prim::Reverse(axes), &[self])
    }

    /// Joined along an existing dimension.
    #[track_caller]
    pub fn cat(parts: &[&Tensor], dim: isize) -> Tensor {
        // torch skips empty vectors here, whatever the shapes of the others.
        let counted: Vec<&Tensor> = parts.iter().copied().filter(|p| p.shape()[..] != [0]).collect();
        let parts = if counted.is_empty() { &parts[..1] } else { &counted[..] };
        let axis = parts[0].axis("cat", dim, Location::caller());
        if parts.len() == 1 { parts[0].clone() } else { parts[0].builder().apply(Prim::Concat { axis }, parts) }
    }

    /// Joined along a new dimension.
    #[track_caller]
    pub fn stack(parts: &[&Tensor], dim: isize) -> Tensor {
        let unsqueezed: Vec<Tensor> = parts.iter().map(|t| t.unsqueeze(dim)).collect();
        let refs: Vec<&Tensor> = unsqueezed.iter().collect();
        Tensor::cat(&refs, dim)
    }

    /// Rows of this table `[V, D..]` at `index` (i32, any shape S): `[S.., D..]`. An index out of range is an error at run time.
    #[track_caller]
    pub fn take(&self, index: &Tensor) -> Tensor {
        let rows = self.builder().apply(Prim::Take, &[self, &index.reshape([index.elems()])]);
        let mut shape = index.shape().to_vec();
        shape.extend(self.shape().iter().skip(1));
        rows.reshape(shape)
    }

    /// `out[i] = self[i with i[dim] = index[i]]`, as torch's gather.
    #[track_caller]
    pub fn gather(&self, dim: isize, index: &Tensor) -> Tensor {
        let axis = self.axis("gather", dim, Location::caller());
        let (values, places) = (self.at_least_vector(), index.at_least_vector());
        self.builder().apply(Prim::TakeAlong { axis }, &[&values, &places]).reshape(index.shape())
    }
}
