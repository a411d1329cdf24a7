// SPDX-License-Identifier: GPL-2.0-only

//! What a name has behind it, when another file takes it over.
//!
//! Editors save in two ways that make a new file: they write it under another name, which they then
//! rename over the old one; or they rename the old one out of the way and make the new one under
//! its name. In both cases the sessions of the old file enter the history of the new one.

use kernel::{
    error::code::EINVAL,
    fs::{
        xattr::Writable,
        Dentry, //
    },
    prelude::*,
    sync::Arc, //
};

use crate::{
    policy,
    state,
    status::{
        self,
        Counter, //
    },
    xattrs::{
        self,
        Present, //
    },
    Context, //
};

/// The record of a file that a task has renamed, for the one that it may make in its place.
pub(crate) struct Past {
    /// The file system.
    device: u32,
    /// Inode number of the directory.
    directory: u64,
    /// Hash of the name in it.
    name: u64,
    /// The sessions of the file, newest first, as a history.
    sessions: KVec<u8>,
}

impl Past {
    /// The sessions, newest first, as a history.
    pub(crate) fn sessions(&self) -> &[u8] {
        &self.sessions
    }

    /// Whether a new file has the name that the old one had.
    fn is_of(&self, dentry: &Dentry) -> bool {
        self.name == dentry.name_hash()
            && self.device == dentry.super_block().device()
            && dentry
                .parent()
                .inode()
                .is_some_and(|directory| directory.number() == self.directory)
    }
}

/// A task is about to rename something, and may replace something else.
pub(crate) fn renaming(cx: &Context<'_>, old: &Dentry, new: &Dentry) {
    let task = state::of_task(cx);
    let is_outermost = task.take_renaming();
    if !policy::is_enabled() || policy::history() < 2 || task.is_stamping() || task.is_exchanging()
    {
        return;
    }
    let is_ours = |dentry: &Dentry| {
        dentry.inode().is_some_and(|inode| {
            inode.is_regular()
                && !inode.is_private()
                && !state::of_super_block(inode.super_block()).is_unsupported()
                && !policy::is_skipped(inode.super_block())
        })
    };
    if !is_ours(old) {
        return;
    }

    for done in [
        // What is made in its place will have the name that users see.
        if is_outermost {
            move_away(cx, old)
        } else {
            Ok(())
        },
        if is_ours(new) {
            replace(cx, old, new)
        } else {
            Ok(())
        },
    ] {
        if done.is_err() {
            status::count(Counter::InheritFailed);
        }
    }
}

/// Remembers a file that is renamed out of the way.
fn move_away(cx: &Context<'_>, old: &Dentry) -> Result {
    let task = state::of_task(cx);
    drop(task.past.take());

    let Some(sessions) = xattrs::read_sessions(old)? else {
        return Ok(());
    };
    let past = Past {
        device: old.super_block().device(),
        directory: old.parent().inode().ok_or(EINVAL)?.number(),
        name: old.name_hash(),
        sessions,
    };
    task.past.swap(Some(Arc::new(past, GFP_KERNEL)?));
    Ok(())
}

/// Hands the sessions of a file that is replaced over to the one that replaces it.
fn replace(cx: &Context<'_>, old: &Dentry, new: &Dentry) -> Result {
    let inode = old.inode().ok_or(EINVAL)?;
    // Two names of one file: the rename does nothing.
    if core::ptr::eq(inode, new.inode().ok_or(EINVAL)?) || inode.is_immutable_or_append_only() {
        return Ok(());
    }
    let Some(past) = xattrs::read_sessions(new)? else {
        return Ok(());
    };

    // The caller holds write access to the mount, and is about to take this lock itself. Only if
    // the file system is just being frozen is nothing inherited.
    let unfrozen = inode.super_block().try_start_write().ok_or(EBUSY)?;
    let locked = inode.lock();

    let task = state::of_task(cx);
    task.set_stamping(true);
    let added = Writable::new(old, &locked, &unfrozen)
        .and_then(|file| xattrs::add_sessions(&file, old, &past));
    task.set_stamping(false);

    if added? {
        state::of_inode(inode).set_present(Present::UNKNOWN);
        status::count(Counter::Inherited);
    }
    Ok(())
}

/// The past of a file that the current task has just made.
pub(crate) fn of_created(cx: &Context<'_>, dentry: &Dentry) -> Option<Arc<Past>> {
    let slot = &state::of_task(cx).past;
    if slot.is_empty() {
        return None;
    }
    let past = slot.take()?;
    if past.is_of(dentry) {
        return Some(past);
    }
    slot.swap(Some(past));
    None
}
