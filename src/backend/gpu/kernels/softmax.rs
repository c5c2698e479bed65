//! Softmax, log-softmax and their gradients over rows.

use super::row_team::Team;
use super::rows::{Parts, QUAD_VARIANTS, Quads, always, in_memory, view4};
use super::sample::{region, stored};
use super::{Bind, KernelCall, KernelInfo, Mutation, Params, Serves, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::Type;
use crate::ops::softmax::{LogSoftmax, LogSoftmaxGrad, Softmax, SoftmaxGrad};
use crate::plan::{Region, RegionKind};

params! {
    /// The WGSL struct `Params` of softmax.wgsl.
    struct ForwardParams {
        rows: u32,
        n: u32,
        minus_inf: f32,
        nan: f32,
        x: [i32; 4],
    }
}

params! {
    /// The WGSL struct `Params` of softmax_grad.wgsl.
    struct GradParams {
        rows: u32,
        n: u32,
        spare0: u32,
        spare1: u32,
        y: [i32; 4],
        g: [i32; 4],
    }
}

const FORWARD: KernelInfo = KernelInfo {
    serves: Serves::Composite("softmax"),
    stems: &["softmax"],
    variants: QUAD_VARIANTS,
    select: |r, c| forward(r, c, false),
    takes: always,
    strided: |_, _| true,
    samples: || samples(1, false),
    mutations: &[
        Mutation { stem: "softmax", find: "let sum = all_sum(lane, ", replace: "let sum = 1.0 + all_sum(lane, " },
        Mutation {
            stem: "softmax",
            find: "x0 = within(q0, x_quad(start, params.x.z, q0), params.minus_inf);",
            replace: "x0 = x_quad(start, params.x.z, q0);",
        },
        Mutation { stem: "softmax", find: "+ (block * QUADS + ", replace: "+ (" },
        Mutation { stem: "softmax", find: "if lane % LANES < s {", replace: "if lane < s {" },
        Mutation { stem: "softmax", find: "s < NEAR; s *= 2u", replace: "2u * s < NEAR; s *= 2u" },
        Mutation { stem: "softmax", find: "PARTS + lane % SPAN;", replace: "PARTS;" },
        Mutation {
            stem: "softmax",
            find: "r.sum * exp_below4(vec4<f32>(r.top - top)).x + ((exps",
            replace: "r.sum + ((exps",
        },
        Mutation {
            stem: "softmax",
            find: "seen(q, params.n, x_pair(start, step, q), params.minus_inf)",
            replace: "x_pair(start, step, q)",
        },
    ],
};
/// The registry rows.
pub const KERNELS: [KernelInfo; 4] = [
    FORWARD,
    KernelInfo {
        serves: Serves::Composite("log_softmax"),
        select: |r, c| forward(r, c, true),
        samples: || samples(1, true),
        mutations: &[Mutation {
            stem: "softmax",
            find: "let log_sum = select(log(sum)",
            replace: "let log_sum = select(log(sum + 1.0)",
        }],
        ..FORWARD
    },
    KernelInfo {
        serves: Serves::Composite("softmax_grad"),
        stems: &["softmax_grad"],
        select: |r, c| grad(r, c, false),
        samples: || samples(2, false),
        mutations: &[
            Mutation { stem: "softmax_grad", find: "v.b * (gv.b - sum)", replace: "v.b * gv.b" },
            Mutation { stem: "softmax_grad", find: "v = kept(q, v);", replace: "" },
            Mutation { stem: "softmax_grad", find: "within(q0, g0 * y0, 0.0)", replace: "g0 * y0" },
        ],
        ..FORWARD
    },
    KernelInfo {
        serves: Serves::Composite("log_softmax_grad"),
        stems: &["softmax_grad"],
        select: |r, c| grad(r, c, true),
        samples: || samples(2, true),
        mutations: &[
            Mutation { stem: "softmax_grad", find: "g0 - exp_below4(y0) * sum", replace: "g0 - y0 * sum" },
            Mutation { stem: "softmax_grad", find: "gv.b - exp_below4(v.b) * sum", replace: "gv.b - v.b * sum" },
        ],
        ..FORWARD
    },
];

fn samples(args: usize, log: bool) -> Vec<Region> {
    let of = |rows: usize, n: usize| {
        let ty = Type::new(DType::F32, [rows, n]);
        region(RegionKind::Fused, &vec![ty; args], move |b, a| match (args, log) {
            (1, false) => b.call(Softmax, &[&a[0]]),
            (1, true) => b.call(LogSoftmax, &[&a[0]]),
            (_, false) => b.call(SoftmaxGrad, &[&a[0], &a[1]]),
            (_, true) => b.call(LogSoftmaxGrad, &[&a[0], &a[1]]),
        })
    };
    let mut all: Vec<Region> = [(1, 1), (3, 65), (65, 3), (2, 300), (9, 64), (9, 137)].map(|(r, n)| of(r, n)).into();
    if args == 1 {
        // More than a lane holds of a row.
        all.push(of(2, 8200));
    }
    all.push(stored(of(7, 10), 0, &[1, 0], 3, 1));
    all
}

fn forward(region: &Region, caps: &GpuCaps, log: bool) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let (rows, n) = (region.outs[0].ty.shape[0], region.outs[0].ty.shape[1]);
    let params = ForwardParams {
        rows: rows as u32,
        n: n as u32,
        minus_inf: f32::NEG_INFINITY,
        nan: f32::NAN,
        x: view4(region, 0),
    };
    let (variant, shader, groups) = match Quads::of("softmax", region, rows, n, caps) {
        Some(quads) => {
            let shader = quads
                .shader("softmax")
                .header(quads.reader("x", &region.args[0].view))
                .header(quads.writer("y"))
                .header(include_str!("../../../../shaders/row_running.wgsl"))
                .body(include_str!("../../../../shaders/softmax_quads.wgsl"));
            (quads.variant(), shader, quads.groups(rows))
        }
        None => {
            let team = Team::of("softmax", rows, n, caps);
            let shader = team
                .shader("softmax", include_str!("../../../../shaders/softmax.wgsl"))
                .header(team.reader("x", &region.args[0].view))
                .header(team.writer("y"));
            (team.variant(), shader, team.groups(rows))
        }
    };
    let parts = Parts {
        label: "softmax",
        variant,
        shader: shader.header(format!("const LOG: bool = {log};")),
        bindings: vec![Bind::Arg(0), Bind::Out(0)],
        params: Params::of(&params),
        groups,
        flops: 5 * rows * n,
        words: 2 * rows * n,
    };
    Ok(vec![parts.call(caps)?])
}

