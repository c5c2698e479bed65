//! Mixed precision: conversions, and what `Builder::autocast` rounds. Where an adapter's kernels read f16 they run here; where
//! not, the conversions are steps of their own.

use crate::check::case::{Case, Gen};
use crate::dtype::DType;
use crate::ir::{Builder, ConvDims, Tensor};
use crate::ops::{AttentionOptions, BatchNormOptions, Pool};

fn case(name: &str, f: impl Fn(&Builder, &[Tensor]) -> Tensor + Send + Sync + 'static) -> Case {
    Case::new(format!("f16/{name}"), move |b, t| vec![b.autocast(true, || f(b, t))])
}

fn unit() -> Gen {
    Gen::Normal(0.0, 1.0)
}

pub(super) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for n in [1, 64, 257] {
        out.push(
            case(&format!("conversion/{n}"), |_, t| t[0].cast(DType::F16).cast(DType::F32) * 2.0)
                .f32([n], Gen::Normal(0.0, 100.0)),
        );
    }
    for [m, k, n] in [[65, 33, 63], [64, 64, 64], [3, 257, 1]] {
        out.push(case(&format!("dot/{m}x{k}x{n}"), |_, t| t[0].matmul(&t[1])).f32([m, k], unit()).f32([k, n], unit()));
    }
    out.push(case("dot/turned", |_, t| t[0].t().matmul(&t[1].t()) + 1.0).f32([31, 65], unit()).f32([9, 31], unit()));
    for (stride, groups) in [(1, 1), (2, 3)] {
        let dims = ConvDims {
            stride: vec![stride; 2],
            pad: vec![(1, 1); 2],
            lhs_dilation: vec![1; 2],
            rhs_dilation: vec![1; 2],
            groups,
        };
        out.push(
            case(&format!("conv/stride{stride}"), move |_, t| t[0].conv(&t[1], dims.clone()))
                .f32([2, 6, 9, 7], unit())
                .f32([9, 6 / groups, 3, 3], unit()),
        );
    }
    let norm =
        |_: &Builder, t: &[Tensor]| t[0].batch_norm(&BatchNormOptions { training: true, ..Default::default() }).output;
    out.push(case("batch_norm", norm).f32([5, 7, 3, 4], unit()));
    out.push(case("layer_norm", |_, t| t[0].layer_norm(&[33], None, None, 1e-5)).f32([9, 33], unit()));
    out.push(case("max_pool", |_, t| t[0].max_pool(&Pool::new([2, 2]))).f32([2, 3, 6, 8], unit()));
    out.push(
        case("attention", |_, t| t[0].scaled_dot_product_attention(&t[1], &t[2], &AttentionOptions::default()))
            .f32([2, 2, 9, 8], unit())
            .f32([2, 2, 11, 8], unit())
            .f32([2, 2, 11, 4], unit()),
    );
    out
}
