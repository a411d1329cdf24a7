//! File systems that cannot be written to now, or whose attributes cannot.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{IFlags, OFlags, ioctl_setflags},
    io::Errno,
    ioctl::{IntegerSetter, ioctl, opcode},
};

use crate::{
    actor::{Actor, Fd, words},
    fixture::{
        Counters, Fs, OWED, Outcome, Place, STAMPED, Setting, Stop, Test, counting, each, ensure,
        ensure_eq, growth, on, once,
    },
    mounted::{Image, Mounted, remount},
    record::{ALICE, BOB, ensure_by, ensure_history, ensure_none, raw},
};

pub(crate) const TESTS: &[Test] = &[
    on(
        &Fs::DISKS,
        "a write to a frozen file system waits, and is recorded at release",
        frozen_write,
    ),
    on(
        &Fs::DISKS,
        "what a frozen file system owes is paid by the next write",
        frozen_then_written,
    ),
    on(
        &Fs::DISKS,
        "a file made anew has its past, even if its first write has to wait",
        frozen_anew,
    ),
    on(
        &Fs::DISKS,
        "closing a file on a frozen file system does not wait",
        frozen_close,
    ),
    on(
        &Fs::DISKS,
        "a file system can be frozen while files are written",
        frozen_meanwhile,
    ),
    each("a file released on a read-only file system", read_only),
    each(
        "append-only files can be written to, and are not recorded",
        append_only,
    ),
    each("an immutable file that is open", immutable),
    once("ramfs has no attributes", ramfs),
    once("vfat has no attributes", vfat),
    once("tmpfs without room for attributes", full_tmpfs),
    once("ext4 without room for attributes", full_ext4),
    on(
        &[Fs::Ext4, Fs::Tmpfs],
        "unmounting right after many files were written never fails",
        unmount,
    ),
];

const FIFREEZE: u32 = opcode::read_write::<i32>(b'X', 119);
const FITHAW: u32 = opcode::read_write::<i32>(b'X', 120);

/// A frozen file system. It thaws when this is dropped.
struct Frozen(File);

impl Frozen {
    fn new(fs: Fs) -> Outcome<Self> {
        let root = File::open(fs.root())?;
        // SAFETY: The request takes an argument and ignores it.
        unsafe { ioctl(&root, IntegerSetter::<FIFREEZE>::new_usize(0))? };
        Ok(Frozen(root))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(errno) = thaw(&self.0) {
            println!("it could not be thawed: {errno}");
        }
    }
}

/// Thaws a file system. Fails if it is not frozen.
pub(crate) fn thaw(root: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: The request takes an argument and ignores it.
    unsafe { ioctl(root, IntegerSetter::<FITHAW>::new_usize(0)) }
}

const LONG: Duration = Duration::from_secs(60);

/// Begins a write that has to wait, and sees that it does.
fn begin_to_wait(writer: &Actor, fd: Fd) -> Outcome {
    writer.begin(words!["write", fd, "some bytes"])?;
    let result = writer.result_within(Duration::from_millis(700))?;
    ensure_eq!(result, None, "result of a write to a frozen file system");
    Ok(())
}

fn frozen_write(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&path, OFlags::WRONLY)?;
    counting(&[("modifications", 1), ("paid", 1)], || {
        let frozen = Frozen::new(place.fs)?;
        counting(OWED, || begin_to_wait(&alice, fd))?;
        drop(frozen);
        ensure_eq!(
            alice.result_within(LONG)?,
            Some(Ok(10)),
            "result of the write after that"
        );
        alice.close(fd)
    })?;
    ensure_by(&path, &ALICE)
}

