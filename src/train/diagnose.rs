//! Why a model is not good: the decision tree of the course. High training loss: if a smaller model has a lower one, the
//! optimization failed; else the model is too weak (model bias). Low training loss, high validation loss: overfitting.
//! Low validation loss, high test loss: the parts are not alike (mismatch). Every verdict carries the numbers it rests on.

use crate::backend::Device;
use crate::data::Field;
use crate::error::{Error, Result};
use crate::nn::{Flatten, Linear, Sequential};
use crate::optim::Adam;
use crate::train::run::measure;
use crate::train::task::{Output, Part, Task};
use crate::train::trainer::is_model_state;
use crate::train::{Loss, Trainer};
use serde::Serialize;

/// Examples of each part that are measured; more do not change a verdict.
const MOST: usize = 20_000;
/// Groups of examples from whose means the standard error is estimated.
const GROUPS: usize = 10;
/// A smaller model is better in training if its loss is lower by this share.
const CLEARLY: f64 = 0.02;
/// A training loss is low if this share of what guessing by frequency leaves open is left at most.
const LOW: f64 = 0.1;

/// A measured loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Mean loss without dropout.
    pub loss: f64,
    /// Its standard error, from the means of groups.
    pub error: f64,
    /// Share of correct predictions; 0 where there is no such thing.
    pub accuracy: f64,
    /// Examples that were measured.
    pub examples: usize,
}

/// A model with its losses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The run, or what kind of baseline it is.
    pub name: String,
    /// Trained numbers.
    pub parameters: usize,
    /// On the training part.
    pub train: Measured,
    /// On the validation part, if there is one.
    pub validation: Option<Measured>,
    /// On the test part, if there is one.
    pub test: Option<Measured>,
    /// False for models with another loss, of which only accuracies can be compared.
    pub same_loss: bool,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The training loss is high though a smaller model has a lower one.
    Optimization,
    /// The training loss is high, and no smaller model does better.
    ModelBias,
    /// The training loss is low, that of new examples is not.
    Overfitting,
    /// The validation loss is low, that of the test part is not.
    Mismatch,
    /// Nothing.
    None,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What is wrong.
    pub problem: Problem,
    /// The comparisons that led there, in order, with their numbers.
    pub reasons: Vec<String>,
    /// What to try next.
    pub advice: Vec<String>,
}

/// Goes through the tree for `subject`. `smaller` are models with fewer parameters on the same data. `chance` is the loss of
/// guessing by frequency; `goal` is the highest training loss that counts as low (by default a tenth of `chance`).
pub fn judge(subject: &Candidate, smaller: &[Candidate], chance: f64, goal: Option<f64>) -> Verdict {
    let mut reasons = Vec::new();
    let goal = goal.unwrap_or(LOW * chance);
    let text = |m: &Measured| format!("{:.4} +- {:.4}", m.loss, m.error);
    let train = &subject.train;
    let verdict = |problem, reasons: Vec<String>, advice: &[&str]| Verdict {
        problem,
        reasons,
        advice: advice.iter().map(|a| a.to_string()).collect(),
    };
    if train.loss <= goal {
        reasons.push(format!("training loss {} is low (at most {goal:.4})", text(train)));
    } else {
        reasons.push(format!(
            "training loss {} is high (above {goal:.4}; guessing by frequency has {chance:.4})",
            text(train)
        ));
        let better = |c: &&Candidate| match c.same_loss {
            true => c.train.loss < train.loss * (1.0 - CLEARLY),
            false => c.train.accuracy > train.accuracy + CLEARLY,
        };
        for c in smaller {
            let by = if c.same_loss { text(&c.train) } else { format!("accuracy {:.4}", c.train.accuracy) };
            let own = if c.same_loss { text(train) } else { format!("accuracy {:.4}", train.accuracy) };
            let is = if better(&c) { "lower error than" } else { "no lower error than" };
            reasons.push(format!(
                "{} ({} parameters) has in training {is} this one: {by} against {own}",
                c.name, c.parameters
            ));
        }
        if smaller.iter().any(|c| better(&c)) {
            let advice = [
                "another learning rate: look at the curve of the steps; try a third and three times of it",
                "warm-up, or another optimizer (adamw, momentum); gradient clipping if the norms jump",
                "batch norm or layer norm, residual connections, another initialisation; more epochs",
            ];
            return verdict(Problem::Optimization, reasons, &advice);
        }
        if smaller.is_empty() {
            reasons.push("nothing smaller to compare with: give smaller runs, or --baseline, to tell it from a failed optimization".into());
        }
        let advice = [
            "a larger model: wider or deeper layers; more epochs if the training loss is still falling",
            "inputs that say more: more features, a longer context",
            "less regularization: dropout, weight decay, augmentation, label smoothing",
        ];
        return verdict(Problem::ModelBias, reasons, &advice);
    }
    // Worse by more than three standard errors, and by an amount that matters.
    let worse = |new: &Measured, old: &Measured| {
        let error = (new.error.powi(2) + old.error.powi(2)).sqrt();
        new.loss > old.loss + 3.0 * error && new.loss > 1.25 * old.loss && new.loss > goal
    };
    let (mut last, mut name) = (*train, "training");
    for (part, measured, problem) in [
        ("validation", &subject.validation, Problem::Overfitting),
        ("test", &subject.test, if subject.validation.is_some() { Problem::Mismatch } else { Problem::Overfitting }),
    ] {
        let Some(m) = measured else { continue };
        if worse(m, &last) {
            reasons.push(format!("{part} loss {} is far above the {name} loss {}", text(m), text(&last)));
            return match problem {
                Problem::Overfitting => verdict(
                    problem,
                    reasons,
                    &[
                        "more training data, or augmentation that fits the data",
                        "early stopping (train.early_stopping), dropout, weight decay, label smoothing",
                        "a smaller model, or one that shares parameters (convolutions)",
                    ],
                ),
                _ => verdict(
                    problem,
                    reasons,
                    &[
                        "compare how the parts were made: time, source, preparation; look at the worst examples (report.html)",
                        "train on data like those of the test; choose by a validation part like the test",
                        "more regularization does not help against this",
                    ],
                ),
            };
        }
        reasons.push(format!("{part} loss {} is not far above the {name} loss {}", text(m), text(&last)));
        (last, name) = (*m, part);
    }
    verdict(
        Problem::None,
        reasons,
        &["nothing to repair; a larger model, more data or an ensemble may still improve it"],
    )
}

