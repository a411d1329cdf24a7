// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! What is not stamped: the rules of `provfs.skip`, compiled once and asked at each modification
//! that counts.
//!
//! # Grammar
//!
//! Rules are separated by commas or newlines; blanks around a rule and empty rules mean nothing.
//! The *last* rule that matches decides. A rule that begins with `!` re-includes.
//!
//! | rule | matches |
//! |---|---|
//! | `/abs/dir` | this path and everything below it |
//! | `name` | a path with a component of this name |
//! | `a/b` | a path in which these components follow each other, anywhere |
//! | `fs:TYPE` | files on file systems of this type, such as `fs:tmpfs` |
//! | `comm:NAME` | what a program of this comm writes |
//! | `uid:N`, `uid:A-B` | what this user, or one of this range, writes |
//!
//! `*` stands for any number of characters and `?` for one, but not for `/`: a pattern matches
//! component by component, in comm and type the whole. A `/` at the end of a path or name is
//! ignored. `\` takes the meaning from a comma, newline, blank, `\`, `*`, `?`, `!` or `:`. A word
//! before `:` that is no kind of rule is refused and not taken for a name, so that a slip is seen
//! and kinds can be added; write `\:` for a name with a colon.
//!
//! Characters are those of UTF-8, and each byte that is not UTF-8 is one by itself.

use core::fmt;

use super::{
    limits::SKIP_TEXT_MAX,
    text::{
        parse_u32,
        split_char, //
    },
};

/// The rules in force unless the administrator says otherwise: what a system makes up anew, caches
/// and build trees, and file systems that others write to as well.
pub const DEFAULT: &[u8] = b"/proc,/sys,/dev,/run,/tmp,/var/tmp,/var/cache,\
    /var/lib/pacman,/var/lib/dpkg,.git,node_modules,target,.cache,.venv,__pycache__,\
    fs:fuse*,fs:nfs*,fs:cifs,fs:9p,fs:ceph";

/// Longest comm of a task: `TASK_COMM_LEN` less its NUL.
const COMM_LEN: usize = 15;

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// An absolute path and what is below it.
    Path,
    /// One component of a path, or several in a row.
    Name,
    /// The type of the file system.
    Fs,
    /// The comm of the writer.
    Comm,
    /// The user id of the writer.
    Uid,
}

impl RuleKind {
    /// All kinds, in the order of [`RuleKind::index`].
    pub const ALL: [RuleKind; 5] = [
        RuleKind::Path,
        RuleKind::Name,
        RuleKind::Fs,
        RuleKind::Comm,
        RuleKind::Uid,
    ];

    /// The position in [`RuleKind::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        // CAST: The enum has no fields, and five variants.
        self as usize
    }

    /// The name for counters and messages.
    pub const fn name(self) -> &'static str {
        match self {
            RuleKind::Path => "path",
            RuleKind::Name => "name",
            RuleKind::Fs => "fs",
            RuleKind::Comm => "comm",
            RuleKind::Uid => "uid",
        }
    }
}

/// One compiled rule. It refers to the text that it was compiled from.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    kind: RuleKind,
    /// Begins with `!`.
    includes: bool,
    /// Has neither `*`, `?` nor `\`, so bytes can be compared.
    literal: bool,
    /// Has a `/` between components.
    several: bool,
    /// What must be among the marks of a modification, see [`Marks`].
    hint: u8,
    /// Where the rule begins in the text, with `!` and kind.
    at: u16,
    /// Where the pattern begins, and its length. The pattern of the path `/` is empty.
    start: u16,
    len: u16,
    /// The range of a uid rule.
    uids: (u32, u32),
}

impl Rule {
    /// A rule that matches no one, for filling arrays.
    pub const EMPTY: Rule = Rule {
        kind: RuleKind::Uid,
        includes: false,
        literal: true,
        several: false,
        hint: NO_HINT,
        at: 0,
        start: 0,
        len: 0,
        uids: (1, 0),
    };

    /// What the rule looks at.
    pub fn kind(&self) -> RuleKind {
        self.kind
    }

    /// Whether the rule re-includes what an earlier one skips.
    pub fn includes(&self) -> bool {
        self.includes
    }

    /// The rule as it was written, without blanks around it and a `/` at its end.
    pub fn source<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let end = usize::from(self.start) + usize::from(self.len);
        let root = usize::from(self.kind == RuleKind::Path && self.len == 0);
        text.get(usize::from(self.at)..end + root)
            .unwrap_or_default()
    }

    fn pattern<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.start);
        text.get(start..start + usize::from(self.len))
            .unwrap_or_default()
    }
}

/// Why a list was refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkipError {
    /// Which rule is bad, counted from 1; 0 if it is the list as a whole.
    pub rule: usize,
    /// Offset into the text of the first byte that cannot stay.
    pub offset: usize,
    /// The reason.
    pub kind: SkipErrorKind,
}

/// The reasons of [`SkipError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipErrorKind {
    /// The text is longer than [`SKIP_TEXT_MAX`].
    TooLong,
    /// There are more rules than the caller has room for.
    TooMany,
    /// A byte is NUL.
    Nul,
    /// Nothing follows `!` or the kind of a rule.
    Empty,
    /// A path has an empty component.
    EmptyComponent,
    /// A component is `.` or `..`, which no path has.
    DotComponent,
    /// A component is `**`, which would seem to cross `/` and does not.
    DoubleStar,
    /// `\` stands before what has no other meaning, or at the end.
    Escape,
    /// The word before `:` is no kind of rule.
    UnknownKind,
    /// `!` stands twice.
    DoubleNot,
    /// A comm cannot be as long as the pattern.
    CommTooLong,
    /// What follows `uid:` is neither a number nor two with `-` between them.
    BadUid,
    /// A range of user ids ends before it begins.
    UidReversed,
}

