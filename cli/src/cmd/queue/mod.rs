//! `repull queue`: how full queues are, and what is set for them.

mod list;
mod set;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use repull::connect::ConnectArgs;
use repull::id::QueueName;

use crate::cmd;
use crate::ui::{out, report};

pub(crate) use set::check_lane;

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum QueueCommand {
    /// List queues with what waits, runs and serves them
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show one queue, lane by lane
    Show(show::ShowArgs),
    /// Stop all workers from starting jobs of a queue
    Pause(PauseArgs),
    /// Let workers start jobs of a queue again
    Resume(ResumeArgs),
    /// Limit how many jobs of a queue run at once over all workers
    Limit(LimitArgs),
    /// Set what holds for jobs of a queue that do not say it themselves
    Set(set::SetArgs),
}

/// The options of `repull queue pause`.
#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    /// The queue
    name: QueueName,
    /// Why, for whoever finds it paused
    #[arg(long, default_value = "")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The options of `repull queue resume`.
#[derive(Args, Debug)]
pub(crate) struct ResumeArgs {
    /// The queue
    name: QueueName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The options of `repull queue limit`.
#[derive(Args, Debug)]
pub(crate) struct LimitArgs {
    /// The queue
    name: QueueName,
    /// Most jobs at once, or `none`
    #[arg(value_name = "N", value_parser = limit)]
    limit: Limit,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(Limit(None)),
        (_, Ok(limit @ 1..)) => Ok(Limit(Some(limit))),
        _ => Err(format!(
            "`{text}` is no limit, expected a whole number of at least 1 or `none`"
        )),
    }
}

/// Runs one verb.
pub(crate) async fn run(command: QueueCommand, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    match command {
        QueueCommand::List(args) => list::run(args, connect).await,
        QueueCommand::Show(args) => show::run(args, connect).await,
        QueueCommand::Pause(args) => pause(args, connect).await,
        QueueCommand::Resume(args) => resume(args, connect).await,
        QueueCommand::Limit(args) => set_limit(args, connect).await,
        QueueCommand::Set(args) => set::run(args, connect).await,
    }
}

async fn pause(args: PauseArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    client
        .pause_queue(&args.name, &cmd::operator(), &args.reason)
        .await?;
    if args.json {
        out::json(&client.queue_settings(&args.name).await?)?;
    } else {
        report::note(format_args!(
            "queue `{}` is paused; running jobs go on to their end",
            args.name
        ));
        report::hint(format_args!(
            "`repull queue resume {}` ends the pause",
            args.name
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn resume(args: ResumeArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let was_paused = client.resume_queue(&args.name).await?;
    if args.json {
        out::json(&client.queue_settings(&args.name).await?)?;
    } else if was_paused {
        report::note(format_args!("queue `{}` is open again", args.name));
    } else {
        report::note(format_args!("queue `{}` was not paused", args.name));
    }
    Ok(ExitCode::SUCCESS)
}

async fn set_limit(args: LimitArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    client.limit_queue(&args.name, args.limit.0).await?;
    if args.json {
        out::json(&client.queue_settings(&args.name).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.limit.0 {
        Some(limit) => report::note(format_args!(
            "queue `{}` runs at most {limit} jobs at once, over all workers",
            args.name
        )),
        None => report::note(format_args!("queue `{}` has no limit", args.name)),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(limit("5").unwrap(), Limit(Some(5)));
        assert_eq!(limit("none").unwrap(), Limit(None));
        assert!(limit("0").unwrap_err().contains("at least 1"));
    }
}
