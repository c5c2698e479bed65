//! Launches that several small regions share. Steps of small models, and the ends of all (losses, norms, updates of biases), are
//! many regions of a few hundred elements, each of which costs a launch and computes nothing beside it. A chain is one workgroup
//! that runs such regions one after the other, with a barrier where one needs what another wrote. Members are pointwise regions,
//! reductions and concatenations; `launches.rs` looks for them.

use super::expr;
use super::launches::Touched;
use super::operands::{Class, MAX_RANK, Operands, pack_dims};
use super::{Bind, Grid, KernelCall, Mutation, Params, Shader, candidates, params, reduce, storage_type};
use crate::backend::gpu::caps::GpuCaps;
use crate::backend::{BufferId, Work};
use crate::dtype::DType;
use crate::ir::{Graph, InputKind, InputSpec, Node, NodeId, OutputKind, OutputSpec, Prim, ReduceOp, Value};
use crate::plan::{Region, RegionKind, Target};
use crate::shape::Shape;
use std::borrow::Cow;
use std::fmt::Write;

/// Label of the calls, and the name under which `GpuCaps::variants` switches them off (`off`).
pub const STEM: &str = "chain";

/// Faults that tests must catch.
pub const MUTATIONS: &[Mutation] = &[
    Mutation { stem: STEM, find: "i < all[0].count", replace: "i + 1u < all[0].count" },
    Mutation { stem: STEM, find: "o < all[1].count; o += WG", replace: "o + 1u < all[1].count; o += WG" },
    Mutation { stem: STEM, find: "combine_0(x2, x3)", replace: "x2" },
    Mutation { stem: STEM, find: "folds[lane + s]", replace: "folds[lane]" },
    Mutation { stem: STEM, find: "all[1].args[1].w", replace: "all[0].args[1].w" },
    Mutation { stem: STEM, find: "+ all[2].start", replace: "" },
];

/// Most operands and counters of a member.
const MAX_ARGS: usize = 20;
/// Most parts of all members: their `Params` stay below the 16 KiB that every adapter takes.
pub(super) const MAX_PARTS: usize = 23;
const _: () = assert!(MAX_PARTS * size_of::<PartParams>() <= 16 << 10);
/// Most work of one member and of all, see [`Part::words`]: a chain has one workgroup, while regions of their own have the whole adapter. On
/// software adapters a launch costs as much as a thread's folding of some thousand words; on GPUs a member is to be done in a few rounds.
pub(super) fn most(caps: &GpuCaps) -> [u64; 2] {
    if caps.software() { [8 << 10, 16 << 10] } else { [1 << 10, 4 << 10] }
}

params! {
    /// `Params` of one part.
    struct PartParams {
        /// Elements, or results of a reduction.
        count: u32,
        /// Elements per result, or of a concatenation the elements of a piece that lie together.
        length: u32,
        /// Bits of the neutral element, or the elements of all pieces that lie together.
        init: u32,
        /// Where a piece starts among those.
        start: u32,
        /// Sizes: kept dimensions, then reduced ones.
        dims: [[u32; 4]; 2],
        /// Strides and offset of each operand.
        args: [[i32; 4]; 2 * MAX_ARGS],
    }
}

const PARAMS: &str = "struct Part {
    count: u32,
    length: u32,
    init: u32,
    start: u32,
    dims: array<vec4<u32>, 2>,
    args: array<vec4<i32>, 40>,
}";

/// How a part goes.
enum Way {
    Map,
    /// To `start` and on, in pieces of `run` elements of each `all`.
    Place {
        run: usize,
        all: usize,
        start: usize,
    },
    Fold {
        op: ReduceOp,
        dtype: DType,
        value: Value,
        length: usize,
        tree: bool,
    },
}

/// One loop of a member: all of it, but for concatenations, which have one a piece.
pub(super) struct Part<'a> {
    region: Cow<'a, Region>,
    ops: Operands,
    way: Way,
    /// The buffer of each binding, and of each result.
    reads: Vec<BufferId>,
    outs: Vec<BufferId>,
    /// Elements read of each operand.
    elems: usize,
}

/// Invocations of a chain's workgroup, a power of two.
fn workgroup(caps: &GpuCaps) -> usize {
    caps.tree_workgroup() as usize
}

