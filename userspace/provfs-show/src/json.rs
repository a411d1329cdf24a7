//! The answer for programs: one JSON document, a file a line.
//!
//! What is known of a file is always there, `null` where it has no such thing. A byte string that
//! is not UTF-8 is given in base64 under its name with `_b64` behind it, and its plain name is
//! then missing. Adding a name is no change of the schema; anything else is.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use provfs::{
    Fallback, Format, Record, Session, Time, Value,
    pure::time::{RFC3339_LEN, format_rfc3339},
};
use provfs_cli::json::bytes;
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};

use crate::show::Printer;

/// The version of what is printed.
const SCHEMA: u32 = 1;

/// Prints a JSON document.
pub(crate) struct Json {
    first: bool,
}

impl Json {
    pub(crate) fn new() -> Self {
        Json { first: true }
    }
}

impl Printer for Json {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{{\"schema\":{SCHEMA},\"files\":[")
    }

    fn file(
        &mut self,
        out: &mut dyn Write,
        path: &Path,
        record: Option<&Record>,
    ) -> io::Result<()> {
        let separator = if std::mem::take(&mut self.first) {
            "\n"
        } else {
            ",\n"
        };
        out.write_all(separator.as_bytes())?;
        Ok(serde_json::to_writer(out, &File { path, record })?)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n]}}")
    }
}

struct File<'a> {
    path: &'a Path,
    record: Option<&'a Record>,
}

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let none = Record::default();
        let record = self.record.unwrap_or(&none);
        let format = match self.record.map(|record| record.format) {
            None => None,
            Some(Format::Keys) => Some("keys"),
            Some(Format::Packed) => Some("packed"),
            Some(_) => return Err(S::Error::custom("a format of a later version")),
        };
        let mut map = serializer.serialize_map(None)?;
        bytes(
            &mut map,
            "path",
            "path_b64",
            Some(self.path.as_os_str().as_bytes()),
        )?;
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
        let history: Vec<_> = record.history.iter().map(SessionJson).collect();
        map.serialize_entry("history", &history)?;
        map.end()
    }
}

struct SessionJson<'a>(&'a Session);

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
            Some(unix) => {
                let mut buf = [0; RFC3339_LEN];
                bytes(
                    &mut map,
                    "rfc3339",
                    "rfc3339_b64",
                    Some(format_rfc3339(*unix, &mut buf)),
                )?;
            }
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
        let record = Record::from_xattrs(xattrs.iter().copied());
        serde_json::to_string_pretty(&File {
            path: Path::new("file"),
            record: record.as_ref(),
        })
        .unwrap()
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
