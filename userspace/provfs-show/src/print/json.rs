//! The answer for programs: one JSON document with a file a line, or one object a line.
//! `Documentation/provfs-show.schema.json` says what is in it.
//!
//! What is known of a file is always there, `null` where it has no such thing. A byte string that
//! is not UTF-8 is given in base64 under its name with `_b64` behind it, and its plain name is
//! then missing. Adding a name is no change of the schema; anything else is.

mod text;

use std::{io, os::unix::ffi::OsStrExt};

use provfs::{
    Fallback, Format, Record, Session, Time, Value,
    pure::time::{RFC3339_LEN, format_rfc3339},
};

pub(super) use self::text::Text;
use super::{Each, look::verdict_name};
use crate::{ask::Answer, verify::Check};

/// The version of what is printed.
pub(super) const SCHEMA: u32 = 1;

/// How a document of files begins.
const FILES: &str = "{\"schema\":1,\"files\":[";

/// How an object begins that is a line of its own.
pub(super) const LINE: &str = "{\"schema\":1,";

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
        let json = &mut Text::new(out);
        match self.shape {
            Shape::Document => {
                json.raw("\n{");
                file(json, answer)
            }
            Shape::Lines => {
                json.raw(LINE);
                file(json, answer)?;
                json.raw("\n");
                Ok(())
            }
        }
    }
}

/// The rest of an object, behind what it begins with.
fn file(json: &mut Text<'_>, answer: &Answer) -> io::Result<()> {
    let Answer {
        path,
        record,
        check,
    } = answer;
    let none = Record::default();
    let format = match record.as_ref().map(|record| record.format) {
        None => r#","format":null"#,
        Some(Format::Keys) => r#","format":"keys""#,
        Some(Format::Packed) => r#","format":"packed""#,
        Some(_) => return Err(io::Error::other("a record in a format of a later version")),
    };
    let record = record.as_ref().unwrap_or(&none);
    json.bytes(r#""path":"#, r#""path_b64":"#, path.as_os_str().as_bytes());
    json.raw(format);
    json.raw(r#","session":"#)
        .option(record.session.as_ref(), session);
    value(json, [r#","tool":"#, r#","tool_b64":"#], &record.tool);
    value(json, [r#","turn":"#, r#","turn_b64":"#], &record.turn);
    let intent = [r#","intent":"#, r#","intent_b64":"#];
    value(json, intent, &record.intent);
    json.raw(r#","ts":"#).option(record.ts.as_ref(), time);
    json.raw(r#","history":"#).array(&record.history, session);
    if let Some(check) = check {
        verify(json.raw(r#","verify":"#), check);
    }
    json.raw("}");
    Ok(())
}

/// A value under one of two names, or `null` under the first.
fn value(json: &mut Text<'_>, [name, name_b64]: [&str; 2], value: &Option<Value>) {
    match value {
        Some(value) => _ = json.bytes(name, name_b64, value.as_bytes()),
        None => _ = json.raw(name).raw("null"),
    }
}

fn verify(json: &mut Text<'_>, Check { verdict, times }: &Check) {
    json.raw(r#"{"verdict":"#).string(verdict_name(*verdict));
    unix(json.raw(r#","modified":"#), times.modified);
    unix(json.raw(r#","changed":"#), times.changed);
    json.raw(r#","birth":"#).option(times.birth, unix).raw("}");
}

/// A time that is known for sure.
pub(super) fn unix(json: &mut Text<'_>, unix: i64) {
    json.raw(r#"{"unix":"#).plain(unix);
    let mut buf = [0; RFC3339_LEN];
    let text = format_rfc3339(unix, &mut buf);
    json.bytes(r#","rfc3339":"#, r#","rfc3339_b64":"#, text);
    json.raw("}");
}

fn time(json: &mut Text<'_>, time: &Time) {
    if let Some(known) = time.unix {
        return unix(json, known);
    }
    json.raw(r#"{"unix":null,"rfc3339":null"#);
    json.bytes(r#","raw":"#, r#","raw_b64":"#, time.raw.as_bytes());
    json.raw("}");
}

pub(super) fn session(json: &mut Text<'_>, session: &Session) {
    match session {
        Session::Declared(id) => {
            json.raw(r#"{"kind":"declared""#);
            json.bytes(r#","id":"#, r#","id_b64":"#, id.as_bytes());
        }
        Session::AgentNs(id) => _ = json.raw(r#"{"kind":"agent_ns","id":"#).string(id),
        Session::Fallback(who) => fallback(json, who),
        Session::Legacy { comm, pid, uid, .. } => {
            json.raw(r#"{"kind":"legacy""#);
            json.bytes(r#","comm":"#, r#","comm_b64":"#, comm.as_bytes());
            process(json, *pid, *uid);
        }
        Session::Opaque(raw) => {
            json.raw(r#"{"kind":"opaque""#);
            json.bytes(r#","raw":"#, r#","raw_b64":"#, raw.as_bytes());
        }
        // Of a later version: it is there, and no more can be said.
        _ => _ = json.raw(r#"{"kind":"opaque","raw":"""#),
    }
    json.raw("}");
}

fn fallback(json: &mut Text<'_>, who: &Fallback) {
    json.raw(r#"{"kind":"fallback""#);
    // One comm that is not UTF-8 turns all of them to base64, so that the order stays in one array.
    let chain: Result<Vec<_>, _> = who.chain.iter().map(Value::to_str).collect();
    match chain {
        Ok(chain) => json
            .raw(r#","chain":"#)
            .array(chain, |json, comm| _ = json.string(comm)),
        Err(_) => json
            .raw(r#","chain_b64":"#)
            .array(&who.chain, |json, comm| _ = json.base64(comm.as_bytes())),
    };
    json.raw(r#","env":"#)
        .option(who.env.as_ref(), |json, (name, value)| {
            json.bytes(r#"{"name":"#, r#"{"name_b64":"#, name.as_bytes());
            json.bytes(r#","value":"#, r#","value_b64":"#, value.as_bytes());
            json.raw("}");
        });
    value(json, [r#","cwd":"#, r#","cwd_b64":"#], &who.cwd);
    process(json, who.pid, who.uid);
}

fn process(json: &mut Text<'_>, pid: Option<u32>, uid: Option<u32>) {
    let plain = |json: &mut Text<'_>, id: u32| _ = json.plain(id);
    json.raw(r#","pid":"#).option(pid, plain);
    json.raw(r#","uid":"#).option(uid, plain);
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
        let mut out = Vec::new();
        let lines = Json::new(Shape::Lines);
        lines.file(&mut out, &answer).unwrap();
        // A name a line, for people.
        String::from_utf8(out).unwrap().replace(",\"", ",\n\"")
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
