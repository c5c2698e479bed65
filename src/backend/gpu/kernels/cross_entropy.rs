//! Cross-entropy of class logits and its gradient.

use super::row_team::{Team, VARIANTS};
use super::rows::{Parts, always, in_memory, line, view4};
use super::sample::region;
use super::{Bind, KernelCall, KernelInfo, Mutation, Params, Serves, Shader, fused_call, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::Type;
use crate::ops::cross_entropy::{CrossEntropy, CrossEntropyGrad};
use crate::plan::{Region, RegionKind};

params! {
    /// The WGSL struct `Params` of cross_entropy.wgsl.
    struct ForwardParams {
        rows: u32,
        n: u32,
        minus_inf: f32,
        nan: f32,
        x: [i32; 4],
        first: i32,
        step: i32,
        ignore: i32,
        site: u32,
        smoothing: f32,
        spread: f32,
        spare0: u32,
        spare1: u32,
    }
}

params! {
    /// The WGSL struct `Params` of cross_entropy_grad.wgsl.
    struct GradParams {
        elems: u32,
        n: u32,
        ignore: i32,
        nan: f32,
        x: [i32; 4],
        target_view: [i32; 2],
        top: [i32; 2],
        log_sum: [i32; 2],
        g: [i32; 2],
        hot: f32,
        spread: f32,
        spare0: u32,
        spare1: u32,
    }
}

const FORWARD: KernelInfo = KernelInfo {
    serves: Serves::Composite("cross_entropy"),
    stems: &["cross_entropy"],
    variants: VARIANTS,
    select: forward,
    takes: always,
    strided: |_, _| true,
    samples: || samples(false),
    mutations: &[
        Mutation { stem: "cross_entropy", find: "s < NEAR; s *= 2u", replace: "2u * s < NEAR; s *= 2u" },
        Mutation { stem: "cross_entropy", find: "log_sum - (x_at(", replace: "log_sum + (x_at(" },
        Mutation { stem: "cross_entropy", find: "u32(start + j) & 3u", replace: "u32(start + j) & 1u" },
        Mutation { stem: "cross_entropy", find: "below += within(q0, x0 - top, 0.0)", replace: "below += x0 - top" },
    ],
};
/// The registry rows.
pub const KERNELS: [KernelInfo; 2] = [
    FORWARD,
    KernelInfo {
        serves: Serves::Composite("cross_entropy_grad"),
        stems: &["cross_entropy_grad"],
        variants: &["flat"],
        select: grad,
        samples: || samples(true),
        mutations: &[
            Mutation { stem: "cross_entropy_grad", find: "params.g.x + row", replace: "params.g.x + label" },
            Mutation { stem: "cross_entropy_grad", find: "label == wanted", replace: "label == wanted + 1" },
        ],
        ..FORWARD
    },
];

fn samples(grad: bool) -> Vec<Region> {
    let of = |rows: usize, n: usize, label_smoothing: f64| {
        let (x, v) = (Type::new(DType::F32, [rows, n]), Type::new(DType::F32, [rows]));
        let target = Type::new(DType::I32, [rows]);
        if grad {
            let c = CrossEntropyGrad { ignore_index: 2, label_smoothing };
            return region(RegionKind::Fused, &[x, target, v.clone(), v.clone(), v], move |b, a| {
                b.call(c.clone(), &[&a[0], &a[1], &a[2], &a[3], &a[4]])
            });
        }
        let c = CrossEntropy { ignore_index: 2, label_smoothing };
        region(RegionKind::Fused, &[x, target], move |b, a| b.call(c.clone(), &[&a[0], &a[1]]))
    };
    vec![
        of(1, 1, 0.0),
        of(5, 10, 0.0),
        of(33, 65, 0.1),
        of(70, 3, 0.0),
        of(3, 129, 0.5),
        of(9, 64, 0.1),
        of(5, 12, 0.0),
    ]
}

fn forward(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<CrossEntropy>());
    let c = call.ok_or("not a cross-entropy")?;
    let (rows, n) = (region.args[0].view.shape[0], region.args[0].view.shape[1]);
    let team = Team::of("cross_entropy", rows, n, caps);
    let [first, step] = line(region, 1);
    let params = ForwardParams {
        rows: rows as u32,
        n: n as u32,
        minus_inf: f32::NEG_INFINITY,
        nan: f32::NAN,
        x: view4(region, 0),
        first,
        step,
        ignore: c.ignore_index,
        site: 0,
        smoothing: c.label_smoothing as f32,
        spread: (c.label_smoothing / n.max(1) as f64) as f32,
        spare0: 0,
        spare1: 0,
    };
    let parts = Parts {
        label: "cross_entropy",
        variant: team.variant(),
        shader: team
            .shader("cross_entropy", include_str!("../../../../shaders/cross_entropy.wgsl"))
            .header(team.reader("x", &region.args[0].view))
            .header(format!("const SMOOTH: bool = {};", c.label_smoothing != 0.0))
            .common(&["status"]),
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Out(0), Bind::Out(1), Bind::Out(2), Bind::Status],
        params: Params::of(&params),
        groups: team.groups(rows),
        flops: 4 * rows * n,
        words: rows * n,
    };
    Ok(vec![parts.call(caps)?])
}

