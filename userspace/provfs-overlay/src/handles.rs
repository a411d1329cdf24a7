//! Open files and directories, by the numbers that the kernel was given for them.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fuser::{BackingId, FileHandle};
use parking_lot::{Mutex, RwLock};
use rustix::{
    fs::Statx,
    io::{Errno, Result},
};

use crate::{
    caller::Process,
    inodes::{Inode, stat},
    stamp::HandleState,
};

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    /// The file behind it.
    pub fd: OwnedFd,
    /// Its inode.
    pub inode: Arc<Inode>,
    /// Whether it can be written to.
    pub writable: bool,
    /// The number under which the kernel reads and writes it by itself; kept while it does.
    pub backing: Option<Arc<BackingId>>,
    /// Who opened it, if that is recorded.
    pub opener: Option<Arc<Process>>,
    /// What is known about its record.
    pub state: Mutex<HandleState>,
}

impl OpenFile {
    /// Looks at it.
    pub fn stat(&self) -> Result<Statx> {
        stat(&self.fd)
    }
}

/// An open directory.
#[derive(Debug)]
pub struct OpenDir {
    /// The directory behind it.
    pub fd: OwnedFd,
    /// Its inode.
    pub inode: Arc<Inode>,
    /// Where the next entries are read from.
    pub position: Mutex<u64>,
}

/// What is open, by number.
#[derive(Debug)]
pub struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    /// Nothing is open. The first number that is given out is `first`.
    pub fn starting_at(first: u64) -> Self {
        Handles {
            next: AtomicU64::new(first),
            open: RwLock::default(),
        }
    }

    /// Gives out a number.
    pub fn add(&self, open: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(open));
        FileHandle(number)
    }

    /// What was given this number.
    pub fn get(&self, handle: FileHandle) -> Result<Arc<T>> {
        self.open.read().get(&handle.0).cloned().ok_or(Errno::BADF)
    }

    /// The number is no more.
    pub fn remove(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.write().remove(&handle.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.read().len()
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
