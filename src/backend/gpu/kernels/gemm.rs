//! What matrix products and convolutions share: the kernel frames (`matmul_tiled`, `_subgroup`, `_direct`, `_combine`), which of
//! them a shape gets, and how operands are loaded. It knows nothing of regions; `matmul.rs` and `conv2d.rs` do.

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
    pub spare: u32,
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

/// A kernel frame with its register tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// Workgroup tile of this side, 4 x 4 per invocation.
    Tiled(u32),
    /// One subgroup of this size per workgroup, 16 rows by 8 columns per lane.
    Subgroup(u32),
    /// Rows and vec4 columns per invocation.
    Direct(u32, u32),
}

/// Names of all variants; a test or a tuning file may ask for one, with `:n` behind it to split k into n pieces.
pub(super) const VARIANTS: &[(&str, Frame)] = &[
    ("tiled_64", Frame::Tiled(64)),
    ("tiled_32", Frame::Tiled(32)),
    ("subgroup_8", Frame::Subgroup(8)),
    ("subgroup_4", Frame::Subgroup(4)),
    ("direct_4x2", Frame::Direct(4, 2)),
    ("direct_4x1", Frame::Direct(4, 1)),
    ("direct_1x2", Frame::Direct(1, 2)),
    ("direct_1x1", Frame::Direct(1, 1)),
];

/// The names of [`VARIANTS`] and of the second pass, for the kernels' registry rows.
pub(super) const VARIANT_NAMES: &[&str] = &[
    "tiled_64",
    "tiled_32",
    "subgroup_8",
    "subgroup_4",
    "direct_4x2",
    "direct_4x1",
    "direct_1x2",
    "direct_1x1",
    "combine",
];

/// Sizes of a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub batches: usize,
    /// True for a convolution: four elements of b cost a computed address each.
    pub gather: bool,
}

/// How a product is computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub frame: Frame,
    pub name: &'static str,
    pub splits: u32,
    pub chunk: u32,
    /// Rows and columns exchanged.
    pub swap: bool,
}

impl Frame {
    /// Rows and columns of the tile of one workgroup (one invocation for `Direct`).
    fn tile(self) -> (usize, usize) {
        match self {
            Frame::Tiled(t) => (t as usize, t as usize),
            Frame::Subgroup(lanes) => (16, 8 * lanes as usize),
            Frame::Direct(rows, cols) => (rows as usize, 4 * cols as usize),
        }
    }
    /// k advances by this.
    pub fn depth(self) -> usize {
        if matches!(self, Frame::Tiled(_)) { 16 } else { 4 }
    }
    /// Tiles without splits.
    fn tiles(self, size: Size) -> usize {
        let (rows, cols) = self.tile();
        size.m.div_ceil(rows) * size.n.div_ceil(cols) * size.batches
    }
    /// Stem of the frame's file.
    pub fn stem(self) -> &'static str {
        match self {
            Frame::Tiled(_) => "matmul_tiled",
            Frame::Subgroup(_) => "matmul_subgroup",
            Frame::Direct(..) => "matmul_direct",
        }
    }
    fn runs_on(self, caps: &GpuCaps) -> bool {
        match self {
            Frame::Tiled(t) => {
                caps.max_invocations >= (t / 4) * (t / 4) && caps.workgroup_bytes >= 2 * 4 * 16 * (t + 1)
            }
            Frame::Subgroup(lanes) => caps.subgroups == Some((lanes, lanes)),
            Frame::Direct(..) => true,
        }
    }
}

/// Chooses frame, orientation and splits; `swap` says whether rows and columns may be exchanged.
pub(super) fn choose(stem: &str, size: Size, swap: bool, caps: &GpuCaps) -> Result<Choice, String> {
    if let Some(wanted) = caps.wanted(stem) {
        let (name, splits) = wanted.split_once(':').unwrap_or((wanted, "1"));
        let swap = swap && name.ends_with('t');
        let name = name.trim_end_matches("_t");
        let splits = splits.parse().map_err(|_| format!("{stem}: bad number of splits in variant {wanted:?}"))?;
        let &(name, frame) =
            VARIANTS.iter().find(|v| v.0 == name).ok_or_else(|| format!("{stem} has no variant {wanted:?}"))?;
        if !frame.runs_on(caps) {
            return Err(format!("{stem}: variant {name} does not fit this adapter"));
        }
        return Ok(finished(name, frame, size, splits, swap));
    }
    if caps.software() { Ok(choose_software(size, swap, caps)) } else { Ok(choose_gpu(size, swap, caps)) }
}

