//! Sample regions of the kernels in this directory: small, odd shapes that together reach every text and variant. Shader
//! tests make their texts, device tests run them against the reference.

use crate::dtype::{DType, Scalar};
use crate::ir::{Binary, Builder, OutputKind, Prim, ReduceOp, Tensor, Unary};
use crate::plan::{Operand, Region, RegionKind, SlotId, Source, Target};
use crate::shape::View;

/// A region of this body on dense arguments in slots of their own.
pub fn region(
    kind: RegionKind,
    inputs: &[(DType, &[usize])],
    f: impl Fn(&Builder, &[Tensor]) -> Vec<Tensor>,
) -> Region {
    let b = Builder::new();
    let args: Vec<Tensor> = inputs.iter().enumerate().map(|(i, (d, s))| b.feed(format!("{i}"), *d, *s)).collect();
    let outs = f(&b, &args);
    for (i, t) in outs.iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, t);
    }
    let target = |(i, t): (usize, &Tensor)| Target { slot: SlotId((inputs.len() + i) as u32), ty: t.ty().clone() };
    let operand = |(i, t): (usize, &Tensor)| Operand {
        source: Source::Slot(SlotId(i as u32)),
        view: View::contiguous(t.shape()),
        dtype: t.dtype(),
    };
    Region {
        kind,
        args: args.iter().enumerate().map(operand).collect(),
        outs: outs.iter().enumerate().map(target).collect(),
        in_place: vec![None; outs.len()],
        // A sample that does not build is empty, which the tests over samples notice.
        body: b.build().unwrap_or_default(),
    }
}

/// The region with another view of argument `arg`.
pub fn viewed(mut region: Region, arg: usize, view: View) -> Region {
    region.args[arg].view = view;
    region
}

const F: DType = DType::F32;

fn map(inputs: &[(DType, &[usize])], f: impl Fn(&Builder, &[Tensor]) -> Vec<Tensor>) -> Region {
    region(RegionKind::Pointwise, inputs, f)
}

fn apply(prim: Prim, args: &[&Tensor]) -> Tensor {
    args[0].builder().apply(prim, args)
}

