//! Beginning and ending, and everything that can be wrong then.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Mounted, PROGRAM, can_mount, command, folder, get, is_root, run, text};

/// Runs it with arguments that cannot work. Returns what it says.
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    assert!(said.contains("; "), "what to do: {said}");
    said
}

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let path = path.to_str().unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(path))
}

/// Waits until something holds.
fn eventually(mut what: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn bad_places_are_refused() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("src/below")).unwrap();
    fs::create_dir_all(at("mnt")).unwrap();
    fs::write(at("file"), "").unwrap();
    for (src, mnt, says) in [
        ("none", "mnt", "--source"),
        ("file", "mnt", "--source"),
        ("src", "none", "--mount"),
        ("src", "file", "--mount"),
        ("src", "src", "somewhere else"),
        ("src", "src/below", "somewhere else"),
        ("src/below", "src", "somewhere else"),
    ] {
        let said = refused(&mut command(&at(src), &at(mnt)));
        assert!(said.contains(says), "{src} {mnt}: {said}");
    }
    std::os::unix::fs::symlink(at("src"), at("link")).unwrap();
    refused(&mut command(&at("src"), &at("link")));
}

#[test]
fn bad_settings_are_refused() {
    if !can_mount() {
        return;
    }
    let dir = folder();
    let (src, mnt) = (dir.path().join("src"), dir.path().join("mnt"));
    fs::create_dir_all(&src).unwrap();
    fs::create_dir_all(&mnt).unwrap();
    for (option, value, says) in [
        ("--skip", "a,,/b//c", "rule 8, byte"),
        ("--skip", "colour:red", "rule 7"),
        ("--env-session", "1st", "byte 0"),
    ] {
        let said = refused(command(&src, &mnt).args([option, value]));
        assert!(said.contains(says), "{value}: {said}");
    }
    let said = refused(command(&src, &mnt).arg("--sidecar=/none/at/all"));
    assert!(said.contains("--sidecar=FILE"), "{said}");
    for options in [
        &["--format", "xml"][..],
        &["--threads", "0"],
        &["--history", "33"],
        &["--cache", "-1"],
        &["--what"],
    ] {
        let status = command(&src, &mnt)
            .args(options)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(2), "{options:?}");
    }
    assert!(!is_mounted(&mnt));
}

#[test]
fn what_is_missing_is_named() {
    let dir = folder();
    let (src, mnt) = (dir.path().join("src"), dir.path().join("mnt"));
    fs::create_dir_all(&src).unwrap();
    fs::create_dir_all(&mnt).unwrap();
    if can_mount() {
        let said = refused(command(&src, &mnt).env("PATH", "/nowhere"));
        assert!(said.contains("apt install fuse3"), "{said}");
    }
    if is_root() {
        // A mount namespace in which there is no such device.
        let script = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec \"$0\" --source \"$1\" --mount \"$2\"";
        let mut without = Command::new("unshare");
        without
            .args(["-m", "sh", "-c", script, PROGRAM])
            .args([&src, &mnt]);
        let said = refused(&mut without);
        assert!(said.contains("modprobe fuse"), "{said}");
    }
}

#[test]
fn signals_and_fusermount_end_it() {
    if !can_mount() {
        return;
    }
    for signal in ["TERM", "INT", ""] {
        let m = Mounted::new(&[]);
        let pid = m.daemon();
        if signal.is_empty() {
            m.unmount();
        } else {
            run("kill", ["-s", signal, &pid.to_string()]);
        }
        assert!(eventually(|| !is_mounted(&m.mnt)), "{signal}");
        let is_over = || {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
                || !Path::new(&format!("/proc/{pid}")).exists()
        };
        assert!(eventually(is_over), "{signal}");
    }
}

#[test]
fn in_use_it_ends_with_the_last_user() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&[]);
    m.sh("s1", "echo x > f");
    let file = fs::File::open(m.mnt.join("f")).unwrap();
    let pid = m.daemon();
    run("kill", ["-s", "TERM", &pid.to_string()]);
    assert!(eventually(|| !is_mounted(&m.mnt)));
    assert_eq!(std::io::read_to_string(&file).unwrap(), "x\n");
}

