//! Changes of running settings: all of them are made, or none.

use std::{fmt, io};

use rustix::io::Errno;

use crate::{error::advice, kernel::Sysctls, settings::Setting};

/// What a setting is to become.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Which one.
    pub(crate) setting: &'static Setting,
    /// Its value before.
    pub(crate) before: Vec<u8>,
    /// Its value afterwards.
    pub(crate) after: Vec<u8>,
}

impl Change {
    /// Whether it changes what the value means.
    pub(crate) fn is_one(&self) -> bool {
        !self.setting.same(&self.before, &self.after)
    }
}

/// The kernel refused a value.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Of which setting.
    setting: &'static str,
    /// The error of the system call.
    source: io::Error,
    /// What the kernel said about it.
    log: Vec<String>,
    /// Settings that were changed before, and could not be set back.
    stuck: Vec<(&'static str, io::Error)>,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.setting;
        write!(
            f,
            "the kernel refused the value of provfs.{name}: {}",
            self.source
        )?;
        for line in &self.log {
            write!(f, ": {line}")?;
        }
        if self.stuck.is_empty() {
            write!(f, "; nothing was changed")?;
        }
        for (name, error) in &self.stuck {
            write!(
                f,
                "; provfs.{name} was changed before that and cannot be set back: {error}"
            )?;
        }
        if self.log.is_empty() {
            f.write_str(match Errno::from_io_error(&self.source) {
                Some(Errno::INVAL) => "; the kernel log (dmesg) says why",
                _ => advice(&self.source),
            })?;
        }
        Ok(())
    }
}

/// Makes changes in order. When the kernel refuses one, those before it are taken back.
pub(crate) fn apply(kernel: &dyn Sysctls, changes: &[Change]) -> Result<(), Refusal> {
    for (index, change) in changes.iter().enumerate() {
        let log = kernel.log();
        let Err(source) = kernel.write(change.setting.name, &change.after) else {
            continue;
        };
        let log = log.map(|log| log.of_provfs()).unwrap_or_default();
        let done = changes.get(..index).unwrap_or_default();
        let stuck = done.iter().rev().filter_map(|done| {
            let name = done.setting.name;
            let error = kernel.write(name, &done.before).err()?;
            Some((name, error))
        });
        return Err(Refusal {
            setting: change.setting.name,
            source,
            log,
            stuck: stuck.collect(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use super::*;
    use crate::kernel_log::KernelLog;

    /// A kernel that refuses what it is told to refuse.
    #[derive(Default)]
    struct Fake {
        values: RefCell<BTreeMap<String, Vec<u8>>>,
        refuses: Vec<(&'static str, &'static [u8], Errno)>,
    }

    impl Sysctls for Fake {
        fn read(&self, name: &str) -> io::Result<Vec<u8>> {
            Ok(self.values.borrow().get(name).cloned().unwrap_or_default())
        }

        fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
            if let Some((.., errno)) = self
                .refuses
                .iter()
                .find(|(refused, bad, _)| *refused == name && *bad == value)
            {
                return Err((*errno).into());
            }
            self.values.borrow_mut().insert(name.into(), value.into());
            Ok(())
        }

        fn log(&self) -> Option<KernelLog> {
            None
        }
    }

    fn change(name: &str, before: &str, after: &str) -> Change {
        Change {
            setting: Setting::find(name).unwrap(),
            before: before.into(),
            after: after.into(),
        }
    }

    fn changes(kernel: &Fake) -> Vec<Change> {
        let changes = vec![
            change("enabled", "1", "0"),
            change("skip", "/a", "/b"),
            change("history", "5", "6"),
        ];
        for change in &changes {
            kernel.write(change.setting.name, &change.before).unwrap();
        }
        changes
    }

    #[test]
    fn all_changes_are_made() {
        let kernel = Fake::default();
        apply(&kernel, &changes(&kernel)).unwrap();
        assert_eq!(kernel.read("enabled").unwrap(), b"0");
        assert_eq!(kernel.read("skip").unwrap(), b"/b");
        assert_eq!(kernel.read("history").unwrap(), b"6");
    }

    #[test]
    fn a_refused_change_takes_the_others_back() {
        let kernel = Fake {
            refuses: vec![("history", b"6", Errno::INVAL)],
            ..Fake::default()
        };
        let error = apply(&kernel, &changes(&kernel)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel refused the value of provfs.history: Invalid argument (os error 22); nothing was changed; the \
            kernel log (dmesg) says why"
        );
        assert_eq!(kernel.read("enabled").unwrap(), b"1");
        assert_eq!(kernel.read("skip").unwrap(), b"/a");
        assert_eq!(kernel.read("history").unwrap(), b"5");
    }

    #[test]
    fn what_cannot_be_taken_back_is_named() {
        let kernel = Fake {
            refuses: vec![
                ("history", b"6", Errno::PERM),
                ("skip", b"/a", Errno::NOMEM),
            ],
            ..Fake::default()
        };
        kernel
            .values
            .borrow_mut()
            .insert("skip".into(), b"/a".to_vec());
        let changes = [
            change("enabled", "1", "0"),
            change("skip", "/a", "/b"),
            change("history", "5", "6"),
        ];
        let error = apply(&kernel, &changes).unwrap_err().to_string();
        assert!(
            error.contains("; provfs.skip was changed before that and cannot be set back: Cannot allocate memory"),
            "{error}"
        );
        assert!(!error.contains("nothing was changed"), "{error}");
        assert_eq!(kernel.read("enabled").unwrap(), b"1");
    }
}
