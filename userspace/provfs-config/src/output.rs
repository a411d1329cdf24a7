//! What is printed: lines for people, or one JSON document for programs.

use std::io::{self, IsTerminal, Write};

use provfs_cli::{escape::write_escaped, json};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// Version of the JSON documents, `Documentation/provfs-config.schema.json`.
const SCHEMA: u32 = 1;

/// So many of something: "1 rule", "5 rules".
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Collects the output.
pub(crate) struct Out {
    /// Whether a JSON document is wanted, and nothing else.
    pub(crate) json: bool,
    bytes: Vec<u8>,
    escape: bool,
}

impl Out {
    /// For standard output.
    pub(crate) fn new(json: bool) -> Self {
        Out {
            json,
            bytes: Vec::new(),
            escape: io::stdout().is_terminal(),
        }
    }

    /// Adds a line for people. Bytes that could act on a terminal do not get there.
    pub(crate) fn line(&mut self, text: impl AsRef<[u8]>) {
        if self.json {
            return;
        }
        if !self.escape || write_escaped(&mut self.bytes, text.as_ref()).is_err() {
            self.bytes.extend_from_slice(text.as_ref());
        }
        self.bytes.push(b'\n');
    }

    /// Adds the document for programs.
    pub(crate) fn document(&mut self, command: &'static str, body: impl Serialize) {
        #[derive(Serialize)]
        struct Document<T: Serialize> {
            schema: u32,
            command: &'static str,
            #[serde(flatten)]
            body: T,
        }
        if !self.json {
            return;
        }
        let document = Document {
            schema: SCHEMA,
            command,
            body,
        };
        // Writing to memory does not fail, and neither does anything that is given here.
        if serde_json::to_writer_pretty(&mut self.bytes, &document).is_ok() {
            self.bytes.push(b'\n');
        }
    }

    /// Writes what was collected.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()
    }
}

/// Bytes in a JSON object: under a name, or in base64 under another. To be flattened into a struct.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    name: &'static str,
    name_b64: &'static str,
    value: Option<Vec<u8>>,
}

/// Makes [`Bytes`]: `bytes!("path", value)`.
macro_rules! bytes {
    ($name:literal, $value:expr) => {
        $crate::output::Bytes::new($name, concat!($name, "_b64"), $value)
    };
}
pub(crate) use bytes;

impl Bytes {
    /// See [`bytes!`].
    pub(crate) fn new(name: &'static str, name_b64: &'static str, value: Option<&[u8]>) -> Self {
        Bytes {
            name,
            name_b64,
            value: value.map(<[u8]>::to_vec),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        json::bytes(&mut map, self.name, self.name_b64, self.value.as_deref())?;
        map.end()
    }
}

/// Puts texts side by side: pads all columns but the last.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
