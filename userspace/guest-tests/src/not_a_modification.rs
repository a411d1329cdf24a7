//! What is not a modification leaves neither a record nor a trace of any other kind.

use std::{
    fs,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    thread::sleep,
    time::Duration,
};

use rustix::{fs::OFlags, io::Errno};

use crate::{
    actor::{Actor, words},
    fixture::{Fs, Outcome, Place, STAMPED, Test, counting, each, ensure_eq, on, once},
    programs::shell,
    record::{ALICE, BOB, ensure_at_work, ensure_by, ensure_none},
};

pub(crate) const TESTS: &[Test] = &[
    each(
        "opening for writing and closing changes nothing, not even ctime",
        open_only,
    ),
    each("reading", reading),
    each("chmod, chown, utimes, link, rename, setxattr", metadata),
    each("an open file that only names a place (O_PATH)", path_only),
    each("opening that fails", failed_open),
    once("pipes, sockets and devices", no_regular_files),
    once("memory files", memory_files),
    on(
        &[Fs::Xfs, Fs::Btrfs],
        "deduplication of a file that is open for reading",
        deduplicate_read_only,
    ),
    each("syncing and seeking", syncing),
];

/// All times and attributes of a file.
fn state(path: &std::path::Path) -> Outcome<(i64, i64, i64, i64, u64)> {
    let meta = fs::metadata(path)?;
    Ok((
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        meta.size(),
    ))
}

fn open_only(place: &Place) -> Outcome {
    let (plain, recorded) = (place.unstamped("plain")?, place.path("recorded"));
    Actor::start(&ALICE)?.put(&recorded)?;
    let bob = Actor::start(&BOB)?;
    for path in [&plain, &recorded] {
        let before = state(path)?;
        sleep(Duration::from_millis(20));
        for flags in [
            OFlags::RDWR,
            OFlags::WRONLY,
            OFlags::WRONLY | OFlags::APPEND,
            OFlags::RDWR | OFlags::CREATE,
        ] {
            counting(&[], || bob.close(bob.open(path, flags)?))?;
        }
        ensure_eq!(state(path)?, before, "times of the file");
    }
    ensure_none(&plain)?;
    ensure_by(&recorded, &ALICE)
}

fn reading(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let before = state(&path)?;
    let bob = Actor::start(&BOB)?;
    for flags in [OFlags::RDONLY, OFlags::RDWR] {
        counting(&[], || {
            let fd = bob.open(&path, flags)?;
            bob.ask(words!["read", fd])?;
            bob.close(fd)
        })?;
    }
    // A write to a file that is open for reading only is refused before anybody is asked.
    let fd = bob.open(&path, OFlags::RDONLY)?;
    counting(&[], || {
        ensure_eq!(
            bob.attempt(words!["write", fd, "x"])?,
            Err(Errno::BADF),
            "a write to a file open for reading"
        );
        Ok(())
    })?;
    bob.close(fd)?;
    ensure_eq!(state(&path)?, before, "times of the file");
    ensure_none(&path)?;
    ensure_at_work(place, &bob, &BOB)
}

fn metadata(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let script = "chmod 600 file; chown 1000:1000 file; touch file; touch -d yesterday file; ln file link; \
        mv link moved; setfattr -n user.other -v x file; setfattr -x user.other file";
    counting(&[], || shell(place, &BOB, script))?;
    ensure_none(&path)?;
    ensure_at_work(place, &Actor::start(&BOB)?, &BOB)
}

fn path_only(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let bob = Actor::start(&BOB)?;
    counting(&[], || {
        let fd = bob.open(&path, OFlags::PATH)?;
        ensure_eq!(
            bob.attempt(words!["write", fd, "x"])?,
            Err(Errno::BADF),
            "a write to a path"
        );
        bob.close(fd)
    })?;
    ensure_none(&path)?;
    ensure_at_work(place, &bob, &BOB)
}

fn failed_open(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
    let bob = Actor::start(&BOB)?;
    let directory = place.directory("directory")?;
    bob.ask(words!["set user", 1000])?;
    counting(&[], || {
        ensure_eq!(
            bob.attempt(words!["open", &*path, OFlags::WRONLY])?,
            Err(Errno::ACCESS),
            "opening it"
        );
        let missing = place.path("missing/file");
        let create = OFlags::WRONLY | OFlags::CREATE;
        ensure_eq!(
            bob.attempt(words!["open", &*missing, create])?,
            Err(Errno::NOENT),
            "opening what is not there"
        );
        ensure_eq!(
            bob.attempt(words!["open", &*directory, OFlags::WRONLY])?,
            Err(Errno::ISDIR),
            "a directory"
        );
        Ok(())
    })?;
    ensure_none(&path)?;
    ensure_at_work(place, &bob, &BOB)
}

fn no_regular_files(place: &Place) -> Outcome {
    counting(&[], || {
        shell(
            place,
            &ALICE,
            "mkfifo fifo; cat fifo > /dev/null & echo x > fifo; echo x > /dev/null; echo x | cat > /dev/zero; wait",
        )
    })?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.take(&theirs)?;
    counting(&[], || {
        alice.write(fd)?;
        alice.close(fd)
    })?;
    drop(ours);
    Ok(())
}

fn memory_files(_: &Place) -> Outcome {
    let file = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC)?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.take(&file)?;
    counting(&[], || {
        alice.write(fd)?;
        alice.close(fd)
    })?;
    ensure_none(crate::record::by_fd(std::os::fd::AsFd::as_fd(&file)))
}

/// `struct file_dedupe_range` with one `struct file_dedupe_range_info`, in `include/uapi/linux/fs.h`.
#[repr(C)]
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

/// Makes two equal files share their blocks.
fn deduplicate_read_only(place: &Place) -> Outcome {
    const FIDEDUPERANGE: rustix::ioctl::Opcode =
        rustix::ioctl::opcode::read_write::<[u8; 24]>(0x94, 54);

    let (one, other) = (place.unstamped("one")?, place.unstamped("other")?);
    let one = fs::File::open(&one)?;
    let before = state(&other)?;
    let file = rustix::fs::open(&other, OFlags::RDONLY, rustix::fs::Mode::empty())?;
    let mut range = DedupeRange {
        src_offset: 0,
        src_length: 4096,
        dest_count: 1,
        reserved1: 0,
        reserved2: 0,
        dest_fd: file.as_raw_fd().into(),
        dest_offset: 0,
        bytes_deduped: 0,
        status: 0,
        reserved: 0,
    };
    counting(&[], || {
        // SAFETY: The structure is what the request wants, with room for the one answer that it asks for.
        unsafe {
            rustix::ioctl::ioctl(
                &one,
                rustix::ioctl::Updater::<FIDEDUPERANGE, DedupeRange>::new(&mut range),
            )?;
        }
        ensure_eq!(
            (range.status, range.bytes_deduped),
            (0, 4096),
            "status and bytes"
        );
        drop(file);
        Ok(())
    })?;
    ensure_eq!(state(&other)?, before, "times of the file");
    ensure_none(&other)
}

fn syncing(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&path)?;
    counting(STAMPED, || alice.write(fd))?;
    counting(&[], || {
        alice.ask(words!["seek to end", fd])?;
        rustix::fs::fsync(alice.give(fd)?)?;
        alice.close(fd)
    })?;
    ensure_by(&path, &ALICE)
}
