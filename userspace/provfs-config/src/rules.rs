//! A skip list as a list: what is in it, adding to it, removing from it. What a rule means is
//! decided by [`provfs::pure::skip`], which the kernel compiles too.

use provfs::pure::skip::{self, Facts, Rule, RuleKind, Rules, SkipError};

/// A compiled skip list.
#[derive(Clone, Debug)]
pub(crate) struct RuleList {
    text: Vec<u8>,
    rules: Vec<Rule>,
}

impl RuleList {
    /// Compiles a list.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, SkipError> {
        Ok(RuleList {
            text: text.to_vec(),
            rules: compile(text)?,
        })
    }

    /// The rules of a list as they are written there, without blanks around them. Each of them is
    /// a list by itself, of that one rule.
    pub(crate) fn sources(text: &[u8]) -> Result<Vec<&[u8]>, SkipError> {
        let rules = compile(text)?;
        let source = |rule: &Rule| {
            let source = rule.source(text);
            if !source.ends_with(b" ") && !source.ends_with(b"\t") && !source.ends_with(b"\r") {
                return source;
            }
            // The `/` at its end, which is left out, may keep a blank before it from being one
            // around it.
            let start = source.as_ptr().addr() - text.as_ptr().addr();
            text.get(start..=start + source.len())
                .filter(|longer| longer.ends_with(b"/"))
                .unwrap_or(source)
        };
        Ok(rules.iter().map(source).collect())
    }

    /// The number of rules.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The rule at a position, counted from 0.
    pub(crate) fn source(&self, index: usize) -> &[u8] {
        self.rules
            .get(index)
            .map_or(b"", |rule| rule.source(&self.text))
    }

    /// The rules by position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Rule, &[u8])> {
        let rules = self.rules.iter().enumerate();
        rules.map(|(index, rule)| (index, rule, rule.source(&self.text)))
    }

    /// The rule at a position re-includes.
    pub(crate) fn includes(&self, index: usize) -> bool {
        self.rules.get(index).is_some_and(Rule::includes)
    }

    /// Whether all rules together say that it is to be skipped.
    pub(crate) fn skips(&self, facts: &Facts<'_>) -> bool {
        self.as_rules(&self.rules).decide(facts).skip
    }

    /// Whether one rule by itself matches.
    pub(crate) fn matches(&self, index: usize, facts: &Facts<'_>) -> bool {
        let one = self.rules.get(index..=index).unwrap_or_default();
        self.as_rules(one).decide(facts).rule.is_some()
    }

    /// What all rules but those of a kind say: the position of the rule that decides, if one does.
    pub(crate) fn decider(&self, facts: &Facts<'_>, without: Option<RuleKind>) -> Option<usize> {
        let asked = |(_, rule): &(usize, &Rule)| Some(rule.kind()) != without;
        let (positions, rules): (Vec<_>, Vec<_>) = self
            .rules
            .iter()
            .enumerate()
            .filter(asked)
            .map(|(at, rule)| (at, *rule))
            .unzip();
        let verdict = self.as_rules(&rules).decide(facts);
        positions.get(usize::from(verdict.rule?)).copied()
    }

    fn as_rules<'a>(&'a self, rules: &'a [Rule]) -> Rules<'a> {
        Rules {
            text: &self.text,
            rules,
        }
    }
}

fn compile(text: &[u8]) -> Result<Vec<Rule>, SkipError> {
    let mut rules = vec![Rule::EMPTY; skip::max_rules(text)];
    let count = skip::compile(text, &mut rules)?;
    rules.truncate(count);
    Ok(rules)
}

/// Tells whether two rules are written the same way, but for blanks after `!`.
pub(crate) fn same_rule(one: &[u8], other: &[u8]) -> bool {
    normal(one) == normal(other)
}

/// Whether a rule re-includes, and what it is about.
fn normal(source: &[u8]) -> (bool, &[u8]) {
    match source.strip_prefix(b"!") {
        Some(rest) => (true, rest.trim_ascii_start()),
        None => (false, source),
    }
}

