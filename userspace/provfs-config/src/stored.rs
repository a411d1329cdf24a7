//! What is persisted: the settings that hold after the next boot, and the files that say so.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{
    error::Error,
    roots::Roots,
    settings::Setting,
    sysctl_d,
    toml_file::{self, Values},
};

/// No file of settings is longer; what is cannot be one.
const FILE_MAX: u64 = 1 << 20;

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The character in the line, counted from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) what: String,
}

impl Mistake {
    /// A mistake at an offset into the text of a file.
    pub(crate) fn at(text: &[u8], offset: usize, what: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default());
        Mistake {
            line,
            column: column.chars().count() + 1,
            what,
        }
    }

    /// As compilers say it.
    pub(crate) fn in_file(&self, file: &str) -> String {
        format!("{file}:{}:{}: {}", self.line, self.column, self.what)
    }
}

/// A persisted value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Of which setting.
    pub(crate) setting: &'static Setting,
    /// The value, in the kernel's form.
    pub(crate) value: Vec<u8>,
    /// The file that has the last word about it.
    pub(crate) file: PathBuf,
}

/// All that is persisted.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// At most one value for each setting.
    pub(crate) values: Vec<Value>,
    /// Values of sysctl.d that `/etc/provfs.toml` overrides with others.
    pub(crate) overridden: Vec<Value>,
    /// Mistakes, with their files.
    pub(crate) mistakes: Vec<String>,
}

impl Stored {
    /// Reads the files in the order in which they are applied at boot: those of sysctl.d, and then
    /// `/etc/provfs.toml`. A file that cannot be read counts as a mistake.
    pub(crate) fn read(roots: &Roots) -> Self {
        let mut stored = Stored::default();
        for path in sysctl_d::files(roots) {
            match sysctl_d::read_file(&path) {
                Ok((values, mistakes)) => {
                    stored.put(values, &path);
                    let shown = path.display().to_string();
                    let mistakes = mistakes.iter().map(|mistake| mistake.in_file(&shown));
                    stored.mistakes.extend(mistakes);
                }
                Err(error) => stored.mistakes.push(Error::read(path)(error).to_string()),
            }
        }
        let path = roots.toml();
        match read_toml(&path) {
            Ok(Some((_, values))) => {
                for (setting, value) in &values {
                    if let Some(other) = stored.get(setting).cloned() {
                        if !setting.same(&other.value, value) {
                            stored.overridden.push(other);
                        }
                    }
                }
                stored.put(values, &path);
            }
            Ok(None) => {}
            Err(error) => stored.mistakes.push(error.to_string()),
        }
        stored
    }

    /// The value of a setting.
    pub(crate) fn get(&self, setting: &Setting) -> Option<&Value> {
        self.values
            .iter()
            .find(|value| value.setting.name == setting.name)
    }

    /// The mistakes as an error, if there are any.
    pub(crate) fn error(&self) -> Option<Error> {
        (!self.mistakes.is_empty()).then(|| Error::Mistakes(self.mistakes.clone()))
    }

    fn put(&mut self, values: Values, file: &Path) {
        for (setting, value) in values {
            self.values
                .retain(|known| known.setting.name != setting.name);
            self.values.push(Value {
                setting,
                value,
                file: file.to_owned(),
            });
        }
    }
}

/// The text of a file like `/etc/provfs.toml` and what it says; [`None`] if there is no such file.
pub(crate) fn read_toml(path: &Path) -> Result<Option<(String, Values)>, Error> {
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path)(error)),
    };
    let shown = path.display().to_string();
    let wrong = |mistakes: &[Mistake]| {
        let lines = mistakes.iter().map(|mistake| mistake.in_file(&shown));
        Error::Mistakes(lines.collect())
    };
    let text = utf8(bytes).map_err(|mistake| wrong(&[mistake]))?;
    match toml_file::read(&text) {
        Ok(values) => Ok(Some((text, values))),
        Err(mistakes) => Err(wrong(&mistakes)),
    }
}

/// The text of a file, which TOML wants to be UTF-8.
pub(crate) fn utf8(bytes: Vec<u8>) -> Result<String, Mistake> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Mistake::at(error.as_bytes(), at, "this is not UTF-8".to_owned())
    })
}

/// Reads a file that is not longer than any file of settings can be.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?)
}

/// Reads so much, and fails if there is more.
pub(crate) fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            "it is longer than 1 MiB, so it holds no settings",
        ));
    }
    Ok(bytes)
}

/// Replaces a file as a whole: after a crash there is the old one or the new one. A symbolic link
/// stays, and what it leads to is replaced.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = Error::write(&path);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mode = fs::metadata(&path).map_or(0o644, |old| old.permissions().mode() & 0o7777);
    let mut file = NamedTempFile::new_in(folder).map_err(&failed)?;
    file.write_all(content).map_err(&failed)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.as_file().sync_all())
        .map_err(&failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    // The new name is on disk when the folder is.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters() {
        let mistake = |offset| {
            let mistake = Mistake::at("ab\ncé\u{20ac}d".as_bytes(), offset, String::new());
            (mistake.line, mistake.column)
        };
        assert_eq!(mistake(0), (1, 1));
        assert_eq!(mistake(2), (1, 3));
        assert_eq!(mistake(3), (2, 1));
        assert_eq!(mistake(9), (2, 4));
        assert_eq!(mistake(99), (2, 5));
    }

    #[test]
    fn the_toml_file_has_the_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path());
        fs::create_dir_all(roots.at("/etc/sysctl.d")).unwrap();
        fs::write(
            roots.sysctl_d(),
            "provfs.history = 7\nprovfs.enabled = 0\nprovfs.format = keys\n",
        )
        .unwrap();
        fs::write(roots.toml(), "history = 9\nformat = 'keys'\n").unwrap();
        let stored = Stored::read(&roots);
        let value = |name| {
            let value = stored.get(Setting::find(name).unwrap())?;
            Some((value.value.clone(), value.file.clone()))
        };
        assert_eq!(value("history"), Some((b"9".to_vec(), roots.toml())));
        assert_eq!(value("enabled"), Some((b"0".to_vec(), roots.sysctl_d())));
        assert_eq!(value("skip"), None);
        let overridden: Vec<_> = stored
            .overridden
            .iter()
            .map(|value| value.setting.name)
            .collect();
        assert_eq!(overridden, ["history"]);
        assert!(stored.error().is_none());
    }

    #[test]
    fn a_broken_file_is_a_mistake_and_not_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path());
        fs::create_dir_all(roots.at("/etc/sysctl.d")).unwrap();
        fs::write(roots.sysctl_d(), "provfs.history = 7\nprovfs.enabled = x\n").unwrap();
        fs::write(roots.toml(), b"history = 9 # \xff").unwrap();
        let stored = Stored::read(&roots);
        assert_eq!(stored.values.len(), 1);
        assert_eq!(stored.mistakes.len(), 2);
        assert!(
            stored.mistakes[1].ends_with("provfs.toml:1:15: this is not UTF-8"),
            "{:?}",
            stored.mistakes
        );
    }

    #[test]
    fn a_file_is_replaced_and_a_link_to_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);

        replace(&dir.path().join("fresh"), b"new").unwrap();
        let mode = fs::metadata(dir.path().join("fresh"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
        let error = replace(&dir.path().join("none/file"), b"")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("none/file: No such file or directory"),
            "{error}"
        );
    }

    #[test]
    fn what_has_no_end_is_not_read_to_its_end() {
        assert!(bounded(io::repeat(b'x')).is_err());
    }
}
