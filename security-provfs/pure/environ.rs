// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! What a process declares about itself: the search of an environment for the variables of
//! `provfs.env_*`.
//!
//! This runs at every exec, over everything the new program is given, so it is built to cost two
//! to three instructions a byte: the block is read in windows, the ends of strings are found
//! sixteen bytes at a time, and a string is looked at more closely only if its first two bytes can
//! begin a wanted name.
//!
//! The search goes *backwards*, because at exec the end of the block is known exactly while its
//! beginning would have to be found by walking all arguments. It gives the answers of a search
//! forwards: the first of several variables of one name counts, as for getenv(3), and a variable
//! without a value declares nothing.

use core::fmt;

use super::{
    limits::{
        ENV_MAX,
        NAMES_MAX,
        NAMES_TEXT_MAX,
        NAME_MAX,
        VALUE_MAX,
        WINDOW_MIN, //
    },
    text, //
};

/// Bytes from the start of a string that suffice to judge it: a name, `=`, a value, and one byte
/// to see that the value goes on.
const ENTRY_MAX: usize = NAME_MAX + 1 + VALUE_MAX + 1;

// Two windows never overlap by more than they advance.
const _: () = assert!(WINDOW_MIN >= 3 * ENTRY_MAX);

/// What can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The session, which is who writes.
    Session,
    /// The tool it writes through.
    Tool,
    /// The turn of the session.
    Turn,
    /// What the session is about to do.
    Intent,
}

impl Kind {
    /// All kinds, in the order of [`Kind::index`].
    pub const ALL: [Kind; 4] = [Kind::Session, Kind::Tool, Kind::Turn, Kind::Intent];

    /// The position in [`Kind::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        // CAST: The enum has no fields, and four variants.
        self as usize
    }

    /// The names that are looked for unless the administrator says otherwise, best first.
    pub const fn default_names(self) -> &'static [u8] {
        match self {
            Kind::Session => DEFAULT_SESSION,
            Kind::Tool => DEFAULT_TOOL,
            Kind::Turn => DEFAULT_TURN,
            Kind::Intent => DEFAULT_INTENT,
        }
    }
}

/// Default of `provfs.env_session`.
pub const DEFAULT_SESSION: &[u8] =
    b"PROV_SESSION CLAUDE_SESSION CLAUDE_SESSION_ID AGENTNS_SESSION_ID AGORABUS_SID";

/// Default of `provfs.env_tool`.
pub const DEFAULT_TOOL: &[u8] = b"PROV_TOOL CLAUDE_TOOL";

/// Default of `provfs.env_turn`.
pub const DEFAULT_TURN: &[u8] = b"PROV_TURN CLAUDE_TURN";

/// Default of `provfs.env_intent`.
pub const DEFAULT_INTENT: &[u8] = b"PROV_INTENT CLAUDE_INTENT AGENTNS_INTENT";

/// Why a list of names was refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameListError {
    /// Offset into the text of the first byte that cannot stay.
    pub offset: usize,
    /// The reason.
    pub kind: NameListErrorKind,
}

/// The reasons of [`NameListError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameListErrorKind {
    /// The text is longer than [`NAMES_TEXT_MAX`].
    TextTooLong,
    /// There are more than [`NAMES_MAX`] names.
    TooMany,
    /// A name is longer than [`NAME_MAX`].
    NameTooLong,
    /// A name is not `[A-Za-z_][A-Za-z0-9_]*`.
    BadByte,
}

impl fmt::Display for NameListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match self.kind {
            NameListErrorKind::TextTooLong => {
                write!(f, "the list is longer than {NAMES_TEXT_MAX} bytes")
            }
            NameListErrorKind::TooMany => {
                write!(f, "more than {NAMES_MAX} names, from byte {offset} on")
            }
            NameListErrorKind::NameTooLong => {
                write!(
                    f,
                    "the name at byte {offset} is longer than {NAME_MAX} bytes"
                )
            }
            NameListErrorKind::BadByte => write!(
                f,
                "byte {offset} cannot be part of a name: letters, digits and _, no digit first"
            ),
        }
    }
}

