//! The `kiln` command. Everything it does is in the library; this maps the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln::cli::main()
}
