//! The golden bytes in `tests/golden`: what the format is, see the README there.

use std::{fs, path::Path};

use provfs::{
    Format, Record, Session, Value as Bytes,
    pure::{
        fallback::{Fallback, write_fallback},
        history, packed, record,
        text::{Fit, Writer},
        time::format_rfc3339,
    },
};
use serde_json::{Value, json};

fn golden() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn read(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Bytes of a string or of `{"hex": ...}`.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        _ => {
            let hex = value["hex"]
                .as_str()
                .unwrap_or_else(|| panic!("no bytes: {value}"));
            let digits = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| std::str::from_utf8(pair).unwrap());
            digits
                .map(|pair| u8::from_str_radix(pair, 16).unwrap())
                .collect()
        }
    }
}

fn optional(value: &Value) -> Option<Vec<u8>> {
    (!value.is_null()).then(|| bytes(value))
}

fn from_bytes(bytes: &Bytes) -> Value {
    match bytes.to_str() {
        Ok(text) => json!(text),
        Err(_) => {
            let digits: Vec<String> = bytes
                .as_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            json!({ "hex": digits.concat() })
        }
    }
}

fn from_session(session: &Session) -> Value {
    match session {
        Session::Declared(id) => json!({ "declared": from_bytes(id) }),
        Session::AgentNs(id) => json!({ "agent_ns": id }),
        Session::Fallback(who) => json!({ "fallback": {
            "chain": who.chain.iter().map(from_bytes).collect::<Vec<_>>(),
            "env": who.env.as_ref().map(|(name, value)| [from_bytes(name), from_bytes(value)]),
            "cwd": who.cwd.as_ref().map(from_bytes),
            "pid": who.pid,
            "uid": who.uid,
        }}),
        Session::Legacy { comm, pid, uid, .. } => {
            json!({ "legacy": { "comm": from_bytes(comm), "pid": pid, "uid": uid } })
        }
        Session::Opaque(bytes) => json!({ "opaque": from_bytes(bytes) }),
        _ => panic!("a new kind of session has no golden form yet"),
    }
}

fn from_record(record: &Record) -> Value {
    json!({
        "format": match record.format {
            Format::Keys => "keys",
            Format::Packed => "packed",
            _ => panic!("a new format has no golden form yet"),
        },
        "session": record.session.as_ref().map(from_session),
        "tool": record.tool.as_ref().map(from_bytes),
        "turn": record.turn.as_ref().map(from_bytes),
        "intent": record.intent.as_ref().map(from_bytes),
        "ts": record.ts.as_ref().map(|ts| json!({
            "raw": from_bytes(&ts.raw), "unix": ts.unix, "nanos": ts.nanos,
        })),
        "history": record.history.iter().map(from_session).collect::<Vec<_>>(),
    })
}

#[test]
fn stored_records_read_as_they_always_did() {
    let mut count = 0;
    for entry in fs::read_dir(golden().join("decode")).expect("the folder of golden records") {
        let path = entry.unwrap().path();
        let golden = read(&path);
        let stored = golden["stored"].as_object().expect("extended attributes");
        let stored = stored
            .iter()
            .map(|(name, value)| (name.clone(), bytes(value)));
        let record = Record::from_xattrs(stored).expect("a record");
        let record = serde_json::to_string_pretty(&from_record(&record)).unwrap();
        let want = serde_json::to_string_pretty(&golden["record"]).unwrap();
        assert!(
            record == want,
            "{}: got {record}\nwant {want}",
            path.display()
        );
        count += 1;
    }
    assert!(count >= 10, "only {count} golden records were found");
}

/// Encodes each input of one section and compares.
fn encodes(section: &str, encode: impl Fn(&Value, &mut Writer<'_>)) {
    let golden = read(&golden().join("encode.json"));
    let pairs = golden[section].as_array().expect("a section");
    assert!(!pairs.is_empty());
    for pair in pairs {
        let mut buf = [0; 4096];
        let mut out = Writer::new(&mut buf);
        encode(&pair[0], &mut out);
        let (got, want) = (out.as_bytes().escape_ascii(), bytes(&pair[1]));
        assert_eq!(
            got.to_string(),
            want.escape_ascii().to_string(),
            "{section} {}",
            pair[0]
        );
    }
}

#[test]
fn declared_values_are_stored_as_they_always_were() {
    encodes("session", |raw, out| {
        assert_eq!(
            record::encode_declared_session(&bytes(raw), out),
            Fit::Whole
        )
    });
    encodes("tool", |raw, out| {
        record::encode_tool(&bytes(raw), out);
    });
}

#[test]
fn fallback_sessions_are_stored_as_they_always_were() {
    encodes("fallback", |who, out| {
        let chain: Vec<_> = who["chain"].as_array().unwrap().iter().map(bytes).collect();
        let chain: Vec<_> = chain.iter().map(Vec::as_slice).collect();
        let env = who["env"]
            .as_array()
            .map(|env| (bytes(&env[0]), bytes(&env[1])));
        let cwd = optional(&who["cwd"]);
        let number = |name: &str| u32::try_from(who[name].as_u64().unwrap()).unwrap();
        let who = Fallback {
            chain: &chain,
            env: env
                .as_ref()
                .map(|(name, value)| (name.as_slice(), value.as_slice())),
            cwd: cwd.as_deref(),
            pid: number("pid"),
            uid: number("uid"),
        };
        write_fallback(&who, out).unwrap();
    });
}

#[test]
fn times_are_stored_as_they_always_were() {
    encodes("time", |secs, out| {
        out.push(format_rfc3339(secs.as_i64().unwrap(), &mut [0; 20]))
            .unwrap();
    });
}

#[test]
fn packed_records_are_stored_as_they_always_were() {
    encodes("packed", |record, out| {
        let [session, tool, turn, intent, history] =
            ["session", "tool", "turn", "intent", "history"].map(|name| optional(&record[name]));
        let record = packed::Packed {
            ts: record["ts"].as_i64().unwrap(),
            session: session.as_deref().unwrap(),
            tool: tool.as_deref(),
            turn: turn.as_deref(),
            intent: intent.as_deref(),
            history: history.as_deref(),
        };
        packed::encode(&record, out).unwrap();
    });
}

#[test]
fn histories_are_stored_as_they_always_were() {
    encodes("history", |sessions, out| {
        let [new, old, history] = [0, 1, 2].map(|index| bytes(&sessions[index]));
        history::merge(&new, Some(&old), &history, 5, out);
    });
}
