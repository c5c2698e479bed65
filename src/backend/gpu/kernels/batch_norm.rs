//! Batch norm in training and its gradients: a workgroup per channel. Variants `quads` and, for software adapters, `wide`: four or
//! eight places at a time, the gradients in one kernel instead of two; `subgroup`: as `quads`, with folds by subgroup operations, which software
//! adapters take in all of them.

use super::operands::Unit;
use super::rows::{Parts, always, in_memory, line, view4, words};
use super::sample::{region, stored};
use super::subgroup::{self, TREES};
use super::{Bind, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, fused_call, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::Type;
use crate::ops::batch_norm::{BatchNorm, BatchNormGrad};
use crate::plan::{Region, RegionKind};

params! {
    /// The WGSL struct `Params` of batch_norm.wgsl.
    struct ForwardParams {
        channels: u32,
        s: u32,
        images: u32,
        inverse: f32,
        x: [i32; 4],
        affine: [i32; 4],
        eps: f32,
        spare0: u32,
        spare1: u32,
        spare2: u32,
    }
}

params! {
    /// The WGSL struct `Params` of batch_norm_grad.wgsl and batch_norm_dx.wgsl.
    struct GradParams {
        channels: u32,
        s: u32,
        images: u32,
        inverse: f32,
        x: [i32; 4],
        g: [i32; 4],
        stats: [i32; 4],
        eps: f32,
        spare0: u32,
        spare1: u32,
        spare2: u32,
    }
}

/// The registry rows.
pub const KERNELS: [KernelInfo; 2] = [
    KernelInfo {
        serves: Serves::Composite("batch_norm"),
        stems: &["batch_norm"],
        variants: &["tree", "quads", "subgroup", "wide"],
        select: forward,
        takes: always,
        strided: |_, _| true,
        samples: || samples(false),
        mutations: &[
            Mutation { stem: "batch_norm", find: "to.x + 1u, to.y - params.s", replace: "to.x, to.y - params.s" },
            Mutation { stem: "batch_norm", find: "(d, d * d)", replace: "(d, d * (d + mean))" },
            Mutation { stem: "batch_norm", find: "to.x + 1u, to.y - units", replace: "to.x, to.y - units" },
            Mutation { stem: "batch_norm", find: "half_(x.y), half_(x.z)", replace: "half_(x.x), half_(x.z)" },
            Mutation { stem: "batch_norm", find: "square += d.b * d.b", replace: "square += d.b" },
            Mutation {
                stem: "batch_norm",
                find: "tree_sum2_parts[lane / NEAR] = v;",
                replace: "tree_sum2_parts[0] = v;",
            },
            Mutation {
                stem: "batch_norm",
                find: "select(raw, 0.0, raw < 0.0)",
                replace: "select(0.0, raw, raw > 0.0)",
            },
        ],
    },
    KernelInfo {
        serves: Serves::Composite("batch_norm_grad"),
        stems: &["batch_norm_grad", "batch_norm_dx"],
        variants: &["tree", "flat", "quads", "subgroup", "wide"],
        select: grad,
        takes: always,
        // Mean and variance are read densely.
        strided: |_, arg| !matches!(arg, 2 | 3),
        samples: || samples(true),
        mutations: &[
            Mutation { stem: "batch_norm_grad", find: "gv * (d * rstd), gv)", replace: "gv * d, gv)" },
            Mutation { stem: "batch_norm_dx", find: "(gv - c.z", replace: "(gv" },
            Mutation { stem: "batch_norm_grad", find: "(gv.a - mean_g", replace: "(gv.a" },
        ],
    },
];

fn samples(grad: bool) -> Vec<Region> {
    let of = |images: usize, channels: usize, s: usize| {
        let ty = |s: &[usize]| Type::new(DType::F32, s);
        let (x, v) = (ty(&[images, channels, s]), ty(&[channels]));
        if grad {
            return region(RegionKind::Fused, &[x.clone(), v.clone(), v.clone(), v, x], |b, a| {
                b.call(BatchNormGrad { eps: 1e-5 }, &a.iter().collect::<Vec<_>>())
            });
        }
        region(RegionKind::Fused, &[x, v.clone(), v], |b, a| {
            b.call(BatchNorm { eps: 1e-5 }, &a.iter().collect::<Vec<_>>())
        })
    };
    let mut all: Vec<Region> = [(2, 1, 1), (5, 3, 7), (9, 3, 12), (3, 4, 64), (33, 2, 1), (2, 5, 100), (2, 2, 4100)]
        .map(|(n, c, s)| of(n, c, s))
        .into();
    all.push(stored(of(4, 3, 9), 0, &[1, 0, 2], 1, 2));
    all
}

/// The widest unit that is wanted (or best) and finds the places of these arguments together and whole, or `None`.
fn unit_of(stem: &str, region: &Region, args: &[usize], caps: &GpuCaps) -> Option<Unit> {
    let whole = |k: usize| {
        args.iter().all(|&arg| {
            let v = &region.args[arg].view;
            v.strides[2] == 1
                && v.shape[2].is_multiple_of(k)
                && v.shape[2] > 0
                && v.offset.is_multiple_of(k)
                && v.strides[..2].iter().all(|s| s % k as isize == 0)
        })
    };
    let wanted = caps.wanted(stem).is_none_or(|v| ["quads", "subgroup", "wide"].contains(&v));
    match wanted && whole(4) {
        true if caps.wide(stem) && whole(8) && words(region) => Some(Unit::Wide),
        true => Some(Unit::Vec4),
        false => None,
    }
}

/// Lanes of a channel of so many elements. On GPUs many where channels are few, since no other workgroup helps them, and 16 elements each:
/// with 1024 of them 12 KiB of workgroup memory.
fn lanes(channels: usize, elems: usize, caps: &GpuCaps) -> u32 {
    if caps.software() {
        return caps.tree_workgroup();
    }
    let most = if channels < 256 { 1024 } else { 256 };
    let most = most.min(caps.max_invocations).min(caps.max_workgroup_size[0]).max(1);
    (elems.div_ceil(16).next_power_of_two().max(64) as u32).min(1 << most.ilog2())
}

/// The variant's name; constants, `Elem`, which is what memory holds, its conversions, and the folds.
fn units(unit: Unit, stem: &'static str, lanes: u32, caps: &GpuCaps) -> (&'static str, Shader) {
    let wide = unit == Unit::Wide;
    let near = subgroup::near(lanes, lanes, caps).filter(|_| subgroup::wanted(stem, caps));
    let (elem, pair, back) = match wide {
        false => ("vec4<f32>", "e, vec4<f32>()", "p.a"),
        true => (
            "vec4<u64>",
            "bitcast<vec4<f32>>(evens(e)), bitcast<vec4<f32>>(odds(e))",
            "woven(bitcast<vec4<u32>>(p.a), bitcast<vec4<u32>>(p.b))",
        ),
    };
    let shader = Shader::new(stem)
        .consts(&[("WG", lanes), ("LANES", lanes), ("UNIT", unit.words() as u32)])
        .header(format!("const WIDE: bool = {};\nalias Elem = {elem};", wide))
        .header(format!("fn pair(e: Elem) -> Pair {{\n    return Pair({pair});\n}}"))
        .header(format!("fn elem(p: Pair) -> Elem {{\n    return {back};\n}}"))
        .header(include_str!("../../../../shaders/channel_quads.wgsl"))
        .common(if wide { &["index", "bits", "pair", "wide"] } else { &["index", "bits", "pair"] });
    let shader = match near {
        Some(near) => shader.subgroup_folds(near, &TREES),
        None => shader.common(&["reduce"]),
    };
    let asked = near.is_some() && caps.wanted(stem) == Some("subgroup");
    let name = match (wide, asked) {
        (true, _) => "wide",
        (false, true) => "subgroup",
        (false, false) => "quads",
    };
    (name, shader)
}

fn forward(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<BatchNorm>());
    let eps = call.ok_or("not a batch norm")?.eps;
    let shape = &region.args[0].view.shape;
    let (images, channels, s) = (shape[0], shape[1], shape[2]);
    let ([w, ws], [b, bs]) = (line(region, 1), line(region, 2));
    let params = ForwardParams {
        channels: channels as u32,
        s: s as u32,
        images: images as u32,
        inverse: (1.0 / (images * s) as f64) as f32,
        x: view4(region, 0),
        affine: [w, ws, b, bs],
        eps: eps as f32,
        spare0: 0,
        spare1: 0,
        spare2: 0,
    };
    let (variant, shader) = match unit_of("batch_norm", region, &[0], caps) {
        Some(unit) => {
            let text = include_str!("../../../../shaders/batch_norm_quads.wgsl");
            let (variant, shader) = units(unit, "batch_norm", lanes(channels, images * s, caps), caps);
            (variant, shader.body(text))
        }
        None => {
            let shader = Shader::new("batch_norm")
                .consts(&[("WG", caps.tree_workgroup()), ("LANES", caps.tree_workgroup())])
                .common(&["index", "reduce"]);
            ("tree", shader.body(include_str!("../../../../shaders/batch_norm.wgsl")))
        }
    };
    let parts = Parts {
        label: "batch_norm",
        variant,
        shader,
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Arg(2), Bind::Out(0), Bind::Out(1), Bind::Out(2)],
        params: Params::of(&params),
        groups: channels as u64,
        flops: 6 * shape.elems(),
        words: 2 * shape.elems(),
    };
    Ok(vec![parts.call(caps)?])
}

