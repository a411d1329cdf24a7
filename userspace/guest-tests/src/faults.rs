//! Running out of memory: nothing that a user does fails because of provfs.

use std::{fs, path::Path};

use rustix::fs::OFlags;

use crate::{
    actor::{Actor, words},
    fixture::{Fs, STAMPED, counting},
    fixture::{Outcome, Place, Test, ensure, ensure_eq, growth, on, once, skip},
    programs::{c_project, need, shell},
    record::{ALICE, BOB, ensure_by, raw},
};

pub(crate) const TESTS: &[Test] = &[
    on(
        &[Fs::Ext4, Fs::Tmpfs],
        "every allocation of provfs fails: writing works as without it",
        all_fail,
    ),
    on(
        &[Fs::Ext4, Fs::Tmpfs],
        "each allocation of provfs fails in turn: writing works as without it",
        each_fails,
    ),
    once(
        "an exec without memory makes a writer without claims",
        executed,
    ),
    once(
        "make, tar and git succeed while every allocation of provfs fails",
        programs,
    ),
    once(
        "tar and git succeed while every third allocation of provfs fails",
        programs_sometimes,
    ),
];

const FAILSLAB: &str = "/sys/kernel/debug/failslab";

/// Lets allocations of provfs fail in tasks that ask for it, until it is dropped.
struct Failing;

impl Failing {
    /// Every `interval`-th allocation fails, `times` times or for ever (-1).
    fn new(interval: u32, times: i32) -> Outcome<Self> {
        let (start, end) = code()?;
        let settings = [
            ("probability", "0".to_owned()),
            ("task-filter", "Y".to_owned()),
            ("ignore-gfp-wait", "N".to_owned()),
            ("cache-filter", "N".to_owned()),
            ("verbose", "0".to_owned()),
            ("space", "0".to_owned()),
            ("stacktrace-depth", "32".to_owned()),
            ("require-start", format!("{start:#x}")),
            ("require-end", format!("{end:#x}")),
            ("interval", interval.to_string()),
            ("times", times.to_string()),
            ("probability", "100".to_owned()),
        ];
        let failing = Failing;
        for (name, value) in settings {
            set(name, &value)?;
        }
        Ok(failing)
    }
}

fn need_failslab() -> Outcome {
    if Path::new(FAILSLAB).exists() {
        Ok(())
    } else {
        skip("this kernel has no failslab")
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = set("probability", "0");
    }
}

fn set(name: &str, value: &str) -> Outcome {
    Ok(fs::write(Path::new(FAILSLAB).join(name), value)?)
}

/// Where the code of provfs is, and nothing else.
fn code() -> Outcome<(u64, u64)> {
    let symbols = fs::read_to_string("/proc/kallsyms")?;
    let mut addresses = Vec::new();
    for line in symbols.lines() {
        let mut words = line.split_whitespace();
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // Symbols of Rust name their crate; those of other crates that are made for this one come with it.
        if matches!(kind, "t" | "T") && name.starts_with("_R") && name.contains("6provfs") {
            addresses.push(u64::from_str_radix(address, 16)?);
        }
    }
    addresses.sort_unstable();
    // What is seldom run and what runs at the beginning only lie apart.
    let parts = addresses.chunk_by(|one, next| next - one < 1 << 20);
    let most = parts.max_by_key(|part| part.len()).unwrap_or_default();
    let (Some(&start), Some(&end)) = (most.first(), most.last()) else {
        return skip("the kernel does not tell where provfs is");
    };
    let end = end + 4096;
    ensure!(
        start != 0 && end - start < 1 << 20,
        "provfs is at {start:#x} to {end:#x}"
    );
    Ok((start, end))
}

/// An actor whose allocations fail.
fn unlucky() -> Outcome<Actor> {
    need_failslab()?;
    let actor = Actor::start(&ALICE)?;
    actor.ask(words!["fail allocations", "1"])?;
    Ok(actor)
}

