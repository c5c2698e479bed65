//! First contents of parameters: torch's distributions, drawn on the host from a stream that the parameter's name keys,
//! so that the numbers do not depend on the order of declaration or on the device.

use crate::dtype::Scalar;
use crate::error::Result;
use crate::ir::Type;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tensor::{Data, HostTensor};

/// Where the first content of a parameter or buffer comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// This number everywhere.
    Constant(f64),
    /// These numbers, row by row.
    Values(Vec<f64>),
    /// Computed from the first content of the parameter of this name, type and distribution.
    From(Box<(String, Type, Init)>, Derived),
    /// Sines and cosines of positions: `sin(p base^(-2i/dim))` in column 2i of row p, the cosine in column 2i+1.
    Sinusoids {
        /// Where the wave lengths end.
        base: f64,
    },
    /// Uniform on [-bound, bound).
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal with mean 0, but one row of zeros (the padding of an embedding).
    NormalZeroRow {
        /// Standard deviation.
        std: f64,
        /// The row that is zero.
        row: usize,
    },
    /// Uniform within sqrt(6 / ((1 + a^2) fan_in)). a = sqrt(5), torch's choice for Linear and Conv, gives 1/sqrt(fan_in).
    KaimingUniform {
        /// Negative slope of the activation that follows.
        a: f64,
    },
    /// Normal with standard deviation sqrt(2 / ((1 + a^2) fan_in)).
    KaimingNormal {
        /// Negative slope of the activation that follows.
        a: f64,
    },
    /// Uniform within gain * sqrt(6 / (fan_in + fan_out)).
    XavierUniform {
        /// Scale for the activation that follows.
        gain: f64,
    },
    /// Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)).
    XavierNormal {
        /// Scale for the activation that follows.
        gain: f64,
    },
}

/// What [`Init::From`] computes, with dimension `dim` of its source as rows and all others as columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derived {
    /// The L2 norm of each row.
    Norms(usize),
    /// The left singular vector of the largest singular value, by the power method.
    Left(usize),
    /// The right singular vector of the largest singular value, by the power method.
    Right(usize),
}

impl Init {
    /// All zeros.
    pub const ZEROS: Init = Init::Constant(0.0);
    /// All ones.
    pub const ONES: Init = Init::Constant(1.0);
    /// torch's default for the weights of Linear and Conv: uniform within 1/sqrt(fan_in).
    pub const TORCH_WEIGHT: Init = Init::KaimingUniform { a: 2.236_067_977_499_79 };

    /// torch's default for the bias that belongs to a weight with this fan-in.
    pub fn torch_bias(fan_in: usize) -> Init {
        Init::Uniform { bound: if fan_in == 0 { 0.0 } else { 1.0 / (fan_in as f64).sqrt() } }
    }

    /// The content of the parameter `name`.
    pub fn draw(&self, name: &str, ty: &Type, seed: u64) -> Result<HostTensor> {
        let n = ty.shape.elems();
        let (fan_in, fan_out) = fans(&ty.shape);
        let values = match *self {
            Init::Constant(c) => return Ok(constant(ty, c)),
            Init::Values(ref v) => v.iter().map(|&x| x as f32).collect(),
            Init::From(ref source, what) => {
                let (name, ty, init) = &**source;
                what.compute(&init.draw(name, ty, seed)?)
            }
            Init::Sinusoids { base } => sinusoids(&ty.shape, base),
            Init::Uniform { bound } => uniform(name, seed, n, bound),
            Init::Normal { std } => normal(name, seed, n, std),
            Init::NormalZeroRow { std, row } => {
                let mut v = normal(name, seed, n, std);
                let len: usize = ty.shape.iter().skip(1).product();
                v.iter_mut().skip(row * len).take(len).for_each(|x| *x = 0.0);
                v
            }
            Init::KaimingUniform { a } => uniform(name, seed, n, (6.0 / ((1.0 + a * a) * fan_in)).sqrt()),
            Init::KaimingNormal { a } => normal(name, seed, n, (2.0 / ((1.0 + a * a) * fan_in)).sqrt()),
            Init::XavierUniform { gain } => uniform(name, seed, n, gain * (6.0 / (fan_in + fan_out)).sqrt()),
            Init::XavierNormal { gain } => normal(name, seed, n, gain * (2.0 / (fan_in + fan_out)).sqrt()),
        };
        HostTensor::f32(ty.shape.clone(), values)
    }
}

