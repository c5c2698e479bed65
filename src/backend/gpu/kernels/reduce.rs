//! Reductions over any dimensions with a pointwise prologue. Variants: `tree` (a workgroup per result), `serial` (an
//! invocation per result), `tree_quads` and `quads` (the same, four elements a load), `subgroup` (a workgroup per result that folds by subgroup
//! operations, four elements a load where it can), `columns` (an invocation per strip of
//! results, which lie together), and for software adapters `wide` and `wide_columns` (eight elements a load); all in one stage, or over
//! chunks with a second stage for few results of many elements.

use super::operands::{MAX_ARGS, Operands, Unit, pack_dims};
use super::{
    Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, expr, params, repeat, storage_type, subgroup,
};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::{Prim, ReduceOp};
use crate::plan::{Region, RegionKind};
use std::fmt::Write;

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Reduce),
    stems: &["reduce"],
    variants: &["tree", "serial", "tree_quads", "quads", "subgroup", "columns", "wide", "wide_columns"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::reduce,
    mutations: &[
        Mutation { stem: "reduce", find: "while j < end", replace: "while j + 1u < end" },
        Mutation { stem: "reduce", find: "combine(x2, x3)", replace: "x2" },
        Mutation { stem: "reduce", find: "(t % params.chunks) * params.chunk", replace: "0u * params.chunk" },
        Mutation { stem: "reduce", find: "combine(x.z, x.w)", replace: "x.z" },
        Mutation { stem: "reduce", find: "r = fold8(r, o, j + eight);", replace: "r = fold8(r, o, j);" },
        Mutation { stem: "reduce", find: "select(0u, 4u * lane, TREE)", replace: "select(0u, lane, TREE)" },
        Mutation { stem: "reduce", find: "if (lane % NEAR == 0u)", replace: "if (lane == 0u)" },
        Mutation { stem: "reduce", find: "3u * HOP + 4u, TREE", replace: "4u, TREE" },
        Mutation { stem: "reduce", find: "join4(x.a), join4(x.b)", replace: "join4(x.a), join4(x.a)" },
        Mutation { stem: "reduce", find: "(t % strips) * STRIP", replace: "(t % strips) * 4u" },
        Mutation { stem: "reduce", find: "j < end; j++", replace: "j + 1u < end; j++" },
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

/// Most operations of a prologue that is worth several copies in the text.
const SHORT: u64 = 8;
/// Chunks are multiples of so many elements: of all that are loaded at once.
const CHUNK: usize = 8;

/// How a stage folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tree,
    TreeQuads,
    Serial,
    /// The unit of a load.
    Quads(Unit),
    /// The number of units of results of one invocation.
    Columns(Unit, usize),
}

impl Way {
    fn unit(self) -> Unit {
        match self {
            Way::Tree | Way::Serial => Unit::Scalar,
            Way::TreeQuads => Unit::Vec4,
            Way::Quads(unit) | Way::Columns(unit, _) => unit,
        }
    }
    /// Results of one invocation.
    fn results(self) -> usize {
        match self {
            Way::Columns(unit, strip) => unit.words() * strip,
            Way::Tree | Way::TreeQuads | Way::Serial | Way::Quads(_) => 1,
        }
    }
    /// True if a workgroup shares a result.
    fn tree(self) -> bool {
        matches!(self, Way::Tree | Way::TreeQuads)
    }
}

/// How a stage is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    outs: usize,
    length: usize,
    chunks: usize,
    way: Way,
    /// Neighbours of a tree that fold by subgroup operations.
    near: Option<u32>,
}

/// The ways to fold several at a time that the operands allow.
#[derive(Debug, Clone, Copy)]
struct Fits {
    /// The prologue is short enough to be repeated.
    short: bool,
    quads: Option<Way>,
    columns: Option<Way>,
}

