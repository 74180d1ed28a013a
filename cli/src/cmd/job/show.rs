//! `repull job show`: all that is known of a job, and what happens to it from now on.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use repull::client::{Client, EventView, JobState, JobView, MessageView};
use repull::connect::ConnectArgs;
use repull::id::JobId;
use repull::job::{AttemptError, Timeout};
use repull::wire::EventKind;

use super::list;
use crate::cmd;
use crate::ui::details::Details;
use crate::ui::{out, report, time};

/// How often a follower looks whether the job still is anywhere.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(5);

/// How much of the arguments is shown.
const ARGS_LINES_MAX: usize = 40;

/// The options of `repull job show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The job
    id: JobId,
    /// Go on with its events as they come, until it has ended
    #[arg(long, short)]
    follow: bool,
    /// Print JSON; with --follow, one event a line after the job
    #[arg(long)]
    json: bool,
}

/// Shows.
pub(crate) async fn run(args: ShowArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let mut views = client.find_jobs(&args.id).await?;
    if views.is_empty() {
        return Err(report::hinted(
            anyhow::anyhow!("no job `{}`", args.id),
            "outcomes are kept for a day, or not at all where the job or its task says so",
        ));
    }
    if views.len() > 1 {
        report::note(format_args!(
            "{} jobs have this id, on different queues or for different tasks; the last is the first below",
            views.len()
        ));
    }
    if args.follow {
        let view = views.swap_remove(0);
        return follow(&client, view, args.json).await;
    }
    if args.json {
        match &views[..] {
            [view] => out::json(view)?,
            views => out::json(views)?,
        }
    } else {
        for view in &views {
            print(view)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(view: &JobView) -> anyhow::Result<()> {
    let job = &view.summary;
    let mut details = Details::default();
    details
        .add("id", job.id.as_str())
        .add("task", job.task.as_str())
        .add("queue", list::lane(job))
        .add("state", list::state(job))
        .some("since", job.since.map(time::full))
        .add("attempt", list::attempt(job))
        .some("runs next", job.run_at.map(time::full))
        .some("worker", job.worker.as_ref().map(|worker| worker.as_str()))
        .some(
            "progress",
            job.progress.map(|done| format!("{:.0} %", done * 100.0)),
        )
        .some("reason", view.reason.as_deref())
        .some("enqueued", job.enqueued_at.map(time::full))
        .some("schedule", job.schedule.as_ref().map(|id| id.as_str()));
    if job.state == JobState::Running && job.worker.is_none() {
        details.add("worker", "delivered; no worker has named it yet");
    }
    if let Some(message) = &view.message {
        add_message(&mut details, message);
    }
    add_errors(&mut details, &view.errors);
    if !view.events.is_empty() {
        details.section("events");
        for event in &view.events {
            details.add(&time::stamp(event.at), describe(event));
        }
    }
    details.print()
}

/// The errors, oldest first.
pub(crate) fn add_errors(details: &mut Details, errors: &[AttemptError]) {
    if errors.is_empty() {
        return;
    }
    details.section("errors");
    for error in errors {
        let text = format!(
            "attempt {} on {}: {}",
            error.attempt, error.worker, error.error
        );
        details.add(&time::stamp(error.at), text);
    }
}

/// The message: how it may be tried, where it lies, what the handler is given.
pub(crate) fn add_message(details: &mut Details, message: &MessageView) {
    let timeout = message.timeout.map(|timeout| match timeout {
        Timeout::Never => "never".to_owned(),
        Timeout::After(after) => time::brief(after),
    });
    details
        .some("fire", message.fire.map(time::stamp))
        .some(
            "backoff",
            message.backoff.map(|backoff| backoff.to_string()),
        )
        .some("timeout", timeout)
        .some("deadline", message.deadline.map(time::full))
        .some("expires", message.expires.map(time::full))
        .some(
            "outcome kept",
            message
                .keep_result
                .map(|kept| if kept { "yes" } else { "no" }),
        )
        .add(
            "message",
            format!("{} in {}", message.sequence, message.stream),
        )
        .add("subject", message.subject.as_str());
    for (name, value) in &message.headers {
        details.add("header", format!("{name}: {value}"));
    }
    let kind = message.content_type.as_deref().unwrap_or("JSON");
    details.add("arguments", format!("{} bytes, {kind}", message.args_bytes));
    let text = match &message.args {
        serde_json::Value::Null => return,
        serde_json::Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    let shown: Vec<&str> = text.lines().take(ARGS_LINES_MAX).collect();
    details.block("", &shown.join("\n"));
    let hidden = text.lines().count() - shown.len();
    if hidden > 0 {
        details.add("", format!("… {hidden} more lines; --json shows all"));
    }
}

/// One event in one line.
fn describe(event: &EventView) -> String {
    let mut text = format!("{} attempt {}", event.event, event.attempt);
    if let Some(progress) = event.progress {
        text.push_str(&format!(" {:.0} %", progress * 100.0));
    }
    if let Some(run_at) = event.run_at {
        text.push_str(&format!(", again {}", time::stamp(run_at)));
    }
    if !event.worker.is_empty() {
        text.push_str(&format!(" on {}", event.worker));
    }
    match &event.value {
        serde_json::Value::Null => {}
        serde_json::Value::String(value) => text.push_str(&format!(": {value}")),
        value => text.push_str(&format!(": {value}")),
    }
    if let Some(reason) = &event.value_dropped {
        text.push_str(&format!(" (value not kept: {reason})"));
    }
    text
}

/// Subscribes first and shows then, so that nothing falls between the two.
async fn follow(client: &Client, view: JobView, json: bool) -> anyhow::Result<ExitCode> {
    let mut events = client.follow_events(&view.address).await?;
    let Some(view) = client.view_job(&view.address).await? else {
        anyhow::bail!("job `{}` is gone", view.summary.id);
    };
    if json {
        out::json_line(&view)?;
    } else {
        print(&view)?;
    }
    if !view.summary.state.is_live() {
        return Ok(exit_code(view.summary.outcome));
    }
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { anyhow::bail!("the connection is closed") };
                // A copy of one that was stored while we looked.
                if view.events.iter().any(|seen| seen.at == event.at && seen.event == event.kind) {
                    continue;
                }
                let shown = EventView::from(&event);
                if json {
                    out::json_line(&shown)?;
                } else {
                    out::line(format!("{}  {}", time::stamp(event.at), describe(&shown)))?;
                }
                if event.kind.is_outcome() {
                    return Ok(exit_code(Some(event.kind)));
                }
            }
            () = tokio::time::sleep(PRESENCE_INTERVAL) => {
                let now = client.view_job(&view.address).await?;
                if now.as_ref().is_none_or(|now| !now.summary.state.is_live()) {
                    let outcome = now.and_then(|now| now.summary.outcome);
                    report::note(match outcome {
                        Some(outcome) => format!("the job has ended: {outcome}"),
                        None => "the job is gone and left no outcome".to_owned(),
                    });
                    return Ok(exit_code(outcome));
                }
            }
        }
    }
}

fn exit_code(outcome: Option<EventKind>) -> ExitCode {
    match outcome {
        Some(EventKind::Succeeded) | None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}
