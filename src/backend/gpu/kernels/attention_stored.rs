//! Attention with its scores in memory, for software adapters: packed products (`matmul_packed`), and between them one kernel that goes
//! through the rows of scores and writes what the next product reads straight into that one's texture. Tiles of keys that no query of the tile
//! sees are neither computed, packed nor read. Recomputing scores in tiles costs those adapters more than memory does (benches/REJECTED.md).

use super::choice::Frame;
use super::epilogue::PUT4;
use super::gemm::{Gemm, Strided, expand};
use super::packed::{self, Pack};
use super::rows::Quads;
use super::{Bind, Grid, IMAGE_WIDTH, KernelCall, Params, Shader, matmul, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::Type;
use crate::ops::attention::AttentionGrad;
use crate::plan::Region;
use crate::shape::View;

params! {
    /// The WGSL struct `Params` of all calls.
    struct StoredParams {
        /// Queries in all heads.
        rows: u32,
        /// Keys.
        n: u32,
        scale: f32,
        minus_inf: f32,
        nan: f32,
        spare0: u32,
        spare1: u32,
        spare2: u32,
        gemm: Gemm,
        a: Strided,
        b: Strided,
        mask: Strided,
        lse: Strided,
    }
}

const TYPES: &str = "struct Params {
    rows: u32,
    n: u32,
    scale: f32,
    minus_inf: f32,
    nan: f32,
    spare0: u32,
    spare1: u32,
    spare2: u32,
    gemm: Gemm,
    a: Strided,
    b: Strided,
    mask: Strided,
    lse: Strided,
}";

/// Textures: left and right operands that are packed, and the left operand that the kernel of the rows writes.
const LEFT: usize = 0;
const RIGHT: usize = 1;
const MADE: usize = 2;

/// Scores of at most so many bytes are cheaper to store than to recompute on a software adapter (benches/REJECTED.md).
const STORED_SCORES: usize = 64 << 20;

/// Which part of k a product reads, or which tiles it leaves out, where queries see only keys up to their own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Rows are queries, columns keys: tiles above the diagonal are left out.
    Tiles,
    /// Rows are queries, k counts keys: up to the last query of the tile.
    UpTo,
    /// Rows are keys, k counts queries: from the first key of the tile on.
    From,
}

/// What one call of attention or its gradient asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub causal: bool,
    pub scale: f32,
    pub has_mask: bool,
    /// Batches, heads, queries, keys, size of queries and keys, size of values.
    pub sizes: [usize; 6],
}

/// An operand: what is bound, and its view over (0, batch, head, m, k) or (0, batch, head, k, n).
#[derive(Debug, Clone, Copy)]
struct Matrix {
    bind: Bind,
    view: Strided,
}

/// One product of every head.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Rows, columns, inner size of one head.
    size: [usize; 3],
    seen: Seen,
    frame: Frame,
    texels: [u64; 2],
}

impl Call {
    /// From the types of the arguments; sizes are 0 where their ranks are not four.
    pub fn of(args: &[Type], causal: bool, scale: f64, has_mask: bool) -> Call {
        let at = |i: usize, d: usize| args.get(i).and_then(|a| a.shape.get(d)).copied().unwrap_or(0);
        let sizes = [at(0, 0), at(0, 1), at(0, 2), at(1, 2), at(0, 3), at(2, 3)];
        Call { causal, scale: scale as f32, has_mask, sizes }
    }

    /// From the region that calls it.
    pub fn of_region(region: &Region, causal: bool, scale: f64, has_mask: bool) -> Call {
        let types: Vec<Type> = region.args.iter().map(|a| Type::new(a.dtype, a.view.shape.clone())).collect();
        Call::of(&types, causal, scale, has_mask)
    }

    /// True if storing the scores is cheaper than computing them again on a software adapter.
    pub fn is_small(&self) -> bool {
        4 * self.scores() <= STORED_SCORES
    }

