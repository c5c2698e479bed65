//! The data that is compiled into the binary, so that a fresh clone trains without a download. `data/README.md` says where
//! it comes from and under which licence.

use crate::data::{Chars, Images, idx};
use crate::error::{Error, Result};

const DIGITS_IMAGES: &[u8] = include_bytes!("../../data/digits-images-idx3-ubyte.gz");
const DIGITS_LABELS: &[u8] = include_bytes!("../../data/digits-labels-idx1-ubyte.gz");
const KING_JAMES: &[u8] = include_bytes!("../../data/kjv-subset.txt.gz");

/// The UCI optical digits: 1,797 images of 8x8 pixels with values 0 to 16, ten classes.
pub fn digits() -> Result<Images> {
    let images = idx::Idx::parse(DIGITS_IMAGES, "embedded digits (images)")?;
    let labels = idx::Idx::parse(DIGITS_LABELS, "embedded digits (labels)")?;
    Images::from_idx(images, labels, 10, 16.0, "embedded digits")
}

/// Six books of the King James bible, one verse a line, as characters.
pub fn king_james() -> Result<Chars> {
    Chars::new(&king_james_text()?)
}

/// The text of [`king_james`].
pub fn king_james_text() -> Result<String> {
    String::from_utf8(idx::gunzip(KING_JAMES, "embedded King James text")?)
        .map_err(|e| Error::internal("embedded data", format!("the King James text is not UTF-8: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    #[test]
    fn the_digits_are_what_they_should_be() {
        let d = digits().unwrap();
        assert_eq!(d.len(), 1797);
        let b = d.batch(&[0, 1796], None).unwrap();
        assert_eq!(b[0].shape.0, [2, 1, 8, 8]);
        // The first image is a zero whose first row is 0 0 5 13 9 1 0 0; the last is an eight.
        let first: Vec<f32> = [0, 0, 5, 13, 9, 1, 0, 0].iter().map(|&v| v as f32 / 16.0).collect();
        assert_eq!(b[0].as_f32().unwrap()[..8], first[..]);
        assert_eq!(b[1].as_i32().unwrap(), [0, 8]);
    }

    #[test]
    fn the_text_is_what_it_should_be() {
        let t = king_james().unwrap();
        assert_eq!((t.tokens().len(), t.vocabulary().len()), (754_716, 73));
        assert!(t.decode(&t.tokens()[..40]).starts_with("Genesis 1\nIn the beginning"));
    }
}
