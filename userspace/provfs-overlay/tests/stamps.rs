//! Who is named, for each kind of modification, through the mount and behind it, with and without
//! passthrough.

mod common;

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::fs::FileExt,
    time::Duration,
};

use common::{Mounted, can_mount, get, set};

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
fn the_writer_is_named() {
    both(|m| {
        m.sh(
            "s1",
            "echo hello > echo; cat echo > cat; dd if=echo of=dd 2>/dev/null; cp echo cp; mkdir dir",
        );
        m.sh(
            "s1",
            "echo x | tee tee; tar cf a.tar dir; sed s/h/j/ < echo > sed",
        );
        for (name, tool) in [
            ("echo", "sh"),
            ("cat", "cat"),
            ("dd", "dd"),
            ("cp", "cp"),
            ("dir", "mkdir"),
            ("tee", "tee"),
            ("a.tar", "tar"),
            ("sed", "sed"),
        ] {
            assert_eq!(m.record(name), format!("s1 {tool}"), "{name}");
        }
    });
}

#[test]
fn who_declares_nothing_is_described() {
    both(|m| {
        let mut script = m.shell("cat /etc/hostname > f; printf $$");
        script.env("PROV_TOOL", "Edit");
        let pid = String::from_utf8(script.output().unwrap().stdout).unwrap();
        let record = m.record("f");
        assert!(record.starts_with("comm-chain:cat>sh>"), "{record}");
        assert!(record.contains(";env:PROV_TOOL=Edit;cwd:/"), "{record}");
        assert!(record.ends_with(" Edit"), "{record}");
        assert!(
            !record.contains(&format!(";pid:{pid};")),
            "cat is a process of its own: {record}"
        );
    });
}

#[test]
fn turn_and_intent_come_and_go() {
    both(|m| {
        m.sh("s1", "PROV_TURN=4 PROV_INTENT='a;b' sh -c 'echo > f'");
        let get = |key: &str| get(&m.src.join("f"), &format!("user.prov.{key}"));
        assert_eq!(
            (get("turn").as_deref(), get("intent").as_deref()),
            (Some("4"), Some("a%3Bb"))
        );
        m.sh("s2", "echo >> f");
        assert_eq!((get("turn"), get("intent")), (None, None));
        assert_eq!(m.record("f"), "s2 sh s2,s1");
    });
}

#[test]
fn who_creates_is_named_only_if_nobody_writes() {
    both(|m| {
        m.sh("s1", "touch empty; : > colon; ln empty link");
        m.soon("empty", "s1 touch");
        m.soon("colon", "s1 sh");
        assert_eq!(m.record("link"), "s1 touch");
        // The shell creates the file, and then becomes somebody else.
        m.sh("s1", "(PROV_SESSION=s2; export PROV_SESSION; exec sh -c 'echo > f') ; sh -c 'exec cat /etc/hostname > g'");
        assert_eq!(m.record("f"), "s2 sh");
        assert_eq!(m.record("g"), "s1 cat");
    });
}

#[test]
fn whoever_only_looks_is_not_named() {
    both(|m| {
        m.sh("s1", "echo hello > f");
        let before = m.count("modifications");
        m.sh("s2", "cat f; exec 3<> f; read line <&3; chmod 600 f; touch -d 2020-01-01 f; ls -l; exec 4>> f");
        m.sh(
            "s2",
            "touch f; setfattr -n user.other -v x f; mv f g; ln g h; stat h",
        );
        assert_eq!(m.record("h"), "s1 sh");
        assert_eq!(m.count("modifications"), before);
    });
}

#[test]
fn sizes_are_modifications() {
    both(|m| {
        for (name, change) in [
            ("path", "truncate -s 3 path"),
            (
                "descriptor",
                "exec 3<> descriptor; truncate -s 2 /proc/self/fd/3",
            ),
            ("open", "exec 3> open"),
            ("larger", "truncate -s 1M larger"),
            ("fallocate", "fallocate -l 4096 fallocate"),
            ("hole", "fallocate -p -l 4096 hole"),
        ] {
            m.sh("s1", &format!("head -c 5000 /dev/zero > {name}"));
            m.sh("s2", change);
            let record = m.record(name);
            assert!(
                record.starts_with("s2 ") && record.ends_with(" s2,s1"),
                "{name}: {record}"
            );
        }
    });
}

#[test]
fn a_process_that_passes_its_file_on_is_not_the_writer() {
    both(|m| {
        m.sh(
            "s1",
            "PROV_TOOL=outer sh -c '{ PROV_TOOL=inner date; } > f'",
        );
        assert_eq!(m.record("f"), "s1 inner");
        // It exits without closing the file.
        m.sh(
            "s1",
            "{ python3 -c 'import os; os.write(1, b\"x\"); os._exit(0)'; } > g",
        );
        assert_eq!(m.record("g"), "s1 python3");
        m.sh(
            "s1",
            "exec python3 -c 'import os; os.write(1, b\"x\"); os._exit(0)' > h",
        );
        assert_eq!(m.record("h"), "s1 python3");
        m.sh("s1", "python3 -c 'import os; os.mknod(\"i\")'");
        assert_eq!(m.record("i"), "s1 python3");
    });
}