/// A list with rules added at its end, but for those that are in it already.
pub(crate) fn add(text: &[u8], rules: &[&[u8]]) -> Result<Vec<u8>, SkipError> {
    let before = RuleList::sources(text)?;
    let mut added: Vec<&[u8]> = Vec::new();
    for rule in rules {
        let known = before.iter().chain(&added).any(|old| same_rule(old, rule));
        if !known {
            added.push(rule);
        }
    }
    if added.is_empty() {
        return Ok(text.to_vec());
    }
    let separator = separator(text);
    let mut list = text.trim_ascii_end().to_vec();
    if !before.is_empty() {
        // What was before stays as it was written, a blank that is part of a rule included.
        list = text.to_vec();
        while list.ends_with(b"\n") && !list.ends_with(b"\\\n") {
            list.pop();
        }
        list.push(separator);
    }
    list.extend_from_slice(&added.join(&separator));
    Ok(list)
}

/// A list without these rules, or the first of them that is not in it.
pub(crate) fn remove<'r>(
    text: &[u8],
    rules: &[&'r [u8]],
) -> Result<Result<Vec<u8>, &'r [u8]>, SkipError> {
    let mut sources = RuleList::sources(text)?;
    for rule in rules {
        let before = sources.len();
        sources.retain(|source| !same_rule(source, rule));
        if sources.len() == before {
            return Ok(Err(rule));
        }
    }
    Ok(Ok(sources.join(&separator(text))))
}

/// What stands between the rules of a list: newlines if there is one, else commas.
fn separator(text: &[u8]) -> u8 {
    let mut escaped = false;
    let lines = text.trim_ascii().iter().any(|&byte| {
        let ends = !escaped && byte == b'\n';
        escaped = !escaped && byte == b'\\';
        ends
    });
    if lines { b'\n' } else { b',' }
}

/// A rule that makes no difference, by position in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// A later rule matches all that it matches.
    Shadowed { rule: usize, by: usize },
    /// An earlier rule matches all that it matches, and says the same.
    Repeats { rule: usize, earlier: usize },
    /// It re-includes, and no rule before it skips.
    NothingBefore { rule: usize },
}

/// Finds rules that make no difference. A rule with a pattern is compared only with those that are
/// written like it, so not all of them are found; those that are found are sure.
pub(crate) fn idle(list: &RuleList) -> Vec<Idle> {
    let covers = |by: usize, rule: usize| covers(list, by, rule);
    let includes = |index: usize| list.includes(index);
    let mut found = Vec::new();
    for rule in 0..list.len() {
        let later = (rule + 1..list.len()).find(|&by| covers(by, rule));
        // Between a rule and an earlier one that says the same, nothing may say otherwise.
        let mut alike = (0..rule)
            .rev()
            .take_while(|&earlier| includes(earlier) == includes(rule));
        if let Some(by) = later {
            found.push(Idle::Shadowed { rule, by });
        } else if let Some(earlier) = alike.find(|&earlier| covers(earlier, rule)) {
            found.push(Idle::Repeats { rule, earlier });
        } else if includes(rule) && (0..rule).all(includes) {
            found.push(Idle::NothingBefore { rule });
        }
    }
    found
}

/// Tells whether rule `by` surely matches all that `rule` matches.
fn covers(list: &RuleList, by: usize, rule: usize) -> bool {
    let (Some(outer), Some(inner)) = (list.rules.get(by), list.rules.get(rule)) else {
        return false;
    };
    let (_, pattern) = normal(list.source(rule));
    if outer.kind() == inner.kind() && normal(list.source(by)).1 == pattern {
        return true;
    }
    let mut facts = Facts {
        path: None,
        fs_type: b"",
        comm: b"",
        uid: 0,
    };
    let word = |prefix: &[u8]| pattern.strip_prefix(prefix).filter(|word| is_literal(word));
    match (inner.kind(), outer.kind()) {
        // What matches a directory matches all below it.
        (RuleKind::Path, RuleKind::Path | RuleKind::Name) if is_literal(pattern) => {
            facts.path = Some(pattern);
            list.matches(by, &facts)
        }
        (RuleKind::Name, RuleKind::Name) if is_literal(pattern) => {
            facts.path = Some(pattern);
            list.matches(by, &facts)
        }
        (RuleKind::Fs, RuleKind::Fs) => word(b"fs:").is_some_and(|word| {
            facts.fs_type = word;
            list.matches(by, &facts)
        }),
        (RuleKind::Comm, RuleKind::Comm) => word(b"comm:").is_some_and(|word| {
            facts.comm = word;
            list.matches(by, &facts)
        }),
        (RuleKind::Uid, RuleKind::Uid) => uids(pattern).is_some_and(|ends| {
            ends.into_iter()
                .all(|uid| list.matches(by, &Facts { uid, ..facts }))
        }),
        _ => false,
    }
}

