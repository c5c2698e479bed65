//! Attention with online softmax and its gradient, for head sizes up to 128: the L x S scores never exist in memory. The gradient
//! recomputes them from lse, after a pass that sums out * g per query, in one kernel for dq and one for dk and dv. Software
//! adapters take these kernels only where the scores would be large; else they store them (`attention_stored`).

use super::attention_tile::{Pass, Sizes, Tile};
use super::loader::Operand;
use super::rows::{Parts, in_memory};
use super::sample::{region, repeated, stored};
use super::{Bind, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, attention_stored, fused_call, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::{Call, Type};
use crate::ops::attention::{Attention, AttentionGrad};
use crate::plan::{Region, RegionKind};
use std::fmt::Write;

/// The WGSL struct `Heads`.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Heads {
    b: u32,
    h: u32,
    l: u32,
    s: u32,
    e: u32,
    d: u32,
    tiles: u32,
    spare: u32,
    scale: f32,
    minus_inf: f32,
    nan: f32,
    spare1: u32,
}

/// The WGSL struct `Rows`: offset and strides over (b, h, row, column).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Rows([i32; 8]);

params! {
    /// The WGSL struct `Params` of the attention kernels. The views are in the order of `VIEWS`.
    struct AttentionParams {
        heads: Heads,
        views: [Rows; 7],
    }
}

/// Names of the views: query, key, value, mask, result, lse, cotangent of the result.
const VIEWS: [&str; 7] = ["q", "k", "v", "mask", "o", "lse", "g"];
const TYPES: &str = "struct Params {\n    heads: Heads,\n    views: array<Rows, 7>,\n}";
/// Largest head size: 4 vec4 columns per invocation of a tile of 32, 2 of a tile of 64.
const MOST: usize = 128;

/// The registry rows.
pub const KERNELS: [KernelInfo; 2] = [
    KernelInfo {
        serves: Serves::Composite("attention"),
        stems: &["attention", "attention_stored", "matmul_packed", "matmul_pack"],
        variants: &["tile_32", "tile_64", "subgroup", "stored", "pack"],
        select: forward,
        takes,
        strided: |_, _| true,
        samples: || samples(false),
        mutations: &[
            Mutation { stem: "attention", find: "acc2_0 *= shrink2;", replace: "" },
            Mutation { stem: "attention", find: "key > query)", replace: "key >= query + 2u)" },
            Mutation { stem: "attention", find: "sum += sums[r] * shrink", replace: "sum += sums[r]" },
            Mutation { stem: "attention", find: "acc2_0 *= shrink[2];", replace: "" },
            Mutation { stem: "attention", find: "sum = sum * shrink +", replace: "sum = sum +" },
            Mutation { stem: "attention", find: "parts[lane ^ i]", replace: "parts[i]" },
            Mutation { stem: "attention", find: "s < NEAR; s *= 2u", replace: "2u * s < NEAR; s *= 2u" },
            Mutation { stem: "attention_stored", find: "min(query + 1u, params.n)", replace: "params.n" },
            Mutation { stem: "attention_stored", find: "v.a.x, v.b.x, v.a.y", replace: "v.a.x, v.a.y, v.b.x" },
            Mutation {
                stem: "attention_stored",
                find: "lse[row] = select(select(top + log",
                replace: "lse[row] = select(select(log",
            },
            Mutation { stem: "matmul_packed", find: "(at.row + 1u) * ROWS", replace: "at.row * ROWS" },
            Mutation { stem: "matmul_packed", find: "+ i32(row.m) * params.mask.s3", replace: "" },
        ],
    },
    KernelInfo {
        serves: Serves::Composite("attention_grad"),
        stems: &[
            "attention_delta",
            "attention_dq",
            "attention_dkv",
            "attention_stored_grad",
            "matmul_packed",
            "matmul_pack",
        ],
        variants: &["flat", "tile_32", "tile_64", "stored", "pack"],
        select: grad,
        takes,
        strided: |_, _| true,
        samples: || samples(true),
        mutations: &[
            Mutation { stem: "attention_delta", find: "c < p.d", replace: "c + 4u < p.d" },
            Mutation { stem: "attention_dq", find: "- stat1.y", replace: "" },
            Mutation {
                stem: "attention_dq",
                find: "let r = staged(k * PITCH",
                replace: "let r = staged((k & 14u) * PITCH",
            },
            Mutation { stem: "attention_dkv", find: "put_weights(lane, vg);", replace: "put_weights(lane, m);" },
            Mutation { stem: "attention_stored_grad", find: "(d.b - mean)", replace: "d.b" },
            Mutation { stem: "attention_stored_grad", find: "scores_put(row, q, p);", replace: "" },
            Mutation { stem: "matmul_packed", find: "at.k0 = min(at.row * ROWS, at.k1);", replace: "at.k0 = at.k1;" },
            Mutation {
                stem: "matmul_pack",
                find: "at.step * 4u < at.outer / ROWS",
                replace: "at.step * 4u <= at.outer / ROWS",
            },
            Mutation { stem: "attention_dkv", find: "dk1_0[j] * p.scale", replace: "dk1_0[j]" },
        ],
    },
];

