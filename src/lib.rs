//! kiln trains neural networks on any GPU through WebGPU, from one Rust crate: graphs of primitives, differentiation
//! to any order, a planner that fuses and places, WGSL kernels, and a reference that every result is checked against.
//!
//! ```
//! use kiln::data::Arrays;
//! use kiln::nn::{Linear, Relu, Sequential};
//! use kiln::optim::AdamW;
//! use kiln::train::{Loss, Trainer};
//! use kiln::{Device, HostTensor};
//!
//! # fn main() -> kiln::Result<()> {
//! // y = x^2 on 64 points; "auto" instead of "cpu" takes a GPU if there is one.
//! let xs: Vec<f32> = (0..64).map(|i| i as f32 / 32.0 - 1.0).collect();
//! let ys: Vec<f32> = xs.iter().map(|x| x * x).collect();
//! let (x, y) = (HostTensor::f32([64, 1], xs)?, HostTensor::f32([64, 1], ys)?);
//! let data = Arrays::new(vec![("x", x.clone()), ("y", y)])?;
//!
//! let model = Sequential::new().add(Linear::new(1, 32)).add(Relu).add(Linear::new(32, 1));
//! let mut trainer = Trainer::new(&Device::open("cpu")?, model, Loss::Mse, AdamW::new(), 1e-2);
//! let measures = trainer.fit(&data, 16, 100)?;
//!
//! println!("loss {:.5}", measures.loss());
//! let fitted = trainer.predict(&x)?; // f32[64,1]
//! let weight = trainer.store().get("0.weight")?; // f32[32,1], named as in torch
//! # assert!(measures.loss() < 2e-3, "{measures:?}");
//! # assert_eq!((&fitted.shape[..], &weight.shape[..]), (&[64, 1][..], &[32, 1][..]));
//! # Ok(())
//! # }
//! ```
//!
//! - [`ir::Tensor`]: building graphs like any tensor code; [`grad::grad`] appends derivatives, to any order.
//! - [`nn`]: layers with torch's parameter names; [`optim`]: optimizers and schedules; [`train`]: the loop around them.
//! - [`backend::Program`] compiles a graph over a [`backend::Store`] of named states on a [`backend::Device`].
//! - [`ops::Composite`]: operations of one's own. `examples/` has one, and a Hessian-vector product.

#[macro_use]
mod out;

pub mod backend;
pub mod bench;
pub mod check;
pub mod cli;
pub mod config;
pub mod data;
pub mod dtype;
pub mod error;
pub mod grad;
pub mod ir;
pub mod lab;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod passes;
pub mod plan;
pub mod report;
pub mod rng;
pub mod shape;
pub mod tensor;
pub mod train;

pub use backend::{Device, Program, Store};
pub use dtype::{DType, Scalar};
pub use error::{Error, Result};
pub use ir::{Builder, Graph, Tensor};
pub use shape::Shape;
pub use tensor::{Data, HostTensor};
