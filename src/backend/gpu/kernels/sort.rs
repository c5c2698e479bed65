//! `Sort` and the sorting of row numbers for `ScatterAdd`: blocks by counting ranks, then stable merges by bisection.
//! No barriers: each pass is a dispatch of independent invocations.

use super::argmax::key_kind;
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, dense, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Prim;
use crate::plan::{Region, RegionKind};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Sort),
    stems: &["sort_block", "sort_merge", "sort_write"],
    variants: &["merge"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| false,
    samples: super::samples::sort,
    mutations: &[
        Mutation { stem: "sort_block", find: "other == key && i < j", replace: "other == key && i > j" },
        Mutation { stem: "sort_merge", find: "other == item.x && !left", replace: "other == item.x && left" },
        Mutation { stem: "sort_write", find: "positions[first + j", replace: "positions[first + 0u * j" },
    ],
};

/// Elements that the first pass puts in order.
const BLOCK: usize = 32;

params! {
    struct BlockParams {
        count: u32,
        n: u32,
        inner: u32,
        offset: u32,
        flip: u32,
        limit: u32,
        stride: u32,
        pad0: u32,
    }
}
params! {
    struct MergeParams {
        count: u32,
        n: u32,
        run: u32,
        pad0: u32,
    }
}
params! {
    struct WriteParams {
        count: u32,
        n: u32,
        inner: u32,
        offset: u32,
    }
}

/// What is sorted: lines along the middle of [outer, n, inner].
pub(super) struct Lines {
    pub(super) bind: Bind,
    pub(super) kind: u32,
    pub(super) lines: usize,
    pub(super) n: usize,
    pub(super) inner: usize,
    pub(super) offset: usize,
    pub(super) stride: usize,
    pub(super) descending: bool,
    /// Keys at or above it become the largest; 0: none.
    pub(super) limit: u32,
}

fn shader(stem: &'static str, header: &str, wg: u32, body: &str) -> std::sync::Arc<str> {
    Shader::new(stem)
        .header(format!("const WG: u32 = {wg}u;\n{header}"))
        .common(if stem == "sort_block" { &["index", "keys"] } else { &["index"] })
        .body(body)
        .build()
}

/// The passes that sort, and the scratch with the sorted (key, position) pairs, to be read.
pub(super) fn passes(what: &Lines, caps: &GpuCaps) -> Result<(Vec<KernelCall>, Bind), String> {
    let count = what.lines * what.n;
    let wg = caps.flat_workgroup().min(64);
    let grid = Grid::linear((count as u64).div_ceil(u64::from(wg)), caps.max_workgroups)?;
    let scratch = |id, write| Bind::Scratch { id, bytes: (count * 8) as u64, write };
    if count as u64 * 8 > caps.max_binding_bytes {
        return Err(format!("sorting {count} elements needs more memory than one binding may have"));
    }
    let call = |label, source, bindings, params| KernelCall {
        label,
        variant: "merge",
        source,
        overrides: vec![],
        bindings,
        params,
        grid,
        flops: count as u64 * 16,
        bytes: count as u64 * 16,
    };
    let header = format!("const BLOCK: u32 = {BLOCK}u;\nconst KIND: u32 = {}u;", what.kind);
    let p = BlockParams {
        count: count as u32,
        n: what.n as u32,
        inner: what.inner as u32,
        offset: what.offset as u32,
        flip: if what.descending { u32::MAX } else { 0 },
        limit: what.limit,
        stride: what.stride as u32,
        pad0: 0,
    };
    let source = shader("sort_block", &header, wg, include_str!("../../../../shaders/sort_block.wgsl"));
    let mut calls = vec![call("sort_block", source, vec![what.bind, scratch(0, true)], Params::of(&p))];
    let merge = shader("sort_merge", "", wg, include_str!("../../../../shaders/sort_merge.wgsl"));
    let (mut run, mut id) = (BLOCK, 0);
    while run < what.n {
        let p = MergeParams { count: count as u32, n: what.n as u32, run: run as u32, pad0: 0 };
        let bindings = vec![scratch(id, false), scratch(1 - id, true)];
        calls.push(call("sort_merge", merge.clone(), bindings, Params::of(&p)));
        (run, id) = (run * 2, 1 - id);
    }
    Ok((calls, scratch(id, false)))
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let arg = dense(region, 0)?;
    let Prim::Sort { axis, descending } = super::only_node(region)?.prim else { return Err("not a sort".into()) };
    let shape = &arg.view.shape;
    let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let what = Lines {
        bind: Bind::Arg(0),
        kind: key_kind(arg.dtype),
        lines: shape.elems() / n,
        n,
        inner,
        offset: arg.view.offset,
        stride: 1,
        descending,
        limit: 0,
    };
    let (mut calls, sorted) = passes(&what, caps)?;
    let count = shape.elems() as u32;
    let wg = caps.flat_workgroup();
    let p = WriteParams { count, n: n as u32, inner: inner as u32, offset: arg.view.offset as u32 };
    calls.push(KernelCall {
        label: "sort_write",
        variant: "merge",
        source: shader("sort_write", "", wg, include_str!("../../../../shaders/sort_write.wgsl")),
        overrides: vec![],
        bindings: vec![Bind::Arg(0), sorted, Bind::Out(0), Bind::Out(1)],
        params: Params::of(&p),
        grid: Grid::linear(u64::from(count.div_ceil(wg)), caps.max_workgroups)?,
        flops: 0,
        bytes: u64::from(count) * 20,
    });
    Ok(calls)
}
