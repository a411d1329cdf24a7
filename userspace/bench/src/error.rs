//! What can go wrong while measuring or reporting.

use std::{io, path::PathBuf};

use thiserror::Error;

/// An error, with what was being done and to what.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// A system call or another operation on a path failed.
    #[error("cannot {doing} {path}: {source}")]
    Path {
        /// A verb: what was tried.
        doing: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call that is not about a path failed.
    #[error("cannot {doing}: {source}")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A program that is measured, or that a configuration consists of, failed.
    #[error("{program} ended with {status}{said}; try it by hand in the guest")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said, or nothing.
        said: String,
    },
    /// A chart cannot be drawn.
    #[error("cannot draw {path}: {why}")]
    Chart {
        /// The chart.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What a function here returns.
pub(crate) type Result<T = ()> = std::result::Result<T, Error>;

/// Adds what was being done to the error of a system call.
pub(crate) trait Context<T> {
    /// `doing` is a verb without an object, `path` the object.
    fn at(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T>;

    /// `doing` is a verb with its object.
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Path {
            doing,
            path: path.into(),
            source: source.into(),
        })
    }

    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|source| Error::Call {
            doing,
            source: source.into(),
        })
    }
}
