//! Random graphs on every backend of this machine, with parts of the planner on and off. `KILN_SEED` runs one seed.

use kiln::Device;
use kiln::check::graphs::Case;
use kiln::check::random::{case, half_case};
use kiln::plan::{Place, PlanOptions};
use std::sync::Arc;

/// The planner in full, and with each part off.
fn variants(seed: u64) -> Vec<PlanOptions> {
    let full = PlanOptions::default();
    let off = match seed % 4 {
        0 => PlanOptions { fuse: false, ..full },
        1 => PlanOptions { reuse_memory: false, ..full },
        2 => PlanOptions { kernels: false, ..full },
        _ => PlanOptions { fuse: false, reuse_memory: false, kernels: false },
    };
    vec![full, off]
}

/// Why the case fails under these options, if it does.
fn failure(case: &Case, device: &Device, options: PlanOptions) -> Option<String> {
    let expected = match case.expected() {
        Ok(e) => e,
        Err(e) => return Some(format!("reference: {e}")),
    };
    match case.run(&expected, device, options) {
        Ok(text) => text,
        Err(e) => Some(e.to_string()),
    }
}

fn check(device: &Device, seeds: impl Iterator<Item = u64>) {
    check_cases(device, seeds, &case);
}

fn check_cases(device: &Device, seeds: impl Iterator<Item = u64>, case: &dyn Fn(u64) -> kiln::Result<Case>) {
    let only: Option<u64> = std::env::var("KILN_SEED").ok().and_then(|s| s.parse().ok());
    let seeds: Vec<u64> = only.map_or_else(|| seeds.collect(), |s| vec![s]);
    let mut reports = Vec::new();
    for seed in seeds {
        let case = case(seed).unwrap_or_else(|e| panic!("seed {seed}: the generator made no graph: {e}"));
        for options in variants(seed) {
            if failure(&case, device, options).is_some() {
                let small = case.shrink(&|c| failure(c, device, options).is_some());
                let text = failure(&small, device, options).unwrap_or_default();
                reports.push(format!("seed {seed}, {options:?}\n{text}\n{}", small.graph));
                break;
            }
        }
        if reports.len() == 3 {
            break;
        }
    }
    assert!(reports.is_empty(), "on {:?}:\n{}", device, reports.join("\n"));
}

#[test]
fn on_the_reference() {
    check(&Device::open("reference").unwrap(), 0..300);
}

/// What roundings to f16 cost is in the bounds; wrong values, views or memory are not.
#[test]
fn in_mixed_precision() {
    for (device, seeds) in [("reference", 0..150), ("cpu", 1000..1150), ("software", 2000..2040)] {
        match Device::open(device) {
            Ok(device) => check_cases(&device, seeds, &half_case),
            Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn on_the_cpu() {
    check(&Device::open("cpu").unwrap(), 1000..1300);
}

/// On a machine without an adapter this says so and checks nothing, unless `KILN_REQUIRE_ADAPTER` is set.
#[test]
fn on_a_software_adapter() {
    match Device::open("software") {
        Ok(device) => {
            check(&device, 2000..2100);
            // Graphs of this size are mostly chains; some with a launch for each region.
            let gpu = device.gpu().unwrap().with_variants([("chain".into(), "off".into())].into());
            let host = Some(device.backend(Place::Host).clone());
            check(&Device::with(Arc::new(gpu), host, device.reason()), 2100..2140);
            // And by the kernels that a discrete GPU would get.
            check(&device.as_gpu(), 2200..2240);
        }
        Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
        Err(e) => panic!("{e}"),
    }
}

/// The checks above mean nothing if bounds are so wide that all passes, or graphs so odd that nothing is compared.
#[test]
fn bounds_are_narrow_enough_to_catch_faults() {
    let (mut elements, mut vacuous, mut loose) = (0usize, 0usize, 0usize);
    for seed in 0..200 {
        for (want, bound) in case(seed).unwrap().expected().unwrap().outputs {
            elements += want.len();
            for (w, b) in want.iter().zip(&bound) {
                vacuous += usize::from(!w.is_finite() || kiln::check::bounds::is_unbounded(*b));
                loose += usize::from(!(*b <= 1e-3 * (w.abs() + 1.0)));
            }
        }
    }
    // Measured: 3.2 % and 6.4 %, nearly all behind a floor, argmax or comparison of inexact values.
    println!("{elements} elements, {vacuous} without bound, {loose} with one above 1e-3");
    assert!(vacuous * 20 < elements, "{vacuous} of {elements} elements have no bound");
    assert!(loose * 10 < elements, "{loose} of {elements} bounds exceed 1e-3 (|x| + 1)");
}

/// A wrong result must be seen: each planted fault changes one element by little, or the whole by a plausible mistake.
#[test]
fn planted_faults_are_seen() {
    use kiln::check::graphs::compare;
    let (want, bound) = (vec![1.0, -2.0, 0.5, 0.0], vec![1e-7, 2e-7, 1e-7, 1e-38]);
    assert_eq!(compare(&want, &want, &bound), None);
    for (k, x) in [(0, f64::NAN), (1, 2.0), (2, 0.5 * 1.001), (3, 1e-6), (0, f64::INFINITY)] {
        let mut got = want.clone();
        got[k] = x;
        assert!(compare(&got, &want, &bound).is_some_and(|t| t.contains(&format!("worst at {k}"))));
    }
    assert!(compare(&want[..3], &want, &bound).is_some(), "a missing element");
    assert!(compare(&[-2.0, 1.0, 0.5, 0.0], &want, &bound).is_some(), "swapped elements");
}
