//! Indexed reads and writes, with repeated and missing indices.

use crate::check::case::{Case, Gen};
use crate::ir::Prim;

fn unit() -> Gen {
    Gen::Normal(0.0, 1.0)
}

pub(super) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for [rows, width, n] in [[1, 1, 1], [7, 3, 65], [65, 64, 33], [257, 5, 3], [5, 65, 257]] {
        let size = format!("{rows}x{width}x{n}");
        out.push(
            Case::one(format!("take/{size}"), |t| t[0].take(&t[1]))
                .f32([rows, width], unit())
                .i32([n], Gen::Int(0, rows as i32))
                .grad(),
        );
        out.push(
            Case::new(format!("scatter_add/{size}"), move |b, t| {
                vec![b.apply(Prim::ScatterAdd { rows }, &[&t[0], &t[1]])]
            })
            .f32([n, width], unit())
            .i32([n], Gen::Int(0, rows as i32))
            .grad(),
        );
    }
    out.push(Case::one("take/shaped", |t| t[0].take(&t[1])).f32([9, 2, 3], unit()).i32([2, 5], Gen::Int(0, 9)).grad());
    out.push(Case::one("take/vector", |t| t[0].take(&t[1])).f32([9], unit()).i32([65], Gen::Int(0, 9)).grad());
    out.push(Case::one("take/none", |t| t[0].take(&t[1])).f32([9, 3], unit()).i32([0], Gen::Int(0, 9)).grad());
    for (axis, full, part) in [(0, [5, 33], [65, 33]), (1, [33, 5], [33, 65]), (1, [9, 7], [4, 3])] {
        let size = format!("axis{axis}/{}x{}", part[0], part[1]);
        let top = full[axis] as i32;
        out.push(
            Case::one(format!("take_along/{size}"), move |t| t[0].gather(axis as isize, &t[1]))
                .f32(full, unit())
                .i32(part, Gen::Int(0, top))
                .grad(),
        );
        out.push(
            Case::new(format!("scatter_add_along/{size}"), move |b, t| {
                vec![b.apply(Prim::ScatterAddAlong { axis, shape: full.into() }, &[&t[0], &t[1]])]
            })
            .f32(part, unit())
            .i32(part, Gen::Int(0, top))
            .grad(),
        );
    }
    out
}
