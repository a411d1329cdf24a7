//! What the kernel knows of a file that the rules ask about: its path and its file system.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{self, ErrorKind},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, StatxFlags},
    io::Errno,
};

use crate::{error::Error, roots::Roots};

/// Links that are followed before it must be a circle: `MAXSYMLINKS` of the kernel.
const LINKS_MAX: usize = 40;

/// A file that is there or would be made.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its path without symbolic links, `.` and `..`.
    pub(crate) path: PathBuf,
    /// The type of its file system, without a subtype. Empty if it cannot be told.
    pub(crate) fs_type: Vec<u8>,
    /// What else is known.
    pub(crate) state: State,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A regular file.
    File,
    /// Nothing yet.
    Missing,
    /// What is never stamped: a directory, a device and so on.
    NotRegular,
    /// A file, or the place for one, on a file system without `user.*` attributes.
    Unsupported,
}

impl Place {
    /// Finds out about a path as open(2) would.
    pub(crate) fn of(mounts: &Mounts, path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Look {
            path: path.to_owned(),
            source,
        };
        let (existing, resolved) = resolve(path).map_err(failed)?;
        let fs_type = mounts.fs_type(&existing, &resolved);
        let is_there = existing == resolved;
        let metadata = fs::metadata(&existing).map_err(failed)?;
        let state = if is_there && !metadata.is_file() {
            State::NotRegular
        } else if !keeps_user_attributes(&existing) {
            State::Unsupported
        } else if is_there {
            State::File
        } else {
            State::Missing
        };
        Ok(Place {
            path: resolved,
            fs_type,
            state,
        })
    }
}

/// The path without links, and as much of it as exists.
fn resolve(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS_MAX {
        match fs::canonicalize(&path) {
            Ok(path) => return Ok((path.clone(), path)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let missing = || io::Error::from(ErrorKind::NotFound);
        // `..` and `.` at the end name no file.
        let name = path.file_name().ok_or_else(missing)?.to_owned();
        let parent = path.parent().ok_or_else(missing)?;
        match fs::canonicalize(parent) {
            Ok(parent) => match fs::read_link(parent.join(&name)) {
                // A link to what does not exist: writing makes the file that it leads to.
                Ok(target) => path = parent.join(target),
                Err(_) => return Ok((parent.clone(), parent.join(&name))),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Directories are missing too; links are above them, if anywhere.
                let mut existing = parent;
                let real = loop {
                    existing = existing.parent().ok_or_else(missing)?;
                    match fs::canonicalize(existing) {
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        other => break other?,
                    }
                };
                let rest = path.strip_prefix(existing).unwrap_or(&path);
                if !rest
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)))
                {
                    return Err(missing());
                }
                return Ok((real.clone(), real.join(rest)));
            }
            Err(error) => return Err(error),
        }
    }
    Err(Errno::LOOP.into())
}

/// Whether user.* attributes can be asked for there.
pub(crate) fn keeps_user_attributes(path: &Path) -> bool {
    let mut none = [0u8; 0];
    rustix::fs::getxattr(path, "user.prov.session", &mut none) != Err(Errno::OPNOTSUPP)
}

/// One mount of this mount namespace.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    id: u64,
    /// Where it is.
    pub(crate) point: PathBuf,
    /// The type of its file system, without a subtype.
    pub(crate) fs_type: Vec<u8>,
    /// Whether nothing can be written there.
    pub(crate) read_only: bool,
}

