//! How many files each session, tool, user or day wrote, and when the first and the last.

use std::{
    cmp::Reverse,
    collections::HashMap,
    io::{self, Write},
};

use provfs::{Key, Record, Session, Value};

use super::{
    All,
    json::{LINE, SCHEMA, Shape, Text, session, unix},
    look::{LABEL, Look, SESSION},
};
use crate::{args::GroupBy, ask::Answer};

/// What the files of a group have in common. The order is that of groups of the same size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Group {
    Session(Session),
    Tool(Value),
    User(u32),
    Day(String),
    /// There is no such thing in the record.
    Unknown,
    NoRecord,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    files: u64,
    first: Option<i64>,
    last: Option<i64>,
}

/// Counts files by what they have in common.
pub(super) struct Groups {
    by: GroupBy,
    limit: Option<usize>,
    shape: Option<Shape>,
    look: Look,
    tallies: HashMap<Group, Tally>,
}

impl Groups {
    pub(super) fn new(by: GroupBy, limit: Option<usize>, shape: Option<Shape>, look: Look) -> Self {
        Groups {
            by,
            limit,
            shape,
            look,
            tallies: HashMap::new(),
        }
    }

    fn group(&self, record: &Record) -> Option<Group> {
        Some(match self.by {
            GroupBy::Session => Group::Session(record.session.as_ref()?.short()),
            GroupBy::Tool => Group::Tool(record.tool.clone()?),
            GroupBy::User => Group::User(record.session.as_ref()?.uid()?),
            GroupBy::Day => Group::Day(self.look.clock.day(record.ts.as_ref()?.unix?)?),
        })
    }

    fn name(&self, group: &Group) -> Vec<u8> {
        match group {
            Group::Session(session) => self.look.session(session),
            Group::Tool(tool) => self.look.value(tool.as_bytes()),
            Group::User(uid) => self.look.value(self.look.users.show(*uid).as_bytes()),
            Group::Day(day) => day.clone().into_bytes(),
            Group::Unknown => match self.by {
                GroupBy::Session => b"(no session)".to_vec(),
                GroupBy::Tool => b"(no tool)".to_vec(),
                GroupBy::User => b"(a session was declared, no user is known)".to_vec(),
                GroupBy::Day => b"(no time)".to_vec(),
            },
            Group::NoRecord => b"(no record)".to_vec(),
        }
    }

