//! Names: looking up, making, linking, renaming and removing.

use std::{ffi::OsStr, os::fd::OwnedFd, path::Path, sync::Arc};

use fuser::{FileType, INodeNo, Request};
use rustix::{
    fs::{
        AtFlags, FileType as RawType, Mode, RenameFlags, Statx, linkat, mkdirat, mknodat,
        readlinkat, renameat_with, symlinkat, unlinkat,
    },
    io::{Errno, Result, fcntl_dupfd_cloexec},
};

use crate::{
    Overlay,
    attributes::OfFile,
    inodes::{Inode, check_name, decode_device},
    stamp::{Subject, record::Old},
};

/// An inode that the kernel has one more reference to, and its attributes.
pub(crate) type Entry = (Arc<Inode>, Statx);

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    pub(crate) parent: INodeNo,
    pub(crate) name: &'a OsStr,
}

impl Overlay {
    pub(crate) fn lookup(&self, at: Name<'_>) -> Result<Entry> {
        let parent = self.inodes.get(at.parent)?;
        self.lookup_in(&parent, at.name)
    }

    /// Looks up a name, and waits for descriptors to become free where they are all taken.
    pub(crate) fn lookup_in(&self, parent: &Inode, name: &OsStr) -> Result<Entry> {
        let found = self.reaper.retrying(|| self.inodes.lookup(parent, name))?;
        self.reaper.watch(self.inodes.len());
        Ok(found)
    }

    /// Takes a descriptor, to be given back when something was made and is to be looked up: what is
    /// made and then cannot be told of would be left behind.
    pub(crate) fn room(&self) -> Result<OwnedFd> {
        self.reaper
            .retrying(|| fcntl_dupfd_cloexec(&self.proc_fds, 0))
    }

    pub(crate) fn readlink(&self, inode: INodeNo) -> Result<Vec<u8>> {
        let inode = self.inodes.get(inode)?;
        Ok(readlinkat(&*inode, c"", Vec::new())?.into_bytes())
    }

    pub(crate) fn mkdir(
        &self,
        request: &Request,
        at: Name<'_>,
        mode: u32,
        umask: u32,
    ) -> Result<Entry> {
        check_name(at.name)?;
        let parent = self.inodes.get(at.parent)?;
        let room = self.room()?;
        {
            let _acting = self.acting(request)?.masking(umask);
            mkdirat(&*parent, at.name, Mode::from_raw_mode(mode))?;
        }
        drop(room);
        let made = self.lookup_in(&parent, at.name)?;
        self.made(request, made, FileType::Directory)
    }

    /// Something was made that nobody opens for it: it is stamped at once, if it is of this kind.
    fn made(&self, request: &Request, (inode, stat): Entry, kind: FileType) -> Result<Entry> {
        if inode.kind != kind || !self.stamper.enabled {
            return Ok((inode, stat));
        }
        inode.state.lock().fresh = true;
        let subject = Subject {
            inode: &inode,
            file: OfFile::held(&*inode),
            handle: None,
        };
        let who = self.callers.of(request);
        let stamped = self.stamper.modifying(&subject, &who.identity);
        let stat = if stamped { inode.stat()? } else { stat };
        Ok((inode, stat))
    }

    pub(crate) fn mknod(
        &self,
        request: &Request,
        at: Name<'_>,
        mode: u32,
        umask: u32,
        device: u32,
    ) -> Result<Entry> {
        check_name(at.name)?;
        let parent = self.inodes.get(at.parent)?;
        let room = self.room()?;
        {
            let _acting = self.acting(request)?.masking(umask);
            let kind = RawType::from_raw_mode(mode);
            let mode = Mode::from_raw_mode(mode);
            mknodat(&*parent, at.name, kind, mode, decode_device(device))?;
        }
        drop(room);
        let made = self.lookup_in(&parent, at.name)?;
        self.made(request, made, FileType::RegularFile)
    }

    pub(crate) fn symlink(&self, request: &Request, at: Name<'_>, target: &Path) -> Result<Entry> {
        check_name(at.name)?;
        let parent = self.inodes.get(at.parent)?;
        let room = self.room()?;
        {
            let _acting = self.acting(request)?;
            symlinkat(target, &*parent, at.name)?;
        }
        drop(room);
        self.lookup_in(&parent, at.name)
    }

