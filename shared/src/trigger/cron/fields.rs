//! What a cron expression means on a calendar without time zones: which local times match, and
//! which one is next. Fields are sets of bits, and the search skips by field (month, day, hour,
//! minute, second), so its cost does not depend on how far away the next match is.

use chrono::Datelike as _;

use crate::trigger::zone;

/// How many months ahead a match is looked for before the expression counts as exhausted.
///
/// The rarest date that a crontab can name, 29 February on a given weekday, comes at least every
/// 40 years; one that does not come within 100 years never comes.
const HORIZON_MONTHS: u32 = 1_200;

/// Every hour of the day.
pub(super) const ALL_HOURS: u32 = (1 << 24) - 1;

/// The six fields, ready to be matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) clock: Clock,
    pub(super) days: Days,
    pub(super) pace: Pace,
}

/// How an expression takes changes of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It names hours of the day: once per day each, whatever the clocks do.
    Fixed,
    /// Its minute or hour field starts with `*`: it follows elapsed time.
    Elapsed,
}

/// The times of day: every combination of a listed hour, minute and second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
}

/// The dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    /// Bits 1 to 12.
    pub(super) months: u16,
    /// Bits 1 to 31.
    pub(super) days: u32,
    /// Bits 0 to 6, from Sunday.
    pub(super) weekdays: u8,
    /// Days and weekdays that depend on the month, such as its last; usually none.
    pub(super) special: Box<[Special]>,
    /// Whether a date must satisfy both day fields, or either of them.
    pub(super) join: Join,
}

/// How day of month and day of week combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    Both,
    Either,
}

/// A day that has another number in each month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// `L`, `L-3`: so many days before the last of the month.
    Last { before: u8 },
    /// `15W`: the weekday (Monday to Friday) nearest to that day, within the month.
    NearestWeekday { day: u8 },
    /// `LW`: the last Monday to Friday.
    LastWeekday,
    /// `5#3`: the third Friday.
    Nth { weekday: u8, nth: u8 },
    /// `5L`: the last Friday.
    LastOf { weekday: u8 },
}

impl Special {
    /// Whether it stands in the day-of-month field.
    pub(super) fn is_day(self) -> bool {
        !matches!(self, Special::Nth { .. } | Special::LastOf { .. })
    }
}

impl Fields {
    /// The first match strictly after the local time.
    pub(super) fn next(&self, local: i64) -> Option<i64> {
        let (day, second) = zone::split(local);
        if let Some(second) = self.clock.next(second)
            && self.days.contains(day)
        {
            return Some(day * zone::DAY + second);
        }
        Some(self.days.next(day)? * zone::DAY + self.clock.first())
    }
}

impl Clock {
    /// Whether it takes hours, or the single minute of an hour, at a leap; see `walk`.
    pub(super) fn leaps(&self) -> bool {
        self.hours != ALL_HOURS || self.minutes.count_ones() == 1
    }

    /// The earliest time of the day, in seconds since midnight.
    pub(super) fn first(&self) -> i64 {
        seconds_of(first(self.hours), first(self.minutes), first(self.seconds))
    }

    /// The first time of the day after `second`, if there is one before midnight.
    pub(super) fn next(&self, second: i64) -> Option<i64> {
        let (hour, minute, second) = parts_of(second);
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = above(self.seconds, second)
            {
                return Some(seconds_of(hour, minute, second));
            }
            if let Some(minute) = above(self.minutes, minute) {
                return Some(seconds_of(hour, minute, first(self.seconds)));
            }
        }
        let hour = above(self.hours, hour)?;
        Some(seconds_of(hour, first(self.minutes), first(self.seconds)))
    }
}

impl Days {
    /// Whether the day, counted since the Unix epoch, matches.
    pub(super) fn contains(&self, day: i64) -> bool {
        let Some(date) = zone::date(day) else {
            return false;
        };
        has(self.in_month(date.year(), date.month()), date.day())
    }