impl Derived {
    fn compute(self, source: &HostTensor) -> Vec<f32> {
        let (values, shape) = (source.to_f64(), &source.shape);
        let (Derived::Norms(dim) | Derived::Left(dim) | Derived::Right(dim)) = self;
        let (rows, inner) = (shape[dim], shape[dim + 1..].iter().product::<usize>());
        let columns = values.len() / rows.max(1);
        let at = |row: usize, column: usize| values[(column / inner * rows + row) * inner + column % inner];
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let row = |r: usize| (0..columns).map(|c| at(r, c)).collect::<Vec<f64>>();
        if let Derived::Norms(_) = self {
            return (0..rows).map(|r| norm(&row(r)) as f32).collect();
        }
        // As torch: 15 rounds; the first vector only must not be orthogonal to the answer.
        let unit = |v: Vec<f64>| v.iter().map(|x| x / norm(&v).max(1e-12)).collect::<Vec<f64>>();
        let (mut u, mut v) = (Vec::new(), unit((0..columns).map(|c| 1.0 + 0.1 * (c as f64).sin()).collect()));
        for _ in 0..15 {
            u = unit((0..rows).map(|r| (0..columns).map(|c| at(r, c) * v[c]).sum()).collect());
            v = unit((0..columns).map(|c| (0..rows).map(|r| at(r, c) * u[r]).sum()).collect());
        }
        let chosen = if let Derived::Left(_) = self { u } else { v };
        chosen.into_iter().map(|x| x as f32).collect()
    }
}

/// In f64: the angles of late positions are large, and f32 would lose their digits.
fn sinusoids(shape: &Shape, base: f64) -> Vec<f32> {
    let dim = shape.last().copied().unwrap_or(1).max(1);
    let one = |i: usize| {
        let (position, column) = ((i / dim) as f64, i % dim);
        let angle = position * base.powf(-((column / 2 * 2) as f64) / dim as f64);
        (if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
    };
    (0..shape.elems()).map(one).collect()
}

fn constant(ty: &Type, c: f64) -> HostTensor {
    let n = ty.shape.elems();
    let data = match Scalar::of(ty.dtype, c) {
        Scalar::F32(x) => Data::F32(vec![x as f32; n]),
        Scalar::I32(x) => Data::I32(vec![x; n]),
        Scalar::U32(x) => Data::U32(vec![x; n]),
        Scalar::Bool(x) => Data::Bool(vec![u32::from(x); n]),
    };
    HostTensor { shape: ty.shape.clone(), data }
}

/// (fan_in, fan_out) of a weight (out, in, kernel..), as torch counts them; at least 1 each.
fn fans(shape: &Shape) -> (f64, f64) {
    let kernel: usize = shape.iter().skip(2).product();
    let size = |d: usize| shape.get(d).copied().unwrap_or(1);
    ((size(1) * kernel).max(1) as f64, (size(0) * kernel).max(1) as f64)
}

/// The stream of a parameter's first content; no module path contains a slash, so it meets no stream of a mask.
fn rng(name: &str, seed: u64) -> Rng {
    Rng::named(seed, &format!("init/{name}"))
}

fn uniform(name: &str, seed: u64, n: usize, bound: f64) -> Vec<f32> {
    let mut rng = rng(name, seed);
    (0..n).map(|_| rng.range(-bound, bound) as f32).collect()
}

fn normal(name: &str, seed: u64, n: usize, std: f64) -> Vec<f32> {
    let mut rng = rng(name, seed);
    (0..n).map(|_| (rng.normal() * std) as f32).collect()
}
