//! The conformance cases of `tests/data/conformance`, and those of `tests/data/conformance_more` (attributes, types and
//! modes of torch's that the former do not use), on the devices that need no GPU. `KILN_CASES` names another folder
//! and `KILN_CASE` a part of file names: then the report is printed and any failure fails.

use kiln::backend::Device;
use kiln::check::conformance::{Options, Summary, run};
use std::path::PathBuf;

/// What is not supported yet on any device, by the beginning of file names. Strict: a case that matches and passes is a
/// failure too.
const UNSUPPORTED: &[&str] = &[];

/// What fails on the software adapter beside that, with `no_fallback`.
const SOFTWARE: &[&str] = &[];

/// The folders of cases below `tests/data`.
const FOLDERS: &[&str] = &["conformance", "conformance_more"];

fn run_all(request: &str, no_fallback: bool, known: &[&str]) {
    let device = Device::open(request).unwrap_or_else(|e| panic!("{request}: {e}"));
    run_on(request, device, no_fallback, known);
}

fn run_on(request: &str, device: Device, no_fallback: bool, known: &[&str]) {
    let filter = std::env::var("KILN_CASE").ok();
    let own = std::env::var_os("KILN_CASES").map(PathBuf::from);
    let options = Options { filter: filter.clone(), no_fallback };
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let folders = own.clone().map_or_else(|| FOLDERS.iter().map(|f| data.join(f)).collect(), |dir| vec![dir]);
    let mut summary = Summary::default();
    let mut names = Vec::new();
    for dir in &folders {
        let part = match run(dir, &device, &options) {
            Ok(part) => part,
            // A filter may let nothing of one folder through.
            Err(_) if filter.is_some() => continue,
            Err(e) => panic!("{}: {e}", dir.display()),
        };
        println!("{request} {}:\n{part}", dir.display());
        summary.passed += part.passed;
        summary.failures.extend(part.failures);
        names.extend(std::fs::read_dir(dir).expect("the folder is readable").flatten());
    }
    assert!(summary.passed > 0, "no case passes on {request}");
    if own.is_some() || filter.is_some() {
        assert!(summary.failures.is_empty(), "{} cases fail on {request}", summary.failures.len());
        return;
    }
    let listed = |file: &str| UNSUPPORTED.iter().chain(known).any(|name| file.starts_with(name));
    let surprises: Vec<_> = summary.failures.iter().filter(|f| !listed(&f.file)).collect();
    assert!(surprises.is_empty(), "cases fail on {request}: {surprises:#?}");
    let expected = names.iter().filter(|entry| listed(&entry.file_name().to_string_lossy())).count();
    let failed = summary.failures.len();
    assert!(failed == expected, "{expected} cases are listed as failing on {request}, but only {failed} of them fail");
}

#[test]
fn reference() {
    run_all("reference", false, &[]);
}

#[test]
fn cpu() {
    run_all("cpu", false, &[]);
}

#[test]
fn software() {
    run_all("software", true, SOFTWARE);
}

/// By the kernels that a discrete GPU would get.
#[test]
fn software_as_a_gpu() {
    let device = Device::open("software").unwrap_or_else(|e| panic!("software: {e}"));
    run_on("software as a GPU", device.as_gpu(), true, SOFTWARE);
}
