//! Every way of modifying a file: each of them names who did it, once, at the moment when that is known.

use std::{fs, path::Path};

use rustix::{fs::OFlags, io::Errno};

use crate::{
    actor::{Actor, Fd, words},
    fixture::{
        Fs, OWED, Outcome, PAID, Place, STAMPED, Setting, Stop, Test, counting, ensure, ensure_eq,
        everywhere, timed,
    },
    record::{ALICE, BOB, CAROL, Who, ensure_by, ensure_history, ensure_none, ensure_ts},
};

pub(crate) const TESTS: &[Test] = &[
    everywhere("calls that write stamp before they return", calls),
    everywhere("truncating a file", truncating),
    everywhere("creating a file", creating),
    everywhere("writing to a file that somebody else has opened", handed_on),
];

/// A way of modifying a file.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// Makes the modification, from no open file to no open file, and checks what is counted meanwhile.
    pub(crate) run: fn(&Scene<'_>) -> Outcome,
}

/// What there is for that.
pub(crate) struct Scene<'a> {
    pub(crate) place: &'a Place,
    /// The file.
    pub(crate) path: &'a Path,
    /// Who is to be named.
    pub(crate) who: &'a Who,
    /// Somebody who is.
    pub(crate) actor: &'a Actor,
}

impl Scene<'_> {
    /// Opens the file, which is no modification.
    pub(crate) fn open(&self, flags: OFlags) -> Outcome<Fd> {
        counting(&[], || self.actor.open(self.path, flags))
    }

    /// Closes it, with nothing left to do.
    pub(crate) fn close(&self, fd: Fd) -> Outcome {
        counting(&[], || self.actor.close(fd))
    }
}

/// Who modifies a file, one after the other.
struct Writers([(Who, Actor); 2]);

impl Writers {
    fn start() -> Outcome<Self> {
        Ok(Writers([
            (ALICE, Actor::start(&ALICE)?),
            (BOB, Actor::start(&BOB)?),
        ]))
    }

