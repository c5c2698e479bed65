//! Pointwise regions: one generated expression per region, over contiguous, repeated or strided operands, in the
//! variants `scalar` (one element an invocation), `vec4` (four neighbours) and for software adapters `wide` (eight).

use super::operands::{MAX_ARGS, Operands, Unit, pack_dims};
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, expr, params, storage_type};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Value;
use crate::plan::{Region, RegionKind, Written};
use std::fmt::Write;

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Pointwise),
    stems: &["pointwise"],
    variants: &["scalar", "vec4", "wide"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::pointwise,
    mutations: &[
        Mutation { stem: "pointwise", find: "if i < params.count", replace: "if i + 1u < params.count" },
        Mutation { stem: "pointwise", find: "a + 0xfffu", replace: "a + 0xffffu" },
        Mutation { stem: "pointwise", find: "* WG + lane", replace: "* WG + (lane & 0xfffffffeu)" },
        Mutation { stem: "pointwise", find: "i % params.run0", replace: "i / params.run0" },
        Mutation { stem: "pointwise", find: "v >> vec4<u32>(32u)", replace: "v >> vec4<u32>(31u)" },
    ],
};

/// How many joined results have their run in `Params`; of further ones it is in the text.
const RUNS: usize = 3;

/// Most operations of an expression that is worth eight copies in the text: longer ones wait for arithmetic, not for loads.
const LONG: u64 = 64;

params! {
    /// `Params` of generated kernels.
    struct PointwiseParams {
        /// Invocations with work.
        count: u32,
        /// Of the first joined result: how many elements of a piece lie together.
        run0: u32,
        /// Of the second one.
        run1: u32,
        /// Of the third one.
        run2: u32,
        /// Sizes of the index space.
        dims: [[u32; 4]; 2],
        /// Strides and offset of each operand.
        args: [[i32; 4]; 2 * MAX_ARGS],
    }
}

/// The WGSL declaration of `PointwiseParams`.
pub(super) const PARAMS: &str = "struct Params {
    count: u32,
    run0: u32,
    run1: u32,
    run2: u32,
    dims: array<vec4<u32>, 2>,
    args: array<vec4<i32>, 48>,
}";

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let shape = region.space();
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
    let written: Vec<Written> = (0..region.outs.len()).map(|o| region.written(o)).collect();
    let joined = written.iter().filter(|w| w.pieces.len() > 1);
    let runs_of = |k: usize| n >= k && joined.clone().all(|w| w.run.is_multiple_of(k));
    let last = ops.dims.len() - 1;
    let unit = if caps.wanted("pointwise") == Some("scalar") || !ops.can_vec4() || !runs_of(4) {
        Unit::Scalar
    } else if caps.wide("pointwise") && expr::cost(&region.body) <= LONG && ops.can_wide(region, last) && runs_of(8) {
        Unit::Wide
    } else {
        Unit::Vec4
    };
    ops.declare(region, unit);
    let wanted: Vec<Value> = written.iter().flat_map(|w| w.pieces.iter().copied()).collect();
    let mut element = match unit {
        Unit::Scalar => element_scalar(&ops),
        Unit::Vec4 | Unit::Wide => element_unit(&ops, region, unit),
    };
    element += &stores(region, &written, &out_binding, unit);
    let uniform = format!("@group(0) @binding({}) var<uniform> params: Params;", ops.bindings.len());
    let source = Shader::new("pointwise")
        .header(PARAMS)
        .header(&ops.decls)
        .header(uniform)
        .common(ops.pieces())
        .common(if unit == Unit::Wide { &["wide"] } else { &[] })
        .body(ops.body(region, &wanted)?)
        .body(element)
        .body(include_str!("../../../../shaders/pointwise.wgsl"))
        .build();
    let count = n.div_ceil(unit.words()) as u32;
    let wg = caps.flat_workgroup();
    let mut runs = [0; RUNS];
    joined.zip(&mut runs).for_each(|(w, run)| *run = w.run as u32);
    let [run0, run1, run2] = runs;
    let p = PointwiseParams { count, run0, run1, run2, dims: pack_dims(&ops.dims), args: ops.packed() };
    let words = region.outs.len() + ops.readers.iter().filter(|r| r.binding.is_some()).count();
    Ok(vec![KernelCall {
        label: "pointwise",
        variant: match unit {
            Unit::Scalar => "scalar",
            Unit::Vec4 => "vec4",
            Unit::Wide => "wide",
        },
        source,
        overrides: vec![("WG", f64::from(wg))],
        bindings: ops.bindings,
        params: Params::of(&p),
        grid: Grid::linear(u64::from(count.div_ceil(wg)), caps.max_workgroups)?,
        flops: expr::cost(&region.body) * n as u64,
        bytes: words as u64 * n as u64 * 4,
    }])
}

