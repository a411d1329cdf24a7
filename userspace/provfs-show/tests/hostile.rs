//! Whatever is in the files, their names, the folders or the pipes: an answer, an exit code, and no
//! panic.

mod common;

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Read,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{PermissionsExt, symlink},
            process::CommandExt,
        },
    },
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use common::{Fixture, Run};
use proptest::{collection::vec, prelude::*};
use rustix::{
    fs::{Mode, OFlags, XattrFlags, setxattr},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use serde_json::Value;

const FORMS: [&[&str]; 8] = [
    &[],
    &["-l"],
    &["--tree"],
    &["--json"],
    &["--ndjson"],
    &["--verify"],
    &["--group-by=session"],
    &["--format={path}{session}{kind}{tool}{turn}{intent}{history}{time}{ts}{ago}{chain}{env}"],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_in_records_and_names(
        files in vec((
            vec(1u8.., 1..60),
            vec((0usize..7, prop_oneof![
                vec(any::<u8>(), 0..300),
                "[a-z;,:>%0-9=-]{0,200}".prop_map(String::into_bytes),
                "comm-chain:[a-z>;:%]{0,40};pid:[0-9]{1,12};uid:[0-9]{1,12}".prop_map(String::into_bytes),
                "ts=[-0-9TZ:]{0,30};[schtnipu]=[a-z%;]{0,40}".prop_map(String::into_bytes),
            ]), 0..4),
        ), 1..5),
    ) {
        const KEYS: [&str; 7] = [
            "user.prov", "user.prov.session", "user.prov.tool", "user.prov.turn",
            "user.prov.intent", "user.prov.ts", "user.prov.history",
        ];
        let folder = Fixture::empty();
        let mut stamped = 0;
        let mut seen = std::collections::HashSet::new();
        for (mut name, xattrs) in files {
            name.retain(|byte| *byte != b'/');
            // Neither hidden nor a folder.
            name.insert(0, b'f');
            if !seen.insert(name.clone()) {
                continue;
            }
            let path = folder.path(OsStr::from_bytes(&name));
            fs::write(&path, "data").unwrap();
            for (key, value) in &xattrs {
                // More than fits into a block of ext4 is refused; then there is less to read.
                let _ = setxattr(&path, KEYS[*key], value, XattrFlags::empty());
            }
            stamped += usize::from(!xattrs.is_empty());
        }
        for form in FORMS {
            let output = folder.command().arg("-ru").args(form).output().unwrap();
            let code = if stamped > 0 { 0 } else { 1 };
            prop_assert_eq!(output.status.code(), Some(code), "{:?}", form);
            prop_assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            if form == ["--json"] {
                let document: Value = serde_json::from_slice(&output.stdout).unwrap();
                prop_assert_eq!(document["files"].as_array().unwrap().len(), stamped);
            }
        }
    }

    #[test]
    fn any_words_on_the_command_line(words in vec(vec(1u8.., 0..12), 0..4)) {
        let folder = Fixture::empty();
        let words = words.into_iter().map(OsString::from_vec);
        let run = Run::from(folder.command().args(words).output().unwrap());
        prop_assert!(matches!(run.code, Some(0..=2)), "{:?}", run);
    }
}

#[test]
fn a_folder_that_may_not_be_read_does_not_stop_the_others() {
    let tree = Fixture::tree();
    fs::set_permissions(tree.path("src/deep"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.path("src/main.c"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = tree.command();
    if rustix::process::geteuid().is_root() {
        // Root may read everything: ask as nobody, who has to reach the program and the folder.
        let program = tree.path("provfs-show");
        fs::copy(env!("CARGO_BIN_EXE_provfs-show"), &program).unwrap();
        fs::set_permissions(tree.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let open = OFlags::PATH | OFlags::DIRECTORY;
        let folder = rustix::fs::open(tree.path(""), open, Mode::empty()).unwrap();
        let reachable = Command::new("true")
            .uid(65534)
            .gid(65534)
            .current_dir(tree.path(""))
            .status();
        if !reachable.is_ok_and(|status| status.success()) {
            eprintln!("skipped: nobody cannot reach the build folder");
            fs::set_permissions(tree.path("src/deep"), fs::Permissions::from_mode(0o755)).unwrap();
            return;
        }
        drop(folder);
        command = Command::new(program);
        command.uid(65534).gid(65534).current_dir(tree.path(""));
    }
    let run = Run::from(
        command
            .args(["-r", "--format", "{path}", "src"])
            .output()
            .unwrap(),
    );
    fs::set_permissions(tree.path("src/deep"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!((run.code, run.out.as_str()), (Some(2), "src/greet.c\n"));
    insta::assert_snapshot!(run.err, @r#"
    provfs-show: cannot look into "src/deep": Permission denied (os error 13); ask its owner, or try as root
    provfs-show: cannot read user.prov.session of "src/main.c": Permission denied (os error 13); a record can be read by whoever may read the file: ask its owner, or try as root
    "#);
}

#[test]
fn links_that_lead_in_a_circle_end() {
    let tree = Fixture::tree();
    symlink("..", tree.path("src/deep/up")).unwrap();
    symlink("circle", tree.path("src/circle")).unwrap();
    assert_eq!(tree.found(&["-r", "src"]).split(' ').count(), 3);
    assert_eq!(
        tree.found(&["-rL", "src/deep"]),
        "src/deep/er/main.c src/deep/up/deep/er/main.c src/deep/up/greet.c src/deep/up/main.c"
    );
    let run = tree.run(&["src/circle"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.err.contains("symbolic links lead in a circle"),
        "{}",
        run.err
    );
}

#[test]
fn files_may_vanish_during_a_walk() {
    let folder = Fixture::empty();
    let gone = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !gone.load(Ordering::Relaxed) {
                for i in 0..40 {
                    folder.stamp(format!("d{}/f{i}", i % 4), "s", "t", "5");
                }
                for i in 0..4 {
                    fs::remove_dir_all(folder.path(format!("d{i}"))).unwrap();
                }
            }
        });
        let wrong = (0..60)
            .map(|_| folder.run(&["-r", "--ndjson"]))
            .find(|run| !matches!(run.code, Some(0 | 1)) || !run.err.is_empty());
        // Before anything may panic: the other thread is waited for.
        gone.store(true, Ordering::Relaxed);
        assert!(wrong.is_none(), "{wrong:?}");
    });
}

#[test]
fn a_pipe_that_closes_ends_the_search_quietly() {
    let folder = many(3_000);
    for form in [
        &["-r"][..],
        &["-rl"],
        &["-r", "--ndjson"],
        &["-r", "--json"],
        &["-r", "-0"],
    ] {
        let mut child = folder
            .command()
            .args(form)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut [0; 1])
            .unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{form:?}");
    }
    // Neither is there anybody to hear complaints.
    let mut child = folder
        .command()
        .args(["missing", "missing"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

/// A folder with so many stamped files.
fn many(files: usize) -> Fixture {
    let folder = Fixture::empty();
    for i in 0..files {
        folder.file(format!("f{i:07}"), &[("user.prov", b"ts=5;s=s1")]);
    }
    folder
}

#[test]
fn many_files_in_one_folder() {
    // Making and removing them takes most of the time.
    let files = match std::env::var("PROVFS_TEST_LEVEL").as_deref() {
        Ok("full") => 100_000,
        Ok("quick") => 2_000,
        _ => 20_000,
    };
    all_are_found(files);
}

#[test]
#[ignore = "takes minutes and 5 GB: cargo test -- --ignored"]
fn a_million_files_in_one_folder() {
    all_are_found(1_000_000);
}

fn all_are_found(files: usize) {
    let folder = many(files);
    assert_eq!(folder.run(&["-r", "--count"]).out, format!("{files}\n"));
    let out = folder.run(&["-r", "-0"]).out;
    let names: Vec<_> = out.split_terminator('\0').collect();
    assert_eq!(names.len(), files);
    assert!(names.is_sorted(), "the order of names");
    assert_eq!(
        folder
            .run(&["-r", "--sort=none", "-n5", "--ndjson"])
            .out
            .lines()
            .count(),
        5
    );
}

/// Runs the program on a terminal, and gives what the terminal got.
fn on_a_terminal(mut command: Command) -> (Option<i32>, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let end = |_| -> OwnedFd {
        rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap()
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(end(1))
        .stderr(end(2))
        .spawn()
        .unwrap();
    // Its ends of the terminal must be closed here for the last read to end.
    drop(command);
    let mut shown = Vec::new();
    // When the last end is closed a read fails.
    let _ = fs::File::from(terminal).read_to_end(&mut shown);
    (
        child.wait().unwrap().code(),
        String::from_utf8_lossy(&shown).replace("\r\n", "\n"),
    )
}

#[test]
fn on_a_terminal_nothing_acts_and_a_pager_is_used() {
    let folder = Fixture::empty();
    folder.stamp("a\x1b[2Jb", "s\u{9b}1", "t%07", "5");
    let command = |args: &[&str], pager: &str| {
        let mut command = folder.command();
        command
            .args(args)
            .env("PROVFS_PAGER", pager)
            .env("TERM", "xterm")
            .env("NO_COLOR", "1");
        command
    };
    let (code, shown) = on_a_terminal(command(
        &["-r", "--format", "{path} {session} {tool}"],
        "cat",
    ));
    assert_eq!(
        (code, shown.as_str()),
        (Some(0), "./a\\u{1b}[2Jb s\\u{9b}1 t\\u{7}\n")
    );
    let (_, json) = on_a_terminal(command(&["-r", "--ndjson"], "false"));
    assert!(!json.contains(['\x1b', '\u{9b}', '\x07']), "{json:?}");
    // Colors, unless they are not wanted.
    let mut colored = command(&["-r"], "");
    colored.env_remove("NO_COLOR");
    assert!(on_a_terminal(colored).1.contains("\x1b[1m"));
    assert!(!on_a_terminal(command(&["-r"], "")).1.contains('\x1b'));

    // The pager gets all of it, and is waited for.
    let paged = |args: &[&str], pager: &str| on_a_terminal(command(args, pager));
    let (code, shown) = paged(&["-rl"], "sed s/^/PAGED:/; sleep 0.2; echo LEFT");
    assert_eq!(code, Some(0));
    assert!(
        shown.starts_with("PAGED:1970-") && shown.ends_with("LEFT\n"),
        "{shown:?}"
    );
    assert!(
        !paged(&["-rl", "--paging=never"], "sed s/^/PAGED:/")
            .1
            .contains("PAGED")
    );
    assert!(
        !paged(&["-r", "--count"], "sed s/^/PAGED:/")
            .1
            .contains("PAGED")
    );
    // One that cannot be started, or that leaves at once, is no failure.
    assert!(matches!(paged(&["-rl"], "true").0, Some(0)));
    let piped = command(&["-rl", "--paging=always"], "sed s/^/PAGED:/")
        .output()
        .unwrap();
    assert!(piped.stdout.starts_with(b"PAGED:"));
    let piped = command(&["-rl"], "sed s/^/PAGED:/").output().unwrap();
    assert!(!piped.stdout.starts_with(b"PAGED:"));
}

#[test]
fn an_interrupt_ends_the_search_and_leaves_the_pager_time() {
    use rustix::process::{Pid, Signal, kill_process};
    let folder = Fixture::new();
    let mut child = folder
        .command()
        .args(["--paging=always", "--files-from", "-", "-l"])
        .env("PROVFS_PAGER", "cat; echo LEFT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    drop(child.stdin.take());
    let mut shown = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut shown)
        .unwrap();
    assert!(
        child.wait().unwrap().code().is_some(),
        "ended by the signal"
    );
    assert_eq!(shown, "LEFT\n");
}
