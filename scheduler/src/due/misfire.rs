//! Judges fires that are late: which of them makes a job, which are skipped or coalesced.
//!
//! The judge never walks through all fires of a long outage: it jumps, so that a schedule that
//! fired every second and was not served for a month costs as little as any other.

use chrono::{DateTime, TimeDelta, Utc};
use repull::schedule::Coalesce;

/// How many passed fires are counted; a longer row is told by its first and last alone.
const COUNTED_MAX: u32 = 1_000;

/// A fire's time and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The fire's time.
    pub time: DateTime<Utc>,
    /// Its time and the jitter.
    pub due: DateTime<Utc>,
}

/// The fires of one schedule, in order.
pub trait Fires {
    /// The fire after the one at `time`.
    fn after(&self, time: DateTime<Utc>) -> Option<At>;
    /// The first fire, later than `time`, that is due later than `due`.
    fn due_after(&self, time: DateTime<Utc>, due: DateTime<Utc>) -> Option<At>;
}

/// A row of fires that make no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The first.
    pub first: At,
    /// The last.
    pub last: At,
    /// How many, where they were counted.
    pub count: Option<u32>,
}

/// What becomes of the fires that are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Older than the grace: skipped.
    pub misfired: Option<Row>,
    /// Makes the job.
    pub publish: Option<At>,
    /// Due at the same time, and not the one that makes the job; a second row where the one that
    /// does stands in between.
    pub coalesced: Option<Row>,
    /// The fire to look at next. It may be due too.
    pub next: Option<At>,
}

/// Judges the fires from `first` on, which is due. Takes one job's worth of them.
pub fn judge(
    fires: &dyn Fires,
    first: At,
    now: DateTime<Utc>,
    grace: Option<TimeDelta>,
    coalesce: Coalesce,
) -> Judgement {
    let mut judgement = Judgement::default();
    let oldest = grace.and_then(|grace| now.checked_sub_signed(grace));
    let mut start = Some(first);
    if let Some(oldest) = oldest.filter(|oldest| first.due < *oldest) {
        start = fires.due_after(first.time, oldest - TimeDelta::nanoseconds(1));
        judgement.misfired = row(fires, first, start, now);
    }
    let Some(start) = start.filter(|start| start.due <= now) else {
        judgement.next = start;
        return judgement;
    };
    let next = fires.after(start.time);
    let alone = next.is_none_or(|next| next.due > now);
    if alone || coalesce == Coalesce::All {
        judgement.publish = Some(start);
        judgement.next = next;
        return judgement;
    }
    let end = fires.due_after(start.time, now);
    match coalesce {
        Coalesce::Earliest => {
            judgement.publish = Some(start);
            judgement.coalesced = next.and_then(|next| row(fires, next, end, now));
        }
        _ => {
            let latest = latest(fires, start, now);
            judgement.publish = Some(latest);
            judgement.coalesced = row(fires, start, Some(latest), now);
        }
    }
    judgement.next = end;
    judgement
}

/// The row from `first` up to, and without, `end`; without an end all that are due.
fn row(fires: &dyn Fires, first: At, end: Option<At>, now: DateTime<Utc>) -> Option<Row> {
    let is_in = |at: &At| match end {
        Some(end) => at.time < end.time,
        None => at.due <= now,
    };
    if !is_in(&first) {
        return None;
    }
    let (mut last, mut count) = (first, 1);
    while let Some(at) = fires.after(last.time).filter(is_in) {
        last = at;
        count += 1;
        if count > COUNTED_MAX {
            let before = end.map_or(now, |end| end.due - TimeDelta::nanoseconds(1));
            let last = latest(fires, first, before.min(now));
            return Some(Row {
                first,
                last,
                count: None,
            });
        }
    }
    Some(Row {
        first,
        last,
        count: Some(count),
    })
}

