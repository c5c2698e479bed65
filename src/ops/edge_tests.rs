//! Shapes and values at the edges of what torch takes; the expected results are PyTorch 2.15's.

use crate::backend::{Device, Program, Store};
use crate::dtype::DType;
use crate::ir::{Tensor, Type};
use crate::ops::{PadMode, Reduction};
use crate::tensor::HostTensor;

/// The results of `f` on a float tensor, on the reference and on the CPU path, which must agree.
fn run(shape: &[usize], data: &[f32], f: impl Fn(&Tensor) -> Vec<Tensor>) -> Vec<(Vec<usize>, Vec<f64>)> {
    let input = HostTensor::f32(shape, data.to_vec()).unwrap();
    let on = |device: &str| {
        let store = Store::new(&Device::open(device).unwrap());
        let types = [("x", Type::new(DType::F32, shape))];
        let mut program = Program::trace(&store, &types, |t| f(&t[0])).unwrap();
        let outs = program.run(&[("x", &input)]).unwrap();
        outs.iter().map(|t| (t.shape.to_vec(), t.to_f64())).collect::<Vec<_>>()
    };
    let (reference, cpu) = (on("reference"), on("cpu"));
    assert_eq!(format!("{reference:?}"), format!("{cpu:?}"));
    reference
}

#[test]
fn a_scalar_passes_for_a_vector_of_one_element() {
    let zero = |t: &Tensor| t.builder().iota(1).reshape([0usize; 0]);
    let outs = run(&[], &[3.0], |x| {
        let (sorted, at) = x.sort(-1, true);
        let (top, _) = x.topk(1, 0, false);
        let sums = vec![x.sum(&[0], false), x.mean(&[-1], true), x.logsumexp(&[0], false), x.norm(2.0, &[0], true)];
        let index = zero(x);
        let rest =
            vec![sorted, at.cast(DType::F32), top, x.cumsum(0), x.gather(0, &index), x.scatter_add(-1, &index, x)];
        [sums, rest, vec![x.argmax(0, true).cast(DType::F32), x.normalize(2.0, &[0], 1e-12)]].concat()
    });
    let want = [3.0, 3.0, 3.0, 3.0, 3.0, 0.0, 3.0, 3.0, 3.0, 6.0, 0.0, 1.0];
    for (k, ((shape, values), want)) in outs.iter().zip(want).enumerate() {
        assert!(shape.is_empty() && values == &[want], "result {k}: {shape:?} {values:?}, not {want}");
    }
    let bad =
        Program::trace(&Store::new(&Device::open("cpu").unwrap()), &[("x", Type::new(DType::F32, [0usize; 0]))], |t| {
            vec![t[0].sum(&[1], false)]
        });
    assert!(bad.err().unwrap().to_string().contains("no dimension 1"));
}

#[test]
fn empty_vectors_and_empty_pieces() {
    let outs = run(&[2, 2], &[1.0, 2.0, 3.0, 4.0], |x| {
        let empty = x.narrow(0, 0, 0).reshape([0]);
        let mut outs = vec![Tensor::cat(&[&empty, x], 1)];
        outs.extend(x.narrow(0, 0, 0).chunk(3, 0));
        outs
    });
    assert_eq!(outs[0], (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]));
    assert_eq!(outs[1..], vec![(vec![0, 2], Vec::new()); 3]);
}

#[test]
fn circular_padding() {
    let outs = run(&[4], &[1.0, 2.0, 3.0, 4.0], |x| vec![x.pad_with(&[(2, 3)], PadMode::Circular)]);
    assert_eq!(outs[0].1, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0]);
}

#[test]
fn special_values() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let outs = run(&[3], &[nan, -inf, inf], |x| {
        let zero = x.like(0.0);
        vec![x.sign(), x.silu(), x.kl_div(&zero.broadcast_to([3]), false, Reduction::None)]
    });
    assert_eq!(outs[0].1, [0.0, -1.0, 1.0]);
    assert!(outs[1].1[0].is_nan() && outs[1].1[1].is_nan() && outs[1].1[2] == f64::INFINITY);
    assert!(outs[2].1.iter().all(|x| x.is_nan()));
}

#[test]
fn a_vector_as_weight_and_one_norm_of_all() {
    let outs = run(&[2, 2], &[1.0, 2.0, 2.0, 4.0], |x| {
        let w = x.narrow(0, 0, 1).reshape([2]);
        vec![x.linear(&w, None), x.weight_norm(&(x.narrow(0, 0, 1).narrow(1, 0, 1) * 5.0), -1)]
    });
    assert_eq!(outs[0], (vec![2], vec![5.0, 10.0]));
    assert_eq!(outs[1].1, [1.0, 2.0, 2.0, 4.0]);
}

#[test]
fn a_failed_operand_does_not_send_matmul_in_circles() {
    let store = Store::new(&Device::open("cpu").unwrap());
    let types = [("x", Type::new(DType::F32, [4]))];
    let e = Program::trace(&store, &types, |t| vec![t[0].matmul(&t[0].t())]).err().unwrap().to_string();
    assert!(e.contains("no dimension -2"), "{e}");
}