#[test]
fn in_the_foreground_it_returns_when_unmounted() {
    if !can_mount() {
        return;
    }
    let dir = folder();
    let (src, mnt) = (dir.path().join("src"), dir.path().join("mnt"));
    fs::create_dir_all(&src).unwrap();
    fs::create_dir_all(&mnt).unwrap();
    let mut child = command(&src, &mnt)
        .args(["--foreground", "--log", "info"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(eventually(|| is_mounted(&mnt)));
    fs::write(mnt.join("f"), "x").unwrap();
    run("kill", ["-s", "USR1", &child.id().to_string()]);
    run("fusermount3", [std::ffi::OsStr::new("-u"), mnt.as_os_str()]);
    let status = child.wait().unwrap();
    let log = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("modifications 1"), "{log}");
}

#[test]
fn a_dead_daemon_leaves_no_mount() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&[]);
    m.sh("s1", "echo x > f; sync f");
    let pid = m.daemon();
    run("kill", ["-s", "KILL", &pid.to_string()]);
    assert!(eventually(|| !is_mounted(&m.mnt)));
    m.mount(&[]);
    assert_eq!(m.record("f"), "s1 sh");
}

#[test]
fn a_dead_mount_in_the_way_is_named() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&[]);
    // Nobody is left to take the mount away.
    let kill = |pid: u32| run("kill", ["-KILL", &pid.to_string()]);
    let guards = text(
        &run(
            "pgrep",
            ["-f", "--", &format!("--guard {}$", m.mnt.display())],
        )
        .stdout,
    );
    kill(guards.trim().parse().unwrap());
    kill(m.daemon());
    assert!(eventually(|| fs::metadata(&m.mnt).is_err()));
    let said = refused(&mut command(&m.src, &m.mnt));
    assert!(said.contains("fusermount3 -u"), "{said}");
    m.unmount();
    m.mount(&[]);
    m.sh("s1", "echo > f");
    assert_eq!(m.record("f"), "s1 sh");
}

#[test]
fn without_root_it_works_as_well() {
    if !can_mount() || !is_root() {
        return;
    }
    // The device may be for root only here, so that a user needs one of his own.
    let dir = tempfile::Builder::new()
        .prefix("provfs-overlay-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let script = r#"
        cd $1 && mkdir src mnt && cp $0 program && chmod 755 . && chown -R 1000:1000 .
        mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse
        exec setpriv --reuid=1000 --regid=1000 --clear-groups sh -ec '
            mount_it() { ./program --foreground --source src --mount mnt & for i in $(seq 200); do mountpoint -q mnt && return; sleep 0.05; done; exit 1; }
            mount_it
            PROV_SESSION=s1 sh -c "echo x > mnt/f; { date; ls; } > mnt/g; mkdir mnt/d"
            getfattr --only-values -n user.prov.tool src/f src/g src/d 2>/dev/null
            stat -c " %u" src/f
            kill -KILL $!
            for i in $(seq 99); do grep -q $PWD/mnt /proc/self/mounts || break; sleep 0.1; done
            mount_it
            cat mnt/f
            fusermount3 -u mnt'"#;
    let mut shell = Command::new("unshare");
    shell
        .args(["-m", "sh", "-ec", script, PROGRAM])
        .arg(dir.path());
    let output = shell.output().unwrap();
    assert_eq!(
        text(&output.stdout),
        "shlsmkdir 1000\nx\n",
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn read_only_means_that() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&[]);
    m.sh("s1", "echo x > f");
    m.unmount();
    m.mount(&["--read-only"]);
    assert_eq!(fs::read_to_string(m.mnt.join("f")).unwrap(), "x\n");
    let error = fs::write(m.mnt.join("f"), "y").unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::ROFS.raw_os_error())
    );
}

#[test]
fn mount_finds_its_helper() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&[]);
    m.unmount();
    let helper = m.src.with_file_name("mount.fuse.provfs");
    std::os::unix::fs::symlink(PROGRAM, &helper).unwrap();
    let mut mount = Command::new(&helper);
    mount
        .arg(&m.src)
        .arg(&m.mnt)
        .args(["-o", "rw,nosuid,skip=\"x,*.y\",format=packed,history=0"]);
    assert!(mount.status().unwrap().success());
    m.sh("s1", "echo > x; echo > a.y; echo > f");
    assert_eq!((m.record("x").as_str(), m.record("a.y").as_str()), ("", ""));
    assert!(m.record("f").ends_with(";s=s1;t=sh"));
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(m.mnt.to_str().unwrap()))
        .unwrap();
    assert!(
        line.contains(" fuse.provfs ") && line.contains("nosuid"),
        "{line}"
    );
    let said = refused(
        Command::new(&helper)
            .arg(&m.src)
            .arg(&m.mnt)
            .args(["-o", "colour=red"]),
    );
    assert!(said.contains("colour=red"), "{said}");
}

