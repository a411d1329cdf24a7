//! Writing: the stamp is there before the call returns, and names the writer, whoever opened or closes the file.

use std::{fs, os::unix::fs::MetadataExt, path::Path, thread::sleep, time::Duration};

use rustix::fs::{Mode, OFlags, XattrFlags};

use crate::{
    actor::{Actor, Fd, words},
    fixture::{
        Outcome, Place, STAMPED, Setting, Test, UNCHANGED, counting, each, ensure, ensure_eq,
        growth, seconds, timed,
    },
    record::{
        ALICE, BOB, CAROL, attributes, ensure_by, ensure_none, ensure_ts, fallback, is_packed, key,
    },
};

pub(crate) const TESTS: &[Test] = &[
    each(
        "20,000 times (5,000 packed), the stamp is there when write(2) returns",
        always_there,
    ),
    each(
        "the writer is named, not who opened or closes the file",
        writer_through_three_hands,
    ),
    each("a descriptor that came over a socket", passed_descriptor),
    each(
        "of two writers through one open file, the last one is named",
        two_through_one,
    ),
    each(
        "of two writers through two open files, the last one is named",
        two_through_two,
    ),
    each("who exits without closing is named", exit_without_close),
    each("who is killed is named", killed),
    each(
        "a file that exec closes names the program before",
        closed_by_exec,
    ),
    each(
        "the same writer within the granularity is recorded once",
        granularity,
    ),
    each(
        "a file that is written to for long has the time of its last write",
        refreshed,
    ),
    each(
        "the record of a copy names who copied (cp -a)",
        copied_record,
    ),
    each(
        "a record that somebody has changed is made again at the next write",
        changed_record,
    ),
    each(
        "who wrote twice is known when somebody else closes the file",
        released_by_another,
    ),
    each(
        "a record that somebody has removed is made again by the next write to an open file",
        removed_while_open,
    ),
    each("file times are those of the write", times),
];

/// The writer here is the test itself, for speed. Every other round is a new file, the others one without a record.
fn always_there(place: &Place) -> Outcome {
    let (name, rounds) = if is_packed()? {
        ("user.prov", place.rounds(5_000))
    } else {
        ("user.prov.session", place.rounds(20_000))
    };
    let path = place.path("file");
    let mut missed = 0;
    let before = crate::fixture::Counters::now()?;
    for round in 0..rounds {
        if round % 2 == 0 {
            let _ = fs::remove_file(&path);
        }
        let fd = rustix::fs::open(
            &path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )?;
        if round % 2 != 0 {
            rustix::fs::fremovexattr(&fd, name)?;
        }
        rustix::io::write(&fd, b"some bytes\n")?;
        let mut session = [0; 512];
        missed += usize::from(rustix::fs::fgetxattr(&fd, name, &mut session[..]).is_err());
    }
    let counted = crate::fixture::Counters::now()?.since(&before);
    ensure_eq!(missed, 0, "missed of {rounds} rounds, with {counted:?}");
    ensure_eq!(
        counted.get("stamped"),
        i64::try_from(rounds)?,
        "stamped in {counted:?}"
    );
    Ok(())
}

fn writer_through_three_hands(place: &Place) -> Outcome {
    let path = place.path("file");
    let opener = Actor::start(&CAROL)?;
    let fd = opener.create(&path)?;
    // Both inherit it.
    let writer = opener.spawn("writer", &ALICE.variables())?;
    let closer = opener.spawn("closer", &BOB.variables())?;
    opener.exit()?;
    counting(STAMPED, || writer.write(fd))?;
    ensure_by(&path, &ALICE)?;
    writer.exit()?;
    closer.exit()?;
    ensure_by(&path, &ALICE)
}

fn passed_descriptor(place: &Place) -> Outcome {
    let path = place.path("file");
    let (opener, writer, closer) = (
        Actor::start(&CAROL)?,
        Actor::start(&ALICE)?,
        Actor::start(&BOB)?,
    );
    let fd = opener.create(&path)?;
    let passed = opener.give(fd)?;
    let (in_writer, in_closer) = (writer.take(&passed)?, closer.take(&passed)?);
    drop(passed);
    opener.close(fd)?;
    ensure_none(&path)?;
    counting(STAMPED, || writer.write(in_writer))?;
    counting(&[], || writer.close(in_writer))?;
    counting(&[], || closer.close(in_closer))?;
    ensure_by(&path, &ALICE)
}

/// Two actors with one open file.
fn share(place: &Place) -> Outcome<(Actor, Fd, Actor, Fd)> {
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let fd = alice.create(place.path("file"))?;
    let in_bob = bob.take(alice.give(fd)?)?;
    Ok((alice, fd, bob, in_bob))
}

