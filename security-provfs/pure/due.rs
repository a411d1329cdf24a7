// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! What there is to do about a modification, given what was done before.
//!
//! An *identity* is a number here: two writers with the same number would leave the same record.
//! The facts come from the state that is kept with the open file and with the inode; the answers
//! are carried out by the caller.

/// What was made of the last modification through an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// There was none yet, or none that still counts.
    Nothing,
    /// The record names its writer, as far as this open file knows.
    Recorded,
    /// It was not to be recorded, or could not be.
    PassedOver,
}

/// What the last record of an inode says, as far as is known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Nothing is known: no record was made since the inode came into memory.
    Unknown,
    /// A record of this identity, made this many nanoseconds ago (less than none if the clock was
    /// set back).
    By {
        /// Whether it is the identity in question.
        same: bool,
        /// Its age.
        age: i64,
    },
    /// A record of this identity was made, and then somebody else changed it.
    Overwritten {
        /// Whether it is the identity in question.
        same: bool,
    },
}

/// Facts about a task that is about to write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// What was made of the last modification through this file by the same identity under the same
    /// settings.
    pub settled: Settled,
    /// The last record of the inode, seen from this identity.
    pub last: Last,
    /// How old a record of the same identity may get before it is renewed, in nanoseconds.
    pub granularity: i64,
}

/// What to do about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWrite {
    /// This modification was already dealt with.
    Known,
    /// The record says it already.
    Unchanged,
    /// Make a record.
    Stamp,
}

/// Decides about a write.
pub fn on_write(facts: &Write) -> OnWrite {
    let named = matches!(facts.last, Last::By { same: true, .. });
    match (facts.settled, facts.last) {
        (Settled::PassedOver, _) => OnWrite::Known,
        // Somebody else's record in between means that this is another modification.
        (Settled::Recorded, _) if named => OnWrite::Known,
        (_, Last::By { same: true, age }) if (0..facts.granularity).contains(&age) => {
            OnWrite::Unchanged
        }
        _ => OnWrite::Stamp,
    }
}

/// Facts about a file whose last reference is gone.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// The inode was created by opening the file, and nobody has written to it through the file.
    pub only_created: bool,
    /// The inode has a name.
    pub is_linked: bool,
    /// A stamp could not be made at once: how long ago, in nanoseconds.
    pub owed: Option<i64>,
    /// What was made of the last modification through this file.
    pub settled: Settled,
    /// The last record of the inode, seen from the last writer through this file.
    pub last: Last,
    /// The file was mapped in a way that lets its memory be written to, without a stamp: how long
    /// ago, in nanoseconds.
    pub mapped: Option<i64>,
    /// How long ago the inode was last modified, in nanoseconds.
    pub mtime_age: i64,
    /// How much older than the last modification a record may be, in nanoseconds.
    pub granularity: i64,
}

/// What to do about a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRelease {
    /// Nothing is owed.
    Nothing,
    /// Stamp the file in the name of who created it.
    Created,
    /// Make the stamp that was owed.
    Pay,
    /// Somebody else has stamped the file after the write for which the stamp was owed.
    Superseded,
    /// Bring the time up to date: it was modified after the stamp.
    Refresh,
    /// Put back what was overwritten.
    Restore,
    /// Stamp a modification that was made through a mapping.
    Mapped,
}

/// How far the time of a modification may be behind the clock, in nanoseconds: file systems take it
/// from the last tick.
const TICK: i64 = 20_000_000;

/// What can be known about a file whose last reference is gone without looking at the clock.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// Nobody has written to the inode through the file that created it, a stamp is owed, or the
    /// file was mapped: its time counts.
    pub needs_clock: bool,
    /// What was made of the last modification through this file.
    pub settled: Settled,
    /// The last record of the inode is that of the last writer through this file, and nobody has
    /// changed it since.
    pub is_last: bool,
    /// How much later than that record the inode was modified, in nanoseconds.
    pub modified_since: i64,
    /// How much older than the last modification a record may be, in nanoseconds.
    pub granularity: i64,
}

/// Whether [`on_release`] would find nothing to do, whatever the time is.
pub fn is_done(facts: &Close) -> bool {
    !facts.needs_clock
        && match facts.settled {
            Settled::Recorded => facts.is_last && facts.modified_since <= facts.granularity,
            Settled::PassedOver | Settled::Nothing => true,
        }
}

