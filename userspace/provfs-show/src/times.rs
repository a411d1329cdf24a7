//! Times as people read and write them.

use chrono::{
    DateTime, Days, FixedOffset, Local, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta,
    TimeZone, Utc,
};
use provfs::pure::time::parse_ts;

/// What time it is, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    now: i64,
    /// `None` is the zone of the system, with its summer and winter times.
    zone: Option<FixedOffset>,
}

/// What a time on the command line stands for, in unix seconds: a moment, or the first and the
/// last second of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Span {
    fn moment(unix: i64) -> Self {
        Span {
            first: unix,
            last: unix,
        }
    }
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

    fn here(&self, unix: i64) -> Option<DateTime<FixedOffset>> {
        let utc = DateTime::from_timestamp(unix, 0)?;
        let zone = self
            .zone
            .unwrap_or_else(|| Local.offset_from_utc_datetime(&utc.naive_utc()).fix());
        Some(utc.with_timezone(&zone))
    }

    /// Local time with its offset: `2026-11-21 10:12:33 +01:00`. `None` if no calendar goes that
    /// far.
    pub(crate) fn local(&self, unix: i64) -> Option<String> {
        Some(self.here(unix)?.format("%Y-%m-%d %H:%M:%S %:z").to_string())
    }

    /// Local time without its offset: `2026-11-21 10:12:33`.
    pub(crate) fn short(&self, unix: i64) -> Option<String> {
        Some(self.here(unix)?.format("%Y-%m-%d %H:%M:%S").to_string())
    }

    /// The local day: `2026-11-21`.
    pub(crate) fn day(&self, unix: i64) -> Option<String> {
        Some(self.here(unix)?.format("%Y-%m-%d").to_string())
    }

    /// How long ago, in the largest unit that fits: `2 hours ago`.
    pub(crate) fn relative(&self, unix: i64) -> String {
        match length(self.now.abs_diff(unix)) {
            None => "just now".into(),
            Some(length) if unix > self.now => format!("in {length}"),
            Some(length) => format!("{length} ago"),
        }
    }

    /// Reads a time of the command line. The error says what is expected.
    pub(crate) fn parse(&self, text: &str) -> Result<Span, String> {
        let text = text.trim();
        let today = || self.here(self.now).map(|now| now.date_naive());
        let span = match text {
            "now" => Some(Span::moment(self.now)),
            "today" => today().and_then(|day| self.day_span(day)),
            "yesterday" => today()
                .and_then(|day| day.checked_sub_days(Days::new(1)))
                .and_then(|day| self.day_span(day)),
            _ => self.parse_other(text),
        };
        span.ok_or_else(|| {
            format!(
                "'{}' is no time: try 10m, 2h, 3d, today, yesterday, 2026-11-21, \
                 '2026-11-21 09:12', 2026-11-21T09:12:33Z or @1795252353",
                text.escape_debug()
            )
        })
    }

    fn parse_other(&self, text: &str) -> Option<Span> {
        if let Some(unix) = text.strip_prefix('@') {
            return unix.parse().ok().map(Span::moment);
        }
        if let Some(ago) = duration(text.strip_suffix(" ago").unwrap_or(text)) {
            return Some(Span::moment(self.now.checked_sub(ago)?));
        }
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return self.day_span(day);
        }
        for form in ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"] {
            if let Ok(local) = NaiveDateTime::parse_from_str(text, form) {
                return self.unix(local).map(Span::moment);
            }
        }
        // Plain digits are unix seconds in a record; here they could be meant as anything.
        if text.contains('-') {
            return parse_ts(text.as_bytes()).map(|ts| Span::moment(ts.secs));
        }
        None
    }

    fn day_span(&self, day: NaiveDate) -> Option<Span> {
        let midnight = |day: NaiveDate| self.unix(day.and_time(NaiveTime::MIN));
        Some(Span {
            first: midnight(day)?,
            last: midnight(day.checked_add_days(Days::new(1))?)? - 1,
        })
    }

    /// A local time that comes twice is the first of them; one that is left out in spring is the
    /// one an hour later.
    fn unix(&self, local: NaiveDateTime) -> Option<i64> {
        let find = |local: NaiveDateTime| match self.zone {
            Some(zone) => Some(zone.from_local_datetime(&local).single()?.timestamp()),
            None => Some(Local.from_local_datetime(&local).earliest()?.timestamp()),
        };
        find(local).or_else(|| find(local.checked_add_signed(TimeDelta::hours(1))?))
    }
}

/// A length of time in its largest unit: `2 hours`. `None` for 0.
pub(crate) fn length(seconds: u64) -> Option<String> {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let (unit_length, unit) = UNITS.iter().find(|(length, _)| seconds >= *length)?;
    let count = seconds / unit_length;
    let plural = if count == 1 { "" } else { "s" };
    Some(format!("{count} {unit}{plural}"))
}

/// `1h30m`, `2 days`, in seconds.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.len()
            - tail
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 7 * 86_400,
            _ => return None,
        };
        total = count
            .parse::<i64>()
            .ok()?
            .checked_mul(seconds)?
            .checked_add(total)?;
        rest = tail.trim_start();
    }
    (!text.trim().is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T09:12:33Z, a Saturday.
    const NOW: i64 = 1_795_252_353;

    #[test]
    fn local_time_has_its_offset() {
        let clock = Clock::fixed(NOW, -(5 * 3600 + 30 * 60));
        assert_eq!(
            clock.local(NOW).as_deref(),
            Some("2026-11-21 03:42:33 -05:30")
        );
        assert_eq!(clock.local(i64::MAX), None);
        assert_eq!(clock.day(NOW - 4 * 3600).as_deref(), Some("2026-11-20"));
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

    #[test]
    fn times_of_the_command_line() {
        let clock = Clock::fixed(NOW, 3600);
        let midnight = NOW - (10 * 3600 + 12 * 60 + 33);
        for (text, first, last) in [
            ("now", NOW, NOW),
            ("10m", NOW - 600, NOW - 600),
            ("2 hours ago", NOW - 7200, NOW - 7200),
            ("1h30m", NOW - 5400, NOW - 5400),
            ("1w 1d", NOW - 8 * 86_400, NOW - 8 * 86_400),
            ("today", midnight, midnight + 86_399),
            ("yesterday", midnight - 86_400, midnight - 1),
            ("2026-11-21", midnight, midnight + 86_399),
            ("2026-11-21 10:12", NOW - 33, NOW - 33),
            ("2026-11-21 10:12:33", NOW, NOW),
            ("2026-11-21T10:12:33", NOW, NOW),
            ("2026-11-21T09:12:33Z", NOW, NOW),
            ("2026-11-21T10:12:33.9+01:00", NOW, NOW),
            ("@1795252353", NOW, NOW),
            ("@-5", -5, -5),
        ] {
            assert_eq!(clock.parse(text), Ok(Span { first, last }), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_says_what_is() {
        let clock = Clock::fixed(NOW, 0);
        for text in [
            "",
            "ago",
            "h",
            "5",
            "5x",
            "1795252353",
            "2026-02-30",
            "@",
            "99999999999999999999h",
            "9223372036854775807w",
            "tomorrow",
            "10m5",
        ] {
            let error = clock.parse(text).unwrap_err();
            assert!(error.contains("yesterday"), "{text}: {error}");
        }
        assert!(
            clock
                .parse("\x1b[2J")
                .unwrap_err()
                .starts_with("'\\u{1b}[2J' is no time")
        );
    }
}