fn two_through_one(place: &Place) -> Outcome {
    let path = place.path("file");
    let (alice, fd, bob, in_bob) = share(place)?;
    counting(STAMPED, || alice.write(fd))?;
    ensure_by(&path, &ALICE)?;
    counting(STAMPED, || bob.write(in_bob))?;
    ensure_by(&path, &BOB)?;
    counting(&[], || bob.close(in_bob))?;
    counting(&[], || alice.close(fd))?;
    ensure_by(&path, &BOB)?;

    // The first one again.
    let (alice, fd, bob, in_bob) = share(place)?;
    for _ in 0..3 {
        counting(STAMPED, || alice.write(fd))?;
        ensure_by(&path, &ALICE)?;
        counting(STAMPED, || bob.write(in_bob))?;
        ensure_by(&path, &BOB)?;
    }
    counting(STAMPED, || alice.write(fd))?;
    drop((alice, bob));
    ensure_by(&path, &ALICE)
}

fn two_through_two(place: &Place) -> Outcome {
    let path = place.path("file");
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let (by_alice, by_bob) = (alice.create(&path)?, bob.create(&path)?);
    for _ in 0..3 {
        counting(STAMPED, || alice.write(by_alice))?;
        ensure_by(&path, &ALICE)?;
        counting(STAMPED, || bob.write(by_bob))?;
        ensure_by(&path, &BOB)?;
        // Again and again is the same modification.
        counting(&[], || bob.write(by_bob))?;
    }
    counting(STAMPED, || alice.write(by_alice))?;
    ensure_by(&path, &ALICE)?;
    bob.close(by_bob)?;
    alice.close(by_alice)?;
    ensure_by(&path, &ALICE)
}

fn exit_without_close(place: &Place) -> Outcome {
    let (written, created) = (place.path("written"), place.path("created"));
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&written)?;
    alice.write(fd)?;
    alice.create(&created)?;
    counting(STAMPED, || alice.exit())?;
    ensure_by(&written, &ALICE)?;
    ensure_by(&created, &ALICE)?;

    let nobody = Actor::program("nobody", &["PROV_TOOL=hammer"])?;
    let pid = nobody.pid();
    nobody.create(place.path("by nobody"))?;
    nobody.exit()?;
    let who = fallback(place.path("by nobody"))?;
    ensure_eq!((who.pid, who.uid), (Some(pid), Some(0)), "pid and uid");
    // A packed record has neither.
    ensure!(
        is_packed()? || (who.env.is_some() && who.cwd.is_some()),
        "variable or directory are missing: {who:?}"
    );
    Ok(())
}

fn killed(place: &Place) -> Outcome {
    let (written, created) = (place.path("written"), place.path("created"));
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&written)?;
    alice.write(fd)?;
    alice.create(&created)?;
    alice.kill()?;
    ensure_by(&written, &ALICE)?;
    ensure_by(&created, &ALICE)
}

fn closed_by_exec(place: &Place) -> Outcome {
    let (written, created) = (place.path("written"), place.path("created"));
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let actor = Actor::start(&ALICE)?;
    let fd = actor.open(&written, flags)?;
    actor.write(fd)?;
    actor.open(&created, flags)?;
    counting(STAMPED, || actor.execute("other", &BOB.variables()))?;
    ensure_by(&written, &ALICE)?;
    ensure_by(&created, &ALICE)
}

fn granularity(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let minute = Setting::set("ts_granularity_ms", "60000")?;
    counting(STAMPED, || alice.put(&path))?;
    let first = key(&path, "ts")?;
    sleep(Duration::from_millis(1100));
    counting(UNCHANGED, || alice.put(&path))?;
    ensure_eq!(key(&path, "ts")?, first, "ts");
    // Another one is recorded at once.
    counting(STAMPED, || Actor::start(&BOB)?.put(&path))?;
    counting(STAMPED, || alice.put(&path))?;
    drop(minute);

    let _none = Setting::set("ts_granularity_ms", "0")?;
    for _ in 0..3 {
        // The release may see that the write was later than the stamp, and make another.
        let ((), grown) = growth(|| alice.put(&path))?;
        ensure!(grown.get("stamped") >= 1, "{grown:?}");
        // Within a second that the first of them was not made in.
        sleep(Duration::from_millis(1100));
        let when = timed(|| alice.put(&path))?;
        ensure_ts(&path, &when)?;
    }
    Ok(())
}

