//! A second process, of another session, that rewrites files when it is told to.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use rustix::fs::OFlags;

use crate::{
    error::{Context, Result},
    micro,
};

/// The session that the other process declares.
const SESSION: &str = "01KS9OTHEROTHEROTHEROTHER0";

/// The process, as seen from here.
pub(crate) struct Rewriter {
    child: Child,
    pipes: Mutex<(ChildStdin, ChildStdout)>,
}

impl Rewriter {
    pub(crate) fn start() -> Result<Self> {
        let program = env::current_exe().doing("find the path of this program")?;
        let mut child = Command::new(&program)
            .arg("rewriter")
            .env("PROV_SESSION", SESSION)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .at("execute", &program)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let pipes = pipes
            .ok_or_else(|| std::io::Error::other("no pipes"))
            .doing("talk to the other writer")?;
        Ok(Rewriter {
            child,
            pipes: Mutex::new(pipes),
        })
    }

    /// Tells it which files: the first `count` of those in a directory.
    pub(crate) fn prepare(&self, dir: &Path, count: u32) -> Result {
        self.ask(format!("{count} {}\n", dir.display()).as_bytes())
    }

    /// Has it rewrite them; returns when it is done.
    pub(crate) fn rewrite(&self) -> Result {
        self.ask(b"\n")
    }

    fn ask(&self, request: &[u8]) -> Result {
        let mut pipes = self
            .pipes
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let (to, from) = &mut *pipes;
        let mut answer = [0];
        to.write_all(request)
            .and_then(|()| from.read_exact(&mut answer))
            .doing("talk to the other writer")
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        // It has nothing to lose, and nobody to tell if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process: obeys until its input ends.
pub(crate) fn serve() -> Result {
    let mut input = BufReader::new(std::io::stdin());
    let mut output = std::io::stdout();
    let mut paths = Vec::new();
    loop {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line).doing("read a request")?;
        match line.strip_suffix(b"\n") {
            None => return Ok(()),
            Some(b"") => {
                for path in &paths {
                    micro::rewrite(path, OFlags::WRONLY, b"z")?;
                }
            }
            Some(request) => {
                let space = request.iter().position(|&byte| byte == b' ').unwrap_or(0);
                let (count, dir) = request.split_at(space);
                let count = std::str::from_utf8(count)
                    .ok()
                    .and_then(|count| count.parse().ok());
                let dir = Path::new(OsStr::from_bytes(dir.trim_ascii_start()));
                paths = micro::paths(dir, "file", count.unwrap_or(0));
            }
        }
        output
            .write_all(b".")
            .and_then(|()| output.flush())
            .doing("answer a request")?;
    }
}
