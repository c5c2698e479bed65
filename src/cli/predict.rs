//! `kiln predict`: uses a trained model on an input of the user's.

use crate::cli::{DeviceArg, Outcome, print_json};
use crate::data::{idx, npy};
use crate::error::{Error, Result};
use crate::report::number::percent;
use crate::tensor::HostTensor;
use crate::train::generate::{Sampling, generate};
use crate::train::run;
use crate::train::task::{Output, Task};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Use the model of a run on an input.
///
/// For images, INPUT is the number of an example of the test part (0 is the first), or a file with one or more images:
/// IDX, .npy, or plain text numbers, with pixel values as in the data (digits: 0 to 16, MNIST: 0 to 255).
/// For text, INPUT is the beginning of a text, which the model continues.
#[derive(Debug, clap::Args)]
pub struct PredictArgs {
    /// The run's folder, as `kiln train` printed it.
    run: PathBuf,
    /// What to predict from: see above.
    #[arg(allow_hyphen_values = true)]
    input: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Text: characters to add.
    #[arg(long, default_value_t = 300, value_name = "N")]
    length: usize,
    /// Text: how daring the choice of characters is; near 0 always the most likely one.
    #[arg(long, default_value_t = 0.8, value_name = "X")]
    temperature: f64,
    /// Text: where the choices follow from.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &PredictArgs) -> Result<Outcome> {
    if !(args.temperature >= 0.0) {
        return Err(Error::input("--temperature", format!("{} must be 0 or more", args.temperature)));
    }
    let device = args.device.open()?;
    let (_, task, mut trainer) = run::open(&args.run, &device)?;
    match &task.output {
        Output::Char { chars, context, .. } => {
            let how = Sampling { length: args.length, temperature: args.temperature, seed: args.seed };
            let text = generate(&mut trainer, chars, *context, &[&args.input], how)?.remove(0);
            match args.json {
                true => print_json(&json!({ "prompt": args.input, "text": text })),
                false => println!("{}{text}", args.input),
            }
        }
        Output::Label { .. } | Output::Value { .. } | Output::Pair { .. } => {
            let Some(reader) = &task.reader else {
                return Err(Error::input(&args.input, "this run's kind of data cannot be read for predictions"));
            };
            let out = trainer.predict_all(&reader.read(Path::new(&args.input))?)?;
            let width = out.shape.last().copied().unwrap_or(1).max(1);
            let rows = out.as_f32()?.chunks_exact(width);
            match &task.output {
                Output::Value { mean, std, .. } => {
                    for row in rows {
                        let of = |(i, &x): (usize, &f32)| format!("{}", f64::from(x) * std[i] + mean[i]);
                        println!("{}", row.iter().enumerate().map(of).collect::<Vec<_>>().join(" "));
                    }
                }
                _ => report(&rows.map(softmax).collect::<Vec<_>>(), &[], args.json),
            }
        }
        Output::Class { size, white, .. } => {
            let (images, labels) = images(&task, &args.input, *size, *white)?;
            let logits = trainer.predict(&images)?;
            let classes = logits.shape.last().copied().unwrap_or(1);
            let rows: Vec<Vec<f64>> = logits.as_f32()?.chunks_exact(classes).map(softmax).collect();
            report(&rows, &labels, args.json);
        }
    }
    Ok(Outcome::Good)
}

fn report(rows: &[Vec<f64>], labels: &[i32], as_json: bool) {
    let mut found: Vec<Value> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let label = labels.get(i);
        if as_json {
            found.push(json!({ "class": order[0], "probabilities": row, "label": label }));
            continue;
        }
        let next: Vec<String> = order[1..].iter().take(2).map(|&c| format!("{c} {}", percent(row[c]))).collect();
        let truth = label.map_or(String::new(), |l| format!("; the label is {l}"));
        println!("{} {} (then {}){truth}", order[0], percent(row[order[0]]), next.join(", "));
    }
    if as_json {
        print_json(&json!({ "predictions": found }));
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|&l| f64::from(l - best).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|x| x / sum).collect()
}

/// Images f32 [n, 1, height, width] with their labels, as far as those are known.
fn images(task: &Task, input: &str, size: [usize; 2], white: f32) -> Result<(HostTensor, Vec<i32>)> {
    let [h, w] = size;
    if let Ok(index) = input.parse::<usize>() {
        let part = &task.test;
        let Some(&i) = part.indices.get(index) else {
            let detail = format!("the test part has {} examples, the first is 0", part.indices.len());
            return Err(Error::input(format!("example {index}"), detail));
        };
        let mut batch = part.data.batch(&[i], None)?;
        let labels = batch.pop().map_or(Ok(Vec::new()), |t| t.as_i32().map(<[i32]>::to_vec))?;
        let image = batch.pop().ok_or_else(|| Error::input("data", "its examples have no image"))?;
        return Ok((image, labels));
    }
    let path = Path::new(input);
    let bytes = std::fs::read(path).map_err(|e| {
        let what = "give the number of an example of the test part, or a file (IDX, .npy, numbers)";
        Error::input(input, format!("cannot read the file: {e}; {what}"))
    })?;
    let bytes = idx::gunzip(&bytes, input)?;
    let values: Vec<f32> = if bytes.starts_with(b"\x93NUMPY") {
        npy::parse(&bytes, input)?.as_f32()?.to_vec()
    } else if bytes.starts_with(&[0, 0]) || path.extension().is_some_and(|e| e == "gz") {
        idx::Idx::parse(&bytes, input)?.data.into_iter().map(f32::from).collect()
    } else {
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Error::input(input, "is neither IDX nor .npy nor a text with numbers"))?;
        npy::parse_numbers(text, input)?
    };
    if values.is_empty() || !values.len().is_multiple_of(h * w) {
        let detail = format!("holds {} numbers; the model takes images of {h}x{w} = {}", values.len(), h * w);
        return Err(Error::input(input, detail));
    }
    let n = values.len() / (h * w);
    Ok((HostTensor::f32([n, 1, h, w], values.into_iter().map(|v| v / white).collect())?, Vec::new()))
}
