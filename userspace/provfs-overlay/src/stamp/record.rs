//! Reading the record that a file has, and writing the next one.

use provfs::{
    Format,
    pure::{
        history,
        limits::{HISTORY_MAX, HISTORY_TEXT_MAX, PACKED_MAX, SESSION_MAX},
        packed::{self, Packed},
        record::{Key, PACKED, Record, Session},
        text::Writer,
        time::{RFC3339_LEN, format_rfc3339, parse_ts},
    },
};
use rustix::io::{Errno, Result};

use crate::{attributes::Attributes, caller::Identity};

/// The record that a file has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Old {
    /// Its session, as stored.
    pub session: Option<Vec<u8>>,
    tool: Option<Vec<u8>>,
    turn: Option<Vec<u8>>,
    intent: Option<Vec<u8>>,
    history: Vec<u8>,
    ts: Option<i64>,
    keys: Vec<Key>,
    packed: bool,
}

impl Old {
    /// Reads it: one call if there is none.
    pub fn read(attributes: &dyn Attributes) -> Result<Self> {
        let list = attributes.list()?;
        let names: Vec<&[u8]> = list.split(|&byte| byte == 0).collect();
        let mut old = Old {
            keys: Key::ALL
                .into_iter()
                .filter(|key| names.contains(&key.name().to_bytes()))
                .collect(),
            packed: names.contains(&PACKED.to_bytes()),
            ..Old::default()
        };
        for key in old.keys.clone() {
            let Some(value) = attributes.get(key.name())? else {
                continue;
            };
            match key {
                Key::Session => old.session = Some(value),
                Key::Tool => old.tool = Some(value),
                Key::Turn => old.turn = Some(value),
                Key::Intent => old.intent = Some(value),
                Key::Ts => old.ts = parse_ts(&value).map(|time| time.secs),
                Key::History => old.history = value,
            }
        }
        let packed = if old.packed {
            attributes.get(PACKED)?
        } else {
            None
        };
        if let Some(record) = packed.as_deref().and_then(packed::decode) {
            if old.keys.is_empty() || record.time().map(|time| time.secs) > old.ts {
                old.take(&record);
            }
        }
        Ok(old)
    }

    /// The record that was made of somebody for a file without one, to which sessions were added. It
    /// is not to be part of a history.
    pub fn stored(who: &Identity, format: Format, added: &[u8]) -> Self {
        let has = |key: &Key| match key {
            Key::Turn => who.turn.is_some(),
            Key::Intent => who.intent.is_some(),
            Key::History => !added.is_empty(),
            _ => true,
        };
        let packed = format == Format::Packed;
        Old {
            keys: Key::ALL
                .into_iter()
                .filter(|key| !packed && has(key))
                .collect(),
            packed,
            ..Old::default()
        }
    }

    /// Removes it.
    pub fn remove(&self, attributes: &dyn Attributes) -> Result<()> {
        for key in &self.keys {
            attributes.remove(key.name())?;
        }
        if self.packed {
            attributes.remove(PACKED)?;
        }
        Ok(())
    }

    fn take(&mut self, record: &Record<'_>) {
        let copy = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        self.session = record.session.map(stored);
        self.tool = copy(record.tool);
        self.turn = copy(record.turn);
        self.intent = copy(record.intent);
        self.history = copy(record.history).unwrap_or_default();
        self.ts = record.time().map(|time| time.secs);
    }

    /// Its sessions, newest first, as entries of a history.
    pub fn entries(&self) -> Vec<u8> {
        let mut buf = vec![0; HISTORY_TEXT_MAX + SESSION_MAX];
        let mut out = Writer::new(&mut buf);
        let named = self.session.as_deref().map(Session::parse);
        history::push_all(
            history::sessions(named, &self.history),
            HISTORY_MAX,
            &mut out,
        );
        out.as_bytes().to_vec()
    }

    /// The same with sessions from before.
    pub fn with_history(mut self, entries: &[u8]) -> Self {
        if !entries.is_empty() {
            if !self.history.is_empty() {
                self.history.push(b',');
            }
            self.history.extend_from_slice(entries);
        }
        self
    }
}

/// The stored form of a session that was read from a packed record.
fn stored(session: Session<'_>) -> Vec<u8> {
    match session {
        Session::Declared(bytes) | Session::AgentNs(bytes) | Session::Opaque(bytes) => {
            bytes.to_vec()
        }
        Session::Fallback(who) => {
            let mut text = b"comm-chain:".to_vec();
            text.extend_from_slice(who.chain);
            for (label, number) in [(";pid:", who.pid), (";uid:", who.uid)] {
                if let Some(number) = number {
                    text.extend_from_slice(format!("{label}{number}").as_bytes());
                }
            }
            text
        }
        Session::Legacy { comm, pid, uid } => {
            let mut text = b"comm:".to_vec();
            text.extend_from_slice(comm);
            for (label, number) in [(":pid:", pid), (":uid:", uid)] {
                if let Some(number) = number {
                    text.extend_from_slice(format!("{label}{number}").as_bytes());
                }
            }
            text
        }
    }
}

