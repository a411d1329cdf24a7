//! A record as values of its own: decoded, unescaped, independent of the bytes that it was read
//! from.

use std::{borrow::Cow, fmt, str::Utf8Error};

use crate::pure::{
    history, packed,
    record::{self as stored, Key, PACKED},
    text::{self, Writer},
    time::{Timestamp, parse_ts},
};

/// A value from a record: bytes, mostly UTF-8, without escapes.
///
/// Values come from whoever wrote the file. They may hold control bytes, so escape them before
/// they go to a terminal.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Vec<u8>);

impl Value {
    /// Undoes the escaping of a stored value.
    ///
    /// ```
    /// assert_eq!(provfs::Value::from_stored(b"a%3Bb"), *"a;b");
    /// ```
    pub fn from_stored(stored: &[u8]) -> Self {
        // Most have none.
        if !stored.contains(&b'%') {
            return stored.into();
        }
        let mut buf = vec![0; stored.len()];
        let mut out = Writer::new(&mut buf);
        text::unescape(stored, &mut out);
        let len = out.len();
        buf.truncate(len);
        Value(buf)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8.
    pub fn to_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// The text, with `U+FFFD` for what is not UTF-8.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value(text.as_bytes().to_vec())
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// How a record is stored, which is `provfs.format` at the time of its writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `user.prov.session`, `user.prov.tool` and so on.
    #[default]
    Keys,
    /// `user.prov` alone.
    Packed,
}

/// Who wrote a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Session {
    /// What the process declared.
    Declared(Value),
    /// The id of the agent namespace that it ran in: 32 lower-case hexadecimal digits.
    AgentNs(String),
    /// It declared nothing, and this is what the kernel knew about it.
    Fallback(Fallback),
    /// The short form of the same, which earlier writers left and which a fallback session has in
    /// a history.
    #[non_exhaustive]
    Legacy {
        /// Its comm.
        comm: Value,
        /// Its pid.
        pid: Option<u32>,
        /// Its user id.
        uid: Option<u32>,
    },
    /// Bytes in no known form, as they are.
    Opaque(Value),
}

/// What the kernel knew about a process that declared nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Fallback {
    /// The comm of the process, its parent, and so on.
    pub chain: Vec<Value>,
    /// A variable of its environment, name and value.
    pub env: Option<(Value, Value)>,
    /// Its working directory. It begins with `...` if its beginning did not fit.
    pub cwd: Option<Value>,
    /// Its thread group id. `None` only where an earlier writer lost it.
    pub pid: Option<u32>,
    /// Its user id, likewise.
    pub uid: Option<u32>,
}

impl Session {
    /// Reads the stored form.
    ///
    /// ```
    /// # use provfs::Session;
    /// let session = Session::from_stored(b"comm-chain:cc1>make;cwd:/src;pid:4242;uid:1000");
    /// let Session::Fallback(who) = session else { panic!() };
    /// assert_eq!(who.chain[1], *"make");
    /// assert_eq!(who.uid, Some(1000));
    /// ```
    pub fn from_stored(stored: &[u8]) -> Self {
        stored::Session::parse(stored).into()
    }

    /// The session as it enters a history: of a fallback session comm and user id, without what is
    /// different each time.
    ///
    /// ```
    /// # use provfs::Session;
    /// let session = Session::from_stored(b"comm-chain:cc1>make;cwd:/src;pid:4242;uid:1000");
    /// assert_eq!(session.short(), Session::from_stored(b"comm:cc1:uid:1000"));
    /// ```
    pub fn short(&self) -> Session {
        match self.comm() {
            Some(comm) => Session::Legacy {
                comm: comm.clone(),
                pid: None,
                uid: self.uid(),
            },
            None => self.clone(),
        }
    }

    /// The comm of the writer, where it is known.
    pub fn comm(&self) -> Option<&Value> {
        match self {
            Session::Fallback(who) => who.chain.first(),
            Session::Legacy { comm, .. } => Some(comm),
            _ => None,
        }
    }

    /// The user id of the writer, where it is known.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Session::Fallback(who) => who.uid,
            Session::Legacy { uid, .. } => *uid,
            _ => None,
        }
    }
}

impl From<stored::Session<'_>> for Session {
    fn from(session: stored::Session<'_>) -> Self {
        match session {
            stored::Session::Declared(id) => Session::Declared(Value::from_stored(id)),
            stored::Session::AgentNs(id) => Session::AgentNs(String::from_utf8_lossy(id).into()),
            stored::Session::Fallback(who) => Session::Fallback(Fallback {
                chain: who.comms().map(Value::from_stored).collect(),
                env: who
                    .env
                    .map(|(name, value)| (Value::from_stored(name), Value::from_stored(value))),
                cwd: who.cwd.map(Value::from_stored),
                pid: who.pid,
                uid: who.uid,
            }),
            stored::Session::Legacy { comm, pid, uid } => Session::Legacy {
                comm: Value::from_stored(comm),
                pid,
                uid,
            },
            stored::Session::Opaque(bytes) => Session::Opaque(bytes.into()),
        }
    }
}

/// When a file was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Time {
    /// What is stored.
    pub raw: Value,
    /// Seconds since 1970-01-01T00:00:00Z, rounded down. `None` if what is stored is no time.
    pub unix: Option<i64>,
    /// Nanoseconds on top of them; 0 from this version of the module.
    pub nanos: u32,
}