pub(super) fn pointwise() -> Vec<Region> {
    let mut all = Vec::new();
    use Unary::*;
    for u in [Neg, Exp, Expm1, Log, Log1p, Sqrt, Recip, Sin, Cos, Tanh, Erf, Floor, Round, Sign, Abs] {
        all.push(map(&[(F, &[301])], |_, a| vec![apply(Prim::Unary(u), &[&a[0]])]));
    }
    all.push(map(&[(F, &[7])], |_, a| {
        let finite = apply(Prim::Unary(IsFinite), &[&a[0]]);
        vec![apply(Prim::Unary(Not), &[&finite]), finite]
    }));
    for u in [Neg, Sign, Abs] {
        all.push(map(&[(DType::I32, &[9])], |_, a| vec![apply(Prim::Unary(u), &[&a[0]])]));
    }
    use Binary::*;
    for b in [Add, Sub, Mul, Div, Rem, Pow, Max, Min, Lt, Le, Eq] {
        for d in [F, DType::I32, DType::U32] {
            if b != Pow || d == F {
                all.push(map(&[(d, &[5, 13]), (d, &[5, 13])], |_, a| vec![apply(Prim::Binary(b), &[&a[0], &a[1]])]));
            }
        }
    }
    // One element for each row of eight.
    let rows = map(&[(F, &[24, 8]), (F, &[24, 8])], |_, a| vec![apply(Prim::Binary(Sub), &[&a[0], &a[1]])]);
    all.push(viewed(rows, 1, View::contiguous(&[24, 1].into()).broadcast(&[24, 8].into())));
    let bools: &[(DType, &[usize])] = &[(DType::Bool, &[8]), (DType::Bool, &[8])];
    all.push(map(bools, |_, a| {
        vec![apply(Prim::Binary(And), &[&a[0], &a[1]]), apply(Prim::Binary(Or), &[&a[0], &a[1]])]
    }));
    for from in [F, DType::I32, DType::U32, DType::Bool] {
        all.push(map(&[(from, &[6])], |_, a| {
            [F, DType::I32, DType::U32, DType::Bool].iter().map(|&d| apply(Prim::Cast(d), &[&a[0]])).collect()
        }));
    }
    // f16: conversions from and to it in odd and even numbers, computing between, with other types beside it.
    for n in [7, 64] {
        all.push(map(&[(F, &[n])], |_, a| vec![a[0].cast(DType::F16)]));
        all.push(map(&[(DType::F16, &[n])], |_, a| vec![a[0].cast(F), a[0].cast(DType::I32)]));
        all.push(map(&[(DType::F16, &[n]), (F, &[n])], |_, a| {
            let y = a[0].cast(F) * &a[1] + 0.5;
            vec![y.cast(DType::F16), y]
        }));
        all.push(map(&[(DType::I32, &[n])], |_, a| vec![a[0].cast(DType::F16)]));
    }
    all.push(map(&[(DType::Bool, &[4, 5]), (F, &[4, 5])], |b, a| {
        let c = b.constant(Scalar::F32(f64::NEG_INFINITY)).broadcast_to([4, 5]);
        vec![apply(Prim::Select, &[&a[0], &a[1], &c])]
    }));
    let add = |n: &[usize]| {
        map(&[(F, n), (F, n)], |_, a| {
            vec![apply(Prim::Binary(Add), &[&a[0], &a[1]]), apply(Prim::Binary(Sub), &[&a[0], &a[1]])]
        })
    };
    // A row and a column repeated, transposed, sliced and reversed, a scalar, an offset.
    let row = View::contiguous(&[1, 8].into()).broadcast(&[6, 8].into());
    let column = View::contiguous(&[6, 1].into()).broadcast(&[6, 8].into());
    let one = View::contiguous(&[1, 1].into()).broadcast(&[6, 8].into());
    let turned = View::contiguous(&[8, 6].into()).permute(&[1, 0]);
    let sliced = View::contiguous(&[9, 20].into()).slice(&[2, 3], &[6, 8], &[1, 2]).reverse(&[1]);
    let shifted = View { offset: 3, ..View::contiguous(&[6, 8].into()) };
    for v in [row, column, one, turned, sliced, shifted] {
        all.push(viewed(add(&[6, 8]), 1, v));
    }
    let deep = View::contiguous(&[3, 2, 4, 2, 5].into()).permute(&[4, 2, 0, 3, 1]);
    all.push(viewed(add(&[5, 4, 3, 2, 2]), 0, deep));
    // In place, with the type changed too.
    let mut same = add(&[37]);
    same.outs[0].slot = same.args[0].source_slot();
    same.in_place[0] = Some(0);
    all.push(same);
    let mut cast = map(&[(F, &[10])], |_, a| vec![apply(Prim::Cast(DType::I32), &[&a[0]])]);
    cast.outs[0].slot = cast.args[0].source_slot();
    cast.in_place[0] = Some(0);
    all.push(cast);
    // Results joined in columns, in rows, more of them than have their run in `Params`, and beside one that is not.
    let joined = |n: &[usize], axes: &[usize]| {
        map(&[(F, n), (F, n)], |b, a| {
            let (sum, product) = (apply(Prim::Binary(Add), &[&a[0], &a[1]]), apply(Prim::Binary(Mul), &[&a[0], &a[1]]));
            let mut outs = vec![sum.clone()];
            outs.extend(axes.iter().map(|&axis| b.apply(Prim::Concat { axis }, &[&product, &sum, &a[1]])));
            outs
        })
    };
    all.push(joined(&[6, 8], &[1]));
    all.push(joined(&[6, 7], &[1, 0]));
    all.push(joined(&[3, 4, 12], &[2, 1, 0, 2]));
    all.push(map(&[(F, &[5, 6])], |b, a| {
        let less = apply(Prim::Binary(Lt), &[&a[0], &apply(Prim::Unary(Sin), &[&a[0]])]);
        let finite = apply(Prim::Unary(IsFinite), &[&a[0]]);
        let part = |x: &Tensor| b.apply(Prim::Reshape([5, 2, 3].into()), &[x]);
        vec![b.apply(Prim::Concat { axis: 1 }, &[&part(&less), &part(&finite)])]
    }));
    // Positions, and random words.
    let mut iota =
        map(&[(DType::I32, &[4, 8]), (DType::I32, &[4, 8])], |_, a| vec![apply(Prim::Binary(Add), &[&a[0], &a[1]])]);
    iota.args[0].source = Source::Iota;
    iota.args[0].view = View { offset: 1, ..View::contiguous(&[8, 4].into()).permute(&[1, 0]) };
    all.push(iota.clone());
    iota.args[0].view = View::contiguous(&[4, 8].into());
    all.push(iota);
    for n in [101usize, 128] {
        all.push(map(&[(DType::U32, &[4]), (DType::U32, &[n])], |b, a| {
            let r = b.apply(Prim::Random { stream: 77, shape: [n].into() }, &[&a[0]]);
            vec![apply(Prim::Binary(Max), &[&r, &a[1]])]
        }));
    }
    all
}

