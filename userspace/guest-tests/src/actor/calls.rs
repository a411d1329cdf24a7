//! The actor's side: makes the system calls.

use std::{
    ffi::{CString, OsStr},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    thread,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags},
    io::{Errno, FdFlags},
    mount::{MountPropagationFlags, UnmountFlags},
    process::{Gid, Uid},
    thread::UnshareFlags,
};

use super::{Command, OWN, Outcome, alone, memory, parse, send, ways};

/// What a system call returns.
type Result<T = i64> = rustix::io::Result<T>;

/// An actor.
pub(super) struct Server {
    socket: OwnedFd,
}

impl Server {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Server { socket }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Says that it is there.
    pub(super) fn begin(&self) -> Outcome {
        rustix::io::fcntl_setfd(&self.socket, FdFlags::CLOEXEC)?;
        self.say(Ok(0), None)
    }

    fn say(&self, result: Result, fd: Option<BorrowedFd<'_>>) -> Outcome {
        let (word, number) = match result {
            Ok(number) => ("ok", number),
            Err(errno) => ("error", i64::from(errno.raw_os_error())),
        };
        send(&self.socket, &[word.into(), number.to_string().into()], fd)
    }

    /// Does what it is told, and says what came of it.
    pub(super) fn answer(&mut self, words: &[Vec<u8>], fd: Option<OwnedFd>) -> Outcome {
        let args = Args(words.get(1..).unwrap_or_default());
        match words.first().map(Vec::as_slice) {
            Some(b"give") => match args.fd(0) {
                Ok(fd) => return self.say(Ok(0), Some(fd)),
                Err(errno) => return self.say(Err(errno), None),
            },
            Some(b"fork") => return self.fork(fd, None),
            Some(b"spawn") => return self.fork(fd, Some(&args)),
            Some(b"execute") => {
                let socket = self.socket.as_raw_fd();
                let errno = execute(&args, socket);
                return self.say(Err(errno), None);
            }
            // SAFETY: Ends the process, which is meant to leave everything as it is.
            Some(b"exit") => unsafe { libc::_exit(0) },
            _ => {}
        }
        let result = match words.first().map(Vec::as_slice) {
            Some(b"take") => fd.ok_or(Errno::BADF).map(kept),
            Some(call) => make(call, &args),
            None => Err(Errno::INVAL),
        };
        self.say(result, None)
    }

    /// Forks. The child answers at the other socket, or executes a program that does.
    fn fork(&mut self, socket: Option<OwnedFd>, program: Option<&Args<'_>>) -> Outcome {
        let Some(socket) = socket else {
            return self.say(Err(Errno::BADF), None);
        };
        // SAFETY: This process has one thread only, so the child may do whatever it could.
        match unsafe { libc::fork() } {
            -1 => self.say(Err(Errno::AGAIN), None),
            0 => {
                self.socket = socket;
                if let Some(args) = program {
                    let socket = self.socket.as_raw_fd();
                    execute(args, socket);
                    // SAFETY: Ends the process.
                    unsafe { libc::_exit(127) }
                }
                Ok(())
            }
            pid => self.say(Ok(pid.into()), None),
        }
    }
}

/// Executes a program with a name and an environment, which goes on at the same socket. Returns only if that fails.
fn execute(args: &Args<'_>, socket: RawFd) -> Errno {
    let Some((name, environment)) = args.0.split_first() else {
        return Errno::INVAL;
    };
    let Ok(command) = Command::new(&String::from_utf8_lossy(name), socket, environment) else {
        return Errno::INVAL;
    };
    if let Err(errno) = rustix::io::fcntl_setfd(borrow(socket), FdFlags::empty()) {
        return errno;
    }
    command.execute()
}

/// The arguments of a call.
struct Args<'a>(&'a [Vec<u8>]);

impl Args<'_> {
    fn bytes(&self, index: usize) -> Result<&[u8]> {
        self.0.get(index).map(Vec::as_slice).ok_or(Errno::INVAL)
    }

    fn path(&self, index: usize) -> Result<&Path> {
        Ok(Path::new(OsStr::from_bytes(self.bytes(index)?)))
    }

    fn number(&self, index: usize) -> Result<i64> {
        parse(self.bytes(index)?).ok_or(Errno::INVAL)
    }

    fn unsigned(&self, index: usize) -> Result<u32> {
        u32::try_from(self.number(index)?).map_err(|_| Errno::INVAL)
    }

    fn raw_fd(&self, index: usize) -> Result<RawFd> {
        RawFd::try_from(self.number(index)?).map_err(|_| Errno::INVAL)
    }

    fn fd(&self, index: usize) -> Result<BorrowedFd<'_>> {
        self.raw_fd(index).map(borrow)
    }

    fn flags(&self, index: usize) -> Result<OFlags> {
        Ok(OFlags::from_bits_retain(self.unsigned(index)?))
    }
}

