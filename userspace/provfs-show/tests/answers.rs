//! The same question has the same answer in every form, and JSON is what its schema says.

mod common;

use std::fs;

use common::Fixture;
use jsonschema::Validator;
use serde_json::{Value, json};

const SCHEMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../Documentation/provfs-show.schema.json"
);

fn schema() -> Validator {
    let schema = fs::read_to_string(SCHEMA).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

fn assert_valid(schema: &Validator, value: &Value) {
    let errors: Vec<_> = schema
        .iter_errors(value)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{value}: {errors:#?}");
}

/// Files with every kind of record.
fn all_kinds() -> Fixture {
    let folder = Fixture::tree();
    folder.file(
        "kinds/packed",
        &[(
            "user.prov",
            b"ts=1000000000;s=a%3Bb;t=T;n=1;i=i;h=a%3Bb,comm:x:uid:1",
        )],
    );
    folder.file(
        "kinds/agent",
        &[("user.prov.session", b"0123456789abcdef0123456789abcdef")],
    );
    folder.file(
        "kinds/legacy",
        &[("user.prov.session", b"comm:vim:pid:7:uid:0")],
    );
    folder.file(
        "kinds/opaque",
        &[("user.prov.session", b"a; b"), ("user.prov.ts", b"then")],
    );
    folder.file(
        "kinds/bytes",
        &[
            (
                "user.prov.session",
                b"comm-chain:\xff>b;env:A=\xff;cwd:/\xff;pid:1;uid:2",
            ),
            ("user.prov.tool", b"\xff"),
            ("user.prov.turn", b"\xfe"),
            ("user.prov.intent", b"\xfd"),
            ("user.prov.ts", b"\xff"),
            ("user.prov.history", b"\xff,;\xff,comm:\xff:uid:0"),
        ],
    );
    folder
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_form_finds_the_same_files_with_the_same_records() {
    let folder = all_kinds();
    for question in [
        &["-ru"][..],
        &["-ru", "--all"],
        &["-ru", "--unstamped"],
        &["-ru", "--verify"],
        &["-ru", "--session", "s-1", "--sort", "time"],
        &["-ru", "--tool", "Edit", "-n", "2"],
        &["-ru", "--since", "2026-11-20 12:00"],
        &["-ru", "--tool", "nothing"],
    ] {
        let ask = |form: &[&str]| folder.run(&[question, form].concat());
        let document = ask(&["--json"]);
        let json: Value = serde_json::from_str(&document.out).unwrap();
        let files = json["files"].as_array().unwrap();
        let mut ndjson = lines(&ask(&["--ndjson"]).out);
        for line in &mut ndjson {
            assert_eq!(
                line.as_object_mut().unwrap().remove("schema"),
                Some(json!(1))
            );
        }
        assert_eq!(&ndjson, files, "{question:?}");

        // Text says the same: names, sessions, tools and times, from the forms for people.
        let template = ask(&["--format", "{path}|{kind}|{format}|{tool}|{unix}|{verdict}"]);
        let text = template.out.replace('\u{fffd}', "?");
        let want = files.iter().map(|file| {
            let text = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            let tool = file.get("tool").map(text).unwrap_or("\u{fffd}".into());
            [
                text(&file["path"]),
                text(&file["session"]["kind"]),
                text(&file["format"]),
                tool.replace('\u{fffd}', "?"),
                text(&file["ts"]["unix"]),
                text(&file["verify"]["verdict"]),
            ]
            .join("|")
                + "\n"
        });
        assert_eq!(text, want.collect::<String>(), "{question:?}");
        let blocks = ask(&[]).out;
        let names: Vec<_> = blocks
            .lines()
            .filter(|line| line.starts_with("./"))
            .collect();
        let want: Vec<_> = files
            .iter()
            .map(|file| file["path"].as_str().unwrap())
            .collect();
        assert_eq!(names, want, "{question:?}");
        assert_eq!(ask(&["-l"]).out.lines().count(), files.len());
        assert_eq!(
            ask(&["-0"]).out.split_terminator('\0').collect::<Vec<_>>(),
            want
        );
        let codes = [&["--json"][..], &["--ndjson"], &["-l"], &[]].map(|form| ask(form).code);
        assert_eq!(codes, [document.code; 4], "{question:?}");
        if !question.contains(&"-n") && !question.contains(&"--sort") {
            assert_eq!(ask(&["--count"]).out, format!("{}\n", files.len()));
        }
    }
}

#[test]
fn json_is_what_its_schema_says() {
    let folder = all_kinds();
    let schema = schema();
    let mut documents = 0;
    for question in [
        &["-ru", "--all", "--verify"][..],
        &["-ru", "--all", "--count"],
        &["-ru", "--all", "--group-by", "session"],
        &["-ru", "--all", "--group-by", "tool"],
        &["-ru", "--all", "--group-by", "user"],
        &["-ru", "--all", "--group-by", "day"],
        &["-ru", "--tool", "nothing"],
    ] {
        let json = folder.run(&[question, &["--json"]].concat());
        assert_valid(&schema, &serde_json::from_str(&json.out).unwrap());
        for line in lines(&folder.run(&[question, &["--ndjson"]].concat()).out) {
            assert_valid(&schema, &line);
            documents += 1;
        }
    }
    assert!(documents > 20, "only {documents}");
}

#[test]
fn the_schema_refuses_what_it_does_not_describe() {
    let folder = all_kinds();
    let schema = schema();
    let run = folder.run(&["--ndjson", "kinds/packed"]);
    let good: Value = serde_json::from_str(&run.out).unwrap();
    assert_valid(&schema, &good);
    for (pointer, wrong) in [
        ("/schema", json!(2)),
        ("/path", json!(5)),
        ("/session/kind", json!("other")),
        ("/session", json!({ "kind": "declared" })),
        ("/ts/rfc3339", json!("today")),
        ("/history", json!(null)),
        ("/format", json!("other")),
        ("/tool", json!(1)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.is_valid(&bad), "{pointer}: {bad}");
    }
    for name in ["schema", "path", "session", "tool", "ts", "history"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(name);
        assert!(!schema.is_valid(&bad), "without {name}: {bad}");
    }
}

#[test]
fn json_stays_as_it_is() {
    let folder = all_kinds();
    let run = folder.run(&["--ndjson", "kinds/packed", "kinds/opaque", "src/plain.c"]);
    insta::assert_snapshot!(run.out);
}
