//! The attributes of `ioctl_xfs_fsgetxattr(2)`, which the kernel asks for before it changes the flags
//! of `chattr(1)`. No library has these calls, so they are here, and so is all `unsafe` of this crate.

#![allow(unsafe_code, reason = "two system calls that no library has")]

use std::os::fd::AsFd;

use rustix::{
    io::Result,
    ioctl::{Getter, Opcode, Setter, ioctl, opcode},
};

/// `struct fsxattr` in `include/uapi/linux/fs.h`, which has no holes.
pub(crate) type FsXattr = [u8; 28];

const GET: Opcode = opcode::read::<FsXattr>(b'X', 31);
const SET: Opcode = opcode::write::<FsXattr>(b'X', 32);

/// Reads them.
pub(crate) fn get(fd: impl AsFd) -> Result<FsXattr> {
    // SAFETY: The call writes a `struct fsxattr`, for which any bytes will do.
    unsafe { ioctl(fd, Getter::<GET, FsXattr>::new()) }
}

/// Sets them.
pub(crate) fn set(fd: impl AsFd, attributes: FsXattr) -> Result<()> {
    // SAFETY: The call reads a `struct fsxattr`, and judges what is in it.
    unsafe { ioctl(fd, Setter::<SET, FsXattr>::new(attributes)) }
}
