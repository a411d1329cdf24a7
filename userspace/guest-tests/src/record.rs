//! What a record is expected to be: the extended attributes themselves, and what the library makes of them.

use std::{
    collections::BTreeMap,
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

/// One key of a record as it is stored.
pub(crate) fn key(path: impl AsRef<Path>, key: &str) -> Outcome<Option<String>> {
    Ok(raw(path)?
        .remove(key)
        .map(|value| String::from_utf8_lossy(&value).into_owned()))
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

/// Fails unless the record of a file names this writer, with nothing left from another.
#[track_caller]
pub(crate) fn ensure_by(path: impl AsRef<Path>, who: &Who) -> Outcome {
    let fields = [
        ("session", Some(who.session)),
        ("tool", Some(who.tool)),
        ("turn", who.turn),
        ("intent", who.intent),
        ("history", None),
        ("", None),
    ];
    let caller = Location::caller();
    let path = path.as_ref();
    let mut record = raw(path)?;
    let ts = record.remove("ts");
    let as_it_is = shown(&record);
    let expected = fields
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