    /// True if these kernels are the choice where nothing else is asked for. Measured on lavapipe (8 lanes) and SwiftShader (4).
    pub fn is_default(&self, caps: &GpuCaps) -> bool {
        caps.software() && caps.lanes() >= 4 && self.is_small() && self.fits(caps)
    }

    /// True if these kernels are wanted (or the choice) for the composite `stem`, and fit.
    pub fn is_wanted(&self, stem: &str, caps: &GpuCaps) -> bool {
        caps.wanted(stem).map_or(self.is_default(caps), |v| v == "stored" && self.fits(caps))
    }

    fn heads(&self) -> usize {
        self.sizes[0] * self.sizes[1]
    }

    /// Elements of the scores.
    pub fn scores(&self) -> usize {
        self.heads() * self.sizes[2] * self.sizes[3]
    }

    /// True if there are kernels for these sizes on this adapter.
    pub fn fits(&self, caps: &GpuCaps) -> bool {
        let [_, _, l, s, e, d] = self.sizes;
        let sizes = [[l, s, e], [l, d, s], [l, s, d], [l, e, s], [s, e, l], [s, d, l]];
        [4, 8, 16].contains(&caps.lanes())
            && 4 * self.scores() as u64 <= caps.max_binding_bytes
            && self.sizes.iter().all(|&n| n > 0)
            && sizes.iter().all(|&size| packed::fit(self.part(size, Seen::Tiles, caps).texels, caps))
    }

    fn part(&self, size: [usize; 3], seen: Seen, caps: &GpuCaps) -> Part {
        let cols = [8, 4, 2].into_iter().find(|c| (c * caps.lanes()) as usize <= size[1]).unwrap_or(2);
        let frame = Frame::Packed(cols);
        let texels = packed::texels([size[0], size[1], size[2], self.heads()], frame, caps);
        Part { size, seen, frame, texels }
    }

    /// Argument `arg`, with its last two dimensions exchanged if `turned`. A mask repeats along its dimensions of size 1.
    fn matrix(region: &Region, arg: usize, turned: bool) -> Matrix {
        let v = &region.args[arg].view;
        let mut s: Vec<isize> = v.strides.iter().zip(&v.shape[..]).map(|(&s, &n)| if n == 1 { 0 } else { s }).collect();
        s.resize(4, 0);
        let (rows, cols) = if turned { (s[3], s[2]) } else { (s[2], s[3]) };
        Matrix { bind: Bind::Arg(arg), view: Strided::new(v.offset, [0, s[0], s[1], rows, cols]) }
    }

    /// A matrix of the size of the scores in memory.
    fn memory(&self, id: usize, write: bool) -> Bind {
        Bind::Scratch { id, bytes: 4 * self.scores() as u64, write }
    }

    /// The scores in memory, or what replaces them, with rows and columns exchanged.
    fn turned(&self, id: usize) -> Matrix {
        let [_, h, l, s, _, _] = self.sizes.map(|n| n as isize);
        Matrix { bind: self.memory(id, false), view: Strided::new(0, [0, h * l * s, l * s, 1, s]) }
    }

    fn params(&self, region: &Region, lse: Option<usize>) -> StoredParams {
        let view = |arg: Option<usize>| arg.map_or(Strided::default(), |arg| Call::matrix(region, arg, false).view);
        StoredParams {
            rows: (self.heads() * self.sizes[2]) as u32,
            n: self.sizes[3] as u32,
            scale: self.scale,
            minus_inf: f32::NEG_INFINITY,
            nan: f32::NAN,
            spare0: 0,
            spare1: 0,
            spare2: 0,
            gemm: Gemm::default(),
            a: Strided::default(),
            b: Strided::default(),
            mask: view(self.has_mask.then_some(3)),
            lse: view(lse),
        }
    }

