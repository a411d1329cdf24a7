//! Who is named: what a process declares, and what the kernel knows about one that declares nothing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use provfs::{Session, Value};
use rustix::fs::OFlags;

use crate::{
    actor::{Actor, words},
    fixture::{
        OWN, Outcome, Place, STAMPED, Test, counting, each, ensure, ensure_eq, once, program, timed,
    },
    record::{
        ALICE, BOB, CAROL, DAVE, Who, ensure_by, ensure_contained, ensure_none, ensure_ts,
        fallback, fields, key, read,
    },
};

pub(crate) const TESTS: &[Test] = &[
    each("what is declared is recorded, and the time", declared),
    each("nothing of the writer before stays", no_stale_keys),
    once(
        "of several names the best one counts, wherever it stands",
        priority,
    ),
    once("every name of the lists declares", every_name),
    once("a variable without a value declares nothing", empty_values),
    once("the first of two variables of one name counts", duplicates),
    once(
        "a variable that is set after exec declares nothing",
        later_setenv,
    ),
    once(
        "an environment is searched up to 128 KiB",
        large_environments,
    ),
    once("names that only begin alike declare nothing", similar_names),
    once("values of any bytes read back as they were", hostile_values),
    once(
        "values that are too long are cut at a whole character",
        long_values,
    ),
    once(
        "no declaration passes for another field or for the kernel's knowledge",
        injection,
    ),
    once(
        "without a tool, the program is the tool",
        tool_is_the_program,
    ),
    each(
        "an undeclared session names the chain, a variable, the directory, the process and the user",
        fallback_chain,
    ),
    once("a chain ends with the first process", chain_ends),
    once(
        "a fallback session that is too long loses the variable, then the beginning of the directory",
        long_fallback,
    ),
    once(
        "hostile names of programs and directories are data",
        hostile_fallback,
    ),
    once(
        "a changed user is named from the next write on",
        changed_user,
    ),
    once(
        "a declared session stays when the user changes",
        changed_user_declared,
    ),
    once(
        "a child that executes nothing is named by its own pid",
        forked,
    ),
    once(
        "a set-user-id program is named by its real user",
        set_user_id,
    ),
    once("a process cannot change its name", set_name),
    once("a thread is named as its process", thread_name),
    once("another program is another writer", executed),
    once(
        "users of a user namespace are named as outside of it",
        user_namespace,
    ),
];

/// Lets a program with an environment write, and returns the path of the file.
fn put<S: AsRef<[u8]>>(place: &Place, environment: &[S]) -> Outcome<std::path::PathBuf> {
    let path = place.path("file");
    let _ = fs::remove_file(&path);
    Actor::program("actor", environment)?.put(&path)?;
    Ok(path)
}

#[track_caller]
fn session_of<S: AsRef<[u8]>>(place: &Place, environment: &[S]) -> Outcome<Option<String>> {
    let path = put(place, environment)?;
    match read(&path)?.session {
        Some(Session::Declared(session)) => Ok(Some(session.to_string_lossy().into_owned())),
        _ => Ok(None),
    }
}

fn declared(place: &Place) -> Outcome {
    for who in [ALICE, BOB] {
        let path = place.path(who.session);
        let actor = Actor::start(&who)?;
        let when = timed(|| counting(STAMPED, || actor.put(&path)))?;
        ensure_by(&path, &who)?;
        ensure_ts(&path, &when)?;
        let ts = key(&path, "ts")?.unwrap_or_default();
        ensure!(
            ts.len() == 20 && ts.ends_with('Z') && ts.as_bytes()[10] == b'T',
            "ts is not RFC 3339: {ts}"
        );
    }
    Ok(())
}

fn no_stale_keys(place: &Place) -> Outcome {
    let path = place.path("file");
    let writers = [ALICE, BOB, CAROL, DAVE, ALICE];
    let actors = writers
        .iter()
        .map(Actor::start)
        .collect::<Outcome<Vec<_>>>()?;
    for (actor, who) in actors.iter().zip(&writers) {
        counting(STAMPED, || actor.put(&path))?;
        ensure_by(&path, who)?;
    }
    Ok(())
}

