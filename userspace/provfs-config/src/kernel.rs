//! The running kernel: its settings, its counters, and why it has none.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::{
    error::Error,
    kernel_log::KernelLog,
    roots::Roots,
    settings::{SETTINGS, Setting},
};

/// Reads and writes settings by name. Tests have a kernel of their own behind it.
pub(crate) trait Sysctls {
    /// The value, without the newline that is shown at its end.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Writes the value as a whole, or fails and leaves the old one in force.
    fn write(&self, name: &str, value: &[u8]) -> io::Result<()>;

    /// Listens to what the kernel says about what is written.
    fn log(&self) -> Option<KernelLog>;
}

/// `/proc/sys/provfs`.
pub(crate) struct Kernel<'r> {
    roots: &'r Roots,
}

impl<'r> Kernel<'r> {
    /// The running kernel, or the reason why it has no settings of provfs.
    pub(crate) fn running(roots: &'r Roots) -> Result<Self, Error> {
        if roots.settings().is_dir() {
            Ok(Kernel { roots })
        } else {
            Err(Error::Absent(why_absent(roots)))
        }
    }

    /// The value of a setting; [`None`] if this kernel lacks it.
    pub(crate) fn get(&self, setting: &Setting) -> Result<Option<Vec<u8>>, Error> {
        match self.read(setting.name) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::read(self.roots.settings().join(setting.name))(error)),
        }
    }

    /// The values of all settings that this kernel has.
    pub(crate) fn all(&self) -> Result<Vec<(&'static Setting, Vec<u8>)>, Error> {
        let values = SETTINGS
            .iter()
            .map(|setting| Ok((setting, self.get(setting)?)));
        values
            .filter_map(|one| match one {
                Ok((setting, value)) => Some(Ok((setting, value?))),
                Err(error) => Some(Err(error)),
            })
            .collect()
    }
}

impl Sysctls for Kernel<'_> {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut value = fs::read(self.roots.settings().join(name))?;
        if value.last() == Some(&b'\n') {
            value.pop();
        }
        Ok(value)
    }

    fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
        // The kernel drops one newline at the end, so that an empty value can be written too.
        let text = [value, b"\n"].concat();
        let mut file = File::options()
            .write(true)
            .truncate(true)
            .open(self.roots.settings().join(name))?;
        // In one piece: a second one would be a value of its own.
        match file.write(&text)? {
            written if written == text.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    fn log(&self) -> Option<KernelLog> {
        KernelLog::from_now(&self.roots.at("/dev/kmsg"))
    }
}

/// Holds off every other provfs-config that changes something, until it is dropped.
pub(crate) struct Lock {
    _file: OwnedFd,
}

impl Lock {
    /// Waits until nobody else holds it.
    pub(crate) fn take(roots: &Roots) -> Result<Self, Error> {
        let path = roots.lock();
        let failed = |source| Error::Lock {
            path: path.clone(),
            source,
        };
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let file = OwnedFd::from(file);
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }
}

/// The names of the security modules that run, if that can be told.
pub(crate) fn security_modules(roots: &Roots) -> Option<String> {
    let list = fs::read_to_string(roots.lsm()).ok()?;
    Some(list.trim().to_owned())
}

/// Whether a list of security modules names provfs.
pub(crate) fn names_provfs(list: &str) -> bool {
    list.split(',').any(|name| name.trim() == "provfs")
}

/// The release of the running kernel.
pub(crate) fn release(roots: &Roots) -> String {
    fs::read_to_string(roots.at("/proc/sys/kernel/osrelease"))
        .map(|release| release.trim().to_owned())
        .unwrap_or_default()
}

