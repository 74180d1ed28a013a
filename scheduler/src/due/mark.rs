//! The watermark as the planner needs it: which fires are settled.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use repull::id::ScheduleId;

/// Says which fires are settled, that is published or written to the ledger.
///
/// A fire counts by the time it is due: its own time, or with jitter a little later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// All fires due until then are settled, but for what the other fields except.
    pub up_to: DateTime<Utc>,
    /// The bucket's revision that was known when this was written. Nothing is settled of a version
    /// of a schedule that was stored later, however early its fires: nobody had seen it.
    pub known: u64,
    /// Schedules with a fire that can't be published, and when it was due: from then on nothing of
    /// theirs is settled, while all others go on.
    pub held: BTreeMap<ScheduleId, DateTime<Utc>>,
}

impl Mark {
    /// A mark with no exceptions.
    pub fn new(up_to: DateTime<Utc>, known: u64) -> Self {
        Self {
            up_to,
            known,
            held: BTreeMap::new(),
        }
    }

    /// Fires of this version of a schedule that were due until then are settled, or not for it.
    pub(super) fn settled_until(
        &self,
        schedule: &ScheduleId,
        revision: u64,
        stored: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let until = if revision <= self.known {
            self.up_to
        } else {
            // What came before it was stored was for the version before it.
            self.up_to.min(stored)
        };
        match self.held.get(schedule) {
            Some(since) => until.min(*since - chrono::TimeDelta::nanoseconds(1)),
            None => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_version_nobody_had_seen_has_no_settled_fires_after_it_was_stored() {
        let schedule = ScheduleId::new("s").unwrap();
        let mark = Mark::new(at(100), 7);
        assert_eq!(mark.settled_until(&schedule, 7, at(90)), at(100));
        assert_eq!(mark.settled_until(&schedule, 8, at(90)), at(90));
        assert_eq!(mark.settled_until(&schedule, 8, at(110)), at(100));
    }

    #[test]
    fn a_held_schedule_is_open_from_its_stuck_fire_on() {
        let schedule = ScheduleId::new("s").unwrap();
        let mut mark = Mark::new(at(100), 7);
        mark.held.insert(schedule.clone(), at(50));
        assert!(mark.settled_until(&schedule, 1, at(0)) < at(50));
        let other = ScheduleId::new("o").unwrap();
        assert_eq!(mark.settled_until(&other, 1, at(0)), at(100));
    }
}
