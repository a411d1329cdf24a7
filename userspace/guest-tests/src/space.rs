//! Where there is little room for attributes, or none, or no disk any more.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
};

use rustix::{
    fs::{OFlags, XattrFlags},
    io::Errno,
    ioctl::{Setter, ioctl, opcode},
};

use crate::{
    actor::{Actor, words},
    fixture::{
        Outcome, Place, STAMPED, Setting, Stop, Test, counting, ensure, ensure_eq, growth, once,
    },
    mounted::{Image, Mounted},
    record::{ALICE, BOB, CAROL, ensure_by, ensure_history, ensure_none, raw},
};

pub(crate) const TESTS: &[Test] = &[
    once("ext4 with inodes of 128, 256 and 512 bytes", small_inodes),
    once(
        "attributes that leave no room for a record",
        full_attributes,
    ),
    once("a user beyond his quota", quota),
    once("ext4 without user attributes", no_user_attributes),
    once("a disk that fails", no_disk),
];

fn small_inodes(place: &Place) -> Outcome {
    for size in ["128", "256", "512"] {
        let mkfs = ["mkfs.ext4", "-q", "-F", "-I", size];
        let mounted = Mounted::image(place, 16, &mkfs)?;
        for format in ["keys", "packed"] {
            let _format = Setting::set("format", format)?;
            let path = mounted.file(format);
            for who in [ALICE, BOB, CAROL] {
                counting(STAMPED, || Actor::start(&who)?.put(&path))?;
                ensure_by(&path, &who)?;
            }
            ensure_history(&path, &[CAROL, BOB, ALICE].map(|who| who.session))?;
            ensure_eq!(fs::read(&path)?, b"some bytes\n", "content");
        }
        let unmounted = mounted.unmount();
        ensure_eq!(unmounted, Ok(()), "unmounting with inodes of {size} bytes");
    }
    Ok(())
}

/// A modification that could not be recorded.
fn failing(errno: &str) -> [(&str, i64); 3] {
    [("modifications", 1), ("failed", 1), (errno, 1)]
}

/// Makes an ext4 where a record does not fit into the inode, and one block is all that is left for it.
fn tight_ext4(feature: &str) -> [&str; 9] {
    [
        "mkfs.ext4",
        "-q",
        "-F",
        "-b",
        "4096",
        "-I",
        "256",
        "-O",
        feature,
    ]
}

