// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! The history of a file: the most recent distinct sessions that wrote it, newest first, separated
//! by commas.
//!
//! A declared session is an entry as it is stored. A fallback session enters as
//! `comm:<comm>:uid:<uid>`, without what is different each time, so that a tool run a hundred
//! times by one user is one entry. There is a history only once there are two sessions: one is
//! what the record says anyway.

use super::{
    limits::{
        COMM_MAX,
        HISTORY_MAX,
        HISTORY_TEXT_MAX,
        SESSION_MAX, //
    },
    record::Session,
    text::{
        self,
        escaped_len,
        Escape,
        Full,
        Writer, //
    },
};

/// The entries of a stored history, newest first. Each is read with [`Session::parse`].
pub fn entries(stored: &[u8]) -> impl Iterator<Item = &[u8]> {
    stored
        .split(|&byte| byte == b',')
        // An earlier writer put blanks behind its commas.
        .map(|entry| entry.trim_ascii())
        .filter(|entry| !entry.is_empty())
}

/// Writes a session in the form in which it enters a history.
///
/// Fails, and writes nothing, if it does not fit.
pub fn push_entry(session: &Session<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    let start = out.len();
    let written = match *session {
        Session::Declared(stored) | Session::AgentNs(stored) if stored.len() <= SESSION_MAX => {
            // Blanks around an entry are not read back.
            out.push(stored.trim_ascii())
        }
        Session::Fallback(who) => push_comm(who.writer(), who.uid, out),
        Session::Legacy { comm, uid, .. } => push_comm(comm, uid, out),
        // Not written by us, and it may hold anything: escaped, it is an entry like others.
        Session::Declared(raw) | Session::AgentNs(raw) | Session::Opaque(raw) => {
            push_foreign(raw.trim_ascii(), Escape::Value, SESSION_MAX, out)
        }
    };
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Writes `comm:<comm>[:uid:<uid>]`. The comm is as stored, or as an earlier writer left it.
fn push_comm(comm: &[u8], uid: Option<u32>, out: &mut Writer<'_>) -> Result<(), Full> {
    out.push(b"comm:")?;
    if text::is_stored(comm) && !comm.contains(&b':') && comm.len() <= COMM_MAX {
        out.push(comm)?;
    } else {
        push_foreign(comm, Escape::Part, COMM_MAX, out)?;
    }
    if let Some(uid) = uid {
        out.push(b":uid:")?;
        out.push_u64(u64::from(uid))?;
    }
    Ok(())
}

/// Writes a value that was never escaped, in at most `max` bytes. It is not cut for want of room,
/// since cut differently it would be another entry.
fn push_foreign(raw: &[u8], escape: Escape, max: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    if out.remaining() < escaped_len(raw, escape).min(max) {
        return Err(Full);
    }
    out.push_escaped(raw, escape, max);
    Ok(())
}

/// The sessions of a record, newest first: the one that it names, and those of its history.
pub fn sessions<'a>(
    named: Option<Session<'a>>,
    stored_history: &'a [u8],
) -> impl Iterator<Item = Session<'a>> {
    named
        .into_iter()
        .chain(entries(stored_history).map(Session::parse))
}

/// Writes a history of these sessions, newest first, and returns the number of its entries.
///
/// At most `limit` entries and [`HISTORY_TEXT_MAX`] bytes are kept, the newest, each of them once.
/// Where that leaves fewer than two, nothing is written and the answer is 0.
pub fn collect<'a>(
    sessions: impl IntoIterator<Item = Session<'a>>,
    limit: usize,
    out: &mut Writer<'_>,
) -> usize {
    let start = out.len();
    let count = push_all(sessions, limit, out);
    if count < 2 {
        out.truncate(start);
        return 0;
    }
    count
}

/// Writes the entries of [`collect`], even if there is only one.
pub fn push_all<'a>(
    sessions: impl IntoIterator<Item = Session<'a>>,
    limit: usize,
    out: &mut Writer<'_>,
) -> usize {
    let start = out.len();
    let mut count = 0;
    for session in sessions {
        if count >= limit.min(HISTORY_MAX) || !push_distinct(&session, start, out) {
            break;
        }
        count = entries(out.as_bytes().get(start..).unwrap_or_default()).count();
    }
    count
}

