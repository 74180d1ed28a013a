//! The scalar values of triggers, read from text and written as text.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, SecondsFormat, Timelike as _, Utc};
use chrono::{Datelike as _, NaiveDateTime};
use chrono_tz::Tz;

use super::Error;
use super::every::INTERVAL_MIN;

/// Years that can be written with four digits, the only ones in which fires are looked for.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9_999;

/// How much of a wrong value a message repeats.
const SHOWN_MAX: usize = 60;

/// Reads an instant; one without an offset is in UTC.
pub(super) fn instant(text: &str, field: &str) -> Result<DateTime<Utc>, Error> {
    parse_instant(text.trim())
        .filter(|instant| YEARS.contains(&instant.year()))
        .ok_or_else(|| {
            let expected = "a date and time such as `2026-11-23T10:00:00Z` or \
                        `2026-11-23T11:00:00+01:00` (UTC if it has no offset)";
            Error::field(field, format!("`{}`", shortened(text)), expected)
        })
}

pub(super) fn instant_text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

pub(super) fn date(text: &str, field: &str) -> Result<NaiveDate, Error> {
    NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d")
        .ok()
        .filter(|date| YEARS.contains(&date.year()))
        .ok_or_else(|| {
            let expected = "a date that exists, such as `2026-12-25`";
            Error::field(field, format!("`{}`", shortened(text)), expected)
        })
}

/// Reads a time of day, with or without seconds.
pub(super) fn time(text: &str, field: &str) -> Result<NaiveTime, Error> {
    parse_time(text.trim()).ok_or_else(|| {
        let expected = "a time of day such as `09:00` or `09:00:00`";
        Error::field(field, format!("`{}`", shortened(text)), expected)
    })
}

pub(super) fn time_text(time: NaiveTime) -> String {
    time.format("%H:%M:%S%.f").to_string()
}

pub(super) fn timezone(text: &str, field: &str) -> Result<Tz, Error> {
    text.trim().parse().map_err(|_| {
        let expected = "an IANA time zone such as `UTC` or `Europe/Berlin`";
        Error::field(field, format!("`{}`", shortened(text)), expected)
    })
}

pub(super) fn duration(text: &str, field: &str) -> Result<Duration, Error> {
    humantime::parse_duration(text).map_err(|cause| {
        let expected = format!("a duration such as `90s`, `1h 6s` or `2w` ({cause})");
        Error::field(field, format!("`{}`", shortened(text)), expected)
    })
}

/// Writes what [`duration`] reads, exactly; humantime's own format has months of 30.44 days.
pub(super) fn duration_text(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanoseconds / 1_000_000), "ms"),
        (u64::from(nanoseconds / 1_000 % 1_000), "us"),
        (u64::from(nanoseconds % 1_000), "ns"),
    ];
    let mut text = String::new();
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
        let space = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{space}{count}{unit}");
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

pub(super) fn check_interval(interval: Duration, text: &str, field: &str) -> Result<(), Error> {
    if interval >= INTERVAL_MIN {
        return Ok(());
    }
    let expected = format!("at least {}", duration_text(INTERVAL_MIN));
    Err(Error::field(
        field,
        format!("`{}`", shortened(text)),
        expected,
    ))
}

/// The name of a nested field.
pub(super) fn join(place: &str, field: &str) -> String {
    if place.is_empty() {
        field.to_owned()
    } else {
        format!("{place}.{field}")
    }
}

/// A trigger's place in a message.
pub(super) fn named(place: &str) -> String {
    if place.is_empty() {
        "it".to_owned()
    } else {
        format!("`{place}`")
    }
}

/// A text cut to a length that suits a message.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_MAX).chain(['…']).collect()
}

fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let (time, offset) = split_offset(rest)?;
    let local = NaiveDateTime::new(date, parse_time(time)?);
    Some(local.and_local_timezone(offset).single()?.to_utc())
}

/// Splits `10:00:00+01:00` into the time and the offset, zero where there is none.
fn split_offset(text: &str) -> Option<(&str, FixedOffset)> {
    let utc = FixedOffset::east_opt(0)?;
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, utc));
    }
    match text.find(['+', '-']) {
        None => Some((text, utc)),
        Some(at) => {
            let (time, offset) = text.split_at(at);
            Some((time, offset.parse().ok()?))
        }
    }
}

fn parse_time(text: &str) -> Option<NaiveTime> {
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f")
        .or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"))
        .ok()?;
    // No leap seconds: clocks that schedule jobs do not show them.
    (time.nanosecond() < 1_000_000_000).then_some(time)
}
