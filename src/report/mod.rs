//! What people see: the console of a training run, lines for logs, TensorBoard's event files, `report.html`, the list of
//! runs, numbers as text. Nothing here decides how a run goes.

pub mod board;
pub mod chart;
pub mod console;
pub mod lines;
pub mod number;
pub mod page;
pub mod png;
pub mod runs;
pub mod tensorboard;

pub use board::Board;
pub use console::Console;
pub use lines::JsonLines;
