//! The answer for programs: one JSON document with a file a line, or one object a line.
//! `Documentation/provfs-show.schema.json` says what is in it.
//!
//! What is known of a file is always there, `null` where it has no such thing. A byte string that
//! is not UTF-8 is given in base64 under its name with `_b64` behind it, and its plain name is
//! then missing. Adding a name is no change of the schema; anything else is.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use provfs::{
    Fallback, Format, Record, Session, Time, Value,
    pure::time::{RFC3339_LEN, format_rfc3339},
};
use provfs_cli::{escape::acts, json::bytes};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use serde_json::ser::Formatter;

use super::{Each, look::verdict_name};
use crate::{ask::Answer, verify::Check};

/// The version of what is printed.
pub(super) const SCHEMA: u32 = 1;

/// How a document of files begins.
const FILES: &str = "{\"schema\":1,\"files\":[";

/// How JSON is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// All of it in one document.
    Document,
    /// One object a line, each with the version in it.
    Lines,
}

/// Prints files as JSON.
pub(super) struct Json {
    shape: Shape,
}

impl Json {
    pub(super) fn new(shape: Shape) -> Self {
        Json { shape }
    }
}

impl Each for Json {
    fn is_text(&self) -> bool {
        false
    }

    fn frame(&self) -> [&'static str; 3] {
        match self.shape {
            Shape::Document => [FILES, ",", "\n]}\n"],
            Shape::Lines => [""; 3],
        }
    }

    fn file(&self, out: &mut Vec<u8>, answer: &Answer) -> io::Result<()> {
        match self.shape {
            Shape::Document => {
                out.push(b'\n');
                let schema = None;
                write(out, &File { schema, answer })
            }
            Shape::Lines => {
                let schema = Some(SCHEMA);
                write(out, &File { schema, answer })?;
                out.push(b'\n');
                Ok(())
            }
        }
    }
}

/// Writes a value on one line.
pub(super) fn write(out: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    let begin = out.len();
    serde_json::to_writer(&mut *out, value)?;
    // Most are plain text. To look at all of it once costs less than at each string.
    let written = &out[begin..];
    if written.is_ascii() && !written.contains(&0x7f) {
        return Ok(());
    }
    out.truncate(begin);
    let mut serializer = serde_json::Serializer::with_formatter(out, Harmless);
    Ok(value.serialize(&mut serializer)?)
}

/// Compact JSON that no terminal takes for commands: JSON itself lets C1 controls, DEL and
/// characters that turn the direction of text through.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(acts) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            let actor = chars.next().unwrap_or_default();
            for unit in actor.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

struct File<'a> {
    schema: Option<u32>,
    answer: &'a Answer,
}

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answer {
            path,
            record,
            check,
        } = self.answer;
        let none = Record::default();
        let format = match record.as_ref().map(|record| record.format) {
            None => None,
            Some(Format::Keys) => Some("keys"),
            Some(Format::Packed) => Some("packed"),
            Some(_) => return Err(S::Error::custom("a format of a later version")),
        };
        let record = record.as_ref().unwrap_or(&none);
        let mut map = serializer.serialize_map(None)?;
        if let Some(schema) = self.schema {
            map.serialize_entry("schema", &schema)?;
        }
        let path = path.as_os_str().as_bytes();
        bytes(&mut map, "path", "path_b64", Some(path))?;
        map.serialize_entry("format", &format)?;
        map.serialize_entry("session", &record.session.as_ref().map(SessionJson))?;
        for (name, name_b64, value) in [
            ("tool", "tool_b64", &record.tool),
            ("turn", "turn_b64", &record.turn),
            ("intent", "intent_b64", &record.intent),
        ] {
            bytes(
                &mut map,
                name,
                name_b64,
                value.as_ref().map(Value::as_bytes),
            )?;
        }
        map.serialize_entry("ts", &record.ts.as_ref().map(TimeJson))?;
        map.serialize_entry("history", &History(&record.history))?;
        if let Some(check) = check {
            map.serialize_entry("verify", &CheckJson(check))?;
        }
        map.end()
    }
}

struct History<'a>(&'a [Session]);

impl Serialize for History<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(SessionJson))
    }
}

struct CheckJson<'a>(&'a Check);

impl Serialize for CheckJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let times = &self.0.times;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("verdict", verdict_name(self.0.verdict))?;
        map.serialize_entry("modified", &UnixJson(times.modified))?;
        map.serialize_entry("changed", &UnixJson(times.changed))?;
        map.serialize_entry("birth", &times.birth.map(UnixJson))?;
        map.end()
    }
}

/// A time that is known for sure.
pub(super) struct UnixJson(pub(super) i64);

impl Serialize for UnixJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("unix", &self.0)?;
        rfc3339(&mut map, self.0)?;
        map.end()
    }
}

