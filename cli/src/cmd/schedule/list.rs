//! `repull schedule list`.

use std::process::ExitCode;

use clap::Args;
use repull::client::StoredSchedule;
use repull::clock;
use repull::connect::ConnectArgs;
use repull::id::{QueueName, TaskName};

use super::next::upcoming;
use super::show;
use crate::cmd;
use crate::ui::table::{Cell, Table};
use crate::ui::{out, report, time};

/// The options of `repull schedule list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only schedules whose jobs go to this queue
    #[arg(long, short)]
    queue: Option<QueueName>,
    /// Only schedules of this task
    #[arg(long, short)]
    task: Option<TaskName>,
    /// Only paused schedules
    #[arg(long)]
    paused: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    fn takes(&self, stored: &StoredSchedule) -> bool {
        let schedule = &stored.schedule;
        self.queue
            .as_ref()
            .is_none_or(|queue| *queue == schedule.job.queue)
            && self
                .task
                .as_ref()
                .is_none_or(|task| *task == schedule.job.task)
            && (!self.paused || schedule.paused.is_some())
    }
}

/// Lists.
pub(crate) async fn run(args: ListArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let listing = client.schedules().await?;
    let taken: Vec<&StoredSchedule> = listing
        .schedules
        .iter()
        .filter(|stored| args.takes(stored))
        .collect();
    if args.json {
        let views: Vec<_> = taken.iter().map(|stored| show::view(stored)).collect();
        out::json(&views)?;
    } else if taken.is_empty() {
        report::note("no schedules");
        report::hint("`repull schedule add --help` shows how to add one");
    } else {
        table(&taken).print()?;
    }
    for entry in &listing.unusable {
        report::note(format_args!(
            "error: entry `{}` does not fire: {}",
            entry.key, entry.problem
        ));
    }
    Ok(if listing.unusable.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn table(schedules: &[&StoredSchedule]) -> Table {
    let mut table = Table::new(&["ID", "TASK", "QUEUE", "STATE", "NEXT", "TRIGGER"]);
    for stored in schedules {
        let schedule = &stored.schedule;
        let next = upcoming(schedule, clock::now()).next();
        let state = match (&schedule.paused, &next) {
            (Some(_), _) => "paused",
            (None, Some(_)) => "active",
            (None, None) => "ended",
        };
        table.row([
            schedule.id.as_str().into(),
            schedule.job.task.as_str().into(),
            schedule.job.queue.as_str().into(),
            Cell::painted(state),
            next.map_or("-".to_owned(), |next| time::relative(next.due))
                .into(),
            schedule.trigger.describe().into(),
        ]);
    }
    table
}