impl Fits {
    fn of(ops: &Operands, region: &Region, cost: u64, caps: &GpuCaps) -> Fits {
        let (kept, rank) = (ops.kept, ops.dims.len());
        let wide = match caps.wanted("reduce") {
            Some(v) => v.starts_with("wide"),
            None => caps.software(),
        };
        let unit = |d: usize| if wide && caps.int64 && ops.can_wide(region, d) { Unit::Wide } else { Unit::Vec4 };
        // Positions and random words are rare here and cheap to compute one by one.
        let loads = ops.counters.is_empty() && ops.readers.iter().all(|r| r.binding.is_some());
        let along = |d: usize| loads && ops.dims[d].is_multiple_of(4) && ops.walks(d, 4);
        let moves = |d: usize| ops.strides.iter().any(|s| s[d] == 1);
        let columns = (kept > 0 && along(kept - 1) && moves(kept - 1)).then(|| {
            // Long expressions are not unrolled further: each copy costs compile time. On GPUs neighbours work side by side.
            let unit = unit(kept - 1);
            let most = if cost > SHORT || !caps.software() { 1 } else { 32 / unit.words() };
            let whole = |&k: &usize| k <= most && ops.dims[kept - 1].is_multiple_of(unit.words() * k);
            Way::Columns(unit, [4, 2, 1].into_iter().find(whole).unwrap_or(1))
        });
        let short = cost <= SHORT;
        Fits {
            short,
            quads: (rank > kept && along(rank - 1) && moves(rank - 1)).then(|| Way::Quads(unit(rank - 1))),
            columns,
        }
    }
}

/// Neighbours of a tree that fold by subgroup operations, if any do.
fn near(caps: &GpuCaps) -> Option<u32> {
    let wg = caps.tree_workgroup();
    subgroup::near(wg, wg, caps).filter(|_| subgroup::wanted("reduce", caps))
}

impl Layout {
    /// `walks`: neighbours along the reduced dimensions are neighbours in memory.
    fn choose(outs: usize, length: usize, walks: bool, fits: Fits, caps: &GpuCaps) -> Layout {
        let enough = if caps.software() { 256 } else { 1 << 15 };
        let way = match (caps.wanted("reduce"), fits) {
            (Some("tree"), _) => Way::Tree,
            (Some("columns" | "wide_columns"), Fits { columns: Some(way), .. }) => way,
            (Some("quads" | "wide"), Fits { quads: Some(way), .. }) => way,
            (Some("tree_quads" | "subgroup"), Fits { quads: Some(_), .. }) => Way::TreeQuads,
            (Some("subgroup"), _) => Way::Tree,
            (Some(_), _) => Way::Serial,
            (None, Fits { quads, .. }) if walks && !caps.software() && length >= 256 && outs < enough => {
                if quads.is_some() { Way::TreeQuads } else { Way::Tree }
            }
            (None, Fits { quads: Some(way), .. } | Fits { columns: Some(way), .. }) => way,
            (None, _) => Way::Serial,
        };
        let wg = caps.tree_workgroup() as usize;
        let (parallel, shortest) = match way {
            Way::Tree | Way::TreeQuads => (outs * wg, 16 * wg),
            // On software adapters a second stage costs what folding some thousand neighbours does; short expressions have several
            // running folds, so that none is deeper than 512.
            Way::Quads(_) if caps.software() => (outs, if fits.short { 4096 } else { 1024 }),
            Way::Serial | Way::Quads(_) | Way::Columns(..) => {
                (outs / way.results(), if caps.software() { 256 } else { 64 })
            }
        };
        let wanted = enough.div_ceil(parallel.max(1)).min(length / shortest).max(1);
        // At most 4096 partial results each, so that the second stage is short.
        let chunk = length.div_ceil(wanted.min(4096)).next_multiple_of(CHUNK).max(1);
        Layout { outs, length, chunks: length.div_ceil(chunk).max(1), way, near: near(caps).filter(|_| way.tree()) }
    }
    fn params(&self, init: u32, dims: &[usize], args: [[i32; 4]; 2 * MAX_ARGS]) -> Params {
        Params::of(&ReduceParams {
            count: (self.outs * self.chunks) as u32,
            chunks: self.chunks as u32,
            chunk: self.length.div_ceil(self.chunks).next_multiple_of(CHUNK) as u32,
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
        if self.way.tree() {
            caps.tree_workgroup()
        } else if caps.software() {
            8
        } else {
            64.min(caps.max_invocations)
        }
    }
    fn grid(&self, caps: &GpuCaps) -> Result<Grid, String> {
        let items = (self.outs * self.chunks) as u64;
        let per_group = match self.way {
            Way::Tree | Way::TreeQuads => 1,
            Way::Serial | Way::Quads(_) | Way::Columns(..) => {
                u64::from(self.workgroup(caps)) * self.way.results() as u64
            }
        };
        Grid::linear(items.div_ceil(per_group), caps.max_workgroups)
    }
    fn variant(&self) -> &'static str {
        match self.way {
            Way::Tree | Way::TreeQuads if self.near.is_some() => "subgroup",
            Way::Tree => "tree",
            Way::TreeQuads => "tree_quads",
            Way::Serial => "serial",
            Way::Quads(Unit::Wide) => "wide",
            Way::Quads(_) => "quads",
            Way::Columns(Unit::Wide, _) => "wide_columns",
            Way::Columns(..) => "columns",
        }
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
        (ReduceOp::Max, DType::F16) => return Err("f16 is for storage".into()),
        (ReduceOp::Max, DType::Bool) => return Err("there is no maximum of bools".into()),
    })
}

