//! Steps on the calendar: every so many years, months, weeks and days, at a time of day.
//!
//! Dates are counted on from the first one. A step adds its years and months, again and again
//! until it meets a date that exists, and then its weeks and days: monthly from 31 January is
//! 31 January, 31 March, 31 May, and never drifts to the 28th. A date on which clocks skip the time
//! of day is left out; when clocks repeat it, the first of the two counts.

use chrono::{
    DateTime, Datelike as _, Months, NaiveDate, NaiveTime, TimeDelta, Timelike as _, Utc,
};
use chrono_tz::Tz;

use super::budget::Budget;
use super::zone::{self, Local};

/// Larger steps leave the calendar (years 1 to 9999) at once.
pub(super) const MONTHS_MAX: u32 = 12 * 9_999;
pub(super) const DAYS_MAX: u32 = 366 * 9_999;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) step: Step,
    pub(super) time: NaiveTime,
    pub(super) timezone: Tz,
    /// The first date, and the one from which steps are counted.
    pub(super) from: NaiveDate,
    /// The last date, inclusive.
    pub(super) until: Option<NaiveDate>,
}

/// The parts as they were given; at least one is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) years: u32,
    pub(super) months: u32,
    pub(super) weeks: u32,
    pub(super) days: u32,
}

impl Calendar {
    /// The first fire strictly after `after`.
    pub(super) fn next(
        &self,
        after: Option<DateTime<Utc>>,
        budget: &mut Budget,
    ) -> Option<DateTime<Utc>> {
        let mut date = match after {
            Some(after) => self.date_before(after, budget)?,
            None => self.from,
        };
        loop {
            if self.until.is_some_and(|until| date > until) {
                return None;
            }
            if let Some(fire) = self.fire_on(date)
                && after.is_none_or(|after| fire > after)
            {
                return Some(fire);
            }
            date = self.step.next(date, budget)?;
        }
    }

    /// The beginning of the first date and the end of the last one.
    pub(super) fn span(&self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let midnight = |day: i64| zone::resolve(self.timezone, day * zone::DAY).reached();
        let begin = zone::instant(midnight(zone::day(self.from)));
        let end = self
            .until
            .and_then(|until| zone::instant(midnight(zone::day(until) + 1) - 1));
        (begin, end)
    }

    /// When it fires on a date, unless clocks skip that time.
    fn fire_on(&self, date: NaiveDate) -> Option<DateTime<Utc>> {
        let seconds = i64::from(self.time.num_seconds_from_midnight());
        match zone::resolve(self.timezone, zone::day(date) * zone::DAY + seconds) {
            Local::At(fire) => {
                let fraction = TimeDelta::nanoseconds(i64::from(self.time.nanosecond()));
                Some(zone::instant(fire)? + fraction)
            }
            Local::Gap(_) => None,
        }
    }

    /// A date of the series from which the first fire after `after` is only a few steps away.
    fn date_before(&self, after: DateTime<Utc>, budget: &mut Budget) -> Option<NaiveDate> {
        let (day, _) = zone::split(zone::local(self.timezone, after.timestamp()));
        // One day back: local time is not monotonic, and the time of day may be still to come.
        let target = zone::date(day - 1)?;
        if target <= self.from {
            return Some(self.from);
        }
        let (months, days) = (self.step.total_months(), self.step.total_days());
        if months == 0 {
            let passed = zone::day(target) - zone::day(self.from);
            return zone::date(zone::day(self.from) + passed / days * days);
        }
        if days == 0 {
            return Some(self.month_before(target, months));
        }
        let mut date = self.from;
        loop {
            match self.step.next(date, budget) {
                Some(next) if next <= target => date = next,
                Some(_) => return Some(date),
                // The series ends before `after`, on purpose or because the budget is used up.
                None => return None,
            }
        }
    }

    /// The last date of a series of months at or before `target`.
    fn month_before(&self, target: NaiveDate, months: u32) -> NaiveDate {
        let index = |date: NaiveDate| date.year() * 12 + i32::try_from(date.month0()).unwrap_or(0);
        let passed = u32::try_from(index(target) - index(self.from)).unwrap_or(0) / months;
        // Not every month has the date; the one with the first date's number of days has.
        (0..=passed)
            .rev()
            .filter_map(|steps| exact(self.from, steps.checked_mul(months)?))
            .find(|date| *date <= target)
            .unwrap_or(self.from)
    }
}

impl Step {
    pub(super) fn total_months(self) -> u32 {
        self.years.saturating_mul(12).saturating_add(self.months)
    }

    pub(super) fn total_days(self) -> i64 {
        i64::from(self.weeks) * 7 + i64::from(self.days)
    }

    /// The date after `date`; `None` at the end of the calendar.
    fn next(self, date: NaiveDate, budget: &mut Budget) -> Option<NaiveDate> {
        let mut next = date;
        let months = self.total_months();
        if months > 0 {
            let mut total = months;
            loop {
                budget.spend()?;
                if let Some(found) = exact(date, total) {
                    next = found;
                    break;
                }
                total = total
                    .checked_add(months)
                    .filter(|total| *total <= MONTHS_MAX)?;
            }
        }
        budget.spend()?;
        let next = next.checked_add_signed(TimeDelta::try_days(self.total_days())?)?;
        (next.year() <= 9_999).then_some(next)
    }
}

/// The same day of the month so many months later, if that month has it.
fn exact(date: NaiveDate, months: u32) -> Option<NaiveDate> {
    date.checked_add_months(Months::new(months))
        .filter(|found| found.day() == date.day())
}
