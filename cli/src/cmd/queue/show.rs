//! `repull queue show`.

use std::process::ExitCode;

use clap::Args;
use repull::client::{LaneView, QueueView};
use repull::connect::ConnectArgs;
use repull::id::QueueName;

use crate::cmd;
use crate::ui::details::Details;
use crate::ui::{out, time};

/// The options of `repull queue show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The queue
    name: QueueName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows.
pub(crate) async fn run(args: ShowArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let queue = client.queue(&args.name).await?;
    if args.json {
        out::json(&queue)?;
    } else {
        details(&queue).print()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn details(queue: &QueueView) -> Details {
    let mut details = Details::default();
    let settings = &queue.settings;
    details
        .add("queue", queue.name.as_str())
        .add("ready", queue.ready.to_string())
        .add("running", queue.running.to_string())
        .add("later", queue.later.to_string())
        .add("dead", queue.dead.to_string())
        .add("workers", queue.workers.to_string())
        .add(
            "slots",
            format!("{} of {} run a job", queue.slots_running, queue.slots),
        );
    match &settings.paused {
        Some(pause) => {
            details.add(
                "paused",
                format!("{} by {}", time::full(pause.at), pause.by),
            );
            details.some(
                "reason",
                Some(&pause.reason)
                    .filter(|reason| !reason.is_empty())
                    .cloned(),
            );
        }
        None => {
            details.add("paused", "no");
        }
    }
    details
        .add(
            "limit",
            settings
                .limit
                .map_or("none".to_owned(), |limit| limit.to_string()),
        )
        .some(
            "max attempts",
            settings.max_attempts.map(|max| max.to_string()),
        )
        .some(
            "backoff",
            settings.backoff.map(|backoff| backoff.to_string()),
        );
    for lane in &queue.lanes {
        add_lane(&mut details, lane);
    }
    details
}

fn add_lane(details: &mut Details, lane: &LaneView) {
    details.section(&format!("lane {}", lane.lane));
    details
        .add("ready", lane.ready.to_string())
        .add("later", lane.later.to_string())
        .add("dead", lane.dead.to_string());
    let Some(consumer) = &lane.consumer else {
        details.add("consumer", "none yet: a worker or a scheduler makes it");
        return;
    };
    details
        .add(
            "running",
            format!(
                "{} of at most {}",
                consumer.ack_pending, consumer.ack_pending_max
            ),
        )
        .add("redelivered", consumer.redelivered.to_string())
        .add(
            "open pulls",
            format!(
                "{} of at most {}",
                consumer.waiting_pulls, consumer.waiting_pulls_max
            ),
        )
        .add("lease", time::brief(consumer.ack_wait))
        .some("leader", consumer.leader.as_deref());
}
