//! Many at once: no record is lost, and none is a mixture.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};

use crate::{
    actor::{Actor, Fd, words},
    fixture::{Counters, Outcome, Place, Setting, Test, each, ensure, ensure_eq, growth},
    record::{ALICE, BOB, CAROL, DAVE, ensure_by},
};

pub(crate) const TESTS: &[Test] = &[
    each("32 writers of 4 sessions on one file", one_file),
    each(
        "8 writers of 4 sessions that hold it open",
        one_file_held_open,
    ),
    each("threads that write through one descriptor", threads),
    each("processes that write through one open file", one_open_file),
    each("nobody sees the bytes without the stamp", reader),
    each(
        "files that are deleted, renamed and linked while they are written",
        churn,
    ),
    each("many files by many processes", many_files),
    each(
        "what is remembered of writers goes when they and their files are gone",
        remembered,
    ),
];

/// Whoever runs the tests is less patient.
const LONG: Duration = Duration::from_secs(3000);

/// Fails unless the record is one of these writers', whole.
fn ensure_by_one_of(path: &std::path::Path) -> Outcome {
    let all = [ALICE, BOB, CAROL, DAVE]
        .iter()
        .map(|who| ensure_by(path, who))
        .collect::<Vec<_>>();
    if all.iter().any(Result::is_ok) {
        Ok(())
    } else {
        all.into_iter().next().unwrap_or(Ok(()))
    }
}

/// The actors of four sessions, each with this many children.
fn crowd(children: usize) -> Outcome<Vec<Actor>> {
    let mut crowd = Vec::new();
    for who in [ALICE, BOB, CAROL, DAVE] {
        let parent = Actor::start(&who)?;
        for _ in 0..children {
            crowd.push(parent.fork()?);
        }
        crowd.push(parent);
    }
    Ok(crowd)
}

/// Lets all of them do something at once.
fn all(crowd: &[Actor], begin: impl Fn(&Actor) -> Outcome, expected: i64) -> Outcome {
    for actor in crowd {
        begin(actor)?;
    }
    for actor in crowd {
        ensure_eq!(
            actor.result_within(LONG)?,
            Some(Ok(expected)),
            "rounds of {}",
            actor.pid()
        );
    }
    Ok(())
}

fn check_settled(grown: &Counters) -> Outcome {
    ensure_eq!(
        (grown.get("owed"), grown.get("failed")),
        (0, 0),
        "owed and failed of {grown:?}"
    );
    ensure!(grown.get("stamped") > 0, "nothing was stamped: {grown:?}");
    Ok(())
}

fn one_file(place: &Place) -> Outcome {
    let path = place.path("file");
    let _none = Setting::set("ts_granularity_ms", "0")?;
    let crowd = crowd(7)?;
    let rounds = i64::try_from(place.rounds_of(50_000, 1_000_000) / crowd.len())?;
    let begin = |actor: &Actor| actor.begin(words!["put often", &*path, rounds]);
    let ((), grown) = growth(|| all(&crowd, begin, rounds))?;
    check_settled(&grown)?;
    // Each open file is a modification, or two if its stamp is made again at release.
    let expected = rounds * i64::try_from(crowd.len())?;
    ensure!(
        grown.get("modifications") >= expected,
        "less than {expected} of {grown:?}"
    );
    ensure_by_one_of(&path)
}

/// Lets each of the crowd write through its descriptor, all at the same time, and close it when it is done.
fn write_and_close(crowd: &[Actor], fds: &[Fd], rounds: i64) -> Outcome {
    for (actor, fd) in crowd.iter().zip(fds) {
        actor.begin(words!["write often", *fd, rounds])?;
    }
    for (actor, fd) in crowd.iter().zip(fds) {
        ensure_eq!(actor.result_within(LONG)?, Some(Ok(rounds)), "rounds");
        actor.close(*fd)?;
    }
    Ok(())
}

fn one_file_held_open(place: &Place) -> Outcome {
    let path = place.path("file");
    let crowd = crowd(1)?;
    let rounds = i64::try_from(place.rounds(20_000) / crowd.len())?;
    let ((), grown) = growth(|| {
        let fds = crowd
            .iter()
            .map(|actor| actor.create(&path))
            .collect::<Outcome<Vec<_>>>()?;
        write_and_close(&crowd, &fds, rounds)
    })?;
    check_settled(&grown)?;
    ensure_by_one_of(&path)?;
    // The last one who writes when the others are quiet is named.
    let last = &crowd[0];
    last.put(&path)?;
    ensure_by(&path, &ALICE)
}

fn threads(place: &Place) -> Outcome {
    let path = place.path("file");
    let rounds = i64::try_from(place.rounds(2000))?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.create(&path)?;
    let ((), grown) = growth(|| {
        let written = alice.ask(words!["write in threads", fd, 8, rounds])?;
        ensure_eq!(written, 8 * rounds, "rounds");
        alice.close(fd)
    })?;
    check_settled(&grown)?;
    // All of them are one writer, but those that come first may come together.
    ensure!(grown.get("modifications") <= 16, "too many of {grown:?}");
    ensure_by(&path, &ALICE)
}