    /// The first matching day after `day`, both counted since the Unix epoch.
    pub(super) fn next(&self, day: i64) -> Option<i64> {
        let date = zone::date(day)?;
        let (mut year, mut month) = (date.year(), date.month());
        let mut earlier = date.day();
        for _ in 0..HORIZON_MONTHS {
            if let Some(found) = above(self.in_month(year, month), earlier) {
                return Some(first_of_month(year, month)? + i64::from(found) - 1);
            }
            earlier = 0;
            (year, month) = if month == 12 {
                (year + 1, 1)
            } else {
                (year, month + 1)
            };
        }
        None
    }

    /// The matching days of a month, as bits 1 to 31.
    fn in_month(&self, year: i32, month: u32) -> u64 {
        if !has(self.months, month) {
            return 0;
        }
        let Some(first_day) = first_of_month(year, month) else {
            return 0;
        };
        let shape = Month {
            first_weekday: weekday(first_day),
            length: length(year, month),
        };
        let mut by_day = u64::from(self.days);
        let mut by_weekday = shape.weekdays(self.weekdays.into());
        for special in &*self.special {
            if special.is_day() {
                by_day |= shape.special(*special);
            } else {
                by_weekday |= shape.special(*special);
            }
        }
        let joined = match self.join {
            Join::Both => by_day & by_weekday,
            Join::Either => by_day | by_weekday,
        };
        joined & shape.all()
    }
}

/// What distinguishes one month from another.
struct Month {
    /// 0 to 6, from Sunday.
    first_weekday: u32,
    length: u32,
}

impl Month {
    fn all(&self) -> u64 {
        ((1 << self.length) - 1) << 1
    }

    fn weekday(&self, day: u32) -> u32 {
        (self.first_weekday + day - 1) % 7
    }

    /// The days that fall on one of the weekdays.
    fn weekdays(&self, weekdays: u64) -> u64 {
        const EVERY_WEEK: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;
        // Seven bits, turned so that the first one is the weekday of the first day.
        let week = (weekdays >> self.first_weekday | weekdays << (7 - self.first_weekday)) & 0x7f;
        (week * EVERY_WEEK) << 1
    }

    /// The day as a bit; none where the month has no such day.
    fn special(&self, special: Special) -> u64 {
        match special {
            Special::Last { before } => 1 << self.length.saturating_sub(u32::from(before)) & !1,
            Special::LastWeekday => 1 << self.nearest_weekday(self.length),
            Special::NearestWeekday { day } if u32::from(day) > self.length => 0,
            Special::NearestWeekday { day } => 1 << self.nearest_weekday(u32::from(day)),
            Special::Nth { weekday, nth } => 1 << (self.first(weekday) + 7 * (u32::from(nth) - 1)),
            Special::LastOf { weekday } => {
                let first = self.first(weekday);
                1 << (first + (self.length - first) / 7 * 7)
            }
        }
    }

    fn first(&self, weekday: u8) -> u32 {
        1 + (7 + u32::from(weekday) - self.first_weekday) % 7
    }

    /// The nearest Monday to Friday that does not leave the month.
    fn nearest_weekday(&self, day: u32) -> u32 {
        match self.weekday(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        }
    }
}

/// Hour, minute and second of a second of the day.
pub(super) fn parts_of(second: i64) -> (u32, u32, u32) {
    let second = u32::try_from(second).unwrap_or_default();
    (second / 3_600, second / 60 % 60, second % 60)
}

/// Whether the set has the number.
pub(super) fn has(set: impl Into<u64>, number: u32) -> bool {
    set.into() >> number & 1 == 1
}

/// The smallest number in the set, which is never empty.
pub(super) fn first(set: impl Into<u64>) -> u32 {
    set.into().trailing_zeros()
}

/// The smallest number in the set above `number`, itself below 63.
fn above(set: impl Into<u64>, number: u32) -> Option<u32> {
    let rest = set.into() & (!0 << (number + 1));
    (rest != 0).then(|| rest.trailing_zeros())
}

fn seconds_of(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour * 3_600 + minute * 60 + second)
}

fn weekday(day: i64) -> u32 {
    // 1 January 1970 was a Thursday.
    u32::try_from((day + 4).rem_euclid(7)).unwrap_or_default()
}

fn first_of_month(year: i32, month: u32) -> Option<i64> {
    chrono::NaiveDate::from_ymd_opt(year, month, 1).map(zone::day)
}

fn length(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}
