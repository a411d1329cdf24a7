//! Rights of the caller: file system user, group, supplementary groups and umask of this thread.
//!
//! All of these belong to the thread in Linux, except for the umask, which a thread must first stop
//! sharing with the others. The C library hides that for `setgroups(2)`, so that one goes past it.

use std::cell::Cell;

use nix::{
    sched::CloneFlags,
    unistd::{Gid, Uid, setfsgid, setfsuid},
};
use rustix::{
    fs::Mode,
    io::Result,
    process::{geteuid, umask},
    thread::set_thread_groups,
};

/// The user that owns nothing. To act as it takes all rights over files away from root.
const NOBODY: u32 = 65534;

/// Rights that a thread takes over.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    /// The file system user.
    pub uid: u32,
    /// The file system group.
    pub gid: u32,
    /// The supplementary groups; those of root do not matter, since root may do everything.
    pub groups: &'a [u32],
}

/// The thread acts for somebody else until this is dropped.
#[derive(Debug)]
pub struct Acting {
    user: bool,
    group: bool,
    groups: bool,
    masked: bool,
}

thread_local! {
    static HAS_OWN_UMASK: Cell<bool> = const { Cell::new(false) };
}

impl Acting {
    /// Acts for somebody, where this process may: one that does not run as root acts for itself.
    pub fn with(rights: &Rights<'_>) -> Result<Self> {
        let mut acting = Acting {
            user: false,
            group: false,
            groups: false,
            masked: false,
        };
        if !geteuid().is_root() {
            return Ok(acting);
        }
        if rights.uid != 0 {
            let groups: Vec<_> = rights.groups.iter().map(|&gid| raw_gid(gid)).collect();
            set_thread_groups(&groups)?;
            acting.groups = true;
        }
        if rights.gid != 0 {
            setfsgid(Gid::from_raw(rights.gid));
            acting.group = true;
        }
        // The last one: with it go the capabilities over files.
        if rights.uid != 0 {
            setfsuid(Uid::from_raw(rights.uid));
            acting.user = true;
        }
        Ok(acting)
    }

    /// Acts as somebody who has no rights over files beyond the descriptors that are open.
    pub fn unprivileged() -> Self {
        let user = geteuid().is_root();
        if user {
            setfsuid(Uid::from_raw(NOBODY));
        }
        Acting {
            user,
            group: false,
            groups: false,
            masked: false,
        }
    }

    /// What is created gets this umask, unless a default ACL says otherwise.
    pub fn masking(mut self, mask: u32) -> Self {
        if own_umask() {
            umask(Mode::from_raw_mode(mask));
            self.masked = true;
        }
        self
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if self.masked {
            umask(Mode::empty());
        }
        if self.user {
            setfsuid(Uid::from_raw(0));
        }
        if self.group {
            setfsgid(Gid::from_raw(0));
        }
        if self.groups && set_thread_groups(&[]).is_err() {
            // It was possible a moment ago. To go on with rights of somebody else is not.
            log::error!("cannot give back supplementary groups");
            std::process::abort();
        }
    }
}

fn raw_gid(gid: u32) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(gid)
}

/// Makes sure that the umask is this thread's own, and 0.
fn own_umask() -> bool {
    HAS_OWN_UMASK.with(|own| {
        if !own.get() && nix::sched::unshare(CloneFlags::CLONE_FS).is_ok() {
            umask(Mode::empty());
            own.set(true);
        }
        own.get()
    })
}
