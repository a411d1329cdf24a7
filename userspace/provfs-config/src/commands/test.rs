//! `test`: would a file be recorded, and which rule decides?

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use provfs::pure::skip::{Facts, RuleKind};
use provfs_cli::exit;
use serde::Serialize;

use super::check;
use crate::{
    error::Error,
    kernel::Kernel,
    output::{Bytes, Out, bytes},
    place::{self, Mounts, Place, State},
    roots::Roots,
    rules::RuleList,
    settings::{BadValue, Setting},
};

/// A comm is not longer: `TASK_COMM_LEN` less its NUL.
const COMM_LEN: usize = 15;

/// Who would write.
pub(super) struct Writer<'a> {
    uid: u32,
    comm: Option<&'a [u8]>,
}

impl<'a> Writer<'a> {
    /// With what the command line says.
    pub(super) fn new(uid: Option<u32>, comm: Option<&'a OsStr>) -> Self {
        Writer {
            uid: uid.unwrap_or_else(|| rustix::process::getuid().as_raw()),
            // The kernel keeps so much of a name.
            comm: comm.map(|comm| comm.as_bytes().get(..COMM_LEN).unwrap_or(comm.as_bytes())),
        }
    }
}

/// Does it.
pub(super) fn run(
    roots: &Roots,
    out: &mut Out,
    paths: &[PathBuf],
    writer: &Writer<'_>,
    rules: Option<&Path>,
) -> Result<u8, Error> {
    let (list, enabled) = match rules {
        Some(file) => (check::rules_of(file)?, true),
        None => running(roots)?,
    };
    let mounts = Mounts::read(roots)?;
    let mut answers = Vec::new();
    let mut failed = None;
    for path in paths {
        match Place::of(&mounts, path) {
            Ok(place) => answers.push(Answer::find(&list, enabled, path, place, writer)),
            // The others can still be told about.
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    crate::complain(&earlier);
                }
            }
        }
    }
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            out.line("");
        }
        answer.print(out, &list, writer);
    }
    let all_recorded = answers.iter().all(Answer::is_recorded);
    out.document(
        "test",
        Answers {
            files: answers
                .iter()
                .map(|answer| answer.document(&list, writer))
                .collect(),
        },
    );
    match failed {
        Some(error) => Err(error),
        None if all_recorded => Ok(exit::OK),
        None => Ok(exit::NOTHING),
    }
}

/// The rules in force, and whether anything is recorded at all.
fn running(roots: &Roots) -> Result<(RuleList, bool), Error> {
    let kernel = Kernel::running(roots)?;
    let value = |name| {
        let setting = Setting::find(name).ok_or(Error::NotInKernel(name))?;
        kernel.get(setting)?.ok_or(Error::NotInKernel(name))
    };
    let list = RuleList::parse(&value("skip")?).map_err(|error| Error::BadValue {
        setting: "skip",
        why: BadValue::Rules(error, Vec::new()),
    })?;
    Ok((list, value("enabled")? != b"0"))
}

/// Why a file is recorded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    /// A rule says so.
    Rule,
    /// No rule matches, so it is recorded.
    NoRule,
    /// `provfs.enabled` is 0.
    Disabled,
    /// It is no regular file.
    NotRegular,
    /// Its file system has no user.* attributes.
    Unsupported,
}

/// What there is to say about a file.
struct Answer<'p> {
    asked: &'p Path,
    place: Place,
    reason: Reason,
    skipped: bool,
    /// The rule that decides, by position.
    rule: Option<usize>,
    /// Earlier rules that match, and say otherwise.
    overruled: Vec<usize>,
    /// Rules about programs that could still change it, if no program was named.
    open: Vec<usize>,
}

impl<'p> Answer<'p> {
    fn find(
        list: &RuleList,
        enabled: bool,
        asked: &'p Path,
        place: Place,
        writer: &Writer<'_>,
    ) -> Self {
        let facts = Facts {
            path: Some(place::bytes(&place.path)),
            fs_type: &place.fs_type,
            comm: writer.comm.unwrap_or_default(),
            uid: writer.uid,
        };
        let left_out = writer.comm.is_none().then_some(RuleKind::Comm);
        let rule = list.decider(&facts, left_out);
        let skipped = rule.is_some_and(|rule| !list.includes(rule));
        let (mut overruled, mut open) = (Vec::new(), Vec::new());
        for (index, one, _) in list.iter() {
            let otherwise = one.includes() == skipped;
            if Some(one.kind()) == left_out {
                if otherwise && rule.is_none_or(|rule| index > rule) {
                    open.push(index);
                }
            } else if otherwise
                && rule.is_some_and(|rule| index < rule)
                && list.matches(index, &facts)
            {
                overruled.push(index);
            }
        }
        let reason = match place.state {
            _ if !enabled => Reason::Disabled,
            State::NotRegular => Reason::NotRegular,
            _ if skipped => Reason::Rule,
            State::Unsupported => Reason::Unsupported,
            _ if rule.is_some() => Reason::Rule,
            _ => Reason::NoRule,
        };
        Answer {
            asked,
            place,
            reason,
            skipped,
            rule,
            overruled,
            open,
        }
    }

