//! `ArgMax`: index of the first maximum. Variants `serial` (an invocation per result) and `tree` (a workgroup).

use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, dense, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::Prim;
use crate::plan::{Region, RegionKind};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::ArgMax),
    stems: &["argmax"],
    variants: &["tree", "serial"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| false,
    samples: super::samples::argmax,
    mutations: &[
        Mutation { stem: "argmax", find: "a.y < b.y", replace: "a.y > b.y" },
        Mutation { stem: "argmax", find: "j < params.n;", replace: "j + 1u < params.n;" },
    ],
};

params! {
    struct ArgMaxParams {
        count: u32,
        n: u32,
        inner: u32,
        offset: u32,
    }
}

/// What `common/keys.wgsl` calls an element type.
pub(super) fn key_kind(dtype: DType) -> u32 {
    match dtype {
        DType::F32 | DType::F16 => 0,
        DType::I32 => 1,
        DType::U32 | DType::Bool => 2,
    }
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let arg = dense(region, 0)?;
    let node = super::only_node(region)?;
    let Prim::ArgMax { axis } = node.prim else { return Err("not an argmax".into()) };
    let shape = &arg.view.shape;
    let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let count = region.outs[0].ty.shape.elems();
    let default = inner == 1 && n >= 256 && !caps.software();
    let tree = caps.wanted("argmax").map_or(default, |v| v == "tree");
    let wg = if tree { caps.tree_workgroup() } else { caps.flat_workgroup().min(64) };
    let finish = if tree {
        "fn finish(o: u32, lane: u32, best: T) {\n    let all = fold_all(lane, best);\n    if lane == 0u {\n        out[o] = i32(all.y);\n    }\n}\n"
    } else {
        "fn finish(o: u32, lane: u32, best: T) {\n    if o < params.count {\n        out[o] = i32(best.y);\n    }\n}\n"
    };
    let mut shader = Shader::new("argmax")
        .header(format!(
            "const TREE: bool = {tree};\nconst WG: u32 = {wg}u;\nconst KIND: u32 = {}u;",
            key_kind(arg.dtype)
        ))
        .common(&["index", "keys"]);
    if tree {
        shader = shader.common(&["fold"]);
    }
    let source = shader.body(finish).body(include_str!("../../../../shaders/argmax.wgsl")).build();
    let p = ArgMaxParams { count: count as u32, n: n as u32, inner: inner as u32, offset: arg.view.offset as u32 };
    let groups = if tree { count as u64 } else { (count as u64).div_ceil(u64::from(wg)) };
    Ok(vec![KernelCall {
        label: "argmax",
        variant: if tree { "tree" } else { "serial" },
        source,
        overrides: vec![],
        bindings: vec![Bind::Arg(0), Bind::Out(0)],
        params: Params::of(&p),
        grid: Grid::linear(groups, caps.max_workgroups)?,
        flops: shape.elems() as u64,
        bytes: shape.elems() as u64 * 4,
    }])
}
