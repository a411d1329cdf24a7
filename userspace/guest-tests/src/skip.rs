//! What is not to be recorded.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use rustix::{fs::OFlags, io::Errno, mount::UnmountFlags};

use crate::{
    actor::{Actor, words},
    fixture::{
        Counters, Outcome, Place, STAMPED, Setting, Test, counting, each, ensure, ensure_eq, get,
        once, write_setting,
    },
    kernel_log::KernelLog,
    record::{ALICE, BOB, ensure_by, ensure_none},
};

pub(crate) const TESTS: &[Test] = &[
    each("every kind of rule, alone and together", rules),
    each("what is skipped by default", defaults),
    each(
        "rules about the writer follow the user and the program",
        writers,
    ),
    each("a file that is only created", only_created),
    each(
        "a new list is in force at once, for open files too",
        at_once,
    ),
    each(
        "renaming a file or a directory above it changes the decision",
        renames,
    ),
    each(
        "what is known of a directory holds for what is made in it",
        directories,
    ),
    each(
        "of several names of a file, the one that was opened decides",
        hard_links,
    ),
    each(
        "a name that takes the place of another in memory is another name",
        name_for_name,
    ),
    each(
        "of several mounts, the one that was used decides",
        bind_mounts,
    ),
    once(
        "a bad list is refused, the old one stays, and the log says why once",
        refused,
    ),
    once("4,095 bytes are accepted, 4,096 are refused", sizes),
    once("a list that comes in pieces is refused", pieces),
    each(
        "the list can be replaced while files are written",
        concurrent,
    ),
];

/// Sets rules, in which `@` stands for the directory of the test.
#[track_caller]
fn set(place: &Place, rules: &str) -> Outcome<Setting> {
    let dir = place.dir.to_str().unwrap_or_default();
    Setting::set("skip", rules.replace('@', dir))
}

/// Fails unless writing to a new file, or to one without a record, is skipped by this kind of rule.
#[track_caller]
fn ensure_skipped(actor: &Actor, path: impl AsRef<Path>, kind: &str) -> Outcome {
    counting(
        &[("modifications", 1), (&format!("skipped.{kind}"), 1)],
        || actor.put(&path),
    )?;
    ensure_none(path)
}

fn rules(place: &Place) -> Outcome {
    let by_type = format!("fs:{}", place.fs);
    let but_type = format!("@,!fs:{}", place.fs);
    let cases: &[(&str, &str, Option<&str>)] = &[
        ("", "f", None),
        ("@/ab", "ab/f", Some("path")),
        ("@/ab", "ab/c/d/f", Some("path")),
        ("@/ab", "abc/f", None),
        ("@/ab", "a/f", None),
        ("@/ab/", "ab/f", Some("path")),
        ("@/ab/f", "ab/f", Some("path")),
        ("@/ab/f", "ab/fg", None),
        ("/", "ab/f", Some("path")),
        ("@/*/x", "ab/x/f", Some("path")),
        ("@/*/x", "ab/c/x/f", None),
        ("@/a?", "ab/f", Some("path")),
        ("@/a?", "abc/f", None),
        ("name", "ab/name/f", Some("name")),
        ("name", "ab/name", Some("name")),
        ("name/", "name/c/d/f", Some("name")),
        ("name", "ab/named/f", None),
        ("name", "ab/aname", None),
        ("*.swp", "ab/.f.swp", Some("name")),
        ("*.swp", "ab/f.swp.txt", None),
        ("?.o", "ab/a.o", Some("name")),
        ("?.o", "ab/ab.o", None),
        ("x/y", "ab/x/y/f", Some("name")),
        ("x/y", "x/ab/y/f", None),
        (&by_type, "ab/f", Some("fs")),
        ("fs:*", "ab/f", Some("fs")),
        ("fs:no", "ab/f", None),
        ("comm:actor", "ab/f", Some("comm")),
        ("comm:a*r", "ab/f", Some("comm")),
        ("comm:actors", "ab/f", None),
        ("uid:0", "ab/f", Some("uid")),
        ("uid:0-1000", "ab/f", Some("uid")),
        ("uid:1-4294967295", "ab/f", None),
        ("@,!@/keep", "keep/f", None),
        ("@,!@/keep", "ab/f", Some("path")),
        ("!@/keep,@", "keep/f", Some("path")),
        ("@,!@/keep,@/keep/no", "keep/no/f", Some("path")),
        (&but_type, "ab/f", None),
        ("@,!uid:0", "ab/f", None),
        ("@,!comm:other", "ab/f", Some("path")),
        ("uid:0,name", "name/f", Some("name")),
        ("name,uid:0", "name/f", Some("uid")),
        (" \n\t@/one ,\n @/two\n\n", "two/f", Some("path")),
        (r"a\,b", "a,b/f", Some("name")),
        (r"\*", "*/f", Some("name")),
        (r"\*", "ab/f", None),
        (r"a\ b", "a b/f", Some("name")),
        (r"fs\:x", "fs:x/f", Some("name")),
        (r"\!x", "!x/f", Some("name")),
    ];
    let alice = Actor::start(&ALICE)?;
    for (rules, name, skipped) in cases {
        let path = place.path(name);
        fs::create_dir_all(path.parent().unwrap_or(&place.dir))?;
        let guard = set(place, rules)?;
        let result = match skipped {
            Some(kind) => ensure_skipped(&alice, &path, kind),
            None => counting(STAMPED, || alice.put(&path)).and_then(|()| ensure_by(&path, &ALICE)),
        };
        drop(guard);
        if let Err(crate::fixture::Stop::Failed(why)) = result {
            ensure!(false, "rules {rules:?}, file {name:?}\n{why}");
        }
        // What is a file in one case is a directory in another.
        fs::remove_file(&path)?;
        for above in path
            .ancestors()
            .skip(1)
            .take_while(|above| **above != place.dir)
        {
            fs::remove_dir(above)?;
        }
    }
    Ok(())
}