    /// `scale q k^T`, masked, into scratch 0.
    fn score(&self, region: &Region, params: &StoredParams, caps: &GpuCaps) -> Result<[KernelCall; 2], String> {
        let [_, _, l, s, e, _] = self.sizes;
        let (mask, masked) = match self.has_mask.then(|| region.args[3].dtype) {
            None => (None, "return v;"),
            Some(DType::Bool) => (Some("u32"), "return select(params.minus_inf, v, mask[at] != 0u);"),
            Some(_) => (Some("f32"), "return v + mask[at];"),
        };
        let mut text = String::new();
        if let Some(ty) = mask {
            text += &format!("@group(0) @binding(3) var<storage, read> mask: array<{ty}>;\n");
        }
        text += "fn masked(row: Row, key: u32, v: f32) -> f32 {\n";
        if mask.is_some() {
            text += "    let start = batch_start(params.mask, row.batch) + i32(row.m) * params.mask.s3;\n";
            text += "    let at = start + i32(key) * params.mask.s4;\n";
        }
        text += &format!("    {masked}\n}}\n");
        text += "fn result(row: Row, key: u32, v: f32) -> f32 {\n    return masked(row, key, v * params.scale);\n}\n";
        let mut binds = vec![self.memory(0, true)];
        binds.extend(mask.map(|_| Bind::Arg(3)));
        let (q, k) = (Call::matrix(region, 0, false), Call::matrix(region, 1, true));
        let part = self.part([l, s, e], Seen::Tiles, caps);
        Ok([part.pack(*self, params, Some(q), k, caps)?, part.product(*self, params, LEFT, (&text, binds), caps)?])
    }

    /// A product whose results go where they are bound, and the call that packs its operands; without `a`, the left one is made already.
    fn plain(
        &self,
        params: &StoredParams,
        part: Part,
        (a, b): (Option<Matrix>, Matrix),
        out: Bind,
        caps: &GpuCaps,
    ) -> Result<[KernelCall; 2], String> {
        let text = "fn result(row: Row, n: u32, v: f32) -> f32 {\n    return v;\n}\n";
        let left = if a.is_some() { LEFT } else { MADE };
        Ok([part.pack(*self, params, a, b, caps)?, part.product(*self, params, left, (text, vec![out]), caps)?])
    }

    /// How rows of scores are read, and the view of all of them.
    fn quads(&self, caps: &GpuCaps) -> (Quads, View) {
        let (rows, s) = (self.heads() * self.sizes[2], self.sizes[3]);
        (Quads::rows(s, caps.software() && caps.int64), View::contiguous(&[rows, s].into()))
    }