fn grad(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<BatchNormGrad>());
    let eps = call.ok_or("not a batch norm gradient")?.eps;
    let shape = &region.args[0].view.shape;
    let (images, channels, s) = (shape[0], shape[1], shape[2]);
    let ([w, ws], [mean, _], [var, _]) = (line(region, 1), line(region, 2), line(region, 3));
    let params = GradParams {
        channels: channels as u32,
        s: s as u32,
        images: images as u32,
        inverse: (1.0 / (images * s) as f64) as f32,
        x: view4(region, 0),
        g: view4(region, 4),
        stats: [mean, var, w, ws],
        eps: eps as f32,
        spare0: 0,
        spare1: 0,
        spare2: 0,
    };
    let unit = unit_of("batch_norm_grad", region, &[0, 4], caps).filter(|_| caps.max_storage_buffers >= 8);
    if let Some(unit) = unit {
        let text = include_str!("../../../../shaders/batch_norm_grad_quads.wgsl");
        let (variant, shader) = units(unit, "batch_norm_grad", lanes(channels, images * s, caps), caps);
        let all = Parts {
            label: "batch_norm_grad",
            variant,
            shader: shader.body(text),
            bindings: (0..5).map(Bind::Arg).chain((0..3).map(Bind::Out)).collect(),
            params: Params::of(&params),
            groups: channels as u64,
            flops: 10 * shape.elems(),
            words: 5 * shape.elems(),
        };
        return Ok(vec![all.call(caps)?]);
    }
    let scratch = |write| Bind::Scratch { id: 0, bytes: 16 * channels as u64, write };
    let sums = Parts {
        label: "batch_norm_grad",
        variant: "tree",
        shader: Shader::new("batch_norm_grad")
            .consts(&[("WG", caps.tree_workgroup()), ("LANES", caps.tree_workgroup())])
            .common(&["index", "reduce"])
            .body(include_str!("../../../../shaders/batch_norm_grad.wgsl")),
        bindings: vec![
            Bind::Arg(0),
            Bind::Arg(2),
            Bind::Arg(3),
            Bind::Arg(4),
            Bind::Out(1),
            Bind::Out(2),
            scratch(true),
        ],
        params: Params::of(&params),
        groups: channels as u64,
        flops: 4 * shape.elems(),
        words: 2 * shape.elems(),
    };
    let wg = caps.flat_workgroup();
    let dx = Parts {
        label: "batch_norm_dx",
        variant: "flat",
        shader: Shader::new("batch_norm_dx")
            .consts(&[("WG", wg)])
            .common(&["index"])
            .body(include_str!("../../../../shaders/batch_norm_dx.wgsl")),
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Arg(4), scratch(false), Bind::Out(0)],
        params: Params::of(&params),
        groups: (shape.elems() as u64).div_ceil(u64::from(wg)),
        flops: 6 * shape.elems(),
        words: 3 * shape.elems(),
    };
    Ok(vec![sums.call(caps)?, dx.call(caps)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness::{self, noise};
    use crate::backend::reference::Array;

    fn fill(region: &Region, arg: usize, i: usize) -> f64 {
        let shape = &region.args[0].view.shape;
        let v = match (region.args.len(), arg) {
            // One NaN makes all of its channel NaN, and nothing else.
            (3, 0) if shape[1] > 2 && shape[2].is_multiple_of(4) && i == shape[2] => f64::NAN,
            (_, 0) => 3.0 + noise(1, i),
            (5, 2) => 3.0 + 0.1 * noise(2, i),
            (5, 3) => 0.4 + 0.1 * noise(3, i),
            _ => noise(10 + arg as u32, i),
        };
        f64::from(v as f32)
    }

    #[test]
    fn batch_norm_agrees_with_the_reference() {
        let u = 2f64.powi(-23);
        // As for layer norm: the mean's error times rstd; two elements can be close to each other, so rstd is up to 100.
        let forward = |a: &[Array], out: usize, _: usize, w: f64| {
            let m = (a[0].shape[0] * a[0].shape[2]) as f64;
            let rstd = if m < 3.0 { 100.0 } else { 4.0 };
            match out {
                0 => (8.0 + m.sqrt()) * 16.0 * u * rstd,
                1 => (2.0 + m.sqrt()) * 4.0 * u,
                _ => (16.0 + m) * u * w.abs() + 64.0 * u * w.abs().sqrt(),
            }
        };
        let grad = |a: &[Array], _: usize, _: usize, _: f64| {
            let m = (a[0].shape[0] * a[0].shape[2]) as f64;
            (16.0 + m) * 8.0 * u
        };
        harness::check(&KERNELS[0], "batch_norm", &["tree", "quads", "subgroup", "wide"], &fill, &forward);
        harness::check(&KERNELS[1], "batch_norm_grad", &["tree", "quads", "subgroup", "wide"], &fill, &grad);
    }
}
