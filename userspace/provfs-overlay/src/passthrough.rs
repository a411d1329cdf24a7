//! Passthrough: the kernel reads and writes the file behind an inode itself, where it knows how to
//! and lets this process say so.
//!
//! All opens of an inode have to be of one mode at a time, and to name the same file, so both are
//! kept with the inode.

use std::{
    io,
    sync::{Arc, Weak},
};

use fuser::BackingId;

use crate::{caller::Acting, inodes::Inode};

/// The file behind an inode, as the kernel knows it.
#[derive(Debug, Default)]
pub struct Backing {
    /// Alive for as long as the inode is open.
    id: Weak<BackingId>,
    /// The kernel does not take it, so that all opens have to go through this process.
    refused: bool,
}

/// The number under which the kernel knows the file behind an inode, or `None` if it cannot.
///
/// `register` tells the kernel about it. The kernel takes over the rights of who does that for all
/// reads and writes that follow, by whomever: with those of root, a program would keep its
/// set-user-ID bit when somebody else writes to it.
pub fn backing(
    inode: &Inode,
    register: impl FnOnce() -> io::Result<BackingId>,
) -> Option<Arc<BackingId>> {
    let mut backing = inode.backing.lock();
    if backing.refused {
        return None;
    }
    if let Some(id) = backing.id.upgrade() {
        return Some(id);
    }
    let registered = {
        let _acting = Acting::unprivileged();
        register()
    };
    match registered {
        Ok(id) => {
            let id = Arc::new(id);
            backing.id = Arc::downgrade(&id);
            Some(id)
        }
        Err(error) => {
            log::debug!("no passthrough for inode {:?}: {error}", inode.key);
            backing.refused = true;
            None
        }
    }
}
