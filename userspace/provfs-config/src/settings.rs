//! The settings that a kernel with provfs may have: names, defaults, and what their values can be.
//!
//! A value is kept as the text that the kernel shows and takes. Lists are compared by what is in
//! them, so that blanks and separators make no difference.

use provfs::pure::{
    environ::{Kind as Declared, NameList, NameListError},
    limits::HISTORY_MAX,
    skip::{self, SkipError},
    text::parse_u32,
};

use crate::rules::RuleList;

/// What the values of a setting are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `0` or `1`.
    Switch,
    /// A number from 0 to this one.
    Number(u32),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Skip rules.
    Rules,
    /// Names of environment variables.
    Names,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its file in `/proc/sys/provfs`.
    pub(crate) name: &'static str,
    /// What its values are.
    pub(crate) kind: Kind,
    /// Its value at boot.
    pub(crate) default: &'static [u8],
}

/// A day in milliseconds, the most that `ts_granularity_ms` can be.
const DAY_MS: u32 = 24 * 60 * 60 * 1000;

const fn setting(name: &'static str, kind: Kind, default: &'static [u8]) -> Setting {
    Setting {
        name,
        kind,
        default,
    }
}

/// All settings, in the order in which they are listed and applied.
pub(crate) static SETTINGS: [Setting; 11] = [
    setting("enabled", Kind::Switch, b"1"),
    setting("skip", Kind::Rules, skip::DEFAULT),
    setting("format", Kind::Word(&["keys", "packed"]), b"keys"),
    // CAST: It is a small number.
    setting("history", Kind::Number(HISTORY_MAX as u32), b"5"),
    setting("ts_granularity_ms", Kind::Number(DAY_MS), b"1000"),
    setting("protect", Kind::Switch, b"0"),
    setting("kthreads", Kind::Switch, b"0"),
    setting(
        "env_session",
        Kind::Names,
        Declared::Session.default_names(),
    ),
    setting("env_tool", Kind::Names, Declared::Tool.default_names()),
    setting("env_turn", Kind::Names, Declared::Turn.default_names()),
    setting("env_intent", Kind::Names, Declared::Intent.default_names()),
];

/// A value that the setting cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    /// Not `0` or `1`.
    #[error("write 1 for on or 0 for off")]
    Switch,
    /// Not a number, or one that is too large.
    #[error("write a whole number from 0 to {0}")]
    Number(u32),
    /// None of the words.
    #[error("write one of: {}", .0.join(", "))]
    Word(&'static [&'static str]),
    /// A mistake in a skip list.
    #[error("{0}{near}", near = near(.1))]
    Rules(SkipError, Vec<u8>),
    /// A mistake in a list of names.
    #[error("{0}")]
    Names(NameListError),
    /// The kernel takes a value as one text.
    #[error("a value cannot hold a NUL byte")]
    Nul,
}

/// Shows the place of a mistake.
fn near(text: &[u8]) -> String {
    match text {
        [] => String::new(),
        text => format!(", at \"{}\"", text.escape_ascii()),
    }
}

/// So much of a list is shown after a mistake in it.
const NEAR: usize = 32;

impl Setting {
    /// Finds a setting by its name, with or without `provfs.` before it.
    pub(crate) fn find(name: &str) -> Option<&'static Setting> {
        let name = name.strip_prefix("provfs.").unwrap_or(name);
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Checks a value as the kernel does.
    pub(crate) fn check(&self, value: &[u8]) -> Result<(), BadValue> {
        let number = parse_u32(value.trim_ascii());
        let fits = |max| number.is_some_and(|number| number <= max);
        match self.kind {
            Kind::Switch if fits(1) => Ok(()),
            Kind::Switch => Err(BadValue::Switch),
            Kind::Number(max) if fits(max) => Ok(()),
            Kind::Number(max) => Err(BadValue::Number(max)),
            Kind::Word(words)
                if words
                    .iter()
                    .any(|word| word.as_bytes() == value.trim_ascii()) =>
            {
                Ok(())
            }
            Kind::Word(words) => Err(BadValue::Word(words)),
            Kind::Rules => match RuleList::parse(value) {
                Ok(_) => Ok(()),
                Err(error) => {
                    let rest = value.get(error.offset..).unwrap_or_default();
                    let near = rest.get(..NEAR).unwrap_or(rest).to_vec();
                    Err(BadValue::Rules(error, near))
                }
            },
            Kind::Names => NameList::parse(value).map(drop).map_err(BadValue::Names),
        }
    }