/// A descriptor that the test has named. The calls report one that is not open.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: Nothing here closes a descriptor behind the back of a call that uses it; the test says when.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Leaves a descriptor open until the test says otherwise, and returns its number.
fn kept(fd: OwnedFd) -> i64 {
    fd.into_raw_fd().into()
}

/// The error of a call by the standard library or by a library on top of it.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

pub(super) fn length(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// Makes one system call.
fn make(call: &[u8], args: &Args<'_>) -> Result {
    let mode = Mode::from_raw_mode(0o666);
    let done = |()| 0;
    match call {
        b"open" => rustix::fs::open(args.path(0)?, args.flags(1)?, mode).map(kept),
        b"openat" => rustix::fs::openat(args.fd(0)?, args.path(1)?, args.flags(2)?, mode).map(kept),
        b"close" => {
            // SAFETY: It was kept open for this.
            drop(unsafe { OwnedFd::from_raw_fd(args.raw_fd(0)?) });
            Ok(0)
        }
        b"write" => rustix::io::write(args.fd(0)?, args.bytes(1)?).map(length),
        b"write by" => ways::write_by(args.bytes(0)?, args.fd(1)?, args.fd(2)?),
        b"map" => memory::map(args.fd(0)?, args.number(1)?, args.number(2)?),
        b"make writable" => memory::make_writable(args.number(0)?),
        b"store" => memory::store(args.number(0)?),
        b"sync" => memory::sync(args.number(0)?),
        b"unmap" => memory::unmap(args.number(0)?),
        b"truncate" => ways::truncate(args.path(0)?, args.number(1)?),
        b"make node" => {
            rustix::fs::mknodat(CWD, args.path(0)?, FileType::RegularFile, mode, 0).map(done)
        }
        b"deduplicate" => ways::deduplicate(args.fd(0)?, args.fd(1)?),
        b"rename" => {
            let flags = RenameFlags::from_bits_retain(args.unsigned(2)?);
            rustix::fs::renameat_with(CWD, args.path(0)?, CWD, args.path(1)?, flags).map(done)
        }
        b"write often" => write_often(args.fd(0)?, args.number(1)?),
        b"write in threads" => write_in_threads(args.fd(0)?, args.number(1)?, args.number(2)?),
        b"write in a thread called" => {
            let name = CString::new(args.bytes(0)?).map_err(|_| Errno::INVAL)?;
            let fd = args.fd(1)?;
            thread::scope(|scope| {
                let write = || {
                    rustix::thread::set_name(&name)?;
                    rustix::io::write(fd, b"some bytes\n").map(length)
                };
                scope.spawn(write).join().unwrap_or(Err(Errno::INVAL))
            })
        }
        b"put often" => put_often(args.path(0)?, args.number(1)?),
        b"put durably" => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
            let fd = rustix::fs::open(args.path(0)?, flags, mode)?;
            rustix::io::write(&fd, b"some bytes\n")?;
            rustix::fs::fsync(&fd).map(done)
        }
        b"fsync" => rustix::fs::fsync(args.fd(0)?).map(done),
        b"set name" => {
            let name = CString::new(args.bytes(0)?).map_err(|_| Errno::INVAL)?;
            rustix::thread::set_name(&name).map(done)
        }
        b"set variable" => {
            let (name, value) = (
                OsStr::from_bytes(args.bytes(0)?),
                OsStr::from_bytes(args.bytes(1)?),
            );
            // SAFETY: This process has one thread only.
            unsafe { std::env::set_var(name, value) };
            Ok(0)
        }
        b"set user" => {
            let id = args.unsigned(0)?;
            let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
            rustix::thread::set_thread_res_gid(group, group, group)?;
            rustix::thread::set_thread_res_uid(user, user, user).map(done)
        }
        b"set real user" => {
            let root = Uid::ROOT;
            rustix::thread::set_thread_res_uid(Uid::from_raw(args.unsigned(0)?), root, root)
                .map(done)
        }
        b"change directory" => rustix::process::chdir(args.path(0)?).map(done),
        b"change root" => {
            rustix::process::chroot(args.path(0)?)?;
            rustix::process::chdir("/").map(done)
        }
        b"change root by pivoting" => {
            let root = args.path(0)?;
            rustix::mount::mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            )?;
            rustix::mount::mount_bind(root, root)?;
            rustix::process::chdir(root)?;
            rustix::process::pivot_root(".", ".")?;
            rustix::mount::unmount(".", UnmountFlags::DETACH)?;
            rustix::process::chdir("/").map(done)
        }
        b"unshare" => {
            let flags = UnshareFlags::from_bits_retain(args.unsigned(0)?);
            // SAFETY: What is unshared is not the table of descriptors.
            unsafe { rustix::thread::unshare_unsafe(flags) }.map(done)
        }
        b"seek to end" => rustix::fs::seek(args.fd(0)?, rustix::fs::SeekFrom::End(0))
            .map(|at| i64::try_from(at).unwrap_or(i64::MAX)),
        b"read" => rustix::io::read(args.fd(0)?, &mut [0; 64]).map(length),
        b"link" => {
            // Needs no more than `/proc`, and not CAP_DAC_READ_SEARCH.
            let from = format!("/proc/self/fd/{}", args.raw_fd(0)?);
            rustix::fs::linkat(CWD, from, CWD, args.path(1)?, AtFlags::SYMLINK_FOLLOW).map(done)
        }
        b"fail allocations" => {
            let fd = rustix::fs::open("/proc/self/make-it-fail", OFlags::WRONLY, Mode::empty())?;
            rustix::io::write(fd, args.bytes(0)?).map(length)
        }
        b"set attribute" => {
            let name = args.path(1)?;
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(args.path(0)?, name, args.bytes(2)?, flags).map(done)
        }
        b"remove attribute" => rustix::fs::removexattr(args.path(0)?, args.path(1)?).map(done),
        b"declare" => declare(args.bytes(0)?),
        b"declare in a thread" => {
            alone::declare_in_thread(args.bytes(0)?, args.fd(1)?, args.fd(2)?)
        }
        b"declare beside a thread" => alone::declare_beside_thread(args.bytes(0)?),
        b"run" => alone::run(args.bytes(0)?, args.bytes(1)?, args.bytes(2)?),
        b"run in a thread" => alone::run_in_thread(args.bytes(0)?, args.bytes(1)?, args.bytes(2)?),
        b"trace" => alone::trace(args.number(0)?),
        b"poke" => alone::poke(args.number(0)?),
        b"steal" => alone::steal(args.number(0)?, args.number(1)?),
        b"enter" => {
            let namespace = rustix::fs::open(args.path(0)?, OFlags::RDONLY, Mode::empty())?;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), None).map(done)
        }
        b"copy" => copy(args.path(0)?, args.path(1)?),
        b"duplicate" => rustix::io::dup(args.fd(0)?).map(kept),
        _ => Err(Errno::NOSYS),
    }
}

