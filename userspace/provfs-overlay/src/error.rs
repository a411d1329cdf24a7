//! Why there is no mount. Each message is one sentence, and says what to do.

use std::{io, path::PathBuf};

use provfs::pure::skip::SkipError;
use rustix::io::Errno;

/// Why the file system could not be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The source cannot be had.
    #[error(
        "cannot open the source {path:?}: {error}; name a directory that is there with --source"
    )]
    Source {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: Errno,
    },
    /// The root of the source cannot be looked at.
    #[error("cannot look at the source: {0}; check that its file system works, with ls -ld")]
    Look(Errno),
    /// The mount point cannot be had.
    #[error(
        "cannot use the mount point {path:?}: {error}; name an empty directory that is there with --mount"
    )]
    MountPoint {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A dead mount is in the way.
    #[error(
        "the mount point {path:?} has a dead mount on it; take it away with fusermount3 -u {path:?}"
    )]
    DeadMount {
        /// Its path.
        path: PathBuf,
    },
    /// Source and mount point contain each other.
    #[error(
        "the mount point {mount:?} and the source {source_dir:?} are, or contain, each other, so that the file system would wait for itself; mount it somewhere else"
    )]
    Nested {
        /// The source.
        source_dir: PathBuf,
        /// The mount point.
        mount: PathBuf,
    },
    /// There is no way to talk to the kernel.
    #[error(
        "cannot open /dev/fuse: {0}; load the kernel module with modprobe fuse, and in a container pass the device on"
    )]
    Device(io::Error),
    /// The program that mounts is missing.
    #[error("cannot run fusermount3: {0}; install it, with apt install fuse3 on Debian")]
    NoFusermount(io::Error),
    /// The program that mounts has refused.
    #[error(
        "fusermount3 has not mounted {path:?}: {message}; check who may mount there, and user_allow_other in /etc/fuse.conf for --allow-other"
    )]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// The kernel and this program cannot agree.
    #[error(
        "the kernel did not take up the file system: {0}; Linux 5.4 or later with CONFIG_FUSE_FS is needed"
    )]
    Handshake(io::Error),
    /// Records cannot be kept with the files.
    #[error(
        "the file system of {path:?} keeps no user.* extended attributes; keep the records in a database beside it with --sidecar"
    )]
    Unsupported {
        /// The source.
        path: PathBuf,
    },
    /// The database for records cannot be had.
    #[error(
        "cannot use the database of records {path:?}: {error}; name another file with --sidecar=FILE, outside the source"
    )]
    Sidecar {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// The skip rules are wrong.
    #[error(
        "the skip rules \"{rules}\" are wrong: {error}; see Skip rules in the documentation of provfs-overlay"
    )]
    Skip {
        /// All of them.
        rules: String,
        /// Where and why.
        error: SkipError,
    },
    /// A list of names of variables is wrong.
    #[error(
        "the list of variables \"{list}\" is wrong: {error}; write names, best first, with commas between"
    )]
    Names {
        /// The list.
        list: String,
        /// Where and why.
        error: provfs::pure::environ::NameListError,
    },
    /// An option of mount(8) means nothing.
    #[error("the mount option {0:?} is not known; provfs-overlay --help shows those that are")]
    Option(String),
    /// The helper of mount(8) was called in a way that it is not meant to be.
    #[error("expected SOURCE MOUNT [-o OPTIONS]; it is meant to be called by mount -t fuse.provfs")]
    Helper,
    /// `/proc` is not there.
    #[error("cannot open /proc/self/fd: {0}; mount /proc")]
    Proc(Errno),
    /// Log, thread or process could not be set up.
    #[error("cannot {what}: {error}; check the limits of this machine, with ulimit -a")]
    SetUp {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The file system has stopped by itself.
    #[error("the file system has stopped: {0}; look into the log, and mount it again")]
    Stopped(io::Error),
}

impl StartError {
    pub(crate) fn source(error: Errno) -> Self {
        StartError::Look(error)
    }

    pub(crate) fn set_up(what: &'static str, error: impl Into<io::Error>) -> Self {
        StartError::SetUp {
            what,
            error: error.into(),
        }
    }
}
