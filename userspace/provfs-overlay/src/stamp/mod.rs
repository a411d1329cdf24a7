//! From a modification to a record: whether there is one to make, and what came of it.
//!
//! [`policy`] says what is not recorded, [`record`] reads and writes records, [`store`] knows where
//! they are kept. What to do about a modification, given what was done before, is decided by
//! [`provfs::pure::due`], as it is in the kernel.

pub mod policy;
pub mod record;
pub mod sidecar;
pub mod store;

use std::sync::Arc;

use parking_lot::Mutex;
use provfs::pure::due::{Last, OnRelease, OnWrite, Release, Settled, Write, on_release, on_write};
use rustix::{
    fs::{Statx, StatxAttributes},
    io::{Errno, Result},
    time::{ClockId, clock_gettime},
};

pub use self::{policy::Policy, record::Composer, store::Store};
use crate::{attributes::OfFile, caller::Identity, inodes::Inode, status::Status};

/// How far the clock of a file system may lag behind, in nanoseconds: a tick at 100 Hz. Linux 6.13
/// made times exact where somebody looks at them.
const COARSE: i64 = 10_000_000;

/// What is known about the record of an inode.
#[derive(Debug, Default)]
pub struct InodeState {
    /// It was created here, so there is no record on it yet.
    pub fresh: bool,
    /// Sessions of a file that this one has replaced, for the record that it does not have yet.
    pub inherited: Vec<u8>,
    last: Option<LastRecord>,
    /// How often it is open for the kernel to write to by itself.
    open: u32,
    seen: Option<Seen>,
}

impl InodeState {
    /// Somebody else has changed the record.
    pub fn overwritten(&mut self) {
        self.fresh = false;
        if let Some(last) = &mut self.last {
            last.overwritten = true;
        }
    }

    fn last(&self, who: &Identity, now: i64) -> Last {
        match &self.last {
            None => Last::Unknown,
            Some(last) => {
                let same = *last.identity == *who;
                if last.overwritten {
                    Last::Overwritten { same }
                } else {
                    let age = now.saturating_sub(last.time);
                    Last::By { same, age }
                }
            }
        }
    }
}

#[derive(Debug)]
struct LastRecord {
    identity: Arc<Identity>,
    time: i64,
    overwritten: bool,
}

/// How a file looked when it was last known to be unmodified.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    size: u64,
    modified: (i64, u32),
    /// It had been modified so shortly before that another modification may not show.
    blurred: bool,
}

impl Seen {
    fn new(stat: &Statx, exact: bool) -> Self {
        let modified = (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        Seen {
            size: stat.stx_size,
            modified,
            blurred: !exact && (0..COARSE).contains(&(now() - nanos(modified))),
        }
    }

    fn is_modified(&self, stat: &Statx) -> bool {
        let modified = (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        self.blurred || self.size != stat.stx_size || self.modified != modified
    }
}

/// What is known about an open file.
#[derive(Debug)]
pub struct HandleState {
    /// Who opened it.
    opener: Option<Arc<Identity>>,
    /// The last one who wrote through it.
    writer: Option<Arc<Identity>>,
    /// Opening it created the file, and nobody has written through it since.
    only_created: bool,
    settled: Settled,
}

impl HandleState {
    /// A file that was just opened, by somebody if it is for writing.
    pub fn new(opener: Option<Arc<Identity>>, created: bool) -> Self {
        HandleState {
            opener,
            writer: None,
            only_created: created,
            settled: Settled::Nothing,
        }
    }

    /// The last one who wrote through it.
    pub fn writer(&self) -> Option<Arc<Identity>> {
        self.writer.clone()
    }

    fn settled(&self, who: &Identity) -> Settled {
        match &self.writer {
            Some(writer) if **writer == *who => self.settled,
            _ => Settled::Nothing,
        }
    }
}

/// A file that is modified.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Which one.
    pub inode: &'a Inode,
    /// The way to its attributes.
    pub file: OfFile<'a>,
    /// The open file through which that happens, if there is one.
    pub handle: Option<&'a Mutex<HandleState>>,
}

enum Outcome {
    Stamped,
    Passed,
}

/// Makes records.
#[derive(Debug)]
pub struct Stamper {
    /// Nothing is recorded without it.
    pub enabled: bool,
    /// What is not recorded.
    pub policy: Policy,
    /// How records look.
    pub composer: Composer,
    /// Where they are kept.
    pub store: Store,
    /// How old a record of the same writer may get before it is renewed, in nanoseconds.
    pub granularity: i64,
    /// Whether times of files tell any two modifications apart.
    pub exact_times: bool,
    /// What became of modifications.
    pub status: Arc<Status>,
}

impl Stamper {
    /// A file is about to be modified. Returns whether a record was made.
    pub fn modifying(&self, subject: &Subject<'_>, who: &Arc<Identity>) -> bool {
        self.modified(subject, who, true)
    }