/// Decides about a release.
pub fn on_release(facts: &Release) -> OnRelease {
    if let Some(owed_age) = facts.owed {
        return match facts.last {
            Last::By { same: false, age } if age < owed_age => OnRelease::Superseded,
            _ => OnRelease::Pay,
        };
    }
    if facts.only_created {
        return match facts.last {
            // It was written to through another file meanwhile.
            Last::By { .. } => OnRelease::Nothing,
            // Nobody will ever see it again.
            _ if !facts.is_linked => OnRelease::Nothing,
            _ => OnRelease::Created,
        };
    }
    match (facts.settled, facts.last) {
        (Settled::Recorded, Last::Overwritten { same: true }) => OnRelease::Restore,
        // A time in the future was set by somebody and says nothing about when.
        (Settled::Recorded, Last::By { same: true, age })
            if facts.mtime_age >= 0 && age.saturating_sub(facts.mtime_age) > facts.granularity =>
        {
            OnRelease::Refresh
        }
        (Settled::Recorded, _) => OnRelease::Nothing,
        (_, last) => mapped(facts, last),
    }
}

/// Decides about a file that was mapped, and for which there is no other reason for a stamp.
fn mapped(facts: &Release, last: Last) -> OnRelease {
    let since_then = facts
        .mapped
        .is_some_and(|age| (0..=age.saturating_add(TICK)).contains(&facts.mtime_age));
    // If there is a record of that time, the modification was most likely its writer's.
    let explained = matches!(
        last,
        Last::By { age, .. } if age.saturating_sub(facts.mtime_age) <= facts.granularity
    );
    if since_then && !explained {
        OnRelease::Mapped
    } else {
        OnRelease::Nothing
    }
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_due)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    const MINE: Last = Last::By { same: true, age: 0 };
    const OTHERS: Last = Last::By {
        same: false,
        age: 0,
    };

    const fn mine(age: i64) -> Last {
        Last::By { same: true, age }
    }

    const fn others(age: i64) -> Last {
        Last::By { same: false, age }
    }

    #[test]
    fn writes() {
        use OnWrite::*;
        use Settled::*;

        static TABLE: [(Settled, Last, OnWrite); 14] = [
            // The first write through a file.
            (Nothing, Last::Unknown, Stamp),
            (Nothing, OTHERS, Stamp),
            (Nothing, MINE, Unchanged),
            (Nothing, mine(SECOND - 1), Unchanged),
            (Nothing, mine(SECOND), Stamp),
            (Nothing, mine(-1), Stamp),
            (Nothing, Last::Overwritten { same: true }, Stamp),
            (Nothing, Last::Overwritten { same: false }, Stamp),
            // A later one, looked at again because something changed somewhere.
            (Recorded, mine(5 * SECOND), Known),
            (Recorded, OTHERS, Stamp),
            (Recorded, Last::Unknown, Stamp),
            (Recorded, Last::Overwritten { same: true }, Stamp),
            (PassedOver, Last::Unknown, Known),
            (PassedOver, OTHERS, Known),
        ];

        for (settled, last, expected) in &TABLE {
            let facts = Write {
                settled: *settled,
                last: *last,
                granularity: SECOND,
            };
            assert_eq!(on_write(&facts), *expected);
        }
    }

    #[test]
    fn without_granularity_every_file_is_stamped() {
        let facts = Write {
            settled: Settled::Nothing,
            last: MINE,
            granularity: 0,
        };
        assert_eq!(on_write(&facts), OnWrite::Stamp);
    }

    /// `(only_created, owed, settled, last, mtime_age, expected)`
    type Row = (bool, Option<i64>, Settled, Last, i64, OnRelease);

    #[test]
    fn releases() {
        use OnRelease::{
            Created,
            Pay,
            Refresh,
            Restore,
            Superseded, //
        };
        use Settled::*;

        static TABLE: [Row; 16] = [
            (false, None, Nothing, Last::Unknown, 0, OnRelease::Nothing),
            (true, None, Nothing, Last::Unknown, 0, Created),
            (true, None, Nothing, OTHERS, 0, OnRelease::Nothing),
            (
                true,
                None,
                Nothing,
                Last::Overwritten { same: false },
                0,
                Created,
            ),
            // Owed, and paid unless somebody came later.
            (false, Some(5), Nothing, Last::Unknown, 0, Pay),
            (false, Some(5), Recorded, mine(9), 0, Pay),
            (false, Some(5), Nothing, others(9), 0, Pay),
            (false, Some(5), Nothing, others(4), 0, Superseded),
            // Modified for long after the stamp.
            (
                false,
                None,
                Recorded,
                mine(3 * SECOND),
                3 * SECOND,
                OnRelease::Nothing,
            ),
            (
                false,
                None,
                Recorded,
                mine(3 * SECOND),
                2 * SECOND,
                OnRelease::Nothing,
            ),
            (false, None, Recorded, mine(3 * SECOND), SECOND, Refresh),
            (
                false,
                None,
                Recorded,
                others(3 * SECOND),
                0,
                OnRelease::Nothing,
            ),
            (
                false,
                None,
                PassedOver,
                mine(3 * SECOND),
                0,
                OnRelease::Nothing,
            ),
            // A modification time in the future.
            (
                false,
                None,
                Recorded,
                mine(3 * SECOND),
                -1,
                OnRelease::Nothing,
            ),
            // `cp -a` sets the attributes of the source after it has written the data.
            (
                false,
                None,
                Recorded,
                Last::Overwritten { same: true },
                0,
                Restore,
            ),
            (
                false,
                None,
                Recorded,
                Last::Overwritten { same: false },
                0,
                OnRelease::Nothing,
            ),
        ];

        for (only_created, owed, settled, last, mtime_age, expected) in &TABLE {
            let facts = Release {
                only_created: *only_created,
                is_linked: true,
                owed: *owed,
                settled: *settled,
                last: *last,
                mapped: None,
                mtime_age: *mtime_age,
                granularity: SECOND,
            };
            assert_eq!(on_release(&facts), *expected);
        }
    }

    #[test]
    fn what_has_no_name_is_not_stamped_for_being_created() {
        let facts = Release {
            only_created: true,
            is_linked: false,
            owed: None,
            settled: Settled::Nothing,
            last: Last::Unknown,
            mapped: None,
            mtime_age: 0,
            granularity: SECOND,
        };
        assert_eq!(on_release(&facts), OnRelease::Nothing);
    }

    #[test]
    fn without_the_clock() {
        use Settled::*;

        /// `(needs_clock, settled, is_last, modified_since, expected)`
        type Row = (bool, Settled, bool, i64, bool);

        static TABLE: [Row; 11] = [
            (false, Recorded, true, 0, true),
            (false, Recorded, true, -SECOND, true),
            (false, Recorded, true, SECOND, true),
            (false, Recorded, true, SECOND + 1, false),
            (false, Recorded, false, 0, false),
            (false, PassedOver, false, 9 * SECOND, true),
            (false, PassedOver, true, 9 * SECOND, true),
            (false, Nothing, false, 9 * SECOND, true),
            (true, Recorded, true, 0, false),
            (true, PassedOver, true, 0, false),
            (true, Nothing, false, 0, false),
        ];

        for (needs_clock, settled, is_last, modified_since, expected) in &TABLE {
            let facts = Close {
                needs_clock: *needs_clock,
                settled: *settled,
                is_last: *is_last,
                modified_since: *modified_since,
                granularity: SECOND,
            };
            assert_eq!(is_done(&facts), *expected);
        }
    }

    /// What is done without the clock is nothing with it, whatever the time is.
    #[test]
    fn without_the_clock_and_with_it() {
        for settled in [Settled::Nothing, Settled::Recorded, Settled::PassedOver] {
            for same in [false, true] {
                for age in [0, SECOND, 5 * SECOND] {
                    for mtime_age in [-1, 0, SECOND, 4 * SECOND, 9 * SECOND] {
                        let with = Release {
                            only_created: false,
                            is_linked: true,
                            owed: None,
                            settled,
                            last: Last::By { same, age },
                            mapped: None,
                            mtime_age,
                            granularity: SECOND,
                        };
                        let without = Close {
                            needs_clock: false,
                            settled,
                            is_last: same,
                            modified_since: age - mtime_age,
                            granularity: SECOND,
                        };
                        assert!(!is_done(&without) || on_release(&with) == OnRelease::Nothing);
                    }
                }
            }
        }
    }

    #[test]
    fn mappings() {
        use Settled::*;

        /// `(mapped, settled, last, mtime_age, expected)`
        type Row = (Option<i64>, Settled, Last, i64, OnRelease);

        static TABLE: [Row; 11] = [
            (None, Nothing, Last::Unknown, 0, OnRelease::Nothing),
            (Some(5), Nothing, Last::Unknown, 0, OnRelease::Mapped),
            (Some(5), Nothing, Last::Unknown, 5, OnRelease::Mapped),
            // The tick is behind the clock, but not by much.
            (Some(5), Nothing, Last::Unknown, TICK, OnRelease::Mapped),
            (
                Some(5),
                Nothing,
                Last::Unknown,
                TICK + 6,
                OnRelease::Nothing,
            ),
            // A modification time in the future.
            (Some(5), Nothing, Last::Unknown, -1, OnRelease::Nothing),
            // Somebody has written to it, or we have.
            (Some(5), Nothing, OTHERS, 0, OnRelease::Nothing),
            (Some(5), Nothing, MINE, 0, OnRelease::Nothing),
            (Some(5), Nothing, others(2 * SECOND), 0, OnRelease::Mapped),
            (
                Some(5),
                Nothing,
                Last::Overwritten { same: false },
                0,
                OnRelease::Mapped,
            ),
            (Some(5), Recorded, others(2 * SECOND), 0, OnRelease::Nothing),
        ];

        for (mapped, settled, last, mtime_age, expected) in &TABLE {
            let facts = Release {
                only_created: false,
                is_linked: true,
                owed: None,
                settled: *settled,
                last: *last,
                mapped: *mapped,
                mtime_age: *mtime_age,
                granularity: SECOND,
            };
            assert_eq!(on_release(&facts), *expected);
        }
    }
}
