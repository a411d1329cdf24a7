//! Files behave through the mount as they do behind it.

mod common;

use std::{
    fs::{self, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    process::Command,
};

use common::{Mounted, can_mount, is_root, set, text};
use rustix::{
    fs::{AtFlags, CWD, FallocateFlags, RenameFlags, Timespec, Timestamps},
    io::Errno,
};

/// Runs a test with passthrough, where that is possible, and without.
fn both(test: impl Fn(&Mounted)) {
    if !can_mount() {
        return;
    }
    for mode in [&[][..], &["--no-passthrough"]] {
        eprintln!("options: {mode:?}");
        test(&Mounted::new(mode));
    }
}

#[test]
fn hard_links_are_one_file() {
    both(|m| {
        fs::write(m.mnt.join("a"), "one").unwrap();
        fs::hard_link(m.mnt.join("a"), m.mnt.join("b")).unwrap();
        let (a, b) = (
            fs::metadata(m.mnt.join("a")).unwrap(),
            fs::metadata(m.mnt.join("b")).unwrap(),
        );
        assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
        assert_eq!(a.ino(), fs::metadata(m.src.join("a")).unwrap().ino());
        fs::write(m.mnt.join("b"), "two").unwrap();
        assert_eq!(fs::read_to_string(m.mnt.join("a")).unwrap(), "two");
        fs::remove_file(m.mnt.join("a")).unwrap();
        assert_eq!(fs::metadata(m.mnt.join("b")).unwrap().nlink(), 1);
    });
}

#[test]
fn renames_from_outside_do_not_confuse() {
    both(|m| {
        fs::create_dir(m.mnt.join("dir")).unwrap();
        fs::write(m.mnt.join("dir/f"), "here").unwrap();
        let mut open = OpenOptions::new()
            .read(true)
            .write(true)
            .open(m.mnt.join("dir/f"))
            .unwrap();
        fs::rename(m.src.join("dir"), m.src.join("moved")).unwrap();
        fs::create_dir(m.src.join("dir")).unwrap();
        fs::write(m.src.join("dir/f"), "other").unwrap();
        open.write_all(b"HERE").unwrap();
        drop(open);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(fs::read_to_string(m.mnt.join("moved/f")).unwrap(), "HERE");
        assert_eq!(fs::read_to_string(m.mnt.join("dir/f")).unwrap(), "other");
    });
}

#[test]
fn unlinked_files_stay_open() {
    both(|m| {
        let path = m.mnt.join("f");
        let mut file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.write_all(b"text").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        file.write_all(b" goes on").unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .unwrap();
        file.set_len(10).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "text goes ");
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
        // From outside, too.
        fs::remove_file(m.src.join("f")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10);
    });
}

#[test]
fn links_lead_where_they_say_and_not_out_of_the_source() {
    both(|m| {
        symlink("/etc/hostname", m.mnt.join("abs")).unwrap();
        symlink("../../../../etc", m.mnt.join("up")).unwrap();
        fs::write(m.src.join("secret"), "x").unwrap();
        assert_eq!(
            fs::read_link(m.mnt.join("up")).unwrap().to_str(),
            Some("../../../../etc")
        );
        // The kernel follows a link where the mount is, as it does for any other file system.
        let real = fs::read_to_string("/etc/hostname").unwrap_or_default();
        assert_eq!(
            fs::read_to_string(m.mnt.join("abs")).unwrap_or_default(),
            real
        );
        // A file that is swapped for a link behind the back is not followed.
        fs::write(m.mnt.join("f"), "x").unwrap();
        fs::remove_file(m.src.join("f")).unwrap();
        symlink("/etc/shadow", m.src.join("f")).unwrap();
        // For a moment it may still be the file that it was.
        let read = fs::read_to_string(m.mnt.join("f")).unwrap_or_default();
        assert!(read == "x" || read.is_empty(), "{read}");
    });
}

