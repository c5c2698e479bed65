//! Pointwise regions: one generated expression per region, over contiguous, repeated or strided operands, in the
//! variants `scalar` (one element an invocation) and `vec4` (four neighbours).

use super::operands::{MAX_ARGS, Operands, pack_dims};
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, expr, params, storage_type};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Value;
use crate::plan::{Region, RegionKind};
use std::fmt::Write;

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Pointwise),
    stems: &["pointwise"],
    variants: &["scalar", "vec4"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::pointwise,
    mutations: &[
        Mutation { stem: "pointwise", find: "if i < params.count", replace: "if i + 1u < params.count" },
        Mutation { stem: "pointwise", find: "* WG + lane", replace: "* WG + (lane & 0xfffffffeu)" },
    ],
};

params! {
    /// `Params` of generated kernels.
    struct PointwiseParams {
        /// Invocations with work.
        count: u32,
        /// Not used.
        pad0: u32,
        /// Not used.
        pad1: u32,
        /// Not used.
        pad2: u32,
        /// Sizes of the index space.
        dims: [[u32; 4]; 2],
        /// Strides and offset of each operand.
        args: [[i32; 4]; 2 * MAX_ARGS],
    }
}

/// The WGSL declaration of `PointwiseParams`.
pub(super) const PARAMS: &str = "struct Params {
    count: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
    dims: array<vec4<u32>, 2>,
    args: array<vec4<i32>, 48>,
}";

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let shape = &region.outs[0].ty.shape;
    let mut ops = Operands::new(region, shape, &[])?;
    let n = shape.elems();
    let mut out_binding = Vec::new();
    for o in 0..region.outs.len() {
        let at = ops.bindings.iter().position(|b| matches!(b, Bind::InPlace(_, i) if *i == o));
        out_binding.push(at.unwrap_or_else(|| {
            ops.bindings.push(Bind::Out(o));
            ops.bindings.len() - 1
        }));
    }
    let vec4 = ops.can_vec4() && n >= 4 && caps.wanted("pointwise") != Some("scalar");
    ops.declare(region, vec4);
    let wanted: Vec<Value> = region.body.outputs.iter().map(|o| o.value).collect();
    let element =
        if vec4 { element_vec4(&ops, region, &out_binding) } else { element_scalar(&ops, region, &out_binding) };
    let uniform = format!("@group(0) @binding({}) var<uniform> params: Params;", ops.bindings.len());
    let source = Shader::new("pointwise")
        .header(PARAMS)
        .header(&ops.decls)
        .header(uniform)
        .common(ops.pieces())
        .body(ops.body(region, &wanted)?)
        .body(element)
        .body(include_str!("../../../../shaders/pointwise.wgsl"))
        .build();
    let count = if vec4 { n.div_ceil(4) } else { n } as u32;
    let wg = caps.flat_workgroup();
    let p = PointwiseParams { count, pad0: 0, pad1: 0, pad2: 0, dims: pack_dims(&ops.dims), args: ops.packed() };
    let words = region.outs.len() + ops.readers.iter().filter(|r| r.binding.is_some()).count();
    Ok(vec![KernelCall {
        label: "pointwise",
        variant: if vec4 { "vec4" } else { "scalar" },
        source,
        overrides: vec![("WG", f64::from(wg))],
        bindings: ops.bindings,
        params: Params::of(&p),
        grid: Grid::linear(u64::from(count.div_ceil(wg)), caps.max_workgroups)?,
        flops: expr::cost(&region.body) * n as u64,
        bytes: words as u64 * n as u64 * 4,
    }])
}

fn element_scalar(ops: &Operands, region: &Region, outs: &[usize]) -> String {
    let mut text = String::from("fn element(i: u32) {\n");
    text += &ops.coordinates("i", 0, ops.dims.len());
    let mut args = vec!["i".to_string()];
    for r in 0..ops.readers.len() {
        args.push(ops.value(r, &ops.address(r, "i")));
    }
    args.extend((0..ops.counters.len()).map(|c| ops.counter(c)));
    let _ = writeln!(text, "    let r = body({});", args.join(", "));
    for (o, b) in outs.iter().enumerate() {
        let _ = writeln!(text, "    b{b}[i] = {};", expr::store(region.outs[o].ty.dtype, &format!("r.o{o}")));
    }
    text + "}\n"
}

/// Four neighbours along the last dimension: one vec4 load per operand that walks it, one element of one that does not.
fn element_vec4(ops: &Operands, region: &Region, outs: &[usize]) -> String {
    let last = ops.dims.len() - 1;
    let mut text = String::from("fn element(j: u32) {\n    let i = j * 4u;\n");
    text += &ops.coordinates("i", 0, ops.dims.len());
    text += &ops.quads(region, last, |r| ops.address(r, "i"));
    for c in 0..ops.counters.len() {
        let _ = writeln!(text, "    let k{c} = {};", ops.counter(c));
    }
    for k in 0..4 {
        let mut args = vec![format!("i + {k}u")];
        args.extend(ops.quad_values(last, k));
        args.extend((0..ops.counters.len()).map(|c| format!("k{c}")));
        let _ = writeln!(text, "    let r{k} = body({});", args.join(", "));
    }
    for (o, b) in outs.iter().enumerate() {
        let dtype = region.outs[o].ty.dtype;
        let parts: Vec<String> = (0..4).map(|k| expr::store(dtype, &format!("r{k}.o{o}"))).collect();
        let _ = writeln!(text, "    b{b}[j] = vec4<{}>({});", storage_type(dtype), parts.join(", "));
    }
    text + "}\n"
}
