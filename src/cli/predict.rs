//! `kiln predict`: uses a trained model on an input of the user's.

use crate::cli::{DeviceArg, Outcome, print_json};
use crate::data::{idx, npy};
use crate::error::{Error, Result};
use crate::report::number::{count, percent};
use crate::tensor::HostTensor;
use crate::train::Trainer;
use crate::train::decode::{Hypothesis, Search, translate};
use crate::train::generate::{Sampling, generate};
use crate::train::run::{self, Opened, WeightsOf};
use crate::train::task::{Output, Task};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Use the model of a run on an input.
///
/// For images, INPUT is the number of an example of the test part (0 is the first; without a test part of the validation or training part), or a file with one or more images:
/// IDX, .npy, or plain text numbers, with pixel values as in the data (digits: 0 to 16, MNIST: 0 to 255).
/// For tables, series and folders of pictures, it is the number of an example of the test part, or a file of the same form.
/// For text, INPUT is the beginning of a text, which the model continues; for translations, a sentence.
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
    /// Text: choose among so many of the most likely characters; 0: all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Text: choose among the most likely characters that together have this probability.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f64,
    /// Text: end where this text would appear; \n is a line's end.
    #[arg(long, default_value = "", value_name = "TEXT")]
    stop: String,
    /// Translations: sequences that are followed at once; 1 is greedy search.
    #[arg(long, default_value_t = 4, value_name = "N")]
    beams: usize,
    /// Translations: 0 compares probabilities, which favours short ones; 1 compares means per token.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    length_penalty: f64,
    /// Text: compute the whole context for each character instead of keeping keys and values. The result is the same.
    #[arg(long)]
    no_cache: bool,
    /// Text: where the choices follow from.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Which weights: last, best (of the lowest validation loss), or a safetensors file, of kiln or of PyTorch.
    #[arg(long, default_value = "last", value_name = "last|best|FILE")]
    weights: WeightsOf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &PredictArgs) -> Result<Outcome> {
    if !(args.temperature >= 0.0) {
        return Err(Error::input("--temperature", format!("{} must be 0 or more", args.temperature)));
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(Error::input("--top-p", format!("{} must be above 0 and at most 1", args.top_p)));
    }
    let device = args.device.open()?;
    let Opened { task, mut trainer, warnings, .. } = run::open(&args.run, &device, &args.weights)?;
    warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    match &task.output {
        Output::Char { chars, context, .. } => {
            let how = Sampling {
                length: args.length,
                temperature: args.temperature,
                top_k: args.top_k,
                top_p: args.top_p,
                stop: args.stop.replace("\\n", "\n"),
                seed: args.seed,
                cache: !args.no_cache,
            };
            let found = generate(&mut trainer, chars, *context, &[&args.input], &how)?;
            let (text, speed) = (&found.texts[0], found.tokens as f64 / found.seconds.max(1e-9));
            if args.json {
                print_json(&json!({
                    "prompt": args.input, "text": text, "tokens": found.tokens, "tokens_from_cache": found.cached,
                    "seconds": found.seconds, "tokens_per_second": speed,
                }));
            } else {
                println!("{}{text}", args.input);
                let (n, cached) = (count(found.tokens as u64), count(found.cached as u64));
                eprintln!("{n} tokens, {speed:.0} tokens/s ({cached} from the cache of keys and values)");
            }
        }
        Output::Pair { sides, .. } => {
            let search = Search {
                beams: args.beams,
                length_penalty: args.length_penalty,
                longest: args.length,
                ..Search::default()
            };
            let found = translate(&mut trainer, sides, &args.input, search)?;
            if args.json {
                let each = |(text, h): &(String, Hypothesis)| json!({ "text": text, "log_probability": h.log_probability, "ended": h.ended });
                print_json(&json!({ "input": args.input, "outputs": found.iter().map(each).collect::<Vec<_>>() }));
            } else {
                found.iter().for_each(|(text, h)| println!("{text}  (log p {:.3})", h.log_probability));
            }
        }
        Output::Label { names } => {
            let (out, labels) = table(&task, &mut trainer, &args.input)?;
            let width = out.shape.last().copied().unwrap_or(1).max(1);
            let labels = labels.and_then(|t| t.as_i32().map(<[i32]>::to_vec).ok()).unwrap_or_default();
            let rows: Vec<Vec<f64>> = out.as_f32()?.chunks_exact(width).map(softmax).collect();
            report(&rows, &labels, names, args.json);
        }
        Output::Value { names, mean, std } => {
            let (out, _) = table(&task, &mut trainer, &args.input)?;
            let width = out.shape.last().copied().unwrap_or(1).max(1);
            let value = |(i, &x): (usize, &f32)| f64::from(x) * std[i] + mean[i];
            let rows: Vec<Vec<f64>> =
                out.as_f32()?.chunks_exact(width).map(|row| row.iter().enumerate().map(value).collect()).collect();
            match args.json {
                true => print_json(&json!({ "names": names, "predictions": rows })),
                false => {
                    println!("{}", names.join(" "));
                    for row in rows {
                        println!("{}", row.iter().map(|v| format!("{v:.6}")).collect::<Vec<_>>().join(" "));
                    }
                }
            }
        }
        Output::Class { size, white, .. } => {
            let (images, labels) = images(&task, &args.input, *size, *white)?;
            let logits = trainer.predict(&images)?;
            let classes = logits.shape.last().copied().unwrap_or(1);
            let rows: Vec<Vec<f64>> = logits.as_f32()?.chunks_exact(classes).map(softmax).collect();
            report(&rows, &labels, &[], args.json);
        }
    }
    Ok(Outcome::Good)
}

/// The model's output for an example of the test part by its number, with its target, or for the examples in a file.
fn table(task: &Task, trainer: &mut Trainer, input: &str) -> Result<(HostTensor, Option<HostTensor>)> {
    if let Ok(index) = input.parse::<usize>() {
        let (name, part) = task.unseen();
        let Some(&i) = part.indices.get(index) else {
            let detail = format!("the {name} part has {} examples, the first is 0", part.indices.len());
            return Err(Error::input(format!("example {index}"), detail));
        };
        let mut batch = part.data.batch(&[i], None)?;
        let target = batch.pop();
        return Ok((trainer.predict_all(&batch)?, target));
    }
    let Some(reader) = &task.reader else {
        let detail =
            "this run's kind of data cannot be read for predictions; give the number of an example of the test part";
        return Err(Error::input(input, detail));
    };
    Ok((trainer.predict_all(&reader.read(Path::new(input))?)?, None))
}

/// Prints classes with their probabilities; `names` may be empty.
fn report(rows: &[Vec<f64>], labels: &[i32], names: &[String], as_json: bool) {
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| class.to_string());
    let mut found: Vec<Value> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let label = labels.get(i);
        if as_json {
            found.push(json!({ "class": order[0], "name": name(order[0]), "probabilities": row, "label": label }));
            continue;
        }
        let next: Vec<String> =
            order[1..].iter().take(2).map(|&c| format!("{} {}", name(c), percent(row[c]))).collect();
        let truth = label.map_or(String::new(), |l| format!("; the label is {}", name(*l as usize)));
        println!("{} {} (then {}){truth}", name(order[0]), percent(row[order[0]]), next.join(", "));
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
        let (name, part) = task.unseen();
        let Some(&i) = part.indices.get(index) else {
            let detail = format!("the {name} part has {} examples, the first is 0", part.indices.len());
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