fn frozen_then_written(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let fd = alice.open(&path, OFlags::WRONLY)?;
    let owe = || {
        let _frozen = Frozen::new(place.fs)?;
        begin_to_wait(&alice, fd)
    };
    counting(&[("modifications", 1), ("paid", 1)], || {
        owe()?;
        alice.result_within(LONG)?;
        alice.write(fd)?;
        ensure_by(&path, &ALICE)
    })?;
    counting(&[], || alice.close(fd))?;

    // Somebody else writes first, through the same open file.
    let other = place.unstamped("other")?;
    let fd = alice.open(&other, OFlags::WRONLY)?;
    let in_bob = bob.take(alice.give(fd)?)?;
    counting(
        &[("modifications", 2), ("superseded", 1), ("stamped", 1)],
        || {
            let frozen = Frozen::new(place.fs)?;
            begin_to_wait(&alice, fd)?;
            drop(frozen);
            alice.result_within(LONG)?;
            bob.write(in_bob)
        },
    )?;
    ensure_by(&other, &BOB)?;
    counting(&[], || {
        alice.close(fd)?;
        bob.close(in_bob)
    })?;
    ensure_by(&other, &BOB)
}

fn frozen_anew(place: &Place) -> Outcome {
    let (path, backup) = (place.path("file"), place.path("file~"));
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    bob.put(&path)?;
    alice.rename(&path, &backup)?;
    let fd = alice.create(&path)?;
    counting(&[("modifications", 1), ("paid", 1)], || {
        let frozen = Frozen::new(place.fs)?;
        counting(OWED, || begin_to_wait(&alice, fd))?;
        drop(frozen);
        alice.result_within(LONG)?;
        alice.close(fd)
    })?;
    ensure_by(&path, &ALICE)?;
    ensure_history(&path, &[ALICE.session, BOB.session])
}

fn frozen_close(place: &Place) -> Outcome {
    let (created, written) = (place.path("created"), place.path("written"));
    let alice = Actor::start(&ALICE)?;
    let (only_created, fd) = (alice.create(&created)?, alice.create(&written)?);
    alice.write(fd)?;
    let frozen = Frozen::new(place.fs)?;
    let close = |fd| {
        alice.begin(words!["close", fd])?;
        ensure_eq!(
            alice.result_within(Duration::from_secs(20))?,
            Some(Ok(0)),
            "result of close"
        );
        Ok(())
    };
    counting(&[], || close(fd))?;
    let failed = [("modifications", 1), ("failed", 1), ("failed.EBUSY", 1)];
    let closed = counting(&failed, || close(only_created));
    drop(frozen);
    closed?;
    ensure_by(&written, &ALICE)
}

fn frozen_meanwhile(place: &Place) -> Outcome {
    let _none = Setting::set("ts_granularity_ms", "0")?;
    let (one, other) = (place.path("one"), place.path("other"));
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let rounds = i64::try_from(place.rounds(2000))?;
    let ((), grown) = growth(|| {
        alice.begin(words!["put often", &*one, rounds])?;
        bob.begin(words!["put often", &*other, rounds])?;
        for _ in 0..5 {
            let frozen = Frozen::new(place.fs)?;
            let stamps = || {
                let now = Counters::now()?;
                Ok::<_, Stop>(now.get("stamped") + now.get("paid"))
            };
            let before = stamps()?;
            std::thread::sleep(Duration::from_millis(50));
            let stamped = stamps()? - before;
            drop(frozen);
            ensure_eq!(stamped, 0, "stamps on a frozen file system");
            std::thread::sleep(Duration::from_millis(50));
        }
        for actor in [&alice, &bob] {
            ensure_eq!(actor.result_within(LONG * 3)?, Some(Ok(rounds)), "rounds");
        }
        Ok(())
    })?;
    // A write that had to wait is later than its stamp, which is made again at release unless
    // the file system is frozen by then.
    let recorded = grown.get("stamped") + grown.get("paid");
    let all =
        grown.get("modifications") == recorded + grown.get("failed") && grown.get("failed") <= 10;
    ensure!(
        all && recorded >= 2 * rounds,
        "{rounds} rounds twice: {grown:?}"
    );
    ensure_by(&one, &ALICE)?;
    ensure_by(&other, &BOB)
}

