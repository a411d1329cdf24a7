//! Attributes of inodes and of the file system.

use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileHandle, INodeNo, Request, TimeOrNow};
use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, StatVfs, Statx, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
        Uid, chmodat, chownat, fstatvfs, ftruncate, openat, utimensat,
    },
    io::Result,
};

use crate::{Overlay, attributes::OfFile, handles::OpenFile, inodes::Inode, stamp::Subject};

/// Attributes that are to be set.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<TimeOrNow>,
    pub(crate) mtime: Option<TimeOrNow>,
    pub(crate) handle: Option<FileHandle>,
}

impl Overlay {
    pub(crate) fn getattr(&self, inode: INodeNo) -> Result<Statx> {
        self.inodes.get(inode)?.stat()
    }

    pub(crate) fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        changes: &Changes,
    ) -> Result<Statx> {
        let inode = self.inodes.get(inode)?;
        let open = match changes.handle {
            Some(handle) => Some(self.files.get(handle)?),
            None => None,
        };
        if changes.mtime.is_some() || changes.size.is_some() {
            // What the kernel has written by itself would not show any more.
            self.look(request, &inode, open.as_deref())?;
        }

        if changes.mode.is_some() || changes.uid.is_some() || changes.gid.is_some() {
            self.set_owner_and_mode(request, &inode, changes)?;
        }
        if let Some(size) = changes.size {
            self.truncate(request, &inode, open.as_deref(), size)?;
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            let _acting = self.acting(request)?;
            let times = Timestamps {
                last_access: timespec(changes.atime),
                last_modification: timespec(changes.mtime),
            };
            utimensat(&self.proc_fds, inode.proc_name(), &times, AtFlags::empty())?;
        }

        let stat = inode.stat()?;
        if changes.mtime.is_some() || changes.size.is_some() {
            self.stamper.seen_again(&inode, &stat);
        }
        Ok(stat)
    }

    fn set_owner_and_mode(
        &self,
        request: &Request,
        inode: &Inode,
        changes: &Changes,
    ) -> Result<()> {
        let _acting = self.acting(request)?;
        if let Some(mode) = changes.mode {
            let mode = Mode::from_raw_mode(mode);
            chmodat(&self.proc_fds, inode.proc_name(), mode, AtFlags::empty())?;
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            let uid = changes.uid.map(Uid::from_raw);
            let gid = changes.gid.map(Gid::from_raw);
            chownat(inode, c"", uid, gid, flags)?;
        }
        Ok(())
    }

    /// Sets the size, which modifies a file even if that is the size that it has, like its times.
    pub(crate) fn truncate(
        &self,
        request: &Request,
        inode: &Inode,
        open: Option<&OpenFile>,
        size: u64,
    ) -> Result<()> {
        if let Some(open) = open.filter(|open| open.writable) {
            self.modifying(request, open);
            let _acting = self.acting(request)?;
            return ftruncate(&open.fd, size);
        }
        let fd = {
            let _acting = self.acting(request)?;
            let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            openat(&self.proc_fds, inode.proc_name(), flags, Mode::empty())?
        };
        if self.stamper.enabled {
            let subject = Subject {
                inode,
                file: OfFile::open(&fd),
                handle: None,
            };
            self.stamper
                .modifying(&subject, &self.callers.of(request).identity);
        }
        let _acting = self.acting(request)?;
        ftruncate(&fd, size)
    }

    pub(crate) fn statfs(&self, inode: INodeNo) -> Result<StatVfs> {
        let inode = self.inodes.get(inode)?;
        fstatvfs(&*inode)
    }
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, UTIME_OMIT),
        Some(TimeOrNow::Now) => (0, UTIME_NOW),
        Some(TimeOrNow::SpecificTime(time)) => since_epoch(time),
    };
    Timespec { tv_sec, tv_nsec }
}

/// Seconds and nanoseconds of a time that a request holds.
///
/// Before 1970 the library goes back by the seconds *and* the nanoseconds, although the latter count
/// forwards.
fn since_epoch(time: SystemTime) -> (i64, i64) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (
            i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            i64::from(after.subsec_nanos()),
        ),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            (-seconds, i64::from(before.subsec_nanos()))
        }
    }
}
