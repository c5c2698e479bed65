//! Convolutions, movement of elements, and what indices out of range report.

use super::{Bound, EXACT, Given, body, check, run};
use crate::dtype::Scalar;
use crate::error::Error;
use crate::ir::{ConvDims, Prim};
use crate::plan::RegionKind::{self, Conv};
use crate::rng::Rng;
use crate::shape::Shape;

/// |error| <= depth * 2^-23 * sum |x w| with |x|, |w| <= 2; the square root is the statistical part of it.
fn product_bound(depth: usize) -> Bound {
    Bound { rel: 1e-6, abs: 1.2e-7 * (depth as f64) * (depth as f64).sqrt() * 4.0 + 1e-7 }
}

fn dims(stride: [usize; 2], pad: [(i64, i64); 2], lhs: [usize; 2], rhs: [usize; 2], groups: usize) -> ConvDims {
    ConvDims { stride: stride.into(), pad: pad.into(), lhs_dilation: lhs.into(), rhs_dilation: rhs.into(), groups }
}

#[test]
fn convolutions_of_all_geometries() {
    let mut rng = Rng::named(20, "cpu/conv");
    let one = [1, 1];
    let same = [(1, 1), (1, 1)];
    let none = [(0, 0), (0, 0)];
    let cases: Vec<([usize; 4], [usize; 4], ConvDims)> = vec![
        ([2, 3, 9, 11], [4, 3, 3, 3], dims(one, same, one, one, 1)),
        ([5, 1, 8, 8], [7, 1, 3, 3], dims(one, same, one, one, 1)),
        ([3, 8, 8, 8], [5, 8, 1, 1], dims(one, none, one, one, 1)),
        ([3, 8, 9, 8], [5, 8, 1, 1], dims([2, 2], none, one, one, 1)),
        ([2, 6, 10, 7], [4, 3, 3, 2], dims([2, 1], [(2, 0), (0, 1)], one, [1, 2], 2)),
        ([2, 4, 6, 6], [4, 1, 3, 3], dims(one, same, one, one, 4)),
        ([2, 3, 5, 5], [4, 3, 3, 3], dims(one, [(2, 1), (1, 2)], [2, 2], one, 1)),
        ([2, 2, 9, 9], [3, 2, 3, 3], dims(one, [(-1, 1), (1, -2)], one, one, 1)),
        ([2, 2, 40, 40], [3, 2, 5, 5], dims([3, 3], same, one, one, 1)),
        // Weight gradients: a kernel as large as the input.
        ([4, 6, 12, 12], [5, 6, 12, 12], dims(one, same, one, one, 1)),
        ([3, 17, 28, 28], [8, 17, 28, 28], dims(one, same, one, one, 1)),
        ([4, 6, 13, 13], [5, 6, 6, 6], dims(one, none, one, [2, 2], 1)),
    ];
    for (x, w, d) in cases {
        let given = [Given::floats(&mut rng, &x), Given::floats(&mut rng, &w)];
        let bound = product_bound(w[1] * w[2] * w[3]);
        let what = format!("{x:?} * {w:?} {d:?}");
        check(&what, Conv, &given, &[], bound, |b, t| vec![b.apply(Prim::Conv(d.clone()), &[&t[0], &t[1]])]);
        // The same read through exchanged dimensions and reversed kernels.
        let turned = [
            Given::floats(&mut rng, &[x[1], x[0], x[2], x[3]]).seen(|v| v.permute(&[1, 0, 2, 3])),
            Given::floats(&mut rng, &[w[1], w[0], w[2], w[3]]).seen(|v| v.permute(&[1, 0, 2, 3])),
        ];
        check(&what, Conv, &turned, &[], bound, |b, t| vec![b.apply(Prim::Conv(d.clone()), &[&t[0], &t[1]])]);
        let flipped = [given[0].clone(), given[1].clone().seen(|v| v.reverse(&[2, 3]))];
        check(&what, Conv, &flipped, &[], bound, |b, t| vec![b.apply(Prim::Conv(d.clone()), &[&t[0], &t[1]])]);
    }
}

