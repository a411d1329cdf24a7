//! A line of one's own making for each file: text with fields in braces. `--help` lists them.

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
};

use provfs::{Fallback, Format, Key, Session, Value, pure::time::format_rfc3339};

use super::{
    Each,
    look::{Look, verdict_name},
};
use crate::ask::Answer;

/// A template, taken apart.
pub(super) struct Template {
    parts: Vec<Part>,
    /// What ends each file.
    end: u8,
    look: Look,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Field(Field),
}

/// What can stand in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Path,
    Session,
    Kind,
    Tool,
    Turn,
    Intent,
    History,
    Time,
    Ts,
    Unix,
    Ago,
    Format,
    Comm,
    Chain,
    Pid,
    Uid,
    User,
    Cwd,
    Env,
    Verdict,
    Modified,
    Birth,
}

const FIELDS: [(&str, Field); 22] = [
    ("path", Field::Path),
    ("session", Field::Session),
    ("kind", Field::Kind),
    ("tool", Field::Tool),
    ("turn", Field::Turn),
    ("intent", Field::Intent),
    ("history", Field::History),
    ("time", Field::Time),
    ("ts", Field::Ts),
    ("unix", Field::Unix),
    ("ago", Field::Ago),
    ("format", Field::Format),
    ("comm", Field::Comm),
    ("chain", Field::Chain),
    ("pid", Field::Pid),
    ("uid", Field::Uid),
    ("user", Field::User),
    ("cwd", Field::Cwd),
    ("env", Field::Env),
    ("verdict", Field::Verdict),
    ("mtime", Field::Modified),
    ("birth", Field::Birth),
];

impl Field {
    fn named(name: &[u8]) -> Option<Self> {
        let found = FIELDS.iter().find(|(known, _)| known.as_bytes() == name);
        found.map(|(_, field)| *field)
    }

    fn key(self) -> Option<Key> {
        Some(match self {
            Field::Path | Field::Format | Field::Modified | Field::Birth => return None,
            Field::Tool => Key::Tool,
            Field::Turn => Key::Turn,
            Field::Intent => Key::Intent,
            Field::History => Key::History,
            Field::Time | Field::Ts | Field::Unix | Field::Ago | Field::Verdict => Key::Ts,
            Field::Session | Field::Kind | Field::Comm | Field::Chain | Field::Pid => Key::Session,
            Field::Uid | Field::User | Field::Cwd | Field::Env => Key::Session,
        })
    }
}

impl Template {
    /// Takes a template apart. The error says what is wrong with it.
    pub(super) fn new(template: &OsStr, end: u8, look: Look) -> Result<Self, String> {
        let parts = parse(template.as_bytes())?;
        Ok(Template { parts, end, look })
    }

    /// The value of a field, ready to be printed; empty if there is none.
    fn field(&self, field: Field, answer: &Answer) -> Vec<u8> {
        let look = &self.look;
        let path = answer.path.as_os_str().as_bytes();
        if field == Field::Path {
            return look.value(path);
        }
        self.of_record(field, answer).unwrap_or_default()
    }

