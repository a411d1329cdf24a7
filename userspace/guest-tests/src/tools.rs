//! The tools that people touch, against the real thing: provfs-config and provfs-run as they are installed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::{
    actor::Actor,
    fixture::{
        Outcome, Place, STAMPED, Setting, Test, counting, each, ensure, ensure_eq, get, once,
        write_setting,
    },
    record::{ALICE, Who, ensure_by, ensure_none, key},
};

pub(crate) const TESTS: &[Test] = &[
    once("provfs-config: what it gets is what the kernel has", gets),
    once("provfs-config: settings are changed together", sets),
    each(
        "provfs-config: a rule that is added or removed is in force at once",
        adds_and_removes,
    ),
    once(
        "provfs-config: what the kernel refuses leaves everything as it was, and its reason is shown",
        refused,
    ),
    once("provfs-config: many at once lose no rule", concurrent),
    once(
        "provfs-config: what is persisted can be applied again",
        persisted,
    ),
    each("provfs-config: test says what the kernel does", test_agrees),
    once(
        "provfs-config: status and doctor know that provfs runs",
        status_and_doctor,
    ),
    each(
        "provfs-run: what it declares is recorded",
        declarations_arrive,
    ),
    once(
        "provfs-run: exit status and signals are those of the command",
        passes_through,
    ),
    each("provfs-run: a fixed session stays", locked),
];

/// Runs a tool.
fn tool<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Outcome<Output> {
    Ok(Command::new(name)
        .args(args)
        .stdin(Stdio::null())
        .env_remove("PROV_SESSION")
        .output()?)
}

/// Runs `provfs-config`, and fails unless it ends with this status.
#[track_caller]
fn config<S: AsRef<OsStr> + std::fmt::Debug>(code: i32, args: &[S]) -> Outcome<String> {
    let output = tool("provfs-config", args)?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure_eq!(
        output.status.code(),
        Some(code),
        "status of provfs-config {args:?}, which said\n{said}"
    );
    Ok(said)
}

fn text(name: &str) -> Outcome<String> {
    Ok(String::from_utf8_lossy(&get(name)?).into_owned())
}

fn gets(_: &Place) -> Outcome {
    for name in ["enabled", "skip", "ts_granularity_ms", "env_session"] {
        ensure_eq!(config(0, &["get", name])?, text(name)? + "\n", "{name}");
    }
    let list = config(0, &["list"])?;
    ensure!(
        list.lines()
            .any(|line| line.starts_with("ts_granularity_ms  1000")),
        "it lists\n{list}"
    );
    Ok(())
}

fn sets(_: &Place) -> Outcome {
    config(
        0,
        &["set", "enabled=0", "ts_granularity_ms=5", "skip=/a,/b"],
    )?;
    ensure_eq!(
        [text("enabled")?, text("ts_granularity_ms")?, text("skip")?],
        ["0", "5", "/a,/b"],
        "settings"
    );
    config(0, &["reset"])?;
    ensure_eq!(text("ts_granularity_ms")?, "1000", "ts_granularity_ms");
    ensure!(
        text("skip")?.starts_with("/proc,"),
        "skip is {}",
        text("skip")?
    );
    config(2, &["set", "enabled=0", "no_such=1"])?;
    ensure_eq!(text("enabled")?, "1", "enabled");
    Ok(())
}

fn adds_and_removes(place: &Place) -> Outcome {
    let before = text("skip")?;
    let rule = place.directory("no")?;
    let rule = rule.to_str().unwrap_or_default();
    let path = place.path("no/file");
    let alice = Actor::start(&ALICE)?;
    config(0, &["add", "skip", rule])?;
    ensure_eq!(text("skip")?, format!("{before},{rule}"), "the list");
    counting(&[("modifications", 1), ("skipped.path", 1)], || {
        alice.put(&path)
    })?;
    ensure_none(&path)?;
    config(0, &["remove", "skip", rule])?;
    ensure_eq!(text("skip")?, before, "the list");
    counting(STAMPED, || alice.put(&path))?;
    ensure_by(&path, &ALICE)?;
    config(1, &["remove", "skip", rule])?;
    Ok(())
}

