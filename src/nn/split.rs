//! Equal pieces of a tensor along one dimension, as a composite: the pieces are views, and the derivative is one
//! concatenation where differentiating the slices one by one would pad and add each of them.

use crate::ir::{Builder, Tensor};
use crate::ops::{Composite, VjpArgs};
use std::any::Any;

/// `x -> pieces`, `parts` of them, equal, along dimension `axis`.
#[derive(Debug, Clone, PartialEq)]
struct Split {
    axis: usize,
    parts: usize,
}

impl Composite for Split {
    fn name(&self) -> &'static str {
        "split"
    }
    fn attrs(&self) -> String {
        format!("axis={} parts={}", self.axis, self.parts)
    }
    fn outputs(&self) -> usize {
        self.parts
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        let axis = self.axis as isize;
        let len = args[0].size(axis) / self.parts;
        (0..self.parts).map(|i| args[0].narrow(axis, i * len, len)).collect()
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        let pieces: Vec<Tensor> =
            v.outs.iter().zip(v.cotangents).map(|(o, g)| g.clone().unwrap_or_else(|| o.like(0.0))).collect();
        let refs: Vec<&Tensor> = pieces.iter().collect();
        Some(vec![Some(Tensor::cat(&refs, self.axis as isize))])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `parts` equal pieces along dimension `axis`, whose size must be a multiple of `parts`.
#[track_caller]
pub(crate) fn split(x: &Tensor, axis: usize, parts: usize) -> Vec<Tensor> {
    x.builder().call(Split { axis, parts }, &[x])
}