fn defaults(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    for name in [
        ".git",
        "node_modules",
        "target",
        ".cache",
        ".venv",
        "__pycache__",
    ] {
        place.directory(&format!("a/{name}/b"))?;
        ensure_skipped(&alice, place.path(format!("a/{name}/b/f")), "name")?;
    }
    for path in [
        "/run/provfs-test-file",
        "/tmp/provfs-test-file",
        "/dev/shm/provfs-test-file",
    ] {
        ensure_skipped(&alice, path, "path")?;
        fs::remove_file(path)?;
    }
    for name in [".gitignore", "targets", "git"] {
        counting(STAMPED, || alice.put(place.path(name)))?;
    }
    Ok(())
}

fn writers(place: &Place) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    let nobody = Actor::program("nobody", &[""; 0])?;
    let _rules = set(place, "uid:1000-1999,comm:builder")?;
    for actor in [&alice, &nobody] {
        let path = place.path(format!("by {}", actor.pid()));
        counting(STAMPED, || actor.put(&path))?;
        let fd = actor.open(&path, OFlags::WRONLY)?;
        actor.ask(words!["set user", 1500])?;
        counting(&[("modifications", 1), ("skipped.uid", 1)], || {
            actor.write(fd)
        })?;
        ensure_skipped(
            actor,
            place.path(format!("later by {}", actor.pid())),
            "uid",
        )?;
    }
    ensure_skipped(
        &Actor::program("builder", &ALICE.variables())?,
        place.path("built"),
        "comm",
    )?;
    // For another writer, the same file is decided about anew.
    counting(STAMPED, || Actor::start(&BOB)?.put(place.path("built")))
}

fn only_created(place: &Place) -> Outcome {
    let _rules = set(place, "@")?;
    let path = place.path("file");
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&path)?;
    counting(&[("modifications", 1), ("skipped.path", 1)], || {
        alice.close(fd)
    })?;
    ensure_none(&path)
}

fn at_once(place: &Place) -> Outcome {
    let path = place.path("file");
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let (by_alice, by_bob) = (alice.create(&path)?, bob.create(&path)?);
    alice.write(by_alice)?;
    for _ in 0..3 {
        let rules = set(place, "@")?;
        counting(&[("modifications", 1), ("skipped.path", 1)], || {
            bob.write(by_bob)
        })?;
        counting(&[], || bob.write(by_bob))?;
        ensure_by(&path, &ALICE)?;
        drop(rules);
        counting(STAMPED, || bob.write(by_bob))?;
        ensure_by(&path, &BOB)?;
        counting(STAMPED, || alice.write(by_alice))?;
    }
    // Whom the record names already, too.
    let _rules = set(place, "@")?;
    counting(&[("modifications", 1), ("skipped.path", 1)], || {
        alice.write(by_alice)
    })
}

