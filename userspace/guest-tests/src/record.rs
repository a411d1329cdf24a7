//! What a record is expected to be: the extended attributes themselves, and what the library makes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    os::fd::{AsRawFd, BorrowedFd},
    panic::Location,
    path::{Path, PathBuf},
};

use provfs::{Record, Session};
use rustix::io::Errno;

use crate::{
    actor::Actor,
    fixture::{Outcome, Place, STAMPED, Stop, counting, ensure, ensure_eq},
};

/// What a process declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) session: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) turn: Option<&'static str>,
    pub(crate) intent: Option<&'static str>,
}

/// Somebody who declares everything.
pub(crate) const ALICE: Who = Who {
    session: "01KS9ABCDEFGHJKMNPQRSTVWXY",
    tool: "Edit",
    turn: Some("42"),
    intent: Some("self-review"),
};
/// Somebody else who declares everything.
pub(crate) const CAROL: Who = Who {
    session: "carol",
    tool: "Write",
    turn: Some("3"),
    intent: Some("tidy up"),
};
/// Somebody who declares a session and a tool.
pub(crate) const BOB: Who = Who {
    session: "bob",
    tool: "Bash",
    turn: None,
    intent: None,
};
/// Somebody else who declares a session and a tool.
pub(crate) const DAVE: Who = Who {
    session: "dave",
    tool: "Make",
    turn: None,
    intent: None,
};

impl Who {
    /// The variables that declare it.
    pub(crate) fn variables(&self) -> Vec<String> {
        let mut variables = vec![
            format!("PROV_SESSION={}", self.session),
            format!("PROV_TOOL={}", self.tool),
        ];
        variables.extend(self.turn.map(|turn| format!("PROV_TURN={turn}")));
        variables.extend(self.intent.map(|intent| format!("PROV_INTENT={intent}")));
        variables
    }
}

/// The record of a file as it is stored, by the last word of each name. Empty if there is none.
pub(crate) fn raw(path: impl AsRef<Path>) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let path = path.as_ref();
    let explain =
        |errno: Errno| Stop::Failed(format!("{}: extended attributes: {errno}", path.display()));
    let mut names = vec![0; 65536];
    let len = match rustix::fs::listxattr(path, &mut names[..]) {
        // A file system without any.
        Err(Errno::OPNOTSUPP) => 0,
        result => result.map_err(explain)?,
    };
    let mut record = BTreeMap::new();
    for name in names[..len].split(|&byte| byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let Some(key) = name
            .strip_prefix("user.prov")
            .filter(|key| key.is_empty() || key.starts_with('.'))
        else {
            continue;
        };
        let mut value = vec![0; 4096];
        let len = match rustix::fs::getxattr(path, name, &mut value[..]) {
            // Somebody removed it meanwhile.
            Err(Errno::NODATA) => continue,
            result => result.map_err(explain)?,
        };
        value.truncate(len);
        record.insert(key.trim_start_matches('.').to_owned(), value);
    }
    Ok(record)
}

/// Fails unless a file that this actor writes is recorded: what shows that nothing was recorded
/// before would hold if recording did not work at all.
#[track_caller]
pub(crate) fn ensure_at_work(place: &Place, actor: &Actor, who: &Who) -> Outcome {
    let path = place.path("at-work");
    counting(STAMPED, || actor.put(&path))?;
    ensure_by(path, who)
}

/// The fields of a record as they are stored, in either format, by the names that they have as keys. Empty if there is
/// no record.
///
/// Fails if there are parts of both formats.
#[track_caller]
pub(crate) fn fields(path: impl AsRef<Path>) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let path = path.as_ref();
    let mut record = raw(path)?;
    let Some(packed) = record.remove("") else {
        return Ok(record);
    };
    ensure!(
        record.is_empty(),
        "{}: {}: packed, and as keys {}",
        Location::caller(),
        path.display(),
        shown(&record)
    );
    unpacked(&packed)
}

/// The fields of a packed record.
fn unpacked(packed: &[u8]) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut fields = BTreeMap::new();
    let mut known = Vec::new();
    for part in packed.split(|&byte| byte == b';') {
        let equals = part.iter().position(|&byte| byte == b'=');
        let (label, value) = part.split_at(equals.unwrap_or(0));
        let value = value.get(1..).unwrap_or_default();
        let key = match label {
            b"ts" => "ts",
            b"s" => "session",
            b"t" => "tool",
            b"n" => "turn",
            b"i" => "intent",
            b"h" => "history",
            b"c" | b"p" | b"u" => {
                known.push((label, value));
                continue;
            }
            _ => {
                return Err(Stop::Failed(format!(
                    "packed: \"{}\"",
                    packed.escape_ascii()
                )));
            }
        };
        fields.insert(key.to_owned(), value.to_vec());
    }
    // A fallback session, as it would be as a key.
    if let [(b"c", chain), (b"p", pid), (b"u", uid)] = &known[..] {
        let session = [b"comm-chain:", *chain, b";pid:", pid, b";uid:", uid].concat();
        fields.insert("session".to_owned(), session);
    } else {
        ensure!(known.is_empty(), "packed: \"{}\"", packed.escape_ascii());
    }
    Ok(fields)
}

