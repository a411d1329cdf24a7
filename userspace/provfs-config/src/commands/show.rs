//! `get`, `list`, `diff`: what the settings are.

use provfs_cli::exit;
use serde::Serialize;

use super::{difference, named};
use crate::{
    error::Error,
    kernel::Kernel,
    output::{Bytes, Out, bytes, counted, table},
    roots::Roots,
    settings::{Kind, SETTINGS, Setting},
    stored::Stored,
};

/// A setting of the running kernel, for programs.
#[derive(Serialize)]
struct Got {
    name: &'static str,
    in_kernel: bool,
    #[serde(flatten)]
    value: Bytes,
}

/// `get`
pub(super) fn get(roots: &Roots, out: &mut Out, names: &[String]) -> Result<u8, Error> {
    let wanted = named(names)?;
    let kernel = Kernel::running(roots)?;
    let all = wanted.is_empty();
    let wanted: Vec<&Setting> = if all {
        SETTINGS.iter().collect()
    } else {
        wanted
    };
    let mut documents = Vec::new();
    let mut code = exit::OK;
    for setting in &wanted {
        let value = kernel.get(setting)?;
        match &value {
            Some(value) if wanted.len() == 1 => out.line(value),
            Some(value) => out.line([setting.name.as_bytes(), b" = ", value].concat()),
            None if all => {}
            None => {
                code = exit::NOTHING;
                crate::say(&Error::NotInKernel(setting.name).to_string());
            }
        }
        if value.is_some() || !all {
            documents.push(Got {
                name: setting.name,
                in_kernel: value.is_some(),
                value: bytes!("value", value.as_deref()),
            });
        }
    }
    #[derive(Serialize)]
    struct Settings {
        settings: Vec<Got>,
    }
    out.document(
        "get",
        Settings {
            settings: documents,
        },
    );
    Ok(code)
}

/// A setting with its three values, for programs.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    in_kernel: bool,
    #[serde(flatten)]
    running: Bytes,
    #[serde(flatten)]
    default: Bytes,
    #[serde(flatten)]
    persisted: Bytes,
    #[serde(flatten)]
    persisted_in: Bytes,
}

/// Documents of `list` and `diff`.
#[derive(Serialize)]
struct Settings {
    settings: Vec<Listed>,
}

fn listed(setting: &'static Setting, running: Option<&[u8]>, stored: &Stored) -> Listed {
    let persisted = stored.get(setting);
    let file = persisted.map(|value| value.file.as_os_str().as_encoded_bytes());
    Listed {
        name: setting.name,
        in_kernel: running.is_some(),
        running: bytes!("running", running),
        default: bytes!("default", Some(setting.default)),
        persisted: bytes!("persisted", persisted.map(|value| &*value.value)),
        persisted_in: bytes!("persisted_in", file),
    }
}

/// `list`
pub(super) fn list(roots: &Roots, out: &mut Out) -> Result<u8, Error> {
    let kernel = Kernel::running(roots);
    let stored = Stored::read(roots);
    let mut rows = vec![
        ["setting", "running", "default", "persisted"]
            .map(String::from)
            .to_vec(),
    ];
    let mut documents = Vec::new();
    for setting in &SETTINGS {
        let running = match &kernel {
            Ok(kernel) => kernel.get(setting)?,
            Err(_) => None,
        };
        let persisted = stored.get(setting).map(|value| &*value.value);
        let shown = match (&running, &kernel) {
            (Some(value), _) => cell(setting, value),
            (None, Ok(_)) => "not in this kernel".to_owned(),
            (None, Err(_)) => "-".to_owned(),
        };
        let kept = persisted.map_or_else(|| "-".to_owned(), |value| cell(setting, value));
        rows.push(vec![
            setting.name.to_owned(),
            shown,
            cell(setting, setting.default),
            kept,
        ]);
        if setting.is_list() {
            let sides = [("running", running.as_deref()), ("persisted", persisted)];
            for (side, value) in sides
                .into_iter()
                .filter_map(|(side, value)| Some((side, value?)))
            {
                for line in difference(setting, setting.default, value) {
                    rows.push(vec![format!("  {side} {line}")]);
                }
            }
        }
        documents.push(listed(setting, running.as_deref(), &stored));
    }
    // What differs from the default stands below its setting, and is no column.
    let (settings, below): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .enumerate()
        .partition(|(_, row)| row.len() > 1);
    let order: Vec<_> = settings.iter().map(|(at, _)| *at).collect();
    let settings: Vec<_> = settings.into_iter().map(|(_, row)| row).collect();
    let mut lines: Vec<_> = order.into_iter().zip(table(&settings)).collect();
    lines.extend(below.into_iter().map(|(at, row)| (at, row.concat())));
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().for_each(|(_, line)| out.line(line));
    out.document(
        "list",
        Settings {
            settings: documents,
        },
    );
    kernel?;
    stored.error().map_or(Ok(exit::OK), Err)
}

/// A value in a few words.
fn cell(setting: &Setting, value: &[u8]) -> String {
    let count = setting.items(value).len();
    match setting.kind {
        Kind::Rules | Kind::Names if setting.same(value, setting.default) => "default".to_owned(),
        Kind::Rules => counted(count, "rule"),
        Kind::Names => counted(count, "name"),
        _ => String::from_utf8_lossy(value).trim().to_owned(),
    }
}

/// `diff`: the running settings, and those that hold after the next boot.
pub(super) fn diff(roots: &Roots, out: &mut Out) -> Result<u8, Error> {
    let kernel = Kernel::running(roots)?;
    let stored = Stored::read(roots);
    let mut documents = Vec::new();
    for (setting, running) in kernel.all()? {
        let (next, from) = match stored.get(setting) {
            Some(value) => (&*value.value, value.file.display().to_string()),
            None => (
                setting.default,
                "the default, since it is not persisted".to_owned(),
            ),
        };
        if setting.same(&running, next) {
            continue;
        }
        out.line(format!(
            "provfs.{}: running, and after the next boot ({from}):",
            setting.name
        ));
        for line in difference(setting, &running, next) {
            out.line(format!("  {line}"));
        }
        documents.push(listed(setting, Some(&running), &stored));
    }
    let code = if documents.is_empty() {
        exit::OK
    } else {
        exit::NOTHING
    };
    if code == exit::OK {
        out.line("nothing differs between the running settings and those of the next boot");
    }
    out.document(
        "diff",
        Settings {
            settings: documents,
        },
    );
    stored.error().map_or(Ok(code), Err)
}