/// The start of `element`: `r0` has the values at position `i`.
fn element_scalar(ops: &Operands) -> String {
    let mut text = String::from("fn element(i: u32) {\n");
    text += &ops.coordinates("i", 0, ops.dims.len());
    let mut args = vec!["i".to_string()];
    for r in 0..ops.readers.len() {
        args.push(ops.value(r, &ops.address(r, "i")));
    }
    args.extend((0..ops.counters.len()).map(|c| ops.counter(c)));
    let _ = writeln!(text, "    let r0 = body({});", args.join(", "));
    text
}

/// The start of `element` for a unit of neighbours along the last dimension: one load per operand that walks it, one
/// element of one that does not. `r0`, `r1`, .. have the values.
fn element_unit(ops: &Operands, region: &Region, unit: Unit) -> String {
    let (last, wide) = (ops.dims.len() - 1, unit == Unit::Wide);
    let mut text = format!("fn element(j: u32) {{\n    let i = j * {}u;\n", unit.words());
    text += &ops.coordinates("i", 0, ops.dims.len());
    text += &ops.quads(region, last, wide, |r| ops.address(r, "i"));
    for c in 0..ops.counters.len() {
        let _ = writeln!(text, "    let k{c} = {};", ops.counter(c));
    }
    for k in 0..unit.words() {
        let mut args = vec![format!("i + {k}u")];
        args.extend(ops.quad_values(last, k, wide));
        args.extend((0..ops.counters.len()).map(|c| format!("k{c}")));
        let _ = writeln!(text, "    let r{k} = body({});", args.join(", "));
    }
    text
}

/// The end of `element`: every value goes to its place.
fn stores(region: &Region, written: &[Written], bindings: &[usize], unit: Unit) -> String {
    let mut text = String::new();
    let (mut field, mut joined) = (0, 0);
    for (o, (w, b)) in written.iter().zip(bindings).enumerate() {
        let dtype = region.outs[o].ty.dtype;
        let n = w.pieces.len();
        let run = if joined < RUNS { format!("params.run{joined}") } else { format!("{}u", w.run) };
        if n > 1 {
            let _ = writeln!(text, "    let t{o} = i / {run} * {run} * {n}u + i % {run};");
            joined += 1;
        }
        for p in 0..n {
            let value = |k: usize| expr::store(dtype, &format!("r{k}.o{field}"));
            let at = match (n, unit) {
                (1, Unit::Scalar) => "i".to_string(),
                (1, _) => "j".to_string(),
                (_, Unit::Scalar) => format!("t{o} + {p}u * {run}"),
                (_, _) => format!("(t{o} + {p}u * {run}) / {}u", unit.words()),
            };
            let four = |places: [usize; 4]| format!("vec4<{}>({})", storage_type(dtype), places.map(value).join(", "));
            let values = match unit {
                Unit::Scalar => value(0),
                Unit::Vec4 => four([0, 1, 2, 3]),
                Unit::Wide => {
                    format!(
                        "woven(bitcast<vec4<u32>>({}), bitcast<vec4<u32>>({}))",
                        four([0, 2, 4, 6]),
                        four([1, 3, 5, 7])
                    )
                }
            };
            let _ = writeln!(text, "    b{b}[{at}] = {values};");
            field += 1;
        }
    }
    text + "}\n"
}