impl core::error::Error for NameListError {}

/// A checked list of names of environment variables, best first. It may be empty, and then nothing
/// is looked for.
///
/// # Examples
///
/// ```
/// # use provfs::pure::environ::NameList;
/// let list = NameList::parse(b"PROV_SESSION, MY_SESSION")?;
/// assert!(list.iter().eq([&b"PROV_SESSION"[..], b"MY_SESSION"]));
/// assert_eq!(NameList::parse(b"1st").map_err(|error| error.offset).err(), Some(0));
/// # Ok::<(), provfs::pure::environ::NameListError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NameList<'a> {
    text: &'a [u8],
    index: NameIndex,
}

impl<'a> NameList<'a> {
    /// The list without names.
    pub const EMPTY: NameList<'static> = NameList {
        text: b"",
        index: NameIndex::EMPTY,
    };

    /// Reads names separated by commas, blanks and newlines.
    pub fn parse(text: &'a [u8]) -> Result<Self, NameListError> {
        let refuse = |offset, kind| Err(NameListError { offset, kind });
        if text.len() > NAMES_TEXT_MAX {
            return refuse(NAMES_TEXT_MAX, NameListErrorKind::TextTooLong);
        }
        let mut index = NameIndex::EMPTY;
        let mut offset = 0;
        for name in text.split(|&byte| separates(byte)) {
            if let Some(&first) = name.first() {
                let bad = name.iter().position(|&byte| !belongs(byte));
                if let Some(at) = bad.or_else(|| first.is_ascii_digit().then_some(0)) {
                    return refuse(offset + at, NameListErrorKind::BadByte);
                }
                if name.len() > NAME_MAX {
                    return refuse(offset, NameListErrorKind::NameTooLong);
                }
                if !index.add(offset, name) {
                    return refuse(offset, NameListErrorKind::TooMany);
                }
            }
            offset += name.len() + 1;
        }
        Ok(NameList { text, index })
    }

    /// Puts a list together again from its text and its [`NameList::index`], without reading it.
    ///
    /// With the index of another text, the names are other parts of the text, or missing.
    pub fn from_index(text: &'a [u8], index: NameIndex) -> Self {
        NameList { text, index }
    }

    /// Where the names are, to be kept beside the text.
    pub fn index(&self) -> NameIndex {
        self.index
    }

    /// The names, best first.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a> {
        let spans = self.index.spans.iter().take(self.index.count);
        spans.map(|&span| self.name(span))
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.index.count == 0
    }

    #[inline]
    fn name(&self, (start, len): (u16, u8)) -> &'a [u8] {
        let start = usize::from(start);
        self.text
            .get(start..start + usize::from(len))
            .unwrap_or_default()
    }

    /// The rank of each name that `entry` is a variable of, the name, and the value.
    #[inline]
    fn values<'e>(
        &self,
        entry: &'e [u8],
    ) -> impl Iterator<Item = (usize, &'a [u8], &'e [u8])> + use<'_, 'a, 'e> {
        let spans = self.index.spans.iter().take(self.index.count).enumerate();
        spans.filter_map(move |(rank, &span)| {
            // The byte behind the name decides nearly always.
            let Some([b'=', value @ ..]) = entry.get(usize::from(span.1)..) else {
                return None;
            };
            let name = self.name(span);
            entry.starts_with(name).then_some((rank, name, value))
        })
    }
}

/// Where the names of a [`NameList`] are in its text.
#[derive(Clone, Copy, Debug)]
pub struct NameIndex {
    /// Offset and length of each name.
    spans: [(u16, u8); NAMES_MAX],
    count: usize,
    filter: Filter,
}

impl NameIndex {
    const EMPTY: NameIndex = NameIndex {
        spans: [(0, 0); NAMES_MAX],
        count: 0,
        filter: Filter::EMPTY,
    };

