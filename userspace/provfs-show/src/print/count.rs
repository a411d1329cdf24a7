//! How many files there are.

use std::io::{self, Write};

use provfs::Key;
use serde_json::json;

use super::{
    All,
    json::{SCHEMA, Shape},
};
use crate::ask::Answer;

/// Counts files.
pub(super) struct Count {
    files: u64,
    shape: Option<Shape>,
}

impl Count {
    pub(super) fn new(shape: Option<Shape>) -> Self {
        Count { files: 0, shape }
    }
}

impl All for Count {
    fn keys(&self) -> Vec<Key> {
        Vec::new()
    }

    fn is_text(&self) -> bool {
        false
    }

    fn add(&mut self, _: Answer) {
        self.files += 1;
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.shape {
            None => writeln!(out, "{}", self.files),
            Some(_) => writeln!(out, "{}", json!({ "schema": SCHEMA, "count": self.files })),
        }
    }
}
