//! What a text is cut into (characters, bytes or words), and the numbers that stand for the pieces.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What one token of a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A Unicode character.
    #[default]
    Chars,
    /// A byte of the UTF-8 text: the vocabulary is always the 256 bytes.
    Bytes,
    /// A word (letters, digits, apostrophes inside), a line break, or any other character that is not a blank.
    Words,
}

impl Unit {
    /// The singular, for messages: `char`, `byte`, `word`.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Chars => "char",
            Unit::Bytes => "byte",
            Unit::Words => "word",
        }
    }

    /// The pieces of a text; bytes have none.
    pub(crate) fn pieces(self, text: &str) -> Vec<&str> {
        match self {
            Unit::Chars => text.char_indices().map(|(i, c)| &text[i..i + c.len_utf8()]).collect(),
            Unit::Bytes => Vec::new(),
            Unit::Words => words(text),
        }
    }
}

/// Words, line breaks and single other characters, in order.
fn words(text: &str) -> Vec<&str> {
    let inside = |c: char| c.is_alphanumeric() || c == '\'' || c == '\u{2019}';
    let mut found = Vec::new();
    let mut start = None;
    for (i, c) in text.char_indices() {
        if inside(c) {
            start.get_or_insert(i);
            continue;
        }
        if let Some(from) = start.take() {
            found.push(&text[from..i]);
        }
        if c == '\n' || !c.is_whitespace() {
            found.push(&text[i..i + c.len_utf8()]);
        }
    }
    found.extend(start.map(|from| &text[from..]));
    found
}

/// The text of words and single characters as [`Unit::Words`] cuts them.
pub(crate) fn join_words<'a>(pieces: impl IntoIterator<Item = &'a str>) -> String {
    // Blanks are not tokens: one goes before each word, none before what closes or around line breaks.
    let mut out = String::new();
    for piece in pieces {
        let closes = [".", ",", ";", ":", "!", "?", ")", "]", "}", "\u{201D}", "\n"].contains(&piece);
        let opened = out.is_empty() || out.ends_with(['\n', '(', '[', '{', '\u{201C}', '\u{BF}', '\u{A1}']);
        if !closes && !opened {
            out.push(' ');
        }
        out.push_str(piece);
    }
    out
}

/// The tokens of a model and their numbers. Special tokens, if there are any, come first: they stand for no text.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    unit: Unit,
    specials: usize,
    tokens: Vec<String>,
    index: HashMap<String, i32>,
    unknown: Option<i32>,
}

/// What a sequence is filled up with.
pub const PAD: i32 = 0;
/// What a sequence begins with.
pub const BOS: i32 = 1;
/// What a sequence ends with.
pub const EOS: i32 = 2;
/// What stands for a piece that the vocabulary does not have.
pub const UNKNOWN: i32 = 3;

impl Vocabulary {
    /// The vocabulary of a text: its own characters or words in order, or all bytes. `limit` keeps that many of the most
    /// frequent pieces (0: all), the others become an unknown token.
    pub fn of(text: &str, unit: Unit, limit: usize) -> Vocabulary {
        let specials: &[&str] = if limit > 0 { &["<unk>"] } else { &[] };
        let mut v = Vocabulary::build([text], unit, limit, specials);
        v.unknown = (limit > 0).then_some(0);
        v
    }

