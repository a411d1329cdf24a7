//! `status`: what became of every modification.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use provfs_cli::exit;
use serde::{Serialize, Serializer};

use crate::{
    error::Error,
    kernel::Kernel,
    output::{Out, table},
    roots::Roots,
};

/// The status file: a name and a value in each line.
pub(super) struct Status(Vec<(String, String)>);

impl Status {
    /// Reads it.
    pub(super) fn read(roots: &Roots) -> Result<Self, Error> {
        // Without provfs, there is more to say than that the file is not there.
        Kernel::running(roots)?;
        let path = roots.status();
        let text = fs::read(&path).map_err(Error::read(path))?;
        Ok(Status::parse(&String::from_utf8_lossy(&text)))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Status(
            lines
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    /// The counters.
    pub(super) fn counters(&self) -> impl Iterator<Item = (&str, u64)> {
        let facts = ["version", "enabled", "format"];
        self.0
            .iter()
            .filter(move |(name, _)| !facts.contains(&&**name))
            .filter_map(|(name, value)| Some((&**name, value.parse().ok()?)))
    }

    /// One counter; 0 if it is not there.
    pub(super) fn counter(&self, name: &str) -> u64 {
        self.counters()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, value)| value)
    }

    fn fact(&self, name: &str) -> Option<&str> {
        let fact = self.0.iter().find(|(known, _)| known == name);
        fact.map(|(_, value)| &**value)
    }
}

/// Does it.
pub(super) fn run(roots: &Roots, out: &mut Out, interval: Option<Duration>) -> Result<u8, Error> {
    let first = Status::read(roots)?;
    let rates = match interval {
        None => None,
        Some(interval) => {
            let start = Instant::now();
            sleep(interval);
            let second = Status::read(roots)?;
            Some((second, start.elapsed().as_secs_f64()))
        }
    };
    let (status, before) = match &rates {
        Some((second, seconds)) => (second, Some((&first, *seconds))),
        None => (&first, None),
    };

    let mut rows: Vec<Vec<String>> = Vec::new();
    for name in ["version", "enabled", "format"] {
        if let Some(value) = status.fact(name) {
            rows.push(vec![name.to_owned(), value.to_owned()]);
        }
    }
    let mut counters = Vec::new();
    for (name, value) in status.counters() {
        // One that was owed may be paid by now, so that a counter can fall.
        let rate = before.map(|(first, seconds)| {
            let grown = i128::from(value) - i128::from(first.counter(name));
            // CAST: For a rate, the leading digits are enough.
            grown as f64 / seconds
        });
        let mut row = vec![name.to_owned(), value.to_string()];
        row.extend(rate.map(|rate| format!("{rate:+.1}/s")));
        rows.push(row);
        counters.push((
            name.to_owned(),
            Counter {
                value,
                per_second: rate,
            },
        ));
    }
    table(&rows).iter().for_each(|line| out.line(line));
    out.document(
        "status",
        Document {
            version: status.fact("version"),
            enabled: status.fact("enabled").map(|enabled| enabled != "0"),
            format: status.fact("format"),
            seconds: before.map(|(_, seconds)| seconds),
            counters: Counters(counters),
        },
    );
    Ok(exit::OK)
}

/// The document of `status`.
#[derive(Serialize)]
struct Document<'a> {
    version: Option<&'a str>,
    enabled: Option<bool>,
    format: Option<&'a str>,
    seconds: Option<f64>,
    counters: Counters,
}

#[derive(Serialize)]
struct Counter {
    value: u64,
    per_second: Option<f64>,
}

/// An object, by the names of the counters.
struct Counters(Vec<(String, Counter)>);

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, counter)| (name, counter)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_the_lines_with_numbers() {
        let status = Status::parse(
            "version 0.1.0\nenabled 1\nformat keys\nstamped 3\nfailed.EIO 2\nodd\nnew x\n",
        );
        assert_eq!(
            status.counters().collect::<Vec<_>>(),
            [("stamped", 3), ("failed.EIO", 2)]
        );
        assert_eq!(status.counter("none"), 0);
        assert_eq!(status.fact("format"), Some("keys"));
    }

    proptest! {
        #[test]
        fn any_status_is_read(text: String) {
            let _ = Status::parse(&text).counters().count();
        }
    }
}