fn priority(place: &Place) -> Outcome {
    let names = [
        "PROV_SESSION",
        "CLAUDE_SESSION",
        "CLAUDE_SESSION_ID",
        "AGENTNS_SESSION_ID",
        "AGORABUS_SID",
    ];
    for best in 0..names.len() {
        let mut variables: Vec<_> = names[best..]
            .iter()
            .map(|name| format!("{name}=by-{name}"))
            .collect();
        let expected = Some(format!("by-{}", names[best]));
        ensure_eq!(
            session_of(place, &variables)?,
            expected,
            "best first: {variables:?}"
        );
        variables.reverse();
        ensure_eq!(
            session_of(place, &variables)?,
            expected,
            "best last: {variables:?}"
        );
    }
    let path = put(
        place,
        &[
            "CLAUDE_TOOL=b",
            "AGENTNS_INTENT=c",
            "PROV_TOOL=a",
            "CLAUDE_INTENT=b",
            "PROV_TURN=1",
        ],
    )?;
    ensure_eq!(key(&path, "tool")?.as_deref(), Some("a"), "tool");
    ensure_eq!(key(&path, "intent")?.as_deref(), Some("b"), "intent");
    Ok(())
}

fn every_name(place: &Place) -> Outcome {
    for (setting, names) in crate::fixture::SETTINGS {
        let Some(field) = setting.strip_prefix("env_") else {
            continue;
        };
        for name in names.split(' ') {
            let path = put(
                place,
                &[
                    "HOME=/".to_owned(),
                    format!("{name}=a value"),
                    "TERM=dumb".to_owned(),
                ],
            )?;
            ensure_eq!(
                key(&path, field)?.as_deref(),
                Some("a value"),
                "{field} by {name}"
            );
        }
    }
    Ok(())
}

fn empty_values(place: &Place) -> Outcome {
    ensure_eq!(
        session_of(place, &["PROV_SESSION="])?,
        None,
        "an empty session"
    );
    let other = session_of(place, &["PROV_SESSION=", "AGORABUS_SID=other"])?;
    ensure_eq!(
        other.as_deref(),
        Some("other"),
        "an empty session, and another"
    );
    let path = put(
        place,
        &["PROV_SESSION=s", "PROV_TOOL=", "PROV_TURN=", "PROV_INTENT="],
    )?;
    ensure_by(
        &path,
        &Who {
            session: "s",
            tool: "actor",
            turn: None,
            intent: None,
        },
    )
}

fn duplicates(place: &Place) -> Outcome {
    let first = session_of(place, &["PROV_SESSION=first", "A=b", "PROV_SESSION=second"])?;
    ensure_eq!(first.as_deref(), Some("first"), "two of them");
    let first = session_of(
        place,
        &[
            "PROV_SESSION=",
            "CLAUDE_SESSION=first",
            "PROV_SESSION=second",
        ],
    )?;
    ensure_eq!(first.as_deref(), Some("first"), "an empty one before");
    Ok(())
}

fn later_setenv(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::program("actor", &["PROV_TOOL=before"])?;
    for (name, value) in [
        ("PROV_SESSION", "after"),
        ("PROV_TOOL", "after"),
        ("PROV_TURN", "1"),
    ] {
        actor.ask(words!["set variable", name, value])?;
    }
    actor.put(&path)?;
    fallback(&path)?;
    ensure_eq!(key(&path, "tool")?.as_deref(), Some("before"), "tool");
    ensure_eq!(key(&path, "turn")?, None, "turn");
    Ok(())
}

fn large_environments(place: &Place) -> Outcome {
    let session = "PROV_SESSION=found".to_owned();
    let small = |total: usize| {
        (0..total / 1000)
            .map(|i| format!("V{i:04}={}", "v".repeat(993)))
            .collect::<Vec<_>>()
    };
    let large = |total: usize| vec![format!("LARGE={}", "v".repeat(total - 7))];
    for filler in [small(120 * 1024), large(120 * 1024)] {
        let at_end: Vec<_> = filler.iter().cloned().chain([session.clone()]).collect();
        ensure_eq!(
            session_of(place, &at_end)?.as_deref(),
            Some("found"),
            "behind 120 KiB"
        );
        let at_start: Vec<_> = [session.clone()].into_iter().chain(filler).collect();
        ensure_eq!(
            session_of(place, &at_start)?.as_deref(),
            Some("found"),
            "before 120 KiB"
        );
    }
    let beyond: Vec<_> = [session.clone()]
        .into_iter()
        .chain(small(140 * 1024))
        .collect();
    ensure_eq!(session_of(place, &beyond)?, None, "before 140 KiB");
    let at_end: Vec<_> = small(400 * 1024).into_iter().chain([session]).collect();
    ensure_eq!(
        session_of(place, &at_end)?.as_deref(),
        Some("found"),
        "at the end of 400 KiB"
    );
    Ok(())
}