#[test]
fn convolutions_with_epilogue() {
    let mut rng = Rng::named(21, "cpu/conv epilogue");
    for (x, w) in [([3, 4, 70, 66], [6, 4, 3, 3]), ([9, 4, 4, 4], [6, 4, 3, 3]), ([2, 40, 20, 20], [6, 40, 20, 20])] {
        let d = dims([1, 1], [(1, 1), (1, 1)], [1, 1], [1, 1], 1);
        let y: [usize; 4] = [x[0], w[0], x[2] + 3 - w[2], x[3] + 3 - w[3]];
        let bias = Given::floats(&mut rng, &[1, w[0], 1, 1]).seen(|v| v.broadcast(&Shape::from(y)));
        let other = Given::floats(&mut rng, &y);
        let given = [Given::floats(&mut rng, &x), Given::floats(&mut rng, &w), bias, other];
        for in_place in [None, Some(3)] {
            check("conv epilogue", Conv, &given, &[in_place], product_bound(w[1] * w[2] * w[3]), |b, t| {
                let y = &b.apply(Prim::Conv(d.clone()), &[&t[0], &t[1]]) + &t[2];
                vec![&y.maximum(&y.like(0.0)) * &t[3].like(0.5) + &t[3]]
            });
        }
    }
}

#[test]
fn convolutions_in_one_and_three_dimensions() {
    let mut rng = Rng::named(22, "cpu/conv dims");
    let line = ConvDims { stride: vec![2], pad: vec![(1, 0)], lhs_dilation: vec![1], rhs_dilation: vec![1], groups: 1 };
    let given = [Given::floats(&mut rng, &[3, 4, 31]), Given::floats(&mut rng, &[5, 4, 4])];
    check("1-D", Conv, &given, &[], product_bound(16), |b, t| vec![b.apply(Prim::Conv(line.clone()), &[&t[0], &t[1]])]);
    let cube = ConvDims {
        stride: vec![1, 2, 1],
        pad: vec![(1, 1), (0, 1), (2, 0)],
        lhs_dilation: vec![1; 3],
        rhs_dilation: vec![1, 1, 2],
        groups: 1,
    };
    let given = [Given::floats(&mut rng, &[2, 3, 5, 6, 7]), Given::floats(&mut rng, &[4, 3, 2, 3, 3])];
    check("3-D", Conv, &given, &[], product_bound(54), |b, t| vec![b.apply(Prim::Conv(cube.clone()), &[&t[0], &t[1]])]);
}

#[test]
fn padding_joining_and_largest_index() {
    let mut rng = Rng::named(23, "cpu/moves");
    for (lo, hi, interior) in
        [([1, 2], [0, 3], [0, 0]), ([-1, 1], [-2, 0], [0, 2]), ([2, -3], [1, 4], [1, 1]), ([-4, 0], [0, -9], [1, 0])]
    {
        let given = [Given::floats(&mut rng, &[9, 5]).seen(|v| v.permute(&[1, 0]))];
        check("pad", RegionKind::Pad, &given, &[], EXACT, |b, x| {
            let (lo, hi, interior) = (lo.to_vec(), hi.to_vec(), interior.to_vec());
            vec![b.apply(Prim::Pad { lo, hi, interior, value: Scalar::F32(2.5) }, &[&x[0]])]
        });
    }
    for axis in [0, 1, 2] {
        let shapes = [[3, 4, 5], [3, 4, 5], [3, 4, 5]].map(|mut s: [usize; 3]| {
            s[axis] += 2;
            s
        });
        let given = shapes.map(|s| Given::floats(&mut rng, &s));
        check("concat", RegionKind::Concat, &given, &[], EXACT, |b, x| {
            vec![b.apply(Prim::Concat { axis }, &[&x[0], &x[1], &x[2]])]
        });
        let mut one = Given::below(&mut rng, &[7, 6, 9], 4);
        one.words.iter_mut().for_each(|w| *w = (*w as f32).to_bits());
        one.dtype = crate::dtype::DType::F32;
        one.words[100] = f32::NAN.to_bits();
        check("argmax", RegionKind::ArgMax, &[one], &[], EXACT, |b, x| vec![b.apply(Prim::ArgMax { axis }, &[&x[0]])]);
    }
}