impl Operand {
    /// The slot of an operand that has one (slot 0 otherwise).
    fn source_slot(&self) -> SlotId {
        match self.source {
            Source::Slot(s) => s,
            Source::Iota => SlotId(0),
        }
    }
}

fn fold(op: ReduceOp, d: DType, shape: &[usize], axes: &[usize]) -> Region {
    region(RegionKind::Reduce, &[(d, shape)], |_, a| vec![apply(Prim::Reduce { op, axes: axes.to_vec() }, &[&a[0]])])
}

pub(super) fn reduce() -> Vec<Region> {
    let mut all = Vec::new();
    for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Prod] {
        for d in [F, DType::I32, DType::U32] {
            all.push(fold(op, d, &[5, 13], &[1]));
        }
    }
    for (shape, axes) in [
        (&[3, 2000][..], &[1][..]),
        (&[700, 33], &[0]),
        (&[40_003], &[0]),
        (&[4, 5, 6, 7], &[0, 2]),
        (&[4, 5, 6, 7], &[1, 3]),
        (&[2, 0, 3], &[1]),
        (&[1, 1], &[0]),
        (&[7, 300, 5], &[1]),
        // Four at a time: neighbours in chunks, in two dimensions, across rows in strips of one, two and four quads and in chunks.
        (&[40_004], &[0]),
        (&[40_008], &[0]),
        (&[6, 3, 8], &[0, 2]),
        (&[9, 12], &[0]),
        (&[5, 7, 24], &[1]),
        (&[1030, 64], &[0]),
        (&[7, 40], &[0]),
    ] {
        all.push(fold(ReduceOp::Sum, F, shape, axes));
        all.push(fold(ReduceOp::Max, F, shape, axes));
    }
    // A prologue on a repeated operand, on positions and on random words.
    let dot = |n: &[usize], axis: usize| {
        region(RegionKind::Reduce, &[(F, n), (F, n)], |_, a| {
            let x = apply(Prim::Binary(Binary::Mul), &[&a[0], &a[1]]);
            vec![apply(Prim::Reduce { op: ReduceOp::Sum, axes: vec![axis] }, &[&x])]
        })
    };
    all.push(viewed(dot(&[6, 70], 1), 1, View::contiguous(&[1, 70].into()).broadcast(&[6, 70].into())));
    all.push(viewed(dot(&[6, 70], 0), 0, View::contiguous(&[70, 6].into()).permute(&[1, 0])));
    all.push(viewed(dot(&[6, 72], 1), 1, View::contiguous(&[1, 72].into()).broadcast(&[6, 72].into())));
    all.push(viewed(dot(&[6, 72], 0), 1, View::contiguous(&[6, 1].into()).broadcast(&[6, 72].into())));
    all.push(viewed(dot(&[24, 72], 1), 1, View::contiguous(&[24, 1].into()).broadcast(&[24, 72].into())));
    // Prologues too long to be repeated, over more elements than lie in one chunk.
    for n in [8188, 8191] {
        all.push(region(RegionKind::Reduce, &[(F, &[n])], |_, a| {
            let x = (0..6).fold(a[0].clone(), |x, _| (x + 1.0) * 0.5);
            vec![apply(Prim::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[&x])]
        }));
    }
    let mut iota = fold(ReduceOp::Sum, DType::I32, &[6, 9], &[0]);
    iota.args[0].source = Source::Iota;
    all.push(iota);
    all.push(region(RegionKind::Reduce, &[(DType::U32, &[4])], |b, a| {
        let r = b.apply(Prim::Random { stream: 5, shape: [6, 9].into() }, &[&a[0]]);
        vec![apply(Prim::Reduce { op: ReduceOp::Max, axes: vec![0] }, &[&r])]
    }));
    all
}

