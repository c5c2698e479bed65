//! Parallel text: a TSV file with a source and a target sentence in two of its columns, without a header.

use crate::data::dataset::{Dataset, Draw, Field};
use crate::data::file;
use crate::data::vocabulary::{BOS, EOS, PAD, Unit, Vocabulary};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::train::loss::IGNORED;
use std::path::Path;

/// The sentences of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// Sentence and translation.
    pub texts: Vec<(String, String)>,
}

impl Pairs {
    /// Reads columns `source` and `target` (counted from 1) of a TSV file, gzipped or not.
    pub fn open(path: &Path, source: usize, target: usize) -> Result<Pairs> {
        Pairs::parse(&file::text(path)?, source, target, &path.display().to_string())
    }

    /// Reads a text that errors call `name`; empty lines do not count.
    pub fn parse(text: &str, source: usize, target: usize, name: &str) -> Result<Pairs> {
        let mut texts = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
            let cell = |column: usize| {
                let found = column.checked_sub(1).and_then(|c| cells.get(c)).filter(|c| !c.is_empty());
                found.map(|c| c.to_string()).ok_or_else(|| {
                    let detail = format!(
                        "line {} has {} columns, and none or nothing in column {column}",
                        number + 1,
                        cells.len()
                    );
                    Error::input(name, format!("{detail}; columns are separated by tabs and counted from 1"))
                })
            };
            texts.push((cell(source)?, cell(target)?));
        }
        match texts.is_empty() {
            true => Err(Error::input(name, "holds no sentences")),
            false => Ok(Pairs { texts }),
        }
    }

    /// The vocabularies of both sides, from the pairs `train`.
    pub fn vocabularies(&self, train: &[usize], unit: Unit, limit: usize) -> (Vocabulary, Vocabulary) {
        let source = train.iter().map(|&i| self.texts[i].0.as_str());
        let target = train.iter().map(|&i| self.texts[i].1.as_str());
        (Vocabulary::of_sequences(source, unit, limit), Vocabulary::of_sequences(target, unit, limit))
    }
}

/// Pairs as tokens: the source with its end, i32 (S); the target from its beginning, i32 (T); the target up to its end,
/// i32 (T), where what pads is ignored by the loss.
#[derive(Debug, Clone)]
pub struct PairTokens {
    lengths: [usize; 2],
    tokens: Vec<(Vec<i32>, Vec<i32>)>,
}

/// How a model on pairs reads and writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sides {
    /// Tokens of the input.
    pub source: Vocabulary,
    /// Tokens of the output.
    pub target: Vocabulary,
    /// Longest input and output, in tokens, with their ends.
    pub lengths: [usize; 2],
}

/// A source sentence as the model takes it: tokens, [`EOS`], [`PAD`] up to `length`; cut if it is longer.
pub fn source_tokens(vocabulary: &Vocabulary, text: &str, length: usize) -> Result<Vec<i32>> {
    let mut tokens = vocabulary.encode(text)?;
    tokens.truncate(length.saturating_sub(1));
    tokens.push(EOS);
    tokens.resize(length, PAD);
    Ok(tokens)
}

impl PairTokens {
    /// The tokens of all pairs. `lengths` are those of source and target with their ends; 0 takes the longest. Longer
    /// sentences are cut.
    pub fn new(pairs: &Pairs, source: &Vocabulary, target: &Vocabulary, lengths: [usize; 2]) -> Result<PairTokens> {
        let encode = |(a, b): &(String, String)| Ok((source.encode(a)?, target.encode(b)?));
        let mut tokens = pairs.texts.iter().map(encode).collect::<Result<Vec<_>>>()?;
        let longest = |f: fn(&(Vec<i32>, Vec<i32>)) -> usize| tokens.iter().map(f).max().unwrap_or(0) + 1;
        let all = [longest(|t| t.0.len()), longest(|t| t.1.len())];
        let lengths = [0, 1].map(|i| if lengths[i] == 0 { all[i] } else { lengths[i].max(2) });
        for (a, b) in &mut tokens {
            a.truncate(lengths[0] - 1);
            b.truncate(lengths[1] - 1);
        }
        Ok(PairTokens { lengths, tokens })
    }

    /// Length of sources and targets, with their ends.
    pub fn lengths(&self) -> [usize; 2] {
        self.lengths
    }
}

impl Dataset for PairTokens {
    fn len(&self) -> usize {
        self.tokens.len()
    }
    fn fields(&self) -> Vec<Field> {
        let [s, t] = self.lengths;
        let field = |name: &str, n: usize| Field::new(name, DType::I32, [n]);
        vec![field("source", s), field("before", t), field("next", t)]
    }
    fn batch(&self, indices: &[usize], _: Option<Draw>) -> Result<Vec<HostTensor>> {
        let [s, t] = self.lengths;
        let mut out: [Vec<i32>; 3] = Default::default();
        for &i in indices {
            let Some((source, target)) = self.tokens.get(i) else {
                return Err(Error::input("data set", format!("pair {i} does not exist, there are {}", self.len())));
            };
            let row = |parts: [&[i32]; 3], n: usize, fill: i32| {
                let mut row = parts.concat();
                row.resize(n, fill);
                row
            };
            out[0].extend(row([source, &[EOS], &[]], s, PAD));
            out[1].extend(row([&[BOS], target, &[]], t, PAD));
            out[2].extend(row([target, &[EOS], &[]], t, IGNORED));
        }
        let [a, b, c] = out;
        let n = indices.len();
        Ok(vec![HostTensor::i32([n, s], a)?, HostTensor::i32([n, t], b)?, HostTensor::i32([n, t], c)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_shifted_tokens() {
        let pairs = Pairs::parse("r1\tab\txyz\n\nr2\tb\tx\n", 2, 3, "p.tsv").unwrap();
        let (s, t) = pairs.vocabularies(&[0, 1], Unit::Chars, 0);
        let set = PairTokens::new(&pairs, &s, &t, [0, 0]).unwrap();
        assert_eq!((set.len(), set.lengths()), (2, [3, 4]));
        let b = set.batch(&[1, 0], None).unwrap();
        assert_eq!(b[0].as_i32().unwrap(), [5, EOS, PAD, 4, 5, EOS]);
        assert_eq!(b[1].as_i32().unwrap(), [BOS, 4, PAD, PAD, BOS, 4, 5, 6]);
        assert_eq!(b[2].as_i32().unwrap(), [4, EOS, IGNORED, IGNORED, 4, 5, 6, EOS]);
        assert_eq!(source_tokens(&s, "ab", 3).unwrap(), [4, 5, EOS]);
        let cut = PairTokens::new(&pairs, &s, &t, [2, 3]).unwrap();
        assert_eq!(cut.batch(&[0], None).unwrap()[2].as_i32().unwrap(), [4, 5, EOS]);
    }

    #[test]
    fn a_missing_column_is_named() {
        let m = Pairs::parse("a\tb\na\n", 1, 2, "p.tsv").unwrap_err().to_string();
        assert!(m.starts_with("p.tsv: line 2 has 1 columns") && m.contains("column 2"), "{m}");
    }
}
