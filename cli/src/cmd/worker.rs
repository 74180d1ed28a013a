//! `repull worker`: the fleet, by what workers say of themselves.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use repull::beacon::Beacon;
use repull::connect::ConnectArgs;

use crate::cmd;
use crate::ui::table::{Cell, Table};
use crate::ui::{out, report, time};

/// The verbs.
#[derive(Subcommand, Debug)]
pub(crate) enum WorkerCommand {
    /// List live workers
    #[command(visible_alias = "ls")]
    List(ListArgs),
}

/// The options of `repull worker list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Print JSON, with the jobs that run
    #[arg(long)]
    json: bool,
}

/// Runs one verb.
pub(crate) async fn run(command: WorkerCommand, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let WorkerCommand::List(args) = command;
    let client = cmd::connect(connect).await?;
    let workers = client.workers().await?;
    if args.json {
        out::json(&workers)?;
    } else if workers.is_empty() {
        report::note("no live workers");
        report::hint("`repull-worker --queue default` starts one with the built-in tasks");
    } else {
        table(&workers).print()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(workers: &[Beacon]) -> Table {
    let columns = [
        "WORKER", "QUEUES", "SLOTS", "PULLING", "SETTLING", "LAST JOB", "UP", "VERSION", "STATE",
    ];
    let mut table = Table::new(&columns).right(&[2, 3, 4]);
    for worker in workers {
        table.row([
            worker.id.as_str().into(),
            worker.lanes.join(",").into(),
            format!("{}/{}", worker.running, worker.slots).into(),
            worker.promised.to_string().into(),
            worker.settling.to_string().into(),
            worker
                .last_delivery
                .map_or("-".to_owned(), time::relative)
                .into(),
            time::age(worker.started_at).into(),
            worker.version.as_str().into(),
            Cell::painted(state(worker)),
        ]);
    }
    table
}

fn state(worker: &Beacon) -> String {
    match (worker.draining, worker.stuck) {
        (true, _) => "draining".to_owned(),
        (false, 0) => "active".to_owned(),
        (false, stuck) => format!("{stuck} stuck"),
    }
}
