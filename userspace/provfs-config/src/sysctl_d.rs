//! Settings of provfs in files of `sysctl.d(5)`: those that this program writes, and those that
//! somebody else did.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    error::Error,
    roots::Roots,
    settings::Setting,
    stored::{self, Mistake},
    toml_file::Values,
};

/// Where such files are, best first: of two with one name, the first counts.
const FOLDERS: [&str; 4] = [
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
];

/// Reads the settings of provfs in such a file; a later line replaces an earlier one.
pub(crate) fn read(text: &[u8]) -> (Values, Vec<Mistake>) {
    let mut values: Values = Vec::new();
    let mut mistakes = Vec::new();
    let mut at = 0;
    for line in text.split(|&byte| byte == b'\n') {
        let start = at;
        at += line.len() + 1;
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        let mut parts = line.splitn(2, |&byte| byte == b'=');
        let key = parts.next().unwrap_or_default().trim_ascii();
        // A dash before the key means that it does not matter whether it can be set.
        let key = key.strip_prefix(b"-").unwrap_or(key);
        let Some(name) = key
            .strip_prefix(b"provfs.")
            .or_else(|| key.strip_prefix(b"provfs/"))
        else {
            continue;
        };
        let mut bad = |why: String| mistakes.push(Mistake::at(text, start, why));
        let name = String::from_utf8_lossy(name);
        let (Some(setting), Some(value)) = (Setting::find(&name), parts.next()) else {
            bad(format!("provfs.{name} is no setting, or has no value"));
            continue;
        };
        let value = value.trim_ascii();
        if let Err(why) = setting.check(value) {
            bad(format!("provfs.{name}: {why}"));
            continue;
        }
        values.retain(|(known, _)| known.name != setting.name);
        values.push((setting, value.to_vec()));
    }
    (values, mistakes)
}

/// Writes such a file.
pub(crate) fn write(values: &Values) -> Result<Vec<u8>, Error> {
    let mut text =
        b"# Written by 'provfs-config persist --sysctl-d': see provfs-config(1).\n".to_vec();
    for (setting, value) in values {
        let mut line = setting.join(&setting.items(value));
        // A rule may begin or end with a blank that is escaped; the line must not.
        if line.ends_with(b" ") || line.ends_with(b"\t") {
            line.push(b',');
        }
        if line.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Err(Error::NotStorable {
                setting: setting.name,
                file: "sysctl.d".to_owned(),
                why: "a rule has the end of a line in it; leave out --sysctl-d",
            });
        }
        text.extend_from_slice(format!("provfs.{} = ", setting.name).as_bytes());
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    Ok(text)
}

/// All such files of the system, in the order in which they are applied at boot.
pub(crate) fn files(roots: &Roots) -> Vec<PathBuf> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        // A folder that is not there, or not readable, holds nothing that could be told.
        let Ok(entries) = fs::read_dir(roots.at(folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "conf")
            {
                files.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    files.into_values().collect()
}

/// Reads one file of the system.
pub(crate) fn read_file(path: &Path) -> io::Result<(Values, Vec<Mistake>)> {
    Ok(read(&stored::read_bounded(path)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_settings_of_provfs_count_and_the_last_one_does() {
        let (values, mistakes) = read(
            b"# provfs.enabled=0\nkernel.panic = 1\nprovfs.skip= /a , *.o \n-provfs/enabled = 0\nprovfs.skip=/b\n\
            provfs.none=1\n;\n  provfs.history = 99\nprovfs.protect\n",
        );
        let values: Vec<_> = values
            .iter()
            .map(|(setting, value)| (setting.name, String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(values, [("enabled", "0".into()), ("skip", "/b".into())]);
        let mistakes: Vec<_> = mistakes
            .iter()
            .map(|mistake| mistake.in_file("f"))
            .collect();
        assert_eq!(
            mistakes,
            [
                "f:6:1: provfs.none is no setting, or has no value",
                "f:8:1: provfs.history: write a whole number from 0 to 32",
                "f:9:1: provfs.protect is no setting, or has no value",
            ]
        );
    }

    #[test]
    fn a_file_of_a_better_folder_hides_one_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path());
        for path in [
            "/usr/lib/sysctl.d/50-a.conf",
            "/etc/sysctl.d/50-a.conf",
            "/usr/lib/sysctl.d/40-b.conf",
            "/etc/sysctl.d/readme",
        ] {
            fs::create_dir_all(roots.at(path).parent().unwrap()).unwrap();
            fs::write(roots.at(path), "").unwrap();
        }
        assert_eq!(
            files(&roots),
            [
                roots.at("/usr/lib/sysctl.d/40-b.conf"),
                roots.at("/etc/sysctl.d/50-a.conf")
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text: Vec<u8>) {
            let _ = read(&text);
        }

        #[test]
        fn what_is_written_is_read(text in "provfs.skip = [/a-b!*, \\\\]{0,20}\n") {
            let (values, _) = read(text.as_bytes());
            if let Ok(written) = write(&values) {
                let (again, mistakes) = read(&written);
                prop_assert!(mistakes.is_empty(), "{:?}", mistakes);
                prop_assert_eq!(values.len(), again.len());
                for ((setting, one), (_, other)) in values.iter().zip(&again) {
                    prop_assert!(setting.same(one, other), "{:?} {:?}", values, again);
                }
            }
        }
    }
}
