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

#[test]
fn on_the_cpu() {
    ends_are_exact(&Device::open("cpu").unwrap());
}

/// On a machine without an adapter this says so and checks nothing, unless `KILN_REQUIRE_ADAPTER` is set.
#[test]
fn on_a_software_adapter() {
    match Device::open("software") {
        Ok(device) => ends_are_exact(&device),
        Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
        Err(e) => panic!("{e}"),
    }
}
