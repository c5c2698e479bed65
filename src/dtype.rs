//! Element types and scalar constants. Every element takes four bytes on every device, but for `F16`, which takes two:
//! `Bool` is a u32 that is 0 or 1.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision, for storage: conversions, views, products, convolutions and composites take it, and all of them
    /// compute in f32. For other arithmetic it is cast to `F32` first. Conversion to it rounds to nearest, ties to even; what
    /// is beyond 65504 by half a unit or more becomes infinite.
    F16,
    /// Two's complement, 32 bits.
    I32,
    /// Unsigned, 32 bits.
    U32,
    /// 0 or 1 in a u32.
    Bool,
}

impl DType {
    /// Bytes per element in memory, on every device.
    pub const fn bytes(self) -> usize {
        match self {
            DType::F16 => 2,
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => 4,
        }
    }
    /// True for the floating-point types, which are the differentiable ones.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16)
    }
    /// True for the signed and unsigned integers (not for `Bool`).
    pub fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::Bool => "bool",
        })
    }
}

/// A constant. Floats are kept in f64, so that the f64 reference sees `0.1` and not its f32 rounding; the f32
/// backends round once. Equality and hash are by bits: NaN equals itself, and 0.0 differs from -0.0.
#[derive(Debug, Clone, Copy)]
pub enum Scalar {
    /// A constant of type `F32`.
    F32(f64),
    /// A constant of type `I32`.
    I32(i32),
    /// A constant of type `U32`.
    U32(u32),
    /// A constant of type `Bool`.
    Bool(bool),
}

impl Scalar {
    /// The element type of this constant.
    pub fn dtype(self) -> DType {
        match self {
            Scalar::F32(_) => DType::F32,
            Scalar::I32(_) => DType::I32,
            Scalar::U32(_) => DType::U32,
            Scalar::Bool(_) => DType::Bool,
        }
    }
    /// The four bytes that this constant has in device memory.
    pub fn bits(self) -> u32 {
        match self {
            Scalar::F32(x) => (x as f32).to_bits(),
            Scalar::I32(x) => x as u32,
            Scalar::U32(x) => x,
            Scalar::Bool(x) => x as u32,
        }
    }
    /// The value as f64 (booleans as 0 or 1).
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::F32(x) => x,
            Scalar::I32(x) => x as f64,
            Scalar::U32(x) => x as f64,
            Scalar::Bool(x) => x as u32 as f64,
        }
    }
    /// The constant of type `dtype` nearest to `x`; there are none of type `F16`, for which it is one of type `F32`.
    pub fn of(dtype: DType, x: f64) -> Scalar {
        match dtype {
            DType::F32 | DType::F16 => Scalar::F32(x),
            DType::I32 => Scalar::I32(x as i32),
            DType::U32 => Scalar::U32(x as u32),
            DType::Bool => Scalar::Bool(x != 0.0),
        }
    }
    fn key(self) -> (DType, u64) {
        match self {
            Scalar::F32(x) => (DType::F32, x.to_bits()),
            other => (other.dtype(), other.bits() as u64),
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Scalar {}
impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::F32(x) => write!(f, "{x:?}"),
            Scalar::I32(x) => write!(f, "{x}i"),
            Scalar::U32(x) => write!(f, "{x}u"),
            Scalar::Bool(x) => write!(f, "{x}"),
        }
    }
}