fn one_open_file(place: &Place) -> Outcome {
    let path = place.path("file");
    let crowd = crowd(1)?;
    let rounds = i64::try_from(place.rounds(20_000) / crowd.len())?;
    let ((), grown) = growth(|| {
        let file = fs::File::options().create(true).append(true).open(&path)?;
        let fds = crowd
            .iter()
            .map(|actor| actor.take(&file))
            .collect::<Outcome<Vec<_>>>()?;
        drop(file);
        write_and_close(&crowd, &fds, rounds)
    })?;
    check_settled(&grown)?;
    ensure_by_one_of(&path)
}

fn reader(place: &Place) -> Outcome {
    let rounds = place.rounds(1500);
    let written = AtomicUsize::new(0);
    let seen = AtomicUsize::new(0);
    let path = |round: usize| place.path(format!("{round}"));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut without = 0;
            for round in 0..rounds {
                let path = path(round);
                // The file is there, and empty, until the writer writes to it.
                while written.load(Relaxed) <= round {
                    std::hint::spin_loop();
                }
                while rustix::fs::stat(&path)?.st_size == 0 {}
                let mut session = [0; 256];
                without += usize::from(
                    rustix::fs::getxattr(&path, "user.prov.session", &mut session[..]).is_err(),
                );
                seen.store(round + 1, Relaxed);
            }
            Ok::<_, rustix::io::Errno>(without)
        });
        for round in 0..rounds {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path(round), flags, Mode::from_raw_mode(0o644))?;
            written.store(round + 1, Relaxed);
            rustix::io::write(&fd, b"some bytes\n")?;
            drop(fd);
            while seen.load(Relaxed) <= round && !reader.is_finished() {
                thread::yield_now();
            }
            fs::remove_file(path(round))?;
        }
        let without = reader.join().unwrap_or(Ok(rounds))?;
        ensure_eq!(without, 0, "files of {rounds} that had bytes and no stamp");
        Ok(())
    })
}

fn churn(place: &Place) -> Outcome {
    let path = place.path("file");
    let _none = Setting::set("ts_granularity_ms", "0")?;
    let crowd = crowd(1)?;
    let rounds = i64::try_from(place.rounds(4000) / crowd.len())?;
    let ((), grown) = growth(|| {
        for actor in &crowd {
            actor.begin(words!["put often", &*path, rounds])?;
        }
        let mut results = 0;
        let mut turn = 0_u32;
        while results < crowd.len() {
            match turn % 3 {
                0 => drop(fs::remove_file(&path)),
                1 => drop(fs::rename(&path, place.path("other"))),
                _ => {
                    let _ = fs::remove_file(place.path("link"));
                    drop(fs::hard_link(&path, place.path("link")));
                }
            }
            turn = turn.wrapping_add(1);
            if let Some(result) = crowd[results].result_within(Duration::from_millis(1))? {
                ensure_eq!(result, Ok(rounds), "rounds");
                results += 1;
            }
        }
        Ok(())
    })?;
    check_settled(&grown)?;
    for name in ["file", "other", "link"] {
        let path = place.path(name);
        if path.exists() {
            ensure_by_one_of(&path)?;
        }
    }
    Ok(())
}

fn many_files(place: &Place) -> Outcome {
    let crowd = crowd(1)?;
    let files = place.rounds(400) / crowd.len();
    let ((), grown) = growth(|| {
        for file in 0..files {
            for actor in &crowd {
                actor.begin(words![
                    "put often",
                    &*place.path(format!("{}-{file}", actor.pid())),
                    1
                ])?;
            }
            for actor in &crowd {
                ensure_eq!(actor.result_within(LONG)?, Some(Ok(1)), "rounds");
            }
        }
        Ok(())
    })?;
    let expected = i64::try_from(files * crowd.len())?;
    ensure_eq!(
        (grown.get("modifications"), grown.get("stamped")),
        (expected, expected),
        "of {grown:?}"
    );
    for (index, actor) in crowd.iter().enumerate() {
        let who = [ALICE, BOB, CAROL, DAVE][index / 2];
        ensure_by(place.path(format!("{}-0", actor.pid())), &who)?;
    }
    Ok(())
}

/// How many descriptions of writers are in memory.
fn identities() -> Outcome<i64> {
    let status = fs::read_to_string("/sys/kernel/security/provfs/status")?;
    let number = status
        .lines()
        .find_map(|line| line.strip_prefix("identities "));
    Ok(number.unwrap_or_default().parse()?)
}

fn remembered(place: &Place) -> Outcome {
    let before = identities()?;
    let programs = place.rounds(100);
    let path = place.path("file");
    let keeper = Actor::start(&ALICE)?;
    let fd = keeper.create(&path)?;
    for number in 0..programs {
        let writer = Actor::program("writer", &[format!("PROV_SESSION={number}")])?;
        writer.put(&path)?;
        writer.write(writer.take(keeper.give(fd)?)?)?;
        writer.close(writer.create(place.path("other"))?)?;
    }
    let expected = i64::try_from(programs)?;
    // One is that of the keeper; and its file remembers who has written to it last.
    let settled = |most: i64| -> Outcome {
        let mut now = 0;
        for _ in 0..200 {
            now = identities()? - before;
            if now <= most {
                return Ok(());
            }
            // What readers may still look at is freed later.
            thread::sleep(Duration::from_millis(50));
        }
        ensure_eq!(now, most, "descriptions after {expected} programs");
        Ok(())
    };
    settled(2)?;
    keeper.close(fd)?;
    settled(1)?;
    drop(keeper);
    settled(0)
}
