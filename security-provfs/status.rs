// SPDX-License-Identifier: GPL-2.0-only

//! What became of every modification: counters, and the file that shows them.
//!
//! A modification is counted once in [`Counter::Modifications`] and once in exactly one of its
//! outcomes, so that these add up: `modifications = stamped + unchanged + skipped + owed + paid +
//! superseded + failed`. While it is owed a modification counts as `owed`; that one goes down again
//! when it is paid, superseded or fails.

use kernel::{
    prelude::*,
    securityfs::Show,
    seq_file::SeqFile,
    seq_print,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

use crate::{
    policy,
    pure::skip::RuleKind,
    Context,
    Provfs, //
};

/// Version of what provfs records and shows.
const VERSION: &str = "0.1.0";

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    /// First writes by an identity through an open file, files that were created and not written
    /// to, and files that were modified after their stamp or whose record was overwritten before
    /// they were released.
    Modifications,
    /// A record was made.
    Stamped,
    /// The record said it already.
    Unchanged,
    /// A rule for paths says that it is not to be recorded.
    SkippedPath,
    /// A rule for names says so.
    SkippedName,
    /// A rule for types of file systems says so.
    SkippedFs,
    /// A rule for names of programs says so.
    SkippedComm,
    /// A rule for users says so.
    SkippedUid,
    /// The writer is a thread of the kernel.
    SkippedKthread,
    /// The file is immutable or append-only.
    SkippedImmutable,
    /// The file system has no user attributes.
    SkippedUnsupported,
    /// Recording was switched off before an owed stamp could be made.
    SkippedDisabled,
    /// A stamp that could not be made at once, and is still to be made.
    Owed,
    /// A stamp that was made late.
    Paid,
    /// A stamp that was owed until somebody else modified the file.
    Superseded,
    /// No record could be made.
    Failed,
    /// Not a modification: a program was executed, or a file created, and there was no memory to
    /// remember by whom.
    IdentityFailed,
    /// Not a modification: a file has got the sessions of another one, whose name it took, into its
    /// history.
    Inherited,
    /// Not a modification: that failed.
    InheritFailed,
}

impl Counter {
    /// All of them with their names, in the order of the enum.
    const ALL: [(Counter, &'static str); 19] = [
        (Counter::Modifications, "modifications"),
        (Counter::Stamped, "stamped"),
        (Counter::Unchanged, "unchanged"),
        (Counter::SkippedPath, "skipped.path"),
        (Counter::SkippedName, "skipped.name"),
        (Counter::SkippedFs, "skipped.fs"),
        (Counter::SkippedComm, "skipped.comm"),
        (Counter::SkippedUid, "skipped.uid"),
        (Counter::SkippedKthread, "skipped.kthread"),
        (Counter::SkippedImmutable, "skipped.immutable"),
        (Counter::SkippedUnsupported, "skipped.unsupported"),
        (Counter::SkippedDisabled, "skipped.disabled"),
        (Counter::Owed, "owed"),
        (Counter::Paid, "paid"),
        (Counter::Superseded, "superseded"),
        (Counter::Failed, "failed"),
        (Counter::IdentityFailed, "identity_failed"),
        (Counter::Inherited, "inherited"),
        (Counter::InheritFailed, "inherit_failed"),
    ];

    /// The counter for what rules of a kind skip.
    pub(crate) fn skipped_by(kind: RuleKind) -> Self {
        match kind {
            RuleKind::Path => Counter::SkippedPath,
            RuleKind::Name => Counter::SkippedName,
            RuleKind::Fs => Counter::SkippedFs,
            RuleKind::Comm => Counter::SkippedComm,
            RuleKind::Uid => Counter::SkippedUid,
        }
    }
}

/// Error numbers have a place of their own up to this one, `ERFKILL` and `EHWPOISON` being the last
/// on most machines.
const ERRNO_MAX: usize = 133;

static COUNTERS: [Atomic<u64>; Counter::ALL.len()] = [const { Atomic::new(0) }; Counter::ALL.len()];

/// [`Counter::Failed`] by error number; others are at 0.
static FAILED: [Atomic<u64>; ERRNO_MAX + 1] = [const { Atomic::new(0) }; ERRNO_MAX + 1];

/// The errors that file systems fail with.
static ERRNO_NAMES: [(Error, &str); 15] = [
    (EACCES, "EACCES"),
    (EBUSY, "EBUSY"),
    (E2BIG, "E2BIG"),
    (EDQUOT, "EDQUOT"),
    (EFAULT, "EFAULT"),
    (EFBIG, "EFBIG"),
    (EINTR, "EINTR"),
    (EINVAL, "EINVAL"),
    (EIO, "EIO"),
    (ENOMEM, "ENOMEM"),
    (ENOSPC, "ENOSPC"),
    (EOPNOTSUPP, "EOPNOTSUPP"),
    (EPERM, "EPERM"),
    (ERANGE, "ERANGE"),
    (EROFS, "EROFS"),
];

fn counter(counter: Counter) -> Option<&'static Atomic<u64>> {
    // CAST: The enum has no fields, and the array a place for each of its variants.
    COUNTERS.get(counter as usize)
}

/// Counts something.
pub(crate) fn count(what: Counter) {
    if let Some(counter) = counter(what) {
        counter.add(1, Relaxed);
    }
}

/// Counts that something owed is settled.
pub(crate) fn uncount_owed() {
    if let Some(counter) = counter(Counter::Owed) {
        counter.fetch_sub(1, Relaxed);
    }
}

/// Counts a failure.
pub(crate) fn count_failed(error: Error) {
    count(Counter::Failed);
    let errno = usize::try_from(error.to_errno().unsigned_abs()).unwrap_or(0);
    if let Some(counter) = FAILED.get(errno).or(FAILED.first()) {
        counter.add(1, Relaxed);
    }
}

/// Identities in memory.
static HELD: Atomic<u64> = Atomic::new(0);

/// Part of an identity: as long as it lives, the identity is counted as being in memory.
pub(crate) struct Held(());

impl Held {
    pub(crate) fn new() -> Self {
        HELD.add(1, Relaxed);
        Held(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Relaxed);
    }
}

/// `/sys/kernel/security/provfs/status`: a name and a value in each line.
pub(crate) struct Status;

impl Show for Status {
    type Lsm = Provfs;

    fn show(_cx: &Context<'_>, out: &SeqFile) -> Result {
        seq_print!(out, "version {}\n", VERSION);
        seq_print!(out, "enabled {}\n", u32::from(policy::is_enabled()));
        seq_print!(out, "format {}\n", policy::format().name());
        for ((_, name), value) in Counter::ALL.iter().zip(&COUNTERS) {
            seq_print!(out, "{} {}\n", name, value.load(Relaxed));
        }
        for (errno, counter) in FAILED.iter().enumerate() {
            let value = counter.load(Relaxed);
            if value == 0 {
                continue;
            }
            let name = ERRNO_NAMES
                .iter()
                .find(|(error, _)| usize::try_from(-error.to_errno()) == Ok(errno));
            match name {
                Some((_, name)) => seq_print!(out, "failed.{} {}\n", name, value),
                None => seq_print!(out, "failed.{} {}\n", errno, value),
            }
        }
        seq_print!(out, "identities {}\n", HELD.load(Relaxed));
        Ok(())
    }
}

#[cfg(CONFIG_SECURITY_PROVFS_KUNIT_TEST)]
#[kernel::macros::kunit_tests(provfs_status)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_name() {
        for (index, (counter, _)) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }
}
