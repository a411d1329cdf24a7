//! Names, each with a NUL behind it, for `xargs -0` and its like.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt,
};

use provfs::Key;

use super::Each;
use crate::ask::Answer;

/// Prints names.
pub(super) struct Names;

impl Each for Names {
    fn keys(&self) -> Vec<Key> {
        Vec::new()
    }

    fn is_text(&self) -> bool {
        false
    }

    fn file(&self, out: &mut Vec<u8>, answer: &Answer) -> io::Result<()> {
        out.write_all(answer.path.as_os_str().as_bytes())?;
        out.write_all(&[0])
    }
}