fn takes(call: &Call, args: &[Type], caps: &GpuCaps) -> Result<(), String> {
    let size = |i: usize, from_last: usize| {
        let shape = args.get(i).map(|a| &a.shape[..]).unwrap_or(&[]);
        shape.len().checked_sub(from_last).and_then(|d| shape.get(d)).copied().unwrap_or(0)
    };
    let (e, d) = (size(0, 1), size(2, 1));
    if e.max(d) > MOST || e == 0 || d == 0 {
        return Err(format!("the attention kernels take head sizes of 1 to {MOST}, got {e} and {d}"));
    }
    let stored = attention_stored::Call::of(args, false, 1.0, false);
    if caps.software()
        && stored.is_small()
        && !stored.is_default(caps)
        && !caps.variants.contains_key(call.composite.name())
    {
        return Err(format!("on software adapters products with {} stored scores are faster", stored.scores()));
    }
    Ok(())
}

/// What one call of attention or its gradient looks like.
struct Setup {
    params: AttentionParams,
    /// Argument of each view, if there is one.
    args: [Option<usize>; 7],
    /// Mask as in the header: 0 none, 1 bool, 2 added.
    mask: u32,
    causal: bool,
    /// Sizes b * h, l, s, e, d.
    sizes: Sizes,
    tile: Tile,
}

/// The call of a composite.
struct Composite {
    stem: &'static str,
    causal: bool,
    scale: f64,
    has_mask: bool,
}

fn setup(region: &Region, call: Composite, caps: &GpuCaps) -> Result<Setup, String> {
    let Composite { stem, causal, scale, has_mask } = call;
    let grad = stem == "attention_grad";
    in_memory(region)?;
    let shape = |arg: usize| &region.args[arg].view.shape;
    let (q, k, v) = (shape(0), shape(1), shape(2));
    if q[3].max(v[3]) > MOST || q[3] == 0 || v[3] == 0 {
        return Err(format!("the attention kernels take head sizes of 1 to {MOST}, got {} and {}", q[3], v[3]));
    }
    let after = if has_mask { 4 } else { 3 };
    let rest = |i: usize| grad.then_some(after + i);
    let args = [Some(0), Some(1), Some(2), has_mask.then_some(3), rest(0), rest(1), rest(2)];
    let mut views = [Rows::default(); 7];
    for (rows, arg) in views.iter_mut().zip(args) {
        let Some(view) = arg.map(|a| &region.args[a].view) else { continue };
        rows.0[0] = view.offset as i32;
        for (d, &s) in view.strides.iter().enumerate() {
            // A mask repeats along its dimensions of size 1.
            rows.0[1 + d] = if view.shape[d] == 1 { 0 } else { s as i32 };
        }
    }
    let heads = Heads {
        b: q[0] as u32,
        h: q[1] as u32,
        l: q[2] as u32,
        s: k[2] as u32,
        e: q[3] as u32,
        d: v[3] as u32,
        tiles: 0,
        spare: 0,
        scale: scale as f32,
        minus_inf: f32::NEG_INFINITY,
        nan: f32::NAN,
        spare1: 0,
    };
    let mask = match args[3].map(|a| region.args[a].dtype) {
        None => 0,
        Some(DType::F32 | DType::F16) => 2,
        Some(_) => 1,
    };
    let sizes = [q[0] * q[1], q[2], k[2], q[3], v[3]];
    let tile = Tile::of(stem, sizes, caps)?;
    Ok(Setup { params: AttentionParams { heads, views }, args, mask, causal, sizes, tile })
}

