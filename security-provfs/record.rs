// SPDX-License-Identifier: GPL-2.0-only

//! From a hook to a stamp: joins the steps, and counts what came of them.

use kernel::{
    fs::{
        Dentry,
        LocalFile,
        Path,
        SuperBlock, //
    },
    prelude::*,
    str::CStr,
    sync::Arc,
    time::{
        Instant,
        RealTime, //
    },
};

use crate::{
    identity::{
        self,
        Identity, //
    },
    policy,
    pure::{
        due::{
            on_release,
            on_write,
            OnRelease,
            OnWrite,
            Release,
            Write, //
        },
        record::PACKED,
    },
    stamp::{
        Stamp,
        Unstamped,
        Wait, //
    },
    state::{
        self,
        Epoch,
        FileState, //
    },
    status::{
        self,
        Counter, //
    },
    Context, //
};

/// Nanoseconds since the Unix epoch.
fn now() -> i64 {
    Instant::<RealTime>::now().unix_nanos()
}

/// Whether nothing is left to do about a write by the current task: the common case.
#[inline]
pub(crate) fn is_settled(cx: &Context<'_>, file: &LocalFile) -> bool {
    let token = Epoch::now().token(state::of_task(cx).known());
    state::of_file(file).has(token)
}

/// Whether files like this one are ever stamped.
///
/// Pipes, sockets and devices are not, nor are files that only the kernel can see, and files that
/// another file system uses to store its own: that one is stamped.
fn is_ours(file: &LocalFile) -> bool {
    let inode = file.inode();

    inode.is_regular()
        && !inode.is_private()
        && !file.is_backing()
        && !file.path().mount().is_internal()
}

/// A task is about to write to a file.
pub(crate) fn writing(cx: &Context<'_>, file: &LocalFile) {
    // Deduplication asks for permission to write to files that are not open for it, and leaves
    // their contents alone.
    if !file.is_writable() || !is_ours(file) || !policy::is_enabled() {
        return;
    }
    if state::of_task(cx).is_stamping() {
        return;
    }

    // What is decided from here on holds for this epoch.
    let epoch = Epoch::begin();
    match identity::of_writer(cx) {
        Ok(writer) => {
            if modified(cx, file, &writer) {
                state::of_file(file).set(epoch.token(writer.id));
            }
        }
        Err(error) => {
            status::count(Counter::Modifications);
            status::count_failed(error);
        }
    }
}

/// What came of a modification.
enum Outcome {
    /// A record was made.
    Stamped,
    /// The record says it already.
    Unchanged,
    /// It is not to be recorded, or cannot be; the counter says why.
    Skipped(Counter),
    /// It could not be recorded now.
    Contended,
    /// It could not be recorded.
    Failed(Error),
}

/// Deals with a modification. Returns whether that is done, and need not be tried again at the next
/// write.
fn modified(cx: &Context<'_>, file: &LocalFile, writer: &Arc<Identity>) -> bool {
    let inode_state = state::of_inode(file.inode());
    let file_state = state::of_file(file);
    let generation = policy::generation();
    let now = now();

    let due = on_write(&Write {
        settled: file_state.settled(writer.id, generation),
        last: inode_state.last(writer.id, now),
        granularity: policy::granularity(),
    });
    if due == OnWrite::Known {
        return true;
    }

    // If a stamp is owed for the same writer, this is that modification. If it is for another, this
    // one overtakes it.
    let is_owed = file_state.owed_by() == Some(writer.id);
    if !is_owed {
        supersede(file_state);
        status::count(Counter::Modifications);
        file_state.writer.swap(Some(writer.clone()));
    }
    let is_first = file_state.is_only_created() && inode_state.is_untouched();
    file_state.set_written();

    let stamp = Stamp {
        identity: writer,
        time: now,
        is_first,
    };
    let outcome = if cx.task().is_kernel_thread() {
        Outcome::Skipped(Counter::SkippedKthread)
    } else {
        let unchanged = due == OnWrite::Unchanged;
        attempt(cx, file.path(), &stamp, unchanged, Wait::Never)
    };

    if matches!(outcome, Outcome::Contended) {
        if !is_owed {
            // Of several that are owed through the same file, only the last one can be paid.
            let before = file_state.set_owed(writer.id, now);
            status::count(before.map_or(Counter::Owed, |_| Counter::Superseded));
        }
        return false;
    }
    let recorded = matches!(outcome, Outcome::Stamped | Outcome::Unchanged);
    file_state.settle(writer.id, generation, recorded);
    account(file_state, &outcome, is_owed);
    true
}

/// Makes a stamp, if the policy allows it and the record does not say it already.
fn attempt(
    cx: &Context<'_>,
    path: &Path,
    stamp: &Stamp<'_>,
    unchanged: bool,
    wait: Wait,
) -> Outcome {
    let Some(inode) = path.dentry().inode() else {
        return Outcome::Failed(EINVAL);
    };
    match policy::decide(path, inode, stamp.identity) {
        Ok(None) => {}
        Ok(Some(kind)) => return Outcome::Skipped(Counter::skipped_by(kind)),
        Err(error) => return Outcome::Failed(error),
    }
    if unchanged {
        return Outcome::Unchanged;
    }

    let super_block = state::of_super_block(inode.super_block());
    if super_block.is_unsupported() {
        return Outcome::Skipped(Counter::SkippedUnsupported);
    }
    match stamp.put(cx, path, wait) {
        Ok(()) => Outcome::Stamped,
        Err(Unstamped::Contended) => Outcome::Contended,
        Err(Unstamped::Immutable) => Outcome::Skipped(Counter::SkippedImmutable),
        Err(Unstamped::Failed(error)) if error == EOPNOTSUPP => {
            super_block.set_unsupported(true);
            Outcome::Skipped(Counter::SkippedUnsupported)
        }
        Err(Unstamped::Failed(error)) => Outcome::Failed(error),
    }
}

