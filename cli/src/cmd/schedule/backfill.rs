//! `repull schedule backfill`: the fires of a past range, run now.

use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::ScheduleId;
use repull::schedule::{Overlap, Schedule};
use serde::Serialize;

use crate::cmd;
use crate::ui::table::{Cell, Table};
use crate::ui::{ask, out, report, time};

/// The most fires of one backfill.
const FIRES_MAX: usize = 100_000;

/// Above so many a yes is asked for.
const UNASKED_MAX: usize = 20;

/// The options of `repull schedule backfill`.
#[derive(Args, Debug)]
pub(crate) struct BackfillArgs {
    /// The schedule
    id: ScheduleId,
    /// First time of the range
    #[arg(long, value_name = "TIME|DURATION", value_parser = time::past)]
    from: DateTime<Utc>,
    /// Last time of the range
    #[arg(long, value_name = "TIME|DURATION", value_parser = time::past)]
    to: DateTime<Utc>,
    /// How the runs meet each other and what runs already: allow, skip or cancel_other
    #[arg(long, value_name = "POLICY", default_value = "allow")]
    overlap: BackfillOverlap,
    /// Start each run when the one before has ended; stay until all have
    #[arg(long, conflicts_with = "overlap")]
    one_by_one: bool,
    /// List the fires and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before running many
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What happens to a run of a backfill while another has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BackfillOverlap {
    /// Both run
    Allow,
    /// The later one is skipped
    Skip,
    /// The earlier one is cancelled
    #[value(name = "cancel_other", alias = "cancel-other")]
    CancelOther,
}

/// What became of one fire.
#[derive(Debug, Serialize)]
struct Run {
    fire: DateTime<Utc>,
    job: String,
    fate: String,
}

/// Runs.
pub(crate) async fn run(args: BackfillArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    if args.to < args.from {
        return Err(report::usage("--to is before --from"));
    }
    let client = cmd::connect(connect).await?;
    let mut schedule = client.existing_schedule(&args.id).await?.schedule;
    let fires = fires(&schedule, args.from, args.to)?;
    schedule.overlap = match args.overlap {
        // One after another under ids of their own: nothing of the past stands in their way.
        _ if args.one_by_one => Overlap::Allow,
        BackfillOverlap::Allow => Overlap::Allow,
        BackfillOverlap::Skip => Overlap::Skip,
        BackfillOverlap::CancelOther => Overlap::CancelOther,
    };
    let runs = if args.dry_run {
        fires
            .iter()
            .map(|fire| fated(&schedule, *fire, "would run"))
            .collect()
    } else {
        if fires.len() > UNASKED_MAX {
            ask::confirm(&format!("run {} fires", fires.len()), args.yes)?;
        }
        run_fires(&client, &schedule, &fires, args.one_by_one).await?
    };
    if args.json {
        out::json(&runs)?;
    } else if runs.is_empty() {
        report::note("no fire falls into the range");
    } else {
        table(&runs).print()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fires(
    schedule: &Schedule,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> anyhow::Result<Vec<DateTime<Utc>>> {
    let before = from - TimeDelta::nanoseconds(1);
    let fires: Vec<_> = schedule
        .trigger
        .fires(Some(before))
        .take_while(|fire| *fire <= to)
        .take(FIRES_MAX + 1)
        .collect();
    if fires.len() > FIRES_MAX {
        return Err(report::usage(format!(
            "the range has more than {FIRES_MAX} fires: take a shorter one"
        )));
    }
    Ok(fires)
}

async fn run_fires(
    client: &Client,
    schedule: &Schedule,
    fires: &[DateTime<Utc>],
    one_by_one: bool,
) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for fire in fires {
        let enqueued = client.run_fire(schedule, *fire).await?;
        let fate = match (enqueued.is_new, one_by_one) {
            (false, _) => "skipped".to_owned(),
            (true, false) => "queued".to_owned(),
            (true, true) => {
                report::note(format_args!("running the fire of {}", time::seconds(*fire)));
                client.wait(&enqueued).await?.kind.to_string()
            }
        };
        runs.push(fated(schedule, *fire, &fate));
    }
    Ok(runs)
}

fn fated(schedule: &Schedule, fire: DateTime<Utc>, fate: &str) -> Run {
    Run {
        fire,
        job: schedule.job_id(fire).to_string(),
        fate: fate.to_owned(),
    }
}

fn table(runs: &[Run]) -> Table {
    let mut table = Table::new(&["FIRE", "JOB", "FATE"]);
    for run in runs {
        table.row([
            time::seconds(run.fire).into(),
            run.job.as_str().into(),
            Cell::painted(run.fate.as_str()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_ends_of_the_range_belong_to_it() {
        let schedule: Schedule = serde_json::from_value(json!({
            "id": "s", "job": {"task": "t"},
            "trigger": {"every": {"interval": "1h", "anchor": "2026-01-01T00:00:00Z"}},
        }))
        .unwrap();
        let at = |hour: u32| format!("2026-01-02T{hour:02}:00:00Z").parse().unwrap();
        assert_eq!(
            fires(&schedule, at(3), at(5)).unwrap(),
            [at(3), at(4), at(5)]
        );
    }
}