#[test]
fn deep_trees_and_long_names() {
    both(|m| {
        let mut dir =
            rustix::fs::open(&m.mnt, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..60 {
            rustix::fs::mkdirat(&dir, &*name, 0o755.into()).unwrap();
            dir = rustix::fs::openat(
                &dir,
                &*name,
                rustix::fs::OFlags::PATH,
                rustix::fs::Mode::empty(),
            )
            .unwrap();
        }
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDWR;
        let file = rustix::fs::openat(&dir, "f", flags, 0o644.into()).unwrap();
        rustix::io::write(&file, b"deep").unwrap();
        let long = "n".repeat(256);
        assert_eq!(
            rustix::fs::openat(&dir, &*long, flags, 0o644.into()).unwrap_err(),
            Errno::NAMETOOLONG
        );
        drop(file);
        assert!(
            Command::new("rm")
                .arg("-r")
                .arg(m.mnt.join(&name))
                .status()
                .unwrap()
                .success()
        );
    });
}

#[test]
fn large_folders_are_listed_whole() {
    both(|m| {
        for i in 0..3000 {
            fs::write(
                m.src.join(format!("a-file-with-a-name-of-some-length-{i}")),
                "",
            )
            .unwrap();
        }
        let list = |path| {
            let mut names: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|e| e.unwrap())
                .map(|e| (e.file_name(), e.ino()))
                .collect();
            names.sort();
            names
        };
        assert_eq!(list(&m.mnt), list(&m.src));
        assert_eq!(list(&m.mnt).len(), 3000);
        let script = "import os; n = len(os.listdir('.')); d = os.scandir('.'); [next(d) for _ in range(1500)]; [os.unlink(f) for f in os.listdir('.')]; print(n, len(os.listdir('.')))";
        assert_eq!(m.sh("s", &format!("python3 -c \"{script}\"")), "3000 0\n");
    });
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    both(|m| {
        let path = m.mnt.join("f");
        fs::write(&path, "").unwrap();
        for (sec, nsec) in [(1_000_000_000, 123_456_789), (-5, 500_000_000), (0, 1)] {
            let time = Timespec {
                tv_sec: sec,
                tv_nsec: nsec,
            };
            let omit = Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            };
            let before = fs::metadata(m.src.join("f")).unwrap();
            let times = Timestamps {
                last_access: omit,
                last_modification: time,
            };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
            for place in [&m.src, &m.mnt] {
                let after = fs::metadata(place.join("f")).unwrap();
                assert_eq!((after.mtime(), after.mtime_nsec()), (sec, nsec));
                assert_eq!(after.atime_nsec(), before.atime_nsec());
            }
        }
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        assert!(
            fs::metadata(&path)
                .unwrap()
                .modified()
                .unwrap()
                .elapsed()
                .unwrap()
                .as_secs()
                < 60
        );
        symlink("nowhere", m.mnt.join("link")).unwrap();
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 7,
                tv_nsec: 0,
            },
            last_modification: Timespec {
                tv_sec: 8,
                tv_nsec: 0,
            },
        };
        rustix::fs::utimensat(CWD, m.mnt.join("link"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(fs::symlink_metadata(m.src.join("link")).unwrap().mtime(), 8);
    });
}

#[test]
fn holes_are_found_and_made() {
    both(|m| {
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(m.mnt.join("f"))
            .unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(&[1; 4096], 5 << 20).unwrap();
        assert_eq!(
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap(),
            5 << 20
        );
        assert_eq!(
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(5 << 20)).unwrap(),
            (5 << 20) + 4096
        );
        let past = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(11 << 20));
        assert_eq!(past.unwrap_err(), Errno::NXIO);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 5 << 20, 4096).unwrap();
        let mut read = [9; 4096];
        file.read_exact_at(&mut read, 5 << 20).unwrap();
        assert_eq!(read, [0; 4096]);
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 10 << 20, 4096).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (10 << 20) + 4096);
    });
}

#[test]
fn appending_and_truncating() {
    both(|m| {
        let path = m.mnt.join("f");
        let mut one = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        for _ in 0..10 {
            one.write_all(b"a").unwrap();
            other.write_all(b"b").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "ab".repeat(10));
        fs::File::create(&path).unwrap();
        one.write_all(b"c").unwrap();
        assert_eq!(fs::read_to_string(m.src.join("f")).unwrap(), "c");
        assert_eq!(fs::metadata(&path).unwrap().len(), 1);
    });
}

#[test]
fn renaming_with_flags() {
    both(|m| {
        fs::write(m.mnt.join("a"), "a").unwrap();
        fs::write(m.mnt.join("b"), "b").unwrap();
        let rename =
            |flags| rustix::fs::renameat_with(CWD, m.mnt.join("a"), CWD, m.mnt.join("b"), flags);
        assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
        rename(RenameFlags::EXCHANGE).unwrap();
        assert_eq!(fs::read_to_string(m.mnt.join("a")).unwrap(), "b");
        assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::INVAL));
        rename(RenameFlags::empty()).unwrap();
        assert_eq!(fs::read_to_string(m.mnt.join("b")).unwrap(), "b");
        assert!(!m.mnt.join("a").exists());
    });
}

