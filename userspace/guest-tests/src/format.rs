//! The two formats of a record: what is stored in each, and switching between them.

use std::collections::BTreeMap;

use rustix::fs::XattrFlags;

use crate::{
    actor::Actor,
    fixture::{
        Fs, Outcome, Place, STAMPED, Setting, Test, UNCHANGED, counting, each, ensure, ensure_eq,
        everywhere, on, once, timed,
    },
    record::{
        ALICE, BOB, CAROL, DAVE, attributes, ensure_by, ensure_history, ensure_ts, fallback,
        fields, key, raw,
    },
};

pub(crate) const TESTS: &[Test] = &[
    everywhere(
        "a record in the other format leaves nothing of the first",
        switch,
    ),
    each("what a packed record looks like", packed),
    once("a packed record of who declares nothing", packed_fallback),
    once("a packed record has room for everything", packed_full),
    once("the status tells the format", status),
    each("of records in both formats, both are replaced", both),
    on(
        &[Fs::Ext4],
        "a short packed record costs no block",
        inside_the_inode,
    ),
];

/// The attributes of a record of somebody who declares session and tool only, when somebody else was there before.
fn expected(format: &str) -> Vec<String> {
    let names: &[&str] = match format {
        "keys" => &[
            "user.prov.history",
            "user.prov.session",
            "user.prov.tool",
            "user.prov.ts",
        ],
        _ => &["user.prov"],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn switch(place: &Place) -> Outcome {
    let path = place.path("file");
    // The first one declares more than the others do.
    Actor::start(&ALICE)?.put(&path)?;
    let mut sessions = vec![ALICE.session];
    let writers = [BOB, DAVE].map(|who| Actor::start(&who));
    let [bob, dave] = writers;
    for (who, actor, format) in [
        (BOB, &bob, "packed"),
        (DAVE, &dave, "keys"),
        (BOB, &bob, "packed"),
        (DAVE, &dave, "packed"),
        (BOB, &bob, "keys"),
    ] {
        let actor = actor.as_ref().map_err(|stop| {
            crate::fixture::Stop::Failed(format!("an actor did not start: {stop:?}"))
        })?;
        let _format = Setting::set("format", format)?;
        let when = timed(|| counting(STAMPED, || actor.put(&path)))?;
        ensure_eq!(attributes(&path)?, expected(format), "attributes");
        ensure_by(&path, &who)?;
        ensure_ts(&path, &when)?;
        sessions.retain(|session| *session != who.session);
        sessions.insert(0, who.session);
        ensure_history(&path, &sessions)?;
    }

    // The same program: what is said already is left as it is, and then all of it is said anew.
    let _format = Setting::set("format", "keys")?;
    let carol = Actor::start(&CAROL)?;
    carol.put(&path)?;
    let before = key(&path, "history")?;
    for format in ["packed", "keys", "packed"] {
        let _format = Setting::set("format", format)?;
        let minute = Setting::set("ts_granularity_ms", "60000")?;
        let there = attributes(&path)?;
        counting(UNCHANGED, || carol.put(&path))?;
        ensure_eq!(attributes(&path)?, there, "attributes that say it already");
        drop(minute);
        let _none = Setting::set("ts_granularity_ms", "0")?;
        carol.put(&path)?;
        ensure_by(&path, &CAROL)?;
        ensure_eq!(
            raw(&path)?.contains_key(""),
            format == "packed",
            "whether the record is packed"
        );
        ensure_eq!(key(&path, "history")?, before, "history");
    }
    Ok(())
}

fn packed(place: &Place) -> Outcome {
    let path = place.path("file");
    let _packed = Setting::set("format", "packed")?;
    for (who, rest) in [
        (
            ALICE,
            "s=01KS9ABCDEFGHJKMNPQRSTVWXY;t=Edit;n=42;i=self-review",
        ),
        (BOB, "s=bob;t=Bash;h=bob,01KS9ABCDEFGHJKMNPQRSTVWXY"),
    ] {
        let when = timed(|| Actor::start(&who)?.put(&path))?;
        let mut record = raw(&path)?;
        let text = record.remove("").unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure_eq!(record, BTreeMap::new(), "other attributes");
        let (ts, found) = text.split_once(';').unwrap_or_default();
        ensure_eq!(found, rest, "the record without its time");
        let ts: i64 = ts.strip_prefix("ts=").unwrap_or_default().parse()?;
        ensure!(when.contains(&ts), "ts is {ts}, not in {when:?}");
    }
    Ok(())
}

fn packed_fallback(place: &Place) -> Outcome {
    let path = place.path("file");
    let _packed = Setting::set("format", "packed")?;
    let parent = Actor::program("parent", &[""; 0])?;
    let child = parent.spawn("a>b;c", &["PROV_TURN=7"])?;
    child.put(&path)?;
    let text = raw(&path)?.remove("").unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let pid = child.pid();
    // Who has started the tests is the third in the chain, if it is not the first process.
    let rest = text.split_once(';').map_or("", |(_, rest)| rest);
    let end = format!(";p={pid};u=0;t=a%3Eb%3Bc;n=7");
    ensure!(
        rest.starts_with("c=a%3Eb%3Bc>parent") && rest.ends_with(&end),
        "the record without its time is {rest}"
    );
    let who = fallback(&path)?;
    ensure_eq!((who.pid, who.uid), (Some(pid), Some(0)), "pid and user");
    // In a history it is the same in either format.
    Actor::start(&ALICE)?.put(&path)?;
    ensure_history(&path, &[ALICE.session, "comm:a%3Eb%3Bc:uid:0"])
}

fn packed_full(place: &Place) -> Outcome {
    let path = place.path("file");
    let _packed = Setting::set("format", "packed")?;
    let _most = Setting::set("history", "32")?;
    let actor = Actor::start(&ALICE)?;
    for number in 0..34 {
        let (session, intent) = (format!("{number:0256}"), "i".repeat(256));
        let tool = "t".repeat(64);
        actor.declare(format!(
            "session={session}\ntool={tool}\nturn={tool}\nintent={intent}"
        ))?;
        counting(STAMPED, || actor.put(&path))?;
        let record = fields(&path)?;
        for (field, value) in [
            ("session", &session),
            ("tool", &tool),
            ("turn", &tool),
            ("intent", &intent),
        ] {
            let stored = record
                .get(field)
                .map(|value| String::from_utf8_lossy(value).into_owned());
            ensure_eq!(stored.as_ref(), Some(value), "{field} of number {number}");
        }
    }
    let length = raw(&path)?.remove("").unwrap_or_default().len();
    ensure!(length <= provfs::pure::limits::PACKED_MAX, "{length} bytes");
    Ok(())
}

fn status(_: &Place) -> Outcome {
    for format in ["packed", "keys"] {
        let _format = Setting::set("format", format)?;
        let status = std::fs::read_to_string("/sys/kernel/security/provfs/status")?;
        ensure!(
            status.contains(&format!("\nformat {format}\n")),
            "the status is\n{status}"
        );
    }
    Ok(())
}

fn both(place: &Place) -> Outcome {
    for format in ["packed", "keys"] {
        let path = place.path(format);
        let _format = Setting::set("format", format)?;
        Actor::start(&ALICE)?.put(&path)?;
        // Somebody adds a record in the other format.
        let flags = XattrFlags::empty();
        if format == "keys" {
            rustix::fs::setxattr(&path, "user.prov", b"ts=1;s=x;h=x,y", flags)?;
        } else {
            rustix::fs::setxattr(&path, "user.prov.session", b"x", flags)?;
            rustix::fs::setxattr(&path, "user.prov.history", b"x,y", flags)?;
        }
        counting(STAMPED, || Actor::start(&BOB)?.put(&path))?;
        ensure_eq!(attributes(&path)?, expected(format), "attributes");
        ensure_by(&path, &BOB)?;
        let mut sessions: Vec<_> = key(&path, "history")?
            .unwrap_or_default()
            .split(',')
            .map(str::to_owned)
            .collect();
        sessions.sort_unstable();
        ensure_eq!(
            sessions,
            [ALICE.session, "bob", "x", "y"],
            "sessions of both"
        );
    }
    Ok(())
}

fn inside_the_inode(place: &Place) -> Outcome {
    let blocks = |format: &str| -> Outcome<u64> {
        let path = place.path(format);
        let _format = Setting::set("format", format)?;
        let actor = Actor::program("actor", &["PROV_SESSION=01KS9ABCDEFGHJKMNPQRSTVWXY"])?;
        actor.close(actor.create(&path)?)?;
        ensure!(!raw(&path)?.is_empty(), "there is no record");
        rustix::fs::sync();
        let meta = std::fs::metadata(&path)?;
        Ok(std::os::unix::fs::MetadataExt::blocks(&meta))
    };
    ensure_eq!(
        (blocks("packed")?, blocks("keys")?),
        (0, 8),
        "blocks of an empty file with a record that is packed, and as keys"
    );
    Ok(())
}
