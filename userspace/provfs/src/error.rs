//! What can go wrong when a record is read.

use std::{fmt, io, os::fd::RawFd, path::PathBuf};

use rustix::io::Errno;

/// What a record was to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// The file of this name.
    Path(PathBuf),
    /// The file that is open as this descriptor.
    Fd(RawFd),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A name may hold anything, and the message may go to a terminal.
            Object::Path(path) => write!(f, "{path:?}"),
            Object::Fd(fd) => write!(f, "file descriptor {fd}"),
        }
    }
}

/// A record could not be read. That a file has none is not an error.
///
/// The message names the file and the key; the cause is the [`source`](std::error::Error::source),
/// and [`ReadError::advice`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The names of the extended attributes could not be had.
    #[error("cannot list the extended attributes of {object}")]
    List {
        /// Whose.
        object: Object,
        /// Why.
        source: io::Error,
    },
    /// The value of one extended attribute could not be had.
    #[error("cannot read {key} of {object}")]
    Get {
        /// Whose.
        object: Object,
        /// Which.
        key: String,
        /// Why.
        source: io::Error,
    },
}

impl ReadError {
    /// What to do about it, if that can be told.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = provfs::read("no/such/file").unwrap_err();
    /// assert_eq!(error.to_string(), "cannot list the extended attributes of \"no/such/file\"");
    /// assert!(error.advice().is_some_and(|advice| advice.starts_with("check the spelling")));
    /// ```
    pub fn advice(&self) -> Option<&'static str> {
        Some(match Errno::from_io_error(self.io_error())? {
            Errno::NOENT => "check the spelling, and that the file was not removed meanwhile",
            Errno::ACCESS | Errno::PERM => {
                "a record can be read by whoever may read the file: ask its owner, or try as root"
            }
            Errno::NOTSUP => {
                "its file system keeps no user.* attributes; ext4, xfs, btrfs and tmpfs do"
            }
            Errno::NOTDIR => "a part of the path is not a directory: check the spelling",
            Errno::NAMETOOLONG => "the path, or a part of it, is longer than any can be",
            Errno::LOOP => "symbolic links lead in a circle: look at them with ls -l",
            Errno::BADF => "the descriptor is not open, or only with O_PATH: open it for reading",
            Errno::INVAL => "a path has no NUL byte in it",
            _ => return None,
        })
    }

    /// The error of the system call.
    pub fn io_error(&self) -> &io::Error {
        match self {
            ReadError::List { source, .. } | ReadError::Get { source, .. } => source,
        }
    }
}
