//! A crontab expression in plain words.
//!
//! The words are made from what the expression means, not from how it is written, so `*/15` and
//! `0,15,30,45` read alike, and what nobody would guess (an odd step, a day field that is joined
//! with another) is spelt out.

use std::fmt;

use super::Cron;
use super::fields::{ALL_HOURS, Clock, Days, Join, Special, has};
use crate::trigger::describe::and;

const SECONDS: u64 = (1 << 60) - 1;
const WEEKDAYS: u8 = (1 << 7) - 1;
const MONTHS: u16 = ((1 << 12) - 1) << 1;
const DAYS: u32 = ((1 << 31) - 1) << 1;

/// More times of day than this are told as a pattern, not one by one.
const TIMES_MAX: u32 = 6;

const WEEKDAY_NAMES: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTH_NAMES: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = times(&self.fields.clock).unwrap_or_else(|| pattern(&self.fields.clock));
        write!(f, "{clock} {}, {}", dates(&self.fields.days), self.timezone)
    }
}

/// "at 09:00 and 17:00", where there are few times.
fn times(clock: &Clock) -> Option<String> {
    let count = [clock.hours.into(), clock.minutes, clock.seconds].map(u64::count_ones);
    if count.iter().product::<u32>() > TIMES_MAX {
        return None;
    }
    let mut times = Vec::new();
    for hour in members(clock.hours) {
        for minute in members(clock.minutes) {
            for second in members(clock.seconds) {
                times.push(match clock.seconds {
                    1 => format!("{hour:02}:{minute:02}"),
                    _ => format!("{hour:02}:{minute:02}:{second:02}"),
                });
            }
        }
    }
    Some(format!("at {}", and(&times)))
}

/// "every 15 minutes from 09:00 to 17:59".
fn pattern(clock: &Clock) -> String {
    let minutes = match step(clock.minutes, 60) {
        Some(1) => "every minute".to_owned(),
        Some(step) if 60 % step == 0 => format!("every {step} minutes"),
        _ if clock.minutes == 1 => "on the hour".to_owned(),
        _ => format!("at {} past the hour", numbers("minute", clock.minutes)),
    };
    let seconds = match step(clock.seconds, 60) {
        Some(1) if clock.minutes == SECONDS => Some("every second".to_owned()),
        Some(1) => Some(format!("every second of the minute, {minutes}")),
        Some(step) if 60 % step == 0 && clock.minutes == SECONDS => {
            Some(format!("every {step} seconds"))
        }
        _ if clock.seconds == 1 => None,
        _ => Some(format!(
            "at {} of the minute, {minutes}",
            numbers("second", clock.seconds)
        )),
    };
    format!("{}{}", seconds.unwrap_or(minutes), hours(clock.hours))
}

fn hours(hours: u32) -> String {
    if hours == ALL_HOURS {
        return String::new();
    }
    if let Some((low, high)) = range(hours.into()) {
        return format!(" from {low:02}:00 to {high:02}:59");
    }
    let words: Vec<String> = members(hours).map(|hour| format!("{hour}")).collect();
    let unit = if words.len() == 1 { "hour" } else { "hours" };
    format!(" in {unit} {}", and(&words))
}

/// "every day", "on Monday to Friday", "on day 1 of January".
fn dates(days: &Days) -> String {
    let months = match days.months {
        MONTHS => None,
        months => Some(names(months, |month| MONTH_NAMES[month as usize - 1])),
    };
    let month = months.clone().unwrap_or_else(|| "the month".to_owned());
    let by_day = (days.days != DAYS).then(|| by_day(days, &month));
    let by_weekday = (days.weekdays != WEEKDAYS).then(|| by_weekday(days, &month));
    match (by_day, by_weekday, days.join) {
        (None, Some(weekday), Join::Both) => match months {
            Some(months) if !days.special.iter().any(|special| !special.is_day()) => {
                format!("on {weekday} in {months}")
            }
            _ => format!("on {weekday}"),
        },
        (Some(day), None, Join::Both) => format!("on {day}"),
        (Some(day), Some(weekday), Join::Both) => format!("on {day}, if it is {weekday}"),
        (Some(day), Some(weekday), Join::Either) => {
            let within = months
                .map(|months| format!(" in {months}"))
                .unwrap_or_default();
            format!("on {day}, and also on {weekday}{within}")
        }
        // A field that lists everything, joined with another by "or", leaves every day.
        (None, _, _) | (_, None, Join::Either) => match months {
            Some(months) => format!("every day in {months}"),
            None => "every day".to_owned(),
        },
    }
}

fn by_day(days: &Days, month: &str) -> String {
    let mut words = Vec::new();
    if days.days != 0 {
        words.push(numbers("day", days.days));
    }
    for special in days.special.iter().filter(|special| special.is_day()) {
        words.push(match special {
            Special::Last { before: 0 } => "the last day".to_owned(),
            Special::Last { before: 1 } => "the last day but one".to_owned(),
            Special::Last { before } => format!("the day {before} days before the last"),
            Special::LastWeekday => "the last Monday to Friday".to_owned(),
            Special::NearestWeekday { day } => format!("the Monday to Friday nearest to day {day}"),
            Special::Nth { .. } | Special::LastOf { .. } => continue,
        });
    }
    format!("{} of {month}", and(&words))
}

fn by_weekday(days: &Days, month: &str) -> String {
    let mut words = Vec::new();
    if days.weekdays != 0 {
        words.push(names(days.weekdays, |weekday| {
            WEEKDAY_NAMES[weekday as usize]
        }));
    }
    for special in &*days.special {
        let (which, weekday) = match special {
            Special::Nth { weekday, nth } => (ORDINALS[usize::from(*nth) - 1], weekday),
            Special::LastOf { weekday } => ("last", weekday),
            _ => continue,
        };
        words.push(format!(
            "the {which} {} of {month}",
            WEEKDAY_NAMES[usize::from(*weekday)]
        ));
    }
    and(&words)
}

/// "Monday to Friday", or a list.
fn names(set: impl Into<u64>, name: impl Fn(u32) -> &'static str) -> String {
    let set = set.into();
    match range(set) {
        Some((low, high)) if high - low > 1 => format!("{} to {}", name(low), name(high)),
        _ => and(&members(set)
            .map(|member| name(member).to_owned())
            .collect::<Vec<_>>()),
    }
}

/// "day 1", "days 1 and 15", "days 1 to 7".
fn numbers(unit: &str, set: impl Into<u64>) -> String {
    let set = set.into();
    match range(set) {
        Some((low, high)) if low == high => format!("{unit} {low}"),
        Some((low, high)) if high - low > 1 => format!("{unit}s {low} to {high}"),
        _ => {
            let words: Vec<String> = members(set).map(|member| member.to_string()).collect();
            format!("{unit}s {}", and(&words))
        }
    }
}

/// The step of a set that counts in even steps from 0 to the end.
fn step(set: u64, end: u32) -> Option<u32> {
    let step = (set & !1).trailing_zeros();
    let even = (0..end)
        .step_by(step.max(1) as usize)
        .fold(0, |set, member| set | 1_u64 << member);
    (set == even).then_some(step)
}

/// The ends of a set without holes.
fn range(set: u64) -> Option<(u32, u32)> {
    let (low, high) = (set.trailing_zeros(), 63 - set.leading_zeros().min(63));
    (set.count_ones() == high - low + 1).then_some((low, high))
}

fn members(set: impl Into<u64>) -> impl Iterator<Item = u32> {
    let set = set.into();
    (0..64).filter(move |member| has(set, *member))
}
