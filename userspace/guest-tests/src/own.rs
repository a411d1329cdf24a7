//! `/sys/kernel/security/provfs/self`: what a process is told about itself, and tells.

use std::{fs, os::unix::fs::PermissionsExt};

use rustix::{fs::OFlags, io::Errno};

use crate::{
    actor::{Actor, OWN, words},
    fixture::{Outcome, Place, STAMPED, Setting, Test, UNCHANGED, counting, each, ensure_eq, once},
    record::{ALICE, BOB, CAROL, Who, ensure_by, ensure_history, fallback, key},
};

/// Writing to the file is a modification of it, in a place that is skipped.
const DECLARED: &[(&str, i64)] = &[("modifications", 1), ("skipped.path", 1)];

pub(crate) const TESTS: &[Test] = &[
    once("what a process is told", told),
    once("what a process tells is in force at once", at_once),
    once("an empty value takes a declaration back", taken_back),
    once("a bad declaration changes nothing", bad),
    once(
        "what is declared goes before the environment",
        before_environment,
    ),
    once("only the thread that declares changes", threads),
    once("values of any bytes", any_bytes),
    once("what is too long for a field is cut", cut),
    each("one process, several sessions, one file", several_sessions),
];

fn told(_: &Place) -> Outcome {
    ensure_eq!(
        fs::metadata(OWN)?.permissions().mode() & 0o7777,
        0o666,
        "permissions"
    );
    let alice = Actor::start(&ALICE)?;
    let expected = |pid: u32, uid: u32| {
        format!(
            "session={}\ntool=Edit\nturn=42\nintent=self-review\n\ncomm=actor\npid={pid}\nuid={uid}\nlocked=0\n",
            ALICE.session
        )
    };
    ensure_eq!(
        alice.own()?,
        expected(alice.pid(), 0),
        "of who declares all"
    );
    // Declared, it is the identity of the program, whoever carries it on.
    let child = alice.fork()?;
    ensure_eq!(child.own()?, expected(alice.pid(), 0), "of its child");

    let nobody = Actor::program("x:y%", &["PROV_TURN=1"])?;
    let expected = |uid: u32| {
        let pid = nobody.pid();
        format!("turn=1\n\ncomm=x%3Ay%25\npid={pid}\nuid={uid}\nlocked=0\n")
    };
    ensure_eq!(nobody.own()?, expected(0), "of who declares a turn");
    nobody.ask(words!["set user", 1000])?;
    ensure_eq!(nobody.own()?, expected(1000), "of another user");
    Ok(())
}

/// Lets an actor write to a new file.
fn put(place: &Place, actor: &Actor) -> Outcome<std::path::PathBuf> {
    let path = place.path("file");
    let _ = fs::remove_file(&path);
    counting(STAMPED, || actor.put(&path))?;
    Ok(path)
}

fn at_once(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    let steps: [(&str, Who); 5] = [
        (
            "session=one\n",
            Who {
                session: "one",
                ..ALICE
            },
        ),
        (
            "tool=hammer",
            Who {
                session: "one",
                tool: "hammer",
                ..ALICE
            },
        ),
        (
            "turn=7\nintent=to see\n",
            Who {
                session: "one",
                tool: "hammer",
                turn: Some("7"),
                intent: Some("to see"),
            },
        ),
        (
            "intent=x=y\nsession= two \n",
            Who {
                session: " two ",
                tool: "hammer",
                turn: Some("7"),
                intent: Some("x=y"),
            },
        ),
        ("session=bob\ntool=Bash\nturn=\nintent=\n", BOB),
    ];
    let open = place.path("open");
    let fd = actor.create(&open)?;
    for (message, who) in steps {
        counting(DECLARED, || actor.declare(message))?;
        ensure_by(put(place, &actor)?, &who)?;
        // A file that is open counts as well.
        counting(STAMPED, || actor.write(fd))?;
        ensure_session(&open, who.session)?;
        let told = actor.own()?;
        ensure_eq!(
            told.lines().next(),
            Some(&*format!("session={}", who.session)),
            "what it is told: {told}"
        );
    }
    // A child has it, and so has a user.
    let child = actor.fork()?;
    ensure_by(put(place, &child)?, &BOB)?;
    child.ask(words!["set user", 1000])?;
    child.declare("session=by a user")?;
    let path = put(place, &child)?;
    ensure_eq!(
        key(&path, "session")?.as_deref(),
        Some("by a user"),
        "session"
    );
    // Its parent has not got that.
    ensure_by(put(place, &actor)?, &BOB)
}

