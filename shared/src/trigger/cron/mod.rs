//! Crontab expressions in a time zone.
//!
//! [`parse`] reads the text, [`fields`] finds the next match on a plain calendar, and this file
//! says what that means where clocks change. Debian's cron is the model: an expression that names
//! hours ([`Pace::Fixed`]) runs once for each of them, right after the gap when clocks skip it, and
//! only the first time when they repeat it. One whose minute or hour field starts with `*`
//! ([`Pace::Elapsed`]) follows elapsed time: it skips what the clocks skip and runs again in what
//! they repeat. [`walk`] has the rare changes that are not by whole hours.

mod describe;
mod fields;
mod parse;
mod walk;

use chrono_tz::Tz;

use self::fields::{Fields, Pace};
use super::Error;
use super::zone::{self, HOUR, LAST_SECOND, Local, REACH};

/// A crontab expression and the zone whose clock it is read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    expression: Box<str>,
    fields: Fields,
    pub(super) timezone: Tz,
}

impl Cron {
    /// Reads an expression; `field` is its place in the trigger, for messages.
    pub(super) fn new(expression: &str, timezone: Tz, field: &str) -> Result<Cron, Error> {
        let fields = parse::parse(expression, field)?;
        Ok(Cron {
            expression: expression.trim().into(),
            fields,
            timezone,
        })
    }

    /// The expression as it was given.
    pub(super) fn expression(&self) -> &str {
        &self.expression
    }

    /// The first fire strictly after `instant`, both in seconds since the Unix epoch.
    pub(super) fn next(&self, instant: i64) -> Option<i64> {
        if self.timezone == Tz::UTC {
            return self.fields.next(instant);
        }
        match self.fields.pace {
            Pace::Fixed => self.next_fixed(instant),
            Pace::Elapsed => {
                let found = self.next_shown(instant)?;
                self.next_walked(instant, found).or(Some(found))
            }
        }
    }

    /// Where it is not `found`, the next time that the clocks show a match, that comes next.
    fn next_walked(&self, instant: i64, found: i64) -> Option<i64> {
        if !self.fields.clock.leaps() {
            return None;
        }
        let change = walk::Change::uneven(self.timezone, found)?;
        // Wherever a walk is astray, it is back in step soon after clocks show a match.
        let in_step = self.next_shown(change.settled() - 1)? + 2 * HOUR;
        if found > in_step {
            return None;
        }
        change.next(&self.fields, self.timezone, instant)
    }

    /// The next match in plain local time, moved to where that local time is reached.
    fn next_fixed(&self, instant: i64) -> Option<i64> {
        let mut local = zone::local(self.timezone, instant);
        loop {
            local = self.fields.next(local)?;
            match zone::resolve(self.timezone, local) {
                Local::At(fire) if fire > instant => return Some(fire),
                // Clocks went back before `instant`: all up to the local time of the change is past.
                Local::At(fire) => local = self.shown_before_change(fire, instant).max(local),
                Local::Gap(end) if end > instant => return Some(end),
                Local::Gap(_) => {}
            }
        }
    }

    /// The last local time that clocks showed before they were set back between `first` and
    /// `instant`.
    fn shown_before_change(&self, first: i64, instant: i64) -> i64 {
        let change = zone::change_between(self.timezone, first, instant);
        zone::local(self.timezone, change - 1)
    }

    /// The next instant at which the zone's clocks show a match.
    fn next_shown(&self, instant: i64) -> Option<i64> {
        let zone = self.timezone;
        // Matches after `position` are looked for with the offset of `basis`.
        let (mut position, mut basis) = (instant, instant);
        while position < LAST_SECOND {
            let offset = zone::offset(zone, basis);
            let found = self.fields.next(position + offset)? - offset;
            let near = found.min(position + REACH);
            if zone::offset(zone, near) != offset {
                // Nothing matches before this change: look on from it, on the clocks after it.
                basis = zone::change_between(zone, basis, near);
                position = basis - 1;
            } else if found == near {
                return Some(found);
            } else {
                // Far away: only changes close to either end can make a difference.
                position = (found - 2 * REACH).max(position + REACH);
                basis = position;
            }
        }
        None
    }
}
