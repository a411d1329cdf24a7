// SPDX-License-Identifier: GPL-2.0-only

//! Putting a record on a file.
//!
//! # Locks
//!
//! They are taken in the order of the VFS: protection against freezing, the lock of the inode,
//! whatever the file system takes. What the caller holds is not known in every case (see
//! [`Lsm::file_permission`]), so nothing is waited for while a write is under way: a trylock cannot
//! deadlock, and adds no order to lockdep's. When a file is released, nothing is held, and the lock
//! of the inode can be waited for. A frozen file system is never waited for: that could be for
//! ever, and is for the user's own write to do.
//!
//! [`Lsm::file_permission`]: kernel::lsm::Lsm::file_permission

use kernel::{
    error::code::{
        EINVAL,
        ENODATA,
        EROFS, //
    },
    fs::{
        inode::InodeGuard,
        xattr::Writable,
        Inode,
        Path, //
    },
    prelude::*,
};

use crate::{
    identity::Identity,
    pure::{
        record::Key,
        time::{
            format_rfc3339,
            RFC3339_LEN, //
        },
    },
    state,
    Context, //
};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// Whether a lock may be waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// No: the caller may hold locks.
    Never,
    /// Yes, for that of the inode: the caller holds none.
    ForInode,
}

/// Why there is no stamp.
#[derive(Clone, Copy)]
pub(crate) enum Unstamped {
    /// A lock is taken by somebody else, or the file system is frozen or about to be. It can be
    /// tried again.
    Contended,
    /// The file is immutable or append-only, so that its attributes must not be changed.
    Immutable,
    /// The file system refused.
    Failed(Error),
}

impl From<Error> for Unstamped {
    fn from(error: Error) -> Self {
        Unstamped::Failed(error)
    }
}

/// A record that is to be put on a file.
pub(crate) struct Stamp<'a> {
    /// Who has modified the file.
    pub(crate) identity: &'a Identity,
    /// When, in nanoseconds since the Unix epoch.
    pub(crate) time: i64,
    /// The file was just created, so that there is no record on it yet.
    pub(crate) is_first: bool,
}

impl Stamp<'_> {
    /// Puts the record on a file.
    ///
    /// The caller makes sure that the mount is writable. Sleeps.
    pub(crate) fn put(&self, cx: &Context<'_>, path: &Path, wait: Wait) -> Result<(), Unstamped> {
        let inode = path.dentry().inode().ok_or(EINVAL)?;
        let super_block = inode.super_block();
        if super_block.is_read_only() {
            return Err(EROFS.into());
        }

        let unfrozen = super_block.try_start_write().ok_or(Unstamped::Contended)?;
        let locked = lock(inode, wait).ok_or(Unstamped::Contended)?;
        if inode.is_immutable_or_append_only() {
            return Err(Unstamped::Immutable);
        }

        let task = state::of_task(cx);
        task.set_stamping(true);
        let written =
            Writable::new(path, &locked, &unfrozen).and_then(|file| self.write_keys(&file));
        task.set_stamping(false);
        written?;

        let is_other = state::of_inode(inode).set_stamped(self.identity.id, self.time);
        if is_other && inode.write_count() > 1 {
            // Whoever was named before may go on writing through another open file, and is to be
            // named again then.
            state::begin_epoch();
        }
        Ok(())
    }

    /// Writes the `keys` format. A record is never a mixture: if one of its keys cannot be written,
    /// those that would be left from the record before are removed.
    fn write_keys(&self, file: &Writable<'_>) -> Result {
        let mut ts = [0; RFC3339_LEN];
        let ts = format_rfc3339(self.time.div_euclid(SECOND), &mut ts);
        let record = [
            (Key::Session, Some(self.identity.session())),
            (Key::Tool, Some(self.identity.tool())),
            (Key::Turn, self.identity.turn()),
            (Key::Intent, self.identity.intent()),
            (Key::Ts, Some(ts)),
        ];

        let mut keys = record.iter();
        while let Some((key, value)) = keys.next() {
            let done = match value {
                Some(value) => file.set(key.name(), value),
                None if self.is_first => Ok(()),
                None => remove(file, *key),
            };
            if let Err(error) = done {
                // What was there is not ours, and what could not be written is not there.
                let _ = remove(file, *key);
                for (key, _) in keys {
                    let _ = remove(file, *key);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Locks an inode, if that is possible now or can be waited for.
fn lock(inode: &Inode, wait: Wait) -> Option<InodeGuard<'_>> {
    match wait {
        Wait::Never => inode.try_lock(),
        Wait::ForInode => Some(inode.lock()),
    }
}

/// Makes sure that a key is not there.
fn remove(file: &Writable<'_>, key: Key) -> Result {
    match file.remove(key.name()) {
        Err(error) if error == ENODATA => Ok(()),
        result => result,
    }
}
