//! Which files are asked, one after the other: those that are named, those in a list, and what is
//! in folders.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use ignore::{
    WalkBuilder,
    overrides::{Override, OverrideBuilder},
};

use rustix::io::Errno;

use crate::args::{Args, Sort};

/// A file to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<P> {
    pub(crate) path: P,
    /// Somebody asked for this very file.
    pub(crate) named: bool,
    /// A folder that was met on the way. The module stamps no folders, so that such a one has no
    /// record means nothing.
    pub(crate) folder: bool,
    pub(crate) follow_links: bool,
}

impl<P> Entry<P> {
    /// The same file, with its path in another form.
    pub(crate) fn map_path<Q>(self, map: impl FnOnce(P) -> Q) -> Entry<Q> {
        Entry {
            path: map(self.path),
            named: self.named,
            folder: self.folder,
            follow_links: self.follow_links,
        }
    }
}

/// A file, or what is wrong where one should be, for people.
pub(crate) type Found<'a> = Result<Entry<&'a Path>, String>;

/// How folders are walked.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    files: Vec<PathBuf>,
    list: Option<PathBuf>,
    /// What ends a name in the list.
    end: u8,
    recursive: bool,
    globs: Override,
    hidden: bool,
    ignore_files: bool,
    one_file_system: bool,
    /// Links below folders.
    follow: bool,
    /// Links that are named.
    follow_named: bool,
    sorted: bool,
}

impl Walk {
    /// Fails on a glob that is none; the error is for people.
    pub(crate) fn new(args: &Args) -> Result<Self, String> {
        let recursive = args.recursive || args.tree;
        let mut files = args.files.clone();
        if files.is_empty() && args.files_from.is_none() && recursive {
            files.push(PathBuf::from("."));
        }
        Ok(Walk {
            files,
            list: args.files_from.clone(),
            end: if args.null { 0 } else { b'\n' },
            recursive,
            globs: globs(&args.glob)?,
            hidden: args.hidden || args.unrestricted,
            ignore_files: !(args.no_ignore || args.unrestricted),
            one_file_system: args.one_file_system,
            follow: args.follow,
            follow_named: !args.no_follow,
            sorted: args.sort != Some(Sort::None),
        })
    }

    /// Hands each file to `take`, or what is wrong where one should be, until it says `false`.
    pub(crate) fn each(&self, take: &mut dyn FnMut(Found<'_>) -> bool) {
        if self.files.iter().all(|path| self.named(path, take)) {
            if let Some(list) = &self.list {
                self.listed(list, take);
            }
        }
    }

    /// A file that somebody named, and what is in it. `false` when there was enough.
    fn named(&self, path: &Path, take: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
        if self.recursive && self.is_folder(path) {
            return self.folder(path, take);
        }
        if self.globs.matched(path, false).is_ignore() {
            return true;
        }
        take(Ok(Entry {
            path,
            named: true,
            folder: false,
            follow_links: self.follow_named,
        }))
    }

    fn is_folder(&self, path: &Path) -> bool {
        let metadata = if self.follow_named {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        metadata.is_ok_and(|metadata| metadata.is_dir())
    }

    fn folder(&self, root: &Path, take: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
        let mut walk = WalkBuilder::new(root);
        walk.standard_filters(self.ignore_files)
            .hidden(!self.hidden)
            .overrides(self.globs.clone())
            .follow_links(self.follow)
            .same_file_system(self.one_file_system);
        if self.sorted {
            // Within a folder only the names differ, and bytes are compared fastest.
            walk.sort_by_file_path(|a, b| a.as_os_str().cmp(b.as_os_str()));
        }
        for met in walk.build() {
            let entry = match met {
                Ok(entry) => entry,
                Err(error) => match explain(root, &error) {
                    Some(error) => {
                        if !take(Err(error)) {
                            return false;
                        }
                        continue;
                    }
                    None => continue,
                },
            };
            // Nothing else has user.* attributes.
            let kind = entry.file_type();
            let folder = kind.is_some_and(|kind| kind.is_dir());
            if !folder && !kind.is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let entry = Entry {
                path: entry.path(),
                named: false,
                folder,
                follow_links: self.follow,
            };
            if !take(Ok(entry)) {
                return false;
            }
        }
        true
    }

    fn listed(&self, list: &Path, take: &mut dyn FnMut(Found<'_>) -> bool) {
        let complain = |error: io::Error| {
            format!("cannot read the names in {list:?}: {error}; check that it is a readable file")
        };
        let mut names: Box<dyn BufRead> = if list == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            match File::open(list) {
                Ok(file) => Box::new(BufReader::new(file)),
                Err(error) => {
                    take(Err(complain(error)));
                    return;
                }
            }
        };
        let mut name = Vec::new();
        loop {
            name.clear();
            match names.read_until(self.end, &mut name) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    take(Err(complain(error)));
                    return;
                }
            }
            if name.last() == Some(&self.end) {
                name.pop();
            }
            let path = PathBuf::from(OsString::from_vec(name.clone()));
            if !name.is_empty() && !self.named(&path, take) {
                return;
            }
        }
    }
}

fn globs(globs: &[String]) -> Result<Override, String> {
    if globs.is_empty() {
        return Ok(Override::empty());
    }
    let mut builder = OverrideBuilder::new(env::current_dir().unwrap_or_else(|_| ".".into()));
    for glob in globs {
        let added = builder.add(glob);
        added.map_err(|error| format!("'{}' is no glob: {error}", glob.escape_debug()))?;
    }
    let built = builder.build();
    built.map_err(|error| format!("the globs are too many or too large: {error}"))
}

/// What to tell of an error below `root`; nothing if it does not concern an answer.
fn explain(root: &Path, error: &ignore::Error) -> Option<String> {
    match error {
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            explain(root, err)
        }
        ignore::Error::WithPath { path, err } => match err.io_error().map(cause) {
            Some(error) => match Errno::from_io_error(error) {
                // It vanished before its turn; or it is a link that leads nowhere, or to itself.
                Some(Errno::NOENT | Errno::LOOP) if path != root => None,
                Some(Errno::ACCESS) => Some(format!(
                    "cannot look into {path:?}: {error}; ask its owner, or try as root"
                )),
                _ => Some(format!("cannot look into {path:?}: {error}")),
            },
            None => explain(root, err),
        },
        // What it leads back to is asked where it is.
        ignore::Error::Loop { .. } => None,
        // A line of an ignore file that is no glob hides nothing.
        ignore::Error::Partial(_) | ignore::Error::Glob { .. } => None,
        other => Some(format!(
            "cannot look into {root:?}: {}",
            other.to_string().escape_debug()
        )),
    }
}

/// The error of the system call, without the words of the walker.
fn cause(error: &io::Error) -> &io::Error {
    let inner = error.get_ref().and_then(|walker| walker.source());
    inner
        .and_then(|inner| inner.downcast_ref())
        .unwrap_or(error)
}
