//! Every way of modifying a file that a file system in user space can see: each names who did it, through the mount
//! and behind it. They are those that the tests of the security module go through in `guest-tests/src/ways.rs`.

mod common;

use std::{
    ffi::OsStr,
    fs,
    io::{IoSlice, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use common::{Mounted, can_mount, set};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::{
    fs::{CWD, FallocateFlags, FileType, Mode, OFlags, mknodat, open},
    io::{Errno, ReadWriteFlags, Result},
};

/// Says to a process of this program that it is to modify a file, and how.
const CALL: &str = "PROVFS_TEST_CALL";

/// Bytes that are written.
const BYTES: &[u8] = b"some bytes\n";

/// Calls that modify a file that is there and open.
const CALLS: &[&str] = &[
    "write",
    "writev",
    "pwrite",
    "pwritev",
    "pwritev2",
    "append",
    "splice",
    "sendfile",
    "copy_file_range",
    "fallocate",
    "fallocate, keeping the size",
    "punch a hole",
    "ftruncate to less",
    "ftruncate to more",
    "io_uring",
    "io_uring, by a worker",
    "io_uring, polled",
    "io_uring, fallocate",
];

/// Those that do not need it open.
const OTHERS: &[&str] = &[
    "truncate",
    "O_TRUNC",
    "O_RDONLY | O_TRUNC",
    "O_CREAT | O_TRUNC",
];

/// Ways of making a file.
const CREATING: &[&str] = &["create", "create and write", "create for reading", "mknod"];

/// The other side: not a test, but the process that each of them starts.
#[test]
fn actor() {
    let Some(call) = std::env::var_os(CALL) else {
        return;
    };
    let call = call.to_str().unwrap();
    let written = if CALLS.contains(&call) {
        let file = open("file", OFlags::RDWR, Mode::empty()).unwrap();
        let from = open("source", OFlags::RDONLY, Mode::empty()).unwrap();
        let done = modify(call, file.as_fd(), from.as_fd());
        pause(&done);
        done
    } else {
        let done = by_name(call);
        pause(&done);
        done
    };
    written.unwrap_or_else(|error| panic!("{call}: {error}"));
}

/// Says that it is done, and waits until it may end.
fn pause(done: &Result<()>) {
    println!("\nDONE {done:?}");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

fn by_name(call: &str) -> Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    let new = OFlags::CREATE | OFlags::EXCL;
    match call {
        "truncate" => {
            let status = Command::new("truncate").args(["-s", "77", "file"]).status();
            assert!(status.unwrap().success());
            Ok(())
        }
        "O_TRUNC" => open("file", OFlags::WRONLY | OFlags::TRUNC, mode).map(drop),
        "O_RDONLY | O_TRUNC" => open("file", OFlags::RDONLY | OFlags::TRUNC, mode).map(drop),
        "O_CREAT | O_TRUNC" => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
            open("file", flags, mode).map(drop)
        }
        "create" => open("new", OFlags::WRONLY | new, mode).map(drop),
        "create and write" => {
            let file = open("new", OFlags::WRONLY | new, mode)?;
            rustix::io::write(&file, BYTES).map(drop)
        }
        "create for reading" => open("new", OFlags::RDONLY | new, mode).map(drop),
        "mknod" => mknodat(CWD, "new", FileType::RegularFile, mode, 0),
        _ => Err(Errno::NOSYS),
    }
}

fn modify(call: &str, fd: BorrowedFd<'_>, from: BorrowedFd<'_>) -> Result<()> {
    let all = BYTES.len();
    let slices = [IoSlice::new(BYTES), IoSlice::new(BYTES)];
    let fallocated = |flags| rustix::fs::fallocate(fd, flags, 0, 4096);
    let write =
        || opcode::Write::new(types::Fd(fd.as_raw_fd()), BYTES.as_ptr(), all as u32).build();
    match call {
        "write" => rustix::io::write(fd, BYTES).map(drop),
        "writev" => rustix::io::writev(fd, &slices).map(drop),
        "pwrite" => rustix::io::pwrite(fd, BYTES, 3).map(drop),
        "pwritev" => rustix::io::pwritev(fd, &slices, 5).map(drop),
        "pwritev2" => rustix::io::pwritev2(fd, &slices, 5, ReadWriteFlags::DSYNC).map(drop),
        "append" => {
            rustix::fs::fcntl_setfl(fd, OFlags::APPEND)?;
            rustix::io::write(fd, BYTES).map(drop)
        }
        "splice" => {
            let (reader, writer) = rustix::pipe::pipe()?;
            rustix::io::write(&writer, BYTES)?;
            let flags = rustix::pipe::SpliceFlags::empty();
            rustix::pipe::splice(&reader, None, fd, None, all, flags).map(drop)
        }
        "sendfile" => rustix::fs::sendfile(fd, from, Some(&mut 0), all).map(drop),
        "copy_file_range" => {
            rustix::fs::copy_file_range(from, Some(&mut 0), fd, Some(&mut 0), all).map(drop)
        }
        "fallocate" => fallocated(FallocateFlags::empty()),
        "fallocate, keeping the size" => fallocated(FallocateFlags::KEEP_SIZE),
        "punch a hole" => fallocated(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE),
        "ftruncate to less" => rustix::fs::ftruncate(fd, 100),
        "ftruncate to more" => rustix::fs::ftruncate(fd, 100_000),
        "io_uring" => submit(false, &write()),
        "io_uring, by a worker" => submit(false, &write().flags(squeue::Flags::ASYNC)),
        "io_uring, polled" => submit(true, &write()),
        "io_uring, fallocate" => submit(
            false,
            &opcode::Fallocate::new(types::Fd(fd.as_raw_fd()), 99_999).build(),
        ),
        _ => Err(Errno::NOSYS),
    }
}

/// Lets the kernel do something by itself, and waits for it.
fn submit(polled: bool, entry: &squeue::Entry) -> Result<()> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut builder = IoUring::builder();
    if polled {
        builder.setup_sqpoll(1000);
    }
    let mut ring: IoUring = builder.build(4).map_err(failed)?;
    // SAFETY: What it writes is a constant, and its descriptor is open until this returns.
    unsafe { ring.submission().push(entry) }.map_err(|_| Errno::BUSY)?;
    ring.submit_and_wait(1).map_err(failed)?;
    let done = ring.completion().next().ok_or(Errno::IO)?;
    match done.result() {
        error @ ..0 => Err(Errno::from_raw_os_error(-error)),
        _ => Ok(()),
    }
}

