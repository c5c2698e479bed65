//! Pointwise regions, reductions and products.

use super::{Bound, EXACT, Given, body, check, run};
use crate::dtype::DType;
use crate::ir::{Binary, Prim, ReduceOp, Unary};
use crate::plan::RegionKind::{Dot, Pointwise, Reduce};
use crate::rng::Rng;
use crate::shape::Shape;

/// One rounding and a little: f32 has a unit roundoff of 6e-8.
const FEW_ULPS: Bound = Bound { rel: 4e-7, abs: 1e-37 };

#[test]
fn unary_functions_agree_on_ordinary_and_extreme_values() {
    let mut rng = Rng::named(1, "cpu/unary");
    let mut words: Vec<u32> = (0..1500).map(|_| (rng.range(-20.0, 20.0) as f32).to_bits()).collect();
    for x in [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, f32::MAX, -f32::MAX, 88.8, 1e9] {
        words.push(x.to_bits());
    }
    let n = words.len();
    let g = Given { words, ..Given::floats(&mut rng, &[n]) };
    let ops = [Unary::Neg, Unary::Exp, Unary::Expm1, Unary::Log, Unary::Log1p, Unary::Sqrt, Unary::Recip, Unary::Sin];
    let more =
        [Unary::Cos, Unary::Tanh, Unary::Erf, Unary::Floor, Unary::Round, Unary::Sign, Unary::Abs, Unary::IsFinite];
    for op in ops.into_iter().chain(more) {
        check(&format!("{op:?}"), Pointwise, std::slice::from_ref(&g), &[], FEW_ULPS, |b, x| {
            vec![b.apply(Prim::Unary(op), &[&x[0]])]
        });
    }
}

#[test]
fn binary_functions_agree_for_all_types() {
    let mut rng = Rng::named(2, "cpu/binary");
    let floats = [Given::floats(&mut rng, &[7, 131]), Given::floats(&mut rng, &[7, 131])];
    let ints = [Given::below(&mut rng, &[913], 9), Given::below(&mut rng, &[913], 4)];
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Rem, Binary::Max, Binary::Min] {
        let f = |b: &crate::ir::Builder, x: &[crate::ir::Tensor]| vec![b.apply(Prim::Binary(op), &[&x[0], &x[1]])];
        check(&format!("{op:?} f32"), Pointwise, &floats, &[], Bound { rel: 2e-7, abs: 4e-7 }, f);
        check(&format!("{op:?} i32"), Pointwise, &ints, &[], EXACT, f);
        let unsigned = ints.clone().map(|g| g.of_type(DType::U32));
        check(&format!("{op:?} u32"), Pointwise, &unsigned, &[], EXACT, f);
    }
    for op in [Binary::Lt, Binary::Le, Binary::Eq] {
        let f = |b: &crate::ir::Builder, x: &[crate::ir::Tensor]| vec![b.apply(Prim::Binary(op), &[&x[0], &x[1]])];
        check(&format!("{op:?} f32"), Pointwise, &floats, &[], EXACT, f);
        check(&format!("{op:?} i32"), Pointwise, &ints, &[], EXACT, f);
    }
    check("pow", Pointwise, &floats, &[], FEW_ULPS, |_, x| vec![x[0].abs().pow(&x[1])]);
    check("casts", Pointwise, &floats, &[], EXACT, |_, x| {
        let i = x[0].cast(DType::I32);
        vec![i.clone(), x[0].cast(DType::Bool), i.cast(DType::F32), x[1].cast(DType::U32).cast(DType::F32)]
    });
}

#[test]
fn results_are_joined_in_rows() {
    let mut rng = Rng::named(35, "cpu/joined");
    for (shape, axis) in [([7, 131], 1), ([7, 131], 0), ([2000, 3], 1), ([1500, 1], 1), ([1, 3000], 1)] {
        let given = [Given::floats(&mut rng, &shape), Given::floats(&mut rng, &shape)];
        check("joined", Pointwise, &given, &[], FEW_ULPS, |b, x| {
            let (sum, product) = (&x[0] + &x[1], &x[0] * &x[1]);
            let rows = b.apply(Prim::Concat { axis }, &[&sum, &product, &x[0], &product]);
            let turned = [shape[1], shape[0]];
            let part = |x: &crate::ir::Tensor| b.apply(Prim::Reshape(turned.into()), &[x]);
            vec![b.apply(Prim::Concat { axis: 0 }, &[&part(&product), &part(&sum)]), sum.sign(), rows]
        });
    }
}

