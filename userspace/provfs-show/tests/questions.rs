//! Questions about folders: what is asked, what is found, in which order and form.

mod common;

use std::{fs, os::unix::fs::symlink};

use common::Fixture;
use rustix::fs::{Timespec, Timestamps, utimensat};

#[test]
fn folders_are_walked_as_fd_does() {
    let tree = Fixture::tree();
    assert_eq!(
        tree.found(&["-r"]),
        "./src/deep/er/main.c ./src/greet.c ./src/main.c"
    );
    assert_eq!(
        tree.found(&["-r", "src", "-I"]),
        "src/deep/er/main.c src/greet.c src/main.c src/main.o"
    );
    assert_eq!(
        tree.found(&["-rH"]),
        "./.hidden/main.c ./src/deep/er/main.c ./src/greet.c ./src/main.c"
    );
    assert_eq!(tree.found(&["-ru"]).split(' ').count(), 5);
    assert_eq!(tree.found(&["-r", "-g", "*.o"]), "./src/main.o");
    assert_eq!(
        tree.found(&["-r", "-g", "*.c", "-g", "!deep"]),
        "./src/greet.c ./src/main.c"
    );
    assert_eq!(tree.found(&["-rx", "src/deep"]), "src/deep/er/main.c");
    // Files that are named are asked whatever their name is, but not past a glob.
    assert_eq!(
        tree.found(&["-r", ".hidden", "src/main.o"]),
        ".hidden/main.c src/main.o"
    );
    assert_eq!(
        tree.found(&["-g", "*.c", "src/main.o", "src/main.c"]),
        "src/main.c"
    );
    // A folder itself has no record.
    assert_eq!(tree.run(&["src"]).code, Some(1));
}

