//! What became of every modification, as counters under the names that the security module has.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use provfs::pure::skip::RuleKind;
use rustix::io::Errno;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters. Each modification has one outcome:
/// `modifications = stamped + unchanged + skipped.* + failed`.
#[derive(Debug, Default)]
pub struct Status {
    /// Modifications that were seen.
    pub modifications: Counter,
    /// A record was made.
    pub stamped: Counter,
    /// The record says it already.
    pub unchanged: Counter,
    /// A rule of this kind decided.
    pub skipped: [Counter; RuleKind::ALL.len()],
    /// The file is immutable or append-only.
    pub skipped_immutable: Counter,
    /// The file system has no `user.*` attributes.
    pub skipped_unsupported: Counter,
    /// No record could be made.
    pub failed: Counter,
    errors: Mutex<BTreeMap<i32, u64>>,
    /// Files that were opened for the kernel to read and write.
    pub opened_passthrough: Counter,
    /// Files that were opened to be read and written through this process.
    pub opened_cached: Counter,
}

impl Status {
    /// A record could not be made.
    pub fn count_failed(&self, error: Errno) {
        self.failed.add();
        *self.errors.lock().entry(error.raw_os_error()).or_default() += 1;
    }

    /// A name and a value in each line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: u64| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name} {value}");
        };
        line("modifications", self.modifications.get());
        line("stamped", self.stamped.get());
        line("unchanged", self.unchanged.get());
        for (kind, counter) in RuleKind::ALL.iter().zip(&self.skipped) {
            line(&format!("skipped.{}", kind.name()), counter.get());
        }
        line("skipped.immutable", self.skipped_immutable.get());
        line("skipped.unsupported", self.skipped_unsupported.get());
        line("failed", self.failed.get());
        for (&error, &count) in self.errors.lock().iter() {
            let name = format!("{:?}", nix::errno::Errno::from_raw(error));
            line(&format!("failed.{name}"), count);
        }
        line("opened.passthrough", self.opened_passthrough.get());
        line("opened.cached", self.opened_cached.get());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_names() {
        let status = Status::default();
        status.count_failed(Errno::NOSPC);
        status.count_failed(Errno::NOSPC);
        status.modifications.add();
        let text = status.text();
        assert!(text.contains("\nfailed 2\nfailed.ENOSPC 2\n"), "{text}");
        assert!(text.starts_with("modifications 1\n"), "{text}");
    }
}
