//! `kiln train`: trains a preset or a TOML file, resumes a run, or repeats a preset over seeds.

use crate::backend::Device;
use crate::cli::critical::after_training;
use crate::cli::dry_run::dry_run;
use crate::cli::folds::over_folds;
use crate::cli::{DeviceArg, INTERRUPTED, Outcome, print_json};
use crate::config::config;
use crate::error::{Error, Result};
use crate::report::number::{mean_and_deviation, percent, seconds};
use crate::report::{Board, Console, JsonLines, page};
use crate::train::config::text::reference;
use crate::train::config::{Draft, PRESETS};
use crate::train::files::write_whole;
use crate::train::profile::Profile;
use crate::train::run::{Run, Silent, Watch, Watches};
use crate::train::{Measures, RunConfig, RunOptions, Stop};
use clap::ValueEnum;
use serde_json::json;
use std::path::PathBuf;
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
    /// Do not train: time updates with batches of 8, 16, 32 .. examples as far as the memory goes, print a table and suggest
    /// a size.
    #[arg(long, conflicts_with_all = ["resume", "seeds", "folds", "out", "stop_after", "find_lr"])]
    find_batch_size: bool,
    /// For --find-batch-size: the memory that an update may take. Without it half of what the machine has left.
    #[arg(long, value_name = "MIB", requires = "find_batch_size")]
    memory: Option<usize>,
    /// Seconds between two checkpoints.
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    checkpoint_every: f64,
    /// What is shown while it trains: a bar where there is a terminal and a line per epoch; lines alone; JSON lines on
    /// standard output; nothing but warnings and the result.
    #[arg(long, value_enum, default_value_t = Progress::Bar)]
    progress: Progress,
    /// Write event files for TensorBoard into the run's folder: `tensorboard --logdir RUN`.
    #[arg(long)]
    tensorboard: bool,
    /// Time one update kernel by kernel; print where its time goes and write a trace for Perfetto or chrome://tracing to
    /// trace.json in the run's folder, or to the file in KILN_TRACE, which asks for it too. On software adapters each launch is
    /// timed alone by the host's clock, its submit and the wait for it included.
    #[arg(long)]
    profile: bool,
    /// Which update is timed: late enough that everything is compiled.
    #[arg(long, value_name = "N", default_value_t = 10)]
    profile_update: u64,
    /// At the end say what kind of point of the loss surface was reached, as `kiln critical RUN` does.
    #[arg(long, conflicts_with_all = ["seeds", "folds"])]
    critical: bool,
    /// Do not write report.html at the end.
    #[arg(long)]
    no_report: bool,
    /// Keep this many of the newest checkpoints, beside the one of the best validation loss.
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
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

