//! `ScatterAdd`: row numbers are sorted (stably), then each result adds up its segment. Deterministic, no atomics.

use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, sort};
use super::{check_index, dense, params, slot_arg, storage_type};
use crate::backend::gpu::caps::GpuCaps;
use crate::plan::{Region, RegionKind};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::ScatterAdd),
    stems: &["scatter_add", "sort_block", "sort_merge", "check_index"],
    variants: &["segments", "merge", "scan"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| false,
    samples: super::samples::scatter_add,
    mutations: &[
        Mutation { stem: "scatter_add", find: "sorted[half].x < row", replace: "sorted[half].x <= row" },
        Mutation { stem: "scatter_add", find: "item.y * params.width", replace: "low * params.width" },
    ],
};

params! {
    struct ScatterParams {
        count: u32,
        width: u32,
        n: u32,
        offset: u32,
    }
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let (src, index) = (dense(region, 0)?, slot_arg(region, 1)?);
    let shape = &src.view.shape;
    let out = &region.outs[0].ty.shape;
    let (n, width) = (shape[0], shape[1..].iter().product::<usize>());
    let wg = caps.flat_workgroup();
    let mut calls = vec![check_index::check(region, 1, out[0], None, caps)?];
    let stride = if n > 1 { index.view.strides[0] } else { 1 };
    let stride = usize::try_from(stride).map_err(|_| "the row numbers run backwards".to_string())?;
    let sorted = if n == 0 {
        calls.clear();
        Bind::Scratch { id: 0, bytes: 16, write: false }
    } else {
        let what = sort::Lines {
            bind: Bind::Arg(1),
            kind: 2,
            lines: 1,
            n,
            inner: 1,
            offset: index.view.offset,
            stride,
            descending: false,
            limit: out[0] as u32,
        };
        let (passes, sorted) = sort::passes(&what, caps)?;
        calls.extend(passes);
        sorted
    };
    let count = out.elems();
    let p = ScatterParams { count: count as u32, width: width as u32, n: n as u32, offset: src.view.offset as u32 };
    calls.push(KernelCall {
        label: "scatter_add",
        variant: "segments",
        source: Shader::new("scatter_add")
            .header(format!("alias T = {};", storage_type(src.dtype)))
            .common(&["index"])
            .body(include_str!("../../../../shaders/scatter_add.wgsl"))
            .build(),
        overrides: vec![("WG", f64::from(wg))],
        bindings: vec![Bind::Arg(0), sorted, Bind::Out(0)],
        params: Params::of(&p),
        grid: Grid::linear((count as u64).div_ceil(u64::from(wg)), caps.max_workgroups)?,
        flops: shape.elems() as u64,
        bytes: (count + shape.elems()) as u64 * 4,
    });
    Ok(calls)
}
