//! What matrix products and convolutions share: the kernel frames (`matmul_tiled`, `_packed`, `_subgroup`, `_broadcast`, `_direct`, `_combine`) and
//! their calls. It knows nothing of regions; `matmul.rs` and `conv2d.rs` do. `choice.rs` says which frame a shape gets.

use super::choice::{self, Choice, Frame, Size};
use super::epilogue::{Epilogue, PUT4};
use super::packed::{self, Pack};
use super::{Bind, Grid, KernelCall, ParamStruct, Params, Shader};
use crate::backend::gpu::caps::GpuCaps;

/// The WGSL struct `Gemm`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Gemm {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub batches: u32,
    pub tiles_m: u32,
    pub tiles_n: u32,
    pub splits: u32,
    pub k_chunk: u32,
    pub tiles: u32,
    pub batch1: u32,
    pub batch2: u32,
    pub rows: u32,
}

/// The WGSL struct `Strided`: offset and up to five strides.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Strided {
    pub offset: i32,
    pub s: [i32; 5],
    pub run: i32,
    pub spare: i32,
}

impl Strided {
    /// From a view's offset and five strides.
    pub fn new(offset: usize, strides: [isize; 5]) -> Strided {
        Strided { offset: offset as i32, s: strides.map(|s| s as i32), run: 0, spare: 0 }
    }
}

/// What makes the calls of one product: the operand side of its text and its bindings, to which this module adds frame and splits.
pub(super) struct Product<'a, P> {
    /// Label of the calls, or `None` for the frame's stem.
    pub label: Option<&'static str>,
    pub choice: Choice,
    /// Sizes after a swap.
    pub size: Size,
    /// Params with everything but `gemm`.
    pub params: P,
    pub set: fn(&mut P, Gemm),
    pub batch: [usize; 2],
    /// `struct Params` and constants.
    pub types: String,
    /// Functions that load the operands.
    pub loaders: String,
    /// In `Frame::Tiled` the loaders have a function `b_prepare` that works out for a workgroup what a block of k needs.
    pub prepared: bool,
    /// Declarations that loaders and the result share.
    pub placing: &'a str,
    /// Text with `Row`, `row_of` and `slot`.
    pub result: &'a str,
    /// True if the columns of a row of the result are neighbours in memory, from a multiple of n on.
    pub dense_rows: bool,
    pub operands: Operands<'a>,
    /// Bindings and functions of the epilogue.
    pub epilogue: &'a Epilogue,
    /// Number of this product among those of the region (for scratch).
    pub id: usize,
    pub flops: u64,
    pub bytes: u64,
}

