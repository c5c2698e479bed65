//! The `kiln` command. Everything it does is in the library; this maps the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: the first statement of the process; no other thread exists that could read the environment.
    unsafe { kiln::config::quiet_drivers() };
    kiln::cli::main()
}
