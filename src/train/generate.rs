//! Text from a trained model, one token at a time. Models that can decode position by position do so with a cache of keys
//! and values, which are states in the trainer's store; others, and texts longer than the context, compute the whole window
//! for each token. Draws follow from a seed.

use crate::backend::Program;
use crate::data::Chars;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Builder, InputKind, OutputKind, Type};
use crate::nn::{Mode, Params};
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tensor::HostTensor;
use crate::train::Trainer;
use std::time::Instant;

/// How text is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Tokens to add.
    pub length: usize,
    /// Divides the logits: 0 takes the most likely token, above 1 the unlikely ones gain.
    pub temperature: f64,
    /// Only so many of the most likely tokens are drawn from; 0: all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability are drawn from; 1: all.
    pub top_p: f64,
    /// A text ends where this appears in what was added; the result ends before it. Empty: nowhere.
    pub stop: String,
    /// Where the draws follow from.
    pub seed: u64,
    /// Uses the cache where the model can.
    pub cache: bool,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { length: 300, temperature: 0.8, top_k: 0, top_p: 1.0, stop: String::new(), seed: 0, cache: true }
    }
}

/// Texts, and how long they took.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// What was added to each prompt.
    pub texts: Vec<String>,
    /// Tokens that were drawn.
    pub tokens: usize,
    /// Seconds for all of it, compilation apart.
    pub seconds: f64,
    /// Tokens that came from the cache.
    pub cached: usize,
}

/// A text on its way.
struct Row {
    tokens: Vec<i32>,
    start: usize,
    draws: Rng,
    /// What was added, once it is complete.
    done: Option<String>,
}

/// Continues each prompt. `context` is how many tokens the model sees. Errors for an empty prompt or tokens that the model
/// does not know.
pub fn generate(
    trainer: &mut Trainer,
    chars: &Chars,
    context: usize,
    prompts: &[&str],
    how: &Sampling,
) -> Result<Generated> {
    let row = |(i, prompt): (usize, &&str)| {
        let tokens = chars.encode(prompt)?;
        let draws = Rng::named(how.seed, &format!("train/generate/{i}"));
        Ok(Row { start: tokens.len(), tokens, draws, done: (how.length == 0).then(String::new) })
    };
    let mut rows: Vec<Row> = prompts.iter().enumerate().map(row).collect::<Result<_>>()?;
    if rows.iter().any(|r| r.tokens.is_empty()) {
        return Err(Error::input("prompt", "is empty; give at least one character"));
    }
    let mut decoder = if how.cache { Decoder::new(trainer, rows.len())? } else { None };
    let began = Instant::now();
    let mut out = Generated { texts: Vec::new(), tokens: 0, seconds: 0.0, cached: 0 };
    // The cache goes through the positions in step for all rows; a row whose prompt is longer only listens at first.
    let mut position = 0;
    while rows.iter().any(|r| r.done.is_none()) {
        let cached = position < context && decoder.is_some();
        let logits = match &mut decoder {
            Some(decoder) if position < context => {
                let fed =
                    rows.iter().map(|r| *r.tokens.get(position).unwrap_or(&r.tokens[r.tokens.len() - 1])).collect();
                decoder.step(fed, position)?
            }
            _ => window(trainer, &rows, context)?,
        };
        let width = logits.len() / rows.len();
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(width)) {
            let listening = cached && position + 1 < row.tokens.len();
            if row.done.is_some() || listening {
                continue;
            }
            row.tokens.push(draw(logits, how, row.draws.uniform_f64()));
            (out.tokens, out.cached) = (out.tokens + 1, out.cached + usize::from(cached));
            row.done = complete(&row.tokens[row.start..], chars, how);
        }
        position += 1;
    }
    out.seconds = began.elapsed().as_secs_f64();
    out.texts = rows.into_iter().filter_map(|r| r.done).collect();
    Ok(out)
}

