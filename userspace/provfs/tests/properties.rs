//! What must hold for every input, tried on many: the codec, the environment search and the skip
//! rules, the latter two against implementations that are too simple to be wrong.

use proptest::{collection::vec, prelude::*, sample::select};
use provfs::{
    Record,
    pure::{
        environ::{Declared, Kind, NameList, Wanted, search, search_slice},
        fallback::{Fallback, write_fallback},
        history,
        limits::*,
        packed::{self, Packed},
        record::{self, Session},
        skip::{self, Facts, Hints, Rule, Rules, Verdict},
        text::{self, Escape, Fit, Writer},
        time::{RFC3339_LEN, format_rfc3339, parse_ts},
    },
};

/// Bytes that are hostile more often than by chance: separators, control bytes, parts of UTF-8
/// sequences.
fn hostile(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"a",
        b"B",
        b"7",
        b"/",
        b" ",
        b".",
        b"...",
        b"=",
        b"-",
        b"%",
        b"%4",
        b"%3B",
        b"%25",
        b";",
        b",",
        b">",
        b":",
        b"\0",
        b"\n",
        b"\x1b",
        b"\x7f",
        b"\xc3\xa9",
        b"\xe2\x82\xac",
        b"\xf0\x9f\x98\x80",
        b"\xe2\x82",
        b"\xff",
        b"\x80",
        b"comm:",
        b"comm-chain:",
        b"pid:7",
        b"uid:0",
        b"s=",
        b"ts=1",
    ];
    vec(select(pieces), 0..max).prop_map(|pieces| pieces.concat())
}

fn write(max: usize, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buf = vec![0; max];
    let mut out = Writer::new(&mut buf);
    write(&mut out);
    out.as_bytes().to_vec()
}

fn unescape(stored: &[u8]) -> Vec<u8> {
    write(stored.len(), |out| {
        assert_eq!(text::unescape(stored, out), Fit::Whole)
    })
}

fn has_separator(stored: &[u8]) -> bool {
    stored
        .iter()
        .any(|byte| matches!(byte, b';' | b',' | b'>' | 0..=0x1f | 0x7f))
}