    /// Adds a name, and tells whether there was room.
    fn add(&mut self, offset: usize, name: &[u8]) -> bool {
        let (Some(span), Ok(start), Ok(len)) = (
            self.spans.get_mut(self.count),
            u16::try_from(offset),
            u8::try_from(name.len()),
        ) else {
            return false;
        };
        *span = (start, len);
        self.count += 1;
        self.filter.add(name);
        true
    }
}

/// Tells whether `byte` stands between names.
const fn separates(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\t' | b'\n')
}

/// Tells whether `byte` may stand in a name.
const fn belongs(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A quick test that no wanted variable fails and nearly every other one does: the first two bytes
/// of `NAME=`, each as a set of 64 bits. Letters and `_` have bits of their own.
#[derive(Clone, Copy, Debug)]
struct Filter {
    first: u64,
    second: u64,
}

impl Filter {
    const EMPTY: Filter = Filter {
        first: 0,
        second: 0,
    };

    fn add(&mut self, name: &[u8]) {
        if let Some(&first) = name.first() {
            self.first |= 1 << (first & 63);
            self.second |= 1 << (name.get(1).unwrap_or(&b'=') & 63);
        }
    }

    fn union(self, other: Filter) -> Filter {
        Filter {
            first: self.first | other.first,
            second: self.second | other.second,
        }
    }

    #[inline]
    fn passes(self, entry: &[u8]) -> bool {
        match entry {
            [first, second, ..] => {
                (self.first >> (first & 63)) & (self.second >> (second & 63)) & 1 != 0
            }
            _ => false,
        }
    }
}

/// The names that are looked for, by kind.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Names of the session.
    pub session: NameList<'a>,
    /// Names of the tool.
    pub tool: NameList<'a>,
    /// Names of the turn.
    pub turn: NameList<'a>,
    /// Names of the intent.
    pub intent: NameList<'a>,
}

impl Wanted<'static> {
    /// Looks for nothing.
    pub const NOTHING: Wanted<'static> = Wanted {
        session: NameList::EMPTY,
        tool: NameList::EMPTY,
        turn: NameList::EMPTY,
        intent: NameList::EMPTY,
    };

    /// Looks for the default names.
    pub fn defaults() -> Self {
        let list = |kind: Kind| NameList::parse(kind.default_names()).unwrap_or(NameList::EMPTY);
        Wanted {
            session: list(Kind::Session),
            tool: list(Kind::Tool),
            turn: list(Kind::Turn),
            intent: list(Kind::Intent),
        }
    }
}

impl<'a> Wanted<'a> {
    /// The names of one kind.
    pub fn list(&self, kind: Kind) -> &NameList<'a> {
        match kind {
            Kind::Session => &self.session,
            Kind::Tool => &self.tool,
            Kind::Turn => &self.turn,
            Kind::Intent => &self.intent,
        }
    }

    fn filter(&self) -> Filter {
        Kind::ALL
            .iter()
            .map(|&kind| self.list(kind).index.filter)
            .fold(Filter::EMPTY, Filter::union)
    }

    fn is_empty(&self) -> bool {
        Kind::ALL.iter().all(|&kind| self.list(kind).is_empty())
    }
}

/// One thing that a process declares. It is what the process says, not what the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The variable that says it.
    pub name: &'a [u8],
    /// What it says: not empty, not escaped, at most [`VALUE_MAX`] bytes.
    pub value: &'a [u8],
}

/// What [`search`] found. About 1.3 KiB: too large for a stack in the kernel.
#[derive(Clone, Debug)]
pub struct Declared {
    slots: [Slot; Kind::ALL.len()],
}

impl Declared {
    /// Nothing is declared.
    pub const fn new() -> Self {
        Declared {
            slots: [const { Slot::EMPTY }; Kind::ALL.len()],
        }
    }

    /// The claim of one kind.
    pub fn get(&self, kind: Kind) -> Option<Claim<'_>> {
        self.slots.get(kind.index())?.claim()
    }

    /// Whether nothing at all is declared.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.claim().is_none())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.clear();
        }
    }
}

