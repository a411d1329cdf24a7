//! Times as people read them.

use chrono::{DateTime, FixedOffset, Local, Offset, TimeZone, Utc};

/// What time it is, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    now: i64,
    /// `None` is the zone of the system, with its summer and winter times.
    zone: Option<FixedOffset>,
}

impl Clock {
    /// Now, here.
    pub(crate) fn system() -> Self {
        Clock {
            now: Utc::now().timestamp(),
            zone: None,
        }
    }

    /// A time and a zone of choice.
    #[cfg(test)]
    pub(crate) fn fixed(now: i64, seconds_east: i32) -> Self {
        Clock {
            now,
            zone: FixedOffset::east_opt(seconds_east),
        }
    }

    /// Local time with its offset: `2026-11-21 10:12:33 +01:00`. `None` if no calendar goes that
    /// far.
    pub(crate) fn local(&self, unix: i64) -> Option<String> {
        let utc = DateTime::from_timestamp(unix, 0)?;
        let zone = self
            .zone
            .unwrap_or_else(|| Local.offset_from_utc_datetime(&utc.naive_utc()).fix());
        Some(
            utc.with_timezone(&zone)
                .format("%Y-%m-%d %H:%M:%S %:z")
                .to_string(),
        )
    }

    /// How long ago, in the largest unit that fits: `2 hours ago`.
    pub(crate) fn relative(&self, unix: i64) -> String {
        const UNITS: [(u64, &str); 6] = [
            (365 * 86_400, "year"),
            (30 * 86_400, "month"),
            (86_400, "day"),
            (3_600, "hour"),
            (60, "minute"),
            (1, "second"),
        ];
        let seconds = self.now.abs_diff(unix);
        let Some((length, unit)) = UNITS.iter().find(|(length, _)| seconds >= *length) else {
            return "just now".into();
        };
        let count = seconds / length;
        let plural = if count == 1 { "" } else { "s" };
        if unix > self.now {
            format!("in {count} {unit}{plural}")
        } else {
            format!("{count} {unit}{plural} ago")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_252_353;

    #[test]
    fn local_time_has_its_offset() {
        let clock = Clock::fixed(NOW, -(5 * 3600 + 30 * 60));
        assert_eq!(
            clock.local(NOW).as_deref(),
            Some("2026-11-21 03:42:33 -05:30")
        );
        assert_eq!(clock.local(i64::MAX), None);
    }

    #[test]
    fn the_largest_unit_that_fits() {
        let clock = Clock::fixed(NOW, 0);
        for (ago, want) in [
            (0, "just now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (7_199, "1 hour ago"),
            (7_200, "2 hours ago"),
            (86_400 * 29, "29 days ago"),
            (86_400 * 30, "1 month ago"),
            (86_400 * 800, "2 years ago"),
            (-5, "in 5 seconds"),
        ] {
            assert_eq!(clock.relative(NOW - ago), want);
        }
        assert_eq!(clock.relative(i64::MIN), "292471208734 years ago");
    }
}