#[test]
fn unstamped_files_are_shown_on_request() {
    let tree = Fixture::tree();
    assert_eq!(tree.found(&["-r", "--unstamped"]), "./src/plain.c");
    assert_eq!(
        tree.found(&["-ru", "--unstamped"]),
        "./.ignore ./src/plain.c"
    );
    assert_eq!(
        tree.found(&["-r", "--all", "src"]),
        "src/deep/er/main.c src/greet.c src/main.c src/plain.c"
    );
    // What only a record can meet, no file without one meets.
    assert_eq!(
        tree.found(&["-r", "--all", "--session", "", "src"]),
        "src/greet.c src/main.c"
    );
    assert_eq!(tree.found(&["--tool", "Edit", "src/plain.c"]), "");
    let run = tree.run(&["--unstamped", "src/main.c"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
}

#[test]
fn filters_must_all_match() {
    let tree = Fixture::tree();
    for (filters, want) in [
        (&["--session", "s-"][..], "./src/greet.c ./src/main.c"),
        (&["--session", "s-1"], "./src/main.c"),
        (&["--session", "s-1", "--tool", "Bash"], ""),
        (
            &["--session", "s-1", "--tool", "Bash", "-I"],
            "./src/main.o",
        ),
        (&["--user", "4000000000"], "./src/deep/er/main.c"),
        (&["--user", "root"], ""),
        (&["--comm", "vim"], "./src/deep/er/main.c"),
        (&["--since", "2026-11-20"], "./src/greet.c ./src/main.c"),
        (
            &["--until", "2026-11-20 10:00"],
            "./src/deep/er/main.c ./src/main.c",
        ),
        (
            &["--since", "2026-11-20T10:00:01Z", "--until", "2026-11-20"],
            "./src/greet.c",
        ),
        (&["--since", "@1795183200"], "./src/greet.c"),
    ] {
        assert_eq!(
            tree.found(&[&["-r"], filters].concat()),
            want,
            "{filters:?}"
        );
    }
}

#[test]
fn orders_and_limits() {
    let tree = Fixture::tree();
    let named = ["src/main.c", "src/deep", "src/greet.c", "-r"];
    let found = |args: &[&str]| tree.found(&[&named, args].concat());
    assert_eq!(found(&[]), "src/main.c src/deep/er/main.c src/greet.c");
    assert_eq!(
        found(&["--sort", "path"]),
        "src/deep/er/main.c src/greet.c src/main.c"
    );
    assert_eq!(
        found(&["--sort", "time"]),
        "src/greet.c src/main.c src/deep/er/main.c"
    );
    assert_eq!(
        found(&["--sort", "time", "--reverse", "-n1"]),
        "src/deep/er/main.c"
    );
    assert_eq!(
        found(&["--sort", "session"]),
        "src/main.c src/greet.c src/deep/er/main.c"
    );
    assert_eq!(found(&["-n", "2"]), "src/main.c src/deep/er/main.c");
    assert_eq!(found(&["-n", "0"]), "");
    assert_eq!(found(&["--sort", "none"]).split(' ').count(), 3);
}

#[test]
fn lines_trees_groups_and_counts() {
    let tree = Fixture::tree();
    insta::assert_snapshot!(tree.run(&["-rl"]).out, @r"
    2026-11-19 09:00:00  vim by uid 4000000000       vim         ./src/deep/er/main.c
    2026-11-20 14:00:00  s-2                         Edit        ./src/greet.c
    2026-11-20 10:00:00  s-1                         Edit        ./src/main.c
    ");
    let drawn = tree.run(&["--tree"]).out;
    let age = |line: &str| line.rfind("  ").filter(|_| line.ends_with(" ago"));
    let drawn = drawn
        .lines()
        .map(|line| &line[..age(line).unwrap_or(line.len())]);
    insta::assert_snapshot!(drawn.collect::<Vec<_>>().join("\n"), @r"
    ./src
    ├── deep
    │   └── er
    │       └── main.c  vim by uid 4000000000  vim
    ├── greet.c  s-2  Edit
    └── main.c  s-1  Edit
    ");
    insta::assert_snapshot!(tree.run(&["-rI", "--group-by", "session"]).out, @r"
           2  2026-11-20 10:00:00 to 2026-11-20 10:30:00  s-1
           1  2026-11-20 14:00:00                         s-2
           1  2026-11-19 09:00:00                         vim by uid 4000000000
    ");
    assert_eq!(tree.run(&["-r", "--count"]).out, "3\n");
    assert_eq!(
        tree.run(&["-r", "--json", "--count"]).out,
        "{\"count\":3,\"schema\":1}\n"
    );
    let run = tree.run(&["-r", "--count", "--tool", "nothing"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), "0\n"));
    let run = tree.run(&["-r", "--tree", "--tool", "nothing"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
}

#[test]
fn names_come_in_lists_and_go_to_others() {
    let tree = Fixture::tree();
    let run = tree.run_with(
        &["--files-from", "-", "-l"],
        b"src/main.c\n\nsrc/plain.c\nsrc/greet.c",
    );
    assert_eq!(run.code, Some(0));
    assert_eq!(run.out.lines().count(), 3);
    fs::write(tree.path("list"), b"src/main.c\0src/deep\0").unwrap();
    let run = tree.run(&["-r0", "--files-from", "list"]);
    assert_eq!(run.out, "src/main.c\0src/deep/er/main.c\0");
    let run = tree.run(&["-0", "--format", "{tool}\\n", "src/main.c"]);
    assert_eq!(run.out, "Edit\n\0");
    let run = tree.run(&["--files-from", "missing", "src/main.c"]);
    assert_eq!(run.code, Some(2));
    assert!(run.out.starts_with("src/main.c\n"));
    assert!(
        run.err.contains("cannot read the names in \"missing\""),
        "{}",
        run.err
    );
}

#[test]
fn verify_compares_with_the_times_of_the_file() {
    let folder = Fixture::empty();
    let now = std::time::SystemTime::now();
    let unix = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let set = |name: &str, ago: i64| {
        let time = Timespec {
            tv_sec: unix - ago,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(
            rustix::fs::CWD,
            folder.path(name),
            &times,
            rustix::fs::AtFlags::empty(),
        )
        .unwrap();
    };
    let stamp = |name: &str, ts: i64| folder.stamp(name, "s", "t", &ts.to_string());
    stamp("current", unix);
    stamp("stale", unix);
    set("stale", -100);
    stamp("backdated", unix);
    set("backdated", 7200);
    stamp("copied", unix - 7200);
    set("copied", 7200);
    stamp("ahead", unix + 7200);
    folder.stamp("undated", "s", "t", "then");
    folder.file("none", &[]);

    let run = folder.run(&["-r", "--all", "--verify", "--format", "{path}: {verdict}."]);
    insta::assert_snapshot!(run.out, @r"
    ./ahead: ahead.
    ./backdated: backdated.
    ./copied: copied.
    ./current: current.
    ./none: .
    ./stale: stale.
    ./undated: undated.
    ");
    assert_eq!(
        folder.found(&["-r", "--verify=stale,copied"]),
        "./copied ./stale"
    );
    let out = folder.run(&["--verify", "copied", "backdated"]).out;
    assert!(
        out.contains("verify   copied: this file was made 2 hours later"),
        "{out}"
    );
    assert!(
        out.contains("verify   backdated: the data carry a time 2 hours earlier"),
        "{out}"
    );
}

#[test]
fn history_is_searched_on_request() {
    let folder = Fixture::empty();
    folder.file(
        "f",
        &[
            ("user.prov.session", b"s2"),
            ("user.prov.history", b"s2,s1,comm:vim:uid:4000000000"),
        ],
    );
    assert_eq!(folder.found(&["--session", "s1", "f"]), "");
    assert_eq!(folder.found(&["--session", "s1", "--history", "f"]), "f");
    assert_eq!(
        folder.found(&["--comm", "vim", "--user", "4000000000", "--history", "f"]),
        "f"
    );
}

#[test]
fn links_below_folders_are_followed_on_request() {
    let tree = Fixture::tree();
    symlink("../.hidden", tree.path("src/link")).unwrap();
    symlink("main.c", tree.path("src/link.c")).unwrap();
    symlink("nowhere", tree.path("src/dangling")).unwrap();
    assert_eq!(tree.found(&["-r"]).split(' ').count(), 3);
    assert_eq!(
        tree.found(&["-rL", "src"]),
        "src/deep/er/main.c src/greet.c src/link/main.c src/link.c src/main.c"
    );
    // A folder that is named by a link is a folder, unless links are not to be followed.
    assert_eq!(tree.found(&["-r", "src/link"]), "src/link/main.c");
    assert_eq!(tree.found(&["-rP", "--unstamped", "src/link"]), "src/link");
}

#[test]
fn what_makes_no_sense_is_explained() {
    let tree = Fixture::tree();
    for (args, want) in [
        (&["-r", "--since", "soon"][..], "'soon' is no time"),
        (&["-r", "--format", "{nope}"], "no field {nope}"),
        (
            &["-r", "--user", "nobody-of-that-name"],
            "there is no user 'nobody-of-that-name'",
        ),
        (&["-r", "-g", "a["], "'a[' is no glob"),
        (&["-r", "--sort", "size"], "invalid value 'size'"),
        (&["-r", "--reverse"], "--sort"),
        (&["-r", "--verify=good"], "invalid value 'good'"),
    ] {
        let run = tree.run(args);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(run.err.contains(want), "{args:?}: {}", run.err);
    }
}