#[test]
fn where_files_keep_no_records_a_database_does() {
    if !can_mount() || !is_root() {
        return;
    }
    let dir = folder();
    let src = dir.path().join("src");
    fs::create_dir(&src).unwrap();
    assert!(
        run(
            "mount",
            [
                std::ffi::OsStr::new("-t"),
                "ramfs".as_ref(),
                "none".as_ref(),
                src.as_os_str()
            ]
        )
        .status
        .success()
    );
    let _unmount = Unmount(&src);
    let mnt = dir.path().join("mnt");
    fs::create_dir(&mnt).unwrap();
    let said = refused(&mut command(&src, &mnt));
    assert!(said.contains("--sidecar"), "{said}");

    let m = Mounted::at(dir.path(), &["--sidecar"]);
    m.sh("s1", "echo 1 > f; mkdir d; echo > d/x");
    let record = |name: &str| get(&m.mnt.join(name), "user.prov.session");
    assert_eq!(record("f").as_deref(), Some("s1"));
    assert_eq!(get(&src.join("f"), "user.prov.session"), None);
    m.sh("s2", "echo 2 > f; mv d e; mv f e/g");
    assert_eq!(record("e/x").as_deref(), Some("s1"));
    assert_eq!(
        get(&m.mnt.join("e/g"), "user.prov.history").as_deref(),
        Some("s2,s1")
    );
    assert!(
        m.sh("s2", "getfattr -d e/g")
            .contains("user.prov.tool=\"sh\"")
    );
    m.unmount();
    assert!(dir.path().join(".src.provfs.sqlite").exists());
    m.mount(&["--sidecar"]);
    assert_eq!(record("e/x").as_deref(), Some("s1"));
    m.sh("s3", "rm e/x; touch e/x");
    assert!(eventually(|| record("e/x").as_deref() == Some("s3")));
    m.unmount();
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        run("umount", ["-l".as_ref(), self.0.as_os_str()]);
    }
}

/// The daemon reads the environment of who asks. Here one thread of that process writes a mapping
/// back, with its memory locked, while others open files, and the daemon has one thread for both.
#[test]
fn who_waits_for_the_mount_with_its_memory_locked_does_not_hang_it() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&["--threads", "1", "--no-passthrough"]);
    // Later would be too late: to look for it is to look into the memory of all processes.
    let daemon = m.daemon().to_string();
    let script = "import ctypes, mmap, threading
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 16, 32
size = 32 << 20
mapped = open('mapped', 'w+b')
mapped.truncate(size)
c = ctypes.CDLL(None)
c.mmap.argtypes = [ctypes.c_ulong] * 6
c.mmap.restype = ctypes.c_ulong
at = c.mmap(0, size, mmap.PROT_READ | mmap.PROT_WRITE, MAP_SHARED, mapped.fileno(), 0)
ctypes.memset(at, 1, size)
put = at, size, mmap.PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, 2 ** 64 - 1, 0
def ask(number):
    for turn in range(50):
        with open(f'f{number}', 'w') as f:
            f.write(str(turn))
threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
threads.insert(2, threading.Thread(target=c.mmap, args=put))
for thread in threads: thread.start()
for thread in threads: thread.join()
";
    let mut asking = Command::new("python3")
        .args(["-c", script])
        .current_dir(&m.mnt)
        .env("PROV_SESSION", "s-1")
        .spawn()
        .unwrap();
    let answered = eventually(|| asking.try_wait().unwrap().is_some());
    if !answered {
        // Nothing else lets go of who waits.
        run("kill", ["-9", &daemon]);
    }
    let status = asking.wait().unwrap();
    assert!(answered, "nobody answered");
    assert!(status.success(), "{status}");
    for number in 0..8 {
        let record = m.record(&format!("f{number}"));
        assert!(record.starts_with("s-1 "), "{record}");
    }
}