fn similar_names(place: &Place) -> Outcome {
    let variables = [
        "PROV_SESSIO=a",
        "PROV_SESSION2=b",
        "XPROV_SESSION=c",
        "prov_session=d",
        "PROV_SESSION",
        "A=PROV_SESSION=e",
    ];
    ensure_eq!(session_of(place, &variables)?, None, "{variables:?}");
    Ok(())
}

fn hostile_values(place: &Place) -> Outcome {
    let bytes: Vec<u8> = (1..=255).collect();
    // Pieces that fit into each field, the smallest of which have 64 bytes, even if every byte of them is escaped.
    for piece in bytes.chunks(20) {
        let value = [b"<", piece, b">"].concat();
        let variable = |name: &[u8]| [name, b"=", &value].concat();
        let names: [&[u8]; 4] = [b"PROV_SESSION", b"PROV_TOOL", b"PROV_TURN", b"PROV_INTENT"];
        let path = put(place, &names.map(variable))?;
        let record = read(&path)?;
        let value = Value::from(&value[..]);
        ensure_eq!(
            record.session,
            Some(Session::Declared(value.clone())),
            "session"
        );
        for (field, read) in [
            ("tool", record.tool),
            ("turn", record.turn),
            ("intent", record.intent),
        ] {
            ensure_eq!(read.as_ref(), Some(&value), "{field}");
        }
        for (key, value) in fields(&path)? {
            ensure_contained(&key, &value)?;
        }
    }
    Ok(())
}

fn long_values(place: &Place) -> Outcome {
    let cases = [
        ("PROV_SESSION", "session", "x".repeat(300), "x".repeat(256)),
        ("PROV_SESSION", "session", ";".repeat(100), ";".repeat(85)),
        (
            "PROV_SESSION",
            "session",
            format!("x{}", "\u{e9}".repeat(200)),
            format!("x{}", "\u{e9}".repeat(127)),
        ),
        ("PROV_TOOL", "tool", "t".repeat(5000), "t".repeat(64)),
        (
            "PROV_TURN",
            "turn",
            "\u{20ac}".repeat(30),
            "\u{20ac}".repeat(21),
        ),
        (
            "PROV_INTENT",
            "intent",
            "i".repeat(100_000),
            "i".repeat(256),
        ),
        (
            "PROV_INTENT",
            "intent",
            format!("{}\n", "i".repeat(254)),
            "i".repeat(254),
        ),
    ];
    for (name, field, value, expected) in cases {
        let path = put(place, &[format!("{name}={value}")])?;
        let stored = fields(&path)?.remove(field).unwrap_or_default();
        ensure_eq!(
            Value::from_stored(&stored),
            *expected,
            "{name} of {} bytes",
            value.len()
        );
    }
    Ok(())
}

fn injection(place: &Place) -> Outcome {
    let hostile = [
        "comm-chain:bash;pid:1;uid:0",
        "comm-chain:bash>make;env:A=b;cwd:/;pid:1;uid:0",
        "comm:bash:pid:1:uid:0",
        "s;t=evil;n=1;i=evil;h=evil",
        "s\nuser.prov.tool=evil",
        "s,other,third",
        "%3Bs%00%",
        "a>b:c",
    ];
    for value in hostile {
        let path = put(
            place,
            &[
                format!("PROV_SESSION={value}"),
                format!("PROV_INTENT={value}"),
            ],
        )?;
        let record = read(&path)?;
        ensure_eq!(
            record.session,
            Some(Session::Declared(value.into())),
            "session"
        );
        ensure_eq!(record.intent, Some(value.into()), "intent");
        ensure_eq!(record.tool, Some("actor".into()), "tool of {value:?}");
        ensure_eq!(record.turn, None, "turn of {value:?}");
        ensure!(record.history.is_empty(), "history of {value:?}");
    }
    Ok(())
}

fn tool_is_the_program(place: &Place) -> Outcome {
    let path = place.path("file");
    Actor::program("fifteen-letters-and-more", &["PROV_SESSION=s"])?.put(&path)?;
    ensure_by(
        &path,
        &Who {
            session: "s",
            tool: "fifteen-letters",
            turn: None,
            intent: None,
        },
    )
}