#[test]
fn each_writer_through_one_descriptor_goes_into_the_history() {
    if !can_mount() {
        return;
    }
    // The kernel tells of each write only where it does not make it by itself.
    let m = Mounted::new(&["--no-passthrough"]);
    m.sh(
        "s0",
        "{ PROV_SESSION=s1 date; PROV_SESSION=s2 date; echo x; } > f",
    );
    assert_eq!(m.record("f"), "s0 sh s0,s2,s1");
    m.sh(
        "s0",
        "(PROV_SESSION=s3 exec sh -c 'printf a; PROV_SESSION=s4 exec date') > g",
    );
    assert_eq!(m.record("g"), "s4 date s4,s3");
}

#[test]
fn the_record_is_there_before_the_file_is_closed() {
    both(|m| {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(m.mnt.join("f"))
            .unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
        assert_ne!(m.record("f"), "");
    });
}

#[test]
fn mappings_are_written_through() {
    both(|m| {
        m.sh("s1", "head -c 5000 /dev/zero > f");
        let python = "import mmap; f = open('f', 'r+b'); p = mmap.mmap(f.fileno(), 0); f.close(); p[7] = 65; p.flush(); p.close()";
        m.sh("s2", &format!("python3 -c \"{python}\""));
        m.soon("f", "s2 python3 s2,s1");
        assert_eq!(fs::read(m.src.join("f")).unwrap()[7], 65);
    });
}

#[test]
fn copy_file_range_names_who_asks() {
    both(|m| {
        m.sh("s1", "head -c 100000 /dev/urandom > a");
        let python = "import os; a = os.open('a', 0); b = os.open('b', 65); n = os.copy_file_range(a, b, 100000); assert n == 100000, n";
        m.sh("s2", &format!("python3 -c \"{python}\"; cmp a b"));
        assert_eq!(m.record("b"), "s2 python3");
    });
}

#[test]
fn saving_by_rename_keeps_the_past() {
    both(|m| {
        m.sh("s1", "echo 1 > f");
        m.sh("s2", "echo 2 > tmp; mv tmp f");
        assert_eq!(m.record("f"), "s2 sh s2,s1");
        m.sh("s3", "sed -i s/2/3/ f");
        assert_eq!(m.record("f"), "s3 sed s3,s2,s1");
        // The new file is renamed before it is closed.
        m.sh("s4", "exec 3> new; echo 4 >&3; mv new f; exec 3>&-");
        assert_eq!(m.record("f"), "s4 sh s4,s3,s2,s1");
        m.sh(
            "s5",
            "echo 5 > other; mv -n other g; mv --exchange f g 2>/dev/null || true",
        );
        let (f, g) = (m.record("f"), m.record("g"));
        assert!([&f, &g].iter().any(|record| *record == "s5 sh"), "{f}, {g}");
    });
}

#[test]
fn a_copy_is_the_work_of_who_makes_it() {
    both(|m| {
        m.sh("s1", "echo 1 > f");
        m.sh("s2", "cp -a f copy; cp -p f plain");
        m.soon("copy", "s2 cp s2,s1");
        assert_eq!(m.record("plain"), "s2 cp");
    });
}

#[test]
fn the_same_again_costs_nothing_for_a_while() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&["--granularity-ms", "60000"]);
    m.sh("s1", ": > f; for i in 1 2 3; do echo $i >> f; done");
    // Whoever creates a file and writes to it makes one modification.
    assert_eq!((m.count("stamped"), m.count("unchanged")), (1, 2));
    let m = Mounted::new(&["--granularity-ms", "0"]);
    m.sh("s1", ": > f; for i in 1 2 3; do echo $i >> f; done");
    assert_eq!((m.count("stamped"), m.count("unchanged")), (4, 0));
}

#[test]
fn a_history_has_the_length_that_is_set() {
    for (n, history) in [("0", ""), ("2", " s4,s3"), ("32", " s4,s3,s2,s1")] {
        if !can_mount() {
            return;
        }
        let m = Mounted::new(&["--history", n]);
        for session in ["s1", "s2", "s3", "s4"] {
            m.sh(session, "echo >> f");
        }
        assert_eq!(m.record("f"), format!("s4 sh{history}"));
    }
}

#[test]
fn packed_records_are_one_attribute() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&["--format", "packed"]);
    m.sh("s1", "echo > f");
    m.sh("s2", "PROV_TURN=7 sh -c 'echo > f'");
    let record = m.record("f");
    assert!(
        record.starts_with("ts=") && record.ends_with(";s=s2;t=sh;n=7;h=s2,s1"),
        "{record}"
    );
    assert_eq!(get(&m.src.join("f"), "user.prov.session"), None);
}

