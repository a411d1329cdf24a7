// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! Bounded text: a writer into a borrowed buffer, and the escaping that keeps a value from being
//! read as structure.
//!
//! In a stored value `%`, `;`, `,`, `>` and control bytes are written as `%XX` (upper-case hex),
//! and `:` where it separates. All other bytes stay as they are, so UTF-8 remains readable and
//! what is not UTF-8 survives. A value that does not fit is cut at a whole *character*: an escape
//! or a valid UTF-8 sequence goes in whole or not at all.

use core::fmt;

/// The buffer has no room for the bytes; nothing of them was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is full")
    }
}

impl core::error::Error for Full {}

/// Whether a value went in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// All of it was written.
    Whole,
    /// Only its beginning was written, up to a whole character.
    Cut,
}

/// Which bytes of a value are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// A field of its own: `%` `;` `,` `>` and control bytes.
    Value,
    /// A part of a field in which `:` separates: those of [`Escape::Value`] and `:`.
    Part,
}

impl Escape {
    /// Tells whether `byte` is written as `%XX`.
    #[inline]
    pub const fn covers(self, byte: u8) -> bool {
        match byte {
            b'%' | b';' | b',' | b'>' | 0x00..=0x1f | 0x7f => true,
            b':' => matches!(self, Escape::Part),
            _ => false,
        }
    }

    /// How many bytes the character `ch`, as [`split_char`] yields it, takes when stored.
    #[inline]
    fn cost(self, ch: &[u8]) -> usize {
        match ch {
            [byte] if self.covers(*byte) => 3,
            _ => ch.len(),
        }
    }
}

/// How many bytes `raw` takes when stored.
pub fn escaped_len(raw: &[u8], escape: Escape) -> usize {
    raw.iter()
        .map(|&byte| if escape.covers(byte) { 3 } else { 1 })
        .sum()
}

/// Splits off the first character: a valid UTF-8 sequence, or else one byte. `None` at the end.
#[inline]
pub fn split_char(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = match bytes.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    match bytes.split_at_checked(len) {
        Some((ch, rest)) if len == 1 || core::str::from_utf8(ch).is_ok() => Some((ch, rest)),
        _ => bytes.split_at_checked(1),
    }
}

/// The first `max` bytes of `raw`, less a UTF-8 sequence that would be cut in two by that.
///
/// The bytes behind `max` are not looked at, so it can also be used where they are not at hand.
pub fn cut(raw: &[u8], max: usize) -> &[u8] {
    let Some(head) = raw.get(..max).filter(|_| raw.len() > max) else {
        return raw;
    };
    for unfinished in 1..=3 {
        let Some((whole, tail)) = head
            .len()
            .checked_sub(unfinished)
            .and_then(|at| head.split_at_checked(at))
        else {
            break;
        };
        // `error_len()` is `None` exactly if the bytes are the beginning of a sequence and nothing
        // else.
        if let Err(error) = core::str::from_utf8(tail) {
            if error.valid_up_to() == 0 && error.error_len().is_none() {
                return whole;
            }
        }
    }
    head
}

/// Tells whether `stored` could have been written with [`Escape::Value`].
///
/// It then has no byte that separates fields, and each `%` begins an escape.
pub fn is_stored(stored: &[u8]) -> bool {
    let mut rest = stored;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => tail,
            _ if Escape::Value.covers(byte) => return false,
            _ => tail,
        };
    }
    true
}

/// Undoes the escaping of `stored`. What is no escape is taken as it is.
///
/// The result is never longer than `stored`, so a buffer of that length always suffices.
pub fn unescape(stored: &[u8], out: &mut Writer<'_>) -> Fit {
    let mut rest = stored;
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, tail) = match (byte, tail) {
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => ((high << 4) | low, behind),
                _ => (byte, tail),
            },
            _ => (byte, tail),
        };
        if out.push(&[byte]).is_err() {
            return Fit::Cut;
        }
        rest = tail;
    }
    Fit::Whole
}

/// The value of a hexadecimal digit of either case.
const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The upper-case hexadecimal digit of the low four bits.
const fn hex_digit(value: u8) -> u8 {
    match value & 0xf {
        digit @ 0..=9 => b'0' + digit,
        digit => b'A' + digit - 10,
    }
}

/// Reads a decimal number: digits alone, at least one, no sign, no blank.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Reads a decimal number as [`parse_u64`] does.
pub fn parse_u32(digits: &[u8]) -> Option<u32> {
    u32::try_from(parse_u64(digits)?).ok()
}