    /// The kernel that goes through the rows of scores; `operands` read and write them, `made` is the product whose left operand it writes.
    fn rows(
        &self,
        (stem, text): (&'static str, &str),
        (params, made): (&StoredParams, Part),
        (operands, binds): (String, Vec<Bind>),
        caps: &GpuCaps,
    ) -> Result<KernelCall, String> {
        let (quads, view) = self.quads(caps);
        let source = quads
            .shader(stem)
            .header(include_str!("../../../../shaders/matmul_sizes.wgsl"))
            .header(TYPES)
            .header(include_str!("../../../../shaders/matmul_line.wgsl"))
            .header(made.placing(*self))
            .header(operands)
            .header(format!("const CAUSAL: bool = {};", self.causal))
            .consts(&[("ROWS", packed::ROWS as u32), ("IMAGE_WIDTH", IMAGE_WIDTH)])
            .header(concat!(
                include_str!("../../../../shaders/attention_rows.wgsl"),
                include_str!("../../../../shaders/row_running.wgsl")
            ))
            .body(text)
            .build();
        let elems = self.scores() as u64 / if self.causal { 2 } else { 1 };
        Ok(KernelCall {
            label: stem,
            variant: "stored",
            source,
            overrides: Vec::new(),
            bindings: [vec![Bind::Image { id: MADE, texels: made.texels[0], write: true }], binds].concat(),
            params: Params::of(&StoredParams { gemm: made.gemm(*self, caps), ..*params }),
            grid: Grid::linear(quads.groups(view.shape[0]), caps.max_workgroups)?,
            flops: 5 * elems,
            bytes: 8 * elems,
        })
    }
}

/// False for attention's result in its gradient: these kernels, as the body, do without. Those in tiles take sum(result * cotangent) for
/// sum(weight * its gradient).
pub(in crate::backend::gpu) fn reads(call: &crate::ir::Call, args: &[Type], arg: usize, caps: &GpuCaps) -> bool {
    let Some(a) = call.composite.as_any().downcast_ref::<AttentionGrad>() else { return true };
    let wanted = || Call::of(args, a.causal, a.scale, a.has_mask).is_wanted("attention_grad", caps);
    arg != 3 + usize::from(a.has_mask) || !wanted()
}

/// The calls of the forward pass.
pub(super) fn forward(region: &Region, call: Call, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let [_, _, l, s, _, d] = call.sizes;
    let params = call.params(region, None);
    let values = call.part([l, d, s], Seen::UpTo, caps);
    let text = include_str!("../../../../shaders/attention_stored.wgsl");
    let binds = vec![call.memory(0, false), Bind::Out(1)];
    let (quads, view) = call.quads(caps);
    let operands = quads.reader("scores", &view);
    let mut calls = call.score(region, &params, caps)?.to_vec();
    calls.push(call.rows(("attention_stored", text), (&params, values), (operands, binds), caps)?);
    calls.extend(call.plain(&params, values, (None, Call::matrix(region, 2, false)), Bind::Out(0), caps)?);
    Ok(calls)
}

/// The calls of the gradient: weights replace the scores in memory, and their gradient what v and the cotangent give.
pub(super) fn grad(region: &Region, call: Call, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let [_, _, l, s, e, d] = call.sizes;
    let after = 3 + usize::from(call.has_mask);
    let (lse, g) = (after + 1, after + 2);
    let params = call.params(region, Some(lse));
    let of = |arg: usize| Call::matrix(region, arg, false);
    let queries = call.part([l, e, s], Seen::UpTo, caps);
    let text = include_str!("../../../../shaders/attention_stored_grad.wgsl");
    let cotangents = call.part([l, s, d], Seen::Tiles, caps);
    let binds = vec![call.memory(0, true), call.memory(1, true), Bind::Arg(lse)];
    let (quads, view) = call.quads(caps);
    let operands = quads.changer("scores", &view) + &quads.changer("ds", &view);
    let mut calls = call.score(region, &params, caps)?.to_vec();
    let from_v = (Some(of(g)), Call::matrix(region, 2, true));
    calls.extend(call.plain(&params, cotangents, from_v, call.memory(1, true), caps)?);
    calls.push(call.rows(("attention_stored_grad", text), (&params, queries), (operands, binds), caps)?);
    calls.extend(call.plain(&params, queries, (None, of(1)), Bind::Out(0), caps)?);
    let keys = call.part([s, e, l], Seen::From, caps);
    calls.extend(call.plain(&params, keys, (Some(call.turned(1)), of(0)), Bind::Out(1), caps)?);
    let values = call.part([s, d, l], Seen::From, caps);
    calls.extend(call.plain(&params, values, (Some(call.turned(0)), of(g)), Bind::Out(2), caps)?);
    Ok(calls)
}

impl Part {
    fn gemm(&self, call: Call, caps: &GpuCaps) -> Gemm {
        let [m, n, k] = self.size;
        let (rows, cols) = self.frame.tile(caps);
        let (tiles_m, tiles_n) = (m.div_ceil(rows), n.div_ceil(cols));
        Gemm {
            m: m as u32,
            n: n as u32,
            k: k as u32,
            batches: call.heads() as u32,
            tiles_m: tiles_m as u32,
            tiles_n: tiles_n as u32,
            splits: 1,
            k_chunk: k.next_multiple_of(4) as u32,
            tiles: (tiles_m * tiles_n * call.heads()) as u32,
            batch1: call.sizes[0] as u32,
            batch2: call.sizes[1] as u32,
            rows: rows as u32,
        }
    }