/// Which rows a view has: (rows, columns) as fields of `Heads`.
fn extent(view: usize) -> (&'static str, &'static str) {
    match view {
        0 => ("l", "e"),
        1 => ("s", "e"),
        2 => ("s", "d"),
        _ => ("l", "d"),
    }
}

impl Setup {
    /// A text with these views bound first, then these results (name, type), then the params.
    fn shader(
        &self,
        stem: &'static str,
        region: &Region,
        views: &[usize],
        outs: &[(&str, &str, Bind)],
    ) -> (Shader, Vec<Bind>) {
        let frame = include_str!("../../../../shaders/attention_frame.wgsl");
        let mut text = format!("{}\n{frame}\n{TYPES}\n", self.tile.consts());
        let mut bindings = Vec::new();
        // Where each view's head begins, found once: it takes two divisions.
        let mut enter = String::new();
        for &i in views.iter().filter(|&&i| self.args[i].is_some()) {
            let name = VIEWS[i];
            let binding = bindings.len();
            let _ = writeln!(text, "var<private> {name}_start: i32;");
            let _ = writeln!(enter, "    {name}_start = head_start(params.views[{i}], head);");
            bindings.push(Bind::Arg(self.args[i].unwrap_or(0)));
            if i == 3 || i == 5 {
                let ty = if i == 3 && self.mask == 1 { "u32" } else { "f32" };
                let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, read> {name}: array<{ty}>;");
                continue;
            }
            let (rows, cols) = extent(i);
            let (v, view) = (self.params.views[i].0, &region.args[self.args[i].unwrap_or(0)].view);
            let four = |s: i32| s % 4 == 0;
            let whole = view.shape[3].is_multiple_of(4);
            let operand = Operand {
                name,
                start: &format!("{name}_start"),
                outer: &format!("params.views[{i}].row"),
                inner: &format!("params.views[{i}].col"),
                len: &format!("params.heads.{rows}"),
                vec: whole && v[4] == 1 && four(v[0]) && four(v[1]) && four(v[2]) && four(v[3]),
                along_k: true,
                k_len: &format!("params.heads.{cols}"),
                // Tiles can be wider than the head; then they load columns beyond the last one.
                exact: view.shape[3].is_multiple_of(self.tile.side()),
                address: None,
            };
            let ty = operand.element_type();
            let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, read> {name}: array<{ty}>;");
            text += &operand.line();
        }
        for (name, access, bind) in outs {
            let _ = writeln!(
                text,
                "@group(0) @binding({}) var<storage, {access}> {name}: array<{}>;",
                bindings.len(),
                if *name == "stats" { "vec2<f32>" } else { "f32" }
            );
            bindings.push(*bind);
        }
        let _ = writeln!(text, "@group(0) @binding({}) var<uniform> params: Params;", bindings.len());
        let mask = if views.contains(&3) { self.mask } else { 0 };
        let masked = match mask {
            0 => "return v;",
            1 => "return select(params.heads.minus_inf, v, mask[at] != 0u);",
            _ => "return v + mask[at];",
        };
        let _ = writeln!(text, "const CAUSAL: bool = {};", self.causal);
        let _ = writeln!(text, "fn masked(head: u32, query: u32, key: u32, v: f32) -> f32 {{");
        if mask != 0 {
            let _ = writeln!(text, "    let m = params.views[3];");
            let _ = writeln!(text, "    let at = mask_start + i32(query) * m.row + i32(key) * m.col;");
        }
        let _ = writeln!(text, "    {masked}\n}}");
        let _ = writeln!(text, "fn enter(head: u32) {{\n{enter}}}");
        (Shader::new(stem).header(text).common(&["index", "bits"]), bindings)
    }

