//! The history of a file: who wrote it before.

use std::{fs, path::Path};

use provfs::{Session, Value};
use rustix::fs::OFlags;

use crate::{
    actor::{Actor, words},
    fixture::{
        Outcome, Place, STAMPED, Setting, Stop, Test, counting, each, ensure, ensure_eq, once,
    },
    programs::{need, shell},
    record::{
        ALICE, BOB, CAROL, DAVE, ensure_by, ensure_contained, ensure_history, fields, is_packed,
        key, read,
    },
};

pub(crate) const TESTS: &[Test] = &[
    each("each session once, the newest first", newest_first),
    each("as many sessions as the setting allows", limits),
    once("a program by one user is one entry", fallback_sessions),
    once("sessions of any bytes are entries like others", escaping),
    once("as many long sessions as there is room for", long_sessions),
    each(
        "a copy names who copied, and then the sessions of the source",
        copies,
    ),
    each(
        "a record that somebody has made up is kept as it is",
        made_up,
    ),
];

fn newest_first(place: &Place) -> Outcome {
    let path = place.path("file");
    let [alice, bob, carol, dave] = [ALICE, BOB, CAROL, DAVE].map(|who| Actor::start(&who));
    let (alice, bob, carol, dave) = (alice?, bob?, carol?, dave?);
    let steps = [
        (&alice, vec![ALICE]),
        (&bob, vec![BOB, ALICE]),
        (&carol, vec![CAROL, BOB, ALICE]),
        (&alice, vec![ALICE, CAROL, BOB]),
        (&bob, vec![BOB, ALICE, CAROL]),
        (&dave, vec![DAVE, BOB, ALICE, CAROL]),
        (&carol, vec![CAROL, DAVE, BOB, ALICE]),
    ];
    for (actor, expected) in &steps {
        counting(STAMPED, || actor.put(&path))?;
        let sessions: Vec<_> = expected.iter().map(|who| who.session).collect();
        ensure_by(&path, &expected[0])?;
        ensure_history(&path, &sessions)?;
    }
    // The same through one open file, which is looked at anew each time.
    let file = fs::File::options().write(true).open(&path)?;
    let (in_alice, in_dave) = (alice.take(&file)?, dave.take(&file)?);
    counting(STAMPED, || dave.write(in_dave))?;
    counting(STAMPED, || alice.write(in_alice))?;
    ensure_by(&path, &ALICE)?;
    let sessions = [ALICE, DAVE, CAROL, BOB].map(|who| who.session);
    ensure_history(&path, &sessions)
}

/// Lets an actor write as somebody else each time.
fn write_as(actor: &Actor, path: &Path, sessions: &[String]) -> Outcome {
    for session in sessions {
        actor.declare(format!("session={session}"))?;
        counting(STAMPED, || actor.put(path))?;
    }
    Ok(())
}

/// Fails unless these are the sessions of a file, the newest last.
fn ensure_ends(path: &Path, sessions: &[String], count: usize) -> Outcome {
    let newest: Vec<_> = sessions.iter().rev().take(count).map(|s| &**s).collect();
    ensure_history(path, &newest)
}

fn limits(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::start(&ALICE)?;
    let mut sessions: Vec<_> = (0..40).map(|number| format!("s{number}")).collect();
    let most = Setting::set("history", "32")?;
    write_as(&actor, &path, &sessions)?;
    ensure_ends(&path, &sessions, 32)?;
    for (limit, kept) in [("31", 31), ("5", 5), ("2", 2)] {
        let _limit = Setting::set("history", limit)?;
        // What is there stays until the next record.
        let before = key(&path, "history")?;
        sessions.push(format!("at-most-{limit}"));
        write_as(&actor, &path, &sessions[sessions.len() - 1..])?;
        ensure!(key(&path, "history")? != before, "the history is the same");
        ensure_ends(&path, &sessions, kept)?;
    }
    // With more room, it grows again.
    sessions.push("more".to_owned());
    write_as(&actor, &path, &sessions[sessions.len() - 1..])?;
    ensure_ends(&path, &sessions, 3)?;
    for limit in ["1", "0"] {
        let _limit = Setting::set("history", limit)?;
        let other = [format!("none-with-{limit}"), format!("nor-with-{limit}")];
        write_as(&actor, &path, &other)?;
        ensure_history(&path, &[])?;
        sessions.extend(other);
    }
    // One that begins again knows who wrote last.
    sessions.push("again".to_owned());
    write_as(&actor, &path, &sessions[sessions.len() - 1..])?;
    ensure_ends(&path, &sessions, 2)?;
    drop(most);
    write_as(&actor, &path, &sessions[..8])?;
    ensure_ends(&path, &sessions[..8], 5)
}