/// Forgets what is owed through a file, for which it is too late.
fn supersede(file_state: &FileState) {
    if file_state.take_owed().is_some() {
        status::uncount_owed();
        status::count(Counter::Superseded);
    }
}

/// Counts what came of a modification in the end.
///
/// If it was counted as owed before, it must not be counted twice; other tasks that write through
/// the same file may have done so meanwhile, and may have something owed themselves.
fn account(file_state: &FileState, outcome: &Outcome, is_owed: bool) {
    if is_owed {
        if file_state.take_owed().is_none() {
            return;
        }
        status::uncount_owed();
    } else {
        supersede(file_state);
    }
    match outcome {
        Outcome::Stamped if is_owed => status::count(Counter::Paid),
        Outcome::Stamped => status::count(Counter::Stamped),
        Outcome::Unchanged => status::count(Counter::Unchanged),
        Outcome::Skipped(counter) => status::count(*counter),
        // Nobody is left to try it again.
        Outcome::Contended => status::count_failed(EBUSY),
        Outcome::Failed(error) => status::count_failed(*error),
    }
}

/// A file was created by opening it: remembers by whom.
///
/// The first write makes the stamp, in the name of its writer; if there is none, the release does.
pub(crate) fn created(cx: &Context<'_>, file: &LocalFile) {
    if !is_ours(file) || !policy::is_enabled() || cx.task().is_kernel_thread() {
        return;
    }
    if state::of_task(cx).is_stamping() {
        return;
    }

    // Without memory for it, the first write tries again.
    if let Ok(creator) = identity::of_writer(cx) {
        let file_state = state::of_file(file);
        file_state.writer.swap(Some(creator));
        file_state.set_created();
    }
}

/// Whether there may be something to do when a file is released.
#[inline]
pub(crate) fn is_concerned(file: &LocalFile) -> bool {
    state::of_file(file).is_concerned()
}

/// The last reference to a file is gone: does what is still to be done, in the name of its last
/// writer.
pub(crate) fn released(cx: &Context<'_>, file: &LocalFile) {
    let inode = file.inode();
    let file_state = state::of_file(file);
    let inode_state = state::of_inode(inode);
    let Some(writer) = file_state.writer.take() else {
        return;
    };

    let now = now();
    let owed_since = file_state.owed_by().map(|_| file_state.owed_since());
    let mtime_age = now.saturating_sub(inode.mtime_nanos());
    let due = on_release(&Release {
        only_created: file_state.is_only_created(),
        is_linked: inode.link_count() > 0,
        owed: owed_since.map(|since| now.saturating_sub(since)),
        settled: file_state.settled_ever(writer.id),
        last: inode_state.last(writer.id, now),
        mtime_age,
        granularity: policy::granularity(),
    });

    let modified = now.saturating_sub(mtime_age.max(0));
    let time = match due {
        OnRelease::Nothing => return,
        OnRelease::Superseded => return supersede(file_state),
        OnRelease::Pay => owed_since.unwrap_or(now),
        OnRelease::Created | OnRelease::Refresh => modified,
        OnRelease::Restore => now,
    };

    if due != OnRelease::Pay {
        if !policy::is_enabled() {
            return;
        }
        status::count(Counter::Modifications);
    }
    let stamp = Stamp {
        identity: &writer,
        time,
        is_first: due == OnRelease::Created && inode_state.is_untouched(),
    };
    let outcome = last_attempt(cx, file, &stamp);
    account(file_state, &outcome, due == OnRelease::Pay);
}

/// Makes a stamp that nobody will try again.
fn last_attempt(cx: &Context<'_>, file: &LocalFile, stamp: &Stamp<'_>) -> Outcome {
    if !policy::is_enabled() {
        return Outcome::Skipped(Counter::SkippedDisabled);
    }

    let path = file.path();
    if file.is_writable() {
        return attempt(cx, path, stamp, false, Wait::ForInode);
    }
    // A file that is created need not be open for writing, and then does not keep its mount
    // writable.
    match path.mount().write_access() {
        Ok(_writable) => attempt(cx, path, stamp, false, Wait::ForInode),
        Err(error) => Outcome::Failed(error),
    }
}

/// An extended attribute was set or removed, by anybody.
pub(crate) fn xattr_changed(cx: &Context<'_>, dentry: &Dentry, name: &CStr) {
    let is_record = name
        .to_bytes()
        .strip_prefix(PACKED.to_bytes())
        .is_some_and(|rest| matches!(rest, [] | [b'.', ..]));
    if !is_record || state::of_task(cx).is_stamping() {
        return;
    }

    if let Some(inode) = dentry.inode() {
        state::of_inode(inode).set_overwritten();
        if inode.write_count() > 0 {
            // The next write through a file that is open now is to restore the record.
            state::begin_epoch();
        }
    }
}

/// The options of a mounted file system change: it may have user attributes from now on.
pub(crate) fn remounted(super_block: &SuperBlock) {
    state::of_super_block(super_block).set_unsupported(false);
}
