//! The program as it is run: the environment of the command, its exit status and its signals.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
};

use assert_cmd::cargo::CommandCargoExt;
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("provfs-run").unwrap();
    for name in [
        "PROV_SESSION",
        "PROV_TOOL",
        "PROV_TURN",
        "PROV_INTENT",
        "CLAUDE_SESSION",
        "CLAUDE_TOOL",
    ] {
        command.env_remove(name);
    }
    command.args(["--root", "/no/such/root"]).args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The variables of the command that declare something.
fn declared(output: &Output) -> Vec<String> {
    let text = text(&output.stdout);
    let lines = text
        .lines()
        .filter(|line| line.starts_with("PROV_") || line.starts_with("CLAUDE_"));
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_command_finds_the_declaration_in_its_environment() {
    let output = run(&[
        "--session",
        "s 1",
        "--tool",
        "T",
        "--turn",
        "7",
        "--intent",
        "to see",
        "--",
        "env",
    ]);
    assert_eq!(
        declared(&output),
        [
            "PROV_INTENT=to see",
            "PROV_SESSION=s 1",
            "PROV_TOOL=T",
            "PROV_TURN=7"
        ]
    );
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    let output = run(&["-s", "s1", "env"]);
    assert_eq!(declared(&output), ["PROV_SESSION=s1"]);
}

#[test]
fn what_is_declared_already_stays_or_goes() {
    let with = |args: &[&str]| {
        let mut command = command(args);
        command.env("CLAUDE_SESSION", "old").env("PROV_TOOL", "Old");
        declared(&command.output().unwrap())
    };
    assert_eq!(with(&["env"]), ["CLAUDE_SESSION=old", "PROV_TOOL=Old"]);
    assert_eq!(
        with(&["--session=new", "env"]),
        ["CLAUDE_SESSION=old", "PROV_SESSION=new", "PROV_TOOL=Old"]
    );
    assert_eq!(with(&["--clear", "env"]), [""; 0]);
    assert_eq!(with(&["--clear", "--turn=1", "env"]), ["PROV_TURN=1"]);
}

#[test]
fn a_new_session_is_a_ulid_and_is_printed() {
    let outputs = [
        run(&["--new-session", "env"]),
        run(&["--new-session", "env"]),
    ];
    let sessions = outputs.map(|output| {
        let said = text(&output.stderr);
        let session = said
            .strip_prefix("provfs-run: session ")
            .unwrap()
            .trim_end()
            .to_owned();
        assert_eq!(session.len(), 26);
        session.parse::<ulid::Ulid>().unwrap();
        assert_eq!(declared(&output), [format!("PROV_SESSION={session}")]);
        session
    });
    assert_ne!(sessions[0], sessions[1]);
}

#[test]
fn exit_status_and_signals_are_those_of_the_command() {
    for code in [0, 1, 2, 77, 126, 255] {
        let output = run(&["--session=x", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(
            (output.status.code(), &*output.stderr),
            (Some(code), &b""[..])
        );
    }
    for (name, number) in [("TERM", 15), ("KILL", 9), ("PIPE", 13)] {
        let output = run(&["--session=x", "--", "sh", "-c", &format!("kill -{name} $$")]);
        assert_eq!(output.status.signal(), Some(number), "{name}");
    }
}

#[test]
fn there_is_no_process_in_between() {
    let child = command(&["--session=x", "sh", "-c", "echo $$ $PPID"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        text(&output.stdout),
        format!("{pid} {}\n", std::process::id())
    );
}

#[test]
fn what_cannot_be_executed_is_126_or_127() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "no program").unwrap();
    let output = run(&["no-such-program-at-all"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output.stderr).contains("cannot execute \"no-such-program-at-all\""));
    assert_eq!(run(&[file.to_str().unwrap()]).status.code(), Some(126));
    assert_eq!(
        run(&[dir.path().to_str().unwrap()]).status.code(),
        Some(126)
    );
}

#[test]
fn a_wrong_command_line_is_status_2() {
    for args in [
        &[][..],
        &["--session"],
        &["--session=", "true"],
        &["--no-such", "true"],
        &["--intent=a\nb", "true"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

/// A made-up kernel with provfs.
fn kernel(own: &str, env_session: &str) -> TempDir {
    let root = TempDir::new().unwrap();
    let security = root.path().join("sys/kernel/security/provfs");
    let settings = root.path().join("proc/sys/provfs");
    fs::create_dir_all(&security).unwrap();
    fs::create_dir_all(&settings).unwrap();
    fs::write(security.join("self"), own).unwrap();
    fs::write(settings.join("env_session"), env_session).unwrap();
    root
}

fn with_kernel(root: &TempDir, args: &[&str]) -> (Output, String) {
    let mut command = Command::cargo_bin("provfs-run").unwrap();
    let output = command
        .arg("--root")
        .arg(root.path())
        .args(args)
        .output()
        .unwrap();
    let own = fs::read_to_string(root.path().join("sys/kernel/security/provfs/self")).unwrap();
    (output, own)
}

#[test]
fn the_session_is_fixed_before_the_command_runs() {
    // A file that a write begins anew at its start, as the kernel's does; what is left over is of no matter.
    let before = "\ncomm=sh\nlocked=0\n";
    let root = kernel(before, "MY_SESSION\n");
    let (output, own) = with_kernel(
        &root,
        &["--session=s1", "--lock", "sh", "-c", "echo $MY_SESSION"],
    );
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "s1\n".into()),
        "{output:?}"
    );
    assert!(own.starts_with("session=s1\nlock\n"), "{own}");

    let root = kernel(before, "MY_SESSION\n");
    let (output, own) = with_kernel(&root, &["--lock", "echo", "ran"]);
    assert_eq!(
        (output.status.code(), &*output.stdout, &*own),
        (Some(2), &b""[..], before)
    );
    assert!(text(&output.stderr).contains("there is no session to fix"));
}

#[test]
fn where_the_session_cannot_be_fixed_the_command_is_not_run() {
    let output = run(&["--session=s1", "--lock", "echo", "ran"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]));
    assert!(
        text(&output.stderr).contains("--lock takes a kernel with provfs"),
        "{output:?}"
    );

    let root = kernel("session=other\n\nlocked=1\n", "PROV_SESSION\n");
    for args in [
        &["--session=s1", "--lock", "echo", "ran"][..],
        &["--session=s1", "echo", "ran"],
    ] {
        let (output, _) = with_kernel(&root, args);
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]));
        assert!(
            text(&output.stderr).contains("the session is fixed to \"other\""),
            "{output:?}"
        );
    }
    let (output, _) = with_kernel(
        &root,
        &["--session=other", "--lock", "--tool=T", "echo", "ran"],
    );
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(0), &b"ran\n"[..])
    );
}

#[test]
fn a_kernel_that_looks_for_nothing_is_no_secret() {
    let root = kernel("\nlocked=0\n", "\n");
    let (output, _) = with_kernel(&root, &["--session=s1", "true"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stderr).contains("provfs.env_session is empty"),
        "{output:?}"
    );
}
