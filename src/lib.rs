//! kiln trains neural networks on any GPU through WebGPU, from one Rust crate: graphs of primitives, differentiation
//! to any order, a planner that fuses and places, WGSL kernels, and a reference that every result is checked against.

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
