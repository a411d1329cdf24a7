//! What is known about records without reading them: of an inode, and of an open file.

use std::sync::Arc;

use provfs::{
    Format,
    pure::due::{Last, Settled},
};
use rustix::fs::Statx;

use super::{nanos, now, record::Old};
use crate::caller::Identity;

/// How far the clock of a file system may lag behind, in nanoseconds: a tick at 100 Hz. Linux 6.13
/// made times exact where somebody looks at them.
const COARSE: i64 = 10_000_000;

/// What is known about the record of an inode.
#[derive(Debug, Default)]
pub struct InodeState {
    /// It was created here, so there is no record on it yet.
    pub fresh: bool,
    /// Sessions of a file that this one has replaced, for the record of who writes to it.
    pub inherited: Vec<u8>,
    pub(super) last: Option<LastRecord>,
    /// How often it is open for the kernel to write to by itself.
    pub(super) open: u32,
    pub(super) seen: Option<Seen>,
}

impl InodeState {
    /// Somebody else has changed the record.
    pub fn overwritten(&mut self) {
        self.fresh = false;
        if let Some(last) = &mut self.last {
            last.overwritten = true;
            last.of_creator = false;
        }
    }

    /// Whether the record only says who created the file.
    pub(super) fn is_of_creator(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.of_creator)
    }

    /// The record that only says who created the file, for another one to take its place without a
    /// trace.
    pub(super) fn of_creator(&self, format: Format) -> Option<Old> {
        let last = self.last.as_ref().filter(|last| last.of_creator)?;
        Some(Old::stored(&last.identity, format, &self.inherited))
    }

    /// Who created the file writes to it.
    pub(super) fn confirm(&mut self) {
        self.inherited.clear();
        if let Some(last) = &mut self.last {
            last.of_creator = false;
        }
    }

    /// A record was made.
    pub(super) fn recorded(&mut self, who: &Arc<Identity>, time: i64) {
        self.fresh = false;
        self.inherited.clear();
        self.last = Some(LastRecord {
            identity: who.clone(),
            time,
            overwritten: false,
            of_creator: false,
        });
    }

    pub(super) fn last(&self, who: &Identity, now: i64) -> Last {
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

/// The last record that was made.
#[derive(Debug)]
pub(super) struct LastRecord {
    pub(super) identity: Arc<Identity>,
    pub(super) time: i64,
    pub(super) overwritten: bool,
    /// It was made when the file was created, and nobody has written to that since.
    pub(super) of_creator: bool,
}

/// How a file looked when it was last known to be unmodified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    size: u64,
    modified: (i64, u32),
    /// It had been modified so shortly before that another modification may not show.
    blurred: bool,
}

impl Seen {
    pub(super) fn new(stat: &Statx, exact: bool) -> Self {
        let modified = (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        Seen {
            size: stat.stx_size,
            modified,
            blurred: !exact && (0..COARSE).contains(&(now() - nanos(modified))),
        }
    }

    pub(super) fn is_modified(&self, stat: &Statx) -> bool {
        let modified = (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        self.blurred || self.size != stat.stx_size || self.modified != modified
    }
}

/// What is known about an open file.
#[derive(Debug)]
pub struct HandleState {
    /// The last one who wrote through it, or who created the file by opening it.
    pub(super) writer: Option<Arc<Identity>>,
    pub(super) settled: Settled,
    /// Opening it created the file, and nobody has written through it since.
    pub(super) only_created: bool,
}

impl Default for HandleState {
    /// A file that was just opened.
    fn default() -> Self {
        HandleState {
            writer: None,
            settled: Settled::Nothing,
            only_created: false,
        }
    }
}

impl HandleState {
    /// The last one who wrote through it.
    pub fn writer(&self) -> Option<Arc<Identity>> {
        self.writer.clone()
    }

    pub(super) fn settle(&mut self, who: &Arc<Identity>, outcome: Settled) {
        self.writer = Some(who.clone());
        self.settled = outcome;
    }

    /// Somebody writes. Whether that goes on what began with creating the file.
    pub(super) fn goes_on(&mut self, who: &Identity) -> bool {
        let same = self.writer.as_ref().is_some_and(|writer| **writer == *who);
        std::mem::take(&mut self.only_created) && same
    }

    /// What was made of the last modification by somebody.
    pub(super) fn settled(&self, who: &Identity) -> Settled {
        match &self.writer {
            Some(writer) if **writer == *who => self.settled,
            _ => Settled::Nothing,
        }
    }
}
