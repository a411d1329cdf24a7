// SPDX-License-Identifier: GPL-2.0-only

//! What is remembered in tasks, open files, inodes and super blocks.
//!
//! All of it is valid when it is all-zero, which is how it begins. None of it is needed for a
//! record to be right: what is forgotten, with an inode for instance, only costs a stamp more.
//!
//! # Hot path
//!
//! Most writes go to a file that the same task has written to before. That is recognised by one
//! comparison: the open file holds a [`Token`] made of the identity that was dealt with and of the
//! [epoch](EPOCH) in which that was. When anything changes that could make the answer another one,
//! a new epoch begins, and everybody looks again once.
//!
//! # Races
//!
//! [`InodeState::last`] and [`InodeState::stamped`] change together, under the lock of the inode,
//! but are read without it. A reader that sees half of a change makes a stamp too many, under the
//! lock, or one that it could have been told to leave out by a writer of the same moment. The
//! fields of [`FileState`] change without any lock; each of them is complete in itself.

use kernel::{
    fs::{
        Inode,
        LocalFile,
        SuperBlock, //
    },
    lsm,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        ArcSlot, //
    },
    time::jiffies, //
};

use crate::{
    identity::Identity,
    past::Past,
    pure::due::{
        Last,
        Settled, //
    },
    xattrs::Present,
    Context,
    Provfs, //
};

/// Number of an [`Identity`]: odd, so that zero means none, and less than `1 << ID_BITS`.
pub(crate) type Id = u64;

/// At 1,000 programs a second, the numbers last for 17 years.
const ID_BITS: u32 = 40;

/// The number of who is not to be named: that of no identity.
pub(crate) const NOBODY: Id = 2;

/// How far the next number is away: they stay odd.
const ID_STEP: u64 = 2;

/// Returns a number that no identity had before.
pub(crate) fn next_id() -> Id {
    static NEXT: Atomic<u64> = Atomic::new(1);

    NEXT.fetch_add(ID_STEP, Relaxed) & ((1 << ID_BITS) - 1)
}

/// The current epoch, above [`ID_BITS`]; the bits below never change.
///
/// They are 2, so that a token of no identity, which has 2 there, is neither an empty one, which
/// has 0, nor that of an identity, which is odd.
static EPOCH: Atomic<u64> = Atomic::new((1 << ID_BITS) | 2);

/// Makes everybody who writes to an open file look again at what there is to do.
///
/// Who sees the new epoch in [`Epoch::begin`] also sees what has changed before this call.
pub(crate) fn begin_epoch() {
    EPOCH.fetch_add(1 << ID_BITS, Release);
}

/// A time during which nothing has changed that was dealt with before.
#[derive(Clone, Copy)]
pub(crate) struct Epoch(u64);

impl Epoch {
    /// The current epoch, to compare a token with.
    #[inline]
    pub(crate) fn now() -> Self {
        Epoch(EPOCH.load(Relaxed))
    }

    /// The current epoch, before a look at what there is to do in it.
    pub(crate) fn begin() -> Self {
        // Pairs with the release in `begin_epoch()`.
        Epoch(EPOCH.load(Acquire))
    }

    /// The token of an identity, or of none, in this epoch.
    #[inline]
    pub(crate) fn token(self, id: Id) -> Token {
        Token(self.0.wrapping_add(id))
    }
}

/// An identity in an epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    /// A number that no other identity and no other epoch has.
    #[inline]
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// The task is making a stamp. What file systems do for that is not a modification.
const STAMPING: u32 = 1 << 0;

/// The names that the task is about to rename change places.
const EXCHANGING: u32 = 1 << 1;

/// A file system is about to copy an attribute of a record, on behalf of the task.
const COPYING_XATTR: u32 = 1 << 2;

/// A file system has copied a file on behalf of the task, or does so now.
const COPYING: u32 = 1 << 3;

/// The task is about to rename something by a system call.
const RENAMING: u32 = 1 << 4;

/// The task has deduplicated in its last `ioctl(2)`.
const DEDUPLICATED: u32 = 1 << 5;

/// What is remembered in a task. Only the task itself changes it.
#[derive(Zeroable)]
pub(crate) struct TaskState {
    /// Who the task is; nobody, if it never executed a program or there was no memory for it.
    pub(crate) identity: ArcSlot<Identity>,
    /// The number of `identity` while it is known to describe the task, else 0.
    known: Atomic<u64>,
    /// Number of the lock that fixes the session, or 0. Others may read it.
    lock: Atomic<u64>,
    /// The record of the file that the task has renamed last.
    pub(crate) past: ArcSlot<Past>,
    /// The system call in which the task deduplicates, with [`DEDUPLICATED`].
    deduplicating: Atomic<u32>,
    /// The decision for the file that the task is making with `mknod(2)`. See
    /// [`crate::record`].
    pub(crate) node: Atomic<u32>,
    flags: Atomic<u32>,
}

