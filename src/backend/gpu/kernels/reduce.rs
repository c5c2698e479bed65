//! Reductions over any dimensions with a pointwise prologue. Variants: `tree` (a workgroup per result), `serial` (an
//! invocation per result); both in one stage, or over chunks with a second stage for few results of many elements.

use super::operands::{MAX_ARGS, Operands, pack_dims};
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, expr, params, storage_type};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::{Prim, ReduceOp};
use crate::plan::{Region, RegionKind};
use std::fmt::Write;

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Reduce),
    stems: &["reduce"],
    variants: &["tree", "serial"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::reduce,
    mutations: &[
        Mutation { stem: "reduce", find: "while j < end", replace: "while j + 1u < end" },
        Mutation { stem: "reduce", find: "combine(x2, x3)", replace: "x2" },
        Mutation { stem: "reduce", find: "(t % params.chunks) * params.chunk", replace: "0u * params.chunk" },
    ],
};

params! {
    /// `Params` of a reduction stage.
    struct ReduceParams {
        /// Items: results times chunks.
        count: u32,
        /// Chunks per result.
        chunks: u32,
        /// Elements per chunk.
        chunk: u32,
        /// Elements per result.
        length: u32,
        /// Bits of the neutral element.
        init: u32,
        /// Not used.
        pad0: u32,
        /// Not used.
        pad1: u32,
        /// Not used.
        pad2: u32,
        /// Sizes: kept dimensions, then reduced ones.
        dims: [[u32; 4]; 2],
        /// Strides and offset of each operand.
        args: [[i32; 4]; 2 * MAX_ARGS],
    }
}

const PARAMS: &str = "struct Params {
    count: u32,
    chunks: u32,
    chunk: u32,
    length: u32,
    init: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
    dims: array<vec4<u32>, 2>,
    args: array<vec4<i32>, 48>,
}";

/// How a stage is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    outs: usize,
    length: usize,
    chunks: usize,
    tree: bool,
}

impl Layout {
    /// `walks`: neighbours along the reduced dimensions are neighbours in memory.
    fn choose(outs: usize, length: usize, walks: bool, caps: &GpuCaps) -> Layout {
        let (enough, least) = if caps.software() { (256, 256) } else { (1 << 15, 64) };
        let forced = caps.wanted("reduce");
        let tree = forced.map_or(walks && !caps.software() && length >= 256 && outs < enough, |v| v == "tree");
        let parallel = if tree { outs * caps.tree_workgroup() as usize } else { outs };
        let shortest = if tree { 16 * caps.tree_workgroup() as usize } else { least };
        let wanted = enough.div_ceil(parallel.max(1)).min(length / shortest).max(1);
        // At most 4096 partial results each, so that the second stage is short.
        let chunk = length.div_ceil(wanted.min(4096)).next_multiple_of(4).max(1);
        Layout { outs, length, chunks: length.div_ceil(chunk).max(1), tree }
    }
    fn params(&self, init: u32, dims: &[usize], args: [[i32; 4]; 2 * MAX_ARGS]) -> Params {
        Params::of(&ReduceParams {
            count: (self.outs * self.chunks) as u32,
            chunks: self.chunks as u32,
            chunk: self.length.div_ceil(self.chunks).next_multiple_of(4) as u32,
            length: self.length as u32,
            init,
            pad0: 0,
            pad1: 0,
            pad2: 0,
            dims: pack_dims(dims),
            args,
        })
    }
    fn workgroup(&self, caps: &GpuCaps) -> u32 {
        if self.tree {
            caps.tree_workgroup()
        } else if caps.software() {
            8
        } else {
            64.min(caps.max_invocations)
        }
    }
    fn grid(&self, caps: &GpuCaps) -> Result<Grid, String> {
        let items = (self.outs * self.chunks) as u64;
        let groups = if self.tree { items } else { items.div_ceil(u64::from(self.workgroup(caps))) };
        Grid::linear(groups, caps.max_workgroups)
    }
    fn variant(&self) -> &'static str {
        if self.tree { "tree" } else { "serial" }
    }
}

/// The combining function and the bits of its neutral element.
pub(super) fn combine(op: ReduceOp, dtype: DType) -> Result<(&'static str, u32), String> {
    Ok(match (op, dtype) {
        (ReduceOp::Sum, _) => ("a + b", 0),
        (ReduceOp::Prod, DType::F32) => ("a * b", 1f32.to_bits()),
        (ReduceOp::Prod, _) => ("a * b", 1),
        (ReduceOp::Max, DType::F32) => ("max_nan(a, b)", f32::NEG_INFINITY.to_bits()),
        (ReduceOp::Max, DType::I32) => ("max(a, b)", i32::MIN as u32),
        (ReduceOp::Max, DType::U32) => ("max(a, b)", 0),
        (ReduceOp::Max, DType::Bool) => return Err("there is no maximum of bools".into()),
    })
}

struct Stage<'a> {
    layout: Layout,
    dtype: DType,
    combine: &'static str,
    decls: &'a str,
    bindings: usize,
    functions: &'a str,
    pieces: &'a [&'static str],
}

