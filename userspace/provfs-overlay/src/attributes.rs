//! Extended attributes of an inode, wherever they are kept.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::{
    fs::{
        XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr,
        removexattr, setxattr,
    },
    io::{Errno, Result},
};

/// The most that the kernel returns: `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` in
/// `include/uapi/linux/limits.h`.
const BUFFER_MAX: usize = 65536;

/// Most lists and values of records fit into this much.
const BUFFER: usize = 1024;

/// What has extended attributes.
pub trait Attributes {
    /// The value of one. `None` if it is not there.
    fn get(&self, name: &CStr) -> Result<Option<Vec<u8>>>;
    /// Names of all, each with a NUL behind it.
    fn list(&self) -> Result<Vec<u8>>;
    /// Sets one.
    fn set(&self, name: &CStr, value: &[u8]) -> Result<()>;
    /// Makes sure that one is not there.
    fn remove(&self, name: &CStr) -> Result<()>;
}

/// The attributes that the file itself has.
#[derive(Debug)]
pub enum OfFile<'a> {
    /// Through a descriptor that is open for reading or writing.
    Open(BorrowedFd<'a>),
    /// Through one that only holds the inode.
    Held(CString),
}

impl<'a> OfFile<'a> {
    /// Through an open descriptor.
    pub fn open(fd: &'a impl AsFd) -> Self {
        OfFile::Open(fd.as_fd())
    }

    /// Through one that was opened with `O_PATH`. The link in `/proc` leads to the inode that it
    /// holds and nowhere else, even if that is a symbolic link.
    pub fn held(fd: impl AsFd) -> Self {
        let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        // It has no NUL.
        OfFile::Held(CString::new(path).unwrap_or_default())
    }

    /// Sets one, with the flags of `setxattr(2)`.
    pub fn set_with(&self, name: &CStr, value: &[u8], flags: XattrFlags) -> Result<()> {
        match self {
            OfFile::Open(fd) => fsetxattr(fd, name, value, flags),
            OfFile::Held(path) => setxattr(path.as_c_str(), name, value, flags),
        }
    }

    /// Removes one that has to be there.
    pub fn remove_existing(&self, name: &CStr) -> Result<()> {
        match self {
            OfFile::Open(fd) => fremovexattr(fd, name),
            OfFile::Held(path) => removexattr(path.as_c_str(), name),
        }
    }
}

impl Attributes for OfFile<'_> {
    fn get(&self, name: &CStr) -> Result<Option<Vec<u8>>> {
        let value = fetch(|buf| match self {
            OfFile::Open(fd) => fgetxattr(fd, name, buf),
            OfFile::Held(path) => getxattr(path.as_c_str(), name, buf),
        });
        match value {
            Err(Errno::NODATA) => Ok(None),
            value => value.map(Some),
        }
    }

    fn list(&self) -> Result<Vec<u8>> {
        fetch(|buf| match self {
            OfFile::Open(fd) => flistxattr(fd, buf),
            OfFile::Held(path) => listxattr(path.as_c_str(), buf),
        })
    }

    fn set(&self, name: &CStr, value: &[u8]) -> Result<()> {
        self.set_with(name, value, XattrFlags::empty())
    }

    fn remove(&self, name: &CStr) -> Result<()> {
        match self.remove_existing(name) {
            Err(Errno::NODATA) => Ok(()),
            result => result,
        }
    }
}

/// Calls `call` with a buffer, and with a larger one if that is too small.
fn fetch(mut call: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0; BUFFER];
    match call(&mut small) {
        Ok(len) => Ok(small.get(..len).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; BUFFER_MAX];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}

/// Whether a name belongs to a record: `user.prov` or one of its keys.
pub fn is_record(name: &[u8]) -> bool {
    name.strip_prefix(b"user.prov")
        .is_some_and(|rest| matches!(rest, [] | [b'.', ..]))
}
