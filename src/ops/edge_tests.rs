//! Shapes and values at the edges of what torch takes; the expected results are PyTorch 2.15's.

use crate::backend::{Device, Program, Store};
use crate::dtype::DType;
use crate::ir::{Tensor, Type};
use crate::ops::grid::{GridMode, Outside};
use crate::ops::{EmbeddingOptions, PadMode, Pool, Reduction};
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
    let outs = run(&[4], &[1.0, 2.0, 3.0, 4.0], |x| vec![x.pad_with(&[(-1, 2)], PadMode::Circular)]);
    assert_eq!(outs[0].1, [2.0, 3.0, 4.0, 2.0, 3.0]);
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

#[test]
fn bounds_that_are_nan_and_values_that_are_huge() {
    let max = f32::MAX;
    let outs = run(&[4], &[-max, -1e30, -1.0, 2.0], |x| {
        let vanished = x.silu().abs().lt(&x.like(1e-30)).cast(DType::F32);
        vec![vanished, x.clamp(Some(f64::NAN), None), x.clamp(None, Some(f64::NAN)), x.leaky_relu(0.5)]
    });
    assert_eq!(outs[0].1, [1.0, 1.0, 0.0, 0.0]);
    assert!(outs[1].1.iter().chain(&outs[2].1).all(|v| v.is_nan()));
    assert_eq!(outs[3].1[2..], [-0.5, 2.0]);
}

#[test]
fn norms_of_negative_powers_vanish_with_an_element() {
    let outs = run(&[2, 2], &[0.0, 2.0, 2.0, 2.0], |x| vec![x.norm(-1.0, &[1], false), x.norm(-2.0, &[1], false)]);
    assert_eq!((outs[0].1[0], outs[1].1[0]), (0.0, 0.0));
    assert!((outs[0].1[1] - 1.0).abs() < 1e-6 && (outs[1].1[1] - 2f64.sqrt()).abs() < 1e-6);
}

#[test]
fn a_variance_without_degrees_of_freedom() {
    let outs = run(&[1, 2], &[3.0, 5.0], |x| vec![x.var(&[0], 1.0, false), x.var(&[1], 2.0, false)]);
    assert!(outs[0].1.iter().all(|v| v.is_nan()) && outs[1].1 == [f64::INFINITY]);
}

#[test]
fn an_empty_dimension_against_one_of_size_one() {
    let outs = run(&[1, 2], &[1.0, 2.0], |x| vec![Tensor::einsum("ij,jk->ik", &[&x.narrow(1, 0, 0), x])]);
    assert_eq!(outs[0], (vec![1, 2], vec![0.0, 0.0]));
}

#[test]
fn scalars_and_single_classes() {
    let outs = run(&[3], &[0.5, 2.0, 1.0], |x| {
        let zero = x.builder().iota(1);
        let scalar = x.narrow(0, 1, 1).reshape([0usize; 0]);
        let loss = |t: &Tensor| x.multi_margin_loss(t, None, 1, 1.0, Reduction::Sum);
        vec![scalar.index_select(0, &zero), loss(&zero), loss(&zero.reshape([0usize; 0]))]
    });
    assert_eq!(outs[0], (vec![], vec![2.0]));
    assert_eq!(outs[1], outs[2]);
}

#[test]
fn pooling_windows_that_reach_beyond_the_padding() {
    let pool = Pool::new([4]).stride([4]).padding([2]).dilation([3]).ceil_mode(true);
    let outs = run(&[1, 5], &[1.0, 2.0, 9.0, 4.0, 8.0], |x| {
        vec![x.max_pool(&pool), x.max_pool(&Pool { ceil_mode: false, ..pool.clone() }.padding([3]))]
    });
    // Elements 1 and 4: the window begins two before the first one.
    assert_eq!(outs[0], (vec![1, 1], vec![8.0]));
}