    /// The vocabulary of sequences to be padded: [`PAD`], [`BOS`], [`EOS`], [`UNKNOWN`], then the pieces of the texts.
    pub fn of_sequences<'a>(texts: impl IntoIterator<Item = &'a str>, unit: Unit, limit: usize) -> Vocabulary {
        let mut v = Vocabulary::build(texts, unit, limit, &["<pad>", "<bos>", "<eos>", "<unk>"]);
        v.unknown = Some(UNKNOWN);
        v
    }

    fn build<'a>(texts: impl IntoIterator<Item = &'a str>, unit: Unit, limit: usize, specials: &[&str]) -> Vocabulary {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for text in texts {
            for piece in unit.pieces(text) {
                *counts.entry(piece).or_insert(0) += 1;
            }
        }
        let mut pieces: Vec<(&str, usize)> = counts.into_iter().collect();
        if limit > 0 && pieces.len() > limit {
            pieces.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            pieces.truncate(limit);
        }
        let mut own: Vec<String> = pieces.into_iter().map(|(piece, _)| piece.to_string()).collect();
        own.sort_unstable();
        if unit == Unit::Bytes {
            own = (0..=255u8).map(|b| format!("<{b:02x}>")).collect();
        }
        let tokens: Vec<String> = specials.iter().map(|s| s.to_string()).chain(own).collect();
        let index = tokens.iter().enumerate().skip(specials.len()).map(|(i, t)| (t.clone(), i as i32)).collect();
        Vocabulary { unit, specials: specials.len(), tokens, index, unknown: None }
    }

    /// What a token is.
    pub fn unit(&self) -> Unit {
        self.unit
    }
    /// Number of tokens, special ones included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
    /// The tokens as texts; special ones and bytes in angle brackets.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The tokens of a text. Errors at the first piece that is not in the vocabulary, if there is no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>> {
        if self.unit == Unit::Bytes {
            return Ok(text.bytes().map(|b| i32::from(b) + self.specials as i32).collect());
        }
        let token = |piece: &&str| {
            self.index.get(*piece).copied().or(self.unknown).ok_or_else(|| {
                let (what, piece): (_, &dyn std::fmt::Debug) = match (self.unit, piece.chars().next()) {
                    (Unit::Chars, Some(ref c)) => ("character", &c.clone()),
                    _ => ("word", piece),
                };
                let mut known = self.tokens[self.specials..].concat();
                if self.unit != Unit::Chars {
                    known = format!("{} words", self.len());
                }
                Error::input("text", format!("{what} {piece:?} is not in the vocabulary of this model: {known:?}"))
            })
        };
        self.unit.pieces(text).iter().map(token).collect()
    }

    /// The text of these tokens. Special tokens are left out; the unknown one and numbers outside become U+FFFD.
    pub fn decode(&self, tokens: &[i32]) -> String {
        let specials = self.specials as i32;
        let is_text = |t: i32| t >= specials || Some(t) == self.unknown || t < 0;
        let tokens = tokens.iter().copied().filter(|&t| is_text(t));
        if self.unit == Unit::Bytes {
            let bytes: Vec<u8> = tokens.map(|t| u8::try_from(t - specials).unwrap_or(b'?')).collect();
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        let text = |t: i32| match usize::try_from(t).ok().and_then(|i| self.tokens.get(i)) {
            Some(piece) if Some(t) != self.unknown => piece.as_str(),
            _ => "\u{FFFD}",
        };
        if self.unit == Unit::Chars {
            return tokens.map(text).collect();
        }
        join_words(tokens.map(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_up_to_blanks() {
        let text = "In the beginning, God (who?) said: \u{201C}Let\u{201D}.\nDavid's  day";
        let v = Vocabulary::of(text, Unit::Words, 0);
        let tokens = v.encode(text).unwrap();
        assert_eq!(v.decode(&tokens), text.replace("  ", " "));
        assert!(v.encode("unheard").unwrap_err().to_string().contains("\"unheard\""));
        let few = Vocabulary::of("a a a b b c", Unit::Words, 2);
        assert_eq!((few.len(), few.encode("a c b").unwrap()), (3, vec![1, 0, 2]));
    }

    #[test]
    fn bytes_are_themselves() {
        let v = Vocabulary::of("", Unit::Bytes, 0);
        assert_eq!((v.len(), v.encode("é").unwrap()), (256, vec![0xC3, 0xA9]));
        assert_eq!(v.decode(&[0xC3, 0xA9]), "é");
        let s = Vocabulary::of_sequences([], Unit::Bytes, 0);
        assert_eq!((s.len(), s.encode("A").unwrap(), s.decode(&[BOS, 69, EOS, PAD])), (260, vec![69], "A".into()));
    }

    #[test]
    fn sequences_have_special_tokens() {
        let v = Vocabulary::of_sequences(["ab", "bc"], Unit::Chars, 0);
        assert_eq!((v.len(), v.encode("cax").unwrap()), (7, vec![6, 4, UNKNOWN]));
        assert_eq!(v.decode(&[BOS, 4, 5, EOS, PAD, PAD]), "ab");
    }
}
