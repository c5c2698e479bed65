//! The reference's own arrays: dense, row-major, floats held as f64.

use crate::dtype::DType;
use crate::ir::Type;
use crate::shape::Shape;
use crate::tensor::{Data, HostTensor};
use half::f16;

/// Elements of an [`Array`].
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floats; exactly representable in f32 unless evaluated without rounding.
    F(Vec<f64>),
    /// Floats of type `F16`: each exactly representable in f16, unless evaluated without rounding.
    H(Vec<f64>),
    /// Signed integers.
    I(Vec<i32>),
    /// Unsigned integers.
    U(Vec<u32>),
    /// Booleans, 0 or 1.
    B(Vec<u32>),
}

/// A dense row-major array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes of the dimensions.
    pub shape: Shape,
    /// As many elements as `shape` says.
    pub data: Values,
}

/// Applies one expression to the vector of whichever type, keeping the type.
macro_rules! each {
    ($data:expr, $v:ident => $e:expr) => {
        match $data {
            Values::F($v) => Values::F($e),
            Values::H($v) => Values::H($e),
            Values::I($v) => Values::I($e),
            Values::U($v) => Values::U($e),
            Values::B($v) => Values::B($e),
        }
    };
}
pub(super) use each;

impl Values {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::F(v) | Values::H(v) => v.len(),
            Values::I(v) => v.len(),
            Values::U(v) | Values::B(v) => v.len(),
        }
    }
    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Values::F(_) => DType::F32,
            Values::H(_) => DType::F16,
            Values::I(_) => DType::I32,
            Values::U(_) => DType::U32,
            Values::B(_) => DType::Bool,
        }
    }
}

impl Array {
    /// A float array. The number of elements must fit the shape.
    pub fn floats(shape: impl Into<Shape>, data: Vec<f64>) -> Array {
        Array { shape: shape.into(), data: Values::F(data) }
    }
    /// Zeros (false) of this type.
    pub fn zeros(ty: &Type) -> Array {
        let n = ty.shape.elems();
        let data = match ty.dtype {
            DType::F32 => Values::F(vec![0.0; n]),
            DType::F16 => Values::H(vec![0.0; n]),
            DType::I32 => Values::I(vec![0; n]),
            DType::U32 => Values::U(vec![0; n]),
            DType::Bool => Values::B(vec![0; n]),
        };
        Array { shape: ty.shape.clone(), data }
    }
    /// Element type and shape.
    pub fn ty(&self) -> Type {
        Type { dtype: self.data.dtype(), shape: self.shape.clone() }
    }
    /// The floats, or nothing if the elements have another type.
    pub fn as_floats(&self) -> &[f64] {
        match &self.data {
            Values::F(v) | Values::H(v) => v,
            Values::I(_) | Values::U(_) | Values::B(_) => &[],
        }
    }
    /// All elements as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Values::F(v) | Values::H(v) => v.clone(),
            Values::I(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::U(v) | Values::B(v) => v.iter().map(|&x| f64::from(x)).collect(),
        }
    }
    /// The elements at these positions, in this order, in another shape.
    pub(super) fn pick(&self, shape: Shape, positions: &[usize]) -> Array {
        let data = each!(&self.data, v => positions.iter().map(|&p| v[p]).collect());
        Array { shape, data }
    }
    /// Rounds floats to the nearest of their type, by way of f32.
    pub(super) fn round(&mut self) {
        match &mut self.data {
            Values::F(v) => v.iter_mut().for_each(|x| *x = f64::from(*x as f32)),
            Values::H(v) => v.iter_mut().for_each(|x| *x = f16::from_f32(*x as f32).to_f64()),
            Values::I(_) | Values::U(_) | Values::B(_) => {}
        }
    }
    /// The patterns of the elements in memory: 32 bits, or the lower 16.
    pub fn to_words(&self) -> Vec<u32> {
        match &self.data {
            Values::F(v) => v.iter().map(|&x| (x as f32).to_bits()).collect(),
            Values::H(v) => v.iter().map(|&x| f16::from_f32(x as f32).to_bits().into()).collect(),
            Values::I(v) => v.iter().map(|&x| x as u32).collect(),
            Values::U(v) | Values::B(v) => v.clone(),
        }
    }
    /// An array from the patterns that [`Array::to_words`] gives. There must be as many as the shape has elements.
    pub fn from_words(ty: &Type, words: Vec<u32>) -> Array {
        let data = match ty.dtype {
            DType::F32 => Values::F(words.into_iter().map(|w| f64::from(f32::from_bits(w))).collect()),
            DType::F16 => Values::H(words.into_iter().map(|w| f16::from_bits(w as u16).to_f64()).collect()),
            DType::I32 => Values::I(words.into_iter().map(|w| w as i32).collect()),
            DType::U32 => Values::U(words),
            DType::Bool => Values::B(words),
        };
        Array { shape: ty.shape.clone(), data }
    }
}

impl From<&HostTensor> for Array {
    fn from(t: &HostTensor) -> Array {
        let data = match &t.data {
            Data::F32(v) => Values::F(v.iter().map(|&x| f64::from(x)).collect()),
            Data::F16(v) => Values::H(v.iter().map(|&x| x.to_f64()).collect()),
            Data::I32(v) => Values::I(v.clone()),
            Data::U32(v) => Values::U(v.clone()),
            Data::Bool(v) => Values::B(v.clone()),
        };
        Array { shape: t.shape.clone(), data }
    }
}

impl From<&Array> for HostTensor {
    fn from(a: &Array) -> HostTensor {
        let data = match &a.data {
            Values::F(v) => Data::F32(v.iter().map(|&x| x as f32).collect()),
            Values::H(v) => Data::F16(v.iter().map(|&x| f16::from_f32(x as f32)).collect()),
            Values::I(v) => Data::I32(v.clone()),
            Values::U(v) => Data::U32(v.clone()),
            Values::B(v) => Data::Bool(v.clone()),
        };
        HostTensor { shape: a.shape.clone(), data }
    }
}
