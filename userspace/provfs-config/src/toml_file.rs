//! `/etc/provfs.toml`: one key for each setting, and no others. What this writes into such a file
//! leaves its comments, its order and everything that did not change as it was.

use std::ops::Range;

use toml_edit::{Array, Document, DocumentMut, Item, Value};

use crate::{
    error::Error,
    settings::{Kind, SETTINGS, Setting},
    stored::Mistake,
    toml_array::{lines, merge},
};

/// What a new file begins with.
const HEADER: &str = "\
# Settings of provfs for the next boot: see provfs-config(1).
# provfs-config.service applies them with 'provfs-config reload'.

";

/// Settings and their values.
pub(crate) type Values = Vec<(&'static Setting, Vec<u8>)>;

/// Reads such a file. All mistakes are found, not only the first one; but for those of TOML
/// itself, after which nothing is sure.
pub(crate) fn read(text: &str) -> Result<Values, Vec<Mistake>> {
    let document = Document::parse(text).map_err(|error| {
        vec![Mistake::at(
            text.as_bytes(),
            error.span().map_or(0, |span| span.start),
            error.message().trim().replace('\n', ", "),
        )]
    })?;
    let mut values = Vec::new();
    let mut mistakes = Vec::new();
    let table = document.as_table();
    for (key, item) in table.iter() {
        let place = |span: Option<Range<usize>>| span.map(|span| span.start);
        let key_at = table
            .key(key)
            .and_then(|key| place(key.span()))
            .unwrap_or(0);
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) else {
            let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
            let what = format!(
                "there is no setting {key:?}; known are {}",
                names.join(", ")
            );
            mistakes.push(Mistake::at(text.as_bytes(), key_at, what));
            continue;
        };
        match value(setting, item) {
            Ok(value) => values.push((setting, value)),
            Err((at, why)) => mistakes.push(Mistake::at(
                text.as_bytes(),
                place(at).or(place(item.span())).unwrap_or(key_at),
                format!("{key}: {why}"),
            )),
        }
    }
    if mistakes.is_empty() {
        Ok(values)
    } else {
        Err(mistakes)
    }
}

/// A mistake, and where it is if that is not the item as a whole.
type Bad = (Option<Range<usize>>, String);

/// The kernel's form of a value.
fn value(setting: &Setting, item: &Item) -> Result<Vec<u8>, Bad> {
    let whole = |why: String| (None, why);
    let value = match (setting.kind, item) {
        (Kind::Switch, Item::Value(Value::Boolean(on))) => {
            u8::from(*on.value()).to_string().into_bytes()
        }
        (Kind::Switch | Kind::Number(_), Item::Value(Value::Integer(number))) => {
            number.value().to_string().into_bytes()
        }
        (Kind::Switch, _) => return Err(whole("write true or false".into())),
        (Kind::Word(_) | Kind::Rules | Kind::Names, Item::Value(Value::String(text))) => {
            text.value().clone().into_bytes()
        }
        (Kind::Rules | Kind::Names, Item::Value(Value::Array(array))) => list(setting, array)?,
        (Kind::Rules | Kind::Names, _) => {
            return Err(whole("write an array of strings".into()));
        }
        (Kind::Number(max), _) => {
            return Err(whole(format!("write a whole number from 0 to {max}")));
        }
        (Kind::Word(words), _) => {
            return Err(whole(format!("write one of: {}", words.join(", "))));
        }
    };
    if value.contains(&0) {
        return Err(whole(crate::settings::BadValue::Nul.to_string()));
    }
    setting
        .check(&value)
        .map_err(|why| whole(why.to_string()))?;
    Ok(value)
}

fn list(setting: &Setting, array: &Array) -> Result<Vec<u8>, Bad> {
    let mut items = Vec::new();
    for element in array {
        let bad = |why: String| (element.span(), why);
        let text = element
            .as_str()
            .ok_or_else(|| bad("write strings into the array".into()))?;
        // One at a time, so that the place is known, and an escape at the end swallows nothing.
        setting
            .check(text.as_bytes())
            .map_err(|why| bad(format!("{text:?}: {why}")))?;
        match setting.items(text.as_bytes()).len() {
            1 => items.push(text.as_bytes()),
            0 => return Err(bad(format!("{text:?} is empty: remove it"))),
            _ => {
                return Err(bad(format!(
                    "{text:?} is more than one item: write each as a string of its own"
                )));
            }
        }
    }
    Ok(setting.join(&items))
}

