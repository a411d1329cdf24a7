//! What is asked: the command line, worked out for this machine and this moment.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use provfs::Key;

use crate::{
    args::{Args, Sort, Verdict},
    filter::Filter,
    times::{Clock, Span},
    verify::Judge,
    walk::{Entry, Walk},
};

/// Which files are asked, what of them is read, and which are shown.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) walk: Walk,
    pub(crate) filter: Filter,
    /// What the filter needs, which is read first.
    pub(crate) filter_keys: Vec<Key>,
    /// What is shown or sorted by.
    pub(crate) keys: Vec<Key>,
    /// Only files without a record are wanted.
    pub(crate) unstamped: bool,
    /// Files without a record are shown even if nobody named them.
    all: bool,
    /// Whether there is any condition that only a record can meet.
    conditions: bool,
    /// Compares records with files, if that is asked for.
    pub(crate) judge: Option<Judge>,
    /// What it must come to; empty for all.
    pub(crate) verdicts: Vec<Verdict>,
}

impl Question {
    /// Works out `args`, when `shown` is what will be printed of a record. The error says what is
    /// wrong with them.
    pub(crate) fn new(args: &Args, shown: &[Key], clock: &Clock) -> Result<Self, String> {
        let bytes = |text: &Option<OsString>| text.clone().map(OsString::into_vec);
        let time = |text: &Option<String>, end: fn(Span) -> i64| match text {
            Some(text) => clock.parse(text).map(|span| Some(end(span))),
            None => Ok(None),
        };
        let filter = Filter {
            session: bytes(&args.session),
            tool: bytes(&args.tool),
            turn: bytes(&args.turn),
            intent: bytes(&args.intent),
            uid: args.user.as_deref().map(uid).transpose()?,
            comm: bytes(&args.comm),
            since: time(&args.since, |span| span.first)?,
            until: time(&args.until, |span| span.last)?,
            history: args.history,
        };
        let filter_keys = filter.keys();
        let verdicts = args.verify.clone().unwrap_or_default();
        let sorted_by: &[Key] = match args.sort {
            Some(Sort::Time) => &[Key::Ts],
            Some(Sort::Session) => &[Key::Session, Key::Ts],
            _ => &[],
        };
        let judged: &[Key] = if args.verify.is_some() {
            &[Key::Ts]
        } else {
            &[]
        };
        let mut keys: Vec<Key> = Key::ALL.to_vec();
        keys.retain(|key| {
            [shown, sorted_by, judged, &filter_keys]
                .concat()
                .contains(key)
        });
        Ok(Question {
            walk: Walk::new(args)?,
            conditions: !filter_keys.is_empty() || !verdicts.is_empty(),
            filter,
            filter_keys,
            keys,
            unstamped: args.unstamped,
            all: args.all,
            judge: args.verify.is_some().then(Judge::new),
            verdicts,
        })
    }

    /// Whether a file is shown though it has no record.
    pub(crate) fn shows_unstamped<P>(&self, entry: &Entry<P>) -> bool {
        let asked = entry.named || (!entry.folder && (self.unstamped || self.all));
        asked && !self.conditions
    }
}

/// A user by number or name.
fn uid(user: &str) -> Result<u32, String> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match uzers::get_user_by_name(user) {
        Some(user) => Ok(user.uid()),
        None => Err(format!(
            "there is no user '{}' here: give the number if the files come from elsewhere",
            user.escape_debug()
        )),
    }
}
