//! `repull schedule`: what fires, and when.

mod add;
mod apply;
mod backfill;
mod diff;
mod file;
mod history;
mod list;
mod next;
mod preview;
mod show;
mod steer;
mod trigger;

use std::process::ExitCode;

use clap::Subcommand;
use repull::connect::ConnectArgs;

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum ScheduleCommand {
    /// Add a schedule
    Add(Box<add::AddArgs>),
    /// Make the stored schedules those of a file (YAML or JSON), showing the difference first
    Apply(apply::ApplyArgs),
    /// List schedules with their next fire
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Explain a schedule, with its next fires or those of a year
    Show(show::ShowArgs),
    /// List the next fires of a schedule
    Next(next::NextArgs),
    /// List the fires of a trigger that is not stored; needs no server
    Preview(preview::PreviewArgs),
    /// Stop a schedule from firing
    Pause(steer::PauseArgs),
    /// Let a schedule fire again, from now on
    Resume(steer::OneArgs),
    /// Run a schedule's job now
    Trigger(steer::OneArgs),
    /// Delete schedules
    Delete(steer::DeleteArgs),
    /// Tell what became of the fires of a schedule
    History(history::HistoryArgs),
    /// Run the fires of a past range
    Backfill(backfill::BackfillArgs),
}

/// Runs one verb.
pub(crate) async fn run(
    command: ScheduleCommand,
    connect: &ConnectArgs,
) -> anyhow::Result<ExitCode> {
    match command {
        ScheduleCommand::Add(args) => add::run(*args, connect).await,
        ScheduleCommand::Apply(args) => apply::run(args, connect).await,
        ScheduleCommand::List(args) => list::run(args, connect).await,
        ScheduleCommand::Show(args) => show::run(args, connect).await,
        ScheduleCommand::Next(args) => next::run(args, connect).await,
        ScheduleCommand::Preview(args) => preview::run(&args),
        ScheduleCommand::Pause(args) => steer::pause(args, connect).await,
        ScheduleCommand::Resume(args) => steer::resume(args, connect).await,
        ScheduleCommand::Trigger(args) => steer::trigger(args, connect).await,
        ScheduleCommand::Delete(args) => steer::delete(args, connect).await,
        ScheduleCommand::History(args) => history::run(args, connect).await,
        ScheduleCommand::Backfill(args) => backfill::run(args, connect).await,
    }
}
