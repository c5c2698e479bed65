//! Proof that the checks can fail: faults planted into results, derivatives and runs, each of which must be caught.
//! A check that passes everything would pass these too, and this file would say so.

use kiln::check::case::Case;
use kiln::check::gradcheck::gradcheck;
use kiln::check::{Gen, ReferenceRunner, Runner, SEED, Verdict, cases, run_all, run_case};
use kiln::ir::{Builder, Graph, Tensor};
use kiln::ops::{Composite, VjpArgs};
use kiln::{Data, HostTensor, Result};
use std::any::Any;

/// The reference, with its results (or what it is fed) spoilt.
struct Faulty<F: FnMut(&Graph, Vec<HostTensor>, Vec<HostTensor>) -> Vec<HostTensor>>(F);

impl<F: FnMut(&Graph, Vec<HostTensor>, Vec<HostTensor>) -> Vec<HostTensor>> Runner for Faulty<F> {
    fn adapter(&self) -> String {
        "faulty".into()
    }
    fn run(&mut self, graph: &Graph, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        let outs = ReferenceRunner.run(graph, inputs)?;
        Ok((self.0)(graph, inputs.to_vec(), outs))
    }
}

fn case(name: &str) -> Case {
    cases::all().into_iter().find(|c| c.name == name).unwrap_or_else(|| panic!("there is no case {name}"))
}

/// Asserts that the case passes as it is and fails with this fault.
fn caught(name: &str, fault: impl FnMut(&Graph, Vec<HostTensor>, Vec<HostTensor>) -> Vec<HostTensor>) {
    let case = case(name);
    let honest = run_case(&case, SEED, &mut ReferenceRunner);
    assert_eq!(honest.verdict, Verdict::Passed, "{honest}");
    let report = run_case(&case, SEED, &mut Faulty(fault));
    assert!(matches!(report.verdict, Verdict::Failed(_)), "the fault in {name} was not caught");
}

/// Spoils the elements of the first result, which must be floats.
fn spoil(outs: Vec<HostTensor>, f: impl Fn(&mut Vec<f32>)) -> Vec<HostTensor> {
    let mut outs = outs;
    let Data::F32(v) = &mut outs[0].data else { panic!("result 0 holds no floats") };
    f(v);
    outs
}

const NAMES: [&str; 8] = [
    "softmax/65x257",
    "dot/65x63x64",
    "layer_norm/3x63",
    "reduce_sum/last/3x257",
    "conv/3x3",
    "exp/257",
    "attention/1x2x65x63x16x16",
    "batch_norm/5x7x65",
];

#[test]
fn a_nan_in_one_element() {
    for name in NAMES {
        caught(name, |_, _, outs| spoil(outs, |v| v[0] = f32::NAN));
    }
}

#[test]
fn an_infinity_in_one_element() {
    for name in NAMES {
        caught(name, |_, _, outs| spoil(outs, |v| *v.last_mut().unwrap() = f32::INFINITY));
    }
}

#[test]
fn a_scale_that_is_off_by_a_thousandth() {
    for name in NAMES {
        caught(name, |_, _, outs| spoil(outs, |v| v.iter_mut().for_each(|x| *x *= 1.001)));
    }
}

#[test]
fn an_unwritten_tail() {
    // Fresh memory holds zeros, or the pattern that poisons it.
    for stale in [0.0, f32::from_bits(0x7fc0_dead)] {
        caught("dot/65x63x64", |_, _, outs| spoil(outs, |v| v[64 * 64..].fill(stale)));
        caught("mul/257x63", |_, _, outs| spoil(outs, |v| *v.last_mut().unwrap() = stale));
    }
}

#[test]
fn a_tail_that_is_off_by_one() {
    // The last term of each sum is left out.
    caught("reduce_sum/last/3x65", |_, inputs, outs| {
        let x = inputs[0].to_f64();
        spoil(outs, |v| (0..v.len()).for_each(|r| v[r] = x[r * 65..r * 65 + 64].iter().sum::<f64>() as f32))
    });
}

#[test]
fn swapped_operands() {
    for name in ["sub/65_65", "div/65_65", "pow/65_65"] {
        caught(name, |graph, mut inputs, _| {
            inputs.swap(0, 1);
            ReferenceRunner.run(graph, &inputs).unwrap()
        });
    }
}

#[test]
fn a_dropped_upstream_gradient() {
    // The cotangents are the inputs after those of the case; a kernel that takes them for ones computes this.
    for name in ["exp/65", "softmax/65x257", "dot/65x63x64", "conv/stride2"] {
        let given = case(name).inputs.len();
        caught(name, |graph, mut inputs, _| {
            for t in &mut inputs[given..] {
                let Data::F32(v) = &mut t.data else { continue };
                v.fill(1.0);
            }
            ReferenceRunner.run(graph, &inputs).unwrap()
        });
    }
}

#[test]
fn overwritten_guard_words_and_wrong_types() {
    caught("exp/65", |_, _, outs| {
        let mut v = outs[0].as_f32().unwrap().to_vec();
        v.push(0.0);
        vec![HostTensor::f32([66], v).unwrap()]
    });
    caught("argmax/last/3x65", |_, _, outs| {
        vec![HostTensor::f32([3], outs[0].to_f64().iter().map(|&x| x as f32).collect()).unwrap()]
    });
}

