//! The one error type. Every message says what went wrong, where (operation and shapes, file, key, adapter) and,
//! where there is something to do about it, what. Nothing here prints or exits; the CLI maps errors to exit codes.

use std::fmt;
use std::panic::Location;

/// A place in the caller's source, kept for every node so that errors can name it.
pub type Loc = &'static Location<'static>;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// An operation was given operands that it cannot take.
    #[error("{op}: {detail} at {loc}")]
    Graph {
        /// Name of the operation.
        op: String,
        /// What is wrong with its operands, shapes included.
        detail: String,
        /// Where in the user's source the operation was called.
        loc: Loc,
    },
    /// Something the user gave (a file, key, argument, tensor) is not usable.
    #[error("{what}: {detail}")]
    Input {
        /// The file, key, argument or tensor.
        what: String,
        /// What is wrong with it and what to do.
        detail: String,
    },
    /// A device is missing or failed.
    #[error("device {device}: {detail}")]
    Device {
        /// Name of the device or of the request for one.
        device: String,
        /// What happened and what to do.
        detail: String,
    },
    /// The device reported a fault of the data while running: an index out of range or a non-finite update.
    #[error("{what}: {detail}")]
    Runtime {
        /// The operation that reported it.
        what: String,
        /// What it found, and where.
        detail: String,
    },
    /// A bug in kiln: an invariant of its own did not hold.
    #[error("internal error in {stage}: {detail} (this is a bug in kiln)")]
    Internal {
        /// The part of kiln whose invariant failed.
        stage: String,
        /// Which invariant, with the values seen.
        detail: String,
    },
}

impl Error {
    /// An operation's operands do not fit.
    pub fn graph(op: impl Into<String>, detail: impl Into<String>, loc: Loc) -> Error {
        Error::Graph { op: op.into(), detail: detail.into(), loc }
    }
    /// A file, key, argument or tensor is not usable.
    pub fn input(what: impl fmt::Display, detail: impl Into<String>) -> Error {
        Error::Input { what: what.to_string(), detail: detail.into() }
    }
    /// A device is missing or failed.
    pub fn device(device: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Device { device: device.into(), detail: detail.into() }
    }
    /// The data made a running operation fail.
    pub fn runtime(what: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Runtime { what: what.into(), detail: detail.into() }
    }
    /// An invariant of kiln's own did not hold.
    pub fn internal(stage: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Internal { stage: stage.into(), detail: detail.into() }
    }
}
