//! Layer norm over rows and its gradients. dweight and dbias are column sums: chunks of rows first, then the chunks in order.

use super::row_team::Team;
use super::rows::{Parts, QUAD_VARIANTS, Quads, always, in_memory, line, view4};
use super::sample::{region, stored};
use super::{Bind, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, fused_call, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::Type;
use crate::ops::layer_norm::{LayerNorm, LayerNormGrad};
use crate::plan::{Region, RegionKind};

params! {
    /// The WGSL struct `Params` of layer_norm.wgsl.
    struct ForwardParams {
        rows: u32,
        n: u32,
        inverse: f32,
        eps: f32,
        x: [i32; 4],
        affine: [i32; 4],
    }
}

params! {
    /// The WGSL struct `Params` of layer_norm_grad.wgsl.
    struct GradParams {
        rows: u32,
        n: u32,
        inverse: f32,
        spare: u32,
        x: [i32; 4],
        g: [i32; 4],
        affine: [i32; 4],
    }
}

params! {
    /// The WGSL struct `Params` of layer_norm_params.wgsl and layer_norm_combine.wgsl.
    struct ColumnParams {
        rows: u32,
        n: u32,
        chunk: u32,
        chunks: u32,
        x: [i32; 4],
        g: [i32; 4],
        stats: [i32; 4],
    }
}

/// The registry rows.
pub const KERNELS: [KernelInfo; 2] = [
    KernelInfo {
        serves: Serves::Composite("layer_norm"),
        stems: &["layer_norm"],
        variants: QUAD_VARIANTS,
        select: forward,
        takes: always,
        strided: |_, _| true,
        samples: || samples(false),
        mutations: &[
            Mutation { stem: "layer_norm", find: "s < NEAR; s *= 2u", replace: "2u * s < NEAR; s *= 2u" },
            Mutation { stem: "layer_norm", find: "d0 * d0", replace: "d0 * (d0 + mean)" },
            Mutation { stem: "layer_norm", find: "within(q0, x0 - mean, 0.0)", replace: "(x0 - mean)" },
            Mutation { stem: "layer_norm", find: "square - sum * moved", replace: "square" },
            Mutation { stem: "layer_norm", find: "sum4(squared(v)) - sum * moved", replace: "sum4(squared(v))" },
        ],
    },
    KernelInfo {
        serves: Serves::Composite("layer_norm_grad"),
        stems: &["layer_norm_grad", "layer_norm_params", "layer_norm_combine"],
        variants: &["tree", "subgroup", "serial", "quads", "chunks", "combine"],
        select: grad,
        takes: always,
        // Mean and rstd are read densely.
        strided: |_, arg| !matches!(arg, 2 | 3),
        samples: || samples(true),
        mutations: &[
            Mutation { stem: "layer_norm_grad", find: "s < NEAR; s *= 2u", replace: "2u * s < NEAR; s *= 2u" },
            Mutation { stem: "layer_norm_grad", find: "- xh0 * sums.y", replace: "" },
            Mutation { stem: "layer_norm_grad", find: "- (v.b - mean) * rstd * mean_product", replace: "" },
            Mutation { stem: "layer_norm_params", find: "params.chunks + chunk, q", replace: "chunk, q" },
            Mutation { stem: "layer_norm_params", find: "r < i32(to_row)", replace: "r + 1 < i32(to_row)" },
            Mutation { stem: "layer_norm_combine", find: "(params.chunks + c)", replace: "(params.chunks + 0u)" },
        ],
    },
];

fn samples(grad: bool) -> Vec<Region> {
    let of = |rows: usize, n: usize| {
        let ty = |s: &[usize]| Type::new(DType::F32, s);
        let (x, v, r) = (ty(&[rows, n]), ty(&[n]), ty(&[rows]));
        if grad {
            return region(RegionKind::Fused, &[x.clone(), v, r.clone(), r, x], |b, a| {
                b.call(LayerNormGrad { eps: 1e-5 }, &a.iter().collect::<Vec<_>>())
            });
        }
        region(RegionKind::Fused, &[x, v.clone(), v], |b, a| {
            b.call(LayerNorm { eps: 1e-5 }, &a.iter().collect::<Vec<_>>())
        })
    };
    vec![of(1, 1), of(3, 65), of(130, 10), of(2, 300), of(19, 144), of(9, 64), stored(of(9, 17), 0, &[1, 0], 2, 1)]
}

fn forward(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<LayerNorm>());
    let eps = call.ok_or("not a layer norm")?.eps;
    let (rows, n) = (region.args[0].view.shape[0], region.args[0].view.shape[1]);
    let ([w, ws], [b, bs]) = (line(region, 1), line(region, 2));
    let params = ForwardParams {
        rows: rows as u32,
        n: n as u32,
        inverse: (1.0 / n as f64) as f32,
        eps: eps as f32,
        x: view4(region, 0),
        affine: [w, ws, b, bs],
    };
    let (variant, shader, groups) = match Quads::of("layer_norm", region, rows, n, caps) {
        Some(quads) => {
            let shader = quads
                .shader("layer_norm")
                .header(quads.reader("x", &region.args[0].view))
                .header(quads.reader("weight", &region.args[1].view))
                .header(quads.reader("bias", &region.args[2].view))
                .header(quads.writer("y"))
                .body(include_str!("../../../../shaders/layer_norm_quads.wgsl"));
            (quads.variant(), shader, quads.groups(rows))
        }
        None => {
            let team = Team::of("layer_norm", rows, n, caps);
            let shader = team
                .shader("layer_norm", include_str!("../../../../shaders/layer_norm.wgsl"))
                .header(team.reader("x", &region.args[0].view))
                .header(team.reader("weight", &region.args[1].view))
                .header(team.reader("bias", &region.args[2].view))
                .header(team.writer("y"));
            (team.variant(), shader, team.groups(rows))
        }
    };
    let parts = Parts {
        label: "layer_norm",
        variant,
        shader,
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Arg(2), Bind::Out(0), Bind::Out(1), Bind::Out(2)],
        params: Params::of(&params),
        groups,
        flops: 7 * rows * n,
        words: 2 * rows * n,
    };
    Ok(vec![parts.call(caps)?])
}