impl fmt::Display for SkipErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipErrorKind::TooLong => "the list is longer than 4095 bytes",
            SkipErrorKind::TooMany => "there are too many rules",
            SkipErrorKind::Nul => "a NUL byte cannot be part of a rule",
            SkipErrorKind::Empty => "nothing follows the prefix",
            SkipErrorKind::EmptyComponent => "'//' has nothing between the slashes",
            SkipErrorKind::DotComponent => "'.' and '..' are not part of any path",
            SkipErrorKind::DoubleStar => {
                "'**' does not cross '/': write 'name' for any depth, or '*' for one component"
            }
            SkipErrorKind::Escape => {
                "'\\' must stand before a comma, newline, blank, '\\', '*', '?', '!' or ':'"
            }
            SkipErrorKind::UnknownKind => {
                "only fs:, comm: and uid: are known (write '\\:' for a name with a colon)"
            }
            SkipErrorKind::DoubleNot => "'!' stands twice (write '\\!' for a name with one)",
            SkipErrorKind::CommTooLong => "a comm has at most 15 bytes, so this never matches",
            SkipErrorKind::BadUid => "expected uid:N or uid:A-B with decimal numbers",
            SkipErrorKind::UidReversed => "the range of user ids ends before it begins",
        })
    }
}

impl fmt::Display for SkipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            0 => write!(f, "{}", self.kind),
            rule => write!(f, "rule {rule}, byte {}: {}", self.offset, self.kind),
        }
    }
}

impl core::error::Error for SkipError {}

/// An upper bound of the number of rules in `text`, to have room for [`compile`].
pub fn max_rules(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| separates(byte)).count() + 1
}

/// Compiles `text` into the beginning of `out` and returns the number of rules.
///
/// # Examples
///
/// ```
/// # use provfs::pure::skip::{compile, Facts, Rule, Rules};
/// let text = b"/srv, !/srv/www, *.swp";
/// let mut rules = [Rule::EMPTY; 8];
/// let count = compile(text, &mut rules)?;
/// let rules = Rules { text, rules: &rules[..count] };
///
/// let facts = |path| Facts { path: Some(path), fs_type: b"ext4", comm: b"vi", uid: 1000 };
/// assert!(rules.decide(&facts(b"/srv/db/log")).skip);
/// assert!(!rules.decide(&facts(b"/srv/www/index.html")).skip);
/// assert_eq!(rules.decide(&facts(b"/srv/www/.index.html.swp")).rule, Some(2));
/// # Ok::<(), provfs::pure::skip::SkipError>(())
/// ```
pub fn compile(text: &[u8], out: &mut [Rule]) -> Result<usize, SkipError> {
    let whole = |offset, kind| SkipError {
        rule: 0,
        offset,
        kind,
    };
    if text.len() > SKIP_TEXT_MAX {
        return Err(whole(SKIP_TEXT_MAX, SkipErrorKind::TooLong));
    }
    if let Some(offset) = text.iter().position(|&byte| byte == 0) {
        return Err(whole(offset, SkipErrorKind::Nul));
    }
    let mut count = 0;
    let mut at = 0;
    let mut rest = text;
    loop {
        let (item, behind) = rest.split_at_checked(item_len(rest)).unwrap_or((rest, &[]));
        let (blanks, source) = trim(item);
        if !source.is_empty() {
            let refuse = |(offset, kind)| SkipError {
                rule: count + 1,
                offset: at + blanks + offset,
                kind,
            };
            let rule = parse(source, at + blanks).map_err(refuse)?;
            let room = out
                .get_mut(count)
                .ok_or_else(|| refuse((0, SkipErrorKind::TooMany)))?;
            *room = rule;
            count += 1;
        }
        // What is behind an item begins with its separator.
        let Some((_, next)) = behind.split_first() else {
            return Ok(count);
        };
        at += item.len() + 1;
        rest = next;
    }
}

/// Tells whether `byte` stands between rules.
const fn separates(byte: u8) -> bool {
    matches!(byte, b',' | b'\n')
}

/// Tells whether `byte` means nothing around a rule.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// Length of the first item of a list: up to a separator without `\` before it.
fn item_len(list: &[u8]) -> usize {
    let mut escaped = false;
    let end = list.iter().position(|&byte| {
        let ends = !escaped && separates(byte);
        escaped = !escaped && byte == b'\\';
        ends
    });
    end.unwrap_or(list.len())
}

/// Takes blanks away from both ends of an item, and tells how many were before it.
fn trim(item: &[u8]) -> (usize, &[u8]) {
    let blanks = item.iter().take_while(|&&byte| is_blank(byte)).count();
    let mut rest = item.get(blanks..).unwrap_or_default();
    while let Some((&last, head)) = rest.split_last() {
        let slashes = head.iter().rev().take_while(|&&byte| byte == b'\\').count();
        if !is_blank(last) || slashes % 2 == 1 {
            break;
        }
        rest = head;
    }
    (blanks, rest)
}