fn fallback_sessions(place: &Place) -> Outcome {
    let path = place.path("file");
    let tool = || Actor::program("tool", &[""; 0]);
    for _ in 0..3 {
        counting(STAMPED, || tool()?.put(&path))?;
        ensure_history(&path, &[])?;
    }
    Actor::start(&ALICE)?.put(&path)?;
    ensure_history(&path, &[ALICE.session, "comm:tool:uid:0"])?;
    for _ in 0..3 {
        tool()?.put(&path)?;
        ensure_history(&path, &["comm:tool:uid:0", ALICE.session])?;
    }
    // Another program, another user.
    Actor::program("tool2", &[""; 0])?.put(&path)?;
    ensure_history(
        &path,
        &["comm:tool2:uid:0", "comm:tool:uid:0", ALICE.session],
    )?;
    let user = tool()?;
    let fd = user.open(&path, OFlags::WRONLY)?;
    user.ask(words!["set user", 1000])?;
    user.write(fd)?;
    ensure_history(
        &path,
        &[
            "comm:tool:uid:1000",
            "comm:tool2:uid:0",
            "comm:tool:uid:0",
            ALICE.session,
        ],
    )?;
    // Variable, directory and parents are no part of it.
    let parent = Actor::program("parent", &[""; 0])?;
    parent.ask(words!["change directory", &*place.dir])?;
    parent.spawn("tool", &["PROV_TURN=1"])?.put(&path)?;
    ensure_history(
        &path,
        &[
            "comm:tool:uid:0",
            "comm:tool:uid:1000",
            "comm:tool2:uid:0",
            ALICE.session,
        ],
    )
}

fn escaping(place: &Place) -> Outcome {
    let path = place.path("file");
    let _most = Setting::set("history", "32")?;
    // Every byte that a declaration can have, each next to separators.
    let bytes: Vec<u8> = (1..=255).collect();
    let values: Vec<_> = bytes
        .chunks(40)
        .map(|chunk| [b",", chunk, b";h=evil,comm:x"].concat())
        .collect();
    for value in &values {
        let variable = [b"PROV_SESSION=", &value[..]].concat();
        Actor::program("actor", &[variable])?.put(&path)?;
        for (key, value) in fields(&path)? {
            if key == "history" {
                value
                    .split(|&byte| byte == b',')
                    .try_for_each(|entry| ensure_contained("an entry", entry))?;
            } else {
                ensure_contained(&key, &value)?;
            }
        }
    }
    // Blanks around a value are no part of a session in a history.
    let expected: Vec<_> = values
        .iter()
        .rev()
        .map(|value| Session::Declared(Value::from(&value[..])))
        .collect();
    ensure_eq!(read(&path)?.history, expected, "history");

    let name = "a:uid:1,b%;>";
    Actor::program(name, &[""; 0])?.put(&path)?;
    Actor::start(&ALICE)?.put(&path)?;
    let history = read(&path)?.history;
    let entry = history.get(1);
    ensure_eq!(
        entry.and_then(Session::comm),
        Some(&Value::from(name)),
        "comm of {entry:?}"
    );
    ensure_eq!(
        (entry.and_then(Session::uid), history.len()),
        (Some(0), values.len() + 2),
        "user of {entry:?}, and sessions"
    );
    Ok(())
}