    fn of_record(&self, field: Field, answer: &Answer) -> Option<Vec<u8>> {
        let look = &self.look;
        let record = answer.record.as_ref()?;
        let value = |value: &Option<Value>| Some(look.value(value.as_ref()?.as_bytes()));
        let unix = || record.ts.as_ref()?.unix;
        let text = |text: String| Some(text.into_bytes());
        match field {
            Field::Path => None,
            Field::Session => Some(look.session(record.session.as_ref()?)),
            Field::Kind => text(kind(record.session.as_ref()?).into()),
            Field::Tool => value(&record.tool),
            Field::Turn => value(&record.turn),
            Field::Intent => value(&record.intent),
            Field::History => {
                let sessions = record.history.iter().map(|session| look.session(session));
                Some(sessions.collect::<Vec<_>>().join(&b", "[..]))
            }
            Field::Time => match unix().and_then(|unix| look.clock.local(unix)) {
                Some(time) => text(time),
                None => Some(look.value(record.ts.as_ref()?.raw.as_bytes())),
            },
            Field::Ts => Some(format_rfc3339(unix()?, &mut [0; 20]).to_vec()),
            Field::Unix => text(unix()?.to_string()),
            Field::Ago => text(look.clock.relative(unix()?)),
            Field::Format => text(
                match record.format {
                    Format::Keys => "keys",
                    Format::Packed => "packed",
                    _ => return None,
                }
                .into(),
            ),
            Field::Comm => Some(look.value(record.session.as_ref()?.comm()?.as_bytes())),
            Field::Uid => text(record.session.as_ref()?.uid()?.to_string()),
            Field::User => {
                let uid = record.session.as_ref()?.uid()?;
                let name = look.users.name(uid).unwrap_or_else(|| uid.to_string());
                Some(look.value(name.as_bytes()))
            }
            Field::Pid => text(match record.session.as_ref()? {
                Session::Fallback(Fallback { pid, .. }) | Session::Legacy { pid, .. } => {
                    (*pid)?.to_string()
                }
                _ => return None,
            }),
            Field::Chain => {
                let comms = fallback(record.session.as_ref()?)?.chain.iter();
                let comms = comms.map(|comm| look.value(comm.as_bytes()));
                Some(comms.collect::<Vec<_>>().join(&b" < "[..]))
            }
            Field::Cwd => value(&fallback(record.session.as_ref()?)?.cwd),
            Field::Env => {
                let (name, value) = fallback(record.session.as_ref()?)?.env.as_ref()?;
                Some(look.value(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            }
            Field::Verdict => text(verdict_name(answer.check?.verdict).into()),
            Field::Modified => text(answer.check?.times.modified.to_string()),
            Field::Birth => text(answer.check?.times.birth?.to_string()),
        }
    }
}

fn fallback(session: &Session) -> Option<&Fallback> {
    match session {
        Session::Fallback(who) => Some(who),
        _ => None,
    }
}

fn kind(session: &Session) -> &'static str {
    match session {
        Session::Declared(_) => "declared",
        Session::AgentNs(_) => "agent_ns",
        Session::Fallback(_) => "fallback",
        Session::Legacy { .. } => "legacy",
        _ => "opaque",
    }
}

impl Each for Template {
    fn keys(&self) -> Vec<Key> {
        let fields = self.parts.iter().filter_map(|part| match part {
            Part::Field(field) => field.key(),
            Part::Text(_) => None,
        });
        fields.collect()
    }

    fn file(&self, out: &mut Vec<u8>, answer: &Answer) -> io::Result<()> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Field(field) => out.write_all(&self.field(*field, answer))?,
            }
        }
        out.write_all(&[self.end])
    }
}

fn parse(template: &[u8]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut text = Vec::new();
    let mut rest = template;
    while let Some((&byte, tail)) = rest.split_first() {
        let (piece, behind) = match byte {
            b'{' | b'}' => brace(byte, tail)?,
            b'\\' => escape(tail)?,
            _ => (Piece::Byte(byte), tail),
        };
        match piece {
            Piece::Byte(byte) => text.push(byte),
            Piece::Field(field) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Field(field));
            }
        }
        rest = behind;
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

/// What some bytes of a template stand for.
enum Piece {
    Byte(u8),
    Field(Field),
}

// These two are not part of parse(): LLVM 19, which the oldest rustc that will do comes with, did not come to an end of
// all of it in one function within ten minutes.

/// Reads what begins with a brace, and is followed by `tail`.
#[inline(never)]
fn brace(brace: u8, tail: &[u8]) -> Result<(Piece, &[u8]), String> {
    if let Some((_, behind)) = tail.split_first().filter(|(next, _)| **next == brace) {
        return Ok((Piece::Byte(brace), behind));
    }
    if brace == b'}' {
        return Err("a } without its { in the template: write }} for the brace".into());
    }
    let mut halves = tail.splitn(2, |&byte| byte == b'}');
    let (Some(name), Some(behind)) = (halves.next(), halves.next()) else {
        return Err("a { without its } in the template: write {{ for the brace itself".into());
    };
    let field = Field::named(name).ok_or_else(|| {
        let known: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        let name = name.escape_ascii();
        format!("no field {{{name}}}: there are {}", known.join(", "))
    })?;
    Ok((Piece::Field(field), behind))
}

