//! From requests of the kernel to operations, and back.

use std::{ffi::OsStr, io, path::Path, time::SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::{fs::AtFlags, io::Result};

use super::{
    attr::Changes,
    entry::{Entry, Name},
};
use crate::{Overlay, inodes::attributes};

/// An inode that is held cannot come to mean another file, so all are of the first generation.
const GENERATION: Generation = Generation(0);

/// Most bytes in a request to read or write.
const REQUEST_MAX: u32 = 1 << 20;

/// Requests that the kernel makes ahead of need, at most.
const BACKGROUND_MAX: u16 = 64;

/// The depth of file systems upon each other that passthrough may have. It is the most that Linux
/// allows, for sources that are on an overlayfs themselves.
const STACK_DEPTH: u32 = 2;

/// What the kernel is asked to do, where it can.
///
/// Not to truncate while opening (`FUSE_ATOMIC_O_TRUNC`): that would come before the kernel looks
/// whether the file is a program that is running.
const WANTED: [InitFlags; 12] = [
    InitFlags::FUSE_ASYNC_DIO,
    // Cached data is dropped when times or size change.
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_CACHE_SYMLINKS,
    // A default ACL of the directory goes before the umask, so that is applied here.
    InitFlags::FUSE_DONT_MASK,
    // Set-user-ID bits are taken away where the rights of the caller do not allow to keep them.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_HAS_IOCTL_DIR,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    // ACLs are looked at with all other permissions.
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_ASYNC_READ,
];

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

impl Overlay {
    fn reply_entry(&self, entry: Result<Entry>, reply: ReplyEntry) {
        match entry {
            Ok((inode, stat)) => {
                reply.entry(&self.cache, &attributes(inode.number, &stat), GENERATION);
            }
            Err(error) => reply.error(errno(error)),
        }
    }
}

fn reply_empty(result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

/// Replies with what there is, or with its size if that was asked for.
fn reply_xattr(result: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match result {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(len) if size == 0 => reply.size(len),
            Ok(len) if len <= size => reply.data(&value),
            _ => reply.error(Errno::ERANGE),
        },
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Overlay {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in WANTED {
            if config.add_capabilities(flag).is_err() {
                log::info!("this kernel has no {flag:?}");
            }
        }
        // It takes the nearest value that is possible.
        let _ = config.set_max_write(REQUEST_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        self.passthrough = self.passthrough
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        log::info!("passthrough: {}", self.passthrough);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.reply_entry(self.lookup(Name { parent, name }), reply);
    }

    fn forget(&self, _request: &Request, inode: INodeNo, count: u64) {
        self.inodes.forget(inode, count);
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _fh: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.getattr(inode) {
            Ok(stat) => reply.attr(&self.cache, &attributes(inode, &stat)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
            handle,
        };
        match self.setattr(request, inode, &changes) {
            Ok(stat) => reply.attr(&self.cache, &attributes(inode, &stat)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        match self.readlink(inode) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let made = self.mknod(request, Name { parent, name }, mode, umask, device);
        self.reply_entry(made, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.mkdir(request, Name { parent, name }, mode, umask);
        self.reply_entry(made, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.unlink(request, Name { parent, name }, AtFlags::empty());
        reply_empty(done, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.unlink(request, Name { parent, name }, AtFlags::REMOVEDIR);
        reply_empty(done, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.reply_entry(self.symlink(request, Name { parent, name }, target), reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let to = Name {
            parent: new_parent,
            name: new_name,
        };
        reply_empty(
            self.rename(request, Name { parent, name }, to, flags),
            reply,
        );
    }

    fn link(
        &self,
        request: &Request,
        inode: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.reply_entry(self.link(request, inode, Name { parent, name }), reply);
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let register = |inode: &crate::inodes::Inode| reply.open_backing(inode);
        match self.open(request, inode, flags, &register) {
            Ok(opened) => match opened.backing {
                Some(id) => reply.opened_passthrough(opened.handle, opened.flags, &id),
                None => reply.opened(opened.handle, opened.flags),
            },
            Err(error) => reply.error(errno(error)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let register = |inode: &crate::inodes::Inode| reply.open_backing(inode);
        match self.create(
            request,
            Name { parent, name },
            mode,
            umask,
            flags,
            &register,
        ) {
            Ok(((inode, stat), opened)) => {
                let attr = attributes(inode.number, &stat);
                let (handle, flags) = (opened.handle, opened.flags);
                match opened.backing {
                    Some(id) => {
                        reply.created_passthrough(
                            &self.cache,
                            &attr,
                            GENERATION,
                            handle,
                            flags,
                            &id,
                        );
                    }
                    None => reply.created(&self.cache, &attr, GENERATION, handle, flags),
                }
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read(handle, offset, size, |read| match read {
            Ok(data) => reply.data(data),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn write(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write(request, handle, offset, data, write_flags) {
            Ok(written) => reply.written(u32::try_from(written).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply_empty(self.flush(request, handle), reply);
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.release(handle);
        reply.ok();
    }

    fn fsync(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply_empty(self.fsync(request, handle, datasync), reply);
    }

    fn opendir(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.opendir(request, inode) {
            Ok(handle) => reply.opened(handle, fuser::FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let done = self.readdir(handle, offset, |_, entry| {
            Ok(reply.add(entry.number, entry.next, entry.kind, entry.name))
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let done = self.readdir(handle, offset, |dir, entry| {
            let Some(attr) = self.entry_attributes(dir, entry)? else {
                return Ok(false);
            };
            let (next, name, ttl) = (entry.next, entry.name, &self.cache);
            let is_full = reply.add(attr.ino, next, name, ttl, &attr, GENERATION);
            if is_full {
                self.take_back(entry, &attr);
            }
            Ok(is_full)
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.releasedir(handle);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply_empty(self.fsyncdir(handle, datasync), reply);
    }

    fn statfs(&self, _request: &Request, inode: INodeNo, reply: ReplyStatfs) {
        match self.statfs(inode) {
            Ok(fs) => {
                let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
                reply.statfs(
                    fs.f_blocks,
                    fs.f_bfree,
                    fs.f_bavail,
                    fs.f_files,
                    fs.f_ffree,
                    small(fs.f_bsize),
                    small(fs.f_namemax),
                    small(fs.f_frsize),
                );
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply_empty(self.setxattr(request, inode, name, value, flags), reply);
    }

    fn getxattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        reply_xattr(self.getxattr(inode, name), size, reply);
    }

    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        reply_xattr(self.listxattr(request, inode), size, reply);
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.removexattr(request, inode, name), reply);
    }

    fn ioctl(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        match self.ioctl(request, handle, command, data) {
            Ok(answer) => reply.ioctl(0, &answer),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fallocate(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = self.fallocate(request, handle, offset, length, mode);
        reply_empty(done, reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.lseek(handle, offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _inode_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        _inode_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((handle_in, offset_in), (handle_out, offset_out));
        match self.copy_file_range(request, from, to, length) {
            Ok(copied) => reply.written(copied),
            Err(error) => reply.error(errno(error)),
        }
    }
}
