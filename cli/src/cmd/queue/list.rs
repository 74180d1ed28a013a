//! `repull queue list`.

use std::process::ExitCode;

use clap::Args;
use repull::client::QueueView;
use repull::connect::ConnectArgs;

use crate::cmd;
use crate::ui::table::{Cell, Table};
use crate::ui::{out, report, time};

/// The options of `repull queue list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists.
pub(crate) async fn run(args: ListArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let client = cmd::connect(connect).await?;
    let queues = client.queues().await?;
    if args.json {
        out::json(&queues)?;
    } else if queues.is_empty() {
        report::note("no queues");
        report::hint("a queue is made by its first job, worker or setting");
    } else {
        table(&queues).print()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(queues: &[QueueView]) -> Table {
    let columns = [
        "QUEUE", "READY", "RUNNING", "LATER", "DEAD", "LIMIT", "PULLS", "WORKERS", "SLOTS", "STATE",
    ];
    let mut table = Table::new(&columns).right(&[1, 2, 3, 4, 5, 6, 7, 8]);
    for queue in queues {
        table.row([
            queue.name.as_str().into(),
            queue.ready.to_string().into(),
            queue.running.to_string().into(),
            queue.later.to_string().into(),
            queue.dead.to_string().into(),
            limit(queue).into(),
            queue.waiting_pulls.to_string().into(),
            queue.workers.to_string().into(),
            format!("{}/{}", queue.slots_running, queue.slots).into(),
            state(queue),
        ]);
    }
    table
}

fn limit(queue: &QueueView) -> String {
    queue
        .settings
        .limit
        .map_or_else(|| "-".to_owned(), |limit| limit.to_string())
}

fn state(queue: &QueueView) -> Cell {
    let Some(pause) = &queue.settings.paused else {
        return Cell::painted(if queue.workers == 0 && queue.ready > 0 {
            "no workers"
        } else {
            "active"
        });
    };
    let reason = if pause.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", pause.reason)
    };
    format!(
        "paused {} by {}{reason}",
        time::relative(pause.at),
        pause.by
    )
    .into()
}