impl Default for Declared {
    fn default() -> Self {
        Declared::new()
    }
}

/// The best claim of one kind so far.
///
/// # Invariants
///
/// `name_len` and `value_len` are at most the lengths of their arrays. An empty slot has
/// `value_len` 0.
#[derive(Clone, Debug)]
struct Slot {
    name: [u8; NAME_MAX],
    value: [u8; VALUE_MAX],
    name_len: u8,
    value_len: u16,
    /// Position of the name in its list; 0 is best.
    rank: u8,
    /// Names, by rank, of which the first string seen so far has no value.
    emptied: u16,
    /// One of them had held the slot until then, and kept others out.
    displaced: bool,
}

// What the fields of a slot count fits into them.
const _: () = assert!(NAME_MAX <= u8::MAX as usize && VALUE_MAX <= u16::MAX as usize);

impl Slot {
    const EMPTY: Slot = Slot {
        name: [0; NAME_MAX],
        value: [0; VALUE_MAX],
        name_len: 0,
        value_len: 0,
        rank: 0,
        emptied: 0,
        displaced: false,
    };

    fn clear(&mut self) {
        self.value_len = 0;
        self.emptied = 0;
        self.displaced = false;
    }

    fn claim(&self) -> Option<Claim<'_>> {
        if self.value_len == 0 {
            return None;
        }
        Some(Claim {
            name: self.name.get(..usize::from(self.name_len))?,
            value: self.value.get(..usize::from(self.value_len))?,
        })
    }

    /// Takes note of a string `name=value` that comes before all strings offered so far.
    fn offer(&mut self, rank: usize, name: &[u8], value: &[u8]) {
        let held = self.value_len != 0;
        let Ok(rank) = u8::try_from(rank) else {
            return;
        };
        let bit = 1 << (rank & 15);
        if value.is_empty() {
            self.emptied |= bit;
            if held && rank == self.rank {
                self.value_len = 0;
                self.displaced = true;
            }
            return;
        }
        self.emptied &= !bit;
        if !held || rank <= self.rank {
            let (name_len, value_len) = (name.len(), value.len());
            let (Some(name_room), Some(value_room)) = (
                self.name.get_mut(..name_len),
                self.value.get_mut(..value_len),
            ) else {
                return;
            };
            name_room.copy_from_slice(name);
            value_room.copy_from_slice(value);
            // INVARIANT: Both are lengths of parts of the arrays. CAST: They fit, see the assertion
            // above.
            self.name_len = name_len as u8;
            self.value_len = value_len as u16;
            self.rank = rank;
        }
    }
}

/// Searches an environment block for what is wanted, from its end to its beginning.
///
/// * `found` holds the answer afterwards, and nothing if this fails.
/// * `avail` is the number of bytes that can be read below the end of the block. At most
///   [`ENV_MAX`] are looked at.
/// * `count` is the number of strings in the block; the search ends with the first of them, or
///   with `avail`.
/// * `window` holds a part of the block at a time. It must have [`WINDOW_MIN`] bytes, else nothing
///   is found.
/// * `read(dist, buf)` fills `buf` with the bytes that *end* `dist` bytes before the end of the
///   block. It is called with distances that grow, and once more from 0 on if a name stands twice,
///   first without a value.
///
/// A string that is cut off by [`ENV_MAX`] is not looked at. Values are cut to [`VALUE_MAX`] at a
/// whole character.
pub fn search<E>(
    wanted: &Wanted<'_>,
    found: &mut Declared,
    avail: usize,
    count: usize,
    window: &mut [u8],
    mut read: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut pass = Pass {
        wanted,
        filter: wanted.filter(),
        ruled_out: [0; Kind::ALL.len()],
        found,
    };
    pass.found.clear();
    if count == 0 || window.len() < WINDOW_MIN || wanted.is_empty() {
        return Ok(());
    }
    let mut searched = pass.run(avail, count, window, &mut read);
    // A name that stands twice, first without a value, was taken for declared until that was seen.
    // Whether there is a value that it kept out takes a second look, without any such name.
    if searched.is_ok() && pass.rule_out() {
        pass.found.clear();
        searched = pass.run(avail, count, window, &mut read);
    }
    if searched.is_err() {
        pass.found.clear();
    }
    searched
}