#[test]
fn rules_say_what_is_not_recorded() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&["--skip", "*.swp,comm:dd,private/x,!target"]);
    m.sh("s1", "mkdir -p .git target private/x private/y; touch .git/a; for f in .git/f target/f private/x/f private/y/f a.swp; do echo > $f; done; dd if=/dev/zero of=dd count=1 2>/dev/null");
    for (name, record) in [
        (".git/f", ""),
        (".git", ""),
        ("target/f", "s1 sh"),
        ("private/x/f", ""),
        ("private/y/f", "s1 sh"),
        ("a.swp", ""),
        ("dd", ""),
    ] {
        assert_eq!(m.record(name), record, "{name}");
    }
    assert_eq!(m.count("skipped.comm"), 1);
    assert!(m.count("skipped.name") >= 4);
    // Rules about paths see the whole of it.
    let dir = common::folder();
    let rules = format!("{}/mnt/dir,fs:nosuch*", dir.path().display());
    let m = Mounted::at(dir.path(), &["--skip", &rules]);
    m.sh("s1", "mkdir dir; echo > dir/f; echo > f");
    assert_eq!(m.record("dir/f"), "");
    assert_eq!(m.record("f"), "s1 sh");
}

#[test]
fn other_variables_can_declare() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&[
        "--env-session",
        "MINE,PROV_SESSION",
        "--env-tool",
        "MY_TOOL",
    ]);
    m.sh(
        "s1",
        "echo > a; MINE=s2 MY_TOOL=t PROV_TOOL=u sh -c 'echo > b'",
    );
    assert_eq!(
        (m.record("a").as_str(), m.record("b").as_str()),
        ("s1 sh", "s2 t")
    );
}

#[test]
fn records_can_be_protected() {
    if !can_mount() {
        return;
    }
    let m = Mounted::new(&["--protect"]);
    m.sh("s1", "echo > f");
    let file = m.mnt.join("f");
    let refused = Some(rustix::io::Errno::PERM);
    assert_eq!(set(&file, "user.prov.session", "x").err(), refused);
    assert_eq!(set(&file, "user.prov", "x").err(), refused);
    assert_eq!(
        rustix::fs::removexattr(&file, "user.prov.session").err(),
        refused
    );
    set(&file, "user.provident", "x").unwrap();
    m.sh("s2", "cp -a f g");
    m.soon("g", "s2 cp");
    let m = Mounted::new(&[]);
    m.sh("s1", "echo > f");
    set(m.mnt.join("f"), "user.prov.session", "x").unwrap();
    assert_eq!(m.record("f"), "x sh");
}

#[test]
fn counters_add_up() {
    both(|m| {
        m.sh(
            "s1",
            "for i in 1 2 3; do echo > $i; done; mkdir .git; echo > .git/x; touch e; cp -a 1 c",
        );
        m.soon("e", "s1 touch");
        let outcomes = [
            "stamped",
            "unchanged",
            "skipped.path",
            "skipped.name",
            "skipped.fs",
            "skipped.comm",
            "skipped.uid",
            "skipped.immutable",
            "skipped.unsupported",
            "failed",
        ];
        let sum: u64 = outcomes.iter().map(|name| m.count(name)).sum();
        assert_eq!(m.count("modifications"), sum);
        assert_eq!(m.count("failed"), 0);
    });
}

#[test]
fn passthrough_is_used_where_it_can_be() {
    if !can_mount() || !common::is_root() {
        return;
    }
    let config = std::fs::File::open("/proc/config.gz").is_ok();
    let m = Mounted::new(&[]);
    m.sh("s1", "echo > f; cat f");
    if m.count("opened.passthrough") == 0 {
        eprintln!(
            "skipped: this kernel has no passthrough (6.9, CONFIG_FUSE_PASSTHROUGH; seen a config: {config})"
        );
        return;
    }
    // What another descriptor writes behind the mount is seen at once: there is one cache.
    let file = fs::File::open(m.mnt.join("f")).unwrap();
    let behind = OpenOptions::new()
        .write(true)
        .open(m.src.join("f"))
        .unwrap();
    for round in 0..100_u8 {
        behind.write_all_at(&[round], 0).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte[0], round);
    }
}

#[test]
fn what_changes_behind_the_mount_is_seen() {
    both(|m| {
        m.sh("s1", "echo one > f; cat f");
        std::thread::sleep(Duration::from_millis(20));
        fs::write(m.src.join("f"), "three").unwrap();
        let mut text = String::new();
        fs::File::open(m.mnt.join("f"))
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(fs::read_to_string(m.mnt.join("f")).unwrap(), "three");
        assert_eq!(fs::metadata(m.mnt.join("f")).unwrap().len(), 5);
    });
}
