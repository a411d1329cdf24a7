//! Whether a record can be that of the data beside it, as far as the times of the file tell.
//!
//! The module stamps a file just before its data change. So the time of a record is that of the
//! last modification (mtime), rounded down to a second, or earlier by no more than the granularity
//! within which one writer is not stamped twice. Setting a record changes the inode, so it is
//! never later than the last change (ctime); and it is never earlier than the file itself (birth),
//! which not every file system keeps. What differs from that was not left by the module for these
//! data; the verdicts say in which way.

use std::{fs, path::Path};

use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    io::Errno,
};

use crate::args::Verdict;

/// Seconds by which two clocks may differ: the kernel stamps with a fine clock, and file systems
/// with the one of the last tick.
const TICK: i64 = 1;

/// `provfs.ts_granularity_ms` by default.
const GRANULARITY_MS: i64 = 1000;

/// The times of a file, in unix seconds, rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// When data were last modified; anybody who may write the file can set it.
    pub(crate) modified: i64,
    /// When the inode last changed; nobody can set it.
    pub(crate) changed: i64,
    /// When the inode was made, where the file system keeps that.
    pub(crate) birth: Option<i64>,
}

impl Times {
    pub(crate) fn of(path: &Path, follow_links: bool) -> Result<Self, Errno> {
        let flags = if follow_links {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let wanted = StatxFlags::MTIME | StatxFlags::CTIME | StatxFlags::BTIME;
        let stat = statx(CWD, path, flags, wanted)?;
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Times {
            modified: stat.stx_mtime.tv_sec,
            changed: stat.stx_ctime.tv_sec,
            birth: has_birth.then_some(stat.stx_btime.tv_sec),
        })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) verdict: Verdict,
    pub(crate) times: Times,
}

/// Compares records with files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    /// Seconds by which a record may be older than the data.
    slack: i64,
}

impl Judge {
    /// With the granularity that is set on this machine, or else the default.
    pub(crate) fn new() -> Self {
        let set = fs::read_to_string("/proc/sys/provfs/ts_granularity_ms");
        let set = set.ok().and_then(|text| text.trim().parse().ok());
        Judge::with(set.unwrap_or(GRANULARITY_MS))
    }

    fn with(granularity_ms: i64) -> Self {
        // The record is rounded down to a second, which is up to one more.
        let slack = granularity_ms.max(0).saturating_add(999) / 1000 + 1;
        Judge { slack }
    }

    /// `ts` is the time of the record, if it has one.
    pub(crate) fn check(&self, ts: Option<i64>, times: Times) -> Check {
        let verdict = match ts {
            None => Verdict::Undated,
            Some(ts) if ts > times.changed.saturating_add(TICK) => Verdict::Ahead,
            Some(ts) if times.birth.is_some_and(|birth| ts < birth - TICK) => Verdict::Copied,
            Some(ts) if times.modified > ts.saturating_add(self.slack) => Verdict::Stale,
            Some(ts) if times.modified < ts.saturating_sub(TICK) => Verdict::Backdated,
            Some(_) => Verdict::Current,
        };
        Check { verdict, times }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict() {
        use Verdict::{Ahead, Backdated, Copied, Current, Stale, Undated};
        for (ts, modified, changed, birth, want) in [
            (Some(100), 100, 100, Some(50), Current),
            (Some(100), 102, 102, Some(100), Current), // within the granularity, and rounded
            (Some(100), 103, 103, Some(100), Stale),
            (Some(100), 103, 103, None, Stale),
            (Some(100), 99, 100, Some(100), Current), // a tick
            (Some(100), 98, 100, Some(100), Backdated),
            (Some(100), 98, 100, None, Backdated),
            (Some(100), 100, 300, Some(101), Current), // a tick
            (Some(100), 100, 300, Some(102), Copied),  // cp -a, rsync -X
            (Some(100), 500, 500, Some(102), Copied),  // copied without its time
            (Some(100), 100, 98, Some(50), Ahead),
            (Some(100), 90, 90, None, Ahead),
            (Some(i64::MAX), 0, 0, None, Ahead),
            (Some(i64::MIN), 0, 0, None, Stale),
            (None, 100, 100, Some(50), Undated),
        ] {
            let times = Times {
                modified,
                changed,
                birth,
            };
            let check = Judge::with(1000).check(ts, times);
            assert_eq!(check.verdict, want, "{ts:?} {times:?}");
        }
    }

    #[test]
    fn the_granularity_is_what_a_record_may_lag() {
        let times = Times {
            modified: 110,
            changed: 110,
            birth: None,
        };
        for (granularity, want) in [
            (0, Verdict::Stale),
            (8_000, Verdict::Stale),
            (8_001, Verdict::Current),
            (i64::MAX, Verdict::Current),
        ] {
            assert_eq!(
                Judge::with(granularity).check(Some(100), times).verdict,
                want
            );
        }
    }
}
