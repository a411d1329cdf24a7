//! What is not recorded: skip rules, asked about the place that a file has below the mount point.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::Arc,
};

use parking_lot::Mutex;
use provfs::pure::skip::{self, Facts, Rule, RuleKind, Rules, SkipError};
use rustix::fs::readlinkat;

use crate::{caller::Identity, inodes::Inode};

/// Most paths fit into this much, and are read at once then.
const PATH_ROOM: usize = 512;

/// The rules about names among the defaults of the security module. Those about paths and file
/// systems speak of a whole system; whoever mounts this names one folder.
pub fn default_rules() -> Vec<u8> {
    let mut rules = vec![Rule::EMPTY; skip::max_rules(skip::DEFAULT)];
    let count = skip::compile(skip::DEFAULT, &mut rules).unwrap_or(0);
    let names = rules.iter().take(count);
    let names = names.filter(|rule| rule.kind() == RuleKind::Name);
    let names: Vec<_> = names.map(|rule| rule.source(skip::DEFAULT)).collect();
    names.join(&b","[..])
}

/// Where inodes are, seen from outside.
#[derive(Debug)]
pub struct Places {
    root: Arc<Inode>,
    /// The path of the root when it was last looked at.
    root_path: Mutex<Option<Arc<[u8]>>>,
    /// `/proc/self/fd`.
    proc_fds: Arc<OwnedFd>,
    mount: PathBuf,
    types: Mutex<HashMap<u64, Arc<[u8]>>>,
}

impl Places {
    /// Places below a mount point that shows the source.
    pub fn new(root: Arc<Inode>, mount: PathBuf, proc_fds: Arc<OwnedFd>) -> Self {
        Places {
            root_path: Mutex::default(),
            proc_fds,
            root,
            mount,
            types: Mutex::default(),
        }
    }

    /// The path below the source, without a `/` before it. `None` if it has none any more, or was
    /// moved out of the source.
    pub fn relative(&self, inode: &Inode) -> Option<Vec<u8>> {
        let path = self.path(inode)?;
        let known = self.root_path.lock().clone();
        let rest = known.and_then(|root| below(&path, &root));
        rest.or_else(|| {
            // The root has been renamed, or was not looked at before.
            let root: Arc<[u8]> = self.path(&self.root)?.into();
            *self.root_path.lock() = Some(root.clone());
            below(&path, &root)
        })
    }

    /// The path of an inode in this process's view.
    fn path(&self, inode: &Inode) -> Option<Vec<u8>> {
        let room = Vec::with_capacity(PATH_ROOM);
        let path = readlinkat(&self.proc_fds, inode.proc_name(), room).ok()?;
        let path = path.into_bytes();
        if path.ends_with(b" (deleted)") && inode.stat().is_ok_and(|stat| stat.stx_nlink == 0) {
            return None;
        }
        Some(path)
    }

    /// The whole path below the mount point that another one is.
    fn mounted(&self, relative: &[u8]) -> Vec<u8> {
        let path = self.mount.join(OsStr::from_bytes(relative));
        path.into_os_string().into_encoded_bytes()
    }

    /// The type of the file system that an inode is on, as in `/proc/filesystems`.
    fn fs_type(&self, inode: &Inode) -> Arc<[u8]> {
        let mut types = self.types.lock();
        let found = types.entry(inode.key.dev);
        found
            .or_insert_with(|| mounted_type(inode.key.dev).into())
            .clone()
    }
}

/// What of a path is below a root.
fn below(path: &[u8], root: &[u8]) -> Option<Vec<u8>> {
    match path.strip_prefix(root)? {
        [] => Some(Vec::new()),
        [b'/', rest @ ..] => Some(rest.to_vec()),
        // The source is the root directory.
        rest if root == b"/" => Some(rest.to_vec()),
        _ => None,
    }
}

/// The type of the file system on a device.
fn mounted_type(dev: u64) -> Vec<u8> {
    let device = format!("{}:{}", dev >> 32, dev & 0xffff_ffff);
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    table
        .split(|&byte| byte == b'\n')
        .find_map(|line| mount_type(line, device.as_bytes()))
        .unwrap_or_default()
        .to_vec()
}

/// The type in a line of `/proc/self/mountinfo`, if it is of this device. See `proc_pid_mountinfo(5)`.
fn mount_type<'a>(line: &'a [u8], device: &[u8]) -> Option<&'a [u8]> {
    let mut fields = line.split(|&byte| byte == b' ');
    if fields.nth(2)? != device {
        return None;
    }
    fields.find(|&field| field == b"-")?;
    fields.next()
}

/// The rules in force.
///
/// Rules about paths see the whole path, beginning with the mount point. Rules about names see what
/// is below it: who mounts something in a folder named `target` wants that to be recorded.
#[derive(Debug)]
pub struct Policy {
    text: Vec<u8>,
    /// The rules about names. The others are replaced by such that never match.
    of_names: Vec<Rule>,
    /// All others, likewise.
    of_others: Vec<Rule>,
    needs_path: bool,
    /// Where inodes are.
    pub places: Arc<Places>,
}

impl Policy {
    /// Compiles rules.
    pub fn new(text: &[u8], places: Arc<Places>) -> Result<Self, SkipError> {
        let mut rules = vec![Rule::EMPTY; skip::max_rules(text)];
        let count = skip::compile(text, &mut rules)?;
        rules.truncate(count);
        let only = |names: bool| {
            let rule = |rule: &Rule| {
                let is_name = rule.kind() == RuleKind::Name;
                if is_name == names { *rule } else { Rule::EMPTY }
            };
            rules.iter().map(rule).collect()
        };
        let (text, rules) = (text.to_vec(), &rules);
        Ok(Policy {
            needs_path: Rules { text: &text, rules }.needs_path(),
            of_names: only(true),
            of_others: only(false),
            text,
            places,
        })
    }

    /// The kind of rule for which a modification is not recorded.
    pub fn skips(&self, inode: &Inode, who: &Identity) -> Option<RuleKind> {
        if self.of_names.is_empty() {
            return None;
        }
        let fs_type = self.places.fs_type(inode);
        let below = self.needs_path.then(|| self.places.relative(inode));
        let below = below.flatten();
        let whole = below.as_ref().map(|below| self.places.mounted(below));
        // A path begins with a slash.
        let below = below.map(|below| [b"/", below.as_slice()].concat());

        let decide = |rules: &[Rule], path: &Option<Vec<u8>>| {
            let rules = Rules {
                text: &self.text,
                rules,
            };
            rules.decide(&Facts {
                path: path.as_deref(),
                fs_type: &fs_type,
                comm: &who.comm,
                uid: who.uid,
            })
        };
        let names = decide(&self.of_names, &below);
        let others = decide(&self.of_others, &whole);
        // The last rule that matches decides.
        let verdict = if names.rule > others.rule {
            names
        } else {
            others
        };
        verdict.kind.filter(|_| verdict.skip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_names_are_skipped_and_nothing_else() {
        let rules = default_rules();
        assert_eq!(
            rules.escape_ascii().to_string(),
            ".git,node_modules,target,.cache,.venv,__pycache__"
        );
    }

    #[test]
    fn types_of_mounts_are_found() {
        let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_type(line, b"98:0"), Some(&b"ext3"[..]));
        assert_eq!(mount_type(line, b"98:1"), None);
        assert_eq!(mount_type(b"36 35 98:0 /", b"98:0"), None);
    }
}