    fn is_recorded(&self) -> bool {
        !self.skipped && matches!(self.reason, Reason::Rule | Reason::NoRule)
    }

    fn print(&self, out: &mut Out, list: &RuleList, writer: &Writer<'_>) {
        let number = |rule: usize| {
            let source = String::from_utf8_lossy(list.source(rule)).into_owned();
            format!("rule {} of {}, {source}", rule + 1, list.len())
        };
        let fs_type = String::from_utf8_lossy(&self.place.fs_type).into_owned();
        out.line(place::bytes(self.asked));
        let by = self.rule.map(number);
        let verdict = match (self.reason, by) {
            (Reason::Rule, Some(by)) if self.skipped => format!("skipped   {by}: {}", self.why(list)),
            (Reason::Rule, Some(by)) => format!("recorded  {by}: {}", self.why(list)),
            (Reason::Disabled, _) => {
                "skipped   nothing is recorded while provfs.enabled is 0: provfs-config set enabled=1".into()
            }
            (Reason::NotRegular, _) => "skipped   it is not a regular file; ask about a file in it".into(),
            (Reason::Unsupported, _) => format!("skipped   {fs_type} has no user.* attributes here"),
            _ => "recorded  no rule matches".into(),
        };
        out.line(format!("  {verdict}"));
        for rule in &self.overruled {
            out.line(format!("  overruled {}", number(*rule)));
        }
        for rule in &self.open {
            out.line(format!(
                "  unless    {} decides; name a program with --comm",
                number(*rule)
            ));
        }
        let comm = writer.comm.map_or_else(String::new, |comm| {
            format!(" through {}", String::from_utf8_lossy(comm))
        });
        let mut seen = b"  as        ".to_vec();
        seen.extend_from_slice(place::bytes(&self.place.path));
        seen.extend_from_slice(
            format!(" on {fs_type}, written by user {}{comm}", writer.uid).as_bytes(),
        );
        out.line(seen);
    }

    /// What the rule that decides looks at.
    fn why(&self, list: &RuleList) -> &'static str {
        let rule = list.iter().find(|(index, ..)| Some(*index) == self.rule);
        match rule.map(|(_, rule, _)| rule.kind()) {
            Some(RuleKind::Path) => "its path is that or below it",
            Some(RuleKind::Name) => "its path has a part of that name",
            Some(RuleKind::Fs) => "its file system is of that type",
            Some(RuleKind::Comm) => "that program writes",
            Some(RuleKind::Uid) => "that user writes",
            None => "",
        }
    }

    fn document(&self, list: &RuleList, writer: &Writer<'_>) -> Document {
        let rule = |index: usize| RuleDocument {
            number: index + 1,
            kind: list
                .iter()
                .nth(index)
                .map_or("", |(_, rule, _)| rule.kind().name()),
            text: bytes!("text", Some(list.source(index))),
        };
        Document {
            path: bytes!("path", Some(place::bytes(self.asked))),
            resolved: bytes!("resolved", Some(place::bytes(&self.place.path))),
            fs_type: bytes!("fs_type", Some(&self.place.fs_type)),
            uid: writer.uid,
            comm: bytes!("comm", writer.comm),
            recorded: self.is_recorded(),
            reason: self.reason,
            rule: self.rule.map(rule),
            overruled: self.overruled.iter().copied().map(rule).collect(),
            open: self.open.iter().copied().map(rule).collect(),
        }
    }
}

/// The document of `test`.
#[derive(Serialize)]
struct Answers {
    files: Vec<Document>,
}

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    path: Bytes,
    #[serde(flatten)]
    resolved: Bytes,
    #[serde(flatten)]
    fs_type: Bytes,
    uid: u32,
    #[serde(flatten)]
    comm: Bytes,
    recorded: bool,
    reason: Reason,
    rule: Option<RuleDocument>,
    overruled: Vec<RuleDocument>,
    open: Vec<RuleDocument>,
}

#[derive(Serialize)]
struct RuleDocument {
    number: usize,
    kind: &'static str,
    #[serde(flatten)]
    text: Bytes,
}
