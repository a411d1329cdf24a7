//! Creating: the creator counts only as long as nobody has written.

use std::fs;

use rustix::fs::OFlags;

use crate::{
    actor::{Actor, words},
    fixture::{Outcome, Place, STAMPED, Setting, Test, counting, each, ensure, ensure_eq, timed},
    programs::shell,
    record::{ALICE, BOB, Who, ensure_at_work, ensure_by, ensure_none, ensure_ts, fallback, key},
};

pub(crate) const TESTS: &[Test] = &[
    each(
        "a file that is created and written to costs one stamp",
        one_stamp,
    ),
    each(
        "a file that stays empty names its creator at release",
        empty,
    ),
    each(
        "a file that need not be open for writing to be created",
        read_only,
    ),
    each(
        "created by one and written to by another, the other is named",
        written_by_another,
    ),
    each(
        "created by one and written to by another through another open file",
        written_elsewhere,
    ),
    each(
        "the shell that opens a file for a program is not named",
        shell_redirect,
    ),
    each("touch and an empty redirect name who they are", touch),
    each("opening a file that exists creates nothing", exists),
    each("a file created while recording is off", created_while_off),
    each("rename and hard link leave the record alone", renamed),
    each("directories, links and nodes have no record", no_files),
];

fn one_stamp(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = counting(&[], || alice.create(&path))?;
    ensure_none(&path)?;
    counting(STAMPED, || alice.write(fd))?;
    counting(&[], || alice.close(fd))?;
    ensure_by(&path, &ALICE)
}

fn empty(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&path, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR)?;
    ensure_none(&path)?;
    let when = timed(|| counting(STAMPED, || alice.close(fd)))?;
    ensure_by(&path, &ALICE)?;
    ensure_ts(&path, &(when.start() - 1..=*when.end()))
}

fn read_only(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&path, OFlags::CREATE | OFlags::RDONLY)?;
    counting(STAMPED, || alice.close(fd))?;
    ensure_by(&path, &ALICE)
}

fn written_by_another(place: &Place) -> Outcome {
    let path = place.path("file");
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let fd = alice.create(&path)?;
    let in_bob = bob.take(alice.give(fd)?)?;
    counting(STAMPED, || bob.write(in_bob))?;
    ensure_by(&path, &BOB)?;
    counting(&[], || bob.close(in_bob))?;
    counting(&[], || alice.close(fd))?;
    ensure_by(&path, &BOB)
}

fn written_elsewhere(place: &Place) -> Outcome {
    let path = place.path("file");
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let fd = alice.create(&path)?;
    counting(STAMPED, || bob.put(&path))?;
    counting(&[], || alice.close(fd))?;
    ensure_by(&path, &BOB)
}

fn shell_redirect(place: &Place) -> Outcome {
    let who = Who {
        tool: "cat",
        turn: None,
        intent: None,
        ..ALICE
    };
    let by_cat = |script: &str| {
        let path = place.path("f");
        let _ = fs::remove_file(&path);
        fs::write(place.path("x"), "some bytes\n")?;
        crate::programs::shell_with(place, &["PROV_SESSION=01KS9ABCDEFGHJKMNPQRSTVWXY"], script)?;
        ensure_by(&path, &who)
    };
    by_cat("cat x > f; :")?;
    by_cat("cat x > f")?;
    by_cat("cat < x | cat > f; :")?;
    by_cat("{ cat x; cat x; } > f; :")
}

fn touch(place: &Place) -> Outcome {
    shell(
        place,
        &ALICE,
        "touch touched; : > redirected; (:) > by-a-child",
    )?;
    for name in ["touched", "redirected", "by-a-child"] {
        ensure_by(place.path(name), &ALICE)?;
    }
    crate::programs::shell_with(
        place,
        &["PROV_SESSION=s"],
        "touch touched2; (:) > by-a-child2",
    )?;
    ensure_eq!(
        key(place.path("touched2"), "tool")?.as_deref(),
        Some("touch"),
        "tool"
    );
    ensure_eq!(
        key(place.path("by-a-child2"), "tool")?.as_deref(),
        Some("sh"),
        "tool"
    );
    crate::programs::shell_with(place, &[""; 0], "touch touched3")?;
    let who = fallback(place.path("touched3"))?;
    ensure_eq!(who.chain.first(), Some(&"touch".into()), "chain");
    Ok(())
}

fn exists(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let alice = Actor::start(&ALICE)?;
    let fd = counting(&[], || alice.create(&path))?;
    counting(&[], || alice.close(fd))?;
    let failed = alice.attempt(words![
        "open",
        &*path,
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY
    ])?;
    ensure!(failed.is_err(), "a file was created twice");
    ensure_none(&path)?;
    ensure_at_work(place, &alice, &ALICE)
}

fn created_while_off(place: &Place) -> Outcome {
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let off = Setting::set("enabled", "0")?;
    let fd = alice.create(&path)?;
    drop(off);
    counting(&[], || alice.close(fd))?;
    ensure_none(&path)?;
    // Created while it is on, and released while it is off.
    let other = place.path("other");
    let fd = alice.create(&other)?;
    let off = Setting::set("enabled", "0")?;
    counting(&[], || alice.close(fd))?;
    drop(off);
    ensure_none(&other)?;
    ensure_at_work(place, &alice, &ALICE)
}

fn renamed(place: &Place) -> Outcome {
    let (path, link, other) = (place.path("file"), place.path("link"), place.path("other"));
    let alice = Actor::start(&ALICE)?;
    alice.put(&path)?;
    counting(&[], || {
        fs::hard_link(&path, &link)?;
        fs::rename(&path, &other)?;
        Ok(())
    })?;
    ensure_by(&link, &ALICE)?;
    ensure_by(&other, &ALICE)?;
    counting(STAMPED, || Actor::start(&BOB)?.put(&link))?;
    ensure_by(&other, &BOB)
}

fn no_files(place: &Place) -> Outcome {
    counting(&[], || {
        shell(
            place,
            &ALICE,
            "mkdir d; ln -s nowhere l; mkfifo p; mknod c c 1 3; mknod b b 7 200; echo > c",
        )
    })?;
    for name in ["d", "c", "b", "p"] {
        ensure_none(place.path(name))?;
    }
    ensure_at_work(place, &Actor::start(&ALICE)?, &ALICE)
}