/// All mounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Those of this process.
    pub(crate) fn read(roots: &Roots) -> Result<Self, Error> {
        let path = roots.at("/proc/self/mountinfo");
        let text = fs::read(&path).map_err(Error::read(path))?;
        Ok(Mounts::parse(&text))
    }

    /// Reads `mountinfo`, see proc_pid_mountinfo(5). Lines that cannot be read are left out.
    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|&byte| byte == b'\n');
        Mounts(lines.filter_map(parse_mount).collect())
    }

    /// All of them, in the order in which they were mounted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// The types of all file systems that are mounted.
    pub(crate) fn types(&self) -> BTreeSet<&[u8]> {
        self.0.iter().map(|mount| &*mount.fs_type).collect()
    }

    /// The type of the file system of a path, of which `existing` is there.
    fn fs_type(&self, existing: &Path, path: &Path) -> Vec<u8> {
        let id = rustix::fs::statx(CWD, existing, AtFlags::empty(), StatxFlags::MNT_ID)
            .ok()
            .filter(|stat| stat.stx_mask & StatxFlags::MNT_ID.bits() != 0)
            .map(|stat| stat.stx_mnt_id);
        let by_id = self
            .0
            .iter()
            .find(|mount| Some(mount.id) == id && path.starts_with(&mount.point));
        // Kernels before 5.8 do not tell. Of two on one point, the later one covers the other.
        let by_path = || {
            let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
            above.max_by_key(|mount| mount.point.as_os_str().len())
        };
        let mount = by_id.or_else(by_path);
        mount.map(|mount| mount.fs_type.clone()).unwrap_or_default()
    }
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let point = unescape(words.nth(3)?);
    let options = words.next()?;
    let fs_type = words.skip_while(|word| *word != b"-").nth(1)?;
    // The kernel's rules see the type as it is registered.
    let fs_type = fs_type
        .split(|&byte| byte == b'.')
        .next()
        .unwrap_or(fs_type);
    Some(Mount {
        id,
        point: PathBuf::from(std::ffi::OsString::from_vec(point)),
        fs_type: fs_type.to_vec(),
        read_only: options
            .split(|&byte| byte == b',')
            .any(|option| option == b"ro"),
    })
}

/// Undoes `\040` and the like.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        };
        match (byte, tail.split_at_checked(3)) {
            (b'\\', Some((digits, behind))) if octal(digits).is_some() => {
                out.extend(octal(digits));
                rest = behind;
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// A path as the rules see it.
pub(crate) fn bytes(path: &Path) -> &[u8] {
    OsStr::as_bytes(path.as_os_str())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mounts_are_read() {
        let mounts = Mounts::parse(
            b"9001 1 8:1 / / rw,relatime - ext4 /dev/sda rw\n\
            9002 9001 0:5 / /mnt/a\\040b ro,nosuid master:1 - fuse.sshfs host:/ rw\n\
            9003 9001 0:6 / /mnt rw - tmpfs tmpfs rw\nbroken line\n\n",
        );
        let shown: Vec<_> = mounts
            .iter()
            .map(|mount| {
                (
                    mount.point.to_str().unwrap(),
                    &*mount.fs_type,
                    mount.read_only,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("/", &b"ext4"[..], false),
                ("/mnt/a b", b"fuse", true),
                ("/mnt", b"tmpfs", false)
            ]
        );
        let fs_type = |path: &str| mounts.fs_type(Path::new("/none"), Path::new(path));
        assert_eq!(fs_type("/mnt/a b/c"), b"fuse");
        assert_eq!(fs_type("/mnt/a"), b"tmpfs");
        assert_eq!(fs_type("/mnta"), b"ext4");
    }

    #[test]
    fn paths_are_resolved_as_by_open() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(real.join("d")).unwrap();
        fs::write(real.join("d/file"), "").unwrap();
        symlink("d", real.join("link")).unwrap();
        symlink("d/new", real.join("dangling")).unwrap();
        symlink("circle", real.join("circle")).unwrap();
        let resolved = |name: &str| resolve(&real.join(name)).map(|(_, path)| path);
        assert_eq!(resolved("link/file").unwrap(), real.join("d/file"));
        assert_eq!(resolved("link/../d/./file").unwrap(), real.join("d/file"));
        assert_eq!(resolved("link/none").unwrap(), real.join("d/none"));
        assert_eq!(
            resolved("link/none/at/all").unwrap(),
            real.join("d/none/at/all")
        );
        assert_eq!(resolved("dangling").unwrap(), real.join("d/new"));
        assert!(resolved("circle").is_err());
        assert!(resolved("none/../file").is_err());
        assert!(resolved("d/file/below").is_err());
    }

    proptest! {
        #[test]
        fn any_mountinfo_and_any_path_are_read(text: Vec<u8>, path: Vec<u8>) {
            let mounts = Mounts::parse(&text);
            let _ = Place::of(&mounts, Path::new(OsStr::from_bytes(&path)));
        }
    }
}
