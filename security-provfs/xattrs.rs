// SPDX-License-Identifier: GPL-2.0-only

//! A record in the extended attributes of a file: what is there, and writing it in either format.
//!
//! A record is never a mixture. Whatever of an earlier one does not belong to it is removed, that
//! in the other format included; and if a part of it cannot be written, what would be left of the
//! record before is removed, too. What is known to be absent is not looked for again.

use kernel::{
    alloc::{
        flags::{
            self,
            GFP_KERNEL, //
        },
        Flags, //
    },
    error::code::{
        ENODATA,
        EOPNOTSUPP,
        ERANGE, //
    },
    fs::{
        xattr::{
            self,
            Writable, //
        },
        Dentry, //
    },
    prelude::*,
    str::CStr, //
};

use core::iter::once;

use crate::{
    identity::Identity,
    past::Sessions,
    policy,
    pure::{
        history::{
            push_all,
            sessions, //
        },
        limits::{
            HISTORY_MAX,
            HISTORY_TEXT_MAX,
            PACKED_MAX,
            SESSION_MAX, //
        },
        packed::{
            self,
            Packed, //
        },
        record::{
            Key,
            Record,
            Session,
            PACKED, //
        },
        text::Writer,
        time::{
            format_rfc3339,
            RFC3339_LEN, //
        },
    }, //
};

/// How a record is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A field in each attribute.
    Keys,
    /// All of it in one attribute.
    Packed,
}

impl Format {
    /// All formats.
    pub(crate) const ALL: [Format; 2] = [Format::Keys, Format::Packed];

    /// What the administrator calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Keys => "keys",
            Format::Packed => "packed",
        }
    }
}

/// Which attributes of a record a file has, as far as that is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Present(u32);

impl Present {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Present = Present(0);

    /// There are none.
    pub(crate) const NONE: Present = Present(Self::KNOWN);

    const KNOWN: u32 = 1 << 31;

    /// The bits below are those of the keys.
    const PACKED: u32 = 1 << Key::ALL.len();

    /// What is packed has a history in it.
    const PACKED_HISTORY: u32 = Self::PACKED << 1;

    /// As it is kept in an inode.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// As it was kept in an inode.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Present(bits)
    }

    fn bit(key: Key) -> u32 {
        1 << key.index()
    }

    fn may_have(self, bit: u32) -> bool {
        self == Self::UNKNOWN || self.0 & bit != 0
    }

    fn may_have_keys(self) -> bool {
        self.may_have(Self::PACKED - 1)
    }

    /// Whether there is a whole record, which names one session only.
    pub(crate) fn names_one_session(self) -> bool {
        let has_history = self.0 & (Self::bit(Key::History) | Self::PACKED_HISTORY) != 0;
        !has_history && Format::ALL.into_iter().any(|format| self.is_just(format))
    }

    /// The same with a history.
    fn with_history(self) -> Self {
        match self {
            Self::UNKNOWN => Self::UNKNOWN,
            Present(bits) if bits & Self::PACKED != 0 => Present(bits | Self::PACKED_HISTORY),
            Present(bits) => Present(bits | Self::bit(Key::History)),
        }
    }

    /// Whether there is a whole record in this format, and nothing in the other one.
    fn is_just(self, format: Format) -> bool {
        let has_packed = self.0 & Self::PACKED != 0;
        let has_session = self.0 & Self::bit(Key::Session) != 0;
        self != Self::UNKNOWN
            && match format {
                Format::Keys => has_session && !has_packed,
                Format::Packed => has_packed && !has_session,
            }
    }
}

/// Running out of memory is counted, and not worth a message.
fn quietly() -> Flags {
    GFP_KERNEL | flags::__GFP_NOWARN
}