    /// Most files first, days in their order.
    fn sorted(&self) -> Vec<(Vec<u8>, &Group, Tally)> {
        let mut groups: Vec<_> = self
            .tallies
            .iter()
            .map(|(group, tally)| (self.name(group), group, *tally))
            .collect();
        groups.sort_by(|(name, _, tally), (other_name, _, other)| {
            let by_name = name.cmp(other_name);
            match self.by {
                GroupBy::Day => by_name,
                _ => Reverse(tally.files)
                    .cmp(&Reverse(other.files))
                    .then(by_name),
            }
        });
        groups.truncate(self.limit.unwrap_or(usize::MAX));
        groups
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        for (name, _, tally) in self.sorted() {
            write!(out, "{:>8}  ", tally.files)?;
            let time = |unix: Option<i64>| unix.and_then(|unix| self.look.clock.short(unix));
            let period = match (time(tally.first), time(tally.last)) {
                (Some(first), Some(last)) if first == last => first,
                (Some(first), Some(last)) => format!("{first} to {last}"),
                _ => "-".into(),
            };
            self.look.column(out, LABEL, period.as_bytes(), 44)?;
            self.look.styled(out, SESSION, &name)?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn json(&self, out: &mut dyn Write, shape: Shape) -> io::Result<()> {
        let document = shape == Shape::Document;
        if document {
            write!(out, "{{\"schema\":{SCHEMA},\"groups\":[")?;
        }
        for (index, (_, group, tally)) in self.sorted().into_iter().enumerate() {
            let mut line = Vec::new();
            let json = &mut Text::new(&mut line);
            match (document, index) {
                (true, 0) => json.raw("\n{"),
                (true, _) => json.raw(",\n{"),
                (false, _) => json.raw(LINE),
            };
            self.row(json, group, &tally);
            if !document {
                json.raw("\n");
            }
            out.write_all(&line)?;
        }
        if document {
            writeln!(out, "\n]}}")?;
        }
        Ok(())
    }

    /// The rest of an object, behind what it begins with.
    fn row(&self, json: &mut Text<'_>, group: &Group, tally: &Tally) {
        match group {
            Group::Session(writer) => session(json.raw(r#""session":"#), writer),
            Group::Tool(tool) => {
                _ = json.bytes(r#""tool":"#, r#""tool_b64":"#, tool.as_bytes());
            }
            Group::User(uid) => {
                let name = self.look.users.name(*uid);
                json.raw(r#""uid":"#).plain(uid).raw(r#","user":"#);
                json.option(name, |json, name| _ = json.string(&name));
            }
            Group::Day(day) => _ = json.raw(r#""day":"#).string(day),
            Group::Unknown | Group::NoRecord => {
                json.raw(match self.by {
                    GroupBy::Session => r#""session":null"#,
                    GroupBy::Tool => r#""tool":null"#,
                    GroupBy::User => r#""uid":null"#,
                    GroupBy::Day => r#""day":null"#,
                });
            }
        }
        json.raw(r#","stamped":"#).plain(*group != Group::NoRecord);
        json.raw(r#","files":"#).plain(tally.files);
        json.raw(r#","first":"#).option(tally.first, unix);
        json.raw(r#","last":"#).option(tally.last, unix).raw("}");
    }
}

impl All for Groups {
    fn keys(&self) -> Vec<Key> {
        let by = match self.by {
            GroupBy::Session | GroupBy::User => Key::Session,
            GroupBy::Tool => Key::Tool,
            GroupBy::Day => return vec![Key::Ts],
        };
        vec![by, Key::Ts]
    }

    fn is_text(&self) -> bool {
        self.shape.is_none()
    }

    fn add(&mut self, answer: Answer) {
        let group = match &answer.record {
            None => Group::NoRecord,
            Some(record) => self.group(record).unwrap_or(Group::Unknown),
        };
        let tally = self.tallies.entry(group).or_default();
        tally.files += 1;
        let record = answer.record.as_ref();
        let unix = record.and_then(|record| record.ts.as_ref()?.unix);
        if let Some(unix) = unix {
            tally.first = Some(tally.first.map_or(unix, |first| first.min(unix)));
            tally.last = Some(tally.last.map_or(unix, |last| last.max(unix)));
        }
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.shape {
            None => self.table(out),
            Some(shape) => self.json(out, shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::look::for_tests;

    fn show(by: GroupBy, limit: Option<usize>, shape: Option<Shape>) -> String {
        let mut groups = Groups::new(by, limit, shape, for_tests(false, true));
        let mut out = Vec::new();
        let mut add = |session: &str, tool: &str, ts: &str| {
            let mut xattrs = vec![("user.prov.session", session), ("user.prov.tool", tool)];
            xattrs.push(("user.prov.ts", ts));
            xattrs.retain(|(_, value)| !value.is_empty());
            let record = Record::from_xattrs(xattrs);
            let answer = Answer {
                path: "f".into(),
                record,
                check: None,
            };
            groups.add(answer);
        };
        add("s1", "Edit", "2026-11-20T22:59:59Z");
        add("s1", "Bash", "2026-11-20T23:00:00Z");
        add(
            "comm-chain:cc1>make;pid:1;uid:1000",
            "cc1",
            "2026-11-20T23:00:01Z",
        );
        add(
            "comm-chain:cc1>sh;pid:2;uid:1000",
            "cc1",
            "2026-11-20T23:00:05Z",
        );
        add("comm-chain:cc1>sh;pid:3;uid:0", "cc1", "");
        add("", "", "then");
        add("", "", "");
        groups.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!(show(GroupBy::Session, None, None), @r"
               2  2026-11-21 00:00:01 to 2026-11-21 00:00:05  cc1 by alice (1000)
               2  2026-11-20 23:59:59 to 2026-11-21 00:00:00  s1
               1  -                                           (no record)
               1  -                                           (no session)
               1  -                                           cc1 by root (0)
        ");
        insta::assert_snapshot!(show(GroupBy::Tool, Some(1), None), @r"
               3  2026-11-21 00:00:01 to 2026-11-21 00:00:05  cc1
        ");
        insta::assert_snapshot!(show(GroupBy::Day, None, None), @r"
               1  -                                           (no record)
               2  -                                           (no time)
               1  2026-11-20 23:59:59                         2026-11-20
               3  2026-11-21 00:00:00 to 2026-11-21 00:00:05  2026-11-21
        ");
    }

    #[test]
    fn json() {
        insta::assert_snapshot!(show(GroupBy::User, None, Some(Shape::Document)));
        insta::assert_snapshot!(show(GroupBy::Session, Some(2), Some(Shape::Lines)));
    }
}
