//! Shapes, and strided views of row-major buffers. Pure arithmetic: no data, no device.

use std::fmt;
use std::ops::Deref;

/// The sizes of a tensor's dimensions, outermost first. Rank 0 is a scalar with one element.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// Number of elements (1 for a scalar).
    pub fn elems(&self) -> usize {
        self.0.iter().product()
    }
    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<isize> {
        let mut strides = vec![1isize; self.len()];
        for d in (0..self.len().saturating_sub(1)).rev() {
            strides[d] = strides[d + 1] * self.0[d + 1] as isize;
        }
        strides
    }
    /// This shape with the sizes of `axes` replaced by 1.
    pub fn keep_reduced(&self, axes: &[usize]) -> Shape {
        Shape(self.0.iter().enumerate().map(|(d, &n)| if axes.contains(&d) { 1 } else { n }).collect())
    }
    /// This shape without the dimensions `axes`.
    pub fn without(&self, axes: &[usize]) -> Shape {
        Shape(self.0.iter().enumerate().filter(|(d, _)| !axes.contains(d)).map(|(_, &n)| n).collect())
    }
    /// The shape to which both broadcast by numpy's rules, or `None`.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.len().max(other.len());
        let at = |s: &Shape, d: usize| if d + s.len() < rank { 1 } else { s.0[d + s.len() - rank] };
        let mut out = Vec::with_capacity(rank);
        for d in 0..rank {
            out.push(match (at(self, d), at(other, d)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            });
        }
        Some(Shape(out))
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}
impl From<Vec<usize>> for Shape {
    fn from(v: Vec<usize>) -> Shape {
        Shape(v)
    }
}
impl From<&[usize]> for Shape {
    fn from(v: &[usize]) -> Shape {
        Shape(v.to_vec())
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    fn from(v: [usize; N]) -> Shape {
        Shape(v.to_vec())
    }
}
impl<const N: usize> From<&[usize; N]> for Shape {
    fn from(v: &[usize; N]) -> Shape {
        Shape(v.to_vec())
    }
}
impl From<&Vec<usize>> for Shape {
    fn from(v: &Vec<usize>) -> Shape {
        Shape(v.clone())
    }
}
impl From<&Shape> for Shape {
    fn from(v: &Shape) -> Shape {
        v.clone()
    }
}
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, n) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{n}")?;
        }
        f.write_str("]")
    }
}
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a tensor of `shape` lies in a buffer: element `i` is at `offset + sum(i[d] * strides[d])`, in elements.
/// Strides are 0 where a value is broadcast and negative where it is reversed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct View {
    /// Sizes of the dimensions.
    pub shape: Shape,
    /// Distance in elements between neighbours along each dimension.
    pub strides: Vec<isize>,
    /// Position of element `[0, .., 0]`.
    pub offset: usize,
}

impl View {
    /// The row-major view of a whole buffer of this shape.
    pub fn contiguous(shape: &Shape) -> View {
        View { shape: shape.clone(), strides: shape.strides(), offset: 0 }
    }
    /// True if the elements follow each other in row-major order (dimensions of size 1 do not matter).
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1isize;
        for (&n, &s) in self.shape.iter().zip(&self.strides).rev() {
            if n != 1 {
                if s != expected {
                    return self.shape.elems() == 0;
                }
                expected *= n as isize;
            }
        }
        true
    }
    /// True if this is the whole of a buffer of `elems` elements in order.
    pub fn is_identity(&self, elems: usize) -> bool {
        self.offset == 0 && self.shape.elems() == elems && self.is_contiguous()
    }
    /// The view after permuting dimensions: new dimension `d` is old dimension `perm[d]`.
    pub fn permute(&self, perm: &[usize]) -> View {
        View {
            shape: Shape(perm.iter().map(|&p| self.shape[p]).collect()),
            strides: perm.iter().map(|&p| self.strides[p]).collect(),
            offset: self.offset,
        }
    }
    /// The view after repeating dimensions of size 1 up to `shape` (same rank).
    pub fn broadcast(&self, shape: &Shape) -> View {
        let strides =
            (0..shape.len()).map(|d| if self.shape[d] == 1 && shape[d] != 1 { 0 } else { self.strides[d] }).collect();
        View { shape: shape.clone(), strides, offset: self.offset }
    }
    /// The view of `len[d]` elements from `start[d]` in steps of `step[d]`.
    pub fn slice(&self, start: &[usize], len: &[usize], step: &[usize]) -> View {
        let empty = len.contains(&0);
        let mut offset = self.offset as isize;
        if !empty {
            offset += start.iter().zip(&self.strides).map(|(&b, &s)| b as isize * s).sum::<isize>();
        }
        View {
            shape: Shape(len.to_vec()),
            strides: self.strides.iter().zip(step).map(|(&s, &k)| s * k as isize).collect(),
            offset: offset as usize,
        }
    }
    /// The view with the order of `axes` reversed.
    pub fn reverse(&self, axes: &[usize]) -> View {
        let mut v = self.clone();
        if v.shape.elems() == 0 {
            return v;
        }
        let mut offset = v.offset as isize;
        for &a in axes {
            offset += (v.shape[a] as isize - 1) * v.strides[a];
            v.strides[a] = -v.strides[a];
        }
        v.offset = offset as usize;
        v
    }
    /// The view with another shape of as many elements, or `None` if no strides express it.
    pub fn reshape(&self, shape: &Shape) -> Option<View> {
        if shape.elems() == 0 {
            return Some(View { shape: shape.clone(), strides: shape.strides(), offset: 0 });
        }
        // Old dimensions, merged where the outer stride continues the inner one; size-1 dimensions dropped.
        let mut runs: Vec<(usize, isize)> = Vec::new();
        for (&n, &s) in self.shape.iter().zip(&self.strides) {
            if n == 1 {
                continue;
            }
            match runs.last_mut() {
                Some((m, t)) if *t == s * n as isize => {
                    *m *= n;
                    *t = s;
                }
                _ => runs.push((n, s)),
            }
        }
        // Each new dimension must lie wholly inside one run.
        let mut strides = vec![0isize; shape.len()];
        let mut run = runs.pop();
        for d in (0..shape.len()).rev() {
            let n = shape[d];
            if n == 1 {
                continue;
            }
            let (len, stride) = match run {
                Some((1, _)) | None => runs.pop()?,
                Some(r) => r,
            };
            if !len.is_multiple_of(n) {
                return None;
            }
            strides[d] = stride;
            run = Some((len / n, stride * n as isize));
        }
        Some(View { shape: shape.clone(), strides, offset: self.offset })
    }
    /// The lowest and highest element position that this view touches, or `None` if it is empty.
    pub fn span(&self) -> Option<(usize, usize)> {
        if self.shape.elems() == 0 {
            return None;
        }
        let (mut lo, mut hi) = (self.offset as isize, self.offset as isize);
        for (&n, &s) in self.shape.iter().zip(&self.strides) {
            let reach = (n as isize - 1) * s;
            if reach < 0 { lo += reach } else { hi += reach }
        }
        Some((lo as usize, hi as usize))
    }
    /// An equivalent view of the same element order with as few dimensions as possible (at least one).
    pub fn collapsed(&self) -> View {
        let (shape, strides) = collapse(&self.shape, std::slice::from_ref(&self.strides));
        View { shape, strides: strides.into_iter().next().unwrap_or_default(), offset: self.offset }
    }
}