fn text(stage: &Stage, wg: u32) -> std::sync::Arc<str> {
    let ty = storage_type(stage.dtype);
    let tree = stage.layout.tree;
    let put = if tree {
        "    let all = fold_all(lane, x);\n    if lane == 0u && live {\n        out[t] = all;\n    }\n"
    } else {
        "    if live {\n        out[t] = x;\n    }\n"
    };
    let mut shader = Shader::new("reduce")
        .header(PARAMS)
        .header(format!("alias T = {ty};\nconst TREE: bool = {tree};\nconst WG: u32 = {wg}u;"))
        .header(stage.decls)
        .header(format!("@group(0) @binding({}) var<storage, read_write> out: array<{ty}>;", stage.bindings))
        .header(format!("@group(0) @binding({}) var<uniform> params: Params;", stage.bindings + 1))
        .common(stage.pieces)
        .body(format!("fn combine(a: T, b: T) -> T {{\n    return {};\n}}\n", stage.combine));
    if tree {
        shader = shader.common(&["fold"]);
    }
    shader
        .body(stage.functions)
        .body(format!("fn finish(t: u32, lane: u32, live: bool, x: T) {{\n{put}}}\n"))
        .body(include_str!("../../../../shaders/reduce.wgsl"))
        .build()
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let graph = &region.body;
    let node = graph.node(graph.outputs[0].value.node);
    let Prim::Reduce { op, axes } = &node.prim else { return Err("the result is not a reduction".into()) };
    let value = node.args[0];
    let (shape, dtype) = (graph.shape(value), graph.ty(value).dtype);
    let mut ops = Operands::new(region, shape, axes)?;
    if region.in_place.iter().any(Option::is_some) {
        return Err("a reduction cannot work in place".into());
    }
    ops.declare(region, false);
    let (outs, length) = (region.outs[0].ty.shape.elems(), axes.iter().map(|&a| shape[a]).product());
    let rank = ops.dims.len();
    let walks = ops.readers.iter().zip(&ops.strides).any(|(r, s)| r.binding.is_some() && s[rank - 1] == 1);
    let (combine, init) = combine(*op, dtype)?;
    let layout = Layout::choose(outs, length, walks, caps);
    // The prologue: the value at reduced position j of output o.
    let mut functions = ops.body(region, &[value])?;
    functions += "fn partial(o: u32, j: u32) -> T {\n";
    functions += &ops.coordinates("o", 0, ops.kept);
    functions += &ops.coordinates("j", ops.kept, rank);
    let position = if ops.counters.is_empty() {
        "0u".to_string()
    } else {
        let terms: Vec<String> = (0..rank).map(|d| format!("c{d} * {}u", ops.linear[d])).collect();
        terms.join(" + ")
    };
    let mut args = vec![position];
    args.extend((0..ops.readers.len()).map(|r| ops.value(r, &ops.address(r, ""))));
    args.extend((0..ops.counters.len()).map(|c| ops.counter(c)));
    let _ = writeln!(functions, "    return body({}).o0;\n}}", args.join(", "));
    let work = outs as u64 * length as u64;
    let staged = layout.chunks > 1;
    let scratch = |write| Bind::Scratch { id: 0, bytes: (outs * layout.chunks * 4) as u64, write };
    let mut bindings = ops.bindings.clone();
    bindings.push(if staged { scratch(true) } else { Bind::Out(0) });
    let stage = Stage {
        layout,
        dtype,
        combine,
        decls: &ops.decls,
        bindings: ops.bindings.len(),
        functions: &functions,
        pieces: ops.pieces(),
    };
    let mut calls = vec![KernelCall {
        label: "reduce",
        variant: layout.variant(),
        source: text(&stage, layout.workgroup(caps)),
        overrides: vec![],
        bindings,
        params: layout.params(init, &ops.dims, ops.packed()),
        grid: layout.grid(caps)?,
        flops: (expr::cost(graph) + 1) * work,
        bytes: ops.readers.iter().filter(|r| r.binding.is_some()).count() as u64 * work * 4,
    }];
    if staged {
        let chunks = layout.chunks;
        let layout = Layout { outs, length: chunks, chunks: 1, tree: layout.tree || (outs < 64 && chunks >= 64) };
        let ty = storage_type(dtype);
        let stage = Stage {
            layout,
            dtype,
            combine,
            decls: &format!("@group(0) @binding(0) var<storage, read> partials: array<{ty}>;"),
            bindings: 1,
            functions: "fn partial(o: u32, j: u32) -> T {\n    return partials[o * params.length + j];\n}\n",
            pieces: &["index", "bits"],
        };
        calls.push(KernelCall {
            label: "reduce",
            variant: layout.variant(),
            source: text(&stage, layout.workgroup(caps)),
            overrides: vec![],
            bindings: vec![scratch(false), Bind::Out(0)],
            params: layout.params(init, &[], [[0; 4]; 2 * MAX_ARGS]),
            grid: layout.grid(caps)?,
            flops: (outs * chunks) as u64,
            bytes: (outs * chunks * 4) as u64,
        });
    }
    Ok(calls)
}
