//! The actor's side: what is not made by the process as it is, but by a thread, a child or on another process.

use std::{os::fd::BorrowedFd, process::Command, sync::mpsc, thread};

use rustix::{io::Errno, process::Pid};

use super::calls::{declare, errno};

type Result<T = i64> = rustix::io::Result<T>;

/// Lets a thread declare something and write, and then the rest of the process write to another file.
pub(super) fn declare_in_thread(
    message: &[u8],
    of_thread: BorrowedFd<'_>,
    of_others: BorrowedFd<'_>,
) -> Result {
    let write = |fd| rustix::io::write(fd, b"some bytes\n");
    thread::scope(|scope| {
        let (done, wait) = mpsc::channel::<()>();
        let declaring = scope.spawn(move || {
            declare(message)?;
            write(of_thread)?;
            drop(done);
            Ok(())
        });
        // A thread that was there before.
        let other = scope.spawn(move || {
            let _ = wait.recv();
            write(of_others)
        });
        declaring.join().unwrap_or(Err(Errno::INVAL))?;
        other.join().unwrap_or(Err(Errno::INVAL))?;
        Ok(0)
    })
}

/// Declares something while there is another thread.
pub(super) fn declare_beside_thread(message: &[u8]) -> Result {
    let result = thread::scope(|scope| {
        let (done, wait) = mpsc::channel::<()>();
        scope.spawn(move || wait.recv());
        let result = declare(message);
        drop(done);
        result
    });
    // Who has been joined may still be there for a moment.
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    while threads() > 1 {
        thread::yield_now();
    }
    result
}

/// Runs a script of the shell with a variable, the way most programs do (posix_spawn(3)), and returns its status.
pub(super) fn run(script: &[u8], name: &[u8], value: &[u8]) -> Result {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(OsStr::from_bytes(script));
    command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    let status = command.status().map_err(|error| errno(&error))?;
    Ok(status.code().unwrap_or(-1).into())
}

/// Runs that script from a thread.
pub(super) fn run_in_thread(script: &[u8], name: &[u8], value: &[u8]) -> Result {
    thread::scope(|scope| {
        let running = scope.spawn(|| run(script, name, value));
        running.join().unwrap_or(Err(Errno::INVAL))
    })
}

/// Begins to trace a process.
pub(super) fn trace(pid: i64) -> Result {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::INVAL)?;
    // SAFETY: The request has no arguments.
    match unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) } {
        -1 => Err(errno(&std::io::Error::last_os_error())),
        _ => Ok(0),
    }
}

/// Writes a byte to the memory of a process, at an address that none has.
pub(super) fn poke(pid: i64) -> Result {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::INVAL)?;
    let mut byte = 0_u8;
    let here = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let there = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(8),
        iov_len: 1,
    };
    // SAFETY: `here` is a byte of our own, which is only read.
    match unsafe { libc::process_vm_writev(pid, &raw const here, 1, &raw const there, 1, 0) } {
        -1 => Err(errno(&std::io::Error::last_os_error())),
        written => i64::try_from(written).map_err(|_| Errno::RANGE),
    }
}

/// Takes a descriptor out of a process.
pub(super) fn steal(pid: i64, fd: i64) -> Result {
    let number = |number: i64| i32::try_from(number).map_err(|_| Errno::INVAL);
    let pid = Pid::from_raw(number(pid)?).ok_or(Errno::INVAL)?;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let flags = rustix::process::PidfdGetfdFlags::empty();
    let stolen = rustix::process::pidfd_getfd(process, number(fd)?, flags)?;
    Ok(std::os::fd::IntoRawFd::into_raw_fd(stolen).into())
}