    /// Finds out whether a file was modified behind the back of this process, by the kernel itself.
    /// Then that was `who`. Returns whether a record was made.
    pub fn look(
        &self,
        subject: &Subject<'_>,
        stat: &Statx,
        who: impl FnOnce() -> Arc<Identity>,
    ) -> bool {
        let modified = self.enabled && {
            let state = subject.inode.state.lock();
            state.seen.is_some_and(|seen| seen.is_modified(stat))
        };
        modified && self.modified(subject, &who(), false)
    }

    /// A file is opened for the kernel to write to by itself: only what changes from here on is a
    /// modification.
    pub fn opened(&self, inode: &Inode, stat: &Statx) {
        let mut state = inode.state.lock();
        if state.open == 0 {
            state.seen = Some(Seen::new(stat, self.exact_times));
        }
        state.open += 1;
    }

    /// A file that was opened like that is closed.
    pub fn closed(&self, inode: &Inode) {
        let mut state = inode.state.lock();
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            state.seen = None;
        }
    }

    /// Whether the kernel may write to a file by itself.
    pub fn is_watched(&self, inode: &Inode) -> bool {
        self.enabled && inode.state.lock().seen.is_some()
    }

    /// What was changed up to now is dealt with.
    pub fn seen_again(&self, inode: &Inode, stat: &Statx) {
        let mut state = inode.state.lock();
        if state.seen.is_some() {
            state.seen = Some(Seen::new(stat, self.exact_times));
        }
    }

    fn modified(&self, subject: &Subject<'_>, who: &Arc<Identity>, by_handle: bool) -> bool {
        if !self.enabled {
            return false;
        }
        let mut handle = subject.handle.map(Mutex::lock);
        let mut state = subject.inode.state.lock();
        let now = now();
        let settled = match &handle {
            Some(handle) if by_handle => handle.settled(who),
            _ => Settled::Nothing,
        };
        let due = on_write(&Write {
            settled,
            last: state.last(who, now),
            granularity: self.granularity,
        });
        if due == OnWrite::Known {
            return false;
        }

        self.status.modifications.add();
        let outcome = match due {
            OnWrite::Stamp => self.stamp(subject, &mut state, who, now),
            _ => {
                self.status.unchanged.add();
                Outcome::Stamped
            }
        };
        if let Some(handle) = &mut handle {
            handle.writer = Some(who.clone());
            handle.only_created = false;
            handle.settled = match outcome {
                Outcome::Stamped => Settled::Recorded,
                Outcome::Passed => Settled::PassedOver,
            };
        }
        due == OnWrite::Stamp && matches!(outcome, Outcome::Stamped)
    }

