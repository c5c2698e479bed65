//! `kiln knobs`: the environment variables.

use crate::cli::{Outcome, print_json};
use crate::config::KNOBS;
use crate::error::Result;
use serde_json::json;

/// List the environment variables that kiln reads, with their defaults.
///
/// Nobody needs them for training; they are for finding out what is going on.
#[derive(Debug, clap::Args)]
pub struct KnobsArgs {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &KnobsArgs) -> Result<Outcome> {
    if args.json {
        let knob = |k: &crate::config::Knob| json!({ "name": k.name, "values": k.values, "default": k.default, "help": k.help });
        print_json(&KNOBS.iter().map(knob).collect());
        return Ok(Outcome::Good);
    }
    for k in KNOBS {
        let default = if k.default.is_empty() { "not set" } else { k.default };
        println!("{:<18} {:<12} {} (default: {default})", k.name, k.values, k.help);
    }
    Ok(Outcome::Good)
}