/// The text of `added`, if it is complete: by its length, or because the stop text is in it.
fn complete(added: &[i32], chars: &Chars, how: &Sampling) -> Option<String> {
    if !how.stop.is_empty() {
        let text = chars.decode(added);
        if let Some(at) = text.find(&how.stop) {
            return Some(text[..at].to_string());
        }
    }
    (added.len() >= how.length).then(|| chars.decode(added))
}

/// Logits of the next token of each row, computed over the last `context` tokens.
fn window(trainer: &mut Trainer, rows: &[Row], context: usize) -> Result<Vec<f32>> {
    // The window is filled from the left; attention looks back only, so that what follows does not matter.
    let mut window = vec![0; rows.len() * context];
    let mut last = Vec::with_capacity(rows.len());
    for (place, row) in window.chunks_exact_mut(context).zip(rows) {
        let tail = &row.tokens[row.tokens.len().saturating_sub(context)..];
        place[..tail.len()].copy_from_slice(tail);
        last.push(tail.len() - 1);
    }
    let logits = trainer.predict(&HostTensor::i32([rows.len(), context], window)?)?;
    let width = logits.shape.last().copied().unwrap_or(1);
    let logits = logits.as_f32()?;
    let row = |(i, at): (usize, &usize)| &logits[(i * context + at) * width..(i * context + at + 1) * width];
    Ok(last.iter().enumerate().flat_map(row).copied().collect())
}

/// A model that decodes position by position.
struct Decoder {
    program: Program,
    rows: usize,
}

impl Decoder {
    /// Compiles decoding of `rows` texts at once; `None` if the model cannot do it.
    fn new(trainer: &Trainer, rows: usize) -> Result<Option<Decoder>> {
        let builder = Builder::new();
        let params = Params::new(&builder, Mode::Eval);
        let tokens = builder.input("tokens", InputKind::Feed, Type::new(DType::I32, [rows, 1]));
        let position = builder.input("position", InputKind::Feed, Type::new(DType::I32, [1])).reshape(Shape::default());
        let Some(logits) = trainer.model.decode(&params.scope(), &tokens, &position) else { return Ok(None) };
        builder.output("logits", OutputKind::Fetch, &logits);
        params.emit_updates();
        let graph = builder.build()?;
        // The model's own tensors are there; what is not is a cache, of another number of rows perhaps.
        let store = trainer.store();
        for spec in params.specs().iter().filter(|s| !trainer.specs().iter().any(|known| known.name == s.name)) {
            store.remove(&spec.name);
            store.insert(spec.name.clone(), &HostTensor::zeros(spec.ty.dtype, spec.ty.shape.clone()))?;
        }
        Ok(Some(Decoder { program: Program::compile(store, graph)?, rows }))
    }

    fn step(&mut self, tokens: Vec<i32>, position: usize) -> Result<Vec<f32>> {
        let tokens = HostTensor::i32([self.rows, 1], tokens)?;
        let position = HostTensor::i32([1], vec![position as i32])?;
        let out = self.program.run(&[("tokens", &tokens), ("position", &position)])?;
        Ok(out[0].as_f32()?.to_vec())
    }
}

