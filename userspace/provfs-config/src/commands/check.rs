//! `check`: is a file of rules or settings right?

use std::{io::stdin, path::Path};

use provfs_cli::exit;
use serde::Serialize;

use crate::{
    error::Error,
    output::{Bytes, Out, bytes, counted},
    place,
    rules::{self, Idle, RuleList},
    settings::{BadValue, Setting},
    stored::{self, Mistake},
    sysctl_d,
    toml_file::{self, Values},
};

/// Does it.
pub(super) fn run(out: &mut Out, file: &Path) -> Result<u8, Error> {
    let shown = name(file);
    let (values, mistakes) = read(file)?;
    for mistake in &mistakes {
        out.line(mistake.in_file(&shown));
    }
    let hints: Vec<String> = values
        .iter()
        .filter(|(setting, _)| setting.name == "skip")
        .filter_map(|(_, value)| RuleList::parse(value).ok())
        .flat_map(|list| idle_rules(&list))
        .collect();
    for hint in &hints {
        out.line(format!("{shown}: {hint}"));
    }
    if mistakes.is_empty() {
        let what = match &*values {
            [(setting, value)] if Form::of(file) == Form::Rules => {
                counted(setting.items(value).len(), "rule")
            }
            values => counted(values.len(), "setting"),
        };
        out.line(format!("{shown}: right, {what}"));
    }
    let ok = mistakes.is_empty();
    let mistake = |mistake: &Mistake| MistakeDocument {
        line: mistake.line,
        column: mistake.column,
        message: mistake.what.clone(),
    };
    out.document(
        "check",
        Document {
            file: bytes!("file", Some(place::bytes(file))),
            ok,
            mistakes: mistakes.iter().map(mistake).collect(),
            hints,
        },
    );
    Ok(if ok { exit::OK } else { exit::NOTHING })
}

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Toml,
    SysctlD,
    Rules,
}

impl Form {
    fn of(file: &Path) -> Self {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Form::Toml,
            Some("conf") => Form::SysctlD,
            _ => Form::Rules,
        }
    }
}

/// The rules that a file says are to be in force.
pub(super) fn rules_of(file: &Path) -> Result<RuleList, Error> {
    let (values, mistakes) = read(file)?;
    if !mistakes.is_empty() {
        let shown = name(file);
        let lines = mistakes.iter().map(|mistake| mistake.in_file(&shown));
        return Err(Error::Mistakes(lines.collect()));
    }
    let skip = Setting::find("skip").ok_or(Error::NotInKernel("skip"))?;
    // Of a file that does not say, the default is what holds.
    let value = values.iter().find(|(setting, _)| setting.name == skip.name);
    let text = value.map_or(skip.default, |(_, value)| value);
    RuleList::parse(text).map_err(|error| Error::BadValue {
        setting: skip.name,
        why: BadValue::Rules(error, Vec::new()),
    })
}

/// What a file says, and what is wrong with it.
fn read(file: &Path) -> Result<(Values, Vec<Mistake>), Error> {
    let bytes = if file == Path::new("-") {
        stored::bounded(stdin().lock())
    } else {
        stored::read_bounded(file)
    };
    let bytes = bytes.map_err(Error::read(file))?;
    Ok(match Form::of(file) {
        Form::Toml => match stored::utf8(bytes) {
            Ok(text) => match toml_file::read(&text) {
                Ok(values) => (values, Vec::new()),
                Err(mistakes) => (Values::new(), mistakes),
            },
            Err(mistake) => (Values::new(), vec![mistake]),
        },
        Form::SysctlD => sysctl_d::read(&bytes),
        Form::Rules => match (RuleList::parse(&bytes), Setting::find("skip")) {
            (Ok(_), Some(skip)) => (vec![(skip, bytes)], Vec::new()),
            (Err(error), _) => (
                Values::new(),
                vec![Mistake::at(&bytes, error.offset, error.kind.to_string())],
            ),
            (Ok(_), None) => (Values::new(), Vec::new()),
        },
    })
}

fn name(file: &Path) -> String {
    file.display().to_string()
}

/// What there is to say about rules that make no difference.
pub(super) fn idle_rules(list: &RuleList) -> Vec<String> {
    let shown = |rule: usize| {
        format!(
            "rule {}, {}",
            rule + 1,
            String::from_utf8_lossy(list.source(rule))
        )
    };
    let say = |idle: Idle| match idle {
        Idle::Shadowed { rule, by } => format!(
            "{} has no effect: {} comes later and matches all that it matches",
            shown(rule),
            shown(by)
        ),
        Idle::Repeats { rule, earlier } => {
            format!(
                "{} has no effect: {} says it already",
                shown(rule),
                shown(earlier)
            )
        }
        Idle::NothingBefore { rule } => {
            format!(
                "{} has no effect: no rule before it skips anything",
                shown(rule)
            )
        }
    };
    rules::idle(list).into_iter().map(say).collect()
}

/// The document of `check`.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    file: Bytes,
    ok: bool,
    mistakes: Vec<MistakeDocument>,
    hints: Vec<String>,
}

#[derive(Serialize)]
struct MistakeDocument {
    line: usize,
    column: usize,
    message: String,
}