fn grad(region: &Region, caps: &GpuCaps, log: bool) -> Result<Vec<KernelCall>, String> {
    in_memory(region)?;
    let (rows, n) = (region.outs[0].ty.shape[0], region.outs[0].ty.shape[1]);
    let params =
        GradParams { rows: rows as u32, n: n as u32, spare0: 0, spare1: 0, y: view4(region, 0), g: view4(region, 1) };
    let (variant, shader, groups) = match Quads::of("softmax_grad", region, rows, n, caps) {
        Some(quads) => {
            let shader = quads
                .shader("softmax_grad")
                .header(quads.reader("y", &region.args[0].view))
                .header(quads.reader("g", &region.args[1].view))
                .header(quads.writer("dx"))
                .body(include_str!("../../../../shaders/softmax_grad_quads.wgsl"));
            (quads.variant(), shader, quads.groups(rows))
        }
        None => {
            let team = Team::of("softmax_grad", rows, n, caps);
            let shader = team
                .shader("softmax_grad", include_str!("../../../../shaders/softmax_grad.wgsl"))
                .header(team.reader("y", &region.args[0].view))
                .header(team.reader("g", &region.args[1].view))
                .header(team.writer("dx"));
            (team.variant(), shader, team.groups(rows))
        }
    };
    let parts = Parts {
        label: "softmax_grad",
        variant,
        shader: shader.header(format!("const LOG: bool = {log};")),
        bindings: vec![Bind::Arg(0), Bind::Arg(1), Bind::Out(0)],
        params: Params::of(&params),
        groups,
        flops: 4 * rows * n,
        words: 3 * rows * n,
    };
    Ok(vec![parts.call(caps)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness::{self, noise};
    use crate::backend::reference::Array;

    /// Values of several sizes, with rows of extremes: all -inf, a NaN, a +inf.
    fn fill(region: &Region, arg: usize, i: usize) -> f64 {
        let n = region.args[0].view.shape[1];
        let special = region.args.len() == 1 && region.args[0].view.shape[0] > 6;
        match i / n.max(1) {
            1 if special => f64::NEG_INFINITY,
            2 if special && i % n == 1 => f64::NAN,
            3 if special && i % n == 1 => f64::INFINITY,
            4 if special && i.is_multiple_of(n) => f64::NEG_INFINITY,
            _ => f64::from((6.0 * noise(3 + arg as u32, i)) as f32),
        }
    }

    #[test]
    fn softmax_agrees_with_the_reference() {
        let u = 2f64.powi(-23);
        // exp: (3 + 2 |x|) ulp with |x| <= 12, the sum as much again, the division; plus the flushed tail.
        let soft = |_: &[Array], _: usize, _: usize, w: f64| 64.0 * u * w.abs() + 1e-37;
        // x - max - log(sum): rounding of terms up to 18, and of the sum of exponentials.
        let log = |_: &[Array], _: usize, _: usize, _: f64| 64.0 * u * 18.0;
        // Sums of n products up to 36 (gradients take arbitrary y here), times y.
        let grad = |a: &[Array], _: usize, _: usize, _: f64| 4.0 * u * 216.0 * a[0].shape[1] as f64;
        // exp(6) times a sum of n terms up to 6, with the error of exp.
        let log_grad = |a: &[Array], _: usize, _: usize, _: f64| 20.0 * u * 404.0 * 6.0 * a[0].shape[1] as f64;
        let bounds: [harness::Bound; 4] = [&soft, &log, &grad, &log_grad];
        for (kernel, bound) in KERNELS.iter().zip(bounds) {
            harness::check(kernel, kernel.stems[0], QUAD_VARIANTS, &fill, bound);
        }
    }
}