impl TaskState {
    /// The number of the identity that describes the task, or 0 if that has to be found out.
    #[inline]
    pub(crate) fn known(&self) -> Id {
        self.known.load(Relaxed)
    }

    /// Remembers that the identity with this number describes the task; 0 if that is not known.
    #[inline]
    pub(crate) fn set_known(&self, id: Id) {
        self.known.store(id, Relaxed);
    }

    /// Number of the lock that fixes the session, or 0.
    pub(crate) fn lock(&self) -> u64 {
        self.lock.load(Relaxed)
    }

    /// Remembers the number of the lock that fixes the session.
    pub(crate) fn set_lock(&self, lock: u64) {
        self.lock.store(lock, Relaxed);
    }

    /// Whether the task deduplicates in the system call with this number.
    pub(crate) fn is_deduplicating(&self, system_call: u32) -> bool {
        self.deduplicating.load(Relaxed) == system_call
    }

    /// Whether the task has deduplicated in its last `ioctl(2)`.
    #[inline]
    pub(crate) fn has_deduplicated(&self) -> bool {
        self.has(DEDUPLICATED)
    }

    /// Remembers whether the task deduplicates now, and if so, in which system call.
    pub(crate) fn set_deduplicating(&self, system_call: Option<u32>) {
        self.set(DEDUPLICATED, system_call.is_some());
        self.deduplicating.store(system_call.unwrap_or(0), Relaxed);
    }

    /// Whether the task is making a stamp.
    #[inline]
    pub(crate) fn is_stamping(&self) -> bool {
        self.has(STAMPING)
    }

    /// Remembers whether the task is making a stamp.
    #[inline]
    pub(crate) fn set_stamping(&self, stamping: bool) {
        self.set(STAMPING, stamping);
    }

    /// Whether a write of the task may be none of its own: it is making a stamp, has deduplicated
    /// last, or a file system has ever copied a file on its behalf.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        self.has(STAMPING | COPYING | DEDUPLICATED)
    }

    /// Whether the names that the task is renaming change places.
    pub(crate) fn is_exchanging(&self) -> bool {
        self.has(EXCHANGING)
    }

    /// Remembers that the task is about to rename something by a system call, and whether the names
    /// change places.
    pub(crate) fn set_renaming(&self, exchanging: bool) {
        self.set(EXCHANGING, exchanging);
        self.set(RENAMING, true);
    }

    /// Whether this is the first time that this is asked since [`TaskState::set_renaming`].
    ///
    /// A file system that stores its files in another one renames them there as well.
    pub(crate) fn take_renaming(&self) -> bool {
        let was = self.has(RENAMING);
        self.set(RENAMING, false);
        was
    }

    /// Whether a file system has ever copied a file on behalf of the task.
    pub(crate) fn is_copying(&self) -> bool {
        self.has(COPYING)
    }

    /// Remembers that a file system is about to copy a file on behalf of the task.
    pub(crate) fn set_copying(&self) {
        self.set(COPYING, true);
    }

    /// Remembers that a file system is about to copy an attribute of a record.
    pub(crate) fn set_copying_xattr(&self) {
        self.set(COPYING_XATTR, true);
    }

    /// Forgets that a file system is about to copy an attribute of a record, and returns whether
    /// it was.
    pub(crate) fn take_copying_xattr(&self) -> bool {
        let was = self.has(COPYING_XATTR);
        if was {
            self.set(COPYING_XATTR, false);
        }
        was
    }

    #[inline]
    fn has(&self, flag: u32) -> bool {
        self.flags.load(Relaxed) & flag != 0
    }

    /// Nobody else changes the flags, so this need not be one step.
    #[inline]
    fn set(&self, flag: u32, on: bool) {
        let flags = self.flags.load(Relaxed);
        let flags = if on { flags | flag } else { flags & !flag };
        self.flags.store(flags, Relaxed);
    }
}

/// The file was created by opening it, and not written to since.
const CREATED: u32 = 1 << 0;

/// There may be something to do when the file is released.
const CONCERNED: u32 = 1 << 1;

/// The file is being opened with `O_TRUNC`.
const TRUNCATING: u32 = 1 << 2;

