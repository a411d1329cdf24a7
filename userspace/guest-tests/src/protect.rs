//! `provfs.protect`: nobody but the kernel and the administrator changes records.

use std::fs;

use rustix::{fs::OFlags, io::Errno, thread::UnshareFlags};

use crate::{
    actor::{Actor, words},
    fixture::{
        Fs, INHERITED, Outcome, Place, STAMPED, Setting, Test, counting, ensure, ensure_eq,
        everywhere, on,
    },
    programs::{need, shell_with},
    record::{ALICE, BOB, CAROL, attributes, ensure_by, ensure_history, ensure_none},
};

pub(crate) const TESTS: &[Test] = &[
    everywhere(
        "users and root of a user namespace cannot change records",
        refused,
    ),
    everywhere("without it, an owner can", unprotected),
    everywhere("the administrator can", administrator),
    everywhere(
        "the kernel still records, renames and switches formats",
        kernel,
    ),
    on(
        &[Fs::Ext4, Fs::Tmpfs],
        "an overlay of a user can copy up what has a record",
        overlay_of_a_user,
    ),
];

/// A file of user 1000 that ALICE has written, and that user.
fn file_of_a_user(place: &Place) -> Outcome<(std::path::PathBuf, Actor)> {
    let user = Actor::start(&ALICE)?;
    user.ask(words!["set user", 1000])?;
    let path = place.path("file");
    user.put(&path)?;
    ensure_by(&path, &ALICE)?;
    Ok((path, user))
}

/// What setting and removing an attribute comes to.
fn try_both(actor: &Actor, path: &std::path::Path, name: &str) -> Outcome<[Result<i64, Errno>; 2]> {
    Ok([
        actor.attempt(words!["set attribute", path, name, "made up"])?,
        actor.attempt(words!["remove attribute", path, name])?,
    ])
}

const NAMES: [&str; 8] = [
    "user.prov",
    "user.prov.session",
    "user.prov.tool",
    "user.prov.turn",
    "user.prov.intent",
    "user.prov.ts",
    "user.prov.history",
    "user.prov.anything",
];

fn refused(place: &Place) -> Outcome {
    let (path, user) = file_of_a_user(place)?;
    let _protect = Setting::set("protect", "1")?;
    let in_namespace = user.fork()?;
    in_namespace.ask(words!["unshare", i64::from(UnshareFlags::NEWUSER.bits())])?;
    for actor in [&user, &in_namespace] {
        for name in NAMES {
            let results = counting(&[], || try_both(actor, &path, name))?;
            ensure_eq!(
                results,
                [Err(Errno::PERM); 2],
                "setting and removing {name}"
            );
        }
        // Other attributes are none of our business.
        for name in ["user.provenance", "user.pro", "user.other"] {
            let results = try_both(actor, &path, name)?;
            ensure_eq!(results, [Ok(0); 2], "setting and removing {name}");
        }
    }
    ensure_by(&path, &ALICE)
}

fn unprotected(place: &Place) -> Outcome {
    let (path, user) = file_of_a_user(place)?;
    for name in NAMES {
        let results = try_both(&user, &path, name)?;
        ensure_eq!(results, [Ok(0); 2], "setting and removing {name}");
    }
    ensure_none(&path)
}

fn administrator(place: &Place) -> Outcome {
    let (path, _user) = file_of_a_user(place)?;
    let _protect = Setting::set("protect", "1")?;
    let root = Actor::start(&BOB)?;
    for name in NAMES {
        let results = try_both(&root, &path, name)?;
        ensure_eq!(results, [Ok(0); 2], "setting and removing {name}");
    }
    ensure_none(&path)
}

fn kernel(place: &Place) -> Outcome {
    let (path, user) = file_of_a_user(place)?;
    let _protect = Setting::set("protect", "1")?;
    let other = Actor::start(&BOB)?;
    other.ask(words!["set user", 1000])?;
    counting(STAMPED, || other.put(&path))?;
    ensure_by(&path, &BOB)?;
    ensure_history(&path, &[BOB.session, ALICE.session])?;
    // Fields that the new writer lacks go, and so does the other format.
    {
        let _packed = Setting::set("format", "packed")?;
        counting(STAMPED, || user.put(&path))?;
        ensure_eq!(attributes(&path)?, ["user.prov"], "attributes");
    }
    counting(STAMPED, || other.put(&path))?;
    ensure_by(&path, &BOB)?;
    // Saving by renaming.
    let saved = place.path("saved");
    user.put(&saved)?;
    counting(INHERITED, || user.rename(&saved, &path))?;
    ensure_by(&path, &ALICE)?;
    ensure_history(&path, &[ALICE.session, BOB.session])?;
    // What a file that was created and stays empty gets is set at release.
    let empty = place.path("empty");
    counting(STAMPED, || user.close(user.create(&empty)?))?;
    ensure_by(&empty, &ALICE)?;
    // A copy cannot take the record of its source along, and is recorded all the same.
    let script = format!(
        "cp --preserve=mode,timestamps '{}' '{}'",
        path.display(),
        place.path("copy").display()
    );
    counting(STAMPED, || crate::programs::shell(place, &CAROL, &script))?;
    ensure_by(place.path("copy"), &CAROL)
}

fn overlay_of_a_user(place: &Place) -> Outcome {
    need("unshare")?;
    need("setpriv")?;
    for name in ["lower", "upper", "work", "merged"] {
        let path = place.directory(name)?;
        std::os::unix::fs::chown(&path, Some(1000), Some(1000))?;
    }
    let lower = place.path("lower/file");
    let upper = place.path("upper/file");
    let user = Actor::start(&ALICE)?;
    user.ask(words!["set user", 1000])?;
    user.put(&lower)?;
    let _protect = Setting::set("protect", "1")?;
    let script = "setpriv --reuid=1000 --regid=1000 --clear-groups unshare -Urm sh -ec '\
        mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work overlay merged; \
        chmod 640 merged/file; test -s merged/file; echo more >> merged/file; \
        ! setfattr -n user.prov.session -v evil merged/file 2>/dev/null'";
    shell_with(place, &BOB.variables(), script)?;
    ensure!(
        fs::read_to_string(&upper)?.ends_with("more\n"),
        "it was not copied up"
    );
    ensure_by(&upper, &BOB)?;
    ensure_history(&upper, &[BOB.session, ALICE.session])?;
    ensure_by(&lower, &ALICE)?;
    // Copying up is no way to make a record up.
    let fd = user.open(&lower, OFlags::WRONLY)?;
    user.close(fd)?;
    let results = try_both(&user, &lower, "user.prov.session")?;
    ensure_eq!(results, [Err(Errno::PERM); 2], "setting and removing");
    Ok(())
}
