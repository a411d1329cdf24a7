//! What the kernel says when it refuses a value: the reason is in its log, the system call has
//! only an error number.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::{fs::OFlags, io::Errno};

/// The kernel log from some moment on.
pub(crate) struct KernelLog(File);

impl KernelLog {
    /// Begins with the next message. [`None`] where the log may not be read.
    pub(crate) fn from_now(path: &Path) -> Option<Self> {
        // CAST: Flags are a C int.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let mut log = File::options()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .ok()?;
        log.seek(SeekFrom::End(0)).ok()?;
        Some(KernelLog(log))
    }

    /// What provfs has said since then, without `provfs: ` before it.
    pub(crate) fn of_provfs(mut self) -> Vec<String> {
        let mut messages = Vec::new();
        // One record a read(2); they are at most this long (`PRINTK_MESSAGE_MAX`).
        let mut buf = [0; 8192];
        // A log that somebody else fills faster than it is read has an end here.
        for _ in 0..1000 {
            match self.0.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => {
                    let record = String::from_utf8_lossy(buf.get(..len).unwrap_or_default());
                    messages.extend(message(&record).map(str::to_owned));
                }
                // Messages were overwritten before they could be read; the next read goes on.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::PIPE) => {}
                Err(_) => break,
            }
        }
        messages
    }
}

/// The message of a record, `priority,sequence,time,flags;message` and lines of properties, if it
/// is from provfs.
fn message(record: &str) -> Option<&str> {
    let (_, message) = record.split_once(';')?;
    message.lines().next()?.strip_prefix("provfs: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_provfs_are_taken() {
        assert_eq!(
            message("4,812,5140900,-;provfs: skip list refused: rule 2\n SUBSYSTEM=x\n"),
            Some("skip list refused: rule 2")
        );
        assert_eq!(message("6,1,0,-;usb: provfs: no"), None);
        assert_eq!(message("provfs: no"), None);
        assert_eq!(message(""), None);
    }
}