    /// What an open file still owes when one of its descriptors, or the last of them, is closed.
    /// Returns whether a record was made.
    pub fn settle(
        &self,
        subject: &Subject<'_>,
        stat: impl FnOnce() -> Result<Statx>,
        last: bool,
    ) -> Result<bool> {
        let Some(handle) = subject.handle.filter(|_| self.enabled) else {
            return Ok(false);
        };
        let mut handle = handle.lock();
        let may_owe = last && handle.only_created || handle.settled == Settled::Recorded;
        let Some(who) = handle.writer().or_else(|| handle.opener.clone()) else {
            return Ok(false);
        };
        if !may_owe {
            return Ok(false);
        }
        let stat = stat()?;
        let mut state = subject.inode.state.lock();
        let now = now();
        let mtime = nanos((stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec));
        let due = on_release(&Release {
            only_created: handle.only_created,
            is_linked: stat.stx_nlink > 0,
            owed: None,
            settled: handle.settled(&who),
            last: state.last(&who, now),
            mapped: None,
            mtime_age: now.saturating_sub(mtime),
            granularity: self.granularity,
        });
        let time = match due {
            OnRelease::Created if last => now,
            OnRelease::Refresh => mtime,
            OnRelease::Restore => now,
            _ => return Ok(false),
        };
        self.status.modifications.add();
        handle.only_created = false;
        let outcome = self.stamp(subject, &mut state, &who, time);
        Ok(matches!(outcome, Outcome::Stamped))
    }

    fn stamp(
        &self,
        subject: &Subject<'_>,
        state: &mut InodeState,
        who: &Arc<Identity>,
        time: i64,
    ) -> Outcome {
        if let Some(kind) = self.policy.skips(subject.inode, who) {
            if let Some(counter) = self.status.skipped.get(kind.index()) {
                counter.add();
            }
            return Outcome::Passed;
        }
        let attributes = self.store.of(subject.inode, &subject.file);
        let written = attributes.and_then(|attributes| {
            let attributes = attributes.as_ref();
            let mut old = if state.fresh {
                record::Old::default()
            } else {
                record::Old::read(attributes)?
            };
            old.inherit(&state.inherited);
            self.composer.write(attributes, who, time, &old)
        });
        match written {
            Ok(()) => {
                state.fresh = false;
                state.inherited.clear();
                state.last = Some(LastRecord {
                    identity: who.clone(),
                    time,
                    overwritten: false,
                });
                self.status.stamped.add();
                Outcome::Stamped
            }
            Err(error) => {
                self.count(subject.inode, error);
                Outcome::Passed
            }
        }
    }

    fn count(&self, inode: &Inode, error: Errno) {
        let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        match error {
            Errno::OPNOTSUPP => self.status.skipped_unsupported.add(),
            Errno::PERM
                if inode
                    .stat()
                    .is_ok_and(|stat| stat.stx_attributes.intersects(fixed)) =>
            {
                self.status.skipped_immutable.add();
            }
            error => self.status.count_failed(error),
        }
    }

    /// The record of a file that is about to be replaced.
    pub fn about_to_go(&self, inode: &Inode) -> Option<record::Old> {
        if !self.enabled {
            return None;
        }
        let file = OfFile::held(inode);
        let attributes = self.store.of(inode, &file).ok()?;
        let old = record::Old::read(attributes.as_ref()).ok()?;
        old.session.is_some().then_some(old)
    }

    /// A file has replaced another one, whose sessions go into its history.
    pub fn replaced(&self, inode: &Inode, old: &record::Old) {
        let mut state = inode.state.lock();
        let file = OfFile::held(inode);
        let inherited = self.store.of(inode, &file).and_then(|attributes| {
            let inherited = self.composer.inherit(attributes.as_ref(), old)?;
            Ok(inherited)
        });
        match inherited {
            Ok(true) => {}
            // There is no record yet. Its first one will take them over.
            Ok(false) => state.inherited = old.entries(),
            Err(error) => self.status.count_failed(error),
        }
    }
}

/// Nanoseconds since the Unix epoch.
fn now() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    nanos((now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0)))
}

fn nanos((seconds, nanos): (i64, u32)) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(nanos))
}
