//! The WebGPU backend: the only place that names wgpu. Kernel selection (`kernels/`) and capabilities (`caps`) are pure.

pub mod caps;
pub mod kernels;

pub use caps::{AdapterClass, GpuCaps};
