//! Somebody who writes: a process of this program, executed with a certain name and environment, that makes the system
//! calls that a test tells it to make, one at a time.
//!
//! A test talks to an actor over a socket. A message is a list of words, and may come with a file descriptor; for each
//! there is one answer, the result of the call. An actor ends when the socket is closed.

mod alone;
mod calls;
mod memory;
mod ways;

use std::{
    ffi::{CString, OsStr, OsString},
    fmt,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    panic::Location,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid},
};

use crate::{
    fixture::{Outcome, Stop, program},
    record::Who,
};

/// The first argument of a process that is an actor; the second is its socket.
pub(crate) const ARGUMENT: &str = "--actor";

/// Where a process says who it is.
pub(crate) const OWN: &str = "/sys/kernel/security/provfs/self";

/// Messages are not longer.
const MESSAGE_MAX: usize = 1 << 16;

/// A file descriptor of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fd(i32);

/// A word of a message.
pub(crate) struct Word(Vec<u8>);

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Word(text.as_bytes().to_vec())
    }
}

impl From<&String> for Word {
    fn from(text: &String) -> Self {
        Word(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Word {
    fn from(bytes: &[u8]) -> Self {
        Word(bytes.to_vec())
    }
}

impl From<&Path> for Word {
    fn from(path: &Path) -> Self {
        Word(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<i64> for Word {
    fn from(number: i64) -> Self {
        Word(number.to_string().into_bytes())
    }
}

impl From<Fd> for Word {
    fn from(fd: Fd) -> Self {
        i64::from(fd.0).into()
    }
}

impl From<OFlags> for Word {
    fn from(flags: OFlags) -> Self {
        i64::from(flags.bits()).into()
    }
}

/// A message to an actor.
macro_rules! words {
    ($($word:expr),+ $(,)?) => { &[$($crate::actor::Word::from($word)),+] };
}

/// A process that does as it is told.
pub(crate) struct Actor {
    socket: OwnedFd,
    pid: Pid,
    /// Whether it is a child of the test, which has to wait for it then.
    is_child: bool,
}

impl Actor {
    /// Starts somebody who declares this.
    #[track_caller]
    pub(crate) fn start(who: &Who) -> Outcome<Self> {
        Actor::program("actor", &who.variables())
    }

    /// Starts a program with a name and an environment: `NAME=value`, in this order.
    #[track_caller]
    pub(crate) fn program<S: AsRef<[u8]>>(name: &str, environment: &[S]) -> Outcome<Self> {
        let (socket, theirs) = pair()?;
        let command = Command::new(name, theirs.as_raw_fd(), environment)?;
        // SAFETY: The child does nothing but execute a program.
        let pid = match unsafe { libc::fork() } {
            0 => {
                let _ = rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty());
                command.execute();
                // SAFETY: Ends the process, which has nothing to clean up.
                unsafe { libc::_exit(127) }
            }
            pid => Pid::from_raw(pid).ok_or(Errno::AGAIN)?,
        };
        drop(theirs);
        let actor = Actor {
            socket,
            pid,
            is_child: true,
        };
        actor.result()?.0?;
        Ok(actor)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Tells it something that must work.
    #[track_caller]
    pub(crate) fn ask(&self, words: &[Word]) -> Outcome<i64> {
        let caller = Location::caller();
        self.attempt(words)?
            .map_err(|errno| Stop::Failed(format!("{caller}: {}: {errno}", Shown(words))))
    }

    /// Tells it something that may fail.
    pub(crate) fn attempt(&self, words: &[Word]) -> Outcome<Result<i64, Errno>> {
        self.begin(words)?;
        match self.result_within(Duration::from_secs(120))? {
            Some(result) => Ok(result),
            None => Err(Stop::Failed(format!(
                "{}: no answer within two minutes",
                Shown(words)
            ))),
        }
    }

    /// Tells it something without waiting for the result.
    pub(crate) fn begin(&self, words: &[Word]) -> Outcome {
        send(&self.socket, &bytes(words), None)
    }

    /// The result of what it was told, if it comes in time.
    pub(crate) fn result_within(&self, patience: Duration) -> Outcome<Option<Result<i64, Errno>>> {
        let timeout = Timespec::try_from(patience)?;
        if poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            Some(&timeout),
        )? == 0
        {
            return Ok(None);
        }
        Ok(Some(self.result()?.0))
    }

    fn result(&self) -> Outcome<(Result<i64, Errno>, Option<OwnedFd>)> {
        let Some((words, fd)) = receive(&self.socket)? else {
            return Err(Stop::Failed(format!("actor {} is gone", self.pid())));
        };
        let number = words.get(1).and_then(|word| parse(word)).unwrap_or(0);
        match words.first().map(Vec::as_slice) {
            Some(b"ok") => Ok((Ok(number), fd)),
            _ => Ok((Err(Errno::from_raw_os_error(i32::try_from(number)?)), fd)),
        }
    }

    /// Opens a file.
    #[track_caller]
    pub(crate) fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Outcome<Fd> {
        self.ask(words!["open", path.as_ref(), flags]).and_then(fd)
    }

    /// Opens a file that may exist or not, for writing.
    #[track_caller]
    pub(crate) fn create(&self, path: impl AsRef<Path>) -> Outcome<Fd> {
        self.open(path, OFlags::CREATE | OFlags::WRONLY)
    }

    /// Writes some bytes.
    #[track_caller]
    pub(crate) fn write(&self, fd: Fd) -> Outcome {
        self.ask(words!["write", fd, "some bytes\n"]).map(drop)
    }

    /// Closes a file.
    #[track_caller]
    pub(crate) fn close(&self, fd: Fd) -> Outcome {
        self.ask(words!["close", fd]).map(drop)
    }

    /// Opens a file, writes to it and closes it.
    #[track_caller]
    pub(crate) fn put(&self, path: impl AsRef<Path>) -> Outcome {
        let fd = self.create(path)?;
        self.write(fd)?;
        self.close(fd)
    }

    /// Declares something about itself.
    #[track_caller]
    pub(crate) fn declare(&self, message: impl AsRef<[u8]>) -> Outcome {
        self.ask(words!["declare", message.as_ref()]).map(drop)
    }

    /// What it is told about itself. Costs a modification.
    #[track_caller]
    pub(crate) fn own(&self) -> Outcome<String> {
        let copy = format!("/tmp/self-{}", self.pid());
        self.ask(words!["copy", OWN, &*copy])?;
        let text = std::fs::read(&copy)?;
        std::fs::remove_file(&copy)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Renames a file, over another one if there is one.
    #[track_caller]
    pub(crate) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Outcome {
        self.ask(words!["rename", from.as_ref(), to.as_ref(), 0])
            .map(drop)
    }

    /// Makes it fork. The child has its open files.
    #[track_caller]
    pub(crate) fn fork(&self) -> Outcome<Actor> {
        self.multiply(words!["fork"])
    }

    /// Makes it execute a program in a child.
    #[track_caller]
    pub(crate) fn spawn<S: AsRef<[u8]>>(&self, name: &str, environment: &[S]) -> Outcome<Actor> {
        let mut words = vec![Word::from("spawn"), Word::from(name)];
        words.extend(
            environment
                .iter()
                .map(|variable| Word::from(variable.as_ref())),
        );
        let child = self.multiply(&words)?;
        child.result()?.0?;
        Ok(child)
    }

    #[track_caller]
    fn multiply(&self, words: &[Word]) -> Outcome<Actor> {
        let (socket, theirs) = pair()?;
        send(&self.socket, &bytes(words), Some(theirs.as_fd()))?;
        drop(theirs);
        let pid = i32::try_from(self.result()?.0?)?;
        let pid = Pid::from_raw(pid).ok_or(Errno::AGAIN)?;
        Ok(Actor {
            socket,
            pid,
            is_child: false,
        })
    }

    /// Makes it execute a program in its place.
    #[track_caller]
    pub(crate) fn execute<S: AsRef<[u8]>>(&self, name: &str, environment: &[S]) -> Outcome {
        let mut words = vec![Word::from("execute"), Word::from(name)];
        words.extend(
            environment
                .iter()
                .map(|variable| Word::from(variable.as_ref())),
        );
        // The program says so when it begins.
        self.ask(&words).map(drop)
    }

    /// Receives one of its open files.
    #[track_caller]
    pub(crate) fn give(&self, fd: Fd) -> Outcome<OwnedFd> {
        self.begin(words!["give", fd])?;
        let (result, fd) = self.result()?;
        result?;
        fd.ok_or_else(|| Stop::Failed("no descriptor came".to_owned()))
    }

    /// Sends it an open file.
    #[track_caller]
    pub(crate) fn take(&self, file: impl AsFd) -> Outcome<Fd> {
        send(&self.socket, &[b"take".to_vec()], Some(file.as_fd()))?;
        self.result()?.0.map_err(Stop::from).and_then(fd)
    }

    /// Lets it end without closing anything, and waits for that.
    pub(crate) fn exit(self) -> Outcome {
        self.begin(words!["exit"])?;
        self.wait()
    }

    /// Kills it, and waits for its end.
    pub(crate) fn kill(self) -> Outcome {
        kill_process(self.pid, Signal::KILL)?;
        self.wait()
    }

    fn wait(&self) -> Outcome {
        match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(pidfd) => drop(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?),
            // Its parent was faster.
            Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = self.wait();
        if self.is_child {
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

pub(crate) use words;

/// The descriptor that a call returned.
fn fd(number: i64) -> Outcome<Fd> {
    Ok(Fd(i32::try_from(number)?))
}

/// Words as they are shown in a message.
struct Shown<'a>(&'a [Word]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Word(word) in self.0 {
            write!(f, "{} ", word.get(..200).unwrap_or(word).escape_ascii())?;
        }
        Ok(())
    }
}

fn bytes(words: &[Word]) -> Vec<Vec<u8>> {
    words.iter().map(|Word(word)| word.clone()).collect()
}

/// A number in a message.
fn parse(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Two ends of a connection. Neither stays open when a program is executed.
fn pair() -> Outcome<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn send(socket: &OwnedFd, words: &[Vec<u8>], fd: Option<BorrowedFd<'_>>) -> Outcome {
    let mut message = Vec::new();
    for word in words {
        message.extend_from_slice(&u32::try_from(word.len())?.to_ne_bytes());
        message.extend_from_slice(word);
    }
    let fds: Vec<_> = fd.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&message)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Words, and the descriptor that came with them.
type Message = (Vec<Vec<u8>>, Option<OwnedFd>);

/// The next message, or [`None`] if there will be no more.
fn receive(socket: &OwnedFd) -> Outcome<Option<Message>> {
    let mut buf = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut buf)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    let mut words = Vec::new();
    let mut rest = &buf[..received.bytes];
    while let Some((len, behind)) = rest.split_first_chunk() {
        let Some((word, behind)) = behind.split_at_checked(u32::from_ne_bytes(*len) as usize)
        else {
            return Err(Stop::Failed("a message was cut".to_owned()));
        };
        words.push(word.to_vec());
        rest = behind;
    }
    Ok(Some((words, fd)).filter(|(words, _)| !words.is_empty()))
}

/// A program that is to be executed, ready for it.
struct Command {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    fn new<S: AsRef<[u8]>>(name: &str, socket: i32, environment: &[S]) -> Outcome<Self> {
        let path = if name.starts_with('/') {
            Path::new(name).to_owned()
        } else {
            program(name)
        };
        let path = CString::new(path.as_os_str().as_bytes())?;
        let socket = CString::new(socket.to_string())?;
        let arguments = vec![path.clone(), CString::new(ARGUMENT)?, socket];
        let environment = environment
            .iter()
            .map(|variable| CString::new(variable.as_ref()));
        Ok(Command {
            path,
            arguments,
            environment: environment.collect::<Result<_, _>>()?,
        })
    }

    /// Executes it. Returns only if that fails.
    fn execute(&self) -> Errno {
        let pointers = |strings: &[CString]| -> Vec<_> {
            strings
                .iter()
                .map(|string| string.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        // SAFETY: Both are arrays of strings, with a null pointer at the end.
        unsafe { libc::execve(self.path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
    }
}

/// Is an actor, until the socket is closed.
pub(crate) fn serve(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let socket = arguments
        .next()
        .as_deref()
        .map(OsStr::as_bytes)
        .and_then(parse);
    let Some(socket) = socket.and_then(|number| i32::try_from(number).ok()) else {
        return ExitCode::from(2);
    };
    // SAFETY: Whoever executed this program has left this descriptor open for it alone.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut actor = calls::Server::new(socket);
    if actor.begin().is_err() {
        return ExitCode::FAILURE;
    }
    while let Ok(Some((words, fd))) = receive(actor.socket()) {
        if actor.answer(&words, fd).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