/// Reads one rule that begins at offset `at` of its list. Errors count from the beginning of the
/// rule.
fn parse(source: &[u8], at: usize) -> Result<Rule, (usize, SkipErrorKind)> {
    let len = source.len();
    let mut rest = source;
    let mut rule = Rule {
        at: offset(at)?,
        ..Rule::EMPTY
    };
    if let Some(behind) = source.strip_prefix(b"!") {
        rule.includes = true;
        rest = trim(behind).1;
        if rest.first() == Some(&b'!') {
            return Err((len - rest.len(), SkipErrorKind::DoubleNot));
        }
    }

    let kind_at = len - rest.len();
    (rule.kind, rest) = match rest.first() {
        Some(b'/') => (RuleKind::Path, rest),
        _ => match split_kind(rest) {
            None => (RuleKind::Name, rest),
            Some((b"fs", behind)) => (RuleKind::Fs, behind),
            Some((b"comm", behind)) => (RuleKind::Comm, behind),
            Some((b"uid", behind)) => (RuleKind::Uid, behind),
            Some(_) => return Err((kind_at, SkipErrorKind::UnknownKind)),
        },
    };
    let start = len - rest.len();
    if rest.is_empty() {
        return Err((start, SkipErrorKind::Empty));
    }

    if rule.kind == RuleKind::Uid {
        rule.uids = parse_uids(rest).map_err(|kind| (start, kind))?;
    } else {
        check_escapes(rest).map_err(|bad| (start + bad, SkipErrorKind::Escape))?;
    }
    match rule.kind {
        RuleKind::Path | RuleKind::Name => {
            rest = rest.strip_suffix(b"/").unwrap_or(rest);
            check_components(rest).map_err(|(bad, kind)| (start + bad, kind))?;
        }
        RuleKind::Comm if shortest_match(rest) > COMM_LEN => {
            return Err((start, SkipErrorKind::CommTooLong));
        }
        _ => {}
    }

    rule.literal = !rest.iter().any(|byte| matches!(byte, b'*' | b'?' | b'\\'));
    rule.several = rest.contains(&b'/');
    rule.hint = hint(rule.kind, rest);
    rule.start = offset(at + start)?;
    rule.len = offset(rest.len())?;
    Ok(rule)
}

/// Offsets fit since the text does, see [`super::limits`].
fn offset(at: usize) -> Result<u16, (usize, SkipErrorKind)> {
    u16::try_from(at).map_err(|_| (0, SkipErrorKind::TooLong))
}

/// Splits `kind:pattern`, if there is a word of lower-case letters before a colon.
fn split_kind(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let letters = rest.iter().take_while(|b| b.is_ascii_lowercase()).count();
    let (word, behind) = rest.split_at_checked(letters)?;
    Some((word, behind.strip_prefix(b":")?)).filter(|_| letters > 0)
}

fn parse_uids(range: &[u8]) -> Result<(u32, u32), SkipErrorKind> {
    let mut ends = range.splitn(2, |&byte| byte == b'-');
    let mut end = || {
        ends.next()
            .map(|digits| parse_u32(digits).ok_or(SkipErrorKind::BadUid))
    };
    let first = end().ok_or(SkipErrorKind::BadUid)??;
    let last = end().unwrap_or(Ok(first))?;
    if last < first {
        return Err(SkipErrorKind::UidReversed);
    }
    Ok((first, last))
}

/// Checks that each `\` has something to escape, or returns its position.
fn check_escapes(pattern: &[u8]) -> Result<(), usize> {
    let mut bytes = pattern.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        if byte == b'\\' && !bytes.next().is_some_and(|(_, &next)| escapable(next)) {
            return Err(at);
        }
    }
    Ok(())
}

/// Tells whether `\` may stand before `byte`.
const fn escapable(byte: u8) -> bool {
    separates(byte) || matches!(byte, b' ' | b'\t' | b'\\' | b'*' | b'?' | b'!' | b':')
}

/// Checks the components of a path without `/` at its end, or of a name.
fn check_components(pattern: &[u8]) -> Result<(), (usize, SkipErrorKind)> {
    if pattern.is_empty() {
        // The root.
        return Ok(());
    }
    let mut at = usize::from(pattern.first() == Some(&b'/'));
    let components = pattern.get(at..).unwrap_or_default();
    for component in components.split(|&byte| byte == b'/') {
        let bad = match component {
            b"" => Some(SkipErrorKind::EmptyComponent),
            b"." | b".." => Some(SkipErrorKind::DotComponent),
            b"**" => Some(SkipErrorKind::DoubleStar),
            _ => None,
        };
        if let Some(kind) = bad {
            return Err((at, kind));
        }
        at += component.len() + 1;
    }
    Ok(())
}

/// What is known about a modification.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The absolute path of the file, in the initial mount namespace. Rules about paths do not
    /// match without it.
    pub path: Option<&'a [u8]>,
    /// The type of its file system, with the subtype as in `fuse.sshfs`.
    pub fs_type: &'a [u8],
    /// The comm of the writer.
    pub comm: &'a [u8],
    /// The user id of the writer.
    pub uid: u32,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the modification is not recorded.
    pub skip: bool,
    /// The rule that decided, counted from 0. `None` if no rule matches.
    pub rule: Option<u16>,
    /// The kind of that rule.
    pub kind: Option<RuleKind>,
}

impl Verdict {
    /// No rule matches.
    pub const RECORD: Verdict = Verdict {
        skip: false,
        rule: None,
        kind: None,
    };
}

/// Compiled rules and their text.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The text that was compiled.
    pub text: &'a [u8],
    /// What [`compile`] made of it.
    pub rules: &'a [Rule],
}

impl Rules<'_> {
    /// Decides whether a modification is recorded: by the last rule that matches.
    pub fn decide(&self, facts: &Facts<'_>) -> Verdict {
        let components = Components::new(facts.path.unwrap_or_default());
        let marks = Marks::new(facts);
        for (index, rule) in self.rules.iter().enumerate().rev() {
            if marks.rule_out(rule) {
                continue;
            }
            let pattern = rule.pattern(self.text);
            let matches = match rule.kind {
                RuleKind::Path => facts
                    .path
                    .is_some_and(|path| path_matches(rule, pattern, path)),
                RuleKind::Name => name_matches(rule, pattern, &components),
                RuleKind::Fs => word_matches(rule, pattern, facts.fs_type),
                RuleKind::Comm => word_matches(rule, pattern, facts.comm),
                RuleKind::Uid => (rule.uids.0..=rule.uids.1).contains(&facts.uid),
            };
            if matches {
                return Verdict {
                    skip: !rule.includes,
                    rule: u16::try_from(index).ok(),
                    kind: Some(rule.kind),
                };
            }
        }
        Verdict::RECORD
    }

    /// Whether a decision depends on who writes, so that it cannot be kept with the file.
    pub fn depends_on_writer(&self) -> bool {
        let of_writer = |rule: &Rule| matches!(rule.kind, RuleKind::Comm | RuleKind::Uid);
        self.rules.iter().any(of_writer)
    }

    /// Whether a decision needs [`Facts::path`].
    pub fn needs_path(&self) -> bool {
        let of_path = |rule: &Rule| matches!(rule.kind, RuleKind::Path | RuleKind::Name);
        self.rules.iter().any(of_path)
    }
}

