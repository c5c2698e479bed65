//! Max and sum pooling and their gradients, over one to three spatial dimensions. All gather: one invocation per result, or in the gradient of
//! small windows that do not overlap, per window.

use super::rows::{Parts, in_memory};
use super::sample::{region, stored};
use super::{Bind, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, fused_call, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::{Call, Type};
use crate::ops::pool::{MaxPool, MaxPoolGrad, SumPool, SumPoolGrad};
use crate::plan::{Region, RegionKind};

/// The WGSL struct `Pool`.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Windows {
    size: [i32; 4],
    windows: [i32; 4],
    kernel: [i32; 4],
    stride: [i32; 4],
    dilation: [i32; 4],
    lo: [i32; 4],
    elems: u32,
    channels: i32,
    minus_inf: f32,
    spare: u32,
}

/// The WGSL struct `Planes`: offset and strides over (image, channel, z, y, x).
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Planes([i32; 8]);

params! {
    /// The WGSL struct `Params` of max_pool.wgsl.
    struct ForwardParams {
        pool: Windows,
        x: Planes,
    }
}

params! {
    /// The WGSL struct `Params` of sum_pool_grad.wgsl.
    struct SumGradParams {
        pool: Windows,
        g: Planes,
    }
}

params! {
    /// The WGSL struct `Params` of max_pool_grad.wgsl.
    struct MaxGradParams {
        pool: Windows,
        x: Planes,
        y: Planes,
        g: Planes,
    }
}

const MAX: KernelInfo = KernelInfo {
    serves: Serves::Composite("max_pool"),
    stems: &["max_pool"],
    variants: &["flat", "sized"],
    select: forward,
    takes,
    strided: |_, _| true,
    samples: || samples(0),
    mutations: &[Mutation { stem: "max_pool", find: "max_nan(result, v)", replace: "max(result, 0.9 * v)" }],
};
/// The registry rows.
pub const KERNELS: [KernelInfo; 4] = [
    MAX,
    KernelInfo {
        serves: Serves::Composite("max_pool_grad"),
        stems: &["max_pool_grad"],
        select: max_grad,
        samples: || samples(1),
        mutations: &[
            Mutation { stem: "max_pool_grad", find: "t < mine", replace: "t + 1 < mine" },
            Mutation { stem: "max_pool_grad", find: "left = 0.0;\n                        }", replace: "}" },
        ],
        ..MAX
    },
    KernelInfo {
        serves: Serves::Composite("sum_pool"),
        samples: || samples(2),
        mutations: &[Mutation { stem: "max_pool", find: "tx < p.kernel.z", replace: "tx < p.kernel.y" }],
        ..MAX
    },
    KernelInfo {
        serves: Serves::Composite("sum_pool_grad"),
        stems: &["sum_pool_grad"],
        select: sum_grad,
        samples: || samples(3),
        mutations: &[Mutation { stem: "sum_pool_grad", find: "tx < p.kernel.z", replace: "tx < p.kernel.y" }],
        ..MAX
    },
];

fn takes(_: &Call, args: &[Type], _: &GpuCaps) -> Result<(), String> {
    match args.first().map_or(0, |a| a.shape.len()) {
        3..=5 => Ok(()),
        rank => Err(format!("pooling kernels take one to three spatial dimensions, not {}", rank.saturating_sub(2))),
    }
}

/// Kernel, stride, padding before, dilation.
type Attributes<'a> = (&'a [usize], &'a [usize], &'a [(usize, usize)], &'a [usize]);

fn attributes(region: &Region) -> Option<Attributes<'_>> {
    let any = fused_call(region)?.composite.as_any();
    if let Some(p) = any.downcast_ref::<MaxPool>() {
        return Some((&p.kernel, &p.stride, &p.pad, &p.dilation));
    }
    if let Some(p) = any.downcast_ref::<MaxPoolGrad>() {
        return Some((&p.kernel, &p.stride, &p.pad, &p.dilation));
    }
    if let Some(p) = any.downcast_ref::<SumPool>() {
        return Some((&p.kernel, &p.stride, &p.pad, &p.dilation));
    }
    any.downcast_ref::<SumPoolGrad>().map(|p| (&p.kernel[..], &p.stride[..], &p.pad[..], &p.dilation[..]))
}