/// The latest fire from `first` on that is due at `now`, found by looking back over ever longer
/// stretches.
fn latest(fires: &dyn Fires, first: At, now: DateTime<Utc>) -> At {
    let mut stretch = TimeDelta::seconds(1);
    let mut found = loop {
        let from = now - stretch;
        if from <= first.due {
            break first;
        }
        match fires.due_after(first.time, from).filter(|at| at.due <= now) {
            Some(at) => break at,
            None => stretch = stretch * 4,
        }
    };
    while let Some(at) = fires.after(found.time).filter(|at| at.due <= now) {
        found = at;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fires every `0` seconds with a jitter that depends on nothing.
    struct Every(i64);

    impl Every {
        fn at(&self, index: i64) -> At {
            let time = seconds(self.0 * index);
            At { time, due: time }
        }
    }

    impl Fires for Every {
        fn after(&self, time: DateTime<Utc>) -> Option<At> {
            Some(self.at(time.timestamp().div_euclid(self.0) + 1))
        }

        fn due_after(&self, time: DateTime<Utc>, due: DateTime<Utc>) -> Option<At> {
            self.after(time.max(due))
        }
    }

    fn seconds(count: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(count, 0).unwrap()
    }

    fn published(judgement: &Judgement) -> Option<i64> {
        judgement.publish.map(|at| at.time.timestamp())
    }

    fn told(row: Option<Row>) -> Option<(i64, i64, Option<u32>)> {
        row.map(|row| {
            (
                row.first.time.timestamp(),
                row.last.time.timestamp(),
                row.count,
            )
        })
    }

    fn next(judgement: &Judgement) -> Option<i64> {
        judgement.next.map(|at| at.time.timestamp())
    }

    #[test]
    fn a_fire_in_time_makes_its_job_whatever_the_policy() {
        for coalesce in [Coalesce::All, Coalesce::Latest, Coalesce::Earliest] {
            for grace in [None, Some(TimeDelta::zero())] {
                let judgement = judge(&Every(10), Every(10).at(1), seconds(10), grace, coalesce);
                assert_eq!(published(&judgement), Some(10));
                assert_eq!(next(&judgement), Some(20));
                assert_eq!((judgement.misfired, judgement.coalesced), (None, None));
            }
        }
    }

    #[test]
    fn all_of_an_outage_come_one_after_the_other() {
        let judgement = judge(
            &Every(10),
            Every(10).at(1),
            seconds(45),
            None,
            Coalesce::All,
        );
        assert_eq!(
            (published(&judgement), next(&judgement)),
            (Some(10), Some(20))
        );
        assert_eq!(judgement.coalesced, None);
    }

    #[test]
    fn the_latest_stands_for_those_before_it() {
        let judgement = judge(
            &Every(10),
            Every(10).at(1),
            seconds(45),
            None,
            Coalesce::Latest,
        );
        assert_eq!(
            (published(&judgement), next(&judgement)),
            (Some(40), Some(50))
        );
        assert_eq!(told(judgement.coalesced), Some((10, 30, Some(3))));
    }

    #[test]
    fn the_earliest_stands_for_those_after_it() {
        let judgement = judge(
            &Every(10),
            Every(10).at(1),
            seconds(45),
            None,
            Coalesce::Earliest,
        );
        assert_eq!(
            (published(&judgement), next(&judgement)),
            (Some(10), Some(50))
        );
        assert_eq!(told(judgement.coalesced), Some((20, 40, Some(3))));
    }

    #[test]
    fn fires_older_than_the_grace_are_skipped_and_the_rest_is_judged() {
        let grace = Some(TimeDelta::seconds(15));
        let table = [
            (Coalesce::All, Some(30), None, Some(40)),
            (
                Coalesce::Latest,
                Some(40),
                Some((30, 30, Some(1))),
                Some(50),
            ),
            (
                Coalesce::Earliest,
                Some(30),
                Some((40, 40, Some(1))),
                Some(50),
            ),
        ];
        for (coalesce, publish, coalesced, rest) in table {
            let judgement = judge(&Every(10), Every(10).at(1), seconds(45), grace, coalesce);
            assert_eq!(told(judgement.misfired), Some((10, 20, Some(2))));
            assert_eq!(published(&judgement), publish);
            assert_eq!(told(judgement.coalesced), coalesced);
            assert_eq!(next(&judgement), rest);
        }
    }

    #[test]
    fn a_fire_exactly_as_old_as_the_grace_still_makes_its_job() {
        let grace = Some(TimeDelta::seconds(15));
        let judgement = judge(
            &Every(10),
            Every(10).at(3),
            seconds(45),
            grace,
            Coalesce::All,
        );
        assert_eq!(published(&judgement), Some(30));
        assert_eq!(judgement.misfired, None);
    }

    #[test]
    fn where_all_are_too_old_nothing_is_published() {
        let grace = Some(TimeDelta::seconds(3));
        let judgement = judge(
            &Every(10),
            Every(10).at(1),
            seconds(45),
            grace,
            Coalesce::Latest,
        );
        assert_eq!(told(judgement.misfired), Some((10, 40, Some(4))));
        assert_eq!((published(&judgement), next(&judgement)), (None, Some(50)));
    }

    #[test]
    fn a_month_of_seconds_is_told_by_its_ends() {
        let now = seconds(30 * 24 * 3600);
        let judgement = judge(&Every(1), Every(1).at(1), now, None, Coalesce::Latest);
        assert_eq!(published(&judgement), Some(now.timestamp()));
        assert_eq!(
            told(judgement.coalesced),
            Some((1, now.timestamp() - 1, None))
        );
        let grace = Some(TimeDelta::seconds(10));
        let judgement = judge(&Every(1), Every(1).at(1), now, grace, Coalesce::All);
        assert_eq!(
            told(judgement.misfired),
            Some((1, now.timestamp() - 11, None))
        );
        assert_eq!(published(&judgement), Some(now.timestamp() - 10));
    }
}
