//! Which records are wanted. All conditions must hold; a record without what is compared does not
//! match.

use provfs::{Key, Record, Session, Value};

/// What a record has to be. The default lets every record pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// How the id of a session begins.
    pub(crate) session: Option<Vec<u8>>,
    pub(crate) tool: Option<Vec<u8>>,
    pub(crate) turn: Option<Vec<u8>>,
    /// What is somewhere in the intent.
    pub(crate) intent: Option<Vec<u8>>,
    pub(crate) uid: Option<u32>,
    pub(crate) comm: Option<Vec<u8>>,
    /// Unix seconds, inclusive.
    pub(crate) since: Option<i64>,
    /// Unix seconds, inclusive.
    pub(crate) until: Option<i64>,
    /// Whether session, uid and comm may be those of an earlier writer.
    pub(crate) history: bool,
}

impl Filter {
    /// The fields that [`Filter::accepts`] looks at; none means that every record passes.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let writer = self.session.is_some() || self.uid.is_some() || self.comm.is_some();
        [
            (Key::Session, writer),
            (Key::History, writer && self.history),
            (Key::Tool, self.tool.is_some()),
            (Key::Turn, self.turn.is_some()),
            (Key::Intent, self.intent.is_some()),
            (Key::Ts, self.since.is_some() || self.until.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, needed)| needed.then_some(key))
        .collect()
    }

    /// Whether a record is wanted.
    pub(crate) fn accepts(&self, record: &Record) -> bool {
        self.writer(record)
            && same(&self.tool, &record.tool)
            && same(&self.turn, &record.turn)
            && self.intent.as_ref().is_none_or(|text| {
                let intent = record.intent.as_ref().map(Value::as_bytes);
                intent.is_some_and(|intent| contains(intent, text))
            })
            && self.time(record)
    }

    fn writer(&self, record: &Record) -> bool {
        let now = record.session.iter();
        let before = record.history.iter().filter(|_| self.history);
        let nobody = self.session.is_none() && self.uid.is_none() && self.comm.is_none();
        // All of it must be true of one writer.
        nobody || now.chain(before).any(|session| self.is(session))
    }

    fn is(&self, session: &Session) -> bool {
        self.session
            .as_ref()
            .is_none_or(|prefix| id(session).is_some_and(|id| id.starts_with(prefix)))
            && self.uid.is_none_or(|uid| session.uid() == Some(uid))
            && self
                .comm
                .as_ref()
                .is_none_or(|comm| session.comm().is_some_and(|of| of.as_bytes() == comm))
    }

    fn time(&self, record: &Record) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let unix = record.ts.as_ref().and_then(|ts| ts.unix);
        unix.is_some_and(|unix| {
            self.since.is_none_or(|since| since <= unix)
                && self.until.is_none_or(|until| unix <= until)
        })
    }
}

/// What a session calls itself. What the kernel knows of a process is no such thing.
fn id(session: &Session) -> Option<&[u8]> {
    match session {
        Session::Declared(id) | Session::Opaque(id) => Some(id.as_bytes()),
        Session::AgentNs(id) => Some(id.as_bytes()),
        _ => None,
    }
}

fn same(wanted: &Option<Vec<u8>>, value: &Option<Value>) -> bool {
    wanted.as_ref().is_none_or(|wanted| {
        value
            .as_ref()
            .is_some_and(|value| value.as_bytes() == wanted)
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(session: &str, history: &str) -> Record {
        Record::from_xattrs([
            ("user.prov.session", session),
            ("user.prov.tool", "Edit"),
            ("user.prov.turn", "42"),
            ("user.prov.intent", "review myself"),
            ("user.prov.ts", "1970-01-01T00:01:40Z"),
            ("user.prov.history", history),
        ])
        .unwrap()
    }

    fn some(text: &str) -> Option<Vec<u8>> {
        Some(text.into())
    }

    #[test]
    fn each_condition_alone() {
        let declared = record("s1%3Bx", "");
        let fallback = record("comm-chain:cc1>make;pid:7;uid:1000", "");
        let none = Filter::default();
        for (filter, of_declared, of_fallback) in [
            (none.clone(), true, true),
            (
                Filter {
                    session: some("s1;"),
                    ..none.clone()
                },
                true,
                false,
            ),
            (
                Filter {
                    session: some("1"),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    session: some("comm"),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    tool: some("Edit"),
                    ..none.clone()
                },
                true,
                true,
            ),
            (
                Filter {
                    tool: some("Edi"),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    turn: some("42"),
                    ..none.clone()
                },
                true,
                true,
            ),
            (
                Filter {
                    turn: some("4"),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    intent: some("view my"),
                    ..none.clone()
                },
                true,
                true,
            ),
            (
                Filter {
                    intent: some("viewmy"),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    uid: Some(1000),
                    ..none.clone()
                },
                false,
                true,
            ),
            (
                Filter {
                    uid: Some(0),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    comm: some("cc1"),
                    ..none.clone()
                },
                false,
                true,
            ),
            (
                Filter {
                    comm: some("make"),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    since: Some(100),
                    until: Some(100),
                    ..none.clone()
                },
                true,
                true,
            ),
            (
                Filter {
                    since: Some(101),
                    ..none.clone()
                },
                false,
                false,
            ),
            (
                Filter {
                    until: Some(99),
                    ..none.clone()
                },
                false,
                false,
            ),
        ] {
            assert_eq!(filter.accepts(&declared), of_declared, "{filter:?}");
            assert_eq!(filter.accepts(&fallback), of_fallback, "{filter:?}");
        }
    }

    #[test]
    fn conditions_are_about_one_writer() {
        let record = record("s1", "s1,comm:cc1:uid:1000,comm:vim:uid:0");
        let mut filter = Filter {
            comm: some("cc1"),
            uid: Some(1000),
            ..Filter::default()
        };
        assert!(!filter.accepts(&record));
        filter.history = true;
        assert!(filter.accepts(&record));
        assert_eq!(filter.keys(), [Key::Session, Key::History]);
        filter.uid = Some(0);
        assert!(!filter.accepts(&record), "cc1 was not run by root");
    }

    #[test]
    fn what_is_not_there_does_not_match() {
        let empty = Record::default();
        for filter in [
            Filter {
                session: some(""),
                ..Filter::default()
            },
            Filter {
                tool: some(""),
                ..Filter::default()
            },
            Filter {
                intent: some(""),
                ..Filter::default()
            },
            Filter {
                since: Some(i64::MIN),
                ..Filter::default()
            },
        ] {
            assert!(!filter.accepts(&empty), "{filter:?}");
            assert_eq!(filter.keys().len(), 1);
        }
        assert!(Filter::default().keys().is_empty());
    }
}
