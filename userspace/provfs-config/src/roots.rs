//! Where things are. Everything this program reads or writes is found here, so that tests can put
//! all of it somewhere else.

use std::path::{Path, PathBuf};

/// The directory that stands for `/`.
#[derive(Clone, Debug)]
pub(crate) struct Roots(PathBuf);

impl Roots {
    /// With this directory as `/`.
    pub(crate) fn new(root: &Path) -> Self {
        Roots(root.to_owned())
    }

    /// The place of an absolute path.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The settings of the running kernel.
    pub(crate) fn settings(&self) -> PathBuf {
        self.at("/proc/sys/provfs")
    }

    /// The counters of the running kernel.
    pub(crate) fn status(&self) -> PathBuf {
        self.at("/sys/kernel/security/provfs/status")
    }

    /// The names of the security modules that run.
    pub(crate) fn lsm(&self) -> PathBuf {
        self.at("/sys/kernel/security/lsm")
    }

    /// The settings for the next boot.
    pub(crate) fn toml(&self) -> PathBuf {
        self.at("/etc/provfs.toml")
    }

    /// The same, as `sysctl.d(5)` has it.
    pub(crate) fn sysctl_d(&self) -> PathBuf {
        self.at("/etc/sysctl.d/60-provfs.conf")
    }

    /// Held by who changes settings. Not the settings themselves, which everybody can open and so
    /// could keep locked.
    pub(crate) fn lock(&self) -> PathBuf {
        self.at("/run/provfs-config.lock")
    }
}