fn taken_back(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    actor.declare("tool=\nturn=\nintent=")?;
    let who = Who {
        session: ALICE.session,
        tool: "actor",
        turn: None,
        intent: None,
    };
    ensure_by(put(place, &actor)?, &who)?;
    actor.declare("session=\n")?;
    let path = put(place, &actor)?;
    let known = fallback(&path)?;
    ensure_eq!(
        (known.pid, known.chain.first()),
        (Some(actor.pid()), Some(&"actor".into())),
        "process and program"
    );
    // What a program that is executed declares counts again.
    actor.execute("other", &CAROL.variables())?;
    ensure_by(put(place, &actor)?, &CAROL)
}

fn bad(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    let before = actor.own()?;
    let long = format!("session={}", "x".repeat(257));
    let longer = format!("intent={}\nsession=evil", "x".repeat(257));
    let large = "session=evil\n".repeat(2000);
    let cases: &[(&[u8], Errno)] = &[
        (b"\n", Errno::INVAL),
        (b"session", Errno::INVAL),
        (b"Session=evil", Errno::INVAL),
        (b" session=evil", Errno::INVAL),
        (b"session =evil", Errno::INVAL),
        (b"sessions=evil", Errno::INVAL),
        (b"ts=1", Errno::INVAL),
        (b"history=evil", Errno::INVAL),
        (b"comm=evil", Errno::INVAL),
        (b"pid=1", Errno::INVAL),
        (b"uid=0", Errno::INVAL),
        (b"locked=0", Errno::INVAL),
        (b"lock=1", Errno::INVAL),
        (b"lock\nlock", Errno::INVAL),
        (b"unlock", Errno::INVAL),
        (b"session=evil\n\n", Errno::INVAL),
        (b"session=evil\nsession=evil", Errno::INVAL),
        (b"session=evil\nnonsense", Errno::INVAL),
        (b"session=evil\nlock\nnonsense", Errno::INVAL),
        (b"session=ev\0il", Errno::INVAL),
        (b"session=evil\0", Errno::INVAL),
        (long.as_bytes(), Errno::TOOBIG),
        (longer.as_bytes(), Errno::TOOBIG),
        (large.as_bytes(), Errno::TOOBIG),
    ];
    for (message, errno) in cases {
        let shown = message[..message.len().min(60)].escape_ascii();
        let result = counting(DECLARED, || actor.attempt(words!["declare", *message]))?;
        ensure_eq!(result, Err(*errno), "declaring \"{shown}\"");
        ensure_eq!(actor.own()?, before, "after \"{shown}\"");
    }
    // Nothing is no declaration.
    let result = actor.attempt(words!["declare", ""])?;
    ensure_eq!(result, Err(Errno::INVAL), "declaring nothing");
    ensure_eq!(actor.own()?, before, "after nothing");
    // In pieces, each is a declaration by itself.
    let fd = actor.open(OWN, OFlags::WRONLY)?;
    actor.ask(words!["write", fd, "session=carol\n"])?;
    actor.ask(words!["write", fd, "tool=Write\nturn=3\nintent=tidy up\n"])?;
    actor.close(fd)?;
    ensure_by(put(place, &actor)?, &CAROL)
}

fn before_environment(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    actor.declare("session=carol\nintent=tidy up")?;
    let mixed = Who {
        session: "carol",
        tool: BOB.tool,
        turn: None,
        intent: Some("tidy up"),
    };
    // Of the others, the environment of the new program says what there is.
    actor.execute("other", &BOB.variables())?;
    ensure_by(put(place, &actor)?, &mixed)?;
    let child = actor.spawn("child", &BOB.variables())?;
    ensure_by(put(place, &child)?, &mixed)?;
    let grandchild = child.fork()?.spawn("grandchild", &[""; 0])?;
    ensure_by(
        put(place, &grandchild)?,
        &Who {
            tool: "grandchild",
            ..mixed
        },
    )?;
    // A thread that executes a program takes what it has declared along.
    let script = "echo some bytes > file-of-a-thread";
    actor.ask(words!["change directory", &*place.dir])?;
    let ran = actor.ask(words!["run in a thread", script, "PROV_SESSION", "evil"])?;
    ensure_eq!(ran, 0, "status");
    let session = key(place.path("file-of-a-thread"), "session")?;
    ensure_eq!(session.as_deref(), Some("carol"), "session");
    // What runs already stays who it was.
    let bystander = actor.fork()?;
    actor.declare("session=later")?;
    ensure_by(put(place, &bystander)?, &mixed)
}