/// The value of an attribute, put at the beginning of `buf`, which is left with the rest.
///
/// What does not fit is too long to be ours, if there was room for everything that we write. Then
/// it is as good as absent, else this fails with `ERANGE`.
// What is used is taken off the front of it.
#[allow(clippy::mut_mut)]
fn get<'b>(
    dentry: &Dentry,
    name: &CStr,
    buf: &mut &'b mut [u8],
    room: Room,
) -> Result<Option<&'b [u8]>> {
    match xattr::get(dentry, name, buf).map(|value| value.len()) {
        Ok(length) => {
            let all = core::mem::take(buf);
            let (value, rest) = all.split_at_mut_checked(length).ok_or(EINVAL)?;
            *buf = rest;
            Ok(Some(value))
        }
        Err(error) if error == ENODATA || error == EOPNOTSUPP => Ok(None),
        Err(error) if error == ERANGE && room == Room::Plenty => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a file says about who wrote it, in both formats.
struct Old<'a> {
    session: Option<&'a [u8]>,
    history: &'a [u8],
    packed: Option<&'a [u8]>,
}

impl<'a> Old<'a> {
    /// Reads what may be there. Fails with `ERANGE` if there was too little room.
    fn read(dentry: &Dentry, present: Present, mut buf: &'a mut [u8], room: Room) -> Result<Self> {
        let mut value = |bit: u32, name: &CStr| {
            if !present.may_have(bit) {
                return Ok(None);
            }
            get(dentry, name, &mut buf, room)
        };
        Ok(Old {
            session: value(Present::bit(Key::Session), Key::Session.name())?,
            history: value(Present::bit(Key::History), Key::History.name())?.unwrap_or_default(),
            packed: value(Present::PACKED, PACKED)?,
        })
    }

    fn is_empty(&self) -> bool {
        self.session.is_none() && self.packed.is_none()
    }

    /// The sessions that it names, newest first.
    fn sessions(&self) -> impl Iterator<Item = Session<'a>> {
        let unpacked: Record<'a> = self.packed.and_then(packed::decode).unwrap_or_default();
        let session = self.session.map(|session| session.trim_ascii());
        // Not as a method: here the kernel has another of that name.
        Iterator::chain(
            sessions(session.map(Session::parse), self.history),
            sessions(unpacked.session, unpacked.history.unwrap_or_default()),
        )
    }
}

/// How much room there is for what is read and made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// As much as records mostly need.
    Usual,
    /// As much as they ever need.
    Plenty,
}

/// Where an old record is read to, and a new history made.
struct Scratch {
    old: KVec<u8>,
    history: KVec<u8>,
}

impl Scratch {
    fn new(room: Room) -> Result<Self> {
        let (old, history) = match room {
            Room::Usual => (512, 512),
            Room::Plenty => (
                PACKED_MAX + SESSION_MAX + HISTORY_TEXT_MAX,
                HISTORY_TEXT_MAX + SESSION_MAX + 1,
            ),
        };
        Ok(Scratch {
            old: KVec::from_elem(0, old, quietly())?,
            history: KVec::from_elem(0, history, quietly())?,
        })
    }
}

/// Calls `f` with scratch memory, and once more with plenty of it if that was not enough, which `f`
/// tells with [`None`].
fn with_scratch<T>(mut f: impl FnMut(&mut Scratch, Room) -> Option<Result<T>>) -> Result<T> {
    for room in [Room::Usual, Room::Plenty] {
        if let Some(result) = f(&mut Scratch::new(room)?, room) {
            return result;
        }
    }
    Err(ERANGE)
}

/// The outcome of a step that may need more room.
fn unless_short<T>(result: Result<T>, room: Room) -> Option<Result<T>> {
    match result {
        Err(error) if error == ERANGE && room == Room::Usual => None,
        result => Some(result),
    }
}

/// Whether a history that was written here may have been cut for want of room.
fn is_short(out: &Writer<'_>, room: Room) -> bool {
    room == Room::Usual && out.remaining() <= SESSION_MAX
}

