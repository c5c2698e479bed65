//! Sequences from sequence-to-sequence models: greedy search and beam search. The search is told of a model only what comes
//! next ([`Next`]); [`translate`] asks a trained encoder-decoder.

use crate::data::pairs::{Sides, source_tokens};
use crate::data::vocabulary::{BOS, EOS, PAD};
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::train::Trainer;

/// How sequences are searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// Sequences that are followed at once; 1 is greedy search.
    pub beams: usize,
    /// Sequences are compared by `log p / length^penalty`: 0 prefers short ones, 1 compares means per token.
    pub length_penalty: f64,
    /// Most tokens of a result, its end apart.
    pub longest: usize,
    /// What every sequence begins with; no part of the result.
    pub begin: i32,
    /// What ends a sequence; no part of the result.
    pub end: i32,
}

impl Default for Search {
    /// Four beams, means per token, the beginning and end of [`crate::data::vocabulary`].
    fn default() -> Search {
        Search { beams: 4, length_penalty: 1.0, longest: 100, begin: BOS, end: EOS }
    }
}

/// A sequence that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without beginning and end.
    pub tokens: Vec<i32>,
    /// The logarithm of its probability, its end included if it has one.
    pub log_probability: f64,
    /// True if it ended by itself, false if it was cut at the longest length.
    pub ended: bool,
}

/// What comes next: for sequences of one length (each with its beginning), the logits of their next tokens, a row each.
pub type Next<'a> = dyn FnMut(&[&[i32]]) -> Result<Vec<Vec<f32>>> + 'a;

impl Search {
    fn score(&self, h: &Hypothesis) -> f64 {
        // The end is a token of the sequence too.
        h.log_probability / ((h.tokens.len() + usize::from(h.ended)).max(1) as f64).powf(self.length_penalty)
    }

    /// The best sequences, the best first, at most [`Search::beams`] of them. Equal scores stay in the order of their
    /// tokens, so that a search gives the same on every machine.
    pub fn run(&self, next: &mut Next) -> Result<Vec<Hypothesis>> {
        let beams = self.beams.max(1);
        let mut alive = vec![(vec![self.begin], 0.0)];
        let mut done: Vec<Hypothesis> = Vec::new();
        for _ in 0..self.longest {
            let given: Vec<&[i32]> = alive.iter().map(|(tokens, _)| tokens.as_slice()).collect();
            let logits = next(&given)?;
            if logits.len() != alive.len() {
                let detail = format!("{} rows of logits for {} sequences", logits.len(), alive.len());
                return Err(Error::internal("beam search", detail));
            }
            let mut open: Vec<(usize, i32, f64)> = Vec::new();
            for (from, row) in logits.iter().enumerate() {
                let so_far = alive[from].1;
                open.extend(log_softmax(row).into_iter().enumerate().map(|(t, p)| (from, t as i32, so_far + p)));
            }
            // Twice as many as beams: at most half of them end here, so that enough go on.
            open.retain(|(_, _, p)| *p > f64::NEG_INFINITY);
            open.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)).then(a.1.cmp(&b.1)));
            open.truncate(2 * beams);
            let mut going = Vec::new();
            for (rank, (from, token, log_probability)) in open.into_iter().enumerate() {
                let before = &alive[from].0;
                if token == self.end {
                    // An end far down the list is no result: a greedy search takes only the first.
                    if rank < beams {
                        done.push(Hypothesis { tokens: before[1..].to_vec(), log_probability, ended: true });
                    }
                } else if going.len() < beams {
                    let mut tokens = before.clone();
                    tokens.push(token);
                    going.push((tokens, log_probability));
                }
            }
            done.sort_by(|a, b| self.score(b).total_cmp(&self.score(a)).then_with(|| a.tokens.cmp(&b.tokens)));
            done.truncate(beams);
            alive = going;
            if alive.is_empty() || self.is_settled(&done, alive[0].1, beams) {
                alive.clear();
                break;
            }
        }
        let cut = |(tokens, log_probability): (Vec<i32>, f64)| Hypothesis {
            tokens: tokens[1..].to_vec(),
            log_probability,
            ended: false,
        };
        done.extend(alive.into_iter().map(cut));
        done.sort_by(|a, b| self.score(b).total_cmp(&self.score(a)).then_with(|| a.tokens.cmp(&b.tokens)));
        done.truncate(beams);
        Ok(done)
    }

    /// True if no sequence that goes on, the best of which has this probability, can become better than those that ended.
    fn is_settled(&self, done: &[Hypothesis], best_alive: f64, beams: usize) -> bool {
        let Some(worst) = done.last().filter(|_| done.len() == beams) else { return false };
        // Its probability only falls; the longest length divides it by the most.
        best_alive / ((self.longest + 1) as f64).powf(self.length_penalty.max(0.0)) <= self.score(worst)
            || (beams == 1 && worst.log_probability >= best_alive)
    }
}

/// Logarithms of the softmax.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - best).exp()).sum();
    logits.iter().map(|&l| f64::from(l - best) - sum.ln()).collect()
}