#[test]
fn rows_by_index_and_their_sums() {
    let mut rng = Rng::named(24, "cpu/rows");
    let (rows, n, width) = (13, 400, 70);
    let given = [Given::floats(&mut rng, &[rows, width]), Given::below(&mut rng, &[n], rows)];
    check("take", RegionKind::Take, &given, &[], EXACT, |b, x| vec![b.apply(Prim::Take, &[&x[0], &x[1]])]);
    let given = [Given::floats(&mut rng, &[n, width]), Given::below(&mut rng, &[n], rows)];
    // f64 sums, rounded once.
    check("scatter", RegionKind::ScatterAdd, &given, &[], Bound { rel: 1e-7, abs: 1e-12 }, |b, x| {
        vec![b.apply(Prim::ScatterAdd { rows }, &[&x[0], &x[1]])]
    });
    for axis in [0, 1] {
        let given = [Given::floats(&mut rng, &[9, 8]), Given::below(&mut rng, &[9, 8], 8)];
        check("take along", RegionKind::TakeAlong, &given, &[], EXACT, |b, x| {
            vec![b.apply(Prim::TakeAlong { axis }, &[&x[0], &x[1]])]
        });
    }
}

#[test]
fn lines_along_an_axis() {
    let mut rng = Rng::named(26, "cpu/lines");
    // f64 sums, rounded at each element.
    let sums = Bound { rel: 1e-7, abs: 1e-12 };
    for axis in [0, 1, 2] {
        let given = [Given::floats(&mut rng, &[30, 7, 40]).seen(|v| v.permute(&[0, 2, 1]))];
        check("cumsum", RegionKind::CumSum, &given, &[], sums, |b, x| vec![b.apply(Prim::CumSum { axis }, &[&x[0]])]);
        let whole = [Given::below(&mut rng, &[30, 7, 40], 1 << 20)];
        check("cumsum", RegionKind::CumSum, &whole, &[], EXACT, |b, x| vec![b.apply(Prim::CumSum { axis }, &[&x[0]])]);
        for descending in [false, true] {
            // Many equal elements, both zeros, infinities and a NaN.
            let mut few = Given::below(&mut rng, &[30, 7, 40], 5);
            few.words.iter_mut().for_each(|w| *w = (*w as f32 - 2.0).to_bits());
            few.dtype = crate::dtype::DType::F32;
            for (i, x) in [-0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0].into_iter().enumerate() {
                few.words[i * 40 + i] = x.to_bits();
            }
            for given in [few, Given::below(&mut rng, &[30, 7, 40], 9), Given::floats(&mut rng, &[30, 7, 40])] {
                check("sort", RegionKind::Sort, &[given], &[], EXACT, |b, x| {
                    b.apply_multi(Prim::Sort { axis, descending }, &[&x[0]])
                });
            }
        }
        let mut shape = [30, 7, 40];
        shape[axis] = 11;
        shape[(axis + 1) % 3] += 2;
        let given = [Given::floats(&mut rng, &[30, 7, 40]), Given::below(&mut rng, &[30, 7, 40], 11)];
        check("scatter along", RegionKind::ScatterAddAlong, &given, &[], sums, |b, x| {
            vec![b.apply(Prim::ScatterAddAlong { axis, shape: shape.into() }, &[&x[0], &x[1]])]
        });
    }
}

#[test]
fn an_index_out_of_range_names_its_place() {
    let mut rng = Rng::named(25, "cpu/range");
    let mut given = [Given::floats(&mut rng, &[4, 3]), Given::below(&mut rng, &[6], 4)];
    given[1].words[5] = -7i32 as u32;
    given[1].words[3] = 4;
    let graph = body(&given, |b, x| vec![b.apply(Prim::Take, &[&x[0], &x[1]])]);
    match run(RegionKind::Take, &graph, &given, &[]) {
        Err(Error::Runtime { what, detail }) => {
            assert_eq!(what, "take");
            assert_eq!(detail, "index 4 at position 3 is out of range for a table of 4 entries");
        }
        other => panic!("{other:?}"),
    }
}
