//! `Pad`: one invocation an output element, which looks up its source or takes the padding value.

use super::operands::{pack_dims, pack_strides};
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Prim;
use crate::plan::{Region, RegionKind};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Pad),
    stems: &["pad"],
    variants: &["words"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::pad,
    mutations: &[
        Mutation { stem: "pad", find: "- params.lo", replace: "+ params.lo" },
        Mutation { stem: "pad", find: "q * step == u32(max(c, 0)) &&", replace: "" },
    ],
};

params! {
    struct PadParams {
        count: u32,
        rank: u32,
        value: u32,
        offset: u32,
        dims: [[u32; 4]; 2],
        sizes: [[u32; 4]; 2],
        lo: [[i32; 4]; 2],
        step: [[u32; 4]; 2],
        strides: [[i32; 4]; 2],
    }
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let arg = super::slot_arg(region, 0)?;
    let node = super::only_node(region)?;
    let Prim::Pad { lo, interior, value, .. } = &node.prim else { return Err("not a pad".into()) };
    let out = &region.outs[0].ty.shape;
    if out.len() > 8 {
        return Err(format!("rank {} is above 8", out.len()));
    }
    let count = out.elems();
    let p = PadParams {
        count: count as u32,
        rank: out.len() as u32,
        value: value.bits(),
        offset: arg.view.offset as u32,
        dims: pack_dims(out),
        sizes: pack_dims(&arg.view.shape),
        lo: pack_strides(&lo.iter().map(|&n| n as isize).collect::<Vec<_>>()),
        step: pack_dims(&interior.iter().map(|&n| n + 1).collect::<Vec<_>>()),
        strides: pack_strides(&arg.view.strides),
    };
    let wg = caps.flat_workgroup();
    Ok(vec![KernelCall {
        label: "pad",
        variant: "words",
        source: Shader::new("pad").common(&["index"]).body(include_str!("../../../../shaders/pad.wgsl")).build(),
        overrides: vec![("WG", f64::from(wg))],
        bindings: vec![Bind::Arg(0), Bind::Out(0)],
        params: Params::of(&p),
        grid: Grid::linear((count as u64).div_ceil(u64::from(wg)), caps.max_workgroups)?,
        flops: 0,
        bytes: (count + arg.view.shape.elems()) as u64 * 4,
    }])
}
