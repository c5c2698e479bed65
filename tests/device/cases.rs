//! Every case of the registry, forward and backward, on every kind of backend, with a count of what did not run where it
//! was meant to. `kiln::check::run` takes part of a name to run one case alone.

use kiln::Device;
use kiln::check::{Summary, run};

fn all_pass(device: &str) {
    let device = Device::open(device).unwrap();
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
