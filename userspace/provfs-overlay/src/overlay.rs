//! The file system as a whole: what it is set to, and what it holds.

use std::{
    fmt::Write,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use fuser::{Notifier, Request};
use provfs::Format;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Result,
    system::uname,
};

use crate::{
    caller::{Acting, Callers, credentials::Rights, process::EnvNames},
    error::StartError,
    handles::{Handles, OpenDir, OpenFile},
    inodes::{Inode, Inodes},
    reaper::Reaper,
    stamp::{
        Composer, Policy, Stamper, Store,
        policy::{Places, default_rules},
        sidecar::Sidecar,
    },
    status::Status,
};

/// What the file system is set to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Whether anything is recorded.
    pub record: bool,
    /// Skip rules behind those that are there by default.
    pub skip: Vec<u8>,
    /// How records are stored.
    pub format: Format,
    /// How many sessions a history has at most.
    pub history: usize,
    /// How old a record of the same writer may get before it is renewed.
    pub granularity: Duration,
    /// Whether clients may change records.
    pub protect: bool,
    /// Whether the kernel may read and write files by itself.
    pub passthrough: bool,
    /// For how long the kernel may rely on names and attributes.
    pub cache: Duration,
    /// The variables that declare something.
    pub names: EnvNames,
    /// The database for records, where the file system of the source keeps none.
    pub sidecar: Option<PathBuf>,
}

impl Settings {
    /// What is set unless somebody says otherwise.
    pub fn new(mount: PathBuf) -> Self {
        Settings {
            mount,
            record: true,
            skip: Vec::new(),
            format: Format::Keys,
            history: 5,
            granularity: Duration::from_secs(1),
            protect: false,
            passthrough: true,
            cache: Duration::from_secs(1),
            names: EnvNames::default(),
            sidecar: None,
        }
    }
}

/// The file system.
#[derive(Debug)]
pub struct Overlay {
    pub(crate) inodes: Arc<Inodes>,
    pub(crate) files: Handles<OpenFile>,
    pub(crate) dirs: Handles<OpenDir>,
    pub(crate) callers: Callers,
    pub(crate) stamper: Stamper,
    pub(crate) status: Arc<Status>,
    pub(crate) reaper: Arc<Reaper>,
    /// `/proc/self/fd`.
    pub(crate) proc_fds: Arc<OwnedFd>,
    pub(crate) protect: bool,
    pub(crate) passthrough: bool,
    pub(crate) cache: Duration,
    notifier: Arc<OnceLock<Notifier>>,
}

impl Overlay {
    /// Shows a directory, which is held open with `O_PATH`.
    pub fn new(source: OwnedFd, settings: &Settings) -> std::result::Result<Self, StartError> {
        let inodes = Inodes::new(source).map_err(StartError::source)?;
        let inodes = Arc::new(inodes);
        let root = inodes.root().clone();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc_fds = openat(CWD, c"/proc/self/fd", flags, Mode::empty());
        let proc_fds = Arc::new(proc_fds.map_err(StartError::Proc)?);
        let mount = settings.mount.clone();
        let places = Arc::new(Places::new(root, mount, proc_fds.clone()));
        let skip = [default_rules(), settings.skip.clone()].join(&b","[..]);
        let policy = Policy::new(&skip, places.clone()).map_err(|error| StartError::Skip {
            rules: skip.escape_ascii().to_string(),
            error,
        })?;
        let store = match &settings.sidecar {
            None => Store::Files,
            Some(path) => {
                let database = Sidecar::open(path).map_err(|error| StartError::Sidecar {
                    path: path.clone(),
                    error,
                })?;
                Store::Sidecar(Arc::new(database), places)
            }
        };
        let status = Arc::new(Status::default());
        Ok(Overlay {
            inodes,
            files: Handles::starting_at(1),
            // Numbers of files and directories never meet.
            dirs: Handles::starting_at(1 << 63),
            callers: Callers::new(settings.names.clone()),
            stamper: Stamper {
                enabled: settings.record,
                policy,
                composer: Composer {
                    format: settings.format,
                    history: settings.history,
                },
                store,
                granularity: i64::try_from(settings.granularity.as_nanos()).unwrap_or(i64::MAX),
                exact_times: has_exact_times(&uname().release().to_string_lossy()),
                status: status.clone(),
            },
            status,
            reaper: Arc::new(Reaper::new()),
            proc_fds,
            protect: settings.protect,
            passthrough: settings.passthrough,
            cache: settings.cache,
            notifier: Arc::default(),
        })
    }

    /// Where the way to the kernel is to be put once it is there.
    pub fn notifier(&self) -> Arc<OnceLock<Notifier>> {
        self.notifier.clone()
    }

    /// All inodes that the kernel knows, and who keeps them few enough.
    pub fn keepers(&self) -> (Arc<Inodes>, Arc<Reaper>) {
        (self.inodes.clone(), self.reaper.clone())
    }

    /// What became of modifications.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// The same with how much is open, a name and a value in each line.
    pub(crate) fn status_text(&self) -> String {
        let mut text = format!("version {}\n", env!("CARGO_PKG_VERSION"));
        text += &self.status.text();
        // Writing to a string does not fail.
        let _ = writeln!(text, "inodes {}", self.inodes.len());
        let _ = writeln!(text, "open.files {}", self.files.len());
        let _ = writeln!(text, "open.directories {}", self.dirs.len());
        text
    }

    /// Lets this thread act with the rights of who asks.
    pub(crate) fn acting(&self, request: &Request) -> Result<Acting> {
        if request.uid() == 0 {
            // Groups of root do not matter.
            return Acting::with(&Rights {
                uid: 0,
                gid: request.gid(),
                groups: &[],
            });
        }
        Acting::with(&self.callers.of(request).rights())
    }

    /// The attributes of an inode have changed, and no reply says so.
    pub(crate) fn changed_behind(&self, inode: &Inode) {
        let Some(notifier) = self.notifier.get() else {
            return;
        };
        // A negative offset: only attributes, not what was read.
        if let Err(error) = notifier.inval_inode(inode.number, -1, 0) {
            log::debug!("inode {:?}: {error}", inode.key);
        }
    }
}

/// Whether times of files tell any two modifications apart that somebody looked between. They do
/// since Linux 6.13.
fn has_exact_times(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 13)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        assert!(has_exact_times("6.13.0-1-amd64"));
        assert!(has_exact_times("7.3.4"));
        assert!(!has_exact_times("6.12.48+deb13-amd64"));
        assert!(!has_exact_times("5.15"));
        assert!(!has_exact_times(""));
    }
}
