//! `repull schedule history`.

use std::process::ExitCode;

use clap::Args;
use repull::client::HistoryEntry;
use repull::connect::ConnectArgs;
use repull::id::ScheduleId;

use crate::cmd;
use crate::cmd::job::limit;
use crate::ui::table::{Cell, Table};
use crate::ui::{out, report, time};

/// The options of `repull schedule history`.
#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// The schedule
    id: ScheduleId,
    /// At most so many fires
    #[arg(long, short, default_value_t = 50, value_parser = limit)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tells.
pub(crate) async fn run(args: HistoryArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let schedule = client.existing_schedule(&args.id).await?.schedule;
    let entries = client.schedule_history(&schedule, args.limit).await?;
    if args.json {
        out::json(&entries)?;
    } else if entries.is_empty() {
        report::note("no fire is on record");
        report::hint(
            "outcomes are kept for a day and the ledger for a month, unless set otherwise",
        );
    } else {
        table(&entries).print()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(entries: &[HistoryEntry]) -> Table {
    let mut table = Table::new(&["FIRE", "FATE", "JOB", "ENDED", "REASON"]);
    for entry in entries {
        let mut fire = time::seconds(entry.fire);
        if let Some(until) = entry.until {
            let count = entry
                .count
                .map_or("many".to_owned(), |count| count.to_string());
            fire.push_str(&format!(" to {} ({count})", time::seconds(until)));
        }
        table.row([
            fire.into(),
            Cell::painted(entry.fate.as_str()),
            entry.job.as_ref().map_or("-", |job| job.as_str()).into(),
            entry.at.map_or("-".to_owned(), time::relative).into(),
            entry.reason.as_str().into(),
        ]);
    }
    table
}
