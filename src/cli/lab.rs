//! `kiln lab`: the list of experiments, or one of them, or all.

use crate::backend::Device;
use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use crate::lab::{self, Experiment, Lab};
use crate::report::number::seconds;
use crate::report::runs::table;
use crate::train::files::write_whole;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Run small experiments that answer questions of a deep-learning course, each with a table and a picture.
///
/// Without a name: the list. Every experiment trains its models with several seeds on data that comes with kiln, prints what it measured
/// and an answer that is worded from that, and writes it with its charts to a page.
#[derive(Debug, clap::Args)]
pub struct LabArgs {
    /// Which experiments.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// All of them.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    device: DeviceArg,
    /// How often each model is trained, 1 to 100.
    #[arg(long, default_value_t = 5, value_name = "N")]
    seeds: u64,
    /// Epochs, as a multiple (up to 100) of what each experiment is meant to run: 0.1 for a first look.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    effort: f64,
    /// Folder for the pages, one NAME.html each.
    #[arg(long, default_value = "lab", value_name = "DIR")]
    out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &LabArgs) -> Result<Outcome> {
    if !(1..=100).contains(&args.seeds) {
        return Err(Error::input("--seeds", format!("must be 1 to 100, not {}", args.seeds)));
    }
    if !(args.effort > 0.0 && args.effort <= 100.0) {
        return Err(Error::input("--effort", format!("must be above 0 and at most 100, not {}", args.effort)));
    }
    let mut chosen: Vec<&Experiment> = match args.all {
        true => lab::all().iter().collect(),
        false => args.names.iter().map(|n| lab::find(n)).collect::<Result<_>>()?,
    };
    let mut seen = BTreeSet::new();
    chosen.retain(|e| seen.insert(e.name));
    if chosen.is_empty() {
        list(args.json);
        return Ok(Outcome::Good);
    }
    let device = args.device.open()?;
    let info = device.info();
    std::fs::create_dir_all(&args.out)
        .map_err(|e| Error::input(args.out.display(), format!("cannot make the folder: {e}")))?;
    let (mut results, mut outcome) = (Vec::new(), Outcome::Good);
    for e in chosen {
        match one(args, &device, e) {
            Ok(result) => results.push(result),
            Err(why) => {
                // The others have their own models; what they find is not lost.
                eprintln!("error: {}: {why}", e.name);
                results.push(json!({ "experiment": e.name, "error": why.to_string() }));
                outcome = Outcome::Failed;
            }
        }
    }
    if args.json {
        print_json(&json!({
            "device": info.name, "driver": info.driver, "seeds": args.seeds, "effort": args.effort, "experiments": results,
        }));
    }
    Ok(outcome)
}

/// Runs one experiment, prints what it found and writes its page.
fn one(args: &LabArgs, device: &Device, e: &Experiment) -> Result<Value> {
    let say = |text: &str| eprintln!("  {text}");
    if !args.json {
        println!("{} (lecture {}): {}\n\n{}", e.name, e.lecture, e.question, e.method);
    }
    let start = Instant::now();
    let lab = Lab::new(device, args.seeds, args.effort, &say);
    let found = (e.run)(&lab)?;
    let took = start.elapsed().as_secs_f64();
    let mut how = format!("kiln lab {} on {}", e.name, device.info().name);
    if lab.drawn() {
        let _ = write!(how, ", {} seed{}", args.seeds, if args.seeds == 1 { "" } else { "s" });
    }
    if args.effort != 1.0 {
        let _ = write!(how, ", {} times its epochs", args.effort);
    }
    let _ = write!(how, ", {}", seconds(took));
    if !args.json {
        println!("{}\n{how}", found.text());
    }
    let path = args.out.join(format!("{}.html", e.name));
    write_whole(&path, found.page(e, &how).as_bytes())?;
    if !args.json {
        println!("page: {}\n", path.display());
    }
    let mut value = found.to_json();
    value["experiment"] = json!(e.name);
    value["question"] = json!(e.question);
    value["seconds"] = json!(took);
    value["page"] = json!(path);
    Ok(value)
}

fn list(as_json: bool) {
    if as_json {
        let each = |e: &Experiment| json!({ "name": e.name, "lecture": e.lecture, "question": e.question, "method": e.method });
        return print_json(&lab::all().iter().map(each).collect());
    }
    let head = ["experiment", "lecture", "question"].map(String::from).to_vec();
    let row = |e: &Experiment| vec![e.name.to_string(), e.lecture.to_string(), e.question.to_string()];
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(lab::all().iter().map(row)).collect();
    print!("{}", table(&rows));
    println!("\nkiln lab NAME runs one of them, kiln lab --all all");
}
