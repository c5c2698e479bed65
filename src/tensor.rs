//! `HostTensor`: a dense row-major array in host memory, the exchange type at every border (files, devices, tests).
//! It computes nothing; arithmetic happens in graphs.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;
use half::f16;

/// The elements of a [`HostTensor`], row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Elements of type `F32`.
    F32(Vec<f32>),
    /// Elements of type `F16`.
    F16(Vec<f16>),
    /// Elements of type `I32`.
    I32(Vec<i32>),
    /// Elements of type `U32`.
    U32(Vec<u32>),
    /// Elements of type `Bool`, each 0 or 1.
    Bool(Vec<u32>),
}

/// A dense row-major array in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Sizes of the dimensions.
    pub shape: Shape,
    /// The elements; as many as `shape` says.
    pub data: Data,
}

impl HostTensor {
    /// A tensor of `shape` with these elements. Errors if their number does not fit the shape.
    pub fn new(shape: impl Into<Shape>, data: Data) -> Result<HostTensor> {
        let t = HostTensor { shape: shape.into(), data };
        if t.len() != t.shape.elems() {
            return Err(Error::input(
                "tensor",
                format!("{} elements do not fill shape {} ({} elements)", t.len(), t.shape, t.shape.elems()),
            ));
        }
        Ok(t)
    }
    /// A float tensor. Errors if the number of elements does not fit the shape.
    pub fn f32(shape: impl Into<Shape>, data: Vec<f32>) -> Result<HostTensor> {
        HostTensor::new(shape, Data::F32(data))
    }
    /// An integer tensor. Errors if the number of elements does not fit the shape.
    pub fn i32(shape: impl Into<Shape>, data: Vec<i32>) -> Result<HostTensor> {
        HostTensor::new(shape, Data::I32(data))
    }
    /// A tensor of unsigned integers. Errors if the number of elements does not fit the shape.
    pub fn u32(shape: impl Into<Shape>, data: Vec<u32>) -> Result<HostTensor> {
        HostTensor::new(shape, Data::U32(data))
    }
    /// A tensor of booleans. Errors if the number of elements does not fit the shape.
    pub fn bool(shape: impl Into<Shape>, data: Vec<bool>) -> Result<HostTensor> {
        HostTensor::new(shape, Data::Bool(data.into_iter().map(u32::from).collect()))
    }
    /// A scalar float.
    pub fn scalar(x: f32) -> HostTensor {
        HostTensor { shape: Shape::default(), data: Data::F32(vec![x]) }
    }
    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: impl Into<Shape>) -> HostTensor {
        let shape = shape.into();
        let n = shape.elems();
        let data = match dtype {
            DType::F32 => Data::F32(vec![0.0; n]),
            DType::F16 => Data::F16(vec![f16::ZERO; n]),
            DType::I32 => Data::I32(vec![0; n]),
            DType::U32 => Data::U32(vec![0; n]),
            DType::Bool => Data::Bool(vec![0; n]),
        };
        HostTensor { shape, data }
    }
    /// A tensor from its bytes in device memory (little-endian; [`DType::bytes`] an element, and whole words: after an odd
    /// number of `F16` two more may follow).
    pub fn from_bytes(dtype: DType, shape: impl Into<Shape>, bytes: &[u8]) -> Result<HostTensor> {
        let shape = shape.into();
        let elems = shape.elems();
        let halfs = || bytes.chunks_exact(2).take(elems).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
        let words = bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
        let data = match dtype {
            DType::F32 => Data::F32(words.map(f32::from_le_bytes).collect()),
            DType::F16 => Data::F16(halfs()),
            DType::I32 => Data::I32(words.map(i32::from_le_bytes).collect()),
            DType::U32 => Data::U32(words.map(u32::from_le_bytes).collect()),
            DType::Bool => Data::Bool(words.map(u32::from_le_bytes).collect()),
        };
        HostTensor::new(shape, data)
    }
    /// The bytes of this tensor in device memory, without what fills the last word up.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.data {
            Data::F32(v) => bytemuck::cast_slice(v),
            Data::F16(v) => bytemuck::cast_slice(v),
            Data::I32(v) => bytemuck::cast_slice(v),
            Data::U32(v) | Data::Bool(v) => bytemuck::cast_slice(v),
        }
    }
    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::F32(_) => DType::F32,
            Data::F16(_) => DType::F16,
            Data::I32(_) => DType::I32,
            Data::U32(_) => DType::U32,
            Data::Bool(_) => DType::Bool,
        }
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::F32(v) => v.len(),
            Data::F16(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::U32(v) | Data::Bool(v) => v.len(),
        }
    }
    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The elements of a float tensor. Errors on another type.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match &self.data {
            Data::F32(v) => Ok(v),
            _ => Err(Error::input("tensor", format!("holds {}, not f32", self.dtype()))),
        }
    }
    /// The elements of an integer tensor. Errors on another type.
    pub fn as_i32(&self) -> Result<&[i32]> {
        match &self.data {
            Data::I32(v) => Ok(v),
            _ => Err(Error::input("tensor", format!("holds {}, not i32", self.dtype()))),
        }
    }
    /// The single element of a float tensor. Errors if it has another type or number of elements.
    pub fn item(&self) -> Result<f32> {
        match self.as_f32()? {
            [x] => Ok(*x),
            other => Err(Error::input("tensor", format!("has {} elements where one is expected", other.len()))),
        }
    }
    /// All elements as f64 (booleans as 0 and 1).
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::F32(v) => v.iter().map(|&x| x as f64).collect(),
            Data::F16(v) => v.iter().map(|&x| x.to_f64()).collect(),
            Data::I32(v) => v.iter().map(|&x| x as f64).collect(),
            Data::U32(v) | Data::Bool(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }
}
