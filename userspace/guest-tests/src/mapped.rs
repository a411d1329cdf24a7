//! Files that are modified in memory: the kernel is not told when, so that the stamp comes before or after.

use std::{thread::sleep, time::Duration};

use rustix::fs::OFlags;

use crate::{
    actor::{Actor, Fd, words},
    fixture::{
        Fs, OWED, Outcome, PAID, Place, STAMPED, Setting, Test, counting, ensure_eq, everywhere,
        growth, timed,
    },
    record::{ALICE, ensure_by, ensure_ts},
    ways::{Scene, Way, patiently, run_all},
};

pub(crate) const TESTS: &[Test] = &[
    everywhere("writing to a mapped file", mapping),
    everywhere(
        "a mapping that is written to for long has the time of the last time",
        mapped_for_long,
    ),
    everywhere(
        "a process that is killed is named for what it stored in a mapping",
        killed_with_mapping,
    ),
];

/// Maps the file, and lets it be written to if `writable`.
fn map(scene: &Scene<'_>, fd: Fd, writable: bool) -> Outcome<i64> {
    scene.actor.ask(words!["map", fd, 1, i64::from(writable)])
}

/// Without granularity, a record that is older than what was written explains nothing.
fn after_a_moment() -> Outcome<Setting> {
    sleep(Duration::from_millis(50));
    Setting::set("ts_granularity_ms", "0")
}

/// A mapping becomes writable: noted, and recorded at the end if it was written to. Where the kernel cannot tell,
/// it is taken for written to.
fn make_writable(
    scene: &Scene<'_>,
    actor: &Actor,
    address: i64,
) -> Outcome<&'static [(&'static str, i64)]> {
    let (now, then) = match scene.place.fs {
        Fs::Tmpfs => (OWED, PAID),
        _ => (&[][..], STAMPED),
    };
    counting(now, || actor.ask(words!["make writable", address]))?;
    Ok(then)
}

fn mapping(place: &Place) -> Outcome {
    let _patience = patiently()?;
    let ways = [
        Way {
            name: "stored and synced",
            run: |scene| {
                let fd = scene.open(OFlags::RDWR)?;
                let address = counting(STAMPED, || map(scene, fd, true))?;
                ensure_by(scene.path, scene.who)?;
                counting(&[], || {
                    scene.actor.ask(words!["store", address])?;
                    scene.actor.ask(words!["sync", address])?;
                    scene.actor.ask(words!["unmap", address])
                })?;
                scene.close(fd)
            },
        },
        Way {
            name: "closed before it is stored to",
            run: |scene| {
                let fd = scene.open(OFlags::RDWR)?;
                let address = counting(STAMPED, || map(scene, fd, true))?;
                counting(&[], || {
                    scene.actor.close(fd)?;
                    scene.actor.ask(words!["store", address])?;
                    scene.actor.ask(words!["unmap", address])
                })
                .map(drop)
            },
        },
        Way {
            name: "made writable, stored and unmapped",
            run: |scene| {
                let fd = scene.open(OFlags::RDWR)?;
                let address = counting(&[], || map(scene, fd, false))?;
                let _none = after_a_moment()?;
                let then = make_writable(scene, scene.actor, address)?;
                counting(then, || {
                    scene.actor.ask(words!["store", address])?;
                    scene.actor.ask(words!["unmap", address])?;
                    scene.actor.close(fd)
                })
            },
        },
        Way {
            name: "made writable after it was closed",
            run: |scene| {
                let fd = scene.open(OFlags::RDWR)?;
                let address = counting(&[], || map(scene, fd, false))?;
                scene.close(fd)?;
                let _none = after_a_moment()?;
                let then = make_writable(scene, scene.actor, address)?;
                counting(then, || {
                    scene.actor.ask(words!["store", address])?;
                    scene.actor.ask(words!["unmap", address])
                })
                .map(drop)
            },
        },
        Way {
            name: "made writable, stored, and left to the end of the process",
            run: |scene| {
                let child = scene.actor.fork()?;
                let fd = child.open(scene.path, OFlags::RDWR)?;
                let address = counting(&[], || child.ask(words!["map", fd, 1, 0]))?;
                let _none = after_a_moment()?;
                let then = make_writable(scene, &child, address)?;
                counting(then, || {
                    child.ask(words!["store", address])?;
                    child.exit()
                })
            },
        },
    ];
    run_all(place, &ways)
}

fn mapped_for_long(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&path, OFlags::RDWR)?;
    let address = counting(STAMPED, || alice.ask(words!["map", fd, 1, 1]))?;
    sleep(Duration::from_millis(2200));
    let last = timed(|| {
        alice.ask(words!["store", address])?;
        alice.ask(words!["sync", address]).map(drop)
    })?;
    sleep(Duration::from_millis(2200));
    let ((), grown) = growth(|| {
        alice.ask(words!["unmap", address])?;
        alice.close(fd)
    })?;
    ensure_by(&path, &ALICE)?;
    ensure_eq!(
        (grown.get("modifications"), grown.get("stamped")),
        (1, 1),
        "modifications and stamps at the end: {grown:?}"
    );
    ensure_ts(&path, &(last.start() - 1..=*last.end()))
}

fn killed_with_mapping(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&path, OFlags::RDWR)?;
    let address = alice.ask(words!["map", fd, 1, 0])?;
    alice.close(fd)?;
    sleep(Duration::from_millis(50));
    let ((), grown) = growth(|| {
        alice.ask(words!["make writable", address])?;
        alice.ask(words!["store", address])?;
        alice.kill()
    })?;
    ensure_eq!(
        (
            grown.get("modifications"),
            grown.get("stamped") + grown.get("paid")
        ),
        (1, 1),
        "of {grown:?}"
    );
    ensure_by(&path, &ALICE)
}
