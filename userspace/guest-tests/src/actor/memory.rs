//! The actor's side: files in memory. Addresses are what the test knows a mapping by.

use std::{ffi::c_void, os::fd::BorrowedFd};

use rustix::{
    io::Errno,
    mm::{MapFlags, MprotectFlags, MsyncFlags, ProtFlags},
};

/// Every mapping is one page.
const LENGTH: usize = 4096;

/// Maps the beginning of a file, shared or private (0), writable or not (0), and returns the address.
pub(super) fn map(fd: BorrowedFd<'_>, shared: i64, writable: i64) -> rustix::io::Result<i64> {
    let protection = match writable {
        0 => ProtFlags::READ,
        _ => ProtFlags::READ | ProtFlags::WRITE,
    };
    let flags = match shared {
        0 => MapFlags::PRIVATE,
        _ => MapFlags::SHARED,
    };
    // SAFETY: The kernel chooses where, so nothing is replaced.
    let address =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), LENGTH, protection, flags, fd, 0)? };
    i64::try_from(address.expose_provenance()).map_err(|_| Errno::RANGE)
}

fn at(address: i64) -> rustix::io::Result<*mut c_void> {
    let address = usize::try_from(address).map_err(|_| Errno::INVAL)?;
    Ok(std::ptr::with_exposed_provenance_mut(address))
}

/// Lets a mapping be written to from now on.
pub(super) fn make_writable(address: i64) -> rustix::io::Result<i64> {
    // SAFETY: It is what `map()` has returned, and only the functions here use it.
    unsafe {
        rustix::mm::mprotect(
            at(address)?,
            LENGTH,
            MprotectFlags::READ | MprotectFlags::WRITE,
        )?;
    }
    Ok(0)
}

/// Writes to a mapping.
pub(super) fn store(address: i64) -> rustix::io::Result<i64> {
    let bytes = at(address)?.cast::<[u8; 11]>();
    // SAFETY: It is what `map()` has returned, it may be written to, and there is nobody else to see it.
    unsafe { bytes.write_volatile(*b"some bytes\n") };
    Ok(11)
}

/// Brings what is mapped to the file.
pub(super) fn sync(address: i64) -> rustix::io::Result<i64> {
    // SAFETY: It is what `map()` has returned.
    unsafe { rustix::mm::msync(at(address)?, LENGTH, MsyncFlags::SYNC)? };
    Ok(0)
}

/// Ends a mapping.
pub(super) fn unmap(address: i64) -> rustix::io::Result<i64> {
    // SAFETY: It is what `map()` has returned, and nobody uses it any more.
    unsafe { rustix::mm::munmap(at(address)?, LENGTH)? };
    Ok(0)
}
