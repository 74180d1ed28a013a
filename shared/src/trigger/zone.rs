//! Local time in an IANA zone, in whole seconds.
//!
//! An instant is a number of seconds since the Unix epoch; a local time is the same number as the
//! zone's wall clock shows it. Wall clocks jump: a local time can exist once, twice or not at all.
//! Everything about that lives here; the rest of the module only asks. The data is that of
//! `chrono-tz`, so a new time zone release is a matter of updating one crate.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

pub(super) const MINUTE: i64 = 60;
pub(super) const HOUR: i64 = 3_600;
pub(super) const DAY: i64 = 86_400;

/// No two offsets of any zone are further apart, nor is any of them further from UTC.
///
/// The largest step ever was a whole day: Samoa in 2011, the Philippines in 1844.
pub(super) const REACH: i64 = 27 * HOUR;

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: fires are searched for within these.
pub(super) const FIRST_SECOND: i64 = -62_135_596_800;
pub(super) const LAST_SECOND: i64 = 253_402_300_799;

const DAYS_FROM_CE_TO_UNIX: i64 = 719_163;

/// How often a local time exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// Once, or twice when clocks were set back: the first of the two.
    At(i64),
    /// Never: clocks were set forward over it. The change happened at this instant.
    Gap(i64),
}

impl Local {
    /// The instant at which the local time is reached or, in a gap, passed.
    pub(super) fn reached(self) -> i64 {
        match self {
            Local::At(instant) | Local::Gap(instant) => instant,
        }
    }
}

/// Seconds that the zone's clocks are ahead of UTC at `instant`.
pub(super) fn offset(zone: Tz, instant: i64) -> i64 {
    if zone == Tz::UTC {
        return 0;
    }
    i64::from(
        zone.offset_from_utc_datetime(&naive(instant))
            .fix()
            .local_minus_utc(),
    )
}

/// What the zone's clocks show at `instant`.
pub(super) fn local(zone: Tz, instant: i64) -> i64 {
    instant + offset(zone, instant)
}

/// When the zone's clocks show `local`.
pub(super) fn resolve(zone: Tz, local: i64) -> Local {
    if zone == Tz::UTC {
        return Local::At(local);
    }
    // Offsets a day before and a day after: equal nearly always, and then no change is near.
    let before = offset(zone, local - REACH);
    let after = offset(zone, local + REACH);
    if before == after && offset(zone, local - before) == before {
        return Local::At(local - before);
    }
    match zone.offset_from_local_datetime(&naive(local)).earliest() {
        Some(found) => Local::At(local - i64::from(found.fix().local_minus_utc())),
        None => Local::Gap(gap_end(zone, local)),
    }
}

/// The instant of the change in `(a, b]`; the offsets at `a` and `b` must differ.
///
/// With several changes in between it finds one of them, always the same.
pub(super) fn change_between(zone: Tz, a: i64, b: i64) -> i64 {
    let before = offset(zone, a);
    bisect(a, b, |instant| offset(zone, instant) != before)
}

/// All changes of the zone's offset in `(a, b]`, in order.
pub(super) fn changes(zone: Tz, a: i64, b: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut position = a;
    while position < b {
        let next = (position + DAY).min(b);
        if offset(zone, position) == offset(zone, next) {
            position = next;
        } else {
            position = change_between(zone, position, next);
            found.push(position);
        }
    }
    found
}

/// The calendar day of a local time, as days since the Unix epoch, and the second in that day.
pub(super) fn split(local: i64) -> (i64, i64) {
    (local.div_euclid(DAY), local.rem_euclid(DAY))
}

/// The date of a day counted since the Unix epoch.
pub(super) fn date(day: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(day + DAYS_FROM_CE_TO_UNIX).ok()?)
}

/// Days from the Unix epoch to `date`.
pub(super) fn day(date: NaiveDate) -> i64 {
    use chrono::Datelike as _;
    i64::from(date.num_days_from_ce()) - DAYS_FROM_CE_TO_UNIX
}

/// `instant` as chrono has it; `None` beyond the years we search.
pub(super) fn instant(seconds: i64) -> Option<DateTime<Utc>> {
    (FIRST_SECOND..=LAST_SECOND)
        .contains(&seconds)
        .then(|| DateTime::from_timestamp(seconds, 0))
        .flatten()
}

/// Saturates: chrono's own range is wider than ours by far, and a search clamped there ends at once.
fn naive(seconds: i64) -> NaiveDateTime {
    let seconds = seconds.clamp(FIRST_SECOND - 10 * DAY, LAST_SECOND + 10 * DAY);
    DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .naive_utc()
}

/// The first instant at which clocks show more than `local`, a time they jump over.
fn gap_end(zone: Tz, missing: i64) -> i64 {
    bisect(missing - REACH, missing + REACH, |instant| {
        local(zone, instant) > missing
    })
}

/// The first number in `(low, high]` for which `test` holds; it must fail at `low` and hold at `high`.
fn bisect(mut low: i64, mut high: i64, test: impl Fn(i64) -> bool) -> i64 {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if test(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp()
    }

    #[test]
    fn a_local_time_in_a_gap_is_passed_at_the_change() {
        let half_past_two = seconds("2024-03-31T02:30:00Z");
        let change = seconds("2024-03-31T01:00:00Z");
        assert_eq!(
            resolve(Tz::Europe__Berlin, half_past_two),
            Local::Gap(change)
        );
    }

    #[test]
    fn a_repeated_local_time_is_its_first_occurrence() {
        let half_past_two = seconds("2024-10-27T02:30:00Z");
        let first = seconds("2024-10-27T00:30:00Z");
        assert_eq!(resolve(Tz::Europe__Berlin, half_past_two), Local::At(first));
    }

    #[test]
    fn a_date_that_was_skipped_whole_is_one_gap() {
        let noon = seconds("2011-12-30T12:00:00Z");
        let change = seconds("2011-12-30T10:00:00Z");
        assert_eq!(resolve(Tz::Pacific__Apia, noon), Local::Gap(change));
    }

    /// Every change of every zone in a few years: around it, and around the local time it skips or repeats.
    #[test]
    fn resolving_agrees_with_looking_up_the_offset() {
        let (from, to) = (
            seconds("1960-01-01T00:00:00Z"),
            seconds("2040-01-01T00:00:00Z"),
        );
        for zone in chrono_tz::TZ_VARIANTS {
            for change in changes(zone, from, to) {
                for near in [-DAY, -HOUR, -1800, -1, 0, 1, 1800, HOUR, DAY] {
                    check_resolved(zone, change + near);
                    check_resolved_local(zone, local(zone, change - 1) + near);
                }
            }
        }
    }

    fn check_resolved(zone: Tz, instant: i64) {
        let Local::At(first) = resolve(zone, local(zone, instant)) else {
            panic!("{zone}: {instant} shows a local time that does not exist");
        };
        assert!(first <= instant, "{zone}: {instant}");
        assert_eq!(
            local(zone, first),
            local(zone, instant),
            "{zone}: {instant}"
        );
    }

    fn check_resolved_local(zone: Tz, shown: i64) {
        match resolve(zone, shown) {
            Local::At(instant) => assert_eq!(local(zone, instant), shown, "{zone}: {shown}"),
            Local::Gap(end) => {
                assert!(local(zone, end) > shown, "{zone}: {shown}");
                assert!(local(zone, end - 1) < shown, "{zone}: {shown}");
            }
        }
    }
}