fn path_matches(rule: &Rule, pattern: &[u8], path: &[u8]) -> bool {
    if rule.literal {
        return matches!(path.strip_prefix(pattern), Some([] | [b'/', ..]));
    }
    match (pattern.split_first(), path.split_first()) {
        (Some((b'/', pattern)), Some((b'/', path))) => run_matches(pattern, path),
        _ => false,
    }
}

fn name_matches(rule: &Rule, pattern: &[u8], components: &Components<'_>) -> bool {
    if rule.several {
        components.runs().any(|run| run_matches(pattern, run))
    } else if rule.literal {
        components.iter().any(|name| name == pattern)
    } else {
        components.iter().any(|name| glob(pattern, name))
    }
}

fn word_matches(rule: &Rule, pattern: &[u8], word: &[u8]) -> bool {
    if rule.literal {
        pattern == word
    } else {
        glob(pattern, word)
    }
}

/// Tells whether the components of `pattern` match the first components of `path`. Neither begins
/// with `/`.
fn run_matches(pattern: &[u8], path: &[u8]) -> bool {
    let mut names = path.split(|&byte| byte == b'/');
    let mut patterns = pattern.split(|&byte| byte == b'/');
    patterns.all(|pattern| names.next().is_some_and(|name| glob(pattern, name)))
}

/// A rule that has to be looked at in any case.
const NO_HINT: u8 = 64;

/// What the marks of whatever `pattern` matches contain.
fn hint(kind: RuleKind, pattern: &[u8]) -> u8 {
    let literal = |part: &[u8]| !part.iter().any(|byte| matches!(byte, b'*' | b'?' | b'\\'));
    match kind {
        RuleKind::Path | RuleKind::Name => match next_component(pattern) {
            Some((first, _)) if literal(first) => mark(first),
            _ => NO_HINT,
        },
        RuleKind::Fs | RuleKind::Comm => match pattern.get(..1) {
            Some(first) if literal(first) => word_mark(first),
            _ => NO_HINT,
        },
        RuleKind::Uid => NO_HINT,
    }
}

/// A number below 64 that is the same for equal components and seldom for others.
#[inline]
fn mark(component: &[u8]) -> u8 {
    // CAST: Only the low bits are wanted.
    let len = component.len() as u8;
    (component.first().unwrap_or(&0) ^ len.wrapping_mul(11)) & 63
}

/// Another one.
#[inline]
fn tail_mark(component: &[u8]) -> u8 {
    // CAST: Only the low bits are wanted.
    let len = component.len() as u8;
    (component.last().unwrap_or(&0) ^ len.wrapping_mul(7)) & 63
}

/// The same for words, of their first bytes alone.
#[inline]
fn word_mark(word: &[u8]) -> u8 {
    word.first().unwrap_or(&0) & 63
}

/// What can be told of a modification in a few bits: by the kind of rule that asks, a set of
/// numbers below 64. A rule whose [`hint`] is not among them does not match, and that goes for
/// nearly all.
struct Marks([u64; RuleKind::ALL.len()]);

impl Marks {
    fn new(facts: &Facts<'_>) -> Self {
        let (mut first, mut all) = (0, 0);
        for name in facts.path.unwrap_or_default().split(|&byte| byte == b'/') {
            if name.is_empty() {
                continue;
            }
            let bit = 1 << mark(name);
            if all == 0 {
                first = bit;
            }
            all |= bit;
        }
        Marks([
            first,
            all,
            1 << word_mark(facts.fs_type),
            1 << word_mark(facts.comm),
            0,
        ])
    }

    #[inline]
    fn rule_out(&self, rule: &Rule) -> bool {
        let marks = self.0.get(rule.kind.index()).unwrap_or(&0);
        rule.hint < NO_HINT && (marks >> rule.hint) & 1 == 0
    }
}

/// What a look at a path tells about a whole list of rules: mostly that none of them matches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints {
    /// First components of rules for paths.
    paths: Names,
    /// First components of rules for names.
    names: Names,
    /// First and last bytes of those that are patterns, as far as one of them is known.
    prefixes: u64,
    suffixes: u64,
    /// [`word_mark`]s of rules for types of file systems, and for comms.
    fs_types: u64,
    comms: u64,
    /// Nothing can be told of some rule.
    incomplete: bool,
}

impl Hints {
    /// Collects them.
    pub fn of(rules: &Rules<'_>) -> Self {
        let mut hints = Hints::default();
        for rule in rules.rules {
            let first =
                next_component(rule.pattern(rules.text)).map_or(&[][..], |(first, _)| first);
            match rule.kind {
                RuleKind::Name if rule.hint >= NO_HINT => hints.add_pattern(first),
                _ if rule.hint >= NO_HINT => hints.incomplete = true,
                RuleKind::Path => hints.paths.add(first),
                RuleKind::Name => hints.names.add(first),
                RuleKind::Fs => hints.fs_types |= 1 << rule.hint,
                RuleKind::Comm => hints.comms |= 1 << rule.hint,
                RuleKind::Uid => hints.incomplete = true,
            }
        }
        hints
    }

