//! A look at what a trained model gets wrong: the confusion matrix, and the examples of the highest loss. For reports.

use crate::error::Result;
use crate::tensor::HostTensor;
use crate::train::Trainer;
use crate::train::task::{Output, Part};

/// So many examples of a part are looked at; a report needs no more.
const MOST: usize = 10_000;

/// An example that the model did badly on.
#[derive(Debug, Clone)]
pub struct Worst {
    /// Its place in the part.
    pub place: usize,
    /// Its loss in nats.
    pub loss: f64,
    /// The right class, or what follows in the text.
    pub truth: String,
    /// What the model took to be most likely.
    pub guess: String,
    /// The probability that the model gave to its guess.
    pub share: f64,
    /// The input.
    pub input: Seen,
}

/// An input as a report can show it.
#[derive(Debug, Clone)]
pub enum Seen {
    /// An image f32 [channels, height, width].
    Image(HostTensor),
    /// A text.
    Text(String),
    /// Other numbers.
    Numbers(Vec<f32>),
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// Names of the classes; empty where there are none.
    pub classes: Vec<String>,
    /// How many examples of class `row` were taken for class `column`.
    pub confusion: Vec<Vec<u64>>,
    /// The worst examples, the worst first.
    pub worst: Vec<Worst>,
    /// How many examples were looked at.
    pub looked_at: usize,
}

/// Looks at a part of the data, and keeps the `keep` worst examples. Parts whose targets are no classes give `None`.
pub fn inspect(
    trainer: &mut Trainer,
    output: &Output,
    part: &Part,
    batch: usize,
    keep: usize,
) -> Result<Option<Inspection>> {
    let fields = part.data.fields();
    let classified = fields.last().is_some_and(|f| f.dtype == crate::DType::I32);
    if !classified || matches!(output, Output::Pair { .. } | Output::Value { .. }) || part.indices.is_empty() {
        return Ok(None);
    }
    let mut out = Inspection::default();
    let indices = &part.indices[..part.indices.len().min(MOST)];
    for (n, chunk) in indices.chunks(batch.max(1)).enumerate() {
        let tensors = part.data.batch(chunk, None)?;
        let Some((target, inputs)) = tensors.split_last() else { break };
        let logits = trainer.predict_all(inputs)?;
        let width = logits.shape.last().copied().unwrap_or(1);
        let (logits, target) = (logits.as_f32()?, target.as_i32()?);
        let each = target.len() / chunk.len();
        if logits.len() != target.len() * width || width < 2 {
            return Ok(None);
        }
        if let Output::Char { .. } = output {
        } else if out.confusion.is_empty() {
            out.classes = match output {
                Output::Label { names } => names.clone(),
                _ => (0..width).map(|i| i.to_string()).collect(),
            };
            out.confusion = vec![vec![0; width]; width];
        }
        for (row, _) in chunk.iter().enumerate() {
            let (mut loss, mut last) = (0.0, (0, 0, 0.0));
            for at in row * each..(row + 1) * each {
                let (truth, guess, share, nats) = score(&logits[at * width..(at + 1) * width], target[at]);
                loss += nats / each as f64;
                last = (truth, guess, share);
            }
            if let Some(cell) = out.confusion.get_mut(last.0).and_then(|r| r.get_mut(last.1)) {
                *cell += 1;
            }
            out.looked_at += 1;
            if out.worst.len() == keep && out.worst.last().is_some_and(|w| !(loss > w.loss)) {
                continue;
            }
            let name = |class: usize| match output {
                Output::Char { chars, .. } => chars.decode(&[class as i32]),
                _ => out.classes.get(class).cloned().unwrap_or_default(),
            };
            let worst = Worst {
                place: n * batch.max(1) + row,
                loss,
                truth: name(last.0),
                guess: name(last.1),
                share: last.2,
                input: seen(&inputs[0], row, output)?,
            };
            let at = out.worst.partition_point(|w| w.loss >= loss);
            out.worst.insert(at, worst);
            out.worst.truncate(keep);
        }
    }
    Ok(Some(out))
}

/// The right class, the most likely one with its probability, and the loss of the right one in nats.
fn score(logits: &[f32], truth: i32) -> (usize, usize, f64, f64) {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - best).exp()).sum();
    let guess = logits.iter().position(|&l| l == best).unwrap_or(0);
    let truth = usize::try_from(truth).unwrap_or(0);
    let nats = sum.ln() - f64::from(logits.get(truth).copied().unwrap_or(f32::NAN) - best);
    (truth, guess, 1.0 / sum, nats)
}

fn seen(input: &HostTensor, row: usize, output: &Output) -> Result<Seen> {
    let one = crate::data::dataset::take_rows(input, &[row])?;
    Ok(match output {
        Output::Char { chars, .. } => Seen::Text(chars.decode(one.as_i32()?)),
        _ if one.shape.len() == 4 && matches!(one.shape[1], 1 | 3) => {
            Seen::Image(HostTensor::f32(&one.shape[1..], one.as_f32()?.to_vec())?)
        }
        _ => Seen::Numbers(one.to_f64().into_iter().map(|v| v as f32).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_softmax() {
        let (truth, guess, share, nats) = score(&[0.0, 3f32.ln(), f32::NEG_INFINITY], 0);
        assert_eq!((truth, guess), (0, 1));
        assert!((share - 0.75).abs() < 1e-6 && (nats - 4f64.ln()).abs() < 1e-6, "{share} {nats}");
        assert_eq!(score(&[0.0, 1.0], 1).1, 1);
        assert!(score(&[f32::NAN, 1.0], 0).3.is_nan());
    }
}