#[test]
fn extended_attributes() {
    both(|m| {
        let path = m.mnt.join("f");
        fs::write(&path, "").unwrap();
        set(&path, "user.one", "1").unwrap();
        let create = rustix::fs::setxattr(&path, "user.one", b"2", rustix::fs::XattrFlags::CREATE);
        assert_eq!(create, Err(Errno::EXIST));
        let replace =
            rustix::fs::setxattr(&path, "user.two", b"2", rustix::fs::XattrFlags::REPLACE);
        assert_eq!(replace, Err(Errno::NODATA));
        assert_eq!(rustix::fs::getxattr_query(&path, "user.one").unwrap(), 1);
        set(&path, "user.long", &"x".repeat(100)).unwrap();
        let small = rustix::fs::getxattr(&path, "user.long", &mut [0; 10][..]);
        assert_eq!(small, Err(Errno::RANGE));
        let mut list = vec![0; 1000];
        let len = rustix::fs::listxattr(&path, &mut list[..]).unwrap();
        assert!(text(&list[..len]).contains("user.one\0"));
        rustix::fs::removexattr(&path, "user.one").unwrap();
        assert_eq!(
            rustix::fs::removexattr(&path, "user.one"),
            Err(Errno::NODATA)
        );
    });
}

#[test]
fn special_files_and_the_file_system() {
    both(|m| {
        if !is_root() {
            return;
        }
        m.sh("s", "mkfifo fifo; mknod null c 1 3; mknod loop b 7 300; echo x > null; (echo y > fifo &); read y < fifo");
        let null = fs::metadata(m.mnt.join("null")).unwrap();
        assert!(null.file_type().is_char_device());
        assert_eq!(null.rdev(), fs::metadata("/dev/null").unwrap().rdev());
        assert_eq!(
            fs::metadata(m.mnt.join("loop")).unwrap().rdev(),
            fs::metadata(m.src.join("loop")).unwrap().rdev()
        );
        let socket = std::os::unix::net::UnixListener::bind(m.mnt.join("socket")).unwrap();
        std::os::unix::net::UnixStream::connect(m.mnt.join("socket")).unwrap();
        drop(socket);
        let size = |path| {
            let fs = rustix::fs::statvfs(path).unwrap();
            (fs.f_blocks, fs.f_files, fs.f_frsize, fs.f_namemax)
        };
        assert_eq!(size(&m.mnt), size(&m.src));
        m.sh(
            "s",
            "echo > f; chattr +d f; lsattr f | grep -q d; chattr -d f; lsattr -d .",
        );
    });
}

#[test]
fn locks_are_kept_between_clients() {
    both(|m| {
        fs::write(m.mnt.join("f"), "").unwrap();
        let one = fs::File::open(m.mnt.join("f")).unwrap();
        let other = fs::File::open(m.mnt.join("f")).unwrap();
        rustix::fs::flock(one.as_fd(), rustix::fs::FlockOperation::LockExclusive).unwrap();
        let busy = rustix::fs::flock(
            other.as_fd(),
            rustix::fs::FlockOperation::NonBlockingLockShared,
        );
        assert_eq!(busy, Err(Errno::WOULDBLOCK));
    });
}

#[test]
fn others_act_with_their_own_rights() {
    if !can_mount() || !is_root() {
        return;
    }
    for mode in [
        &["--allow-other"][..],
        &["--allow-other", "--no-passthrough"],
    ] {
        let dir = tempfile::Builder::new()
            .prefix("provfs-overlay-")
            .tempdir_in("/var/tmp")
            .unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let m = Mounted::at(dir.path(), mode);
        let by = |user: &str, script: &str| {
            let args = format!("--reuid={user} --regid={user} --groups=2000");
            let done = Command::new("setpriv")
                .args(args.split(' '))
                .args(["sh", "-c", script])
                .current_dir(&m.mnt)
                .output()
                .unwrap();
            (done.status.success(), text(&done.stderr))
        };
        m.sh("s", "mkdir open group sticky; chmod 777 open; chgrp 2000 group; chmod 2770 group; chmod 1777 sticky; echo > root; chmod 600 root; touch sticky/root");
        assert!(!by("1000", "echo > f").0, "the root is root's");
        assert!(!by("1000", "cat root").0);
        assert!(!by("1000", "rm -f sticky/root").0);
        assert!(
            by(
                "1000",
                "umask 027; echo > open/f; mkdir open/d; ln -s x open/l"
            )
            .0
        );
        for name in ["open/f", "open/d", "open/l"] {
            let meta = fs::symlink_metadata(m.src.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (1000, 1000), "{name}");
        }
        let mode_of = |name: &str| fs::metadata(m.src.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode_of("open/f"), mode_of("open/d")), (0o640, 0o750));
        let made = by("1000", "echo > group/f; mkdir group/d; chgrp 2000 open/f");
        assert!(made.0, "{}", made.1);
        assert_eq!(fs::metadata(m.src.join("group/f")).unwrap().gid(), 2000);
        assert_eq!(mode_of("group/d") & 0o2000, 0o2000);
        assert_eq!(fs::metadata(m.src.join("open/f")).unwrap().gid(), 2000);
        assert!(!by("1000", "chgrp 7 open/f").0 && !by("1001", "chmod 777 open/f").0);
        // Who writes to another's program takes its bits away.
        m.sh("s", "cp /bin/true open/suid; chmod 6777 open/suid");
        assert!(by("1000", "echo >> open/suid").0);
        assert_eq!(mode_of("open/suid"), 0o777);
        m.sh("s", "chmod 6777 open/suid");
        assert!(by("1000", "truncate -s 5 open/suid").0);
        assert_eq!(mode_of("open/suid"), 0o777);
        // To execute is not to read.
        m.sh("s", "cp /bin/true open/exec; chmod 711 open/exec");
        let run = by("1000", "open/exec; ! cat open/exec 2>/dev/null");
        assert!(run.0, "{}", run.1);
        m.sh("s", "setfacl -d -m u:1000:rwx,o::- group 2>/dev/null || exit 0; umask 0; touch group/acl; mkdir group/acl.d; test \"$(stat -c %a group/acl)\" = 660");
        let record = common::get(&m.src.join("open/f"), "user.prov.session").unwrap();
        assert!(record.ends_with(";uid:1000"), "{record}");
    }
}