#[test]
fn chains_read_strided_broadcast_and_reversed_views() {
    let mut rng = Rng::named(3, "cpu/views");
    let shape = [3, 37, 65];
    let a = Given::floats(&mut rng, &[65, 37, 3]).seen(|v| v.permute(&[2, 1, 0]));
    let row = Given::floats(&mut rng, &[1, 1, 65]).seen(|v| v.broadcast(&Shape::from(shape)));
    let column = Given::floats(&mut rng, &[3, 37, 1]).seen(|v| v.broadcast(&Shape::from(shape)));
    let back = Given::floats(&mut rng, &shape).seen(|v| v.reverse(&[0, 2]));
    let sliced = Given::floats(&mut rng, &[3, 80, 140]).seen(|v| v.slice(&[0, 5, 3], &[3, 37, 65], &[1, 2, 2]));
    let one = Given::floats(&mut rng, &[1, 1, 1]).seen(|v| v.broadcast(&Shape::from(shape)));
    let given = [a, row, column, back, sliced, one];
    check("views", Pointwise, &given, &[], Bound { rel: 1e-6, abs: 4e-6 }, |_, x| {
        let y = &(&x[0] * &x[1]) + &x[2];
        let z = &(&y - &x[3]) * &(&x[5] * &x[5]).exp();
        vec![z.maximum(&x[4]), y, z.tanh()]
    });
}

#[test]
fn results_may_take_over_an_operands_memory() {
    let mut rng = Rng::named(4, "cpu/in place");
    let given = [Given::floats(&mut rng, &[40_000]), Given::floats(&mut rng, &[40_000])];
    // The second result reads what the first one overwrites.
    check("in place", Pointwise, &given, &[Some(0), None], Bound { rel: 3e-7, abs: 5e-7 }, |_, x| {
        vec![&x[0] + &x[1], &x[0] * &x[1]]
    });
    check("copy", Pointwise, &given, &[], EXACT, |_, x| vec![x[1].clone(), x[0].clone(), x[0].like(2.5)]);
    // Each result is the operand that the other one overwrites; then one keeps what it is.
    check("swap", Pointwise, &given, &[Some(0), Some(1)], EXACT, |_, x| vec![x[1].clone(), x[0].clone()]);
    check("keep", Pointwise, &given, &[Some(0), Some(1)], EXACT, |_, x| vec![x[0].clone(), x[0].clone()]);
    // As an optimizer's update, which happens or not: the last result is what the first one was.
    let mut ok = Given::below(&mut rng, &[1], 2).of_type(DType::Bool);
    for happens in [0, 1] {
        ok.words = vec![happens];
        let seen = ok.clone().seen(|v| v.broadcast(&Shape::from([40_000])));
        let given = [given[0].clone(), given[1].clone(), seen];
        let in_place = [Some(0), Some(1), None];
        check("update", Pointwise, &given, &in_place, Bound { rel: 3e-7, abs: 1e-6 }, |_, x| {
            let moment = &x[1] * 0.5 + &x[0];
            let new = &x[0] - &moment * 0.25;
            vec![x[2].select(&new, &x[0]), x[2].select(&moment, &x[1]), x[2].select(&(&x[0] * 3.0), &x[0])]
        });
        let given = [given[0].clone(), given[1].clone(), given[2].clone()];
        check("exchange", Pointwise, &given, &in_place, Bound { rel: 3e-7, abs: 1e-6 }, |_, x| {
            vec![x[2].select(&x[1], &x[0]), x[2].select(&x[0], &(&x[1] + 1.0)), x[2].select(&x[0], &x[1])]
        });
    }
}

#[test]
fn turned_operands_are_gathered_by_tiles() {
    let mut rng = Rng::named(14, "cpu/turned");
    for shape in [[300, 201], [9, 4000], [4000, 9], [40, 5001]] {
        let turned = Given::floats(&mut rng, &[shape[1], shape[0]]).seen(|v| v.permute(&[1, 0]));
        let part = Given::floats(&mut rng, &[shape[1], shape[0] + 7])
            .seen(|v| v.permute(&[1, 0]).slice(&[3, 0], &shape, &[1, 1]));
        let given = [Given::floats(&mut rng, &shape), turned, part];
        check("turned", Pointwise, &given, &[], EXACT, |_, x| vec![x[1].clone(), x[0].maximum(&x[2])]);
        check("turned in place", Pointwise, &given, &[Some(0)], EXACT, |_, x| vec![x[0].maximum(&x[1])]);
    }
}