impl<'a> Part<'a> {
    fn new(
        region: Cow<'a, Region>,
        (shape, axes): (&Shape, &[usize]),
        way: Way,
        args: &[Option<BufferId>],
        outs: &[BufferId],
    ) -> Option<Part<'a>> {
        let ops = Operands::new(&region, shape, axes).ok()?;
        let buffer = |b: &Bind| match *b {
            Bind::Arg(i) => args[i],
            Bind::Out(o) | Bind::InPlace(_, o) => Some(outs[o]),
            Bind::Scratch { .. } | Bind::Image { .. } | Bind::Status => None,
        };
        let reads = ops.bindings.iter().map(buffer).collect::<Option<_>>()?;
        // Recording refuses what is written and read unless it is in place; bindings of chains would hide it.
        let races = |b: &Bind| matches!(*b, Bind::Arg(i) if args[i].is_some_and(|b| outs.contains(&b)));
        if ops.bindings.iter().any(races) {
            return None;
        }
        let fits = ops.dims.len() <= MAX_RANK && ops.readers.len() + ops.counters.len() <= MAX_ARGS;
        fits.then(|| Part { region, ops, way, reads, outs: outs.to_vec(), elems: shape.elems() })
    }

    fn map(region: &'a Region, args: &[Option<BufferId>], outs: &[BufferId]) -> Option<Part<'a>> {
        let joins = (0..region.outs.len()).any(|o| region.written(o).pieces.len() > 1);
        if joins {
            return None;
        }
        Part::new(Cow::Borrowed(region), (region.space(), &[]), Way::Map, args, outs)
    }

    fn fold(region: &'a Region, args: &[Option<BufferId>], outs: &[BufferId], caps: &GpuCaps) -> Option<Part<'a>> {
        let graph = &region.body;
        let node = graph.node(graph.outputs[0].value.node);
        let Prim::Reduce { op, axes } = &node.prim else { return None };
        let value = node.args[0];
        let (shape, dtype) = (graph.shape(value), graph.ty(value).dtype);
        let length = axes.iter().map(|&a| shape[a]).product();
        let tree = region.outs[0].ty.shape.elems() < 8.min(workgroup(caps) / 2);
        // One invocation is not to go a long way alone where hundreds of others wait.
        if dtype == DType::Bool || (!tree && !caps.software() && length > 32) {
            return None;
        }
        let way = Way::Fold { op: *op, dtype, value, length, tree };
        Part::new(Cow::Borrowed(region), (shape, axes), way, args, outs)
    }

    /// The pieces of a concatenation, each a region of its own that copies.
    fn places(region: &'a Region, args: &[Option<BufferId>], outs: &[BufferId]) -> Option<Vec<Part<'a>>> {
        let node = region.body.node(region.body.outputs[0].value.node);
        let Prim::Concat { axis } = node.prim else { return None };
        let all = region.outs[0].ty.shape[axis..].iter().product();
        let mut start = 0;
        let mut parts = Vec::with_capacity(node.args.len());
        for value in &node.args {
            let index = expr::input_of(&region.body, value.node)?;
            let (arg, ty) = (&region.args[index], region.body.ty(*value));
            let run = ty.shape[axis..].iter().product();
            let input = Node { prim: Prim::Input { index: 0 }, args: vec![], types: vec![ty.clone()], loc: node.loc };
            let value = Value { node: NodeId(0), out: 0 };
            let body = Graph {
                nodes: vec![input],
                inputs: vec![InputSpec { name: "0".into(), kind: InputKind::Feed, value }],
                outputs: vec![OutputSpec { name: "0".into(), kind: OutputKind::Fetch, value }],
            };
            let outs_of = vec![Target { slot: region.outs[0].slot, ty: ty.clone() }];
            let kind = RegionKind::Pointwise;
            let one = Region { kind, body, args: vec![arg.clone()], outs: outs_of, in_place: vec![None] };
            let way = Way::Place { run, all, start };
            parts.push(Part::new(Cow::Owned(one), (&ty.shape, &[]), way, &args[index..index + 1], outs)?);
            start += run;
        }
        Some(parts)
    }

    /// Bytes read and written, at least.
    fn bytes(&self) -> u64 {
        let reads = self.ops.readers.iter().filter(|r| r.binding.is_some() && r.class != Class::Single).count();
        let written: usize = self.region.outs.iter().map(|o| o.ty.shape.elems()).sum();
        4 * (self.elems * reads + written) as u64
    }

    /// Work, in loads and stores of a word; eight operations count as one.
    fn words(&self) -> u64 {
        let operands = self.ops.readers.len() + self.ops.counters.len();
        let outs = if let Way::Fold { .. } = self.way { 0 } else { self.outs.len() };
        self.elems as u64 * ((operands + outs) as u64 + expr::cost(&self.region.body) / 8)
    }

    fn params(&self) -> Result<PartParams, String> {
        let (count, length, init, start) = match self.way {
            Way::Map => (self.elems, 1, 0, 0),
            Way::Place { run, all, start } => (self.elems, run.max(1), all as u32, start),
            Way::Fold { op, dtype, length, .. } => {
                (self.region.outs[0].ty.shape.elems(), length, reduce::combine(op, dtype)?.1, 0)
            }
        };
        let mut args = [[0; 4]; 2 * MAX_ARGS];
        args.copy_from_slice(&self.ops.packed()[..2 * MAX_ARGS]);
        let dims = pack_dims(&self.ops.dims);
        Ok(PartParams { count: count as u32, length: length as u32, init, start: start as u32, dims, args })
    }

    /// The functions of part `m`; `number` gives the binding of a buffer.
    fn text(&mut self, m: usize, number: &dyn Fn(BufferId) -> usize) -> Result<String, String> {
        self.ops.join(self.reads.iter().map(|&b| number(b)).collect(), format!("all[{m}]"), format!("_{m}"));
        let (region, ops) = (&self.region, &self.ops);
        let map = matches!(self.way, Way::Map | Way::Place { .. });
        let fixed = |r: &usize| map && ops.readers[*r].binding.is_some() && ops.readers[*r].class == Class::Single;
        let call = |position: &str, linear: &str| {
            let value = |r: usize| ops.value(r, &ops.address(r, linear));
            let readers = (0..ops.readers.len()).map(|r| if fixed(&r) { format!("fixed.x{r}") } else { value(r) });
            let counters = (0..ops.counters.len()).map(|c| ops.counter(c));
            let all: Vec<String> = [position.to_string()].into_iter().chain(readers).chain(counters).collect();
            format!("body_{m}({})", all.join(", "))
        };
        let put = |o: usize, dtype: DType, at: &str, value: &str| {
            format!("    b{}[{at}] = bitcast<u32>({});\n", number(self.outs[o]), expr::store(dtype, value))
        };
        let stage = |text: &str| text.replace("params_M", &format!("all[{m}]")).replace("_M", &format!("_{m}"));
        let mut text;
        match &self.way {
            Way::Map | Way::Place { .. } => {
                let wanted: Vec<Value> = (0..region.outs.len()).map(|o| region.written(o).pieces[0]).collect();
                text = ops.body(region, &wanted)?;
                let fixed: Vec<usize> = (0..ops.readers.len()).filter(fixed).collect();
                let field = |&r: &usize| format!(", x{r}: {}", expr::value_type(ops.readers[r].dtype));
                let value = |&r: &usize| format!(", {}", ops.value(r, &ops.address(r, "")));
                let (fields, values): (String, String) =
                    (fixed.iter().map(field).collect(), fixed.iter().map(value).collect());
                let _ = writeln!(text, "struct Fixed_{m} {{ none: u32{fields} }}");
                let _ = writeln!(text, "fn fixed_{m}() -> Fixed_{m} {{\n    return Fixed_{m}(0u{values});\n}}");
                let _ = writeln!(text, "fn element_{m}(i: u32, fixed: Fixed_{m}) {{");
                text += &ops.coordinates("i", 0, ops.dims.len());
                let _ = writeln!(text, "    let r = {};", call("i", "i"));
                let at = match self.way {
                    Way::Place { .. } => stage(PLACE),
                    _ => "i".to_string(),
                };
                for (o, out) in region.outs.iter().enumerate() {
                    text += &put(o, out.ty.dtype, &at, &format!("r.o{o}"));
                }
                text += "}\n";
                text += &stage(include_str!("../../../../shaders/chain_map.wgsl"));
            }
            Way::Fold { op, dtype, value, tree, .. } => {
                let (ty, combine) = (storage_type(*dtype), reduce::combine(*op, *dtype)?.0);
                text = ops.body(region, &[*value])?;
                let _ = writeln!(text, "alias T_{m} = {ty};\nfn combine_{m}(a: {ty}, b: {ty}) -> {ty} {{");
                let _ = writeln!(text, "    return {combine};\n}}\nfn partial_{m}(o: u32, j: u32) -> {ty} {{");
                text += &ops.coordinates("o", 0, ops.kept);
                text += &ops.coordinates("j", ops.kept, ops.dims.len());
                let _ = writeln!(text, "    return {}.o0;\n}}", call(&ops.position(), ""));
                let _ = writeln!(text, "fn put_{m}(o: u32, x: {ty}) {{\n{}}}", put(0, *dtype, "o", "x"));
                text += &stage(include_str!("../../../../shaders/chain_fold.wgsl"));
                text += &stage(match tree {
                    true => include_str!("../../../../shaders/chain_tree.wgsl"),
                    false => include_str!("../../../../shaders/chain_lanes.wgsl"),
                });
            }
        }
        Ok(text)
    }
}

/// Where element i of a piece goes.
const PLACE: &str = "i / params_M.length * params_M.init + params_M.start + i % params_M.length";

/// A region that a chain can take.
pub(super) struct Member<'a> {
    /// Position in the work.
    pub(super) at: usize,
    pub(super) parts: Vec<Part<'a>>,
    /// Words loaded, stored and computed, about.
    pub(super) words: u64,
}

impl<'a> Member<'a> {
    /// This work as a member, if it is small and of the right kind.
    pub(super) fn of(at: usize, work: &Work<'a>, caps: &GpuCaps) -> Option<Member<'a>> {
        let Work::Run { region, args, outs } = work else { return None };
        let half = |d: DType| d == DType::F16;
        let halves = region.args.iter().any(|a| half(a.dtype))
            || region.body.nodes.iter().any(|n| n.types.iter().any(|t| half(t.dtype)));
        let stem = match region.kind {
            RegionKind::Pointwise => "pointwise",
            RegionKind::Reduce => "reduce",
            RegionKind::Concat => "copy_strided",
            _ => return None,
        };
        if halves || caps.wanted(stem).is_some() || candidates::picked(region, caps).is_some_and(|p| p.1.is_ok()) {
            return None;
        }
        let parts = match region.kind {
            RegionKind::Pointwise => vec![Part::map(region, args, outs)?],
            RegionKind::Reduce => vec![Part::fold(region, args, outs, caps)?],
            _ => Part::places(region, args, outs)?,
        };
        let words = parts.iter().map(Part::words).sum();
        (words > 0 && words <= most(caps)[0] && parts.len() <= MAX_PARTS).then_some(Member { at, parts, words })
    }
}

/// The launch of these members.
pub(super) fn call(mut members: Vec<Member>, work: &[Work], caps: &GpuCaps) -> Result<KernelCall, String> {
    // Buffers in the order of their first use, and where in the concatenated arguments and results they are.
    let mut buffers: Vec<(BufferId, Bind)> = Vec::new();
    let (mut arg, mut out) = (0, 0);
    for member in &members {
        let Work::Run { args, outs, .. } = &work[member.at] else { continue };
        for (i, &b) in args.iter().enumerate() {
            match b {
                Some(b) if member.parts.iter().any(|p| p.reads.contains(&b)) && buffers.iter().all(|k| k.0 != b) => {
                    buffers.push((b, Bind::Arg(arg + i)));
                }
                _ => {}
            }
        }
        for (o, &b) in outs.iter().enumerate() {
            match buffers.iter_mut().find(|k| k.0 == b) {
                Some(known) => known.1 = Bind::Out(out + o),
                None => buffers.push((b, Bind::Out(out + o))),
            }
        }
        arg += args.len();
        out += outs.len();
    }
    let number = |b: BufferId| buffers.iter().position(|k| k.0 == b).unwrap_or(buffers.len());
    let (mut functions, mut main, mut all) = (String::new(), String::new(), Vec::new());
    let (mut pieces, mut since) = (vec!["index", "math"], Touched::default());
    let (mut flops, mut moved) = (0, 0);
    for member in &mut members {
        let touched = Touched::of(&work[member.at]);
        if since.conflicts(&touched) {
            main += "    storageBarrier();\n";
            since = Touched::default();
        }
        since.add(&touched);
        for part in &mut member.parts {
            let m = all.len();
            let _ = writeln!(main, "    stage_{m}(lane);");
            all.push(part.params()?);
            functions += &part.text(m, &number)?;
            pieces.extend(part.ops.pieces());
            flops += part.elems as u64 * (expr::cost(&part.region.body) + 1);
            moved += part.bytes();
        }
    }
    let wg = workgroup(caps);
    let mut shader = Shader::new(STEM)
        .header(PARAMS)
        .consts(&[("WG", wg as u32)])
        .header(format!("var<workgroup> folds: array<u32, {wg}>;"));
    for (b, (_, bind)) in buffers.iter().enumerate() {
        // WGSL has what is written before a barrier read after it; SPIR-V, as it is made of it, has that of coherent buffers alone.
        let (coherent, access) = match (bind.writes(), caps.coherent) {
            (true, true) => ("@coherent ", "read_write"),
            (true, false) => ("", "read_write"),
            (false, _) => ("", "read"),
        };
        shader = shader.header(format!("{coherent}@group(0) @binding({b}) var<storage, {access}> b{b}: array<u32>;"));
    }
    let (count, at) = (all.len(), buffers.len());
    let source = shader
        .header(format!("@group(0) @binding({at}) var<uniform> all: array<Part, {count}>;"))
        .common(&pieces)
        .body(functions)
        .body(format!(
            "@compute @workgroup_size(WG)\nfn main(@builtin(local_invocation_index) lane: u32) {{\n{main}}}\n"
        ))
        .build();
    Ok(KernelCall {
        label: STEM,
        variant: "small",
        source,
        overrides: vec![],
        bindings: buffers.into_iter().map(|k| k.1).collect(),
        params: Params::many(&all),
        grid: Grid([1, 1, 1]),
        flops,
        bytes: moved,
    })
}