/// One field of a record as it is stored.
#[track_caller]
pub(crate) fn key(path: impl AsRef<Path>, key: &str) -> Outcome<Option<String>> {
    Ok(fields(path)?
        .remove(key)
        .map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// The extended attributes that the record of a file is made of.
pub(crate) fn attributes(path: impl AsRef<Path>) -> Outcome<Vec<String>> {
    let name = |key: &String| match &**key {
        "" => "user.prov".to_owned(),
        key => format!("user.prov.{key}"),
    };
    Ok(raw(path)?.keys().map(name).collect())
}

/// Whether records are packed now.
pub(crate) fn is_packed() -> Outcome<bool> {
    Ok(crate::fixture::get("format")? == b"packed")
}

/// The record of a file.
#[track_caller]
pub(crate) fn read(path: impl AsRef<Path>) -> Outcome<Record> {
    let path = path.as_ref();
    let caller = Location::caller();
    let missing = || Stop::Failed(format!("{caller}: {} has no record", path.display()));
    provfs::read(path)?.ok_or_else(missing)
}

/// Fails unless a file has no record.
#[track_caller]
pub(crate) fn ensure_none(path: impl AsRef<Path>) -> Outcome {
    let path = path.as_ref();
    let record = raw(path)?;
    if !record.is_empty() {
        let caller = Location::caller();
        return Err(Stop::Failed(format!(
            "{caller}: {} has a record: {}",
            path.display(),
            shown(&record)
        )));
    }
    Ok(())
}

/// Fails unless the record of a file names this writer, with nothing left from another but in a sound history.
#[track_caller]
pub(crate) fn ensure_by(path: impl AsRef<Path>, who: &Who) -> Outcome {
    let expected = [
        ("session", Some(who.session)),
        ("tool", Some(who.tool)),
        ("turn", who.turn),
        ("intent", who.intent),
    ];
    let caller = Location::caller();
    let path = path.as_ref();
    let mut record = fields(path)?;
    let history = record.remove("history");
    let ts = record.remove("ts");
    let as_it_is = shown(&record);
    let expected = expected
        .iter()
        .filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?.as_bytes().to_vec())));
    let expected: BTreeMap<_, _> = expected.collect();
    if record != expected || ts.is_none() {
        let expected = shown(&expected);
        return Err(Stop::Failed(format!(
            "{caller}: the record of {}\n  is     {as_it_is}{}\n  not    {expected}",
            path.display(),
            ts.map_or("", |_| "ts"),
        )));
    }
    if let Some(history) = history {
        ensure_sound(&history, who.session)
            .map_err(|what| Stop::Failed(format!("{caller}: {}: {what}", path.display())))?;
    }
    // What the library reads is the same.
    let read = provfs::read(path)?
        .ok_or_else(|| Stop::Failed(format!("{caller}: the library finds no record")))?;
    let text = |value: Option<&str>| value.map(provfs::Value::from);
    ensure_eq!(
        read.session,
        Some(Session::Declared(who.session.into())),
        "session by the library"
    );
    ensure_eq!(read.tool, Some(who.tool.into()), "tool by the library");
    ensure_eq!(
        (read.turn, read.intent),
        (text(who.turn), text(who.intent)),
        "turn and intent by the library"
    );
    Ok(())
}

/// Fails unless a history begins with this session, has at least two, and none twice.
fn ensure_sound(history: &[u8], newest: &str) -> Result<(), String> {
    let text = String::from_utf8_lossy(history);
    let sessions: Vec<_> = text.split(',').collect();
    let distinct: BTreeSet<_> = sessions.iter().collect();
    if sessions.first() == Some(&newest) && sessions.len() > 1 && distinct.len() == sessions.len() {
        Ok(())
    } else {
        Err(format!("the history is {text:?}"))
    }
}

/// Fails unless the history of a file is this one, newest first; none at all if it has fewer than two sessions.
#[track_caller]
pub(crate) fn ensure_history(path: impl AsRef<Path>, sessions: &[&str]) -> Outcome {
    let path = path.as_ref();
    let caller = Location::caller();
    let expected = (sessions.len() > 1).then(|| sessions.join(","));
    let stored = key(path, "history")?;
    if stored != expected {
        return Err(Stop::Failed(format!(
            "{caller}: the history of {}\n  is     {stored:?}\n  not    {expected:?}",
            path.display()
        )));
    }
    // What the library reads is as much.
    let read = read(path)?.history.len();
    ensure_eq!(
        read,
        expected.map_or(0, |_| sessions.len()),
        "{caller}: sessions by the library"
    );
    Ok(())
}

/// Fails unless the time of the record lies between two others.
#[track_caller]
pub(crate) fn ensure_ts(path: impl AsRef<Path>, when: &RangeInclusive<i64>) -> Outcome {
    let ts = read(path)?.ts.and_then(|ts| ts.unix);
    if !ts.is_some_and(|ts| when.contains(&ts)) {
        return Err(Stop::Failed(format!(
            "{}: ts is {ts:?}, not in {when:?}",
            Location::caller()
        )));
    }
    Ok(())
}

/// Fails unless the writer of a file declared no session, and returns what the kernel knew about it.
#[track_caller]
pub(crate) fn fallback(path: impl AsRef<Path>) -> Outcome<provfs::Fallback> {
    let path = path.as_ref();
    let caller = Location::caller();
    match read(path)?.session {
        Some(Session::Fallback(who)) => Ok(who),
        other => Err(Stop::Failed(format!(
            "{caller}: {}: not a fallback session: {other:?}",
            path.display()
        ))),
    }
}

/// What an open file is called by others.
pub(crate) fn by_fd(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Fails unless a stored value could not be taken for more than one.
pub(crate) fn ensure_contained(key: &str, value: &[u8]) -> Outcome {
    let bad = value
        .iter()
        .find(|byte| byte.is_ascii_control() || b";,>".contains(byte));
    ensure!(
        bad.is_none(),
        "{key} is stored with a separator in it: \"{}\"",
        value.escape_ascii()
    );
    Ok(())
}

fn shown(record: &BTreeMap<String, Vec<u8>>) -> String {
    let fields = record
        .iter()
        .map(|(key, value)| format!("{key}=\"{}\"  ", value.escape_ascii()));
    if record.is_empty() {
        "none".to_owned()
    } else {
        fields.collect()
    }
}
