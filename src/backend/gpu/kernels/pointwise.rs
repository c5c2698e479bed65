//! Pointwise regions: one generated expression per region, over contiguous, repeated or strided operands.

use super::{KernelCall, KernelInfo, Serves};
use crate::backend::gpu::caps::GpuCaps;
use crate::plan::{Region, RegionKind};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Pointwise),
    stems: &["pointwise"],
    variants: &[],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: Vec::new,
    mutations: &[],
};

fn select(_: &Region, _: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    Err("pointwise kernels are not there yet".into())
}
