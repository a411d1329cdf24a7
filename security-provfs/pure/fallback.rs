// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! The session of a process that declares none: what the kernel knows about it, as one string.
//!
//! ```text
//! comm-chain:<writer>><parent>><grandparent>;env:<KEY>=<val>;cwd:<dir>;pid:<tgid>;uid:<uid>
//! ```
//!
//! It has at most [`SESSION_MAX`] bytes. What does not fit goes in this order: the variable; the
//! beginning of the working directory, for which `...` is written, and then all of it; ancestors,
//! the oldest first. The writer's comm, pid and uid always stay, so the string is never cut as a
//! whole and always reads back.

use super::{
    limits::{
        COMM_MAX,
        FALLBACK_CWD_MIN,
        FALLBACK_ENV_MAX,
        NAME_MAX,
        SESSION_MAX, //
    },
    text::{
        escaped_len,
        split_char,
        Escape,
        Full,
        Writer, //
    },
};

/// How a fallback session begins. A declared one never does.
pub const PREFIX: &[u8] = b"comm-chain:";

/// What stands for the missing beginning of a working directory.
const ELLIPSIS: &[u8] = b"...";

/// What is known about a writer, not escaped.
#[derive(Clone, Copy, Debug)]
pub struct Fallback<'a> {
    /// The comm of the writer, its parent, and so on upwards until [`stops_chain`].
    pub chain: &'a [&'a [u8]],
    /// A variable worth showing, name and value.
    pub env: Option<(&'a [u8], &'a [u8])>,
    /// The working directory.
    pub cwd: Option<&'a [u8]>,
    /// The thread group id in the initial pid namespace.
    pub pid: u32,
    /// The real user id in the initial user namespace.
    pub uid: u32,
}

/// Tells whether a process is left out of the chain with everything above it: it starts the
/// others, so it says nothing about any of them.
pub fn stops_chain(pid: u32, comm: &[u8]) -> bool {
    // 0 is the idle task, 1 the first process, 2 kthreadd. Init systems also run one instance for
    // each user.
    pid <= 2 || matches!(comm, b"init" | b"systemd")
}

