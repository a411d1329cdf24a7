//! The program as it is run: what it prints where, and its exit status.

mod common;

use std::{ffi::OsStr, fs, io::Read, os::unix::ffi::OsStrExt, path::Path, process::Stdio};

use common::{Fixture, Run};
use serde_json::Value;

/// Without how long ago it was.
fn settled(out: &str) -> String {
    let lines = out
        .lines()
        .map(|line| match (line.find(", "), line.find(" ago (")) {
            (Some(from), Some(to)) => format!("{}, [...]{}\n", &line[..from], &line[to..]),
            _ => format!("{line}\n"),
        });
    lines.collect()
}

#[test]
fn each_file_is_a_block() {
    let run = Fixture::new().run(&["stamped", "plain", "packed"]);
    insta::assert_snapshot!(settled(&run.out), @r"
    stamped
      session  s1
      tool     Edit
      when     2001-09-09 01:46:40 +00:00, [...] ago (2001-09-09T01:46:40Z)

    plain
      no record

    packed
      process  make ← bash, pid 4242
      user     uid 4000000000
      when     2001-09-09 01:46:40 +00:00, [...] ago (1000000000)
    ");
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
}

#[test]
fn json_is_one_document() {
    let run = Fixture::new().run(&["--json", "stamped", "plain"]);
    insta::assert_snapshot!(run.out, @r#"
    {"schema":1,"files":[
    {"path":"stamped","format":"keys","session":{"kind":"declared","id":"s1"},"tool":"Edit","turn":null,"intent":null,"ts":{"unix":1000000000,"rfc3339":"2001-09-09T01:46:40Z"},"history":[]},
    {"path":"plain","format":null,"session":null,"tool":null,"turn":null,"intent":null,"ts":null,"history":[]}
    ]}
    "#);
    assert_eq!(run.code, Some(0));
    let document: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(document["files"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_status_says_whether_there_was_a_record() {
    let fixture = Fixture::new();
    assert_eq!(fixture.run(&["plain"]).code, Some(1));
    assert_eq!(fixture.run(&["--json", "plain"]).code, Some(1));
    assert_eq!(fixture.run(&["plain", "stamped"]).code, Some(0));
}

#[test]
fn a_file_that_cannot_be_read_does_not_stop_the_others() {
    let run = Fixture::new().run(&["missing", "plain/below", "stamped"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.out.starts_with("stamped\n  session  s1\n"),
        "{}",
        run.out
    );
    insta::assert_snapshot!(run.err, @r#"
    provfs-show: cannot list the extended attributes of "missing": No such file or directory (os error 2); check the spelling, and that the file was not removed meanwhile
    provfs-show: cannot list the extended attributes of "plain/below": Not a directory (os error 20); a part of the path is not a directory: check the spelling
    "#);

    // What was printed before is a whole document.
    let run = Fixture::new().run(&["--json", "missing"]);
    assert_eq!(
        (run.code, run.out.as_str()),
        (Some(2), "{\"schema\":1,\"files\":[\n]}\n")
    );
}

#[test]
fn links_are_followed_unless_told_otherwise() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink("stamped", fixture.path("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", fixture.path("dangling")).unwrap();
    assert_eq!(fixture.run(&["link"]).code, Some(0));
    assert_eq!(fixture.run(&["--no-follow", "link"]).code, Some(1));
    assert_eq!(fixture.run(&["-P", "dangling"]).code, Some(1));
    assert_eq!(fixture.run(&["dangling"]).code, Some(2));
}

#[test]
fn hostile_names_and_values_arrive_whole() {
    let fixture = Fixture::new();
    let name = OsStr::from_bytes(b"a\n\x1b[2J\xff");
    fixture.file(
        Path::new(name),
        &[
            ("user.prov.session", b"x%0A%1B[31m"),
            ("user.prov.tool", b"\xfe"),
        ],
    );
    let output = fixture.command().arg(name).output().unwrap();
    assert_eq!(
        output.stdout,
        b"a\n\x1b[2J\xff\n  session  x\n\x1b[31m\n  tool     \xfe\n"
    );

    let output = fixture.command().arg("--json").arg(name).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = &document["files"][0];
    assert_eq!(file["path_b64"], "YQobWzJK/w==");
    assert_eq!(file.get("path"), None);
    assert_eq!(file["session"]["id"], "x\n\u{1b}[31m");
    assert_eq!(file["tool_b64"], "/g==");
}

#[test]
fn colors_are_for_terminals_and_on_request() {
    let fixture = Fixture::new();
    assert!(!fixture.run(&["stamped"]).out.contains('\x1b'));
    assert!(
        fixture
            .run(&["--color=always", "stamped"])
            .out
            .contains("\x1b[")
    );
    let mut command = fixture.command();
    command.env("CLICOLOR_FORCE", "1").arg("stamped");
    assert!(Run::from(command.output().unwrap()).out.contains("\x1b["));
    let mut command = fixture.command();
    command
        .env("CLICOLOR_FORCE", "1")
        .env("NO_COLOR", "1")
        .args(["--color=never", "stamped"]);
    assert!(!Run::from(command.output().unwrap()).out.contains('\x1b'));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let fixture = Fixture::new();
    // More than a pipe holds.
    let mut child = fixture
        .command()
        .args(std::iter::repeat_n("stamped", 20_000))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let fixture = Fixture::new();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let run = Run::from(
        fixture
            .command()
            .arg("stamped")
            .stdout(full)
            .output()
            .unwrap(),
    );
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("space left"), "{}", run.err);
}

#[test]
fn the_command_line_is_explained() {
    let fixture = Fixture::new();
    let run = fixture.run(&["--help"]);
    assert_eq!(run.code, Some(0));
    for part in [
        "Exit status:",
        "--json",
        "--no-follow",
        "--color",
        "Examples:",
    ] {
        assert!(run.out.contains(part), "no {part} in {}", run.out);
    }
    assert_eq!(fixture.run::<&str>(&[]).code, Some(2));
    assert_eq!(fixture.run(&["--no-such-option"]).code, Some(2));
    assert!(fixture.run(&["--version"]).out.starts_with("provfs-show "));
}