fn refused(_: &Place) -> Outcome {
    let before = text("skip")?;
    // By this program, and by the kernel.
    let said = config(2, &["add", "skip", "/a//b"])?;
    ensure!(
        said.contains("rule 1, byte 3: '//' has nothing between the slashes"),
        "it said {said}"
    );
    let said = config(
        2,
        &["set", "--unchecked", "ts_granularity_ms=5", "skip=/x,/a//b"],
    )?;
    ensure!(
        said.contains("Invalid argument (os error 22)")
            && said.contains("skip list refused: rule 2, byte 6")
            && said.contains("nothing was changed"),
        "it said {said}"
    );
    let said = config(
        2,
        &["set", "--unchecked", "ts_granularity_ms=5", "env_tool=1x"],
    )?;
    ensure!(said.contains("list of names refused"), "it said {said}");
    ensure_eq!(text("ts_granularity_ms")?, "1000", "ts_granularity_ms");
    ensure_eq!(text("skip")?, before, "the list");
    Ok(())
}

fn concurrent(place: &Place) -> Outcome {
    let _rules = Setting::set("skip", "/proc")?;
    let rules: Vec<_> = (0..place.rounds(40))
        .map(|i| format!("/many/{i}"))
        .collect();
    let mut children = Vec::new();
    for rule in &rules {
        let mut command = Command::new("provfs-config");
        command.args(["add", "skip", rule]).stdout(Stdio::null());
        children.push(command.spawn()?);
    }
    for mut child in children {
        ensure!(child.wait()?.success(), "one of them failed");
    }
    let list = text("skip")?;
    for rule in &rules {
        ensure_eq!(
            list.split(',').filter(|one| one == rule).count(),
            1,
            "{rule} in {list}"
        );
    }
    ensure_eq!(list.split(',').count(), rules.len() + 1, "rules in {list}");
    Ok(())
}

fn persisted(_: &Place) -> Outcome {
    let files = ["/etc/provfs.toml", "/etc/sysctl.d/60-provfs.conf"];
    for (file, option) in files.into_iter().zip([None, Some("--sysctl-d")]) {
        config(
            0,
            &[
                "set",
                "ts_granularity_ms=250",
                "skip=/proc,!/proc/x,a b",
                "env_turn=MY_TURN",
            ],
        )?;
        config(
            0,
            &[Some("persist"), option]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>(),
        )?;
        config(0, &["diff"])?;
        write_setting("skip", b"/other")?;
        write_setting("ts_granularity_ms", b"1")?;
        config(1, &["diff"])?;
        let result = config(0, &["reload"]);
        fs::remove_file(file)?;
        result?;
        ensure_eq!(
            [text("skip")?, text("ts_granularity_ms")?, text("env_turn")?],
            ["/proc,!/proc/x,a b", "250", "MY_TURN"],
            "settings from {file}"
        );
        config(0, &["reset"])?;
    }
    // A file with a mistake is not applied in part.
    fs::write(files[0], "enabled = false\nskip = ['/a//b']\n")?;
    let result = config(2, &["reload"]);
    fs::remove_file(files[0])?;
    let said = result?;
    ensure!(said.contains("/etc/provfs.toml:2:9"), "it said {said}");
    ensure_eq!(text("enabled")?, "1", "enabled");
    Ok(())
}

/// What the tool says of a rule, by the kind under which the kernel counts.
const WHY: [(&str, &str); 5] = [
    ("path", "its path is that or below it"),
    ("name", "its path has a part of that name"),
    ("fs", "its file system is of that type"),
    ("comm", "that program writes"),
    ("uid", "that user writes"),
];