/// Puts records together, in the format that is set.
#[derive(Clone, Copy, Debug)]
pub struct Composer {
    /// How they are stored.
    pub format: Format,
    /// How many sessions a history has at most.
    pub history: usize,
}

impl Composer {
    /// Replaces a record. `time` is in nanoseconds since the Unix epoch.
    pub fn write(
        &self,
        attributes: &dyn Attributes,
        who: &Identity,
        time: i64,
        old: &Old,
    ) -> Result<()> {
        let session = old.session.as_deref();
        let new = New {
            session: &who.session,
            tool: Some(&who.tool),
            turn: who.turn.as_deref(),
            intent: who.intent.as_deref(),
            ts: time.div_euclid(1_000_000_000),
            history: self.merge(&who.session, session, &old.history),
        };
        self.put(attributes, &new, old)
    }

    /// Adds the sessions of a file that was replaced to the history of a record. Returns whether
    /// there is a record.
    pub fn inherit(&self, attributes: &dyn Attributes, replaced: &Old) -> Result<bool> {
        let old = Old::read(attributes)?;
        let Some(session) = old.session.clone() else {
            return Ok(false);
        };
        let before = old.history.clone();
        let old = old.with_history(&replaced.entries());
        let history = self.merge(&session, None, &old.history);
        if history.as_deref().unwrap_or_default() == before {
            return Ok(true);
        }
        match (self.format, &history) {
            (Format::Packed, _) | (_, None) => {
                let new = New {
                    session: &session,
                    tool: old.tool.as_deref(),
                    turn: old.turn.as_deref(),
                    intent: old.intent.as_deref(),
                    ts: old.ts.unwrap_or(0),
                    history,
                };
                self.put(attributes, &new, &old)?;
            }
            (_, Some(history)) => attributes.set(Key::History.name(), history)?,
        }
        Ok(true)
    }

    fn merge(&self, new: &[u8], old: Option<&[u8]>, before: &[u8]) -> Option<Vec<u8>> {
        let mut buf = [0; HISTORY_TEXT_MAX + 1];
        let mut out = Writer::new(&mut buf);
        let count = history::merge(new, old, before, self.history, &mut out);
        (count > 0).then(|| out.as_bytes().to_vec())
    }

    fn put(&self, attributes: &dyn Attributes, new: &New<'_>, old: &Old) -> Result<()> {
        match self.format {
            Format::Packed => {
                let mut buf = [0; PACKED_MAX];
                let mut out = Writer::new(&mut buf);
                let record = Packed {
                    ts: new.ts,
                    session: new.session,
                    tool: new.tool,
                    turn: new.turn,
                    intent: new.intent,
                    history: new.history.as_deref(),
                };
                packed::encode(&record, &mut out).map_err(|_| Errno::NOSPC)?;
                attributes.set(PACKED, out.as_bytes())?;
                for key in &old.keys {
                    attributes.remove(key.name())?;
                }
            }
            _ => {
                put_keys(attributes, new, old)?;
                if old.packed {
                    attributes.remove(PACKED)?;
                }
            }
        }
        Ok(())
    }
}

/// The record to be written.
struct New<'a> {
    session: &'a [u8],
    tool: Option<&'a [u8]>,
    turn: Option<&'a [u8]>,
    intent: Option<&'a [u8]>,
    ts: i64,
    history: Option<Vec<u8>>,
}

