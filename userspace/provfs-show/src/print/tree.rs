//! Files in the folders that they are in, drawn as a tree. It is drawn when all is known.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use anstyle::Style;
use provfs::Key;

use super::{
    All,
    line::{KEYS, who},
    look::{LABEL, Look, PATH},
};
use crate::ask::Answer;

/// Collects files, then draws.
pub(super) struct Tree {
    look: Look,
    root: Node,
}

/// A folder, a file, or both: a folder may have a record of its own.
#[derive(Default)]
struct Node {
    children: BTreeMap<OsString, Node>,
    answer: Option<Answer>,
}

impl Tree {
    pub(super) fn new(look: Look) -> Self {
        Tree {
            look,
            root: Node::default(),
        }
    }

    fn name(&self, out: &mut dyn Write, name: &OsStr, node: &Node) -> io::Result<()> {
        let style = if node.children.is_empty() {
            Style::new()
        } else {
            PATH
        };
        self.look
            .styled(out, style, &self.look.value(name.as_bytes()))?;
        if let Some(answer) = &node.answer {
            write!(out, "  ")?;
            let mut line = Vec::new();
            who(&self.look, &mut line, answer, 0, 0)?;
            out.write_all(line.trim_ascii_end())?;
            let ts = answer.record.as_ref().and_then(|record| record.ts.as_ref());
            if let Some(unix) = ts.and_then(|ts| ts.unix) {
                write!(out, "  ")?;
                let ago = self.look.clock.relative(unix);
                self.look.styled(out, LABEL, ago.as_bytes())?;
            }
        }
        writeln!(out)
    }
}

impl All for Tree {
    fn keys(&self) -> Vec<Key> {
        KEYS.to_vec()
    }

    fn is_text(&self) -> bool {
        true
    }

    fn add(&mut self, answer: Answer) {
        let mut node = &mut self.root;
        for component in answer.path.components() {
            let name = component.as_os_str().to_owned();
            node = node.children.entry(name).or_default();
        }
        node.answer = Some(answer);
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        // Nobody asked about the folders above the first one that branches.
        let (mut top, mut path) = (&self.root, PathBuf::new());
        while let (1, None, Some((name, only))) =
            (top.children.len(), &top.answer, top.children.iter().next())
        {
            path.push(name);
            top = only;
        }
        if top.children.is_empty() && top.answer.is_none() {
            return Ok(());
        }
        if path.as_os_str().is_empty() {
            path.push(".");
        }
        self.name(out, path.as_os_str(), top)?;
        let mut open = vec![top.children.iter()];
        while let Some(siblings) = open.last_mut() {
            let Some((name, node)) = siblings.next() else {
                open.pop();
                continue;
            };
            let (last, above) = open.split_last().expect("there is one");
            for siblings in above {
                write!(
                    out,
                    "{}",
                    if siblings.len() == 0 {
                        "    "
                    } else {
                        "│   "
                    }
                )?;
            }
            write!(
                out,
                "{}",
                if last.len() == 0 {
                    "└── "
                } else {
                    "├── "
                }
            )?;
            self.name(out, name, node)?;
            open.push(node.children.iter());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use provfs::Record;

    use super::*;
    use crate::print::look::for_tests;

    fn draw(paths: &[&str]) -> String {
        let mut tree = Tree::new(for_tests(false, true));
        let mut out = Vec::new();
        for path in paths {
            let xattrs = [
                ("user.prov.session", "s1"),
                ("user.prov.tool", "Edit"),
                ("user.prov.ts", "2026-11-21T09:12:33Z"),
            ];
            let answer = Answer {
                path: path.into(),
                record: Record::from_xattrs(xattrs).filter(|_| !path.ends_with("plain")),
                check: None,
            };
            tree.add(answer);
        }
        tree.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn branches() {
        insta::assert_snapshot!(draw(&["/src/b/\u{1b}z", "/src/b", "/src/a/deep/er/f", "/src/c/plain"]), @r"
        /src
        ├── a
        │   └── deep
        │       └── er
        │           └── f  s1  Edit  2 hours ago
        ├── b  s1  Edit  2 hours ago
        │   └── \u{1b}z  s1  Edit  2 hours ago
        └── c
            └── plain  no record  -
        ");
        insta::assert_snapshot!(draw(&["a", "b"]), @r"
        .
        ├── a  s1  Edit  2 hours ago
        └── b  s1  Edit  2 hours ago
        ");
        assert_eq!(draw(&["./a"]), "./a  s1  Edit  2 hours ago\n");
        assert_eq!(draw(&[]), "");
    }

    #[test]
    fn the_deepest_path_is_drawn() {
        // PATH_MAX is 4096.
        let deep = vec!["d"; 2_048].join("/");
        assert_eq!(draw(&[&deep]).lines().count(), 1);
    }
}
