//! `lock`: a process that is supervised cannot disown its session, nor borrow another one.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rustix::{fs::OFlags, io::Errno, thread::UnshareFlags};

use crate::{
    actor::{Actor, words},
    fixture::{
        OWN, Outcome, Place, STAMPED, Test, counting, each, ensure, ensure_eq, once, program,
    },
    record::{ALICE, BOB, CAROL, Who, ensure_by, fallback, key},
};

pub(crate) const TESTS: &[Test] = &[
    once(
        "a process that is locked cannot declare another session",
        declared_later,
    ),
    once("a lock and a session in one declaration", at_once),
    each("a program that it executes keeps the session", executed),
    once("another user keeps the session", other_user),
    once("children of all kinds keep the session", children),
    once("other name spaces and roots keep the session", name_spaces),
    once("a lock without a session", without_session),
    once(
        "a process with several threads cannot be locked",
        several_threads,
    ),
    once("it cannot make others work for it", others),
];

/// Somebody who is locked to ALICE's session.
fn locked() -> Outcome<Actor> {
    let actor = Actor::start(&ALICE)?;
    actor.declare("lock")?;
    Ok(actor)
}

/// Fails unless what an actor writes is of ALICE's session.
#[track_caller]
fn ensure_alice(place: &Place, actor: &Actor) -> Outcome {
    let path = place.path(format!("by-{}", actor.pid()));
    let _ = fs::remove_file(&path);
    counting(STAMPED, || actor.put(&path))?;
    ensure_session(&path)
}

#[track_caller]
fn ensure_session(path: &PathBuf) -> Outcome {
    let session = key(path, "session")?;
    let caller = std::panic::Location::caller();
    ensure_eq!(session.as_deref(), Some(ALICE.session), "{caller}: session");
    Ok(())
}

/// Fails unless it is refused to declare a session.
#[track_caller]
fn ensure_refused(actor: &Actor) -> Outcome {
    let caller = std::panic::Location::caller();
    let before = actor.own()?;
    ensure!(
        before.ends_with("\nlocked=1\n"),
        "{caller}: it is told {before}"
    );
    for message in [
        "session=evil",
        "session=",
        "tool=x\nsession=evil",
        "session=evil\nlock",
    ] {
        let result = actor.attempt(words!["declare", message])?;
        ensure_eq!(result, Err(Errno::PERM), "{caller}: {message:?}");
    }
    ensure_eq!(actor.own()?, before, "{caller}: what it is told");
    Ok(())
}

fn declared_later(place: &Place) -> Outcome {
    let actor = locked()?;
    ensure_refused(&actor)?;
    ensure_alice(place, &actor)?;
    // The rest is not fixed, and to say it again is no harm.
    actor.declare("tool=hammer\nturn=\nintent=other")?;
    actor.declare("lock")?;
    let path = place.path("file");
    counting(STAMPED, || actor.put(&path))?;
    let who = Who {
        session: ALICE.session,
        tool: "hammer",
        turn: None,
        intent: Some("other"),
    };
    ensure_by(&path, &who)?;
    ensure_refused(&actor)?;
    // Others are not locked.
    let other = Actor::start(&BOB)?;
    ensure!(
        other.own()?.ends_with("\nlocked=0\n"),
        "another one is locked"
    );
    other.declare("session=other")
}

fn at_once(place: &Place) -> Outcome {
    let actor = Actor::start(&BOB)?;
    actor.declare(format!("session={}\nlock\n", ALICE.session))?;
    ensure_refused(&actor)?;
    ensure_alice(place, &actor)?;
    actor.execute("other", &CAROL.variables())?;
    ensure_alice(place, &actor)
}

fn executed(place: &Place) -> Outcome {
    let actor = locked()?;
    let path = place.path("file");
    for who in [BOB, CAROL] {
        actor.execute("other", &who.variables())?;
        counting(STAMPED, || actor.put(&path))?;
        // All but the session is what the new program declares.
        ensure_by(
            &path,
            &Who {
                session: ALICE.session,
                ..who
            },
        )?;
        ensure_refused(&actor)?;
    }
    actor.execute("nobody", &[""; 0])?;
    ensure_alice(place, &actor)?;
    for name in ["CLAUDE_SESSION", "AGENTNS_SESSION_ID", "AGORABUS_SID"] {
        actor.execute("other", &[format!("{name}=evil")])?;
        ensure_alice(place, &actor)?;
    }
    ensure_refused(&actor)
}

fn other_user(place: &Place) -> Outcome {
    let actor = locked()?;
    // A program that gets the rights of its owner.
    let binary = place.path("suid");
    fs::copy(program(OWN), &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o4755))?;
    actor.ask(words!["set user", 1000])?;
    ensure_alice(place, &actor)?;
    ensure_refused(&actor)?;
    let binary = binary.to_str().unwrap_or_default();
    let child = actor.spawn(binary, &BOB.variables())?;
    ensure_alice(place, &child)?;
    child.ask(words!["set user", 0])?;
    ensure_refused(&child)
}