/// Measures a part of the data; `None` for an empty one.
fn measured(trainer: &mut Trainer, part: &Part, batch: usize) -> Result<Option<Measured>> {
    let n = part.indices.len().min(MOST);
    if n == 0 {
        return Ok(None);
    }
    // Evenly spread, for parts in some order.
    let chosen: Vec<usize> = (0..n).map(|i| part.indices[i * part.indices.len() / n]).collect();
    let (mut sum, mut correct, mut count, mut means) = (0.0, 0.0, 0, Vec::new());
    for g in 0..GROUPS.min(n) {
        let indices: Vec<usize> = chosen.iter().copied().skip(g).step_by(GROUPS.min(n)).collect();
        let m = trainer.evaluate(&*part.data, &indices, (4 * batch).clamp(1, indices.len()))?;
        (sum, correct, count) = (sum + m.loss_sum, correct + m.correct, count + m.count);
        means.push(m.loss());
    }
    let (_, deviation) = crate::report::number::mean_and_deviation(&means);
    let count = count as f64;
    let error = deviation / (means.len() as f64).sqrt();
    Ok(Some(Measured { loss: sum / count, error, accuracy: correct / count, examples: n }))
}

/// Measures a trained model on the parts of its task.
pub fn candidate(name: &str, trainer: &mut Trainer, task: &Task, batch: usize, same_loss: bool) -> Result<Candidate> {
    let train = measured(trainer, &task.train, batch)?;
    let train = train.ok_or_else(|| Error::input(name, "has no training data to measure"))?;
    let trained = trainer.specs().iter().filter(|s| s.trainable && is_model_state(&s.name));
    Ok(Candidate {
        name: name.into(),
        parameters: trained.map(|s| s.ty.shape.elems()).sum(),
        train,
        validation: measured(trainer, &task.validation, batch)?,
        test: measured(trainer, &task.test, batch)?,
        same_loss,
    })
}

/// The loss of a model that knows only how frequent the classes are (or the mean of the numbers) in the training part.
pub fn chance(task: &Task) -> Result<f64> {
    let part = &task.train;
    let n = part.indices.len().min(MOST);
    let chosen: Vec<usize> = (0..n).map(|i| part.indices[i * part.indices.len() / n]).collect();
    let target = part.data.batch(&chosen, None)?.pop();
    let target = target.ok_or_else(|| Error::input("data", "its examples have no target"))?;
    if let Ok(classes) = target.as_i32() {
        let mut counts = std::collections::BTreeMap::new();
        // Negative classes pad and are ignored.
        classes.iter().filter(|c| **c >= 0).for_each(|c| *counts.entry(*c).or_insert(0u64) += 1);
        let total = counts.values().sum::<u64>() as f64;
        return Ok(counts.values().map(|&c| -(c as f64 / total) * (c as f64 / total).ln()).sum());
    }
    // The mean squared difference from the mean of each column.
    let values = target.to_f64();
    let width = (values.len() / n.max(1)).max(1);
    let variance = |c: usize| {
        let column = || values.iter().skip(c).step_by(width);
        let mean = column().sum::<f64>() / n as f64;
        column().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64
    };
    Ok((0..width).map(variance).sum::<f64>() / width as f64)
}

