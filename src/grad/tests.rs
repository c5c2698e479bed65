//! Hand-worked derivatives and the special points of the conventions. The systematic check of every primitive is in
//! `check::gradcheck`.

use super::{grad, hessian, hvp, vjp, vjp_graph};
use crate::backend::reference::{Array, Precision, eval};
use crate::dtype::DType;
use crate::ir::{Builder, OutputKind, Tensor};

/// Gradients of `sum(f(x) * cot)` with respect to all float inputs, in f64.
fn grads(inputs: &[(&[usize], &[f64])], cot: &[f64], f: impl Fn(&[Tensor]) -> Tensor) -> Vec<Vec<f64>> {
    let b = Builder::new();
    let t: Vec<Tensor> = inputs.iter().enumerate().map(|(i, (s, _))| b.feed(format!("{i}"), DType::F32, *s)).collect();
    let y = f(&t);
    let c = b.feed("cot", DType::F32, y.shape());
    let wrt: Vec<&Tensor> = t.iter().collect();
    for (i, g) in vjp(std::slice::from_ref(&y), &[Some(c)], &wrt).into_iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, &g.unwrap_or_else(|| t[i].like(0.0)));
    }
    let mut arrays: Vec<Array> = inputs.iter().map(|(s, v)| Array::floats(*s, v.to_vec())).collect();
    arrays.push(Array::floats(y.shape(), cot.to_vec()));
    let outs = eval(&b.build().unwrap(), &arrays, Precision::F64).unwrap();
    outs.iter().map(Array::to_f64).collect()
}

#[test]
fn special_points() {
    let one =
        |x: &[f64], cot: &[f64], f: &dyn Fn(&Tensor) -> Tensor| grads(&[(&[x.len()], x)], cot, |t| f(&t[0])).remove(0);
    let relu = |x: &Tensor| x.gt(&x.like(0.0)).select(x, &x.like(0.0));
    assert_eq!(one(&[-1.0, 0.0, 2.0], &[5.0, 5.0, 5.0], &relu), [0.0, 0.0, 5.0]);
    assert_eq!(one(&[-1.0, 0.0, 2.0], &[5.0, 5.0, 5.0], &|x| x.abs()), [-5.0, 0.0, 5.0]);
    assert_eq!(one(&[1.0, 3.0, 3.0], &[4.0], &|x| x.amax(&[], false)), [0.0, 2.0, 2.0]);
    assert_eq!(one(&[2.0, 3.0, 5.0], &[1.0], &|x| x.prod(&[], false)), [15.0, 10.0, 6.0]);
    assert_eq!(one(&[2.0, 0.0, 5.0], &[1.0], &|x| x.prod(&[], false)), [0.0, 10.0, 0.0]);
    assert_eq!(one(&[0.0, 0.0, 5.0], &[1.0], &|x| x.prod(&[], false)), [0.0, 0.0, 0.0]);
    // The branch that is not chosen has an infinite derivative, and gets exactly zero.
    let guarded = |x: &Tensor| x.gt(&x.like(0.0)).select(&x.log(), &x.like(0.0));
    let g = grads(&[(&[2], &[0.0, 2.0])], &[f64::INFINITY, 1.0], |t| {
        t[0].gt(&t[0].like(0.0)).select(&(&t[0] * 3.0), &t[0])
    });
    assert_eq!(g[0], [f64::INFINITY, 3.0]);
    assert_eq!(one(&[4.0], &[1.0], &guarded), [0.25]);
    let tie = grads(&[(&[3], &[1.0, 2.0, 3.0]), (&[3], &[1.0, 3.0, 2.0])], &[2.0, 2.0, 2.0], |t| t[0].maximum(&t[1]));
    assert_eq!(tie, [[1.0, 0.0, 2.0], [1.0, 2.0, 0.0]]);
    // x^0 is flat in x, also at 0; 0^y is flat in y for y >= 0.
    let pow = grads(&[(&[3], &[0.0, 3.0, 0.0]), (&[3], &[0.0, 0.0, 2.0])], &[1.0; 3], |t| t[0].pow(&t[1]));
    assert_eq!(pow, [vec![0.0; 3], vec![0.0, 3f64.ln(), 0.0]]);
}