/// A file system that is mounted read-only, until this is dropped.
struct ReadOnly(Fs);

impl ReadOnly {
    fn new(fs: Fs) -> Outcome<Self> {
        remount(&fs.root(), "ro")?;
        Ok(ReadOnly(fs))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if let Err(error) = remount(&self.0.root(), "rw") {
            println!("it could not be remounted: {error:?}");
        }
    }
}

fn read_only(place: &Place) -> Outcome {
    let (created, written) = (place.path("created"), place.path("written"));
    let alice = Actor::start(&ALICE)?;
    alice.put(&written)?;
    let fd = alice.open(&created, OFlags::CREATE | OFlags::RDONLY)?;
    let mounted = ReadOnly::new(place.fs)?;
    let failed = [("modifications", 1), ("failed", 1), ("failed.EROFS", 1)];
    counting(&failed, || alice.close(fd))?;
    counting(&[], || {
        let result = alice.attempt(words!["open", &*written, OFlags::WRONLY])?;
        ensure_eq!(result, Err(Errno::ROFS), "opening for writing");
        Ok(())
    })?;
    drop(mounted);
    ensure_none(&created)?;
    ensure_by(&written, &ALICE)?;
    // It is recorded again.
    counting(STAMPED, || alice.put(&created))?;
    ensure_by(&created, &ALICE)
}

const IMMUTABLE: &[(&str, i64)] = &[("modifications", 1), ("skipped.immutable", 1)];

/// Sets the flags of a file.
fn set_flags(path: &Path, flags: IFlags) -> Outcome {
    Ok(ioctl_setflags(File::open(path)?, flags)?)
}

fn append_only(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    set_flags(&path, IFlags::APPEND)?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&path, OFlags::WRONLY | OFlags::APPEND)?;
    let written = counting(IMMUTABLE, || {
        let written = alice.attempt(words!["write", fd, "some bytes"])?;
        alice.write(fd)?;
        alice.close(fd)?;
        Ok(written)
    });
    set_flags(&path, IFlags::empty())?;
    ensure_eq!(written?, Ok(10), "result of appending");
    ensure_none(&path)?;
    counting(STAMPED, || alice.put(&path))?;
    ensure_by(&path, &ALICE)
}

fn immutable(place: &Place) -> Outcome {
    let path = place.unstamped("file")?;
    let alice = Actor::start(&ALICE)?;
    let fd = alice.open(&path, OFlags::WRONLY)?;
    set_flags(&path, IFlags::IMMUTABLE)?;
    // Whether that works is for the file system to say.
    let counted = counting(IMMUTABLE, || {
        let _ = alice.attempt(words!["write", fd, "some bytes"])?;
        alice.close(fd)
    });
    set_flags(&path, IFlags::empty())?;
    counted?;
    ensure_none(&path)
}

const UNSUPPORTED: &[(&str, i64)] = &[("modifications", 1), ("skipped.unsupported", 1)];

fn unsupported(mounted: &Mounted) -> Outcome {
    let alice = Actor::start(&ALICE)?;
    for name in ["one", "other"] {
        counting(UNSUPPORTED, || alice.put(mounted.file(name)))?;
        ensure_eq!(fs::read(mounted.file(name))?, b"some bytes\n", "content");
    }
    let created = alice.create(mounted.file("created"))?;
    counting(UNSUPPORTED, || alice.close(created))
}

fn ramfs(place: &Place) -> Outcome {
    unsupported(&Mounted::new(place, "ramfs", "")?)
}

fn vfat(place: &Place) -> Outcome {
    let mounted = Mounted::image(place, 16, &["mkfs.vfat"])?;
    unsupported(&mounted)?;
    // Whether there are attributes now is found out again.
    remount(mounted.dir(), "rw")?;
    for file in fs::read_dir(mounted.dir())? {
        fs::remove_file(file?.path())?;
    }
    unsupported(&mounted)
}