/// Writes into a borrowed buffer and never past its end.
///
/// # Examples
///
/// ```
/// # use provfs::pure::text::{Escape, Fit, Writer};
/// let mut buf = [0; 16];
/// let mut out = Writer::new(&mut buf);
/// assert_eq!(out.push(b"t="), Ok(()));
/// assert_eq!(out.push_escaped(b"a;b", Escape::Value, 64), Fit::Whole);
/// assert_eq!(out.into_bytes(), b"t=a%3Bb");
/// ```
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    /// Starts at the beginning of `buf`.
    pub fn new(buf: &'b mut [u8]) -> Self {
        Writer { buf, len: 0 }
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// What was written, for as long as the buffer is lent.
    pub fn into_bytes(self) -> &'b [u8] {
        let buf: &'b [u8] = self.buf;
        buf.get(..self.len).unwrap_or_default()
    }

    /// How many bytes were written.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes still fit.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.buf.len().saturating_sub(self.len)
    }

    /// Forgets everything behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Writes all of `bytes`, or nothing.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(bytes.len()).ok_or(Full)?;
        let room = self.buf.get_mut(self.len..end).ok_or(Full)?;
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Writes two lower-case hexadecimal digits for each byte, or nothing.
    pub fn push_hex(&mut self, bytes: &[u8]) -> Result<(), Full> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";

        let start = self.len;
        for byte in bytes {
            let digits = [byte >> 4, byte & 15].map(|digit| {
                let digit = DIGITS.get(usize::from(digit));
                digit.copied().unwrap_or_default()
            });
            if let Err(full) = self.push(&digits) {
                self.truncate(start);
                return Err(full);
            }
        }
        Ok(())
    }

    /// Writes a decimal number, or nothing.
    pub fn push_u64(&mut self, value: u64) -> Result<(), Full> {
        let mut digits = [0; 20];
        let mut used = 0;
        let mut left = value;
        for digit in digits.iter_mut().rev() {
            // CAST: A remainder of a division by ten.
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
            used += 1;
            if left == 0 {
                break;
            }
        }
        let unused = digits.len() - used;
        self.push(digits.get(unused..).unwrap_or_default())
    }

    /// Writes a decimal number with a `-` before a negative one, or nothing.
    pub fn push_i64(&mut self, value: i64) -> Result<(), Full> {
        let start = self.len;
        if value < 0 {
            self.push(b"-")?;
        }
        let pushed = self.push_u64(value.unsigned_abs());
        if pushed.is_err() {
            self.truncate(start);
        }
        pushed
    }

    /// Writes `raw` escaped, in at most `max` bytes and no more than fit.
    pub fn push_escaped(&mut self, raw: &[u8], escape: Escape, max: usize) -> Fit {
        let end = self.len.saturating_add(max.min(self.remaining()));
        let mut rest = raw;
        loop {
            // What is written as it is goes by the run.
            let run = rest
                .iter()
                .position(|&byte| byte >= 0x80 || escape.covers(byte))
                .unwrap_or(rest.len())
                .min(end - self.len);
            let (run, behind) = rest.split_at_checked(run).unwrap_or((rest, &[]));
            let Some((ch, tail)) = split_char(behind) else {
                return self.push(run).map_or(Fit::Cut, |()| Fit::Whole);
            };
            let pushed = self.push(run);
            if pushed.is_err() || self.len + escape.cost(ch) > end {
                return Fit::Cut;
            }
            let pushed = match ch {
                [byte] if escape.covers(*byte) => {
                    self.push(&[b'%', hex_digit(byte >> 4), hex_digit(*byte)])
                }
                _ => self.push(ch),
            };
            if pushed.is_err() {
                return Fit::Cut;
            }
            rest = tail;
        }
    }
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_text)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    /// One value, how it is escaped, how much room it has, and what must come out.
    struct Row {
        raw: &'static [u8],
        escape: Escape,
        max: usize,
        stored: &'static [u8],
        fit: Fit,
    }

    const fn row(
        raw: &'static [u8],
        escape: Escape,
        max: usize,
        stored: &'static [u8],
        fit: Fit,
    ) -> Row {
        Row {
            raw,
            escape,
            max,
            stored,
            fit,
        }
    }

    static ROWS: [Row; 16] = [
        row(b"", Escape::Value, 8, b"", Fit::Whole),
        row(b"plain", Escape::Value, 8, b"plain", Fit::Whole),
        row(b"plain", Escape::Value, 5, b"plain", Fit::Whole),
        row(b"plain", Escape::Value, 4, b"plai", Fit::Cut),
        row(b"a;b,c", Escape::Value, 64, b"a%3Bb%2Cc", Fit::Whole),
        row(b"a>b%c", Escape::Value, 64, b"a%3Eb%25c", Fit::Whole),
        row(b"a:b", Escape::Value, 64, b"a:b", Fit::Whole),
        row(b"a:b", Escape::Part, 64, b"a%3Ab", Fit::Whole),
        row(
            b"\0\n\x1f\x7f",
            Escape::Value,
            64,
            b"%00%0A%1F%7F",
            Fit::Whole,
        ),
        // Never inside an escape.
        row(b"ab;", Escape::Value, 4, b"ab", Fit::Cut),
        row(b"ab;", Escape::Value, 5, b"ab%3B", Fit::Whole),
        // Never inside a sequence: U+00E9, U+20AC, U+1F600.
        row(b"\xc3\xa9", Escape::Value, 1, b"", Fit::Cut),
        row(b"a\xe2\x82\xac", Escape::Value, 3, b"a", Fit::Cut),
        row(
            b"\xf0\x9f\x98\x80",
            Escape::Value,
            4,
            b"\xf0\x9f\x98\x80",
            Fit::Whole,
        ),
        // What is not UTF-8 is bytes.
        row(b"\xe2\x82", Escape::Value, 1, b"\xe2", Fit::Cut),
        row(b"\xff\xc3;", Escape::Value, 5, b"\xff\xc3%3B", Fit::Whole),
    ];

    fn holds(row: &Row) -> bool {
        let mut buf = [0; 64];
        let mut out = Writer::new(&mut buf);
        out.push_escaped(row.raw, row.escape, row.max) == row.fit && out.as_bytes() == row.stored
    }

    #[test]
    fn values_are_escaped_and_cut_at_whole_characters() {
        assert_eq!(ROWS.iter().position(|row| !holds(row)), None);
    }

    #[test]
    fn a_small_buffer_cuts_like_a_small_limit() {
        let mut buf = [0; 4];
        let mut out = Writer::new(&mut buf);
        assert_eq!(out.push_escaped(b"ab;", Escape::Value, 64), Fit::Cut);
        assert_eq!(out.as_bytes(), b"ab");
        assert_eq!(out.push(b"abc"), Err(Full));
        assert_eq!(out.into_bytes(), b"ab");
    }

    #[test]
    fn unescaping_undoes_and_tolerates() {
        static ROWS: [(&[u8], &[u8]); 7] = [
            (b"a%3Bb%2Cc", b"a;b,c"),
            (b"%25%3b", b"%;"),
            (b"100%", b"100%"),
            (b"%4", b"%4"),
            (b"%zz%41", b"%zzA"),
            (b"%%41", b"%A"),
            (b"\xff%00", b"\xff\0"),
        ];
        let wrong = ROWS.iter().position(|&(stored, raw)| {
            let mut buf = [0; 16];
            let mut out = Writer::new(&mut buf);
            unescape(stored, &mut out) != Fit::Whole || out.as_bytes() != raw
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn stored_form_is_recognised() {
        static ROWS: [(&[u8], bool); 8] = [
            (b"", true),
            (b"01KS9:x", true),
            (b"a%3Bb", true),
            (b"a%3bb", true),
            (b"a;b", false),
            (b"50%", false),
            (b"a\nb", false),
            (b"%4g", false),
        ];
        assert_eq!(ROWS.iter().position(|&(b, ok)| is_stored(b) != ok), None);
    }

    #[test]
    fn cut_never_splits_a_sequence() {
        static ROWS: [(&[u8], usize, &[u8]); 7] = [
            (b"abc", 3, b"abc"),
            (b"abcd", 3, b"abc"),
            (b"ab\xc3\xa9", 3, b"ab"),
            (b"\xf0\x9f\x98\x80", 3, b""),
            (b"a\xc3\xa9b", 3, b"a\xc3\xa9"),
            (b"a\xa9\xa9\xa9", 3, b"a\xa9\xa9"),
            (b"abc", 0, b""),
        ];
        let wrong = ROWS
            .iter()
            .position(|&(raw, max, want)| cut(raw, max) != want);
        assert_eq!(wrong, None);
    }

    #[test]
    fn numbers_are_written_and_read() {
        let mut buf = [0; 64];
        let mut out = Writer::new(&mut buf);
        assert_eq!(out.push_u64(0), Ok(()));
        assert_eq!(out.push_i64(-7), Ok(()));
        assert_eq!(out.push_u64(u64::MAX), Ok(()));
        assert_eq!(out.push_i64(i64::MIN), Ok(()));
        assert_eq!(
            out.as_bytes(),
            b"0-718446744073709551615-9223372036854775808"
        );
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(parse_u32(b"4294967296"), None);
        assert_eq!(parse_u32(b""), None);
        assert_eq!(parse_u32(b"+1"), None);
    }
}
