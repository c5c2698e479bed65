//! `print!`, `println!` and `eprintln!` of this crate: as those of the standard library, but a reader who has gone away (`kiln
//! train | head -1`) is no reason to panic. Work goes on, and what nobody reads is dropped.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};

/// Writes to standard output. What else than a closed pipe is wrong with it is said on standard error.
pub(crate) fn out(text: Arguments) {
    let mut to = stdout().lock();
    if let Err(e) = to.write_fmt(text).and_then(|()| to.flush())
        && e.kind() != ErrorKind::BrokenPipe
    {
        err(format_args!("warning: cannot write to standard output: {e}\n"));
    }
}

/// Writes to standard error; there is nowhere to say that this fails.
pub(crate) fn err(text: Arguments) {
    let _ = stderr().lock().write_fmt(text);
}

macro_rules! print {
    ($($text:tt)*) => { $crate::out::out(format_args!($($text)*)) };
}
macro_rules! println {
    () => { $crate::out::out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::out::out(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::out::err(format_args!("{}\n", format_args!($($text)*))) };
}
