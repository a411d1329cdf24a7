//! What is left when the power is cut while many write: for `qemu/power-cut/test`, which cuts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use provfs::pure::time::parse_ts;

use crate::{
    actor::{Actor, words},
    fixture::{self, Outcome, Stop, ensure, ensure_eq},
    record::{ALICE, BOB, CAROL, DAVE, Who, ensure_by, fields},
};

/// Who writes. Each file is made by one of them, and written to again by the next one.
const WRITERS: [Who; 4] = [ALICE, BOB, CAROL, DAVE];

/// Introduces a line that says that a file is durable, with the number of its last writer and its path.
const DURABLE: &str = "durable";

/// How long a write may take. Under emulation, the disk is that of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes to ever new files in these directories until the power is cut.
pub(crate) fn storm(directories: impl Iterator<Item = OsString>) -> ExitCode {
    let directories: Vec<_> = directories
        .map(|name| PathBuf::from(name).join("storm"))
        .collect();
    match write_for_ever(&directories) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            println!("{stop:?}");
            ExitCode::FAILURE
        }
    }
}

fn write_for_ever(directories: &[PathBuf]) -> Outcome {
    fixture::prepare()?;
    let mut crowd = Vec::new();
    for directory in directories {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir(directory)?;
        for (number, who) in WRITERS.iter().enumerate() {
            crowd.push((directory, number, Actor::start(who)?));
        }
    }
    // Who never waits for the disk, two on one file.
    let mut hasty = Vec::new();
    for directory in directories {
        for who in [ALICE, BOB] {
            let actor = Actor::start(&who)?;
            actor.begin(words!["put often", &*directory.join("hasty"), i64::MAX])?;
            hasty.push(actor);
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "storm")?;
    for round in 0_u32.. {
        // A file of one's own, and one that another has made in the round before.
        for offset in [0, 1].into_iter().take(if round == 0 { 1 } else { 2 }) {
            let path = |directory: &Path, number: usize| {
                let maker = (number + WRITERS.len() - offset) % WRITERS.len();
                let round = round.saturating_sub(u32::from(offset == 1));
                directory.join(format!("{round}-{maker}"))
            };
            for (directory, number, actor) in &crowd {
                actor.begin(words!["put durably", &*path(directory, *number)])?;
            }
            for (directory, number, actor) in &crowd {
                let written = actor.result_within(PATIENCE)?;
                ensure_eq!(written, Some(Ok(0)), "fsync");
                let path = path(directory, *number);
                writeln!(out, "{DURABLE} {number} {}", path.display())?;
            }
            out.flush()?;
        }
    }
    Ok(())
}

/// Looks at what a storm has left in these directories, after the log of what it said.
pub(crate) fn check(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(log) = arguments.next() else {
        return ExitCode::from(2);
    };
    let directories: Vec<_> = arguments
        .map(|name| PathBuf::from(name).join("storm"))
        .collect();
    match look(Path::new(&log), &directories) {
        Ok((durable, all)) => {
            println!("{durable} durable files of {all} have their records");
            ExitCode::SUCCESS
        }
        Err(Stop::Failed(why) | Stop::Skipped(why)) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// How many files were durable, and how many there are.
fn look(log: &Path, directories: &[PathBuf]) -> Outcome<(usize, usize)> {
    let log = fs::read(log)?;
    // What was written when the power was cut ends in the middle of a line.
    let end = log.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    let log = String::from_utf8_lossy(&log[..end]).into_owned();
    let mut durable = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.splitn(3, ' ');
        if let (Some(DURABLE), Some(number), Some(path)) =
            (words.next(), words.next(), words.next())
        {
            durable.insert(PathBuf::from(path), number.parse::<usize>()?);
        }
    }
    ensure!(!durable.is_empty(), "the storm has written nothing");

    let mut all = BTreeSet::new();
    for directory in directories {
        for entry in fs::read_dir(directory)? {
            all.insert(entry?.path());
        }
    }
    for path in durable.keys() {
        ensure!(all.contains(path), "{} is durable and gone", path.display());
    }
    for path in &all {
        match durable.get(path) {
            Some(&number) => durable_file(path, number)?,
            None => part_of_record(path)?,
        }
    }
    Ok((durable.len(), all.len()))
}

/// A file that was durable when this one had written to it.
fn durable_file(path: &Path, number: usize) -> Outcome {
    ensure!(
        fs::read(path)?.starts_with(b"some bytes\n"),
        "{} is durable and has lost its content",
        path.display()
    );
    let next = (number + 1) % WRITERS.len();
    let is_rewritten = !path.to_string_lossy().ends_with(&format!("-{number}"));
    match ensure_by(path, &WRITERS[number]) {
        Err(_) if !is_rewritten => {
            // The next one was writing to it: each attribute is old or new.
            let session = fields(path)?.remove("session").unwrap_or_default();
            ensure!(
                [number, next]
                    .map(|who| WRITERS[who].session.as_bytes())
                    .contains(&&*session),
                "{}: session \"{}\"",
                path.display(),
                session.escape_ascii()
            );
            part_of_record(path)
        }
        whole => whole,
    }
}

/// What was being written: a record may lack what comes last, and has nothing that was never written.
fn part_of_record(path: &Path) -> Outcome {
    for (key, value) in fields(path)? {
        let known = WRITERS.iter().any(|who| {
            let value = std::str::from_utf8(&value).unwrap_or_default();
            match &*key {
                "session" => value == who.session,
                "tool" => value == who.tool,
                "turn" => Some(value) == who.turn,
                "intent" => Some(value) == who.intent,
                "history" => value
                    .split(',')
                    .all(|name| WRITERS.iter().any(|who| who.session == name)),
                "ts" => parse_ts(value.as_bytes()).is_some(),
                _ => false,
            }
        });
        ensure!(
            known,
            "{}: {key} is \"{}\"",
            path.display(),
            value.escape_ascii()
        );
    }
    Ok(())
}
