//! A folder with stamped files, and the program run in it.

#![allow(
    dead_code,
    reason = "each test program has its own copy and uses a part of it"
)]

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use assert_cmd::cargo::CommandCargoExt;
use rustix::fs::{XattrFlags, setxattr};
use tempfile::TempDir;

/// A folder on a file system that keeps user.* attributes. Where the build folder does not, say
/// where one is.
pub(crate) struct Fixture(TempDir);

impl Fixture {
    /// With nothing in it.
    pub(crate) fn empty() -> Self {
        let parent =
            std::env::var("PROVFS_TEST_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").into());
        let dir = TempDir::new_in(&parent)
            .unwrap_or_else(|error| panic!("cannot make a folder in {parent}: {error}"));
        if let Err(error) = setxattr(dir.path(), "user.provfs.probe", b"", XattrFlags::empty()) {
            panic!(
                "{parent} keeps no user.* attributes ({error}): set PROVFS_TEST_DIR to a folder on ext4, xfs or btrfs"
            );
        }
        Fixture(dir)
    }

    /// With a file without a record, one with keys, and one with a packed record.
    pub(crate) fn new() -> Self {
        let fixture = Fixture::empty();
        fixture.file("plain", &[]);
        fixture.file(
            "stamped",
            &[
                ("user.prov.session", b"s1"),
                ("user.prov.tool", b"Edit"),
                ("user.prov.ts", b"2001-09-09T01:46:40Z"),
            ],
        );
        fixture.file(
            "packed",
            &[(
                "user.prov",
                b"ts=1000000000;c=make>bash;p=4242;u=4000000000",
            )],
        );
        fixture
    }

    /// A tree in which two sessions and a process without one were at work.
    pub(crate) fn tree() -> Self {
        let fixture = Fixture::empty();
        for (name, session, tool, ts) in [
            ("src/main.c", "s-1", "Edit", "2026-11-20T10:00:00Z"),
            ("src/greet.c", "s-2", "Edit", "2026-11-20T14:00:00Z"),
            ("src/main.o", "s-1", "Bash", "2026-11-20T10:30:00Z"),
            (
                "src/deep/er/main.c",
                "comm-chain:vim>bash;pid:7;uid:4000000000",
                "vim",
                "2026-11-19T09:00:00Z",
            ),
            (".hidden/main.c", "s-1", "Edit", "2026-11-20T10:00:00Z"),
        ] {
            fixture.stamp(name, session, tool, ts);
        }
        fixture.file("src/plain.c", &[]);
        fixture.file(".ignore", &[]);
        fs::write(fixture.path(".ignore"), "*.o\n").unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn file(&self, name: impl AsRef<Path>, xattrs: &[(&str, &[u8])]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "data").unwrap();
        for (name, value) in xattrs {
            setxattr(&path, *name, value, XattrFlags::empty()).unwrap();
        }
    }

    pub(crate) fn stamp(&self, name: impl AsRef<Path>, session: &str, tool: &str, ts: &str) {
        self.file(
            name,
            &[
                ("user.prov.session", session.as_bytes()),
                ("user.prov.tool", tool.as_bytes()),
                ("user.prov.ts", ts.as_bytes()),
            ],
        );
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::cargo_bin("provfs-show").unwrap();
        command
            .current_dir(self.0.path())
            .env("TZ", "UTC")
            .env_remove("CLICOLOR_FORCE")
            .env_remove("NO_COLOR");
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        Run::from(self.command().args(args).output().unwrap())
    }

    /// With something on the standard input.
    pub(crate) fn run_with<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Run {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Run::from(child.wait_with_output().unwrap())
    }

    /// The paths that are found, one after the other.
    pub(crate) fn found(&self, args: &[&str]) -> String {
        let run = self.run(&[args, &["--format", "{path}"]].concat());
        assert_eq!(run.err, "");
        assert_eq!(run.code, Some(i32::from(run.out.is_empty())), "{args:?}");
        run.out.trim_end().replace('\n', " ")
    }
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Run {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}
