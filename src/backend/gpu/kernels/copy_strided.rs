//! `Concat`: one strided copy per operand into its slab of the result.

use super::operands::{pack_dims, pack_strides};
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Prim;
use crate::plan::{Region, RegionKind};
use crate::shape::collapse;

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Concat),
    stems: &["copy_strided"],
    variants: &["words"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::concat,
    mutations: &[
        Mutation { stem: "copy_strided", find: "var to = params.to_offset", replace: "var to = 0 * params.to_offset" },
        Mutation { stem: "copy_strided", find: "i >= params.count", replace: "i + 1u >= params.count" },
    ],
};

params! {
    struct CopyParams {
        count: u32,
        rank: u32,
        from_offset: i32,
        to_offset: i32,
        dims: [[u32; 4]; 2],
        from_strides: [[i32; 4]; 2],
        to_strides: [[i32; 4]; 2],
    }
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let node = super::only_node(region)?;
    let Prim::Concat { axis } = node.prim else { return Err("not a concat".into()) };
    let out_strides = region.outs[0].ty.shape.strides();
    let source = Shader::new("copy_strided")
        .common(&["index"])
        .body(include_str!("../../../../shaders/copy_strided.wgsl"))
        .build();
    let wg = caps.flat_workgroup();
    let mut calls = Vec::new();
    let mut start = 0;
    for &value in &node.args {
        // One argument can appear several times.
        let i = super::expr::input_of(&region.body, value.node).ok_or("concat of something computed")?;
        let view = &super::slot_arg(region, i)?.view;
        let (dims, strides) = collapse(&view.shape, &[view.strides.clone(), out_strides.clone()]);
        if dims.len() > 8 {
            return Err(format!("rank {} is above 8", dims.len()));
        }
        let count = view.shape.elems();
        let p = CopyParams {
            count: count as u32,
            rank: dims.len().max(1) as u32,
            from_offset: view.offset as i32,
            to_offset: (start * out_strides[axis] as usize) as i32,
            dims: pack_dims(&dims),
            from_strides: pack_strides(&strides[0]),
            to_strides: pack_strides(&strides[1]),
        };
        start += view.shape[axis];
        calls.push(KernelCall {
            label: "copy_strided",
            variant: "words",
            source: source.clone(),
            overrides: vec![("WG", f64::from(wg))],
            bindings: vec![Bind::Arg(i), Bind::Out(0)],
            params: Params::of(&p),
            grid: Grid::linear((count as u64).div_ceil(u64::from(wg)), caps.max_workgroups)?,
            flops: 0,
            bytes: count as u64 * 8,
        });
    }
    Ok(calls)
}
