//! Arrays of strings in `/etc/provfs.toml`: what changes in one leaves its comments where they belong.

use toml_edit::{Array, Decor, RawString, Value};

/// An empty array that is written in lines.
pub(crate) fn lines() -> Array {
    let mut array = Array::new();
    array.set_trailing("\n");
    array.set_trailing_comma(true);
    array
}

/// An array of these strings, in which those of `old` keep their comments. Comments about strings
/// that are gone stay too: they move to what comes next.
pub(crate) fn merge(old: &Array, items: &[&str]) -> Array {
    let pieces = Pieces::of(old);
    let in_lines = pieces.leads.iter().any(|lead| lead.contains('\n')) || pieces.end.contains('\n');
    let mut merged = Array::new();
    let mut passed = 0;
    // What stands before the next string.
    let mut prefix = String::new();
    for item in items {
        let same = |(_, value): &(usize, &Value)| value.as_str() == Some(item);
        let known = old.iter().enumerate().skip(passed).find(same);
        if let Some((at, _)) = known {
            for gone in passed..at {
                pieces.comments(gone, &mut prefix);
            }
            append(&mut prefix, &pieces.leads[at]);
            passed = at + 1;
        } else if in_lines {
            append(&mut prefix, INDENT);
        } else if !merged.is_empty() {
            append(&mut prefix, " ");
        }
        let mut value = known.map_or_else(|| Value::from(*item), |(_, value)| value.clone());
        *value.decor_mut() = Decor::new(std::mem::take(&mut prefix), "");
        merged.push_formatted(value);
        if let Some((at, _)) = known {
            prefix.clone_from(&pieces.tails[at]);
        }
    }
    for gone in passed..old.len() {
        pieces.comments(gone, &mut prefix);
    }
    append(&mut prefix, &pieces.end);
    merged.set_trailing_comma(in_lines && !merged.is_empty());
    merged.set_trailing(prefix);
    merged
}

/// What stands before a string in a line of its own.
const INDENT: &str = "\n    ";

/// Blanks and comments of an array: before each string, behind it in its line, and at the end.
struct Pieces {
    leads: Vec<String>,
    tails: Vec<String>,
    end: String,
}

impl Pieces {
    fn of(array: &Array) -> Self {
        let raw = |text: Option<&RawString>| {
            text.and_then(RawString::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut pieces = Pieces {
            leads: Vec::new(),
            tails: Vec::new(),
            end: String::new(),
        };
        let mut behind = String::new();
        for value in array {
            let lead = pieces.split(behind + &raw(value.decor().prefix()));
            pieces.leads.push(lead);
            behind = raw(value.decor().suffix());
        }
        pieces.end = pieces.split(behind + &raw(Some(array.trailing())));
        pieces
    }

    /// Takes a comment in the line of the last string away from what stands behind it.
    fn split(&mut self, between: String) -> String {
        if self.leads.is_empty() {
            return between;
        }
        let line = between.find('\n').unwrap_or(between.len());
        let (tail, rest) = between.split_at(line);
        if tail.contains('#') {
            self.tails.push(tail.to_owned());
            rest.to_owned()
        } else {
            self.tails.push(String::new());
            between
        }
    }

    /// Adds the comments about a string that is gone.
    fn comments(&self, gone: usize, to: &mut String) {
        if self.leads[gone].contains('#') {
            append(to, &self.leads[gone]);
        }
        if !self.tails[gone].is_empty() {
            // Not in the line of something else.
            append(to, INDENT);
            append(to, self.tails[gone].trim_start());
        }
    }
}

/// Adds blanks and comments to others. A comment goes on to the end of its line, so that nothing
/// may follow it there.
fn append(text: &mut String, more: &str) {
    let in_comment = text
        .rsplit('\n')
        .next()
        .is_some_and(|line| line.contains('#'));
    if in_comment && !more.starts_with('\n') {
        text.push_str(INDENT);
    }
    text.push_str(more);
}