struct Stage<'a> {
    layout: Layout,
    /// The prologue is short enough to be repeated.
    short: bool,
    dtype: DType,
    combine: &'static str,
    decls: &'a str,
    bindings: usize,
    functions: &'a str,
    pieces: &'a [&'static str],
}

fn text(stage: &Stage, wg: u32) -> std::sync::Arc<str> {
    let ty = storage_type(stage.dtype);
    let tree = stage.layout.way.tree();
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
    shader = match stage.layout.near {
        Some(near) => shader.consts(&[("LANES", wg)]).subgroup_folds(near, &[("fold_all", "T", "combine(a, b)")]),
        None if tree => shader.common(&["fold"]),
        None => shader,
    };
    shader = shader.body(stage.functions);
    let finish = format!("fn finish(t: u32, lane: u32, live: bool, x: T) {{\n{put}}}\n");
    match stage.layout.way {
        Way::Quads(_) | Way::TreeQuads => {
            let wide = stage.layout.way.unit() == Unit::Wide;
            return shader
                .header(format!("const UNROLL: bool = {};\nconst WIDE: bool = {wide};", stage.short))
                .body(finish)
                .body(include_str!("../../../../shaders/reduce_quads.wgsl"))
                .build();
        }
        Way::Columns(unit, strip) => {
            return shader
                .consts(&[("STRIP", (unit.words() * strip) as u32)])
                .header(format!("const WIDE: bool = {};", unit == Unit::Wide))
                .body(strip_text(unit, strip))
                .body(include_str!("../../../../shaders/reduce_columns.wgsl"))
                .build();
        }
        Way::Tree | Way::Serial => {}
    }
    shader.body(finish).body(include_str!("../../../../shaders/reduce.wgsl")).build()
}

/// `partial(o, j)`: the value at reduced position `j` of result `o`.
fn partial(ops: &Operands) -> String {
    let rank = ops.dims.len();
    let mut text = String::from("fn partial(o: u32, j: u32) -> T {\n");
    text += &ops.coordinates("o", 0, ops.kept);
    text += &ops.coordinates("j", ops.kept, rank);
    let mut args = vec![ops.position()];
    args.extend((0..ops.readers.len()).map(|r| ops.value(r, &ops.address(r, ""))));
    args.extend((0..ops.counters.len()).map(|c| ops.counter(c)));
    let _ = writeln!(text, "    return body({}).o0;\n}}", args.join(", "));
    text
}