fn rfc3339<M: SerializeMap>(map: &mut M, unix: i64) -> Result<(), M::Error> {
    let mut buf = [0; RFC3339_LEN];
    let text = format_rfc3339(unix, &mut buf);
    bytes(map, "rfc3339", "rfc3339_b64", Some(text))
}

pub(super) struct SessionJson<'a>(pub(super) &'a Session);

impl Serialize for SessionJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Session::Declared(id) => {
                map.serialize_entry("kind", "declared")?;
                bytes(&mut map, "id", "id_b64", Some(id.as_bytes()))?;
            }
            Session::AgentNs(id) => {
                map.serialize_entry("kind", "agent_ns")?;
                map.serialize_entry("id", id)?;
            }
            Session::Fallback(who) => {
                map.serialize_entry("kind", "fallback")?;
                fallback(&mut map, who)?;
            }
            Session::Legacy { comm, pid, uid, .. } => {
                map.serialize_entry("kind", "legacy")?;
                bytes(&mut map, "comm", "comm_b64", Some(comm.as_bytes()))?;
                map.serialize_entry("pid", pid)?;
                map.serialize_entry("uid", uid)?;
            }
            Session::Opaque(raw) => {
                map.serialize_entry("kind", "opaque")?;
                bytes(&mut map, "raw", "raw_b64", Some(raw.as_bytes()))?;
            }
            _ => return Err(S::Error::custom("a session of a later version")),
        }
        map.end()
    }
}

fn fallback<M: SerializeMap>(map: &mut M, who: &Fallback) -> Result<(), M::Error> {
    // One comm that is not UTF-8 turns all of them to base64, so that the order stays in one array.
    let chain: Result<Vec<_>, _> = who.chain.iter().map(Value::to_str).collect();
    match chain {
        Ok(chain) => map.serialize_entry("chain", &chain)?,
        Err(_) => {
            let chain: Vec<_> = who
                .chain
                .iter()
                .map(|comm| BASE64_STANDARD.encode(comm))
                .collect();
            map.serialize_entry("chain_b64", &chain)?;
        }
    }
    map.serialize_entry(
        "env",
        &who.env
            .as_ref()
            .map(|(name, value)| Variable { name, value }),
    )?;
    bytes(map, "cwd", "cwd_b64", who.cwd.as_ref().map(Value::as_bytes))?;
    map.serialize_entry("pid", &who.pid)?;
    map.serialize_entry("uid", &who.uid)
}

struct Variable<'a> {
    name: &'a Value,
    value: &'a Value,
}

impl Serialize for Variable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        bytes(&mut map, "name", "name_b64", Some(self.name.as_bytes()))?;
        bytes(&mut map, "value", "value_b64", Some(self.value.as_bytes()))?;
        map.end()
    }
}

struct TimeJson<'a>(&'a Time);

impl Serialize for TimeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Time { raw, unix, .. } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("unix", unix)?;
        match unix {
            Some(unix) => rfc3339(&mut map, *unix)?,
            None => {
                map.serialize_entry("rfc3339", &())?;
                bytes(&mut map, "raw", "raw_b64", Some(raw.as_bytes()))?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(xattrs: &[(&str, &[u8])]) -> String {
        let answer = Answer {
            path: "file".into(),
            record: Record::from_xattrs(xattrs.iter().copied()),
            check: None,
        };
        let file = File {
            schema: None,
            answer: &answer,
        };
        serde_json::to_string_pretty(&file).unwrap()
    }

    #[test]
    fn no_character_acts_on_a_terminal() {
        let text = "a\u{7f}\u{9b}1m\u{202e}é\u{1}\"b";
        let mut out = Vec::new();
        write(&mut out, &text).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, r#""a\u007f\u009b1m\u202eé\u0001\"b""#);
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }

    #[test]
    fn a_declared_session() {
        insta::assert_snapshot!(show(&[(
            "user.prov",
            b"ts=1795252353;s=a%3Bb;t=Edit;n=42;i=look;h=a%3Bb,comm:make:uid:0,0123456789abcdef0123456789abcdef",
        )]));
    }

    #[test]
    fn a_process_that_declares_nothing() {
        insta::assert_snapshot!(show(&[
            (
                "user.prov.session",
                b"comm-chain:make>bash;env:TOOL=x;cwd:/src;pid:4242;uid:1000"
            ),
            ("user.prov.ts", b"whenever"),
        ]));
    }

    #[test]
    fn bytes_that_are_not_utf8() {
        insta::assert_snapshot!(show(&[
            (
                "user.prov.session",
                b"comm-chain:\xff>bash;env:TOOL=\xff;cwd:/\xff;pid:4242;uid:1000"
            ),
            ("user.prov.tool", b"\xff"),
            ("user.prov.ts", b"\xff"),
            ("user.prov.history", b"\xff,;\xff,comm:\xff:uid:0"),
        ]));
    }

    #[test]
    fn no_record() {
        insta::assert_snapshot!(show(&[]));
    }
}
