//! Mounting, staying mounted, and ending.
//!
//! `fusermount3` mounts, for root as for everybody else. A second process of this program waits for
//! the first one to end, and takes the mount away if that died: `fusermount3` could do that by
//! itself, but for users without `allow_other` it does not.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, ffi::OsStringExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitCode, Stdio},
    sync::Arc,
    thread,
};

use fuser::{Session, SessionACL};
use rustix::{
    fs::{CWD, Mode, OFlags, StatVfsMountFlags, fgetxattr, fstatvfs, openat, statvfs},
    io::{Errno, FdFlags, fcntl_setfd},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::geteuid,
    thread::sched_getaffinity,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};

use crate::{Overlay, StartError, args::Args, overlay::Settings, reaper::Ways, status::Status};

/// How `fusermount3` is told where to send the open device.
const DEVICE_GOES_TO: &str = "_FUSE_COMMFD";

/// Requests that are worked on at a time, at least: some wait for a disk.
const THREADS_MIN: usize = 4;

/// Requests that are worked on at a time, unless somebody asks for more.
const THREADS_MAX: usize = 16;

/// Source and mount point, as they are.
struct Places {
    source: PathBuf,
    fd: OwnedFd,
    mount: PathBuf,
}

/// Mounts in the background: starts this program again, and returns when that has mounted.
pub fn in_background(line: &[OsString]) -> Result<ExitCode, StartError> {
    let program =
        std::env::current_exe().map_err(|e| StartError::set_up("find this program", e))?;
    let mut child = Command::new(program)
        .args(line.iter().skip(1))
        .arg("--ready")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| StartError::set_up("start a process for the background", e))?;
    let mut said = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        // What it said is what counts.
        let _ = output.read_to_end(&mut said);
    }
    if !said.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said why, on the same standard error.
    let status = child.wait();
    let code = status.ok().and_then(|status| status.code());
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(provfs_cli::exit::FAILED)))
}

/// Mounts, and returns when that is over.
pub fn run(args: &Args) -> Result<(), StartError> {
    start_log(args)?;
    let places = find_places(args)?;
    check_device()?;
    let sidecar = match &args.sidecar {
        None => {
            check_support(&places)?;
            None
        }
        Some(Some(path)) => Some(absolute(path)),
        Some(None) => Some(beside(&places.source)),
    };
    let settings = args.settings(places.mount.clone(), sidecar)?;
    let options = mount_options(args, &places);
    serve(places, &settings, &options, args)
}

/// Mounts with these settings, and returns when that is over.
fn serve(
    places: Places,
    settings: &Settings,
    options: &str,
    args: &Args,
) -> Result<(), StartError> {
    let overlay = Overlay::new(places.fd, settings)?;
    let device = mount(&places.mount, options)?;
    let second = device
        .try_clone()
        .map_err(|e| StartError::set_up("copy a descriptor", e))?;
    let _guard = start_guard(&places.mount)?;
    let notifier = overlay.notifier();
    let (inodes, reaper) = overlay.keepers();
    let status = overlay.status();

    let mut config = fuser::Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(args.threads.map_or_else(threads, usize::from));
    config.clone_fd = true;
    // Who may come in is the kernel's to decide.
    let session = Session::from_fd(overlay, device, SessionACL::All, config)
        .map_err(StartError::Handshake)?;
    // Nobody else sets it.
    let _ = notifier.set(session.notifier());

    let ways = Ways {
        notifier: session.notifier(),
        device: second,
    };
    spawn("reaper", move || reaper.run(inodes, ways))?;
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])
        .map_err(|e| StartError::set_up("take signals", e))?;
    let mount = places.mount.clone();
    spawn("signals", move || heed(signals, &mount, &status))?;

    if args.ready {
        go_to_background()?;
    }
    session.run().map_err(StartError::Stopped)
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread
        .map(drop)
        .map_err(|e| StartError::set_up("start a thread", e))
}

