//! Matrix products (sizes around tiles, transposed and broadcast operands, epilogues) and convolutions (every attribute).

use super::by;
use crate::check::case::{Case, Gen};
use crate::ir::ConvDims;

fn unit() -> Gen {
    Gen::Normal(0.0, 1.0)
}

pub(super) fn cases() -> Vec<Case> {
    [products(), convolutions()].concat()
}

fn products() -> Vec<Case> {
    let mut out = Vec::new();
    for [m, k, n] in [
        [1, 1, 1],
        [3, 1, 5],
        [1, 65, 1],
        [1, 257, 63],
        [63, 3, 1],
        [64, 64, 64],
        [65, 63, 64],
        [3, 257, 65],
        [65, 65, 257],
    ] {
        let name = |form: &str| format!("dot/{form}{}", by(&[m, k, n]));
        out.push(Case::one(name(""), |t| t[0].matmul(&t[1])).f32([m, k], unit()).f32([k, n], unit()).grad());
        out.push(Case::one(name("at/"), |t| t[0].t().matmul(&t[1])).f32([k, m], unit()).f32([k, n], unit()));
        out.push(Case::one(name("bt/"), |t| t[0].matmul(&t[1].t())).f32([m, k], unit()).f32([n, k], unit()));
    }
    out.push(Case::one("dot/batch", |t| t[0].matmul(&t[1])).f32([3, 33, 5], unit()).f32([3, 5, 65], unit()).grad());
    out.push(
        Case::one("dot/batch_t", |t| t[0].matmul(&t[1].t()))
            .f32([2, 3, 33, 5], unit())
            .f32([2, 3, 65, 5], unit())
            .grad(),
    );
    out.push(
        Case::one("dot/broadcast", |t| t[0].matmul(&t[1])).f32([3, 1, 7, 5], unit()).f32([2, 5, 4], unit()).grad(),
    );
    out.push(Case::one("dot/tall", |t| t[0].matmul(&t[1])).f32([3, 7, 5], unit()).f32([5, 4], unit()).grad());
    out.push(Case::one("dot/vectors", |t| t[0].matmul(&t[1])).f32([65], unit()).f32([65], unit()).grad());
    out.push(Case::one("dot/inner0", |t| t[0].matmul(&t[1])).f32([3, 0], unit()).f32([0, 5], unit()));
    out.push(Case::one("dot/rows0", |t| t[0].matmul(&t[1])).f32([0, 3], unit()).f32([3, 5], unit()));
    out.push(
        Case::one("dot/epilogue", |t| {
            let y = t[0].matmul(&t[1]) + &t[2];
            y.gt(&y.like(0.0)).select(&y, &(&y * 0.1)) + &t[3]
        })
        .f32([65, 33], unit())
        .f32([33, 63], unit())
        .f32([63], unit())
        .f32([65, 63], unit()),
    );
    out.push(
        Case::one("dot/epilogue_smooth", |t| (t[0].matmul(&t[1]) + &t[2]).tanh() * &t[3])
            .f32([65, 33], Gen::Normal(0.0, 0.2))
            .f32([33, 63], unit())
            .f32([63], unit())
            .f32([65, 63], unit())
            .grad(),
    );
    // Terms that cancel: the error is measured against the sum of magnitudes, not against the result.
    out.push(
        Case::one("dot/cancels", |t| t[0].matmul(&t[1])).f32([5, 64], Gen::Fixed(vec![1e4, -1e4])).f32([64, 7], unit()),
    );
    out
}

struct Conv {
    name: &'static str,
    x: Vec<usize>,
    w: Vec<usize>,
    dims: ConvDims,
}

fn dims(stride: &[usize], pad: &[(i64, i64)], lhs: &[usize], rhs: &[usize], groups: usize) -> ConvDims {
    ConvDims {
        stride: stride.to_vec(),
        pad: pad.to_vec(),
        lhs_dilation: lhs.to_vec(),
        rhs_dilation: rhs.to_vec(),
        groups,
    }
}

