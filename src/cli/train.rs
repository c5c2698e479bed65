//! `kiln train`: trains a preset or a TOML file, resumes a run, or repeats a preset over seeds.

use crate::backend::Device;
use crate::cli::dry_run::dry_run;
use crate::cli::folds::over_folds;
use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use crate::report::Console;
use crate::report::number::{mean_and_deviation, percent, seconds};
use crate::train::config::text::reference;
use crate::train::config::{Draft, PRESETS};
use crate::train::run::{Run, Silent};
use crate::train::{RunConfig, RunOptions, Summary};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Train a network: a preset, or a run described by a TOML file.
///
/// Without arguments it trains digits-cnn, a small convolutional network on 8x8 images of digits that come with kiln.
/// The other presets: digits-mlp (fully connected), chars-gpt (a character-level transformer on the King James text),
/// mnist-cnn (MNIST or Fashion-MNIST from a folder given with --data). Every run gets a folder with its configuration,
/// its metrics and its weights. The test part of the data is measured once, at the end; make choices by the validation part.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// A preset's name, or the path of a TOML file.
    #[arg(default_value = PRESETS[0].0, conflicts_with = "resume", value_name = "PRESET|FILE.toml")]
    what: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Passes over the training data.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    epochs: Option<u64>,
    /// Where everything random follows from.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    seed: Option<u64>,
    /// Examples per update.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    batch: Option<usize>,
    /// Learning rate.
    #[arg(long, value_name = "X", conflicts_with = "resume")]
    lr: Option<f64>,
    /// The user's data: for mnist-cnn the folder with its IDX files, for chars-gpt a text file.
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
    data: Option<PathBuf>,
    /// Change any key of the configuration, such as model.dropout=0.1; can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// The run's folder; without it the first free one of runs/PRESET-0, runs/PRESET-1, .. is made.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Continue the run in this folder from its last checkpoint; the result is that of a run never stopped, bit by bit.
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// Stop after this update (counted from the start of the run), with a checkpoint.
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
    /// Train once per seed of this range, such as 0-9, and show mean and deviation; keeps no folders.
    #[arg(long, value_name = "A-B", conflicts_with_all = ["resume", "seed", "out", "stop_after"])]
    seeds: Option<String>,
    /// Cross-validation: divide all but the test part into N folds (each class evenly, groups whole), train once per fold on
    /// the others, and show each fold's validation, its mean and deviation. With --out it keeps a folder for each fold.
    #[arg(long, value_name = "N", conflicts_with_all = ["resume", "seeds", "stop_after"])]
    folds: Option<usize>,
    /// Do not train: go through learning rates from 1e-8 to 1 in 100 updates, print the losses and suggest a rate.
    #[arg(long, conflicts_with_all = ["resume", "seeds", "folds", "out", "stop_after"])]
    find_lr: bool,
    /// Seconds between two checkpoints.
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    checkpoint_every: f64,
    /// Print the result as one JSON object on standard output; everything else goes to standard error.
    #[arg(long)]
    json: bool,
    /// Print the configuration as TOML and do not train: a start for a file of your own. Every key has its meaning above
    /// it; comments at the end list all that a file may say.
    #[arg(long)]
    print_config: bool,
    /// Read the data, build and plan the model, print its layers with shapes, parameters, operations and the memory that
    /// the device needs, and do not train.
    #[arg(long, conflicts_with_all = ["resume", "print_config", "seeds", "folds"])]
    dry_run: bool,
}

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<Outcome> {
    let every = Duration::try_from_secs_f64(args.checkpoint_every)
        .map_err(|_| Error::input("--checkpoint-every", format!("{} is not a time", args.checkpoint_every)))?;
    let options =
        RunOptions { out: args.out.clone(), keep: true, stop_after: args.stop_after, checkpoint_every: every };
    if let Some(folder) = &args.resume {
        let device = args.device.open()?;
        return train(Run::resume(folder, &device, options)?, args.json);
    }
    let config = configuration(args)?;
    if args.print_config {
        print!("{}\n{}", config.to_toml()?, reference());
        return Ok(Outcome::Good);
    }
    if let Some(folds) = args.folds {
        return over_folds(&config, folds, &args.device.open()?, &options, args.json);
    }
    if args.dry_run {
        return dry_run(&config, &args.device.open()?, args.json);
    }
    if let Some(range) = &args.seeds {
        return over_seeds(&config, &seeds(range)?, &args.device.open()?, args.json);
    }
    let device = args.device.open()?;
    if args.find_lr {
        return crate::cli::find_lr::run(&config, &device, args.json);
    }
    train(Run::new(config, &device, options)?, args.json)
}

