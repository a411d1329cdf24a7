//! Rows of one operation each: a loop of system calls, without anything in between.

mod channels;
mod contents;
mod names;
mod processes;

use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, open},
    io::write,
};

pub(crate) use contents::rewrite;
pub(crate) use processes::{Forked, environment, execute, sleepers, tiny};

use crate::{
    error::{Context, Result},
    meter::{Meter, Reading},
    rewriter::Rewriter,
};

/// What a row needs, and may use up.
pub(crate) struct Place<'a> {
    /// Counts.
    pub(crate) meter: &'a Meter,
    /// An empty directory on the file system that is measured.
    pub(crate) dir: &'a Path,
    /// A directory for programs, on a tmpfs that no configuration looks at; it is the root of what is executed there.
    pub(crate) programs: &'a Path,
    /// Somebody else, of another session.
    pub(crate) other: &'a Rewriter,
}

/// A row of the table.
pub(crate) struct Row {
    /// Its name, in the table, in JSON and for `--only`.
    pub(crate) name: &'static str,
    /// What one operation is.
    pub(crate) about: &'static str,
    /// How many of them are measured at once. The same in each configuration: directories grow with it.
    pub(crate) ops: u32,
    /// Does them.
    pub(crate) measure: fn(&Place<'_>, u32) -> Result<Reading>,
}

/// Rows that touch no file on a disk.
pub(crate) fn without_files() -> impl Iterator<Item = &'static Row> {
    processes::ROWS.iter().chain(channels::ROWS)
}

/// Rows to be measured on each file system.
pub(crate) fn with_files() -> impl Iterator<Item = &'static Row> {
    contents::ROWS.iter().chain(names::ROWS)
}

/// For opening an existing file, or one that is created.
pub(crate) const NEW: OFlags = OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY);

/// Permissions of files.
pub(crate) const MODE: Mode = Mode::from_raw_mode(0o644);

/// A path as the kernel takes it.
fn c_path(path: &Path) -> CString {
    // The paths here are our own and have no NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Paths of `count` files in a directory, all of one length.
pub(crate) fn paths(dir: &Path, prefix: &str, count: u32) -> Vec<CString> {
    (0..count)
        .map(|index| c_path(&dir.join(format!("{prefix}{index:06}"))))
        .collect()
}

/// Makes a file with `size` bytes and leaves it open for reading and writing.
fn make(path: &CString, size: usize) -> Result<OwnedFd> {
    let file = open(path, OFlags::CREATE | OFlags::RDWR, MODE).at("create", to_path(path))?;
    write(&file, &vec![b'x'; size]).at("write to", to_path(path))?;
    Ok(file)
}

/// Makes files with `size` bytes.
fn make_all(paths: &[CString], size: usize) -> Result {
    paths.iter().try_for_each(|path| make(path, size).map(drop))
}

/// For messages.
fn to_path(path: &CString) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_of_rows_are_unique() {
        let mut names = HashSet::new();
        for row in without_files().chain(with_files()) {
            assert!(names.insert(row.name), "{} is there twice", row.name);
            assert!(row.ops > 0);
        }
    }

    #[test]
    fn paths_have_one_length() {
        let paths = paths(Path::new("/d"), "f", 1001);
        assert_eq!(paths[0].to_str(), Ok("/d/f000000"));
        assert!(paths.iter().all(|path| path.as_bytes().len() == 10));
    }
}