    /// Adds a pattern for a component by the byte that it begins or ends with.
    fn add_pattern(&mut self, pattern: &[u8]) {
        let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'\\');
        match pattern {
            [first, ..] if !special(first) => self.prefixes |= 1 << (first & 63),
            [.., last] if !special(last) => self.suffixes |= 1 << (last & 63),
            _ => self.incomplete = true,
        }
    }

    /// Whether a rule may match. If not, [`Rules::decide`] answers [`Verdict::RECORD`].
    pub fn may_match(&self, facts: &Facts<'_>) -> bool {
        self.may_match_origin(facts) || self.may_match_path(facts.path.unwrap_or_default())
    }

    /// Whether a rule may match whatever the path is.
    #[inline]
    pub fn may_match_origin(&self, facts: &Facts<'_>) -> bool {
        self.incomplete
            || (self.fs_types >> word_mark(facts.fs_type)) & 1 != 0
            || (self.comms >> word_mark(facts.comm)) & 1 != 0
    }

    /// Whether a rule may match because of a path.
    ///
    /// If none does because of a directory, which is not the root, and none because of a name in
    /// it ([`Hints::may_match_name`]), none matches because of the path of that name.
    pub fn may_match_path(&self, path: &[u8]) -> bool {
        let mut is_first = true;
        for name in path.split(|&byte| byte == b'/') {
            if name.is_empty() {
                continue;
            }
            if self.may_match_name(name) || is_first && self.paths.may_have(name) {
                return true;
            }
            is_first = false;
        }
        false
    }

    /// Whether a rule may match because of a component of a path that is not its first one.
    #[inline]
    pub fn may_match_name(&self, name: &[u8]) -> bool {
        let has = |set: u64, byte: Option<&u8>| (set >> (byte.unwrap_or(&0) & 63)) & 1 != 0;

        self.names.may_have(name)
            || has(self.prefixes, name.first())
            || has(self.suffixes, name.last())
    }
}

/// A set of components, as far as that fits into a few bits: it may seem to have what is not in it.
#[derive(Clone, Copy, Debug, Default)]
struct Names {
    /// By [`mark`].
    heads: u64,
    /// By [`tail_mark`].
    tails: u64,
}

impl Names {
    fn add(&mut self, name: &[u8]) {
        self.heads |= 1 << mark(name);
        self.tails |= 1 << tail_mark(name);
    }

    #[inline]
    fn may_have(&self, name: &[u8]) -> bool {
        (self.heads >> mark(name)) & 1 != 0 && (self.tails >> tail_mark(name)) & 1 != 0
    }
}

/// Components that are found again without a search. Deeper ones are split off each time.
const TABLE: usize = 16;

/// A path in its components.
struct Components<'p> {
    path: &'p [u8],
    table: [&'p [u8]; TABLE],
    len: usize,
    /// What is behind the components in the table.
    rest: &'p [u8],
}

impl<'p> Components<'p> {
    fn new(path: &'p [u8]) -> Self {
        let mut new = Components {
            path,
            table: [&[]; TABLE],
            len: 0,
            rest: &[],
        };
        let mut start = 0;
        for (at, &byte) in path.iter().enumerate() {
            if byte == b'/' {
                new.add(start, at);
                start = at + 1;
            }
        }
        new.add(start, path.len());
        new
    }

    /// Adds the component between two offsets into the path, if there is one.
    #[inline]
    fn add(&mut self, start: usize, end: usize) {
        let Some(name @ [_, ..]) = self.path.get(start..end) else {
            return;
        };
        if let Some(room) = self.table.get_mut(self.len) {
            *room = name;
            self.len += 1;
        } else if self.rest.is_empty() {
            self.rest = self.path.get(start..).unwrap_or_default();
        }
    }

    #[inline]
    fn iter(&self) -> impl Iterator<Item = &'p [u8]> + use<'_, 'p> {
        let mut rest = self.rest;
        let deep = core::iter::from_fn(move || {
            let (name, behind) = next_component(rest)?;
            rest = behind;
            Some(name)
        });
        let table = self.table.get(..self.len).unwrap_or_default();
        table.iter().copied().chain(deep)
    }

    /// The ends of the path that begin with a component, the whole path first.
    fn runs(&self) -> impl Iterator<Item = &'p [u8]> + use<'p> {
        let mut rest = self.path;
        core::iter::from_fn(move || {
            let run = strip_slashes(rest);
            let (_, behind) = next_component(run)?;
            rest = behind;
            Some(run)
        })
    }
}

/// Splits off the first component of a path.
#[inline]
fn next_component(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = strip_slashes(path);
    let len = path.iter().position(|&byte| byte == b'/');
    path.split_at_checked(len.unwrap_or(path.len()))
        .filter(|(name, _)| !name.is_empty())
}

#[inline]
fn strip_slashes(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"/") {
        path = rest;
    }
    path
}

/// A piece of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'p> {
    /// `*`
    Star,
    /// `?`
    One,
    /// A character that stands for itself.
    Char(&'p [u8]),
}

fn next_token(pattern: &[u8]) -> Option<(Token<'_>, &[u8])> {
    match pattern {
        [b'*', rest @ ..] => Some((Token::Star, rest)),
        [b'?', rest @ ..] => Some((Token::One, rest)),
        [b'\\', rest @ ..] if !rest.is_empty() => {
            split_char(rest).map(|(ch, rest)| (Token::Char(ch), rest))
        }
        _ => split_char(pattern).map(|(ch, rest)| (Token::Char(ch), rest)),
    }
}