/// Merges neighbouring dimensions that every one of several views over the same index space can merge, and drops
/// dimensions of size 1. Returns the common shape (at least one dimension) and the strides of each view.
pub fn collapse(shape: &Shape, strides: &[Vec<isize>]) -> (Shape, Vec<Vec<isize>>) {
    let mut out_shape: Vec<usize> = Vec::new();
    let mut out: Vec<Vec<isize>> = vec![Vec::new(); strides.len()];
    for d in 0..shape.len() {
        let n = shape[d];
        if n == 1 {
            continue;
        }
        let merges = !out_shape.is_empty()
            && strides.iter().zip(&out).all(|(s, o)| *o.last().unwrap_or(&0) == s[d] * n as isize);
        if merges {
            if let Some(last) = out_shape.last_mut() {
                *last *= n;
            }
            for (o, s) in out.iter_mut().zip(strides) {
                if let Some(last) = o.last_mut() {
                    *last = s[d];
                }
            }
        } else {
            out_shape.push(n);
            for (o, s) in out.iter_mut().zip(strides) {
                o.push(s[d]);
            }
        }
    }
    if out_shape.is_empty() {
        out_shape.push(1);
        for o in &mut out {
            o.push(0);
        }
    }
    (Shape(out_shape), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_of_views() {
        let v = View::contiguous(&Shape::from([2, 3, 4]));
        assert_eq!(v.reshape(&Shape::from([6, 4])).unwrap().strides, vec![4, 1]);
        let t = v.permute(&[0, 2, 1]);
        assert!(t.reshape(&Shape::from([2, 12])).is_none());
        assert_eq!(t.reshape(&Shape::from([2, 2, 2, 3])).unwrap().strides, vec![12, 2, 1, 4]);
        let b = View::contiguous(&Shape::from([1, 3])).broadcast(&Shape::from([5, 3]));
        assert!(b.reshape(&Shape::from([15])).is_none());
        assert_eq!(b.reshape(&Shape::from([5, 1, 3])).unwrap().strides, vec![0, 0, 1]);
    }

    #[test]
    fn reverse_and_slice_move_the_offset() {
        let v = View::contiguous(&Shape::from([4, 5]));
        let s = v.slice(&[1, 2], &[2, 2], &[2, 1]);
        assert_eq!((s.offset, s.strides.clone()), (7, vec![10, 1]));
        let r = s.reverse(&[0, 1]);
        assert_eq!((r.offset, r.strides.clone()), (18, vec![-10, -1]));
        assert_eq!(r.span(), Some((7, 18)));
    }

    #[test]
    fn collapse_merges_what_all_views_allow() {
        let a = View::contiguous(&Shape::from([2, 3, 4]));
        let b = View::contiguous(&Shape::from([2, 1, 1])).broadcast(&Shape::from([2, 3, 4]));
        let (shape, strides) = collapse(&a.shape, &[a.strides.clone(), b.strides.clone()]);
        assert_eq!(shape, Shape::from([2, 12]));
        assert_eq!(strides, vec![vec![12, 1], vec![1, 0]]);
    }
}
