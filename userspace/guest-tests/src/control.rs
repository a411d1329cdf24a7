//! What the administrator sees and sets.

use std::{fs, os::unix::fs::PermissionsExt};

use rustix::{fs::OFlags, io::Errno};

use crate::{
    actor::{Actor, words},
    fixture::{
        Counters, Outcome, Place, SETTINGS, STAMPED, Setting, Test, UNCHANGED, counting, each,
        ensure, ensure_eq, get, once, setting_path, write_setting,
    },
    record::{ALICE, BOB, ensure_by, ensure_none, key},
};

pub(crate) const TESTS: &[Test] = &[
    once("provfs is among the security modules", listed),
    once("the status can be read and understood", status),
    once("the settings are there with their defaults", defaults),
    once("only root can change the settings", permissions),
    once(
        "values out of range are refused, and the old ones stay",
        numbers,
    ),
    once(
        "names of variables can be changed, and bad lists are refused",
        names,
    ),
    each(
        "recording stops at once when it is switched off, and resumes",
        enabled,
    ),
];

fn listed(_: &Place) -> Outcome {
    let list = fs::read_to_string("/sys/kernel/security/lsm")?;
    ensure!(
        list.trim().split(',').any(|name| name == "provfs"),
        "the list is {list}"
    );
    Ok(())
}

fn status(_: &Place) -> Outcome {
    let path = "/sys/kernel/security/provfs/status";
    let text = fs::read_to_string(path)?;
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    let expected = "version enabled format modifications stamped unchanged skipped.path skipped.name skipped.fs \
        skipped.comm skipped.uid skipped.kthread skipped.immutable skipped.unsupported skipped.disabled owed paid \
        superseded failed identity_failed inherited inherit_failed identities";
    for name in expected.split_whitespace() {
        ensure_eq!(
            names.iter().filter(|known| **known == name).count(),
            1,
            "lines for {name} in\n{text}"
        );
    }
    ensure!(
        text.contains("\nenabled 1\n") && text.contains("\nformat keys\n"),
        "the status is\n{text}"
    );
    ensure_eq!(
        fs::metadata(path)?.permissions().mode() & 0o7777,
        0o444,
        "permissions"
    );
    Counters::now()?.check_sum()
}

fn defaults(_: &Place) -> Outcome {
    for (name, default) in SETTINGS {
        let value = get(name)?;
        ensure_eq!(String::from_utf8_lossy(&value), default, "provfs.{name}");
        ensure_eq!(
            fs::metadata(setting_path(name))?.permissions().mode() & 0o7777,
            0o644,
            "permissions of {name}"
        );
        // What is shown can be written back.
        write_setting(name, &value)?;
        ensure_eq!(
            String::from_utf8_lossy(&get(name)?),
            default,
            "provfs.{name} written back"
        );
    }
    Ok(())
}

fn permissions(_: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    actor.ask(words!["set user", 1000])?;
    for (name, _) in SETTINGS {
        let path = setting_path(name);
        ensure_eq!(
            actor.attempt(words!["open", &*path, OFlags::WRONLY])?,
            Err(Errno::ACCESS),
            "opening {name}"
        );
        actor.open(&path, OFlags::RDONLY)?;
    }
    actor.open("/sys/kernel/security/provfs/status", OFlags::RDONLY)?;
    Ok(())
}

fn numbers(_: &Place) -> Outcome {
    let good = [
        ("enabled", "1\n"),
        ("enabled", " 1 "),
        ("ts_granularity_ms", "0"),
        ("ts_granularity_ms", "86400000\n"),
        ("format", "packed\n"),
        ("format", " keys"),
        ("history", "0"),
        ("history", "32\n"),
        ("protect", "1"),
        ("kthreads", "1"),
    ];
    for (name, value) in good {
        let _guard = Setting::set(name, value)?;
        ensure_eq!(
            String::from_utf8_lossy(&get(name)?),
            value.trim(),
            "provfs.{name}"
        );
    }
    let bad = [
        ("enabled", "2"),
        ("enabled", "-1"),
        ("enabled", ""),
        ("enabled", "on"),
        ("enabled", "1 0"),
        ("enabled", "0x1"),
        ("ts_granularity_ms", "86400001"),
        ("ts_granularity_ms", "99999999999999999999"),
        ("ts_granularity_ms", "1s"),
        ("ts_granularity_ms", "-5"),
        ("format", "key"),
        ("format", "Keys"),
        ("format", "keys packed"),
        ("format", ""),
        ("history", "33"),
        ("history", "-1"),
        ("history", "5 4"),
        ("protect", "2"),
        ("protect", "yes"),
        ("kthreads", "2"),
    ];
    for (name, value) in bad {
        let before = get(name)?;
        let error = write_setting(name, value.as_bytes())
            .err()
            .and_then(|error| error.raw_os_error());
        ensure_eq!(
            error,
            Some(Errno::INVAL.raw_os_error()),
            "{value:?} for provfs.{name}"
        );
        ensure_eq!(get(name)?, before, "provfs.{name} after {value:?}");
    }
    Ok(())
}

fn names(place: &Place) -> Outcome {
    let path = place.path("file");
    let guard = Setting::set("env_session", "MY_ID, OTHER_ID\n")?;
    let actor = Actor::program(
        "actor",
        &["PROV_SESSION=no", "OTHER_ID=other", "MY_ID=mine"],
    )?;
    actor.put(&path)?;
    ensure_eq!(key(&path, "session")?.as_deref(), Some("mine"), "session");
    drop(guard);
    // Who runs already is who it was.
    actor.put(place.path("later"))?;
    ensure_eq!(
        key(place.path("later"), "session")?.as_deref(),
        Some("mine"),
        "session"
    );

    let none = Setting::set("env_tool", "\n")?;
    Actor::start(&ALICE)?.put(&path)?;
    ensure_eq!(key(&path, "tool")?.as_deref(), Some("actor"), "tool");
    drop(none);

    let long = "A".repeat(65);
    let many = vec!["NAME"; 17].join(" ");
    let large = "B".repeat(60) + &" ".repeat(964);
    for bad in [
        "1ST", "A-B", "A=B", "A\0B", "\u{e9}", &*long, &*many, &*large,
    ] {
        let before = get("env_turn")?;
        let error = write_setting("env_turn", bad.as_bytes())
            .err()
            .and_then(|error| error.raw_os_error());
        ensure_eq!(error, Some(Errno::INVAL.raw_os_error()), "{bad:?}");
        ensure_eq!(get("env_turn")?, before, "env_turn after {bad:?}");
    }
    Ok(())
}

fn enabled(place: &Place) -> Outcome {
    let (open, closed) = (place.path("open"), place.path("closed"));
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let fd = alice.create(&open)?;
    alice.write(fd)?;
    let in_bob = bob.open(&open, OFlags::WRONLY)?;

    let off = Setting::set("enabled", "0")?;
    counting(&[], || {
        bob.write(in_bob)?;
        alice.put(&closed)?;
        bob.put(&closed)
    })?;
    ensure_by(&open, &ALICE)?;
    ensure_none(&closed)?;
    drop(off);

    counting(STAMPED, || bob.write(in_bob))?;
    ensure_by(&open, &BOB)?;
    counting(STAMPED, || bob.put(&closed))?;
    counting(UNCHANGED, || bob.put(&closed))?;
    ensure_by(&closed, &BOB)?;
    counting(STAMPED, || alice.write(fd))?;
    ensure_by(&open, &ALICE)
}
