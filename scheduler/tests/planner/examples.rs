//! The planner by example: one policy a test.

use super::*;

fn planner(edit: impl FnOnce(&mut Schedule)) -> Planner {
    let mut schedule = Schedule::new(
        ScheduleId::new("s").unwrap(),
        every(1_000),
        serde_json::from_str(r#"{"task": "t"}"#).unwrap(),
    );
    schedule.active_from = Some(start());
    edit(&mut schedule);
    let mut planner = Planner::new(Mark::new(start(), 1));
    planner.apply(Change::Put {
        schedule: Box::new(schedule),
        revision: 1,
        stored: start(),
    });
    planner
}

fn published(decisions: Vec<Decision>) -> Vec<i64> {
    let seconds = |at: DateTime<Utc>| (at - start()).num_seconds();
    let fires = decisions.into_iter().filter_map(|decision| match decision {
        Decision::Publish(fire) => Some(seconds(fire.at)),
        Decision::Pass(_) => None,
    });
    fires.collect()
}

fn after(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

#[test]
fn max_runs_counts_from_when_the_schedule_became_active() {
    let mut planner = planner(|schedule| schedule.max_runs = Some(3));
    assert_eq!(published(planner.due(after(10), 100)), [1, 2, 3]);
    assert_eq!(planner.next_due(), None);
    // A leader that starts later comes to the same last run.
    planner.reset(Mark::new(after(2), 1));
    assert_eq!(published(planner.due(after(10), 100)), [3]);
}

#[test]
fn coalesced_fires_are_told_and_make_one_job() {
    let mut planner = planner(|schedule| schedule.coalesce = Coalesce::Latest);
    let decisions = planner.due(after(10), 100);
    assert!(matches!(&decisions[0], Decision::Pass(passed) if passed.count == Some(9)));
    assert_eq!(published(decisions), [10]);
    assert_eq!(planner.next_due(), Some(after(11)));
}

#[test]
fn a_fire_carries_when_it_expires() {
    let mut planner = planner(|schedule| {
        schedule.misfire_grace = Some(std::time::Duration::from_secs(30));
    });
    let decisions = planner.due(after(1), 1);
    let Decision::Publish(fire) = &decisions[0] else {
        panic!("{decisions:?}")
    };
    let job = fire.job();
    assert_eq!(job.expires, Some(after(31)));
    assert_eq!(job.nonce.as_deref(), Some("s-1795428001000"));
}

#[test]
fn a_held_schedule_waits_and_then_catches_up() {
    let mut planner = planner(|_| {});
    let id = ScheduleId::new("s").unwrap();
    assert_eq!(published(planner.due(after(1), 10)), [1]);
    planner.hold(&id);
    assert_eq!(published(planner.due(after(3), 10)), [0; 0]);
    planner.release(&id);
    assert_eq!(published(planner.due(after(3), 10)), [2, 3]);
}

#[test]
fn the_oldest_fire_over_all_schedules_comes_first() {
    let mut planner = planner(|_| {});
    let mut other = Schedule::new(
        ScheduleId::new("other").unwrap(),
        every(4_000),
        serde_json::from_str(r#"{"task": "t"}"#).unwrap(),
    );
    other.active_from = Some(start());
    planner.apply(Change::Put {
        schedule: Box::new(other),
        revision: 2,
        stored: start(),
    });
    assert_eq!(published(planner.due(after(10), 6)), [1, 2, 3, 4, 4, 5]);
}

#[test]
fn a_removed_schedule_fires_no_more_and_may_come_back() {
    let mut planner = planner(|_| {});
    planner.apply(Change::Removed {
        id: ScheduleId::new("s").unwrap(),
    });
    assert!(planner.is_empty());
    assert_eq!(published(planner.due(after(10), 10)), [0; 0]);
    let mut again = Schedule::new(
        ScheduleId::new("s").unwrap(),
        every(1_000),
        serde_json::from_str(r#"{"task": "t"}"#).unwrap(),
    );
    again.active_from = Some(after(10));
    planner.apply(Change::Put {
        schedule: Box::new(again),
        revision: 3,
        stored: after(10),
    });
    assert_eq!(published(planner.due(after(12), 10)), [11, 12]);
}
