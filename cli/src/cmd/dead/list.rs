//! `repull dead list`.

use std::process::ExitCode;

use clap::Args;
use repull::client::DeadJob;
use repull::connect::ConnectArgs;

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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists.
pub(crate) async fn run(args: ListArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let found = client.dead_jobs(&args.filter.filter(), args.limit).await?;
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