/// Geometry for planes of `input` pooled to `windows` (both `[n, c, spatial..]`), with one result per element of `of`.
fn windows(region: &Region, input: &[usize], windows: &[usize], of: &[usize]) -> Result<Windows, String> {
    let (kernel, stride, pad, dilation) = attributes(region).ok_or("not a pooling call")?;
    let missing = 5 - input.len();
    let three = |v: &[usize], fill: i32| {
        let mut out = [fill, fill, fill, 0];
        for (o, &n) in out[missing..].iter_mut().zip(v) {
            *o = n as i32;
        }
        out
    };
    let lo: Vec<usize> = pad.iter().map(|p| p.0).collect();
    Ok(Windows {
        size: three(&input[2..], 1),
        windows: three(&windows[2..], 1),
        kernel: three(kernel, 1),
        stride: three(stride, 1),
        dilation: three(dilation, 1),
        lo: three(&lo, 0),
        elems: of.iter().product::<usize>() as u32,
        channels: input[1] as i32,
        minus_inf: f32::NEG_INFINITY,
        spare: 0,
    })
}

fn planes(region: &Region, arg: usize) -> Planes {
    let v = &region.args[arg].view;
    let missing = 5 - v.shape.len();
    let mut out = [0; 8];
    out[0] = v.offset as i32;
    for (d, &s) in v.strides.iter().enumerate() {
        out[1 + if d < 2 { d } else { d + missing }] = s as i32;
    }
    Planes(out)
}

impl Windows {
    /// The header's `pool()`: what the parameters say, so that one pipeline serves all sizes, or the sizes themselves.
    fn source(&self, sized: bool) -> String {
        let value = match sized {
            true => {
                let four = |v: [i32; 4]| format!("vec4<i32>({}, {}, {}, {})", v[0], v[1], v[2], v[3]);
                let vectors = [self.size, self.windows, self.kernel, self.stride, self.dilation, self.lo].map(four);
                let (elems, channels) = (self.elems, self.channels);
                format!("Pool({}, {elems}u, {channels}, params.pool.minus_inf, 0u)", vectors.join(", "))
            }
            false => "params.pool".into(),
        };
        format!("fn pool() -> Pool {{\n    return {value};\n}}")
    }
}