    fn placing(&self, call: Call) -> String {
        let [m, n, k] = self.size;
        let most = (m.max(n).div_ceil(4) * k.div_ceil(4) + 4) * call.heads();
        format!(
            "const ONE_BATCH: bool = false;\n{}{}",
            packed::ratio([most]),
            include_str!("../../../../shaders/matmul_strided.wgsl")
        )
    }

    /// The call that packs the operands, or only the right one.
    fn pack(
        &self,
        call: Call,
        params: &StoredParams,
        a: Option<Matrix>,
        b: Matrix,
        caps: &GpuCaps,
    ) -> Result<KernelCall, String> {
        let [m, n, k] = self.size;
        let mut params = StoredParams { gemm: self.gemm(call, caps), b: b.view, ..*params };
        let exact = k.is_multiple_of(4);
        let right = matmul::operand("b", b.view, true, [n, k], "params.gemm.n", true, exact);
        // Without rows nothing of a is packed, and the text reads b by that name.
        let (left, left_bind, rows) = match a {
            Some(a) => {
                params.a = a.view;
                (matmul::operand("a", a.view, false, [m, k], "params.gemm.m", true, exact), a.bind, m)
            }
            None => (matmul::operand("a", b.view, true, [n, k], "params.gemm.n", true, exact), b.bind, 0),
        };
        params.gemm.m = rows as u32;
        let later = call.causal && self.seen == Seen::From;
        let along = packed::along(left.along_k, right.along_k) + &packed::later(later);
        let pack = Pack {
            stem: "matmul_pack",
            text: include_str!("../../../../shaders/matmul_pack.wgsl"),
            loaders: left.block() + &right.block() + &along,
            operands: [(left.element_type(), left_bind), (right.element_type(), b.bind)],
            texels: [if rows > 0 { self.texels[0] } else { 1 }, self.texels[1]],
            images: [LEFT, RIGHT],
            invocations: ((rows.div_ceil(4) + n.div_ceil(4)) * k.div_ceil(4) * call.heads()) as u64,
        };
        let types = [include_str!("../../../../shaders/matmul_sizes.wgsl"), TYPES, &self.placing(call)];
        let bytes = 8 * (call.heads() * k * (if later { rows / 2 } else { rows } + n)) as u64;
        Ok(KernelCall { bytes, ..pack.call(&types, self.frame, Params::of(&params), caps)? })
    }

