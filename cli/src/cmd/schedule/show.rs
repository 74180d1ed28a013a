//! `repull schedule show`: in plain words, with what comes next.

use std::process::ExitCode;

use chrono::Datelike;
use clap::Args;
use repull::client::StoredSchedule;
use repull::clock;
use repull::connect::ConnectArgs;
use repull::id::ScheduleId;
use repull::schedule::{Coalesce, Overlap, Schedule};
use repull::trigger::Year;
use serde_json::{Value, json};

use super::next::{self, Upcoming, upcoming};
use crate::cmd;
use crate::ui::details::Details;
use crate::ui::table::Table;
use crate::ui::{out, report, time};

/// Fires shown unless a year is asked for.
const NEXT_SHOWN: usize = 5;

/// The most fires of a year that are listed.
const YEAR_FIRES_MAX: usize = 10_000;

/// The options of `repull schedule show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The schedule
    id: ScheduleId,
    /// List all fires of a year, the current one unless given, with the changes of the clocks
    #[arg(long, value_name = "YEAR", num_args = 0..=1, default_missing_value = "0",
          value_parser = clap::value_parser!(i32).range(0..=9999))]
    year: Option<i32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows.
pub(crate) async fn run(args: ShowArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let stored = client.existing_schedule(&args.id).await?;
    let year = args.year.map(|year| match year {
        0 => stored.schedule.trigger.local(clock::now()).year(),
        year => year,
    });
    match (year, args.json) {
        (None, true) => out::json(&view(&stored))?,
        (None, false) => print(&stored)?,
        (Some(year), true) => {
            let fires = stored.schedule.trigger.year(year, YEAR_FIRES_MAX);
            out::json(&year_view(year, &fires))?;
        }
        (Some(year), false) => print_year(&stored.schedule, year)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A schedule as JSON: as it is stored, with its revision, its words and what comes next.
pub(crate) fn view(stored: &StoredSchedule) -> Value {
    let schedule = &stored.schedule;
    let fires: Vec<Upcoming> = upcoming(schedule, clock::now()).take(NEXT_SHOWN).collect();
    let mut view = serde_json::to_value(schedule).unwrap_or_default();
    view["revision"] = stored.revision.into();
    view["described"] = schedule.trigger.describe().into();
    view["next"] = json!(fires);
    view
}

fn print(stored: &StoredSchedule) -> anyhow::Result<()> {
    let schedule = &stored.schedule;
    let mut details = Details::default();
    details.add("id", schedule.id.as_str());
    if !schedule.description.is_empty() {
        details.add("description", schedule.description.as_str());
    }
    details
        .add("fires", schedule.trigger.describe())
        .add("task", schedule.job.task.as_str())
        .add("queue", schedule.job.queue.as_str());
    match &schedule.paused {
        Some(pause) => {
            let reason = if pause.reason.is_empty() { "" } else { ": " };
            let since = time::full(pause.at);
            details.add(
                "paused",
                format!("{since} by {}{reason}{}", pause.by, pause.reason),
            );
        }
        None => {
            details.add("paused", "no");
        }
    }
    add_policies(&mut details, schedule);
    add_template(&mut details, schedule);
    for (name, value) in &schedule.metadata {
        details.add("label", format!("{name}={value}"));
    }
    details
        .some("counts from", schedule.active_from.map(time::full))
        .add("revision", stored.revision.to_string());
    details.print()?;
    let fires: Vec<Upcoming> = upcoming(schedule, clock::now()).take(NEXT_SHOWN).collect();
    if fires.is_empty() {
        next::why_none(schedule);
        return Ok(());
    }
    out::line("")?;
    next::table(schedule, &fires).print()
}

fn add_policies(details: &mut Details, schedule: &Schedule) {
    let overlap = match schedule.overlap {
        Overlap::Allow => "allow: a run may start while the previous one goes on",
        Overlap::Skip => "skip: no run starts while the previous one goes on",
        Overlap::BufferOne => "buffer_one: one run waits for the previous one to end",
        Overlap::CancelOther => "cancel_other: the previous run is cancelled",
    };
    let coalesce = match schedule.coalesce {
        Coalesce::All => "all: each makes its job",
        Coalesce::Latest => "latest: the last one makes a job",
        Coalesce::Earliest => "earliest: the first one makes a job",
    };
    details
        .add("overlap", overlap)
        .add("several due at once", coalesce);
    let grace = schedule
        .misfire_grace
        .map(|grace| format!("fires later than {} are skipped", time::brief(grace)));
    details
        .add(
            "late fires",
            grace.unwrap_or_else(|| "run however late".to_owned()),
        )
        .some(
            "jitter",
            schedule
                .jitter
                .map(|max| format!("up to {}", time::brief(max))),
        )
        .some(
            "ends after",
            schedule.max_runs.map(|runs| format!("{runs} fires")),
        )
        .some(
            "pauses after",
            schedule
                .pause_after_failures
                .map(|failures| format!("{failures} failures in a row")),
        );
}

fn add_template(details: &mut Details, schedule: &Schedule) {
    let job = &schedule.job;
    details
        .some(
            "max attempts",
            job.max_attempts.map(|attempts| attempts.to_string()),
        )
        .some("backoff", job.backoff.map(|backoff| backoff.to_string()))
        .some("timeout", job.timeout.map(time::brief))
        .some(
            "outcome kept",
            job.keep_result.map(|kept| if kept { "yes" } else { "no" }),
        );
    if !job.args.is_null() {
        let text = serde_json::to_string_pretty(&job.args).unwrap_or_default();
        details.block("arguments", &text);
    }
}

fn year_view(number: i32, year: &Year) -> Value {
    let fires: Vec<Value> = year
        .fires
        .iter()
        .map(|fire| {
            json!({
                "local": fire.at.to_rfc3339(),
                "utc": time::stamp_exact(fire.at.to_utc()),
                "on_clock_change": fire.on_clock_change,
            })
        })
        .collect();
    let changes: Vec<Value> = year
        .clock_changes
        .iter()
        .map(|change| {
            json!({
                "at": time::stamp_exact(change.at),
                "before": change.before.to_string(),
                "after": change.after.to_string(),
            })
        })
        .collect();
    json!({
        "year": number, "fires": fires, "truncated": year.truncated, "clock_changes": changes,
    })
}

fn print_year(schedule: &Schedule, number: i32) -> anyhow::Result<()> {
    let year = schedule.trigger.year(number, YEAR_FIRES_MAX);
    report::note(schedule.trigger.describe());
    for change in &year.clock_changes {
        report::note(format_args!(
            "the clocks change on {} from {} to {}",
            time::local(change.at.with_timezone(&change.before)),
            change.before,
            change.after
        ));
    }
    let local = format!("LOCAL ({})", schedule.trigger.timezone().name());
    let mut table = Table::new(&[&local, "UTC", ""]);
    for fire in &year.fires {
        let remark = if fire.on_clock_change {
            "the clocks change"
        } else {
            ""
        };
        table.row([
            time::local(fire.at).into(),
            time::seconds(fire.at.to_utc()).into(),
            remark.into(),
        ]);
    }
    table.print()?;
    let more = if year.truncated {
        ", and more that are not listed"
    } else {
        ""
    };
    report::note(format_args!("{} fires in {number}{more}", year.fires.len()));
    Ok(())
}
