//! `repull dead`: jobs that were given up.

mod delete;
mod list;
mod pick;
mod retry;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use repull::connect::ConnectArgs;

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum DeadCommand {
    /// List dead jobs, the newest first
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show a dead job with its arguments and errors
    Show(show::ShowArgs),
    /// Run dead jobs again from their first attempt
    Retry(retry::RetryArgs),
    /// Throw dead jobs away
    Delete(delete::DeleteArgs),
}

/// Runs one verb.
pub(crate) async fn run(command: DeadCommand, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    match command {
        DeadCommand::List(args) => list::run(args, connect).await,
        DeadCommand::Show(args) => show::run(args, connect).await,
        DeadCommand::Retry(args) => retry::run(args, connect).await,
        DeadCommand::Delete(args) => delete::run(args, connect).await,
    }
}
