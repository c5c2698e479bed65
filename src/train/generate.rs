//! Text from a trained character model, one character at a time over a window of its context. Drawn from a seed.

use crate::data::Chars;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::HostTensor;
use crate::train::Trainer;

/// How text is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Characters to add.
    pub length: usize,
    /// Divides the logits: near 0 only the most likely character is taken, above 1 the unlikely ones gain.
    pub temperature: f64,
    /// Where the draws follow from.
    pub seed: u64,
}

/// Continues each prompt. `context` is how many characters the model sees. Errors for an empty prompt or characters
/// that the model does not know.
pub fn generate(
    trainer: &mut Trainer,
    chars: &Chars,
    context: usize,
    prompts: &[&str],
    how: Sampling,
) -> Result<Vec<String>> {
    let mut texts: Vec<Vec<i32>> = prompts.iter().map(|p| chars.encode(p)).collect::<Result<_>>()?;
    if texts.iter().any(Vec::is_empty) {
        return Err(Error::input("prompt", "is empty; give at least one character"));
    }
    let starts: Vec<usize> = texts.iter().map(Vec::len).collect();
    let classes = chars.vocabulary().len();
    let mut draws: Vec<Rng> = (0..texts.len()).map(|i| Rng::named(how.seed, &format!("train/generate/{i}"))).collect();
    for _ in 0..how.length {
        // The window is filled from the left; attention looks back only, so that what follows does not matter.
        let mut window = vec![0; texts.len() * context];
        let mut last = Vec::with_capacity(texts.len());
        for (row, text) in window.chunks_exact_mut(context).zip(&texts) {
            let tail = &text[text.len().saturating_sub(context)..];
            row[..tail.len()].copy_from_slice(tail);
            last.push(tail.len() - 1);
        }
        let logits = trainer.predict(&HostTensor::i32([texts.len(), context], window)?)?;
        let logits = logits.as_f32()?;
        for (i, text) in texts.iter_mut().enumerate() {
            let at = (i * context + last[i]) * classes;
            text.push(draw(&logits[at..at + classes], how.temperature, draws[i].uniform_f64()));
        }
    }
    Ok(texts.iter().zip(starts).map(|(t, start)| chars.decode(&t[start..])).collect())
}

/// The class at the quantile `u` of softmax(logits / temperature).
fn draw(logits: &[f32], temperature: f64, u: f64) -> i32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l - best) / temperature.max(1e-6)).exp()).collect();
    let mut left = u * weights.iter().sum::<f64>();
    for (i, w) in weights.iter().enumerate() {
        left -= w;
        if left < 0.0 {
            return i as i32;
        }
    }
    // Rounding may leave a rest: the most likely class.
    logits.iter().position(|&l| l == best).unwrap_or(0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0, f32::NEG_INFINITY, 1.0986123];
        // At the middles of 1000 equal parts: 0 itself would fall to the first class, however unlikely that is.
        let count = |t: f64, n: i32| (0..1000).filter(|i| draw(&logits, t, (*i as f64 + 0.5) / 1000.0) == n).count();
        assert_eq!((count(1.0, 0), count(1.0, 1), count(1.0, 2)), (250, 0, 750));
        assert_eq!(count(0.01, 2), 1000);
        assert_eq!(draw(&[f32::NAN, f32::NAN], 1.0, 0.5), 0);
    }
}