/// The only modification through the file was one that the record had named already.
const UNCHANGED: u32 = 1 << 3;

/// [`FileState::settled`]: the outcome was a record.
const RECORDED: u64 = 1 << ID_BITS;

/// [`FileState::settled`]: the outcome was that there is none.
const PASSED_OVER: u64 = 2 << ID_BITS;

/// [`FileState::settled`]: where the generation of the policy begins.
const GENERATION_SHIFT: u32 = ID_BITS + 2;

/// What is remembered in an open file.
#[derive(Zeroable)]
pub(crate) struct FileState {
    /// The identity and epoch for which everything is done.
    token: Atomic<u64>,
    /// Who has modified the file last through this, or created it; for the release, which may be
    /// somebody else's.
    pub(crate) writer: ArcSlot<Identity>,
    /// Identity, outcome and generation of the policy of the last modification that was dealt with.
    settled: Atomic<u64>,
    /// Identity for which a stamp is owed, or 0.
    owed_by: Atomic<u64>,
    /// Time at which it became owed, in nanoseconds since the Unix epoch.
    owed_since: Atomic<i64>,
    /// Time at which the file was mapped so that its memory can be written to without a stamp, in
    /// nanoseconds since the Unix epoch; 0 if it was not.
    mapped_since: Atomic<i64>,
    /// The record of the file that this one, newly created, takes the place of. It is only here
    /// together with a `writer`.
    pub(crate) past: ArcSlot<Past>,
    flags: Atomic<u32>,
}

impl FileState {
    /// Whether everything is done for what this token stands for.
    #[inline]
    pub(crate) fn has(&self, token: Token) -> bool {
        self.token.load(Relaxed) == token.0
    }

    /// Remembers that everything is done for what this token stands for.
    pub(crate) fn set(&self, token: Token) {
        self.token.store(token.0, Relaxed);
    }

    /// Whether there may be something to do when the file is released.
    #[inline]
    pub(crate) fn is_concerned(&self) -> bool {
        self.flags.load(Relaxed) & CONCERNED != 0
    }

    /// Remembers that the file was created by whoever is in `writer` now.
    pub(crate) fn set_created(&self) {
        self.flags.store(CREATED | CONCERNED, Relaxed);
    }

    /// Remembers that the file was modified by whoever is in `writer` now.
    pub(crate) fn set_written(&self) {
        self.flags.store(CONCERNED, Relaxed);
    }

    /// Whether the file was created through this, and not written to since.
    pub(crate) fn is_only_created(&self) -> bool {
        self.flags.load(Relaxed) & CREATED != 0
    }

    /// Whether there is nothing here that has to be dropped.
    #[inline]
    pub(crate) fn is_unused(&self) -> bool {
        // There is no past without a writer.
        self.writer.is_empty()
    }