pub(super) fn argmax() -> Vec<Region> {
    let of = |d: DType, shape: &[usize], axis: usize| {
        region(RegionKind::ArgMax, &[(d, shape)], |_, a| vec![apply(Prim::ArgMax { axis }, &[&a[0]])])
    };
    vec![
        of(F, &[5, 13], 1),
        of(F, &[3, 700], 1),
        of(F, &[6, 4, 5], 0),
        of(DType::I32, &[3, 9, 2], 1),
        of(DType::U32, &[11], 0),
    ]
}

pub(super) fn pad() -> Vec<Region> {
    let of = |shape: &[usize], lo: &[i64], hi: &[i64], interior: &[usize], value: f64| {
        region(RegionKind::Pad, &[(F, shape)], |_, a| {
            let (lo, hi, interior) = (lo.to_vec(), hi.to_vec(), interior.to_vec());
            vec![apply(Prim::Pad { lo, hi, interior, value: Scalar::F32(value) }, &[&a[0]])]
        })
    };
    let turned = View::contiguous(&[4, 3].into()).permute(&[1, 0]);
    vec![
        of(&[3, 4], &[1, 2], &[0, 3], &[0, 0], 0.0),
        of(&[3, 4], &[-1, 2], &[1, -2], &[2, 1], f64::NEG_INFINITY),
        viewed(of(&[3, 4], &[2, 0], &[0, 1], &[0, 2], 7.5), 0, turned),
    ]
}

pub(super) fn concat() -> Vec<Region> {
    let of = |shapes: &[(DType, &[usize])], axis: usize| {
        region(RegionKind::Concat, shapes, |b, a| vec![b.apply(Prim::Concat { axis }, &a.iter().collect::<Vec<_>>())])
    };
    let turned = View::contiguous(&[7, 3].into()).permute(&[1, 0]);
    let rows_from_the_second = View { shape: [3, 4].into(), strides: vec![4, 1], offset: 4 };
    vec![
        of(&[(F, &[3, 4]), (F, &[3, 7]), (F, &[3, 1])], 1),
        viewed(of(&[(F, &[2, 7]), (F, &[3, 7])], 0), 1, turned),
        of(&[(DType::I32, &[2, 0, 3]), (DType::I32, &[2, 2, 3])], 1),
        // By fours: rows of them, a view with rows apart, and one that begins at the second row.
        of(&[(F, &[3, 4]), (F, &[3, 12]), (F, &[3, 8])], 1),
        viewed(of(&[(F, &[2, 3, 8]), (F, &[2, 3, 4])], 2), 0, View::contiguous(&[3, 2, 8].into()).permute(&[1, 0, 2])),
        viewed(of(&[(F, &[5, 4]), (F, &[3, 4])], 0), 1, rows_from_the_second),
        // By eights.
        of(&[(F, &[3, 8]), (F, &[3, 24]), (F, &[3, 16])], 1),
    ]
}

pub(super) fn cumsum() -> Vec<Region> {
    let of = |d: DType, shape: &[usize], axis: usize| {
        region(RegionKind::CumSum, &[(d, shape)], |_, a| vec![apply(Prim::CumSum { axis }, &[&a[0]])])
    };
    vec![of(F, &[5, 13], 1), of(F, &[3, 1000], 1), of(F, &[4, 300, 3], 1), of(DType::I32, &[9, 2], 0)]
}

