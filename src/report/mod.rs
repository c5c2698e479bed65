//! What people see: the console of a training run, numbers as text. Nothing here computes or decides.

pub mod console;
pub mod number;

pub use console::Console;
