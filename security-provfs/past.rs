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
        Dentry,
        Inode, //
    },
    prelude::*,
    sync::Arc, //
};

use crate::{
    identity::{
        self,
        Identity, //
    },
    policy,
    pure::{
        history::sessions,
        record::Session, //
    },
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
    sessions: Sessions,
}

/// The sessions that a record names.
pub(crate) enum Sessions {
    /// That of this identity, and no other.
    Of(Arc<Identity>),
    /// These, newest first, as a history.
    Text(KVec<u8>),
}

impl Sessions {
    /// Those that the record of a file names. [`None`] if it has none.
    ///
    /// It is read only if it is not known what it says. A record that somebody makes at the same
    /// moment may or may not be taken into account.
    fn of(cx: &Context<'_>, dentry: &Dentry, inode: &Inode) -> Result<Option<Self>> {
        let inode_state = state::of_inode(inode);
        let present = inode_state.present();
        if present.names_one_session() {
            if let Some(own) = identity::current(cx).filter(|own| inode_state.is_last(own.id)) {
                return Ok(Some(Sessions::Of(own)));
            }
        }
        Ok(xattrs::read_sessions(dentry, present)?.map(Sessions::Text))
    }

    /// Whether it is the session of this identity, and no other.
    pub(crate) fn are_just_of(&self, identity: &Identity) -> bool {
        matches!(self, Sessions::Of(own) if own.id == identity.id)
    }

    /// Whether the record of a file is known to name the same, and nothing else.
    fn are_all_of(&self, inode: &Inode) -> bool {
        let inode_state = state::of_inode(inode);
        matches!(self, Sessions::Of(identity) if inode_state.is_last(identity.id))
            && inode_state.present().names_one_session()
    }

    /// One after the other, newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Session<'_>> {
        match self {
            Sessions::Of(identity) => sessions(Some(Session::parse(identity.session())), &[]),
            Sessions::Text(history) => sessions(None, history),
        }
    }
}

impl Past {
    /// The sessions of the file.
    pub(crate) fn sessions(&self) -> &Sessions {
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
        dentry
            .inode()
            .is_some_and(|inode| inode.is_regular() && !inode.is_private())
    };
    // Both names are on the same file system.
    let super_block = old.super_block();
    if !is_ours(old)
        || state::of_super_block(super_block).is_unsupported()
        || policy::is_skipped(super_block)
    {
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
    let slot = &state::of_task(cx).past;
    if !slot.is_empty() {
        drop(slot.take());
    }

    let inode = old.inode().ok_or(EINVAL)?;
    let Some(sessions) = Sessions::of(cx, old, inode)? else {
        return Ok(());
    };
    let past = Past {
        device: old.super_block().device(),
        directory: old.parent().inode().ok_or(EINVAL)?.number(),
        name: old.name_hash(),
        sessions,
    };
    slot.swap(Some(Arc::new(past, GFP_KERNEL)?));
    Ok(())
}

/// Hands the sessions of a file that is replaced over to the one that replaces it.
fn replace(cx: &Context<'_>, old: &Dentry, new: &Dentry) -> Result {
    let inode = old.inode().ok_or(EINVAL)?;
    let replaced = new.inode().ok_or(EINVAL)?;
    // Two names of one file: the rename does nothing.
    if core::ptr::eq(inode, replaced) || inode.is_immutable_or_append_only() {
        return Ok(());
    }
    let Some(past) = Sessions::of(cx, new, replaced)? else {
        return Ok(());
    };
    if past.are_all_of(inode) {
        return Ok(());
    }

    // The caller holds write access to the mount, and is about to take this lock itself. Only if
    // the file system is just being frozen is nothing inherited.
    let unfrozen = inode.super_block().try_start_write().ok_or(EBUSY)?;
    let locked = inode.lock();

    let task = state::of_task(cx);
    let inode_state = state::of_inode(inode);
    let before = inode_state.present();
    task.set_stamping(true);
    let added = Writable::new(old, &locked, &unfrozen)
        .and_then(|file| xattrs::add_sessions(&file, old, before, &past));
    task.set_stamping(false);

    // What a failure has left is not known.
    let after = match added {
        Ok(changed) => changed.unwrap_or(before),
        Err(_) => Present::UNKNOWN,
    };
    inode_state.set_present(after);
    if added?.is_some() {
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
