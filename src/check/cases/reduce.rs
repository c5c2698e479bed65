//! Reductions, running sums, sorting: along each dimension, of each odd size, with NaN, and of nothing.

use super::{SIZES, by};
use crate::check::case::{Case, Gen};
use crate::ir::{Prim, Tensor};

fn reduced(name: &str, shape: &[usize], values: Gen, f: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Case {
    Case::one(format!("{name}/{}", by(shape)), move |t| f(&t[0])).f32(shape, values)
}

fn sorted(descending: bool, axis: usize) -> impl Fn(&crate::ir::Builder, &[Tensor]) -> Vec<Tensor> {
    move |b, t| b.apply_multi(Prim::Sort { axis, descending }, &[&t[0]])
}

pub(super) fn cases() -> Vec<Case> {
    let normal = Gen::Normal(0.0, 1.0);
    let mut out = Vec::new();
    for n in SIZES {
        out.push(reduced("reduce_sum/last", &[3, n], normal.clone(), |x| x.sum(&[1], false)).grad());
        out.push(reduced("reduce_sum/first", &[n, 5], normal.clone(), |x| x.sum(&[0], false)).grad());
        out.push(reduced("reduce_max/last", &[3, n], Gen::Distinct, |x| x.amax(&[1], false)).grad());
        out.push(reduced("reduce_max/first", &[n, 5], Gen::Distinct, |x| x.amax(&[0], true)).grad());
        out.push(reduced("argmax/last", &[3, n], Gen::Int(0, 9), |x| x.argmax(1, false)));
        out.push(reduced("cumsum/last", &[3, n], normal.clone(), |x| x.cumsum(1)).grad());
    }
    out.push(reduced("reduce_sum/all", &[65, 257], normal.clone(), |x| x.sum(&[], false)).grad());
    out.push(reduced("reduce_sum/middle", &[3, 65, 5], normal.clone(), |x| x.sum(&[1], true)).grad());
    out.push(reduced("reduce_sum/outer", &[3, 5, 65], normal.clone(), |x| x.sum(&[0, 2], false)).grad());
    out.push(reduced("reduce_sum/transposed", &[65, 33], normal.clone(), |x| x.t().sum(&[1], false)).grad());
    out.push(reduced("reduce_sum/prologue", &[5, 257], normal.clone(), |x| x.square().sum(&[1], false)).grad());
    out.push(reduced("reduce_sum/large_mean", &[3, 257], Gen::Normal(1e4, 1.0), |x| x.sum(&[1], false)));
    out.push(reduced("reduce_sum/empty", &[3, 0], normal.clone(), |x| x.sum(&[1], false)).grad());
    out.push(reduced("reduce_sum/long", &[2, 20_000], normal.clone(), |x| x.sum(&[1], false)));
    out.push(reduced("mean", &[5, 65], normal.clone(), |x| x.mean(&[0], false)).grad());
    out.push(reduced("amin", &[5, 65], Gen::Distinct, |x| x.amin(&[1], false)).grad());
    out.push(reduced("reduce_max/empty", &[3, 0], normal.clone(), |x| x.amax(&[1], false)));
    out.push(reduced("reduce_max/middle", &[3, 65, 5], Gen::Distinct, |x| x.amax(&[1], false)).grad());
    // Ties share the gradient: compared on the device with the reference's, not with differences.
    out.push(reduced("reduce_max/ties", &[3, 65], Gen::Int(0, 4), |x| x.amax(&[1], false)));
    let nan = Gen::Fixed(vec![1.0, f64::NAN, 3.0, f64::NEG_INFINITY, 5.0, 2.0, f64::INFINITY]);
    out.push(
        Case::new("reduce_max/nan", |_, t| vec![t[0].amax(&[1], false), t[0].argmax(1, false), t[0].sum(&[1], false)])
            .f32([3, 65], nan.clone()),
    );
    out.push(reduced("reduce_max/all_minus_inf", &[2, 65], Gen::Fixed(vec![f64::NEG_INFINITY]), |x| {
        x.amax(&[1], false)
    }));
    for n in [1, 2, 3, 5, 33] {
        out.push(reduced("reduce_prod/last", &[3, n], Gen::Uniform(0.5, 1.5), |x| x.prod(&[1], false)).grad());
    }
    out.push(reduced("reduce_prod/first", &[5, 3, 2], Gen::Uniform(0.5, 1.5), |x| x.prod(&[0, 2], false)).grad());
    let zero = Gen::Fixed(vec![2.0, 0.0, 3.0, 1.5, -1.0]);
    out.push(reduced("reduce_prod/one_zero", &[2, 5], zero, |x| x.prod(&[1], false)).grad());
    let zeros = Gen::Fixed(vec![2.0, 0.0, 3.0, 0.0, -1.0]);
    out.push(reduced("reduce_prod/two_zeros", &[2, 5], zeros, |x| x.prod(&[1], false)).grad());
    out.push(reduced("argmax/first", &[65, 3], normal.clone(), |x| x.argmax(0, true)));
    out.push(reduced("cumsum/first", &[65, 3], normal.clone(), |x| x.cumsum(0)).grad());
    for (descending, name) in [(false, "ascending"), (true, "descending")] {
        for n in [1, 3, 64, 65, 257] {
            out.push(Case::new(format!("sort/{name}/3x{n}"), sorted(descending, 1)).f32([3, n], Gen::Distinct).grad());
        }
        out.push(Case::new(format!("sort/{name}/first"), sorted(descending, 0)).f32([65, 3], Gen::Distinct).grad());
        out.push(Case::new(format!("sort/{name}/ties"), sorted(descending, 1)).f32([3, 65], Gen::Int(0, 5)));
        out.push(Case::new(format!("sort/{name}/nan"), sorted(descending, 1)).f32([3, 65], nan.clone()));
        out.push(Case::new(format!("sort/{name}/i32"), sorted(descending, 1)).i32([3, 65], Gen::Int(-9, 9)));
    }
    let whole = |_: &crate::ir::Builder, t: &[Tensor]| {
        vec![
            t[0].sum(&[1], false),
            t[0].amax(&[1], false),
            t[0].prod(&[1], false),
            t[0].cumsum(1),
            t[0].argmax(0, false),
        ]
    };
    out.push(Case::new("reduce_i32/3x65", whole).i32([3, 65], Gen::Int(-3, 4)));
    out
}
