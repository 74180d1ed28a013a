//! Times and durations as people read and write them.

use std::time::Duration;

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};
use repull::clock;

use super::report::usage;

/// A duration in at most two units: `850ms`, `12s`, `3m 5s`, `2h 10m`, `5d 3h`.
pub(crate) fn brief(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let pair = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit} {small}{small_unit}")
        }
    };
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => pair(minutes, "m", rest, "s"),
        3_600..86_400 => pair(hours, "h", minutes, "m"),
        _ => pair(days, "d", hours, "h"),
    }
}

/// How long ago, or how far ahead: `3m 5s ago`, `in 12s`.
pub(crate) fn relative(time: DateTime<Utc>) -> String {
    relative_to(time, clock::now())
}

fn relative_to(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match (now - time).to_std() {
        Ok(ago) if ago < Duration::from_secs(1) => "now".to_owned(),
        Ok(ago) => format!("{} ago", brief(ago)),
        Err(_) => format!("in {}", brief((time - now).to_std().unwrap_or_default())),
    }
}

/// How long it has been, without words.
pub(crate) fn age(time: DateTime<Utc>) -> String {
    brief((clock::now() - time).to_std().unwrap_or_default())
}

/// A time to the millisecond.
pub(crate) fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A time as the wire has it.
pub(crate) fn stamp_exact(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A time to the second, or finer where it has a fraction: `2026-11-23 10:00:00`.
pub(crate) fn seconds(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.f").to_string()
}

/// A time on the clocks of a zone, with the day of the week: `Mon 2026-11-23 10:00:00 +01:00`.
pub(crate) fn local(time: DateTime<FixedOffset>) -> String {
    time.format("%a %Y-%m-%d %H:%M:%S%.f %:z").to_string()
}

/// A time and how far away it is.
pub(crate) fn full(time: DateTime<Utc>) -> String {
    format!("{} ({})", stamp(time), relative(time))
}

/// Reads a duration such as `90s` or `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is no duration, expected one such as `90s` or `1h30m`"))
}

/// Reads a time (RFC 3339).
pub(crate) fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| format!("`{text}` is no time, expected one such as `2026-11-23T10:00:00Z`"))
}

/// Reads a time, or a duration that has passed since: `2026-11-23T10:00:00Z`, `2h`.
pub(crate) fn past(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = instant(text) {
        return Ok(time);
    }
    let ago = duration(text).map_err(|_| {
        format!(
            "`{text}` is neither a time such as `2026-11-23T10:00:00Z` nor a duration such as `2h`"
        )
    })?;
    TimeDelta::from_std(ago)
        .ok()
        .and_then(|ago| clock::now().checked_sub_signed(ago))
        .ok_or_else(|| format!("`{text}` is too long ago"))
}

/// The time that is this far ahead.
pub(crate) fn ahead(duration: Duration) -> anyhow::Result<DateTime<Utc>> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|delta| clock::now().checked_add_signed(delta))
        .ok_or_else(|| usage(format!("{} is too far ahead", brief(duration))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_brief() {
        let cases = [
            (0, "0ms"),
            (850, "850ms"),
            (1_500, "1s"),
            (185_000, "3m 5s"),
            (3_600_000, "1h"),
            (7_800_000, "2h 10m"),
            (442_800_000, "5d 3h"),
        ];
        for (millis, text) in cases {
            assert_eq!(brief(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times_are_relative_to_now() {
        let now: DateTime<Utc> = "2026-11-23T10:00:00Z".parse().unwrap();
        let at = |seconds| now + TimeDelta::seconds(seconds);
        assert_eq!(relative_to(at(-65), now), "1m 5s ago");
        assert_eq!(relative_to(at(12), now), "in 12s");
        assert_eq!(relative_to(now, now), "now");
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_expected_form() {
        assert!(instant("tomorrow").unwrap_err().contains("2026-11-23"));
        assert!(duration("soon").unwrap_err().contains("90s"));
        assert!(past("x").unwrap_err().contains("neither"));
        assert!(past("1h").unwrap() < clock::now());
    }
}