proptest! {
    #[test]
    fn escaping_hides_all_separators_and_can_be_undone(
        raw in hostile(60), max in 0usize..100, part: bool,
    ) {
        let escape = if part { Escape::Part } else { Escape::Value };
        let mut fit = Fit::Whole;
        let stored = write(200, |out| fit = out.push_escaped(&raw, escape, max));

        prop_assert!(stored.len() <= max);
        prop_assert!(text::is_stored(&stored));
        prop_assert!(!has_separator(&stored));
        prop_assert!(!part || !stored.contains(&b':'));
        let back = unescape(&stored);
        prop_assert!(raw.starts_with(&back));
        prop_assert_eq!(fit == Fit::Whole, back == raw);
        prop_assert_eq!(fit == Fit::Whole, text::escaped_len(&raw, escape) <= max.min(200));
        // No character takes more than four bytes: nothing that would fit is left out.
        prop_assert!(fit == Fit::Whole || stored.len() + 4 > max.min(200));
    }

    #[test]
    fn text_stays_text_when_it_is_cut(raw: String, max in 0usize..40) {
        let stored = write(40, |out| { out.push_escaped(raw.as_bytes(), Escape::Value, max); });
        prop_assert!(std::str::from_utf8(&stored).is_ok());
        prop_assert!(std::str::from_utf8(text::cut(raw.as_bytes(), max)).is_ok());
        prop_assert!(text::cut(raw.as_bytes(), max).len() <= max);
    }

    #[test]
    fn a_declared_session_reads_back_as_declared(
        raw in hostile(40).prop_filter("not empty", |raw| !raw.is_empty()),
    ) {
        let mut fit = Fit::Whole;
        let stored = write(SESSION_MAX + 8, |out| fit = record::encode_declared_session(&raw, out));
        prop_assert!(stored.len() <= SESSION_MAX);
        prop_assert_eq!(Session::parse(&stored), Session::Declared(&stored));
        if fit == Fit::Whole {
            prop_assert_eq!(unescape(&stored), raw);
        }
    }

    #[test]
    fn a_fallback_session_fits_and_reads_back(
        chain in vec(hostile(6).prop_map(|mut comm| { comm.truncate(15); comm }), 1..5),
        env in proptest::option::of(("[A-Z_]{1,64}", hostile(20))),
        cwd in proptest::option::of(hostile(80)),
        pid: u32,
        uid: u32,
    ) {
        let borrowed: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let who = Fallback {
            chain: &borrowed,
            env: env.as_ref().map(|(name, value)| (name.as_bytes(), value.as_slice())),
            cwd: cwd.as_deref(),
            pid,
            uid,
        };
        let stored = write(SESSION_MAX + 8, |out| assert!(write_fallback(&who, out).is_ok()));
        prop_assert!(stored.len() <= SESSION_MAX);
        let Session::Fallback(parsed) = Session::parse(&stored) else {
            return Err(TestCaseError::fail("not a fallback session"));
        };
        prop_assert_eq!((parsed.pid, parsed.uid), (Some(pid), Some(uid)));

        // The chain is the first comms, whole, and at least the writer's.
        let comms: Vec<_> = parsed.comms().map(unescape).collect();
        prop_assert!(!comms.is_empty());
        prop_assert_eq!(&comms[..], &chain[..comms.len()]);
        // The directory is whole, or its end behind dots.
        let wanted = cwd.filter(|cwd| !cwd.is_empty());
        let whole_cwd = match (&parsed.cwd, &wanted) {
            (Some(stored), Some(cwd)) if unescape(stored) == *cwd => true,
            (Some(stored), Some(cwd)) => {
                let end = stored.strip_prefix(b"...").expect("dots for what is missing");
                prop_assert!(cwd.ends_with(&unescape(end)));
                false
            }
            (None, wanted) => wanted.is_none(),
            (Some(_), None) => return Err(TestCaseError::fail("a directory from nowhere")),
        };
        // The variable is there only if the directory is, and that only if all of the chain is.
        let whole_env = match (&parsed.env, &env) {
            (Some((name, value)), Some((wanted_name, wanted))) => {
                prop_assert_eq!(*name, wanted_name.as_bytes());
                prop_assert!(wanted.starts_with(&unescape(value)));
                prop_assert!(value.len() <= FALLBACK_ENV_MAX);
                true
            }
            (None, wanted) => wanted.as_ref().is_none_or(|(_, value)| value.is_empty()),
            (Some(_), None) => return Err(TestCaseError::fail("a variable from nowhere")),
        };
        prop_assert!(whole_cwd || parsed.env.is_none());
        prop_assert!(comms.len() == chain.len() || parsed.cwd.is_none());
        // Nothing is left out for which there is room.
        let missing = match (comms.len() == chain.len(), whole_cwd, whole_env) {
            (false, _, _) => 1 + text::escaped_len(&chain[comms.len()], Escape::Part),
            // One character more in front of what is left; or the shortest end, if all is gone.
            (true, false, _) if parsed.cwd.is_some() => 4,
            (true, false, _) => b";cwd:...".len() + FALLBACK_CWD_MIN + 3,
            (true, true, false) => {
                let (name, value) = env.as_ref().expect("it is missing");
                let value = text::escaped_len(value, Escape::Value).min(FALLBACK_ENV_MAX);
                b";env:=".len() + name.len() + value
            }
            (true, true, true) => SESSION_MAX + 1,
        };
        prop_assert!(stored.len() + missing > SESSION_MAX);
    }

    #[test]
    fn a_packed_record_reads_back(
        ts: i64,
        session in stored(40),
        fields in vec(proptest::option::of(stored(20)), 3),
        sessions in vec(stored(10), 0..4),
    ) {
        let history = sessions.join(&b',');
        let record = Packed {
            ts,
            session: &session,
            tool: fields[0].as_deref(),
            turn: fields[1].as_deref(),
            intent: fields[2].as_deref(),
            history: Some(&history),
        };
        let packed = write(PACKED_MAX, |out| assert!(packed::encode(&record, out).is_ok()));
        let back = packed::decode(&packed).expect("a record");
        prop_assert_eq!(back.time().map(|time| time.secs), Some(ts));
        prop_assert_eq!(back.session, Some(Session::parse(&session)));
        let fields = [record.tool, record.turn, record.intent];
        prop_assert_eq!([back.tool, back.turn, back.intent], fields);
        let back = history::entries(back.history.unwrap_or_default());
        prop_assert!(back.eq(history::entries(&history)));
    }

    #[test]
    fn history_is_the_newest_distinct_sessions(
        new in stored(8),
        old in proptest::option::of(stored(8)),
        sessions in vec(stored(8), 0..12),
        limit in 0usize..40,
    ) {
        let mut want: Vec<&[u8]> = Vec::new();
        let all = sessions.iter().map(Vec::as_slice);
        let all = std::iter::once(new.as_slice()).chain(old.as_deref()).chain(all);
        for session in all.map(<[u8]>::trim_ascii) {
            if !session.is_empty() && !want.contains(&session) {
                want.push(session);
            }
        }
        want.truncate(limit.min(HISTORY_MAX));
        if want.len() < 2 {
            want.clear();
        }
        let merged = write(HISTORY_TEXT_MAX, |out| {
            let count = history::merge(&new, old.as_deref(), &sessions.join(&b','), limit, out);
            assert_eq!(count, want.len());
        });
        prop_assert_eq!(merged, want.join(&b','));
    }

    #[test]
    fn history_stays_within_its_bounds(
        new in hostile(30), old in hostile(200), history in hostile(2000), room in 0usize..2000,
    ) {
        let merged = write(room, |out| {
            let count = history::merge(&new, Some(&old), &history, HISTORY_MAX, out);
            assert_eq!(count, history::entries(out.as_bytes()).count());
        });
        prop_assert!(merged.len() <= HISTORY_TEXT_MAX);
        for entry in history::entries(&merged) {
            prop_assert!(entry.len() <= SESSION_MAX);
            prop_assert!(!matches!(Session::parse(entry), Session::Fallback(_)));
        }
        prop_assert!(merged.iter().all(|byte| !matches!(byte, b';' | b'>' | 0..=0x1f | 0x7f)));
    }

    #[test]
    fn times_read_back(secs in -62_167_219_200i64..=253_402_300_799) {
        let mut buf = [0; RFC3339_LEN];
        let stored = format_rfc3339(secs, &mut buf);
        prop_assert_eq!(parse_ts(stored).map(|ts| (ts.secs, ts.nanos)), Some((secs, 0)));
        prop_assert_eq!(parse_ts(secs.to_string().as_bytes()).map(|ts| ts.secs), Some(secs));
    }

    #[test]
    fn no_bytes_are_too_bad(bytes in prop_oneof![hostile(200), vec(any::<u8>(), 0..400)]) {
        let _ = Session::parse(&bytes);
        let _ = packed::decode(&bytes);
        let _ = parse_ts(&bytes);
        let _ = NameList::parse(&bytes);
        let _ = unescape(&bytes);
        let _ = skip::compile(&bytes, &mut [Rule::EMPTY; 8]);
        search_slice(&Wanted::defaults(), &mut Declared::new(), &bytes);
        for name in ["user.prov", "user.prov.session", "user.prov.ts", "user.prov.history"] {
            prop_assert!(Record::from_xattrs([(name, &bytes)]).is_some());
        }
    }
}

