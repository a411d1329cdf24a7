//! File systems that a test makes for itself.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::{
    fixture::{Outcome, Place, Stop},
    programs::need,
};

/// A file with a file system in it.
pub(crate) struct Image(PathBuf);

impl Image {
    /// Makes one by a program of the administrator.
    pub(crate) fn new(place: &Place, megabytes: u64, mkfs: &[&str]) -> Outcome<Self> {
        need(mkfs[0])?;
        let image = place.path("image");
        File::create(&image)?.set_len(megabytes << 20)?;
        run(
            mkfs[0],
            &[&mkfs[1..], &[image.to_str().unwrap_or_default()]].concat(),
        )?;
        Ok(Image(image))
    }

    /// Mounts it, with options if there are any.
    pub(crate) fn mount(&self, place: &Place, options: &str) -> Outcome<Mounted> {
        let image = self.0.to_str().unwrap_or_default();
        let dir = place.directory("mounted")?;
        let device = run("losetup", &["--find", "--show", image])?;
        let device = device.trim();
        let mut arguments = vec![device, dir.to_str().unwrap_or_default()];
        if !options.is_empty() {
            arguments.extend(["-o", options]);
        }
        let mounted = run("mount", &arguments);
        // It stays as long as it is mounted.
        run("losetup", &["--detach", device])?;
        mounted?;
        fs::set_permissions(&dir, Permissions::from_mode(0o777))?;
        Ok(Mounted(dir))
    }
}

/// Runs a program of the administrator, and returns what it prints.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Stop::Failed(format!("{program} {arguments:?}: {text}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A file system that is mounted for a test.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one that needs no disk.
    pub(crate) fn new(place: &Place, kind: &str, options: &str) -> Outcome<Self> {
        let dir = place.directory("mounted")?;
        let options = std::ffi::CString::new(options)?;
        rustix::mount::mount(
            kind,
            &dir,
            kind,
            MountFlags::empty(),
            Some(options.as_c_str()),
        )?;
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        Ok(Mounted(dir))
    }

    /// Makes one in a file, and mounts it.
    pub(crate) fn image(place: &Place, megabytes: u64, mkfs: &[&str]) -> Outcome<Self> {
        Image::new(place, megabytes, mkfs)?.mount(place, "")
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    /// A file on it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Unmounts it; not later, nor by force.
    pub(crate) fn unmount(self) -> rustix::io::Result<()> {
        rustix::mount::unmount(&self.0, UnmountFlags::empty())?;
        // It is no longer there.
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Changes the options of a mounted file system.
pub(crate) fn remount(dir: &Path, options: &str) -> Outcome {
    let options = format!("remount,{options}");
    run("mount", &["-o", &options, dir.to_str().unwrap_or_default()]).map(drop)
}