/// The token at the quantile `u` of what the settings leave of softmax(logits / temperature).
fn draw(logits: &[f32], how: &Sampling, u: f64) -> i32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let first = logits.iter().position(|&l| l == best).unwrap_or(0) as i32;
    if how.temperature <= 0.0 {
        return first;
    }
    let mut weights: Vec<f64> =
        logits.iter().map(|&l| (f64::from(l - best) / how.temperature.max(1e-6)).exp()).collect();
    if how.top_k > 0 || how.top_p < 1.0 {
        let mut order: Vec<usize> = (0..weights.len()).collect();
        // Of equal ones the first stay.
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        let k = if how.top_k > 0 { how.top_k.min(order.len()) } else { order.len() };
        let total: f64 = order[..k].iter().map(|&i| weights[i]).sum();
        let (mut sum, mut kept) = (0.0, 0);
        while kept < k && (kept == 0 || sum < how.top_p * total) {
            sum += weights[order[kept]];
            kept += 1;
        }
        order[kept..].iter().for_each(|&i| weights[i] = 0.0);
    }
    let mut left = u * weights.iter().sum::<f64>();
    for (i, w) in weights.iter().enumerate() {
        left -= w;
        if left < 0.0 {
            return i as i32;
        }
    }
    // Rounding may leave a rest: the most likely token.
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Device;
    use crate::nn::Gpt;
    use crate::optim::Sgd;
    use crate::train::Loss;

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0, f32::NEG_INFINITY, 1.0986123];
        // At the middles of 1000 equal parts: 0 itself would fall to the first class, however unlikely that is.
        let count = |how: &Sampling, n: i32| {
            (0..1000).filter(|i| draw(&logits, how, (f64::from(*i) + 0.5) / 1000.0) == n).count()
        };
        let at = |temperature: f64| Sampling { temperature, ..Sampling::default() };
        assert_eq!([0, 1, 2].map(|n| count(&at(1.0), n)), [250, 0, 750]);
        assert_eq!(count(&at(0.01), 2), 1000);
        assert_eq!(count(&at(0.0), 2), 1000);
        assert_eq!(draw(&[f32::NAN, f32::NAN], &at(1.0), 0.5), 0);
        assert_eq!(count(&Sampling { top_k: 1, ..at(1.0) }, 2), 1000);
        assert_eq!(count(&Sampling { top_k: 2, ..at(1.0) }, 0), 250);
        assert_eq!(count(&Sampling { top_p: 0.7, ..at(1.0) }, 2), 1000);
        assert_eq!(count(&Sampling { top_p: 0.8, ..at(1.0) }, 0), 250);
    }

    #[test]
    fn the_cache_gives_what_the_whole_window_gives() {
        let chars = Chars::new("abcdefgh \n").unwrap();
        let context = 12;
        let model = Gpt { vocab: 10, context, layers: 2, heads: 2, width: 16, dropout: 0.1, checkpoint: false };
        let device = Device::open("cpu").unwrap();
        let mut trainer = Trainer::new(&device, model, Loss::cross_entropy(), Sgd::default(), 0.1).seed(3);
        // The whole window first: it draws the weights.
        let prompts = ["ab", "hgfed"];
        let how = Sampling { length: 20, temperature: 1.0, cache: false, seed: 5, ..Sampling::default() };
        let plain = generate(&mut trainer, &chars, context, &prompts, &how).unwrap();
        let cached =
            generate(&mut trainer, &chars, context, &prompts, &Sampling { cache: true, ..how.clone() }).unwrap();
        assert_eq!(plain.texts, cached.texts);
        assert_eq!((plain.tokens, plain.cached, cached.tokens), (40, 0, 40));
        // Positions up to the context come from the cache: 12 - 1 for the prompt of two, 12 - 4 for that of five.
        assert_eq!(cached.cached, 11 + 8);
        // And the logits themselves, at every position of a text.
        let tokens = chars.encode("hgfedcba ab").unwrap();
        let mut padded = tokens.clone();
        padded.resize(context, 0);
        let whole = trainer.predict(&HostTensor::i32([1, context], padded).unwrap()).unwrap();
        let mut decoder = Decoder::new(&trainer, 1).unwrap().unwrap();
        for (i, &token) in tokens.iter().enumerate() {
            let step = decoder.step(vec![token], i).unwrap();
            for (a, b) in step.iter().zip(&whole.as_f32().unwrap()[i * 10..]) {
                // Sums of at most 64 numbers below 1 in another order.
                assert!((a - b).abs() <= 64.0 * f32::EPSILON, "position {i}: {a} and {b}");
            }
        }
        // A stop text ends a text before itself.
        let stop = plain.texts[0].chars().nth(3).unwrap().to_string();
        let stopped =
            generate(&mut trainer, &chars, context, &prompts[..1], &Sampling { stop: stop.clone(), ..how }).unwrap();
        let (before, _) = plain.texts[0].split_once(&stop).unwrap();
        assert_eq!(stopped.texts[0], before);
    }
}
