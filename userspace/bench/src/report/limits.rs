//! What provfs may cost: section 7 of the design.

use crate::{
    figures::Figures,
    report::{
        BASELINE,
        compare::{rows, settled},
    },
};

/// By how much an operation may become more expensive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// By this part of what it takes without.
    Percent(f64),
    /// By so many instructions.
    Instructions(f64),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::Percent(percent) => write!(f, "+{percent} %"),
            Bound::Instructions(count) => write!(f, "+{count} instructions"),
        }
    }
}

/// A limit, for some rows.
pub(crate) struct Limit {
    rows: &'static [&'static str],
    /// Only there; everywhere, if it is `None`.
    fs: Option<&'static str>,
    configs: &'static [&'static str],
    bound: Bound,
}

/// The configurations that leave records.
pub(crate) const STAMPING: &[&str] = &["packed", "keys"];

/// All of them, in the order of the design.
pub(crate) const LIMITS: &[Limit] = &[
    Limit {
        rows: &[
            "null",
            "stat",
            "open_close_ro",
            "read",
            "pipe",
            "unix_socket",
            "fork",
        ],
        fs: None,
        configs: STAMPING,
        bound: Bound::Percent(1.0),
    },
    Limit {
        rows: &["exec"],
        fs: None,
        configs: STAMPING,
        bound: Bound::Percent(3.0),
    },
    Limit {
        rows: &["open_close_rw"],
        fs: None,
        configs: STAMPING,
        bound: Bound::Percent(1.0),
    },
    Limit {
        rows: &["write_stamped"],
        fs: None,
        configs: STAMPING,
        bound: Bound::Instructions(15.0),
    },
    Limit {
        rows: &["rewrite_same"],
        fs: None,
        configs: STAMPING,
        bound: Bound::Percent(3.0),
    },
    Limit {
        rows: &["rewrite_same"],
        fs: None,
        configs: &["skipping"],
        bound: Bound::Percent(5.0),
    },
    Limit {
        rows: &["create_4k"],
        fs: Some("ext4"),
        configs: &["packed"],
        bound: Bound::Percent(8.0),
    },
    Limit {
        rows: &["create_4k"],
        fs: Some("ext4"),
        configs: &["keys"],
        bound: Bound::Percent(30.0),
    },
    Limit {
        rows: &["create_unlink"],
        fs: Some("ext4"),
        configs: &["packed"],
        bound: Bound::Percent(15.0),
    },
    Limit {
        rows: &["atomic_save"],
        fs: Some("ext4"),
        configs: &["packed"],
        bound: Bound::Percent(8.0),
    },
    Limit {
        rows: &["untar_775"],
        fs: Some("ext4"),
        configs: &["packed"],
        bound: Bound::Percent(5.0),
    },
    Limit {
        rows: &["untar_775"],
        fs: Some("ext4"),
        configs: &["keys"],
        bound: Bound::Percent(15.0),
    },
    Limit {
        rows: &["postmark"],
        fs: Some("ext4"),
        configs: &["packed"],
        bound: Bound::Percent(6.0),
    },
    Limit {
        rows: &["compile_c"],
        fs: None,
        configs: STAMPING,
        bound: Bound::Percent(0.5),
    },
];

/// What keeps a limit from being met, where that is known: the row, the file system, and why.
pub(crate) const FLOORS: &[(&str, &str, &str)] = &[(
    "write_stamped",
    "overlay",
    "\
overlayfs hands a write on to the file below, so that the kernel asks its security
modules twice. Each time costs what it does on the other file systems: a call, one look into what the module keeps with the
open file, and a comparison.",
)];

/// The same for what costs more than with auditd.
pub(crate) const DEARER_THAN_AUDIT: &[(&str, &str, &str)] = &[(
    "sqlite_inserts",
    "btrfs",
    "\
each transaction makes a journal and syncs it, and btrfs writes an attribute of a new
file to its log with every sync. Whoever sets one pays for that, with provfs or without.",
)];

