//! `kiln eval`: measures a trained model.

use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use crate::report::number::{count, percent};
use crate::train::decode::Search;
use crate::train::run::{self, Opened, WeightsOf, measure};
use crate::train::task::Output;
use crate::train::translation::judge;
use clap::ValueEnum;
use serde_json::json;
use std::f64::consts::LN_2;
use std::path::PathBuf;

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartName {
    /// What the weights were fitted to.
    Train,
    /// What choices are made on.
    Validation,
    /// What was kept for the end.
    Test,
}

/// Measure the model of a run on its test data (or another part).
#[derive(Debug, clap::Args)]
pub struct EvalArgs {
    /// The run's folder, as `kiln train` printed it.
    run: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
    /// Which part of the data; without it the test part, or if there is none the validation part, or the training part.
    #[arg(long, value_enum)]
    part: Option<PartName>,
    /// Which weights: last, best (of the lowest validation loss), or a safetensors file, of kiln or of PyTorch.
    #[arg(long, default_value = "last", value_name = "last|best|FILE")]
    weights: WeightsOf,
    /// Of a run on pairs of sentences: how many of the part are translated, for BLEU beside copying and beside a lexicon.
    #[arg(long, value_name = "N", default_value_t = 200)]
    sentences: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// So many translations are printed.
const SHOWN: usize = 8;

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<Outcome> {
    let device = args.device.open()?;
    let Opened { config, task, mut trainer, warnings } = run::open(&args.run, &device, &args.weights)?;
    warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    let (name, part) = match args.part {
        None => task.unseen(),
        Some(PartName::Train) => ("train", &task.train),
        Some(PartName::Validation) => ("validation", &task.validation),
        Some(PartName::Test) => ("test", &task.test),
    };
    if part.indices.is_empty() {
        return Err(Error::input("--part", format!("this run has no {name} part (data.{name} is 0)")));
    }
    let m = measure(&mut trainer, part, config.batch)?;
    let judged = match (&task.output, args.sentences) {
        (Output::Pair { .. }, 1..) => {
            Some(judge(&mut trainer, &task, &part.indices, args.sentences, Search::default())?)
        }
        _ => None,
    };
    if args.json {
        let mut out = json!({
            "run": args.run.to_string_lossy(), "part": name, "device": device.info().name,
            "loss": m.loss(), "accuracy": m.accuracy(), "count": m.count,
        });
        if let Some(j) = &judged {
            out["translations"] = j.to_json();
        }
        print_json(&out);
        return Ok(Outcome::Good);
    }
    let info = device.info();
    println!("device: {} ({}): {}", info.name, info.driver, device.reason());
    match task.output {
        Output::Class { .. } => {
            let of = count(m.count);
            println!("{name} accuracy {} (loss {:.4}, {of} examples)", percent(m.accuracy()), m.loss());
        }
        Output::Label { .. } => {
            let of = count(m.count);
            println!("{name} accuracy {} (loss {:.4}, {of} examples)", percent(m.accuracy()), m.loss());
        }
        Output::Value { .. } => println!("{name} loss {:.5} ({} examples)", m.loss(), count(m.count)),
        Output::Pair { .. } => {
            let of = count(m.count);
            println!("{name} loss {:.4} nats/token, accuracy {} ({of} tokens)", m.loss(), percent(m.accuracy()));
            judged.iter().for_each(|j| print!("{}", j.table(SHOWN)));
        }
        Output::Char { .. } => {
            let (nats, bits, of) = (m.loss(), m.loss() / LN_2, count(m.count));
            println!(
                "{name} loss {nats:.4} nats/char = {bits:.3} bits/char, accuracy {} ({of} characters)",
                percent(m.accuracy())
            );
        }
    }
    Ok(Outcome::Good)
}
