//! Files that are replaced: editors that save by renaming keep the past.

use std::fs;

use rustix::{
    fs::{OFlags, RenameFlags},
    io::Errno,
};

use crate::{
    actor::{Actor, words},
    fixture::{
        INHERITED, Outcome, Place, STAMPED, Setting, Test, counting, each, ensure_eq, everywhere,
    },
    programs::{need, shell},
    record::{ALICE, BOB, CAROL, DAVE, Who, ensure_by, ensure_history, ensure_none},
};

pub(crate) const TESTS: &[Test] = &[
    everywhere("renaming over a file adds its sessions", over),
    everywhere(
        "where there is nothing to add, nothing is added",
        nothing_to_add,
    ),
    everywhere("names that change places change nothing else", exchange),
    everywhere("a rename that is refused changes nothing", refused),
    everywhere(
        "a file that is open while it takes another's place",
        open_meanwhile,
    ),
    everywhere("renaming a file away and making it anew", away_and_anew),
    each("what is renamed away is forgotten in time", forgotten),
    each("editors keep the past", editors),
];

/// Writes a new file.
fn file(place: &Place, name: &str, writers: &[Who]) -> Outcome<std::path::PathBuf> {
    let path = place.path(name);
    let _ = fs::remove_file(&path);
    for who in writers {
        Actor::start(who)?.put(&path)?;
    }
    Ok(path)
}

fn over(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    // Writers of the file that is renamed and of the one that it replaces, oldest first, and the sessions afterwards.
    let cases: &[(&[Who], &[Who], &[Who])] = &[
        (&[ALICE], &[BOB], &[ALICE, BOB]),
        (&[ALICE], &[CAROL, BOB], &[ALICE, BOB, CAROL]),
        (&[DAVE, ALICE], &[BOB], &[ALICE, DAVE, BOB]),
        (&[DAVE, ALICE], &[ALICE, BOB], &[ALICE, DAVE, BOB]),
        (&[ALICE], &[BOB, ALICE], &[ALICE, BOB]),
    ];
    for (new, old, expected) in cases {
        let target = file(place, "replaced", old)?;
        let source = file(place, "source", new)?;
        counting(INHERITED, || alice.rename(&source, &target))?;
        let sessions: Vec<_> = expected.iter().map(|who| who.session).collect();
        ensure_by(&target, new.last().unwrap_or(&ALICE))?;
        ensure_history(&target, &sessions)?;
    }
    // Both were last written to by the very process that renames, which knows what it wrote.
    for new in [&[][..], &[DAVE]] {
        let target = file(place, "replaced", &[BOB])?;
        let source = file(place, "source", new)?;
        alice.put(&target)?;
        alice.put(&source)?;
        counting(INHERITED, || alice.rename(&source, &target))?;
        let mut sessions = vec![ALICE.session];
        sessions.extend(new.iter().chain(&[BOB]).map(|who| who.session));
        ensure_history(&target, &sessions)?;
    }
    // From another directory, and at most as many as the setting allows.
    let _two = Setting::set("history", "2")?;
    place.directory("directory")?;
    let target = file(place, "replaced", &[CAROL, BOB])?;
    let source = file(place, "directory/source", &[ALICE])?;
    counting(INHERITED, || alice.rename(&source, &target))?;
    ensure_by(&target, &ALICE)?;
    ensure_history(&target, &[ALICE.session, BOB.session])
}

fn nothing_to_add(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    let rename = |source: &str, target: &str| {
        counting(&[], || alice.rename(place.path(source), place.path(target)))
    };
    // The same session.
    file(place, "replaced", &[ALICE])?;
    file(place, "source", &[ALICE])?;
    rename("source", "replaced")?;
    ensure_by(place.path("replaced"), &ALICE)?;
    ensure_history(place.path("replaced"), &[])?;
    // Nobody there, and nobody known to have been there.
    file(place, "source", &[ALICE])?;
    rename("source", "missing")?;
    ensure_history(place.path("missing"), &[])?;
    place.unstamped("replaced")?;
    file(place, "source", &[ALICE])?;
    rename("source", "replaced")?;
    ensure_by(place.path("replaced"), &ALICE)?;
    ensure_history(place.path("replaced"), &[])?;
    // Nobody known to have written the new one: it does not become the work of others.
    file(place, "replaced", &[BOB])?;
    place.unstamped("source")?;
    rename("source", "replaced")?;
    ensure_none(place.path("replaced"))?;
    // Two names of one file.
    let target = file(place, "replaced", &[CAROL, BOB])?;
    fs::hard_link(&target, place.path("link"))?;
    rename("link", "replaced")?;
    ensure_history(&target, &[BOB.session, CAROL.session])?;
    // One of several names is replaced: the file is still there.
    let target = file(place, "replaced", &[BOB])?;
    let link = place.path("other");
    fs::hard_link(&target, &link)?;
    file(place, "source", &[ALICE])?;
    counting(INHERITED, || alice.rename(place.path("source"), &target))?;
    ensure_history(&target, &[ALICE.session, BOB.session])?;
    ensure_by(&link, &BOB)?;
    ensure_history(&link, &[])?;
    // While recording is off, or histories are.
    for (setting, value) in [("enabled", "0"), ("history", "1"), ("history", "0")] {
        file(place, "replaced", &[BOB])?;
        file(place, "source", &[ALICE])?;
        let _guard = Setting::set(setting, value)?;
        rename("source", "replaced")?;
        ensure_by(place.path("replaced"), &ALICE)?;
        ensure_history(place.path("replaced"), &[])?;
    }
    Ok(())
}