/// What became of a limit in one row and configuration.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict<'a> {
    pub(crate) row: &'static str,
    pub(crate) config: &'static str,
    pub(crate) bound: Bound,
    /// Of the file systems measured, the one where it costs most; `None` if nothing was measured.
    pub(crate) worst: Option<Worst<'a>>,
}

/// Where a limit is hardest to meet.
#[derive(Debug, PartialEq)]
pub(crate) struct Worst<'a> {
    pub(crate) fs: &'a str,
    /// Instructions per operation without provfs.
    pub(crate) base: f64,
    /// The same with it.
    pub(crate) value: f64,
    pub(crate) met: bool,
}

/// Judges all limits.
pub(crate) fn judge(figures: &Figures) -> Vec<Verdict<'_>> {
    let mut verdicts = Vec::new();
    for limit in LIMITS {
        for &row in limit.rows {
            for &config in limit.configs {
                verdicts.push(Verdict {
                    row,
                    config,
                    bound: limit.bound,
                    worst: worst(figures, limit, row, config),
                });
            }
        }
    }
    verdicts
}

fn worst<'a>(figures: &'a Figures, limit: &Limit, row: &str, config: &str) -> Option<Worst<'a>> {
    let excess = |base: f64, value: f64| match limit.bound {
        Bound::Percent(percent) => (value - base) / base * 100.0 - percent,
        Bound::Instructions(count) => value - base - count,
    };
    rows(figures)
        .into_iter()
        .filter(|found| found.name == row && limit.fs.is_none_or(|fs| fs == found.fs))
        .filter_map(|found| {
            let base = settled(figures, row, found.fs, BASELINE)?.total.value;
            let value = settled(figures, row, found.fs, config)?.total.value;
            Some(Worst {
                fs: found.fs,
                base,
                value,
                met: excess(base, value) <= 0.0,
            })
        })
        .max_by(|a, b| excess(a.base, a.value).total_cmp(&excess(b.base, b.value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::tests::figures;

    fn verdict<'a>(figures: &'a Figures, row: &str, config: &str) -> Verdict<'a> {
        judge(figures)
            .into_iter()
            .find(|verdict| verdict.row == row && verdict.config == config)
            .unwrap()
    }

    #[test]
    fn a_limit_in_percent_is_met_up_to_it() {
        let figures = figures(&[
            ("stat", "ext4", "absent", 1000.0),
            ("stat", "ext4", "keys", 1010.0),
        ]);
        assert!(verdict(&figures, "stat", "keys").worst.unwrap().met);
        let figures = self::figures(&[
            ("stat", "ext4", "absent", 1000.0),
            ("stat", "ext4", "keys", 1011.0),
        ]);
        assert!(!verdict(&figures, "stat", "keys").worst.unwrap().met);
    }

    #[test]
    fn a_limit_in_instructions_is_absolute() {
        let figures = figures(&[
            ("write_stamped", "ext4", "absent", 1000.0),
            ("write_stamped", "ext4", "keys", 1015.0),
            ("write_stamped", "ext4", "packed", 1016.0),
        ]);
        assert!(
            verdict(&figures, "write_stamped", "keys")
                .worst
                .unwrap()
                .met
        );
        assert!(
            !verdict(&figures, "write_stamped", "packed")
                .worst
                .unwrap()
                .met
        );
    }

    #[test]
    fn the_worst_file_system_counts() {
        let figures = figures(&[
            ("read", "ext4", "absent", 1000.0),
            ("read", "ext4", "keys", 1001.0),
            ("read", "tmpfs", "absent", 500.0),
            ("read", "tmpfs", "keys", 510.0),
        ]);
        let worst = verdict(&figures, "read", "keys").worst.unwrap();
        assert_eq!((worst.fs, worst.met), ("tmpfs", false));
    }

    #[test]
    fn a_limit_for_ext4_does_not_look_elsewhere_and_what_is_not_measured_is_not_met() {
        let figures = figures(&[
            ("create_4k", "tmpfs", "absent", 1000.0),
            ("create_4k", "tmpfs", "keys", 5000.0),
        ]);
        assert_eq!(verdict(&figures, "create_4k", "keys").worst, None);
    }
}