    /// Whether two values mean the same.
    pub(crate) fn same(&self, one: &[u8], other: &[u8]) -> bool {
        self.items(one) == self.items(other)
    }

    /// A value in its parts: the rules or names of a list, or the whole.
    pub(crate) fn items<'v>(&self, value: &'v [u8]) -> Vec<&'v [u8]> {
        match self.kind {
            Kind::Rules => match RuleList::sources(value) {
                Ok(sources) => sources,
                Err(_) => vec![value],
            },
            Kind::Names => match NameList::parse(value) {
                Ok(names) => names.iter().collect(),
                Err(_) => vec![value],
            },
            _ => vec![value.trim_ascii()],
        }
    }

    /// Puts the parts of a value together again.
    pub(crate) fn join(&self, items: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let separator: &[u8] = match self.kind {
            Kind::Names => b" ",
            _ => b",",
        };
        let mut value = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                value.extend_from_slice(separator);
            }
            value.extend_from_slice(item.as_ref());
        }
        value
    }

    /// Whether a value has parts.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Rules | Kind::Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> &'static Setting {
        Setting::find(name).unwrap()
    }

    #[test]
    fn defaults_are_good_values_and_equal_to_themselves() {
        for setting in &SETTINGS {
            assert_eq!(setting.check(setting.default), Ok(()), "{}", setting.name);
            let joined = setting.join(&setting.items(setting.default));
            assert!(setting.same(&joined, setting.default), "{}", setting.name);
            assert!(std::ptr::eq(
                find(&format!("provfs.{}", setting.name)),
                setting
            ));
        }
        assert!(Setting::find("skips").is_none());
    }

    #[test]
    fn values_are_judged_as_the_kernel_judges_them() {
        let good: &[(&str, &[u8])] = &[
            ("enabled", b"1\n"),
            ("enabled", b" 0 "),
            ("ts_granularity_ms", b"86400000"),
            ("format", b"packed"),
            ("history", b"32"),
            ("env_tool", b""),
            ("skip", b""),
        ];
        for (name, value) in good {
            assert_eq!(find(name).check(value), Ok(()), "{name}={value:?}");
        }
        let bad: &[(&str, &[u8], &str)] = &[
            ("enabled", b"2", "write 1 for on or 0 for off"),
            ("enabled", b"", "write 1 for on or 0 for off"),
            ("history", b"33", "write a whole number from 0 to 32"),
            ("format", b"Keys", "write one of: keys, packed"),
            (
                "skip",
                b"/a,/b//c,/d",
                "rule 2, byte 6: '//' has nothing between the slashes, at \"/c,/d\"",
            ),
            (
                "env_turn",
                b"A 1B",
                "byte 2 cannot be part of a name: letters, digits and _, no digit first",
            ),
        ];
        for (name, value, why) in bad {
            let error = find(name).check(value).unwrap_err();
            assert_eq!(error.to_string(), *why, "{name}");
        }
    }

    #[test]
    fn lists_are_equal_when_their_items_are() {
        assert!(find("skip").same(b"/a, /b/\n", b"/a,/b"));
        assert!(!find("skip").same(b"/b,/a", b"/a,/b"));
        assert!(find("env_turn").same(b"A,B", b" A\tB "));
        assert!(find("enabled").same(b"1\n", b"1"));
        // What cannot be read is still compared.
        assert!(!find("skip").same(b"fs:", b"uid:x"));
    }
}
