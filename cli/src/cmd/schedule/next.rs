//! `repull schedule next`, and the coming fires of a schedule under all its policies.

use std::process::ExitCode;

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use clap::Args;
use repull::clock;
use repull::connect::ConnectArgs;
use repull::id::ScheduleId;
use repull::schedule::Schedule;
use repull::trigger;
use serde::Serialize;

use crate::cmd;
use crate::cmd::job::limit;
use crate::ui::table::Table;
use crate::ui::{out, report, time};

/// The options of `repull schedule next`.
#[derive(Args, Debug)]
pub(crate) struct NextArgs {
    /// The schedule
    id: ScheduleId,
    /// How many fires
    #[arg(long, short = 'n', default_value_t = 10, value_parser = limit)]
    count: usize,
    /// Fires after this time instead of now
    #[arg(long, value_name = "TIME", value_parser = time::instant)]
    after: Option<DateTime<Utc>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A coming fire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Upcoming {
    /// The fire.
    pub(crate) fire: DateTime<Utc>,
    /// The same on the clocks of the trigger's zone.
    pub(crate) local: DateTime<FixedOffset>,
    /// When its job is published: the fire and its jitter.
    pub(crate) due: DateTime<Utc>,
}

/// The fires of a schedule that is not paused after `now`, as long as it runs.
pub(crate) fn upcoming(
    schedule: &Schedule,
    now: DateTime<Utc>,
) -> Box<dyn Iterator<Item = Upcoming> + '_> {
    if schedule.paused.is_some() {
        return Box::new(std::iter::empty());
    }
    let active_from = schedule.active_from.unwrap_or(now);
    let last = schedule.max_runs.and_then(|runs| {
        let index = usize::try_from(runs)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        schedule.trigger.fires(Some(active_from)).nth(index)
    });
    let fires = schedule.trigger.fires(Some(now.max(active_from)));
    Box::new(
        fires
            .take_while(move |fire| last.is_none_or(|last| *fire <= last))
            .map(move |fire| Upcoming {
                fire,
                local: schedule.trigger.local(fire),
                due: fire + delay(schedule, fire),
            }),
    )
}

fn delay(schedule: &Schedule, fire: DateTime<Utc>) -> TimeDelta {
    let Some(max) = schedule.jitter else {
        return TimeDelta::zero();
    };
    let next = schedule.trigger.next(Some(fire));
    let delay = trigger::jitter(schedule.id.as_str(), fire, next, max);
    TimeDelta::from_std(delay).unwrap_or_default()
}

/// Lists.
pub(crate) async fn run(args: NextArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let schedule = client.existing_schedule(&args.id).await?.schedule;
    let after = args.after.unwrap_or_else(clock::now);
    let fires: Vec<Upcoming> = upcoming(&schedule, after).take(args.count).collect();
    if args.json {
        out::json(&fires)?;
    } else if !fires.is_empty() {
        table(&schedule, &fires).print()?;
    }
    if fires.is_empty() {
        why_none(&schedule);
    }
    Ok(ExitCode::SUCCESS)
}

/// Says why there is nothing to come.
pub(crate) fn why_none(schedule: &Schedule) {
    match &schedule.paused {
        Some(pause) => {
            report::note(format_args!(
                "paused since {} by {}",
                time::stamp(pause.at),
                pause.by
            ));
            report::hint(format_args!(
                "`repull schedule resume {}` ends the pause",
                schedule.id
            ));
        }
        None => report::note("no fire is left"),
    }
}

/// Fires as a table, in local time and UTC.
pub(crate) fn table(schedule: &Schedule, fires: &[Upcoming]) -> Table {
    let zone = schedule.trigger.timezone();
    let local = format!("LOCAL ({})", zone.name());
    let mut table = Table::new(&[&local, "UTC", "IN"]);
    for fire in fires {
        let mut utc = time::seconds(fire.fire);
        if fire.due != fire.fire {
            let jitter = (fire.due - fire.fire).to_std().unwrap_or_default();
            utc.push_str(&format!(" + {} jitter", time::brief(jitter)));
        }
        table.row([
            time::local(fire.local).into(),
            utc.into(),
            time::relative(fire.due).trim_start_matches("in ").into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schedule(extra: &[(&str, serde_json::Value)]) -> Schedule {
        let mut value = json!({
            "id": "s", "job": {"task": "t"}, "active_from": "2026-01-01T00:00:00Z",
            "trigger": {"every": {"interval": "1h", "anchor": "2026-01-01T00:00:00Z"}},
        });
        for (name, field) in extra {
            value[*name] = field.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_ends_after_its_runs() {
        let schedule = schedule(&[("max_runs", json!(3))]);
        let fires: Vec<_> = upcoming(&schedule, at("2026-01-01T01:30:00Z"))
            .map(|fire| fire.fire)
            .collect();
        assert_eq!(
            fires,
            [at("2026-01-01T02:00:00Z"), at("2026-01-01T03:00:00Z")]
        );
    }

    #[test]
    fn a_paused_schedule_has_no_fires() {
        let pause = json!({"by": "ada", "at": "2026-01-01T00:00:00Z"});
        let schedule = schedule(&[("paused", pause)]);
        assert_eq!(upcoming(&schedule, at("2026-01-01T00:00:00Z")).count(), 0);
    }

    #[test]
    fn jitter_delays_and_never_past_the_next_fire() {
        let schedule = schedule(&[("jitter", json!("10h"))]);
        for fire in upcoming(&schedule, at("2026-01-01T00:00:00Z")).take(50) {
            let delay = fire.due - fire.fire;
            assert!(
                delay >= TimeDelta::zero() && delay < TimeDelta::hours(1),
                "{delay}"
            );
        }
    }
}
