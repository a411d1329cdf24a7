//! What has extended attributes, and the system calls that read them.

use std::{
    ffi::{CStr, OsStr},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    buffer::spare_capacity,
    fs::{fgetxattr, flistxattr, getxattr, lgetxattr, listxattr, llistxattr},
    io::{Errno, Result},
};

use crate::error::Object;

/// Room for names or a value at first: most fit, and the kernel clears as much for each call.
pub(crate) const BUFFER: usize = 512;

/// The most that the kernel returns: `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` in
/// `include/uapi/linux/limits.h`.
const BUFFER_MAX: usize = 65536;

/// What has extended attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'r> {
    Path(&'r CStr),
    /// A path whose last component is not followed.
    Link(&'r CStr),
    Fd(BorrowedFd<'r>),
    #[cfg(test)]
    Fake(&'r fake::Fake),
}

impl Source<'_> {
    pub(crate) fn object(&self) -> Object {
        match self {
            Source::Path(path) | Source::Link(path) => {
                Object::Path(OsStr::from_bytes(path.to_bytes()).into())
            }
            Source::Fd(fd) => Object::Fd(fd.as_raw_fd()),
            #[cfg(test)]
            Source::Fake(_) => Object::Path("/a/file".into()),
        }
    }

    /// The names of all attributes, each with a NUL behind it.
    pub(crate) fn names(&self, buffer: &mut Vec<u8>) -> Result<()> {
        fill(buffer, |buffer| self.list(buffer))
    }

    /// The value of one attribute.
    pub(crate) fn value(&self, name: &CStr, buffer: &mut Vec<u8>) -> Result<()> {
        fill(buffer, |buffer| self.get(name, buffer))
    }

    fn list(&self, buffer: &mut Vec<u8>) -> Result<usize> {
        match self {
            Source::Path(path) => listxattr(*path, spare_capacity(buffer)),
            Source::Link(path) => llistxattr(*path, spare_capacity(buffer)),
            Source::Fd(fd) => flistxattr(fd, spare_capacity(buffer)),
            #[cfg(test)]
            Source::Fake(fake) => fake.list(buffer),
        }
    }

    fn get(&self, name: &CStr, buffer: &mut Vec<u8>) -> Result<usize> {
        match self {
            Source::Path(path) => getxattr(*path, name, spare_capacity(buffer)),
            Source::Link(path) => lgetxattr(*path, name, spare_capacity(buffer)),
            Source::Fd(fd) => fgetxattr(fd, name, spare_capacity(buffer)),
            #[cfg(test)]
            Source::Fake(fake) => fake.get(name, buffer),
        }
    }
}

/// Calls `call` with the empty `buffer`, and with a larger one if that is too small.
fn fill(buffer: &mut Vec<u8>, call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<()> {
    buffer.clear();
    // The kernel clears as much as there is room: one large value must not cost all files after it.
    buffer.shrink_to(BUFFER);
    match call(buffer) {
        Err(Errno::RANGE) if buffer.capacity() < BUFFER_MAX => {
            buffer.reserve_exact(BUFFER_MAX);
            call(buffer)?;
        }
        filled => {
            filled?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod fake {
    use std::{cell::RefCell, collections::BTreeMap, ffi::CString};

    use super::*;

    /// A file in memory, on which one call fails.
    #[derive(Debug, Default)]
    pub(crate) struct Fake {
        xattrs: BTreeMap<CString, Vec<u8>>,
        pub(crate) fail_list: Option<Errno>,
        pub(crate) fail_get: Option<(&'static CStr, Errno)>,
        pub(crate) asked: RefCell<Vec<CString>>,
    }

    impl Fake {
        pub(crate) fn with(mut self, name: &CStr, value: &[u8]) -> Self {
            self.xattrs.insert(name.to_owned(), value.to_vec());
            self
        }

        pub(super) fn list(&self, buffer: &mut Vec<u8>) -> Result<usize> {
            match self.fail_list {
                Some(errno) => Err(errno),
                None => {
                    let names: Vec<_> = self.xattrs.keys().map(|n| n.as_bytes_with_nul()).collect();
                    copy(&names.concat(), buffer)
                }
            }
        }

        pub(super) fn get(&self, name: &CStr, buffer: &mut Vec<u8>) -> Result<usize> {
            self.asked.borrow_mut().push(name.to_owned());
            match self.fail_get {
                Some((failing, errno)) if failing == name => Err(errno),
                _ => copy(self.xattrs.get(name).ok_or(Errno::NODATA)?, buffer),
            }
        }
    }

    fn copy(value: &[u8], buffer: &mut Vec<u8>) -> Result<usize> {
        if value.len() > buffer.capacity() {
            return Err(Errno::RANGE);
        }
        buffer.extend_from_slice(value);
        Ok(value.len())
    }
}
