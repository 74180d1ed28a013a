//! The demo's schedule: one fire a second, all of them known in advance.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use repull::id::{QueueName, ScheduleId};
use repull::schedule::{JobTemplate, Schedule};
use repull::trigger::Trigger;
use repull::wire::write_time;
use serde_json::json;

use super::tasks::TICK;

/// How often it fires.
const INTERVAL: Duration = Duration::from_secs(1);

/// A schedule that fires once a second, `fires` times.
pub(super) fn schedule(
    queue: &QueueName,
    fires: u32,
    now: DateTime<Utc>,
) -> anyhow::Result<Schedule> {
    // The first fire is one to two seconds away: by then the scheduler knows of it.
    let first = now.trunc_subsecs(0) + TimeDelta::seconds(2);
    let last = first + TimeDelta::from_std(INTERVAL)? * i32::try_from(fires.saturating_sub(1))?;
    let trigger = Trigger::from_value(json!({
        "every": { "interval": "1s", "anchor": write_time(first) },
        "end": write_time(last),
    }))?;
    let job = JobTemplate {
        task: TICK.parse()?,
        queue: queue.clone(),
        priority: repull::id::Priority::Normal,
        args: json!({ "tick": true }),
        max_attempts: None,
        backoff: None,
        timeout: None,
        keep_result: None,
    };
    let mut schedule = Schedule::new(ScheduleId::new(queue)?, trigger, job);
    schedule.description = "the demo's clock".to_owned();
    schedule.active_from = Some(now);
    Ok(schedule)
}

/// The fires that are due, each with the id of its job.
pub(super) fn fires(schedule: &Schedule) -> Vec<(String, DateTime<Utc>)> {
    let fires = schedule.trigger.fires(schedule.active_from);
    fires
        .map(|fire| (schedule.job_id(fire).to_string(), fire))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fires_are_known_in_advance_and_none_is_in_the_past() {
        let now = "2026-11-23T10:00:00.9Z".parse().unwrap();
        let queue = QueueName::new("demo-clock").unwrap();
        let fires = fires(&schedule(&queue, 20, now).unwrap());
        assert_eq!(fires.len(), 20);
        assert_eq!(fires[0].1.to_string(), "2026-11-23 10:00:02 UTC");
        assert_eq!(fires[19].1.to_string(), "2026-11-23 10:00:21 UTC");
        assert_eq!(fires[0].0, "demo-clock-1795428002000");
    }
}
