//! `kiln critical`: what kind of point of the loss surface a run ended at, and a step off a saddle.

use crate::backend::Device;
use crate::cli::eval::PartName;
use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use crate::train::curvature::{Critical, Examine, Surface};
use crate::train::files::save_weights;
use crate::train::run::{self, Opened, WeightsOf};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Examine the loss surface where a run ended: the norm of the gradient, the extreme eigenvalues of the Hessian, the
/// minimum ratio, and whether the point is a minimum or a saddle.
#[derive(Debug, clap::Args)]
pub struct CriticalArgs {
    /// The run's folder, as `kiln train` printed it.
    run: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
    /// Which part of the data the loss is taken over.
    #[arg(long, value_enum, default_value_t = PartName::Train)]
    part: PartName,
    /// The first so many examples of it; each Hessian-vector product goes over all of them.
    #[arg(long, value_name = "N", default_value_t = 512)]
    examples: usize,
    /// A gradient with a larger norm means that the point is not critical.
    #[arg(long, value_name = "X", default_value_t = Examine::default().gradient)]
    gradient: f64,
    /// Which weights: last, best (of the lowest validation loss), or a safetensors file.
    #[arg(long, default_value = "last", value_name = "last|best|FILE")]
    weights: WeightsOf,
    /// Step along the eigenvector of the smallest eigenvalue, as far as lowers the loss most, and write the weights there
    /// to this file; `train.init` starts a run from them.
    #[arg(long, value_name = "FILE")]
    escape: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &CriticalArgs) -> Result<Outcome> {
    if args.examples == 0 {
        return Err(Error::input("--examples", "must be at least 1"));
    }
    let device = args.device.open()?;
    let Opened { config, task, mut trainer, warnings } = run::open(&args.run, &device, &args.weights)?;
    warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    let (name, part) = match args.part {
        PartName::Train => ("train", &task.train),
        PartName::Validation => ("validation", &task.validation),
        PartName::Test => ("test", &task.test),
    };
    let examples = &part.indices[..args.examples.min(part.indices.len())];
    if examples.is_empty() {
        return Err(Error::input("--part", format!("this run has no {name} part (data.{name} is 0)")));
    }
    let mut surface = Surface::of(&mut trainer, &*part.data, examples, config.batch)?;
    let point = surface.examine(&Examine { gradient: args.gradient, ..Examine::default() })?;
    let say = |text: String| if args.json { eprintln!("{text}") } else { println!("{text}") };
    say(format!("loss over {} examples of the {name} part:\n{point}", examples.len()));
    let mut result = point.to_json();
    if let Some(file) = &args.escape {
        let pair = point.smallest.first().ok_or_else(|| Error::internal("critical", "there is no eigenvalue"))?;
        if pair.value >= 0.0 {
            say("no curvature is negative: there is nothing to escape along, and no file is written".into());
        } else {
            let step = surface.escape(pair)?;
            save_weights(file, &trainer.states(true)?)?;
            let (before, after) = (step.before, step.after);
            say(format!("a step of {:.3} along the first: loss {before:.6} -> {after:.6}", step.length));
            say(format!("weights: {}", file.display()));
            result["escape"] = json!({ "length": step.length, "before": before, "after": after });
        }
    }
    if args.json {
        print_json(&result);
    }
    Ok(Outcome::Good)
}

/// Examines the point where a run ended that was just trained.
pub(super) fn after_training(folder: &Path, device: &Device) -> Result<Critical> {
    let Opened { config, task, mut trainer, .. } = run::open(folder, device, &WeightsOf::Last)?;
    let all = &task.train.indices;
    let mut surface = Surface::of(&mut trainer, &*task.train.data, &all[..all.len().min(512)], config.batch)?;
    surface.examine(&Examine::default())
}
