//! `kiln diagnose`: says from measured losses what keeps a model from being good, and what to try next.

use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use crate::report::number::{count, percent};
use crate::report::page::name;
use crate::report::runs::table;
use crate::train::diagnose::{Candidate, Measured, Problem, baselines, candidate, chance, judge};
use crate::train::run::{self, Opened, WeightsOf};
use serde_json::json;
use std::path::PathBuf;

/// Find out what keeps a model from being good: too weak a model, failed optimization, overfitting, or parts of the data that
/// are not alike.
///
/// Give one run, or several on the same data: the one with the most parameters is judged, the others are compared with it.
#[derive(Debug, clap::Args)]
pub struct DiagnoseArgs {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    /// Train small models on the same data and compare: logistic regression and a linear support vector machine, or linear regression.
    #[arg(long)]
    baseline: bool,
    /// Passes of a small model over the training data.
    #[arg(long, default_value_t = 20, value_name = "N")]
    baseline_epochs: u64,
    /// The highest training loss that counts as low; by default a tenth of what guessing by frequency has.
    #[arg(long, value_name = "LOSS")]
    goal: Option<f64>,
    /// Which weights: last, best (of the lowest validation loss).
    #[arg(long, default_value = "last", value_name = "last|best")]
    weights: WeightsOf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &DiagnoseArgs) -> Result<Outcome> {
    if args.goal.is_some_and(|g| !(g > 0.0)) {
        return Err(Error::input("--goal", "must be a positive loss"));
    }
    let device = args.device.open()?;
    let (mut models, mut first, mut data) = (Vec::new(), None, None);
    for path in &args.runs {
        let Opened { config, task, mut trainer, warnings } = run::open(path, &device, &args.weights)?;
        warnings.iter().for_each(|w| eprintln!("warning: {w}"));
        match &data {
            None => data = Some(config.data.clone()),
            Some(other) if *other != config.data => {
                let detail =
                    format!("was trained on other data than {}; compare runs on the same", args.runs[0].display());
                return Err(Error::input(path.display(), detail));
            }
            Some(_) => {}
        }
        models.push(candidate(&name(path), &mut trainer, &task, config.batch, true)?);
        first.get_or_insert((config, task));
    }
    let Some((config, task)) = first else { return Err(Error::input("RUN", "give at least one run")) };
    if args.baseline {
        let found = baselines(&task, &device, config.batch, args.baseline_epochs, config.seed)?;
        if found.is_empty() {
            eprintln!("warning: no small model is known for this kind of data");
        }
        models.extend(found);
    }
    let chance = chance(&task)?;
    let runs = args.runs.len();
    // Of equal ones the first.
    let largest = (0..runs).rev().max_by_key(|&i| models[i].parameters).unwrap_or(0);
    let subject = models[largest].clone();
    let smaller: Vec<Candidate> = models.iter().filter(|m| m.parameters < subject.parameters).cloned().collect();
    let verdict = judge(&subject, &smaller, chance, args.goal);
    if args.json {
        print_json(&json!({ "subject": subject.name, "models": models, "chance": chance, "verdict": verdict }));
        return Ok(Outcome::Good);
    }
    let mut rows = vec![["model", "parameters", "training", "validation", "test"].map(String::from).to_vec()];
    let cell = |m: &Measured| match m.accuracy > 0.0 {
        true => format!("{:.4} ({})", m.loss, percent(m.accuracy)),
        false => format!("{:.4}", m.loss),
    };
    let optional = |m: &Option<Measured>| m.as_ref().map_or_else(|| "-".into(), cell);
    for m in &models {
        rows.push(vec![
            m.name.clone(),
            count(m.parameters as u64),
            cell(&m.train),
            optional(&m.validation),
            optional(&m.test),
        ]);
    }
    print!("{}", table(&rows));
    let what = match verdict.problem {
        Problem::Optimization => "optimization: a smaller model gets further in training",
        Problem::ModelBias => "model bias: the model is too weak for the training data",
        Problem::Overfitting => "overfitting: what holds for the training data does not hold for new data",
        Problem::Mismatch => "mismatch: the test data are not like the training data",
        Problem::None => "none found",
    };
    println!("\n{}: {what}", subject.name);
    verdict.reasons.iter().for_each(|r| println!("  because {r}"));
    verdict.advice.iter().for_each(|a| println!("  try     {a}"));
    Ok(Outcome::Good)
}
