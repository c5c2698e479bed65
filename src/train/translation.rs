//! How well a run on pairs of sentences translates: BLEU of its beam search on a part of the data, beside two baselines that
//! need no network: copying the source, and translating word for word with a lexicon learned from the training pairs.

use crate::data::vocabulary::{Unit, join_words};
use crate::error::{Error, Result};
use crate::train::Trainer;
use crate::train::bleu::Bleu;
use crate::train::decode::{Search, translate};
use crate::train::task::{Output, Task};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;

/// Rounds of expectation and maximisation that make a lexicon.
const ROUNDS: usize = 10;
/// A translation less likely than this is forgotten after a round.
const UNLIKELY: f64 = 1e-4;

/// Probabilities t(target | source) of IBM model 1 (Brown et al., 1993): every target word comes from one source word or from
/// none of them, at any place. What it knows of a sentence is which words it has: a bag.
#[derive(Debug, Clone, Default)]
pub struct Lexicon {
    best: HashMap<String, Option<String>>,
}

impl Lexicon {
    /// Learns from sentences as words.
    pub fn learn(pairs: &[(Vec<&str>, Vec<&str>)]) -> Lexicon {
        let (mut sources, mut targets) = (Names::default(), Names::default());
        // Source 0 is the word that is not there.
        sources.number("");
        let numbered: Vec<(Vec<u32>, Vec<u32>)> = pairs
            .iter()
            .map(|(s, t)| {
                let source = std::iter::once(0).chain(s.iter().map(|w| sources.number(w))).collect();
                (source, t.iter().map(|w| targets.number(w)).collect())
            })
            .collect();
        let mut likely: Vec<HashMap<u32, f64>> = vec![HashMap::new(); sources.names.len()];
        for (source, target) in &numbered {
            source.iter().for_each(|&s| likely[s as usize].extend(target.iter().map(|&t| (t, 1.0))));
        }
        for _ in 0..ROUNDS {
            let mut counts: Vec<HashMap<u32, f64>> = vec![HashMap::new(); likely.len()];
            for (source, target) in &numbered {
                for &t in target {
                    let of = |s: u32| likely[s as usize].get(&t).copied().unwrap_or(0.0);
                    let all: f64 = source.iter().map(|&s| of(s)).sum();
                    if all > 0.0 {
                        source.iter().for_each(|&s| *counts[s as usize].entry(t).or_insert(0.0) += of(s) / all);
                    }
                }
            }
            for (row, counted) in likely.iter_mut().zip(counts) {
                // Summed in the order of the words: a hash map's own order changes from run to run.
                let mut counted: Vec<(u32, f64)> = counted.into_iter().collect();
                counted.sort_unstable_by_key(|c| c.0);
                let sum: f64 = counted.iter().map(|c| c.1).sum();
                *row = counted.into_iter().map(|(t, c)| (t, c / sum)).filter(|(_, p)| *p > UNLIKELY).collect();
            }
        }
        let best = (1..likely.len()).map(|s| {
            let found = likely[s].iter().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(a.0)));
            (sources.names[s].to_string(), found.map(|(&t, _)| targets.names[t as usize].to_string()))
        });
        Lexicon { best: best.collect() }
    }

    /// The likeliest word for each word, in the order of the source; a word that was never seen stays as it is.
    pub fn word_for_word<'a>(&'a self, source: &[&'a str]) -> Vec<&'a str> {
        source
            .iter()
            .filter_map(|w| match self.best.get(*w) {
                Some(found) => found.as_deref(),
                None => Some(*w),
            })
            .collect()
    }
}

/// Numbers of words.
#[derive(Default)]
struct Names<'a> {
    names: Vec<&'a str>,
    index: HashMap<&'a str, u32>,
}

impl<'a> Names<'a> {
    fn number(&mut self, word: &'a str) -> u32 {
        *self.index.entry(word).or_insert_with(|| {
            self.names.push(word);
            self.names.len() as u32 - 1
        })
    }
}

