//! Open files: opening and closing, and finding out who modifies them meanwhile.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use fuser::{BackingId, FileHandle, FileType, FopenFlags, INodeNo, OpenFlags, Request};
use parking_lot::Mutex;
use rustix::{
    fs::{Mode, OFlags, openat},
    io::{Errno, Result},
};

use super::entry::{Entry, Name};
use crate::{
    Overlay,
    attributes::OfFile,
    caller::Identity,
    handles::OpenFile,
    inodes::{Inode, check_name, stat},
    passthrough,
    stamp::{HandleState, Subject},
};

/// What a request for opening adds to the flags when a program is to be executed: `__FMODE_EXEC` in
/// `include/linux/fs.h`.
const FMODE_EXEC: i32 = 0x20;

/// A file that was opened, as the kernel is to be told.
pub(crate) struct Opened {
    pub(crate) handle: FileHandle,
    pub(crate) flags: FopenFlags,
    pub(crate) backing: Option<Arc<BackingId>>,
}

/// Tells the kernel about the file behind an inode.
type Register<'a> = &'a dyn Fn(&Inode) -> io::Result<BackingId>;

impl Overlay {
    pub(crate) fn open(
        &self,
        request: &Request,
        inode: INodeNo,
        flags: OpenFlags,
        register: Register<'_>,
    ) -> Result<Opened> {
        let inode = self.inodes.get(inode)?;
        let plain = behind(OFlags::from_bits_retain(flags.0 as u32));
        let fd = match self.open_as(request, &inode, plain) {
            // Who may execute a program need not be allowed to read it. The kernel has asked.
            Err(Errno::ACCESS) if flags.0 & FMODE_EXEC != 0 => self
                .reaper
                .retrying(|| openat(&self.proc_fds, inode.proc_name(), plain, Mode::empty()))?,
            result => result?,
        };
        self.opened(request, inode, fd, plain, false, register)
    }

    fn open_as(&self, request: &Request, inode: &Inode, flags: OFlags) -> Result<OwnedFd> {
        let _acting = self.acting(request)?;
        self.reaper
            .retrying(|| openat(&self.proc_fds, inode.proc_name(), flags, Mode::empty()))
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
                // Somebody else was quicker, and may have made something that would be waited for.
                Err(Errno::EXIST) if !wanted.contains(OFlags::EXCL) => {
                    let flags = plain | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                    (openat(&*parent, at.name, flags, mode)?, false)
                }
                made => (made?, true),
            }
        };
        let (inode, stat) = self.inode_of(&fd)?;
        if created {
            inode.state.lock().fresh = true;
        }
        let opened = self.opened(request, inode.clone(), fd, plain, created, register)?;
        if !created && wanted.contains(OFlags::TRUNC) {
            // The kernel took it for a new file, and leaves this to us.
            let truncated = self
                .files
                .get(opened.handle)
                .and_then(|open| self.truncate(request, &inode, Some(&open), 0));
            if let Err(error) = truncated {
                self.release(opened.handle);
                self.inodes.forget(inode.number, 1);
                return Err(error);
            }
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

    pub(super) fn settle(&self, open: &OpenFile, last: bool) -> Result<()> {
        if self
            .stamper
            .settle(&subject(open), || stat(&open.fd), last)?
        {
            self.changed_behind(&open.inode);
        }
        Ok(())
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
pub(super) fn subject(open: &OpenFile) -> Subject<'_> {
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
