//! `Take`: rows of a table, by words or by four words at once.

use super::{
    Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, check_index, dense, params, slot_arg,
};
use crate::backend::gpu::caps::GpuCaps;
use crate::plan::{Region, RegionKind};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Take),
    stems: &["take", "check_index"],
    variants: &["word", "vec4", "scan"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, arg| arg == 1,
    samples: super::samples::take,
    mutations: &[
        Mutation { stem: "take", find: "u32(row) * params.width", replace: "u32(row + 1) * params.width" },
        Mutation { stem: "take", find: "t >= params.count", replace: "t + 1u >= params.count" },
    ],
};

params! {
    struct TakeParams {
        count: u32,
        width: u32,
        rows: u32,
        x_offset: u32,
        index_offset: i32,
        index_stride: i32,
        pad0: u32,
        pad1: u32,
    }
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let (x, index) = (dense(region, 0)?, slot_arg(region, 1)?);
    let shape = &x.view.shape;
    let width: usize = shape[1..].iter().product();
    let vec4 = width.is_multiple_of(4) && x.view.offset.is_multiple_of(4) && caps.wanted("take") != Some("word");
    let unit = if vec4 { 4 } else { 1 };
    let count = region.outs[0].ty.shape.elems() / unit;
    let p = TakeParams {
        count: count as u32,
        width: (width / unit) as u32,
        rows: shape[0] as u32,
        x_offset: (x.view.offset / unit) as u32,
        index_offset: index.view.offset as i32,
        index_stride: index.view.strides[0] as i32,
        pad0: 0,
        pad1: 0,
    };
    let wg = caps.flat_workgroup();
    let source = Shader::new("take")
        .header(if vec4 { "alias E = vec4<u32>;" } else { "alias E = u32;" })
        .common(&["index"])
        .body(include_str!("../../../../shaders/take.wgsl"))
        .build();
    let call = KernelCall {
        label: "take",
        variant: if vec4 { "vec4" } else { "word" },
        source,
        overrides: vec![("WG", f64::from(wg))],
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Out(0)],
        params: Params::of(&p),
        grid: Grid::linear((count as u64).div_ceil(u64::from(wg)), caps.max_workgroups)?,
        flops: 0,
        bytes: (count * unit) as u64 * 8,
    };
    Ok(vec![check_index::check(region, 1, shape[0], None, caps)?, call])
}
