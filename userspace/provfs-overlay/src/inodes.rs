//! The inodes that the kernel knows, each held by a descriptor.
//!
//! An inode is found by device and number, so that all names of a file lead to the same one, and is
//! held open (`O_PATH`), so that its number cannot come to mean another file while anybody knows it.
//! Names are only ever looked up in a directory that is held that way, one component at a time and
//! without following links: nothing can lead out of the source.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{FileAttr, FileType, INodeNo};
use parking_lot::{Mutex, RwLock};
use rustix::{
    fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, openat, statx},
    io::{Errno, Result},
};

use crate::{passthrough::Backing, stamp::InodeState};

/// What an inode is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The device.
    pub dev: u64,
    /// The number on it.
    pub ino: u64,
}

impl Key {
    /// The key of what was looked at.
    pub fn of(stat: &Statx) -> Self {
        Key {
            dev: (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor),
            ino: stat.stx_ino,
        }
    }
}

/// An inode that the kernel knows.
#[derive(Debug)]
pub struct Inode {
    /// Its number in this file system.
    pub number: INodeNo,
    /// Where it is.
    pub key: Key,
    /// What it is.
    pub kind: FileType,
    /// How many references the kernel has.
    lookups: AtomicU64,
    /// When it was last looked up, as a number that grows.
    used: AtomicU64,
    fd: OwnedFd,
    /// What is known about its record.
    pub state: Mutex<InodeState>,
    /// The file behind it as the kernel knows it.
    pub backing: Mutex<Backing>,
}

impl Inode {
    /// Looks at it.
    pub fn stat(&self) -> Result<Statx> {
        stat(&self.fd)
    }

    /// Its name in `/proc/self/fd`.
    pub fn proc_name(&self) -> String {
        self.fd.as_raw_fd().to_string()
    }

    /// When it was last looked up.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl AsFd for Inode {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Looks at what a descriptor holds.
pub fn stat(fd: impl AsFd) -> Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    statx(fd, c"", flags, StatxFlags::BASIC_STATS)
}

/// All inodes that the kernel knows.
#[derive(Debug)]
pub struct Inodes {
    root: Arc<Inode>,
    table: RwLock<Table>,
    clock: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    by_number: HashMap<u64, Arc<Inode>>,
    by_key: HashMap<Key, u64>,
}

impl Inodes {
    /// Begins with the root, which is never forgotten.
    pub fn new(root: OwnedFd) -> Result<Self> {
        let stat = stat(&root)?;
        let root = Arc::new(Inode {
            number: INodeNo::ROOT,
            key: Key::of(&stat),
            kind: kind(&stat),
            lookups: AtomicU64::new(1),
            used: AtomicU64::new(0),
            fd: root,
            state: Mutex::default(),
            backing: Mutex::default(),
        });
        let mut table = Table::default();
        table.by_key.insert(root.key, root.number.0);
        table.by_number.insert(root.number.0, root.clone());
        Ok(Inodes {
            root,
            table: RwLock::new(table),
            clock: AtomicU64::new(1),
        })
    }

    /// The root.
    pub fn root(&self) -> &Arc<Inode> {
        &self.root
    }

    /// The inode of a number that the kernel was given.
    pub fn get(&self, number: INodeNo) -> Result<Arc<Inode>> {
        let table = self.table.read();
        table.by_number.get(&number.0).cloned().ok_or(Errno::STALE)
    }

    /// Looks up a name in a directory. The kernel has one more reference to what is found.
    pub fn lookup(&self, parent: &Inode, name: &OsStr) -> Result<(Arc<Inode>, Statx)> {
        check_name(name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&parent.fd, name, flags, Mode::empty())?;
        let stat = stat(&fd)?;
        Ok((self.remember(fd, &stat), stat))
    }

