//! Data: what comes with kiln (`embedded`), readers of the users' formats (`idx`, `npy`, `text`), and how examples become
//! batches (`dataset`, `images`, `text`), splits and epochs (`order`). Everything random here is a pure function of a seed,
//! so that a resumed run sees the batches that an uninterrupted one sees.

pub mod dataset;
pub mod embedded;
pub mod idx;
pub mod images;
pub mod npy;
pub mod order;
pub mod text;
pub mod vocabulary;

pub use dataset::{Arrays, Dataset, Draw, Field};
pub use images::{Augment, Images};
pub use order::{Batches, Split};
pub use text::{Chars, Text, TextWindows};
pub use vocabulary::{Unit, Vocabulary};