/// The configuration that the arguments describe.
fn configuration(args: &TrainArgs) -> Result<RunConfig> {
    let mut draft = Draft::open(&args.what)?;
    for pair in &args.set {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::input("--set", format!("{pair:?} has no '='; write KEY=VALUE")));
        };
        draft.set(key.trim(), value.trim())?;
    }
    let numbers = [
        ("epochs", args.epochs.map(|n| n.to_string())),
        ("seed", args.seed.map(|n| n.to_string())),
        ("batch", args.batch.map(|n| n.to_string())),
        ("optimizer.lr", args.lr.map(|x| format!("{x:?}"))),
    ];
    for (key, value) in numbers {
        value.map_or(Ok(()), |v| draft.set(key, &v))?;
    }
    if let Some(path) = &args.data {
        // Absolute, so that a later resume or eval finds it from anywhere.
        let path = std::path::absolute(path)
            .map_err(|e| Error::input(path.display(), format!("is not a usable path: {e}")))?;
        draft.set("data.path", &format!("{:?}", path.to_string_lossy()))?;
    }
    draft.finish()
}

fn train(run: Run, json: bool) -> Result<Outcome> {
    let mut console = Console::new(program(), json);
    let summary = run.train(&mut console)?;
    console.result(&summary);
    if json {
        print_json(&summary_json(&summary));
    }
    Ok(Outcome::Good)
}

/// How the user called this program.
fn program() -> String {
    let name = std::env::args_os().next().map(|a| a.to_string_lossy().into_owned());
    name.filter(|n| !n.is_empty()).unwrap_or_else(|| "kiln".into())
}

fn measures_json(m: &crate::train::Measures) -> Value {
    json!({ "loss": m.loss(), "accuracy": m.accuracy(), "count": m.count })
}

fn summary_json(s: &Summary) -> Value {
    json!({
        "test": s.test.as_ref().map(measures_json),
        "validation": s.validation.as_ref().map(measures_json),
        "train": measures_json(&s.train),
        "updates": s.position.step, "epochs": s.position.epoch, "seconds": s.seconds,
        "seconds_to_first_update": s.first_step, "suppressed_updates": s.skipped,
        "usage": s.usage, "folder": s.folder.as_deref().map(Path::to_string_lossy), "samples": s.samples,
    })
}

/// `4`, or `0-9` with both ends.
fn seeds(text: &str) -> Result<Vec<u64>> {
    let bad = || Error::input("--seeds", format!("{text:?} is not a range; write 0-9, or one number"));
    let number = |s: &str| s.trim().parse::<u64>().map_err(|_| bad());
    let (from, to) = match text.split_once('-') {
        Some((a, b)) => (number(a)?, number(b)?),
        None => (number(text)?, number(text)?),
    };
    if to < from || to - from >= 1000 {
        return Err(bad());
    }
    Ok((from..=to).collect())
}

fn over_seeds(config: &RunConfig, seeds: &[u64], device: &Device, json: bool) -> Result<Outcome> {
    let say = |line: String| if json { eprintln!("{line}") } else { println!("{line}") };
    let info = device.info();
    say(format!("{} on {} ({}): {}", config.preset, info.name, info.driver, device.reason()));
    let (mut tests, mut validations, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for &seed in seeds {
        let began = Instant::now();
        let config = RunConfig { seed, ..config.clone() };
        let options = RunOptions { keep: false, ..RunOptions::default() };
        let summary = Run::new(config, device, options)?.train(&mut Silent)?;
        let Some(test) = summary.test else { continue };
        tests.push(test.accuracy());
        let validation = summary.validation.map_or(String::new(), |v| {
            validations.push(v.accuracy());
            format!("  validation {} (loss {:.4})", percent(v.accuracy()), v.loss())
        });
        let time = seconds(began.elapsed().as_secs_f64());
        say(format!(
            "seed {seed:<3} test accuracy {} (loss {:.4}){validation}  {time}",
            percent(test.accuracy()),
            test.loss()
        ));
        rows.push(json!({ "seed": seed, "summary": summary_json(&summary) }));
    }
    let (mean, deviation) = mean_and_deviation(&tests);
    if !validations.is_empty() {
        let (mean, deviation) = mean_and_deviation(&validations);
        say(format!("validation accuracy: mean {}, deviation {}", percent(mean), percent(deviation)));
    }
    say(format!("test accuracy: mean {}, deviation {}, over {} seeds", percent(mean), percent(deviation), tests.len()));
    if json {
        print_json(&json!({ "preset": config.preset, "mean": mean, "deviation": deviation, "runs": rows }));
    }
    Ok(Outcome::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds() {
        assert_eq!(seeds("0-3").unwrap(), [0, 1, 2, 3]);
        assert_eq!(seeds("7").unwrap(), [7]);
        for bad in ["", "3-1", "a-b", "0-100000", "-4"] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
    }
}