pub(super) fn sort() -> Vec<Region> {
    let of = |d: DType, shape: &[usize], axis: usize, descending: bool| {
        region(RegionKind::Sort, &[(d, shape)], |b, a| b.apply_multi(Prim::Sort { axis, descending }, &[&a[0]]))
    };
    vec![
        of(F, &[5, 13], 1, false),
        of(F, &[3, 301], 1, true),
        of(DType::I32, &[200, 3], 0, false),
        of(DType::I32, &[200, 3], 0, true),
        of(DType::U32, &[33], 0, true),
        of(DType::Bool, &[2, 70], 1, false),
    ]
}

pub(super) fn take() -> Vec<Region> {
    let of = |d: DType, table: &[usize], n: usize| {
        region(RegionKind::Take, &[(d, table), (DType::I32, &[n])], |_, a| vec![apply(Prim::Take, &[&a[0], &a[1]])])
    };
    let other = View::contiguous(&[9].into()).slice(&[1], &[4], &[2]);
    vec![of(F, &[10, 8], 7), of(F, &[10, 5], 70), of(DType::I32, &[6], 3), viewed(of(F, &[5, 3, 2], 4), 1, other)]
}

pub(super) fn scatter_add() -> Vec<Region> {
    let of = |d: DType, src: &[usize], rows: usize| {
        region(RegionKind::ScatterAdd, &[(d, src), (DType::I32, &src[..1])], |_, a| {
            vec![apply(Prim::ScatterAdd { rows }, &[&a[0], &a[1]])]
        })
    };
    vec![of(F, &[7, 8], 10), of(F, &[150, 3], 9), of(DType::I32, &[40], 6), of(F, &[0, 4], 3), of(F, &[1, 4], 3)]
}

fn along(shape: &'static [usize], index: &'static [usize], axis: usize, scatter: bool) -> Region {
    if scatter {
        return region(RegionKind::ScatterAddAlong, &[(F, index), (DType::I32, index)], |_, a| {
            vec![apply(Prim::ScatterAddAlong { axis, shape: shape.into() }, &[&a[0], &a[1]])]
        });
    }
    region(RegionKind::TakeAlong, &[(F, shape), (DType::I32, index)], |_, a| {
        vec![apply(Prim::TakeAlong { axis }, &[&a[0], &a[1]])]
    })
}

pub(super) fn take_along() -> Vec<Region> {
    let turned = View::contiguous(&[7, 5].into()).permute(&[1, 0]);
    vec![
        along(&[5, 7], &[5, 1], 1, false),
        viewed(along(&[5, 7], &[5, 3], 1, false), 0, turned),
        along(&[4, 6, 3], &[3, 9, 2], 1, false),
    ]
}

pub(super) fn scatter_add_along() -> Vec<Region> {
    vec![along(&[5, 7], &[5, 1], 1, true), along(&[5, 7], &[5, 12], 1, true), along(&[4, 6, 3], &[3, 9, 2], 1, true)]
}

/// The region with its slots counted from `base` on.
fn moved(mut region: Region, base: u32) -> Region {
    for arg in &mut region.args {
        if let Source::Slot(s) = &mut arg.source {
            s.0 += base;
        }
    }
    region.outs.iter_mut().for_each(|o| o.slot.0 += base);
    region
}

/// The region with its arguments and results in these slots.
fn in_slots(mut region: Region, args: &[u32], outs: &[u32]) -> Region {
    for (arg, &s) in region.args.iter_mut().zip(args) {
        arg.source = Source::Slot(SlotId(s));
    }
    for (out, &s) in region.outs.iter_mut().zip(outs) {
        out.slot = SlotId(s);
    }
    region
}

