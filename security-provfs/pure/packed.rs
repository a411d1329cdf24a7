// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! The `packed` format: a whole record as one line of text in one xattr.
//!
//! ```text
//! ts=1795252353;s=01KS9ABCDEFGHJKMNPQRSTVWXY;t=Edit;n=42;i=self-review;h=01KS9...,01KS8...
//! ts=1795252353;c=bash>make;p=4242;u=1000;t=bash
//! ```
//!
//! | label | field |
//! |---|---|
//! | `ts` | time in unix seconds |
//! | `s` | session; or, of a fallback session, |
//! | `c`, `p`, `u` | chain of comms, pid, user id |
//! | `t`, `n`, `i` | tool, turn, intent |
//! | `h` | history |
//!
//! Values are as in the xattrs of the `keys` format. Readers pass over labels that they do not
//! know and take the fields in any order.

use super::{
    fallback::PREFIX,
    history,
    limits::PACKED_MAX,
    record::{
        split_once,
        ParsedFallback,
        Record,
        Session, //
    },
    text::{
        self,
        Full,
        Writer, //
    }, //
};

/// A record to be packed. Byte strings are as stored in the `keys` format.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// When, in unix seconds.
    pub ts: i64,
    /// Who. A fallback session is stored without variable and working directory.
    pub session: &'a [u8],
    /// Through what.
    pub tool: Option<&'a [u8]>,
    /// In which turn.
    pub turn: Option<&'a [u8]>,
    /// To what end.
    pub intent: Option<&'a [u8]>,
    /// Which sessions, newest first.
    pub history: Option<&'a [u8]>,
}

