//! `persist`: keeps running settings for the next boot.

use std::io::ErrorKind;

use provfs_cli::exit;

use super::{edit, named};
use crate::{
    change::Change,
    error::Error,
    kernel::{Kernel, Lock},
    output::Out,
    roots::Roots,
    settings::Setting,
    stored::{self, Stored},
    sysctl_d,
    toml_file::{self, Values},
};

/// Does it.
pub(super) fn run(
    roots: &Roots,
    out: &mut Out,
    names: &[String],
    to_sysctl_d: bool,
    dry_run: bool,
) -> Result<u8, Error> {
    let wanted = named(names)?;
    let kernel = Kernel::running(roots)?;
    let _lock = (!dry_run).then(|| Lock::take(roots)).transpose()?;
    let file = File::read(roots, to_sysctl_d)?;

    let mut values = Values::new();
    for (setting, running) in kernel.all()? {
        let wanted = if wanted.is_empty() {
            file.get(setting).is_some() || !setting.same(&running, setting.default)
        } else {
            wanted.iter().any(|wanted| wanted.name == setting.name)
        };
        if wanted {
            values.push((setting, running));
        }
    }
    for setting in wanted {
        if !values.iter().any(|(known, _)| known.name == setting.name) {
            return Err(Error::NotInKernel(setting.name));
        }
    }

    let change = |(setting, value): &(&'static Setting, Vec<u8>)| Change {
        setting,
        // What is not said is the default.
        before: file.get(setting).unwrap_or(setting.default).to_vec(),
        after: value.clone(),
    };
    let mut changes: Vec<_> = values.iter().map(change).collect();
    changes.retain(|change| change.is_one() || file.get(change.setting).is_none());
    let content = file.with(&values)?;
    if !dry_run && (!changes.is_empty() || file.text.is_none()) {
        stored::replace(&file.path, &content)?;
    }
    edit::report(out, "persist", dry_run, &changes);
    if !changes.is_empty() {
        let verb = if dry_run { "would write" } else { "wrote" };
        out.line(format!("{verb} {}", file.path.display()));
    }
    if to_sysctl_d {
        warn_of_toml(roots, &values);
    }
    Ok(exit::OK)
}

/// The file that is written to.
struct File {
    path: std::path::PathBuf,
    is_sysctl_d: bool,
    /// What is in it, if it is there.
    text: Option<String>,
    values: Values,
}

impl File {
    fn read(roots: &Roots, is_sysctl_d: bool) -> Result<Self, Error> {
        let (path, content) = if is_sysctl_d {
            let path = roots.sysctl_d();
            let content = match sysctl_d::read_file(&path) {
                // All of it is written anew.
                Ok((values, _)) => Some((String::new(), values)),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(Error::read(path)(error)),
            };
            (path, content)
        } else {
            let path = roots.toml();
            let content = stored::read_toml(&path)?;
            (path, content)
        };
        let (text, values) =
            content.map_or((None, Values::new()), |(text, values)| (Some(text), values));
        Ok(File {
            path,
            is_sysctl_d,
            text,
            values,
        })
    }

    fn get(&self, setting: &Setting) -> Option<&[u8]> {
        let found = self
            .values
            .iter()
            .find(|(known, _)| known.name == setting.name);
        found.map(|(_, value)| &**value)
    }

    /// The text of the file with these values in it.
    fn with(&self, values: &Values) -> Result<Vec<u8>, Error> {
        if !self.is_sysctl_d {
            return Ok(toml_file::write(self.text.as_deref(), values)?.into_bytes());
        }
        let mut all = self.values.clone();
        for (setting, value) in values {
            match all.iter_mut().find(|(known, _)| known.name == setting.name) {
                Some((_, old)) => old.clone_from(value),
                None => all.push((setting, value.clone())),
            }
        }
        sysctl_d::write(&all)
    }
}

/// What `/etc/provfs.toml` says is applied after sysctl.d.
fn warn_of_toml(roots: &Roots, values: &Values) {
    let stored = Stored::read(roots);
    for (setting, value) in values {
        let toml = roots.toml();
        let last = stored.get(setting).filter(|last| last.file == toml);
        if last.is_some_and(|last| !setting.same(&last.value, value)) {
            crate::say(&format!(
                "{} sets provfs.{} to something else, and has the last word: remove it there, or leave out --sysctl-d",
                toml.display(),
                setting.name
            ));
        }
    }
}
