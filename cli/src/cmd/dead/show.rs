//! `repull dead show`.

use std::process::ExitCode;

use clap::Args;
use repull::client::DeadJob;
use repull::connect::ConnectArgs;

use super::pick;
use crate::cmd;
use crate::ui::details::Details;
use crate::ui::{out, time};

/// The options of `repull dead show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The dead job, by id or by sequence as `#N`
    #[arg(value_name = "ID|#N")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows; an id that died several times, each of them.
pub(crate) async fn run(args: ShowArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let mut found = Vec::new();
    for sequence in pick::by_names(&client, &[args.name]).await? {
        found.push(client.dead_job(sequence).await?);
    }
    match (&found[..], args.json) {
        ([dead], true) => out::json(dead)?,
        (many, true) => out::json(many)?,
        (many, false) => {
            for dead in many {
                details(dead).print()?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn details(dead: &DeadJob) -> Details {
    let mut details = Details::default();
    details
        .some("id", dead.id.as_deref())
        .some("task", dead.task.as_deref())
        .some("queue", dead.queue.as_deref())
        .add("died", time::full(dead.died_at))
        .add("reason", dead.reason.as_str())
        .add("attempts", dead.attempts.to_string())
        .add("sequence", format!("#{}", dead.sequence))
        .some("found on", dead.found_on.as_deref());
    match &dead.message {
        Some(message) => cmd::job::add_message(&mut details, message),
        None => {
            details.add("subject", dead.subject.as_str());
        }
    }
    cmd::job::add_errors(&mut details, &dead.errors);
    details
}