/// Fields within their own limits always fit; others must not make a record that cannot be stored.
#[test]
fn a_packed_record_stays_within_its_bounds() {
    let long = vec![b'x'; 2 * PACKED_MAX];
    let record = Packed {
        ts: 0,
        session: b"s",
        tool: Some(b"t"),
        turn: None,
        intent: Some(&long),
        history: Some(b"a,b"),
    };
    let packed = write(3 * PACKED_MAX, |out| {
        assert!(packed::encode(&record, out).is_ok())
    });
    assert_eq!(packed, b"ts=0;s=s;t=t");
    let record = Packed {
        session: &long,
        ..record
    };
    let packed = write(3 * PACKED_MAX, |out| {
        assert!(packed::encode(&record, out).is_err())
    });
    assert_eq!(packed, b"");
}

/// A value in stored form, not empty, that is no fallback session.
fn stored(max: usize) -> impl Strategy<Value = Vec<u8>> {
    hostile(max)
        .prop_map(|raw| {
            write(3 * raw.len() + 1, |out| {
                out.push_escaped(&raw, Escape::Part, 256);
            })
        })
        .prop_filter("not empty", |stored| !stored.trim_ascii().is_empty())
}

/// The environment search, too simple to be wrong: the value that the first name of `list` with a
/// value has.
fn naive_search<'e>(list: &[&str], strings: &[&'e [u8]]) -> Option<&'e [u8]> {
    list.iter().find_map(|name| {
        let first = strings.iter().find_map(|string| {
            string
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
        })?;
        Some(text::cut(first, VALUE_MAX)).filter(|value| !value.is_empty())
    })
}

