//! Hand-worked results of the reference: the bottom of the order of trust.

use super::{Array, Precision, Values, eval};
use crate::dtype::{DType, Scalar};
use crate::ir::{Builder, ConvDims, OutputKind, Prim, Tensor};

/// Evaluates `f` on float vectors in f64.
fn run(inputs: &[(&[usize], &[f64])], f: impl Fn(&Builder, &[Tensor]) -> Vec<Tensor>) -> Vec<Array> {
    let b = Builder::new();
    let tensors: Vec<Tensor> =
        inputs.iter().enumerate().map(|(i, (s, _))| b.feed(format!("{i}"), DType::F32, *s)).collect();
    for (i, t) in f(&b, &tensors).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, t);
    }
    let arrays: Vec<Array> = inputs.iter().map(|(s, v)| Array::floats(*s, v.to_vec())).collect();
    eval(&b.build().unwrap(), &arrays, Precision::F64).unwrap()
}

fn one(inputs: &[(&[usize], &[f64])], f: impl Fn(&[Tensor]) -> Tensor) -> Vec<f64> {
    run(inputs, |_, t| vec![f(t)]).remove(0).to_f64()
}

#[test]
fn elementwise_edges() {
    let nan = f64::NAN;
    let x: (&[usize], &[f64]) = (&[6], &[-2.5, -0.5, 0.5, 1.5, 2.5, 7.0]);
    assert_eq!(one(&[x], |t| t[0].round()), [-2.0, -0.0, 0.0, 2.0, 2.0, 7.0]);
    assert_eq!(one(&[x], |t| t[0].rem(&t[0].like(-3.0))), [-2.5, -0.5, -2.5, -1.5, -0.5, -2.0]);
    assert_eq!(one(&[x], |t| t[0].sign()), [-1.0, -1.0, 1.0, 1.0, 1.0, 1.0]);
    let ab: [(&[usize], &[f64]); 2] = [(&[3], &[nan, 1.0, 2.0]), (&[3], &[1.0, nan, 1.0])];
    let max = one(&ab, |t| t[0].maximum(&t[1]));
    assert!(max[0].is_nan() && max[1].is_nan() && max[2] == 2.0);
    let min = one(&ab, |t| t[0].minimum(&t[1]));
    assert!(min[0].is_nan() && min[1].is_nan() && min[2] == 1.0);
    assert_eq!(
        one(&[(&[4], &[nan, 3e9, -3e9, -1.9])], |t| t[0].cast(DType::I32)),
        [0.0, f64::from(i32::MAX), f64::from(i32::MIN), -1.0]
    );
    // erf(0.5) and erf(2) to 17 digits (tables).
    let erf = one(&[(&[2], &[0.5, 2.0])], |t| t[0].erf());
    assert!((erf[0] - 0.520_499_877_813_046_5).abs() < 2e-16 && (erf[1] - 0.995_322_265_018_952_7).abs() < 2e-16);
}

#[test]
fn integers_divide_as_documented() {
    let b = Builder::new();
    let (x, y) = (b.feed("x", DType::I32, [5]), b.feed("y", DType::I32, [5]));
    b.output("div", OutputKind::Fetch, &(&x / &y));
    b.output("rem", OutputKind::Fetch, &x.rem(&y));
    let int = |v: &[i32]| Array { shape: [5].into(), data: Values::I(v.to_vec()) };
    let outs = eval(&b.build().unwrap(), &[int(&[7, -7, 7, 5, i32::MIN]), int(&[2, 2, -2, 0, -1])], Precision::F32);
    let outs = outs.unwrap();
    assert_eq!(outs[0], int(&[3, -3, -3, 0, i32::MIN]));
    assert_eq!(outs[1], int(&[1, 1, -1, 0, 0]));
}