/// Puts values into the text of such a file, or into a new one. What the file says already stays
/// as it is written. The text must be one that [`read`] accepts.
pub(crate) fn write(text: Option<&str>, values: &Values) -> Result<String, Error> {
    let mut document: DocumentMut = text
        .unwrap_or_default()
        .parse()
        .map_err(|error: toml_edit::TomlError| Error::Mistakes(vec![error.to_string()]))?;
    // What a file says before its first setting stays before it, also if there is none yet.
    let mut head = text.map_or(HEADER, |_| "").to_owned();
    if document.is_empty() {
        head += document.trailing().as_str().unwrap_or_default();
        document.set_trailing("");
    }
    for (setting, value) in values {
        let old = document.as_table_mut().get_mut(setting.name);
        let said = old.as_ref().and_then(|old| self::value(setting, old).ok());
        if said.is_some_and(|said| setting.same(&said, value)) {
            continue;
        }
        let mut new = to_toml(setting, value, old.as_ref().and_then(|old| old.as_value()))?;
        match old {
            Some(old) => {
                if let Some(before) = old.as_value() {
                    *new.decor_mut() = before.decor().clone();
                }
                *old = Item::Value(new);
            }
            None => {
                document
                    .as_table_mut()
                    .insert(setting.name, Item::Value(new));
            }
        }
    }
    Ok(head + &document.to_string())
}

