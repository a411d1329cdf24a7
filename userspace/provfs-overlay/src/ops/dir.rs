//! Directories: their entries, in the order and with the positions of the file system behind.

use std::{ffi::OsStr, mem::MaybeUninit, os::unix::ffi::OsStrExt};

use fuser::{FileAttr, FileHandle, FileType, INodeNo, Request};
use parking_lot::Mutex;
use rustix::{
    fs::{FileType as RawType, Mode, OFlags, RawDir, SeekFrom, fdatasync, fsync, openat, seek},
    io::{Errno, Result},
};

use crate::{
    Overlay,
    handles::OpenDir,
    inodes::{Inode, Key, attributes},
};

/// Room for the entries of one reply: the kernel asks for a page at a time, or for a few.
const BUFFER: usize = 16 * 1024;

/// One entry.
pub(crate) struct DirEntry<'a> {
    pub(crate) number: INodeNo,
    /// Where the next one is.
    pub(crate) next: u64,
    pub(crate) kind: FileType,
    pub(crate) name: &'a OsStr,
}

impl Overlay {
    pub(crate) fn opendir(&self, request: &Request, inode: INodeNo) -> Result<FileHandle> {
        let inode = self.inodes.get(inode)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = {
            let _acting = self.acting(request)?;
            self.reaper
                .retrying(|| openat(&self.proc_fds, inode.proc_name(), flags, Mode::empty()))?
        };
        Ok(self.dirs.add(OpenDir {
            fd,
            inode,
            position: Mutex::new(0),
        }))
    }

    /// Hands over the entries from a position on, until `add` has no room for one.
    pub(crate) fn readdir(
        &self,
        handle: FileHandle,
        offset: u64,
        mut add: impl FnMut(&OpenDir, &DirEntry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let dir = self.dirs.get(handle)?;
        let mut position = dir.position.lock();
        if *position != offset {
            seek(&dir.fd, SeekFrom::Start(offset))?;
        }
        // If this ends early, the next one begins with a seek.
        *position = u64::MAX;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(&dir.fd, &mut buffer);
        let mut reached = offset;
        let mut any = false;
        loop {
            let is_behind = entries.is_buffer_empty();
            if any && is_behind {
                // What the next call reads begins here.
                *position = reached;
                return Ok(());
            }
            let Some(entry) = entries.next() else {
                *position = reached;
                return Ok(());
            };
            let entry = entry?;
            let found = DirEntry {
                number: self.number_of(&dir.inode, entry.ino(), entry.file_name().to_bytes()),
                next: entry.next_entry_cookie(),
                kind: kind(entry.file_type()),
                name: OsStr::from_bytes(entry.file_name().to_bytes()),
            };
            match add(&dir, &found) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(_) if any => return Ok(()),
                Err(error) => return Err(error),
            }
            reached = found.next;
            any = true;
        }
    }

    /// What the number of an entry looks like from outside. The root has one of its own, and nothing
    /// is above it.
    fn number_of(&self, dir: &Inode, ino: u64, name: &[u8]) -> INodeNo {
        let root = self.inodes.root();
        let is_above = name == b".." && dir.number == root.number;
        let key = Key {
            dev: dir.key.dev,
            ino,
        };
        if is_above || key == root.key {
            return root.number;
        }
        self.inodes.number_of(key).unwrap_or(INodeNo(ino))
    }

    /// The attributes of an entry, with one more reference for the kernel. `None` for one that is
    /// gone. Those of the directory itself and of the one above are not looked at by the kernel.
    pub(crate) fn entry_attributes(
        &self,
        dir: &OpenDir,
        entry: &DirEntry<'_>,
    ) -> Result<Option<FileAttr>> {
        if is_dots(entry.name) {
            let mut dots = attributes(entry.number, &dir.inode.stat()?);
            dots.kind = FileType::Directory;
            return Ok(Some(dots));
        }
        match self.lookup_in(&dir.inode, entry.name) {
            Ok((inode, stat)) => Ok(Some(attributes(inode.number, &stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An entry did not fit: the kernel has no reference to it.
    pub(crate) fn take_back(&self, entry: &DirEntry<'_>, attributes: &FileAttr) {
        if !is_dots(entry.name) {
            self.inodes.forget(attributes.ino, 1);
        }
    }

    pub(crate) fn fsyncdir(&self, handle: FileHandle, datasync: bool) -> Result<()> {
        let dir = self.dirs.get(handle)?;
        if datasync {
            fdatasync(&dir.fd)
        } else {
            fsync(&dir.fd)
        }
    }

    pub(crate) fn releasedir(&self, handle: FileHandle) {
        drop(self.dirs.remove(handle));
    }
}

fn is_dots(name: &OsStr) -> bool {
    matches!(name.as_bytes(), b"." | b"..")
}

fn kind(kind: RawType) -> FileType {
    match kind {
        RawType::Directory => FileType::Directory,
        RawType::Symlink => FileType::Symlink,
        RawType::Fifo => FileType::NamedPipe,
        RawType::Socket => FileType::Socket,
        RawType::CharacterDevice => FileType::CharDevice,
        RawType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}