const NO_SPACE: &[(&str, i64)] = &[("modifications", 1), ("failed", 1), ("failed.ENOSPC", 1)];

fn full_tmpfs(place: &Place) -> Outcome {
    let mounted = Mounted::new(place, "tmpfs", "nr_inodes=2")?;
    let path = mounted.file("file");
    let alice = Actor::start(&ALICE)?;
    counting(NO_SPACE, || alice.put(&path))?;
    ensure_eq!(fs::read(&path)?, b"some bytes\n", "content");
    ensure_none(&path)?;
    let failed = alice.attempt(words![
        "open",
        &*mounted.file("other"),
        OFlags::CREATE | OFlags::WRONLY
    ])?;
    ensure_eq!(failed, Err(Errno::NOSPC), "one more file");
    Ok(())
}

fn full_ext4(place: &Place) -> Outcome {
    let mkfs = [
        "mkfs.ext4",
        "-q",
        "-F",
        "-m",
        "0",
        "-b",
        "4096",
        "-I",
        "256",
        "-O",
        "^has_journal,^metadata_csum",
    ];
    let mounted = Mounted::image(place, 8, &mkfs)?;
    let paths: Vec<_> = (0..4).map(|i| mounted.file(&format!("{i}"))).collect();
    let off = Setting::set("enabled", "0")?;
    for path in &paths {
        fs::write(path, [b'.'; 4096])?;
    }
    let fillers = mounted.file("fillers");
    fs::create_dir(&fillers)?;
    let mut blocks = 0;
    // A block may be left that a large file cannot have, because it would need one more for its
    // extents; a new file can.
    for round in 0.. {
        let filler = File::create(fillers.join(format!("{round}")))?;
        let mut own = 0;
        while rustix::io::pwrite(&filler, &[b'.'; 4096], own * 4096).is_ok() {
            own += 1;
        }
        rustix::fs::sync();
        if own == 0 {
            break;
        }
        blocks += own;
    }
    drop(off);
    ensure!(blocks > 256, "it was full after {blocks} blocks");
    let alice = Actor::start(&ALICE)?;
    for path in &paths {
        // Its block is there, so the write itself needs no room.
        counting(NO_SPACE, || alice.put(path))?;
        ensure!(
            fs::read(path)?.starts_with(b"some bytes\n"),
            "nothing was written"
        );
        // A part of the record may have fitted.
        let record = raw(path)?;
        ensure!(
            !record.contains_key("ts"),
            "nothing is missing: {:?}",
            record.keys()
        );
        for (key, value) in [("session", ALICE.session), ("tool", ALICE.tool)] {
            let stored = record.get(key);
            ensure!(
                stored.is_none_or(|stored| stored == value.as_bytes()),
                "{key} is {stored:?}"
            );
        }
    }
    // With room, it works again.
    fs::remove_dir_all(&fillers)?;
    rustix::fs::sync();
    counting(STAMPED, || alice.put(&paths[0]))?;
    ensure_by(&paths[0], &ALICE)
}

fn unmount(place: &Place) -> Outcome {
    let image = match place.fs {
        Fs::Tmpfs => None,
        _ => Some(Image::new(place, 64, &["mkfs.ext4", "-q", "-F"])?),
    };
    let files = place.rounds_of(200, 1000);
    for round in 0..place.rounds_of(15, 1000) {
        let mounted = match &image {
            None => Mounted::new(place, "tmpfs", "size=64m")?,
            Some(image) => image.mount(place, "")?,
        };
        for file in 0..files {
            fs::write(mounted.file(&format!("{file}")), b"some bytes\n")?;
        }
        let record = raw(mounted.file("0"))?;
        ensure!(
            record.contains_key("session"),
            "the first file has no record"
        );
        let result = mounted.unmount();
        ensure_eq!(result, Ok(()), "unmounting in round {round}");
    }
    Ok(())
}