fn refreshed(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&path)?;
    let first = timed(|| counting(STAMPED, || alice.write(fd)))?;
    // The same where the first write changed nothing about the record.
    let again = place.path("again");
    alice.put(&again)?;
    let other_fd = alice.open(&again, OFlags::WRONLY)?;
    counting(UNCHANGED, || alice.write(other_fd))?;

    sleep(Duration::from_millis(2500));
    let last = timed(|| counting(&[], || alice.write(fd)))?;
    let last_again = timed(|| counting(&[], || alice.write(other_fd)))?;
    ensure_ts(&path, &first)?;
    // The time is that of the write, not of the release.
    sleep(Duration::from_millis(2100));
    counting(STAMPED, || alice.close(fd))?;
    ensure_ts(&path, &last)?;
    ensure_by(&path, &ALICE)?;
    counting(STAMPED, || alice.close(other_fd))?;
    ensure_ts(&again, &last_again)?;
    ensure_by(&again, &ALICE)?;

    // Nothing to do for one that was written to at once.
    let fd = alice.create(place.path("other"))?;
    alice.write(fd)?;
    sleep(Duration::from_millis(1500));
    counting(&[], || alice.close(fd))
}

fn copied_record(place: &Place) -> Outcome {
    for (name, content) in [("full", "some bytes\n"), ("empty", "")] {
        let (from, to) = (place.path(name), place.path(format!("copy of {name}")));
        let alice = Actor::start(&ALICE)?;
        let fd = alice.create(&from)?;
        alice.ask(words!["write", fd, content])?;
        alice.close(fd)?;
        ensure_by(&from, &ALICE)?;
        let copy = |flags: &str| {
            let script = format!("cp {flags} '{}' '{}'", from.display(), to.display());
            crate::programs::shell(place, &BOB, &script)
        };
        copy("-a")?;
        ensure_by(&to, &BOB)?;
        fs::remove_file(&to)?;
        copy("--preserve=all")?;
        ensure_by(&to, &BOB)?;
        // Over what is there.
        copy("-a")?;
        ensure_by(&to, &BOB)?;
    }
    Ok(())
}

/// Changes an attribute of a record, as anybody can who may write to the file.
fn falsify(path: &Path, name: &str, value: &str) -> Outcome {
    Ok(rustix::fs::setxattr(
        path,
        name,
        value.as_bytes(),
        XattrFlags::empty(),
    )?)
}

fn changed_record(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    alice.put(&path)?;
    falsify(&path, "user.prov.session", "somebody else")?;
    counting(STAMPED, || alice.put(&path))?;
    ensure_by(&path, &ALICE)?;

    // While it is open, and nothing is written afterwards: the release restores it.
    let fd = alice.open(&path, OFlags::WRONLY)?;
    alice.write(fd)?;
    falsify(&path, "user.prov.tool", "something else")?;
    counting(STAMPED, || alice.close(fd))?;
    ensure_by(&path, &ALICE)?;

    // Other attributes are none of our business.
    rustix::fs::setxattr(&path, "user.provenance", b"x", XattrFlags::empty())?;
    counting(UNCHANGED, || alice.put(&path))?;
    let mut other = [0; 8];
    let len = rustix::fs::getxattr(&path, "user.provenance", &mut other[..])?;
    ensure_eq!(&other[..len], b"x", "another attribute");
    ensure_by(&path, &ALICE)
}

fn released_by_another(place: &Place) -> Outcome {
    let path = place.path("file");
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let _minute = Setting::set("ts_granularity_ms", "60000")?;
    alice.put(&path)?;
    let fd = alice.open(&path, OFlags::WRONLY)?;
    counting(UNCHANGED, || {
        alice.write(fd)?;
        alice.write(fd)
    })?;
    let in_bob = bob.take(alice.give(fd)?)?;
    counting(&[], || alice.close(fd))?;
    falsify(&path, "user.prov.session", "somebody else")?;
    counting(STAMPED, || bob.close(in_bob))?;
    ensure_by(&path, &ALICE)
}

fn removed_while_open(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&path)?;
    alice.write(fd)?;
    for name in attributes(&path)? {
        ensure_by(&path, &ALICE)?;
        rustix::fs::removexattr(&path, &*name)?;
        counting(STAMPED, || alice.write(fd))?;
        ensure_by(&path, &ALICE)?;
    }
    Ok(())
}

fn times(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&path)?;
    let when = timed(|| alice.write(fd))?;
    let before = fs::metadata(&path)?;
    ensure!(
        when.contains(&before.mtime()),
        "mtime is not that of the write"
    );
    sleep(Duration::from_millis(50));
    alice.close(fd)?;
    let after = fs::metadata(&path)?;
    let of = |meta: &fs::Metadata| {
        (
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        )
    };
    ensure_eq!(
        of(&before),
        of(&after),
        "mtime and ctime before and after close"
    );
    ensure!(seconds() >= after.ctime(), "ctime is in the future");
    ensure_by(&path, &ALICE)
}
