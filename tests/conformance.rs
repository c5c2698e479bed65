//! The conformance cases of `tests/data/conformance`, on every device that is there. `KILN_CASES` names another folder.

use kiln::check::conformance::{Device, Options, Summary, run};
use std::path::PathBuf;

fn cases() -> PathBuf {
    match std::env::var_os("KILN_CASES") {
        Some(dir) => dir.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance"),
    }
}

fn verify(summary: &Summary) {
    println!("{summary}");
}

#[test]
fn reference() {
    let filter = std::env::var("KILN_CASE").ok();
    let options = Options { filter, ..Options::default() };
    verify(&run(&cases(), &Device, &options).expect("the folder of cases is readable"));
}
