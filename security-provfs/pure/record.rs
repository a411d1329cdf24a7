// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! The record of a file: the names of its xattrs, the values in them, and what readers make of
//! these.
//!
//! Writers encode what they declare or know; the stored form of a value is bounded and free of
//! separators (see [`text`]). Readers decode anything: what this version writes, what its
//! predecessors wrote, and bytes that someone else put there. Nothing that is read can fail, it
//! can only be [`Session::Opaque`].

use core::ffi::CStr;

use super::{
    fallback,
    limits::{
        INTENT_MAX,
        SESSION_MAX,
        TOOL_MAX,
        TURN_MAX, //
    },
    text::{
        self,
        Escape,
        Fit,
        Writer, //
    },
    time::{
        parse_ts,
        Timestamp, //
    },
};

/// The xattr of the `packed` format, which holds a whole record.
pub const PACKED: &CStr = c"user.prov";

/// The xattrs of the `keys` format, which hold a field each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `user.prov.session`
    Session,
    /// `user.prov.tool`
    Tool,
    /// `user.prov.turn`
    Turn,
    /// `user.prov.intent`
    Intent,
    /// `user.prov.ts`
    Ts,
    /// `user.prov.history`
    History,
}

impl Key {
    /// All keys, in the order of [`Key::index`].
    pub const ALL: [Key; 6] = [
        Key::Session,
        Key::Tool,
        Key::Turn,
        Key::Intent,
        Key::Ts,
        Key::History,
    ];

    /// The position in [`Key::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        // CAST: The enum has no fields, and six variants.
        self as usize
    }

    /// The full name of the xattr.
    pub const fn name(self) -> &'static CStr {
        match self {
            Key::Session => SESSION,
            Key::Tool => TOOL,
            Key::Turn => TURN,
            Key::Intent => INTENT,
            Key::Ts => TS,
            Key::History => HISTORY,
        }
    }
}

/// Who wrote the file, see [`Session`].
pub const SESSION: &CStr = c"user.prov.session";
/// Through what.
pub const TOOL: &CStr = c"user.prov.tool";
/// In which turn of the session.
pub const TURN: &CStr = c"user.prov.turn";
/// To what end.
pub const INTENT: &CStr = c"user.prov.intent";
/// When, see [`super::time`].
pub const TS: &CStr = c"user.prov.ts";
/// Which sessions before, see [`super::history`].
pub const HISTORY: &CStr = c"user.prov.history";

/// Writes a declared session, in at most [`SESSION_MAX`] bytes.
///
/// A session that begins as a fallback string does has its first colon escaped, so that no
/// declaration passes for what the kernel knows.
pub fn encode_declared_session(raw: &[u8], out: &mut Writer<'_>) -> Fit {
    for prefix in [LEGACY_PREFIX, fallback::PREFIX] {
        let Some((word, rest)) = raw
            .strip_prefix(prefix)
            .and_then(|rest| Some((prefix.strip_suffix(b":")?, rest)))
        else {
            continue;
        };
        let start = out.len();
        return match (
            out.push_escaped(word, Escape::Part, SESSION_MAX),
            out.push_escaped(b":", Escape::Part, SESSION_MAX),
        ) {
            (Fit::Whole, Fit::Whole) => {
                let used = out.len() - start;
                out.push_escaped(rest, Escape::Value, SESSION_MAX - used)
            }
            _ => Fit::Cut,
        };
    }
    out.push_escaped(raw, Escape::Value, SESSION_MAX)
}

/// Writes a tool, in at most [`TOOL_MAX`] bytes.
pub fn encode_tool(raw: &[u8], out: &mut Writer<'_>) -> Fit {
    out.push_escaped(raw, Escape::Value, TOOL_MAX)
}

/// Writes a turn, in at most [`TURN_MAX`] bytes.
pub fn encode_turn(raw: &[u8], out: &mut Writer<'_>) -> Fit {
    out.push_escaped(raw, Escape::Value, TURN_MAX)
}

/// Writes an intent, in at most [`INTENT_MAX`] bytes.
pub fn encode_intent(raw: &[u8], out: &mut Writer<'_>) -> Fit {
    out.push_escaped(raw, Escape::Value, INTENT_MAX)
}

/// How the short form of an undeclared session begins.
const LEGACY_PREFIX: &[u8] = b"comm:";

