// SPDX-License-Identifier: GPL-2.0-only

//! What the administrator has set, and what follows from it for a file: is it to be recorded?
//!
//! A decision costs a path, and a comparison with each rule; so the last one is kept in the inode,
//! together with everything that it depends on: the generation of the rules, the names of all
//! objects (every rename anywhere changes them), the mount and the name that the file was opened
//! under. It is not kept where it could not be right for everybody: for an inode that has or had
//! several names, and with rules that look at the writer.

use kernel::{
    alloc::{
        flags::{
            self,
            GFP_KERNEL, //
        },
        Flags, //
    },
    fmt,
    fs::{
        dentry::{
            rename_sequence,
            rename_sequence_now, //
        },
        Dentry,
        Inode,
        Mount,
        Path,
        SuperBlock, //
    },
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu::{
            self,
            RcuArc, //
        },
        Arc, //
    },
    time::msecs_to_jiffies, //
};

use core::mem::MaybeUninit;

use crate::{
    identity::Identity,
    pure::{
        environ::{
            Kind,
            NameList,
            NameListError,
            Wanted, //
        },
        limits::{
            NAMES_TEXT_MAX,
            SKIP_TEXT_MAX, //
        },
        skip::{
            self,
            Facts,
            Hints,
            Rule,
            RuleKind,
            Rules,
            SkipError,
            Verdict, //
        },
        text::Writer,
    },
    state::{
        self,
        InodeState,
        Token, //
    },
    xattrs::Format, //
};

/// Running out of memory is counted, and not worth a message.
fn quietly() -> Flags {
    GFP_KERNEL | flags::__GFP_NOWARN
}

/// Whether anything is recorded.
static ENABLED: Atomic<u32> = Atomic::new(1);

/// How old a record of the same identity may get before it is renewed, in milliseconds.
static GRANULARITY_MS: Atomic<u32> = Atomic::new(1000);

/// The same in ticks.
static GRANULARITY_TICKS: Atomic<usize> = Atomic::new(0);

/// How records are stored: whether in one attribute.
static PACKED: Atomic<u32> = Atomic::new(0);

/// How many sessions a history has at most.
static HISTORY: Atomic<u32> = Atomic::new(5);

/// Whether nobody but the kernel changes records.
static PROTECT: Atomic<u32> = Atomic::new(0);

/// Whether what threads of the kernel write is recorded.
static KTHREADS: Atomic<u32> = Atomic::new(0);

/// Changes with everything that decisions depend on.
static GENERATION: Atomic<u32> = Atomic::new(0);

/// The rules. Nothing is skipped without them.
static SKIP: RcuArc<SkipList> = RcuArc::empty();

/// The names of the variables that declare something, by kind; the defaults without them.
static NAMES: [RcuArc<Names>; Kind::ALL.len()] = [const { RcuArc::empty() }; Kind::ALL.len()];

impl fmt::Display for SkipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NameListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// A compiled list of skip rules.
struct SkipList {
    text: KVec<u8>,
    rules: KVec<Rule>,
    hints: Hints,
    needs_path: bool,
    depends_on_writer: bool,
}

impl SkipList {
    fn rules(&self) -> Rules<'_> {
        Rules {
            text: &self.text,
            rules: &self.rules,
        }
    }
}

/// A list of names, in its checked text form.
struct Names {
    text: KVec<u8>,
}

/// Puts the defaults in force.
pub(crate) fn init() -> Result {
    set_granularity_ms(granularity_ms());
    set_skip(skip::DEFAULT)
}

/// Makes everybody decide again.
fn changed() {
    GENERATION.fetch_add(1, Relaxed);
    state::begin_epoch();
}

/// Whether anything is recorded.
#[inline]
pub(crate) fn is_enabled() -> bool {
    ENABLED.load(Relaxed) != 0
}

/// Sets whether anything is recorded.
pub(crate) fn set_enabled(enabled: bool) {
    ENABLED.store(u32::from(enabled), Relaxed);
    changed();
}

/// How old a record of the same identity may get before it is renewed, in milliseconds.
pub(crate) fn granularity_ms() -> u32 {
    GRANULARITY_MS.load(Relaxed)
}