/// A process that has just modified a file, as a session, and has it open.
struct Acting(Child);

impl Acting {
    fn start(dir: &Path, session: &str, call: &str) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "actor", "--nocapture"])
            .current_dir(dir)
            .env(CALL, OsStr::new(call))
            .env("PROV_SESSION", session)
            .env("PROV_TOOL", "tool")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        let output = child.stdout.as_mut().unwrap();
        let mut byte = [0];
        let is_over = |said: &[u8]| {
            let done = said.windows(5).position(|part| part == b"DONE ");
            done.is_some_and(|at| said[at..].contains(&b'\n'))
        };
        while !is_over(&said) && output.read(&mut byte).unwrap() > 0 {
            said.push(byte[0]);
        }
        let said = common::text(&said);
        let outcome = said.split("DONE ").nth(1).unwrap_or(&said).trim();
        (Acting(child), outcome.to_owned())
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        let mut rest = Vec::new();
        let _ = self.0.stdout.take().unwrap().read_to_end(&mut rest);
        self.0.wait().unwrap();
    }
}

/// With passthrough, where that is possible, and without.
const MODES: [&[&str]; 2] = [&[], &["--no-passthrough"]];

/// A file that nothing is recorded of, and one to read from.
fn file_without_record(m: &Mounted) {
    fs::write(m.src.join("source"), [7; 5000]).unwrap();
    let _ = fs::remove_file(m.mnt.join("file"));
    fs::write(m.src.join("file"), [7; 5000]).unwrap();
}