/// A record is never a mixture: if one of its keys cannot be written, those that would be left from
/// the record before are removed.
fn put_keys(attributes: &dyn Attributes, new: &New<'_>, old: &Old) -> Result<()> {
    let mut ts = [0; RFC3339_LEN];
    let record = [
        (Key::Tool, new.tool),
        (Key::Turn, new.turn),
        (Key::Intent, new.intent),
        (Key::Ts, Some(format_rfc3339(new.ts, &mut ts))),
        (Key::History, new.history.as_deref()),
        // The longest one: ext4 gives it a block of its own, in which it then need not look for the others.
        (Key::Session, Some(new.session)),
    ];
    for (index, (key, value)) in record.iter().enumerate() {
        let done = match value {
            Some(value) => attributes.set(key.name(), value),
            None if old.keys.contains(key) => attributes.remove(key.name()),
            None => Ok(()),
        };
        if let Err(error) = done {
            for (key, _) in record.iter().skip(index) {
                let _ = attributes.remove(key.name());
            }
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, ffi::CStr};

    use super::*;

    /// Attributes in memory, of which some cannot be set.
    #[derive(Default)]
    struct Fake {
        values: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
        refuses: Option<&'static CStr>,
    }

    impl Fake {
        fn text(&self) -> String {
            let values = self.values.borrow();
            let lines = values
                .iter()
                .map(|(name, value)| format!("{}={}\n", name.escape_ascii(), value.escape_ascii()));
            lines.collect::<String>().replace("user.prov", "")
        }
    }

    impl Attributes for Fake {
        fn get(&self, name: &CStr) -> Result<Option<Vec<u8>>> {
            Ok(self.values.borrow().get(name.to_bytes()).cloned())
        }
        fn list(&self) -> Result<Vec<u8>> {
            Ok(self
                .values
                .borrow()
                .keys()
                .flat_map(|name| [name, &b"\0"[..]].concat())
                .collect())
        }
        fn set(&self, name: &CStr, value: &[u8]) -> Result<()> {
            if self.refuses == Some(name) {
                return Err(Errno::NOSPC);
            }
            self.values
                .borrow_mut()
                .insert(name.to_bytes().to_vec(), value.to_vec());
            Ok(())
        }
        fn remove(&self, name: &CStr) -> Result<()> {
            self.values.borrow_mut().remove(name.to_bytes());
            Ok(())
        }
    }

    const TIME: i64 = 1_795_252_353_999_999_999;

    const KEYS: Composer = Composer {
        format: Format::Keys,
        history: 5,
    };
    const PACK: Composer = Composer {
        format: Format::Packed,
        history: 5,
    };

    fn who(session: &str, turn: Option<&str>) -> Identity {
        Identity {
            session: session.into(),
            tool: b"Edit".to_vec(),
            turn: turn.map(Into::into),
            intent: None,
            comm: b"vi".to_vec(),
            uid: 0,
        }
    }

    fn write(composer: Composer, file: &Fake, who: &Identity) {
        let old = Old::read(file).unwrap();
        composer.write(file, who, TIME, &old).unwrap();
    }

    #[test]
    fn keys_are_replaced_and_those_that_are_missing_removed() {
        let file = Fake::default();
        write(KEYS, &file, &who("s1", Some("4")));
        assert_eq!(
            file.text(),
            ".session=s1\n.tool=Edit\n.ts=2026-11-21T09:12:33Z\n.turn=4\n"
        );
        write(KEYS, &file, &who("s2", None));
        assert_eq!(
            file.text(),
            ".history=s2,s1\n.session=s2\n.tool=Edit\n.ts=2026-11-21T09:12:33Z\n"
        );
    }

    #[test]
    fn one_format_replaces_the_other_and_keeps_the_history() {
        let file = Fake::default();
        write(KEYS, &file, &who("s1", None));
        write(PACK, &file, &who("s2", Some("4")));
        assert_eq!(file.text(), "=ts=1795252353;s=s2;t=Edit;n=4;h=s2,s1\n");
        write(
            PACK,
            &file,
            &who("comm-chain:sh>vi;cwd:/;pid:7;uid:0", None),
        );
        assert_eq!(
            file.text(),
            "=ts=1795252353;c=sh>vi;p=7;u=0;t=Edit;h=comm:sh:uid:0,s2,s1\n"
        );
        write(KEYS, &file, &who("s3", None));
        assert!(
            file.text()
                .starts_with(".history=s3,comm:sh:uid:0,s2,s1\n.session=s3\n")
        );
    }

    #[test]
    fn a_record_that_cannot_be_written_is_no_mixture() {
        let mut file = Fake::default();
        write(KEYS, &file, &who("s1", Some("4")));
        file.refuses = Some(Key::Turn.name());
        let old = Old::read(&file).unwrap();
        let error = KEYS.write(&file, &who("s2", Some("5")), TIME, &old);
        assert_eq!(error, Err(Errno::NOSPC));
        assert_eq!(file.text(), ".tool=Edit\n");
    }

    #[test]
    fn sessions_of_a_replaced_file_go_into_the_history() {
        let replaced = Fake::default();
        write(KEYS, &replaced, &who("s1", None));
        write(KEYS, &replaced, &who("s2", None));
        let old = Old::read(&replaced).unwrap();
        assert_eq!(old.entries(), b"s2,s1");
        for (composer, want) in [(KEYS, ".history=s3,s2,s1\n"), (PACK, "h=s3,s2,s1\n")] {
            let file = Fake::default();
            assert!(!composer.inherit(&file, &old).unwrap());
            write(composer, &file, &who("s3", None));
            assert!(composer.inherit(&file, &old).unwrap());
            assert!(file.text().contains(want), "{}", file.text());
        }
    }
}