    /// The product with the left operand in texture `left`; `result` of the text makes values of sums, for the first of the buffers.
    fn product(
        &self,
        call: Call,
        params: &StoredParams,
        left: usize,
        (text, binds): (&str, Vec<Bind>),
        caps: &GpuCaps,
    ) -> Result<KernelCall, String> {
        let [m, n, k] = self.size;
        let params = StoredParams { gemm: self.gemm(call, caps), ..*params };
        let Frame::Packed(cols) = self.frame else { return Err("not a packed frame".into()) };
        let fours = n % 4 == 0 && cols >= 4;
        let element = if fours { "vec4<f32>" } else { "f32" };
        let each = |i: usize, c: &str| format!("result(row, n + {i}u, v.{c})");
        let put = match fours {
            true => format!(
                "fn put4(row: Row, n: u32, v: vec4<f32>) {{\n    if (n < params.gemm.n) {{\n        out[(row.first + n) / 4u] = \
                 vec4<f32>({}, {}, {}, {});\n    }}\n}}\n",
                each(0, "x"),
                each(1, "y"),
                each(2, "z"),
                each(3, "w")
            ),
            false => {
                format!("fn put(row: Row, n: u32, v: f32) {{\n    out[row.first + n] = result(row, n, v);\n}}\n{PUT4}")
            }
        };
        let narrow = match (call.causal, self.seen) {
            (false, _) => "",
            (true, Seen::Tiles) => {
                "if (at.col * (COLS * LANES) >= (at.row + 1u) * ROWS) {\n        at.k0 = 1u;\n        at.k1 = 0u;\n    }"
            }
            (true, Seen::UpTo) => "at.k1 = min(at.k1, (at.row + 1u) * ROWS);",
            (true, Seen::From) => "at.k0 = min(at.row * ROWS, at.k1);",
        };
        let counts = packed::counts(self.frame, caps);
        let image = |id: usize, texels: u64| Bind::Image { id, texels, write: false };
        let bindings = [vec![image(left, self.texels[0]), image(RIGHT, self.texels[1])], binds].concat();
        let source = Shader::new("matmul_packed")
            .header(include_str!("../../../../shaders/matmul_sizes.wgsl"))
            .header(TYPES)
            .header(include_str!("../../../../shaders/matmul_frame.wgsl"))
            .header(include_str!("../../../../shaders/matmul_line.wgsl"))
            .header(packed::READ)
            .header(format!("@group(0) @binding(2) var<storage, read_write> out: array<{element}>;"))
            .header(format!("@group(0) @binding({}) var<uniform> params: Params;", bindings.len()))
            .header(self.placing(call))
            .header(
                "struct Row {\n    batch: u32,\n    m: u32,\n    first: u32,\n}\nfn row_at(at: Place, m: u32) -> Row {",
            )
            .header("    return Row(at.batch, m, (at.batch * params.gemm.m + m) * params.gemm.n);\n}")
            .header(text)
            .header(put)
            .header(packed::wanted(narrow))
            .consts(&counts)
            .common(&["index"])
            .body(expand(include_str!("../../../../shaders/matmul_packed.wgsl"), &counts))
            .build();
        let work = (call.heads() * m * n * k) as u64 / if call.causal { 2 } else { 1 };
        Ok(KernelCall {
            label: "matmul_packed",
            variant: "stored",
            source,
            overrides: Vec::new(),
            bindings,
            params: Params::of(&params),
            grid: Grid::linear(u64::from(params.gemm.tiles), caps.max_workgroups)?,
            flops: 2 * work,
            bytes: 4 * (call.heads() * (m * k + n * k + m * n)) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::caps::AdapterClass::{Discrete, Software};
    use crate::backend::gpu::kernels::{attention, fused_call, select};

    /// Where the default kernel does not read attention's result, its gradient's region has the cotangent in that place: kernels that read it
    /// (as a tuning file could want) must refuse. Where they are the default, nothing is replaced, and the two may be one value.
    #[test]
    fn what_was_not_kept_is_not_read() {
        let caps = |class, variant: Option<&str>| {
            let variants = variant.map(|v| ("attention_grad".to_string(), v.to_string())).into_iter().collect();
            GpuCaps { variants, max_storage_buffers: 31, ..GpuCaps::sample(class, Some((8, 8))) }
        };
        for mut region in (attention::KERNELS[1].samples)() {
            let call = fused_call(&region).unwrap().clone();
            let out = region.args.len() - 3;
            let types: Vec<Type> = region.args.iter().map(|a| Type::new(a.dtype, a.view.shape.clone())).collect();
            for (class, read) in [(Software, false), (Discrete, true)] {
                assert_eq!(reads(&call, &types, out, &caps(class, None)), read);
                assert!((0..types.len()).all(|i| i == out || reads(&call, &types, i, &caps(class, None))));
            }
            assert!(reads(&call, &types, out, &caps(Software, Some("tile_32"))));
            region.args[out] = region.args[out + 2].clone();
            assert_eq!(select(&region, &caps(Software, None)).unwrap()[0].variant, "pack");
            assert!(select(&region, &caps(Software, Some("tile_32"))).unwrap_err().contains("not kept"));
            assert!(select(&region, &caps(Discrete, None)).is_ok());
        }
    }
}
