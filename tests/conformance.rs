//! The conformance cases of `tests/data/conformance` on the devices that need no GPU. `KILN_CASES` names another folder
//! and `KILN_CASE` a part of file names: then the report is printed and any failure fails.

use kiln::backend::Device;
use kiln::check::conformance::{Options, Summary, run};
use std::path::PathBuf;

/// What is not supported yet, by the beginning of file names. Strict: a case that matches and passes is a failure too.
const UNSUPPORTED: &[&str] = &[];

fn run_all(device: &Device) -> Summary {
    let filter = std::env::var("KILN_CASE").ok();
    let own = std::env::var_os("KILN_CASES").map(PathBuf::from);
    let dir = own.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance"));
    let options = Options { filter: filter.clone(), ..Options::default() };
    let summary = run(&dir, device, &options).expect("the folder of cases is readable");
    println!("{summary}");
    if own.is_some() || filter.is_some() {
        assert!(summary.failures.is_empty(), "{} cases fail", summary.failures.len());
        return summary;
    }
    let listed = |file: &str| UNSUPPORTED.iter().any(|name| file.starts_with(name));
    let surprises: Vec<_> = summary.failures.iter().filter(|f| !listed(&f.file)).collect();
    assert!(surprises.is_empty(), "cases fail: {surprises:#?}");
    let expected = std::fs::read_dir(&dir).expect("the folder is readable").filter(|entry| {
        let name = entry.as_ref().map(|e| e.file_name().to_string_lossy().into_owned()).unwrap_or_default();
        listed(&name)
    });
    let (expected, failed) = (expected.count(), summary.failures.len());
    assert!(failed == expected, "{expected} cases are listed as unsupported, but only {failed} of them fail");
    summary
}

#[test]
fn reference() {
    let device = Device::open("reference").expect("the reference is always there");
    let summary = run_all(&device);
    assert!(summary.passed > 0);
}