#[test]
fn movement() {
    let x: (&[usize], &[f64]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(one(&[x], |t| t[0].t()), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(one(&[x], |t| t[0].flip(&[1])), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    assert_eq!(one(&[x], |t| t[0].slice(vec![1, 0], vec![1, 2], vec![1, 2])), [4.0, 6.0]);
    let padded = one(&[(&[3], &[1.0, 2.0, 3.0])], |t| t[0].pad_interior(&[1], &[-1], &[1], 9.0));
    assert_eq!(padded, [9.0, 1.0, 9.0, 2.0, 9.0]);
    let cropped = one(&[(&[3], &[1.0, 2.0, 3.0])], |t| t[0].pad_interior(&[-1], &[1], &[1], 9.0));
    assert_eq!(cropped, [9.0, 2.0, 9.0, 3.0, 9.0]);
    let joined = one(&[(&[2, 1], &[1.0, 2.0]), x], |t| Tensor::cat(&[&t[0], &t[1]], 1));
    assert_eq!(joined, [1.0, 1.0, 2.0, 3.0, 2.0, 4.0, 5.0, 6.0]);
    assert_eq!(one(&[(&[2, 1], &[1.0, 2.0])], |t| t[0].broadcast_to([2, 2])), [1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn reductions_sorting_and_scans() {
    let x: (&[usize], &[f64]) = (&[2, 3], &[1.0, 3.0, 3.0, f64::NAN, 5.0, 4.0]);
    let max = one(&[x], |t| t[0].amax(&[1], false));
    assert!(max[0] == 3.0 && max[1].is_nan());
    assert_eq!(one(&[x], |t| t[0].argmax(1, false)), [1.0, 0.0]);
    let y: (&[usize], &[f64]) = (&[2, 3], &[1.0, 3.0, 2.0, 4.0, 5.0, 4.0]);
    assert_eq!(one(&[y], |t| t[0].sum(&[0], false)), [5.0, 8.0, 6.0]);
    assert_eq!(one(&[y], |t| t[0].prod(&[1], false)), [6.0, 80.0]);
    assert_eq!(one(&[y], |t| t[0].cumsum(1)), [1.0, 4.0, 6.0, 4.0, 9.0, 13.0]);
    let sorted = run(&[y], |b, t| b.apply_multi(Prim::Sort { axis: 1, descending: true }, &[&t[0]]));
    assert_eq!(sorted[0].to_f64(), [3.0, 2.0, 1.0, 5.0, 4.0, 4.0]);
    assert_eq!(sorted[1].data, Values::I(vec![1, 2, 0, 1, 0, 2]));
    let nan = run(&[(&[3], &[f64::NAN, 1.0, 2.0])], |b, t| {
        b.apply_multi(Prim::Sort { axis: 0, descending: false }, &[&t[0]])
    });
    assert_eq!(nan[1].data, Values::I(vec![1, 2, 0]));
    assert_eq!(one(&[(&[2, 0], &[])], |t| t[0].amax(&[1], false)), [f64::NEG_INFINITY; 2]);
    assert_eq!(one(&[(&[2, 0], &[])], |t| t[0].sum(&[1], false)), [0.0; 2]);
}

#[test]
fn products() {
    let a: (&[usize], &[f64]) = (&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let b: (&[usize], &[f64]) = (&[2, 2], &[5.0, 6.0, 7.0, 8.0]);
    assert_eq!(one(&[a, b], |t| t[0].matmul(&t[1])), [19.0, 22.0, 43.0, 50.0]);
    let x: (&[usize], &[f64]) = (&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let w: (&[usize], &[f64]) = (&[1, 1, 2], &[1.0, 10.0]);
    let dims = |stride, pad, lhs, rhs| ConvDims {
        stride: vec![stride],
        pad: vec![pad],
        lhs_dilation: vec![lhs],
        rhs_dilation: vec![rhs],
        groups: 1,
    };
    assert_eq!(one(&[x, w], |t| t[0].conv(&t[1], dims(1, (0, 0), 1, 1))), [21.0, 32.0, 43.0]);
    assert_eq!(one(&[x, w], |t| t[0].conv(&t[1], dims(2, (1, 1), 1, 1))), [10.0, 32.0, 4.0]);
    assert_eq!(one(&[x, w], |t| t[0].conv(&t[1], dims(1, (0, 0), 1, 2))), [31.0, 42.0]);
    assert_eq!(one(&[x, w], |t| t[0].conv(&t[1], dims(1, (-1, 0), 1, 1))), [32.0, 43.0]);
    assert_eq!(one(&[x, w], |t| t[0].conv(&t[1], dims(1, (1, 0), 2, 1))), [10.0, 1.0, 20.0, 2.0, 30.0, 3.0, 40.0]);
}

#[test]
fn indexing() {
    let b = Builder::new();
    let (table, index) = (b.feed("table", DType::F32, [3, 2]), b.feed("index", DType::I32, [2]));
    b.output("rows", OutputKind::Fetch, &table.take(&index));
    let graph = b.build().unwrap();
    let table = Array::floats([3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let ids = |v: &[i32]| Array { shape: [2].into(), data: Values::I(v.to_vec()) };
    let rows = eval(&graph, &[table.clone(), ids(&[2, 0])], Precision::F32).unwrap();
    assert_eq!(rows[0].to_f64(), [5.0, 6.0, 1.0, 2.0]);
    for bad in [3, -1] {
        let e = eval(&graph, &[table.clone(), ids(&[1, bad])], Precision::F32).unwrap_err().to_string();
        assert!(
            e.contains("take") && e.contains(&format!("index {bad} at position 1")) && e.contains("3 entries"),
            "{e}"
        );
    }
}

#[test]
fn precision_rounds_or_not() {
    let b = Builder::new();
    let c = b.constant(Scalar::F32(0.1));
    b.output("sum", OutputKind::Fetch, &(&c + &c));
    let g = b.build().unwrap();
    assert_eq!(eval(&g, &[], Precision::F64).unwrap()[0].to_f64(), [0.2]);
    assert_eq!(eval(&g, &[], Precision::F32).unwrap()[0].to_f64(), [f64::from(0.2f32)]);
}
