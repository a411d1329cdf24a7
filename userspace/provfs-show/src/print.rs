//! The answer in its forms: [`block`], [`mod@line`], [`tree`] and [`template`] for people, [`json`] for
//! programs, [`names`] for other commands, [`count`] and [`group`] for those who want no files.
//! [`look`] is what the forms for people have in common.

mod block;
mod count;
mod group;
mod json;
mod line;
mod look;
mod names;
mod template;
mod tree;

use std::io::{self, Write};

use provfs::Key;

pub(crate) use self::look::Look;
use crate::{args::Args, ask::Answer};

/// Prints files, each for itself: several may be printed at once.
pub(crate) trait Each: Sync {
    /// The fields of a record that it prints.
    fn keys(&self) -> Vec<Key> {
        Key::ALL.to_vec()
    }

    /// Whether it is for people, who may want it in a pager.
    fn is_text(&self) -> bool {
        true
    }

    /// One file.
    fn file(&self, out: &mut Vec<u8>, answer: &Answer) -> io::Result<()>;

    /// What stands before the first file, between two, and behind the last.
    fn frame(&self) -> [&'static str; 3] {
        [""; 3]
    }
}

/// Prints something about all files.
pub(crate) trait All {
    /// The fields of a record that it prints.
    fn keys(&self) -> Vec<Key>;

    /// Whether it is for people, who may want it in a pager.
    fn is_text(&self) -> bool;

    /// Takes notice of a file.
    fn add(&mut self, answer: Answer);

    /// Prints.
    fn print(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// One of the forms.
pub(crate) enum Form {
    Each(Box<dyn Each>),
    All(Box<dyn All>),
}

impl Form {
    /// The fields of a record that are printed.
    pub(crate) fn keys(&self) -> Vec<Key> {
        match self {
            Form::Each(form) => form.keys(),
            Form::All(form) => form.keys(),
        }
    }

    /// Whether it is for people, who may want it in a pager.
    pub(crate) fn is_text(&self) -> bool {
        match self {
            Form::Each(form) => form.is_text(),
            Form::All(form) => form.is_text(),
        }
    }
}

/// The form that was asked for. The error says what is wrong with a template.
pub(crate) fn form(args: &Args, look: Look) -> Result<Form, String> {
    use json::Shape;
    let shape = match (args.json, args.ndjson) {
        (true, _) => Some(Shape::Document),
        (_, true) => Some(Shape::Lines),
        _ => None,
    };
    let end = if args.null { 0 } else { b'\n' };
    Ok(if args.count {
        Form::All(Box::new(count::Count::new(shape)))
    } else if let Some(by) = args.group_by {
        Form::All(Box::new(group::Groups::new(by, args.limit, shape, look)))
    } else if let Some(shape) = shape {
        Form::Each(Box::new(json::Json::new(shape)))
    } else if let Some(template) = &args.format {
        Form::Each(Box::new(template::Template::new(template, end, look)?))
    } else if args.line {
        Form::Each(Box::new(line::Lines::new(look)))
    } else if args.tree {
        Form::All(Box::new(tree::Tree::new(look)))
    } else if args.null {
        Form::Each(Box::new(names::Names))
    } else {
        Form::Each(Box::new(block::Blocks::new(look)))
    })
}
