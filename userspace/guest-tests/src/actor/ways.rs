//! The actor's side: the ways to write to a file.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::{
    fs::{FallocateFlags, OFlags},
    io::{Errno, ReadWriteFlags},
    ioctl::{Setter, Updater, ioctl, opcode as ioctl_opcode},
    pipe::SpliceFlags,
};

use super::calls::{errno, length};

type Result<T = i64> = rustix::io::Result<T>;

const BYTES: &[u8] = b"some bytes\n";

/// Writes to `fd` by a call of that name. `from` is a file with bytes in it.
pub(super) fn write_by(call: &[u8], fd: BorrowedFd<'_>, from: BorrowedFd<'_>) -> Result {
    let all = BYTES.len();
    let fallocated = |flags| rustix::fs::fallocate(fd, flags, 0, 4096).map(|()| 4096);
    match call {
        b"write" => rustix::io::write(fd, BYTES).map(length),
        b"writev" => {
            rustix::io::writev(fd, &[IoSlice::new(BYTES), IoSlice::new(BYTES)]).map(length)
        }
        b"pwrite" => rustix::io::pwrite(fd, BYTES, 3).map(length),
        b"pwritev" => rustix::io::pwritev(fd, &[IoSlice::new(BYTES)], 5).map(length),
        b"pwritev2" => {
            rustix::io::pwritev2(fd, &[IoSlice::new(BYTES)], 5, ReadWriteFlags::DSYNC).map(length)
        }
        b"append" => {
            rustix::fs::fcntl_setfl(fd, OFlags::APPEND)?;
            rustix::io::write(fd, BYTES).map(length)
        }
        b"sendfile" => rustix::fs::sendfile(fd, from, Some(&mut 0), all).map(length),
        b"copy_file_range" => {
            rustix::fs::copy_file_range(from, Some(&mut 0), fd, Some(&mut 0), all).map(length)
        }
        b"splice" => {
            let (reader, writer) = rustix::pipe::pipe()?;
            rustix::io::write(&writer, BYTES)?;
            rustix::pipe::splice(&reader, None, fd, None, all, SpliceFlags::empty()).map(length)
        }
        b"fallocate" => fallocated(FallocateFlags::empty()),
        b"fallocate, keeping the size" => fallocated(FallocateFlags::KEEP_SIZE),
        b"punch a hole" => fallocated(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE),
        b"ftruncate to less" => rustix::fs::ftruncate(fd, 100).map(|()| 100),
        b"ftruncate to more" => rustix::fs::ftruncate(fd, 100_000).map(|()| 100_000),
        b"FICLONE" => rustix::fs::ioctl_ficlone(fd, from).map(|()| 1),
        b"FICLONERANGE" => clone_range(fd, from).map(|()| 1),
        b"aio" => write_by_aio(fd),
        b"io_uring" => Ring::new(Kind::Plain)?.write(fd),
        b"io_uring, by a worker" => Ring::new(Kind::Worker)?.write(fd),
        b"io_uring, polled" => Ring::new(Kind::Polled)?.write(fd),
        b"io_uring, registered file" => Ring::new(Kind::Registered)?.write(fd),
        b"io_uring, registered buffer" => Ring::new(Kind::Plain)?.write_registered_buffer(fd),
        b"io_uring, fallocate" => {
            let entry = opcode::Fallocate::new(types::Fd(fd.as_raw_fd()), 4096).build();
            Ring::new(Kind::Plain)?.submit(&entry).map(|_| 4096)
        }
        b"io_uring, ftruncate" => {
            let entry = opcode::Ftruncate::new(types::Fd(fd.as_raw_fd()), 100).build();
            Ring::new(Kind::Plain)?.submit(&entry).map(|_| 100)
        }
        _ => Err(Errno::NOSYS),
    }
}

/// Truncates a file by name.
pub(super) fn truncate(path: &Path, length: i64) -> Result {
    let path =
        std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: `path` is a string that ends with a NUL byte.
    match unsafe { libc::truncate(path.as_ptr(), length) } {
        0 => Ok(0),
        _ => Err(errno(&std::io::Error::last_os_error())),
    }
}

/// `struct file_clone_range` in `include/uapi/linux/fs.h`.
#[repr(C)]
struct CloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

/// Lets a file have the first block of another one.
fn clone_range(fd: BorrowedFd<'_>, from: BorrowedFd<'_>) -> Result<()> {
    const FICLONERANGE: rustix::ioctl::Opcode = ioctl_opcode::write::<CloneRange>(0x94, 13);
    let range = CloneRange {
        src_fd: from.as_raw_fd().into(),
        src_offset: 0,
        src_length: 4096,
        dest_offset: 0,
    };
    // SAFETY: The structure is what the request wants.
    unsafe { ioctl(fd, Setter::<FICLONERANGE, CloneRange>::new(range)) }
}

/// `struct file_dedupe_range` with one `struct file_dedupe_range_info`, likewise.
#[repr(C)]
#[derive(Default)]
struct DedupeRange {
    src_offset: u64,
    src_length: u64,
    dest_count: u16,
    reserved1: u16,
    reserved2: u32,
    dest_fd: i64,
    dest_offset: u64,
    bytes_deduped: u64,
    status: i32,
    reserved: u32,
}

