//! From a modification to a record: whether there is one to make, and what came of it.
//!
//! [`policy`] says what is not recorded, [`record`] reads and writes records, [`store`] knows where
//! they are kept. What to do about a modification, given what was done before, is decided by
//! [`provfs::pure::due`], as it is in the kernel.

pub mod policy;
pub mod record;
pub mod sidecar;
mod state;
pub mod store;

use std::sync::Arc;

use parking_lot::Mutex;
use provfs::pure::due::{Last, OnRelease, OnWrite, Release, Settled, Write, on_release, on_write};
use rustix::{
    fs::{Statx, StatxAttributes},
    io::{Errno, Result},
    time::{ClockId, clock_gettime},
};

use self::state::Seen;
pub use self::{
    policy::Policy,
    record::Composer,
    state::{HandleState, InodeState},
    store::Store,
};
use crate::{attributes::OfFile, caller::Identity, inodes::Inode, status::Status};

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

/// How a modification was noticed.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A file was created by opening it.
    Creation,
    /// Somebody asks to modify it.
    Write,
    /// The kernel has let somebody modify it, who is not certain to have done so through this file.
    Found,
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
    /// A file was created, by opening it if there is an open file. Its record is of who did that
    /// until somebody else writes to it. Returns whether a record was made.
    pub fn created(&self, subject: &Subject<'_>, who: &Arc<Identity>) -> bool {
        self.modified(subject, who, Kind::Creation)
    }

    /// A file is about to be modified. Returns whether a record was made.
    pub fn modifying(&self, subject: &Subject<'_>, who: &Arc<Identity>) -> bool {
        self.modified(subject, who, Kind::Write)
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
        modified && self.modified(subject, &who(), Kind::Found)
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

    fn modified(&self, subject: &Subject<'_>, who: &Arc<Identity>, kind: Kind) -> bool {
        if !self.enabled {
            return false;
        }
        let mut handle = subject.handle.map(Mutex::lock);
        let mut state = subject.inode.state.lock();
        let now = now();
        let settled = handle
            .as_ref()
            .map_or(Settled::Nothing, |handle| handle.settled(who));
        let last = state.last(who, now);
        match kind {
            // Somebody else was quicker to write to it.
            Kind::Creation if state.last.is_some() => return false,
            Kind::Creation => state.fresh = true,
            _ => {
                let created_here = handle.as_mut().is_some_and(|handle| handle.goes_on(who));
                let named = match last {
                    Last::By { same: true, age } if state.is_of_creator() => {
                        created_here || (0..self.granularity).contains(&age)
                    }
                    Last::Unknown => created_here,
                    _ => false,
                };
                if named {
                    // Who has created the file writes to it: both are one modification.
                    state.confirm();
                    if let Some(handle) = handle.as_mut().filter(|_| !created_here) {
                        handle.settle(who, Settled::Recorded);
                    }
                    return false;
                }
            }
        }
        let due = on_write(&Write {
            settled: match kind {
                Kind::Found => Settled::Nothing,
                _ => settled,
            },
            last,
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
                Settled::Recorded
            }
        };
        if let Some(handle) = &mut handle {
            handle.settle(who, outcome);
            handle.only_created = kind == Kind::Creation;
        }
        let made = due == OnWrite::Stamp && outcome == Settled::Recorded;
        if let Some(last) = state.last.as_mut().filter(|_| made) {
            last.of_creator = kind == Kind::Creation;
        }
        made
    }

    /// What an open file still owes when one of its descriptors is closed. Returns whether a record
    /// was made.
    pub fn settle(
        &self,
        subject: &Subject<'_>,
        stat: impl FnOnce() -> Result<Statx>,
    ) -> Result<bool> {
        let Some(handle) = subject.handle.filter(|_| self.enabled) else {
            return Ok(false);
        };
        let mut handle = handle.lock();
        let Some(who) = handle
            .writer()
            .filter(|_| handle.settled == Settled::Recorded)
        else {
            return Ok(false);
        };
        let stat = stat()?;
        let mut state = subject.inode.state.lock();
        let now = now();
        let mtime = nanos((stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec));
        let due = on_release(&Release {
            only_created: false,
            is_linked: stat.stx_nlink > 0,
            owed: None,
            settled: handle.settled,
            last: state.last(&who, now),
            mapped: None,
            mtime_age: now.saturating_sub(mtime),
            granularity: self.granularity,
        });
        let time = match due {
            OnRelease::Refresh => mtime,
            OnRelease::Restore => now,
            _ => return Ok(false),
        };
        self.status.modifications.add();
        handle.settled = self.stamp(subject, &mut state, &who, time);
        Ok(handle.settled == Settled::Recorded)
    }

    fn stamp(
        &self,
        subject: &Subject<'_>,
        state: &mut InodeState,
        who: &Arc<Identity>,
        time: i64,
    ) -> Settled {
        let attributes = self.store.of(subject.inode, &subject.file);
        let skipped = self.policy.skips(subject.inode, who);
        if let Some(counter) = skipped.and_then(|kind| self.status.skipped.get(kind.index())) {
            counter.add();
        }
        let written = attributes.and_then(|attributes| {
            let attributes = attributes.as_ref();
            let old = match state.of_creator(self.composer.format) {
                Some(old) if skipped.is_some() => {
                    // What somebody made of it who is not recorded has not been made by its creator.
                    state.last = None;
                    return old.remove(attributes);
                }
                _ if skipped.is_some() => return Ok(()),
                Some(old) => old,
                None if state.fresh => record::Old::default(),
                None => record::Old::read(attributes)?,
            };
            let old = old.with_history(&state.inherited);
            self.composer.write(attributes, who, time, &old)
        });
        match written {
            _ if skipped.is_some() => Settled::PassedOver,
            Ok(()) => {
                state.recorded(who, time);
                self.status.stamped.add();
                Settled::Recorded
            }
            Err(error) => {
                self.count(subject.inode, error);
                Settled::PassedOver
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
            Ok(true) if !state.is_of_creator() => {}
            // The record of who writes to it will take them over.
            Ok(_) => state.inherited = old.entries(),
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