#[test]
fn random_words_are_the_generators() {
    let mut rng = Rng::named(5, "cpu/random");
    let given = [Given::below(&mut rng, &[4], 1 << 20).of_type(DType::U32)];
    for n in [1usize, 5, 511, 1027] {
        check("random", Pointwise, &given, &[], EXACT, |b, x| {
            vec![b.apply(Prim::Random { stream: 77, shape: Shape::from([n]) }, &[&x[0]])]
        });
    }
}

#[test]
fn reductions_over_any_axes() {
    let mut rng = Rng::named(6, "cpu/reduce");
    let cases: [(&[usize], &[usize]); 14] = [
        (&[5], &[0]),
        (&[3000], &[0]),
        (&[70_001], &[0]),
        (&[37, 65], &[1]),
        (&[37, 1757], &[1]),
        (&[37, 65], &[0]),
        (&[700, 1100], &[0]),
        (&[4000, 3], &[0]),
        (&[4, 5, 6], &[0, 2]),
        (&[4, 33, 64], &[0, 2]),
        (&[4, 5, 6], &[1]),
        (&[3, 4, 5, 6], &[1, 3]),
        (&[3, 4, 5, 6], &[0, 2]),
        (&[2, 1, 3], &[]),
    ];
    for (shape, axes) in cases {
        let g = Given::floats(&mut rng, shape);
        let axes_of = axes.to_vec();
        // 32 lanes of f32 inside a block, f64 between: at most 32 additions in f32 per lane, terms below 2.
        let n: usize = axes.iter().map(|&a| shape[a]).product();
        let sum = Bound { rel: 1e-6, abs: 2e-6 * n as f64 };
        for op in [ReduceOp::Sum, ReduceOp::Max] {
            let bound = if op == ReduceOp::Max { EXACT } else { sum };
            let what = format!("{op:?} of {shape:?} over {axes:?}");
            check(&what, Reduce, std::slice::from_ref(&g), &[], bound, |b, x| {
                vec![b.apply(Prim::Reduce { op, axes: axes_of.clone() }, &[&x[0]])]
            });
        }
        check("prologue", Reduce, &[g.clone(), g.clone()], &[], Bound { abs: 4.0 * sum.abs, ..sum }, |b, x| {
            let y = &(&x[0] * &x[1]) + &x[0].exp();
            vec![b.apply(Prim::Reduce { op: ReduceOp::Sum, axes: axes_of.clone() }, &[&y])]
        });
        let i = Given::below(&mut rng, shape, 50);
        check("integers", Reduce, &[i], &[], EXACT, |b, x| {
            vec![b.apply(Prim::Reduce { op: ReduceOp::Sum, axes: axes_of.clone() }, &[&x[0]])]
        });
    }
    let small = Given::floats(&mut rng, &[6, 5]).seen(|v| v.permute(&[1, 0]));
    for axis in [0, 1] {
        check("prod", Reduce, std::slice::from_ref(&small), &[], FEW_ULPS, |b, x| {
            vec![b.apply(Prim::Reduce { op: ReduceOp::Prod, axes: vec![axis] }, &[&x[0]])]
        });
        check("none", Reduce, &[Given::floats(&mut rng, &[0, 0])], &[], EXACT, |b, x| {
            vec![b.apply(Prim::Reduce { op: ReduceOp::Max, axes: vec![axis] }, &[&x[0]])]
        });
    }
}

#[test]
fn a_full_reduction_may_go_in_memory_order() {
    let mut rng = Rng::named(11, "cpu/order");
    let turned = |rng: &mut Rng| Given::floats(rng, &[50, 7, 90]).seen(|v| v.permute(&[2, 0, 1]));
    let same = [turned(&mut rng), turned(&mut rng)];
    let other = [turned(&mut rng), Given::floats(&mut rng, &[90, 50, 7])];
    for given in [same, other] {
        check("all", Reduce, &given, &[], Bound { rel: 1e-6, abs: 1e-2 }, |b, x| {
            vec![b.apply(Prim::Reduce { op: ReduceOp::Sum, axes: vec![0, 1, 2] }, &[&(&x[0] * &x[1])])]
        });
    }
}

