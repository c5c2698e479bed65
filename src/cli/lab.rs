//! `kiln lab`: the list of experiments, or one of them, or all.

use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use crate::lab::{self, Experiment, Lab};
use crate::report::number::seconds;
use crate::report::runs::table;
use crate::train::files::write_whole;
use serde_json::json;
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
    /// How often each model is trained.
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Epochs, as a multiple of what each experiment is meant to run: 0.1 for a first look.
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
    if args.seeds == 0 {
        return Err(Error::input("--seeds", "must be at least 1"));
    }
    if !(args.effort > 0.0 && args.effort.is_finite()) {
        return Err(Error::input("--effort", "must be a positive number"));
    }
    let chosen: Vec<&Experiment> = match args.all {
        true => lab::all().iter().collect(),
        false => args.names.iter().map(|n| lab::find(n)).collect::<Result<_>>()?,
    };
    if chosen.is_empty() {
        list(args.json);
        return Ok(Outcome::Good);
    }
    let device = args.device.open()?;
    let info = device.info();
    std::fs::create_dir_all(&args.out)
        .map_err(|e| Error::input(args.out.display(), format!("cannot make the folder: {e}")))?;
    let mut results = Vec::new();
    for e in chosen {
        let say = |text: &str| eprintln!("  {text}");
        if !args.json {
            println!("{} (lecture {}): {}\n\n{}", e.name, e.lecture, e.question, e.method);
        }
        let start = Instant::now();
        let found = (e.run)(&Lab::new(&device, args.seeds, args.effort, &say))?;
        let took = start.elapsed().as_secs_f64();
        let effort = if args.effort == 1.0 { String::new() } else { format!(", {} of its epochs", args.effort) };
        let how = format!("kiln lab {} on {}, {} seeds{effort}, {}", e.name, info.name, args.seeds, seconds(took));
        let path = args.out.join(format!("{}.html", e.name));
        write_whole(&path, found.page(e, &how).as_bytes())?;
        if args.json {
            let mut value = found.to_json();
            value["experiment"] = json!(e.name);
            value["question"] = json!(e.question);
            value["seconds"] = json!(took);
            value["page"] = json!(path);
            results.push(value);
        } else {
            println!("{}\n{how}\npage: {}\n", found.text(), path.display());
        }
    }
    if args.json {
        print_json(&json!({
            "device": info.name, "driver": info.driver, "seeds": args.seeds, "effort": args.effort, "experiments": results,
        }));
    }
    Ok(Outcome::Good)
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