fn parts(
    (stem, text): (&'static str, &str),
    caps: &GpuCaps,
    pool: &Windows,
    elems: usize,
    params: Params,
    bindings: Vec<Bind>,
) -> Parts {
    let wg = caps.flat_workgroup();
    // Software adapters divide integers lane by lane, unless by constants.
    let sized = caps.wanted(stem).map_or(caps.software(), |v| v == "sized");
    Parts {
        label: stem,
        variant: if sized { "sized" } else { "flat" },
        shader: Shader::new(stem)
            .consts(&[("WG", wg)])
            .header(pool.source(sized))
            .header(include_str!("../../../../shaders/pool_frame.wgsl"))
            .common(&["index", "bits"])
            .body(text),
        bindings,
        params,
        groups: (elems as u64).div_ceil(u64::from(wg)),
        flops: elems,
        words: 2 * elems,
    }
}

fn forward(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let sum = fused_call(region).is_some_and(|c| c.composite.as_any().is::<SumPool>());
    let (x, y) = (&region.args[0].view.shape, &region.outs[0].ty.shape);
    let params = ForwardParams { pool: windows(region, x, y, y)?, x: planes(region, 0) };
    let text = include_str!("../../../../shaders/max_pool.wgsl");
    let mut p =
        parts(("max_pool", text), caps, &params.pool, y.elems(), Params::of(&params), vec![Bind::Arg(0), Bind::Out(0)]);
    p.shader = p.shader.header(format!("const SUM: bool = {sum};"));
    Ok(vec![p.call(caps)?])
}

fn sum_grad(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let (g, dx) = (&region.args[0].view.shape, &region.outs[0].ty.shape);
    let params = SumGradParams { pool: windows(region, dx, g, dx)?, g: planes(region, 0) };
    let text = include_str!("../../../../shaders/sum_pool_grad.wgsl");
    let p = parts(
        ("sum_pool_grad", text),
        caps,
        &params.pool,
        dx.elems(),
        Params::of(&params),
        vec![Bind::Arg(0), Bind::Out(0)],
    );
    Ok(vec![p.call(caps)?])
}

/// Most elements from one window to the next that one invocation computes.
const MOST_IN_BOX: i64 = 64;

fn max_grad(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let (y, dx) = (&region.args[1].view.shape, &region.outs[0].ty.shape);
    let mut pool = windows(region, dx, y, dx)?;
    let Windows { size, kernel, stride, dilation, lo, .. } = pool;
    let single = (0..3).all(|d| kernel[d] <= stride[d] && (dilation[d] == 1 || kernel[d] == 1));
    // A large box is too much for one invocation.
    let boxed = single && (0..3).map(|d| i64::from(stride[d])).product::<i64>() <= MOST_IN_BOX;
    if boxed {
        let boxes: i32 = (0..3).map(|d| (size[d] + lo[d] + stride[d] - 1) / stride[d]).product();
        pool.elems = (dx[0] * dx[1]) as u32 * boxes as u32;
    }
    let params = MaxGradParams { pool, x: planes(region, 0), y: planes(region, 1), g: planes(region, 2) };
    let bindings = vec![Bind::Arg(0), Bind::Arg(1), Bind::Arg(2), Bind::Out(0)];
    let text = include_str!("../../../../shaders/max_pool_grad.wgsl");
    let invocations = params.pool.elems as usize;
    let mut p = parts(("max_pool_grad", text), caps, &params.pool, invocations, Params::of(&params), bindings);
    (p.flops, p.words) = (dx.elems(), 2 * dx.elems() + 2 * y.elems());
    p.shader = p.shader.header(format!("const SINGLE: bool = {single};\nconst BOXES: bool = {boxed};"));
    Ok(vec![p.call(caps)?])
}

/// Windows that overlap, leave gaps, reach into padding on one side, and are dilated; one to three dimensions.
fn samples(which: usize) -> Vec<Region> {
    let of = |input: &[usize], kernel: usize, stride: usize, pad: (usize, usize), dilation: usize| {
        let n = input.len() - 2;
        let mut kernel = vec![kernel; n];
        kernel[0] += usize::from(n > 1);
        let (stride, pad, dilation) = (vec![stride; n], vec![pad; n], vec![dilation; n]);
        let mut out = input.to_vec();
        for d in 0..n {
            out[2 + d] = (input[2 + d] + pad[d].0 + pad[d].1 - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1;
        }
        let (x, y) = (Type::new(DType::F32, input), Type::new(DType::F32, out));
        let input = x.shape.clone();
        match which {
            0 => {
                let p = MaxPool { kernel, stride, pad, dilation };
                region(RegionKind::Fused, &[x], move |b, a| b.call(p.clone(), &[&a[0]]))
            }
            1 => {
                let p = MaxPoolGrad { kernel, stride, pad, dilation };
                region(RegionKind::Fused, &[x, y.clone(), y], move |b, a| b.call(p.clone(), &[&a[0], &a[1], &a[2]]))
            }
            2 => {
                let p = SumPool { kernel, stride, pad, dilation };
                region(RegionKind::Fused, &[x], move |b, a| b.call(p.clone(), &[&a[0]]))
            }
            _ => {
                let p = SumPoolGrad { kernel, stride, pad, dilation, input };
                region(RegionKind::Fused, &[y], move |b, a| b.call(p.clone(), &[&a[0]]))
            }
        }
    };
    let mut all = vec![
        of(&[2, 3, 8, 8], 2, 2, (0, 0), 1),
        of(&[1, 2, 7, 9], 3, 1, (1, 1), 1),
        of(&[2, 2, 9, 8], 2, 3, (1, 0), 2),
        of(&[2, 3, 11], 3, 2, (1, 1), 1),
        of(&[1, 2, 5, 4, 6], 2, 2, (1, 1), 1),
        // Windows that do not overlap, with and without gaps.
        of(&[2, 3, 9, 10], 2, 3, (1, 0), 1),
        of(&[2, 3, 13], 2, 2, (0, 1), 1),
        // With more elements from one to the next than one invocation takes.
        of(&[1, 2, 19, 19], 8, 9, (0, 1), 1),
    ];
    let last = all[0].args.len() - 1;
    all.push(stored(of(&[2, 3, 6, 6], 2, 2, (0, 0), 1), last, &[1, 0, 3, 2], 2, 1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness;
    use crate::backend::reference::Array;

    /// Few distinct values, so that windows have ties; now and then a NaN in x. The gradient's y is -0.5 .. 0.5 as well: some
    /// windows have no element that equals it, some several.
    fn fill(region: &Region, arg: usize, i: usize) -> f64 {
        let coarse = ((i * 7919 + arg * 31) % 23 % 5) as f64 / 4.0 - 0.5;
        if region.args.len() == 3 && arg == 0 && i % 17 == 5 { f64::NAN } else { coarse }
    }

    #[test]
    fn pooling_agrees_with_the_reference() {
        // Every value is a multiple of 1/4 and every sum small: exact.
        let exact = |_: &[Array], _: usize, _: usize, _: f64| 0.0;
        for kernel in &KERNELS {
            harness::check(kernel, kernel.stems[0], &[], &fill, &exact);
        }
    }
}