fn renames(place: &Place) -> Outcome {
    let _rules = set(place, "@/no")?;
    let alice = Actor::start(&ALICE)?;
    place.directory("no")?;
    place.directory("yes")?;
    let (inside, outside) = (place.path("no/file"), place.path("yes/file"));
    ensure_skipped(&alice, &inside, "path")?;
    fs::rename(&inside, &outside)?;
    counting(STAMPED, || alice.put(&outside))?;
    fs::rename(&outside, &inside)?;
    counting(&[("modifications", 1), ("skipped.path", 1)], || {
        alice.put(&inside)
    })?;

    // The directory, and one above it.
    place.directory("up/below")?;
    let file = |top: &str| place.path(format!("{top}/below/file"));
    counting(STAMPED, || alice.put(file("up")))?;
    fs::remove_dir_all(place.path("no"))?;
    fs::rename(place.path("up"), place.path("no"))?;
    let bob = Actor::start(&BOB)?;
    counting(&[("modifications", 1), ("skipped.path", 1)], || {
        bob.put(file("no"))
    })?;
    fs::rename(place.path("no"), place.path("up"))?;
    counting(STAMPED, || bob.put(file("up")))?;

    // A file that is open, and was skipped by somebody else meanwhile.
    let fd = alice.open(file("up"), OFlags::WRONLY)?;
    fs::rename(place.path("up"), place.path("no"))?;
    counting(&[("modifications", 1), ("skipped.path", 1)], || {
        alice.write(fd)
    })?;
    ensure_by(file("no"), &BOB)
}

fn directories(place: &Place) -> Outcome {
    let rules = set(place, "no,*.tmp,comm:builder")?;
    let alice = Actor::start(&ALICE)?;
    let builder = Actor::program("builder", &ALICE.variables())?;
    place.directory("yes")?;
    let inside = |name: &str| place.path(format!("yes/{name}"));
    for name in ["first", "second", "third"] {
        counting(STAMPED, || alice.put(inside(name)))?;
    }
    ensure_skipped(&alice, inside("no"), "name")?;
    ensure_skipped(&alice, inside("x.tmp"), "name")?;
    ensure_skipped(&builder, inside("built"), "comm")?;
    counting(STAMPED, || alice.put(inside("no.")))?;

    // Another list, and another name of the directory.
    let other = set(place, "yes")?;
    ensure_skipped(&alice, inside("by another list"), "name")?;
    drop(other);
    counting(STAMPED, || alice.put(inside("by the first one")))?;
    fs::rename(place.path("yes"), place.path("no"))?;
    ensure_skipped(&alice, place.path("no/renamed"), "name")?;
    fs::rename(place.path("no"), place.path("yes"))?;
    counting(STAMPED, || alice.put(inside("renamed back")))?;

    // What is mounted by itself has the name of the mount point.
    let mounts = place.directory("mounts")?;
    let mounted = |file: &str, at: &str, check: &dyn Fn(&Path) -> Outcome| {
        let at = mounts.join(at);
        fs::write(&at, "")?;
        rustix::mount::mount_bind(inside(file), &at)?;
        let result = check(&at);
        rustix::mount::unmount(&at, UnmountFlags::DETACH)?;
        result
    };
    let bob = Actor::start(&BOB)?;
    for _ in 0..2 {
        mounted("first", "no", &|at| {
            counting(&[("modifications", 1), ("skipped.name", 1)], || bob.put(at))
        })?;
        mounted("no", "yes", &|at| bob.put(at))?;
    }
    ensure_by(inside("first"), &ALICE)?;
    ensure_by(inside("no"), &BOB)?;
    drop(rules);
    counting(STAMPED, || alice.put(inside("no")))
}

fn hard_links(place: &Place) -> Outcome {
    let _rules = set(place, "@/no")?;
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    place.directory("no")?;
    place.directory("yes")?;
    let (skipped, recorded) = (place.path("no/file"), place.path("yes/file"));
    counting(STAMPED, || alice.put(&recorded))?;
    fs::hard_link(&recorded, &skipped)?;
    for _ in 0..3 {
        counting(&[("modifications", 1), ("skipped.path", 1)], || {
            bob.put(&skipped)
        })?;
        ensure_by(&skipped, &ALICE)?;
        counting(STAMPED, || bob.put(&recorded))?;
        ensure_by(&skipped, &BOB)?;
        counting(STAMPED, || alice.put(&recorded))?;
    }
    // With one name left.
    fs::remove_file(&recorded)?;
    counting(&[("modifications", 1), ("skipped.path", 1)], || {
        bob.put(&skipped)
    })
}

