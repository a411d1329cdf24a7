//! How values look to people: colors, escapes, names of users, times.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use anstyle::{AnsiColor, Style};
use provfs::{Session, Time};
use provfs_cli::escape::write_escaped;

use crate::{
    args::Verdict,
    times::{Clock, length},
    verify::{Check, Times},
};

pub(super) const PATH: Style = AnsiColor::Magenta.on_default().bold();
pub(super) const LABEL: Style = Style::new().dimmed();
pub(super) const SESSION: Style = AnsiColor::Cyan.on_default();
pub(super) const NONE: Style = AnsiColor::Yellow.on_default();

/// In color or not, with control bytes escaped or not.
#[derive(Debug)]
pub(crate) struct Look {
    color: bool,
    escape: bool,
    pub(super) clock: Clock,
    pub(super) users: Users,
}

impl Look {
    pub(crate) fn new(color: bool, escape: bool, clock: Clock) -> Self {
        Look {
            color,
            escape,
            clock,
            users: Users::default(),
        }
    }

    /// A value as it is printed.
    pub(super) fn value(&self, bytes: &[u8]) -> Vec<u8> {
        if !self.escape {
            return bytes.to_vec();
        }
        let mut escaped = Vec::new();
        write_escaped(&mut escaped, bytes).expect("writing to memory");
        escaped
    }

    /// A value that is ready to be printed, in a style.
    pub(super) fn styled(&self, out: &mut dyn Write, style: Style, bytes: &[u8]) -> io::Result<()> {
        if !self.color {
            return out.write_all(bytes);
        }
        write!(out, "{style}")?;
        out.write_all(bytes)?;
        write!(out, "{style:#}")
    }

    /// The same, with blanks up to a width.
    pub(super) fn column(
        &self,
        out: &mut dyn Write,
        style: Style,
        bytes: &[u8],
        width: usize,
    ) -> io::Result<()> {
        self.styled(out, style, bytes)?;
        // Near enough: a column is for short values, mostly ASCII.
        let taken = String::from_utf8_lossy(bytes).chars().count();
        write!(out, "{:1$}", "", width.saturating_sub(taken))
    }

    /// A session in a few words.
    pub(super) fn session(&self, session: &Session) -> Vec<u8> {
        let (bytes, note) = match session {
            Session::Declared(id) => (id.as_bytes(), String::new()),
            Session::AgentNs(id) => (id.as_bytes(), " (agent namespace)".into()),
            Session::Opaque(bytes) => (bytes.as_bytes(), " (no known form)".into()),
            _ => {
                let comm = session.comm().map(|comm| comm.as_bytes());
                let user = session.uid().map(|uid| self.users.show(uid));
                (
                    comm.unwrap_or_default(),
                    user.map(|user| format!(" by {user}")).unwrap_or_default(),
                )
            }
        };
        [self.value(bytes), self.value(note.as_bytes())].concat()
    }

    /// A time of a record: when, how long ago, and what is stored.
    pub(super) fn when(&self, time: &Time) -> Vec<u8> {
        let raw = self.value(time.raw.as_bytes());
        let known = time
            .unix
            .and_then(|unix| Some((self.clock.local(unix)?, self.clock.relative(unix))));
        match known {
            Some((local, relative)) => {
                [format!("{local}, {relative} (").as_bytes(), &raw, b")"].concat()
            }
            None => [&raw, &b" (no known form of time)"[..]].concat(),
        }
    }

    /// A verdict, and how far the times are apart.
    pub(super) fn check(&self, check: &Check, ts: Option<i64>) -> String {
        let apart = |other: i64| {
            ts.and_then(|ts| length(ts.abs_diff(other)))
                .unwrap_or_else(|| "a moment".into())
        };
        let Times {
            modified,
            changed,
            birth,
        } = check.times;
        let why = match check.verdict {
            Verdict::Current => "the data were last modified when it was made".into(),
            Verdict::Stale => format!("the data were modified {} later", apart(modified)),
            Verdict::Backdated => format!("the data carry a time {} earlier", apart(modified)),
            Verdict::Copied => format!(
                "this file was made {} later, so it came along with a copy",
                apart(birth.unwrap_or(changed))
            ),
            Verdict::Ahead => format!("the file last changed {} earlier", apart(changed)),
            Verdict::Undated => "it has no time to compare".into(),
        };
        format!("{}: {why}", verdict_name(check.verdict))
    }
}

/// A verdict as it is written on the command line and in JSON.
pub(crate) fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Current => "current",
        Verdict::Stale => "stale",
        Verdict::Backdated => "backdated",
        Verdict::Copied => "copied",
        Verdict::Ahead => "ahead",
        Verdict::Undated => "undated",
    }
}

/// Names of users, asked for once each.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<HashMap<u32, Option<String>>>);

impl Users {
    /// The name, if somebody has this number here: files travel between machines.
    pub(super) fn name(&self, uid: u32) -> Option<String> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = names.entry(uid).or_insert_with(|| {
            uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned())
        });
        name.clone()
    }

    /// `alice (1000)`, or the number alone.
    pub(super) fn show(&self, uid: u32) -> String {
        match self.name(uid) {
            Some(name) => format!("{name} ({uid})"),
            None => format!("uid {uid}"),
        }
    }

    #[cfg(test)]
    pub(super) fn put(&self, uid: u32, name: Option<&str>) {
        self.0.lock().unwrap().insert(uid, name.map(str::to_owned));
    }
}

/// What tests show things with.
#[cfg(test)]
pub(super) fn for_tests(color: bool, escape: bool) -> Look {
    let look = Look::new(color, escape, Clock::fixed(1_795_252_353 + 7_300, 3_600));
    look.users.put(0, Some("root"));
    look.users.put(1000, Some("alice"));
    look.users.put(4_000_000, None);
    look
}
