//! `repull-worker`: a worker whose tasks are programs and URLs.
//!
//! Reads as its stages: options, tasks, signals, connection, worker. Exit codes: 0 after a drain,
//! 1 failed, 2 wrong usage.

mod args;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use repull_worker::{Pages, Shutdown, Worker, chain};
use tracing::{error, info};

use args::Args;

/// Jobs are many small allocations that one thread makes and another frees; and the C library of the
/// static image has an allocator that is slow at just that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the process waits, once the worker has ended, for handlers to notice that they are
/// dropped; one that blocks its thread never does.
const LAST_MOMENT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = repull::telemetry::init(&args.log) {
        return wrong_usage(&error);
    }
    log_panics();
    let config = args.config();
    if let Err(problems) = config.validate() {
        return wrong_usage(&problems.to_string());
    }
    let tasks = match args.tasks() {
        Ok(tasks) => tasks,
        Err(error) => return wrong_usage(&chain(&error)),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("can't listen for signals")?;
        let settings = args.connect.resolve_without_context()?;
        let pages = Pages::serve(config.http).await?;
        let client = tokio::select! {
            client = pages.connect(&settings, &config) => client?,
            () = shutdown.drain.cancelled() => return Ok(()),
        };
        let builder = Worker::builder(client).config(config).pages(pages);
        let builder = match tasks {
            Some(file) => builder.task_file(file),
            None => builder.builtins(),
        };
        let worker = builder.build()?;
        info!(worker = %worker.config().id, slots = worker.config().slots, tasks = ?worker.registry().names(), "starting");
        worker.run(shutdown).await?;
        anyhow::Ok(())
    });
    runtime.shutdown_timeout(LAST_MOMENT);
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    };
    repull::telemetry::finish();
    code
}

fn wrong_usage(problem: &str) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::from(2)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    error!("{}", chain(&**error));
    ExitCode::FAILURE
}

/// A handler's panic belongs into the log like everything else, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a value that is no text");
        let place = panic.location().map(ToString::to_string);
        error!(place, "panicked: {message}");
    }));
}
