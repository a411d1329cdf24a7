//! Compares figures with those that are committed.
//!
//! What is compared is instructions, not ratios: what makes every configuration slower is a loss too.

use std::fmt;

use crate::figures::{Cell, Figures};

/// How much a row may grow, as a part of what it was.
const GROWTH_MAX: f64 = 0.02;

/// What came of one cell.
#[derive(Debug, PartialEq)]
pub(crate) enum Finding {
    /// It takes more than it may.
    Grown { before: f64, now: f64 },
    /// It takes so much less that the committed figure no longer guards it.
    Shrunk { before: f64, now: f64 },
    /// It could not be measured well enough.
    Refused { spread: f64 },
    /// It is committed, and was not measured.
    Missing,
    /// Another number of operations was measured, so the figures cannot be compared.
    Changed,
    /// It is not committed.
    New,
}

impl Finding {
    /// Whether this stops a change.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self, Finding::Shrunk { .. } | Finding::New)
    }
}

/// A finding, and where.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) cell: String,
    pub(crate) finding: Finding,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.finding.is_failure() {
            "FAILED"
        } else {
            "note"
        };
        write!(f, "{verdict}: {}: ", self.cell)?;
        match &self.finding {
            Finding::Grown { before, now } | Finding::Shrunk { before, now } => {
                let percent = (now / before - 1.0) * 100.0;
                write!(f, "{before:.1} -> {now:.1} instructions ({percent:+.1} %)")
            }
            Finding::Refused { spread } => write!(
                f,
                "the samples differ by ±{:.1} %; measure again",
                spread * 100.0
            ),
            Finding::Missing => write!(f, "is among the committed figures and was not measured"),
            Finding::Changed => write!(
                f,
                "another number of operations than in the committed figures"
            ),
            Finding::New => write!(f, "is not among the committed figures; --update adds it"),
        }
    }
}

fn name(cell: &Cell) -> String {
    format!("{} on {} in '{}'", cell.row, cell.fs, cell.config)
}

/// Compares. With `partial`, only what was measured; else all that is committed must have been.
pub(crate) fn compare(committed: &Figures, now: &Figures, partial: bool) -> Vec<Found> {
    let before = committed.cells().filter_map(|cell| {
        let finding = match now.cell(&cell.row, &cell.fs, &cell.config) {
            Some(now) => judge(cell, now)?,
            None if partial => return None,
            None => Finding::Missing,
        };
        Some(Found {
            cell: name(cell),
            finding,
        })
    });
    let new = now
        .cells()
        .filter(|cell| committed.cell(&cell.row, &cell.fs, &cell.config).is_none())
        .map(|cell| Found {
            cell: name(cell),
            finding: Finding::New,
        });
    before.chain(new).collect()
}

fn judge(before: &Cell, now: &Cell) -> Option<Finding> {
    if before.ops != now.ops {
        return Some(Finding::Changed);
    }
    if !now.total.is_settled() {
        return Some(Finding::Refused {
            spread: now.total.spread,
        });
    }
    let (before, now) = (before.total.value, now.total.value);
    if now > before * (1.0 + GROWTH_MAX) {
        Some(Finding::Grown { before, now })
    } else if now < before * (1.0 - GROWTH_MAX) {
        Some(Finding::Shrunk { before, now })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figures::Line, report::table::tests::figures, statistics::Estimate};

    fn findings(before: f64, now: f64) -> Vec<Finding> {
        let before = figures(&[("stat", "ext4", "keys", before)]);
        let now = figures(&[("stat", "ext4", "keys", now)]);
        compare(&before, &now, false)
            .into_iter()
            .map(|found| found.finding)
            .collect()
    }

    #[test]
    fn up_to_two_percent_more_passes() {
        assert_eq!(findings(1000.0, 1000.0), []);
        assert_eq!(findings(1000.0, 1020.0), []);
        assert_eq!(findings(1000.0, 990.0), []);
    }

    #[test]
    fn more_than_that_fails() {
        let found = findings(1000.0, 1021.0);
        assert_eq!(
            found,
            [Finding::Grown {
                before: 1000.0,
                now: 1021.0
            }]
        );
        assert!(found[0].is_failure());
    }

    #[test]
    fn a_gain_is_named_and_passes() {
        let found = findings(1000.0, 900.0);
        assert_eq!(
            found,
            [Finding::Shrunk {
                before: 1000.0,
                now: 900.0
            }]
        );
        assert!(!found[0].is_failure());
    }

    #[test]
    fn what_is_missing_fails_unless_only_a_part_was_wanted() {
        let before = figures(&[("stat", "ext4", "keys", 1.0), ("null", "none", "keys", 1.0)]);
        let now = figures(&[("null", "none", "keys", 1.0)]);
        let found = compare(&before, &now, false);
        assert_eq!(found[0].finding, Finding::Missing);
        assert!(found[0].finding.is_failure());
        assert_eq!(compare(&before, &now, true), []);
    }

    #[test]
    fn what_is_new_is_named_and_passes() {
        let found = compare(
            &figures(&[]),
            &figures(&[("null", "none", "keys", 1.0)]),
            false,
        );
        assert_eq!(found[0].finding, Finding::New);
        assert!(!found[0].finding.is_failure());
    }

    #[test]
    fn noise_and_other_numbers_of_operations_fail() {
        let before = figures(&[("null", "none", "keys", 100.0)]);
        let mut now = before.clone();
        let Line::Cell(cell) = &mut now.lines[0] else {
            panic!()
        };
        cell.total = Estimate::of(&[80.0, 100.0, 120.0]).unwrap();
        assert!(matches!(
            compare(&before, &now, false)[0].finding,
            Finding::Refused { .. }
        ));
        let mut now = before.clone();
        let Line::Cell(cell) = &mut now.lines[0] else {
            panic!()
        };
        cell.ops += 1;
        assert_eq!(compare(&before, &now, false)[0].finding, Finding::Changed);
    }
}