/// Writes a record, in at most [`PACKED_MAX`] bytes.
///
/// If it does not fit, the oldest entries of the history go first, then intent, turn and tool.
/// Fails, and writes nothing, if time and session do not fit.
///
/// # Examples
///
/// ```
/// # use provfs::pure::{packed::{encode, Packed}, text::Writer};
/// let mut buf = [0; 128];
/// let mut out = Writer::new(&mut buf);
/// let record = Packed {
///     ts: 1_795_252_353,
///     session: b"comm-chain:bash>make;cwd:/src;pid:4242;uid:1000",
///     tool: Some(b"bash"),
///     turn: None,
///     intent: None,
///     history: None,
/// };
/// encode(&record, &mut out)?;
/// assert_eq!(out.as_bytes(), b"ts=1795252353;c=bash>make;p=4242;u=1000;t=bash");
/// # Ok::<(), provfs::pure::text::Full>(())
/// ```
pub fn encode(record: &Packed<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    let start = out.len();
    let written = encode_parts(record, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn encode_parts(record: &Packed<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    let end = out.len().saturating_add(PACKED_MAX);
    out.push(b"ts=")?;
    out.push_i64(record.ts)?;
    match fallback(record.session) {
        Some(who) => {
            field(b";c=", who.chain, end, out)?;
            for (label, number) in [(b";p=", who.pid), (b";u=", who.uid)] {
                if let Some(number) = number {
                    out.push(label)?;
                    out.push_u64(u64::from(number))?;
                }
            }
        }
        None => field(b";s=", record.session, end, out)?,
    }
    for (label, value) in [
        (b";t=", record.tool),
        (b";n=", record.turn),
        (b";i=", record.intent),
    ] {
        let Some(value) = value else {
            continue;
        };
        if field(label, value, end, out).is_err() {
            return Ok(());
        }
    }
    push_history(record.history.unwrap_or_default(), end, out);
    Ok(())
}

/// A fallback session in its parts. Most sessions are none, and are not looked at any further.
fn fallback(session: &[u8]) -> Option<ParsedFallback<'_>> {
    if !session.starts_with(PREFIX) {
        return None;
    }
    match Session::parse(session) {
        Session::Fallback(who) => Some(who),
        _ => None,
    }
}

/// Writes a label and a value, both or none, no further than `end`.
fn field(label: &[u8], value: &[u8], end: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    let start = out.len();
    let mut written = out.push(label).and_then(|()| out.push(value));
    if out.len() > end {
        written = Err(Full);
    }
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Writes a packed record that was stored with another history, in at most [`PACKED_MAX`] bytes.
///
/// Everything else stays as it is, in its order. If it does not fit, the oldest entries of the
/// history go. Fails, and writes nothing, if the rest of the record does not fit.
pub fn replace_history(stored: &[u8], history: &[u8], out: &mut Writer<'_>) -> Result<(), Full> {
    let start = out.len();
    let end = start.saturating_add(PACKED_MAX);
    let rest = stored
        .split(|&byte| byte == b';')
        .filter(|field| !field.starts_with(b"h="));
    let mut separator: &[u8] = b"";
    for part in rest {
        if let Err(full) = field(separator, part, end, out) {
            out.truncate(start);
            return Err(full);
        }
        separator = b";";
    }
    push_history(history, end, out);
    Ok(())
}

/// Writes the field of a history, with as many entries as fit, no further than `end`.
fn push_history(history: &[u8], end: usize, out: &mut Writer<'_>) {
    let mut label: &[u8] = b";h=";
    for entry in history::entries(history) {
        if field(label, entry, end, out).is_err() {
            break;
        }
        label = b",";
    }
}

/// Reads a packed record. `None` if there is neither time nor session in it.
///
/// Where a field stands twice, the first one counts.
pub fn decode(stored: &[u8]) -> Option<Record<'_>> {
    let mut record = Record::default();
    let mut who: Option<ParsedFallback<'_>> = None;
    let (mut pid, mut uid) = (None, None);
    for (label, value) in stored
        .split(|&byte| byte == b';')
        .filter_map(|field| split_once(field, b'='))
    {
        let room = match label {
            b"ts" => &mut record.ts,
            b"t" => &mut record.tool,
            b"n" => &mut record.turn,
            b"i" => &mut record.intent,
            b"h" => &mut record.history,
            _ => {
                match label {
                    b"s" => record.session = record.session.or(Some(Session::parse(value))),
                    b"p" => pid = pid.or_else(|| text::parse_u32(value)),
                    b"u" => uid = uid.or_else(|| text::parse_u32(value)),
                    b"c" => who = who.or(Some(chain(value))),
                    _ => {}
                }
                continue;
            }
        };
        *room = room.or(Some(value));
    }
    if let (None, Some(who)) = (record.session, who) {
        record.session = Some(Session::Fallback(ParsedFallback { pid, uid, ..who }));
    }
    (record.session.is_some() || record.time().is_some()).then_some(record)
}

/// A fallback session of which only the chain is known.
fn chain(stored: &[u8]) -> ParsedFallback<'_> {
    ParsedFallback {
        chain: stored,
        env: None,
        cwd: None,
        pid: None,
        uid: None,
    }
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_packed)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    const TS: i64 = 1_795_252_353;

    const ID: &[u8] = b"01KS9ABCDEFGHJKMNPQRSTVWXY";

    const RECORD: Packed<'_> = Packed {
        ts: TS,
        session: ID,
        tool: Some(b"Edit"),
        turn: Some(b"42"),
        intent: Some(b"self-review"),
        history: None,
    };

    static WHOLE: &[u8] =
        b"ts=1795252353;s=01KS9ABCDEFGHJKMNPQRSTVWXY;t=Edit;n=42;i=self-review;h=a,b,c";

    fn packs(record: &Packed<'_>, room: usize, want: &[u8]) -> bool {
        let mut buf = [0; 128];
        let (buf, _) = buf.split_at_mut_checked(room).unwrap_or_default();
        let mut out = Writer::new(buf);
        let encoded = encode(record, &mut out);
        encoded.is_ok() != want.is_empty() && out.as_bytes() == want
    }

    #[test]
    fn records_are_packed() {
        static ROWS: [(Packed<'_>, &[u8]); 5] = [
            (
                RECORD,
                b"ts=1795252353;s=01KS9ABCDEFGHJKMNPQRSTVWXY;t=Edit;n=42;i=self-review",
            ),
            (
                Packed {
                    tool: None,
                    turn: None,
                    intent: None,
                    history: Some(b"a,b"),
                    ..RECORD
                },
                b"ts=1795252353;s=01KS9ABCDEFGHJKMNPQRSTVWXY;h=a,b",
            ),
            (
                Packed {
                    session: b"comm-chain:bash>make;env:K=v;cwd:/;pid:4242;uid:1000",
                    turn: None,
                    intent: None,
                    ..RECORD
                },
                b"ts=1795252353;c=bash>make;p=4242;u=1000;t=Edit",
            ),
            (
                Packed {
                    ts: -1,
                    session: b"comm:x:pid:7",
                    tool: None,
                    turn: None,
                    intent: None,
                    history: None,
                },
                b"ts=-1;s=comm:x:pid:7",
            ),
            (
                Packed {
                    session: b"comm-chain:x;ui",
                    turn: None,
                    intent: None,
                    ..RECORD
                },
                b"ts=1795252353;c=x;t=Edit",
            ),
        ];
        let wrong = ROWS
            .iter()
            .position(|(record, want)| !packs(record, 128, want));
        assert_eq!(wrong, None);
    }

    #[test]
    fn what_does_not_fit_goes_in_order() {
        // Where the record may end: behind time and session, tool, turn, intent, and each entry.
        static ENDS: [usize; 7] = [42, 49, 54, 68, 72, 74, 76];
        let record = Packed {
            history: Some(b"a,b,c"),
            ..RECORD
        };
        let wrong = (0..100).find(|&room| {
            let end = ENDS.iter().rev().find(|&&end| end <= room);
            let want = WHOLE.get(..end.copied().unwrap_or(0)).unwrap_or_default();
            !packs(&record, room, want)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn a_history_is_replaced() {
        static ROWS: [(&[u8], &[u8], &[u8]); 6] = [
            (b"ts=1;s=x;t=y", b"x,z", b"ts=1;s=x;t=y;h=x,z"),
            (b"ts=1;s=x;t=y;h=x,w", b"x,z", b"ts=1;s=x;t=y;h=x,z"),
            (b"ts=1;h=x,w;s=x", b"x,z", b"ts=1;s=x;h=x,z"),
            (b"ts=1;s=x;h=x,w", b"", b"ts=1;s=x"),
            // What is not known stays.
            (b"ts=1;k=v;;s=x", b"a,b", b"ts=1;k=v;;s=x;h=a,b"),
            (b"hi=1;s=x", b"a,b", b"hi=1;s=x;h=a,b"),
        ];
        let wrong = ROWS.iter().position(|&(stored, history, want)| {
            let mut buf = [0; 128];
            let mut out = Writer::new(&mut buf);
            replace_history(stored, history, &mut out).is_err() || out.as_bytes() != want
        });
        assert_eq!(wrong, None);

        // The oldest go first, and nothing is written if the rest does not fit.
        let mut buf = [0; 14];
        let mut out = Writer::new(&mut buf);
        assert!(replace_history(b"ts=1;s=x", b"a,b,c", &mut out).is_ok());
        assert_eq!(out.as_bytes(), b"ts=1;s=x;h=a,b");
        let mut out = Writer::new(&mut buf);
        assert!(replace_history(b"ts=1;s=xxxxxxxxx", b"a,b", &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn packed_records_are_read() {
        let ts = Some(b"1795252353".as_slice());
        let whole = Record {
            session: Some(Session::Declared(ID)),
            tool: Some(b"Edit"),
            turn: Some(b"42"),
            intent: Some(b"self-review"),
            ts,
            history: Some(b"a,b,c"),
        };
        assert_eq!(decode(WHOLE), Some(whole));
        let fallback = Record {
            session: Some(Session::Fallback(ParsedFallback {
                pid: Some(7),
                uid: Some(0),
                ..chain(b"bash>make")
            })),
            ts,
            ..Record::default()
        };
        assert_eq!(decode(b"ts=1795252353;c=bash>make;p=7;u=0"), Some(fallback));
        // Any order, unknown fields, other forms of time, the first of two.
        let shuffled = b"u=0;x=1;;c=bash>make;p=7;y;ts=1795252353;p=8;ts=1";
        assert_eq!(decode(shuffled), Some(fallback));
        let rfc3339 = decode(b"ts=2026-11-21T09:12:33Z").and_then(|record| record.time());
        assert_eq!(rfc3339.map(|time| time.secs), Some(TS));
        // A session goes before a chain.
        let both = decode(b"c=bash;s=a").and_then(|record| record.session);
        assert_eq!(both, Some(Session::Declared(b"a")));
    }

    #[test]
    fn what_is_no_record_is_none() {
        static ROWS: [&[u8]; 7] = [b"", b";", b"ts", b"ts=now", b"t=Edit", b"x=1", b"\xff\0"];
        assert_eq!(ROWS.iter().position(|b| decode(b).is_some()), None);
    }
}