fn threads(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    let (one, other) = (place.path("one"), place.path("other"));
    let (by_thread, by_other) = (actor.create(&one)?, actor.create(&other)?);
    let expected = [("modifications", 3), ("stamped", 2), ("skipped.path", 1)];
    counting(&expected, || {
        actor.ask(words![
            "declare in a thread",
            "session=carol\ntool=Write\nturn=3\nintent=tidy up",
            by_thread,
            by_other
        ])
    })?;
    ensure_by(&one, &CAROL)?;
    ensure_by(&other, &ALICE)?;
    ensure_by(put(place, &actor)?, &ALICE)
}

fn any_bytes(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'\n').collect();
    for piece in bytes.chunks(20) {
        let value = [b"<", piece, b">"].concat();
        let line = |name: &[u8]| [name, b"=", &value, b"\n"].concat();
        let names: [&[u8]; 4] = [b"session", b"tool", b"turn", b"intent"];
        actor.declare(names.map(line).concat())?;
        let path = put(place, &actor)?;
        let record = crate::record::read(&path)?;
        let value = provfs::Value::from(&value[..]);
        ensure_eq!(
            record.session,
            Some(provfs::Session::Declared(value.clone())),
            "session"
        );
        for (field, read) in [
            ("tool", record.tool),
            ("turn", record.turn),
            ("intent", record.intent),
        ] {
            ensure_eq!(read.as_ref(), Some(&value), "{field}");
        }
        for (key, value) in crate::record::fields(&path)? {
            crate::record::ensure_contained(&key, &value)?;
        }
        // What it is told is what is stored: no line of it is made up.
        ensure_eq!(actor.own()?.lines().count(), 9, "lines that it is told");
    }
    // None of it passes for what the kernel knows.
    for value in ["comm-chain:init;pid:1;uid:0", "comm:init:pid:1:uid:0"] {
        actor.declare(format!("session={value}"))?;
        let record = crate::record::read(put(place, &actor)?)?;
        let declared = provfs::Session::Declared(value.into());
        ensure_eq!(record.session, Some(declared), "session");
    }
    Ok(())
}

fn cut(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    let euros = "\u{20ac}".repeat(85);
    actor.declare(format!(
        "session={0}\ntool={0}\nturn={1}\nintent={1}",
        "x".repeat(256),
        euros
    ))?;
    let path = put(place, &actor)?;
    let whole = |count| Some("\u{20ac}".repeat(count));
    ensure_eq!(key(&path, "session")?, Some("x".repeat(256)), "session");
    ensure_eq!(key(&path, "tool")?, Some("x".repeat(64)), "tool");
    ensure_eq!(key(&path, "turn")?, whole(21), "turn");
    ensure_eq!(key(&path, "intent")?, whole(85), "intent");
    Ok(())
}

fn several_sessions(place: &Place) -> Outcome {
    let _minute = Setting::set("ts_granularity_ms", "60000")?;
    let path = place.path("file");
    let actor = Actor::start(&ALICE)?;
    let fd = actor.create(&path)?;
    let mut sessions: Vec<String> = Vec::new();
    for number in 0..5 {
        actor.declare(format!("session=s{number}"))?;
        counting(STAMPED, || actor.write(fd))?;
        counting(&[], || actor.write(fd))?;
        sessions.insert(0, format!("s{number}"));
        ensure_history(&path, &sessions.iter().map(|s| &**s).collect::<Vec<_>>())?;
    }
    actor.close(fd)?;
    counting(UNCHANGED, || actor.put(&path))
}

/// That a record names this session, whatever else it says.
fn ensure_session(path: &std::path::Path, session: &str) -> Outcome {
    ensure_eq!(key(path, "session")?.as_deref(), Some(session), "session");
    Ok(())
}