    pub(crate) fn link(&self, request: &Request, inode: INodeNo, at: Name<'_>) -> Result<Entry> {
        check_name(at.name)?;
        let inode = self.inodes.get(inode)?;
        let parent = self.inodes.get(at.parent)?;
        let room = self.room()?;
        {
            let _acting = self.acting(request)?;
            // The link in /proc is followed, and leads to the inode itself.
            let flags = AtFlags::SYMLINK_FOLLOW;
            linkat(&self.proc_fds, inode.proc_name(), &*parent, at.name, flags)?;
        }
        drop(room);
        self.lookup_in(&parent, at.name)
    }

    pub(crate) fn unlink(&self, request: &Request, at: Name<'_>, flags: AtFlags) -> Result<()> {
        check_name(at.name)?;
        let parent = self.inodes.get(at.parent)?;
        {
            let _acting = self.acting(request)?;
            unlinkat(&*parent, at.name, flags)?;
        }
        if let Some((sidecar, places)) = self.stamper.store.sidecar() {
            let path = places.relative(&parent).map(|dir| join(dir, at.name));
            path.map_or(Ok(()), |path| sidecar.removed(&path))?;
        }
        Ok(())
    }

    pub(crate) fn rename(
        &self,
        request: &Request,
        from: Name<'_>,
        to: Name<'_>,
        flags: fuser::RenameFlags,
    ) -> Result<()> {
        check_name(from.name)?;
        check_name(to.name)?;
        let from_dir = self.inodes.get(from.parent)?;
        let to_dir = self.inodes.get(to.parent)?;
        if flags.contains(fuser::RenameFlags::RENAME_WHITEOUT) {
            // The kernel does not ask for it on FUSE; it would need a device that is not stamped.
            return Err(Errno::INVAL);
        }
        let exchange = flags.contains(fuser::RenameFlags::RENAME_EXCHANGE);
        let keeps = exchange || flags.contains(fuser::RenameFlags::RENAME_NOREPLACE);
        let replaced = if keeps {
            None
        } else {
            self.file_to_go(&from_dir, from.name, &to_dir, to.name)
        };
        {
            let _acting = self.acting(request)?;
            let flags = RenameFlags::from_bits_retain(flags.bits());
            renameat_with(&*from_dir, from.name, &*to_dir, to.name, flags)?;
        }
        if let Some((sidecar, places)) = self.stamper.store.sidecar() {
            let path = |dir: &Inode, name| places.relative(dir).map(|dir| join(dir, name));
            if let (Some(one), Some(other)) = (path(&from_dir, from.name), path(&to_dir, to.name)) {
                if exchange {
                    sidecar.exchanged(&one, &other)?;
                } else {
                    sidecar.renamed(&one, &other)?;
                }
            }
        }
        if let Some(old) = replaced {
            let (inode, _) = self.lookup_in(&to_dir, to.name)?;
            self.stamper.replaced(&inode, &old);
            self.changed_behind(&inode);
            self.inodes.forget(inode.number, 1);
        }
        Ok(())
    }

    /// The record of the file that a rename replaces, if that is one regular file by another.
    fn file_to_go(
        &self,
        from_dir: &Inode,
        from: &OsStr,
        to_dir: &Inode,
        to: &OsStr,
    ) -> Option<Old> {
        if !self.stamper.enabled {
            return None;
        }
        let (target, _) = self.lookup_in(to_dir, to).ok()?;
        let old = (|| {
            if target.kind != FileType::RegularFile {
                return None;
            }
            let (source, _) = self.lookup_in(from_dir, from).ok()?;
            let regular = source.kind == FileType::RegularFile && source.key != target.key;
            self.inodes.forget(source.number, 1);
            regular.then(|| self.stamper.about_to_go(&target)).flatten()
        })();
        self.inodes.forget(target.number, 1);
        old
    }
}

/// A name behind the path of a directory.
fn join(mut dir: Vec<u8>, name: &OsStr) -> Vec<u8> {
    if !dir.is_empty() {
        dir.push(b'/');
    }
    dir.extend_from_slice(name.as_encoded_bytes());
    dir
}