fn long_sessions(place: &Place) -> Outcome {
    const ROOM: usize = provfs::pure::limits::HISTORY_TEXT_MAX;

    let _most = Setting::set("history", "32")?;
    let actor = Actor::start(&ALICE)?;
    for length in [256, 200, 100, 60] {
        let path = place.path(format!("{length}"));
        let sessions: Vec<_> = (0..40).map(|number| format!("{number:0length$}")).collect();
        write_as(&actor, &path, &sessions)?;
        // As many as fit with their commas, and whole ones.
        ensure_ends(&path, &sessions, ((ROOM + 1) / (length + 1)).min(32))?;
    }
    Ok(())
}

fn copies(place: &Place) -> Outcome {
    let from = place.path("from");
    let to = place.path("to");
    for (who, sessions) in [
        (DAVE, vec![DAVE.session]),
        (ALICE, vec![ALICE.session, DAVE.session]),
    ] {
        Actor::start(&who)?.put(&from)?;
        ensure_history(&from, &sessions)?;
        let expected = [&[BOB.session][..], &sessions].concat();
        let ways = [
            "cp -a from to",
            "cp --preserve=xattr from to",
            "tar --xattrs --xattrs-include='user.*' -cf - from | \
             tar --xattrs --xattrs-include='user.*' --transform=s/from/to/ -xf -",
        ];
        for way in ways {
            shell(place, &BOB, way)?;
            ensure_by(&to, &BOB)
                .and_then(|()| ensure_history(&to, &expected))
                .map_err(|stop| Stop::Failed(format!("{way}: {stop:?}")))?;
            fs::remove_file(&to)?;
        }
        if need("rsync").is_ok() {
            // It sets attributes by name when the file is closed, as who restores a backup does.
            shell(place, &BOB, "rsync -X from to")?;
            ensure_by(&to, &who)?;
            ensure_history(&to, &sessions)?;
            fs::remove_file(&to)?;
        }
        // The source is what it was.
        ensure_by(&from, &who)?;
        ensure_history(&from, &sessions)?;
        // Over a file with a past of its own: that follows, unless the source has a history, which takes its place. So
        // does a packed record, which is one attribute with the history in it.
        Actor::start(&CAROL)?.put(&to)?;
        shell(place, &BOB, "cp -a from to")?;
        ensure_by(&to, &BOB)?;
        let mut expected = expected;
        if sessions.len() == 1 && !is_packed()? {
            expected.push(CAROL.session);
        }
        ensure_history(&to, &expected)?;
        fs::remove_file(&to)?;
    }
    Ok(())
}

fn made_up(place: &Place) -> Outcome {
    let path = place.path("file");
    let set = |name: &str, value: &[u8]| -> Outcome {
        let flags = rustix::fs::XattrFlags::empty();
        Ok(rustix::fs::setxattr(&path, name, value, flags)?)
    };
    let alice = Actor::start(&ALICE)?;
    // What earlier writers left, and what never was a session.
    let cases: &[(&[u8], &[u8], &[&str])] = &[
        (b"old", b"older, oldest", &["old", "older", "oldest"]),
        (b"comm:vi:pid:7:uid:8", b"", &["comm:vi:uid:8"]),
        (
            b"comm-chain:cc>make;cwd:/;pid:9;uid:10",
            b"",
            &["comm:cc:uid:10"],
        ),
        (b"a,b;c", b"", &["a%2Cb%3Bc"]),
        (b"same", b"same,same,same", &["same"]),
        (b"x", b",,,y,,", &["x", "y"]),
    ];
    for (session, history, expected) in cases {
        let _ = fs::remove_file(&path);
        {
            let _off = Setting::set("enabled", "0")?;
            fs::write(&path, "some bytes\n")?;
        }
        set("user.prov.session", session)?;
        set("user.prov.history", history)?;
        counting(STAMPED, || alice.put(&path))?;
        ensure_by(&path, &ALICE)?;
        ensure_history(&path, &[&[ALICE.session][..], expected].concat())?;
    }
    Ok(())
}
