//! BLEU over a corpus (Papineni et al., 2002): the geometric mean of the shares of n-grams, n from 1 to 4, that a reference
//! has too, times a penalty for translations that are shorter than their references. One reference a sentence, no smoothing.

use std::collections::HashMap;
use std::hash::Hash;

/// Longest n-gram that counts.
const LONGEST: usize = 4;

/// The counts of a corpus so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bleu {
    /// n-grams of translations that their references have, clipped to the references' counts.
    matches: [u64; LONGEST],
    /// n-grams of translations.
    totals: [u64; LONGEST],
    translated: u64,
    reference: u64,
}

impl Bleu {
    /// Adds a sentence: the words of its translation and of its reference.
    pub fn add<T: Hash + Eq>(&mut self, translated: &[T], reference: &[T]) {
        for n in 1..=LONGEST {
            let mut there: HashMap<&[T], u64> = HashMap::new();
            reference.windows(n).for_each(|gram| *there.entry(gram).or_insert(0) += 1);
            for gram in translated.windows(n) {
                self.totals[n - 1] += 1;
                if let Some(left) = there.get_mut(gram).filter(|left| **left > 0) {
                    *left -= 1;
                    self.matches[n - 1] += 1;
                }
            }
        }
        self.translated += translated.len() as u64;
        self.reference += reference.len() as u64;
    }

    /// BLEU in percent; 0 where no n-gram of some length matches.
    pub fn score(&self) -> f64 {
        if self.matches.contains(&0) {
            return 0.0;
        }
        let precision = |(m, t): (&u64, &u64)| (*m as f64 / *t as f64).ln() / LONGEST as f64;
        let mean: f64 = self.matches.iter().zip(&self.totals).map(precision).sum();
        let penalty = (1.0 - self.reference as f64 / self.translated as f64).min(0.0);
        100.0 * (mean + penalty).exp()
    }

    /// The share of words that both have, order apart, in percent: the harmonic mean of precision and recall.
    pub fn words(&self) -> f64 {
        100.0 * 2.0 * self.matches[0] as f64 / (self.translated + self.reference).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bleu(pairs: &[(&str, &str)]) -> Bleu {
        let mut b = Bleu::default();
        for (ours, theirs) in pairs {
            let words = |s: &str| s.split_whitespace().map(str::to_string).collect::<Vec<_>>();
            b.add(&words(ours), &words(theirs));
        }
        b
    }

    #[test]
    fn by_hand() {
        let same = bleu(&[("the cat sat on the mat", "the cat sat on the mat")]);
        assert!((same.score() - 100.0).abs() < 1e-9 && (same.words() - 100.0).abs() < 1e-9);
        // 5 of 6 words; 3 of 5 pairs; 2 of 4; 1 of 3; equal lengths.
        let b = bleu(&[("the cat sat on a mat", "the cat sat on the mat")]);
        assert_eq!((b.matches, b.totals), ([5, 3, 2, 1], [6, 5, 4, 3]));
        let expected = 100.0 * (5.0 / 6.0 * 3.0 / 5.0 * 2.0 / 4.0 / 3.0_f64).powf(0.25);
        assert!((b.score() - expected).abs() < 1e-9);
        // Repeating a word does not help; counts are clipped.
        assert_eq!(bleu(&[("the the the the", "the cat sat on")]).matches, [1, 0, 0, 0]);
        // A short translation pays for it: exp(1 - 6/4).
        let short = bleu(&[("the cat sat on", "the cat sat on the mat")]);
        assert!((short.score() - 100.0 * (-0.5f64).exp()).abs() < 1e-9);
        assert_eq!(bleu(&[("", "a b")]).score(), 0.0);
        assert_eq!(Bleu::default().words(), 0.0);
    }
}
