//! One aligned block for each file.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt,
};

use provfs::{Fallback, Session};

use super::{
    Each,
    look::{LABEL, Look, NONE, PATH},
};
use crate::ask::Answer;

/// Width of the longest label, `session` and `process` and `history`.
const LABEL_WIDTH: usize = 7;

/// Prints blocks of text.
pub(super) struct Blocks {
    look: Look,
}

impl Blocks {
    pub(super) fn new(look: Look) -> Self {
        Blocks { look }
    }

    /// One line of a block: a label and a value that is ready to be printed.
    fn line(&self, out: &mut dyn Write, label: &str, value: &[u8]) -> io::Result<()> {
        write!(out, "  ")?;
        self.look
            .column(out, LABEL, label.as_bytes(), LABEL_WIDTH)?;
        write!(out, "  ")?;
        out.write_all(value)?;
        writeln!(out)
    }

    fn session(&self, out: &mut dyn Write, session: &Session) -> io::Result<()> {
        match session {
            Session::Fallback(who) => self.fallback(out, who),
            Session::Legacy { comm, pid, uid, .. } => {
                self.line(out, "process", &self.process(&[comm.as_bytes()], *pid))?;
                self.user(out, *uid)
            }
            _ => self.line(out, "session", &self.look.session(session)),
        }
    }

    fn fallback(&self, out: &mut dyn Write, who: &Fallback) -> io::Result<()> {
        let chain: Vec<_> = who.chain.iter().map(|comm| comm.as_bytes()).collect();
        self.line(out, "process", &self.process(&chain, who.pid))?;
        self.user(out, who.uid)?;
        if let Some(cwd) = &who.cwd {
            self.line(out, "cwd", &self.look.value(cwd.as_bytes()))?;
        }
        if let Some((name, value)) = &who.env {
            let pair = [name.as_bytes(), value.as_bytes()].join(&b'=');
            self.line(out, "env", &self.look.value(&pair))?;
        }
        Ok(())
    }

    /// `make ← bash, pid 4242`
    fn process(&self, chain: &[&[u8]], pid: Option<u32>) -> Vec<u8> {
        let chain: Vec<_> = chain.iter().map(|comm| self.look.value(comm)).collect();
        let mut line = chain.join(" ← ".as_bytes());
        if let Some(pid) = pid {
            line.extend(format!(", pid {pid}").bytes());
        }
        line
    }

    fn user(&self, out: &mut dyn Write, uid: Option<u32>) -> io::Result<()> {
        match uid {
            Some(uid) => self.line(
                out,
                "user",
                &self.look.value(self.look.users.show(uid).as_bytes()),
            ),
            None => Ok(()),
        }
    }
}

impl Each for Blocks {
    fn frame(&self) -> [&'static str; 3] {
        ["", "\n", ""]
    }

    fn file(&self, out: &mut Vec<u8>, answer: &Answer) -> io::Result<()> {
        let path = self.look.value(answer.path.as_os_str().as_bytes());
        self.look.styled(out, PATH, &path)?;
        writeln!(out)?;
        let Some(record) = &answer.record else {
            write!(out, "  ")?;
            self.look.styled(out, NONE, b"no record")?;
            return writeln!(out);
        };
        if let Some(session) = &record.session {
            self.session(out, session)?;
        }
        for (label, value) in [
            ("tool", &record.tool),
            ("turn", &record.turn),
            ("intent", &record.intent),
        ] {
            if let Some(value) = value {
                self.line(out, label, &self.look.value(value.as_bytes()))?;
            }
        }
        if let Some(time) = &record.ts {
            self.line(out, "when", &self.look.when(time))?;
        }
        for (index, session) in record.history.iter().enumerate() {
            let label = if index == 0 { "history" } else { "" };
            self.line(out, label, &self.look.session(session))?;
        }
        if let Some(check) = &answer.check {
            let ts = record.ts.as_ref().and_then(|ts| ts.unix);
            self.line(out, "verify", self.look.check(check, ts).as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use provfs::Record;

    use super::*;
    use crate::print::look::for_tests;

    fn show(color: bool, escape: bool, xattrs: &[(&str, &[u8])]) -> String {
        let answer = Answer {
            path: "a\x1b[2Jb".into(),
            record: Record::from_xattrs(xattrs.iter().copied()),
            check: None,
        };
        let mut out = Vec::new();
        let blocks = Blocks::new(for_tests(color, escape));
        blocks.file(&mut out, &answer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_declared_session() {
        insta::assert_snapshot!(show(false, true, &[
            ("user.prov.session", b"01KS9A"),
            ("user.prov.tool", b"Edit"),
            ("user.prov.turn", b"42"),
            ("user.prov.intent", b"self-review"),
            ("user.prov.ts", b"2026-11-21T09:12:33Z"),
            ("user.prov.history", b"01KS9A,comm:make:uid:1000,comm:cp:uid:4000000,a%1B[1mb,0123456789abcdef0123456789abcdef"),
        ]), @r"
        a\u{1b}[2Jb
          session  01KS9A
          tool     Edit
          turn     42
          intent   self-review
          when     2026-11-21 10:12:33 +01:00, 2 hours ago (2026-11-21T09:12:33Z)
          history  01KS9A
                   make by alice (1000)
                   cp by uid 4000000
                   a\u{1b}[1mb
                   0123456789abcdef0123456789abcdef (agent namespace)
        ");
    }

    #[test]
    fn a_process_that_declares_nothing() {
        insta::assert_snapshot!(show(false, true, &[
            ("user.prov.session", b"comm-chain:make>bash>sshd;env:CLAUDE_TOOL=x;cwd:/home/alice;pid:4242;uid:1000"),
            ("user.prov.tool", b"make"),
            ("user.prov.ts", b"whenever"),
        ]), @r"
        a\u{1b}[2Jb
          process  make ← bash ← sshd, pid 4242
          user     alice (1000)
          cwd      /home/alice
          env      CLAUDE_TOOL=x
          tool     make
          when     whenever (no known form of time)
        ");
    }

    #[test]
    fn what_earlier_writers_left() {
        insta::assert_snapshot!(show(false, true, &[
            ("user.prov.session", b"comm:vim:pid:7:uid:4000000"),
            ("user.prov.ts", b"1795252353"),
        ]), @r"
        a\u{1b}[2Jb
          process  vim, pid 7
          user     uid 4000000
          when     2026-11-21 10:12:33 +01:00, 2 hours ago (1795252353)
        ");
        insta::assert_snapshot!(show(false, true, &[("user.prov.session", b"a; b")]), @r"
        a\u{1b}[2Jb
          session  a; b (no known form)
        ");
    }

    #[test]
    fn no_record() {
        insta::assert_snapshot!(show(false, true, &[]), @r"
        a\u{1b}[2Jb
          no record
        ");
    }

    #[test]
    fn colors_end_where_they_began_and_bytes_stay_raw_in_pipes() {
        let colored = show(true, true, &[("user.prov.tool", b"x%1B[31m")]);
        assert_eq!(
            colored,
            "\x1b[1m\x1b[35ma\\u{1b}[2Jb\x1b[0m\n  \x1b[2mtool\x1b[0m     x\\u{1b}[31m\n"
        );
        let raw = show(false, false, &[("user.prov.tool", b"x%1B[31m")]);
        assert_eq!(raw, "a\x1b[2Jb\n  tool     x\x1b[31m\n");
    }
}
