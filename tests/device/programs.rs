//! Programs on the reference: feeds, states, fetches, and what is refused.

use kiln::ir::{OutputKind, Type};
use kiln::{Builder, DType, Device, HostTensor, Program, Store};

fn device() -> Device {
    Device::open("reference").unwrap()
}

fn vector(x: &[f32]) -> HostTensor {
    HostTensor::f32([x.len()], x.to_vec()).unwrap()
}

#[test]
fn a_counter_counts_and_two_states_swap() {
    let store = Store::new(&device());
    store.insert("n", &vector(&[0.0])).unwrap();
    store.insert("a", &vector(&[1.0, 2.0])).unwrap();
    store.insert("b", &vector(&[3.0, 4.0])).unwrap();
    let b = Builder::new();
    let n = b.state("n", DType::F32, [1]);
    let (s, t) = (b.state("a", DType::F32, [2]), b.state("b", DType::F32, [2]));
    b.output("n", OutputKind::State, &(&n + 1.0));
    b.output("a", OutputKind::State, &t);
    b.output("b", OutputKind::State, &s);
    b.output("old", OutputKind::Fetch, &n);
    let mut program = Program::compile(&store, b.build().unwrap()).unwrap();
    for k in 0..3 {
        assert_eq!(program.run(&[]).unwrap()[0], vector(&[k as f32]));
    }
    assert_eq!(store.get("n").unwrap(), vector(&[3.0]));
    assert_eq!(store.get("a").unwrap(), vector(&[3.0, 4.0]));
    assert_eq!(store.get("b").unwrap(), vector(&[1.0, 2.0]));
}

#[test]
fn a_state_whose_old_value_is_read_through_a_view_is_not_overwritten_early() {
    let store = Store::new(&device());
    store.insert("w", &HostTensor::f32([2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap()).unwrap();
    let b = Builder::new();
    let w = b.state("w", DType::F32, [2, 2]);
    b.output("w", OutputKind::State, &(&w + w.t()));
    let mut program = Program::compile(&store, b.build().unwrap()).unwrap();
    program.run(&[]).unwrap();
    assert_eq!(store.get("w").unwrap().as_f32().unwrap(), [2.0, 5.0, 5.0, 8.0]);
}

#[test]
fn wrong_feeds_are_named() {
    let store = Store::new(&device());
    let spec = [("x", Type::new(DType::F32, [2]))];
    let mut program = Program::trace(&store, &spec, |i| vec![&i[0] * 2.0]).unwrap();
    let fails = |r: Result<Vec<HostTensor>, kiln::Error>, words: &[&str]| {
        let text = r.unwrap_err().to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    };
    fails(program.run(&[]), &["\"x\"", "missing", "f32[2]"]);
    fails(program.run(&[("y", &vector(&[1.0]))]), &["\"y\"", "no input"]);
    fails(program.run(&[("x", &vector(&[1.0]))]), &["\"x\"", "f32[2]", "f32[1]"]);
    let x = vector(&[1.0, 2.0]);
    fails(program.run(&[("x", &x), ("x", &x)]), &["twice"]);
    assert_eq!(program.run(&[("x", &x)]).unwrap()[0], vector(&[2.0, 4.0]));
}

#[test]
fn eval_computes_constants_and_refuses_inputs() {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [2]);
    let y = b.full([2, 2], 3.0).sum(&[0], false) + 1.0;
    assert_eq!(y.eval(&device()).unwrap(), vector(&[7.0, 7.0]));
    assert!((&x + 1.0).eval(&device()).unwrap_err().to_string().contains("\"x\""));
}

#[test]
fn empty_tensors_run() {
    let store = Store::new(&device());
    let spec = [("x", Type::new(DType::F32, [0, 3]))];
    let f = |i: &[kiln::Tensor]| vec![&i[0] * 2.0, i[0].sum(&[0], false), i[0].t()];
    let out = Program::trace(&store, &spec, f).unwrap().run(&[("x", &HostTensor::zeros(DType::F32, [0, 3]))]).unwrap();
    assert_eq!(out[0].shape, kiln::Shape::from([0, 3]));
    assert_eq!(out[1], vector(&[0.0; 3]));
    assert_eq!(out[2].shape, kiln::Shape::from([3, 0]));
}
