//! Training. `Trainer` turns module, loss and optimizer into compiled steps over one store: the library's way. `run` is
//! what `kiln train` does with it: a run described by a `config` (a preset or a TOML file), its `task` (data and model),
//! its folder (`folder`, `checkpoint`), and what it reports. Everything random follows from the seed.

mod after;
pub mod average;
pub mod bleu;
pub mod checkpoint;
pub mod config;
pub mod curvature;
pub mod decode;
pub mod diagnose;
pub mod files;
pub mod find_batch;
pub mod folder;
pub mod generate;
pub mod inspect;
pub mod lanczos;
pub mod loss;
pub mod measures;
pub mod memory;
pub mod mistakes;
pub mod model;
mod names;
pub mod nonfinite;
pub mod precision;
pub mod probe;
pub mod profile;
mod resume;
pub mod run;
pub mod seq2seq;
mod sources;
pub mod stopping;
pub mod symmetric;
pub mod task;
pub mod trainer;
pub mod translation;
pub mod usage;
pub mod warm;
pub mod watch;

pub use config::RunConfig;
pub use curvature::{Surface, Verdict};
pub use lanczos::{Eigenpair, Lanczos, Spectrum};
pub use loss::Loss;
pub use precision::Precision;
pub use run::{RunOptions, Stop, Summary, Watch};
pub use task::Task;
pub use trainer::{Measures, Position, StepReport, Trainer};
pub use usage::Usage;
pub use warm::WarmStart;
