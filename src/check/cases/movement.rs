//! Primitives that move elements, alone and in front of arithmetic (where a planner reads them as views).

use super::by;
use crate::check::case::{Case, Gen};
use crate::ir::Tensor;

fn normal(name: String, shape: &[usize], f: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Case {
    Case::one(format!("{name}/{}", by(shape)), move |t| f(&t[0])).f32(shape, Gen::Normal(0.0, 1.0)).grad()
}

pub(super) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for shape in [vec![3, 65], vec![64, 63], vec![257, 5], vec![1, 1]] {
        out.push(normal("transpose".into(), &shape, |x| x.t()));
        out.push(normal("transpose_add".into(), &shape, |x| x.t() * 2.0 + 1.0));
        out.push(normal("reshape".into(), &shape, |x| x.t().reshape([x.elems()])));
        out.push(normal("reverse".into(), &shape, |x| x.flip(&[0, 1])));
    }
    for perm in [[2isize, 0, 1], [1, 2, 0], [0, 2, 1], [2, 1, 0]] {
        let name = format!("permute/{}{}{}", perm[0], perm[1], perm[2]);
        out.push(normal(name, &[3, 5, 65], move |x| x.permute(&perm)));
    }
    out.push(normal("broadcast".into(), &[3, 1, 5], |x| x.broadcast_to([2, 3, 65, 5])));
    out.push(normal("broadcast/scalar".into(), &[], |x| x.broadcast_to([65])));
    out.push(normal("slice".into(), &[7, 65], |x| x.slice(vec![1, 3], vec![3, 20], vec![2, 3])));
    out.push(normal("slice/negative".into(), &[7, 65], |x| x.flip(&[1]).slice(vec![1, 3], vec![3, 20], vec![2, 3])));
    out.push(normal("slice/empty".into(), &[7], |x| x.narrow(0, 3, 0)));
    out.push(normal("pad".into(), &[3, 65], |x| x.pad(&[1, 2], &[0, 3], 1.5)));
    out.push(normal("pad/crop".into(), &[5, 65], |x| x.pad(&[-1, 2], &[3, -4], 0.0)));
    out.push(normal("pad/interior".into(), &[3, 33], |x| x.pad_interior(&[1, -1], &[-1, 2], &[2, 1], -1.0)));
    out.push(normal("pad/outside".into(), &[4], |x| x.pad(&[-6], &[6], 2.0)));
    out.push(normal("roll".into(), &[65], |x| Tensor::cat(&[&x.narrow(0, 60, 5), &x.narrow(0, 0, 60)], 0)));
    for axis in [0isize, 1, 2] {
        let shapes = |n: usize| -> Vec<usize> { (0..3).map(|d| if d == axis as usize { n } else { 5 }).collect() };
        out.push(
            Case::one(format!("concat/axis{axis}"), move |t| Tensor::cat(&[&t[0], &t[1], &t[2]], axis))
                .f32(shapes(3), Gen::Normal(0.0, 1.0))
                .f32(shapes(1), Gen::Normal(0.0, 1.0))
                .f32(shapes(63), Gen::Normal(0.0, 1.0))
                .grad(),
        );
    }
    out.push(
        Case::one("concat/transposed", |t| Tensor::cat(&[&t[0].t(), &t[1]], 0))
            .f32([65, 3], Gen::Normal(0.0, 1.0))
            .f32([4, 65], Gen::Normal(0.0, 1.0))
            .grad(),
    );
    out.push(
        Case::new("movement/i32", |b, t| {
            let i = b.iota(65).unsqueeze(0);
            vec![t[0].t(), t[0].flip(&[0]), &t[0] + &i, t[0].pad(&[1, 1], &[0, 0], -7.0)]
        })
        .i32([3, 65], Gen::Int(-1000, 1000)),
    );
    // Bits that arithmetic would not keep.
    let odd = Gen::Fixed(vec![f64::NAN, f64::INFINITY, -0.0, f64::NEG_INFINITY, 1.5]);
    out.push(Case::one("movement/poison", |t| t[0].t().flip(&[0])).f32([5, 13], odd));
    out
}