fn full_attributes(place: &Place) -> Outcome {
    let mkfs = tight_ext4("^ea_inode");
    let mounted = Mounted::image(place, 16, &mkfs)?;
    let alice = Actor::start(&ALICE)?;
    for format in ["keys", "packed"] {
        let _format = Setting::set("format", format)?;
        let path = mounted.file(format);
        {
            let _off = Setting::set("enabled", "0")?;
            fs::write(&path, "some bytes\n")?;
        }
        // All that there is room for, in ever smaller pieces.
        let mut count = 0;
        for size in [1024, 256, 64, 16, 1] {
            loop {
                let name = format!("user.filler{count}");
                let set =
                    rustix::fs::setxattr(&path, &*name, &vec![b'.'; size], XattrFlags::empty());
                match set {
                    Ok(()) => count += 1,
                    Err(Errno::NOSPC) => break,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        ensure!(count > 8, "it was full after {count} attributes");
        counting(&failing("failed.ENOSPC"), || alice.put(&path))?;
        ensure_eq!(fs::read(&path)?, b"some bytes\n", "content");
        ensure_none(&path)?;
        // The attributes of the user are all there.
        let name = format!("user.filler{}", count - 1);
        ensure_eq!(
            rustix::fs::getxattr(&path, &*name, &mut [0; 16][..])?,
            1,
            "bytes of the last one"
        );
        // With room, it works again.
        for number in 0..8 {
            rustix::fs::removexattr(&path, &*format!("user.filler{number}"))?;
        }
        counting(STAMPED, || alice.put(&path))?;
        ensure_by(&path, &ALICE)?;
    }
    Ok(())
}

/// `struct if_dqblk` in `include/uapi/linux/quota.h`.
#[repr(C)]
#[derive(Default)]
struct Quota {
    block_hard_limit: u64,
    block_soft_limit: u64,
    space: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// Lets a user have this many bytes.
fn set_quota(mounted: &Mounted, user: u32, bytes: u64) -> Outcome {
    const Q_SETQUOTA: u32 = 0x80_0008;
    const USRQUOTA: u32 = 0;
    const QIF_BLIMITS: u32 = 1;

    let quota = Quota {
        block_hard_limit: bytes / 1024,
        block_soft_limit: bytes / 1024,
        valid: QIF_BLIMITS,
        ..Quota::default()
    };
    let root = File::open(mounted.dir())?;
    // SAFETY: The command reads one structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            root.as_raw_fd(),
            (Q_SETQUOTA << 8) | USRQUOTA,
            user,
            &raw const quota,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

fn quota(place: &Place) -> Outcome {
    let mkfs = tight_ext4("quota");
    // Without the option, quotas are counted and not enforced.
    let mounted = Image::new(place, 32, &mkfs)?.mount(place, "usrquota")?;
    let alice = Actor::start(&ALICE)?;
    alice.ask(words!["set user", 1000])?;
    let path = mounted.file("file");
    {
        let _off = Setting::set("enabled", "0")?;
        alice.put(&path)?;
    }
    rustix::fs::sync();
    set_quota(&mounted, 1000, 4096)?;
    // Its own block is there; the one for the record is one too many.
    counting(&failing("failed.EDQUOT"), || alice.put(&path))?;
    ensure_eq!(fs::read(&path)?, b"some bytes\n", "content");
    // What of the record fitted into the inode is there, and nothing else.
    let fitting = [("session", ALICE.session), ("tool", ALICE.tool)];
    for (key, value) in raw(&path)? {
        let value = String::from_utf8_lossy(&value).into_owned();
        ensure!(
            fitting.contains(&(&*key, &*value)),
            "a part of a record: {key}={value}"
        );
    }
    // What the user does fails as it always did.
    let other = mounted.file("other");
    let fd = alice.create(&other)?;
    let written = alice.attempt(words!["write", fd, "some bytes\n"])?;
    ensure!(
        matches!(written, Ok(11) | Err(Errno::DQUOT)),
        "a write beyond the quota: {written:?}"
    );
    alice.close(fd)?;
    set_quota(&mounted, 1000, 1 << 20)?;
    alice.put(&path)?;
    ensure_by(&path, &ALICE)
}

fn no_user_attributes(place: &Place) -> Outcome {
    let image = Image::new(place, 16, &["mkfs.ext4", "-q", "-F"])?;
    let unsupported = [("modifications", 1), ("skipped.unsupported", 1)];
    let mounted = match image.mount(place, "nouser_xattr") {
        Ok(mounted) => mounted,
        Err(Stop::Failed(why)) => return crate::fixture::skip(why),
        Err(stop) => return Err(stop),
    };
    let path = mounted.file("file");
    let alice = Actor::start(&ALICE)?;
    for _ in 0..2 {
        counting(&unsupported, || alice.put(&path))?;
    }
    ensure_eq!(fs::read(&path)?, b"some bytes\n", "content");
    ensure_eq!(mounted.unmount(), Ok(()), "unmounting");
    let mounted = image.mount(place, "")?;
    ensure_none(mounted.file("file"))?;
    counting(STAMPED, || alice.put(&path))?;
    ensure_by(&path, &ALICE)
}

/// `FS_IOC_SHUTDOWN` in `include/uapi/linux/fs.h`: from then on it is as if every access to the disk failed.
const FS_IOC_SHUTDOWN: u32 = opcode::read::<u32>(b'X', 125);

/// `FS_SHUTDOWN_FLAGS_NOLOGFLUSH` in the same place.
const NO_LOG_FLUSH: u32 = 2;

fn no_disk(place: &Place) -> Outcome {
    let kinds: [(u64, &[&str]); 2] = [(16, &["mkfs.ext4", "-q", "-F"]), (320, &["mkfs.xfs", "-q"])];
    for (megabytes, mkfs) in kinds {
        let image = Image::new(place, megabytes, mkfs)?;
        let mut answers = Vec::new();
        for enabled in ["0", "1"] {
            let mounted = image.mount(place, "")?;
            let alice = Actor::start(&ALICE)?;
            let path = mounted.file("file");
            alice.put(&path)?;
            let fd = alice.open(&path, OFlags::WRONLY)?;
            {
                let root = File::open(mounted.dir())?;
                // SAFETY: The request reads a number.
                unsafe { ioctl(&root, Setter::<FS_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH))? };
            }
            let _enabled = Setting::set("enabled", enabled)?;
            let bob = Actor::start(&BOB)?;
            let in_bob = bob.take(alice.give(fd)?)?;
            let (answer, grown) = growth(|| bob.attempt(words!["write", in_bob, "some bytes\n"]))?;
            answers.push((answer, bob.attempt(words!["fsync", in_bob])?));
            let expected = if enabled == "1" { (1, 1) } else { (0, 0) };
            ensure_eq!(
                (grown.get("failed"), grown.get("failed.EIO")),
                expected,
                "failed, of {grown:?}"
            );
            bob.close(in_bob)?;
            alice.close(fd)?;
            ensure_eq!(mounted.unmount(), Ok(()), "unmounting");
        }
        // What the user is told does not depend on provfs.
        ensure_eq!(answers[0], answers[1], "answers with {}", mkfs[0]);
        ensure_eq!(answers[0].1, Err(Errno::IO), "fsync with {}", mkfs[0]);
    }
    Ok(())
}