/// What users do: each of it must work.
fn work(place: &Place, actor: &Actor, round: u32) -> Outcome {
    let (path, temporary) = (
        place.path(format!("file {round}")),
        place.path(format!("temporary {round}")),
    );
    // Create, write, save by rename, write to what is there, exec and write.
    actor.put(&path)?;
    actor.put(&temporary)?;
    fs::rename(&temporary, &path)?;
    let fd = actor.open(&path, OFlags::WRONLY | OFlags::APPEND)?;
    actor.write(fd)?;
    let child = actor.fork()?;
    child.write(fd)?;
    child.exit()?;
    actor.close(fd)?;
    actor.close(actor.create(place.path(format!("empty {round}")))?)?;
    let other = actor.spawn("other", &BOB.variables())?;
    other.put(place.path(format!("other {round}")))?;
    other.execute("third", &[""; 0])?;
    other.put(place.path(format!("third {round}")))?;
    ensure_eq!(fs::read(&path)?, b"some bytes\n".repeat(3), "content");
    Ok(())
}

fn all_fail(place: &Place) -> Outcome {
    let actor = unlucky()?;
    let failing = Failing::new(1, -1)?;
    let ((), grown) = growth(|| work(place, &actor, 0))?;
    drop(failing);
    // Allocations of the file system for a stamp fail too, so there need be no record of anybody.
    ensure!(
        grown.get("identity_failed") >= 2,
        "no exec failed: {grown:?}"
    );
    ensure!(
        grown.get("failed.ENOMEM") >= 1,
        "no stamp failed: {grown:?}"
    );
    // Afterwards, everything is as before.
    counting(STAMPED, || Actor::start(&BOB)?.put(place.path("later")))?;
    ensure_by(place.path("later"), &BOB)
}

fn each_fails(place: &Place) -> Outcome {
    let mut failures = 0;
    let rounds = if place.is_quick() { 10 } else { 40 };
    for round in 1..=rounds {
        let actor = unlucky()?;
        let failing = Failing::new(round, 1)?;
        let ((), grown) = growth(|| work(place, &actor, round))?;
        drop(failing);
        failures += grown.get("failed.ENOMEM") + grown.get("identity_failed");
        // A record may lack what comes last.
        for name in ["file", "empty", "other", "third"] {
            let record = raw(place.path(format!("{name} {round}")))?;
            let has = |key| record.contains_key(key);
            let sound = (has("session") || record.is_empty()) && (has("tool") || !has("ts"));
            ensure!(sound, "round {round}: {name} has {:?}", record.keys());
        }
    }
    ensure!(failures > 0, "nothing failed in {rounds} rounds");
    Ok(())
}

fn executed(place: &Place) -> Outcome {
    let actor = unlucky()?;
    let failing = Failing::new(1, -1)?;
    let ((), grown) = growth(|| actor.execute("other", &BOB.variables()))?;
    drop(failing);
    ensure_eq!(grown.get("identity_failed"), 1, "of {grown:?}");
    // It must not be taken for who it was before.
    let path = place.path("file");
    counting(STAMPED, || actor.put(&path))?;
    let who = crate::record::fallback(&path)?;
    ensure_eq!(
        (who.chain.first(), who.pid),
        (Some(&"other".into()), Some(actor.pid())),
        "program and pid"
    );
    Ok(())
}

/// Lets programs work while allocations of provfs fail.
fn run(place: &Place, interval: u32, script: &str) -> Outcome {
    need_failslab()?;
    for program in ["make", "gcc", "git", "tar"] {
        need(program)?;
    }
    c_project(place)?;
    let failing = Failing::new(interval, -1)?;
    let script = format!("echo 1 > /proc/self/make-it-fail; {script}");
    let ((), grown) = growth(|| shell(place, &ALICE, &script))?;
    drop(failing);
    ensure!(
        grown.get("identity_failed") > 0,
        "nothing failed: {grown:?}"
    );
    Ok(())
}

const MAKE: &str = "make -s; ./prog";
const TAR: &str = "tar cf a.tar one.c two.c; mkdir out; tar xf a.tar -C out; cmp one.c out/one.c";
const GIT: &str = "export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b \
    GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; git init -q .; git add one.c two.c Makefile; \
    git commit -qm one; rm one.c; git checkout -q one.c; git fsck --strict";

fn programs(place: &Place) -> Outcome {
    run(place, 1, &format!("{MAKE}; {TAR}; {GIT}"))
}

fn programs_sometimes(place: &Place) -> Outcome {
    // A compiler takes minutes on a debug kernel.
    run(place, 3, &format!("{TAR}; {GIT}"))
}