    /// Whether nothing was done through the file yet.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.flags.load(Relaxed) == 0 && self.settled.load(Relaxed) == 0
    }

    /// Remembers that the file was modified once, by whoever its record names anyway. Nobody need
    /// be in `writer`.
    pub(crate) fn set_unchanged(&self) {
        self.flags.store(UNCHANGED | CONCERNED, Relaxed);
    }

    /// Whether the only modification through the file was by whoever its record names anyway.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.flags.load(Relaxed) & UNCHANGED != 0
    }

    /// Remembers that the file was mapped by whoever is in `writer` now.
    pub(crate) fn set_mapped(&self, since: i64) {
        self.mapped_since.store(since, Relaxed);
        self.flags
            .store(self.flags.load(Relaxed) | CONCERNED, Relaxed);
    }

    /// Time at which the file was mapped so that its memory can be written to without a stamp, in
    /// nanoseconds since the Unix epoch.
    pub(crate) fn mapped_since(&self) -> Option<i64> {
        Some(self.mapped_since.load(Relaxed)).filter(|&since| since != 0)
    }

    /// Remembers that the file is being opened with `O_TRUNC`.
    pub(crate) fn set_truncating(&self) {
        self.flags.store(TRUNCATING, Relaxed);
    }

    /// Forgets that the file is being opened with `O_TRUNC`, and returns whether it was.
    pub(crate) fn take_truncating(&self) -> bool {
        let flags = self.flags.load(Relaxed);
        if flags & TRUNCATING == 0 {
            return false;
        }
        self.flags.store(flags & !TRUNCATING, Relaxed);
        true
    }

    /// What was made of the last modification through this file, if it was by this identity and
    /// under this generation of the policy.
    pub(crate) fn settled(&self, id: Id, generation: u32) -> Settled {
        let settled = self.settled.load(Relaxed);
        let key = id | (u64::from(generation) << GENERATION_SHIFT);
        if settled == key | RECORDED {
            Settled::Recorded
        } else if settled == key | PASSED_OVER {
            Settled::PassedOver
        } else {
            Settled::Nothing
        }
    }

    /// What was made of the last modification through this file, if it was by this identity.
    pub(crate) fn settled_ever(&self, id: Id) -> Settled {
        match self.settled_last() {
            (last, settled) if last == id => settled,
            _ => Settled::Nothing,
        }
    }

    /// The identity of the last modification through this file that was dealt with, and what was
    /// made of it.
    pub(crate) fn settled_last(&self) -> (Id, Settled) {
        let settled = self.settled.load(Relaxed);
        let outcome = if settled & RECORDED != 0 {
            Settled::Recorded
        } else if settled & PASSED_OVER != 0 {
            Settled::PassedOver
        } else {
            Settled::Nothing
        };
        (settled & (RECORDED - 1), outcome)
    }

    /// Remembers what was made of a modification.
    #[inline]
    pub(crate) fn settle(&self, id: Id, generation: u32, recorded: bool) {
        let outcome = if recorded { RECORDED } else { PASSED_OVER };
        let generation = u64::from(generation) << GENERATION_SHIFT;
        self.settled.store(id | outcome | generation, Relaxed);
    }

    /// Identity for which a stamp is owed.
    pub(crate) fn owed_by(&self) -> Option<Id> {
        Some(self.owed_by.load(Relaxed)).filter(|&id| id != 0)
    }

    /// Time at which that became owed, in nanoseconds since the Unix epoch.
    pub(crate) fn owed_since(&self) -> i64 {
        self.owed_since.load(Relaxed)
    }

    /// Remembers that a stamp is owed. Returns the identity for which one was owed before.
    pub(crate) fn set_owed(&self, id: Id, since: i64) -> Option<Id> {
        self.owed_since.store(since, Relaxed);
        Some(self.owed_by.xchg(id, Relaxed)).filter(|&id| id != 0)
    }

    /// Remembers that nothing is owed any more. Returns the identity for which a stamp was owed.
    ///
    /// Of two tasks that do this at the same time, only one gets it.
    pub(crate) fn take_owed(&self) -> Option<Id> {
        self.owed_by()?;
        Some(self.owed_by.xchg(0, Relaxed)).filter(|&id| id != 0)
    }
}

/// Bits of the generation of the policy that [`FileState`] has room for.
pub(crate) const GENERATION_MASK: u32 = (1 << (u64::BITS - GENERATION_SHIFT)) - 1;

/// [`InodeState::last`]: somebody else has changed the record since.
const OVERWRITTEN: u64 = 1 << 63;

/// What is remembered in an inode.
#[derive(Zeroable)]
pub(crate) struct InodeState {
    /// Identity of the last stamp, and [`OVERWRITTEN`].
    last: Atomic<u64>,
    /// Time of the last stamp, in nanoseconds since the Unix epoch.
    stamped: Atomic<i64>,
    /// The last decision whether to record this inode, with what it depends on. See
    /// [`crate::policy`].
    pub(crate) verdict: Atomic<u64>,
    /// What came of the last modification, with what that depends on. See [`crate::policy`].
    pass: Atomic<u64>,
    /// When that was, and under which settings.
    pass_made: Atomic<u64>,
    /// Which attributes of a record there are.
    present: Atomic<u32>,
    /// Whether the inode has got a second name since it came into memory.
    linked: Atomic<u32>,
}

impl InodeState {
    /// What the last record says, seen from an identity at a time (in nanoseconds since the Unix
    /// epoch).
    pub(crate) fn last(&self, id: Id, now: i64) -> Last {
        let last = self.last.load(Relaxed);
        let same = last & !OVERWRITTEN == id;
        if last == 0 {
            Last::Unknown
        } else if last & OVERWRITTEN != 0 {
            Last::Overwritten { same }
        } else {
            let age = now.saturating_sub(self.stamped.load(Relaxed));
            Last::By { same, age }
        }
    }

    /// Time of the last stamp, in nanoseconds since the Unix epoch.
    pub(crate) fn stamped(&self) -> i64 {
        self.stamped.load(Relaxed)
    }

    /// Whether no record was made or changed since the inode came into memory.
    pub(crate) fn is_untouched(&self) -> bool {
        self.last.load(Relaxed) == 0
    }