fn exchange(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    let (one, other) = (file(place, "one", &[ALICE])?, file(place, "other", &[BOB])?);
    let flags = i64::from(RenameFlags::EXCHANGE.bits());
    let exchange = words!["rename", &*one, &*other, flags];
    counting(&[], || alice.ask(exchange))?;
    ensure_by(&one, &BOB)?;
    ensure_by(&other, &ALICE)?;
    ensure_history(&one, &[])?;
    ensure_history(&other, &[])?;
    // The next one that is no exchange is again what it was.
    counting(INHERITED, || alice.rename(&other, &one))?;
    ensure_history(&one, &[ALICE.session, BOB.session])
}

fn refused(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    let user = Actor::start(&CAROL)?;
    user.ask(words!["set user", 1000])?;
    let (closed, sticky) = (place.directory("closed")?, place.directory("sticky")?);
    for dir in ["closed", "sticky"] {
        file(place, &format!("{dir}/replaced"), &[BOB])?;
        file(place, &format!("{dir}/source"), &[ALICE])?;
    }
    let mode = |mode| <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
    fs::set_permissions(&closed, mode(0o755))?;
    fs::set_permissions(&sticky, mode(0o1777))?;
    let no_replace = i64::from(RenameFlags::NOREPLACE.bits());
    let attempts = [
        (&user, &closed, 0, Errno::ACCESS),
        (&user, &sticky, 0, Errno::PERM),
        (&alice, &closed, no_replace, Errno::EXIST),
    ];
    for (actor, dir, flags, errno) in attempts {
        let (source, target) = (dir.join("source"), dir.join("replaced"));
        let attempt = words!["rename", &*source, &*target, flags];
        let result = counting(&[], || actor.attempt(attempt))?;
        ensure_eq!(result, Err(errno), "in {}", dir.display());
        ensure_by(&source, &ALICE)?;
        ensure_by(&target, &BOB)?;
        ensure_history(&source, &[])?;
        ensure_history(&target, &[])?;
    }
    Ok(())
}

fn open_meanwhile(place: &Place) -> Outcome {
    let _patience = Setting::set("ts_granularity_ms", "60000")?;
    let target = file(place, "replaced", &[BOB])?;
    let source = place.path("source");
    let (alice, carol) = (Actor::start(&ALICE)?, Actor::start(&CAROL)?);
    let fd = alice.create(&source)?;
    alice.write(fd)?;
    counting(INHERITED, || alice.rename(&source, &target))?;
    ensure_history(&target, &[ALICE.session, BOB.session])?;
    // It goes on writing, and it is still the same modification.
    counting(&[], || alice.write(fd))?;
    counting(&[], || alice.close(fd))?;
    ensure_by(&target, &ALICE)?;
    ensure_history(&target, &[ALICE.session, BOB.session])?;
    counting(STAMPED, || carol.put(&target))?;
    ensure_history(&target, &[CAROL.session, ALICE.session, BOB.session])?;

    // Empty when it takes the place, written to only then.
    let fd = alice.create(&source)?;
    counting(&[], || alice.rename(&source, &target))?;
    counting(STAMPED, || alice.write(fd))?;
    alice.close(fd)?;
    ensure_by(&target, &ALICE)
}

