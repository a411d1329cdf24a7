//! What is not a modification leaves neither a record nor a trace of any other kind.

use std::{fs, os::unix::fs::MetadataExt, thread::sleep, time::Duration};

use rustix::{fs::OFlags, io::Errno};

use crate::{
    actor::{Actor, words},
    fixture::{Fs, Outcome, Place, STAMPED, Test, counting, ensure_eq, everywhere, on, once},
    programs::shell,
    record::{ALICE, BOB, ensure_at_work, ensure_by, ensure_none},
};

pub(crate) const TESTS: &[Test] = &[
    everywhere(
        "opening for writing and closing changes nothing, not even ctime",
        open_only,
    ),
    everywhere("reading", reading),
    everywhere("chmod, chown, utimes, link, rename, setxattr", metadata),
    everywhere("an open file that only names a place (O_PATH)", path_only),
    everywhere("opening that fails", failed_open),
    once("pipes, sockets and devices", no_regular_files),
    once("memory files", memory_files),
    on(
        &[Fs::Xfs, Fs::Btrfs],
        "deduplication, whatever the file is open for",
        deduplicate,
    ),
    everywhere("truncating that fails", failed_truncate),
    everywhere(
        "mappings that are not written to, or not shared",
        private_mapping,
    ),
    on(&[Fs::Overlay], "copying a file up", copy_up),
    everywhere("syncing and seeking", syncing),
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

/// Makes two equal files share their blocks.
fn deduplicate(place: &Place) -> Outcome {
    let one = place.unstamped("one")?;
    let alice = Actor::start(&ALICE)?;
    let one = alice.open(&one, OFlags::RDONLY)?;
    for (name, flags) in [
        ("for reading", OFlags::RDONLY),
        ("for writing", OFlags::WRONLY),
        ("for both", OFlags::RDWR),
    ] {
        let other = place.unstamped(name)?;
        let before = state(&other)?;
        let fd = alice.open(&other, flags)?;
        let shared = counting(&[], || alice.ask(words!["deduplicate", fd, one]))?;
        ensure_eq!(shared, 4096, "bytes");
        ensure_eq!(state(&other)?, before, "times of the file");
        ensure_none(&other)?;
        // The next thing that it does is a modification.
        if flags != OFlags::RDONLY {
            counting(STAMPED, || alice.write(fd))?;
            ensure_by(&other, &ALICE)?;
            // And the next one after that is not.
            alice.ask(words!["write by", "ftruncate to more", fd, fd])?;
            counting(&[], || alice.ask(words!["deduplicate", fd, one]))?;
        }
        counting(&[], || alice.close(fd))?;
    }
    // It is no modification of a clone that follows it, either, which is by the same system call.
    let other = place.unstamped("cloned")?;
    let fd = alice.open(&other, OFlags::RDWR)?;
    counting(&[], || alice.ask(words!["deduplicate", fd, one]))?;
    counting(STAMPED, || {
        alice.ask(words!["write by", "FICLONE", fd, one])
    })?;
    ensure_by(&other, &ALICE)
}

fn failed_truncate(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let bob = Actor::start(&BOB)?;
    let directory = place.directory("directory")?;
    let read_only = bob.open(&path, OFlags::RDONLY)?;
    bob.ask(words!["set user", 1000])?;
    counting(&[], || {
        for (path, length, errno) in [
            (&path, 10, Errno::ACCESS),
            (&path, -1, Errno::INVAL),
            (&directory, 10, Errno::ISDIR),
            (&place.path("missing"), 10, Errno::NOENT),
        ] {
            let result = bob.attempt(words!["truncate", &**path, length])?;
            ensure_eq!(result, Err(errno), "truncating {}", path.display());
        }
        let call = words!["write by", "ftruncate to less", read_only, read_only];
        ensure_eq!(bob.attempt(call)?, Err(Errno::INVAL), "ftruncate");
        let flags = OFlags::RDONLY | OFlags::TRUNC;
        ensure_eq!(
            bob.attempt(words!["open", &*path, flags])?,
            Err(Errno::ACCESS),
            "O_TRUNC"
        );
        Ok(())
    })?;
    ensure_none(&path)?;
    ensure_at_work(place, &bob, &BOB)
}

fn private_mapping(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let before = state(&path)?;
    let bob = Actor::start(&BOB)?;
    // Private and written to; shared and only read; shared, and made writable without a store.
    for (shared, writable, store) in [(0, 1, true), (1, 0, false)] {
        for flags in [OFlags::RDWR, OFlags::RDONLY] {
            let fd = bob.open(&path, flags)?;
            counting(&[], || {
                let address = bob.ask(words!["map", fd, shared, writable])?;
                if store {
                    bob.ask(words!["store", address])?;
                    bob.ask(words!["sync", address])?;
                }
                bob.ask(words!["unmap", address])?;
                bob.close(fd)
            })?;
        }
    }
    if place.fs != Fs::Tmpfs {
        let fd = bob.open(&path, OFlags::RDWR)?;
        counting(&[], || {
            let address = bob.ask(words!["map", fd, 1, 0])?;
            bob.ask(words!["make writable", address])?;
            bob.ask(words!["unmap", address])?;
            bob.close(fd)
        })?;
    }
    ensure_eq!(state(&path)?, before, "times of the file");
    ensure_none(&path)?;
    ensure_at_work(place, &bob, &BOB)
}

/// Opening a file of the lower layer for writing copies it, and nobody has modified it.
fn copy_up(place: &Place) -> Outcome {
    let bob = Actor::start(&BOB)?;
    for (name, flags) in [
        ("for writing", OFlags::WRONLY),
        ("for both", OFlags::RDWR),
        ("for appending", OFlags::WRONLY | OFlags::APPEND),
    ] {
        let path = place.unstamped_below(name)?;
        counting(&[], || bob.close(bob.open(&path, flags)?))?;
        ensure_none(&path)?;
    }
    let path = place.unstamped_below("attributes")?;
    let script = format!(
        "chmod 600 '{0}'; touch '{0}'; mv '{0}' '{0}~'",
        path.display()
    );
    counting(&[], || shell(place, &BOB, &script))?;
    ensure_none(path.with_file_name("attributes~"))?;
    ensure_at_work(place, &bob, &BOB)
}

fn syncing(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&path)?;
    counting(STAMPED, || alice.write(fd))?;
    counting(&[], || {
        alice.ask(words!["seek to end", fd])?;
        let file = alice.give(fd)?;
        rustix::fs::fsync(&file)?;
        rustix::fs::fdatasync(&file)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        drop(file);
        alice.close(fd)
    })?;
    ensure_by(&path, &ALICE)
}
