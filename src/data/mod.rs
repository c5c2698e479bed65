//! Data: what comes with kiln (`embedded`), readers of the users' formats (`idx`, `cifar`, `pictures`, `npy`, `table`,
//! `series`, `pairs`, `graph`, `text`), and how examples become batches (`dataset`, `images`, `augment`, `loader`), splits and epochs (`order`). All
//! files may be gzipped. Everything random here is a pure function of a seed, so that a resumed run sees the batches that an
//! uninterrupted one sees.

pub mod augment;
pub mod cifar;
pub mod dataset;
pub mod embedded;
pub mod file;
pub mod graph;
pub mod idx;
pub mod images;
pub mod loader;
pub mod npy;
pub mod order;
pub mod pairs;
pub mod pictures;
pub mod series;
pub mod table;
pub mod text;
pub mod vocabulary;

pub use dataset::{Arrays, Dataset, Draw, Field};
pub use images::{Augment, Images};
pub use order::{Batches, Split};
pub use text::{Chars, Text, TextWindows};
pub use vocabulary::{Unit, Vocabulary};
