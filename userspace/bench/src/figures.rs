//! What is measured, as it is stored: the guest prints one of these a line, the host gathers them in a file.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Context, Error, Result},
    statistics::Estimate,
};

/// Version of the file.
const SCHEMA: u32 = 1;

/// How instructions are counted. Two of these cannot be compared if this differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line {
    /// One operation in one configuration.
    Cell(Cell),
    /// One point of a curve: what an operation takes, by something that grows.
    Point(Point),
    /// Bytes on disk.
    Space(Space),
    /// Bytes of memory that the security modules take for each object.
    Memory(Memory),
    /// Wall time of concurrent writers.
    Writers(Writers),
    /// Something that was not measured, and why.
    Note(Note),
    /// What it was measured on.
    Machine(Machine),
}

/// One operation in one configuration, in guest instructions per operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Name of the row.
    pub(crate) row: String,
    /// File system, or `none`.
    pub(crate) fs: String,
    /// Name of the configuration.
    pub(crate) config: String,
    /// Operations in a sample.
    pub(crate) ops: u32,
    /// With what they set going and leave to others.
    pub(crate) total: Estimate,
    /// Median, until the operations returned.
    pub(crate) foreground: f64,
}

/// What an operation takes at one size of something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Name of the curve.
    pub(crate) curve: String,
    /// Name of the configuration.
    pub(crate) config: String,
    /// The size.
    pub(crate) x: u32,
    /// Guest instructions per operation.
    pub(crate) total: Estimate,
}

/// Bytes on disk for 10,000 files of a byte each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Space {
    /// File system.
    pub(crate) fs: String,
    /// Name of the configuration.
    pub(crate) config: String,
    /// How the files were written.
    pub(crate) how: String,
    /// How many less bytes are free afterwards.
    pub(crate) bytes: i64,
}

/// Bytes for an object, all security modules together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Name of the configuration.
    pub(crate) config: String,
    /// What they are for.
    pub(crate) object: String,
    /// How many.
    pub(crate) bytes: i64,
}

/// Wall time that concurrent writers took for the same work each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Writers {
    /// Name of the configuration.
    pub(crate) config: String,
    /// How many at a time.
    pub(crate) writers: u32,
    /// Microseconds per file, of the quickest of some rounds.
    pub(crate) micros: f64,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Name of the configuration.
    pub(crate) config: String,
    /// What and why.
    pub(crate) text: String,
}

/// What it was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Release of the kernel.
    pub(crate) kernel: String,
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// All of it, in the order in which it was measured.
    pub(crate) lines: Vec<Line>,
}

impl Figures {
    /// From what guests have printed.
    pub(crate) fn new(lines: Vec<Line>) -> Self {
        Figures {
            schema: SCHEMA,
            lines,
        }
    }

    /// Reads lines as guests print them.
    pub(crate) fn gather(paths: &[impl AsRef<Path>]) -> Result<Self> {
        let mut lines = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let text = fs::read_to_string(path).at("read", path)?;
            for (index, line) in text.lines().enumerate() {
                let line = serde_json::from_str(line).map_err(|error| Error::Content {
                    path: path.to_owned(),
                    what: format!("line {}: {error}", index + 1),
                })?;
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        Ok(Figures::new(lines))
    }

    /// Reads a file that [`Figures::save`] has written.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).at("read", path)?;
        let content = |what| Error::Content {
            path: path.to_owned(),
            what,
        };
        let figures: Figures =
            serde_json::from_str(&text).map_err(|error| content(error.to_string()))?;
        if figures.schema != SCHEMA {
            return Err(content(format!(
                "schema {} where {SCHEMA} is expected; measure again",
                figures.schema
            )));
        }
        Ok(figures)
    }

    /// Writes a file, a line for each line: changes show as such in version control.
    pub(crate) fn save(&self, path: &Path) -> Result {
        let mut text = format!("{{\"schema\":{},\"lines\":[\n", self.schema);
        for (index, line) in self.lines.iter().enumerate() {
            let line = serde_json::to_string(line).map_err(|error| Error::Content {
                path: path.to_owned(),
                what: error.to_string(),
            })?;
            let separator = if index == 0 { "" } else { ",\n" };
            text.push_str(separator);
            text.push_str(&line);
        }
        text.push_str("\n]}\n");
        fs::write(path, text).at("write", path)
    }

    /// All cells.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.lines.iter().filter_map(|line| match line {
            Line::Cell(cell) => Some(cell),
            _ => None,
        })
    }

    /// The cell of a row.
    pub(crate) fn cell(&self, row: &str, fs: &str, config: &str) -> Option<&Cell> {
        self.cells()
            .find(|cell| cell.row == row && cell.fs == fs && cell.config == config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: &str) -> Line {
        Line::Cell(Cell {
            row: row.to_owned(),
            fs: "ext4".to_owned(),
            config: "keys".to_owned(),
            ops: 10,
            total: Estimate::of(&[1.5, 1.5, 1.5]).unwrap(),
            foreground: 1.25,
        })
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.json");
        let figures = Figures::new(vec![cell("a"), cell("b")]);
        figures.save(&path).unwrap();
        assert_eq!(Figures::load(&path).unwrap(), figures);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
        assert!(figures.cell("b", "ext4", "keys").is_some());
        assert!(figures.cell("b", "xfs", "keys").is_none());
    }

    #[test]
    fn lines_of_guests_are_gathered_and_bad_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let line = serde_json::to_string(&cell("a")).unwrap();
        fs::write(&path, format!("{line}\n")).unwrap();
        assert_eq!(Figures::gather(&[&path]).unwrap().lines, [cell("a")]);
        fs::write(&path, format!("{line}\nnonsense\n")).unwrap();
        let error = Figures::gather(&[&path]).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn another_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.json");
        fs::write(&path, r#"{"schema":99,"lines":[]}"#).unwrap();
        assert!(
            Figures::load(&path)
                .unwrap_err()
                .to_string()
                .contains("schema 99")
        );
    }
}
