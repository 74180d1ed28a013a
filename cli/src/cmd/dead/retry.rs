//! `repull dead retry`: back into the queue, from the first attempt.

use std::process::ExitCode;

use clap::Args;
use repull::client::Edit;
use repull::connect::ConnectArgs;
use repull::id::{QueueName, TaskName};

use super::pick::{self, PickArgs};
use crate::cmd;
use crate::ui::{out, read, report};

/// The options of `repull dead retry`.
#[derive(Args, Debug)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    pick: PickArgs,
    /// Other arguments: JSON, `-` for stdin or `@FILE`
    #[arg(long, value_name = "JSON", help_heading = "Changes")]
    args: Option<String>,
    /// Another queue
    #[arg(long, value_name = "QUEUE", help_heading = "Changes")]
    to_queue: Option<QueueName>,
    /// Another task
    #[arg(long, value_name = "TASK", help_heading = "Changes")]
    to_task: Option<TaskName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Retries.
pub(crate) async fn run(args: RetryArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let changed = args
        .args
        .as_deref()
        .map(|args| read::json("arguments", args))
        .transpose()?;
    let edit = Edit {
        args: changed.map(|value| value.to_string().into_bytes().into()),
        queue: args.to_queue,
        task: args.to_task,
    };
    let client = cmd::connect(connect).await?;
    let sequences = args.pick.pick(&client, "retry").await?;
    let results = pick::each(sequences, |sequence| client.retry_dead(sequence, &edit)).await;
    let (mut retried, mut failed) = (Vec::new(), 0);
    for (sequence, result) in results {
        match result {
            Ok(enqueued) if enqueued.is_new => retried.push(enqueued.address),
            Ok(enqueued) => {
                failed += 1;
                report::note(format_args!(
                    "error: #{sequence}: a job `{}` is there already; it stays with the dead",
                    enqueued.address.id
                ));
            }
            Err(error) => {
                failed += 1;
                report::note(format_args!("error: #{sequence}: {error}"));
            }
        }
    }
    if args.json {
        let shown: Vec<_> = retried
            .iter()
            .map(|address| {
                serde_json::json!({
                    "id": address.id, "queue": address.lane.queue, "task": address.task,
                })
            })
            .collect();
        out::json(&shown)?;
    } else {
        for address in &retried {
            out::line(address.id.as_str())?;
        }
        report::note(format_args!("{} retried", retried.len()));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