fn children(place: &Place) -> Outcome {
    let actor = locked()?;
    let child = actor.fork()?;
    ensure_alice(place, &child)?;
    ensure_refused(&child)?;
    let grandchild = child.spawn("grandchild", &BOB.variables())?;
    ensure_alice(place, &grandchild)?;
    ensure_refused(&grandchild)?;
    // One whose parents are gone.
    child.exit()?;
    ensure_alice(place, &grandchild)?;
    actor.ask(words!["change directory", &*place.dir])?;
    let scripts = [
        ("run", "echo x > one"),
        ("run in a thread", "echo x > one"),
        ("run", "setsid sh -c 'echo x > one'"),
        ("run", "(cat /proc/self/comm > one) & wait"),
        (
            "run",
            "echo session=evil 2>/dev/null > /sys/kernel/security/provfs/self; echo x > one",
        ),
        ("run", "env -i PROV_SESSION=evil sh -c 'echo x > one'"),
        ("run", "exec -a evil sh -c 'echo x > one'"),
        ("run", "nohup sh -c 'echo x > one' > /dev/null 2>&1"),
        ("run", "echo x | xargs touch one"),
    ];
    for (how, script) in scripts {
        let path = place.path("one");
        let _ = fs::remove_file(&path);
        actor.ask(words![how, script, "PROV_SESSION", "evil"])?;
        if !path.exists() && script.starts_with("exec -a") {
            // Not every shell can.
            continue;
        }
        ensure_session(&path)
            .map_err(|stop| crate::fixture::Stop::Failed(format!("{how}: {script}: {stop:?}")))?;
    }
    let path = place.path("by threads");
    let fd = actor.create(&path)?;
    actor.ask(words!["write in threads", fd, 2, 2])?;
    ensure_session(&path)
}

fn name_spaces(place: &Place) -> Outcome {
    let actor = locked()?;
    let all = UnshareFlags::NEWNS
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWCGROUP;
    for flags in [all, UnshareFlags::NEWPID, UnshareFlags::NEWUSER] {
        let child = actor.fork()?;
        // Some kinds may be missing.
        match child.attempt(words!["unshare", i64::from(flags.bits())])? {
            Ok(_) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        ensure_alice(place, &child)?;
        ensure_refused(&child)?;
        let grandchild = child.spawn("grandchild", &BOB.variables())?;
        ensure_alice(place, &grandchild)?;
        ensure_refused(&grandchild)?;
    }
    // Where somebody else is.
    let other = Actor::start(&BOB)?;
    other.ask(words!["unshare", i64::from(UnshareFlags::NEWNS.bits())])?;
    let child = actor.fork()?;
    let name_space = format!("/proc/{}/ns/mnt", other.pid());
    child.ask(words!["enter", &*name_space])?;
    ensure_alice(place, &child)?;
    ensure_refused(&child)?;

    let root = place.directory("root")?;
    let child = actor.fork()?;
    child.ask(words!["change root", &*root])?;
    child.put("/file")?;
    ensure_session(&root.join("file"))
}

fn without_session(place: &Place) -> Outcome {
    let actor = Actor::program("nobody", &[""; 0])?;
    actor.declare("lock")?;
    ensure_refused(&actor)?;
    let path = place.path("file");
    actor.put(&path)?;
    fallback(&path)?;
    // It cannot take one from its environment, either.
    actor.execute("other", &BOB.variables())?;
    ensure_refused(&actor)?;
    let path = place.path("later");
    actor.put(&path)?;
    ensure_eq!(
        fallback(&path)?.chain.first(),
        Some(&"other".into()),
        "program"
    );
    Ok(())
}

fn several_threads(place: &Place) -> Outcome {
    let actor = Actor::start(&BOB)?;
    let before = actor.own()?;
    for message in [
        "lock".to_owned(),
        format!("session={}\nlock", ALICE.session),
    ] {
        let result = actor.attempt(words!["declare beside a thread", &*message])?;
        ensure_eq!(result, Err(Errno::BUSY), "{message:?}");
        ensure_eq!(actor.own()?, before, "what it is told");
    }
    // A thread may declare for itself, and a lone one be locked.
    actor.ask(words!["declare beside a thread", "turn=1"])?;
    actor.declare(format!("session={}\nlock", ALICE.session))?;
    ensure_refused(&actor)?;
    // One that is locked already has no other way.
    let result = actor.attempt(words!["declare beside a thread", "session=evil"])?;
    ensure_eq!(result, Err(Errno::PERM), "result");
    ensure_alice(place, &actor)
}

fn others(place: &Place) -> Outcome {
    let (actor, victim) = (locked()?, Actor::start(&BOB)?);
    let path = place.path("file");
    let fd = victim.create(&path)?;
    let number = i64::from(victim.pid());
    ensure_eq!(
        actor.attempt(words!["trace", number])?,
        Err(Errno::PERM),
        "tracing another process"
    );
    ensure_eq!(
        actor.attempt(words!["poke", number])?,
        Err(Errno::PERM),
        "writing to its memory"
    );
    let memory = format!("/proc/{number}/mem");
    let opened = actor.attempt(words!["open", &*memory, OFlags::RDWR])?;
    ensure!(
        matches!(opened, Err(Errno::ACCESS | Errno::PERM)),
        "opening its memory: {opened:?}"
    );
    let raw = victim.ask(words!["duplicate", fd])?;
    ensure_eq!(
        actor.attempt(words!["steal", number, raw])?,
        Err(Errno::PERM),
        "taking its descriptor"
    );
    // One that is locked by itself is another one.
    let other = locked()?;
    let result = actor.attempt(words!["trace", i64::from(other.pid())])?;
    ensure_eq!(
        result,
        Err(Errno::PERM),
        "tracing one with a lock of its own"
    );
    // Its own children it may, and others may it.
    let child = actor.spawn("child", &BOB.variables())?;
    let number = i64::from(child.pid());
    ensure_eq!(
        actor.attempt(words!["poke", number])?,
        Err(Errno::FAULT),
        "memory of a child"
    );
    ensure_eq!(
        actor.attempt(words!["trace", number])?,
        Ok(0),
        "tracing a child"
    );
    let number = i64::from(actor.pid());
    ensure_eq!(
        victim.attempt(words!["trace", number])?,
        Ok(0),
        "tracing one that is locked"
    );
    Ok(())
}