    fn call(
        &self,
        (shader, bindings): (Shader, Vec<Bind>),
        stem: &'static str,
        rows: usize,
        flops: usize,
        caps: &GpuCaps,
    ) -> Result<KernelCall, String> {
        let mut params = self.params;
        let tiles = rows.div_ceil(self.tile.side());
        params.heads.tiles = tiles as u32;
        let [heads, l, s, e, d] = self.sizes;
        Parts {
            label: stem,
            variant: self.tile.variant(),
            shader,
            bindings,
            params: Params::of(&params),
            groups: tiles as u64 * heads as u64,
            flops: if self.causal { flops / 2 } else { flops },
            words: heads * (l + s) * (e + d),
        }
        .call(caps)
    }
}

fn forward(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<Attention>());
    let a = call.ok_or("not an attention call")?;
    let call = Composite { stem: "attention", causal: a.causal, scale: a.scale, has_mask: a.has_mask };
    let setup = setup(region, call, caps)?;
    let [heads, l, s, e, d] = setup.sizes;
    let kept = attention_stored::Call::of_region(region, a.causal, a.scale, a.has_mask);
    if kept.is_wanted("attention", caps) {
        return attention_stored::forward(region, kept, caps);
    }
    let outs = [("out", "read_write", Bind::Out(0)), ("lse", "read_write", Bind::Out(1))];
    let (shader, bindings) = setup.shader("attention", region, &[0, 1, 2, 3], &outs);
    let shader = setup.tile.finish(shader, Pass::Forward, &[["q", "k", "e"]], &[("COLS", setup.tile.columns(d))]);
    Ok(vec![setup.call((shader, bindings), "attention", l, 2 * heads * l * s * (e + d), caps)?])
}

fn grad(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<AttentionGrad>());
    let a = call.ok_or("not an attention gradient")?;
    let call = Composite { stem: "attention_grad", causal: a.causal, scale: a.scale, has_mask: a.has_mask };
    let setup = setup(region, call, caps)?;
    let [heads, l, s, e, d] = setup.sizes;
    let kept = attention_stored::Call::of_region(region, a.causal, a.scale, a.has_mask);
    if kept.is_wanted("attention_grad", caps) {
        return attention_stored::grad(region, kept, caps);
    }
    let (out, g) = (&region.args[3 + usize::from(a.has_mask)], &region.args[5 + usize::from(a.has_mask)]);
    // Where another kernel was the default when the graph was lowered (`attention_stored::reads`).
    if kept.is_default(caps) && out.source == g.source && out.view == g.view {
        return Err("attention's result was not kept, since the default kernel does not read it".into());
    }
    let scratch = |write| Bind::Scratch { id: 0, bytes: 8 * (heads * l).max(1) as u64, write };

    let (shader, bindings) =
        setup.shader("attention_delta", region, &[4, 5, 6], &[("stats", "read_write", scratch(true))]);
    let shader = shader.body(include_str!("../../../../shaders/attention_delta.wgsl"));
    let mut delta = setup.call((shader, bindings), "attention_delta", l, 2 * heads * l * d, caps)?;
    delta.variant = "flat";
    let wg = setup.tile.workgroup() as u64;
    delta.grid = super::Grid::linear((heads as u64 * l as u64).div_ceil(wg), caps.max_workgroups)?;

    let columns = |n: usize| setup.tile.columns(n);
    let views = [0, 1, 2, 3, 6];
    let common = include_str!("../../../../shaders/attention_weight.wgsl");
    let outs = [("stats", "read", scratch(false)), ("dq", "read_write", Bind::Out(0))];
    let (shader, bindings) = setup.shader("attention_dq", region, &views, &outs);
    let dots = [["q", "k", "e"], ["g", "v", "d"]];
    let shader = setup.tile.finish(shader.header(common), Pass::Query, &dots, &[("COLS", columns(e))]);
    let dq = setup.call((shader, bindings), "attention_dq", l, 2 * heads * l * s * (2 * e + d), caps)?;

    // dk and dv together unless that binds more buffers than every adapter allows (a mask is one too many).
    let mut calls = vec![delta, dq];
    // One pass has no registers for the sums of wide heads (benches/RADV.md).
    let together = setup.mask == 0 && columns(e) + columns(d) <= 2;
    let passes: &[(bool, bool)] = if together { &[(true, true)] } else { &[(true, false), (false, true)] };
    for &(key, value) in passes {
        let mut outs = vec![("stats", "read", scratch(false))];
        outs.extend(key.then_some(("dk", "read_write", Bind::Out(1))));
        outs.extend(value.then_some(("dv", "read_write", Bind::Out(2))));
        let (shader, bindings) = setup.shader("attention_dkv", region, &views, &outs);
        let cols = |wanted: bool, n: usize| if wanted { columns(n) } else { 0 };
        let counts = [
            ("COLS_E", cols(key, e)),
            ("COLS_D", cols(value, d)),
            ("KEYS", u32::from(key)),
            ("VALUES", u32::from(value)),
        ];
        let dots = [["k", "q", "e"], ["v", "g", "d"]];
        let shader = setup.tile.finish(shader.header(common), Pass::Key, &dots, &counts);
        let each = |wanted: bool, n: usize| if wanted { n } else { 0 };
        let flops = 2 * heads * l * s * (e + each(key, e + d) + each(value, d));
        calls.push(setup.call((shader, bindings), "attention_dkv", s, flops, caps)?);
    }
    Ok(calls)
}