/// Writes to the file by which a process says who it is, in one piece.
pub(super) fn declare(message: &[u8]) -> Result {
    let own = rustix::fs::open(OWN, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(own, message).map(length)
}

/// Copies what is in a small file to a new one.
fn copy(from: &Path, to: &Path) -> Result {
    let from = rustix::fs::open(from, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = vec![0; 1 << 16];
    let read = rustix::io::read(from, &mut content)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let to = rustix::fs::open(to, flags, Mode::from_raw_mode(0o666))?;
    rustix::io::write(to, &content[..read]).map(length)
}

fn write_often(fd: BorrowedFd<'_>, rounds: i64) -> Result {
    for _ in 0..rounds {
        rustix::io::pwrite(fd, b"some bytes\n", 0)?;
    }
    Ok(rounds)
}

fn write_in_threads(fd: BorrowedFd<'_>, threads: i64, rounds: i64) -> Result {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| scope.spawn(move || write_often(fd, rounds)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(Errno::INVAL)))
            .sum()
    })
}

/// Opens a file, writes to it and closes it, many times.
fn put_often(path: &Path, rounds: i64) -> Result {
    for _ in 0..rounds {
        let fd = rustix::fs::open(
            path,
            OFlags::WRONLY | OFlags::CREATE,
            Mode::from_raw_mode(0o666),
        )?;
        rustix::io::pwrite(fd.as_fd(), b"some bytes\n", 0)?;
    }
    Ok(rounds)
}