/// Searches a whole block, as `/proc/PID/environ` shows it. The last string may lack its NUL.
///
/// # Examples
///
/// ```
/// # use provfs::pure::environ::{search_slice, Declared, Kind, Wanted};
/// let block = b"HOME=/root\0CLAUDE_SESSION=s1\0PROV_SESSION=s2\0";
/// let mut found = Declared::new();
/// search_slice(&Wanted::defaults(), &mut found, block);
/// let session = found.get(Kind::Session).map(|claim| (claim.name, claim.value));
/// assert_eq!(session, Some((&b"PROV_SESSION"[..], &b"s2"[..])));
/// ```
pub fn search_slice(wanted: &Wanted<'_>, found: &mut Declared, block: &[u8]) {
    let mut window = [0; WINDOW_MIN];
    let read = |dist: usize, buf: &mut [u8]| {
        let end = block.len().checked_sub(dist).ok_or(())?;
        let start = end.checked_sub(buf.len()).ok_or(())?;
        buf.copy_from_slice(block.get(start..end).ok_or(())?);
        Ok::<(), ()>(())
    };
    if search(wanted, found, block.len(), usize::MAX, &mut window, read).is_err() {
        // `search` stays within the block.
        found.clear();
    }
}

/// One way through the block.
struct Pass<'w, 'a, 'f> {
    wanted: &'w Wanted<'a>,
    filter: Filter,
    /// Names, by kind and rank, whose first string has no value.
    ruled_out: [u16; Kind::ALL.len()],
    found: &'f mut Declared,
}

impl Pass<'_, '_, '_> {
    fn run<E>(
        &mut self,
        avail: usize,
        count: usize,
        window: &mut [u8],
        read: &mut impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let limit = avail.min(ENV_MAX);
        // The window is new bytes, and behind them the first bytes of what was new before: those
        // that a string which begins among the new ones can reach into.
        let seam = window.len() - ENTRY_MAX;
        let mut dist = 0;
        let mut kept = 0;
        let mut left = count;
        while dist < limit {
            let start = seam - (limit - dist).min(seam);
            let Some(new) = window.get_mut(start..seam) else {
                return Ok(());
            };
            read(dist, new)?;
            let Some(content) = window.get(start..seam + kept) else {
                return Ok(());
            };
            let new = seam - start;
            // The NUL that ends the block has no string behind it.
            let last = usize::from(dist == 0 && content.ends_with(b"\0"));
            left = self.strings(content, new - last, left);
            if left == 0 {
                return Ok(());
            }
            dist += new;
            if dist == avail {
                // Nothing is below, so a string begins here.
                self.string(content, 0);
            }
            kept = content.len().min(ENTRY_MAX);
            if let Some((new, old)) = window.split_at_mut_checked(seam) {
                for (to, from) in old.iter_mut().zip(new.iter()) {
                    *to = *from;
                }
            }
        }
        Ok(())
    }

    /// Looks at the strings that begin behind a NUL in the first `new` bytes of `content`, the
    /// last one first. Returns how many of `left` strings are left.
    fn strings(&mut self, content: &[u8], new: usize, mut left: usize) -> usize {
        let mut rest = content.get(..new).unwrap_or_default();
        // Most pairs of words have no NUL, and cost one branch.
        while let Some((behind, pair)) = rest.split_last_chunk::<16>() {
            let pair = u128::from_le_bytes(*pair);
            // CAST: The two halves.
            let (low, high) = (pair as u64, (pair >> 64) as u64);
            if may_have_nul(low) | may_have_nul(high) != 0 {
                for (word, start) in [(high, behind.len() + 8), (low, behind.len())] {
                    // With the last byte lowest, the lowest mark is that of a NUL.
                    let mut word = word.swap_bytes();
                    loop {
                        let marks = may_have_nul(word);
                        if marks == 0 {
                            break;
                        }
                        let bit = marks.trailing_zeros();
                        // CAST: Less than 8.
                        self.string(content, start + 8 - (bit / 8) as usize);
                        left -= 1;
                        if left == 0 {
                            return 0;
                        }
                        word |= 0xff << (bit & 56);
                    }
                }
            }
            rest = behind;
        }
        for (at, &byte) in rest.iter().enumerate().rev() {
            if byte == 0 {
                self.string(content, at + 1);
                left -= 1;
                if left == 0 {
                    return 0;
                }
            }
        }
        left
    }

    /// Looks at the string from `start` on. At least its first [`ENTRY_MAX`] bytes are in
    /// `content`, or all.
    #[inline(always)]
    fn string(&mut self, content: &[u8], start: usize) {
        if let Some(entry) = content.get(start..) {
            if self.filter.passes(entry) {
                self.candidate(entry);
            }
        }
    }

    #[cold]
    fn candidate(&mut self, entry: &[u8]) {
        let slots = self.found.slots.iter_mut().zip(&self.ruled_out);
        for (kind, (slot, ruled_out)) in Kind::ALL.iter().zip(slots) {
            for (rank, name, value) in self.wanted.list(*kind).values(entry) {
                if (ruled_out >> (rank & 15)) & 1 == 0 {
                    slot.offer(rank, name, first_string(value));
                }
            }
        }
    }

    /// Rules out the names whose first string has no value. Tells whether one of them kept others
    /// out before that was known.
    fn rule_out(&mut self) -> bool {
        let mut displaced = false;
        for (slot, ruled_out) in self.found.slots.iter().zip(&mut self.ruled_out) {
            displaced |= slot.displaced;
            *ruled_out = slot.emptied;
        }
        displaced
    }
}