/// Writes the history of a record that a new session replaces, and returns the number of its
/// entries; see [`collect`].
///
/// `new` is the session of the new record; `old` and `old_history` are those of the record that
/// was there, all as stored.
///
/// # Examples
///
/// ```
/// # use provfs::pure::{history::merge, text::Writer};
/// let mut buf = [0; 128];
/// let mut out = Writer::new(&mut buf);
/// let count = merge(b"s3", Some(b"comm-chain:make;pid:7;uid:0"), b"s2,s3,s1", 5, &mut out);
/// assert_eq!((count, out.as_bytes()), (4, &b"s3,comm:make:uid:0,s2,s1"[..]));
/// ```
pub fn merge(
    new: &[u8],
    old: Option<&[u8]>,
    old_history: &[u8],
    limit: usize,
    out: &mut Writer<'_>,
) -> usize {
    let new = Session::parse(new.trim_ascii());
    let old = sessions(old.map(|old| Session::parse(old.trim_ascii())), old_history);
    collect([new].into_iter().chain(old), limit, out)
}

/// Writes one entry behind those since `start`, unless it is among them. Tells whether there was
/// room.
fn push_distinct(session: &Session<'_>, start: usize, out: &mut Writer<'_>) -> bool {
    let end = out.len();
    if end > start && out.push(b",").is_err() {
        return false;
    }
    let entry_at = out.len();
    let fits = push_entry(session, out).is_ok() && out.len() - start <= HISTORY_TEXT_MAX;
    let all = out.as_bytes();
    let entry = all.get(entry_at..).unwrap_or_default();
    if fits && entry.is_empty() {
        out.truncate(end);
        return true;
    }
    let known = entries(all.get(start..end).unwrap_or_default()).any(|other| other == entry);
    if !fits || known {
        out.truncate(end);
    }
    fits
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_history)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    /// The new session, the old one, the old history, the limit, and the new history.
    type Row = (
        &'static [u8],
        Option<&'static [u8]>,
        &'static [u8],
        usize,
        &'static [u8],
    );

    static ROWS: [Row; 18] = [
        // One session is no history.
        (b"a", None, b"", 5, b""),
        (b"a", Some(b"a"), b"", 5, b""),
        (b"a", Some(b"a"), b"a", 5, b""),
        (b"b", Some(b"a"), b"", 5, b"b,a"),
        (b"b", Some(b"b"), b"b,a", 5, b"b,a"),
        (b"a", Some(b"b"), b"b,a", 5, b"a,b"),
        (b"c", Some(b"b"), b"b,a", 5, b"c,b,a"),
        (b"c", Some(b"b"), b"b,a", 2, b"c,b"),
        (b"c", Some(b"b"), b"b,a", 1, b""),
        (b"c", Some(b"b"), b"b,a", 0, b""),
        // A record without a history, or with one that does not begin with its session.
        (b"c", None, b"b,a", 5, b"c,b,a"),
        (b"c", Some(b"x"), b"b,a", 5, b"c,x,b,a"),
        // A tool that runs again and again is one entry.
        (
            b"comm-chain:make>sh;pid:9;uid:0",
            Some(b"comm-chain:make;cwd:/;pid:8;uid:0"),
            b"comm:make:uid:0,a",
            5,
            b"comm:make:uid:0,a",
        ),
        (
            b"a",
            Some(b"comm-chain:make;pid:8;uid:0"),
            b"",
            5,
            b"a,comm:make:uid:0",
        ),
        // What earlier writers left.
        (b"a", Some(b"comm:x:pid:7:uid:0"), b"", 5, b"a,comm:x:uid:0"),
        (
            b"a",
            Some(b"b"),
            b" b , comm:x:pid:7,, c",
            5,
            b"a,b,comm:x,c",
        ),
        (b"a", Some(b"comm:k/0:1:pid:7"), b"", 5, b"a,comm:k/0%3A1"),
        (b"a", Some(b"b,c;d"), b"", 5, b"a,b%2Cc%3Bd"),
    ];

    #[test]
    fn the_newest_distinct_sessions_stay() {
        let wrong = ROWS.iter().position(|&(new, old, history, limit, want)| {
            let mut buf = [0; 128];
            let mut out = Writer::new(&mut buf);
            let count = merge(new, old, history, limit, &mut out);
            count != entries(want).count() || out.as_bytes() != want
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn merging_again_changes_nothing() {
        let wrong = ROWS.iter().position(|&(new, _, _, limit, history)| {
            let mut buf = [0; 128];
            let mut out = Writer::new(&mut buf);
            merge(new, Some(new), history, limit, &mut out);
            out.as_bytes() != history
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn old_entries_fall_off_whole() {
        let mut buf = [0; 12];
        let mut out = Writer::new(&mut buf);
        assert_eq!(merge(b"new", Some(b"old"), b"older,oldest", 5, &mut out), 2);
        assert_eq!(out.as_bytes(), b"new,old");

        static LONG: [u8; 255] = [b'x'; 255];
        let mut buf = [0; 8];
        let mut out = Writer::new(&mut buf);
        assert_eq!(merge(b"new", Some(&LONG), b"a", 5, &mut out), 0);
        assert!(out.is_empty());
    }
}