/// Reads the sessions that a file names, newest first, as the text of a history. [`None`] if there
/// is no record.
pub(crate) fn read_sessions(dentry: &Dentry, present: Present) -> Result<Option<KVec<u8>>> {
    if present == Present::NONE {
        return Ok(None);
    }
    with_scratch(|scratch, room| {
        let old = Old::read(dentry, present, &mut scratch.old, room);
        let old = match unless_short(old, room)? {
            Ok(old) if old.is_empty() => return Some(Ok(None)),
            Ok(old) => old,
            Err(error) => return Some(Err(error)),
        };
        let mut out = Writer::new(&mut scratch.history);
        push_all(old.sessions(), HISTORY_MAX, &mut out);
        if is_short(&out, room) {
            return None;
        }
        let mut text = KVec::new();
        let copied = text.extend_from_slice(out.as_bytes(), quietly());
        Some(copied.map(|()| Some(text)).map_err(Error::from))
    })
}

/// Adds the sessions of a file that is being replaced to the history of the one that takes its
/// place, if that has a record. Returns what is there then, if that changes it.
pub(crate) fn add_sessions(
    file: &Writable<'_>,
    dentry: &Dentry,
    present: Present,
    past: &Sessions,
) -> Result<Option<Present>> {
    // CAST: It is a small number.
    let limit = policy::history() as usize;

    with_scratch(|scratch, room| {
        let old = Old::read(dentry, present, &mut scratch.old, room);
        let old = match unless_short(old, room)? {
            Ok(old) if old.is_empty() => return Some(Ok(None)),
            Ok(old) => old,
            Err(error) => return Some(Err(error)),
        };
        let mut out = Writer::new(&mut scratch.history);
        let all = Iterator::chain(old.sessions(), past.iter());
        let count = push_all(all, limit, &mut out);
        if is_short(&out, room) {
            return None;
        }
        if count < 2 {
            return Some(Ok(None));
        }
        let changed = replace_history(file, &old, out.as_bytes());
        Some(changed.map(|changed| changed.then(|| present.with_history())))
    })
}

/// Puts another history into a record.
fn replace_history(file: &Writable<'_>, old: &Old<'_>, history: &[u8]) -> Result<bool> {
    if let Some(packed) = old.packed.filter(|_| old.session.is_none()) {
        let mut buf = KVec::from_elem(0, PACKED_MAX, quietly())?;
        let mut out = Writer::new(&mut buf);
        packed::replace_history(packed, history, &mut out).map_err(|_| ERANGE)?;
        if out.as_bytes() == packed {
            return Ok(false);
        }
        file.set(PACKED, out.as_bytes())?;
    } else {
        if old.history == history {
            return Ok(false);
        }
        file.set(Key::History.name(), history)?;
    }
    Ok(true)
}

/// A record that is to be written.
pub(crate) struct New<'a> {
    /// Who has modified the file.
    pub(crate) identity: &'a Identity,
    /// When, in seconds since the Unix epoch.
    pub(crate) time: i64,
    /// Which attributes of a record there are.
    pub(crate) present: Present,
    /// The record that is there is of the same identity.
    pub(crate) continues: bool,
    /// What else is to enter the history.
    pub(crate) past: Option<&'a Sessions>,
}

