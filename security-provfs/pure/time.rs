// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! Times of a record: RFC 3339 in UTC as it is written, and every form that is read.
//!
//! The calendar is the proleptic Gregorian one. Days are counted in years that begin on 1 March,
//! so that the leap day is the last day of its year and needs no case of its own.

use super::text;

/// 0000-01-01T00:00:00Z, the first second that four digits of a year can name.
const FIRST: i64 = -62_167_219_200;

/// 9999-12-31T23:59:59Z, the last one.
const LAST: i64 = 253_402_300_799;

const DAY: i64 = 86_400;

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// Days in 400 years, after which the calendar repeats.
const ERA: i64 = 146_097;

/// Length of what [`format_rfc3339`] writes.
pub const RFC3339_LEN: usize = 20;

/// A point in time since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// Nanoseconds on top of `secs`, below 1,000,000,000.
    pub nanos: u32,
}

/// Writes `unix_secs` as `2026-11-21T09:12:33Z`. Years before 0000 and after 9999 become the first
/// and last second that can be written.
///
/// # Examples
///
/// ```
/// # use provfs::pure::time::format_rfc3339;
/// let mut buf = [0; 20];
/// assert_eq!(format_rfc3339(1_795_252_353, &mut buf), b"2026-11-21T09:12:33Z");
/// ```
pub fn format_rfc3339(unix_secs: i64, out: &mut [u8; RFC3339_LEN]) -> &[u8] {
    let secs = unix_secs.clamp(FIRST, LAST);
    let (year, month, day) = civil(secs.div_euclid(DAY));
    let in_day = secs.rem_euclid(DAY);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);

    *out = [
        digit(year / 1000),
        digit(year / 100),
        digit(year / 10),
        digit(year),
        b'-',
        digit(month / 10),
        digit(month),
        b'-',
        digit(day / 10),
        digit(day),
        b'T',
        digit(hour / 10),
        digit(hour),
        b':',
        digit(minute / 10),
        digit(minute),
        b':',
        digit(second / 10),
        digit(second),
        b'Z',
    ];
    out
}

/// The last decimal digit of a number that is not negative.
const fn digit(value: i64) -> u8 {
    // CAST: A remainder of a division by ten.
    b'0' + (value % 10) as u8
}

/// Year, month and day of a number of days since 1970-01-01.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    // The three corrections take out the leap days of each 4, 100 and 400 years.
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days in turn: 153 in each five.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year, month, day)
}

/// Days from 1970-01-01 to a date, or `None` if there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * ERA + day_of_era - EPOCH)
}

