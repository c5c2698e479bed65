//! `kiln runs`: lists and compares the runs of a folder. `kiln report`: writes a run's `report.html`.

use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::Result;
use crate::report::number::percent;
use crate::report::runs::{differences, find, table};
use crate::report::{page, page::name};
use std::path::PathBuf;

/// List and compare the runs in a folder: how far they came, their best and final measures, where their configurations
/// differ.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    /// The folder with the runs.
    #[arg(default_value = "runs")]
    dir: PathBuf,
    /// Sort by the best validation loss instead of by name.
    #[arg(long)]
    best: bool,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Write the report of a run again: one HTML file with everything in it. Training writes it at its end.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// The run's folder.
    run: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
}

/// Runs `kiln report`.
pub fn report(args: &ReportArgs) -> Result<Outcome> {
    println!("{}", page::write(&args.run, &args.device.open()?)?.display());
    Ok(Outcome::Good)
}

/// Runs `kiln runs`.
pub fn run(args: &RunsArgs) -> Result<Outcome> {
    let (mut found, problems) = find(&args.dir)?;
    problems.iter().for_each(|p| eprintln!("warning: {p}"));
    if args.best {
        let loss = |e: &crate::report::runs::Entry| e.best.map_or(f64::INFINITY, |b| b.0);
        found.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
    }
    if args.json {
        print_json(&found.iter().map(|e| e.to_json()).collect());
        return Ok(Outcome::Good);
    }
    if found.is_empty() {
        println!("no runs in {}", args.dir.display());
        return Ok(Outcome::Good);
    }
    let different = differences(&found);
    let mut head: Vec<String> =
        ["run", "state", "epochs", "updates", "best loss", "at epoch", "best acc.", "test loss", "test acc."]
            .map(String::from)
            .to_vec();
    head.extend(different.iter().cloned());
    let mut rows = vec![head];
    let or_dash = |x: Option<String>| x.unwrap_or_else(|| "-".into());
    // An accuracy of 0 is that of a task without classes.
    let share = |x: Option<f64>| or_dash(x.filter(|a| *a > 0.0).map(percent));
    for e in &found {
        let mut row = vec![
            name(&e.path),
            e.state.clone(),
            e.epochs.to_string(),
            e.updates.to_string(),
            or_dash(e.best.map(|b| format!("{:.4}", b.0))),
            or_dash(e.best.map(|b| b.1.to_string())),
            share(e.accuracy),
            or_dash(e.test.map(|t| format!("{:.4}", t.0))),
            share(e.test.map(|t| t.1)),
        ];
        row.extend(different.iter().map(|key| or_dash(e.config.get(key).cloned())));
        rows.push(row);
    }
    print!("{}", table(&rows));
    Ok(Outcome::Good)
}