fn grad(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<LayerNormGrad>());
    call.ok_or("not a layer norm gradient")?;
    let (rows, n) = (region.args[0].view.shape[0], region.args[0].view.shape[1]);
    let quads = Quads::of("layer_norm_grad", region, rows, n, caps);
    let ([w, ws], [mean, _], [rstd, _]) = (line(region, 1), line(region, 2), line(region, 3));
    let params = GradParams {
        rows: rows as u32,
        n: n as u32,
        inverse: (1.0 / n as f64) as f32,
        spare: 0,
        x: view4(region, 0),
        g: view4(region, 4),
        affine: [w, ws, mean, rstd],
    };
    let (variant, shader, groups) = match &quads {
        Some(quads) => {
            let shader = quads
                .shader("layer_norm_grad")
                .header(quads.reader("x", &region.args[0].view))
                .header(quads.reader("weight", &region.args[1].view))
                .header(quads.reader("g", &region.args[4].view))
                .header(quads.writer("dx"))
                .body(include_str!("../../../../shaders/layer_norm_grad_quads.wgsl"));
            (quads.variant(), shader, quads.groups(rows))
        }
        None => {
            let team = Team::of("layer_norm_grad", rows, n, caps);
            let shader = team
                .shader("layer_norm_grad", include_str!("../../../../shaders/layer_norm_grad.wgsl"))
                .header(team.reader("x", &region.args[0].view))
                .header(team.reader("weight", &region.args[1].view))
                .header(team.reader("g", &region.args[4].view))
                .header(team.writer("dx"));
            (team.variant(), shader, team.groups(rows))
        }
    };
    let dx = Parts {
        label: "layer_norm_grad",
        variant,
        shader,
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Arg(2), Bind::Arg(3), Bind::Arg(4), Bind::Out(0)],
        params: Params::of(&params),
        groups,
        flops: 9 * rows * n,
        words: 3 * rows * n,
    };
    // Chunks of rows so many that a few thousand invocations run (a few dozen on a software adapter), of 16 rows at least.
    let busy = if caps.software() { 64 } else { 8192 };
    let strip = if n.is_multiple_of(16) && caps.software() { 4 } else { 2 };
    // GPUs take strips of columns with any variant of the rows.
    let strips = quads.or_else(|| Quads::strips(n, caps));
    let columns = if strips.is_some() { n.div_ceil(4 * strip) } else { n };
    let chunks = (busy / columns.max(1)).clamp(1, rows.div_ceil(16).max(1));
    let chunk = rows.div_ceil(chunks);
    let chunks = rows.div_ceil(chunk.max(1)).max(1);
    let params = ColumnParams {
        rows: rows as u32,
        n: n as u32,
        chunk: chunk as u32,
        chunks: chunks as u32,
        x: view4(region, 0),
        g: view4(region, 4),
        stats: [mean, rstd, 0, 0],
    };
    let wg = if caps.software() { 8 } else { 64 };
    let flat = |stem| Shader::new(stem).consts(&[("WG", wg)]).common(&["index"]);
    let scratch = |write| Bind::Scratch { id: 0, bytes: 8 * n as u64 * chunks as u64, write };
    let (variant, shader, groups) = match &strips {
        Some(quads) => {
            let shader = quads
                .shader("layer_norm_params")
                .consts(&[("STRIP", strip as u32)])
                .header(quads.reader("x", &region.args[0].view))
                .header(quads.reader("g", &region.args[4].view))
                .header(quads.writer("partial"))
                .body(include_str!("../../../../shaders/layer_norm_params_quads.wgsl"));
            (quads.variant(), shader, quads.groups(columns * chunks))
        }
        None => {
            let shader = flat("layer_norm_params").body(include_str!("../../../../shaders/layer_norm_params.wgsl"));
            ("chunks", shader, (n as u64 * chunks as u64).div_ceil(u64::from(wg)))
        }
    };
    let first = Parts {
        label: "layer_norm_params",
        variant,
        shader,
        bindings: vec![Bind::Arg(0), Bind::Arg(2), Bind::Arg(3), Bind::Arg(4), scratch(true)],
        params: Params::of(&params),
        groups,
        flops: 5 * rows * n,
        words: 2 * rows * n,
    };
    let second = Parts {
        label: "layer_norm_combine",
        variant: "combine",
        shader: flat("layer_norm_combine").body(include_str!("../../../../shaders/layer_norm_combine.wgsl")),
        bindings: vec![scratch(false), Bind::Out(1), Bind::Out(2)],
        params: Params::of(&params),
        groups: (n as u64).div_ceil(u64::from(wg)),
        flops: 2 * n * chunks,
        words: 2 * n * chunks,
    };
    Ok(vec![dx.call(caps)?, first.call(caps)?, second.call(caps)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness::{self, noise};
    use crate::backend::reference::Array;

    /// x has mean 3 and deviation 0.6, and so has what the gradient is given as mean and rstd.
    fn fill(region: &Region, arg: usize, i: usize) -> f64 {
        let v = match (region.args.len(), arg) {
            // One NaN makes all of its row NaN, and nothing else.
            (3, 0) if region.args[0].view.shape[..] == [19, 144] && i == 3 * 144 + 5 => f64::NAN,
            (_, 0) => 3.0 + noise(1, i),
            (5, 2) => 3.0 + 0.1 * noise(2, i),
            (5, 3) => 1.7 + 0.1 * noise(3, i),
            _ => noise(10 + arg as u32, i),
        };
        f64::from(v as f32)
    }

    #[test]
    fn layer_norm_agrees_with_the_reference() {
        let u = 2f64.powi(-23);
        // The mean has an error of gamma(n) * 4, which rstd (at most 1 / sqrt(eps) for a single element) multiplies in y.
        let forward = |a: &[Array], out: usize, _: usize, w: f64| {
            let n = a[0].shape[1] as f64;
            let rstd = if n < 2.0 { 317.0 } else { 3.0 };
            match out {
                0 => (8.0 + n.sqrt()) * 16.0 * u * rstd,
                1 => (2.0 + n.sqrt()) * 4.0 * u,
                _ => (16.0 + n) * u * w.abs(),
            }
        };
        // Sums of n (dx) or rows (the others) products of about 2; products of rstd = 1.8 and them.
        let grad = |a: &[Array], out: usize, _: usize, _: f64| {
            let terms = a[0].shape[usize::from(out == 0)] as f64;
            (16.0 + terms) * 8.0 * u
        };
        harness::check(&KERNELS[0], "layer_norm", QUAD_VARIANTS, &fill, &forward);
        harness::check(&KERNELS[1], "layer_norm_grad", QUAD_VARIANTS, &fill, &grad);
    }

    /// A mean of 10^4 beside a deviation of 1: the one-pass formula E[x^2] - mean^2 has no correct digit there.
    #[test]
    fn layer_norm_keeps_digits_beside_a_large_mean() {
        let kernel = KernelInfo { mutations: &[], ..KERNELS[0] };
        let fill =
            |_: &Region, arg: usize, i: usize| if arg == 0 { f64::from((1e4 + noise(1, i)) as f32) } else { 1.0 };
        let bound = |a: &[Array], out: usize, _: usize, w: f64| {
            let n = a[0].shape[1] as f64;
            let mean = (2.0 + n.sqrt()) * 2f64.powi(-23) * 1e4;
            match out {
                0 if n < 2.0 => 317.0 * mean,
                0 => 4.0 * mean + 1e-4,
                1 => mean,
                _ => 0.05 * w,
            }
        };
        harness::check(&kernel, "layer_norm", QUAD_VARIANTS, &fill, &bound);
    }
}