    /// Whether the last record is that of an identity, and nobody has changed it since.
    #[inline]
    pub(crate) fn is_last(&self, id: Id) -> bool {
        self.last.load(Relaxed) == id
    }

    /// Remembers a stamp. The inode must be locked. Returns whether the one before was of another
    /// identity.
    pub(crate) fn set_stamped(&self, id: Id, now: i64) -> bool {
        let before = self.last.load(Relaxed);
        self.stamped.store(now, Relaxed);
        self.last.store(id, Relaxed);
        before != id
    }

    /// Remembers what came of a modification just now, under a generation of the policy.
    pub(crate) fn set_pass(&self, pass: u64, generation: u32) {
        self.pass_made.store(Made::now(generation).0, Relaxed);
        self.pass.store(pass, Relaxed);
    }

    /// What came of a modification.
    #[inline]
    pub(crate) fn pass(&self) -> u64 {
        self.pass.load(Relaxed)
    }

    /// When that was, and under which settings.
    #[inline]
    pub(crate) fn pass_made(&self) -> Made {
        Made(self.pass_made.load(Relaxed))
    }

    /// Remembers that somebody else has changed the record. The inode must be locked.
    pub(crate) fn set_overwritten(&self) {
        self.last
            .store(self.last.load(Relaxed) | OVERWRITTEN, Relaxed);
        self.set_present(Present::UNKNOWN);
    }

    /// Which attributes of a record there are. The inode must be locked.
    pub(crate) fn present(&self) -> Present {
        Present::from_bits(self.present.load(Relaxed))
    }

    /// Remembers which attributes of a record there are. The inode must be locked.
    pub(crate) fn set_present(&self, present: Present) {
        self.present.store(present.bits(), Relaxed);
    }

    /// Whether the inode has, or had, more than one name since it came into memory.
    #[inline]
    pub(crate) fn has_links(&self) -> bool {
        self.linked.load(Relaxed) != 0
    }

    /// Remembers that the inode is about to get another name.
    pub(crate) fn set_links(&self) {
        self.linked.store(1, Relaxed);
    }
}

/// A time in ticks, and the generation of the policy in the bits above.
#[derive(Clone, Copy)]
pub(crate) struct Made(u64);

impl Made {
    /// Bits that ticks have: enough for a century.
    const TICKS: u64 = (1 << GENERATION_SHIFT) - 1;

    /// Now.
    fn now(generation: u32) -> Self {
        // CAST: Not less wide.
        Made((u64::from(generation) << GENERATION_SHIFT) | (jiffies() as u64 & Self::TICKS))
    }

    /// The generation of the policy.
    #[inline]
    pub(crate) fn generation(self) -> u32 {
        // CAST: What is left after the shift has 22 bits.
        (self.0 >> GENERATION_SHIFT) as u32
    }

    /// Whether fewer than this many ticks have passed since then.
    #[inline]
    pub(crate) fn is_within(self, ticks: usize) -> bool {
        // CAST: Not less wide.
        ((jiffies() as u64).wrapping_sub(self.0) & Self::TICKS) < ticks as u64
    }
}

/// What is remembered in a super block.
#[derive(Zeroable)]
pub(crate) struct SuperBlockState {
    /// Whether a stamp has shown that the file system has no user attributes.
    unsupported: Atomic<u32>,
}

impl SuperBlockState {
    /// Whether the file system is known to have no user attributes.
    pub(crate) fn is_unsupported(&self) -> bool {
        self.unsupported.load(Relaxed) != 0
    }

    /// Remembers whether the file system is known to have no user attributes.
    pub(crate) fn set_unsupported(&self, unsupported: bool) {
        self.unsupported.store(u32::from(unsupported), Relaxed);
    }
}

/// What is remembered in the current task.
#[inline]
pub(crate) fn of_task<'a>(cx: &Context<'a>) -> &'a TaskState {
    cx.task_state()
}

/// What is remembered in a file.
#[inline]
pub(crate) fn of_file(file: &LocalFile) -> &FileState {
    lsm::file_state::<Provfs>(file)
}

/// What is remembered in an inode.
#[inline]
pub(crate) fn of_inode(inode: &Inode) -> &InodeState {
    lsm::inode_state::<Provfs>(inode)
}

/// What is remembered in a super block.
#[inline]
pub(crate) fn of_super_block(super_block: &SuperBlock) -> &SuperBlockState {
    lsm::super_block_state::<Provfs>(super_block)
}
