// SPDX-License-Identifier: GPL-2.0-only

//! From a hook to a stamp: joins the steps, and counts what came of them.

use kernel::{
    fs::{
        super_block::FreezeGuard,
        Dentry,
        Inode,
        LocalFile,
        Path,
        SuperBlock, //
    },
    prelude::*,
    str::CStr,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
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
    past::{
        self,
        Past, //
    },
    policy::{
        self,
        Pass, //
    },
    pure::{
        due::{
            is_done,
            on_release,
            on_write,
            Close,
            OnRelease,
            OnWrite,
            Release,
            Settled,
            Write, //
        },
        record::PACKED,
        skip::RuleKind,
    },
    stamp::{
        Stamp,
        Unstamped,
        Wait, //
    },
    state::{
        self,
        Epoch,
        FileState,
        Token,
        NOBODY, //
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

/// Whether files like this one are ever stamped. That does not change.
///
/// Pipes, sockets and devices are not, nor are files that only the kernel can see, and files that
/// another file system uses to store its own: that one is stamped.
#[inline]
fn is_recordable(file: &LocalFile) -> bool {
    let inode = file.inode();

    inode.is_regular()
        && !file.is_backing()
        && !inode.is_private()
        && !file.path().mount().is_internal()
}

/// Whether this file is to be stamped when the current task modifies it.
fn is_ours(cx: &Context<'_>, file: &LocalFile) -> bool {
    is_recordable(file) && !is_copy(cx, file.path())
}

/// Whether this is a file that a file system is making as a copy of another one, on behalf of the
/// current task.
///
/// Such a file does not say so, but it is reached through a mount that is in no name space. Other
/// such mounts were unmounted while they were in use; so this is asked only of tasks for which a
/// file system has copied before.
fn is_copy(cx: &Context<'_>, path: &Path) -> bool {
    state::of_task(cx).is_copying() && policy::is_nowhere(path)
}

/// Who is about to modify a file.
enum Writer {
    /// Somebody who is to be named.
    Named(Arc<Identity>),
    /// A thread of the kernel, which is not.
    Kernel,
}

/// Finds out who is about to modify a file. Fails with `ENOMEM` only.
fn writer(cx: &Context<'_>) -> Result<Writer> {
    if cx.task().is_kernel_thread() && !policy::records_kthreads() {
        state::of_task(cx).set_known(NOBODY);
        return Ok(Writer::Kernel);
    }
    identity::of_writer(cx).map(Writer::Named)
}

/// A task is about to write to a file, and that is not settled.
#[cold]
#[inline(never)]
pub(crate) fn writing(cx: &Context<'_>, file: &LocalFile) {
    if file.is_writable() && is_nothing_new(cx, file) {
        return;
    }
    if !is_recordable(file) {
        // Pipes and sockets would come here with each write.
        let token = Epoch::now().token(state::of_task(cx).known());
        state::of_file(file).set(token);
    } else if file.is_writable() {
        writing_anew(cx, file);
    }
}

/// The same, and nothing is known of it.
#[inline(never)]
fn writing_anew(cx: &Context<'_>, file: &LocalFile) {
    let task = state::of_task(cx);
    // Deduplication asks for permission to write, and leaves the contents alone.
    let is_write = !task.has_deduplicated() || {
        // CAST: Only compared with itself.
        let system_call = cx.task().system_call() as u32;
        !task.is_deduplicating(system_call)
    };
    if is_write {
        modifying(cx, file, Wait::Never);
    }
}

/// A task is about to map a file so that it can write to its memory, and that is not settled.
#[cold]
#[inline(never)]
pub(crate) fn mapping_writable(cx: &Context<'_>, file: &LocalFile) {
    if file.is_writable() {
        modifying(cx, file, Wait::Never);
    }
}

/// Whether this is the first write through an open file, and the same as a modification before, of
/// which the inode remembers what came: a rule skipped it, or a record was made that is young
/// enough. Then that is counted, and nothing else is to be done.
///
/// This is what [`modifying`] would find, in a fraction of its instructions. Of what is not
/// [recordable](is_recordable) nothing is remembered.
#[inline]
fn is_nothing_new(cx: &Context<'_>, file: &LocalFile) -> bool {
    let task = state::of_task(cx);
    let file_state = state::of_file(file);
    // A namespace can be entered without anything being told here.
    if cfg!(CONFIG_AGENT_NS) || !file_state.is_fresh() || task.is_busy() {
        return false;
    }

    let id = task.known();
    let token = Epoch::now().token(id);
    let inode_state = state::of_inode(file.inode());
    // Whether anything is recorded at all, and of which files and writers, is part of that.
    let Some(skipped) = policy::recall_pass(file.path(), inode_state, token) else {
        return false;
    };
    let made = inode_state.pass_made();
    match skipped {
        Some(kind) => {
            status::count(Counter::Modifications);
            status::count(Counter::skipped_by(kind));
            file_state.settle(id, made.generation(), false);
            file_state.set(token);
        }
        None => {
            if !inode_state.is_last(id) || !made.is_within(policy::granularity_ticks()) {
                return false;
            }
            status::count(Counter::Modifications);
            status::count(Counter::Unchanged);
            file_state.settle(id, made.generation(), true);
            // The next write remembers its writer for the release. Mostly there is none.
            file_state.set_unchanged();
        }
    }
    true
}

/// A task is about to do an `ioctl(2)`, by which files can be deduplicated.
pub(crate) fn ioctl(cx: &Context<'_>, deduplicates: bool) {
    let task = state::of_task(cx);
    if deduplicates {
        // CAST: Only compared with itself.
        task.set_deduplicating(Some(cx.task().system_call() as u32));
    } else if task.has_deduplicated() {
        task.set_deduplicating(None);
    }
}

/// A task is about to modify an open file.
fn modifying(cx: &Context<'_>, file: &LocalFile, wait: Wait<'_>) {
    let task = state::of_task(cx);
    let file_state = state::of_file(file);
    if !is_ours(cx, file) || task.is_stamping() {
        return;
    }

    // What is decided from here on holds for this epoch.
    let epoch = Epoch::begin();
    if !policy::is_enabled() {
        return file_state.set(epoch.token(task.known()));
    }
    match writer(cx) {
        Ok(Writer::Named(writer)) => {
            let token = epoch.token(writer.id);
            if modified(cx, file, &writer, wait, token) {
                file_state.set(token);
            }
        }
        Ok(Writer::Kernel) => {
            let generation = policy::generation();
            if file_state.settled(NOBODY, generation) == Settled::Nothing {
                status::count(Counter::Modifications);
                status::count(Counter::SkippedKthread);
                file_state.settle(NOBODY, generation, false);
            }
            file_state.set(epoch.token(NOBODY));
        }
        Err(error) => {
            status::count(Counter::Modifications);
            status::count_failed(error);
        }
    }
}

/// A task is about to truncate an open file.
pub(crate) fn truncating(cx: &Context<'_>, file: &LocalFile) {
    if state::of_file(file).take_truncating() {
        // `open(O_TRUNC)`: somebody else may be about to write, to whom the file is handed. If not,
        // the release pays.
        owe(cx, file);
    } else if !is_settled(cx, file) {
        modifying(cx, file, Wait::ForInode);
    }
}

/// Notes a modification by the current task, to be stamped by the next write or at release.
fn owe(cx: &Context<'_>, file: &LocalFile) {
    if !is_ours(cx, file) || !policy::is_enabled() || state::of_task(cx).is_stamping() {
        return;
    }

    status::count(Counter::Modifications);
    match writer(cx) {
        Ok(Writer::Named(writer)) => {
            let file_state = state::of_file(file);
            let id = writer.id;
            file_state.writer.swap(Some(writer));
            file_state.set_written();
            let before = file_state.set_owed(id, now());
            status::count(before.map_or(Counter::Owed, |_| Counter::Superseded));
        }
        Ok(Writer::Kernel) => status::count(Counter::SkippedKthread),
        Err(error) => status::count_failed(error),
    }
}

/// A task is about to truncate a file by name.
pub(crate) fn truncating_path(cx: &Context<'_>, path: &Path, unfrozen: &FreezeGuard<'_>) {
    let Some(inode) = path.dentry().inode() else {
        return;
    };
    if inode.is_private()
        || path.mount().is_internal()
        || !policy::is_enabled()
        || state::of_task(cx).is_stamping()
    {
        return;
    }

    status::count(Counter::Modifications);
    let outcome = match writer(cx) {
        Ok(Writer::Named(writer)) => {
            let now = now();
            let due = on_write(&Write {
                settled: Settled::Nothing,
                last: state::of_inode(inode).last(writer.id, now),
                granularity: policy::granularity(),
            });
            let stamp = Stamp {
                identity: &writer,
                time: now,
                is_first: false,
                past: None,
            };
            let unchanged = due == OnWrite::Unchanged;
            attempt(
                cx,
                path,
                &stamp,
                unchanged,
                Wait::ForInodeUnfrozen(unfrozen),
            )
        }
        Ok(Writer::Kernel) => Outcome::Skipped(Counter::SkippedKthread),
        Err(error) => Outcome::Failed(error),
    };
    count_outcome(&outcome);
}

/// [`TaskState::node`]: there is no decision.
///
/// [`TaskState::node`]: crate::state::TaskState::node
const UNDECIDED: u32 = 0;

/// The same: record it.
const RECORD: u32 = 1;

/// The same: skip it, because of the kind of rule with the index that is added.
const SKIP: u32 = 2;

/// A task is about to make a regular file by `mknod(2)`: decides whether to record it, as long as
/// its path is at hand.
pub(crate) fn making_node(cx: &Context<'_>, path: &Path) {
    let task = state::of_task(cx);
    if !policy::is_enabled() || task.is_stamping() {
        return;
    }

    let decision = match writer(cx) {
        Ok(Writer::Named(writer)) => policy::decide_new(path, path.dentry().super_block(), &writer),
        Ok(Writer::Kernel) => Ok(None),
        Err(error) => Err(error),
    };
    let node = match decision {
        Ok(None) => RECORD,
        // CAST: There are few kinds.
        Ok(Some(kind)) => SKIP + kind.index() as u32,
        Err(_) => UNDECIDED,
    };
    task.node.store(node, Relaxed);
}

/// A task has made a regular file by `mknod(2)`.
pub(crate) fn made_node(cx: &Context<'_>, dentry: &Dentry, unfrozen: &FreezeGuard<'_>) {
    let task = state::of_task(cx);
    if !policy::is_enabled() || task.is_stamping() {
        return;
    }

    status::count(Counter::Modifications);
    let node = task.node.load(Relaxed);
    task.node.store(UNDECIDED, Relaxed);
    let outcome = match (node, writer(cx)) {
        (_, Ok(Writer::Kernel)) => Outcome::Skipped(Counter::SkippedKthread),
        (RECORD, Ok(Writer::Named(writer))) => {
            let past = past::of_created(cx, dentry);
            let stamp = Stamp {
                identity: &writer,
                time: now(),
                is_first: true,
                past: past.as_deref(),
            };
            put(cx, dentry, &stamp, Wait::ForInodeUnfrozen(unfrozen))
        }
        // There was no memory for a decision.
        (UNDECIDED, _) => Outcome::Failed(ENOMEM),
        (_, Err(error)) => Outcome::Failed(error),
        (node, _) => {
            let kind = RuleKind::ALL
                .into_iter()
                .find(|kind| SKIP + kind.index() as u32 == node);
            kind.map_or(Outcome::Failed(EINVAL), Outcome::Excluded)
        }
    };
    count_outcome(&outcome);
}

/// Memory to which a file is mapped may be written to from now on, and that goes to the file.
///
/// `mmap_lock` is held, so it is only noted. The file may be one that backs another.
pub(crate) fn mapping(cx: &Context<'_>, file: &LocalFile, is_tracked: bool) {
    let path = file.backed_path().unwrap_or(file.path());
    let is_ours = path.dentry().inode().is_some_and(|inode| {
        inode.is_regular() && !inode.is_private() && !path.mount().is_internal()
    });
    let file_state = state::of_file(file);
    if !is_ours || !policy::is_enabled() || is_settled(cx, file) || file_state.owed_by().is_some() {
        return;
    }
    if !is_tracked {
        // Nobody will ever know when it is written to.
        return owe(cx, file);
    }
    // Without memory for it, there is nobody to name later.
    if let Ok(Writer::Named(writer)) = writer(cx) {
        file_state.writer.swap(Some(writer));
        file_state.set_mapped(now());
    }
}

/// What came of a modification.
enum Outcome {
    /// A record was made.
    Stamped,
    /// The record says it already.
    Unchanged,
    /// A rule of this kind says that it is not to be recorded.
    Excluded(RuleKind),
    /// It is not to be recorded, or cannot be, for another reason; the counter says which.
    Skipped(Counter),
    /// It could not be recorded now.
    Contended,
    /// It could not be recorded.
    Failed(Error),
}

/// Deals with a modification. Returns whether that is done, and need not be tried again at the next
/// write.
fn modified(
    cx: &Context<'_>,
    file: &LocalFile,
    writer: &Arc<Identity>,
    wait: Wait<'_>,
    token: Token,
) -> bool {
    let inode = file.inode();
    let inode_state = state::of_inode(inode);
    let file_state = state::of_file(file);
    let generation = policy::generation();
    let now = now();

    let due = on_write(&Write {
        settled: file_state.settled(writer.id, generation),
        last: inode_state.last(writer.id, now),
        granularity: policy::granularity(),
    });
    if due == OnWrite::Known {
        if file_state.is_unchanged() {
            file_state.writer.swap(Some(writer.clone()));
            file_state.set_written();
        }
        return true;
    }

    // If a stamp is owed for the same writer, this is that modification. If it is for another, this
    // one overtakes it.
    let is_owed = file_state.owed_by() == Some(writer.id);
    if !is_owed {
        status::count(Counter::Modifications);
        file_state.writer.swap(Some(writer.clone()));
    }
    let is_first = file_state.is_only_created() && inode_state.is_untouched();
    file_state.set_written();

    let past = past_of(file_state);
    let stamp = Stamp {
        identity: writer,
        time: now,
        is_first,
        past: past.as_deref(),
    };
    let unchanged = due == OnWrite::Unchanged;
    // That comes before the decision, so that nothing outlives it.
    let pass = Pass::new(file.path(), inode, token);
    let outcome = attempt(cx, file.path(), &stamp, unchanged, wait);
    if let Some(pass) = pass {
        match outcome {
            Outcome::Stamped => pass.remember(inode, None, generation),
            Outcome::Excluded(kind) => pass.remember(inode, Some(kind), generation),
            _ => {}
        }
    }

    if matches!(outcome, Outcome::Contended) {
        file_state.past.swap(past);
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

/// Takes the record of the file that an open file, newly created, takes the place of.
fn past_of(file_state: &FileState) -> Option<Arc<Past>> {
    // Mostly there is none, and then this spares an atomic exchange.
    if file_state.past.is_empty() {
        return None;
    }
    file_state.past.take()
}

/// Makes a stamp, if the policy allows it and the record does not say it already.
fn attempt(
    cx: &Context<'_>,
    path: &Path,
    stamp: &Stamp<'_>,
    unchanged: bool,
    wait: Wait<'_>,
) -> Outcome {
    let Some(inode) = path.dentry().inode() else {
        return Outcome::Failed(EINVAL);
    };
    match policy::decide(path, inode, stamp.identity) {
        Ok(None) => {}
        Ok(Some(kind)) => return Outcome::Excluded(kind),
        Err(error) => return Outcome::Failed(error),
    }
    if unchanged {
        return Outcome::Unchanged;
    }
    put(cx, path.dentry(), stamp, wait)
}

/// Makes a stamp.
fn put(cx: &Context<'_>, dentry: &Dentry, stamp: &Stamp<'_>, wait: Wait<'_>) -> Outcome {
    let Some(inode) = dentry.inode() else {
        return Outcome::Failed(EINVAL);
    };
    let super_block = state::of_super_block(inode.super_block());
    if super_block.is_unsupported() {
        return Outcome::Skipped(Counter::SkippedUnsupported);
    }
    match stamp.put(cx, dentry, wait) {
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
        outcome => count_outcome(outcome),
    }
}

/// Counts what came of a modification that was never owed.
fn count_outcome(outcome: &Outcome) {
    match outcome {
        Outcome::Stamped => status::count(Counter::Stamped),
        Outcome::Unchanged => status::count(Counter::Unchanged),
        Outcome::Excluded(kind) => status::count(Counter::skipped_by(*kind)),
        Outcome::Skipped(counter) => status::count(*counter),
        // Nobody is left to try it again.
        Outcome::Contended => status::count_failed(EBUSY),
        Outcome::Failed(error) => status::count_failed(*error),
    }
}

/// A file is being opened, which makes or truncates it.
#[cold]
#[inline(never)]
pub(crate) fn opening(cx: &Context<'_>, file: &LocalFile) {
    if file.was_created() || file.is_unnamed() {
        created(cx, file);
    } else {
        // [`truncating`] is to know that.
        state::of_file(file).set_truncating();
    }
}

/// A file was created by opening it: remembers by whom.
///
/// The first write makes the stamp, in the name of its writer; if there is none, the release does.
fn created(cx: &Context<'_>, file: &LocalFile) {
    if !is_ours(cx, file) || !policy::is_enabled() || state::of_task(cx).is_stamping() {
        return;
    }

    match writer(cx) {
        Ok(Writer::Named(creator)) => {
            let file_state = state::of_file(file);
            file_state.writer.swap(Some(creator));
            file_state.set_created();
            if let Some(past) = past::of_created(cx, file.path().dentry()) {
                file_state.past.swap(Some(past));
            }
        }
        Ok(Writer::Kernel) => {}
        // The first write tries again. If there is none, nobody is named.
        Err(_) => status::count(Counter::IdentityFailed),
    }
}

/// Whether there may be something to do when a file is released.
#[inline]
pub(crate) fn is_concerned(file: &LocalFile) -> bool {
    state::of_file(file).is_concerned()
}

/// The last reference to a file is gone: does what is still to be done, in the name of its last
/// writer.
#[cold]
#[inline(never)]
pub(crate) fn released(cx: &Context<'_>, file: &LocalFile) {
    let file_state = state::of_file(file);
    // What is written to a mapping goes to the inode of the file that backs it, and the record is
    // on the one that users see.
    let path = file.backed_path().unwrap_or(file.path());
    let Some(inode) = path.dentry().inode() else {
        return;
    };
    let inode_state = state::of_inode(inode);
    let mtime = file.inode().mtime_nanos();
    let (last_writer, settled) = file_state.settled_last();
    if is_done(&Close {
        needs_clock: file_state.is_only_created()
            || file_state.owed_by().is_some()
            || file_state.mapped_since().is_some(),
        settled,
        is_last: inode_state.is_last(last_writer),
        // A time that is that far away is looked at again.
        modified_since: mtime.wrapping_sub(inode_state.stamped()),
        granularity: policy::granularity(),
    }) {
        return;
    }

    release(cx, file, path, inode);
}

/// Does what is still to be done when a file is released, if anything is.
#[inline(never)]
fn release(cx: &Context<'_>, file: &LocalFile, path: &Path, inode: &Inode) {
    let file_state = state::of_file(file);
    let inode_state = state::of_inode(inode);
    // If it was modified once only, and that was in the record already, nobody was remembered.
    let own = || identity::current(cx).filter(|own| own.id == file_state.settled_last().0);
    let Some(writer) = file_state.writer.take().or_else(own) else {
        return;
    };
    // They go together.
    let past = past_of(file_state);
    let now = now();
    let owed_since = file_state.owed_by().map(|_| file_state.owed_since());
    let mtime_age = now.saturating_sub(file.inode().mtime_nanos());
    let due = on_release(&Release {
        only_created: file_state.is_only_created(),
        is_linked: inode.link_count() > 0,
        owed: owed_since.map(|since| now.saturating_sub(since)),
        settled: file_state.settled_ever(writer.id),
        last: inode_state.last(writer.id, now),
        mapped: file_state
            .mapped_since()
            .map(|since| now.saturating_sub(since)),
        mtime_age,
        granularity: policy::granularity(),
    });

    let modified = now.saturating_sub(mtime_age.max(0));
    let time = match due {
        OnRelease::Nothing => return,
        OnRelease::Superseded => return supersede(file_state),
        OnRelease::Pay => owed_since.unwrap_or(now),
        OnRelease::Created | OnRelease::Refresh | OnRelease::Mapped => modified,
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
        past: past.as_deref(),
    };
    let outcome = last_attempt(cx, file, path, &stamp);
    account(file_state, &outcome, due == OnRelease::Pay);
}

/// Makes a stamp that nobody will try again.
fn last_attempt(cx: &Context<'_>, file: &LocalFile, path: &Path, stamp: &Stamp<'_>) -> Outcome {
    if !policy::is_enabled() {
        return Outcome::Skipped(Counter::SkippedDisabled);
    }

    if file.is_writable() && !file.is_backing() {
        return attempt(cx, path, stamp, false, Wait::ForInode);
    }
    // A file that is created or truncated need not be open for writing, and then does not keep its
    // mount writable; nor does a file keep the one writable whose files it backs.
    match path.mount().write_access() {
        Ok(_writable) => attempt(cx, path, stamp, false, Wait::ForInode),
        Err(error) => Outcome::Failed(error),
    }
}

/// Whether an extended attribute is part of a record.
fn is_record(name: &CStr) -> bool {
    name.to_bytes()
        .strip_prefix(PACKED.to_bytes())
        .is_some_and(|rest| matches!(rest, [] | [b'.', ..]))
}

/// A file system is about to copy an extended attribute along with its file.
pub(crate) fn copying_xattr(cx: &Context<'_>, name: &CStr) {
    if is_record(name) {
        state::of_task(cx).set_copying_xattr();
    }
}

/// Whether an extended attribute may be set or removed. Fails with `EPERM` if not.
pub(crate) fn may_change_xattr(cx: &Context<'_>, name: &CStr) -> Result {
    if !is_record(name) {
        return Ok(());
    }
    let task = state::of_task(cx);
    let is_copy = task.take_copying_xattr();
    if policy::is_protecting()
        && !is_copy
        && !task.is_stamping()
        && !cx.task().is_system_administrator()
    {
        return Err(EPERM);
    }
    Ok(())
}

/// An extended attribute was set or removed, by anybody.
pub(crate) fn xattr_changed(cx: &Context<'_>, dentry: &Dentry, name: &CStr) {
    if !is_record(name) || state::of_task(cx).is_stamping() {
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
