//! Workers and schedulers, by what they say of themselves.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use repull::beacon::Beacon;

use super::facts::Facts;
use super::finding::Finding;
use crate::ui::out::counted;
use crate::ui::time;

/// How far a worker's clock may be from ours. Beacons are some seconds old.
const CLOCK_MAX: TimeDelta = TimeDelta::seconds(20);

/// How late a job that waits for a time may be queued.
const LATE_MAX: TimeDelta = TimeDelta::seconds(10);

/// How far a scheduler may be behind.
const BEHIND_MAX: TimeDelta = TimeDelta::seconds(30);

/// What is wrong with the fleet.
pub(super) fn diagnose(first: &Facts, second: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = second
        .workers
        .iter()
        .flat_map(|w| worker(w, second))
        .collect();
    findings.extend(versions(second));
    findings.extend(schedulers(first, second));
    for entry in &second.schedules.unusable {
        findings.push(
            Finding::error("unusable-schedule", format!("schedule `{}`", entry.key))
                .what(format!("it does not fire: {}", entry.problem))
                .cure("write it anew with `repull schedule apply`, or delete it"),
        );
    }
    findings
}

fn worker(worker: &Beacon, facts: &Facts) -> Vec<Finding> {
    let subject = format!("worker `{}`", worker.id);
    let mut findings = Vec::new();
    if worker.stuck > 0 {
        findings.push(
            Finding::warning("stuck-handlers", subject.as_str())
                .what(format!(
                    "{} not ending, in a slot of its own each",
                    counted(u64::from(worker.stuck), "cancelled handler")
                ))
                .cure("mend the task so that it ends when it is cancelled; restart the worker to free the slots"),
        );
    }
    if worker.watchdog_actions > 0 {
        findings.push(
            Finding::warning("watchdog-acted", subject.as_str())
                .what(format!(
                    "its watchdog has acted {}",
                    times(worker.watchdog_actions)
                ))
                .cure("its log says on what; in health that number is zero"),
        );
    }
    if worker.running + worker.promised > worker.slots {
        findings.push(
            Finding::error("overbooked", subject.as_str())
                .what(format!(
                    "{} running and {} promised, with {} slots",
                    worker.running, worker.promised, worker.slots
                ))
                .cure("this must not be: keep its log and report it"),
        );
    }
    let off = worker.at - facts.at;
    if off.abs() > CLOCK_MAX {
        let direction = if off > TimeDelta::zero() {
            "ahead of"
        } else {
            "behind"
        };
        findings.push(
            Finding::warning("clock-off", subject.as_str())
                .what(format!(
                    "its clock is {} {direction} ours",
                    time::brief(off.abs().to_std().unwrap_or_default())
                ))
                .cure("synchronise the clocks: deadlines and expiries are judged by them"),
        );
    }
    findings
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

fn versions(facts: &Facts) -> Option<Finding> {
    let versions: BTreeSet<&str> = facts.workers.iter().map(|w| w.version.as_str()).collect();
    (versions.len() > 1).then(|| {
        let list: Vec<&str> = versions.into_iter().collect();
        Finding::note("versions-differ", "the workers")
            .what(format!("they run versions {}", list.join(", ")))
            .cure("fine during an upgrade")
    })
}

fn schedulers(first: &Facts, second: &Facts) -> Vec<Finding> {
    let active = second.schedules.schedules.iter();
    let active = active
        .filter(|stored| stored.schedule.paused.is_none())
        .count() as u64;
    let waits = second.next_later.is_some();
    if second.leaders.is_empty() && first.leaders.is_empty() {
        let words = match (active, waits) {
            (0, false) => return Vec::new(),
            (0, true) => "jobs wait for their time and nobody queues them".to_owned(),
            (_, _) => format!(
                "{} and nobody fires them",
                counted(active, "active schedule")
            ),
        };
        return vec![
            Finding::error("no-scheduler", "the schedulers")
                .what(words)
                .cure("start `repull-scheduler`"),
        ];
    }
    let mut findings = Vec::new();
    if let Some(run_at) = second
        .next_later
        .filter(|run_at| second.at - *run_at > LATE_MAX)
    {
        findings.push(
            Finding::error("later-late", "the schedulers")
                .what(format!("a job that was to run {} still waits", time::relative(run_at)))
                .cure("look at the log of the leading scheduler, then restart it: a standby takes over"),
        );
    }
    for watermark in &second.watermarks {
        let behind = watermark.up_to.map(|up_to| second.at - up_to);
        if active > 0 && behind.is_some_and(|behind| behind > BEHIND_MAX) {
            findings.push(
                Finding::error("scheduler-behind", format!("watermark `{}`", watermark.key))
                    .what(format!(
                        "fires are published only up to {}",
                        watermark.up_to.map(time::full).unwrap_or_default()
                    ))
                    .cure("look at the log of the leading scheduler, then restart it: a standby takes over"),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::doctor::facts::tests::{facts, queue, worker};
    use crate::cmd::doctor::facts::{LaneFacts, WatermarkFacts};

    fn look(workers: Vec<Beacon>) -> Facts {
        facts(LaneFacts::default(), workers, queue())
    }

    fn classes(look: &Facts) -> Vec<&'static str> {
        let findings = diagnose(look, look);
        findings.iter().map(|finding| finding.class).collect()
    }

    #[test]
    fn a_healthy_fleet_has_no_findings() {
        assert_eq!(classes(&look(vec![worker(4, 2)])), [""; 0]);
    }

    #[test]
    fn what_a_worker_admits_is_told() {
        let mut bad = worker(4, 2);
        (bad.stuck, bad.watchdog_actions, bad.promised) = (1, 2, 3);
        bad.at -= TimeDelta::minutes(5);
        assert_eq!(
            classes(&look(vec![bad])),
            [
                "stuck-handlers",
                "watchdog-acted",
                "overbooked",
                "clock-off"
            ]
        );
    }

    #[test]
    fn nobody_to_queue_what_waits_is_a_fault() {
        let mut look = look(Vec::new());
        look.leaders.clear();
        assert_eq!(classes(&look), [""; 0], "nothing to do for a scheduler");
        look.next_later = Some(look.at + TimeDelta::hours(1));
        assert_eq!(classes(&look), ["no-scheduler"]);
    }

    #[test]
    fn a_scheduler_that_is_late_is_told() {
        let mut look = look(Vec::new());
        look.next_later = Some(look.at - TimeDelta::minutes(1));
        look.watermarks.push(WatermarkFacts {
            key: "shard-0".into(),
            up_to: Some(look.at - TimeDelta::minutes(2)),
        });
        assert_eq!(
            classes(&look),
            ["later-late"],
            "no schedules: the watermark may rest"
        );
    }
}