/// Makes two equal files share their first block, and returns how much of it.
pub(super) fn deduplicate(fd: BorrowedFd<'_>, from: BorrowedFd<'_>) -> Result {
    const FIDEDUPERANGE: rustix::ioctl::Opcode = ioctl_opcode::read_write::<[u8; 24]>(0x94, 54);
    let mut range = DedupeRange {
        src_length: 4096,
        dest_count: 1,
        dest_fd: fd.as_raw_fd().into(),
        ..DedupeRange::default()
    };
    // SAFETY: The structure is what the request wants, with room for the one answer that it asks for.
    unsafe { ioctl(from, Updater::<FIDEDUPERANGE, DedupeRange>::new(&mut range))? };
    match range.status {
        errno @ ..0 => Err(Errno::from_raw_os_error(-errno)),
        _ => i64::try_from(range.bytes_deduped).map_err(|_| Errno::RANGE),
    }
}

/// `struct iocb` in `include/uapi/linux/aio_abi.h`, of a little-endian machine.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buf: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// Writes by io_submit(2), and waits for the end of it.
fn write_by_aio(fd: BorrowedFd<'_>) -> Result {
    const IOCB_CMD_PWRITE: u16 = 1;
    let checked = |result: libc::c_long| match result {
        -1 => Err(errno(&std::io::Error::last_os_error())),
        number => Ok(number),
    };
    let iocb = Iocb {
        opcode: IOCB_CMD_PWRITE,
        fd: fd.as_raw_fd().unsigned_abs(),
        buf: BYTES.as_ptr().expose_provenance() as u64,
        bytes: BYTES.len() as u64,
        ..Iocb::default()
    };
    let mut context: libc::c_ulong = 0;
    // SAFETY: `context` is where the kernel puts the number of the context.
    checked(unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) })?;
    let iocbs = [&raw const iocb];
    // SAFETY: There is one request in the array, and it and its bytes live until it is done.
    let submitted = unsafe { libc::syscall(libc::SYS_io_submit, context, 1, iocbs.as_ptr()) };
    let submitted = checked(submitted);
    let mut event = [0_i64; 4];
    let done = submitted.and_then(|_| {
        let timeout = std::ptr::null::<libc::timespec>();
        // SAFETY: There is room for one event, and no timeout.
        checked(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                context,
                1,
                1,
                event.as_mut_ptr(),
                timeout,
            )
        })
    });
    // SAFETY: The context was made above.
    unsafe { libc::syscall(libc::SYS_io_destroy, context) };
    done?;
    // The third field is the result.
    match event[2] {
        errno @ ..0 => Err(Errno::from_raw_os_error(i32::try_from(-errno).unwrap_or(0))),
        written => Ok(written),
    }
}

/// How a request gets to the file.
#[derive(PartialEq, Eq)]
enum Kind {
    /// In the task that submits it, if that need not wait.
    Plain,
    /// In a thread of the kernel's, in any case.
    Worker,
    /// In a thread that looks for requests by itself.
    Polled,
    /// By the number that the file has in the ring.
    Registered,
}

/// An io_uring(7).
struct Ring {
    ring: IoUring,
    kind: Kind,
}

impl Ring {
    fn new(kind: Kind) -> Result<Self> {
        let mut builder = IoUring::builder();
        if kind == Kind::Polled {
            builder.setup_sqpoll(1000);
        }
        let ring = builder.build(4).map_err(|error| errno(&error))?;
        Ok(Ring { ring, kind })
    }

    fn write(mut self, fd: BorrowedFd<'_>) -> Result {
        let raw = fd.as_raw_fd();
        let length = u32::try_from(BYTES.len()).unwrap_or(0);
        let entry = if self.kind == Kind::Registered {
            let registered = self.ring.submitter().register_files(&[raw]);
            registered.map_err(|error| errno(&error))?;
            opcode::Write::new(types::Fixed(0), BYTES.as_ptr(), length).build()
        } else {
            opcode::Write::new(types::Fd(raw), BYTES.as_ptr(), length).build()
        };
        let flags = match self.kind {
            Kind::Worker => squeue::Flags::ASYNC,
            _ => squeue::Flags::empty(),
        };
        self.submit(&entry.flags(flags))
    }

    /// Writes from memory that the ring knows.
    fn write_registered_buffer(mut self, fd: BorrowedFd<'_>) -> Result {
        let buffer = BYTES.to_vec();
        let vector = libc::iovec {
            iov_base: buffer.as_ptr().cast_mut().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: The memory lives until the request is done, and nobody changes it.
        let registered = unsafe { self.ring.submitter().register_buffers(&[vector]) };
        registered.map_err(|error| errno(&error))?;
        let length = u32::try_from(buffer.len()).unwrap_or(0);
        let fd = types::Fd(fd.as_raw_fd());
        self.submit(&opcode::WriteFixed::new(fd, buffer.as_ptr(), length, 0).build())
    }

    /// Makes one request, and waits for its result.
    fn submit(&mut self, entry: &squeue::Entry) -> Result {
        // SAFETY: What the request points to lives until it is done.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| Errno::BUSY)?;
        self.ring
            .submit_and_wait(1)
            .map_err(|error| errno(&error))?;
        let done = self.ring.completion().next().ok_or(Errno::AGAIN)?;
        match done.result() {
            errno @ ..0 => Err(Errno::from_raw_os_error(-errno)),
            number => Ok(number.into()),
        }
    }
}