/// Opens the source and finds the mount point.
fn find_places(args: &Args) -> Result<Places, StartError> {
    let bad_source = |error| StartError::Source {
        path: args.source.clone(),
        error,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, &args.source, flags, Mode::empty()).map_err(bad_source)?;
    let source = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_err(|error| bad_source(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;

    let bad_mount = |error: io::Error| {
        let path = args.mount.clone();
        match Errno::from_io_error(&error) {
            Some(Errno::NOTCONN) => StartError::DeadMount { path },
            _ => StartError::MountPoint { path, error },
        }
    };
    let mount = args.mount.canonicalize().map_err(bad_mount)?;
    if !fs::metadata(&mount).map_err(bad_mount)?.is_dir() {
        return Err(bad_mount(Errno::NOTDIR.into()));
    }
    if mount.starts_with(&source) || source.starts_with(&mount) {
        return Err(StartError::Nested {
            source_dir: source,
            mount,
        });
    }
    Ok(Places { source, fd, mount })
}

fn check_device() -> Result<(), StartError> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.map(drop).map_err(StartError::Device)
}

/// Whether the file system of the source keeps records. A file system that does not says so also
/// about one that is not there.
fn check_support(places: &Places) -> Result<(), StartError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let answer = openat(&places.fd, c".", flags, Mode::empty())
        .and_then(|dir| fgetxattr(&dir, c"user.prov", &mut [0_u8; 1][..]));
    match answer {
        Err(Errno::OPNOTSUPP) => Err(StartError::Unsupported {
            path: places.source.clone(),
        }),
        _ => Ok(()),
    }
}

/// The database of records for a source: beside it, hidden, and named like it.
fn beside(source: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(source.file_name().unwrap_or_default());
    name.push(".provfs.sqlite");
    source.with_file_name(name)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The options for `fusermount3`.
fn mount_options(args: &Args, places: &Places) -> String {
    // Commas and backslashes would end the name.
    let mut name = Vec::new();
    for &byte in places.source.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\') {
            name.push(b'\\');
        }
        name.push(byte);
    }
    let name = OsString::from_vec(name).to_string_lossy().into_owned();
    let mut options = vec![
        format!("fsname={name}"),
        "subtype=provfs".into(),
        "default_permissions".into(),
    ];
    let mut add = |condition: bool, option: &str| {
        if condition {
            options.push(option.into());
        }
    };
    add(args.allow_other, "allow_other");
    add(args.read_only, "ro");
    let source = fstatvfs(&places.fd)
        .map(|fs| fs.f_flag)
        .unwrap_or(StatVfsMountFlags::empty());
    // What holds for the source holds here. Only root may allow more than the least.
    let is_root = geteuid().is_root();
    for (flag, never, always) in [
        (StatVfsMountFlags::NODEV, "nodev", "dev"),
        (StatVfsMountFlags::NOSUID, "nosuid", "suid"),
        (StatVfsMountFlags::NOEXEC, "noexec", "exec"),
    ] {
        let forbidden =
            source.contains(flag) || args.mount_option.iter().any(|option| option == never);
        add(forbidden, never);
        add(!forbidden && is_root, always);
    }
    options.join(",")
}

/// Mounts. Returns the open device.
fn mount(mount: &Path, options: &str) -> Result<OwnedFd, StartError> {
    let set_up = |error: io::Error| StartError::set_up("talk to fusermount3", error);
    let (ours, theirs) = UnixStream::pair().map_err(set_up)?;
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(|e| set_up(e.into()))?;
    let mut child = Command::new("fusermount3")
        .args(["-o", options, "--"])
        .arg(mount)
        .env(DEVICE_GOES_TO, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(StartError::NoFusermount)?;
    drop(theirs);
    if let Some(device) = receive(&ours) {
        // It has done its work, and says nothing more.
        let _ = child.wait();
        return Ok(device);
    }
    let mut message = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What it said up to an error is better than nothing.
        let _ = stderr.read_to_string(&mut message);
    }
    let _ = child.wait();
    let message = message.trim().trim_start_matches("fusermount3: ");
    Err(StartError::Refused {
        path: mount.to_owned(),
        message: message.replace('\n', "; "),
    })
}

/// The first argument of the process that waits for the end of this one; the mount point follows.
pub const GUARD: &str = "--guard";