/// The fewest bytes that `pattern` can match.
fn shortest_match(pattern: &[u8]) -> usize {
    let mut rest = pattern;
    let mut len = 0;
    while let Some((token, behind)) = next_token(rest) {
        len += match token {
            Token::Star => 0,
            Token::One => 1,
            Token::Char(ch) => ch.len(),
        };
        rest = behind;
    }
    len
}

/// Tells whether `pattern` matches all of `name`.
///
/// Only the last `*` is ever tried again, a character further each time: what an earlier one could
/// take instead, this one can take as well. So the time is at most the product of the lengths.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let mut at = (pattern, name);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let (pattern, name) = at;
        let next = match (next_token(pattern), split_char(name)) {
            (None, None) => return true,
            (Some((Token::Star, [])), _) => return true,
            (Some((Token::Star, behind)), _) => {
                retry = Some((behind, name));
                Some((behind, name))
            }
            (Some((Token::One, behind)), Some((_, rest))) => Some((behind, rest)),
            (Some((Token::Char(want), behind)), Some((ch, rest))) if want == ch => {
                Some((behind, rest))
            }
            _ => None,
        };
        at = match next {
            Some(next) => next,
            None => {
                let Some((behind, (_, rest))) =
                    retry.and_then(|(behind, name)| Some((behind, split_char(name)?)))
                else {
                    return false;
                };
                retry = Some((behind, rest));
                (behind, rest)
            }
        };
    }
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_skip)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts {
        path: None,
        fs_type: b"ext4",
        comm: b"vi",
        uid: 1000,
    };

    fn decide(text: &[u8], facts: &Facts<'_>) -> Option<Verdict> {
        let mut rules = [Rule::EMPTY; 24];
        let count = compile(text, &mut rules).ok()?;
        let rules = rules.get(..count)?;
        Some(Rules { text, rules }.decide(facts))
    }

    fn skips(text: &[u8], facts: &Facts<'_>) -> Option<bool> {
        decide(text, facts).map(|verdict| verdict.skip)
    }

    /// A list, a path, and whether it is skipped.
    type Row = (&'static [u8], &'static [u8], bool);

    static PATHS: [Row; 63] = [
        (b"", b"/a", false),
        (b" ,\n, ", b"/a", false),
        (b"/a", b"/a", true),
        (b"/a", b"/a/b", true),
        (b"/a", b"/ab", false),
        (b"/a", b"/b/a", false),
        (b"/a/", b"/a/b", true),
        (b"/a/b", b"/a/b/c", true),
        (b"/a/b", b"/a", false),
        (b"/a/b", b"/a/bc", false),
        (b"/", b"/", true),
        (b"/", b"/a/b", true),
        (b"/,!/a", b"/a/b", false),
        // Components, anywhere and whole.
        (b".git", b"/a/.git/config", true),
        (b".git", b"/a/.git", true),
        (b".git/", b"/a/.git", true),
        (b".git", b"/a/.gitignore", false),
        (b".git", b"/a/x.git", false),
        (b"a/b", b"/x/a/b/c", true),
        (b"a/b", b"/a/b", true),
        (b"a/b/", b"/a/a/b", true),
        (b"a/b", b"/a/x/b", false),
        (b"a/b", b"/xa/b", false),
        (b"a/b", b"/a/bx", false),
        // Stars do not cross a slash.
        (b"*.swp", b"/a/.x.swp", true),
        (b"*.swp", b"/a/.x.swp/y", true),
        (b"*.swp", b"/a/.x.swpx", false),
        (b"/home/*/.cache", b"/home/u/.cache/x", true),
        (b"/home/*/.cache", b"/home/u/v/.cache", false),
        (b"/home/*/.cache", b"/home/.cache", false),
        (b"/home/*/.cache", b"/home", false),
        (b"/home/*", b"/home/u", true),
        (b"/home/*", b"/home", false),
        (b"/h*e", b"/home/u", true),
        (b"/h*e", b"/ho/me", false),
        (b"*", b"/a", true),
        (b"a*b*c", b"/aXbXbc", true),
        (b"a*b*c", b"/aXbXcX", false),
        (b"*aab", b"/aaaab", true),
        (b"*a*aab", b"/aaaaab", true),
        (b"a*/b?", b"/x/ax/bz", true),
        (b"a*/b?", b"/x/ax/b", false),
        // One character, not one byte.
        (b"a?c", b"/abc", true),
        (b"a?c", b"/ac", false),
        (b"a?c", b"/a\xc3\xa9c", true),
        (b"a??c", b"/a\xc3\xa9c", false),
        (b"a*??c", b"/a\xe2\x82\xacc", false),
        (b"a?c", b"/a\xffc", true),
        // Escapes.
        (b"a\\,b", b"/a,b", true),
        (b"a\\,b", b"/a", false),
        (b"a\\*b", b"/a*b", true),
        (b"a\\*b", b"/axb", false),
        (b"a\\\\,b", b"/b", true),
        (b"\\!a", b"/!a", true),
        (b"\\ a\\ ", b"/ a ", true),
        (b"fs\\:a", b"/fs:a", true),
        (b"/a\\ b/c", b"/a b/c/d", true),
        // Order: the last one that matches.
        (b"a,!b", b"/a/b", false),
        (b"!b,a", b"/a/b", true),
        (b"a,!b,c", b"/a/b/c", true),
        (b"a,!b", b"/a/x", true),
        (b" ! b\n a ", b"/b", false),
        (b"! b\r\n\ta", b"/a", true),
    ];

    #[test]
    fn paths_are_matched_by_components() {
        let wrong = PATHS.iter().position(|&(text, path, want)| {
            let path = Some(path);
            skips(text, &Facts { path, ..FACTS }) != Some(want)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn deep_paths_are_matched_like_others() {
        // Twenty components, more than are kept in a table.
        static DEEP: &[u8] = b"/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20";
        static ROWS: [(&[u8], bool); 8] = [
            (b"1", true),
            (b"16", true),
            (b"17", true),
            (b"20", true),
            (b"21", false),
            (b"2?", true),
            (b"16/17/18", true),
            (b"20/21", false),
        ];
        let path = Some(DEEP);
        let wrong = ROWS
            .iter()
            .position(|&(text, want)| skips(text, &Facts { path, ..FACTS }) != Some(want));
        assert_eq!(wrong, None);
    }

    #[test]
    fn writers_and_file_systems_are_matched() {
        static ROWS: [(&[u8], bool); 18] = [
            (b"fs:ext4", true),
            (b"fs:ext", false),
            (b"fs:ext*", true),
            (b"fs:*", true),
            (b"fs:tmpfs", false),
            (b"comm:vi", true),
            (b"comm:v?", true),
            (b"comm:vim", false),
            (b"comm:V*", false),
            (b"uid:1000", true),
            (b"uid:0", false),
            (b"uid:1000-1999", true),
            (b"uid:0-1000", true),
            (b"uid:0-999", false),
            (b"uid:1001-4294967295", false),
            (b"fs:ext4,!comm:vi", false),
            (b"!comm:vi,fs:ext4", true),
            // Without a path, rules about paths do not match.
            (b"/,*,a/b", false),
        ];
        let wrong = ROWS
            .iter()
            .position(|&(text, want)| skips(text, &FACTS) != Some(want));
        assert_eq!(wrong, None);
    }

    #[test]
    fn bad_lists_are_refused_where_they_are_bad() {
        use SkipErrorKind as Kind;
        static LONG: [u8; SKIP_TEXT_MAX + 1] = [b','; SKIP_TEXT_MAX + 1];
        static ROWS: [(&[u8], usize, usize, Kind); 36] = [
            (&LONG, 0, SKIP_TEXT_MAX, Kind::TooLong),
            (b"a\0b", 0, 1, Kind::Nul),
            (b"a, !", 2, 4, Kind::Empty),
            (b"fs:", 1, 3, Kind::Empty),
            (b"a,comm:,b", 2, 7, Kind::Empty),
            (b"uid:", 1, 4, Kind::Empty),
            (b"! , b", 1, 1, Kind::Empty),
            (b"//a", 1, 1, Kind::EmptyComponent),
            (b"/a//b", 1, 3, Kind::EmptyComponent),
            (b"/a//", 1, 3, Kind::EmptyComponent),
            (b"a//b", 1, 2, Kind::EmptyComponent),
            (b"//", 1, 1, Kind::EmptyComponent),
            (b"/a/./b", 1, 3, Kind::DotComponent),
            (b"/..", 1, 1, Kind::DotComponent),
            (b"a,..", 2, 2, Kind::DotComponent),
            (b"./a", 1, 0, Kind::DotComponent),
            (b"/a/**/b", 1, 3, Kind::DoubleStar),
            (b"**", 1, 0, Kind::DoubleStar),
            (b"a\\", 1, 1, Kind::Escape),
            (b"a\\b", 1, 1, Kind::Escape),
            (b"x, /a\\/b", 2, 5, Kind::Escape),
            (b"comm:\\a", 1, 5, Kind::Escape),
            (b"gid:0", 1, 0, Kind::UnknownKind),
            (b"a,!user:bob", 2, 3, Kind::UnknownKind),
            (b"!!a", 1, 1, Kind::DoubleNot),
            (b"! !a", 1, 2, Kind::DoubleNot),
            (b"comm:0123456789abcdef", 1, 5, Kind::CommTooLong),
            (b"comm:0123456789abcd?*e", 1, 5, Kind::CommTooLong),
            (b"uid:bob", 1, 4, Kind::BadUid),
            (b"uid:-1", 1, 4, Kind::BadUid),
            (b"uid:1-", 1, 4, Kind::BadUid),
            (b"uid:1-2-3", 1, 4, Kind::BadUid),
            (b"uid:4294967296", 1, 4, Kind::BadUid),
            (b"uid:0x10", 1, 4, Kind::BadUid),
            (b"uid:2-1", 1, 4, Kind::UidReversed),
            (b"1,2,3,4,5", 5, 8, Kind::TooMany),
        ];
        let wrong = ROWS.iter().position(|&(text, rule, offset, kind)| {
            let error = SkipError { rule, offset, kind };
            compile(text, &mut [Rule::EMPTY; 4]) != Err(error)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn the_longest_list_is_accepted() {
        static LIST: [u8; SKIP_TEXT_MAX] = {
            let mut list = [b'x'; SKIP_TEXT_MAX];
            list[SKIP_TEXT_MAX - 2] = b',';
            list
        };
        let mut rules = [Rule::EMPTY; 2];
        assert_eq!(max_rules(&LIST), 2);
        assert_eq!(compile(&LIST, &mut rules), Ok(2));
        assert!(compile(b"comm:0123456789abcde,comm:0123456789abcd?*", &mut rules).is_ok());
    }

    #[test]
    fn the_rule_that_decides_is_named() {
        static TEXT: &[u8] = b"/a, ! /a/b/ ,fs:tmpfs,/";
        let mut rules = [Rule::EMPTY; 4];
        assert_eq!(compile(TEXT, &mut rules), Ok(4));
        let sources = [b"/a".as_slice(), b"! /a/b", b"fs:tmpfs", b"/"];
        assert!(rules.iter().map(|rule| rule.source(TEXT)).eq(sources));
        let rules = Rules {
            text: TEXT,
            rules: rules.get(..3).unwrap_or_default(),
        };
        assert!(rules.needs_path());
        assert!(!rules.depends_on_writer());
        let path = Some(b"/a/b/c".as_slice());
        let included = Verdict {
            skip: false,
            rule: Some(1),
            kind: Some(RuleKind::Path),
        };
        assert_eq!(rules.decide(&Facts { path, ..FACTS }), included);
        let path = Some(b"/c".as_slice());
        assert_eq!(rules.decide(&Facts { path, ..FACTS }), Verdict::RECORD);
    }

    #[test]
    fn what_a_list_depends_on_is_known() {
        static ROWS: [(&[u8], bool, bool); 6] = [
            (b"", false, false),
            (b"/a", true, false),
            (b"a", true, false),
            (b"fs:a", false, false),
            (b"comm:a", false, true),
            (b"fs:a,uid:0", false, true),
        ];
        let wrong = ROWS.iter().position(|&(text, path, writer)| {
            let mut rules = [Rule::EMPTY; 4];
            let count = compile(text, &mut rules).unwrap_or(0);
            let rules = rules.get(..count).unwrap_or_default();
            let rules = Rules { text, rules };
            (rules.needs_path(), rules.depends_on_writer()) != (path, writer)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn a_look_at_each_rule_is_seldom_needed() {
        /// `(list, path, expected)`
        type Row = (&'static [u8], Option<&'static [u8]>, bool);

        static ROWS: [Row; 20] = [
            (DEFAULT, Some(b"/home/alice/src/main.c"), false),
            (DEFAULT, Some(b"/usr/share/doc/README"), false),
            (DEFAULT, Some(b"/mnt/ext4/bench/create_unlink/file"), false),
            (DEFAULT, None, false),
            (DEFAULT, Some(b"/proc/1/comm"), true),
            (DEFAULT, Some(b"/home/alice/.git/index"), true),
            (b"", Some(b"/proc"), false),
            (b"uid:7", None, true),
            (b"/*", Some(b"/srv"), true),
            (b"*", Some(b"/srv"), true),
            (b"*.swp,*~", Some(b"/srv/main.c"), false),
            (b"*.swp,*~", Some(b"/srv/.main.c.swp"), true),
            (b"*.swp,*~", Some(b"/srv/main.c~/x"), true),
            (b"core.*,?s", Some(b"/srv/main.c"), false),
            (b"core.*,?s", Some(b"/srv/core.1"), true),
            (b"core.*,?s", Some(b"/srv/ls"), true),
            (b"*\\*", Some(b"/srv/x*"), true),
            (b"*\\,", Some(b"/srv/x,"), true),
            (b"*\\,", Some(b"/srv/x"), false),
            (b"a*/b", Some(b"/srv/abc/b"), true),
        ];
        let wrong = ROWS.iter().position(|&(text, path, expected)| {
            let mut rules = [Rule::EMPTY; 24];
            let count = compile(text, &mut rules).unwrap_or(0);
            let rules = rules.get(..count).unwrap_or_default();
            let hints = Hints::of(&Rules { text, rules });
            hints.may_match(&Facts { path, ..FACTS }) != expected
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn what_is_known_of_a_directory_spares_a_look_at_its_path() {
        /// `(list, directory, name in it, (by the directory, by the name))`
        type Row = (&'static [u8], &'static [u8], &'static [u8], (bool, bool));

        static ROWS: [Row; 8] = [
            (DEFAULT, b"/home/alice", b"main.c", (false, false)),
            (DEFAULT, b"/home/alice", b".git", (false, true)),
            (DEFAULT, b"/home/alice/.git", b"index", (true, false)),
            (DEFAULT, b"/proc/1", b"comm", (true, false)),
            // Only the first component of a path is the first one of a rule for paths.
            (DEFAULT, b"/home/alice", b"proc", (false, false)),
            (b"*.swp", b"/srv", b"a.swp", (false, true)),
            (b"a/b", b"/srv/a", b"b", (true, false)),
            (b"a/b", b"/srv", b"b", (false, false)),
        ];
        let wrong = ROWS.iter().position(|&(text, directory, name, expected)| {
            let mut rules = [Rule::EMPTY; 24];
            let count = compile(text, &mut rules).unwrap_or(0);
            let rules = rules.get(..count).unwrap_or_default();
            let hints = Hints::of(&Rules { text, rules });
            let got = (hints.may_match_path(directory), hints.may_match_name(name));
            got != expected || hints.may_match_origin(&FACTS)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn the_default_list_skips_what_it_says() {
        static ROWS: [(&[u8], bool); 10] = [
            (b"/proc/1/comm", true),
            (b"/tmp/x", true),
            (b"/home/u/tmp/x", false),
            (b"/var/lib/dpkg/status", true),
            (b"/var/lib/other", false),
            (b"/home/u/p/.git/index", true),
            (b"/home/u/p/.github/x", false),
            (b"/home/u/p/target/debug/p", true),
            (b"/home/u/dev/run/sys/x.c", false),
            (b"/home/u/p/src/main.rs", false),
        ];
        let wrong = ROWS.iter().position(|&(path, want)| {
            let path = Some(path);
            skips(DEFAULT, &Facts { path, ..FACTS }) != Some(want)
        });
        assert_eq!(wrong, None);
        let fs_type = b"fuse.sshfs";
        assert_eq!(skips(DEFAULT, &Facts { fs_type, ..FACTS }), Some(true));
    }

    #[test]
    fn stars_are_not_tried_in_all_combinations() {
        // With a search through all of them this would take longer than anyone waits.
        static NAME: [u8; 255] = [b'a'; 255];
        static PATTERN: [u8; 200] = {
            let mut pattern = [b'a'; 200];
            let mut at = 0;
            while at < pattern.len() {
                pattern[at] = b'*';
                at += 2;
            }
            pattern[199] = b'b';
            pattern
        };
        assert!(!glob(&PATTERN, &NAME));
    }
}
