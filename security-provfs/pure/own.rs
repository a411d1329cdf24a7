// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! What a process writes to its `self` file to declare who it is.
//!
//! ```text
//! session=01KS9ABCDEFGHJKMNPQRSTVWXY
//! tool=Edit
//! lock
//! ```
//!
//! Values are as the process means them, not escaped; they end at the end of the line. An empty one
//! takes a declaration back.

use super::limits::VALUE_MAX;

/// The names of what can be declared, in the order of [`Declaration::values`].
pub const NAMES: [&[u8]; 4] = [b"session", b"tool", b"turn", b"intent"];

/// Longest message: each value at its longest, and the lock.
pub const MESSAGE_MAX: usize = NAMES.len() * ("session=\n".len() + VALUE_MAX) + "lock\n".len();

/// What a process declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declaration<'a> {
    /// The values of session, tool, turn and intent, where they are declared.
    pub values: [Option<&'a [u8]>; NAMES.len()],
    /// Whether the session is to be fixed.
    pub lock: bool,
}

/// Why a declaration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDeclaration {
    /// A value has more than [`VALUE_MAX`] bytes.
    TooLong,
    /// A line is not of the form, has an unknown name, says something again, or has a NUL byte in
    /// it; or there is no line.
    Malformed,
}

/// Reads a declaration.
///
/// # Examples
///
/// ```
/// # use provfs::pure::own::parse;
/// let declaration = parse(b"session=s1\nintent=\nlock\n")?;
/// assert_eq!(declaration.values, [Some(&b"s1"[..]), None, None, Some(b"")]);
/// assert!(declaration.lock);
/// # Ok::<(), provfs::pure::own::BadDeclaration>(())
/// ```
pub fn parse(message: &[u8]) -> Result<Declaration<'_>, BadDeclaration> {
    let mut declaration = Declaration::default();
    let lines = message.strip_suffix(b"\n").unwrap_or(message);
    for line in lines.split(|&byte| byte == b'\n') {
        if line == b"lock" && !declaration.lock {
            declaration.lock = true;
            continue;
        }
        let (slot, value) = NAMES
            .iter()
            .zip(&mut declaration.values)
            .find_map(|(name, slot)| {
                let value = line.strip_prefix(*name)?.strip_prefix(b"=")?;
                Some((slot, value))
            })
            .ok_or(BadDeclaration::Malformed)?;
        if slot.is_some() || value.contains(&0) {
            return Err(BadDeclaration::Malformed);
        }
        if value.len() > VALUE_MAX {
            return Err(BadDeclaration::TooLong);
        }
        *slot = Some(value);
    }
    Ok(declaration)
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_own)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        type Row = (&'static [u8], [Option<&'static [u8]>; 4], bool);
        static ROWS: [Row; 7] = [
            (b"session=s", [Some(b"s"), None, None, None], false),
            (b"session=s\n", [Some(b"s"), None, None, None], false),
            (b"lock", [None; 4], true),
            (
                b"intent=i\ntool=t\nlock\nturn=n\nsession=s",
                [Some(b"s"), Some(b"t"), Some(b"n"), Some(b"i")],
                true,
            ),
            (b"tool=", [None, Some(b""), None, None], false),
            (
                b"tool= a=b;\xff ",
                [None, Some(b" a=b;\xff "), None, None],
                false,
            ),
            (b"tool=\r", [None, Some(b"\r"), None, None], false),
        ];
        let wrong = ROWS.iter().position(|&(message, values, lock)| {
            parse(message) != Ok(Declaration { values, lock })
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        static ROWS: [&[u8]; 11] = [
            b"",
            b"\n",
            b"session",
            b"Session=s",
            b" session=s",
            b"ts=1",
            b"session=a\nsession=b",
            b"lock\nlock",
            b"lock=1",
            b"session=s\n\n",
            b"tool=a\0b",
        ];
        let wrong = ROWS
            .iter()
            .position(|message| parse(message) != Err(BadDeclaration::Malformed));
        assert_eq!(wrong, None);
    }

    #[test]
    fn values_are_bounded() {
        const NAME: &[u8] = b"intent=";
        let mut message = [b'x'; NAME.len() + VALUE_MAX + 1];
        if let Some(name) = message.first_chunk_mut() {
            *name = *b"intent=";
        }
        let longest = message
            .split_last()
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        assert!(parse(longest).is_ok());
        assert_eq!(parse(&message), Err(BadDeclaration::TooLong));
    }
}