/// `fold_strip(o, chunk, start, end)` of the variants by columns: `strip` running folds of a unit of results each.
fn strip_text(unit: Unit, strip: usize) -> String {
    let words = unit.words();
    let each = |line: &str| repeat(strip, &line.replace("$w", &words.to_string()));
    let init = "vec4<T>(bitcast<T>(params.init))";
    format!(
        "fn fold_strip(o: u32, chunk: u32, start: u32, end: u32) {{\n{}    for (var j = start; j < end; j++) {{\n{}    }}\n{}}}\n",
        each(&format!("    var x$i = Folds({init}, {init});")),
        each("        x$i = fold_unit(x$i, o + $wu * $iu, j);"),
        each("    put_unit(o + $wu * $iu, chunk, x$i);")
    )
}

/// `fold_unit(x, o, j)`: the elements at place `j` of the unit of results from `o` on (`along` the kept dimensions), or the
/// unit of elements from `j` on of result `o`, folded into `x`: four into `a`, or of eight the even ones into `a`, the odd ones into `b`.
fn fold_unit(ops: &Operands, region: &Region, along: usize, unit: Unit) -> String {
    let wide = unit == Unit::Wide;
    let mut text = String::from("struct Folds {\n    a: vec4<T>,\n    b: vec4<T>,\n}\n");
    text += "fn fold_unit(x: Folds, o: u32, j: u32) -> Folds {\n";
    text += &ops.coordinates("o", 0, ops.kept);
    text += &ops.coordinates("j", ops.kept, ops.dims.len());
    text += &ops.quads(region, along, wide, |r| ops.address_along(r, along));
    let four = |name: &str, places: [usize; 4]| {
        let lane = |k: usize| {
            let args = [vec!["0u".to_string()], ops.quad_values(along, places[k], wide)].concat();
            format!("combine(x.{name}[{k}], body({}).o0)", args.join(", "))
        };
        format!("vec4<T>({}, {}, {}, {})", lane(0), lane(1), lane(2), lane(3))
    };
    let (a, b) = match wide {
        true => (four("a", [0, 2, 4, 6]), four("b", [1, 3, 5, 7])),
        false => (four("a", [0, 1, 2, 3]), "x.b".to_string()),
    };
    let _ = writeln!(text, "    return Folds({a}, {b});\n}}");
    text
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
    let (outs, length) = (region.outs[0].ty.shape.elems(), axes.iter().map(|&a| shape[a]).product());
    let rank = ops.dims.len();
    let walks = ops.readers.iter().zip(&ops.strides).any(|(r, s)| r.binding.is_some() && s[rank - 1] == 1);
    let (combine, init) = combine(*op, dtype)?;
    let layout = Layout::choose(outs, length, walks, Fits::of(&ops, region, expr::cost(graph), caps), caps);
    ops.declare(region, layout.way.unit());
    let mut functions = ops.body(region, &[value])?;
    match layout.way {
        Way::Quads(_) | Way::TreeQuads => functions += &fold_unit(&ops, region, rank - 1, layout.way.unit()),
        Way::Columns(unit, _) => functions += &fold_unit(&ops, region, ops.kept - 1, unit),
        Way::Tree | Way::Serial => functions += &partial(&ops),
    }
    let work = outs as u64 * length as u64;
    let staged = layout.chunks > 1;
    let scratch = |write| Bind::Scratch { id: 0, bytes: (outs * layout.chunks * 4) as u64, write };
    let mut bindings = ops.bindings.clone();
    bindings.push(if staged { scratch(true) } else { Bind::Out(0) });
    let stage = Stage {
        layout,
        short: expr::cost(graph) <= SHORT,
        dtype,
        combine,
        decls: &ops.decls,
        bindings: ops.bindings.len(),
        functions: &functions,
        pieces: &[ops.pieces(), if layout.way.unit() == Unit::Wide { &["wide"] } else { &[] }].concat(),
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
        let tree = layout.way.tree() || (outs < 64 && chunks >= 64);
        let way = if tree { Way::Tree } else { Way::Serial };
        let layout = Layout { outs, length: chunks, chunks: 1, way, near: near(caps).filter(|_| tree) };
        let ty = storage_type(dtype);
        let stage = Stage {
            layout,
            short: true,
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
