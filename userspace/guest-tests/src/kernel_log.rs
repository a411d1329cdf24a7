//! What the kernel says while the tests run.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{Mode, OFlags, SeekFrom},
    io::Errno,
};

use crate::fixture::{Outcome, Stop};

/// What it says when it has caught a mistake.
const REPORTS: &[&str] = &[
    "BUG: ",
    "WARNING: ",
    "Oops",
    "general protection fault",
    "kernel BUG at",
    "KASAN: ",
    "UBSAN: ",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "suspicious RCU usage",
    "bad unlock balance",
    "lock held when returning to user space",
    "sleeping function called from invalid context",
    "scheduling while atomic",
    "blocked for more than",
    "detected stalls",
    "soft lockup",
    "refcount_t: ",
    "list_add corruption",
    "list_del corruption",
    "Busy inodes after unmount",
    "rust_kernel: panicked",
    "EXT4-fs error",
    "BTRFS error",
    "BTRFS critical",
];

/// The kernel log from some moment on.
pub(crate) struct KernelLog(OwnedFd);

impl KernelLog {
    /// Begins with the next message.
    pub(crate) fn from_now() -> Outcome<Self> {
        let log = rustix::fs::open(
            "/dev/kmsg",
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::fs::seek(&log, SeekFrom::End(0))?;
        Ok(KernelLog(log))
    }

    /// The messages since then, or since the last call.
    pub(crate) fn lines(&self) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        let mut buf = [0; 8192];
        loop {
            match rustix::io::read(&self.0, &mut buf) {
                Ok(len) => {
                    let record = String::from_utf8_lossy(&buf[..len]);
                    // `priority,sequence,time,flags;message`, and lines of properties after it.
                    let message = record
                        .split_once(';')
                        .map_or(&*record, |(_, message)| message);
                    lines.push(message.lines().next().unwrap_or_default().to_owned());
                }
                // Old messages were overwritten before they could be read.
                Err(Errno::PIPE) => {}
                Err(Errno::AGAIN) => return Ok(lines),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Fails if the kernel has caught a mistake since then, or since the last call.
    pub(crate) fn check(&self) -> Outcome {
        let lines = self.lines()?;
        // KUnit marks what it says, which may quote anything.
        let is_report =
            |line: &String| !line.contains('#') && REPORTS.iter().any(|text| line.contains(text));
        match lines.iter().position(is_report) {
            None => Ok(()),
            Some(at) => {
                let mut report = String::from("the kernel says:\n");
                lines[at..].iter().take(40).for_each(|line| {
                    report += line;
                    report.push('\n');
                });
                Err(Stop::Failed(report))
            }
        }
    }
}