/// What is shown while a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Progress {
    Bar,
    Plain,
    Json,
    Quiet,
}

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<Outcome> {
    let every = Duration::try_from_secs_f64(args.checkpoint_every)
        .map_err(|_| Error::input("--checkpoint-every", format!("{} is not a time", args.checkpoint_every)))?;
    let options = RunOptions {
        out: args.out.clone(),
        stop_after: args.stop_after,
        checkpoint_every: every,
        keep_checkpoints: args.keep,
        profile: (args.profile || config().trace.is_some()).then_some(args.profile_update),
        ..RunOptions::default()
    };
    if let Some(folder) = &args.resume {
        let device = args.device.open()?;
        return train(Run::resume(folder, &device, options)?, &device, args);
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
    if args.find_batch_size {
        return crate::cli::find_batch::run(&config, &device, args.memory, args.json);
    }
    train(Run::new(config, &device, options)?, &device, args)
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

/// Lets Ctrl-C (and a polite request of the system) end the run after its present update; a second one ends the process.
fn stop_on_signals(stop: Stop) {
    let set = ctrlc::set_handler(move || {
        if stop.request() {
            // Nothing is lost but what came after the last checkpoint: files get their names when they are whole.
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\nstopping: the present update is finished and saved; once more stops at once");
    });
    if let Err(e) = set {
        log::warn!("Ctrl-C will not save a checkpoint: {e}");
    }
}

fn train(run: Run, device: &Device, args: &TrainArgs) -> Result<Outcome> {
    stop_on_signals(run.options().stop.clone());
    let as_lines = args.progress == Progress::Json;
    let mut console = Console::new(program(), args.json);
    match args.progress {
        Progress::Bar => {}
        Progress::Plain => console = console.without_bar(),
        Progress::Json | Progress::Quiet => console = console.quiet(),
    }
    let (mut lines, mut board) = (JsonLines::new(), Board::new());
    let mut timed = Timed(None);
    let mut watches = Watches(vec![&mut console, &mut timed]);
    if as_lines {
        watches.0.push(&mut lines);
    }
    if args.tensorboard {
        watches.0.push(&mut board);
    }
    let summary = run.train(&mut watches)?;
    if as_lines {
        lines.result(&summary);
    } else {
        console.result(&summary);
    }
    if let Some(folder) = summary.folder.as_deref().filter(|_| summary.finished && !args.no_report) {
        // A run is done without its report; what is wrong with that is said, and `kiln report` makes it again.
        match page::write(folder, device) {
            Ok(path) => console.note(&format!("report:  {}", path.display())),
            Err(e) => eprintln!("warning: no report: {e}"),
        }
    }
    if let Some(folder) = summary.folder.as_deref().filter(|_| args.critical && summary.finished) {
        console.note(&after_training(folder, device)?.to_string());
    }
    if let Some((trace, text)) = timed.0 {
        console.note(&text);
        match config().trace.clone().or_else(|| summary.folder.as_ref().map(|f| f.join("trace.json"))) {
            Some(path) => {
                write_whole(&path, trace.to_string().as_bytes())?;
                console.note(&format!("trace:   {} (open it in ui.perfetto.dev)", path.display()));
            }
            None => console.note("no trace: the run keeps no folder"),
        }
    }
    if let Some(folder) = board.folder() {
        console.note(&format!("events:  tensorboard --logdir {}", folder.display()));
    }
    if args.json {
        print_json(&summary.to_json());
    }
    Ok(if summary.interrupted { Outcome::Interrupted } else { Outcome::Good })
}

/// Keeps what was measured of an update.
struct Timed(Option<(serde_json::Value, String)>);

impl Watch for Timed {
    fn profiled(&mut self, p: &Profile) {
        match p.is_done() {
            true => self.0 = Some((p.trace(), p.report())),
            false => eprintln!(
                "warning: training ended before the update to be timed; take an earlier one with --profile-update"
            ),
        }
    }
}

/// How the user called this program.
fn program() -> String {
    let name = std::env::args_os().next().map(|a| a.to_string_lossy().into_owned());
    name.filter(|n| !n.is_empty()).unwrap_or_else(|| "kiln".into())
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
        let part =
            |name: &str, m: Measures| format!("{name} accuracy {} (loss {:.4})", percent(m.accuracy()), m.loss());
        let mut said = Vec::new();
        if let Some(test) = summary.test {
            tests.push(test.accuracy());
            said.push(part("test", test));
        }
        if let Some(v) = summary.validation {
            validations.push(v.accuracy());
            said.push(part("validation", v));
        }
        if said.is_empty() {
            let detail = "there is neither a test nor a validation part to measure; set data.test or data.validation";
            return Err(Error::input("--seeds", detail));
        }
        say(format!("seed {seed:<3} {}  {}", said.join("  "), seconds(began.elapsed().as_secs_f64())));
        rows.push(json!({ "seed": seed, "summary": summary.to_json() }));
    }
    for (name, accuracies) in [("validation", &validations), ("test", &tests)] {
        if !accuracies.is_empty() {
            let (mean, deviation) = mean_and_deviation(accuracies);
            let n = accuracies.len();
            say(format!("{name} accuracy: mean {}, deviation {}, over {n} seeds", percent(mean), percent(deviation)));
        }
    }
    let (mean, deviation) = mean_and_deviation(if tests.is_empty() { &validations } else { &tests });
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
