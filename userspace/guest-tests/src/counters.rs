//! Counters: each modification has one outcome, and nothing else is one.

use std::fs;

use rustix::fs::OFlags;

use crate::{
    actor::{Actor, words},
    fixture::{
        Outcome, Place, SKIPPED_PATH, STAMPED, Setting, Test, UNCHANGED, counting, each, growth,
        once,
    },
    programs::shell,
    record::{ALICE, BOB, ensure_by},
};

pub(crate) const TESTS: &[Test] = &[
    once("an idle system modifies nothing", idle),
    each("a script whose every count is known", script),
    each(
        "writes by one writer through one open file are one modification",
        one_modification,
    ),
    each("thousands of files by programs", many),
];

fn idle(_: &Place) -> Outcome {
    counting(&[], || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        Ok(())
    })
}

fn script(place: &Place) -> Outcome {
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    place.directory("no")?;
    let _rules = Setting::set(
        "skip",
        format!("{}/no,*.o,comm:builder,uid:1000", place.dir.display()),
    )?;
    let _minute = Setting::set("ts_granularity_ms", "60000")?;
    let expected = [
        ("modifications", 10 + 10 + 5 + 3 + 4 + 2 + 1 + 20),
        ("stamped", 10 + 5 + 20),
        ("unchanged", 10),
        ("skipped.path", 3),
        ("skipped.name", 4),
        ("skipped.comm", 2),
        ("skipped.uid", 1),
    ];
    counting(&expected, || {
        for i in 0..10 {
            let path = place.path(format!("{i}"));
            // Stamped, then unchanged.
            alice.put(&path)?;
            alice.put(&path)?;
            // Nothing.
            alice.close(alice.open(&path, OFlags::RDWR)?)?;
        }
        // Created only, and stamped at release.
        for i in 0..5 {
            alice.close(alice.create(place.path(format!("empty {i}")))?)?;
        }
        for i in 0..3 {
            alice.put(place.path(format!("no/{i}")))?;
        }
        for i in 0..4 {
            bob.put(place.path(format!("{i}.o")))?;
        }
        let builder = Actor::program("builder", &ALICE.variables())?;
        builder.put(place.path("0"))?;
        builder.put(place.path("1"))?;
        // Two writers take turns.
        let (by_alice, by_bob) = (alice.create(place.path("0"))?, bob.create(place.path("0"))?);
        for _ in 0..10 {
            bob.write(by_bob)?;
            alice.write(by_alice)?;
            alice.ask(words!["write often", by_alice, 10])?;
        }
        alice.close(by_alice)?;
        bob.close(by_bob)?;
        bob.ask(words!["set user", 1000])?;
        bob.put(place.path("by a user"))
    })?;
    ensure_by(place.path("0"), &ALICE)
}

fn one_modification(place: &Place) -> Outcome {
    let path = place.path("file");
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let _minute = Setting::set("ts_granularity_ms", "60000")?;
    for (writer, outcome) in [(&alice, STAMPED), (&alice, UNCHANGED), (&bob, STAMPED)] {
        counting(outcome, || {
            let fd = writer.open(&path, OFlags::CREATE | OFlags::WRONLY)?;
            for _ in 0..5 {
                writer.write(fd)?;
            }
            writer.close(fd)
        })?;
    }
    let _rules = Setting::set("skip", format!("{}", place.dir.display()))?;
    counting(SKIPPED_PATH, || {
        let fd = bob.open(&path, OFlags::WRONLY)?;
        for _ in 0..5 {
            bob.write(fd)?;
        }
        bob.close(fd)
    })
}

fn many(place: &Place) -> Outcome {
    let files = place.rounds(2000);
    let script = format!("mkdir many; cd many; seq {files} | split -l 1 -a 4");
    let expected = i64::try_from(files)?;
    counting(
        &[("modifications", expected), ("stamped", expected)],
        || shell(place, &ALICE, &script),
    )?;
    for file in fs::read_dir(place.path("many"))?.step_by(97) {
        ensure_by(file?.path(), &ALICE)?;
    }
    growth(|| shell(place, &BOB, "rm -r many")).map(drop)
}
