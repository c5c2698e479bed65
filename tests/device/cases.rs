//! Every case of the registry, forward and backward, on every kind of backend, with a count of what did not run where it
//! was meant to. `kiln::check::run` takes part of a name to run one case alone.

use kiln::Device;
use kiln::check::{Case, DeviceRunner, Runner, Summary, cases, run, support};

fn all_pass(device: &str) {
    all_pass_on(Device::open(device).unwrap());
}

fn all_pass_on(device: Device) {
    let reports = run("", &device, |_| ());
    let bad: Vec<String> = reports.iter().filter(|r| !r.verdict.is_good()).map(ToString::to_string).collect();
    let summary = Summary::of(&reports);
    let noted = |text: &str| reports.iter().filter(|r| r.notes.iter().any(|n| n.contains(text))).count();
    let (fallbacks, inlined) = (noted("runs on the CPU"), noted("runs as its body"));
    println!("{device:?}: {summary}; {fallbacks} cases with a fallback, {inlined} with an inlined composite");
    for note in reports.iter().flat_map(|r| &r.notes).collect::<std::collections::BTreeSet<_>>() {
        println!("  {note}");
    }
    assert!(summary.run > 400 && bad.is_empty(), "{summary}\n{}", bad.join("\n"));
    assert_eq!(fallbacks, 0, "cases run on the CPU instead of {device:?}");
}

#[test]
fn cases_on_the_reference() {
    all_pass("reference");
}

#[test]
fn cases_on_the_cpu_path() {
    all_pass("cpu");
}

#[test]
fn cases_on_a_software_adapter() {
    all_pass("software");
}

/// By the kernels that a discrete GPU would get.
#[test]
fn cases_as_on_a_gpu() {
    all_pass_on(Device::open("software").unwrap().as_gpu());
}

/// The derivatives, by inputs and cotangents, of every differentiated case's gradients along random directions.
fn second_derivatives_pass(device: &str) {
    let mut runner = DeviceRunner::new(&Device::open(device).unwrap());
    let cases: Vec<Case> = cases::all().into_iter().filter(|c| c.grad).collect();
    let mut check = |c: &Case| {
        let error = support::second(c, &c.graph().unwrap(), &mut runner).err();
        let elsewhere = runner.notes().into_iter().find(|n| n.contains("runs on the CPU"));
        error.or(elsewhere).map(|e| format!("{}: {e}", c.name))
    };
    let failed: Vec<String> = cases.iter().filter_map(&mut check).collect();
    assert!(cases.len() > 100 && failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn second_derivatives_on_the_reference() {
    second_derivatives_pass("reference");
}

#[test]
fn second_derivatives_on_the_cpu_path() {
    second_derivatives_pass("cpu");
}

#[test]
fn second_derivatives_on_a_software_adapter() {
    second_derivatives_pass("software");
}
