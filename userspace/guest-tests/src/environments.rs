//! Where processes and files are, and how programs come to life: mounts and name spaces of all kinds, and what starts
//! programs.

use std::{
    ffi::CString,
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
    thread::sleep,
    time::Duration,
};

use rustix::{
    fs::OFlags,
    mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
    thread::UnshareFlags,
};

use crate::{
    actor::{Actor, words},
    fixture::{
        Fs, Outcome, Place, STAMPED, Setting, Test, counting, each, ensure, ensure_eq, growth, once,
    },
    programs::{need, shell, shell_with},
    record::{ALICE, BOB, CAROL, Who, ensure_by, ensure_history, fallback, fields, raw},
};

pub(crate) const TESTS: &[Test] = &[
    each(
        "a mount that shows other users than there are",
        mapped_users,
    ),
    each(
        "a container: name spaces of its own, and another root",
        container,
    ),
    each("a mount that came from another name space", propagated),
    once(
        "programs that are started by posix_spawn and from threads",
        started,
    ),
    once("a program that the kernel starts", started_by_kernel),
    once("a program that calls itself something else", other_argument),
    once("processes that are stopped as for suspend", suspended),
    once("a tree of many processes", deep_tree),
    each(
        "a directory that is renamed and deleted while files in it are written",
        moved_directory,
    ),
];

/// A user name space in which user 0 is user 1000 outside.
fn user_name_space() -> Outcome<(Actor, OwnedFd)> {
    let holder = Actor::start(&BOB)?;
    holder.ask(words!["unshare", i64::from(UnshareFlags::NEWUSER.bits())])?;
    let proc = format!("/proc/{}", holder.pid());
    for map in ["uid_map", "gid_map"] {
        fs::write(Path::new(&proc).join(map), "0 1000 1\n")?;
    }
    let name_space = File::open(Path::new(&proc).join("ns/user"))?;
    Ok((holder, name_space.into()))
}

/// Lets a mount that is not attached show the users of a name space.
fn set_mapped(mount: &OwnedFd, name_space: &OwnedFd) -> Outcome {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(name_space.as_raw_fd().unsigned_abs()),
    };
    let empty = CString::default();
    // SAFETY: The path is a string, and the structure has the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

