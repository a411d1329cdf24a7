//! What can go wrong. Each message says what was being done, to which object, why it failed, and
//! what to try.

use std::{io, path::PathBuf};

use rustix::io::Errno;

use crate::{change::Refusal, settings::BadValue};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The running kernel has no provfs, or hides it. The text is one sentence with what to do.
    #[error("{0}")]
    Absent(String),
    /// No kernel has this setting.
    #[error("there is no setting {0:?}; 'provfs-config list' names all of them")]
    Unknown(String),
    /// The running kernel lacks the setting.
    #[error(
        "provfs.{0} is not in this kernel; 'provfs-config list' shows what is, a newer provfs may have it"
    )]
    NotInKernel(&'static str),
    /// An assignment without `=`.
    #[error("{0:?} is no assignment: write NAME=VALUE, such as enabled=0")]
    NoAssignment(String),
    /// One setting is given two values.
    #[error("provfs.{0} is set twice; give it one value")]
    Twice(&'static str),
    /// The value cannot be.
    #[error("nothing was changed: provfs.{setting}: {why}")]
    BadValue {
        /// Of which setting.
        setting: &'static str,
        /// What is wrong with it.
        why: BadValue,
    },
    /// The kernel refused a change.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file could not be read.
    #[error("cannot read {}: {source}{}", .path.display(), advice(.source))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}{}", .path.display(), advice(.source))]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock that keeps changes apart could not be had.
    #[error("cannot lock {}, nothing was changed: {source}{}", .path.display(), advice(.source))]
    Lock {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of settings has mistakes.
    #[error("{}", join_lines(.0))]
    Mistakes(Vec<String>),
    /// A value cannot be written in the form that was asked for.
    #[error("provfs.{setting} cannot be kept in {file}: {why}")]
    NotStorable {
        /// Which setting.
        setting: &'static str,
        /// Where.
        file: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A path could not be looked at.
    #[error("cannot look at {path:?}: {source}{}", advice(.source))]
    Look {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The output could not be written.
    #[error("cannot write the output: {0}; check that there is space left where it goes")]
    Output(#[source] io::Error),
}

impl Error {
    /// Makes an [`Error::Read`].
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl Fn(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Read {
            path: path.clone(),
            source,
        }
    }

    /// Makes an [`Error::Write`].
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl Fn(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Write {
            path: path.clone(),
            source,
        }
    }
}

fn join_lines(lines: &[String]) -> String {
    lines.join("\n")
}

/// What to try.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS | Errno::PERM) => "; try again as root, with sudo for instance",
        Some(Errno::NOENT) => "; check the spelling, and that it exists",
        Some(Errno::ROFS) => "; the file system is mounted read-only, as in many containers",
        Some(Errno::NOSPC | Errno::DQUOT) => "; make room on that file system",
        Some(Errno::ISDIR) => "; give it a file",
        _ => "",
    }
}
