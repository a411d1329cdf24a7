//! Open files: opening, reading, writing, and the rest of what a descriptor can do.

use std::{
    cell::RefCell,
    ffi::OsStr,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use fuser::{BackingId, FileHandle, FileType, FopenFlags, INodeNo, OpenFlags, Request, WriteFlags};
use parking_lot::Mutex;
use rustix::{
    fs::{
        FallocateFlags, IFlags, Mode, OFlags, SeekFrom, copy_file_range, fallocate, fdatasync,
        fsync, ftruncate, ioctl_getflags, ioctl_setflags, openat, seek,
    },
    io::{Errno, Result, dup, pread, pwrite},
};

use super::entry::{Entry, Name};
use crate::{
    Overlay,
    attributes::OfFile,
    caller::{Acting, Identity},
    fsxattr,
    handles::OpenFile,
    inodes::{Inode, check_name, stat},
    passthrough,
    stamp::{HandleState, Subject},
};

/// What a request for opening adds to the flags when a program is to be executed: `__FMODE_EXEC` in
/// `include/linux/fs.h`.
const FMODE_EXEC: i32 = 0x20;

/// `FS_IOC_GETFLAGS` and so on in `include/uapi/linux/fs.h`, as the kernel sends them.
const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;

/// A file that was opened, as the kernel is to be told.
pub(crate) struct Opened {
    pub(crate) handle: FileHandle,
    pub(crate) flags: FopenFlags,
    pub(crate) backing: Option<Arc<BackingId>>,
}

/// Tells the kernel about the file behind an inode.
type Register<'a> = &'a dyn Fn(&Inode) -> io::Result<BackingId>;

thread_local! {
    /// What is read goes through here.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Overlay {
    pub(crate) fn open(
        &self,
        request: &Request,
        inode: INodeNo,
        flags: OpenFlags,
        register: Register<'_>,
    ) -> Result<Opened> {
        let inode = self.inodes.get(inode)?;
        let wanted = OFlags::from_bits_retain(flags.0 as u32);
        let plain = behind(wanted);
        let fd = match self.open_as(request, &inode, plain) {
            // Who may execute a program need not be allowed to read it. The kernel has asked.
            Err(Errno::ACCESS) if flags.0 & FMODE_EXEC != 0 => self
                .reaper
                .retrying(|| openat(&self.proc_fds, inode.proc_name(), plain, Mode::empty()))?,
            result => result?,
        };
        let truncates = wanted.contains(OFlags::TRUNC) && inode.kind == FileType::RegularFile;
        let opened = self.opened(request, inode.clone(), fd, plain, false, register)?;
        if truncates && let Err(error) = self.truncate_opened(request, &inode, opened.handle) {
            self.release(opened.handle);
            return Err(error);
        }
        Ok(opened)
    }

    fn open_as(&self, request: &Request, inode: &Inode, flags: OFlags) -> Result<OwnedFd> {
        let _acting = self.acting(request)?;
        self.reaper
            .retrying(|| openat(&self.proc_fds, inode.proc_name(), flags, Mode::empty()))
    }

    /// The part of opening with `O_TRUNC` that modifies: after it is clear that this is allowed.
    fn truncate_opened(&self, request: &Request, inode: &Inode, handle: FileHandle) -> Result<()> {
        let open = self.files.get(handle)?;
        let before = stat(&open.fd)?;
        if before.stx_size > 0 {
            self.modifying(request, &open);
        }
        if open.writable {
            let _acting = self.acting(request)?;
            ftruncate(&open.fd, 0)?;
        } else {
            let fd = self.open_as(request, inode, OFlags::WRONLY | OFlags::CLOEXEC)?;
            ftruncate(&fd, 0)?;
        }
        self.stamper.seen_again(inode, &stat(&open.fd)?);
        Ok(())
    }

    pub(crate) fn create(
        &self,
        request: &Request,
        at: Name<'_>,
        mode: u32,
        umask: u32,
        flags: i32,
        register: Register<'_>,
    ) -> Result<(Entry, Opened)> {
        check_name(at.name)?;
        let parent = self.inodes.get(at.parent)?;
        let wanted = OFlags::from_bits_retain(flags as u32);
        let plain = behind(wanted);
        let (fd, created) = {
            let _acting = self.acting(request)?.masking(umask);
            let mode = Mode::from_raw_mode(mode);
            let exclusive = plain | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let made = self
                .reaper
                .retrying(|| openat(&*parent, at.name, exclusive, mode));
            match made {
                // Somebody else was quicker.
                Err(Errno::EXIST) if !wanted.contains(OFlags::EXCL) => (
                    openat(&*parent, at.name, plain | OFlags::NOFOLLOW, mode)?,
                    false,
                ),
                made => (made?, true),
            }
        };
        let (inode, stat) = self.inode_of(&fd)?;
        if created {
            inode.state.lock().fresh = true;
        }
        let opened = self.opened(request, inode.clone(), fd, plain, created, register)?;
        if !created
            && wanted.contains(OFlags::TRUNC)
            && let Err(error) = self.truncate_opened(request, &inode, opened.handle)
        {
            self.release(opened.handle);
            self.inodes.forget(inode.number, 1);
            return Err(error);
        }
        Ok(((inode, stat), opened))
    }

    /// The inode of a file that was just opened by name, which may be another file's by now.
    fn inode_of(&self, fd: &OwnedFd) -> Result<Entry> {
        let name = fd.as_raw_fd().to_string();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let held = self
            .reaper
            .retrying(|| openat(&self.proc_fds, OsStr::new(&name), flags, Mode::empty()))?;
        let stat = stat(&held)?;
        Ok((self.inodes.remember(held, &stat), stat))
    }

    fn opened(
        &self,
        request: &Request,
        inode: Arc<Inode>,
        fd: OwnedFd,
        flags: OFlags,
        created: bool,
        register: Register<'_>,
    ) -> Result<Opened> {
        let writable = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        let recorded = self.stamper.enabled && (writable || created);
        let opener = recorded.then(|| self.callers.of(request));
        let backing = (self.passthrough && inode.kind == FileType::RegularFile)
            .then(|| passthrough::backing(&inode, || register(&inode)))
            .flatten();
        if backing.is_some() {
            self.status.opened_passthrough.add();
            if recorded {
                self.stamper.opened(&inode, &stat(&fd)?);
            }
        } else {
            self.status.opened_cached.add();
        }
        let mut fopen = FopenFlags::empty();
        if !writable {
            fopen |= FopenFlags::FOPEN_NOFLUSH;
        }
        let handle = self.files.add(OpenFile {
            fd,
            inode,
            writable,
            backing: backing.clone(),
            state: Mutex::new(HandleState::new(
                opener.as_ref().map(|opener| opener.identity.clone()),
                created,
            )),
            opener,
        });
        Ok(Opened {
            handle,
            flags: fopen,
            backing,
        })
    }

    /// Reads, and hands over what was read.
    pub(crate) fn read(
        &self,
        handle: FileHandle,
        offset: u64,
        size: u32,
        reply: impl FnOnce(Result<&[u8]>),
    ) {
        let open = match self.files.get(handle) {
            Ok(open) => open,
            Err(error) => return reply(Err(error)),
        };
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let mut done = 0;
            while let Some(room) = buffer.get_mut(done..size).filter(|room| !room.is_empty()) {
                match pread(&open.fd, room, offset + done as u64) {
                    Ok(0) => break,
                    Ok(len) => done += len,
                    Err(Errno::INTR) => {}
                    Err(_) if done > 0 => break,
                    Err(error) => return reply(Err(error)),
                }
            }
            reply(Ok(buffer.get(..done).unwrap_or_default()));
        });
    }

    pub(crate) fn write(
        &self,
        request: &Request,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
    ) -> Result<usize> {
        let open = self.files.get(handle)?;
        if flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            // Pages that were written through a mapping; the request is of whoever writes them back.
            if let Some(opener) = &open.opener {
                let who = open.state.lock().writer();
                let who = who.unwrap_or_else(|| opener.identity.clone());
                self.stamper.modifying(&subject(&open), &who);
            }
        } else {
            self.modifying(request, &open);
        }
        let _acting = flags
            .contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID)
            .then(Acting::unprivileged);
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            match pwrite(&open.fd, rest, offset + done as u64) {
                Ok(len) => done += len,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// A descriptor is closed. It is the last request of which the process is known and that is
    /// answered before it goes on.
    pub(crate) fn flush(&self, request: &Request, handle: FileHandle) -> Result<()> {
        let open = self.files.get(handle)?;
        if open.writable {
            self.look(request, &open.inode, Some(&open))?;
            self.settle(&open, false)?;
        }
        // Some file systems report what went wrong with earlier writes only now.
        dup(&open.fd).map(drop)
    }

    pub(crate) fn fsync(
        &self,
        request: &Request,
        handle: FileHandle,
        datasync: bool,
    ) -> Result<()> {
        let open = self.files.get(handle)?;
        if open.writable {
            self.look(request, &open.inode, Some(&open))?;
        }
        if datasync {
            fdatasync(&open.fd)
        } else {
            fsync(&open.fd)
        }
    }

    /// The last descriptor is closed. Nobody waits for this, and nobody knows who asks.
    pub(crate) fn release(&self, handle: FileHandle) {
        let Some(open) = self.files.remove(handle) else {
            return;
        };
        if let Some(opener) = &open.opener {
            // It may have been written to through a mapping that outlived its descriptor.
            if let Ok(stat) = stat(&open.fd) {
                let subject = subject(&open);
                let who = open.state.lock().writer();
                let who = who.unwrap_or_else(|| opener.identity.clone());
                if self.stamper.look(&subject, &stat, || who) {
                    self.changed_behind(&open.inode);
                }
            }
            if let Err(error) = self.settle(&open, true) {
                log::debug!("a file that is closed: {error}");
            }
            if open.backing.is_some() {
                self.stamper.closed(&open.inode);
            }
        }
    }

    fn settle(&self, open: &OpenFile, last: bool) -> Result<()> {
        if self
            .stamper
            .settle(&subject(open), || stat(&open.fd), last)?
        {
            self.changed_behind(&open.inode);
        }
        Ok(())
    }

    pub(crate) fn fallocate(
        &self,
        request: &Request,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<()> {
        let open = self.files.get(handle)?;
        self.modifying(request, &open);
        let mode = FallocateFlags::from_bits_retain(mode as u32);
        let _acting = self.acting(request)?;
        fallocate(&open.fd, mode, offset, length)?;
        self.stamper.seen_again(&open.inode, &stat(&open.fd)?);
        Ok(())
    }

    pub(crate) fn lseek(&self, handle: FileHandle, offset: i64, whence: i32) -> Result<i64> {
        let open = self.files.get(handle)?;
        let at = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
        // The kernel deals with the others itself: SEEK_DATA is 3, SEEK_HOLE 4.
        let from = match whence {
            3 => SeekFrom::Data(at),
            4 => SeekFrom::Hole(at),
            _ => return Err(Errno::INVAL),
        };
        i64::try_from(seek(&open.fd, from)?).map_err(|_| Errno::OVERFLOW)
    }

    pub(crate) fn copy_file_range(
        &self,
        request: &Request,
        (from, mut from_offset): (FileHandle, u64),
        (to, mut to_offset): (FileHandle, u64),
        length: u64,
    ) -> Result<u32> {
        let from = self.files.get(from)?;
        let to = self.files.get(to)?;
        self.modifying(request, &to);
        // The answer has 32 bits.
        let length = usize::try_from(length.min(1 << 30)).unwrap_or(1 << 30);
        let _acting = self.acting(request)?;
        let copied = copy_file_range(
            &from.fd,
            Some(&mut from_offset),
            &to.fd,
            Some(&mut to_offset),
            length,
        )?;
        self.stamper.seen_again(&to.inode, &stat(&to.fd)?);
        u32::try_from(copied).map_err(|_| Errno::OVERFLOW)
    }

    /// The flags of `lsattr(1)` and `chattr(1)`.
    pub(crate) fn ioctl(
        &self,
        request: &Request,
        handle: FileHandle,
        command: u32,
        data: &[u8],
    ) -> Result<Vec<u8>> {
        let dir;
        let file;
        let fd = match self.files.get(handle) {
            Ok(open) => {
                file = open;
                &file.fd
            }
            Err(_) => {
                dir = self.dirs.get(handle)?;
                &dir.fd
            }
        };
        let _acting = self.acting(request)?;
        match command {
            GETFLAGS => Ok(ioctl_getflags(fd)?.bits().to_ne_bytes().to_vec()),
            SETFLAGS => {
                let bits = data.first_chunk().ok_or(Errno::INVAL)?;
                let flags = IFlags::from_bits_retain(u32::from_ne_bytes(*bits));
                ioctl_setflags(fd, flags)?;
                Ok(Vec::new())
            }
            FSGETXATTR => Ok(fsxattr::get(fd)?.to_vec()),
            FSSETXATTR => {
                fsxattr::set(fd, *data.first_chunk().ok_or(Errno::INVAL)?)?;
                Ok(Vec::new())
            }
            _ => Err(Errno::NOTTY),
        }
    }

    /// A file is about to be modified through a descriptor, by who asks.
    pub(crate) fn modifying(&self, request: &Request, open: &OpenFile) {
        if self.stamper.enabled {
            let who = self.callers.of(request);
            self.stamper.modifying(&subject(open), &who.identity);
        }
    }

    /// Finds out whether the kernel has modified a file by itself, and then records who asks.
    pub(crate) fn look(
        &self,
        request: &Request,
        inode: &Inode,
        open: Option<&OpenFile>,
    ) -> Result<()> {
        if !self.stamper.is_watched(inode) {
            return Ok(());
        }
        let now = inode.stat()?;
        let opener = open.and_then(|open| open.opener.as_deref());
        let who = || -> Arc<Identity> { self.callers.closing(request, opener).identity.clone() };
        let stamped = match open {
            Some(open) => self.stamper.look(&subject(open), &now, who),
            None => {
                let subject = Subject {
                    inode,
                    file: OfFile::held(inode),
                    handle: None,
                };
                self.stamper.look(&subject, &now, who)
            }
        };
        self.stamper.seen_again(inode, &now);
        if stamped {
            self.changed_behind(inode);
        }
        Ok(())
    }
}

/// A file that is modified through a descriptor.
fn subject(open: &OpenFile) -> Subject<'_> {
    Subject {
        inode: &open.inode,
        file: OfFile::open(&open.fd),
        handle: Some(&open.state),
    }
}

/// The flags with which a file is opened for somebody else. Where to write is said with each write,
/// truncation is done apart, and a link in `/proc` has to be followed.
fn behind(wanted: OFlags) -> OFlags {
    let not_here = OFlags::APPEND
        | OFlags::CREATE
        | OFlags::DIRECT
        | OFlags::EXCL
        | OFlags::NOCTTY
        | OFlags::NOFOLLOW
        | OFlags::TRUNC
        | OFlags::from_bits_retain(FMODE_EXEC as u32);
    (wanted - not_here) | OFlags::CLOEXEC
}