    /// The inode that a descriptor holds, for the kernel to have one more reference to.
    pub fn remember(&self, fd: OwnedFd, stat: &Statx) -> Arc<Inode> {
        let key = Key::of(stat);
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.write();
        let known = table.by_key.get(&key);
        if let Some(inode) = known.and_then(|number| table.by_number.get(number)) {
            inode.lookups.fetch_add(1, Ordering::Relaxed);
            inode.used.store(now, Ordering::Relaxed);
            return inode.clone();
        }
        let number = table.number_for(key, self.root.key);
        let inode = Arc::new(Inode {
            number: INodeNo(number),
            key,
            kind: kind(stat),
            lookups: AtomicU64::new(1),
            used: AtomicU64::new(now),
            fd,
            state: Mutex::default(),
            backing: Mutex::default(),
        });
        table.by_key.insert(key, number);
        table.by_number.insert(number, inode.clone());
        inode
    }

    /// The kernel has dropped references.
    pub fn forget(&self, number: INodeNo, count: u64) {
        if number == INodeNo::ROOT {
            return;
        }
        let mut table = self.table.write();
        let Some(inode) = table.by_number.get(&number.0) else {
            return;
        };
        let before = inode.lookups.load(Ordering::Relaxed);
        inode
            .lookups
            .store(before.saturating_sub(count), Ordering::Relaxed);
        if before > count {
            return;
        }
        let gone = table.by_number.remove(&number.0);
        if let Some(inode) = &gone {
            table.by_key.remove(&inode.key);
        }
        // To close a file can take a while.
        drop(table);
        drop(gone);
    }

    /// How many inodes the kernel knows.
    pub fn len(&self) -> usize {
        self.table.read().by_number.len()
    }

    /// Whether there are none. The root is one always.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them but the root.
    pub fn all(&self) -> Vec<Arc<Inode>> {
        let table = self.table.read();
        let others = table.by_number.values();
        others
            .filter(|inode| inode.number != INodeNo::ROOT)
            .cloned()
            .collect()
    }

    /// The number of an inode, if the kernel knows it.
    pub fn number_of(&self, key: Key) -> Option<INodeNo> {
        self.table.read().by_key.get(&key).map(|&n| INodeNo(n))
    }
}

impl Table {
    /// A number for an inode: the one that it has, so that it is the same each time it is looked up,
    /// where nothing else has that.
    fn number_for(&self, key: Key, root: Key) -> u64 {
        let other_device = key.dev != root.dev;
        let mut number = if other_device || key.ino <= INodeNo::ROOT.0 {
            // The device goes where numbers of inodes rarely reach.
            let device = ((key.dev >> 32) << 8) ^ (key.dev & 0xffff_ffff);
            key.ino ^ ((device | 1) << 44) ^ (1 << 63)
        } else {
            key.ino
        };
        while number <= INodeNo::ROOT.0 || self.by_number.contains_key(&number) {
            number = number.wrapping_add((1 << 32) | 1);
        }
        number
    }
}

/// A name is one component. The kernel sends no other; nothing is to depend on that.
pub fn check_name(name: &OsStr) -> Result<()> {
    let bytes = name.as_encoded_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    Ok(())
}

