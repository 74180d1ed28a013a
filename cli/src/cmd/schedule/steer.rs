//! `repull schedule pause|resume|trigger|delete`.

use std::process::ExitCode;

use clap::Args;
use repull::client::StoredSchedule;
use repull::connect::ConnectArgs;
use repull::id::ScheduleId;

use crate::cmd;
use crate::ui::{out, report, time};

/// The options of `repull schedule pause`.
#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    /// The schedule
    id: ScheduleId,
    /// Why, for whoever finds it paused
    #[arg(long, default_value = "")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The options of a verb on one schedule.
#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    /// The schedule
    id: ScheduleId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The options of `repull schedule delete`.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// The schedules
    #[arg(required = true, value_name = "ID")]
    ids: Vec<ScheduleId>,
}

/// Pauses.
pub(crate) async fn pause(args: PauseArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let stored = client
        .pause_schedule(&args.id, &cmd::operator(), &args.reason)
        .await?;
    tell(
        &stored,
        args.json,
        &format!("schedule `{}` is paused", args.id),
    )
}

/// Resumes.
pub(crate) async fn resume(args: OneArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let stored = client.resume_schedule(&args.id).await?;
    let next = super::next::upcoming(&stored.schedule, repull::clock::now()).next();
    let next = next.map_or("no fire is left".to_owned(), |next| {
        format!("it fires {}", time::relative(next.due))
    });
    tell(
        &stored,
        args.json,
        &format!("schedule `{}` is active; {next}", args.id),
    )
}

fn tell(stored: &StoredSchedule, json: bool, words: &str) -> anyhow::Result<ExitCode> {
    if json {
        out::json(&super::show::view(stored))?;
    } else {
        report::note(words);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the job now.
pub(crate) async fn trigger(args: OneArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let enqueued = client.trigger_schedule(&args.id).await?;
    let id = &enqueued.address.id;
    if args.json {
        out::json(&serde_json::json!({ "id": id, "is_new": enqueued.is_new }))?;
    } else {
        out::line(id.as_str())?;
    }
    if !enqueued.is_new {
        return Err(report::hinted(
            anyhow::anyhow!("the previous run of schedule `{}` has not ended", args.id),
            format!("`repull job show {id}` says where it is"),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Deletes.
pub(crate) async fn delete(args: DeleteArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    for id in &args.ids {
        client.delete_schedule(id).await?;
        report::note(format_args!(
            "schedule `{id}` is deleted; its jobs go their way"
        ));
    }
    Ok(ExitCode::SUCCESS)
}
