//! `repull dead list`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use repull::client::DeadJob;
use repull::connect::ConnectArgs;
use serde::Serialize;

use super::pick::FilterArgs;
use crate::cmd;
use crate::cmd::job::limit;
use crate::ui::table::Table;
use crate::ui::{out, report, time};

/// The options of `repull dead list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, short, default_value_t = 50, value_parser = limit)]
    limit: usize,
    /// Count them by reason, task or queue instead
    #[arg(long, value_name = "WHAT", conflicts_with = "limit")]
    by: Option<By>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What dead jobs are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Reason,
    Task,
    Queue,
}

/// So many dead jobs of one kind.
#[derive(Debug, PartialEq, Serialize)]
struct Group {
    name: String,
    count: u64,
    newest: DateTime<Utc>,
}

/// Lists.
pub(crate) async fn run(args: ListArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let limit = if args.by.is_some() {
        usize::MAX
    } else {
        args.limit
    };
    let found = client.dead_jobs(&args.filter.filter(), limit).await?;
    if let Some(by) = args.by {
        return print_groups(&groups(&found.jobs, by), args.json);
    }
    if args.json {
        out::json(&found.jobs)?;
    } else if found.jobs.is_empty() {
        report::note("no dead jobs");
    } else {
        table(&found.jobs).print()?;
    }
    let shown = found.jobs.len() as u64;
    if found.matching > shown {
        report::note(format_args!(
            "the newest {shown} of {}; --limit shows more",
            found.matching
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The most frequent first.
fn groups(jobs: &[DeadJob], by: By) -> Vec<Group> {
    let mut counts: BTreeMap<&str, (u64, DateTime<Utc>)> = BTreeMap::new();
    for dead in jobs {
        let name = match by {
            By::Reason => Some(dead.reason.as_str()),
            By::Task => dead.task.as_deref(),
            By::Queue => dead.queue.as_deref(),
        };
        let (count, newest) = counts.entry(name.unwrap_or("-")).or_default();
        *count += 1;
        *newest = dead.died_at.max(*newest);
    }
    let mut groups: Vec<Group> = counts
        .into_iter()
        .map(|(name, (count, newest))| Group {
            name: name.to_owned(),
            count,
            newest,
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

fn print_groups(groups: &[Group], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        out::json(groups)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["COUNT", "NEWEST", "WHAT"]).right(&[0]);
    for group in groups {
        table.row([
            group.count.to_string().into(),
            time::relative(group.newest).into(),
            group.name.as_str().into(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn table(jobs: &[DeadJob]) -> Table {
    let columns = ["ID", "SEQ", "QUEUE", "TASK", "ATTEMPTS", "DIED", "REASON"];
    let mut table = Table::new(&columns).right(&[1, 4]);
    for dead in jobs {
        table.row([
            dead.id.as_deref().unwrap_or("-").into(),
            format!("#{}", dead.sequence).into(),
            dead.queue.as_deref().unwrap_or("-").into(),
            dead.task.as_deref().unwrap_or("-").into(),
            dead.attempts.to_string().into(),
            time::relative(dead.died_at).into(),
            reason(dead).into(),
        ]);
    }
    table
}

/// The reason, and the last error where it says more.
fn reason(dead: &DeadJob) -> String {
    match dead.errors.last() {
        Some(error) if !dead.reason.contains(&error.error) => {
            format!("{}: {}", dead.reason, error.error)
        }
        _ => dead.reason.clone(),
    }
}