impl New<'_> {
    /// Writes the record in the format that is in force, and returns what is there now.
    pub(crate) fn write(&self, file: &Writable<'_>, dentry: &Dentry) -> Result<Present> {
        let format = policy::format();

        if self.continues && format == Format::Keys && self.present.is_just(Format::Keys) {
            let mut ts = [0; RFC3339_LEN];
            file.set(Key::Ts.name(), format_rfc3339(self.time, &mut ts))?;
            return Ok(self.present);
        }
        let is_alone = self.continues && self.present.names_one_session();
        if (is_alone || self.present == Present::NONE) && self.past.is_none() {
            return self.write_with(file, format, None);
        }

        // CAST: It is a small number.
        let limit = policy::history() as usize;
        with_scratch(|scratch, room| {
            let old = Old::read(dentry, self.present, &mut scratch.old, room);
            let old = match unless_short(old, room)? {
                Ok(old) => old,
                Err(error) => return Some(Err(error)),
            };
            let mut out = Writer::new(&mut scratch.history);
            let new = once(Session::parse(self.identity.session()));
            let past = self.past.into_iter().flat_map(Sessions::iter);
            let earlier = Iterator::chain(old.sessions(), past);
            let count = push_all(Iterator::chain(new, earlier), limit, &mut out);
            if is_short(&out, room) {
                return None;
            }
            // One session is what the record says anyway.
            let history = (count > 1).then(|| out.as_bytes());
            Some(self.write_with(file, format, history))
        })
    }

    fn write_with(
        &self,
        file: &Writable<'_>,
        format: Format,
        history: Option<&[u8]>,
    ) -> Result<Present> {
        match format {
            Format::Keys => self.write_keys(file, history),
            Format::Packed => self.write_packed(file, history),
        }
    }

    fn write_keys(&self, file: &Writable<'_>, history: Option<&[u8]>) -> Result<Present> {
        let mut ts = [0; RFC3339_LEN];
        let record = [
            (Key::Session, Some(self.identity.session())),
            (Key::Tool, Some(self.identity.tool())),
            (Key::Turn, self.identity.turn()),
            (Key::Intent, self.identity.intent()),
            (Key::Ts, Some(format_rfc3339(self.time, &mut ts))),
            (Key::History, history),
        ];

        let mut present = Present::KNOWN;
        let mut keys = record.iter();
        while let Some((key, value)) = keys.next() {
            let done = match value {
                Some(value) => {
                    present |= Present::bit(*key);
                    file.set(key.name(), value)
                }
                None => self.remove(file, key.name(), Present::bit(*key)),
            };
            if let Err(error) = done {
                // What was there is not ours, and what could not be written is not there.
                let _ = remove(file, key.name());
                for (key, _) in keys {
                    let _ = remove(file, key.name());
                }
                let _ = remove(file, PACKED);
                return Err(error);
            }
        }
        self.remove(file, PACKED, Present::PACKED)?;
        Ok(Present(present))
    }

    fn write_packed(&self, file: &Writable<'_>, history: Option<&[u8]>) -> Result<Present> {
        let record = Packed {
            ts: self.time,
            session: self.identity.session(),
            tool: Some(self.identity.tool()),
            turn: self.identity.turn(),
            intent: self.identity.intent(),
            history,
        };

        /// Longest label, and longest time.
        const LABELS: usize = "ts=;s=;t=;n=;i=;h=".len() + "c=;p=4294967295;u=4294967295".len();
        const TIME: usize = "-9223372036854775808".len();
        let length = self.identity.stored_len() + history.map_or(0, <[u8]>::len) + LABELS + TIME;

        let mut short = [0; 128];
        let mut long;
        let buf: &mut [u8] = if length <= short.len() {
            &mut short
        } else {
            long = KVec::from_elem(0, length.min(PACKED_MAX), quietly())?;
            &mut long
        };
        let mut out = Writer::new(buf);
        packed::encode(&record, &mut out).map_err(|_| EINVAL)?;

        let mut done = file.set(PACKED, out.as_bytes());
        if self.present.may_have_keys() {
            for key in Key::ALL {
                if done.is_ok() {
                    done = self.remove(file, key.name(), Present::bit(key));
                }
            }
        }
        if let Err(error) = done {
            // What was there is not ours.
            for key in Key::ALL {
                let _ = remove(file, key.name());
            }
            if file.set(PACKED, out.as_bytes()).is_err() {
                let _ = remove(file, PACKED);
            }
            return Err(error);
        }
        let present = Present(Present::KNOWN | Present::PACKED);
        Ok(history.map_or(present, |_| present.with_history()))
    }

    /// Makes sure that an attribute is not there.
    fn remove(&self, file: &Writable<'_>, name: &CStr, bit: u32) -> Result {
        if !self.present.may_have(bit) {
            return Ok(());
        }
        // Asking is cheaper than a change that turns out to be none.
        let is_there = self.present != Present::UNKNOWN || file.has(name);
        if is_there {
            remove(file, name)
        } else {
            Ok(())
        }
    }
}

/// Makes sure that an attribute is not there.
fn remove(file: &Writable<'_>, name: &CStr) -> Result {
    match file.remove(name) {
        Err(error) if error == ENODATA => Ok(()),
        result => result,
    }
}
