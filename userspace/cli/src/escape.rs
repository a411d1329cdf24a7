//! Values and names come from whoever wrote the file. On a terminal they must not act as commands;
//! in a pipe they must arrive as they are.

use std::io::{self, Write};

/// Writes `bytes` so that a terminal shows them and does nothing else: what is not UTF-8 as
/// `\xNN`, control and invisible formatting characters as `\n`, `\u{202e}` and so on.
pub fn write_escaped(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if acts(c) {
                write!(out, "{}", c.escape_default())?;
            } else {
                write!(out, "{c}")?;
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Tells whether a character can move the cursor, change the terminal or turn the direction of
/// text.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_escaped(&mut out, bytes).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_that_acts_gets_through() {
        assert_eq!(escaped("séance €\\n".as_bytes()), "séance €\\n");
        assert_eq!(
            escaped(b"\x1b[31m\x07\r\n\t\x7f"),
            "\\u{1b}[31m\\u{7}\\r\\n\\t\\u{7f}"
        );
        assert_eq!(
            escaped("a\u{9b}1m\u{202e}b".as_bytes()),
            "a\\u{9b}1m\\u{202e}b"
        );
        assert_eq!(escaped(b"a\xffb\xe2\x82"), "a\\xffb\\xe2\\x82");
    }
}