/// Digits of the id of an agent namespace.
const AGENT_NS_LEN: usize = 32;

/// Who wrote a file, as its record says. Byte strings are as stored; [`text::unescape`] gives the
/// original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session<'a> {
    /// What the process declared.
    Declared(&'a [u8]),
    /// The id of an agent namespace: 32 lower-case hexadecimal digits. A declared session of that
    /// form cannot be told from it.
    AgentNs(&'a [u8]),
    /// The process declared nothing, and this is what the kernel knew about it.
    Fallback(ParsedFallback<'a>),
    /// The short form of the same: `comm:<comm>[:pid:<pid>][:uid:<uid>]`. Earlier writers left it
    /// as a session, and a fallback session enters a history as it.
    Legacy {
        /// The comm of the writer.
        comm: &'a [u8],
        /// Its pid.
        pid: Option<u32>,
        /// Its user id.
        uid: Option<u32>,
    },
    /// Bytes that are none of the above. They are not escaped.
    Opaque(&'a [u8]),
}

impl<'a> Session<'a> {
    /// Reads a stored session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use provfs::pure::record::Session;
    /// assert_eq!(Session::parse(b"01KS9A"), Session::Declared(b"01KS9A"));
    /// let Session::Fallback(who) = Session::parse(b"comm-chain:bash>make;pid:7;uid:0") else {
    ///     panic!("not a fallback session");
    /// };
    /// assert!(who.comms().eq([&b"bash"[..], b"make"]));
    /// ```
    pub fn parse(stored: &'a [u8]) -> Self {
        let parsed = if let Some(parts) = stored.strip_prefix(fallback::PREFIX) {
            ParsedFallback::parse(parts).map(Session::Fallback)
        } else if let Some(parts) = stored.strip_prefix(LEGACY_PREFIX) {
            parse_legacy(parts)
        } else if is_agent_ns(stored) {
            Some(Session::AgentNs(stored))
        } else if !stored.is_empty() && text::is_stored(stored) {
            Some(Session::Declared(stored))
        } else {
            None
        };
        parsed.unwrap_or(Session::Opaque(stored))
    }
}

fn is_agent_ns(stored: &[u8]) -> bool {
    stored.len() == AGENT_NS_LEN
        && stored
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads what follows `comm:`, from its end: an earlier writer did not escape the colons in a
/// comm.
fn parse_legacy(parts: &[u8]) -> Option<Session<'_>> {
    let (rest, uid) = split_number(parts, b":uid:");
    let (comm, pid) = split_number(rest, b":pid:");
    if comm.is_empty() && pid.is_none() && uid.is_none() {
        return None;
    }
    Some(Session::Legacy { comm, pid, uid })
}

/// Splits a label and a number off the end.
fn split_number<'a>(stored: &'a [u8], label: &[u8]) -> (&'a [u8], Option<u32>) {
    let digits = stored
        .iter()
        .rev()
        .take_while(|b| b.is_ascii_digit())
        .count();
    stored
        .len()
        .checked_sub(digits)
        .and_then(|at| stored.split_at_checked(at))
        .and_then(|(head, digits)| {
            Some((head.strip_suffix(label)?, Some(text::parse_u32(digits)?)))
        })
        .unwrap_or((stored, None))
}

/// The parts of a fallback session, as stored. See [`fallback`] for their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedFallback<'a> {
    /// The comms of the writer and its ancestors, with `>` between them.
    pub chain: &'a [u8],
    /// A variable of its environment, name and value.
    pub env: Option<(&'a [u8], &'a [u8])>,
    /// The working directory. It begins with `...` if its beginning is missing.
    pub cwd: Option<&'a [u8]>,
    /// The pid. `None` in damaged strings only, which an earlier writer left.
    pub pid: Option<u32>,
    /// The user id, likewise.
    pub uid: Option<u32>,
}

impl<'a> ParsedFallback<'a> {
    /// The comms, the writer first.
    pub fn comms(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.chain.split(|&byte| byte == b'>')
    }

    /// The comm of the writer.
    pub fn writer(&self) -> &'a [u8] {
        self.comms().next().unwrap_or_default()
    }

    /// Reads what follows `comm-chain:`. Unknown fields are passed over.
    ///
    /// Where a field stands twice, the last one counts: an earlier writer did not escape what
    /// comes from the process, but wrote it before what it knew itself.
    fn parse(parts: &'a [u8]) -> Option<Self> {
        let mut fields = parts.split(|&byte| byte == b';');
        let mut parsed = ParsedFallback {
            chain: fields.next()?,
            env: None,
            cwd: None,
            pid: None,
            uid: None,
        };
        for field in fields {
            let Some((label, value)) = split_once(field, b':') else {
                continue;
            };
            match label {
                b"env" => parsed.env = split_once(value, b'=').or(parsed.env),
                b"cwd" => parsed.cwd = Some(value),
                b"pid" => parsed.pid = text::parse_u32(value).or(parsed.pid),
                b"uid" => parsed.uid = text::parse_u32(value).or(parsed.uid),
                _ => {}
            }
        }
        Some(parsed)
    }
}

