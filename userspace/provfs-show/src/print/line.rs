//! One line for each file: when, by whom, through what, and the path, which comes last because
//! nothing bounds it. The columns have a width that suits most values, so that the first line need
//! not wait for the last.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt,
};

use anstyle::Style;
use provfs::{Key, Record};

use super::{
    Each,
    look::{LABEL, Look, NONE, PATH, SESSION, verdict_name},
};
use crate::ask::Answer;

/// `2026-11-21 09:12:33`
const TIME_WIDTH: usize = 19;
/// A ULID.
const SESSION_WIDTH: usize = 26;
/// Most names of tools and commands.
const TOOL_WIDTH: usize = 10;
/// The longest verdict.
const VERDICT_WIDTH: usize = 9;

/// Prints lines.
pub(super) struct Lines {
    look: Look,
}

impl Lines {
    pub(super) fn new(look: Look) -> Self {
        Lines { look }
    }
}

impl Each for Lines {
    fn keys(&self) -> Vec<Key> {
        KEYS.to_vec()
    }

    fn file(&self, out: &mut Vec<u8>, answer: &Answer) -> io::Result<()> {
        let none = Record::default();
        let record = answer.record.as_ref().unwrap_or(&none);
        let time = time(&self.look, record);
        self.look.column(out, LABEL, &time, TIME_WIDTH + 2)?;
        who(&self.look, out, answer, SESSION_WIDTH, TOOL_WIDTH)?;
        let path = self.look.value(answer.path.as_os_str().as_bytes());
        self.look.styled(out, PATH, &path)?;
        writeln!(out)
    }
}

/// What a line shows of a record.
pub(super) const KEYS: [Key; 3] = [Key::Session, Key::Tool, Key::Ts];

/// The local time, or `-`.
pub(super) fn time(look: &Look, record: &Record) -> Vec<u8> {
    match &record.ts {
        None => b"-".to_vec(),
        Some(ts) => match ts.unix.and_then(|unix| look.clock.short(unix)) {
            Some(time) => time.into_bytes(),
            None => look.value(ts.raw.as_bytes()),
        },
    }
}

/// Session, tool and verdict, each with blanks behind it.
pub(super) fn who(
    look: &Look,
    out: &mut dyn Write,
    answer: &Answer,
    session_width: usize,
    tool_width: usize,
) -> io::Result<()> {
    let none = Record::default();
    let record = answer.record.as_ref().unwrap_or(&none);
    let (style, session) = match (&answer.record, &record.session) {
        (None, _) => (NONE, Some(b"no record".to_vec())),
        (_, session) => (
            SESSION,
            session.as_ref().map(|session| look.session(session)),
        ),
    };
    let tool = record.tool.as_ref().map(|tool| look.value(tool.as_bytes()));
    for (style, value, width) in [
        (style, session, session_width),
        (Style::new(), tool, tool_width),
    ] {
        // At least two blanks, whatever the width.
        look.column(out, style, &value.unwrap_or_else(|| b"-".to_vec()), width)?;
        write!(out, "  ")?;
    }
    if let Some(check) = &answer.check {
        let verdict = verdict_name(check.verdict);
        look.column(out, NONE, verdict.as_bytes(), VERDICT_WIDTH + 2)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::look::for_tests;

    fn show(xattrs: &[(&str, &str)]) -> String {
        let answer = Answer {
            path: "dir/a\x1b[2Jb".into(),
            record: Record::from_xattrs(xattrs.iter().copied()),
            check: None,
        };
        let mut out = Vec::new();
        let lines = Lines::new(for_tests(false, true));
        lines.file(&mut out, &answer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_where_values_fit() {
        let all = [
            show(&[
                ("user.prov.session", "01KS9ABCDEFGHJKMNPQRSTVWXY"),
                ("user.prov.tool", "Edit"),
                ("user.prov.ts", "2026-11-21T09:12:33Z"),
            ]),
            show(&[(
                "user.prov",
                "ts=1795252353;c=make>bash;p=4242;u=1000;t=make",
            )]),
            show(&[(
                "user.prov.session",
                "a longer session than there is room for",
            )]),
            show(&[("user.prov.ts", "then")]),
            show(&[]),
        ];
        insta::assert_snapshot!(all.concat(), @r"
        2026-11-21 10:12:33  01KS9ABCDEFGHJKMNPQRSTVWXY  Edit        dir/a\u{1b}[2Jb
        2026-11-21 10:12:33  make by alice (1000)        make        dir/a\u{1b}[2Jb
        -                    a longer session than there is room for  -           dir/a\u{1b}[2Jb
        then                 -                           -           dir/a\u{1b}[2Jb
        -                    no record                   -           dir/a\u{1b}[2Jb
        ");
    }
}