/// What was decided about a name is remembered by where its dentry is. With that one freed, that of
/// another name of the same file can be there.
fn name_for_name(place: &Place) -> Outcome {
    let _rules = set(place, "*.no")?;
    let _minute = Setting::set("ts_granularity_ms", "60000")?;
    let alice = Actor::start(&ALICE)?;
    let names = place.rounds_of(300, 5000);
    let held = place.path("held");
    for round in 0..2 {
        let skipped = place.path("file.no");
        counting(&[("modifications", 1), ("skipped.name", 1)], || {
            alice.put(&skipped)
        })?;
        fs::hard_link(&skipped, &held)?;
        let keeps_the_inode = fs::File::open(&held)?;
        fs::remove_file(&skipped)?;
        // Without this, ext4 keeps the name to remember that there is no such file.
        fs::write("/proc/sys/vm/drop_caches", "2")?;
        let others = i64::try_from(names)?;
        let expected = [
            ("modifications", others),
            ("stamped", 1),
            ("unchanged", others - 1),
        ];
        counting(&expected, || {
            for name in 0..names {
                let name = place.path(format!("{round}.{name}"));
                fs::hard_link(&held, &name)?;
                alice.put(&name)?;
            }
            Ok(())
        })?;
        drop(keeps_the_inode);
        fs::remove_file(&held)?;
    }
    Ok(())
}

fn bind_mounts(place: &Place) -> Outcome {
    let _rules = set(place, "@/no")?;
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let (one, other) = (place.directory("yes")?, place.directory("no")?);
    rustix::mount::mount_bind(&one, &other)?;
    let result = (|| {
        let (recorded, skipped) = (one.join("file"), other.join("file"));
        for _ in 0..2 {
            counting(STAMPED, || alice.put(&recorded))?;
            counting(&[("modifications", 1), ("skipped.path", 1)], || {
                bob.put(&skipped)
            })?;
            ensure_by(&recorded, &ALICE)?;
            counting(STAMPED, || bob.put(&recorded))?;
        }
        Ok(())
    })();
    rustix::mount::unmount(&other, UnmountFlags::DETACH)?;
    result
}

/// What writing to `provfs.skip` fails with.
fn store(list: &[u8]) -> Option<Errno> {
    write_setting("skip", list)
        .err()
        .and_then(|error| error.raw_os_error())
        .map(Errno::from_raw_os_error)
}

fn refused(place: &Place) -> Outcome {
    let lists: &[&[u8]] = &[
        b"fs:",
        b"!",
        b"!!name",
        b"uid:x",
        b"uid:5-3",
        b"uid:4294967296",
        b"disk:ext4",
        b"/a//b",
        b"/a/../b",
        b"a/./b",
        b"/a/**/b",
        b"a\\q",
        b"a\\",
        b"comm:sixteen-letters!",
        b"a\0b",
        b"/good,/also/good,fs:,/never/reached",
        b"\xff:\\",
    ];
    let _rules = set(place, "@/no")?;
    let before = get("skip")?;
    place.directory("no")?;
    let alice = Actor::start(&ALICE)?;
    let log = KernelLog::from_now()?;
    for list in lists {
        ensure_eq!(
            store(list),
            Some(Errno::INVAL),
            "writing \"{}\"",
            list.escape_ascii()
        );
        let lines = log.lines()?;
        let refusals = lines
            .iter()
            .filter(|line| line.contains("provfs: skip list refused"))
            .count();
        ensure_eq!(
            (refusals, lines.len()),
            (1, 1),
            "lines of \"{}\": {lines:?}",
            list.escape_ascii()
        );
        ensure_eq!(
            get("skip")?,
            before,
            "the list after \"{}\"",
            list.escape_ascii()
        );
    }
    ensure_skipped(&alice, place.path("no/file"), "path")?;
    counting(STAMPED, || alice.put(place.path("file")))
}