fn mapped_users(place: &Place) -> Outcome {
    let (source, target) = (place.directory("source")?, place.directory("mounted")?);
    let below = source.join("file");
    {
        let _off = Setting::set("enabled", "0")?;
        fs::write(&below, "some bytes\n")?;
    }
    let (_holder, name_space) = user_name_space()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(rustix::fs::CWD, &source, flags)?;
    set_mapped(&mount, &name_space)?;
    rustix::mount::move_mount(
        &mount,
        "",
        rustix::fs::CWD,
        &target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    let path = target.join("file");
    let written = (|| {
        // What belongs to root is user 1000's there.
        let alice = Actor::start(&ALICE)?;
        alice.ask(words!["set user", 1000])?;
        counting(STAMPED, || alice.put(&path))?;
        ensure_by(&path, &ALICE)?;
        ensure_by(&below, &ALICE)?;
        let _protect = Setting::set("protect", "1")?;
        let nobody = Actor::program("nobody", &[""; 0])?;
        nobody.ask(words!["set user", 1000])?;
        counting(STAMPED, || nobody.put(&path))?;
        let who = fallback(&below)?;
        ensure_eq!(who.uid, Some(1000), "user");
        ensure_history(&below, &["comm:nobody:uid:1000", ALICE.session])?;
        counting(STAMPED, || alice.put(target.join("new")))?;
        ensure_by(source.join("new"), &ALICE)
    })();
    rustix::mount::unmount(&target, UnmountFlags::DETACH)?;
    written
}

fn container(place: &Place) -> Outcome {
    let root = place.directory("root")?;
    let inside = Actor::start(&ALICE)?;
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    inside.ask(words!["unshare", i64::from(flags.bits())])?;
    // Declares as long as it sees the file for that.
    let child = inside.fork()?;
    child.declare("session=bob\ntool=Bash\nturn=\nintent=")?;
    inside.ask(words!["change root by pivoting", &*root])?;
    counting(STAMPED, || inside.put("/file"))?;
    ensure_by(root.join("file"), &ALICE)?;
    // Users of a name space of its own.
    child.ask(words!["unshare", i64::from(UnshareFlags::NEWUSER.bits())])?;
    let fd = inside.open("/file", OFlags::RDWR)?;
    let in_child = child.take(inside.give(fd)?)?;
    counting(STAMPED, || child.write(in_child))?;
    ensure_by(root.join("file"), &BOB)?;
    ensure_history(root.join("file"), &[BOB.session, ALICE.session])?;

    // As programs make them.
    need("unshare")?;
    let script = "unshare --user --map-root-user --mount --pid --fork --uts --ipc --net \
        sh -ec 'mount --bind root root; echo x > root/by-a-container; echo y > by-a-container'";
    shell(place, &CAROL, script)?;
    ensure_by(root.join("by-a-container"), &CAROL)?;
    ensure_by(place.path("by-a-container"), &CAROL)?;
    shell_with(place, &[""; 0], &script.replace("by-a", "of-nobody-in-a"))?;
    let who = fallback(place.path("of-nobody-in-a-container"))?;
    ensure_eq!(who.uid, Some(0), "user");
    // The process as it is known outside.
    ensure!(who.pid.is_some_and(|pid| pid > 1), "process {:?}", who.pid);
    Ok(())
}

fn propagated(place: &Place) -> Outcome {
    let (shared, source) = (place.directory("shared")?, place.directory("source")?);
    rustix::mount::mount_bind(&shared, &shared)?;
    let written = (|| {
        rustix::mount::mount_change(&shared, MountPropagationFlags::SHARED)?;
        let target = place.directory("shared/mounted")?;
        let alice = Actor::start(&ALICE)?;
        alice.ask(words!["unshare", i64::from(UnshareFlags::NEWNS.bits())])?;
        rustix::mount::mount_bind(&source, &target)?;
        let path = target.join("file");
        counting(STAMPED, || alice.put(&path))?;
        ensure_by(source.join("file"), &ALICE)?;
        // By a name in the mount that it came to.
        let fd = alice.open(&path, OFlags::WRONLY)?;
        rustix::mount::unmount(&target, UnmountFlags::DETACH)?;
        let bob = Actor::start(&BOB)?;
        let in_bob = bob.take(alice.give(fd)?)?;
        counting(STAMPED, || bob.write(in_bob))?;
        ensure_by(source.join("file"), &BOB)
    })();
    rustix::mount::unmount(&shared, UnmountFlags::DETACH)?;
    written
}

fn started(place: &Place) -> Outcome {
    let actor = Actor::start(&ALICE)?;
    actor.ask(words!["change directory", &*place.dir])?;
    let script = "cat /proc/version > file";
    for how in ["run", "run in a thread"] {
        let status = actor.ask(words![how, script, "PROV_SESSION", "child"])?;
        ensure_eq!(status, 0, "status");
        ensure_by(
            place.path("file"),
            &Who {
                session: "child",
                ..ALICE
            },
        )?;
        actor.put(place.path("file"))?;
        ensure_by(place.path("file"), &ALICE)?;
    }
    Ok(())
}

fn started_by_kernel(place: &Place) -> Outcome {
    const PATTERN: &str = "/proc/sys/kernel/core_pattern";
    let (helper, output) = (place.path("helper"), place.path("output"));
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/head -c 100 > '{}'\n",
        output.display()
    );
    fs::write(&helper, script)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    let before = fs::read(PATTERN)?;
    fs::write(PATTERN, format!("|{}", helper.display()))?;
    let alice = Actor::start(&ALICE)?;
    let ran = alice.ask(words!["run", "kill -SEGV $$", "A", "b"]);
    for _ in 0..100 {
        if fs::metadata(&output).is_ok_and(|meta| meta.len() == 100) {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    fs::write(PATTERN, before)?;
    ran?;
    // It has nothing to do with who crashed.
    let who = fallback(&output)?;
    ensure_eq!(who.chain, [provfs::Value::from("head")], "chain");
    ensure_eq!(who.uid, Some(0), "user");
    Ok(())
}

fn other_argument(place: &Place) -> Outcome {
    need("bash")?;
    let script = "bash -c 'exec -a \"systemd evil\" /usr/bin/tee file < /proc/version' > /dev/null";
    shell_with(place, &["PROV_SESSION=s"], script)?;
    let tool = fields(place.path("file"))?.remove("tool");
    ensure_eq!(tool.as_deref(), Some(&b"tee"[..]), "tool");
    Ok(())
}

fn suspended(place: &Place) -> Outcome {
    const POWER: &str = "/sys/power";
    const DELAY: &str = "/sys/module/suspend/parameters/pm_test_delay";
    let set = |name: &str, value: &str| fs::write(Path::new(POWER).join(name), value);
    if !Path::new(POWER).join("pm_test").exists() {
        return crate::fixture::skip("this kernel cannot try to suspend");
    }
    let _none = Setting::set("ts_granularity_ms", "0")?;
    let (one, other) = (place.path("one"), place.path("other"));
    let (alice, bob) = (Actor::start(&ALICE)?, Actor::start(&BOB)?);
    let rounds = i64::try_from(place.rounds(2000))?;
    fs::write(DELAY, "1")?;
    set("pm_test", "freezer")?;
    let ((), grown) = growth(|| {
        alice.begin(words!["put often", &*one, rounds])?;
        bob.begin(words!["put often", &*other, rounds])?;
        // File systems, too, if this kernel can do that. Lockdep takes waiting for a frozen file system for a lock
        // that is held, and warns about each process that is frozen there (__set_task_frozen()).
        let both: &[_] = if has_lockdep() { &["0"] } else { &["0", "1"] };
        for file_systems in both {
            let _ = set("freeze_filesystems", file_systems);
            set("state", "freeze")?;
        }
        for actor in [&alice, &bob] {
            let done = actor.result_within(Duration::from_secs(200))?;
            ensure_eq!(done, Some(Ok(rounds)), "rounds");
        }
        Ok(())
    })?;
    set("pm_test", "none")?;
    ensure_eq!(grown.get("owed"), 0, "owed of {grown:?}");
    // What is released on a frozen file system.
    ensure_eq!(
        grown.get("failed"),
        grown.get("failed.EBUSY"),
        "failed of {grown:?}"
    );
    ensure!(grown.get("failed") <= 2, "failed of {grown:?}");
    ensure_by(&one, &ALICE)?;
    ensure_by(&other, &BOB)
}

fn has_lockdep() -> bool {
    Path::new("/proc/lockdep_stats").exists()
}

fn deep_tree(place: &Place) -> Outcome {
    let path = place.path("file");
    let mut actor = Actor::program("root", &[""; 0])?;
    let mut ancestors = Vec::new();
    for depth in 0..30 {
        let child = actor.spawn(&format!("d{depth}"), &[""; 0])?;
        ancestors.push(std::mem::replace(&mut actor, child));
    }
    actor.put(&path)?;
    let chain: Vec<_> = ["d29", "d28", "d27"].map(provfs::Value::from).into();
    ensure_eq!(fallback(&path)?.chain, chain, "chain");
    // Their end leaves nothing of it behind.
    drop(ancestors);
    actor.put(place.path("other"))?;
    ensure_eq!(
        fallback(place.path("other"))?.pid,
        Some(actor.pid()),
        "process"
    );
    Ok(())
}

fn moved_directory(place: &Place) -> Outcome {
    let _rules = Setting::set("skip", format!("{}/skipped", place.dir.display()))?;
    let rounds = place.rounds(300);
    place.directory("one")?;
    let alice = Actor::start(&ALICE)?;
    let path = place.path("one/file");
    let fd = alice.create(&path)?;
    let writes = i64::try_from(place.rounds(20_000))?;
    let ((), grown) = growth(|| {
        let _none = Setting::set("ts_granularity_ms", "0")?;
        alice.begin(words!["write often", fd, writes])?;
        for round in 0..rounds {
            let [from, to] = match round % 3 {
                0 => ["one", "skipped"],
                1 => ["skipped", "two"],
                _ => ["two", "one"],
            };
            fs::rename(place.path(from), place.path(to))?;
        }
        ensure_eq!(
            alice.result_within(Duration::from_secs(200))?,
            Some(Ok(writes)),
            "rounds"
        );
        Ok(())
    })?;
    ensure_eq!(
        (grown.get("failed"), grown.get("owed")),
        (0, 0),
        "failed and owed of {grown:?}"
    );
    // When all is quiet, where it is decides.
    let dir = ["one", "skipped", "two"]
        .map(|name| place.path(name))
        .into_iter()
        .find(|dir| dir.exists())
        .unwrap_or_default();
    let yes = place.path("yes");
    fs::rename(&dir, &yes)?;
    let bob = Actor::start(&BOB)?;
    counting(STAMPED, || bob.put(yes.join("file")))?;
    fs::rename(&yes, place.path("skipped"))?;
    let carol = Actor::start(&CAROL)?;
    counting(crate::fixture::SKIPPED_PATH, || {
        carol.put(place.path("skipped/file"))
    })?;
    ensure_by(place.path("skipped/file"), &BOB)?;
    // Deleted, with the file.
    let file = File::open(place.path("skipped/file"))?;
    fs::remove_dir_all(place.path("skipped"))?;
    let ((), _) = growth(|| alice.write(fd))?;
    growth(|| alice.close(fd))?;
    ensure!(
        place.fs == Fs::Overlay || !raw(crate::record::by_fd(file.as_fd()))?.is_empty(),
        "its record is gone"
    );
    Ok(())
}