    /// Lets one after the other modify a file that is there, and checks the records.
    fn modify(&self, place: &Place, path: &Path, run: impl Fn(&Scene<'_>) -> Outcome) -> Outcome {
        let mut sessions = Vec::new();
        for (who, actor) in &self.0 {
            let scene = Scene {
                place,
                path,
                who,
                actor,
            };
            let when = timed(|| run(&scene))?;
            ensure_by(path, who)?;
            // File systems take times from the last tick.
            ensure_ts(path, &(when.start() - 1..=*when.end()))?;
            sessions.insert(0, who.session);
            ensure_history(path, &sessions)?;
        }
        Ok(())
    }

    /// Lets one after the other make a file, and checks the records.
    fn make(&self, place: &Place, path: &Path, run: impl Fn(&Scene<'_>) -> Outcome) -> Outcome {
        for (who, actor) in &self.0 {
            let scene = Scene {
                place,
                path,
                who,
                actor,
            };
            let when = timed(|| run(&scene))?;
            ensure_by(path, who)?;
            ensure_ts(path, &(when.start() - 1..=*when.end()))?;
            // It is another file.
            ensure_history(path, &[])?;
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// The files to modify: without a record, and on an overlay also one that is still in the lower layer.
pub(crate) fn files(place: &Place, name: &str) -> Outcome<Vec<std::path::PathBuf>> {
    let mut files = vec![place.unstamped(name)?];
    if place.fs == Fs::Overlay {
        files.push(place.unstamped_below(name)?);
    }
    Ok(files)
}

/// Tries everything in a list, and tells of all that failed.
pub(crate) fn all<T>(
    list: &[T],
    name: impl Fn(&T) -> &str,
    run: impl Fn(&T) -> Outcome,
) -> Outcome {
    let mut failures = Vec::new();
    for item in list {
        if let Err(stop) = run(item) {
            let (Stop::Failed(why) | Stop::Skipped(why)) = stop;
            failures.push(format!("{}: {why}", name(item)));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// What a slow machine does in between is not to make a stamp old.
pub(crate) fn patiently() -> Outcome<Setting> {
    Setting::set("ts_granularity_ms", "60000")
}

const CALLS: &[&str] = &[
    "write",
    "writev",
    "pwrite",
    "pwritev",
    "pwritev2",
    "append",
    "aio",
    "io_uring",
    "io_uring, by a worker",
    "io_uring, polled",
    "io_uring, registered file",
    "io_uring, registered buffer",
    "io_uring, fallocate",
    "io_uring, ftruncate",
    "splice",
    "sendfile",
    "copy_file_range",
    "fallocate",
    "fallocate, keeping the size",
    "punch a hole",
    "ftruncate to less",
    "ftruncate to more",
    "FICLONE",
    "FICLONERANGE",
];

/// Whether the file systems of a place can let files share blocks.
fn shares_blocks(fs: Fs) -> bool {
    matches!(fs, Fs::Xfs | Fs::Btrfs)
}

fn calls(place: &Place) -> Outcome {
    let _patience = patiently()?;
    let writers = Writers::start()?;
    let source = place.unstamped("source")?;
    all(
        CALLS,
        |call| call,
        |call| {
            let call = *call;
            if call.starts_with("FICLONE") && !shares_blocks(place.fs) {
                return cannot_clone(place, call, &source);
            }
            for path in files(place, call)? {
                writers.modify(place, &path, |scene| {
                    let from = scene.actor.open(&source, OFlags::RDONLY)?;
                    let fd = scene.open(OFlags::RDWR)?;
                    let write = || scene.actor.ask(words!["write by", call, fd, from]);
                    let written = counting(STAMPED, write)?;
                    ensure!(written > 0, "nothing was written");
                    // Now, and not only when it is closed.
                    ensure_by(scene.path, scene.who)?;
                    // Again is the same modification.
                    counting(&[], write)?;
                    scene.close(fd)?;
                    scene.close(from)
                })?;
            }
            Ok(())
        },
    )
}

/// Where files cannot share blocks, trying it is no modification.
fn cannot_clone(place: &Place, call: &str, source: &Path) -> Outcome {
    if place.fs == Fs::Overlay {
        // It asks for permission before it asks the file system below, so there may be a stamp.
        return Ok(());
    }
    let path = place.unstamped(call)?;
    let actor = Actor::start(&ALICE)?;
    let (from, fd) = (
        actor.open(source, OFlags::RDONLY)?,
        actor.open(&path, OFlags::RDWR)?,
    );
    let result = counting(&[], || actor.attempt(words!["write by", call, fd, from]))?;
    ensure_eq!(result, Err(Errno::OPNOTSUPP), "result");
    actor.close(fd)?;
    ensure_none(&path)
}

fn truncating(place: &Place) -> Outcome {
    let _patience = patiently()?;
    let ways = [
        Way {
            name: "O_TRUNC, and written to",
            run: |scene| {
                let flags = OFlags::WRONLY | OFlags::TRUNC;
                let fd = counting(OWED, || scene.actor.open(scene.path, flags))?;
                // Whoever writes to it first is named, and that is the same modification.
                counting(PAID, || scene.actor.write(fd))?;
                ensure_by(scene.path, scene.who)?;
                scene.close(fd)
            },
        },
        Way {
            name: "O_TRUNC, and nothing written",
            run: |scene| {
                let flags = OFlags::WRONLY | OFlags::TRUNC;
                let fd = counting(OWED, || scene.actor.open(scene.path, flags))?;
                counting(PAID, || scene.actor.close(fd))
            },
        },
        Way {
            name: "O_RDONLY | O_TRUNC",
            run: |scene| {
                let flags = OFlags::RDONLY | OFlags::TRUNC;
                let fd = counting(OWED, || scene.actor.open(scene.path, flags))?;
                counting(PAID, || scene.actor.close(fd))
            },
        },
        Way {
            name: "O_CREAT | O_TRUNC of a file that is there",
            run: |scene| {
                let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CREATE;
                let fd = counting(OWED, || scene.actor.open(scene.path, flags))?;
                counting(PAID, || scene.actor.close(fd))
            },
        },
        Way {
            name: "truncate to less",
            run: |scene| {
                counting(STAMPED, || {
                    scene.actor.ask(words!["truncate", scene.path, 10])
                })
                .map(drop)
            },
        },
        Way {
            name: "truncate to more",
            run: |scene| {
                counting(STAMPED, || {
                    scene.actor.ask(words!["truncate", scene.path, 100_000])
                })
                .map(drop)
            },
        },
        Way {
            name: "truncate of a file that the same process has open",
            run: |scene| {
                let fd = scene.open(OFlags::RDWR)?;
                counting(STAMPED, || {
                    scene.actor.ask(words!["truncate", scene.path, 10])
                })?;
                scene.close(fd)
            },
        },
    ];
    run_all(place, &ways)
}

/// Runs ways to modify a file that is there.
pub(crate) fn run_all(place: &Place, ways: &[Way]) -> Outcome {
    let writers = Writers::start()?;
    all(
        ways,
        |way| way.name,
        |way| {
            files(place, way.name)?
                .iter()
                .try_for_each(|path| writers.modify(place, path, way.run))
        },
    )
}

fn creating(place: &Place) -> Outcome {
    let _patience = patiently()?;
    const NEW: OFlags = OFlags::CREATE.union(OFlags::WRONLY);
    let ways = [
        Way {
            name: "empty",
            run: |scene| {
                let fd = scene.open(NEW)?;
                ensure_none(scene.path)?;
                counting(STAMPED, || scene.actor.close(fd))
            },
        },
        Way {
            name: "written to",
            run: |scene| {
                let fd = scene.open(NEW)?;
                counting(STAMPED, || scene.actor.write(fd))?;
                ensure_by(scene.path, scene.who)?;
                scene.close(fd)
            },
        },
        Way {
            name: "with O_TRUNC and O_EXCL",
            run: |scene| {
                let fd = scene.open(NEW | OFlags::TRUNC | OFlags::EXCL)?;
                counting(STAMPED, || scene.actor.write(fd))?;
                scene.close(fd)
            },
        },
        Way {
            name: "open for reading only",
            run: |scene| {
                let fd = scene.open(OFlags::CREATE | OFlags::RDONLY)?;
                counting(STAMPED, || scene.actor.close(fd))
            },
        },
        Way {
            name: "O_TMPFILE, written to, linkat",
            run: |scene| {
                let flags = OFlags::TMPFILE | OFlags::RDWR;
                let fd = counting(&[], || scene.actor.open(&scene.place.dir, flags))?;
                counting(STAMPED, || scene.actor.write(fd))?;
                counting(&[], || scene.actor.ask(words!["link", fd, scene.path]))?;
                ensure_by(scene.path, scene.who)?;
                scene.close(fd)
            },
        },
        Way {
            name: "O_TMPFILE, linkat, written to",
            run: |scene| {
                let flags = OFlags::TMPFILE | OFlags::RDWR;
                let fd = counting(&[], || scene.actor.open(&scene.place.dir, flags))?;
                counting(&[], || scene.actor.ask(words!["link", fd, scene.path]))?;
                counting(STAMPED, || scene.actor.write(fd))?;
                ensure_by(scene.path, scene.who)?;
                scene.close(fd)
            },
        },
        Way {
            name: "O_TMPFILE, linkat, nothing written",
            run: |scene| {
                let flags = OFlags::TMPFILE | OFlags::RDWR;
                let fd = counting(&[], || scene.actor.open(&scene.place.dir, flags))?;
                counting(&[], || scene.actor.ask(words!["link", fd, scene.path]))?;
                counting(STAMPED, || scene.actor.close(fd))
            },
        },
        Way {
            name: "mknod",
            run: |scene| {
                counting(STAMPED, || scene.actor.ask(words!["make node", scene.path])).map(drop)
            },
        },
        Way {
            name: "mapped",
            run: |scene| {
                let fd = scene.open(OFlags::CREATE | OFlags::RDWR)?;
                counting(STAMPED, || {
                    scene
                        .actor
                        .ask(words!["write by", "ftruncate to more", fd, fd])
                })?;
                let address = counting(&[], || scene.actor.ask(words!["map", fd, 1, 1]))?;
                counting(&[], || {
                    scene.actor.ask(words!["store", address])?;
                    scene.actor.ask(words!["unmap", address])
                })?;
                scene.close(fd)
            },
        },
    ];
    let writers = Writers::start()?;
    all(
        &ways,
        |way| way.name,
        |way| writers.make(place, &place.path(way.name), way.run),
    )
}

fn handed_on(place: &Place) -> Outcome {
    let _patience = patiently()?;
    let ways = [
        Way {
            name: "over a socket",
            run: |scene| {
                let opener = Actor::start(&CAROL)?;
                let fd = opener.open(scene.path, OFlags::RDWR)?;
                let passed = scene.actor.take(opener.give(fd)?)?;
                counting(STAMPED, || scene.actor.write(passed))?;
                ensure_by(scene.path, scene.who)?;
                scene.close(passed)?;
                counting(&[], || opener.exit())
            },
        },
        Way {
            name: "by inheritance",
            run: |scene| {
                let opener = Actor::start(&CAROL)?;
                let fd = opener.open(scene.path, OFlags::RDWR)?;
                let writer = opener.spawn("writer", &scene.who.variables())?;
                counting(STAMPED, || writer.write(fd))?;
                ensure_by(scene.path, scene.who)?;
                counting(&[], || writer.exit())?;
                counting(&[], || opener.exit())
            },
        },
        Way {
            name: "by the program before",
            run: |scene| {
                let actor = Actor::start(&CAROL)?;
                let fd = actor.open(scene.path, OFlags::RDWR)?;
                actor.execute("writer", &scene.who.variables())?;
                counting(STAMPED, || actor.write(fd))?;
                ensure_by(scene.path, scene.who)?;
                counting(&[], || actor.exit())
            },
        },
        Way {
            name: "mapped by inheritance",
            run: |scene| {
                // Who maps it is named: what a child stores is not to be seen.
                let child = scene.actor.fork()?;
                let fd = child.open(scene.path, OFlags::RDWR)?;
                let address = counting(STAMPED, || child.ask(words!["map", fd, 1, 1]))?;
                let grandchild = child.fork()?;
                counting(&[], || {
                    child.exit()?;
                    grandchild.ask(words!["store", address])?;
                    grandchild.exit()
                })
            },
        },
        Way {
            name: "truncated by who opens it, written to by another",
            run: |scene| {
                let opener = Actor::start(&CAROL)?;
                let flags = OFlags::WRONLY | OFlags::TRUNC;
                let fd = counting(OWED, || opener.open(scene.path, flags))?;
                let passed = scene.actor.take(opener.give(fd)?)?;
                // Another modification, that comes before the record of the first.
                let overtaken = [
                    ("modifications", 1),
                    ("owed", -1),
                    ("superseded", 1),
                    ("stamped", 1),
                ];
                counting(&overtaken, || scene.actor.write(passed))?;
                scene.close(passed)?;
                counting(&[], || opener.exit())
            },
        },
    ];
    run_all(place, &ways)
}