fn finished(name: &'static str, frame: Frame, size: Size, splits: usize, swap: bool) -> Choice {
    let depth = frame.depth();
    let chunk = size.k.div_ceil(splits.max(1)).next_multiple_of(depth).max(depth);
    Choice { frame, name, splits: size.k.div_ceil(chunk).max(1) as u32, chunk: chunk as u32, swap }
}

fn flipped(size: Size, swap: bool) -> Size {
    if swap { Size { m: size.n, n: size.m, ..size } } else { size }
}

/// GPUs: workgroup tiles, the larger where enough of them fill the machine; thin products go without workgroup memory; a long k
/// is split where too few workgroups would run.
fn choose_gpu(size: Size, may_swap: bool, caps: &GpuCaps) -> Choice {
    const BUSY: usize = 192;
    let swap = may_swap && size.n < size.m && size.n <= 8;
    let s = flipped(size, swap);
    let thin = s.m <= 4 || s.n <= 4 || s.k <= 8;
    let name = match (thin, s.m) {
        (true, 1) => "direct_1x1",
        (true, _) => "direct_4x1",
        _ if Frame::Tiled(64).runs_on(caps) && Frame::Tiled(64).tiles(s) >= BUSY => "tiled_64",
        _ if Frame::Tiled(32).runs_on(caps) => "tiled_32",
        _ => "direct_4x1",
    };
    let frame = VARIANTS.iter().find(|v| v.0 == name).map_or(Frame::Direct(4, 1), |v| v.1);
    let units = if thin { frame.tiles(s).div_ceil(64) } else { frame.tiles(s) };
    let splits = if units < BUSY && s.k >= 512 { (BUSY / units.max(1)).min(s.k / 128).min(64) } else { 1 };
    finished(name, frame, s, splits, swap)
}

