//! From figures to something that people read, or that stops a change.

mod chart;
mod compare;
mod document;
pub(crate) mod gate;
mod limits;
pub(crate) mod table;

pub(crate) use document::write as write_document;

/// Names of configurations in the order in which they are shown; the first one is what the others are compared with.
pub(crate) const CONFIGS: [&str; 8] = [
    BASELINE, "disabled", "skipping", "packed", "keys", "audit", "fatrace", "inotify",
];

/// The configuration that all others are compared with.
pub(crate) const BASELINE: &str = "absent";
