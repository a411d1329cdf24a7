//! A mounted file system for a test, on the real `/dev/fuse`.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    ffi::{CString, OsStr},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_provfs-overlay");

/// Whether this machine can mount at all. If not, says so; a test then has nothing to do.
pub(crate) fn can_mount() -> bool {
    let device = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    let program = Command::new("fusermount3").arg("-V").output();
    let can = device.is_ok() && program.is_ok();
    if !can {
        eprintln!("skipped: this needs /dev/fuse and fusermount3 (Debian: fuse3)");
    }
    can
}

/// Whether the tests run as root, who may act as others. If not, says so.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: this needs root");
    }
    root
}

/// A folder that keeps `user.*` attributes.
pub(crate) fn folder() -> TempDir {
    let place = std::env::var_os("PROVFS_TEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    fs::create_dir_all(&place).unwrap();
    tempfile::Builder::new()
        .prefix("overlay-")
        .tempdir_in(place)
        .unwrap()
}

/// A folder, shown at another place.
pub(crate) struct Mounted {
    pub(crate) src: PathBuf,
    pub(crate) mnt: PathBuf,
    _dir: Option<TempDir>,
}

impl Mounted {
    pub(crate) fn new(options: &[&str]) -> Self {
        let dir = folder();
        let mut mounted = Self::at(dir.path(), options);
        mounted._dir = Some(dir);
        mounted
    }

    /// Shows `src` in a folder at `mnt` in it.
    pub(crate) fn at(dir: &Path, options: &[&str]) -> Self {
        let (src, mnt) = (dir.join("src"), dir.join("mnt"));
        fs::create_dir_all(&src).unwrap();
        fs::create_dir_all(&mnt).unwrap();
        let mounted = Mounted {
            src,
            mnt,
            _dir: None,
        };
        mounted.mount(options);
        mounted
    }

    pub(crate) fn mount(&self, options: &[&str]) {
        let output = command(&self.src, &self.mnt)
            .args(options)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    pub(crate) fn unmount(&self) {
        let status = Command::new("fusermount3")
            .arg("-u")
            .arg(&self.mnt)
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Runs a shell script in the mounted folder, as a session. Returns what it printed.
    pub(crate) fn sh(&self, session: &str, script: &str) -> String {
        let output = self
            .shell(script)
            .env("PROV_SESSION", session)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{script}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-ec", script])
            .current_dir(&self.mnt)
            .stdin(Stdio::null());
        for name in [
            "PROV_SESSION",
            "CLAUDE_SESSION",
            "CLAUDE_SESSION_ID",
            "AGENTNS_SESSION_ID",
            "AGORABUS_SID",
            "PROV_TOOL",
            "CLAUDE_TOOL",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Number of a counter.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let status = get(&self.mnt, "user.provfs.status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    /// Whether the kernel reads and writes files by itself here.
    pub(crate) fn passes_through(&self) -> bool {
        fs::write(self.mnt.join(".probe"), "x").unwrap();
        fs::remove_file(self.mnt.join(".probe")).unwrap();
        self.count("opened.passthrough") > 0
    }

    /// The record of a file as `session tool history`, which has to be the same through the mount
    /// and behind it.
    pub(crate) fn record(&self, name: &str) -> String {
        let through = record(&self.mnt.join(name));
        assert_eq!(through, record(&self.src.join(name)), "{name}");
        through
    }

    /// Waits until a file has a record: who only closes a file is answered before it is released.
    pub(crate) fn soon(&self, name: &str, expected: &str) {
        let start = Instant::now();
        while record(&self.src.join(name)) != expected && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.record(name), expected);
    }

    /// The pid of the daemon.
    pub(crate) fn daemon(&self) -> u32 {
        let wanted = self.mnt.as_os_str().as_encoded_bytes();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|&byte| byte == 0).collect();
            let is_ours = words
                .first()
                .is_some_and(|word| *word == PROGRAM.as_bytes());
            if is_ours && words.contains(&wanted) && !words.contains(&&b"--guard"[..]) {
                return entry.file_name().to_str().unwrap().parse().unwrap();
            }
        }
        panic!("there is no daemon");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3")
            .args(["-u", "-z", "-q"])
            .arg(&self.mnt)
            .status();
    }
}

pub(crate) fn command(src: &Path, mnt: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg("--source")
        .arg(src)
        .arg("--mount")
        .arg(mnt)
        .stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn get(path: &Path, name: &str) -> Option<String> {
    let mut value = vec![0; 4096];
    let name = CString::new(name).unwrap();
    let len = rustix::fs::lgetxattr(path, name.as_c_str(), &mut value[..]).ok()?;
    value.truncate(len);
    Some(text(&value))
}

pub(crate) fn set(path: impl AsRef<Path>, name: &str, value: &str) -> rustix::io::Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path.as_ref(), name, value.as_bytes(), flags)
}

fn record(path: &Path) -> String {
    if let Some(packed) = get(path, "user.prov") {
        return packed;
    }
    let keys = ["session", "tool", "history"];
    let values = keys.map(|key| get(path, &format!("user.prov.{key}")));
    if values[0].is_some() {
        assert!(get(path, "user.prov.ts").is_some());
    }
    values.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Runs a program and returns its output.
pub(crate) fn run(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(program).args(args).output().unwrap()
}