/// Whether provfs is built into the running kernel: what its configuration says, else its symbols.
/// [`None`] if neither can be read.
pub(crate) fn is_built_in(roots: &Roots) -> Option<bool> {
    let release = release(roots);
    let configurations = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
        format!("/usr/lib/modules/{release}/config"),
    ];
    for path in configurations {
        if let Ok(config) = fs::read(roots.at(&path)) {
            let mut lines = config.split(|&byte| byte == b'\n');
            return Some(lines.any(|line| line == b"CONFIG_SECURITY_PROVFS=y"));
        }
    }
    let mut symbols = BufReader::new(File::open(roots.at("/proc/kallsyms")).ok()?);
    let mut line = Vec::new();
    let mut any = false;
    loop {
        line.clear();
        match symbols.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return any.then_some(false),
            Ok(_) if line.windows(6).any(|word| word == b"provfs") => return Some(true),
            Ok(_) => any = true,
        }
    }
}

/// One sentence: why there are no settings here, and what to do.
fn why_absent(roots: &Roots) -> String {
    let Some(list) = security_modules(roots) else {
        return format!(
            "this kernel ({}) has no settings of provfs: boot one that was built with CONFIG_SECURITY_PROVFS=y and is \
            started with provfs in lsm=; 'provfs-config doctor' looks closer",
            release(roots)
        );
    };
    if names_provfs(&list) {
        return "provfs runs, but /proc/sys/provfs is not there: build the kernel with CONFIG_PROC_SYSCTL=y, and mount \
            proc"
        .to_owned();
    }
    let release = release(roots);
    match is_built_in(roots) {
        Some(true) => format!(
            "provfs is built into this kernel ({release}) but was not started: boot with lsm={list},provfs"
        ),
        _ => format!(
            "this kernel ({release}) has no provfs: boot one that was built with CONFIG_SECURITY_PROVFS=y and is started \
            with lsm={list},provfs"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path());
        for (path, content) in files {
            let path = roots.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        (dir, roots)
    }

    fn sentence(files: &[(&str, &str)]) -> String {
        let (_dir, roots) = roots(files);
        Kernel::running(&roots).err().unwrap().to_string()
    }

    #[test]
    fn a_kernel_without_provfs_says_what_to_do() {
        let lsm = ("/sys/kernel/security/lsm", "landlock,yama\n");
        let release = ("/proc/sys/kernel/osrelease", "7.3.4\n");
        assert_eq!(
            sentence(&[lsm, release]),
            "this kernel (7.3.4) has no provfs: boot one that was built with CONFIG_SECURITY_PROVFS=y and is started with \
            lsm=landlock,yama,provfs"
        );
        let config = (
            "/boot/config-7.3.4",
            "CONFIG_RUST=y\nCONFIG_SECURITY_PROVFS=y\n",
        );
        assert_eq!(
            sentence(&[lsm, release, config]),
            "provfs is built into this kernel (7.3.4) but was not started: boot with lsm=landlock,yama,provfs"
        );
        let symbols = ("/proc/kallsyms", "0 T start\n0 t provfs_hook\n");
        assert!(sentence(&[lsm, release, symbols]).starts_with("provfs is built into"));
        let active = ("/sys/kernel/security/lsm", "yama,provfs\n");
        assert!(sentence(&[active]).contains("CONFIG_PROC_SYSCTL"));
        assert!(sentence(&[]).contains("provfs-config doctor"));
    }

    #[test]
    fn settings_are_read_and_written_whole() {
        let (_dir, roots) = roots(&[("/proc/sys/provfs/skip", "/a,/b\n\n")]);
        let kernel = Kernel::running(&roots).unwrap();
        let skip = Setting::find("skip").unwrap();
        assert_eq!(kernel.get(skip).unwrap().as_deref(), Some(&b"/a,/b\n"[..]));
        kernel.write("skip", b"").unwrap();
        assert_eq!(fs::read(roots.settings().join("skip")).unwrap(), b"\n");
        assert_eq!(kernel.get(skip).unwrap().as_deref(), Some(&b""[..]));
        assert!(
            kernel
                .get(Setting::find("protect").unwrap())
                .unwrap()
                .is_none()
        );
        assert_eq!(kernel.all().unwrap().len(), 1);
    }
}