#[test]
fn descriptors_do_not_run_out() {
    if !can_mount() {
        return;
    }
    let dir = common::folder();
    let (src, mnt) = (dir.path().join("src"), dir.path().join("mnt"));
    fs::create_dir_all(&src).unwrap();
    fs::create_dir_all(&mnt).unwrap();
    for i in 0..3000 {
        fs::create_dir_all(src.join(format!("{}", i % 10))).unwrap();
        fs::write(src.join(format!("{}/{i}", i % 10)), "x").unwrap();
    }
    // Root could raise its limit.
    let script = "ulimit -n 1024; exec \"$0\" --source \"$1\" --mount \"$2\"";
    let limited = ["setpriv", "--bounding-set=-sys_resource"];
    let start = Command::new("env")
        .args(
            limited
                .iter()
                .filter(|_| rustix::process::geteuid().is_root()),
        )
        .args(["sh", "-c", script, common::PROGRAM])
        .args([&src, &mnt])
        .status()
        .unwrap();
    assert!(start.success());
    // It goes on to know where it is, and what it has open.
    let script = "cd \"$0/3\"; exec 3< 3; for i in 1 2; do find .. -type f | xargs cat; done | wc -c; env pwd -P; readlink /proc/$$/fd/3";
    let sh = |script| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&mnt).output().unwrap()
    };
    let find = sh(script);
    let here = mnt.canonicalize().unwrap().join("3");
    let there = format!("6000\n{0}\n{0}/3\n", here.display());
    assert_eq!(
        (text(&find.stdout), text(&find.stderr)),
        (there, String::new())
    );
    // Whoever makes files has their directory locked meanwhile.
    let script = "for d in a b c d; do mkdir \"$0/$d\"; (i=0; while [ $i -lt 1000 ]; do : >\"$0/$d/$i\" || exit; i=$((i + 1)); done) & done; wait";
    let make = sh(script);
    assert_eq!(text(&make.stderr), "");
    let made = |name| fs::read_dir(src.join(name)).unwrap().count();
    assert_eq!(["a", "b", "c", "d"].map(made), [1000; 4]);
    Command::new("fusermount3")
        .args(["-u", "-z"])
        .arg(&mnt)
        .status()
        .unwrap();
}

#[test]
fn a_program_that_runs_is_not_written_to() {
    both(|m| {
        m.sh("s", "cp /bin/sleep program");
        let before = fs::metadata(m.src.join("program")).unwrap().len();
        let mut running = Command::new(m.mnt.join("program"))
            .arg("60")
            .spawn()
            .unwrap();
        use rustix::fs::{Mode, OFlags};
        for flags in [
            OFlags::WRONLY,
            OFlags::RDWR,
            OFlags::TRUNC,
            OFlags::WRONLY | OFlags::TRUNC,
        ] {
            let opened = rustix::fs::open(m.mnt.join("program"), flags, Mode::empty());
            assert_eq!(opened.unwrap_err(), Errno::TXTBSY, "{flags:?}");
        }
        assert_eq!(fs::metadata(m.src.join("program")).unwrap().len(), before);
        running.kill().unwrap();
        running.wait().unwrap();
    });
}