/// What kind of file it is.
pub fn kind(stat: &Statx) -> FileType {
    match rustix::fs::FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// The attributes of an inode for the kernel.
pub fn attributes(number: INodeNo, stat: &Statx) -> FileAttr {
    FileAttr {
        ino: number,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(&stat.stx_atime),
        mtime: time(&stat.stx_mtime),
        ctime: time(&stat.stx_ctime),
        crtime: time(&stat.stx_btime),
        kind: kind(stat),
        perm: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: encode_device(stat.stx_rdev_major, stat.stx_rdev_minor),
        blksize: stat.stx_blksize,
        flags: 0,
    }
}

/// A device number as FUSE has it, which is `new_encode_dev` in the kernel.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// The device that `encode_device` makes a number of.
pub fn decode_device(number: u32) -> rustix::fs::Dev {
    rustix::fs::makedev(
        (number >> 8) & 0xfff,
        (number & 0xff) | ((number >> 12) & 0xf_ff00),
    )
}

fn time(stamp: &StatxTimestamp) -> SystemTime {
    let whole = Duration::from_secs(stamp.tv_sec.unsigned_abs());
    let seconds = if stamp.tv_sec < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    seconds.unwrap_or(UNIX_EPOCH) + Duration::from_nanos(u64::from(stamp.tv_nsec))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn table(dir: &std::path::Path) -> Inodes {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Inodes::new(rustix::fs::open(dir, flags, Mode::empty()).unwrap()).unwrap()
    }

    #[test]
    fn hard_links_are_one_inode_and_forgetting_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let inodes = table(dir.path());
        let (a, _) = inodes.lookup(inodes.root(), OsStr::new("a")).unwrap();
        let (b, _) = inodes.lookup(inodes.root(), OsStr::new("b")).unwrap();
        assert!(Arc::ptr_eq(&a, &b));
        let real = fs::metadata(dir.path().join("a")).unwrap().ino();
        assert_eq!(a.number.0, real);
        inodes.forget(a.number, 1);
        assert_eq!(inodes.len(), 2);
        inodes.forget(a.number, 1);
        assert_eq!(inodes.len(), 1);
        assert_eq!(inodes.get(a.number).unwrap_err(), Errno::STALE);
        inodes.forget(INodeNo::ROOT, 99);
        assert!(inodes.get(INodeNo::ROOT).is_ok());
    }

    #[test]
    fn nothing_leads_out_of_the_source() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let inodes = table(dir.path());
        for name in ["", ".", "..", "/", "a/b", "/etc"] {
            let found = inodes.lookup(inodes.root(), OsStr::new(name));
            assert_eq!(found.map(|_| ()).unwrap_err(), Errno::INVAL, "{name}");
        }
        let (link, _) = inodes.lookup(inodes.root(), OsStr::new("root")).unwrap();
        assert_eq!(link.kind, FileType::Symlink);
        let below = inodes.lookup(&link, OsStr::new("etc"));
        assert_eq!(below.map(|_| ()).unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn numbers_of_other_devices_do_not_collide() {
        let root = Key {
            dev: (8 << 32) | 1,
            ino: 2,
        };
        let mut table = Table::default();
        let dir = tempfile::tempdir().unwrap();
        let inode = table_entry(dir.path());
        for key in [
            Key {
                dev: root.dev,
                ino: 1,
            },
            Key {
                dev: root.dev,
                ino: 7,
            },
            Key {
                dev: 9 << 32,
                ino: 7,
            },
            Key {
                dev: (9 << 32) | 3,
                ino: 7,
            },
            Key {
                dev: root.dev,
                ino: u64::MAX,
            },
        ] {
            let number = table.number_for(key, root);
            assert!(number > 1);
            assert!(table.by_number.insert(number, inode.clone()).is_none());
        }
        assert!(table.by_number.contains_key(&7));
    }

    fn table_entry(dir: &std::path::Path) -> Arc<Inode> {
        table(dir).root().clone()
    }

    #[test]
    fn devices_survive_the_way_there_and_back() {
        for (major, minor) in [(0, 0), (8, 1), (0xfff, 0xf_ffff), (259, 65536)] {
            let number = encode_device(major, minor);
            assert_eq!(decode_device(number), rustix::fs::makedev(major, minor));
        }
    }

    #[test]
    fn times_before_1970_are_kept() {
        let mut stamp = any_stamp();
        (stamp.tv_sec, stamp.tv_nsec) = (-2, 500_000_000);
        assert_eq!(time(&stamp), UNIX_EPOCH - Duration::from_millis(1500));
    }

    fn any_stamp() -> StatxTimestamp {
        let dir = tempfile::tempdir().unwrap();
        table(dir.path()).root().stat().unwrap().stx_btime
    }
}