fn fallback_chain(place: &Place) -> Outcome {
    let path = place.path("file");
    let alpha = Actor::program("alpha", &[""; 0])?;
    let beta = alpha.spawn("beta", &[""; 0])?;
    beta.ask(words!["change directory", &*place.dir])?;
    let gamma = beta.spawn("gamma", &["PROV_TOOL=hammer"])?;
    gamma.put(&path)?;
    let expected = format!(
        "comm-chain:gamma>beta>alpha;env:PROV_TOOL=hammer;cwd:{};pid:{};uid:0",
        place.dir.display(),
        gamma.pid()
    );
    ensure_eq!(key(&path, "session")?, Some(expected), "session");
    ensure_eq!(key(&path, "tool")?.as_deref(), Some("hammer"), "tool");

    // Who declares nothing at all.
    let delta = gamma.spawn("delta", &["HOME=/root"])?;
    delta.put(&path)?;
    let expected = format!(
        "comm-chain:delta>gamma>beta;cwd:{};pid:{};uid:0",
        place.dir.display(),
        delta.pid()
    );
    ensure_eq!(key(&path, "session")?, Some(expected), "session");
    ensure_eq!(key(&path, "tool")?.as_deref(), Some("delta"), "tool");
    Ok(())
}

fn chain_ends(place: &Place) -> Outcome {
    let path = place.path("file");
    let alpha = Actor::program("alpha", &[""; 0])?;
    let beta = alpha.spawn("beta", &[""; 0])?;
    alpha.kill()?;
    let gamma = beta.spawn("gamma", &[""; 0])?;
    gamma.put(&path)?;
    let chain = fallback(&path)?.chain;
    ensure_eq!(chain, [Value::from("gamma"), "beta".into()], "chain");
    let systemd = gamma.spawn("systemd", &[""; 0])?;
    systemd.spawn("delta", &[""; 0])?.put(&path)?;
    ensure_eq!(
        fallback(&path)?.chain,
        [Value::from("delta")],
        "chain below an init system"
    );
    Ok(())
}

fn long_fallback(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::program("actor", &[""; 0])?;
    let deep = place.directory(&["directory"; 22].join("/"))?;
    actor.ask(words!["change directory", &*deep])?;
    let child = actor.spawn("child", &["PROV_TOOL=hammer"])?;
    child.put(&path)?;
    let stored = key(&path, "session")?.unwrap_or_default();
    ensure!(
        stored.len() <= 256 && stored.len() > 200,
        "{} bytes: {stored}",
        stored.len()
    );
    let who = fallback(&path)?;
    ensure_eq!(who.env, None, "the variable in {stored}");
    let cwd = who.cwd.unwrap_or_default();
    let end = cwd.as_bytes().strip_prefix(b"...").unwrap_or_default();
    ensure!(
        !end.is_empty() && deep.as_os_str().as_encoded_bytes().ends_with(end),
        "directory in {stored}"
    );
    ensure_eq!(
        (who.pid, who.uid),
        (Some(child.pid()), Some(0)),
        "pid and uid in {stored}"
    );
    ensure_eq!(
        who.chain.first(),
        Some(&"child".into()),
        "chain in {stored}"
    );
    Ok(())
}

fn hostile_fallback(place: &Place) -> Outcome {
    let path = place.path("file");
    let directory = place.directory("a;uid:1,b>c%\n:d")?;
    let name = "x;pid:1>y:,%\n";
    let actor = Actor::program("actor", &[""; 0])?;
    actor.ask(words!["change directory", &*directory])?;
    let child = actor.spawn(name, &["PROV_TURN=a;b"])?;
    child.put(&path)?;
    let who = fallback(&path)?;
    ensure_eq!(who.chain.first(), Some(&name.into()), "name of the program");
    ensure_eq!(who.cwd, directory.to_str().map(Value::from), "directory");
    ensure_eq!(
        who.env,
        Some(("PROV_TURN".into(), "a;b".into())),
        "variable"
    );
    ensure_eq!(
        (who.pid, who.uid),
        (Some(child.pid()), Some(0)),
        "pid and uid"
    );
    ensure_eq!(read(&path)?.tool, Some(name.into()), "tool");
    Ok(())
}

