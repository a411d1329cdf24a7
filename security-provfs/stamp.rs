// SPDX-License-Identifier: GPL-2.0-only

//! Putting a record on a file.
//!
//! # Locks
//!
//! They are taken in the order of the VFS: protection against freezing, the lock of the inode,
//! whatever the file system takes. What the caller holds is not known in every case (see
//! [`Lsm::file_permission`]), so nothing is waited for while a write is under way: a trylock cannot
//! deadlock, and adds no order to lockdep's. Where nothing is held, or just what comes before it in
//! that order, the lock of the inode can be waited for. A frozen file system is never waited for:
//! that could be for ever, and is for the user's own write to do.
//!
//! [`Lsm::file_permission`]: kernel::lsm::Lsm::file_permission

use kernel::{
    error::code::{
        EINVAL,
        EROFS, //
    },
    fs::{
        inode::InodeGuard,
        super_block::FreezeGuard,
        xattr::Writable,
        Dentry,
        Inode, //
    },
    prelude::*,
};

use crate::{
    identity::Identity,
    past::Past,
    state,
    xattrs::{
        New,
        Present, //
    },
    Context, //
};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// What may be waited for, and what the caller holds.
#[derive(Clone, Copy)]
pub(crate) enum Wait<'a> {
    /// Nothing: the caller may hold locks.
    Never,
    /// The lock of the inode: the caller holds no lock that comes after it.
    ForInode,
    /// The same, and the caller already holds protection against freezing.
    ForInodeUnfrozen(&'a FreezeGuard<'a>),
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
    /// The record of the file that this one takes the place of.
    pub(crate) past: Option<&'a Past>,
}

impl Stamp<'_> {
    /// Puts the record on a file.
    ///
    /// The caller makes sure that the mount is writable. Sleeps.
    pub(crate) fn put(
        &self,
        cx: &Context<'_>,
        dentry: &Dentry,
        wait: Wait<'_>,
    ) -> Result<(), Unstamped> {
        let inode = dentry.inode().ok_or(EINVAL)?;
        let super_block = inode.super_block();
        if super_block.is_read_only() {
            return Err(EROFS.into());
        }

        let obtained;
        let unfrozen = match wait {
            Wait::ForInodeUnfrozen(held) => held,
            Wait::Never | Wait::ForInode => {
                obtained = super_block.try_start_write().ok_or(Unstamped::Contended)?;
                &obtained
            }
        };
        let locked = lock(inode, wait).ok_or(Unstamped::Contended)?;
        if inode.is_immutable_or_append_only() {
            return Err(Unstamped::Immutable);
        }

        let inode_state = state::of_inode(inode);
        let new = New {
            identity: self.identity,
            time: self.time.div_euclid(SECOND),
            present: if self.is_first {
                Present::NONE
            } else {
                inode_state.present()
            },
            continues: inode_state.is_last(self.identity.id),
            past: self
                .past
                .map(Past::sessions)
                .filter(|past| !past.are_just_of(self.identity)),
        };

        let task = state::of_task(cx);
        task.set_stamping(true);
        let written =
            Writable::new(dentry, &locked, unfrozen).and_then(|file| new.write(&file, dentry));
        task.set_stamping(false);
        inode_state.set_present(written.unwrap_or(Present::UNKNOWN));
        written?;

        let is_other = inode_state.set_stamped(self.identity.id, self.time);
        if is_other && inode.write_count() > 1 {
            // Whoever was named before may go on writing through another open file, and is to be
            // named again then.
            state::begin_epoch();
        }
        Ok(())
    }
}

/// Locks an inode, if that is possible now or can be waited for.
fn lock<'a>(inode: &'a Inode, wait: Wait<'_>) -> Option<InodeGuard<'a>> {
    match wait {
        Wait::Never => inode.try_lock(),
        Wait::ForInode | Wait::ForInodeUnfrozen(_) => Some(inode.lock()),
    }
}
