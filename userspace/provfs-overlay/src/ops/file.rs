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
    fs::{Mode, OFlags, Statx, openat},
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
    stamp::Subject,
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
        let open = self.opened(request, inode, fd, plain, false);
        self.hand_over(open, None, register)
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
        let room = self.room()?;
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
        drop(room);
        let (inode, stat) = self.inode_of(&fd)?;
        let open = self.opened(request, inode.clone(), fd, plain, created);
        let finished = self.finish_creation(request, open, stat, &wanted, created, register);
        if finished.is_err() {
            self.inodes.forget(inode.number, 1);
        }
        let (stat, opened) = finished?;
        Ok(((inode, stat), opened))
    }

    /// A file that was opened by name has its record, if it was created, and is empty if it was to
    /// be truncated.
    fn finish_creation(
        &self,
        request: &Request,
        open: OpenFile,
        mut stat: Statx,
        wanted: &OFlags,
        created: bool,
        register: Register<'_>,
    ) -> Result<(Statx, Opened)> {
        let creator = open.opener.as_ref().filter(|_| created);
        if creator.is_some_and(|who| self.stamper.created(&subject(&open), &who.identity)) {
            stat = open.stat()?;
        }
        if !created && wanted.contains(OFlags::TRUNC) {
            // The kernel took it for a new file, and leaves this to us.
            self.truncate(request, &open.inode, Some(&open), 0)?;
            stat = open.stat()?;
        }
        let opened = self.hand_over(open, Some(&stat), register)?;
        Ok((stat, opened))
    }

    /// The inode of a file that was just opened by name, which may be another file's by now.
    fn inode_of(&self, fd: &OwnedFd) -> Result<Entry> {
        let name = fd.as_raw_fd().to_string();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let held = self
            .reaper
            .retrying(|| openat(&self.proc_fds, OsStr::new(&name), flags, Mode::empty()))?;
        let stat = stat(&held)?;
        let inode = self.inodes.remember(held, &stat);
        self.reaper.watch(self.inodes.len());
        Ok((inode, stat))
    }

    fn opened(
        &self,
        request: &Request,
        inode: Arc<Inode>,
        fd: OwnedFd,
        flags: OFlags,
        created: bool,
    ) -> OpenFile {
        let writable = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        let recorded = self.stamper.enabled && (writable || created);
        OpenFile {
            fd,
            inode,
            writable,
            backing: None,
            opener: recorded.then(|| self.callers.of(request)),
            state: Mutex::default(),
        }
    }

    /// Gives the kernel an open file, which looks like this, and lets it read and write that by
    /// itself if it can.
    fn hand_over(
        &self,
        mut open: OpenFile,
        stat: Option<&Statx>,
        register: Register<'_>,
    ) -> Result<Opened> {
        open.backing = (self.passthrough && open.inode.kind == FileType::RegularFile)
            .then(|| passthrough::backing(&open.inode, || register(&open.inode)))
            .flatten();
        if open.backing.is_some() {
            self.status.opened_passthrough.add();
            if open.opener.is_some() {
                let stat = stat.map_or_else(|| open.stat(), |stat| Ok(*stat))?;
                self.stamper.opened(&open.inode, &stat);
            }
        } else {
            self.status.opened_cached.add();
        }
        let mut flags = FopenFlags::empty();
        if !open.writable {
            flags |= FopenFlags::FOPEN_NOFLUSH;
        }
        let backing = open.backing.clone();
        let handle = self.files.add(open);
        Ok(Opened {
            handle,
            flags,
            backing,
        })
    }

    /// The last descriptor is closed. Nobody waits for this, and nobody knows who asks.
    pub(crate) fn release(&self, handle: FileHandle) {
        let Some(open) = self.files.remove(handle) else {
            return;
        };
        let Some(opener) = &open.opener else {
            return;
        };
        match open.stat() {
            Ok(stat) => {
                // It may have been written to through a mapping that outlived its descriptor.
                let subject = subject(&open);
                let who = open.state.lock().writer();
                let who = who.unwrap_or_else(|| opener.identity.clone());
                if self.stamper.look(&subject, &stat, || who) {
                    self.changed_behind(&open.inode);
                }
                if let Err(error) = self.settle(&open, Some(stat)) {
                    log::debug!("a file that is closed: {error}");
                }
            }
            Err(error) => log::debug!("a file that is closed: {error}"),
        }
        if open.backing.is_some() {
            self.stamper.closed(&open.inode);
        }
    }

    /// What an open file owes, which looks like this if that is known.
    pub(super) fn settle(&self, open: &OpenFile, seen: Option<Statx>) -> Result<()> {
        let stat = || seen.map_or_else(|| open.stat(), Ok);
        if self.stamper.settle(&subject(open), stat)? {
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

    /// Finds out whether the kernel has modified a file by itself, and then records who asks. Returns
    /// how it looks, if that was to be found out.
    pub(crate) fn look(
        &self,
        request: &Request,
        inode: &Inode,
        open: Option<&OpenFile>,
    ) -> Result<Option<Statx>> {
        if !self.stamper.is_watched(inode) {
            return Ok(None);
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
        Ok(Some(now))
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