fn away_and_anew(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    let backup = place.path("file~");
    // Written to, and left empty.
    for write in [true, false] {
        let path = file(place, "file", &[CAROL, BOB])?;
        counting(&[], || alice.rename(&path, &backup))?;
        let fd = counting(&[], || alice.create(&path))?;
        if write {
            counting(STAMPED, || alice.write(fd))?;
            counting(&[], || alice.close(fd))?;
        } else {
            counting(STAMPED, || alice.close(fd))?;
        }
        ensure_by(&path, &ALICE)?;
        ensure_history(&path, &[ALICE.session, BOB.session, CAROL.session])?;
        // The old one is what it was.
        ensure_by(&backup, &BOB)?;
        ensure_history(&backup, &[BOB.session, CAROL.session])?;
    }
    // By the one who has just written to it.
    let path = file(place, "file", &[BOB])?;
    alice.put(&path)?;
    alice.rename(&path, &backup)?;
    alice.put(&path)?;
    ensure_history(&path, &[ALICE.session, BOB.session])?;
    // By mknod(2).
    let path = file(place, "file", &[BOB])?;
    alice.rename(&path, &backup)?;
    counting(STAMPED, || alice.ask(words!["make node", &*path]))?;
    ensure_by(&path, &ALICE)?;
    ensure_history(&path, &[ALICE.session, BOB.session])
}

fn forgotten(place: &Place) -> Outcome {
    let (alice, other) = (Actor::start(&ALICE)?, Actor::start(&DAVE)?);
    let (backup, elsewhere) = (place.path("file~"), place.path("elsewhere"));
    let path = file(place, "file", &[BOB])?;
    // Another name, another directory.
    alice.rename(&path, &backup)?;
    alice.put(&elsewhere)?;
    ensure_history(&elsewhere, &[])?;
    place.directory("directory")?;
    alice.put(place.path("directory/file"))?;
    ensure_history(place.path("directory/file"), &[])?;
    // Somebody else.
    other.put(&path)?;
    ensure_by(&path, &DAVE)?;
    ensure_history(&path, &[])?;
    // Once only.
    fs::remove_file(&path)?;
    alice.put(&path)?;
    ensure_history(&path, &[ALICE.session, BOB.session])?;
    fs::remove_file(&path)?;
    alice.put(&path)?;
    ensure_history(&path, &[])?;
    // Another program in the same process.
    let path = file(place, "file", &[BOB])?;
    alice.rename(&path, &backup)?;
    alice.execute("other", &CAROL.variables())?;
    alice.put(&path)?;
    ensure_by(&path, &CAROL)?;
    ensure_history(&path, &[])?;
    // A file that nobody is known to have written leaves nothing to inherit, nor what came before it.
    let path = file(place, "file", &[BOB])?;
    alice.rename(&path, &backup)?;
    place.unstamped("plain")?;
    alice.rename(place.path("plain"), place.path("plain~"))?;
    alice.put(&path)?;
    ensure_history(&path, &[])
}

fn editors(place: &Place) -> Outcome {
    let path = place.path("file");
    let as_vim = |options: &str| {
        format!("vim -es -u NONE -i NONE -c '{options}' -c '1s/o/0/' -c wq file < /dev/null")
    };
    let mut saves = vec![
        ("mv", "echo new > tmp; mv tmp file".to_owned()),
        ("sed -i", "sed -i s/o/0/ file".to_owned()),
        (
            "write, sync and rename",
            "cp file tmp; echo more >> tmp; sync tmp; mv -f tmp file".to_owned(),
        ),
        ("install", "echo new > tmp; install tmp file".to_owned()),
        ("ed style: write in place", "echo new > file".to_owned()),
    ];
    if need("vim").is_ok() {
        saves.push(("vim", as_vim("set nobackup")));
        saves.push(("vim, by renaming", as_vim("set backupcopy=no writebackup")));
        saves.push(("vim, by copying", as_vim("set backupcopy=yes")));
        saves.push(("vim, with a backup", as_vim("set backup backupcopy=no")));
    }
    for (name, script) in saves {
        file(place, "file", &[BOB])?;
        {
            let _off = Setting::set("enabled", "0")?;
            fs::write(&path, "one\ntwo\n")?;
        }
        shell(place, &ALICE, &script)?;
        let saved = (|| {
            ensure_by(&path, &ALICE)?;
            // install(1) unlinks the file first, and there is nothing left of it.
            let past: &[&str] = match name {
                "install" => &[],
                _ => &[ALICE.session, BOB.session],
            };
            ensure_history(&path, past)
        })();
        saved.map_err(|stop| crate::fixture::Stop::Failed(format!("{name}: {stop:?}")))?;
    }
    // What opens for appending only, or only looks, is not a save.
    let fd = Actor::start(&CAROL)?.open(&path, OFlags::WRONLY | OFlags::APPEND)?;
    let _ = fd;
    ensure_by(&path, &ALICE)
}
