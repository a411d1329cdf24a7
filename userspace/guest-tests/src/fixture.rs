//! What tests have in common: their place, the settings and counters of provfs, and a way to fail.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    fs::{self, File},
    io::{self, Write},
    ops::RangeInclusive,
    os::unix::fs::{DirBuilderExt, symlink},
    panic::Location,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

/// Why a test ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// What was expected is not so.
    Failed(String),
    /// It cannot be done here.
    Skipped(String),
}

/// What tests and their helpers return.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

impl<E: Error> From<E> for Stop {
    #[track_caller]
    fn from(error: E) -> Self {
        Stop::Failed(format!("{}: {error}", Location::caller()))
    }
}

/// Fails the test unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($context:tt)+) => {
        if !$condition {
            let context = format!($($context)+);
            return Err($crate::fixture::Stop::Failed(format!("{}:{}: {context}", file!(), line!())));
        }
    };
}
pub(crate) use ensure;

/// Fails the test unless two values are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($context:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                $crate::fixture::ensure!(
                    *left == *right,
                    "{}\n  is     {left:?}\n  not    {right:?}",
                    format_args!($($context)+)
                );
            }
        }
    };
}
pub(crate) use ensure_eq;

/// Ends the test as one that cannot be done here.
pub(crate) fn skip<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Stop::Skipped(why.into()))
}

/// A test.
pub(crate) struct Test {
    /// What is so.
    pub(crate) name: &'static str,
    /// Where it is to be seen.
    pub(crate) on: On,
    /// Sees to it.
    pub(crate) run: fn(&Place) -> Outcome,
}

/// The file systems of a test.
pub(crate) enum On {
    /// One of them; it makes no difference.
    Any,
    /// Each of these.
    Each(&'static [Fs]),
}

/// A test on each file system.
pub(crate) const fn each(name: &'static str, run: fn(&Place) -> Outcome) -> Test {
    Test {
        name,
        on: On::Each(&Fs::ALL),
        run,
    }
}

/// A test on each file system, and on an overlay.
pub(crate) const fn everywhere(name: &'static str, run: fn(&Place) -> Outcome) -> Test {
    Test {
        name,
        on: On::Each(&Fs::WITH_OVERLAY),
        run,
    }
}

/// A test on some file systems.
pub(crate) const fn on(
    list: &'static [Fs],
    name: &'static str,
    run: fn(&Place) -> Outcome,
) -> Test {
    Test {
        name,
        on: On::Each(list),
        run,
    }
}

/// A test of what does not depend on the file system.
pub(crate) const fn once(name: &'static str, run: fn(&Place) -> Outcome) -> Test {
    Test {
        name,
        on: On::Any,
        run,
    }
}

/// A file system, mounted at `/mnt/NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fs {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
    Overlay,
}

impl Fs {
    pub(crate) const ALL: [Fs; 4] = [Fs::Ext4, Fs::Xfs, Fs::Btrfs, Fs::Tmpfs];
    pub(crate) const WITH_OVERLAY: [Fs; 5] = [Fs::Ext4, Fs::Xfs, Fs::Btrfs, Fs::Tmpfs, Fs::Overlay];
    pub(crate) const DISKS: [Fs; 3] = [Fs::Ext4, Fs::Xfs, Fs::Btrfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fs::Ext4 => "ext4",
            Fs::Xfs => "xfs",
            Fs::Btrfs => "btrfs",
            Fs::Tmpfs => "tmpfs",
            Fs::Overlay => "overlay",
        }
    }

    /// Where it is mounted.
    pub(crate) fn root(self) -> PathBuf {
        Path::new("/mnt").join(self.name())
    }

    /// Whether it is there.
    pub(crate) fn is_mounted(self) -> bool {
        let root = self.root();
        fs::read_to_string("/proc/mounts").is_ok_and(|mounts| {
            mounts.lines().any(|line| {
                let mut words = line.split(' ').skip(1);
                words.next() == root.to_str() && words.next() == Some(self.name())
            })
        })
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a test takes place.
pub(crate) struct Place {
    /// The file system.
    pub(crate) fs: Fs,
    /// A directory on it that was empty at first.
    pub(crate) dir: PathBuf,
    /// How much time there is.
    pub(crate) level: Level,
}

/// How much time there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    /// Little.
    Quick,
    /// Some minutes.
    #[default]
    Normal,
    /// As much as it takes.
    Full,
}

