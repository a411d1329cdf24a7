//! Files with unusual names, places and lives.

use std::{
    ffi::OsStr,
    fs,
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

use rustix::{fs::OFlags, thread::UnshareFlags};

use crate::{
    actor::{Actor, words},
    fixture::{Outcome, Place, STAMPED, Setting, Test, counting, each, ensure_eq},
    record::{ALICE, BOB, by_fd, ensure_by, ensure_none, fallback},
};

pub(crate) const TESTS: &[Test] = &[
    each("names of any bytes", names),
    each("a path longer than PATH_MAX", long_path),
    each("a file that is written to before it gets a name", temporary),
    each("a file that is empty when it gets a name", temporary_empty),
    each(
        "a file that was deleted, and one in a directory that was",
        deleted,
    ),
    each("a writer in another root directory", changed_root),
    each("a writer in a mount namespace of its own", mount_namespace),
    each("a file on a detached mount", detached),
];

fn names(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    let names: [&[u8]; 6] = [
        b"\xff\xfe\x01",
        b"a\nb",
        b" ",
        b"\\,!*?",
        "\u{1f600}".as_bytes(),
        b"%s%n;:>",
    ];
    for name in names {
        // The file systems here take any name.
        let dir = place.path(OsStr::from_bytes(name));
        fs::create_dir(&dir)?;
        let path = dir.join(OsStr::from_bytes(&name.repeat(255 / name.len())));
        counting(STAMPED, || alice.put(&path))?;
        ensure_by(&path, &ALICE)?;
    }
    // As a working directory.
    let nobody = Actor::program("nobody", &[""; 0])?;
    nobody.ask(words![
        "change directory",
        &*place.path(OsStr::from_bytes(names[0]))
    ])?;
    let path = place.path("file");
    nobody.spawn("child", &[""; 0])?.put(&path)?;
    let cwd = fallback(&path)?.cwd.unwrap_or_default();
    ensure_eq!(
        cwd.as_bytes(),
        place
            .path(OsStr::from_bytes(names[0]))
            .as_os_str()
            .as_bytes(),
        "directory"
    );
    Ok(())
}

fn long_path(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    let nobody = Actor::program("nobody", &[""; 0])?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let name = "d".repeat(250);
    let mut dir = fs::File::open(&place.dir)?;
    for _ in 0..20 {
        rustix::fs::mkdirat(&dir, &*name, rustix::fs::Mode::from_raw_mode(0o777))?;
        dir = rustix::fs::openat(&dir, &*name, flags, rustix::fs::Mode::empty())?.into();
    }
    let in_alice = alice.take(&dir)?;
    let file = alice.ask(words![
        "openat",
        in_alice,
        "file",
        OFlags::CREATE | OFlags::RDWR
    ])?;
    counting(STAMPED, || alice.ask(words!["write", file, "some bytes"]))?;
    let file = rustix::fs::openat(&dir, "file", OFlags::RDONLY, rustix::fs::Mode::empty())?;
    ensure_by(by_fd(file.as_fd()), &ALICE)?;

    // As a working directory, which is left out.
    nobody.ask(words![
        "change directory",
        &*format!("/proc/self/fd/{}", number(&nobody, &dir)?)
    ])?;
    let path = place.path("file");
    let child = nobody.spawn("child", &[""; 0])?;
    child.put(&path)?;
    let who = fallback(&path)?;
    ensure_eq!(
        (who.pid, who.cwd),
        (Some(child.pid()), None),
        "pid and directory"
    );
    // remove_dir_all() has no trouble with that.
    Ok(())
}

/// Passes a file to an actor, and returns its number there.
fn number(actor: &Actor, file: impl AsFd) -> Outcome<i64> {
    let fd = actor.take(file)?;
    actor.ask(words!["duplicate", fd])
}

fn temporary(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&place.dir, OFlags::TMPFILE | OFlags::RDWR)?;
    counting(STAMPED, || alice.write(fd))?;
    counting(&[], || {
        alice.ask(words!["link", fd, &*path])?;
        alice.close(fd)
    })?;
    ensure_by(&path, &ALICE)
}

fn temporary_empty(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&place.dir, OFlags::TMPFILE | OFlags::RDWR)?;
    alice.ask(words!["link", fd, &*path])?;
    counting(STAMPED, || alice.close(fd))?;
    ensure_by(&path, &ALICE)
}

fn deleted(place: &Place) -> Outcome {
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let dir = place.directory("dir")?;
    for delete_directory in [false, true] {
        let path = dir.join("file");
        let fd = alice.create(&path)?;
        let in_bob = bob.take(alice.give(fd)?)?;
        alice.write(fd)?;
        fs::remove_file(&path)?;
        if delete_directory {
            fs::remove_dir(&dir)?;
        }
        counting(STAMPED, || bob.write(in_bob))?;
        ensure_by(by_fd(alice.give(fd)?.as_fd()), &BOB)?;
        bob.close(in_bob)?;
        alice.close(fd)?;
    }
    // Created, deleted and then released: there is nobody left to ask.
    let path = place.path("file");
    let fd = alice.create(&path)?;
    fs::remove_file(&path)?;
    crate::fixture::growth(|| alice.close(fd)).map(drop)
}

fn changed_root(place: &Place) -> Outcome {
    let root = place.directory("root")?;
    let _rules = Setting::set("skip", format!("{}/no,/yes", root.display()))?;
    place.directory("root/yes")?;
    place.directory("root/no")?;
    let (alice, nobody) = (Actor::start(&ALICE)?, Actor::program("nobody", &[""; 0])?);
    for (actor, name) in [(&alice, "alice"), (&nobody, "nobody")] {
        actor.ask(words!["change root", &*root])?;
        // Paths are those outside.
        counting(STAMPED, || actor.put(format!("/yes/{name}")))?;
        counting(&[("modifications", 1), ("skipped.path", 1)], || {
            actor.put(format!("/no/{name}"))
        })?;
        ensure_none(root.join("no").join(name))?;
    }
    ensure_by(root.join("yes/alice"), &ALICE)?;
    ensure_eq!(
        fallback(root.join("yes/nobody"))?.pid,
        Some(nobody.pid()),
        "pid"
    );
    Ok(())
}

fn mount_namespace(place: &Place) -> Outcome {
    let (alice, nobody) = (Actor::start(&ALICE)?, Actor::program("nobody", &[""; 0])?);
    for (actor, name) in [(&alice, "alice"), (&nobody, "nobody")] {
        actor.ask(words!["unshare", i64::from(UnshareFlags::NEWNS.bits())])?;
        counting(STAMPED, || actor.put(place.path(name)))?;
    }
    ensure_by(place.path("alice"), &ALICE)?;
    ensure_eq!(
        fallback(place.path("nobody"))?.pid,
        Some(nobody.pid()),
        "pid"
    );
    Ok(())
}

fn detached(place: &Place) -> Outcome {
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let (one, other) = (place.directory("one")?, place.directory("other")?);
    rustix::mount::mount_bind(&one, &other)?;
    let fd = alice.create(other.join("file"));
    let created = alice.create(other.join("created"));
    rustix::mount::unmount(&other, rustix::mount::UnmountFlags::DETACH)?;
    let (fd, created) = (fd?, created?);
    counting(STAMPED, || alice.write(fd))?;
    let in_bob = bob.take(alice.give(fd)?)?;
    counting(STAMPED, || bob.write(in_bob))?;
    ensure_by(one.join("file"), &BOB)?;
    counting(STAMPED, || alice.close(created))?;
    ensure_by(one.join("created"), &ALICE)
}