/// The same in nanoseconds.
pub(crate) fn granularity() -> i64 {
    i64::from(granularity_ms()) * 1_000_000
}

/// The same in ticks.
#[inline]
pub(crate) fn granularity_ticks() -> usize {
    GRANULARITY_TICKS.load(Relaxed)
}

/// Sets how old a record of the same identity may get before it is renewed.
pub(crate) fn set_granularity_ms(granularity: u32) {
    GRANULARITY_MS.store(granularity, Relaxed);
    GRANULARITY_TICKS.store(msecs_to_jiffies(granularity), Relaxed);
}

/// How records are stored.
pub(crate) fn format() -> Format {
    if PACKED.load(Relaxed) != 0 {
        Format::Packed
    } else {
        Format::Keys
    }
}

/// Sets how records are stored from now on.
pub(crate) fn set_format(format: Format) {
    PACKED.store(u32::from(format == Format::Packed), Relaxed);
}

/// How many sessions a history has at most.
pub(crate) fn history() -> u32 {
    HISTORY.load(Relaxed)
}

/// Sets how many sessions a history has at most.
pub(crate) fn set_history(limit: u32) {
    HISTORY.store(limit, Relaxed);
}

/// Whether nobody but the kernel changes records.
pub(crate) fn is_protecting() -> bool {
    PROTECT.load(Relaxed) != 0
}

/// Sets whether nobody but the kernel changes records.
pub(crate) fn set_protecting(protecting: bool) {
    PROTECT.store(u32::from(protecting), Relaxed);
}

/// Whether what threads of the kernel write is recorded.
pub(crate) fn records_kthreads() -> bool {
    KTHREADS.load(Relaxed) != 0
}

/// Sets whether what threads of the kernel write is recorded.
pub(crate) fn set_records_kthreads(recorded: bool) {
    KTHREADS.store(u32::from(recorded), Relaxed);
    changed();
}

/// The generation of the settings that decisions depend on.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Relaxed) & state::GENERATION_MASK
}

/// The skip list as it was set.
pub(crate) fn skip_text() -> Result<KVec<u8>> {
    let mut text = KVec::with_capacity(SKIP_TEXT_MAX + 1, GFP_KERNEL)?;
    let guard = rcu::read_lock();
    if let Some(list) = SKIP.load(&guard) {
        // There is room for it, so nothing is allocated under the lock.
        text.extend_from_slice(&list.text, GFP_KERNEL)?;
    }
    Ok(text)
}

/// Puts another skip list in force, or none of it: a list with a mistake is refused with `EINVAL`,
/// and the log says what is wrong with it.
pub(crate) fn set_skip(text: &[u8]) -> Result {
    let mut rules = KVec::from_elem(Rule::EMPTY, skip::max_rules(text), GFP_KERNEL)?;
    let count = skip::compile(text, &mut rules).map_err(|error| {
        pr_warn!("skip list refused: {}\n", error);
        EINVAL
    })?;
    rules.truncate(count);

    let mut copy = KVec::with_capacity(text.len(), GFP_KERNEL)?;
    copy.extend_from_slice(text, GFP_KERNEL)?;

    let compiled = Rules {
        text: &copy,
        rules: &rules,
    };
    let hints = Hints::of(&compiled);
    let (needs_path, depends_on_writer) = (compiled.needs_path(), compiled.depends_on_writer());
    let list = SkipList {
        text: copy,
        hints,
        rules,
        needs_path,
        depends_on_writer,
    };

    SKIP.replace(Some(Arc::new(list, GFP_KERNEL)?));
    changed();
    Ok(())
}

/// The names of one kind as they were set.
pub(crate) fn names_text(kind: Kind) -> Result<KVec<u8>> {
    let mut text = KVec::with_capacity(NAMES_TEXT_MAX + 1, GFP_KERNEL)?;
    let guard = rcu::read_lock();
    let names = NAMES.get(kind.index()).and_then(|slot| slot.load(&guard));
    let current = names
        .as_ref()
        .map_or(kind.default_names(), |names| &names.text);
    // There is room for it, so nothing is allocated under the lock.
    text.extend_from_slice(current, GFP_KERNEL)?;
    Ok(text)
}

