//! Keeps descriptors from running out.
//!
//! Each inode that the kernel knows takes one, and the kernel forgets inodes only when it needs
//! memory. When most descriptors are taken, it is asked to forget names that were not looked up for
//! long; inodes that are in use it keeps.
//!
//! Linux 6.18 and later are told which inodes. Earlier kernels are told names, each of which waits
//! for the lock of its directory, which whoever makes files there holds most of the time: that may be
//! too slow for many files in one directory.

use std::{
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use fuser::{FileType, Notifier};
use parking_lot::{Condvar, Mutex};
use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    io::{Errno, Result, write},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::inodes::{Inode, Inodes, Key};

/// How long to wait for a descriptor, and how often.
const PATIENCE: (Duration, u32) = (Duration::from_millis(10), 200);

/// Part of the inodes that are to be forgotten at a time.
const SHARE: usize = 4;

/// `FUSE_NOTIFY_PRUNE` of `include/uapi/linux/fuse.h`.
const NOTIFY_PRUNE: u32 = 9;

/// Bytes of such a message before the numbers.
const PRUNE_LEN: u32 = 32;

/// Inodes in a message.
const PRUNED: usize = 1024;

/// The ways to the kernel.
#[derive(Debug)]
pub struct Ways {
    /// To name what it is to forget.
    pub notifier: Notifier,
    /// For a message that the notifier does not know.
    pub device: OwnedFd,
}

/// Watches how many descriptors are taken.
#[derive(Debug)]
pub struct Reaper {
    /// So many inodes may be known.
    limit: usize,
    wanted: Mutex<bool>,
    wake: Condvar,
}

impl Reaper {
    /// Raises the limit of descriptors as far as this process may, and takes half of them for
    /// inodes: the others are for what is open, and for names that are looked up while the kernel
    /// has not answered yet.
    pub fn new() -> Self {
        let limits = getrlimit(Resource::Nofile);
        let raise_to = |most: Option<u64>| {
            let raised = Rlimit {
                current: most,
                maximum: most,
            };
            setrlimit(Resource::Nofile, raised).is_ok().then_some(most)
        };
        // Who has the right to, such as root, may go beyond its own limit.
        let system = std::fs::read_to_string("/proc/sys/fs/nr_open");
        let system = system.ok().and_then(|text| text.trim().parse().ok());
        let current = system
            .and_then(|most| raise_to(Some(most)))
            .or_else(|| raise_to(limits.maximum))
            .unwrap_or(limits.current);
        let current = usize::try_from(current.unwrap_or(1 << 20)).unwrap_or(usize::MAX);
        Reaper {
            limit: current / 2,
            wanted: Mutex::new(false),
            wake: Condvar::new(),
        }
    }

    /// Takes note of how many inodes are known.
    pub fn watch(&self, inodes: usize) {
        if inodes > self.limit {
            self.wake();
        }
    }

    fn wake(&self) {
        *self.wanted.lock() = true;
        self.wake.notify_one();
    }

    /// Does what takes a descriptor; again and again for a while, if none is left.
    pub fn retrying<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let (pause, times) = PATIENCE;
        for _ in 0..times {
            match work() {
                Err(Errno::MFILE) => self.wake(),
                done => return done,
            }
            thread::sleep(pause);
        }
        work()
    }

    /// Works until the process ends.
    pub fn run(self: Arc<Self>, inodes: Arc<Inodes>, ways: Ways) {
        let mut can_prune = true;
        loop {
            let mut wanted = self.wanted.lock();
            while !*wanted {
                self.wake.wait(&mut wanted);
            }
            *wanted = false;
            drop(wanted);
            let chosen = to_let_go(inodes.all());
            if can_prune {
                can_prune = chosen.chunks(PRUNED).all(|some| prune(&ways.device, some));
            }
            if !can_prune {
                for inode in &chosen {
                    let_go(&inodes, &ways.notifier, inode);
                }
            }
            // The answers take a moment, and nothing is gained by asking twice.
            thread::sleep(PATIENCE.0);
        }
    }
}

impl Default for Reaper {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of the inodes, those first that were not looked up for long. A name that the kernel forgets
/// is lost to whoever uses it: a process whose working directory it is cannot tell that any more, and
/// an open file seems to be deleted. So directories come last, and what is open not at all.
fn to_let_go(mut all: Vec<Arc<Inode>>) -> Vec<Arc<Inode>> {
    let count = all.len() / SHARE;
    // One is in the table, and one is here.
    all.retain(|inode| Arc::strong_count(inode) <= 2);
    all.sort_by_key(|inode| (inode.kind == FileType::Directory, inode.used()));
    all.truncate(count);
    all
}

/// Asks the kernel to forget inodes that are not in use, without any lock of a directory. Returns
/// `false` if this kernel cannot do that.
fn prune(device: &OwnedFd, inodes: &[Arc<Inode>]) -> bool {
    match write(
        device,
        &prune_message(inodes.iter().map(|inode| inode.number.0)),
    ) {
        Err(Errno::INVAL) => false,
        Err(error) => {
            log::debug!("{} inodes are kept: {error}", inodes.len());
            true
        }
        Ok(_) => true,
    }
}

/// `struct fuse_out_header` and `struct fuse_notify_prune_out`, and then the numbers of inodes.
fn prune_message(numbers: impl ExactSizeIterator<Item = u64>) -> Vec<u8> {
    let count = numbers.len() as u32;
    let mut message = Vec::new();
    message.extend((PRUNE_LEN + 8 * count).to_ne_bytes());
    message.extend(NOTIFY_PRUNE.to_ne_bytes());
    // No request is answered.
    message.extend(0_u64.to_ne_bytes());
    message.extend(count.to_ne_bytes());
    // Padding.
    message.extend([0; 12]);
    message.extend(numbers.flat_map(u64::to_ne_bytes));
    message
}

/// Asks the kernel to forget the name of an inode.
fn let_go(inodes: &Inodes, notifier: &Notifier, inode: &Inode) {
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{}", inode.proc_name())) else {
        return;
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let Some(parent) = parent_number(inodes, parent) else {
        return;
    };
    if let Err(error) = notifier.inval_entry(parent, name) {
        log::debug!("{} is kept: {error}", name.as_bytes().escape_ascii());
    }
}

fn parent_number(inodes: &Inodes, parent: &Path) -> Option<fuser::INodeNo> {
    let stat = statx(CWD, parent, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO).ok()?;
    inodes.number_of(Key::of(&stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_and_the_numbers() {
        let message = prune_message([7, 8].into_iter());
        let word = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!((message.len(), word(0)), (48, 48));
        assert_eq!((word(4), word(8), word(12)), (9, 0, 0));
        assert_eq!((word(16), word(20), word(24), word(28)), (2, 0, 0, 0));
        assert_eq!(
            message[32..],
            [7_u64.to_ne_bytes(), 8_u64.to_ne_bytes()].concat()
        );
    }
}
