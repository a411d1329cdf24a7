//! How the cost of an operation grows with the size of something.

use std::{ffi::CString, fs, path::PathBuf};

use rustix::{fs::open, io::write};

use crate::{
    configuration::{Config, get, set},
    error::{Context, Result},
    measure::estimate,
    meter::Reading,
    micro::{MODE, NEW, Place, environment, execute, paths, tiny},
    statistics::Estimate,
};

/// Files that are created for a figure.
const FILES: u32 = 500;

/// A curve.
pub(crate) struct Curve {
    /// Its name.
    pub(crate) name: &'static str,
    /// What grows, with its unit.
    pub(crate) of: &'static str,
    /// What is measured.
    pub(crate) operation: &'static str,
    /// The sizes.
    pub(crate) sizes: &'static [u32],
    /// Whether there is something to measure in a configuration.
    pub(crate) applies: fn(Config) -> bool,
    /// Measures at one size. `None` if there is no such size.
    measure: fn(&Place<'_>, u32) -> Result<Option<Estimate>>,
}

/// All of them.
pub(crate) const CURVES: &[Curve] = &[
    Curve {
        name: "skip_rules",
        of: "skip rules, none of which matches",
        operation: "create, write 1 byte, close",
        sizes: &[1, 10, 100, 500, 1000, 2000],
        applies: |config| config == Config::Keys,
        measure: skip_rules,
    },
    Curve {
        name: "path_depth",
        of: "directories between the root of the file system and the file",
        operation: "create, write 1 byte, close",
        sizes: &[1, 2, 4, 8, 16, 32, 64],
        applies: |config| matches!(config, Config::Absent | Config::Keys | Config::Skipping),
        measure: path_depth,
    },
    Curve {
        name: "history",
        of: "sessions in the history",
        operation: "open, write 1 byte, close, of a file of another session",
        sizes: &[0, 1, 2, 4, 8, 16, 32],
        applies: |config| matches!(config, Config::Keys | Config::Packed),
        measure: history,
    },
    Curve {
        name: "environment",
        of: "KiB of environment",
        operation: "fork, execute a tiny program, wait",
        sizes: &[1, 4, 16, 32, 64, 128],
        applies: |config| matches!(config, Config::Absent | Config::Disabled | Config::Keys),
        measure: exec_environment,
    },
];

impl Curve {
    /// A point of the curve, or `None` if there is no such size.
    pub(crate) fn at(&self, place: &Place<'_>, size: u32) -> Result<Option<Estimate>> {
        (self.measure)(place, size)
    }
}

/// Creates files in a directory and deletes them again.
fn create(place: &Place<'_>, dir: &PathBuf) -> Result<Reading> {
    fs::create_dir_all(dir).at("make", dir)?;
    let paths = paths(dir, "file", FILES);
    let reading = place
        .meter
        .measure(|| paths.iter().try_for_each(create_one));
    fs::remove_dir_all(dir).at("delete", dir)?;
    reading
}

fn create_one(path: &CString) -> Result {
    let name = || path.to_string_lossy().into_owned();
    let file = open(path, NEW, MODE).at("create", name())?;
    write(&file, b"x").at("write to", name())?;
    Ok(())
}

/// The longest list is 4,095 bytes. The shortest rules have a name of one byte each: what differs from rule to rule is of
/// no account, since none of them matches.
fn rules(count: u32) -> Option<String> {
    let text = vec!["~"; count as usize].join(",");
    (text.len() <= 4095).then_some(text)
}

fn skip_rules(place: &Place<'_>, count: u32) -> Result<Option<Estimate>> {
    let Some(rules) = rules(count) else {
        return Ok(None);
    };
    let before = get("skip")?;
    set("skip", &rules)?;
    let estimate = estimate(FILES, || create(place, &place.dir.join("d")));
    set("skip", before.trim_end())?;
    estimate.map(|(estimate, _)| Some(estimate))
}

fn path_depth(place: &Place<'_>, depth: u32) -> Result<Option<Estimate>> {
    // The directory that is given is two below the root.
    let Some(root) = place.dir.ancestors().nth(2) else {
        return Ok(None);
    };
    let dir = (0..depth).fold(root.to_owned(), |dir, _| dir.join("d"));
    let estimate = estimate(FILES, || create(place, &dir));
    let top = root.join("d");
    if top.exists() {
        fs::remove_dir_all(&top).at("delete", top)?;
    }
    estimate.map(|(estimate, _)| Some(estimate))
}

fn history(place: &Place<'_>, sessions: u32) -> Result<Option<Estimate>> {
    if get("history").is_err() {
        return Ok(None);
    }
    let before = get("history")?;
    set("history", &sessions.to_string())?;
    let row = crate::micro::with_files().find(|row| row.name == "rewrite_other");
    let estimate = row.map(|row| {
        estimate(FILES, || {
            let reading = (row.measure)(place, FILES);
            for path in paths(place.dir, "file", FILES) {
                let path = PathBuf::from(path.to_string_lossy().into_owned());
                fs::remove_file(&path).at("delete", path)?;
            }
            reading
        })
    });
    set("history", before.trim_end())?;
    estimate
        .transpose()
        .map(|estimate| estimate.map(|(estimate, _)| estimate))
}

fn exec_environment(place: &Place<'_>, kibibytes: u32) -> Result<Option<Estimate>> {
    const CHILDREN: u32 = 100;
    let program = tiny(place)?;
    let (estimate, _) = estimate(CHILDREN, || {
        execute(
            place,
            CHILDREN,
            &[&program],
            environment((kibibytes as usize) << 10),
        )
    })?;
    Ok(Some(estimate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_end_where_the_kernel_refuses_them() {
        assert_eq!(rules(1).as_deref(), Some("~"));
        assert_eq!(rules(2048).map(|text| text.len()), Some(4095));
        assert_eq!(rules(2049), None);
    }
}