fn test_agrees(place: &Place) -> Outcome {
    let by_type = format!("fs:{}", place.fs);
    let but_type = format!("@,!fs:{}", place.fs);
    let cases = [
        ("", "f", "f"),
        ("@/ab", "ab/f", "ab/f"),
        ("@/ab", "abc/f", "abc/f"),
        ("@/*/x", "ab/x/f", "ab/x/f"),
        ("@/*/x", "ab/c/x/f", "ab/c/x/f"),
        ("name", "ab/name/f", "ab/name/f"),
        ("name", "ab/named/f", "ab/named/f"),
        ("*.swp", "ab/.f.swp", "ab/.f.swp"),
        ("x/y", "ab/x/y/f", "ab/x/y/f"),
        (&by_type, "f", "f"),
        (&but_type, "f", "f"),
        ("fs:no", "f", "f"),
        ("comm:actor", "f", "f"),
        ("comm:act?", "f", "f"),
        ("uid:0", "f", "f"),
        ("uid:1-9", "f", "f"),
        ("@,!@/keep", "keep/f", "keep/f"),
        ("@,!@/keep,@/keep/no", "keep/no/f", "keep/no/f"),
        (r"a\,b", "a,b/f", "a,b/f"),
        // Through a link, a file is where it really is.
        ("@/real", "link/f", "real/f"),
        ("@/link", "link/f", "real/f"),
        ("@/real", "link/../real/./f", "real/f"),
    ];
    place.directory("real")?;
    symlink("real", place.path("link"))?;
    let alice = Actor::start(&ALICE)?;
    let dir = place.dir.to_str().unwrap_or_default();
    for (rules, asked, written) in cases {
        let rules = rules.replace('@', dir);
        let (asked, written) = (place.path(asked), place.path(written));
        if let Some(folder) = written.parent() {
            fs::create_dir_all(folder)?;
        }
        let guard = Setting::set("skip", &rules)?;
        // Twice: before there is such a file, and when it is there.
        for _ in 0..2 {
            let asked = asked.to_str().unwrap_or_default();
            let output = tool(
                "provfs-config",
                ["test", "--comm", "actor", "--uid", "0", asked],
            )?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let ((), grown) = crate::fixture::growth(|| alice.put(&written))?;
            let kind = WHY
                .iter()
                .find(|(kind, _)| grown.get(&format!("skipped.{kind}")) == 1);
            let expected = match kind {
                Some((_, why)) => said.contains("\n  skipped ") && said.contains(why),
                None => {
                    said.contains("\n  recorded ")
                        && grown.get("stamped") + grown.get("unchanged") == 1
                }
            };
            ensure!(
                expected && output.status.code() == Some(i32::from(kind.is_some())),
                "rules {rules}, {asked}: the kernel did {grown:?}, the tool said\n{said}"
            );
        }
        drop(guard);
        fs::remove_file(&written)?;
    }
    Ok(())
}

