//! Functions with an end value reach it exactly: what multiplies the rest by a large argument shows the last half ulp.

use kiln::ir::Type;
use kiln::ops::Gelu;
use kiln::{DType, Device, HostTensor, Program, Store};

/// erf, tanh and sigmoid at the far ends, and what GELU makes of them: 0 below, x above.
fn ends_are_exact(device: &Device) {
    let x: Vec<f32> = [5.0, 30.0, 1e4, 1e30].into_iter().flat_map(|x| [-x, x]).collect();
    let n = x.len();
    let spec = [("x", Type::new(DType::F32, [n]))];
    let f = |t: &[kiln::Tensor]| vec![t[0].erf(), (&t[0] * 4.0).tanh(), t[0].gelu(Gelu::Exact), t[0].gelu(Gelu::Tanh)];
    let mut program = Program::trace(&Store::new(device), &spec, f).unwrap();
    assert_eq!(program.stats().fallbacks, 0);
    let out = program.run(&[("x", &HostTensor::f32([n], x.clone()).unwrap())]).unwrap();
    for (i, &x) in x.iter().enumerate() {
        let at = |k: usize| out[k].to_f64()[i];
        assert_eq!([at(0), at(1)], [f64::from(x.signum()); 2], "erf and tanh at {x}");
        // At 5 and -5 GELU is still 1.4e-6 below its ends, and 2.3e-7 by tanh; x itself has ulps of 4.8e-7.
        let (end, slack) = (f64::from(x.max(0.0)), if x.abs() == 5.0 { 2e-6 } else { 0.0 });
        for k in [2, 3] {
            assert!((at(k) - end).abs() <= slack, "gelu at {x}: {} instead of {end}", at(k));
        }
    }
}

/// Infinity and NaN survive a product with a constant zero, and the variance of one number is NaN, whatever a compiler
/// would make of them.
fn zeros_swallow_nothing(device: &Device) {
    let x = vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3.0, -3.0, 0.0, -0.0];
    let spec = [("x", Type::new(DType::F32, [x.len()]))];
    let f = |t: &[kiln::Tensor]| vec![&t[0] * 0.0, &t[0] * -0.0, t[0].unsqueeze(1).var(&[1], 1.0, false)];
    let mut program = Program::trace(&Store::new(device), &spec, f).unwrap();
    assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
    let out = program.run(&[("x", &HostTensor::f32([x.len()], x.clone()).unwrap())]).unwrap();
    for (i, x) in x.iter().enumerate() {
        for (k, zero) in [0.0f32, -0.0].into_iter().enumerate() {
            let (got, want) = (out[k].as_f32().unwrap()[i], x * zero);
            let same = if want.is_nan() { got.is_nan() } else { got.to_bits() == want.to_bits() };
            assert!(same, "{x} times {zero}: {got}");
        }
        assert!(out[2].as_f32().unwrap()[i].is_nan(), "variance of {x} alone: {}", out[2].as_f32().unwrap()[i]);
    }
}

/// Where one key has all the weight, the gradients by queries and keys are exactly zero.
fn decided_attention_has_no_gradient(device: &Device) {
    let shape = [1, 2, 9, 24];
    let elems: usize = shape.iter().product();
    let wave = |k: f32, scale: f32| {
        HostTensor::f32(shape, (0..elems).map(|i| scale * (k * i as f32 + 0.3).sin()).collect()).unwrap()
    };
    let names = ["q", "k", "v", "g"];
    let spec = names.map(|n| (n, Type::new(DType::F32, shape)));
    let f = |t: &[kiln::Tensor]| {
        let y = t[0].scaled_dot_product_attention(&t[1], &t[2], &Default::default());
        kiln::grad::grad(&(y * &t[3]).sum(&[], false), &[&t[0], &t[1]])
    };
    let mut program = Program::trace(&Store::new(device), &spec, f).unwrap();
    assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
    let feeds = [wave(0.37, 1e4), wave(0.59, 1e4), wave(0.83, 1.0), wave(0.71, 1.0)];
    let feeds: Vec<(&str, &HostTensor)> = names.into_iter().zip(&feeds).collect();
    for (k, by) in program.run(&feeds).unwrap().iter().enumerate() {
        let other = by.to_f64().into_iter().find(|&x| !(x == 0.0));
        assert_eq!(other, None, "gradient {k}");
    }
}

fn all(device: &Device) {
    ends_are_exact(device);
    zeros_swallow_nothing(device);
    decided_attention_has_no_gradient(device);
}

#[test]
fn on_the_reference() {
    all(&Device::open("reference").unwrap());
}

#[test]
fn on_the_cpu() {
    all(&Device::open("cpu").unwrap());
}

/// On a machine without an adapter this says so and checks nothing, unless `KILN_REQUIRE_ADAPTER` is set.
#[test]
fn on_a_software_adapter() {
    match Device::open("software") {
        Ok(device) => all(&device),
        Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
        Err(e) => panic!("{e}"),
    }
}