/// Reads a time: RFC 3339 with or without a fraction and in any offset, or plain unix seconds.
///
/// Digits of a fraction behind the ninth are dropped. A leap second counts as the second after it.
///
/// # Examples
///
/// ```
/// # use provfs::pure::time::parse_ts;
/// let ts = parse_ts(b"2026-11-21T10:12:33.5+01:00").ok_or("no time")?;
/// assert_eq!((ts.secs, ts.nanos), (1_795_252_353, 500_000_000));
/// assert_eq!(parse_ts(b"1795252353").map(|ts| ts.secs), Some(1_795_252_353));
/// # Ok::<(), &str>(())
/// ```
pub fn parse_ts(stored: &[u8]) -> Option<Timestamp> {
    if let Some(secs) = parse_i64(stored) {
        return Some(Timestamp { secs, nanos: 0 });
    }
    let mut rest = stored;
    let year = take_number(&mut rest, 4)?;
    take(&mut rest, b"-")?;
    let month = take_number(&mut rest, 2)?;
    take(&mut rest, b"-")?;
    let day = take_number(&mut rest, 2)?;
    take(&mut rest, b"Tt ")?;
    let hour = take_number(&mut rest, 2)?;
    take(&mut rest, b":")?;
    let minute = take_number(&mut rest, 2)?;
    take(&mut rest, b":")?;
    let second = take_number(&mut rest, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let nanos = take_fraction(&mut rest)?;
    let offset = take_offset(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    let secs = days(year, month, day)? * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp { secs, nanos })
}

/// Reads digits with an optional `-`.
fn parse_i64(digits: &[u8]) -> Option<i64> {
    match digits.strip_prefix(b"-") {
        Some(digits) => 0i64.checked_sub_unsigned(text::parse_u64(digits)?),
        None => i64::try_from(text::parse_u64(digits)?).ok(),
    }
}

/// Takes exactly `len` digits.
fn take_number(rest: &mut &[u8], len: usize) -> Option<i64> {
    let (digits, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    parse_i64(digits).filter(|number| *number >= 0)
}

/// Takes one byte out of `set`.
fn take(rest: &mut &[u8], set: &[u8]) -> Option<u8> {
    let (&byte, tail) = rest.split_first()?;
    if !set.contains(&byte) {
        return None;
    }
    *rest = tail;
    Some(byte)
}

/// Takes `.` and digits if there are some, in nanoseconds.
fn take_fraction(rest: &mut &[u8]) -> Option<u32> {
    let Some(digits) = rest.strip_prefix(b".") else {
        return Some(0);
    };
    let mut nanos = 0;
    let mut unit = 100_000_000;
    let mut tail = digits;
    while let Some((digit @ b'0'..=b'9', behind)) = tail.split_first() {
        nanos += u32::from(digit - b'0') * unit;
        unit /= 10;
        tail = behind;
    }
    if tail.len() == digits.len() {
        return None;
    }
    *rest = tail;
    Some(nanos)
}

/// Takes `Z` or `+01:00`, in seconds east of Greenwich.
fn take_offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match take(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = take_number(rest, 2)?;
    take(rest, b":")?;
    let minutes = take_number(rest, 2)?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg_attr(
    CONFIG_SECURITY_PROVFS_KUNIT_TEST,
    kernel::macros::kunit_tests(provfs_time)
)]
#[cfg(any(test, CONFIG_SECURITY_PROVFS_KUNIT_TEST))]
mod tests {
    use super::*;

    static DATES: [(i64, &[u8]); 12] = [
        (0, b"1970-01-01T00:00:00Z"),
        (-1, b"1969-12-31T23:59:59Z"),
        (951_782_400, b"2000-02-29T00:00:00Z"),
        (951_868_799, b"2000-02-29T23:59:59Z"),
        (951_868_800, b"2000-03-01T00:00:00Z"),
        (1_709_164_799, b"2024-02-28T23:59:59Z"),
        (1_795_252_353, b"2026-11-21T09:12:33Z"),
        (2_147_483_648, b"2038-01-19T03:14:08Z"),
        (4_107_542_400, b"2100-03-01T00:00:00Z"),
        (-2_203_891_200, b"1900-03-01T00:00:00Z"),
        (FIRST, b"0000-01-01T00:00:00Z"),
        (LAST, b"9999-12-31T23:59:59Z"),
    ];

    #[test]
    fn dates_are_written_and_read_back() {
        let wrong = DATES.iter().position(|&(secs, stored)| {
            let mut buf = [0; RFC3339_LEN];
            format_rfc3339(secs, &mut buf) != stored
                || parse_ts(stored) != Some(Timestamp { secs, nanos: 0 })
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn years_that_do_not_fit_are_clamped() {
        let mut buf = [0; RFC3339_LEN];
        assert_eq!(format_rfc3339(i64::MAX, &mut buf), b"9999-12-31T23:59:59Z");
        assert_eq!(format_rfc3339(i64::MIN, &mut buf), b"0000-01-01T00:00:00Z");
    }

    #[test]
    fn every_day_of_an_era_comes_back() {
        let wrong = (0..ERA).find(|&day| {
            let (year, month, of_month) = civil(day);
            days(year, month, of_month) != Some(day)
        });
        assert_eq!(wrong, None);
    }

    #[test]
    fn other_forms_are_read() {
        static ROWS: [(&[u8], i64, u32); 9] = [
            (b"1795252353", 1_795_252_353, 0),
            (b"0", 0, 0),
            (b"-5", -5, 0),
            (b"9223372036854775807", i64::MAX, 0),
            (
                b"2026-11-21T09:12:33.123456789+00:00",
                1_795_252_353,
                123_456_789,
            ),
            (
                b"2026-11-21t09:12:33.1234567899z",
                1_795_252_353,
                123_456_789,
            ),
            (b"2026-11-21 10:12:33.5+01:00", 1_795_252_353, 500_000_000),
            (b"2026-11-21T03:42:33-05:30", 1_795_252_353, 0),
            (b"2016-12-31T23:59:60Z", 1_483_228_800, 0),
        ];
        let wrong = ROWS
            .iter()
            .position(|&(stored, secs, nanos)| parse_ts(stored) != Some(Timestamp { secs, nanos }));
        assert_eq!(wrong, None);
    }

    #[test]
    fn nonsense_is_refused() {
        static ROWS: [&[u8]; 16] = [
            b"",
            b"-",
            b"+5",
            b"now",
            b"9223372036854775808",
            b"2026-11-21",
            b"2026-11-21T09:12:33",
            b"2026-11-21T09:12:33.Z",
            b"2026-11-21T24:00:00Z",
            b"2026-11-21T09:60:00Z",
            b"2026-13-01T00:00:00Z",
            b"2026-00-01T00:00:00Z",
            b"2026-02-29T00:00:00Z",
            b"2026-11-21T09:12:33ZZ",
            b"2026-11-21T09:12:33+24:00",
            b"-026-11-21T09:12:33Z",
        ];
        assert_eq!(ROWS.iter().position(|s| parse_ts(s).is_some()), None);
    }
}