impl Level {
    /// What [`Display`](fmt::Display) shows.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Level::Quick, Level::Normal, Level::Full]
            .into_iter()
            .find(|level| level.to_string() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Quick => "quick",
            Level::Normal => "normal",
            Level::Full => "full",
        })
    }
}

/// Where `qemu/run` has put the lower layer of the overlay.
const LOWER: &str = "/run/provfs-overlay/lower";

impl Place {
    /// Makes a directory, that any user may write to.
    pub(crate) fn fresh(fs: Fs, level: Level) -> Outcome<Self> {
        let dir = fs.root().join(format!("t{}", std::process::id()));
        fs::DirBuilder::new().mode(0o777).create(&dir)?;
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        Ok(Place { fs, dir, level })
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// A new directory in the directory, that any user may write to.
    pub(crate) fn directory(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        Ok(path)
    }

    /// A new file with some bytes in it, and without a record.
    pub(crate) fn unstamped(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.path(name);
        let _off = Setting::set("enabled", "0")?;
        let _ = fs::remove_file(&path);
        fs::write(&path, [b'.'; 8192])?;
        crate::record::ensure_none(&path)?;
        Ok(path)
    }

    /// A file like [`unstamped`](Place::unstamped), which the overlay has to copy up before it is written to.
    pub(crate) fn unstamped_below(&self, name: &str) -> Outcome<PathBuf> {
        // Nobody must have looked for it through the overlay before.
        let below = Path::new(LOWER).join(self.dir.file_name().unwrap_or_default());
        let below = below.with_extension("below");
        let _off = Setting::set("enabled", "0")?;
        fs::create_dir_all(&below)?;
        let above = self.dir.with_extension("below");
        fs::set_permissions(&below, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        fs::write(below.join(name), [b'.'; 8192])?;
        crate::record::ensure_none(above.join(name))?;
        Ok(above.join(name))
    }

    /// How often to repeat what is repeated so often in some minutes.
    pub(crate) fn rounds(&self, normal: usize) -> usize {
        self.rounds_of(normal, normal * 10)
    }

    /// How often to repeat what is repeated so often in some minutes, or at leisure.
    pub(crate) fn rounds_of(&self, normal: usize, full: usize) -> usize {
        match self.level {
            // What a debug kernel looks for it finds in a few rounds, each of which takes it many times as long.
            Level::Quick if is_debug_kernel() => (normal / 40).max(2),
            Level::Quick => (normal / 10).max(2),
            Level::Normal => normal,
            Level::Full => full,
        }
    }

    /// Whether time is short.
    pub(crate) fn is_quick(&self) -> bool {
        self.level == Level::Quick
    }
}

const PROGRAMS: &str = "/run/provfs-guest-tests";

/// The name of this program itself.
pub(crate) const OWN: &str = "provfs-guest-tests";

/// Puts this program where every user can execute it, quickly and under any name, and sees to it that nobody else writes.
pub(crate) fn prepare() -> Outcome {
    // udevd notes in /run what disks come and go. Where there is none, there is nothing to stop.
    let _ = Command::new("udevadm").args(["control", "--exit"]).output();
    fs::DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(PROGRAMS)?;
    let own = Path::new(PROGRAMS).join(OWN);
    if !own.exists() {
        fs::copy("/proc/self/exe", &own)?;
    }
    Ok(())
}

/// The path of this program under some name, which is the comm of a process that executes it.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(PROGRAMS).join(name);
    if !path.exists() {
        // Another process of the same test may be faster.
        let _ = symlink(OWN, &path);
    }
    path
}

/// The settings, and their defaults.
pub(crate) const SETTINGS: [(&str, &str); 11] = [
    ("enabled", "1"),
    (
        "skip",
        "/proc,/sys,/dev,/run,/tmp,/var/tmp,/var/cache,/var/lib/pacman,/var/lib/dpkg,\
        .git,node_modules,target,.cache,.venv,__pycache__,fs:fuse*,fs:nfs*,fs:cifs,fs:9p,fs:ceph",
    ),
    ("format", "keys"),
    ("history", "5"),
    ("ts_granularity_ms", "1000"),
    ("protect", "0"),
    ("kthreads", "0"),
    (
        "env_session",
        "PROV_SESSION CLAUDE_SESSION CLAUDE_SESSION_ID AGENTNS_SESSION_ID AGORABUS_SID",
    ),
    ("env_tool", "PROV_TOOL CLAUDE_TOOL"),
    ("env_turn", "PROV_TURN CLAUDE_TURN"),
    ("env_intent", "PROV_INTENT CLAUDE_INTENT AGENTNS_INTENT"),
];

/// Whether this is the kernel that looks for mistakes.
pub(crate) fn is_debug_kernel() -> bool {
    Path::new("/sys/kernel/debug/kmemleak").exists()
}

/// Where a setting is.
pub(crate) fn setting_path(name: &str) -> PathBuf {
    Path::new("/proc/sys/provfs").join(name)
}

/// What the settings are before a test.
pub(crate) struct Before(Vec<(&'static str, Vec<u8>)>);

impl Before {
    /// What they are now, as far as they are there.
    pub(crate) fn now() -> Self {
        Before(
            SETTINGS
                .iter()
                .filter_map(|(name, _)| Some((*name, get(name).ok()?)))
                .collect(),
        )
    }
}

/// Puts back what a test may have left changed.
pub(crate) fn restore(before: &Before, fs: Fs) {
    for (name, value) in &before.0 {
        if get(name).is_ok_and(|now| now != *value) {
            let _ = write_setting(name, value);
        }
    }
    if let Ok(dir) = File::open(fs.root()) {
        let _ = crate::locks::thaw(&dir);
    }
}

/// Writes a setting in one piece, as it is.
pub(crate) fn write_setting(name: &str, value: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).open(setting_path(name))?;
    let written = file.write(value)?;
    if written == value.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// The value of a setting, without the newline at its end.
pub(crate) fn get(name: &str) -> io::Result<Vec<u8>> {
    let mut value = fs::read(setting_path(name))?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}

/// A setting that is changed for a while.
pub(crate) struct Setting {
    name: &'static str,
    before: Vec<u8>,
}

impl Setting {
    /// Changes a setting until the value returned here is dropped.
    #[track_caller]
    pub(crate) fn set(name: &'static str, value: impl AsRef<[u8]>) -> Outcome<Self> {
        let caller = Location::caller();
        let explain = |error| Stop::Failed(format!("{caller}: provfs.{name}: {error}"));
        let before = get(name).map_err(explain)?;
        write_setting(name, value.as_ref()).map_err(explain)?;
        Ok(Setting { name, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = write_setting(self.name, &self.before) {
            println!("provfs.{} could not be restored: {error}", self.name);
        }
    }
}

/// The counters at some moment, or how much they grew.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Counters(BTreeMap<String, i64>);

impl Counters {
    /// What they are now.
    pub(crate) fn now() -> Outcome<Self> {
        let path = "/sys/kernel/security/provfs/status";
        let text =
            fs::read_to_string(path).map_err(|error| Stop::Failed(format!("{path}: {error}")))?;
        let mut counters = BTreeMap::new();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(' ') else {
                return Err(Stop::Failed(format!(
                    "{path}: not a name and a value: {line:?}"
                )));
            };
            if !matches!(name, "version" | "enabled" | "format" | "identities") {
                counters.insert(name.to_owned(), value.parse()?);
            }
        }
        Ok(Counters(counters))
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// How much they grew since then, without those that did not.
    pub(crate) fn since(&self, before: &Counters) -> Counters {
        let grown = self
            .0
            .iter()
            .map(|(name, value)| (name.clone(), value - before.get(name)));
        Counters(grown.filter(|(_, growth)| *growth != 0).collect())
    }

    /// Fails unless each modification has exactly one outcome.
    pub(crate) fn check_sum(&self) -> Outcome {
        let plain = [
            "stamped",
            "unchanged",
            "owed",
            "paid",
            "superseded",
            "failed",
        ];
        let outcomes = self
            .0
            .iter()
            .filter(|(name, _)| plain.contains(&&***name) || name.starts_with("skipped."));
        let sum: i64 = outcomes.map(|(_, value)| value).sum();
        ensure_eq!(
            self.get("modifications"),
            sum,
            "modifications, and the sum of what came of them, in {self:?}"
        );
        let by_errno = self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with("failed."));
        let errors: i64 = by_errno.map(|(_, value)| value).sum();
        ensure_eq!(
            self.get("failed"),
            errors,
            "failed, and the sum of its reasons, in {self:?}"
        );
        Ok(())
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut some = self.0.iter().filter(|(_, value)| **value != 0).peekable();
        if some.peek().is_none() {
            return f.write_str("nothing");
        }
        for (name, value) in some {
            write!(f, "{name} {value:+}  ")?;
        }
        Ok(())
    }
}

/// Fails unless exactly these counters grow while `what` is done, by this much.
#[track_caller]
pub(crate) fn counting<T>(
    expected: &[(&str, i64)],
    what: impl FnOnce() -> Outcome<T>,
) -> Outcome<T> {
    let caller = Location::caller();
    let (result, grown) = growth(what)?;
    let expected = expected.iter().filter(|(_, growth)| *growth != 0);
    let expected = Counters(
        expected
            .map(|&(name, growth)| (name.to_owned(), growth))
            .collect(),
    );
    if grown != expected {
        return Err(Stop::Failed(format!(
            "{caller}: counters\n  grew   {grown:?}\n  not    {expected:?}"
        )));
    }
    Ok(result)
}

/// How much the counters grow while `what` is done.
pub(crate) fn growth<T>(what: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Counters)> {
    let before = Counters::now()?;
    let result = what()?;
    let grown = Counters::now()?.since(&before);
    grown.check_sum()?;
    Ok((result, grown))
}

/// What grows when one record is made.
pub(crate) const STAMPED: &[(&str, i64)] = &[("modifications", 1), ("stamped", 1)];

/// What grows when a record says it already.
pub(crate) const UNCHANGED: &[(&str, i64)] = &[("modifications", 1), ("unchanged", 1)];

/// What grows when a modification is noted, to be recorded later.
pub(crate) const OWED: &[(&str, i64)] = &[("modifications", 1), ("owed", 1)];

/// What grows when that is done.
pub(crate) const PAID: &[(&str, i64)] = &[("owed", -1), ("paid", 1)];

/// What grows when a file takes over the sessions of another. It is no modification.
pub(crate) const INHERITED: &[(&str, i64)] = &[("inherited", 1)];

/// What grows when a rule for paths decides.
pub(crate) const SKIPPED_PATH: &[(&str, i64)] = &[("modifications", 1), ("skipped.path", 1)];

/// Seconds since the Unix epoch.
pub(crate) fn seconds() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Does something and returns in which seconds that was, as the times of files tell it: they can be
/// those of the last tick.
pub(crate) fn timed(what: impl FnOnce() -> Outcome) -> Outcome<RangeInclusive<i64>> {
    let before = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
    what()?;
    Ok(before..=seconds())
}