#[test]
fn a_transposed_output() {
    caught("dot/64x64x64", |_, _, outs| spoil(outs, |v| *v = (0..64 * 64).map(|i| v[i % 64 * 64 + i / 64]).collect()));
}

#[test]
fn a_stale_buffer() {
    // Results of the run before, on other inputs.
    let mut before: Option<Vec<HostTensor>> = None;
    let case = case("exp/257");
    let mut runner = Faulty(|_: &Graph, _, outs: Vec<HostTensor>| before.replace(outs.clone()).unwrap_or(outs));
    assert_eq!(run_case(&case, SEED, &mut runner).verdict, Verdict::Passed);
    assert!(!run_case(&case, SEED + 1, &mut runner).verdict.is_good());
}

#[test]
fn a_reference_that_follows_the_result() {
    // Were results compared with themselves, any other function would do.
    let honest = case("erf/257");
    let other = Case::one("tanh", |t| t[0].tanh()).f32([257], Gen::Normal(0.0, 2.0)).graph().unwrap();
    let mut runner = Faulty(move |_: &Graph, inputs, _| ReferenceRunner.run(&other, &inputs).unwrap());
    assert!(!run_case(&honest, SEED, &mut runner).verdict.is_good());
}

#[test]
fn one_wrong_index_or_bit() {
    for name in ["argmax/last/3x65", "add_i32/65", "mul_u32/65", "random/65"] {
        caught(name, |_, _, mut outs| {
            match &mut outs[0].data {
                Data::I32(v) => v[1] ^= 1,
                Data::U32(v) | Data::Bool(v) => v[1] ^= 1,
                Data::F32(_) | Data::F16(_) => panic!("result 0 holds floats"),
            }
            outs
        });
    }
}

#[test]
fn a_backend_that_is_silently_skipped() {
    caught("exp/257", |_, _, _| Vec::new());
    // A filter that matches nothing runs nothing, which the caller sees in the number of reports.
    assert!(run_all("no such case", SEED, &mut ReferenceRunner, |_| ()).is_empty());
}

#[test]
fn a_variance_in_one_pass() {
    // E[x^2] - mean^2 in f32 on rows of mean 1e4 and deviation 1; everything else as it should be.
    caught("layer_norm/mean_1e4", |_, inputs, outs| {
        let [x, weight, bias] = [0, 1, 2].map(|i| inputs[i].as_f32().unwrap());
        spoil(outs, |y| {
            for (y, row) in y.chunks_mut(65).zip(x.chunks(65)) {
                let mean = row.iter().sum::<f32>() / 65.0;
                let square = row.iter().map(|x| x * x).sum::<f32>() / 65.0;
                let rstd = 1.0 / ((square - mean * mean).max(0.0) + 1e-5).sqrt();
                (0..65).for_each(|i| y[i] = (row[i] - mean) * rstd * weight[i] + bias[i]);
            }
        })
    });
}

/// x^2 exp(y) with a vjp that is wrong in one of several ways.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Nothing,
    Sign,
    Operand,
    Upstream,
    Residual,
    Detached,
}

impl Composite for Wrong {
    fn name(&self) -> &'static str {
        "planted"
    }
    fn outputs(&self) -> usize {
        2
    }
    fn body(&self, _: &Builder, t: &[Tensor]) -> Vec<Tensor> {
        let e = t[1].exp();
        vec![t[0].square() * &e, e]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        let (x, e) = (&v.args[0], &v.outs[1]);
        let zero = x.like(0.0);
        let g = v.cotangents[0].clone().unwrap_or(zero.clone());
        let g = if matches!(self, Wrong::Upstream) { x.like(1.0) } else { g };
        let residual = v.cotangents[1].clone().unwrap_or(zero.clone());
        let residual = if matches!(self, Wrong::Residual) { zero } else { residual };
        // At order 1 a detached residual shows nothing: only the second derivative is wrong.
        let e = if matches!(self, Wrong::Detached) { e.detach() } else { e.clone() };
        let sign = if matches!(self, Wrong::Sign) { -1.0 } else { 1.0 };
        let square = if matches!(self, Wrong::Operand) { e.square() } else { x.square() };
        Some(vec![Some(&g * x * &e * (2.0 * sign)), Some(&g * square * &e + residual * &e)])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[test]
fn wrong_derivatives() {
    let check = |wrong: Wrong| {
        let case = Case::new("planted", move |b, t| b.call(wrong, &[&t[0], &t[1]]));
        gradcheck(&case.f32([7], Gen::Normal(0.0, 1.0)).f32([7], Gen::Normal(0.0, 1.0)), SEED)
    };
    check(Wrong::Nothing).unwrap();
    for wrong in [Wrong::Sign, Wrong::Operand, Wrong::Upstream, Wrong::Residual, Wrong::Detached] {
        assert!(check(wrong).is_err(), "{wrong:?} was not caught");
    }
}