#[test]
fn each_way_of_modifying_names_who_did_it() {
    if !can_mount() {
        return;
    }
    for mode in MODES {
        let m = Mounted::new(mode);
        let passes = m.passes_through();
        for call in CALLS.iter().chain(OTHERS) {
            file_without_record(&m);
            let mut expected = "";
            for (session, record) in [("s1", "s1 tool"), ("s2", "s2 tool s2,s1")] {
                let (actor, outcome) = Acting::start(&m.mnt, session, call);
                if outcome.contains("os error 1)") || outcome.contains("os error 38") {
                    eprintln!("skipped: {call}: this kernel does not let us ({outcome})");
                    actor.end();
                    break;
                }
                assert_eq!(outcome, "Ok(())", "{call}");
                // Who writes is told at once where the daemon sees each write.
                if !passes || !CALLS.contains(call) {
                    assert_eq!(
                        m.record("file"),
                        record,
                        "{call}, {mode:?}, while it is open"
                    );
                }
                actor.end();
                assert_eq!(m.record("file"), record, "{call}, {mode:?}");
                expected = record;
            }
            eprintln!("{call}, {mode:?}: {expected}");
        }
    }
}

#[test]
fn each_way_of_creating_names_who_did_it() {
    if !can_mount() {
        return;
    }
    for mode in MODES {
        let m = Mounted::new(mode);
        for call in CREATING {
            let (actor, outcome) = Acting::start(&m.mnt, "s1", call);
            assert_eq!(outcome, "Ok(())", "{call}");
            // Nobody waits for the file to be released.
            assert_eq!(m.record("new"), "s1 tool", "{call}, {mode:?}");
            actor.end();
            fs::remove_file(m.mnt.join("new")).unwrap();
        }
    }
}

#[test]
fn a_created_file_changes_no_more_once_it_is_closed() {
    if !can_mount() {
        return;
    }
    for mode in MODES {
        let m = Mounted::new(mode);
        for round in 0..50 {
            let name = round.to_string();
            drop(fs::File::create(m.mnt.join(&name)).unwrap());
            let before = fs::metadata(m.mnt.join(&name)).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
            let behind = fs::metadata(m.src.join(&name)).unwrap();
            let times = |of: &fs::Metadata| (of.ctime(), of.ctime_nsec());
            assert_eq!(times(&before), times(&behind), "{name}, {mode:?}");
        }
    }
}

#[test]
fn who_creates_leaves_no_trace_if_somebody_else_writes() {
    if !can_mount() {
        return;
    }
    for mode in MODES {
        let m = Mounted::new(mode);
        m.sh(
            "s1",
            "{ sleep 0.1; PROV_SESSION=s2 PROV_TOOL=other date; } > f",
        );
        assert_eq!(m.record("f"), "s2 other", "{mode:?}");
        // Neither in the keys that only the creator declares.
        m.sh(
            "s1",
            "PROV_TURN=7 sh -c '{ PROV_SESSION=s2 env -u PROV_TURN date; } > g'",
        );
        assert_eq!(m.record("g"), "s2 date");
        assert_eq!(common::get(&m.src.join("g"), "user.prov.turn"), None);
        // A record that comes from elsewhere is nobody's to drop.
        let mut file = fs::File::create(m.mnt.join("h")).unwrap();
        set(m.mnt.join("h"), "user.prov.session", "s9").unwrap();
        file.write_all(b"x").unwrap();
        drop(file);
        let history = common::get(&m.src.join("h"), "user.prov.history").unwrap();
        assert!(history.ends_with(",s9"), "{history}");
    }
    // Who is not recorded takes the record of the creator away.
    for mode in MODES {
        let m = Mounted::new(&[&["--skip", "comm:date"], mode].concat());
        m.sh("s1", "PROV_TURN=7 sh -c 'date > f'; : > g");
        assert_eq!(
            (m.record("f"), m.record("g")),
            (String::new(), "s1 sh".into())
        );
        assert_eq!(common::get(&m.src.join("f"), "user.prov.turn"), None);
    }
}

#[test]
fn files_without_a_name_are_for_programs_to_do_without() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&[]);
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let refused = open(&m.mnt, flags, Mode::from_raw_mode(0o600)).err();
    assert_eq!(refused, Some(Errno::OPNOTSUPP));
    let python = "import tempfile; f = tempfile.TemporaryFile(dir='.'); f.write(b'x' * 9999); f.seek(0); print(len(f.read()))";
    assert_eq!(m.sh("s1", &format!("python3 -c \"{python}\"")), "9999\n");
    assert_eq!(fs::read_dir(&m.src).unwrap().count(), 0);
}