/// A sentence with its translations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// The sentence.
    pub source: String,
    /// Its translation in the data.
    pub reference: String,
    /// The model's translation.
    pub model: String,
    /// The lexicon's translation, word for word.
    pub words: String,
}

/// Translations of a part of the data, with scores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Of the model.
    pub model: Bleu,
    /// Of the source as its own translation.
    pub copied: Bleu,
    /// Of the lexicon.
    pub words: Bleu,
    /// The sentences, in the order of the part.
    pub sentences: Vec<Translated>,
}

impl Judged {
    /// The three scores of each way to translate, and the first `most` sentences.
    pub fn table(&self, most: usize) -> String {
        let mut out =
            format!("{:<28} {:>6}  {:>12}\n", format!("{} sentences", self.sentences.len()), "BLEU", "words right");
        for (name, bleu) in self.ways() {
            let _ = writeln!(out, "{name:<28} {:>6.2}  {:>10.1} %", bleu.score(), bleu.words());
        }
        for s in self.sentences.iter().take(most) {
            let _ = write!(out, "\n  source     {}\n  reference  {}\n", s.source, s.reference);
            let _ = write!(out, "  model      {}\n  lexicon    {}\n", s.model, s.words);
        }
        out
    }

    /// The ways to translate, the model's first.
    pub fn ways(&self) -> [(&'static str, Bleu); 3] {
        [
            ("this model, 4 beams", self.model),
            ("a lexicon, word for word", self.words),
            ("the source as it is", self.copied),
        ]
    }

    /// Scores and sentences.
    pub fn to_json(&self) -> Value {
        let score = |b: &Bleu| json!({ "bleu": b.score(), "words": b.words() });
        let each = |s: &Translated| json!({ "source": s.source, "reference": s.reference, "model": s.model, "lexicon": s.words });
        let sentences: Vec<Value> = self.sentences.iter().map(each).collect();
        json!({
            "model": score(&self.model), "lexicon": score(&self.words), "copied": score(&self.copied),
            "sentences": sentences,
        })
    }
}

/// Translates the first `most` of these pairs. Errors if the run is not one on pairs.
pub fn judge(trainer: &mut Trainer, task: &Task, indices: &[usize], most: usize, search: Search) -> Result<Judged> {
    let Output::Pair { pairs, sides } = &task.output else {
        return Err(Error::input("translations", "this run does not translate: its data are no pairs of sentences"));
    };
    let both = |i: usize| {
        let (s, t) = &pairs.texts[i];
        (Unit::Words.pieces(s), Unit::Words.pieces(t))
    };
    let lexicon = Lexicon::learn(&task.train.indices.iter().map(|&i| both(i)).collect::<Vec<_>>());
    let mut out = Judged::default();
    for &i in indices.iter().take(most) {
        let (text, reference) = &pairs.texts[i];
        let (from, to) = both(i);
        let found = translate(trainer, sides, text, search)?;
        let model = found.into_iter().next().map(|(text, _)| text).unwrap_or_default();
        let words = lexicon.word_for_word(&from);
        out.model.add(&Unit::Words.pieces(&model), &to);
        out.copied.add(&from, &to);
        out.words.add(&words, &to);
        let words = join_words(words);
        out.sentences.push(Translated { source: text.clone(), reference: reference.clone(), model, words });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lexicon_finds_words_that_go_together() {
        let data = [
            "the house|la casa",
            "the book|el libro",
            "a house|una casa",
            "a book|un libro",
            "the green house|la casa verde",
        ];
        let pairs: Vec<_> = data.iter().filter_map(|l| l.split_once('|')).collect();
        let words = |s: &'static str| s.split(' ').collect::<Vec<_>>();
        let lexicon = Lexicon::learn(&pairs.iter().map(|(s, t)| (words(s), words(t))).collect::<Vec<_>>());
        assert_eq!(lexicon.word_for_word(&["green", "book", "house"]), ["verde", "libro", "casa"]);
        assert_eq!(lexicon.word_for_word(&["unheard"]), ["unheard"], "what was never seen stays");
        assert!(Lexicon::learn(&[]).word_for_word(&["x"]) == ["x"]);
    }
}