/// Odd sizes, several tiles, masks of both kinds with a row that sees nothing, causal, permuted operands, cross attention.
fn samples(grad: bool) -> Vec<Region> {
    let of = |[b, h, l, s, e, d]: [usize; 6], causal: bool, mask: Option<(DType, [usize; 4])>| {
        let ty = |s: &[usize]| Type::new(DType::F32, s);
        let mut types = vec![ty(&[b, h, l, e]), ty(&[b, h, s, e]), ty(&[b, h, s, d])];
        let has_mask = mask.is_some();
        types.extend(mask.map(|(dtype, shape)| Type::new(dtype, shape)));
        let scale = 0.5;
        if grad {
            types.extend([ty(&[b, h, l, d]), ty(&[b, h, l]), ty(&[b, h, l, d])]);
            return region(RegionKind::Fused, &types, move |g, a| {
                g.call(AttentionGrad { causal, scale, has_mask }, &a.iter().collect::<Vec<_>>())
            });
        }
        region(RegionKind::Fused, &types, move |g, a| {
            g.call(Attention { causal, scale, has_mask }, &a.iter().collect::<Vec<_>>())
        })
    };
    let mut all = vec![
        of([1, 1, 1, 1, 1, 1], false, None),
        of([2, 2, 5, 7, 6, 3], false, None),
        of([1, 2, 40, 70, 16, 44], false, None),
        of([1, 2, 67, 67, 8, 36], true, None),
        of([1, 2, 48, 72, 16, 24], true, None),
        of([2, 2, 9, 37, 4, 8], false, Some((DType::Bool, [2, 1, 9, 37]))),
        of([2, 3, 33, 10, 5, 4], true, Some((DType::F32, [1, 3, 1, 10]))),
        of([1, 1, 3, 34, 128, 128], false, None),
        // Of tiles of 64: several, a second one that is partly filled, a mask beyond the first.
        of([1, 1, 70, 130, 72, 100], false, Some((DType::Bool, [1, 1, 70, 130]))),
        of([1, 1, 130, 70, 100, 72], true, None),
    ];
    let wide = of([2, 3, 34, 35, 8, 8], true, None);
    let wide = stored(stored(wide, 0, &[0, 2, 1, 3], 0, 0), 1, &[0, 2, 1, 3], 4, 0);
    all.push(repeated(stored(wide, 2, &[3, 0, 1, 2], 1, 1), 1, &[1]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness::{self, contents, noise};
    use crate::backend::reference::{Array, Precision, eval};
    use crate::ir::{Builder, OutputKind};
    use std::cell::RefCell;
    use std::collections::HashMap;

    fn given(region: &Region, arg: usize, i: usize) -> f64 {
        let view = &region.args[arg].view;
        match region.args[arg].dtype {
            // Row 3 of the mask sees nothing, row 5 no early key.
            DType::Bool => {
                let (row, key) = (i / view.shape[3] % view.shape[2], i % view.shape[3]);
                f64::from(u8::from(row != 3 && !(row == 5 && key < 66) && !(i * 5 + i / 7).is_multiple_of(3)))
            }
            _ => noise(20 + arg as u32, i),
        }
    }

    thread_local! {
        static KNOWN: RefCell<HashMap<String, [Vec<f64>; 2]>> = RefCell::default();
    }

    /// The operands; result and lse of a gradient are those of its forward pass.
    fn fill(region: &Region, arg: usize, i: usize) -> f64 {
        let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<AttentionGrad>());
        let Some(a) = call else { return given(region, arg, i) };
        let first = 3 + usize::from(a.has_mask);
        if !(first..first + 2).contains(&arg) {
            return given(region, arg, i);
        }
        let key = format!("{} {:?}", region.body, region.args);
        KNOWN
            .with(|known| known.borrow_mut().entry(key).or_insert_with(|| forward_of(region, a, first))[arg - first][i])
    }

    fn forward_of(region: &Region, a: &AttentionGrad, first: usize) -> [Vec<f64>; 2] {
        let (_, args) = contents(region, &|arg, i| given(region, arg, i));
        let wide = |x: Array| if x.ty().dtype.is_float() { Array::floats(x.shape.clone(), x.to_f64()) } else { x };
        let args: Vec<Array> = args.into_iter().map(wide).collect();
        let b = Builder::new();
        let feed = |(k, x): (usize, &Array)| b.feed(format!("{k}"), x.ty().dtype, x.shape.clone());
        let fed: Vec<_> = args[..first].iter().enumerate().map(feed).collect();
        let attention = Attention { causal: a.causal, scale: a.scale, has_mask: a.has_mask };
        for (k, t) in b.call(attention, &fed.iter().collect::<Vec<_>>()).iter().enumerate() {
            b.output(format!("{k}"), OutputKind::Fetch, t);
        }
        let outs = eval(&b.build().unwrap(), &args[..first], Precision::F64).unwrap();
        [0, 1].map(|k| outs[k].to_f64().into_iter().map(|x| f64::from(x as f32)).collect())
    }

    #[test]
    fn attention_agrees_with_the_reference() {
        let u = 2f64.powi(-23);
        // A score of up to e/2 carries gamma(e) * e/2, which exp turns into a relative error; weights sum to 1 and |v| <= 1.
        let forward = |a: &[Array], _: usize, _: usize, _: f64| {
            let (e, s) = (a[0].shape[3] as f64, a[1].shape[2] as f64);
            (24.0 + 2.0 * e.sqrt() * e.sqrt() + s.sqrt()) * 4.0 * u
        };
        // Weights up to exp(e/6 - 2) in the worst of these data, in practice below 2; ds below d; sums of s (or l) products.
        // The kernels take sum(g * out) where the definition takes the equal sum(p * g v^T): an out in f16 has 11 bits.
        let grad = |a: &[Array], _: usize, _: usize, _: f64| {
            let (e, d, n) = (a[0].shape[3] as f64, a[2].shape[3] as f64, a[1].shape[2].max(a[0].shape[2]) as f64);
            let out = &a[a.len() - 3];
            let rounded = if out.ty().dtype == DType::F16 { 2f64.powi(-11) * d * n.sqrt() } else { 0.0 };
            (24.0 + 2.0 * e + n.sqrt()) * d * n.sqrt() * 4.0 * u * if e > 64.0 { 8.0 } else { 1.0 } + rounded
        };
        harness::check(&KERNELS[0], "attention", &["tile_32", "tile_64", "stored"], &fill, &forward);
        harness::check(&KERNELS[1], "attention_grad", &["tile_32", "tile_64", "stored"], &fill, &grad);
    }
}