/// Splits at the first `separator`, which is in neither part.
pub(super) fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |&byte| byte == separator);
    Some((parts.next()?, parts.next()?))
}

/// A decoded record, of either format. Byte strings are as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Who.
    pub session: Option<Session<'a>>,
    /// Through what.
    pub tool: Option<&'a [u8]>,
    /// In which turn.
    pub turn: Option<&'a [u8]>,
    /// To what end.
    pub intent: Option<&'a [u8]>,
    /// When, see [`Record::time`].
    pub ts: Option<&'a [u8]>,
    /// Which sessions, newest first, see [`super::history::entries`].
    pub history: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Takes the value of one xattr of the `keys` format into the record.
    pub fn set(&mut self, key: Key, stored: &'a [u8]) {
        match key {
            Key::Session => self.session = Some(Session::parse(stored)),
            Key::Tool => self.tool = Some(stored),
            Key::Turn => self.turn = Some(stored),
            Key::Intent => self.intent = Some(stored),
            Key::Ts => self.ts = Some(stored),
            Key::History => self.history = Some(stored),
        }
    }

    /// When, as a point in time. `None` also if the stored bytes are none.
    pub fn time(&self) -> Option<Timestamp> {
        parse_ts(self.ts?)
    }
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_record)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    const WHO: ParsedFallback<'_> = ParsedFallback {
        chain: b"cc1>make",
        env: None,
        cwd: None,
        pid: Some(7),
        uid: Some(0),
    };

    const fn legacy(comm: &[u8], pid: Option<u32>, uid: Option<u32>) -> Session<'_> {
        Session::Legacy { comm, pid, uid }
    }

    static SESSIONS: [(&[u8], Session<'_>); 25] = [
        (b"01KS9A", Session::Declared(b"01KS9A")),
        (b"a:b", Session::Declared(b"a:b")),
        (b"a%3Bb", Session::Declared(b"a%3Bb")),
        (b"comm%3Ax", Session::Declared(b"comm%3Ax")),
        (b"comm", Session::Declared(b"comm")),
        (
            b"0123456789abcdef0123456789abcdef",
            Session::AgentNs(b"0123456789abcdef0123456789abcdef"),
        ),
        (
            b"0123456789ABCDEF0123456789ABCDEF",
            Session::Declared(b"0123456789ABCDEF0123456789ABCDEF"),
        ),
        (b"comm-chain:cc1>make;pid:7;uid:0", Session::Fallback(WHO)),
        (
            b"comm-chain:cc1>make;env:K=v:=;cwd:/a:b;pid:7;uid:0",
            Session::Fallback(ParsedFallback {
                env: Some((b"K", b"v:=")),
                cwd: Some(b"/a:b"),
                ..WHO
            }),
        ),
        // A field of a later version.
        (
            b"comm-chain:cc1>make;new:x;pid:7;uid:0;x",
            Session::Fallback(WHO),
        ),
        // What an earlier writer let in, and what it cut off.
        (
            b"comm-chain:cc1>make;env:K=v;uid:5;pid:7;uid:0",
            Session::Fallback(ParsedFallback {
                env: Some((b"K", b"v")),
                ..WHO
            }),
        ),
        (
            b"comm-chain:cc1>make;pid:7;ui",
            Session::Fallback(ParsedFallback { uid: None, ..WHO }),
        ),
        (
            b"comm-chain:",
            Session::Fallback(ParsedFallback {
                chain: b"",
                pid: None,
                uid: None,
                ..WHO
            }),
        ),
        (b"comm:make:pid:7:uid:0", legacy(b"make", Some(7), Some(0))),
        (b"comm:make:pid:7", legacy(b"make", Some(7), None)),
        (b"comm:make:uid:0", legacy(b"make", None, Some(0))),
        (b"comm:make", legacy(b"make", None, None)),
        (b"comm:a:b:pid:7:uid:0", legacy(b"a:b", Some(7), Some(0))),
        (b"comm::pid:7", legacy(b"", Some(7), None)),
        (b"comm:make:pid:", legacy(b"make:pid:", None, None)),
        (b"comm:", Session::Opaque(b"comm:")),
        (b"", Session::Opaque(b"")),
        (b"a;b", Session::Opaque(b"a;b")),
        (b"50%", Session::Opaque(b"50%")),
        (b"a\n", Session::Opaque(b"a\n")),
    ];

    #[test]
    fn every_form_of_a_session_is_read() {
        let wrong = SESSIONS
            .iter()
            .position(|&(stored, session)| Session::parse(stored) != session);
        assert_eq!(wrong, None);
    }

    #[test]
    fn a_declared_session_is_never_taken_for_another() {
        static ROWS: [(&[u8], &[u8]); 7] = [
            (b"01KS9A", b"01KS9A"),
            (b"a:b", b"a:b"),
            (b"comm:x:y", b"comm%3Ax:y"),
            (b"comm-chain:x;pid:1", b"comm-chain%3Ax%3Bpid:1"),
            (b"comm-chains:x", b"comm-chains:x"),
            (b"comm:", b"comm%3A"),
            (b"a,b>c", b"a%2Cb%3Ec"),
        ];
        let wrong = ROWS.iter().position(|&(raw, stored)| {
            let mut buf = [0; 64];
            let mut out = Writer::new(&mut buf);
            encode_declared_session(raw, &mut out) != Fit::Whole
                || out.as_bytes() != stored
                || Session::parse(stored) != Session::Declared(stored)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn fields_are_bounded() {
        static LONG: [u8; 400] = [b'x'; 400];
        type Encode = fn(&[u8], &mut Writer<'_>) -> Fit;
        static ROWS: [(Encode, usize); 4] = [
            (encode_declared_session, SESSION_MAX),
            (encode_tool, TOOL_MAX),
            (encode_turn, TURN_MAX),
            (encode_intent, INTENT_MAX),
        ];
        let wrong = ROWS.iter().position(|(encode, max)| {
            let mut buf = [0; 300];
            let mut out = Writer::new(&mut buf);
            encode(&LONG, &mut out) != Fit::Cut || out.len() != *max
        });
        assert_eq!(wrong, None);
        let mut buf = [0; 300];
        let mut out = Writer::new(&mut buf);
        let mut raw = LONG;
        if let Some(head) = raw.first_chunk_mut() {
            *head = *b"comm:";
        }
        assert_eq!(encode_declared_session(&raw, &mut out), Fit::Cut);
        assert_eq!(out.len(), SESSION_MAX);
    }

    #[test]
    fn comms_are_named_in_order() {
        assert!(WHO.comms().eq([&b"cc1"[..], b"make"]));
        assert_eq!(WHO.writer(), b"cc1");
    }

    #[test]
    fn keys_make_a_record() {
        let mut record = Record::default();
        for key in Key::ALL {
            record.set(key, b"1");
        }
        let whole = Record {
            session: Some(Session::Declared(b"1")),
            tool: Some(b"1"),
            turn: Some(b"1"),
            intent: Some(b"1"),
            ts: Some(b"1"),
            history: Some(b"1"),
        };
        assert_eq!(record, whole);
        assert_eq!(record.time(), Some(Timestamp { secs: 1, nanos: 0 }));
        record.set(Key::Ts, b"yesterday");
        assert_eq!(record.time(), None);
    }

    #[test]
    fn the_names_are_what_they_always_were() {
        static NAMES: [&[u8]; 6] = [
            b"user.prov.session",
            b"user.prov.tool",
            b"user.prov.turn",
            b"user.prov.intent",
            b"user.prov.ts",
            b"user.prov.history",
        ];
        let names = Key::ALL.map(|key| key.name().to_bytes());
        assert_eq!(names, NAMES);
        assert_eq!(PACKED.to_bytes(), b"user.prov");
        assert!(Key::ALL
            .iter()
            .enumerate()
            .all(|(at, key)| key.index() == at));
    }
}
