//! The check of an index list before it is used: what is out of range is reported with its smallest position. The
//! kernels that use the indices skip such entries, so that nothing reads or writes out of bounds.

use super::operands::{pack_dims, pack_strides};
use super::{Bind, Grid, KernelCall, Params, Shader, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::plan::Region;

params! {
    struct CheckParams {
        count: u32,
        limit: u32,
        site: u32,
        rank: u32,
        offset: i32,
        ignore: i32,
        has_ignore: u32,
        pad0: u32,
        dims: [[u32; 4]; 2],
        strides: [[i32; 4]; 2],
    }
}

/// The call that checks argument `arg` (i32) against 0..`limit`; `ignore` is a value that is also allowed.
pub fn check(
    region: &Region,
    arg: usize,
    limit: usize,
    ignore: Option<i32>,
    caps: &GpuCaps,
) -> Result<KernelCall, String> {
    let view = super::slot_arg(region, arg)?.view.collapsed();
    if view.shape.len() > 8 {
        return Err("indices of more than 8 dimensions".into());
    }
    let wg = caps.tree_workgroup();
    let count = view.shape.elems();
    let p = CheckParams {
        count: count as u32,
        limit: limit as u32,
        site: 0,
        rank: view.shape.len() as u32,
        offset: view.offset as i32,
        ignore: ignore.unwrap_or(-1),
        has_ignore: u32::from(ignore.is_some()),
        pad0: 0,
        dims: pack_dims(&view.shape),
        strides: pack_strides(&view.strides),
    };
    Ok(KernelCall {
        label: "check_index",
        variant: "scan",
        source: Shader::new("check_index")
            .header(format!("const WG: u32 = {wg}u;"))
            .common(&["status"])
            .body(include_str!("../../../../shaders/check_index.wgsl"))
            .common(&["fold"])
            .build(),
        overrides: vec![],
        bindings: vec![Bind::Arg(arg), Bind::Status],
        params: Params::of(&p),
        grid: Grid([1, 1, 1]),
        flops: 0,
        bytes: count as u64 * 4,
    })
}