/// Strings of which some are wanted variables, some nearly so, and some long enough to reach over
/// windows.
fn strings() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let name = select(vec![
        "A",
        "AB",
        "B",
        "PROV_SESSION",
        "PROV_TOOL",
        "P",
        "",
        "A_",
        "AB=",
        "PATH",
    ]);
    let value = prop_oneof![
        3 => hostile(4),
        1 => vec(any::<u8>(), 0..400),
        1 => (0usize..1500).prop_map(|len| vec![b'v'; len]),
    ];
    let string = (name, prop_oneof![4 => Just("="), 1 => Just("")], value).prop_map(
        |(name, equals, value)| {
            let mut string = [name.as_bytes(), equals.as_bytes(), &value].concat();
            string.retain(|&byte| byte != 0);
            string
        },
    );
    vec(string, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_search_agrees_with_a_simple_one_for_any_windows(
        arguments in strings(),
        environment in strings(),
        window in WINDOW_MIN..WINDOW_MIN + 700,
        list in select(vec![
            vec!["A", "AB"], vec!["AB", "B", "A"], vec!["PROV_SESSION", "A"], vec!["B"], vec![],
        ]),
    ) {
        let strings = arguments.iter().chain(&environment);
        let block: Vec<u8> = strings.flat_map(|s| s.iter().copied().chain([0])).collect();
        let text = list.join(" ");
        let names = NameList::parse(text.as_bytes()).unwrap();
        let wanted = Wanted { session: names, ..Wanted::NOTHING };
        let mut found = Declared::new();
        let mut window = vec![0xaa; window];
        let read = |dist: usize, buf: &mut [u8]| {
            let end = block.len().checked_sub(dist).expect("below the block");
            let start = end.checked_sub(buf.len()).expect("below the block");
            buf.copy_from_slice(&block[start..end]);
            Ok::<(), ()>(())
        };
        search(&wanted, &mut found, block.len(), environment.len(), &mut window, read).unwrap();

        let strings: Vec<_> = environment.iter().map(Vec::as_slice).collect();
        let got = found.get(Kind::Session).map(|claim| claim.value);
        prop_assert_eq!(got, naive_search(&list, &strings));
        let whole: Vec<_> = arguments.iter().chain(&environment).map(Vec::as_slice).collect();
        search_slice(&wanted, &mut found, &block);
        let got = found.get(Kind::Session).map(|claim| claim.value);
        prop_assert_eq!(got, naive_search(&list, &whole));
    }

    #[test]
    fn decisions_agree_with_a_simple_matcher(
        rules in vec((any::<bool>(), pattern(), select(vec![",", "\n", " , ", ",,"])), 0..6),
        path in path(),
        fs_type in word(), comm in word(), uid in 0u32..6,
    ) {
        let text: Vec<String> = rules.iter().map(|(not, rule, separator)| {
            format!("{}{}{separator}", if *not { "!" } else { "" }, rule.text())
        }).collect();
        let text = text.concat();
        let mut compiled = vec![Rule::EMPTY; skip::max_rules(text.as_bytes())];
        let count = skip::compile(text.as_bytes(), &mut compiled)
            .map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
        prop_assert_eq!(count, rules.len());
        let facts = Facts {
            path: Some(path.as_bytes()),
            fs_type: fs_type.as_bytes(),
            comm: comm.as_bytes(),
            uid,
        };
        let skip_list = Rules { text: text.as_bytes(), rules: &compiled[..count] };
        let verdict = skip_list.decide(&facts);
        let hints = Hints::of(&skip_list);
        prop_assert!(verdict == Verdict::RECORD || hints.may_match(&facts));
        if let Some((directory @ [_, ..], name)) = split_name(path.as_bytes()) {
            prop_assert!(
                verdict == Verdict::RECORD
                    || hints.may_match_origin(&facts)
                    || hints.may_match_path(directory)
                    || hints.may_match_name(name)
            );
        }

        let matches = |rule: &Pattern| rule.matches(&path, &fs_type, &comm, uid);
        let last = rules.iter().enumerate().rfind(|(_, (_, rule, _))| matches(rule));
        prop_assert_eq!(verdict.rule, last.map(|(index, _)| index as u16), "{:?}", text);
        prop_assert_eq!(verdict.skip, last.is_some_and(|(_, (not, _, _))| !not), "{:?}", text);
    }
}

