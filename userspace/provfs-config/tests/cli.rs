//! The program as it is run, against a made-up `/proc`, `/sys`, `/etc` and `/run`: what it prints
//! where, what it changes, and its exit status.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use assert_cmd::cargo::CommandCargoExt;
use rustix::pipe::PipeFlags;
use serde_json::Value;
use tempfile::TempDir;

const SKIP: &str = "/proc,/sys,/srv/build,*.swp,fs:tmpfs";

const STATUS: &str = "version 0.1.0\nenabled 1\nformat keys\nmodifications 12\nstamped 7\nunchanged 2\nskipped.path 3\n\
    owed 0\npaid 0\nfailed 0\nidentity_failed 0\n";

/// A directory that stands for `/`.
struct Root(TempDir);

impl Root {
    /// Without provfs.
    fn stock() -> Self {
        let root = Root(tempfile::tempdir().unwrap());
        for folder in ["etc/sysctl.d", "run", "dev", "boot"] {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        root.put("proc/sys/kernel/osrelease", "7.3.4\n");
        root.put("proc/cmdline", "root=/dev/sda quiet\n");
        root.put("proc/filesystems", "\text4\nnodev\ttmpfs\n");
        root.put(
            "proc/self/mountinfo",
            "9001 1 8:1 / / rw - ext4 /dev/sda rw\n9002 9001 0:9 / /srv/mem rw - tmpfs tmpfs rw\n",
        );
        root.put("sys/kernel/security/lsm", "landlock,yama\n");
        root
    }

    /// With provfs as it is today: some settings are yet to come.
    fn new() -> Self {
        let root = Root::stock();
        root.put("sys/kernel/security/lsm", "landlock,yama,provfs\n");
        root.put("sys/kernel/security/provfs/status", STATUS);
        root.set("enabled", "1");
        root.set("skip", SKIP);
        root.set("ts_granularity_ms", "1000");
        root.set("env_session", "PROV_SESSION MY_SESSION");
        root.set("env_tool", "PROV_TOOL CLAUDE_TOOL");
        root.set("env_turn", "PROV_TURN CLAUDE_TURN");
        root.set("env_intent", "PROV_INTENT CLAUDE_INTENT AGENTNS_INTENT");
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn set(&self, name: &str, value: &str) {
        self.put(&format!("proc/sys/provfs/{name}"), format!("{value}\n"));
    }

    fn get(&self, name: &str) -> String {
        let text = self.text(&format!("proc/sys/provfs/{name}"));
        text.strip_suffix('\n').unwrap().to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("provfs-config").unwrap();
        command.arg("--root").arg(self.0.path()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::from(self.command(args).output().unwrap())
    }

    /// Runs it with `--json`, and fails unless what it prints is what the schema allows.
    fn json(&self, args: &[&str]) -> (Option<i32>, Value) {
        let run = self.run(&[&["--json"], args].concat());
        let document = serde_json::from_str(&run.out)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {run:?}"));
        let schema = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../Documentation/provfs-config.schema.json");
        let schema: Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{args:?}: {errors:?}\n{}", run.out);
        (run.code, document)
    }
}

#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

#[track_caller]
fn ok(run: &Run) {
    assert_eq!((run.code, &*run.err), (Some(0), ""), "{run:?}");
}

#[test]
fn get_prints_values() {
    let root = Root::new();
    let run = root.run(&["get", "skip"]);
    ok(&run);
    assert_eq!(run.out, format!("{SKIP}\n"));
    let run = root.run(&["get", "provfs.enabled", "ts_granularity_ms"]);
    assert_eq!(run.out, "enabled = 1\nts_granularity_ms = 1000\n");
    let run = root.run(&["get"]);
    ok(&run);
    assert_eq!(run.out.lines().count(), 7);

    let run = root.run(&["get", "history", "enabled"]);
    assert_eq!((run.code, &*run.out), (Some(1), "enabled = 1\n"));
    assert!(
        run.err.contains("provfs.history is not in this kernel"),
        "{run:?}"
    );
    let run = root.run(&["get", "skipp"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("there is no setting \"skipp\""), "{run:?}");
}

#[test]
fn set_changes_all_or_nothing() {
    let root = Root::new();
    let run = root.run(&["set", "enabled=0", "skip=/a,/b"]);
    ok(&run);
    assert_eq!(
        (root.get("enabled"), root.get("skip")),
        ("0".into(), "/a,/b".into())
    );
    assert!(run.out.contains("provfs.enabled: 1 -> 0\n"), "{run:?}");
    assert!(run.out.contains("provfs.skip: - /proc\n"), "{run:?}");
    assert!(run.out.contains("provfs.skip: + /a\n"), "{run:?}");
    assert_eq!(root.run(&["set", "enabled=0"]).out, "nothing to change\n");

    let refused = [
        (
            &["enabled=1", "skip=/c,/d//e"][..],
            "rule 2, byte 6: '//' has nothing between the slashes",
        ),
        (
            &["enabled=1", "ts_granularity_ms=1s"],
            "write a whole number from 0 to 86400000",
        ),
        (
            &["enabled=1", "history=5"],
            "provfs.history is not in this kernel",
        ),
        (&["enabled=1", "nothing=5"], "there is no setting"),
        (&["enabled=1", "enabled=0"], "provfs.enabled is set twice"),
        (&["enabled=1", "skip"], "write NAME=VALUE"),
    ];
    for (assignments, why) in refused {
        let run = root.run(&[&["set"], assignments].concat());
        assert_eq!((run.code, &*run.out), (Some(2), ""), "{run:?}");
        assert!(run.err.contains(why), "{run:?}");
        assert_eq!(
            (root.get("enabled"), root.get("skip")),
            ("0".into(), "/a,/b".into())
        );
    }
    // An empty list is a value too.
    ok(&root.run(&["set", "env_tool="]));
    assert_eq!(root.get("env_tool"), "");
}

/// A setting that is a file of the real kernel, which refuses numbers above 1000.
fn refusing() -> Root {
    let root = Root::new();
    symlink(
        "/proc/self/oom_score_adj",
        root.path("proc/sys/provfs/history"),
    )
    .unwrap();
    root
}

#[test]
fn what_the_kernel_refuses_leaves_everything_as_it_was() {
    let root = refusing();
    let run = root.run(&["set", "--unchecked", "enabled=0", "skip=/a", "history=5000"]);
    assert_eq!((run.code, &*run.out), (Some(2), ""), "{run:?}");
    assert!(
        run.err.contains(
            "the kernel refused the value of provfs.history: Invalid argument (os error 22)"
        ) && run.err.contains("nothing was changed"),
        "{run:?}"
    );
    assert_eq!(
        (root.get("enabled"), root.get("skip")),
        ("1".into(), SKIP.into())
    );
}

#[test]
fn rules_are_added_and_removed() {
    let root = Root::new();
    let run = root.run(&["add", "skip", "/opt", "!/opt/www,*.o", "/srv/build/"]);
    ok(&run);
    assert_eq!(root.get("skip"), format!("{SKIP},/opt,!/opt/www,*.o"));
    ok(&root.run(&["remove", "skip", "/sys", "!/opt/www"]));
    assert_eq!(root.get("skip"), "/proc,/srv/build,*.swp,fs:tmpfs,/opt,*.o");

    let run = root.run(&["remove", "skip", "/opt", "/none"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.err.contains("\"/none\" is not in the skip list"),
        "{run:?}"
    );
    let run = root.run(&["add", "skip", "/a/**/b"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.err.contains("'**' does not cross '/'"), "{run:?}");
    assert_eq!(root.get("skip"), "/proc,/srv/build,*.swp,fs:tmpfs,/opt,*.o");
    assert_eq!(root.run(&["add", "env_tool", "X"]).code, Some(2));

    // With what this program does not know, the kernel is asked.
    ok(&root.run(&["add", "skip", "--unchecked", "gid:5"]));
    assert!(root.get("skip").ends_with("*.o,gid:5"));
    assert_eq!(root.run(&["add", "skip", "/x"]).code, Some(2));
    ok(&root.run(&["add", "skip", "--unchecked", "/x"]));
    assert!(root.get("skip").ends_with("gid:5,/x"));
}

#[test]
fn a_list_that_would_become_too_long_is_refused() {
    let root = Root::new();
    let rule = format!("/{}", "x".repeat(4090));
    let run = root.run(&["add", "skip", &rule]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("longer than 4095 bytes"), "{run:?}");
    assert_eq!(root.get("skip"), SKIP);
}

#[test]
fn many_at_once_lose_nothing() {
    let root = Root::new();
    let children: Vec<_> = (0..40)
        .map(|number| {
            root.command(&["add", "skip", &format!("/many/{number}")])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let list = root.get("skip");
    for number in 0..40 {
        assert!(
            list.split(',')
                .any(|rule| rule == format!("/many/{number}")),
            "{number} is not in {list}"
        );
    }
    assert_eq!(list.split(',').count(), 45);
}

#[test]
fn a_dry_run_changes_nothing() {
    let root = refusing();
    for args in [
        &["set", "enabled=0"][..],
        &["add", "skip", "/x"],
        &["remove", "skip", "/proc"],
        &["reset"],
        &["persist"],
    ] {
        let run = root.run(&[args, &["--dry-run"]].concat());
        ok(&run);
        assert!(run.out.starts_with("would change provfs."), "{run:?}");
    }
    assert_eq!(
        (root.get("enabled"), root.get("skip")),
        ("1".into(), SKIP.into())
    );
    assert!(!root.path("etc/provfs.toml").exists());
    assert!(!root.path("run/provfs-config.lock").exists());
}

#[test]
fn list_shows_three_values_side_by_side() {
    let root = Root::new();
    root.put(
        "etc/provfs.toml",
        "ts_granularity_ms = 500\nskip = ['/srv/build']\n",
    );
    let run = root.run(&["list"]);
    ok(&run);
    let line = |name: &str| {
        let line = run.out.lines().find(|line| line.starts_with(name)).unwrap();
        line.split("  ")
            .filter(|word| !word.is_empty())
            .map(str::trim)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        line("ts_granularity_ms"),
        ["ts_granularity_ms", "1000", "1000", "500"]
    );
    assert_eq!(line("history"), ["history", "not in this kernel", "5", "-"]);
    assert_eq!(line("skip"), ["skip", "5 rules", "default", "1 rule"]);
    assert_eq!(line("env_tool"), ["env_tool", "default", "default", "-"]);
    assert!(run.out.contains("\n  running + *.swp\n"), "{run:?}");
    assert!(run.out.contains("\n  persisted + /srv/build\n"), "{run:?}");

    // A file with a mistake does not hide the rest.
    root.put("etc/provfs.toml", "enabled = 3\n");
    let run = root.run(&["list"]);
    assert_eq!(run.code, Some(2));
    assert!(run.out.contains("ts_granularity_ms"), "{run:?}");
    assert!(
        run.err
            .contains("provfs.toml:1:11: enabled: write 1 for on or 0 for off"),
        "{run:?}"
    );
}

#[test]
fn persist_and_reload_are_each_others_opposite() {
    let root = Root::new();
    assert_eq!(root.run(&["reload"]).code, Some(1));
    root.put(
        "etc/provfs.toml",
        "# ours\nskip = [\n  '/proc', # pseudo\n]\n",
    );
    let before = [root.get("skip"), root.get("env_session")];
    assert_eq!(root.run(&["diff"]).code, Some(1));
    let run = root.run(&["persist"]);
    ok(&run);
    let text = root.text("etc/provfs.toml");
    assert!(
        text.starts_with("# ours\nskip = [\n  '/proc', # pseudo\n"),
        "{text}"
    );
    assert!(
        text.contains("env_session = [\"PROV_SESSION\", \"MY_SESSION\"]"),
        "{text}"
    );
    assert!(
        !text.contains("enabled") && !text.contains("env_tool"),
        "defaults are not said: {text}"
    );
    ok(&root.run(&["diff"]));
    assert_eq!(root.run(&["persist"]).out, "nothing to change\n");
    assert_eq!(root.text("etc/provfs.toml"), text);

    root.set("skip", "/other");
    root.set("env_session", "OTHER");
    root.set("enabled", "0");
    ok(&root.run(&["reload"]));
    assert_eq!([root.get("skip"), root.get("env_session")], before);
    // What is not persisted stays.
    assert_eq!(root.get("enabled"), "0");

    ok(&root.run(&["persist", "enabled"]));
    assert!(root.text("etc/provfs.toml").ends_with("enabled = false\n"));
    ok(&root.run(&["reset", "enabled"]));
    assert_eq!(root.get("enabled"), "1");
    ok(&root.run(&["persist"]));
    assert!(root.text("etc/provfs.toml").ends_with("enabled = true\n"));
}

#[test]
fn reload_applies_nothing_of_a_file_with_a_mistake() {
    let root = Root::new();
    root.put("etc/provfs.toml", "enabled = 0\nhistorie = 5\n");
    let run = root.run(&["reload"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(
        run.err
            .contains("provfs.toml:2:1: there is no setting \"historie\""),
        "{run:?}"
    );
    assert_eq!(root.get("enabled"), "1");
    // Nor is it written over.
    let run = root.run(&["persist"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert_eq!(root.text("etc/provfs.toml"), "enabled = 0\nhistorie = 5\n");
}

#[test]
fn reload_says_which_setting_the_kernel_lacks() {
    let root = Root::new();
    root.put(
        "etc/provfs.toml",
        "enabled = 0\nhistory = 5\nformat = 'keys'\n",
    );
    ok(&root.run(&["reload"]));
    root.put("etc/provfs.toml", "enabled = 1\nhistory = 9\n");
    let run = root.run(&["reload"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(
        run.err.contains("provfs.history is not in this kernel"),
        "{run:?}"
    );
    // The others are applied.
    assert_eq!(root.get("enabled"), "1");
}

#[test]
fn sysctl_d_is_written_and_read() {
    let root = Root::new();
    ok(&root.run(&["persist", "--sysctl-d"]));
    let text = root.text("etc/sysctl.d/60-provfs.conf");
    assert!(
        text.contains(&format!("\nprovfs.skip = {SKIP}\n")),
        "{text}"
    );
    assert!(
        text.contains("\nprovfs.env_session = PROV_SESSION MY_SESSION\n"),
        "{text}"
    );
    ok(&root.run(&["diff"]));
    root.set("skip", "/other");
    ok(&root.run(&["reload"]));
    assert_eq!(root.get("skip"), SKIP);

    // The other file has the last word, and this one says so.
    root.put("etc/provfs.toml", "skip = ['/x']\n");
    let run = root.run(&["persist", "--sysctl-d"]);
    assert!(
        run.err
            .contains("provfs.toml sets provfs.skip to something else"),
        "{run:?}"
    );
    ok(&root.run(&["reload"]));
    assert_eq!(root.get("skip"), "/x");
}

#[test]
fn test_says_which_rule_decides() {
    let root = Root::new();
    root.set(
        "skip",
        "/srv,!/srv/www,*.swp,comm:rsync,uid:7,fs:tmpfs,!/srv/mem/keep",
    );
    let deciding = |args: &[&str]| {
        let (code, document) = root.json(&[&["test"], args].concat());
        let file = &document["files"][0];
        let rule = file["rule"]["text"].as_str().unwrap_or("none").to_owned();
        (code.unwrap(), file["recorded"].as_bool().unwrap(), rule)
    };
    // Below what this machine has, paths are as they are.
    assert_eq!(deciding(&["/srv/a"]), (1, false, "/srv".into()));
    assert_eq!(deciding(&["/srv/www/a"]), (0, true, "!/srv/www".into()));
    assert_eq!(deciding(&["/srv/www/a.swp"]), (1, false, "*.swp".into()));
    assert_eq!(deciding(&["/nowhere/a"]), (0, true, "none".into()));
    assert_eq!(
        deciding(&["/nowhere/a", "--uid", "7"]),
        (1, false, "uid:7".into())
    );
    assert_eq!(
        deciding(&["/nowhere/a", "--uid=8", "--comm", "rsync"]),
        (1, false, "comm:rsync".into())
    );

    let run = root.run(&["test", "/srv/www/a"]);
    assert!(
        run.out
            .contains("recorded  rule 2 of 7, !/srv/www: its path is that or below it"),
        "{run:?}"
    );
    assert!(run.out.contains("overruled rule 1 of 7, /srv\n"), "{run:?}");
    assert!(
        run.out
            .contains("unless    rule 4 of 7, comm:rsync decides"),
        "{run:?}"
    );

    root.set("enabled", "0");
    let run = root.run(&["test", "/nowhere/a"]);
    assert_eq!(run.code, Some(1));
    assert!(run.out.contains("provfs-config set enabled=1"), "{run:?}");
    let run = root.run(&["test", "/etc/passwd/x", "/nowhere/a"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.err.contains("cannot look at \"/etc/passwd/x\"") && run.out.contains("/nowhere/a"),
        "{run:?}"
    );
}

#[test]
fn a_stock_machine_is_told_in_one_sentence() {
    let root = Root::stock();
    for args in [
        &["get"][..],
        &["set", "enabled=0"],
        &["add", "skip", "/x"],
        &["remove", "skip", "/x"],
        &["reset"],
        &["diff"],
        &["persist"],
        &["status"],
        &["test", "/x"],
        &["list"],
    ] {
        let run = root.run(args);
        assert_eq!(run.code, Some(2), "{args:?}: {run:?}");
        assert_eq!(
            run.err,
            "provfs-config: this kernel (7.3.4) has no provfs: boot one that was built with CONFIG_SECURITY_PROVFS=y \
            and is started with lsm=landlock,yama,provfs\n",
            "{args:?}"
        );
    }
    root.put("etc/provfs.toml", "enabled = 1\n");
    assert_eq!(root.run(&["reload"]).code, Some(2));

    // These need no provfs.
    root.put("rules", "/srv\n*.o\n");
    let rules = root.path("rules");
    let rules = rules.to_str().unwrap();
    ok(&root.run(&["check", rules]));
    assert_eq!(
        root.run(&["test", "--rules", rules, "/srv/x"]).code,
        Some(1)
    );
    assert_eq!(
        root.run(&["test", "--rules", rules, "/nowhere/x"]).code,
        Some(0)
    );
    let run = root.run(&["doctor"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.out
            .contains("add lsm=landlock,yama,provfs to the boot line"),
        "{run:?}"
    );
}

#[test]
fn check_finds_mistakes() {
    let root = Root::new();
    let check = |name: &str, content: &[u8]| {
        root.put(name, content);
        let path = root.path(name);
        let run = root.run(&["check", path.to_str().unwrap()]);
        (run.code, run.out.replace(path.to_str().unwrap(), name))
    };
    assert_eq!(
        check("rules", b"/a\n/b,*.o\n"),
        (Some(0), "rules: right, 3 rules\n".into())
    );
    assert_eq!(
        check("rules", b"/a\n/b,/c/../d\n"),
        (
            Some(1),
            "rules:2:7: '.' and '..' are not part of any path\n".into()
        )
    );
    assert_eq!(
        check("x.toml", b"enabled = true\nskip = ['/a', 'b:c']\n"),
        (
            Some(1),
            "x.toml:2:15: skip: \"b:c\": rule 1, byte 0: only fs:, comm: and uid: are known (write '\\:' for a name \
            with a colon), at \"b:c\"\n"
                .into()
        )
    );
    assert_eq!(
        check("x.conf", b"kernel.panic = 1\nprovfs.enabled = 2\n"),
        (
            Some(1),
            "x.conf:2:1: provfs.enabled: write 1 for on or 0 for off\n".into()
        )
    );
    let (code, out) = check("rules", b"/a/b,/a");
    assert_eq!(code, Some(0));
    assert!(
        out.contains("rule 1, /a/b has no effect: rule 2, /a comes later"),
        "{out}"
    );
    assert_eq!(check("bytes", b"/a\0b").0, Some(1));
    assert_eq!(check("bytes.toml", b"\xff").0, Some(1));
    assert_eq!(root.run(&["check", "/no/such/file"]).code, Some(2));
}

#[test]
fn status_shows_counters_and_rates() {
    let root = Root::new();
    let run = root.run(&["status"]);
    ok(&run);
    assert!(run.out.contains("modifications    12\n"), "{run:?}");
    let (_, document) = root.json(&["status"]);
    assert_eq!(document["counters"]["skipped.path"]["value"], 3);
    assert_eq!(document["seconds"], Value::Null);

    let child = root
        .command(&["--json", "status", "--interval", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It has read them by then, and reads them again later.
    std::thread::sleep(std::time::Duration::from_millis(400));
    root.put(
        "sys/kernel/security/provfs/status",
        STATUS.replace("stamped 7", "stamped 57"),
    );
    let run = Run::from(child.wait_with_output().unwrap());
    let document: Value = serde_json::from_str(&run.out).unwrap();
    let stamped = &document["counters"]["stamped"];
    assert_eq!(stamped["value"], 57);
    let rate = stamped["per_second"].as_f64().unwrap();
    assert!(rate > 1.0 && rate <= 50.0, "{document}");
    assert_eq!(document["counters"]["unchanged"]["per_second"], 0.0);
}

/// What the doctor finds, by severity.
fn findings(root: &Root, severity: &str) -> Vec<String> {
    let (_, document) = root.json(&["doctor"]);
    let findings = document["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["severity"] == severity)
        .map(|finding| finding["what"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let root = Root::new();
    root.set("skip", "/proc,/sys,fs:tmpfs");
    root.set("env_session", "PROV_SESSION");
    ok(&root.run(&["persist"]));
    let run = root.run(&["doctor"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(findings(&root, "problem"), [""; 0]);

    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    symlink("/etc", real.join("link")).unwrap();
    let link = real.join("link");
    let link = link.to_str().unwrap();
    root.set("enabled", "0");
    root.set(
        "skip",
        &format!(
            "/a/b,/a,{link},/no/such/place,fs:nope,fs:btrfs,{}",
            "x,".repeat(1850)
        ),
    );
    root.set("env_session", "");
    root.set("env_tool", "PROV_TURN PROV_TOOL PROV_TOOL");
    root.put(
        "etc/sysctl.d/50-x.conf",
        "provfs.skip = /z\nprovfs.enabled = no\n",
    );
    root.put("proc/filesystems", "\text4\n\tbtrfs\n");
    root.put(
        "sys/kernel/security/provfs/status",
        format!("{STATUS}failed.ENOSPC 3\n"),
    );
    let (problems, hints) = (findings(&root, "problem"), findings(&root, "hint"));
    let found = |list: &[String], text: &str| {
        assert!(
            list.iter().any(|one| one.contains(text)),
            "{text:?} is not in {list:#?}"
        );
    };
    found(&problems, "provfs.enabled is 0");
    found(
        &problems,
        "never matches: the kernel sees this path as /etc",
    );
    found(&problems, "3 records could not be made: ENOSPC");
    found(&problems, "50-x.conf:2:1: provfs.enabled: write 1");
    found(&hints, "rule 1, /a/b has no effect: rule 2, /a comes later");
    found(
        &hints,
        "rule 4, /no/such/place is about a path that is not there now",
    );
    found(
        &hints,
        "fs:nope is about a type of file system that this kernel does not know",
    );
    found(
        &hints,
        "fs:btrfs is about a type of file system that is not mounted",
    );
    found(&hints, "of 4095 bytes");
    found(&hints, "provfs.env_session is empty");
    found(&hints, "provfs.env_tool names PROV_TOOL twice");
    found(
        &hints,
        "PROV_TURN is in provfs.env_tool and in provfs.env_turn",
    );
    found(&hints, "will be others after the next boot: enabled, skip");
    found(
        &hints,
        "50-x.conf sets provfs.skip to something else than /etc/provfs.toml",
    );
    assert_eq!(root.run(&["doctor"]).code, Some(1));
}

#[test]
fn the_doctor_knows_why_provfs_does_not_run() {
    let root = Root::stock();
    root.put("boot/config-7.3.4", "CONFIG_SECURITY_PROVFS=y\n");
    root.put("proc/cmdline", "quiet lsm=landlock,yama\n");
    let (_, document) = root.json(&["doctor"]);
    let finding = &document["findings"][0];
    assert!(
        finding["what"]
            .as_str()
            .unwrap()
            .contains("is built into kernel 7.3.4, but was not started")
    );
    assert_eq!(
        finding["advice"],
        "change lsm=landlock,yama on the boot line to lsm=landlock,yama,provfs, and boot again"
    );
    root.put("boot/config-7.3.4", "CONFIG_SECURITY_YAMA=y\n");
    assert!(findings(&root, "problem")[0].contains("was built without provfs"));
    fs::remove_file(root.path("sys/kernel/security/lsm")).unwrap();
    assert!(findings(&root, "problem")[0].contains("/sys/kernel/security is not there"));
}

#[test]
fn every_document_is_one_that_the_schema_allows() {
    let root = Root::new();
    root.put("rules", "/a/b,/a,!x\n");
    root.put("bad.toml", "enabled = 7\nx = 1\n");
    let (rules, bad) = (root.path("rules"), root.path("bad.toml"));
    let (rules, bad) = (rules.to_str().unwrap(), bad.to_str().unwrap());
    let calls: &[(&[&str], i32)] = &[
        (&["get"], 0),
        (&["get", "skip", "history"], 1),
        (&["list"], 0),
        (&["diff"], 1),
        (&["set", "enabled=0", "--dry-run"], 0),
        (&["add", "skip", "/x"], 0),
        (&["remove", "skip", "/x"], 0),
        (&["remove", "skip", "/x"], 1),
        (&["persist"], 0),
        (&["reload"], 0),
        (&["reset", "enabled"], 0),
        (&["test", "/srv/build/x", "/nowhere/x", "/etc"], 1),
        (&["test", "--rules", rules, "/a/b/c", "--comm", "sh"], 1),
        (&["check", rules], 0),
        (&["check", bad], 1),
        (&["status"], 0),
        (&["status", "--interval", "0.01"], 0),
        (&["doctor"], 0),
    ];
    for (args, code) in calls {
        let (got, document) = root.json(args);
        assert_eq!(got, Some(*code), "{args:?}: {document}");
        assert_eq!(document["command"], args[0]);
    }
    // Bytes that are not text.
    let path = std::ffi::OsStr::from_bytes(b"/nowhere/\xff");
    let output = root
        .command(&["--json", "test"])
        .arg(path)
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["files"][0]["path_b64"], "L25vd2hlcmUv/w==");
    root.put("proc/sys/provfs/skip", b"/\xff\n");
    assert_eq!(
        root.json(&["get", "skip"]).1["settings"][0]["value_b64"],
        "L/8="
    );
    assert_eq!(root.json(&["list"]).1["settings"][1]["running_b64"], "L/8=");
}

#[test]
fn documents_are_as_they_were() {
    let root = Root::new();
    let (_, document) = root.json(&["add", "skip", "/x"]);
    insta::assert_snapshot!(serde_json::to_string(&document).unwrap(), @r#"{"changes":[{"after":"/proc,/sys,/srv/build,*.swp,fs:tmpfs,/x","before":"/proc,/sys,/srv/build,*.swp,fs:tmpfs","name":"skip"}],"command":"add","dry_run":false,"schema":1}"#);
    let (_, document) = root.json(&["test", "--uid", "5", "/srv/build/x"]);
    insta::assert_snapshot!(serde_json::to_string(&document).unwrap(), @r#"{"command":"test","files":[{"comm":null,"fs_type":"ext4","open":[],"overruled":[],"path":"/srv/build/x","reason":"rule","recorded":false,"resolved":"/srv/build/x","rule":{"kind":"path","number":3,"text":"/srv/build"},"uid":5}],"schema":1}"#);
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let root = Root::new();
    for args in [
        &[][..],
        &["no-such"],
        &["set"],
        &["status", "-i", "0"],
        &["test"],
        &["get", "--bad"],
    ] {
        let run = root.run(args);
        assert_eq!(run.code, Some(2), "{args:?}: {run:?}");
        assert!(run.err.contains("--help"), "{args:?}: {run:?}");
    }
    ok(&root.run(&["--help"]));
    ok(&root.run(&["help", "test"]));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let root = Root::new();
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(reader);
    let output = root.command(&["list"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = root.command(&["list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the output"));
}