fn convolutions() -> Vec<Case> {
    let one = [1, 1];
    let table = [
        Conv { name: "3x3", x: vec![2, 3, 9, 7], w: vec![5, 3, 3, 3], dims: dims(&one, &[(1, 1); 2], &one, &one, 1) },
        Conv {
            name: "1x1",
            x: vec![2, 17, 5, 5],
            w: vec![33, 17, 1, 1],
            dims: dims(&one, &[(0, 0); 2], &one, &one, 1),
        },
        Conv { name: "5x5", x: vec![1, 1, 13, 13], w: vec![4, 1, 5, 5], dims: dims(&one, &[(2, 2); 2], &one, &one, 1) },
        Conv {
            name: "wide",
            x: vec![1, 64, 6, 6],
            w: vec![65, 64, 3, 3],
            dims: dims(&one, &[(1, 1); 2], &one, &one, 1),
        },
        Conv {
            name: "stride2",
            x: vec![2, 3, 9, 8],
            w: vec![4, 3, 3, 3],
            dims: dims(&[2, 2], &[(1, 1); 2], &one, &one, 1),
        },
        Conv {
            name: "stride_mixed",
            x: vec![1, 2, 11, 10],
            w: vec![3, 2, 3, 2],
            dims: dims(&[3, 2], &[(0, 1), (2, 0)], &one, &one, 1),
        },
        Conv {
            name: "remainder",
            x: vec![1, 2, 10, 11],
            w: vec![3, 2, 3, 3],
            dims: dims(&[3, 4], &[(0, 0); 2], &one, &one, 1),
        },
        Conv {
            name: "dilated",
            x: vec![2, 2, 11, 9],
            w: vec![3, 2, 3, 3],
            dims: dims(&one, &[(2, 2), (1, 0)], &one, &[2, 3], 1),
        },
        Conv {
            name: "transposed",
            x: vec![2, 3, 4, 5],
            w: vec![2, 3, 3, 3],
            dims: dims(&one, &[(2, 2), (1, 3)], &[2, 3], &one, 1),
        },
        Conv {
            name: "negative_pad",
            x: vec![1, 2, 9, 9],
            w: vec![3, 2, 3, 3],
            dims: dims(&[2, 1], &[(-1, 0), (2, -2)], &one, &one, 1),
        },
        Conv {
            name: "groups",
            x: vec![2, 6, 7, 7],
            w: vec![4, 3, 3, 3],
            dims: dims(&one, &[(1, 1); 2], &one, &one, 2),
        },
        Conv {
            name: "depthwise",
            x: vec![2, 5, 7, 6],
            w: vec![10, 1, 3, 3],
            dims: dims(&[2, 1], &[(1, 1); 2], &one, &one, 5),
        },
        Conv {
            name: "all",
            x: vec![2, 4, 7, 6],
            w: vec![6, 2, 2, 3],
            dims: dims(&[2, 3], &[(3, 1), (-1, 4)], &[3, 2], &[2, 2], 2),
        },
        Conv {
            name: "kernel_is_input",
            x: vec![3, 2, 4, 4],
            w: vec![5, 2, 4, 4],
            dims: dims(&one, &[(0, 0); 2], &one, &one, 1),
        },
        Conv { name: "1d", x: vec![2, 3, 65], w: vec![4, 3, 5], dims: dims(&[2], &[(2, 2)], &[1], &[1], 1) },
        Conv {
            name: "3d",
            x: vec![1, 2, 5, 4, 6],
            w: vec![3, 2, 2, 3, 2],
            dims: dims(&[1, 2, 1], &[(0, 1), (1, 1), (0, 0)], &[1; 3], &[1, 1, 2], 1),
        },
    ];
    let case = |c: Conv| {
        let Conv { name, x, w, dims } = c;
        Case::one(format!("conv/{name}"), move |t| t[0].conv(&t[1], dims.clone())).f32(x, unit()).f32(w, unit()).grad()
    };
    let mut out: Vec<Case> = table.into_iter().map(case).collect();
    out.push(
        Case::one("conv/epilogue", |t| {
            let y = t[0].conv(&t[1], dims(&[1, 1], &[(1, 1); 2], &[1, 1], &[1, 1], 1)) + t[2].reshape([1, 4, 1, 1]);
            y.gt(&y.like(0.0)).select(&y, &y.like(0.0))
        })
        .f32([2, 3, 9, 9], unit())
        .f32([4, 3, 3, 3], unit())
        .f32([4], unit())
        .grad(),
    );
    out
}
