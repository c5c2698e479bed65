//! `Concat`: strided copies of the operands into their slabs of the result, as many operands a dispatch as the adapter binds. By
//! four words at once (on software adapters eight) where rows of them lie together on both sides: less arithmetic of indices, and wide loads.

use super::operands::{pack_dims, pack_strides};
use super::{Bind, Grid, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::Prim;
use crate::plan::{Region, RegionKind};
use crate::shape::collapse;
use std::fmt::Write;

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Concat),
    stems: &["copy_strided"],
    variants: &["words", "quads", "wide"],
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples: super::samples::concat,
    mutations: &[
        Mutation { stem: "copy_strided", find: "var to = params", replace: "var to = 0 * params" },
        Mutation { stem: "copy_strided", find: "i >= params.count", replace: "i + 1u >= params.count" },
        Mutation { stem: "copy_strided", find: "var q = 1u", replace: "var q = 2u" },
    ],
};

/// Most operands of one dispatch: the text and the search for an element's operand grow with them.
const MOST: usize = 16;

params! {
    struct CopyParams {
        count: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

/// One operand, an element of `pieces`, which follows `CopyParams`.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Piece {
    start: u32,
    rank: u32,
    from_offset: i32,
    to_offset: i32,
    dims: [[u32; 4]; 2],
    from_strides: [[i32; 4]; 2],
    to_strides: [[i32; 4]; 2],
}

fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let node = super::only_node(region)?;
    let Prim::Concat { axis } = node.prim else { return Err("not a concat".into()) };
    let out_strides = region.outs[0].ty.shape.strides();
    let mut pieces = Vec::new();
    let mut at = 0;
    for &value in &node.args {
        // One argument can appear several times.
        let i = super::expr::input_of(&region.body, value.node).ok_or("concat of something computed")?;
        let view = &super::slot_arg(region, i)?.view;
        let (dims, strides) = collapse(&view.shape, &[view.strides.clone(), out_strides.clone()]);
        if dims.len() > 8 {
            return Err(format!("rank {} is above 8", dims.len()));
        }
        let piece = Piece {
            start: 0,
            rank: dims.len().max(1) as u32,
            from_offset: view.offset as i32,
            to_offset: (at * out_strides[axis] as usize) as i32,
            dims: pack_dims(&dims),
            from_strides: pack_strides(&strides[0]),
            to_strides: pack_strides(&strides[1]),
        };
        at += view.shape[axis];
        if view.shape.elems() > 0 {
            pieces.push((i, view.shape.elems(), piece));
        }
    }
    let most = (caps.max_storage_buffers as usize - 1).min(MOST);
    pieces.chunks_mut(most).map(|some| copy(some, caps)).collect()
}

impl Piece {
    /// The same in units of `unit` words, if rows of them lie together on both sides.
    fn in_units(&self, unit: u32) -> Option<Piece> {
        let size = unit as i32;
        let last = self.rank as usize - 1;
        let at = |d: usize| (d / 4, d % 4);
        let (mut q, (i, k)) = (*self, at(last));
        let contiguous = self.from_strides[i][k] == 1 && self.to_strides[i][k] == 1;
        let whole = |x: i32| x % size == 0;
        let outer = (0..last).map(at).all(|(i, k)| whole(self.from_strides[i][k]) && whole(self.to_strides[i][k]));
        if !contiguous
            || !outer
            || !self.dims[i][k].is_multiple_of(unit)
            || !whole(self.from_offset)
            || !whole(self.to_offset)
        {
            return None;
        }
        (q.from_offset, q.to_offset) = (self.from_offset / size, self.to_offset / size);
        q.dims[i][k] /= unit;
        for (i, k) in (0..last).map(at) {
            q.from_strides[i][k] /= size;
            q.to_strides[i][k] /= size;
        }
        Some(q)
    }
}

/// One dispatch: the arguments with their sizes.
fn copy(pieces: &mut [(usize, usize, Piece)], caps: &GpuCaps) -> Result<KernelCall, String> {
    let mut units = vec![("quads", "vec4<u32>", 4)];
    if caps.wide("copy_strided") {
        units.insert(0, ("wide", "vec4<u64>", 8));
    }
    let fitting = units.into_iter().find_map(|unit| {
        let inside: Option<Vec<Piece>> = pieces.iter().map(|(_, _, piece)| piece.in_units(unit.2)).collect();
        inside.map(|inside| (unit, inside))
    });
    let ((variant, word, words), inside) =
        fitting.filter(|_| caps.wanted("copy_strided") != Some("words")).unwrap_or((("words", "u32", 1), Vec::new()));
    for ((_, _, piece), units) in pieces.iter_mut().zip(inside) {
        *piece = units;
    }
    let mut count = 0;
    let (mut decls, mut load) = (String::new(), format!("fn load(p: u32, at: u32) -> {word} {{\n    switch p {{\n"));
    for (k, (_, elems, piece)) in pieces.iter_mut().enumerate() {
        piece.start = count;
        count += *elems as u32 / words;
        let _ = writeln!(decls, "@group(0) @binding({k}) var<storage, read> x{k}: array<{word}>;");
        let case = if k == 0 { "default".into() } else { format!("case {k}u") };
        let _ = writeln!(load, "        {case}: {{ return x{k}[at]; }}");
    }
    let n = pieces.len();
    let _ = writeln!(decls, "@group(0) @binding({n}) var<storage, read_write> out: array<{word}>;");
    let _ = writeln!(decls, "@group(0) @binding({}) var<uniform> params: Params;", n + 1);
    let source = Shader::new("copy_strided")
        .consts(&[("PIECES", n as u32)])
        .header(decls)
        .header(load + "    }\n}")
        .common(&["index"])
        .body(include_str!("../../../../shaders/copy_strided.wgsl"))
        .build();
    let mut params = Params::of(&CopyParams { count, pad0: 0, pad1: 0, pad2: 0 });
    params.fields = &[("count", 0), ("pad0", 4), ("pad1", 8), ("pad2", 12), ("pieces", 16)];
    pieces.iter().for_each(|(_, _, piece)| params.bytes.extend_from_slice(bytemuck::bytes_of(piece)));
    let wg = caps.flat_workgroup();
    Ok(KernelCall {
        label: "copy_strided",
        variant,
        source,
        overrides: vec![("WG", f64::from(wg))],
        bindings: pieces.iter().map(|(i, _, _)| Bind::Arg(*i)).chain([Bind::Out(0)]).collect(),
        params,
        grid: Grid::linear(u64::from(count.div_ceil(wg)), caps.max_workgroups)?,
        flops: 0,
        bytes: u64::from(count * words) * 8,
    })
}