/// Sets the names of one kind, or refuses them with `EINVAL`; then the log says why.
pub(crate) fn set_names(kind: Kind, text: &[u8]) -> Result {
    NameList::parse(text).map_err(|error| {
        pr_warn!("list of names refused: {}\n", error);
        EINVAL
    })?;

    let mut copy = KVec::with_capacity(text.len(), GFP_KERNEL)?;
    copy.extend_from_slice(text, GFP_KERNEL)?;

    let slot = NAMES.get(kind.index()).ok_or(EINVAL)?;
    slot.replace(Some(Arc::new(Names { text: copy }, GFP_KERNEL)?));
    Ok(())
}

/// Calls `f` with the names that are looked for in environments. `f` may sleep.
pub(crate) fn with_names<T>(f: impl FnOnce(&Wanted<'_>) -> T) -> T {
    let mut held: [Option<Arc<Names>>; Kind::ALL.len()] = [const { None }; Kind::ALL.len()];
    {
        let guard = rcu::read_lock();
        for (to, slot) in held.iter_mut().zip(&NAMES) {
            *to = slot.load(&guard).map(Arc::from);
        }
    }

    let list = |kind: Kind| {
        let names = held.get(kind.index()).and_then(Option::as_ref);
        let text = names.map_or(kind.default_names(), |names| &names.text);
        // It was checked before it was put there.
        NameList::parse(text).unwrap_or(NameList::EMPTY)
    };
    f(&Wanted {
        session: list(Kind::Session),
        tool: list(Kind::Tool),
        turn: list(Kind::Turn),
        intent: list(Kind::Intent),
    })
}

/// A decision to skip, and the kind of rule that made it.
pub(crate) type Skipped = Option<RuleKind>;

/// Decides whether a modification of a file by somebody is to be recorded.
///
/// Fails with `ENOMEM` only.
pub(crate) fn decide(path: &Path, inode: &Inode, writer: &Identity) -> Result<Skipped> {
    let Some(needs) = needs() else {
        return Ok(None);
    };

    let kept = &state::of_inode(inode).verdict;
    let key = if needs.writer {
        None
    } else {
        key(path, inode, generation().into())
    };
    if let Some(skipped) = key.and_then(|key| key.recall(kept.load(Relaxed))) {
        return Ok(skipped);
    }

    let skipped = judge(path, inode.super_block(), writer, needs)?;
    if let Some(key) = key {
        kept.store(key.remember(skipped), Relaxed);
    }
    Ok(skipped)
}

/// What a decision about a name of a file depends on now, see [`Key::new`]; [`None`] if that is
/// changing, or if the file may have other names: only without them its dentry stands for the name.
fn key(path: &Path, inode: &Inode, version: u64) -> Option<Key> {
    if inode.link_count() > 1 || state::of_inode(inode).has_links() {
        return None;
    }
    Key::new(version, path.mount(), path.dentry())
}

/// What a modification is about to depend on, to be remembered with what comes of it.
pub(crate) struct Pass(Key);

impl Pass {
    /// The same as for a decision, and who modifies the file in which epoch; [`None`] likewise.
    pub(crate) fn new(path: &Path, inode: &Inode, token: Token) -> Option<Self> {
        key(path, inode, token.number()).map(Pass)
    }

    /// Remembers that a rule skipped the modification, or that a record was made of it just now.
    pub(crate) fn remember(self, inode: &Inode, skipped: Skipped, generation: u32) {
        state::of_inode(inode).set_pass(self.0.remember(skipped), generation);
    }
}

/// What came of the last modification, if it was of a file under this name by the same writer in
/// the same epoch, and would therefore come of this one, too.
#[inline]
pub(crate) fn recall_pass(path: &Path, inode_state: &InodeState, token: Token) -> Option<Skipped> {
    if inode_state.has_links() {
        return None;
    }
    let names = rename_sequence_now();
    Key::with(names, token.number(), path.mount(), path.dentry()).recall(inode_state.pass())
}

/// Decides the same about a file that is yet to be made under this name.
///
/// Fails with `ENOMEM` only.
pub(crate) fn decide_new(
    path: &Path,
    super_block: &SuperBlock,
    writer: &Identity,
) -> Result<Skipped> {
    needs().map_or(Ok(None), |needs| judge(path, super_block, writer, needs))
}

/// Whether a type of file system is not recorded at all, whoever writes to it. Then it is not to be
/// asked for what it has recorded either: it may be slow to answer.
pub(crate) fn is_skipped(super_block: &SuperBlock) -> bool {
    let mut name = [0; FS_NAME_MAX];
    let facts = Facts {
        path: None,
        fs_type: fs_name(super_block, &mut name),
        comm: b"",
        uid: u32::MAX,
    };
    verdict(&facts).skip
}

/// What the rules look at.
#[derive(Clone, Copy)]
struct Needs {
    path: bool,
    writer: bool,
}

fn needs() -> Option<Needs> {
    let guard = rcu::read_lock();
    SKIP.load(&guard).map(|list| Needs {
        path: list.needs_path,
        writer: list.depends_on_writer,
    })
}

/// Asks the rules that are in force now.
fn judge(
    path: &Path,
    super_block: &SuperBlock,
    writer: &Identity,
    needs: Needs,
) -> Result<Skipped> {
    let mut name = [0; FS_NAME_MAX];
    let facts = Facts {
        path: None,
        fs_type: fs_name(super_block, &mut name),
        comm: writer.comm(),
        uid: writer.uid(),
    };
    if !needs.path {
        return Ok(skipped(verdict(&facts)));
    }
    // That comes before the path, so that nothing outlives it.
    let directory = look_at_directory(path, &facts);
    if directory.as_ref().is_some_and(|known| known.is_clear) {
        return Ok(None);
    }
    with_path(path, |absolute| match absolute {
        Some(absolute) => judge_path(path, absolute, &facts, directory),
        None => skipped(verdict(&facts)),
    })
}

fn skipped(verdict: Verdict) -> Skipped {
    verdict.kind.filter(|_| verdict.skip)
}

/// Asks the rules about a path, and remembers its directory if none of them is about that.
fn judge_path(
    path: &Path,
    absolute: &[u8],
    facts: &Facts<'_>,
    directory: Option<Directory>,
) -> Skipped {
    let guard = rcu::read_lock();
    let list = SKIP.load(&guard)?;
    let slash = absolute.iter().rposition(|&byte| byte == b'/');
    let (parent, name) = absolute
        .split_at_checked(slash.unwrap_or(0))
        .unwrap_or_default();
    let name = name.strip_prefix(b"/").unwrap_or(name);
    // In the root, a name is the first component of a path.
    if !parent.is_empty() && !list.hints.may_match_path(parent) {
        if let Some(directory) = directory {
            note_clear(path, directory.key);
        }
        if !list.hints.may_match_origin(facts) && !list.hints.may_match_name(name) {
            return None;
        }
    }
    skipped(list.rules().decide(&Facts {
        path: Some(absolute),
        ..*facts
    }))
}

/// What is known of the directory that a name is in.
struct Directory {
    /// What a decision about all names in it depends on.
    key: Key,
    /// No rule is about it, nor about the name in it.
    is_clear: bool,
}

/// Looks at what is known of the directory that a name is in. [`None`] if nothing can be: it is
/// changing, or not seen through the same mount.
fn look_at_directory(path: &Path, facts: &Facts<'_>) -> Option<Directory> {
    if path.is_mount_root() {
        return None;
    }
    let guard = rcu::read_lock();
    let list = SKIP.load(&guard)?;
    let locked = path.dentry().lock();
    let parent = locked.parent();
    if core::ptr::eq(parent, path.dentry()) {
        return None;
    }
    let key = Key::new(generation().into(), path.mount(), parent)?;
    let kept = state::of_inode(parent.inode()?).verdict.load(Relaxed);
    Some(Directory {
        is_clear: key.recall(kept) == Some(None)
            && !list.hints.may_match_origin(facts)
            && !list.hints.may_match_name(locked.name()),
        key,
    })
}

/// Remembers that no rule is about the directory that a name is in.
fn note_clear(path: &Path, key: Key) {
    let locked = path.dentry().lock();
    if let Some(inode) = locked.parent().inode() {
        let clear = key.remember(None);
        state::of_inode(inode).verdict.store(clear, Relaxed);
    }
}

/// Longest name of a type of file system; what is longer is cut.
const FS_NAME_MAX: usize = 64;

/// The type of a file system as `/proc/mounts` has it: `fuse.sshfs`.
fn fs_name<'a>(super_block: &'a SuperBlock, buf: &'a mut [u8; FS_NAME_MAX]) -> &'a [u8] {
    let fs_type = super_block.type_name().to_bytes();
    let Some(subtype) = super_block.subtype().map(CStr::to_bytes) else {
        return fs_type;
    };
    let mut out = Writer::new(buf);
    match out
        .push(fs_type)
        .and_then(|()| out.push(b"."))
        .and_then(|()| out.push(subtype))
    {
        Ok(()) => out.into_bytes(),
        Err(_) => fs_type,
    }
}

fn verdict(facts: &Facts<'_>) -> Verdict {
    let guard = rcu::read_lock();
    match SKIP.load(&guard) {
        Some(list) if list.hints.may_match(facts) => list.rules().decide(facts),
        _ => Verdict::RECORD,
    }
}

/// Most paths fit into this much; it is on the stack.
const SHORT_PATH: usize = 256;

/// Calls `f` with the absolute path, or with [`None`] for what has none: a path longer than
/// `PATH_MAX`, or a mount that belongs to no name space.
fn with_path<T>(path: &Path, f: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
    let mut short = [const { MaybeUninit::uninit() }; SHORT_PATH];
    match path.absolute(&mut short) {
        Err(error) if error == ENAMETOOLONG => {}
        result => return Ok(f(result.ok())),
    }

    let mut long = KVec::<u8>::with_capacity(Path::MAX, quietly())?;
    let path = path.absolute(long.spare_capacity_mut()).ok();
    Ok(f(path))
}

/// Whether a path is in no name space, so that nobody has it.
pub(crate) fn is_nowhere(path: &Path) -> bool {
    let mut short = [const { MaybeUninit::uninit() }; SHORT_PATH];
    matches!(path.absolute(&mut short), Err(error) if error == EINVAL)
}

/// What a decision depends on, as a number of which the low byte is free.
#[derive(Clone, Copy)]
struct Key(u64);

impl Key {
    /// The low byte holds the decision.
    const DECISION: u64 = 0xff;

    /// Record it.
    const RECORD: u64 = 1;

    /// Skip it, because of the kind of rule with the index that is added.
    const SKIP: u64 = 2;

    /// What a decision about this name, seen through this mount, depends on now; [`None`] while
    /// that is changing. `version` stands for everything that is no name.
    fn new(version: u64, mount: &Mount, dentry: &Dentry) -> Option<Self> {
        Some(Self::with(rename_sequence()?, version, mount, dentry))
    }

    /// The same, with a sequence of renames.
    #[inline]
    fn with(names: u32, version: u64, mount: &Mount, dentry: &Dentry) -> Self {
        // CAST: An address is a number like any other here.
        let (mount, dentry) = (mount.as_raw() as u64, dentry.as_raw() as u64);

        // Numbers that differ in one input give different keys but for one case in 2^56.
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |mixed: u64, next: u64| (mixed ^ next).wrapping_mul(ODD).rotate_left(32);
        let mixed = mix(mix(mix(mix(0, version), names.into()), mount), dentry);
        Key(mixed & !Self::DECISION)
    }

    /// A decision together with its key.
    fn remember(self, skipped: Skipped) -> u64 {
        // CAST: There are few kinds.
        self.0 | skipped.map_or(Self::RECORD, |kind| Self::SKIP + kind.index() as u64)
    }

    /// The decision, if it was made for the same key.
    #[inline]
    fn recall(self, remembered: u64) -> Option<Skipped> {
        if remembered == self.remember(None) {
            return Some(None);
        }
        if remembered & !Self::DECISION != self.0 {
            return None;
        }
        let index = (remembered & Self::DECISION).checked_sub(Self::SKIP)?;
        let kind = RuleKind::ALL
            .into_iter()
            .find(|kind| kind.index() as u64 == index)?;
        Some(Some(kind))
    }
}
