//! The fires of a year, together with the changes of the zone's clocks: the page to look at when
//! one wants to know what daylight saving does to a schedule.

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDate, Utc};

use super::{NANOSECOND, Trigger, zone};

/// The fires of one year in the trigger's zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Year {
    /// In order; no more than asked for.
    pub fires: Vec<LocalFire>,
    /// Whether there are more fires in the year than are listed.
    pub truncated: bool,
    /// When the clocks of the zone change in that year.
    pub clock_changes: Vec<ClockChange>,
}

/// A fire as the clocks of the trigger's zone show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalFire {
    /// The fire; its UTC time is `at.to_utc()`.
    pub at: DateTime<FixedOffset>,
    /// Whether the clocks change on that local day.
    pub on_clock_change: bool,
}

/// A change of a zone's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockChange {
    /// The first instant at which the new offset holds.
    pub at: DateTime<Utc>,
    /// The offset from UTC until then.
    pub before: FixedOffset,
    /// The offset from UTC from then on.
    pub after: FixedOffset,
}

impl ClockChange {
    /// The local days it touches: the one it ends and the one it begins, mostly the same.
    pub fn days(&self) -> [NaiveDate; 2] {
        let last = self.at - NANOSECOND;
        [
            last.with_timezone(&self.before).date_naive(),
            self.at.with_timezone(&self.after).date_naive(),
        ]
    }
}

impl Trigger {
    /// Lists up to `limit` fires of a year in the trigger's zone, 1 to 9999.
    pub fn year(&self, year: i32, limit: usize) -> Year {
        let Some((first, last)) = self.bounds(year) else {
            return Year {
                fires: Vec::new(),
                truncated: false,
                clock_changes: Vec::new(),
            };
        };
        let clock_changes = self.clock_changes(first, last);
        let changed: Vec<NaiveDate> = clock_changes.iter().flat_map(ClockChange::days).collect();
        let before = zone::instant(first).and_then(|first| first.checked_sub_signed(NANOSECOND));
        let mut fires = self
            .fires(before)
            .map(|fire| self.local(fire))
            // Local time may step back into the old year, so it is the instant that decides.
            .take_while(|at| at.timestamp() < last)
            .map(|at| LocalFire {
                at,
                on_clock_change: changed.contains(&at.date_naive()),
            });
        let listed = fires.by_ref().take(limit).collect();
        Year {
            fires: listed,
            truncated: fires.next().is_some(),
            clock_changes,
        }
    }

    /// The instants at which the year begins and the next one does.
    fn bounds(&self, year: i32) -> Option<(i64, i64)> {
        let begin = |year| {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).filter(|date| date.year() > 0)?;
            let midnight = zone::day(first) * zone::DAY;
            Some(zone::resolve(self.timezone(), midnight).reached())
        };
        Some((begin(year)?, begin(year.checked_add(1)?)?))
    }

    fn clock_changes(&self, first: i64, last: i64) -> Vec<ClockChange> {
        let zone = self.timezone();
        let change = |at| {
            let offset = |at| FixedOffset::east_opt(zone::offset(zone, at).try_into().ok()?);
            let (before, after) = (offset(at - 1)?, offset(at)?);
            Some(ClockChange {
                at: zone::instant(at)?,
                before,
                after,
            })
        };
        zone::changes(zone, first - 1, last - 1)
            .into_iter()
            .filter_map(change)
            .collect()
    }
}
