//! `TakeAlong` and its adjoint `ScatterAddAlong`, which gathers: every output element scans the indices of its line.

use super::operands::{pack_dims, pack_strides};
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, check_index, params, slot_arg};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Prim;
use crate::plan::{Region, RegionKind};

/// The registry row of `TakeAlong`.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::TakeAlong),
    stems: &["take_along", "check_index"],
    variants: &["take", "scan"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::take_along,
    mutations: &[Mutation { stem: "take_along", find: "i * x_stride", replace: "(i - 1) * x_stride" }],
};

/// The registry row of `ScatterAddAlong`.
pub const SCATTER: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::ScatterAddAlong),
    variants: &["scatter", "scan"],
    samples: super::samples::scatter_add_along,
    mutations: &[Mutation { stem: "take_along", find: "result = result + x", replace: "result = x" }],
    ..KERNEL
};

params! {
    struct AlongParams {
        count: u32,
        rank: u32,
        axis: u32,
        limit: u32,
        x_offset: i32,
        index_offset: i32,
        pad0: u32,
        pad1: u32,
        dims: [[u32; 4]; 2],
        sizes: [[u32; 4]; 2],
        x_strides: [[i32; 4]; 2],
        index_strides: [[i32; 4]; 2],
    }
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let (x, index) = (slot_arg(region, 0)?, slot_arg(region, 1)?);
    let out = &region.outs[0].ty.shape;
    let (axis, scatter) = match super::only_node(region)?.prim {
        Prim::TakeAlong { axis } => (axis, false),
        Prim::ScatterAddAlong { axis, .. } => (axis, true),
        _ => return Err("not an indexing along a dimension".into()),
    };
    if out.len() > 8 {
        return Err(format!("rank {} is above 8", out.len()));
    }
    let table = if scatter { out[axis] } else { x.view.shape[axis] };
    let limit = if scatter { index.view.shape[axis] } else { table };
    let count = out.elems();
    let p = AlongParams {
        count: count as u32,
        rank: out.len() as u32,
        axis: axis as u32,
        limit: limit as u32,
        x_offset: x.view.offset as i32,
        index_offset: index.view.offset as i32,
        pad0: 0,
        pad1: 0,
        dims: pack_dims(out),
        sizes: pack_dims(&index.view.shape),
        x_strides: pack_strides(&x.view.strides),
        index_strides: pack_strides(&index.view.strides),
    };
    let wg = caps.flat_workgroup();
    let source = Shader::new("take_along")
        .header(format!("alias T = {};\nconst SCATTER: bool = {scatter};", super::storage_type(x.dtype)))
        .common(&["index"])
        .body(include_str!("../../../../shaders/take_along.wgsl"))
        .build();
    let call = KernelCall {
        label: "take_along",
        variant: if scatter { "scatter" } else { "take" },
        source,
        overrides: vec![("WG", f64::from(wg))],
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Out(0)],
        params: Params::of(&p),
        grid: Grid::linear((count as u64).div_ceil(u64::from(wg)), caps.max_workgroups)?,
        flops: if scatter { (count * limit) as u64 } else { 0 },
        bytes: count as u64 * 8,
    };
    let mut calls = Vec::new();
    if index.view.shape.elems() > 0 {
        calls.push(check_index::check(region, 1, table, None, caps)?);
    }
    calls.push(call);
    Ok(calls)
}