fn changed_user(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::program("actor", &["PROV_TOOL=hammer"])?;
    let fd = actor.create(&path)?;
    counting(STAMPED, || actor.write(fd))?;
    let before = fallback(&path)?;
    actor.ask(words!["set user", 1000])?;
    counting(STAMPED, || actor.write(fd))?;
    let after = fallback(&path)?;
    ensure_eq!((before.uid, after.uid), (Some(0), Some(1000)), "user");
    ensure_eq!(
        (before.pid, &before.chain),
        (after.pid, &after.chain),
        "pid and chain"
    );
    ensure_eq!(key(&path, "tool")?.as_deref(), Some("hammer"), "tool");
    Ok(())
}

fn changed_user_declared(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::start(&ALICE)?;
    actor.put(&path)?;
    actor.ask(words!["set user", 1000])?;
    let own = place.path("own");
    actor.put(&own)?;
    ensure_by(&own, &ALICE)
}

fn forked(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::program("actor", &[""; 0])?;
    let fd = actor.create(&path)?;
    actor.write(fd)?;
    ensure_eq!(fallback(&path)?.pid, Some(actor.pid()), "pid of the parent");
    let child = actor.fork()?;
    counting(STAMPED, || child.write(fd))?;
    let who = fallback(&path)?;
    ensure_eq!(who.pid, Some(child.pid()), "pid of the child");
    ensure_eq!(
        who.chain.get(..2),
        Some(&["actor".into(), "actor".into()][..]),
        "chain of the child"
    );
    // Who declares a session is one writer, whatever process.
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(place.path("declared"))?;
    alice.write(fd)?;
    counting(&[], || alice.fork()?.write(fd))
}

fn set_user_id(place: &Place) -> Outcome {
    let binary = place.path("suid");
    fs::copy(program(OWN), &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o4755))?;
    let path = place.path("file");
    let actor = Actor::program("actor", &[""; 0])?;
    actor.ask(words!["set user", 1000])?;
    let child = actor.spawn(binary.to_str().unwrap_or_default(), &[""; 0])?;
    child.put(&path)?;
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path)?);
    ensure_eq!(owner, 0, "owner of the file, who is the effective user");
    let who = fallback(&path)?;
    ensure_eq!(who.uid, Some(1000), "user");
    ensure_eq!(who.chain.first(), Some(&"suid".into()), "program");
    Ok(())
}

fn set_name(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::program("honest", &[""; 0])?;
    actor.ask(words!["set name", "liar"])?;
    actor.put(&path)?;
    ensure_eq!(
        fallback(&path)?.chain.first(),
        Some(&"honest".into()),
        "program"
    );
    ensure_eq!(key(&path, "tool")?.as_deref(), Some("honest"), "tool");
    // A child, for which an identity is made anew, is no way around that.
    actor.fork()?.put(&path)?;
    ensure_eq!(
        fallback(&path)?.chain.first(),
        Some(&"honest".into()),
        "program of the child"
    );
    Ok(())
}

fn thread_name(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::program("actor", &[""; 0])?;
    let fd = actor.create(&path)?;
    actor.ask(words!["write in a thread called", "thread", fd])?;
    let who = fallback(&path)?;
    ensure_eq!(who.chain.first(), Some(&"actor".into()), "program");
    ensure_eq!(who.pid, Some(actor.pid()), "pid");
    counting(&[], || actor.write(fd))
}

fn executed(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::start(&ALICE)?;
    actor.put(&path)?;
    actor.execute("other", &BOB.variables())?;
    counting(STAMPED, || actor.put(&path))?;
    ensure_by(&path, &BOB)?;
    actor.execute("third", &[""; 0])?;
    counting(STAMPED, || actor.put(&path))?;
    ensure_eq!(
        fallback(&path)?.chain.first(),
        Some(&"third".into()),
        "program"
    );
    ensure_eq!(key(&path, "turn")?, None, "turn");
    Ok(())
}

fn user_namespace(place: &Place) -> Outcome {
    let path = place.path("file");
    let actor = Actor::program("actor", &[""; 0])?;
    actor.ask(words!["set user", 1000])?;
    let fd = actor.open(&path, OFlags::CREATE | OFlags::RDWR)?;
    ensure_none(&path)?;
    let flags = rustix::thread::UnshareFlags::NEWUSER | rustix::thread::UnshareFlags::NEWNS;
    actor.ask(words!["unshare", i64::from(flags.bits())])?;
    actor.write(fd)?;
    let who = fallback(&path)?;
    ensure_eq!(
        (who.uid, who.pid),
        (Some(1000), Some(actor.pid())),
        "user and pid"
    );
    ensure!(
        Path::new("/proc/self/ns/user").exists(),
        "no user namespaces"
    );
    Ok(())
}