/// The TOML form of a value, like the one that was there before.
fn to_toml(setting: &Setting, value: &[u8], old: Option<&Value>) -> Result<Value, Error> {
    let not_storable = |why| Error::NotStorable {
        setting: setting.name,
        file: "TOML".to_owned(),
        why,
    };
    let not_text = "it is not UTF-8, which TOML must be; use --sysctl-d";
    let number = || {
        let text = std::str::from_utf8(value).ok()?;
        text.trim().parse::<i64>().ok()
    };
    let not_number = "it is not the number that it should be";
    Ok(match (setting.kind, old) {
        (Kind::Switch, Some(Value::Integer(_))) | (Kind::Number(_), _) => {
            Value::from(number().ok_or_else(|| not_storable(not_number))?)
        }
        (Kind::Switch, _) => Value::from(number().ok_or_else(|| not_storable(not_number))? != 0),
        (Kind::Word(_), _) => {
            let word = std::str::from_utf8(value).map_err(|_| not_storable(not_text))?;
            Value::from(word.trim())
        }
        (Kind::Rules | Kind::Names, old) => {
            let items = setting.items(value).into_iter();
            let items: Vec<&str> = items
                .map(|item| std::str::from_utf8(item).map_err(|_| not_storable(not_text)))
                .collect::<Result<_, _>>()?;
            match old {
                Some(Value::String(_)) => {
                    let joined = setting.join(&items);
                    let text = String::from_utf8(joined).map_err(|_| not_storable(not_text))?;
                    Value::from(text)
                }
                Some(Value::Array(old)) => Value::Array(merge(old, &items)),
                _ if setting.kind == Kind::Rules => Value::Array(merge(&lines(), &items)),
                _ => Value::Array(items.into_iter().collect()),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs
            .iter()
            .map(|(name, value)| (Setting::find(name).unwrap(), value.as_bytes().to_vec()))
            .collect()
    }

    fn mistakes(text: &str) -> Vec<String> {
        read(text)
            .unwrap_err()
            .iter()
            .map(|mistake| mistake.in_file("f"))
            .collect()
    }

    #[test]
    fn each_setting_has_its_form() {
        let text = "enabled = false\nprotect = 1\nhistory = 7\nformat = \"packed\"\n\
            skip = [ '/a', # why\n '*.o' ]\nenv_tool = \"A B\"\n";
        let expected = values(&[
            ("enabled", "0"),
            ("protect", "1"),
            ("history", "7"),
            ("format", "packed"),
            ("skip", "/a,*.o"),
            ("env_tool", "A B"),
        ]);
        let read = read(text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{expected:?}"));
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        assert_eq!(
            mistakes("enabled = true\nskipp = []\n\n  history = 33\nprotect = 'no'\n"),
            [
                "f:2:1: there is no setting \"skipp\"; known are enabled, skip, format, history, ts_granularity_ms, \
                protect, kthreads, env_session, env_tool, env_turn, env_intent",
                "f:4:13: history: write a whole number from 0 to 32",
                "f:5:11: protect: write true or false",
            ]
        );
        assert_eq!(
            mistakes("skip = [\n  '/a',\n  '/b//c',\n]"),
            [
                "f:3:3: skip: \"/b//c\": rule 1, byte 3: '//' has nothing between the slashes, at \"/c\""
            ]
        );
        assert_eq!(
            mistakes("skip = ['/a,/b']"),
            ["f:1:9: skip: \"/a,/b\" is more than one item: write each as a string of its own"]
        );
        assert_eq!(
            mistakes("skip = ['']"),
            ["f:1:9: skip: \"\" is empty: remove it"]
        );
        assert_eq!(
            mistakes("skip = [1]"),
            ["f:1:9: skip: write strings into the array"]
        );
        assert_eq!(
            mistakes("skip = \"a\\u0000\""),
            ["f:1:8: skip: a value cannot hold a NUL byte"]
        );
        assert_eq!(
            mistakes("[skip]\na = 1")[0],
            "f:1:1: skip: write an array of strings"
        );
        assert!(
            mistakes("enabled = \n")[0].starts_with("f:1:1"),
            "{:?}",
            mistakes("enabled = \n")
        );
        assert_eq!(mistakes("enabled = 1\nenabled = 0").len(), 1);
    }

    #[test]
    fn a_new_file_reads_well() {
        let text = write(
            None,
            &values(&[
                ("enabled", "0"),
                ("skip", "/a,!/a/b"),
                ("history", "9"),
                ("env_tool", "A B"),
            ]),
        );
        insta::assert_snapshot!(text.unwrap(), @r#"
        # Settings of provfs for the next boot: see provfs-config(1).
        # provfs-config.service applies them with 'provfs-config reload'.

        enabled = false
        skip = [
            "/a",
            "!/a/b",
        ]
        history = 9
        env_tool = ["A", "B"]
        "#);
    }

    #[test]
    fn comments_and_order_are_kept() {
        let before = r#"# Ours.
history = 5 # the default

# What is built.
skip = [
    # first
    '/a', # made anew
    "/b", # about b
    # before c
    "/c"  # about c
]
enabled = 1
"#;
        let text = write(
            Some(before),
            &values(&[
                ("enabled", "0"),
                ("history", "6"),
                ("skip", "/a,/c,/d"),
                ("kthreads", "1"),
            ]),
        );
        insta::assert_snapshot!(text.unwrap(), @r#"
        # Ours.
        history = 6 # the default

        # What is built.
        skip = [
            # first
            '/a', # made anew
            # about b
            # before c
            "/c",  # about c
            "/d",
        ]
        enabled = 0
        kthreads = true
        "#);
    }

    #[test]
    fn what_says_the_same_is_not_touched() {
        let before = "skip = [ '/a',\n\n  '/b' ]# end\nenabled=true\n";
        let same = values(&[("skip", "/a/, /b"), ("enabled", " 1")]);
        assert_eq!(write(Some(before), &same).unwrap(), before);
        assert_eq!(
            write(Some("# Ours.\n"), &values(&[("history", "9")])).unwrap(),
            "# Ours.\nhistory = 9\n"
        );
    }

    #[test]
    fn what_toml_cannot_hold_is_refused() {
        let skip = (Setting::find("skip").unwrap(), b"/a\xff".to_vec());
        let error = write(None, &vec![skip]).unwrap_err().to_string();
        assert!(error.ends_with("use --sysctl-d"), "{error}");
    }

    fn some_rules() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[!]?/[a-c]{1,2}", 0..6)
    }

    /// A file with a comment wherever one can be.
    fn commented(rules: &[String]) -> String {
        let lines: Vec<String> = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| format!("  # above {at}\n  '{rule}', # behind {at}\n"))
            .collect();
        let lines = lines.concat();
        format!("# top\nskip = [\n{lines}  # last\n] # end\n")
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = read(&text);
            let _ = write(Some(&text), &values(&[("enabled", "0"), ("skip", "/a,/b")]));
        }

        #[test]
        fn toml_with_any_strings_is_read_or_refused(
            key in "[a-z_]{1,8}|skip|enabled|history|env_tool|format", value in r#"[0-9a-z"'\[\], .#{}=\\\n-]{0,30}"#,
        ) {
            let text = format!("{key} = {value}\n");
            if let Ok(values) = read(&text) {
                // What is read can be written, and says the same.
                let again = write(Some(&text), &values).unwrap();
                prop_assert_eq!(&again, &text);
                let anew = write(None, &values).unwrap();
                for ((setting, one), (_, other)) in values.iter().zip(read(&anew).unwrap()) {
                    prop_assert!(setting.same(one, &other), "{} {}", text, anew);
                }
            }
        }

        #[test]
        fn no_comment_is_lost_and_the_value_is_right(before in some_rules(), after in some_rules()) {
            let text = commented(&before);
            let rules = after.join(",");
            let written = write(Some(&text), &values(&[("skip", &rules)])).unwrap();
            let skip = Setting::find("skip").unwrap();
            let read = read(&written).map_err(|mistakes| format!("{mistakes:?}\n{written}")).unwrap();
            prop_assert!(skip.same(&read[0].1, rules.as_bytes()), "{}", written);
            for comment in text.lines().filter_map(|line| Some(line.split_once('#')?.1)) {
                prop_assert!(written.contains(comment), "{:?} is lost:\n{}", comment, written);
            }
        }
    }
}