/// Trains the small models on the data of a task and measures them: for classes a logistic regression and a linear support
/// vector machine (hinge loss), for numbers a linear regression. Data that are no vectors of numbers have none.
pub fn baselines(task: &Task, device: &Device, batch: usize, epochs: u64, seed: u64) -> Result<Vec<Candidate>> {
    let fields = task.train.data.fields();
    let [input, target] = &fields[..] else { return Ok(Vec::new()) };
    let classes = match &task.output {
        Output::Class { classes, .. } => Some(*classes),
        Output::Label { names } => Some(names.len()),
        Output::Value { .. } => None,
        Output::Pair { .. } | Output::Char { .. } => return Ok(Vec::new()),
    };
    if input.dtype != crate::DType::F32 {
        return Ok(Vec::new());
    }
    let outputs = classes.unwrap_or_else(|| target.shape.elems().max(1));
    let kinds: &[(&str, Loss, bool)] = match classes {
        Some(_) => &[
            ("logistic regression", Loss::CrossEntropy { label_smoothing: 0.0, weight: Vec::new() }, true),
            ("linear support vector machine", Loss::Hinge { margin: 1.0, squared: false }, false),
        ],
        None => &[("linear regression", Loss::Mse, true)],
    };
    kinds
        .iter()
        .map(|(name, loss, same)| {
            linear(task, device, (input, outputs), loss, batch, epochs, seed)
                .and_then(|mut t| candidate(name, &mut t, task, batch, *same))
        })
        .collect()
}

fn linear(
    task: &Task,
    device: &Device,
    (input, outputs): (&Field, usize),
    loss: &Loss,
    batch: usize,
    epochs: u64,
    seed: u64,
) -> Result<Trainer> {
    let model = Sequential::new().add(Flatten::new()).add(Linear::new(input.shape.elems(), outputs));
    let mut trainer = Trainer::new(device, model, loss.clone(), Adam::default(), 3e-3).seed(seed);
    let part = &task.train;
    // The best of the epochs by the training loss: what such a model can represent is the question.
    let (mut best, mut kept) = (f64::INFINITY, Vec::new());
    for _ in 0..epochs.max(1) {
        trainer.epoch(&*part.data, &part.indices, batch, u64::MAX, &mut |_| Ok(true))?;
        let now = measure(&mut trainer, part, batch)?.loss();
        if now < best {
            (best, kept) = (now, trainer.states(true)?);
        }
    }
    for (name, value) in kept {
        trainer.store().insert(name, &value)?;
    }
    Ok(trainer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(loss: f64) -> Measured {
        Measured { loss, error: 0.005, accuracy: 1.0 - loss / 3.0, examples: 1000 }
    }

    fn model(parameters: usize, losses: [f64; 3]) -> Candidate {
        let [train, validation, test] = losses.map(measured);
        Candidate {
            name: "m".into(),
            parameters,
            train,
            validation: Some(validation),
            test: Some(test),
            same_loss: true,
        }
    }

    #[test]
    fn the_tree_has_five_leaves() {
        let problem = |subject: [f64; 3], smaller: &[[f64; 3]]| {
            let smaller: Vec<Candidate> = smaller.iter().map(|l| model(10, *l)).collect();
            judge(&model(1000, subject), &smaller, 2.3, None).problem
        };
        assert_eq!(problem([1.0, 1.0, 1.0], &[[0.5, 0.6, 0.6]]), Problem::Optimization);
        assert_eq!(problem([1.0, 1.0, 1.0], &[[1.5, 1.6, 1.6]]), Problem::ModelBias);
        assert_eq!(problem([1.0, 1.0, 1.0], &[]), Problem::ModelBias);
        assert_eq!(problem([0.1, 1.0, 1.0], &[[0.5, 0.6, 0.6]]), Problem::Overfitting);
        assert_eq!(problem([0.1, 0.12, 1.0], &[]), Problem::Mismatch);
        assert_eq!(problem([0.1, 0.12, 0.13], &[]), Problem::None);
        // A loss that is not a number is not low.
        assert_eq!(problem([f64::NAN, 0.1, 0.1], &[]), Problem::ModelBias);
    }

    #[test]
    fn a_goal_replaces_the_default_and_accuracies_are_compared_across_losses() {
        let subject = model(1000, [0.4, 0.45, 0.46]);
        assert_eq!(judge(&subject, &[], 2.3, Some(0.5)).problem, Problem::None);
        let mut svm = model(10, [9.0, 9.0, 9.0]);
        (svm.same_loss, svm.train.accuracy) = (false, 0.99);
        let verdict = judge(&subject, &[svm], 2.3, Some(0.1));
        assert_eq!(verdict.problem, Problem::Optimization);
        assert!(verdict.reasons.iter().any(|r| r.contains("0.9900")) && !verdict.advice.is_empty(), "{verdict:?}");
    }
}
