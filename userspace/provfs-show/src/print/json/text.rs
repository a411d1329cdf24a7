//! Compact JSON, put together piece by piece. Names are literals with their comma and colon, and
//! a string with nothing to escape is copied: of a long answer, writing it so takes a fraction of
//! what a serializer takes that looks at every byte of every name.

use std::{
    fmt::Display,
    io::{self, Write},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use provfs_cli::escape::acts;
use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

/// JSON that grows. Nothing but its methods writes to it, and each of them writes one piece.
pub(in crate::print) struct Text<'o>(&'o mut Vec<u8>);

impl<'o> Text<'o> {
    pub(in crate::print) fn new(out: &'o mut Vec<u8>) -> Self {
        Text(out)
    }

    /// What is JSON already.
    pub(in crate::print) fn raw(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    /// A number or a truth value.
    pub(in crate::print) fn plain(&mut self, value: impl Display) -> &mut Self {
        // A vector takes all that it is given.
        let _ = write!(self.0, "{value}");
        self
    }

    /// What there is, or `null`.
    pub(in crate::print) fn option<T>(
        &mut self,
        value: Option<T>,
        some: impl FnOnce(&mut Self, T),
    ) -> &mut Self {
        match value {
            Some(value) => some(self, value),
            None => _ = self.raw("null"),
        }
        self
    }

    /// An array.
    pub(in crate::print) fn array<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.raw("[");
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            each(self, item);
        }
        self.raw("]")
    }

    /// A string.
    pub(in crate::print) fn string(&mut self, text: &str) -> &mut Self {
        if stands_for_itself(text.as_bytes()) {
            self.quoted(text.as_bytes())
        } else {
            self.escaped(text)
        }
    }

    /// A byte string that an object has: as text behind `name`, or, when it is not UTF-8, in
    /// base64 behind `name_b64`. The names are as [`Text::raw`] takes them.
    pub(in crate::print) fn bytes(
        &mut self,
        name: &str,
        name_b64: &str,
        value: &[u8],
    ) -> &mut Self {
        if stands_for_itself(value) {
            return self.raw(name).quoted(value);
        }
        match std::str::from_utf8(value) {
            Ok(text) => self.raw(name).escaped(text),
            Err(_) => self.raw(name_b64).base64(value),
        }
    }

    /// A string that stands for any bytes.
    pub(in crate::print) fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        self.string(&BASE64_STANDARD.encode(bytes))
    }

    fn quoted(&mut self, plain: &[u8]) -> &mut Self {
        self.0.push(b'"');
        self.0.extend_from_slice(plain);
        self.raw("\"")
    }

    fn escaped(&mut self, text: &str) -> &mut Self {
        let mut serializer = Serializer::with_formatter(&mut *self.0, Harmless);
        // Text is always JSON, and a vector takes all that it is given.
        let _ = text.serialize(&mut serializer);
        self
    }
}

/// Whether text is in JSON what it is anywhere else.
fn stands_for_itself(text: &[u8]) -> bool {
    text.iter().all(|&byte| PLAIN[usize::from(byte)])
}

/// The printable ASCII characters, but those that JSON escapes. One look into a table a byte is
/// less than two comparisons.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    plain
};

/// JSON that no terminal takes for commands: JSON itself lets C1 controls, DEL and characters that
/// turn the direction of text through.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(acts) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            let actor = chars.next().unwrap_or_default();
            for unit in actor.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Text<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Text::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_character_acts_on_a_terminal() {
        for (text, json) in [
            ("a\u{7f}", r#""a\u007f""#),
            ("\u{9b}1m", r#""\u009b1m""#),
            ("a\u{202e}é", r#""a\u202eé""#),
            ("\u{1}\"b", r#""\u0001\"b""#),
            ("\u{1f}", r#""\u001f""#),
            ("\\", r#""\\""#),
        ] {
            let out = written(|json| _ = json.string(text));
            assert_eq!(out, json);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn what_is_missing_is_null_and_what_is_empty_is_there() {
        let array =
            |items: &[i64]| written(|json| _ = json.array(items, |json, n| _ = json.plain(n)));
        assert_eq!(array(&[]), "[]");
        assert_eq!(array(&[1]), "[1]");
        assert_eq!(array(&[1, -2, 3]), "[1,-2,3]");
        let option = |text: Option<&str>| {
            written(|json| _ = json.option(text, |json, text| _ = json.string(text)))
        };
        assert_eq!(option(None), "null");
        assert_eq!(option(Some("")), r#""""#);
    }

    #[test]
    fn bytes_that_are_no_text_have_another_name() {
        let bytes =
            |value: &[u8]| written(|json| _ = json.bytes("{\"a\":", "{\"a_b64\":", value).raw("}"));
        assert_eq!(bytes(b"x\n"), r#"{"a":"x\n"}"#);
        assert_eq!(bytes(b"\xff"), r#"{"a_b64":"/w=="}"#);
    }

    proptest! {
        /// The short way and the serializer agree, and both can be read back.
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let out = written(|json| _ = json.string(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), &*text);
            prop_assert!(!out.chars().any(acts));
        }

        #[test]
        fn plain_text_is_written_as_serde_json_does(text in "[ -~]*") {
            let out = written(|json| _ = json.string(&text));
            prop_assert_eq!(out, serde_json::to_string(&text).unwrap());
        }
    }
}