#[test]
fn maxima_keep_nan() {
    let mut rng = Rng::named(7, "cpu/nan");
    for axis in [0, 1] {
        let mut g = Given::floats(&mut rng, &[70, 70]);
        g.words[70 * 33 + 12] = f32::NAN.to_bits();
        check("nan", Reduce, &[g], &[], EXACT, |b, x| {
            vec![b.apply(Prim::Reduce { op: ReduceOp::Max, axes: vec![axis] }, &[&x[0]])]
        });
    }
}

#[test]
fn long_sums_do_not_lose_small_terms() {
    // One large term and many that f32 accumulation on top of it would swallow.
    let n = 1 << 20;
    let mut words = vec![1f32.to_bits(); n];
    words[0] = 3e7f32.to_bits();
    let mut rng = Rng::named(8, "cpu/long");
    let g = Given { words, ..Given::floats(&mut rng, &[n]) };
    let graph = body(std::slice::from_ref(&g), |b, x| {
        vec![b.apply(Prim::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[&x[0]])]
    });
    let got = f32::from_bits(run(Reduce, &graph, &[g], &[]).unwrap()[0][0]) as f64;
    let want = 3e7 + (n - 1) as f64;
    assert!((got - want).abs() <= 40.0, "{got} for {want}");
}

/// |error| <= k * 2^-23 * sum |a b|, with all |a|, |b| <= 2.
fn product_bound(k: usize) -> Bound {
    Bound { rel: 1e-6, abs: 1.2e-7 * (k as f64) * (k as f64).sqrt() * 4.0 + 1e-7 }
}

#[test]
fn products_of_odd_shapes_and_strides() {
    let mut rng = Rng::named(9, "cpu/dot");
    for (m, k, n) in
        [(1, 1, 1), (3, 5, 7), (64, 64, 10), (33, 65, 1), (1, 257, 63), (65, 128, 129), (2, 0, 3), (200, 150, 170)]
    {
        let plain = [Given::floats(&mut rng, &[m, k]), Given::floats(&mut rng, &[k, n])];
        let turned = [
            Given::floats(&mut rng, &[k, m]).seen(|v| v.permute(&[1, 0])),
            Given::floats(&mut rng, &[n, k]).seen(|v| v.permute(&[1, 0])),
        ];
        let reversed = plain.clone().map(|g| g.seen(|v| v.reverse(&[0])));
        for given in [plain, turned, reversed] {
            check(&format!("{m}x{k}x{n}"), Dot, &given, &[], product_bound(k), |b, x| {
                vec![b.apply(Prim::Dot, &[&x[0], &x[1]])]
            });
        }
    }
}

#[test]
fn products_in_batches_with_broadcast_and_epilogue() {
    let mut rng = Rng::named(10, "cpu/batch");
    let (p, q, m, k, n) = (3, 4, 9, 17, 33);
    let full = Given::floats(&mut rng, &[p, q, m, k]);
    let one = Given::floats(&mut rng, &[1, 1, k, n]).seen(|v| v.broadcast(&Shape::from([p, q, k, n])));
    let half =
        Given::floats(&mut rng, &[p, 1, n, k]).seen(|v| v.broadcast(&Shape::from([p, q, n, k])).permute(&[0, 1, 3, 2]));
    let bias = Given::floats(&mut rng, &[1, 1, 1, n]).seen(|v| v.broadcast(&Shape::from([p, q, m, n])));
    let residual = Given::floats(&mut rng, &[p, q, m, n]);
    for rhs in [one, half] {
        let given = [full.clone(), rhs, bias.clone(), residual.clone()];
        for in_place in [None, Some(3)] {
            check("epilogue", Dot, &given, &[in_place], product_bound(k), |b, x| {
                let y = &b.apply(Prim::Dot, &[&x[0], &x[1]]) + &x[2];
                vec![&y.maximum(&y.like(0.0)) + &x[3]]
            });
        }
    }
    let turned = Given::floats(&mut rng, &[m, p, k]).seen(|v| v.permute(&[1, 0, 2]));
    let given = [turned, Given::floats(&mut rng, &[p, k, n])];
    check("heads", Dot, &given, &[], product_bound(k), |b, x| vec![b.apply(Prim::Dot, &[&x[0], &x[1]])]);
}