/// Writes the fallback session, in at most [`SESSION_MAX`] bytes.
///
/// Fails, and writes nothing, only if `out` has not even room for the parts that always stay.
///
/// # Examples
///
/// ```
/// # use provfs::pure::{fallback::{write_fallback, Fallback}, text::Writer};
/// let mut buf = [0; 256];
/// let mut out = Writer::new(&mut buf);
/// let who = Fallback {
///     chain: &[b"bash", b"make"],
///     env: None,
///     cwd: Some(b"/src"),
///     pid: 7,
///     uid: 1000,
/// };
/// write_fallback(&who, &mut out)?;
/// assert_eq!(out.as_bytes(), b"comm-chain:bash>make;cwd:/src;pid:7;uid:1000");
/// # Ok::<(), provfs::pure::text::Full>(())
/// ```
pub fn write_fallback(who: &Fallback<'_>, out: &mut Writer<'_>) -> Result<(), Full> {
    let start = out.len();
    let written = write_parts(who, SESSION_MAX.min(out.remaining()), out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Decides what stays within `max` bytes, then writes it.
fn write_parts(who: &Fallback<'_>, max: usize, out: &mut Writer<'_>) -> Result<(), Full> {
    let mut tail_buf = [0; ";pid:4294967295;uid:4294967295".len()];
    let mut tail = Writer::new(&mut tail_buf);
    tail.push(b";pid:")?;
    tail.push_u64(u64::from(who.pid))?;
    tail.push(b";uid:")?;
    tail.push_u64(u64::from(who.uid))?;
    let room = max.checked_sub(tail.len()).ok_or(Full)?;

    // The writer itself, then as many ancestors as fit without all the rest.
    let (writer, ancestors) = match who.chain {
        [writer, ancestors @ ..] => (*writer, ancestors),
        [] => (&[][..], &[][..]),
    };
    let mut used = PREFIX.len() + comm_len(writer);
    let mut room = room.checked_sub(used).ok_or(Full)?;
    let mut staying = 0;
    for comm in ancestors {
        used = 1 + comm_len(comm);
        let Some(left) = room.checked_sub(used) else {
            break;
        };
        room = left;
        staying += 1;
    }

    // The directory goes before an ancestor does, and the variable before a part of the directory.
    let cwd = who.cwd.filter(|cwd| !cwd.is_empty());
    let cwd_len = cwd.map_or(0, |cwd| b";cwd:".len() + escaped_len(cwd, Escape::Value));
    let env = who.env.filter(|(name, value)| {
        let len = b";env:=".len() + env_name_len(name) + env_value_len(value);
        let sound = !name.is_empty() && !value.is_empty() && !name.contains(&b'=');
        sound && len + cwd_len <= room
    });

    out.push(PREFIX)?;
    out.push_escaped(writer, Escape::Part, COMM_MAX);
    for comm in ancestors.iter().take(staying) {
        out.push(b">")?;
        out.push_escaped(comm, Escape::Part, COMM_MAX);
    }
    if let Some((name, value)) = env {
        out.push(b";env:")?;
        out.push_escaped(name, Escape::Part, NAME_MAX);
        out.push(b"=")?;
        out.push_escaped(value, Escape::Value, FALLBACK_ENV_MAX);
    }
    if let Some(cwd) = cwd {
        if cwd_len <= room {
            out.push(b";cwd:")?;
            out.push_escaped(cwd, Escape::Value, cwd_len);
        } else if let Some(end) = room
            .checked_sub(b";cwd:".len() + ELLIPSIS.len())
            .and_then(|room| cwd_end(cwd, room))
        {
            out.push(b";cwd:")?;
            out.push(ELLIPSIS)?;
            out.push_escaped(end, Escape::Value, room);
        }
    }
    out.push(tail.as_bytes())
}

/// How much of a comm is stored: it may be cut, at a whole character.
fn comm_len(comm: &[u8]) -> usize {
    stored_len(comm, Escape::Part, COMM_MAX)
}

/// How much of the name of a variable is stored.
fn env_name_len(name: &[u8]) -> usize {
    stored_len(name, Escape::Part, NAME_MAX)
}

/// How much of the value of a variable is stored.
fn env_value_len(value: &[u8]) -> usize {
    stored_len(value, Escape::Value, FALLBACK_ENV_MAX)
}

/// How many bytes [`Writer::push_escaped`] takes for `raw` within `max`, at most.
fn stored_len(raw: &[u8], escape: Escape, max: usize) -> usize {
    escaped_len(raw, escape).min(max)
}

/// The longest end of `cwd` that takes at most `room` bytes when stored, if it is worth keeping.
fn cwd_end(cwd: &[u8], room: usize) -> Option<&[u8]> {
    let mut len = escaped_len(cwd, Escape::Value);
    let mut end = cwd;
    while len > room {
        let (ch, rest) = split_char(end)?;
        len -= escaped_len(ch, Escape::Value);
        end = rest;
    }
    (len >= FALLBACK_CWD_MIN).then_some(end)
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_fallback)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    const A: &[u8] = &[b'a'; 45];
    const WHO: Fallback<'_> = Fallback {
        chain: &[b"cc1", b"gcc", b"make"],
        env: None,
        cwd: None,
        pid: 4242,
        uid: 1000,
    };

    /// The longest comm four times.
    const FOUR: &[u8] = b"comm-chain:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        >aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        >aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        >aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    /// What is known, and what must come out, in pieces.
    static ROWS: [(Fallback<'_>, &[&[u8]]); 10] = [
        (WHO, &[b"comm-chain:cc1>gcc>make;pid:4242;uid:1000"]),
        (
            Fallback {
                chain: &[b"sh"],
                ..WHO
            },
            &[b"comm-chain:sh;pid:4242;uid:1000"],
        ),
        (
            Fallback { chain: &[], ..WHO },
            &[b"comm-chain:;pid:4242;uid:1000"],
        ),
        (
            Fallback {
                env: Some((b"CLAUDE_TOOL", b"Ed;it:x")),
                cwd: Some(b"/src:1/a>b"),
                ..WHO
            },
            &[
                b"comm-chain:cc1>gcc>make;env:CLAUDE_TOOL=Ed%3Bit:x;cwd:/src:1/a%3Eb",
                b";pid:4242;uid:1000",
            ],
        ),
        (
            Fallback {
                chain: &[b"a;uid:0", b"b>c"],
                ..WHO
            },
            &[b"comm-chain:a%3Buid%3A0>b%3Ec;pid:4242;uid:1000"],
        ),
        // The directory goes before an ancestor.
        (
            Fallback {
                chain: &[A, A, A, A],
                cwd: Some(b"/somewhere/else"),
                ..WHO
            },
            &[FOUR, b";cwd:/somewhere/else;pid:4242;uid:1000"],
        ),
        // Eight bytes of a directory are worth keeping, seven are not.
        (
            Fallback {
                chain: &[A, A, A, A, b"012345678901234567890123456"],
                cwd: Some(b"/somewhere/else"),
                ..WHO
            },
            &[
                FOUR,
                b">012345678901234567890123456;cwd:...ere/else;pid:4242;uid:1000",
            ],
        ),
        (
            Fallback {
                chain: &[A, A, A, A, b"0123456789012345678901234567"],
                cwd: Some(b"/somewhere/else"),
                ..WHO
            },
            &[FOUR, b">0123456789012345678901234567;pid:4242;uid:1000"],
        ),
        // The oldest ancestors go, the writer stays.
        (
            Fallback {
                chain: &[A, A, A, A, A, A],
                pid: u32::MAX,
                uid: u32::MAX,
                ..WHO
            },
            &[FOUR, b";pid:4294967295;uid:4294967295"],
        ),
        // What cannot be told apart again is not written.
        (
            Fallback {
                env: Some((b"A=B", b"x")),
                cwd: Some(b""),
                ..WHO
            },
            &[b"comm-chain:cc1>gcc>make;pid:4242;uid:1000"],
        ),
    ];

    fn holds((who, want): &(Fallback<'_>, &[&[u8]])) -> bool {
        let mut buf = [0; SESSION_MAX + 8];
        let mut out = Writer::new(&mut buf);
        let written = write_fallback(who, &mut out);
        let rest = want
            .iter()
            .try_fold(out.as_bytes(), |rest, piece| rest.strip_prefix(*piece));
        written.is_ok() && rest == Some(b"")
    }

    #[test]
    fn what_does_not_fit_goes_in_order() {
        assert_eq!(ROWS.iter().position(|row| !holds(row)), None);
    }

    #[test]
    fn the_variable_goes_before_a_part_of_the_directory() {
        static DEEP: [u8; 300] = [b'd'; 300];
        let mut buf = [0; SESSION_MAX + 8];
        let mut out = Writer::new(&mut buf);
        let who = Fallback {
            env: Some((b"TOOL", b"Edit")),
            cwd: Some(&DEEP),
            ..WHO
        };
        assert_eq!(write_fallback(&who, &mut out), Ok(()));
        assert_eq!(out.len(), SESSION_MAX);
        let head = b"comm-chain:cc1>gcc>make;cwd:...dddddddd";
        assert!(out.as_bytes().starts_with(head));
        assert!(out.as_bytes().ends_with(b"dddddddd;pid:4242;uid:1000"));
    }

    #[test]
    fn the_variable_stays_exactly_as_long_as_everything_fits() {
        static DEEP: [u8; 300] = [b'd'; 300];
        let fixed = b"comm-chain:cc1>gcc>make;env:TOOL=Edit;cwd:;pid:4242;uid:1000".len();
        let wrong = (1..DEEP.len()).find(|&len| {
            let mut buf = [0; SESSION_MAX + 8];
            let mut out = Writer::new(&mut buf);
            let who = Fallback {
                env: Some((b"TOOL", b"Edit")),
                cwd: DEEP.get(..len),
                ..WHO
            };
            let written = write_fallback(&who, &mut out);
            let kept = out.as_bytes().starts_with(b"comm-chain:cc1>gcc>make;env:");
            written.is_err() || out.len() > SESSION_MAX || kept != (fixed + len <= SESSION_MAX)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn directories_are_cut_at_whole_characters() {
        // Each of these characters takes three bytes, so that most limits lie within one.
        static EUROS: [u8; 300] = {
            let mut all = [0; 300];
            let mut at = 0;
            while at < all.len() {
                all[at] = [0xe2, 0x82, 0xac][at % 3];
                at += 1;
            }
            all
        };
        static ESCAPES: [u8; 300] = [b';'; 300];
        let whole = |cwd: &[u8], piece: &[u8], room| {
            let mut buf = [0; SESSION_MAX];
            let (buf, _) = buf.split_at_mut_checked(room).unwrap_or_default();
            let mut out = Writer::new(buf);
            let who = Fallback {
                cwd: Some(cwd),
                ..WHO
            };
            if write_fallback(&who, &mut out).is_err() {
                return false;
            }
            let mut parts = out.as_bytes().split(|&byte| byte == b';').skip(1);
            let cwd = parts.next().unwrap_or_default();
            match cwd.strip_prefix(b"cwd:...") {
                Some(kept) => kept.chunks(piece.len()).all(|chunk| chunk == piece),
                None => cwd == b"pid:4242",
            }
        };
        let wrong = (60..=SESSION_MAX)
            .find(|&room| !whole(&EUROS, b"\xe2\x82\xac", room) || !whole(&ESCAPES, b"%3B", room));
        assert_eq!(wrong, None);
    }

    #[test]
    fn without_room_nothing_is_written() {
        let mut buf = [0; 30];
        let mut out = Writer::new(&mut buf);
        assert_eq!(write_fallback(&WHO, &mut out), Err(Full));
        assert!(out.is_empty());
    }

    #[test]
    fn chains_stop_at_what_starts_everything() {
        assert!(stops_chain(1, b"bash"));
        assert!(stops_chain(2, b"kthreadd"));
        assert!(stops_chain(77, b"systemd"));
        assert!(stops_chain(77, b"init"));
        assert!(!stops_chain(77, b"systemd-udevd"));
        assert!(!stops_chain(77, b"bash"));
    }
}