fn grad(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let call = fused_call(region).and_then(|c| c.composite.as_any().downcast_ref::<CrossEntropyGrad>());
    let c = call.ok_or("not a cross-entropy gradient")?;
    let (rows, n) = (region.args[0].view.shape[0], region.args[0].view.shape[1]);
    let wg = caps.flat_workgroup();
    let params = GradParams {
        elems: (rows * n) as u32,
        n: n as u32,
        ignore: c.ignore_index,
        nan: f32::NAN,
        x: view4(region, 0),
        target_view: line(region, 1),
        top: line(region, 2),
        log_sum: line(region, 3),
        g: line(region, 4),
        hot: (1.0 - c.label_smoothing) as f32,
        spread: (c.label_smoothing / n.max(1) as f64) as f32,
        spare0: 0,
        spare1: 0,
    };
    let parts = Parts {
        label: "cross_entropy_grad",
        variant: "flat",
        shader: Shader::new("cross_entropy_grad")
            .consts(&[("WG", wg)])
            .common(&["index", "bits"])
            .body(include_str!("../../../../shaders/cross_entropy_grad.wgsl")),
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Arg(2), Bind::Arg(3), Bind::Arg(4), Bind::Out(0)],
        params: Params::of(&params),
        groups: (rows as u64 * n as u64).div_ceil(u64::from(wg)),
        flops: 4 * rows * n,
        words: 2 * rows * n,
    };
    Ok(vec![parts.call(caps)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness::{self, noise};
    use crate::backend::reference::Array;

    fn fill(region: &Region, arg: usize, i: usize) -> f64 {
        match arg {
            1 => (i * 7 % region.args[0].view.shape[1]) as f64,
            // max above every logit, log_sum positive, as they are.
            2 => f64::from((9.0 + noise(5, i)) as f32),
            3 => f64::from((1.0 + noise(6, i)) as f32),
            _ => f64::from((8.0 * noise(arg as u32, i)) as f32),
        }
    }

    #[test]
    fn cross_entropy_agrees_with_the_reference() {
        let u = 2f64.powi(-23);
        // Differences up to 16, their exponentials ((3 + 2 |x|) ulp), a sum and a log; with smoothing a sum of n terms.
        let loss = |a: &[Array], _: usize, _: usize, _: f64| (64.0 + a[0].shape[1] as f64) * u * 24.0;
        let grad = |_: &[Array], _: usize, _: usize, _: f64| 48.0 * u * 8.0;
        harness::check(&KERNELS[0], "cross_entropy", VARIANTS, &fill, &loss);
        harness::check(&KERNELS[1], "cross_entropy_grad", &[], &fill, &grad);
    }
}
