//! `Dataset`: examples that can be gathered into batches, and `Arrays`, the simplest one. Datasets hold host memory only;
//! the trainer uploads what they give.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::{Data, HostTensor};
use std::sync::Arc;

/// One part of every example: an image, a label, a row of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name; the programs are fed under it.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Its shape in one example, without the batch dimension.
    pub shape: Shape,
}

impl Field {
    /// A field from its parts.
    pub fn new(name: impl Into<String>, dtype: DType, shape: impl Into<Shape>) -> Field {
        Field { name: name.into(), dtype, shape: shape.into() }
    }
}

/// What random changes of examples (augmentation) are drawn from: the same draw gives the same examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Whether the examples come in a drawn order. If not, the windows of a text stay where they are.
    pub shuffled: bool,
}

/// A finite, indexable collection of examples. It may be read by several threads at once.
pub trait Dataset: Send + Sync {
    /// Number of examples.
    fn len(&self) -> usize;
    /// True if there are no examples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What an example consists of: the inputs of the model, then the target.
    fn fields(&self) -> Vec<Field>;
    /// These examples, in this order: one tensor per field with the batch dimension first. With a draw they are
    /// augmented, if the data set does that.
    fn batch(&self, indices: &[usize], draw: Option<Draw>) -> Result<Vec<HostTensor>>;
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn fields(&self) -> Vec<Field> {
        (**self).fields()
    }
    fn batch(&self, indices: &[usize], draw: Option<Draw>) -> Result<Vec<HostTensor>> {
        (**self).batch(indices, draw)
    }
}

/// Examples in memory: one tensor per field whose first dimension counts the examples.
#[derive(Debug, Clone)]
pub struct Arrays {
    names: Vec<String>,
    tensors: Vec<HostTensor>,
}

impl Arrays {
    /// A data set from named tensors. Errors if they do not have the same number of rows.
    pub fn new(fields: Vec<(&str, HostTensor)>) -> Result<Arrays> {
        let rows: Vec<Option<usize>> = fields.iter().map(|(_, t)| t.shape.first().copied()).collect();
        if fields.is_empty() || rows.iter().any(|r| r.is_none() || *r != rows[0]) {
            let shapes: Vec<String> = fields.iter().map(|(n, t)| format!("{n} {}", t.shape)).collect();
            let detail = format!("the fields must have the same first dimension, the number of examples: {shapes:?}");
            return Err(Error::input("data set", detail));
        }
        let (names, tensors) = fields.into_iter().map(|(n, t)| (n.to_string(), t)).unzip();
        Ok(Arrays { names, tensors })
    }
}

impl Dataset for Arrays {
    fn len(&self) -> usize {
        self.tensors[0].shape[0]
    }
    fn fields(&self) -> Vec<Field> {
        let field = |(n, t): (&String, &HostTensor)| Field::new(n, t.dtype(), &t.shape[1..]);
        self.names.iter().zip(&self.tensors).map(field).collect()
    }
    fn batch(&self, indices: &[usize], _: Option<Draw>) -> Result<Vec<HostTensor>> {
        self.tensors.iter().map(|t| take_rows(t, indices)).collect()
    }
}

/// Rows of a tensor. Errors if an index is out of range.
pub fn take_rows(t: &HostTensor, indices: &[usize]) -> Result<HostTensor> {
    let rows = t.shape.first().copied().unwrap_or(0);
    if let Some(bad) = indices.iter().find(|&&i| i >= rows) {
        return Err(Error::input("data set", format!("example {bad} does not exist, there are {rows}")));
    }
    let width: usize = t.shape[1..].iter().product();
    fn gather<T: Copy>(v: &[T], indices: &[usize], width: usize) -> Vec<T> {
        indices.iter().flat_map(|&i| v[i * width..(i + 1) * width].iter().copied()).collect()
    }
    let data = match &t.data {
        Data::F32(v) => Data::F32(gather(v, indices, width)),
        Data::F16(v) => Data::F16(gather(v, indices, width)),
        Data::I32(v) => Data::I32(gather(v, indices, width)),
        Data::U32(v) => Data::U32(gather(v, indices, width)),
        Data::Bool(v) => Data::Bool(gather(v, indices, width)),
    };
    let mut shape = t.shape.to_vec();
    shape[0] = indices.len();
    HostTensor::new(shape, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gathered_in_order() {
        let x = HostTensor::f32([3, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let y = HostTensor::i32([3], vec![7, 8, 9]).unwrap();
        let set = Arrays::new(vec![("x", x), ("y", y)]).unwrap();
        let b = set.batch(&[2, 0], None).unwrap();
        assert_eq!(b[0], HostTensor::f32([2, 2], vec![4.0, 5.0, 0.0, 1.0]).unwrap());
        assert_eq!(b[1], HostTensor::i32([2], vec![9, 7]).unwrap());
        assert!(set.batch(&[3], None).unwrap_err().to_string().contains("example 3"));
    }

    #[test]
    fn fields_of_different_length_are_refused() {
        let x = HostTensor::f32([3], vec![0.0; 3]).unwrap();
        let y = HostTensor::i32([2], vec![0; 2]).unwrap();
        assert!(Arrays::new(vec![("x", x), ("y", y)]).is_err());
    }
}