impl Time {
    /// Reads the stored form: RFC 3339 or unix seconds.
    pub fn from_stored(stored: &[u8]) -> Self {
        let parsed = parse_ts(stored);
        Time {
            raw: stored.into(),
            unix: parsed.map(|ts| ts.secs),
            nanos: parsed.map_or(0, |ts| ts.nanos),
        }
    }

    fn timestamp(&self) -> Option<Timestamp> {
        Some(Timestamp {
            secs: self.unix?,
            nanos: self.nanos,
        })
    }
}

/// The record of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// How it is stored.
    pub format: Format,
    /// Who wrote the file.
    pub session: Option<Session>,
    /// Through what: the declared tool, else the comm of the writer.
    pub tool: Option<Value>,
    /// In which turn of the session.
    pub turn: Option<Value>,
    /// To what end.
    pub intent: Option<Value>,
    /// When.
    pub ts: Option<Time>,
    /// The most recent distinct sessions, newest first. Empty if there was only one.
    pub history: Vec<Session>,
}

impl Record {
    /// Makes a record of extended attributes that were read elsewhere, from an archive for
    /// example. Attributes of other names are passed over; `None` if no one belongs to a
    /// record.
    ///
    /// If there are records of both formats, the later one counts.
    ///
    /// ```
    /// # use provfs::{Record, Session};
    /// let record = Record::from_xattrs([
    ///     ("user.prov.session", "s1"),
    ///     ("user.prov.tool", "Edit"),
    ///     ("user.mime_type", "text/plain"),
    /// ]);
    /// let record = record.ok_or("no record")?;
    /// assert_eq!(record.session, Some(Session::Declared("s1".into())));
    /// assert_eq!(record.turn, None);
    /// # Ok::<(), &str>(())
    /// ```
    pub fn from_xattrs<N, V>(xattrs: impl IntoIterator<Item = (N, V)>) -> Option<Self>
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut decoder = Decoder::default();
        for (name, value) in xattrs {
            decoder.add(name.as_ref(), value.as_ref());
        }
        decoder.finish()
    }

    fn from_packed(value: &[u8]) -> Self {
        let mut record = match packed::decode(value) {
            Some(decoded) => Record::from(decoded),
            // Somebody put it there, and whoever asks should see it.
            None => Record {
                session: Some(Session::Opaque(value.into())),
                ..Record::default()
            },
        };
        record.format = Format::Packed;
        record
    }

    fn set(&mut self, key: Key, value: &[u8]) {
        match key {
            Key::Session => self.session = Some(Session::from_stored(value)),
            Key::Tool => self.tool = Some(Value::from_stored(value)),
            Key::Turn => self.turn = Some(Value::from_stored(value)),
            Key::Intent => self.intent = Some(Value::from_stored(value)),
            Key::Ts => self.ts = Some(Time::from_stored(value)),
            Key::History => {
                self.history = history::entries(value).map(Session::from_stored).collect();
            }
        }
    }

    fn time(&self) -> Option<Timestamp> {
        self.ts.as_ref()?.timestamp()
    }
}

/// The key whose attribute has this name.
pub(crate) fn key_of(name: &[u8]) -> Option<Key> {
    // Most names are others: one comparison for them.
    if !name.starts_with(PACKED.to_bytes()) {
        return None;
    }
    Key::ALL
        .into_iter()
        .find(|key| name == key.name().to_bytes())
}

/// Makes a record of extended attributes, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    keys: Option<Record>,
    packed: Option<Record>,
}

impl Decoder {
    /// Takes one attribute, of whatever name.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        if name == PACKED.to_bytes() {
            self.add_packed(value);
        } else if let Some(key) = key_of(name) {
            self.add_key(key, value);
        }
    }

    pub(crate) fn add_packed(&mut self, value: &[u8]) {
        self.packed = Some(Record::from_packed(value));
    }

    pub(crate) fn add_key(&mut self, key: Key, value: &[u8]) {
        self.keys.get_or_insert_default().set(key, value);
    }

    /// The packed record if it is the later one.
    fn packed_counts(&self) -> bool {
        match (&self.keys, &self.packed) {
            (Some(keys), Some(packed)) => packed.time() > keys.time(),
            (keys, _) => keys.is_none(),
        }
    }

    /// What is known of the record by now.
    pub(crate) fn so_far(&self) -> &Record {
        static NOTHING: Record = Record {
            format: Format::Keys,
            session: None,
            tool: None,
            turn: None,
            intent: None,
            ts: None,
            history: Vec::new(),
        };
        let record = if self.packed_counts() {
            &self.packed
        } else {
            &self.keys
        };
        record.as_ref().unwrap_or(&NOTHING)
    }

    pub(crate) fn finish(self) -> Option<Record> {
        if self.packed_counts() {
            self.packed
        } else {
            self.keys
        }
    }
}

impl From<stored::Record<'_>> for Record {
    fn from(decoded: stored::Record<'_>) -> Self {
        let mut record = Record {
            session: decoded.session.map(Session::from),
            ..Record::default()
        };
        for (key, value) in [
            (Key::Tool, decoded.tool),
            (Key::Turn, decoded.turn),
            (Key::Intent, decoded.intent),
            (Key::Ts, decoded.ts),
            (Key::History, decoded.history),
        ] {
            if let Some(value) = value {
                record.set(key, value);
            }
        }
        record
    }
}