/// The translations of a sentence by a trained encoder-decoder (inputs i32 [n, S] and i32 [n, T], logits [n, T, tokens]), the
/// best first.
pub fn translate(
    trainer: &mut Trainer,
    sides: &Sides,
    text: &str,
    search: Search,
) -> Result<Vec<(String, Hypothesis)>> {
    let Sides { source, target, lengths: [from, to] } = sides;
    let (from, to) = (*from, *to);
    let search = Search { longest: search.longest.min(to), begin: BOS, end: EOS, ..search };
    let sentence = source_tokens(source, text, from)?;
    // One program for all steps: unused rows of the beam are computed along.
    let rows = search.beams.max(1);
    let sentences = HostTensor::i32([rows, from], sentence.repeat(rows))?;
    let mut next = |given: &[&[i32]]| -> Result<Vec<Vec<f32>>> {
        let mut tokens = vec![PAD; rows * to];
        for (row, sequence) in tokens.chunks_exact_mut(to).zip(given) {
            row[..sequence.len()].copy_from_slice(sequence);
        }
        let logits = trainer.predict_all(&[sentences.clone(), HostTensor::i32([rows, to], tokens)?])?;
        let (width, values) = (logits.shape.last().copied().unwrap_or(1), logits.as_f32()?);
        let row = |(i, sequence): (usize, &&[i32])| {
            let at = (i * to + sequence.len() - 1) * width;
            let mut row = values[at..at + width].to_vec();
            // What pads and what begins is never said.
            row[PAD as usize] = f32::NEG_INFINITY;
            row[BOS as usize] = f32::NEG_INFINITY;
            row
        };
        Ok(given.iter().enumerate().map(row).collect())
    };
    let found = search.run(&mut next)?;
    Ok(found.into_iter().map(|h| (target.decode(&h.tokens), h)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain over tokens 0 (end), 1, 2 with the beginning 3: greedy search takes 1 first (0.6), after which nothing is
    /// likely (0.4 at most); the way over 2 (0.4) is certain afterwards.
    fn chain(given: &[&[i32]]) -> Result<Vec<Vec<f32>>> {
        let row = |s: &&[i32]| {
            let p: [f32; 4] = match s[s.len() - 1] {
                3 => [0.0, 0.6, 0.4, 0.0],
                1 => [0.4, 0.3, 0.3, 0.0],
                _ => [1.0, 0.0, 0.0, 0.0],
            };
            p.map(f32::ln).to_vec()
        };
        Ok(given.iter().map(row).collect())
    }

    fn search(beams: usize) -> Search {
        Search { beams, length_penalty: 0.0, longest: 5, begin: 3, end: 0 }
    }

    #[test]
    fn greedy_takes_the_likeliest_step_and_beams_the_likeliest_sequence() {
        let greedy = search(1).run(&mut chain).unwrap();
        assert_eq!((greedy.len(), greedy[0].tokens.as_slice(), greedy[0].ended), (1, &[1][..], true));
        assert!((greedy[0].log_probability - 0.24f64.ln()).abs() < 1e-6);
        let found = search(3).run(&mut chain).unwrap();
        assert_eq!(found[0].tokens, [2]);
        assert!((found[0].log_probability - 0.4f64.ln()).abs() < 1e-6);
        assert_eq!(found[1].tokens, [1]);
        // All sequences up to length 5, by their probabilities, are what a wide beam finds.
        let all = search(64).run(&mut chain).unwrap();
        let mut sorted = all.clone();
        sorted.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        assert_eq!(
            all.iter().map(|h| h.log_probability).collect::<Vec<_>>(),
            sorted.iter().map(|h| h.log_probability).collect::<Vec<_>>()
        );
        let total: f64 = all.iter().map(|h| h.log_probability.exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }

    #[test]
    fn sequences_without_an_end_are_cut() {
        let mut endless =
            |given: &[&[i32]]| Ok(vec![vec![f32::NEG_INFINITY, 1.0, 0.0, f32::NEG_INFINITY]; given.len()]);
        let found = search(2).run(&mut endless).unwrap();
        assert_eq!(found[0].tokens, [1; 5]);
        assert!(!found[0].ended && found.len() == 2);
    }

    #[test]
    fn a_length_penalty_favours_longer_sequences() {
        // "1" ends at once with 0.5; otherwise four more tokens follow with certainty.
        let mut model = |given: &[&[i32]]| {
            let row = |s: &&[i32]| match s.len() {
                1 => vec![0.55f32.ln(), 0.45f32.ln(), f32::NEG_INFINITY, f32::NEG_INFINITY],
                2..=4 => vec![f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY],
                _ => vec![0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY],
            };
            Ok(given.iter().map(row).collect())
        };
        assert!(search(2).run(&mut model).unwrap()[0].tokens.is_empty());
        let long = Search { length_penalty: 1.0, ..search(2) };
        assert_eq!(long.run(&mut model).unwrap()[0].tokens, [1; 4]);
    }
}