/// Tells whether a pattern stands for itself.
pub(crate) fn is_literal(pattern: &[u8]) -> bool {
    !pattern
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?' | b'\\'))
}

/// The first and the last user id of a rule.
fn uids(pattern: &[u8]) -> Option<[u32; 2]> {
    let range = pattern.strip_prefix(b"uid:")?;
    let mut ends = range.splitn(2, |&byte| byte == b'-');
    let first = provfs::pure::text::parse_u32(ends.next()?)?;
    let last = ends
        .next()
        .map_or(Some(first), provfs::pure::text::parse_u32)?;
    Some([first, last])
}

/// The path of a rule for one, if it has no pattern.
pub(crate) fn literal_path<'s>(rule: &Rule, source: &'s [u8]) -> Option<&'s [u8]> {
    let path = normal(source).1;
    (rule.kind() == RuleKind::Path && is_literal(path)).then_some(path)
}

/// The type of file systems of a rule for one, if it has no pattern.
pub(crate) fn literal_fs<'s>(rule: &Rule, source: &'s [u8]) -> Option<&'s [u8]> {
    let word = normal(source).1.strip_prefix(b"fs:")?;
    (rule.kind() == RuleKind::Fs && is_literal(word)).then_some(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn added(list: &str, rules: &[&str]) -> String {
        let rules: Vec<_> = rules.iter().map(|rule| rule.as_bytes()).collect();
        text(add(list.as_bytes(), &rules).unwrap())
    }

    fn removed(list: &str, rules: &[&'static str]) -> Result<String, String> {
        let rules: Vec<_> = rules.iter().map(|rule| rule.as_bytes()).collect();
        remove(list.as_bytes(), &rules)
            .unwrap()
            .map(text)
            .map_err(|rule| text(rule.to_vec()))
    }

    #[test]
    fn rules_are_added_at_the_end_once() {
        assert_eq!(added("", &["/a"]), "/a");
        assert_eq!(added("\n", &["/a"]), "/a");
        assert_eq!(added("/a,/b", &["/c", "!/c/d"]), "/a,/b,/c,!/c/d");
        assert_eq!(added("/a/,! /b", &["/a", "!/b", "/c", "/c"]), "/a/,! /b,/c");
        assert_eq!(added("/a\n/b\n", &["/c", "/d"]), "/a\n/b\n/c\n/d");
        assert_eq!(added("a\\ ", &["/c"]), "a\\ ,/c");
        assert_eq!(added("a\\\n", &["/c"]), "a\\\n,/c");
    }

    #[test]
    fn rules_are_removed_wherever_they_are() {
        assert_eq!(removed("/a,/b,/a/", &["/a"]), Ok("/b".into()));
        assert_eq!(removed("/a\n!/b\n", &["! /b"]), Ok("/a".into()));
        assert_eq!(removed("/a\n/b\n/c", &["/b"]), Ok("/a\n/c".into()));
        assert_eq!(removed("/a,/b", &["/b", "/c"]), Err("/c".into()));
        assert_eq!(removed("/a", &["/a"]), Ok(String::new()));
        // A name that ends in a blank.
        assert_eq!(removed("/a,b /,c", &["c"]), Ok("/a,b /".into()));
    }

    #[test]
    fn rules_without_effect_are_found() {
        use Idle::{NothingBefore, Repeats, Shadowed};
        let cases: &[(&str, &[Idle])] = &[
            ("/a,/b,name,fs:tmpfs,comm:x,uid:0", &[]),
            (
                "/a,/a",
                &[
                    Shadowed { rule: 0, by: 1 },
                    Repeats {
                        rule: 1,
                        earlier: 0,
                    },
                ],
            ),
            ("/a/b,/a", &[Shadowed { rule: 0, by: 1 }]),
            (
                "/a,/a/b",
                &[Repeats {
                    rule: 1,
                    earlier: 0,
                }],
            ),
            ("/a,!/a/b,/a/b/c", &[]),
            ("/a,!/a", &[Shadowed { rule: 0, by: 1 }]),
            ("/ab,/a", &[]),
            ("/x/name/y,name", &[Shadowed { rule: 0, by: 1 }]),
            (
                "name,/x/name",
                &[Repeats {
                    rule: 1,
                    earlier: 0,
                }],
            ),
            (".git,*", &[Shadowed { rule: 0, by: 1 }]),
            ("*.o,?.o", &[]),
            (
                "*.o,*.o",
                &[
                    Shadowed { rule: 0, by: 1 },
                    Repeats {
                        rule: 1,
                        earlier: 0,
                    },
                ],
            ),
            ("uid:5-7,uid:0-10", &[Shadowed { rule: 0, by: 1 }]),
            ("uid:5-17,uid:0-10", &[]),
            ("fs:fuse,fs:fuse*", &[Shadowed { rule: 0, by: 1 }]),
            (
                "comm:vi*,comm:vim",
                &[Repeats {
                    rule: 1,
                    earlier: 0,
                }],
            ),
            ("!/a,/b,!/b/c", &[NothingBefore { rule: 0 }]),
            // Of different kinds, one never covers the other.
            ("/a,fs:*,uid:0-4294967295,comm:*", &[]),
        ];
        for (list, expected) in cases {
            let list = RuleList::parse(list.as_bytes()).unwrap();
            assert_eq!(idle(&list), *expected, "{list:?}");
        }
    }

    /// Rules that are made of few characters, so that they meet each other.
    fn some_rule() -> impl Strategy<Value = String> {
        "!?(/?[ab*?]{1,2}(/[ab]){0,2}|fs:[ab*]{1,2}|comm:[ab?]{1,2}|uid:[0-3](-[3-5])?)"
    }

    fn some_list() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(some_rule(), 0..6)
            .prop_map(|rules| rules.join(",").into_bytes())
            .prop_filter("double star", |list| RuleList::parse(list).is_ok())
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes: Vec<u8>, rule: Vec<u8>) {
            let _ = RuleList::parse(&bytes).map(|list| idle(&list));
            let _ = add(&bytes, &[&rule]);
            let _ = remove(&bytes, &[&rule]);
        }

        #[test]
        fn what_was_added_is_in_the_list_and_can_be_removed(list in some_list(), rule in some_rule()) {
            prop_assume!(RuleList::parse(rule.as_bytes()).is_ok());
            let rule = RuleList::sources(rule.as_bytes()).unwrap()[0];
            let with = add(&list, &[rule]).unwrap();
            prop_assert!(RuleList::sources(&with).unwrap().iter().any(|one| same_rule(one, rule)));
            let without = remove(&with, &[rule]).unwrap().unwrap();
            let mut expected = RuleList::sources(&list).unwrap();
            expected.retain(|one| !same_rule(one, rule));
            prop_assert_eq!(RuleList::sources(&without).unwrap(), expected);
        }

        #[test]
        fn idle_rules_make_no_difference(
            list in some_list(), path in "(/[ab]{1,2}){1,4}", fs in "[ab]{1,2}", comm in "[ab]{1,2}", uid in 0u32..6,
        ) {
            let parsed = RuleList::parse(&list).unwrap();
            let facts = Facts { path: Some(path.as_bytes()), fs_type: fs.as_bytes(), comm: comm.as_bytes(), uid };
            for found in idle(&parsed) {
                let (Idle::Shadowed { rule, .. } | Idle::Repeats { rule, .. } | Idle::NothingBefore { rule }) = found;
                let mut sources = RuleList::sources(&list).unwrap();
                sources.remove(rule);
                let without = RuleList::parse(&sources.join(&b',')).unwrap();
                prop_assert_eq!(parsed.skips(&facts), without.skips(&facts), "{:?}", found);
            }
        }
    }
}