#[test]
fn products_are_twice_differentiable_at_zeros() {
    // f = x0 x1 x2 at (2, 0, 0): H = [[0, x2, x1], [x2, 0, x0], [x1, x0, 0]].
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [3]);
    b.output("h", OutputKind::Fetch, &hessian(&x.prod(&[], false), &[&x]));
    let outs = eval(&b.build().unwrap(), &[Array::floats([3], vec![2.0, 0.0, 0.0])], Precision::F64).unwrap();
    assert_eq!(outs[0].to_f64(), [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0, 0.0]);
}

#[test]
fn orders_two_and_three() {
    // f = x^3 y: H = [[6xy, 3x^2], [3x^2, 0]], d^3 f / dx^3 = 6y.
    let b = Builder::new();
    let (x, y) = (b.feed("x", DType::F32, []), b.feed("y", DType::F32, []));
    let loss = &x * &x * &x * &y;
    b.output("h", OutputKind::Fetch, &hessian(&loss, &[&x, &y]));
    let (u, v) = (b.full([], 2.0), b.full([], 10.0));
    for (i, t) in hvp(&loss, &[&x, &y], &[&u, &v]).iter().enumerate() {
        b.output(format!("hvp{i}"), OutputKind::Fetch, t);
    }
    let d1 = grad(&loss, &[&x]).remove(0);
    let d2 = grad(&d1, &[&x]).remove(0);
    b.output("d3", OutputKind::Fetch, &grad(&d2, &[&x])[0]);
    let inputs = [Array::floats([], vec![2.0]), Array::floats([], vec![5.0])];
    let outs = eval(&b.build().unwrap(), &inputs, Precision::F64).unwrap();
    assert_eq!(outs[0].to_f64(), [60.0, 12.0, 12.0, 0.0]);
    assert_eq!((outs[1].to_f64(), outs[2].to_f64(), outs[3].to_f64()), (vec![240.0], vec![24.0], vec![30.0]));
}

#[test]
fn independent_detached_and_shared_inputs() {
    let b = Builder::new();
    let (x, y) = (b.feed("x", DType::F32, [2]), b.feed("y", DType::F32, [2]));
    let h = &x * 3.0;
    let loss = (&h * &h.detach() + &x).sum(&[], false);
    for (i, g) in grad(&loss, &[&x, &y, &h, &x]).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, g);
    }
    let inputs = [Array::floats([2], vec![1.0, 2.0]), Array::floats([2], vec![0.0, 0.0])];
    let outs = eval(&b.build().unwrap(), &inputs, Precision::F64).unwrap();
    let outs: Vec<Vec<f64>> = outs.iter().map(Array::to_f64).collect();
    assert_eq!(outs, [vec![10.0, 19.0], vec![0.0, 0.0], vec![3.0, 6.0], vec![10.0, 19.0]]);
}

#[test]
fn a_graph_with_named_derivatives() {
    let b = Builder::new();
    let (x, y) = (b.feed("x", DType::F32, [2]), b.feed("y", DType::F32, [2]));
    b.output("p", OutputKind::Fetch, &(&x * &y));
    let g = vjp_graph(&b.build().unwrap(), &["y"]).unwrap();
    assert_eq!(g.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["p", "grad.y"]);
    let inputs = [vec![2.0, 3.0], vec![4.0, 5.0], vec![1.0, 10.0]].map(|v| Array::floats([2], v));
    assert_eq!(eval(&g, &inputs, Precision::F64).unwrap()[1].to_f64(), [2.0, 30.0]);
    assert!(vjp_graph(&g, &["z"]).unwrap_err().to_string().contains("\"z\""));
}

#[test]
fn a_loss_must_be_a_scalar() {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [2]);
    grad(&x, &[&x]);
    let e = b.build().unwrap_err().to_string();
    assert!(e.contains("f32[2]") && e.contains("grad/tests.rs"), "{e}");
}
