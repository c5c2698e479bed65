//! Operands of products packed into textures, for `matmul_packed`: the call that packs them, and what both texts share. On software
//! adapters a load from a buffer is a branch per lane; a texel of a storage texture comes without one, in a quarter of the time, which
//! pays for the packing from a few dozen rows on. The packed order also removes strides and edges from the inner loop.

use super::choice::Frame;
use super::gemm::expand;
use super::{Bind, Grid, IMAGE_WIDTH, KernelCall, Params, Shader};
use crate::backend::gpu::caps::GpuCaps;

/// Rows of a tile.
pub(super) const ROWS: usize = 16;

/// Declarations of the packed operands in the text that reads them.
pub(super) const READ: &str = "@group(0) @binding(0) var a: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var b: texture_storage_2d<rgba32float, read>;";

/// The call that packs the operands of a product.
pub(super) struct Pack<'a> {
    /// Stem of its file, and the text.
    pub stem: &'static str,
    pub text: &'a str,
    /// What its text needs besides sizes, types and placing.
    pub loaders: String,
    /// Elements of a and b, as `var<storage>` types, and what they are.
    pub operands: [(&'static str, Bind); 2],
    /// Texels of a and b.
    pub texels: [u64; 2],
    /// The textures.
    pub images: [usize; 2],
    /// Invocations that have something to do.
    pub invocations: u64,
}

/// The function `ratio`: quotients of numbers of which these are the largest. A float division is exact up to 2^20: the distance of
/// (x + 1/2) / d from an integer is at least 1 / 2d, its error at most 2.5 * 2^-23 * x / d; an integer division costs 8 times as much.
pub(super) fn ratio(largest: impl IntoIterator<Item = usize>) -> String {
    let quotient = if largest.into_iter().all(|n| n < 1 << 20) { "u32((f32(x) + 0.5) / f32(d))" } else { "x / d" };
    format!("fn ratio(x: u32, d: u32) -> u32 {{\n    return {quotient};\n}}\n")
}

/// Texels of both operands of strided matrices: whole panels of rows and of columns.
pub(super) fn texels([m, n, k, batches]: [usize; 4], frame: Frame, caps: &GpuCaps) -> [u64; 2] {
    let (rows, cols) = frame.tile(caps);
    let steps = (k.div_ceil(4) * batches) as u64;
    [steps * m.next_multiple_of(rows) as u64, steps * n.next_multiple_of(cols) as u64]
}

/// True if textures of this adapter hold so many texels.
pub(super) fn fit(texels: [u64; 2], caps: &GpuCaps) -> bool {
    texels.iter().all(|&t| t <= u64::from(caps.image_rows) * u64::from(IMAGE_WIDTH))
}

/// Constants of a text that packs or stages both operands: whether their memory runs along k.
pub(super) fn along(a: bool, b: bool) -> String {
    format!("const A_ALONG_K: bool = {a};\nconst B_ALONG_K: bool = {b};\n")
}

/// Whether the product reads each panel of a packed a only from its first row's place in k on.
pub(super) fn later(is: bool) -> String {
    format!("const LATER: bool = {is};\n")
}

/// Statements that narrow k of the tile `at`; a tile is left out if it ends before it begins.
pub(super) fn wanted(narrow: &str) -> String {
    format!("fn wanted(tile: Place) -> Place {{\n    var at = tile;\n    {narrow}\n    return at;\n}}\n")
}

/// Constants of the texts: the pack's are among those of the product.
pub(super) fn counts(frame: Frame, caps: &GpuCaps) -> Vec<(&'static str, u32)> {
    let cols = if let Frame::Packed(cols) = frame { cols } else { 1 };
    let lanes = caps.lanes();
    let (quads, each) = (cols.div_ceil(4), cols.min(4));
    vec![
        ("LANES", lanes),
        ("LANE_ROWS", ROWS as u32 / lanes),
        ("ROWS", ROWS as u32),
        ("COLS", cols),
        ("QUADS", quads),
        ("EACH", each),
        ("FOURS", if each == 4 { quads } else { 0 }),
        ("SINGLES", if each == 4 { 0 } else { each }),
        ("IMAGE_WIDTH", IMAGE_WIDTH),
    ]
}

impl Pack<'_> {
    /// Bindings of the textures.
    pub fn binds(&self, write: bool) -> Vec<Bind> {
        let bind = |i: usize| Bind::Image { id: self.images[i], texels: self.texels[i], write };
        vec![bind(0), bind(1)]
    }

    /// The call; `types` are the declarations that its product has, too.
    pub fn call(&self, types: &[&str], frame: Frame, params: Params, caps: &GpuCaps) -> Result<KernelCall, String> {
        let wg = caps.flat_workgroup();
        let [(a, a_bind), (b, b_bind)] = self.operands;
        let mut shader = Shader::new(self.stem);
        for text in types {
            shader = shader.header(text);
        }
        let counts = counts(frame, caps);
        let source = shader
            .header(&self.loaders)
            .header(include_str!("../../../../shaders/matmul_panel.wgsl"))
            .header(format!("@group(0) @binding(0) var<storage, read> a: array<{a}>;"))
            .header(format!("@group(0) @binding(1) var<storage, read> b: array<{b}>;"))
            .header("@group(0) @binding(2) var a_packed: texture_storage_2d<rgba32float, write>;")
            .header("@group(0) @binding(3) var b_packed: texture_storage_2d<rgba32float, write>;")
            .header("@group(0) @binding(4) var<uniform> params: Params;")
            .consts(&counts)
            .consts(&[("WG", wg)])
            .common(&["index"])
            .body(expand(self.text, &[("FOUR", 4)]))
            .build();
        Ok(KernelCall {
            label: self.stem,
            variant: "pack",
            source,
            overrides: Vec::new(),
            bindings: [vec![a_bind, b_bind], self.binds(true)].concat(),
            params,
            grid: Grid::linear(self.invocations.div_ceil(u64::from(wg)), caps.max_workgroups)?,
            flops: 0,
            bytes: 32 * (self.texels[0] + self.texels[1]),
        })
    }
}