/// Regions to run one after the other: some that need each other's results, and the samples of the kernels that chains replace,
/// five at a time.
pub fn chains() -> Vec<Vec<Region>> {
    let add = |n: &[usize], d: DType| {
        map(&[(d, n), (F, n)], |_, a| vec![apply(Prim::Binary(Binary::Add), &[&apply(Prim::Cast(F), &[&a[0]]), &a[1]])])
    };
    let square = region(RegionKind::Reduce, &[(F, &[6, 20])], |_, a| {
        let x = apply(Prim::Binary(Binary::Mul), &[&a[0], &a[0]]);
        vec![apply(Prim::Reduce { op: ReduceOp::Sum, axes: vec![0, 1] }, &[&x])]
    });
    let root = map(&[(F, &[1])], |_, a| vec![apply(Prim::Unary(Unary::Sqrt), &[&a[0]])]);
    let mut scaled =
        map(&[(F, &[6, 20]), (F, &[6, 20])], |_, a| vec![apply(Prim::Binary(Binary::Mul), &[&a[0], &a[1]])]);
    scaled.in_place[0] = Some(0);
    let scaled = viewed(scaled, 1, View::contiguous(&[1, 1].into()).broadcast(&[6, 20].into()));
    let columns = fold(ReduceOp::Sum, F, &[6, 20], &[0]);
    let shifted = View { offset: 7, ..View::contiguous(&[6, 20].into()) };
    let join = region(RegionKind::Concat, &[(F, &[2, 10]), (F, &[2, 1]), (F, &[2, 3])], |b, a| {
        vec![b.apply(Prim::Concat { axis: 1 }, &[&a[0], &a[1], &a[2]])]
    });
    let turned = View::contiguous(&[10, 2].into()).permute(&[1, 0]);
    let mut all = vec![
        vec![
            in_slots(add(&[6, 20], DType::I32), &[0, 1], &[2]),
            in_slots(viewed(columns.clone(), 0, shifted), &[3], &[4]),
            in_slots(columns, &[2], &[5]),
            in_slots(square, &[2], &[6]),
            in_slots(root.clone(), &[6], &[7]),
            in_slots(scaled, &[2, 7], &[2]),
            in_slots(viewed(join.clone(), 0, turned.clone()), &[5, 8, 9], &[10]),
            // What an earlier one read is overwritten.
            in_slots(add(&[6, 20], DType::I32), &[0, 2], &[1]),
        ],
        vec![
            in_slots(fold(ReduceOp::Sum, F, &[70], &[0]), &[0], &[1]),
            in_slots(fold(ReduceOp::Sum, F, &[20, 30], &[1]), &[2], &[3]),
            in_slots(fold(ReduceOp::Max, DType::I32, &[2, 90], &[1]), &[4], &[5]),
        ],
        vec![in_slots(root, &[0], &[1]), in_slots(viewed(join, 0, turned), &[2, 3, 4], &[5])],
    ];
    let few = |r: &Region| {
        let half = r.body.nodes.iter().any(|n| n.types.iter().any(|t| t.dtype == DType::F16));
        let joins = r.kind == RegionKind::Pointwise && (0..r.outs.len()).any(|o| r.written(o).pieces.len() > 1);
        let size = r.args.iter().map(|a| a.view.shape.elems()).max().unwrap_or(0);
        !half && !joins && (1..1000).contains(&size)
    };
    let small: Vec<Region> = pointwise().into_iter().chain(reduce()).chain(concat()).filter(few).collect();
    all.extend(small.chunks(5).map(|five| (0..).zip(five).map(|(i, r)| moved(r.clone(), 50 * i)).collect()));
    all
}

/// This many elements of one slot, negated, in another.
#[cfg(test)]
pub(crate) fn negated(n: usize, from: u32, to: u32) -> Region {
    in_slots(map(&[(F, &[n])], |_, a| vec![apply(Prim::Unary(Unary::Neg), &[&a[0]])]), &[from], &[to])
}

/// The sum of two slots of so many elements in another one; in place of the first where that is the same.
#[cfg(test)]
pub(super) fn added(n: usize, from: [u32; 2], to: u32) -> Region {
    let add = map(&[(F, &[n]), (F, &[n])], |_, a| vec![apply(Prim::Binary(Binary::Add), &[&a[0], &a[1]])]);
    let mut region = in_slots(add, &from, &[to]);
    region.in_place[0] = (from[0] == to).then_some(0);
    region
}

/// The product of two square matrices.
#[cfg(test)]
pub(in crate::backend::gpu) fn product(n: usize) -> Region {
    let square = crate::ir::Type::new(F, [n, n]);
    let dot = |_: &Builder, x: &[Tensor]| vec![apply(Prim::Dot, &[&x[0], &x[1]])];
    super::sample::region(RegionKind::Dot, &[square.clone(), square], dot)
}