/// Splits a path into its directory, which is empty for the root, and the name in it.
fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// A skip rule as what it means, not as text.
#[derive(Clone, Debug)]
enum Pattern {
    Path(Vec<Vec<Piece>>),
    Names(Vec<Vec<Piece>>),
    Fs(Vec<Piece>),
    Comm(Vec<Piece>),
    Uid(u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Star,
    One,
    Char(char),
}

impl Pattern {
    fn text(&self) -> String {
        let join = |components: &[Vec<Piece>]| {
            components
                .iter()
                .map(|c| write_glob(c))
                .collect::<Vec<_>>()
                .join("/")
        };
        match self {
            Pattern::Path(components) => format!("/{}", join(components)),
            Pattern::Names(components) => join(components),
            Pattern::Fs(glob) => format!("fs:{}", write_glob(glob)),
            Pattern::Comm(glob) => format!("comm:{}", write_glob(glob)),
            Pattern::Uid(from, to) => format!("uid:{from}-{to}"),
        }
    }

    fn matches(&self, path: &str, fs_type: &str, comm: &str, uid: u32) -> bool {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let begins = |globs: &[Vec<Piece>], names: &[&str]| {
            globs.len() <= names.len()
                && globs
                    .iter()
                    .zip(names)
                    .all(|(glob, name)| naive_glob(glob, name))
        };
        match self {
            Pattern::Path(globs) => begins(globs, &names),
            Pattern::Names(globs) => (0..names.len()).any(|at| begins(globs, &names[at..])),
            Pattern::Fs(glob) => naive_glob(glob, fs_type),
            Pattern::Comm(glob) => naive_glob(glob, comm),
            Pattern::Uid(from, to) => (*from..=*to).contains(&uid),
        }
    }
}

fn write_glob(glob: &[Piece]) -> String {
    let mut text = String::new();
    for piece in glob {
        match piece {
            Piece::Star => text.push('*'),
            Piece::One => text.push('?'),
            Piece::Char(c @ (',' | ' ' | '\\' | '*' | '?' | '!' | ':' | '\n' | '\t')) => {
                text.extend(['\\', *c])
            }
            Piece::Char(c) => text.push(*c),
        }
    }
    text
}

/// A glob that tries everything.
fn naive_glob(glob: &[Piece], name: &str) -> bool {
    let mut chars = name.chars();
    match (glob.split_first(), chars.next()) {
        (None, first) => first.is_none(),
        (Some((Piece::Star, rest)), None) => naive_glob(rest, name),
        (Some((Piece::Star, rest)), Some(_)) => {
            naive_glob(rest, name) || naive_glob(glob, chars.as_str())
        }
        (Some((Piece::One, rest)), Some(_)) => naive_glob(rest, chars.as_str()),
        (Some((Piece::Char(want), rest)), Some(first)) => {
            *want == first && naive_glob(rest, chars.as_str())
        }
        (Some(_), None) => false,
    }
}

/// Few different characters, so that patterns and names often agree.
const CHARS: [char; 9] = ['a', 'b', '.', ',', ' ', '*', '!', '\\', 'é'];

fn piece() -> impl Strategy<Value = Piece> {
    let char = select(&CHARS[..]).prop_map(Piece::Char);
    prop_oneof![1 => Just(Piece::Star), 1 => Just(Piece::One), 4 => char]
}

fn glob() -> impl Strategy<Value = Vec<Piece>> {
    use Piece::{Char, Star};
    let refused = |glob: &Vec<Piece>| {
        matches!(
            glob[..],
            [Char('.')] | [Char('.'), Char('.')] | [Star, Star]
        )
    };
    vec(piece(), 1..5).prop_filter("refused by the grammar", move |glob| !refused(glob))
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        vec(glob(), 0..4).prop_map(Pattern::Path),
        vec(glob(), 1..3).prop_map(Pattern::Names),
        glob().prop_map(Pattern::Fs),
        glob().prop_map(Pattern::Comm),
        (0u32..6, 0u32..6).prop_map(|(a, b)| Pattern::Uid(a.min(b), a.max(b))),
    ]
}

fn word() -> impl Strategy<Value = String> {
    let char = prop_oneof![3 => Just('a'), 1 => Just('b'), 2 => select(&CHARS[..])];
    vec(char, 1..7).prop_map(String::from_iter)
}

fn path() -> impl Strategy<Value = String> {
    // Deeper than the table of components now and then.
    prop_oneof![9 => vec(word(), 1..6), 1 => vec(word(), 14..20)]
        .prop_map(|names| format!("/{}", names.join("/")))
}
