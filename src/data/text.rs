//! Text as characters: the vocabulary (the distinct characters, in code point order), the encoded text, and windows of it
//! as examples of a language model: the target at each position is the next character.

use crate::data::dataset::{Dataset, Draw, Field};
use crate::data::vocabulary::{Unit, Vocabulary};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::{Rng, stream_id};
use crate::tensor::HostTensor;
use std::sync::Arc;

/// A text as tokens of a vocabulary.
#[derive(Debug, Clone)]
pub struct Text {
    vocabulary: Vocabulary,
    tokens: Arc<[i32]>,
}

/// A text as characters, bytes or words.
pub type Chars = Text;

impl Text {
    /// Encodes a text with the vocabulary of its own characters. Errors if it is empty.
    pub fn new(text: &str) -> Result<Text> {
        Text::with(text, Unit::Chars, 0)
    }

    /// Encodes a text with the vocabulary of its own characters, bytes or words; `limit` keeps the most frequent ones
    /// (0: all). Errors if it is empty.
    pub fn with(text: &str, unit: Unit, limit: usize) -> Result<Text> {
        if text.is_empty() {
            return Err(Error::input("text", "it is empty; there is nothing to learn from"));
        }
        let vocabulary = Vocabulary::of(text, unit, limit);
        let tokens = vocabulary.encode(text)?.into();
        Ok(Text { vocabulary, tokens })
    }

    /// The tokens that there are, in code point order; a token is an index into them.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The whole text.
    pub fn tokens(&self) -> &Arc<[i32]> {
        &self.tokens
    }

    /// The tokens of a text in this vocabulary. Errors at the first piece that is not in it.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>> {
        self.vocabulary.encode(text)
    }

    /// The text of these tokens; tokens outside the vocabulary become U+FFFD.
    pub fn decode(&self, tokens: &[i32]) -> String {
        self.vocabulary.decode(tokens)
    }
}

/// Windows of a part of a text. Example i covers the positions from i * context on; with a draw in a drawn order
/// (training), the windows of an epoch are moved together by a random offset, so that the model sees characters at every position.
#[derive(Debug, Clone)]
pub struct TextWindows {
    tokens: Arc<[i32]>,
    from: usize,
    to: usize,
    context: usize,
}

impl TextWindows {
    /// Windows of `context` characters over the positions from `from` to `to`. Errors if there is not even one window.
    pub fn new(tokens: Arc<[i32]>, from: usize, to: usize, context: usize) -> Result<TextWindows> {
        let to = to.min(tokens.len());
        if context == 0 || to.saturating_sub(from) <= context {
            let detail = format!(
                "{} characters are too few for one window of {context} and its targets",
                to.saturating_sub(from)
            );
            return Err(Error::input("text", format!("{detail}; give a longer text or a smaller context")));
        }
        Ok(TextWindows { tokens, from, to, context })
    }
}

impl Dataset for TextWindows {
    fn len(&self) -> usize {
        (self.to - self.from - 1) / self.context
    }
    fn fields(&self) -> Vec<Field> {
        vec![Field::new("tokens", DType::I32, [self.context]), Field::new("next", DType::I32, [self.context])]
    }
    fn batch(&self, indices: &[usize], draw: Option<Draw>) -> Result<Vec<HostTensor>> {
        if let Some(bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(Error::input("data set", format!("window {bad} does not exist, there are {}", self.len())));
        }
        // Moving by less than what is left over after the last window keeps all of them inside.
        let spare = (self.to - self.from - 1) - self.len() * self.context;
        let offset = draw.filter(|d| d.shuffled).map_or(0, |d| {
            let key = d.seed ^ d.epoch.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Rng::new(key, stream_id("data/offset")).below(self.context.max(spare))
        });
        let n = indices.len() * self.context;
        let (mut x, mut y) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for &i in indices {
            let at = (self.from + i * self.context + offset).min(self.to - 1 - self.context);
            x.extend_from_slice(&self.tokens[at..at + self.context]);
            y.extend_from_slice(&self.tokens[at + 1..at + 1 + self.context]);
        }
        let shape = [indices.len(), self.context];
        Ok(vec![HostTensor::i32(shape, x)?, HostTensor::i32(shape, y)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_round_trips_and_refuses_strangers() {
        let t = Chars::new("hello\nworld").unwrap();
        assert_eq!(t.vocabulary().tokens(), ["\n", "d", "e", "h", "l", "o", "r", "w"]);
        assert_eq!(t.decode(t.tokens()), "hello\nworld");
        assert!(t.encode("help").unwrap_err().to_string().contains("'p'"));
        assert!(Chars::new("").is_err());
    }

    #[test]
    fn targets_are_the_next_characters_and_windows_stay_inside() {
        let tokens: Arc<[i32]> = (0..100).collect();
        let w = TextWindows::new(tokens.clone(), 10, 52, 10).unwrap();
        assert_eq!(w.len(), 4);
        let draw = |epoch, shuffled| Some(Draw { seed: 1, epoch, shuffled });
        for draw in [None, draw(0, true), draw(1, true)] {
            let b = w.batch(&[0, 3], draw).unwrap();
            let (x, y) = (b[0].as_i32().unwrap(), b[1].as_i32().unwrap());
            assert!(x.iter().zip(y).all(|(a, b)| a + 1 == *b));
            assert!(x.iter().chain(y).all(|t| (10..52).contains(t)));
        }
        let first = |draw| w.batch(&[0], draw).unwrap()[0].as_i32().unwrap()[0];
        assert_eq!((first(None), first(draw(1, false))), (10, 10));
        assert!((0..4).any(|epoch| first(draw(epoch, true)) != 10), "windows move");
        assert!(TextWindows::new(tokens, 0, 10, 10).is_err());
    }
}