/// Software adapters: the least estimated time. Costs in nanoseconds per SIMD group and 4 of k, fitted to lavapipe: a vec4 load 14,
/// a gathered vec4 45, four multiply-adds of a vec4 2.7 each.
fn choose_software(size: Size, may_swap: bool, caps: &GpuCaps) -> Choice {
    let lanes = caps.subgroups.map_or(4, |s| s.0).clamp(4, 8) as f64;
    let block = if size.gather { 180.0 } else { 56.0 };
    let mut best: Option<(f64, Choice)> = None;
    for &(name, frame) in VARIANTS {
        let (step, store) = match frame {
            Frame::Tiled(_) => continue,
            Frame::Subgroup(_) if !frame.runs_on(caps) => continue,
            Frame::Subgroup(lanes) => (14.0 * (16.0 / lanes as f64) + 2.0 * block + 260.0, 128.0 * 6.0),
            Frame::Direct(rows, cols) => {
                let (r, c) = (rows as f64, cols as f64);
                (14.0 * r + block * c + 10.7 * r * c, 24.0 * r * c)
            }
        };
        for swap in [false, true] {
            if swap && !may_swap {
                continue;
            }
            let s = flipped(size, swap);
            let tiles = frame.tiles(s);
            let target = if matches!(frame, Frame::Direct(..)) { 16 * lanes as usize } else { 16 };
            for splits in [1, (target / tiles.max(1)).min(s.k / 64)] {
                let choice = finished(name, frame, s, splits.max(1), swap);
                let groups = match frame {
                    Frame::Direct(..) => ((tiles * choice.splits as usize) as f64 / lanes).ceil(),
                    _ => (tiles * choice.splits as usize) as f64,
                };
                let k = s.k.min(choice.chunk as usize).div_ceil(4) as f64;
                let second = if choice.splits > 1 {
                    2e4 + 1.5 * (s.m * s.n * s.batches * choice.splits as usize) as f64
                } else {
                    0.0
                };
                // Two threads at least share the groups.
                let cost = (groups / 2.0).ceil() * (k * step + store + 150.0) + second;
                if best.is_none_or(|b| cost < b.0) {
                    best = Some((cost, choice));
                }
            }
        }
    }
    best.map_or_else(|| finished("direct_4x1", Frame::Direct(4, 1), size, 1, false), |b| b.1)
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
    /// Declarations that loaders and `finish` share.
    pub placing: &'a str,
    /// Text with `finish`.
    pub result: &'a str,
    /// Elements of a and b, as `var<storage>` types, and their arguments.
    pub operands: [(&'a str, usize); 2],
    /// Bindings and functions of the epilogue.
    pub epilogue: &'a super::epilogue::Epilogue,
    /// Number of this product among those of the region (for scratch).
    pub id: usize,
    pub flops: u64,
    pub bytes: u64,
}

/// The calls of a product: one, or two if k is split.
pub(super) fn calls<P: ParamStruct>(mut p: Product<P>, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let Choice { frame, splits, chunk, .. } = p.choice;
    let Size { m, n, k, batches, .. } = p.size;
    let (rows, cols) = frame.tile();
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
        spare: 0,
    };
    (p.set)(&mut p.params, gemm);
    let params = Params::of(&p.params);
    let scratch = |write| Bind::Scratch { id: p.id, bytes: partial, write };

    let wg = match frame {
        Frame::Direct(..) if caps.software() => 32,
        Frame::Direct(..) => 64,
        _ => 0,
    };
    let sizes = include_str!("../../../../shaders/matmul_sizes.wgsl");
    let mut shader = Shader::new(frame.stem())
        .header(sizes)
        .header(&p.types)
        .header(include_str!("../../../../shaders/matmul_frame.wgsl"))
        .header(&p.loaders);
    if splits > 1 {
        // The first pass of a strided product finds its batches with the result's functions.
        shader = shader.header(p.placing);
    }
    let [(a_type, a_arg), (b_type, b_arg)] = p.operands;
    shader = shader
        .header(format!("@group(0) @binding(0) var<storage, read> a: array<{a_type}>;"))
        .header(format!("@group(0) @binding(1) var<storage, read> b: array<{b_type}>;"));
    let mut bindings = vec![Bind::Arg(a_arg), Bind::Arg(b_arg)];
    if splits > 1 {
        shader = shader
            .header("@group(0) @binding(2) var<storage, read_write> partial: array<f32>;")
            .header("@group(0) @binding(3) var<uniform> params: Params;")
            .header("fn store(at: Place, m: u32, n: u32, v: f32) {")
            .header("    let g = params.gemm;")
            .header("    partial[((at.split * g.batches + at.batch) * g.m + m) * g.n + n] = v;\n}");
        bindings.push(scratch(true));
    } else {
        let (text, binds) = p.epilogue.bindings(2);
        shader = shader
            .header(text)
            .header(p.placing)
            .header(p.result)
            .header("fn store(at: Place, m: u32, n: u32, v: f32) {\n    finish(at.batch, m, n, v);\n}");
        bindings.extend(binds);
    }
    let (text, counts, groups) = match frame {
        Frame::Tiled(t) => {
            (include_str!("../../../../shaders/matmul_tiled.wgsl"), vec![("TILE", t), ("LOADS", 64 / t)], tiles)
        }
        Frame::Subgroup(lanes) => (
            include_str!("../../../../shaders/matmul_subgroup.wgsl"),
            vec![("LANES", lanes), ("LANE_ROWS", 16 / lanes), ("ROWS", 16)],
            tiles,
        ),
        Frame::Direct(rows, cols) => (
            include_str!("../../../../shaders/matmul_direct.wgsl"),
            vec![("WG", wg), ("ROWS", rows), ("COLS", cols)],
            tiles.div_ceil(u64::from(wg)),
        ),
    };
    let source =
        shader.consts(&counts).common(&["index"]).common(p.epilogue.pieces()).body(expand(text, &counts)).build();
    let mut out = vec![KernelCall {
        label: p.label.unwrap_or(frame.stem()),
        variant: p.choice.name,
        source,
        overrides: Vec::new(),
        bindings,
        params: params.clone(),
        grid: Grid::linear(groups, caps.max_workgroups)?,
        flops: p.flops,
        bytes: p.bytes,
    }];
    if splits > 1 {
        let wg = caps.flat_workgroup();
        let (text, binds) = p.epilogue.bindings(1);
        let source = Shader::new("matmul_combine")
            .consts(&[("WG", wg)])
            .header(sizes)
            .header(&p.types)
            .header(p.placing)
            .header("@group(0) @binding(0) var<storage, read> partial: array<f32>;")
            .header(text)
            .header(p.result)
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
