//! What an open file is open for: reading, writing, and the rest of what a descriptor can do.

use std::cell::RefCell;

use fuser::{FileHandle, Request, WriteFlags};
use rustix::{
    fs::{
        FallocateFlags, IFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fsync,
        ioctl_getflags, ioctl_setflags, seek,
    },
    io::{Errno, Result, dup, pread, pwrite},
};

use super::file::subject;
use crate::{Overlay, caller::Acting, fsxattr, inodes::stat};

/// `FS_IOC_GETFLAGS` and so on in `include/uapi/linux/fs.h`, as the kernel sends them.
const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;

thread_local! {
    /// What is read goes through here.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Overlay {
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
            let seen = self.look(request, &open.inode, Some(&open))?;
            self.settle(&open, seen)?;
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
}