/// Where a product reads its operands.
pub(super) enum Operands<'a> {
    /// In place: the elements of a and b in `var<storage>`, and their arguments.
    Buffers([(&'a str, usize); 2]),
    /// In textures that another call fills first.
    Packed(Pack<'a>),
}

/// The calls of a product: one, one more before it if its operands are packed, and one more behind it if k is split.
pub(super) fn calls<P: ParamStruct>(mut p: Product<P>, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let Choice { frame, splits, chunk, .. } = p.choice;
    let Size { m, n, k, batches, .. } = p.size;
    let (rows, cols) = frame.tile(caps);
    let (tiles_m, tiles_n) = (m.div_ceil(rows), n.div_ceil(cols));
    let tiles = tiles_m as u64 * tiles_n as u64 * splits as u64 * batches as u64;
    let partial = 4 * splits as u64 * batches as u64 * m as u64 * n as u64;
    if tiles >= 1 << 31 || (splits > 1 && partial > caps.max_binding_bytes) {
        return Err(format!("a product of {batches} x {m} x {n} x {k} has too many tiles"));
    }
    let gemm = Gemm {
        m: m as u32,
        n: n as u32,
        k: k as u32,
        batches: batches as u32,
        tiles_m: tiles_m as u32,
        tiles_n: tiles_n as u32,
        splits,
        k_chunk: chunk,
        tiles: tiles as u32,
        batch1: p.batch[0] as u32,
        batch2: p.batch[1] as u32,
        rows: rows as u32,
    };
    (p.set)(&mut p.params, gemm);
    let params = Params::of(&p.params);
    let sizes = include_str!("../../../../shaders/matmul_sizes.wgsl");
    let scratch = |write| Bind::Scratch { id: p.id, bytes: partial, write };

    let wg = match frame {
        Frame::Direct(..) => choice::direct_workgroup(tiles, k.min(chunk as usize), caps),
        _ => 0,
    };
    let mut shader = Shader::new(frame.stem())
        .header(sizes)
        .header(&p.types)
        .header(include_str!("../../../../shaders/matmul_frame.wgsl"))
        .header(&p.loaders);
    if splits > 1 {
        // The first pass of a strided product finds its batches with the result's functions.
        shader = shader.header(p.placing);
    }
    let mut out = Vec::new();
    let mut bindings = match &p.operands {
        Operands::Buffers([(a, a_arg), (b, b_arg)]) => {
            shader = shader
                .header(format!("@group(0) @binding(0) var<storage, read> a: array<{a}>;"))
                .header(format!("@group(0) @binding(1) var<storage, read> b: array<{b}>;"));
            vec![Bind::Arg(*a_arg), Bind::Arg(*b_arg)]
        }
        Operands::Packed(pack) => {
            shader = shader.header(packed::READ).header(packed::wanted(""));
            out.push(pack.call(&[sizes, &p.types, p.placing], frame, params.clone(), caps)?);
            pack.binds(false)
        }
    };
    // Four neighbours of a row are one vec4 where every row begins at a multiple of four.
    let fours = n % 4 == 0 && !matches!(frame, Frame::Packed(cols) if cols < 4);
    if splits > 1 {
        let element = if fours { "vec4<f32>" } else { "f32" };
        shader = shader
            .header(format!("@group(0) @binding(2) var<storage, read_write> partial: array<{element}>;"))
            .header("@group(0) @binding(3) var<uniform> params: Params;")
            .header("struct Row {\n    first: u32,\n}\nfn row_at(at: Place, m: u32) -> Row {\n    let g = params.gemm;")
            .header("    return Row(((at.split * g.batches + at.batch) * g.m + m) * g.n);\n}");
        shader = if fours {
            shader
                .header("fn put4(row: Row, n: u32, v: vec4<f32>) {\n    if (n < params.gemm.n) {")
                .header("        partial[(row.first + n) / 4u] = v;\n    }\n}")
        } else {
            shader.header("fn put(row: Row, n: u32, v: f32) {\n    partial[row.first + n] = v;\n}").header(PUT4)
        };
        bindings.push(scratch(true));
    } else {
        let fours = fours && p.dense_rows && !p.epilogue.in_place();
        let (text, binds) = p.epilogue.bindings(2, fours);
        shader = shader
            .header(text)
            .header(p.placing)
            .header(p.result)
            .header("fn row_at(at: Place, m: u32) -> Row {\n    return row_of(at.batch, m);\n}")
            .header(p.epilogue.puts(fours));
        bindings.extend(binds);
    }
    let (text, counts, groups) = match frame {
        Frame::Packed(_) => {
            (include_str!("../../../../shaders/matmul_packed.wgsl"), packed::counts(frame, caps), tiles)
        }
        Frame::Tiled(t) => (
            include_str!("../../../../shaders/matmul_tiled.wgsl"),
            [Frame::tiled_counts(t), vec![("PREPARED", u32::from(p.prepared))]].concat(),
            tiles,
        ),
        Frame::Subgroup(lanes, rows) => (
            include_str!("../../../../shaders/matmul_subgroup.wgsl"),
            vec![("LANES", lanes), ("LANE_ROWS", rows / lanes), ("ROWS", rows)],
            tiles,
        ),
        Frame::Broadcast(steps) => {
            (include_str!("../../../../shaders/matmul_broadcast.wgsl"), choice::broadcast_counts(steps, caps), tiles)
        }
        Frame::Direct(rows, cols) => (
            include_str!("../../../../shaders/matmul_direct.wgsl"),
            vec![("WG", wg), ("ROWS", rows), ("COLS", cols)],
            tiles.div_ceil(u64::from(wg)),
        ),
    };
    let source =
        shader.consts(&counts).common(&["index"]).common(p.epilogue.pieces()).body(expand(text, &counts)).build();
    out.push(KernelCall {
        label: p.label.unwrap_or(frame.stem()),
        variant: p.choice.name,
        source,
        overrides: Vec::new(),
        bindings,
        params: params.clone(),
        grid: Grid::linear(groups, caps.max_workgroups)?,
        flops: p.flops,
        bytes: p.bytes,
    });
    if splits > 1 {
        let wg = caps.flat_workgroup();
        let (text, binds) = p.epilogue.bindings(1, false);
        let source = Shader::new("matmul_combine")
            .consts(&[("WG", wg)])
            .header(sizes)
            .header(&p.types)
            .header(p.placing)
            .header("@group(0) @binding(0) var<storage, read> partial: array<f32>;")
            .header(text)
            .header(p.result)
            .header(p.epilogue.puts(false))
            .common(&["index"])
            .common(p.epilogue.pieces())
            .body(include_str!("../../../../shaders/matmul_combine.wgsl"))
            .build();
        let elems = batches as u64 * m as u64 * n as u64;
        out.push(KernelCall {
            label: "matmul_combine",
            variant: "combine",
            source,
            overrides: Vec::new(),
            bindings: [vec![scratch(false)], binds].concat(),
            params,
            grid: Grid::linear(elems.div_ceil(u64::from(wg)), caps.max_workgroups)?,
            flops: elems * u64::from(splits),
            bytes: partial + 4 * elems,
        });
    }
    Ok(out)
}

/// Unrolls `//%repeat i COUNT` .. `//%end` blocks, which may nest: one copy of the lines per value, `$i` replaced.
pub(super) fn expand(text: &str, counts: &[(&str, u32)]) -> String {
    fn block(lines: &[&str], counts: &[(&str, u32)], out: &mut String) {
        let mut at = 0;
        while at < lines.len() {
            let mut words = lines[at].trim().split(' ');
            if words.next() != Some("//%repeat") {
                out.push_str(lines[at]);
                out.push('\n');
                at += 1;
                continue;
            }
            let name = format!("${}", words.next().unwrap_or(""));
            let count = words.next().and_then(|c| counts.iter().find(|x| x.0 == c)).map_or(0, |x| x.1);
            let mut depth = 1;
            let mut end = at;
            while depth > 0 && end + 1 < lines.len() {
                end += 1;
                match lines[end].trim() {
                    "//%end" => depth -= 1,
                    l if l.starts_with("//%repeat") => depth += 1,
                    _ => {}
                }
            }
            for i in 0..count {
                let copy: Vec<String> = lines[at + 1..end].iter().map(|l| l.replace(&name, &i.to_string())).collect();
                block(&copy.iter().map(String::as_str).collect::<Vec<_>>(), counts, out);
            }
            at = end + 1;
        }
    }
    let mut out = String::new();
    block(&text.lines().collect::<Vec<_>>(), counts, &mut out);
    out
}
