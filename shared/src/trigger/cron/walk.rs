//! Elapsed time across a change of the clocks that does not fall on a full hour.
//!
//! Where clocks change by whole hours and on the hour, "follows elapsed time" and "fires whenever
//! the wall clock shows a match" are the same thing. Lord Howe (half an hour), Chatham (at 02:45)
//! and a few changes of the past are different: there, an expression that counts hours keeps its
//! step of one elapsed hour across the change and falls back into step with the wall clock at its
//! next fire. `30 * * * *` fires an hour apart, not half an hour, when clocks go back by half an
//! hour. That is how cronsim walks, and with it Debian's cron; we walk as it does, but always from
//! the same place, the last match before the change, so that the fires do not depend on when
//! somebody looks.

use chrono_tz::Tz;

use super::fields::{Fields, first, has, parts_of};
use crate::trigger::zone::{self, DAY, HOUR, MINUTE};

/// More steps than a walk over one day can take with any fields; a walk that needs more is lost.
const STEPS_MAX: u32 = 10_000;

/// Within so much time after a change, a walk across it is back in step with the wall clock.
const ASTRAY: i64 = 2 * DAY;

/// A change of a zone's clocks.
pub(super) struct Change {
    at: i64,
    before: i64,
    after: i64,
}

impl Change {
    /// The change that a walk which reaches `instant` may still feel, if it is an uneven one.
    pub(super) fn uneven(zone: Tz, instant: i64) -> Option<Change> {
        let earlier = instant - ASTRAY;
        if zone::offset(zone, earlier) == zone::offset(zone, instant) {
            return None;
        }
        let at = zone::change_between(zone, earlier, instant);
        let (before, after) = (zone::offset(zone, at - 1), zone::offset(zone, at));
        let even = (at + before) % HOUR == 0 && (after - before) % HOUR == 0;
        (!even).then_some(Change { at, before, after })
    }

    /// When all that the change repeats or skips is over, and the hour that it cut as well.
    pub(super) fn settled(&self) -> i64 {
        self.at + (self.after - self.before).abs() + HOUR
    }

    /// Walks across the change to the first fire after `instant`.
    ///
    /// `None` when the walk was back in step before `instant`: then the wall clock says.
    pub(super) fn next(&self, fields: &Fields, zone: Tz, instant: i64) -> Option<i64> {
        let mut fire = self.start(fields);
        loop {
            if fire >= self.settled() && fire <= instant {
                return None;
            }
            fire = Walk {
                fields,
                zone,
                at: fire + 1,
            }
            .run()?;
            if fire > instant {
                return Some(fire);
            }
        }
    }

    /// The last match before the change, or a day earlier where there was none since.
    ///
    /// Looks back in growing steps, to find a close one quickly and a far one at all.
    fn start(&self, fields: &Fields) -> i64 {
        let wall_clock = self.at + self.before;
        let nearest = [2, 2 * MINUTE, 2 * HOUR].into_iter().find_map(|back| {
            fields
                .next(wall_clock - back - 1)
                .filter(|found| *found < wall_clock)
        });
        nearest.unwrap_or(wall_clock - DAY - HOUR) - self.before
    }
}

struct Walk<'a> {
    fields: &'a Fields,
    zone: Tz,
    at: i64,
}

impl Walk<'_> {
    fn run(mut self) -> Option<i64> {
        for _ in 0..STEPS_MAX {
            let (day, since_midnight) = zone::split(zone::local(self.zone, self.at));
            let (hour, minute, second) = parts_of(since_midnight);
            let clock = &self.fields.clock;
            if !self.fields.days.contains(day) {
                let midnight = self.fields.days.next(day)? * DAY;
                let reached = zone::resolve(self.zone, midnight).reached();
                // Midnight comes a second time where clocks go back across it.
                let left = DAY - since_midnight;
                self.at = if reached > self.at {
                    reached
                } else {
                    self.at + left
                };
            } else if !has(clock.hours, hour) {
                self.next_hour(minute, second);
            } else if !has(clock.minutes, minute) {
                self.next_minute(minute, second);
            } else if !has(clock.seconds, second) {
                self.at += distance(clock.seconds, second);
            } else {
                return Some(self.at);
            }
        }
        None
    }

    /// Back to the full hour, then on by elapsed hours to a listed one or to midnight.
    fn next_hour(&mut self, minute: u32, second: u32) {
        let since = i64::from(minute) * MINUTE + i64::from(second);
        let here = zone::offset(self.zone, self.at);
        let before = zone::offset(self.zone, self.at - since);
        // Where clocks changed since the full hour, it is the one before the change.
        let next = self.at + here - since - before + HOUR;
        self.at = if next > self.at {
            next
        } else {
            self.at - since + HOUR
        };
        loop {
            let (_, second) = zone::split(zone::local(self.zone, self.at));
            let (hour, _, _) = parts_of(second);
            if hour == 0 || has(self.fields.clock.hours, hour) {
                return;
            }
            self.at += HOUR;
        }
    }

    /// To the next listed minute; to a single one in one leap, else minute by minute to the hour.
    fn next_minute(&mut self, minute: u32, second: u32) {
        let minutes = self.fields.clock.minutes;
        let mut distance = distance(minutes, minute);
        if minutes.count_ones() > 1 {
            distance = distance.min(60 - i64::from(minute));
            let next = self.at + distance * MINUTE;
            if zone::offset(self.zone, next) != zone::offset(self.zone, self.at) {
                distance = 1;
            }
        }
        self.at += distance * MINUTE - i64::from(second);
    }
}

/// How far it is from `number` up to the next one in the set, around the end at 60.
fn distance(set: u64, number: u32) -> i64 {
    let above = set & (!0 << number);
    let next = if above == 0 {
        first(set) + 60
    } else {
        first(above)
    };
    i64::from(next) - i64::from(number)
}