/// Pooling runs before a rectifier that it follows; `+ 0` in between hides the rectifier from it.
#[test]
fn pooling_and_rectifiers_change_places() {
    let inf = f32::INFINITY;
    let windows = [[-1.0, -2.0, -3.0, -1.0], [0.0, -0.0, -5.0, 0.0], [2.0, 2.0, 1.0, -inf], [inf, 1.0, 0.0, inf]];
    let windows = [&windows[..], &[[-inf; 4], [f32::NAN, 1.0, -1.0, 2.0], [1e-40, 0.0, -1e-40, -1.0]]].concat();
    for floor in [0.0, 0.5] {
        let outs = run(&[7, 1, 2, 2], &windows.concat(), |x| {
            let clamped = x.le(&x.like(floor)).select(&x.like(floor), x);
            let both = [clamped.max_pool(&Pool::new([2, 2])), (&clamped + 0.0).max_pool(&Pool::new([2, 2]))];
            let weight = x.builder().iota(7).cast(DType::F32).reshape([7, 1, 1, 1]) + 1.0;
            let grad = |y: &Tensor| crate::grad::grad(&(y * &weight).sum(&[], false), &[x]).remove(0);
            both.iter().flat_map(|y| [y.clone(), grad(y)]).collect()
        });
        assert_eq!(format!("{:?}", outs[..2].to_vec()), format!("{:?}", outs[2..].to_vec()), "floor {floor}");
    }
}

#[test]
fn places_of_maxima() {
    let data = [1.0, 5.0, 5.0, 2.0, 0.0, 5.0, -1.0, -1.0, f32::NEG_INFINITY];
    let outs = run(&[1, 3, 3], &data, |x| {
        let places = |pool: Pool| x.max_pool_indices(&pool).cast(DType::F32);
        vec![places(Pool::new([2, 2]).stride([1, 1])), places(Pool::new([2, 2]).padding([1, 1]))]
    });
    assert_eq!(outs[0], (vec![1, 2, 2], vec![1.0, 1.0, 3.0, 5.0]));
    assert_eq!(outs[1], (vec![1, 2, 2], vec![0.0, 1.0, 3.0, 5.0]));
}

#[test]
fn grids_of_nan_and_of_infinity_at_borders() {
    let outs = run(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0], |x| {
        let nan = x.like(f64::NAN).reshape([1, 1, 2, 2]);
        let far = x.like(f64::INFINITY).reshape([1, 1, 2, 2]);
        let at = |grid: &Tensor, mode, outside| x.grid_sample(grid, mode, outside, true);
        vec![
            at(&nan, GridMode::Bilinear, Outside::Border),
            at(&nan, GridMode::Nearest, Outside::Reflection),
            at(&far, GridMode::Bilinear, Outside::Border),
        ]
    });
    assert_eq!(outs.iter().map(|o| o.1[0]).collect::<Vec<_>>(), [1.0, 1.0, 4.0]);
}

#[test]
fn embeddings_by_frequency_and_of_bounded_length() {
    let outs = run(&[2, 2], &[3.0, 4.0, 0.3, 0.4], |x| {
        let index = x.builder().iota(3).minimum(&x.builder().iota(3).like(1.0));
        let o = EmbeddingOptions { scale_grad_by_freq: true, ..EmbeddingOptions::default() };
        let rows = x.embedding_with(&index, &o);
        let g = crate::grad::grad(&rows.sum(&[], false), &[x]).remove(0);
        vec![
            rows,
            g,
            x.embedding_with(&index, &EmbeddingOptions { max_norm: Some(1.0), ..EmbeddingOptions::default() }),
        ]
    });
    assert_eq!(outs[0].1, [3.0f32, 4.0, 0.3, 0.4, 0.3, 0.4].map(f64::from));
    assert_eq!(outs[1].1, [1.0; 4]);
    assert!((outs[2].1[0] - 0.6).abs() < 1e-6 && (outs[2].1[2] - 0.3).abs() < 1e-6, "{:?}", outs[2].1);
}
