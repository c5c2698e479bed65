//! `CumSum`: variant `serial` (an invocation per line) for many or short lines, else `chunked`: sums of chunks, running
//! sums of those, then the chunks again from their starts.

use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, dense, params, storage_type};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Prim;
use crate::plan::{Region, RegionKind};
use std::sync::Arc;

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::CumSum),
    stems: &["cumsum"],
    variants: &["serial", "chunked"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| false,
    samples: super::samples::cumsum,
    mutations: &[
        Mutation { stem: "cumsum", find: "var sum = start_of(t, c)", replace: "var sum = start_of(t, 0u)" },
        Mutation { stem: "cumsum", find: "out[at] = sum", replace: "out[at] = sum - x[params.offset + at]" },
    ],
};

params! {
    struct CumSumParams {
        count: u32,
        chunks: u32,
        chunk: u32,
        n: u32,
        inner: u32,
        offset: u32,
        pad0: u32,
        pad1: u32,
    }
}

fn text(ty: &str, wg: u32, sums: bool, base: bool) -> Arc<str> {
    let mut shader = Shader::new("cumsum")
        .header(format!("const WG: u32 = {wg}u;\nconst SUMS: bool = {sums};"))
        .header(format!("@group(0) @binding(0) var<storage, read> x: array<{ty}>;"));
    let mut next = 1;
    let mut start = format!("fn start_of(t: u32, c: u32) -> {ty} {{\n    return {ty}(0);\n}}\n");
    if base {
        shader = shader.header(format!("@group(0) @binding(1) var<storage, read> base: array<{ty}>;"));
        next = 2;
        start = format!(
            "fn start_of(t: u32, c: u32) -> {ty} {{\n    if c == 0u {{\n        return {ty}(0);\n    }}\n    return base[t - 1u];\n}}\n"
        );
    }
    shader
        .header(format!("@group(0) @binding({next}) var<storage, read_write> out: array<{ty}>;"))
        .header(format!("@group(0) @binding({}) var<uniform> params: Params;", next + 1))
        .common(&["index"])
        .body(start)
        .body(include_str!("../../../../shaders/cumsum.wgsl"))
        .build()
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let arg = dense(region, 0)?;
    let Prim::CumSum { axis } = super::only_node(region)?.prim else { return Err("not a cumsum".into()) };
    let shape = &arg.view.shape;
    let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let lines = shape.elems() / n;
    let ty = storage_type(arg.dtype);
    let enough = if caps.software() { 64 } else { 4096 };
    let default = if lines < enough && n >= 256 { "chunked" } else { "serial" };
    let chunked = caps.wanted("cumsum").unwrap_or(default) == "chunked" && n > 1;
    // About sqrt(n) chunks: the middle stage walks them alone.
    let chunks = if chunked { ((n as f64).sqrt() as usize).clamp(2, 2048) } else { 1 };
    let chunk = n.div_ceil(chunks);
    let wg = if caps.software() { 8 } else { 64.min(caps.max_invocations) };
    let variant = if chunked { "chunked" } else { "serial" };
    let call = |text: Arc<str>, bindings: Vec<Bind>, p: CumSumParams| -> Result<KernelCall, String> {
        Ok(KernelCall {
            label: "cumsum",
            variant,
            source: text,
            overrides: vec![],
            bindings,
            params: Params::of(&p),
            grid: Grid::linear(u64::from(p.count.div_ceil(wg)), caps.max_workgroups)?,
            flops: shape.elems() as u64,
            bytes: shape.elems() as u64 * 8,
        })
    };
    let whole = CumSumParams {
        count: (lines * chunks) as u32,
        chunks: chunks as u32,
        chunk: chunk as u32,
        n: n as u32,
        inner: inner as u32,
        offset: arg.view.offset as u32,
        pad0: 0,
        pad1: 0,
    };
    if !chunked {
        return Ok(vec![call(text(ty, wg, false, false), vec![Bind::Arg(0), Bind::Out(0)], whole)?]);
    }
    let scratch = |id, write| Bind::Scratch { id, bytes: (lines * chunks * 4) as u64, write };
    let middle = CumSumParams {
        count: lines as u32,
        chunks: 1,
        chunk: chunks as u32,
        n: chunks as u32,
        inner: 1,
        offset: 0,
        ..whole
    };
    Ok(vec![
        call(text(ty, wg, true, false), vec![Bind::Arg(0), scratch(0, true)], whole)?,
        call(text(ty, wg, false, false), vec![scratch(0, false), scratch(1, true)], middle)?,
        call(text(ty, wg, false, true), vec![Bind::Arg(0), scratch(1, false), Bind::Out(0)], whole)?,
    ])
}