fn status_and_doctor(_: &Place) -> Outcome {
    let status = config(0, &["status"])?;
    ensure!(
        status.contains("\nmodifications "),
        "the status is\n{status}"
    );
    let rates = config(0, &["--json", "status", "--interval", "0.2"])?;
    ensure!(
        rates.contains("\"per_second\": 0.0"),
        "the rates are\n{rates}"
    );
    let output = tool("provfs-config", ["doctor"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        said.contains("good     provfs runs in kernel "),
        "it said\n{said}"
    );
    let _off = Setting::set("enabled", "0")?;
    let said = config(1, &["doctor"])?;
    ensure!(said.contains("provfs.enabled is 0"), "it said\n{said}");
    Ok(())
}

/// Runs a shell script under `provfs-run`, and fails unless it ends well.
#[track_caller]
fn run(options: &[&str], script: &str) -> Outcome<String> {
    let output = tool(
        "provfs-run",
        options.iter().copied().chain(["--", "sh", "-ec", script]),
    )?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure_eq!(
        output.status.code(),
        Some(0),
        "status of provfs-run {options:?} -- {script}, which said\n{said}"
    );
    Ok(said)
}

/// A script that writes to a file by itself, and to another one through a program.
fn writes(own: &Path, other: &Path) -> String {
    format!(
        "echo x > '{}'; cp /etc/passwd '{}'",
        own.display(),
        other.display()
    )
}

fn declarations_arrive(place: &Place) -> Outcome {
    let (own, other) = (place.path("own"), place.path("other"));
    let script = writes(&own, &other);
    let who = Who {
        session: "s by run",
        tool: "Tool",
        turn: Some("7"),
        intent: Some("to see it arrive"),
    };
    let all = [
        "--session",
        who.session,
        "--tool",
        who.tool,
        "--turn",
        "7",
        "--intent",
        "to see it arrive",
    ];
    run(&all, &script)?;
    ensure_by(&own, &who)?;
    ensure_by(&other, &who)?;

    // A session of its own.
    let said = run(&["--new-session"], &script)?;
    let session = said.trim().rsplit(' ').next().unwrap_or_default();
    ensure_eq!(session.len(), 26, "length of the session in {said:?}");
    ensure_eq!(key(&own, "session")?.as_deref(), Some(session), "session");
    ensure_eq!(key(&other, "tool")?.as_deref(), Some("cp"), "tool");

    // Under the names that the kernel looks for now.
    let names = Setting::set("env_session", "MY_SESSION PROV_SESSION")?;
    run(
        &["--session", "renamed"],
        &format!("test \"$MY_SESSION\" = renamed; {script}"),
    )?;
    ensure_eq!(key(&own, "session")?.as_deref(), Some("renamed"), "session");
    drop(names);

    // What was declared before is gone.
    run(
        &["--session", "outer", "--turn", "9"],
        &format!("exec provfs-run --clear -- sh -ec \"{script}\""),
    )?;
    let session = key(&own, "session")?.unwrap_or_default();
    ensure!(
        session.starts_with("comm-chain:sh>"),
        "the session is {session}"
    );
    ensure_eq!(key(&own, "turn")?, None, "turn");
    Ok(())
}

fn passes_through(_: &Place) -> Outcome {
    for code in [0, 1, 2, 77, 255] {
        let output = tool(
            "provfs-run",
            ["--session=x", "sh", "-c", &format!("exit {code}")],
        )?;
        ensure_eq!(output.status.code(), Some(code), "status");
    }
    let output = tool("provfs-run", ["--session=x", "sh", "-c", "kill -TERM $$"])?;
    ensure_eq!(output.status.signal(), Some(15), "signal");
    let output = tool("provfs-run", ["no-such-program"])?;
    ensure_eq!(output.status.code(), Some(127), "status");
    Ok(())
}

fn locked(place: &Place) -> Outcome {
    let (own, other) = (place.path("own"), place.path("other"));
    let script = writes(&own, &other);
    if !Path::new("/sys/kernel/security/provfs/self").exists() {
        // A kernel that cannot fix a session must not seem to.
        let output = tool(
            "provfs-run",
            ["--session=s1", "--lock", "--", "sh", "-c", &script],
        )?;
        ensure_eq!(output.status.code(), Some(2), "status");
        ensure!(!own.exists(), "the command was run");
        return Ok(());
    }
    run(&["--session", "fixed", "--lock"], &script)?;
    ensure_eq!(key(&own, "session")?.as_deref(), Some("fixed"), "session");
    // Another environment makes no other session.
    run(
        &["--session", "fixed", "--lock"],
        &format!("PROV_SESSION=other sh -c \"{script}\""),
    )?;
    for path in [&own, &other] {
        ensure_eq!(key(path, "session")?.as_deref(), Some("fixed"), "session");
    }
    // Nor does this program, which says so.
    let nested = "provfs-run --session other -- true && exit 5; test $? = 2; \
        provfs-run --session other --lock -- true && exit 6; test $? = 2; provfs-run --session fixed --lock -- true";
    run(&["--session", "fixed", "--lock"], nested)?;
    Ok(())
}
