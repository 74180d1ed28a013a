//! `repull job cancel`: by id, or all of a queue or task.

use std::process::ExitCode;

use clap::Args;
use repull::client::{Cancelled, Client};
use repull::connect::ConnectArgs;
use repull::id::{JobId, QueueName, TaskName};

use crate::cmd;
use crate::ui::{ask, out, report};

/// The options of `repull job cancel`.
#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// Jobs to cancel
    #[arg(value_name = "ID", required_unless_present_any = ["queue", "task", "all"])]
    ids: Vec<JobId>,
    /// All live jobs of this queue
    #[arg(long, short, conflicts_with = "ids")]
    queue: Option<QueueName>,
    /// All live jobs of this task
    #[arg(long, short, conflicts_with = "ids")]
    task: Option<TaskName>,
    /// All live jobs there are
    #[arg(long, conflicts_with_all = ["ids", "queue", "task"])]
    all: bool,
    /// Why; stored with the outcome
    #[arg(long, default_value = "cancelled by an operator")]
    reason: String,
    /// Do not ask before cancelling many
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Cancels.
pub(crate) async fn run(args: CancelArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let (cancelled, missing) = if args.ids.is_empty() {
        (by_filter(&client, &args).await?, Vec::new())
    } else {
        by_id(&client, &args).await?
    };
    if args.json {
        out::json(&cancelled)?;
    } else {
        for job in &cancelled {
            out::line(job.id.as_str())?;
        }
        let running = cancelled.iter().filter(|job| job.worker.is_some()).count();
        report::note(format_args!(
            "{} cancelled, {running} of them told to stop while running",
            cancelled.len()
        ));
    }
    for id in &missing {
        report::note(format_args!("error: {}", why_not(&client, id).await?));
    }
    Ok(if missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn by_id(client: &Client, args: &CancelArgs) -> anyhow::Result<(Vec<Cancelled>, Vec<JobId>)> {
    let (mut cancelled, mut missing) = (Vec::new(), Vec::new());
    for id in &args.ids {
        let found = client.cancel(id, &args.reason).await?;
        if found.is_empty() {
            missing.push(id.clone());
        }
        cancelled.extend(found);
    }
    Ok((cancelled, missing))
}

async fn by_filter(client: &Client, args: &CancelArgs) -> anyhow::Result<Vec<Cancelled>> {
    let addresses = client
        .live_addresses(args.queue.as_ref(), args.task.as_ref())
        .await?;
    if addresses.is_empty() {
        report::note("no such job is queued, running or later");
        return Ok(Vec::new());
    }
    ask::confirm(
        &format!("cancel {}", out::counted(addresses.len() as u64, "job")),
        args.yes,
    )?;
    let cancelled = client.cancel_all(addresses, &args.reason).await?;
    Ok(cancelled.into_iter().filter(Cancelled::was_there).collect())
}

/// What became of a job that can't be cancelled any more.
async fn why_not(client: &Client, id: &JobId) -> anyhow::Result<String> {
    let found = client.find_jobs(id).await?;
    Ok(match found.first() {
        Some(view) => format!(
            "job `{id}` has ended already: {}",
            super::list::state(&view.summary)
        ),
        None => format!("no job `{id}`"),
    })
}