fn sizes(place: &Place) -> Outcome {
    let _rules = set(place, "@/no")?;
    place.directory("no")?;
    let alice = Actor::start(&ALICE)?;
    let rule = format!("{}/no", place.dir.display());
    // Many short rules, few long ones, and one.
    for filler in ["x,", "a-rather-long-name-of-a-directory,", ""] {
        let list = filler.repeat((4000 - rule.len()) / filler.len().max(1)) + &rule;
        let padding = "y".repeat(4094 - list.len());
        let list = format!("{padding},{list}");
        ensure_eq!(list.len(), 4095, "length");
        ensure_eq!(store(list.as_bytes()), None, "4,095 bytes of {filler:?}");
        ensure_eq!(get("skip")?, list.as_bytes(), "the list");
        ensure_skipped(&alice, place.path(format!("no/{}", filler.len())), "path")?;
        // echo(1) adds a newline.
        ensure_eq!(
            store(format!("{list}\n").as_bytes()),
            None,
            "4,095 bytes and a newline"
        );

        let log = KernelLog::from_now()?;
        ensure_eq!(
            store(format!("y{list}").as_bytes()),
            Some(Errno::INVAL),
            "4,096 bytes"
        );
        let refusals = log
            .lines()?
            .iter()
            .filter(|line| line.contains("provfs: skip list refused"))
            .count();
        ensure_eq!(refusals, 1, "lines in the log");
        ensure_eq!(get("skip")?, list.as_bytes(), "the list after that");
    }
    ensure_eq!(store(&[b','; 60_000]), Some(Errno::INVAL), "60,000 bytes");
    Ok(())
}

fn pieces(place: &Place) -> Outcome {
    let _rules = set(place, "@/no")?;
    let fd = rustix::fs::open(
        "/proc/sys/provfs/skip",
        OFlags::WRONLY,
        rustix::fs::Mode::empty(),
    )?;
    rustix::io::write(&fd, b"/first,")?;
    ensure_eq!(
        rustix::io::write(&fd, b"/second"),
        Err(Errno::INVAL),
        "the second piece"
    );
    ensure_eq!(
        String::from_utf8_lossy(&get("skip")?),
        "/first,",
        "the list"
    );
    Ok(())
}

fn concurrent(place: &Place) -> Outcome {
    let rounds = i64::try_from(place.rounds(1000))?;
    place.directory("yes")?;
    place.directory("no")?;
    let _rules = set(place, "@/no")?;
    let _none = Setting::set("ts_granularity_ms", "0")?;
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let (recorded, skipped) = (place.path("yes/file"), place.path("no/file"));
    let (done, replaced) = (AtomicBool::new(false), AtomicUsize::new(0));
    let dir = place.dir.display();
    let lists = [
        format!("{dir}/no"),
        format!("/a,/b,/c,{dir}/n?,x,y,z"),
        format!("*,!/mnt,{dir}/no\n"),
    ];
    thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            while !done.load(Relaxed) {
                let next = replaced.fetch_add(1, Relaxed);
                write_setting("skip", lists[next % lists.len()].as_bytes())?;
            }
            Ok::<_, std::io::Error>(())
        });
        let write = || {
            alice.begin(words!["put often", &*recorded, rounds])?;
            bob.begin(words!["put often", &*skipped, rounds])?;
            for actor in [&alice, &bob] {
                let result = actor.result_within(Duration::from_secs(100))?;
                ensure_eq!(result, Some(Ok(rounds)), "rounds");
            }
            Ok(())
        };
        // Setting the list is a modification too, which ends in one way or another.
        let check = |grown: Counters| {
            // Without granularity, a record can be made again at release.
            ensure!(grown.get("stamped") >= rounds, "{rounds} rounds: {grown:?}");
            ensure!(
                grown.get("skipped.path") >= rounds && grown.get("failed") == 0,
                "{rounds} rounds: {grown:?}"
            );
            Ok(())
        };
        // The list is being set while the counters are read, so that they need not add up now: the last test checks
        // that they do in the end.
        let measured = || {
            let before = Counters::now()?;
            write()?;
            Ok(Counters::now()?.since(&before))
        };
        let mut result = measured().and_then(check);
        while result.is_ok() && replaced.load(Relaxed) < 50 && !replacing.is_finished() {
            result = measured().and_then(check);
        }
        done.store(true, Relaxed);
        replacing.join().unwrap_or(Ok(()))?;
        result
    })?;
    ensure_by(&recorded, &ALICE)?;
    ensure_none(&skipped)
}