/// Starts the process that takes the mount away should this one die. It does that when its input
/// ends, which is open here and nowhere else.
fn start_guard(mount: &Path) -> Result<ChildStdin, StartError> {
    let set_up = |error: io::Error| StartError::set_up("start a process that waits", error);
    let program = std::env::current_exe().map_err(set_up)?;
    let mut child = Command::new(program)
        .arg(GUARD)
        .arg(mount)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(set_up)?;
    let input = child.stdin.take();
    input.ok_or_else(|| set_up(io::ErrorKind::BrokenPipe.into()))
}

/// Waits for the end of the process that has started this one, and takes its mount away if it is
/// still there. A mount that answers is not its any more.
pub fn guard(mount: &Path) {
    // The terminal's signals are for the other one.
    let _ = rustix::process::setsid();
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    // This asks the file system itself, unlike a look at attributes, which may be remembered. Input
    // may have ended before the connection did.
    let dead = [Err(Errno::NOTCONN), Err(Errno::CONNABORTED)];
    if dead.contains(&statvfs(mount).map(drop)) {
        unmount(mount, &["-u", "-z"]);
    }
}

/// The descriptor that comes through a socket.
fn receive(socket: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| recvmsg(socket, &mut data, &mut control, flags)).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// Unmounts when asked to, and tells what became of modifications.
fn heed(mut signals: Signals, mount: &Path, status: &Arc<Status>) {
    for signal in signals.forever() {
        if signal == SIGUSR1 {
            log::warn!("status:\n{}", status.text());
            continue;
        }
        if !unmount(mount, &["-u"]) {
            // Somebody uses it still. It goes away for everybody else, and ends with the last user.
            log::warn!(
                "{} is in use, and is unmounted when it no longer is",
                mount.display()
            );
            unmount(mount, &["-u", "-z"]);
        }
    }
}

fn unmount(mount: &Path, how: &[&str]) -> bool {
    let status = Command::new("fusermount3")
        .args(how)
        .arg("-q")
        .arg("--")
        .arg(mount)
        .stdin(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn threads() -> usize {
    let processors = sched_getaffinity(None).map_or(1, |set| set.count() as usize);
    processors.clamp(THREADS_MIN, THREADS_MAX)
}

fn start_log(args: &Args) -> Result<(), StartError> {
    let level = args.log.parse().unwrap_or(log::LevelFilter::Warn);
    let mut logger = env_logger::Builder::new();
    logger.filter_level(level);
    // Each request, which is more than anybody wants.
    logger.filter_module("fuser::request", level.min(log::LevelFilter::Warn));
    if level < log::LevelFilter::Debug {
        // The library answers requests to interrupt another one, and complains when that is over.
        logger.filter_module("fuser::reply", log::LevelFilter::Off);
    }
    if let Some(path) = &args.log_file {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| StartError::set_up("open the log file", e))?;
        logger.target(env_logger::Target::Pipe(Box::new(file)));
    }
    // There is no other log.
    let _ = logger.try_init();
    Ok(())
}

/// Says that it is mounted, and leaves the terminal.
fn go_to_background() -> Result<(), StartError> {
    let set_up = |error: io::Error| StartError::set_up("go to the background", error);
    // It fails for the leader of a session, which needs none.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").map_err(set_up)?;
    io::stdout().write_all(b"mounted\n").map_err(set_up)?;
    io::stdout().flush().map_err(set_up)?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(set_up)?;
    for redirect in [
        rustix::stdio::dup2_stdin::<&fs::File>,
        rustix::stdio::dup2_stdout,
        rustix::stdio::dup2_stderr,
    ] {
        redirect(&null).map_err(|e| set_up(e.into()))?;
    }
    Ok(())
}

/// For comparison: the same file system without records.
pub fn run_plain(args: &Args) -> Result<(), StartError> {
    start_log(args)?;
    let places = find_places(args)?;
    let settings = Settings {
        record: false,
        ..args.settings(places.mount.clone(), None)?
    };
    let options = mount_options(args, &places);
    serve(places, &settings, &options, args)
}