/// Reads what follows a backslash. At the end, that stands for itself.
#[inline(never)]
fn escape(tail: &[u8]) -> Result<(Piece, &[u8]), String> {
    let Some((&escape, behind)) = tail.split_first() else {
        return Ok((Piece::Byte(b'\\'), tail));
    };
    let byte = match escape {
        b'n' => b'\n',
        b't' => b'\t',
        b'0' => 0,
        b'\\' => b'\\',
        other => {
            let other = [other].escape_ascii().to_string();
            return Err(format!(
                "no escape \\{other}: there are \\n, \\t, \\0 and \\\\"
            ));
        }
    };
    Ok((Piece::Byte(byte), behind))
}

#[cfg(test)]
mod tests {
    use provfs::Record;

    use super::*;
    use crate::{
        args::Verdict,
        print::look::for_tests,
        verify::{Check, Times},
    };

    fn show(template: &str, xattrs: &[(&str, &str)]) -> String {
        let answer = Answer {
            path: "a\x1bb".into(),
            record: Record::from_xattrs(xattrs.iter().copied()),
            check: Some(Check {
                verdict: Verdict::Stale,
                times: Times {
                    modified: 5,
                    changed: 6,
                    birth: None,
                },
            }),
        };
        let template = Template::new(template.as_ref(), b'\n', for_tests(false, true)).unwrap();
        let mut out = Vec::new();
        template.file(&mut out, &answer).unwrap();
        String::from_utf8(out).unwrap()
    }

    const ALL: &str = "{path}|{session}|{kind}|{tool}|{turn}|{intent}|{history}|{time}|{ts}|{unix}|{ago}|{format}|{comm}|{chain}|{pid}|{uid}|{user}|{cwd}|{env}|{verdict}|{mtime}|{birth}";

    #[test]
    fn every_field() {
        let declared = show(
            ALL,
            &[
                ("user.prov.session", "s1"),
                ("user.prov.tool", "Edit"),
                ("user.prov.turn", "4%0A2"),
                ("user.prov.intent", "look"),
                ("user.prov.ts", "2026-11-21T09:12:33Z"),
                ("user.prov.history", "s1,comm:cc1:uid:0"),
            ],
        );
        let fallback = show(
            ALL,
            &[(
                "user.prov.session",
                "comm-chain:cc1>make;env:A=b;cwd:/src;pid:7;uid:1000",
            )],
        );
        insta::assert_snapshot!([declared, fallback, show(ALL, &[])].concat(), @r"
        a\u{1b}b|s1|declared|Edit|4\n2|look|s1, cc1 by root (0)|2026-11-21 10:12:33 +01:00|2026-11-21T09:12:33Z|1795252353|2 hours ago|keys||||||||stale|5|
        a\u{1b}b|cc1 by alice (1000)|fallback|||||||||keys|cc1|cc1 < make|7|1000|alice|/src|A=b|stale|5|
        a\u{1b}b|||||||||||||||||||||
        ");
    }

    #[test]
    fn text_and_escapes() {
        assert_eq!(
            show("{{{tool}}}\\t\\\\é", &[("user.prov.tool", "t")]),
            "{t}\t\\é\n"
        );
        for (template, want) in [
            ("{path", "without its }"),
            ("path}", "without its {"),
            ("{nope}", "no field {nope}: there are path, session"),
            ("{}", "no field {}"),
            ("\\x", "no escape \\x"),
        ] {
            let error = Template::new(template.as_ref(), 0, for_tests(false, true));
            let error = error.err().unwrap();
            assert!(error.contains(want), "{template}: {error}");
        }
        assert_eq!(show("\\", &[]), "\\\n");
    }

    #[test]
    fn only_what_is_printed_is_read() {
        let keys = |template: &str| {
            let template = Template::new(template.as_ref(), 0, for_tests(false, true));
            template.unwrap().keys()
        };
        assert_eq!(keys("{path}"), []);
        assert_eq!(keys("{tool}{unix}"), [Key::Tool, Key::Ts]);
    }
}
