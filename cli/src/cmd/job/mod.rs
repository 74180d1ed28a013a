//! `repull job`: one job, or many.

mod cancel;
mod line;
mod lines;
mod list;
mod show;
mod submit;
mod unique;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;
use repull::connect::ConnectArgs;

pub(crate) use list::limit;
pub(crate) use show::{add_errors, add_message};

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum JobCommand {
    /// Enqueue a job, or many from JSON Lines
    #[command(visible_alias = "add")]
    Submit(Box<submit::SubmitArgs>),
    /// List jobs: queued, running and later ones unless a state is given
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show all that is known of a job
    Show(show::ShowArgs),
    /// Wait until jobs have ended and print their values
    Wait(wait::WaitArgs),
    /// Cancel jobs, waiting or running
    Cancel(cancel::CancelArgs),
}

/// Runs one verb.
pub(crate) async fn run(command: JobCommand, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    match command {
        JobCommand::Submit(args) => submit::run(*args, connect).await,
        JobCommand::List(args) => list::run(args, connect).await,
        JobCommand::Show(args) => show::run(args, connect).await,
        JobCommand::Wait(args) => wait::run(args, connect).await,
        JobCommand::Cancel(args) => cancel::run(args, connect).await,
    }
}
