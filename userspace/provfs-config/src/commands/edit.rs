//! `set`, `add`, `remove`, `reset`, `reload`: changes of the running settings.
//!
//! All go the same way: under the lock, what is to change is worked out from what is in force; then
//! it is checked, made as a whole, and printed.

use std::{ffi::OsString, os::unix::ffi::OsStrExt};

use provfs_cli::exit;
use serde::Serialize;

use super::{difference, named};
use crate::{
    args::How,
    change::{self, Change},
    error::Error,
    kernel::{Kernel, Lock},
    output::{Bytes, Out, bytes},
    roots::Roots,
    rules::{self, RuleList},
    settings::{BadValue, SETTINGS, Setting},
    stored::Stored,
};

/// `set`
pub(super) fn set(
    roots: &Roots,
    out: &mut Out,
    assignments: &[OsString],
    how: How,
) -> Result<u8, Error> {
    let mut wanted: Vec<(&'static Setting, &[u8])> = Vec::new();
    for assignment in assignments {
        let mut parts = assignment.as_bytes().splitn(2, |&byte| byte == b'=');
        let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
        let Some(value) = parts.next() else {
            return Err(Error::NoAssignment(
                assignment.to_string_lossy().into_owned(),
            ));
        };
        let setting =
            Setting::find(name.trim()).ok_or_else(|| Error::Unknown(name.trim().to_owned()))?;
        if wanted.iter().any(|(known, _)| known.name == setting.name) {
            return Err(Error::Twice(setting.name));
        }
        wanted.push((setting, value));
    }
    edit(roots, out, "set", how, |kernel| {
        wanted
            .iter()
            .map(|(setting, value)| change_to(kernel, setting, value))
            .collect()
    })
}

/// `add`
pub(super) fn add(roots: &Roots, out: &mut Out, rules: &[OsString], how: How) -> Result<u8, Error> {
    let skip = skip()?;
    let rules = separate(skip, rules, how)?;
    edit(roots, out, "add", how, |kernel| {
        let before = running(kernel, skip)?;
        let list = rules::add(&before, &rules);
        Ok(vec![Change {
            setting: skip,
            after: list.or_else(|error| unknown_list(skip, error, how, &before, &rules))?,
            before,
        }])
    })
}

/// A list with rules that only a newer kernel knows is still one that can be added to.
fn unknown_list(
    skip: &'static Setting,
    error: provfs::pure::skip::SkipError,
    how: How,
    before: &[u8],
    rules: &[&[u8]],
) -> Result<Vec<u8>, Error> {
    if how.unchecked {
        let added = rules.join(&b',');
        return Ok(if before.trim_ascii().is_empty() {
            added
        } else {
            [before, &added].join(&b',')
        });
    }
    Err(Error::BadValue {
        setting: skip.name,
        why: BadValue::Rules(error, Vec::new()),
    })
}

/// `remove`
pub(super) fn remove(
    roots: &Roots,
    out: &mut Out,
    rules: &[OsString],
    how: How,
) -> Result<u8, Error> {
    let skip = skip()?;
    let rules = separate(skip, rules, how)?;
    let mut missing = None;
    let code = edit(roots, out, "remove", how, |kernel| {
        let before = running(kernel, skip)?;
        match rules::remove(&before, &rules) {
            Ok(Ok(after)) => Ok(vec![Change {
                setting: skip,
                before,
                after,
            }]),
            Ok(Err(rule)) => {
                missing = Some(String::from_utf8_lossy(rule).into_owned());
                Ok(Vec::new())
            }
            Err(error) => Err(Error::BadValue {
                setting: skip.name,
                why: BadValue::Rules(error, Vec::new()),
            }),
        }
    })?;
    match missing {
        None => Ok(code),
        Some(rule) => {
            crate::say(&format!(
                "nothing was changed: {rule:?} is not in the skip list; 'provfs-config get skip' shows it"
            ));
            Ok(exit::NOTHING)
        }
    }
}

/// `reset`
pub(super) fn reset(roots: &Roots, out: &mut Out, names: &[String], how: How) -> Result<u8, Error> {
    let wanted = named(names)?;
    edit(roots, out, "reset", how, |kernel| {
        if wanted.is_empty() {
            let all = kernel.all()?.into_iter();
            return Ok(all
                .map(|(setting, before)| Change {
                    setting,
                    before,
                    after: setting.default.to_vec(),
                })
                .collect());
        }
        let mut changes = Vec::new();
        for setting in &wanted {
            changes.push(change_to(kernel, setting, setting.default)?);
        }
        Ok(changes)
    })
}

/// `reload`
pub(super) fn reload(roots: &Roots, out: &mut Out, how: How) -> Result<u8, Error> {
    let stored = Stored::read(roots);
    if let Some(error) = stored.error() {
        return Err(error);
    }
    let mut lacking = None;
    let code = edit(roots, out, "reload", how, |kernel| {
        let mut changes = Vec::new();
        for value in &stored.values {
            match kernel.get(value.setting)? {
                Some(before) => changes.push(Change {
                    setting: value.setting,
                    before,
                    after: value.value.clone(),
                }),
                // Without the setting, the kernel does what the default says.
                None if value.setting.same(&value.value, value.setting.default) => {}
                None => lacking = Some(value.setting.name),
            }
        }
        Ok(changes)
    })?;
    if let Some(name) = lacking {
        return Err(Error::NotInKernel(name));
    }
    if stored.values.is_empty() {
        crate::say(
            "nothing is persisted, so nothing was applied; 'provfs-config persist' keeps what is running",
        );
        return Ok(exit::NOTHING);
    }
    Ok(code)
}

/// A change, for programs.
#[derive(Serialize)]
struct Changed {
    name: &'static str,
    #[serde(flatten)]
    before: Bytes,
    #[serde(flatten)]
    after: Bytes,
}

/// The document of a change.
#[derive(Serialize)]
struct Changes {
    dry_run: bool,
    changes: Vec<Changed>,
}

/// Prints changes.
pub(super) fn report(out: &mut Out, command: &'static str, dry_run: bool, changes: &[Change]) {
    let would = if dry_run { "would change " } else { "" };
    for change in changes {
        let name = change.setting.name;
        let lines = if change.is_one() {
            difference(change.setting, &change.before, &change.after)
        } else {
            // It is kept for the next boot, and is what it would be anyway.
            vec!["the default".to_owned()]
        };
        for line in lines {
            out.line(format!("{would}provfs.{name}: {line}"));
        }
    }
    if changes.is_empty() {
        out.line("nothing to change");
    }
    let changed = |change: &Change| Changed {
        name: change.setting.name,
        before: bytes!("before", Some(&change.before)),
        after: bytes!("after", Some(&change.after)),
    };
    out.document(
        command,
        Changes {
            dry_run,
            changes: changes.iter().map(changed).collect(),
        },
    );
}

/// Makes the changes that `plan` works out.
fn edit(
    roots: &Roots,
    out: &mut Out,
    command: &'static str,
    how: How,
    plan: impl FnOnce(&Kernel<'_>) -> Result<Vec<Change>, Error>,
) -> Result<u8, Error> {
    let kernel = Kernel::running(roots)?;
    let lock = (!how.dry_run).then(|| Lock::take(roots)).transpose()?;
    let mut changes = plan(&kernel)?;
    changes.retain(Change::is_one);
    if !how.unchecked {
        for change in &changes {
            let setting = change.setting;
            setting
                .check(&change.after)
                .map_err(|why| Error::BadValue {
                    setting: setting.name,
                    why,
                })?;
        }
    }
    if !how.dry_run {
        change::apply(&kernel, &changes)?;
    }
    drop(lock);
    report(out, command, how.dry_run, &changes);
    Ok(exit::OK)
}

/// The change of a setting to a value.
fn change_to(
    kernel: &Kernel<'_>,
    setting: &'static Setting,
    value: &[u8],
) -> Result<Change, Error> {
    Ok(Change {
        setting,
        before: running(kernel, setting)?,
        after: value.to_vec(),
    })
}

/// The value of a setting that has to be there.
fn running(kernel: &Kernel<'_>, setting: &'static Setting) -> Result<Vec<u8>, Error> {
    kernel.get(setting)?.ok_or(Error::NotInKernel(setting.name))
}

fn skip() -> Result<&'static Setting, Error> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == "skip")
        .ok_or_else(|| Error::Unknown("skip".to_owned()))
}

/// The rules on the command line. One argument may hold several, as a list does.
fn separate<'a>(
    skip: &'static Setting,
    rules: &'a [OsString],
    how: How,
) -> Result<Vec<&'a [u8]>, Error> {
    let mut separate = Vec::new();
    for rule in rules {
        let rule = rule.as_bytes();
        let checked = skip.check(rule).map_err(|why| Error::BadValue {
            setting: skip.name,
            why,
        });
        match checked {
            Err(_) if how.unchecked => separate.push(rule),
            Err(error) => return Err(error),
            Ok(()) => separate.extend(RuleList::sources(rule).unwrap_or_default()),
        }
    }
    Ok(separate)
}
