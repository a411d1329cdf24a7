//! The answer for people: one aligned block for each file.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use anstyle::{AnsiColor, Style};
use provfs::{Fallback, Record, Session, Time};
use provfs_cli::escape::write_escaped;

use crate::{show::Printer, when::Clock};

const PATH: Style = AnsiColor::Magenta.on_default().bold();
const LABEL: Style = Style::new().dimmed();
const NONE: Style = AnsiColor::Yellow.on_default();

/// Width of the longest label, `session` and `process` and `history`.
const LABEL_WIDTH: usize = 7;

/// Prints blocks of text.
pub(crate) struct Text {
    color: bool,
    escape: bool,
    clock: Clock,
    users: Users,
    first: bool,
}

impl Text {
    /// In color or not, with control bytes escaped or not.
    pub(crate) fn new(color: bool, escape: bool, clock: Clock) -> Self {
        Text {
            color,
            escape,
            clock,
            users: Users::default(),
            first: true,
        }
    }

    fn value(&self, bytes: &[u8]) -> Vec<u8> {
        if !self.escape {
            return bytes.to_vec();
        }
        let mut escaped = Vec::new();
        write_escaped(&mut escaped, bytes).expect("writing to memory");
        escaped
    }

    fn styled(&self, out: &mut dyn Write, style: Style, bytes: &[u8]) -> io::Result<()> {
        if !self.color {
            return out.write_all(bytes);
        }
        write!(out, "{style}")?;
        out.write_all(bytes)?;
        write!(out, "{style:#}")
    }

    /// One line of a block: a label and a value that is ready to be printed.
    fn line(&self, out: &mut dyn Write, label: &str, value: &[u8]) -> io::Result<()> {
        write!(out, "  ")?;
        self.styled(out, LABEL, format!("{label:LABEL_WIDTH$}").as_bytes())?;
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
            _ => self.line(out, "session", &self.summary(session)),
        }
    }

    fn fallback(&self, out: &mut dyn Write, who: &Fallback) -> io::Result<()> {
        let chain: Vec<_> = who.chain.iter().map(|comm| comm.as_bytes()).collect();
        self.line(out, "process", &self.process(&chain, who.pid))?;
        self.user(out, who.uid)?;
        if let Some(cwd) = &who.cwd {
            self.line(out, "cwd", &self.value(cwd.as_bytes()))?;
        }
        if let Some((name, value)) = &who.env {
            let pair = [name.as_bytes(), value.as_bytes()].join(&b'=');
            self.line(out, "env", &self.value(&pair))?;
        }
        Ok(())
    }

    /// `make ← bash, pid 4242`
    fn process(&self, chain: &[&[u8]], pid: Option<u32>) -> Vec<u8> {
        let chain: Vec<_> = chain.iter().map(|comm| self.value(comm)).collect();
        let mut line = chain.join(" ← ".as_bytes());
        if let Some(pid) = pid {
            line.extend(format!(", pid {pid}").bytes());
        }
        line
    }

    fn user(&self, out: &mut dyn Write, uid: Option<u32>) -> io::Result<()> {
        match uid {
            Some(uid) => self.line(out, "user", &self.value(self.users.show(uid).as_bytes())),
            None => Ok(()),
        }
    }

    /// A session in one line.
    fn summary(&self, session: &Session) -> Vec<u8> {
        let (bytes, note) = match session {
            Session::Declared(id) => (id.as_bytes(), String::new()),
            Session::AgentNs(id) => (id.as_bytes(), " (agent namespace)".into()),
            Session::Opaque(bytes) => (bytes.as_bytes(), " (no known form)".into()),
            _ => {
                let comm = session
                    .comm()
                    .map(|comm| comm.as_bytes())
                    .unwrap_or_default();
                let user = session.uid().map(|uid| self.users.show(uid));
                (
                    comm,
                    user.map(|user| format!(" by {user}")).unwrap_or_default(),
                )
            }
        };
        [self.value(bytes), self.value(note.as_bytes())].concat()
    }

    fn when(&self, time: &Time) -> Vec<u8> {
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
}

impl Printer for Text {
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn file(
        &mut self,
        out: &mut dyn Write,
        path: &Path,
        record: Option<&Record>,
    ) -> io::Result<()> {
        if !std::mem::take(&mut self.first) {
            writeln!(out)?;
        }
        self.styled(out, PATH, &self.value(path.as_os_str().as_bytes()))?;
        writeln!(out)?;
        let Some(record) = record else {
            write!(out, "  ")?;
            self.styled(out, NONE, b"no record")?;
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
                self.line(out, label, &self.value(value.as_bytes()))?;
            }
        }
        if let Some(time) = &record.ts {
            self.line(out, "when", &self.when(time))?;
        }
        for (index, session) in record.history.iter().enumerate() {
            self.line(
                out,
                if index == 0 { "history" } else { "" },
                &self.summary(session),
            )?;
        }
        Ok(())
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Names of users, asked for once each.
#[derive(Default)]
struct Users(RefCell<HashMap<u32, Option<String>>>);

impl Users {
    /// `alice (1000)`, or the number alone if nobody has it here: files travel between machines.
    fn show(&self, uid: u32) -> String {
        let mut names = self.0.borrow_mut();
        let name = names.entry(uid).or_insert_with(|| {
            uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned())
        });
        match name {
            Some(name) => format!("{name} ({uid})"),
            None => format!("uid {uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(color: bool, escape: bool, xattrs: &[(&str, &[u8])]) -> String {
        let clock = Clock::fixed(1_795_252_353 + 7_300, 3_600);
        let mut text = Text::new(color, escape, clock);
        for (uid, name) in [(1000, Some("alice")), (4_000_000, None)] {
            text.users
                .0
                .borrow_mut()
                .insert(uid, name.map(str::to_owned));
        }
        let mut out = Vec::new();
        let record = Record::from_xattrs(xattrs.iter().copied());
        text.file(&mut out, Path::new("a\x1b[2Jb"), record.as_ref())
            .unwrap();
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
            "\x1b[1m\x1b[35ma\\u{1b}[2Jb\x1b[0m\n  \x1b[2mtool   \x1b[0m  x\\u{1b}[31m\n"
        );
        let raw = show(false, false, &[("user.prov.tool", b"x%1B[31m")]);
        assert_eq!(raw, "a\x1b[2Jb\n  tool     x\x1b[31m\n");
    }
}