/// The bytes before the first NUL, cut to [`VALUE_MAX`].
fn first_string(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.get(..VALUE_MAX + 1).unwrap_or(bytes);
    let value = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    text::cut(value, VALUE_MAX)
}

/// The highest bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The lowest bit of each byte.
const LOW: u64 = 0x0101_0101_0101_0101;

/// Marks bytes of `word` with their highest bit: the lowest byte that is zero, none below it, and
/// above it perhaps others that are not zero, for they lend to it. Not zero exactly if there is
/// one.
#[inline]
const fn may_have_nul(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_environ)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    /// A list of sessions, an environment block, and the value that is declared.
    type Row = (&'static [u8], &'static [u8], Option<&'static [u8]>);

    static ROWS: [Row; 18] = [
        (b"A B", b"", None),
        (b"A B", b"\0", None),
        (b"A B", b"A=x\0", Some(b"x")),
        (b"A B", b"PATH=/bin\0A=x\0HOME=/\0", Some(b"x")),
        // Priority is that of the list.
        (b"A B", b"B=y\0A=x\0", Some(b"x")),
        (b"A B", b"A=x\0B=y\0", Some(b"x")),
        (b"B,A", b"A=x\0B=y\0", Some(b"y")),
        // The first of one name counts.
        (b"A B", b"A=x\0A=y\0", Some(b"x")),
        // No value, no declaration.
        (b"A B", b"A=\0B=y\0", Some(b"y")),
        (b"A B", b"A\0B=y\0", Some(b"y")),
        (b"A B", b"A=\0B=y\0A=z\0", Some(b"y")),
        (b"A B", b"A=x\0A=\0B=y\0A=z\0", Some(b"x")),
        (b"A A B", b"A=\0B=y\0A=z\0", Some(b"y")),
        (b"A B", b"A=\0A=x\0B=y\0B=\0B=z\0", Some(b"y")),
        // A name is a whole name.
        (b"A B", b"AA=x\0aA=x\0 A=x\0X=A=x\0", None),
        (b"A B", b"A==;\0", Some(b"=;")),
        // Empty strings are strings, and the last one may lack its NUL.
        (b"A B", b"\0\0A=x\0\0", Some(b"x")),
        (b"A B", b"B=y\0A=x", Some(b"x")),
    ];

    fn session_list(text: &[u8]) -> Wanted<'_> {
        Wanted {
            session: NameList::parse(text).unwrap_or(NameList::EMPTY),
            ..Wanted::NOTHING
        }
    }

    fn session_is(wanted: &Wanted<'_>, block: &[u8], value: Option<&[u8]>) -> bool {
        let mut found = Declared::new();
        search_slice(wanted, &mut found, block);
        found.get(Kind::Session).map(|claim| claim.value) == value
    }

    #[test]
    fn the_best_name_and_its_first_string_count() {
        let wrong = ROWS
            .iter()
            .position(|&(list, block, value)| !session_is(&session_list(list), block, value));
        assert_eq!(wrong, None);
    }

    #[test]
    fn kinds_are_found_side_by_side() {
        static BLOCK: &[u8] =
            b"CLAUDE_TOOL=Edit\0PROV_TURN=42\0AGENTNS_INTENT=look\0PROV_TOOL=sed\0";
        let mut found = Declared::new();
        search_slice(&Wanted::defaults(), &mut found, BLOCK);
        assert!(found.get(Kind::Session).is_none());
        assert_eq!(
            found.get(Kind::Tool).map(|tool| tool.value),
            Some(&b"sed"[..])
        );
        assert_eq!(
            found.get(Kind::Turn).map(|turn| turn.value),
            Some(&b"42"[..])
        );
        assert_eq!(
            found.get(Kind::Intent).map(|i| i.name),
            Some(&b"AGENTNS_INTENT"[..])
        );
    }

    /// A block that is not there: `len` bytes which are NUL after each 999, with strings put in.
    fn fill(buf: &mut [u8], start: usize, strings: &[(usize, &[u8])]) {
        for (at, byte) in (start..).zip(buf.iter_mut()) {
            *byte = if at % 1000 == 999 { 0 } else { b'x' };
            for (from, string) in strings {
                let inside = at.checked_sub(*from).and_then(|at| string.get(at));
                *byte = *inside.unwrap_or(byte);
            }
        }
    }

    #[test]
    fn strings_straddle_windows_anywhere() {
        const LEN: usize = 5000;
        let wanted = session_list(b"A");
        let mut window = [0; WINDOW_MIN];
        let wrong = (0..LEN - 1000).step_by(13).find(|&at| {
            let mut found = Declared::new();
            let strings: [(usize, &[u8]); 1] = [(at, b"\0A=the value\0")];
            let read = |dist: usize, buf: &mut [u8]| {
                let start = LEN - dist - buf.len();
                fill(buf, start, &strings);
                Ok::<(), ()>(())
            };
            search(&wanted, &mut found, LEN, usize::MAX, &mut window, read) != Ok(())
                || found.get(Kind::Session).map(|claim| claim.value) != Some(b"the value")
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn the_search_stays_within_its_bounds() {
        const LEN: usize = ENV_MAX + 5000;
        let wanted = session_list(b"A B");
        let mut window = [0; WINDOW_MIN];
        let mut found = Declared::new();
        // The first byte that is looked at is the `A` within a string; `B` begins behind it.
        let strings: [(usize, &[u8]); 2] = [(4998, b"\0XA=x\0"), (5010, b"\0B=y\0")];
        let mut lowest = LEN;
        let read = |dist: usize, buf: &mut [u8]| {
            let start = LEN - dist - buf.len();
            lowest = lowest.min(start);
            fill(buf, start, &strings);
            Ok::<(), ()>(())
        };
        let searched = search(&wanted, &mut found, LEN, usize::MAX, &mut window, read);
        assert_eq!(searched, Ok(()));
        assert_eq!(found.get(Kind::Session).map(|b| b.value), Some(&b"y"[..]));
        assert_eq!(lowest, LEN - ENV_MAX);
    }

    #[test]
    fn only_as_many_strings_are_read_as_there_are() {
        // Below the environment are the arguments.
        static BLOCK: &[u8] = b"sh\0A=argument\0HOME=/\0A=x\0";
        let wanted = session_list(b"A");
        let mut window = [0; WINDOW_MIN];
        let mut found = Declared::new();
        for (count, value) in [(0, None), (2, Some(&b"x"[..])), (3, Some(b"argument"))] {
            let read = |dist: usize, buf: &mut [u8]| {
                let end = BLOCK.len() - dist;
                let block = BLOCK.get(end - buf.len()..end).unwrap_or_default();
                for (to, from) in buf.iter_mut().zip(block) {
                    *to = *from;
                }
                Ok::<(), ()>(())
            };
            let searched = search(&wanted, &mut found, BLOCK.len(), count, &mut window, read);
            assert_eq!(searched, Ok(()));
            assert_eq!(found.get(Kind::Session).map(|claim| claim.value), value);
        }
    }

    #[test]
    fn a_failed_read_leaves_nothing() {
        let wanted = session_list(b"A");
        let mut window = [0; WINDOW_MIN];
        let mut found = Declared::new();
        let mut reads = 0;
        let searched = search(
            &wanted,
            &mut found,
            5000,
            usize::MAX,
            &mut window,
            |_, buf| {
                reads += 1;
                fill(buf, 0, &[(500, b"\0A=x\0")]);
                if reads < 3 {
                    Ok(())
                } else {
                    Err(reads)
                }
            },
        );
        assert_eq!(searched, Err(3));
        assert!(found.is_empty());
    }

    #[test]
    fn long_values_are_cut_at_a_whole_character() {
        static BLOCK: [u8; 600] = {
            let mut block = [b'v'; 600];
            (block[0], block[1]) = (b'A', b'=');
            // Two bytes of a character, the second one behind the limit.
            (block[VALUE_MAX + 1], block[VALUE_MAX + 2]) = (0xc3, 0xa9);
            block
        };
        let want = BLOCK.get(2..VALUE_MAX + 1);
        assert!(session_is(&session_list(b"A"), &BLOCK, want));
    }

    #[test]
    fn lists_are_checked() {
        use NameListErrorKind::{
            BadByte,
            NameTooLong,
            TextTooLong,
            TooMany, //
        };
        static LONG: [u8; NAMES_TEXT_MAX + 1] = [b' '; NAMES_TEXT_MAX + 1];
        static MANY: [u8; 2 * NAMES_MAX + 1] = {
            let mut many = [b'A'; 2 * NAMES_MAX + 1];
            let mut at = 1;
            while at < many.len() {
                many[at] = b',';
                at += 2;
            }
            many
        };
        static ROWS: [(&[u8], Result<usize, NameListError>); 11] = [
            (b"", Ok(0)),
            (b" ,\n\t", Ok(0)),
            (b"A", Ok(1)),
            (b" A,B\nC D_1,_ ", Ok(5)),
            (b"A=B", bad(1, BadByte)),
            (b"A 1B", bad(2, BadByte)),
            (b"A B\xc3\xa9", bad(3, BadByte)),
            (b"A\0B", bad(1, BadByte)),
            (&[b'N'; NAME_MAX + 1], bad(0, NameTooLong)),
            (&LONG, bad(NAMES_TEXT_MAX, TextTooLong)),
            (&MANY, bad(2 * NAMES_MAX, TooMany)),
        ];
        const fn bad(offset: usize, kind: NameListErrorKind) -> Result<usize, NameListError> {
            Err(NameListError { offset, kind })
        }
        let wrong = ROWS.iter().position(|(text, want)| {
            NameList::parse(text).map(|list| list.iter().count()) != *want
        });
        assert_eq!(wrong, None);
        let counts = Kind::ALL.map(|kind| Wanted::defaults().list(kind).iter().count());
        assert_eq!(counts, [5, 2, 2, 3]);
    }
}
