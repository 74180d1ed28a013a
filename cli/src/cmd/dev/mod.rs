//! `repull dev`: a server, a scheduler and a worker in one process, and a demo of what they do.
//!
//! [`stack`] is the server, the connection and the scheduler; [`hand`] a worker on it; [`welcome`]
//! what is said when they run; [`demo`] a load that is worked off and accounted for.

mod demo;
mod hand;
mod log;
mod stack;
mod welcome;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use repull::id::Namespace;
use repull_worker::Shutdown;
use repull_worker::config::{SLOTS_MAX, ServedQueue};
use repull_worker::tasks::TaskFile;

use crate::nats_server::{self, DataFolder};
use crate::ui::report::{note, usage};

use hand::Hand;
use stack::Stack;

/// Where data is kept unless said otherwise.
const DATA_DEFAULT: &str = "repull-data";

/// The options of `repull dev`.
#[derive(Args, Debug)]
#[command(after_help = "\
The server listens on loopback alone, without credentials: for trying things out on one machine.
It is the first that is new enough of: the one REPULL_NATS_SERVER names, the one in the project's
.tools folder, the one on PATH; `tools/nats-server` gets one.")]
pub(crate) struct DevArgs {
    /// Folder that keeps all data for the next start [default: repull-data; for the demo a temporary one]
    #[arg(long, env = "REPULL_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Port of the server [default: 4222, or a free one where that is taken]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Jobs that the worker runs at once
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    slots: u32,
    /// Queue that the worker serves, as `name` or `name=weight`; may be repeated [default: default]
    #[arg(long, value_name = "QUEUE", conflicts_with = "demo")]
    queue: Vec<ServedQueue>,
    /// File with tasks of your own (TOML), as repull-worker takes it [default: the built-in tasks]
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    config: Option<PathBuf>,
    /// Work off a load of jobs that hash and count the files of a folder, and account for each of them
    #[arg(long, value_name = "FOLDER", num_args = 0..=1)]
    demo: Option<Option<PathBuf>>,
    /// Jobs of the demo's load
    #[arg(long, default_value_t = demo::JOBS_DEFAULT, value_name = "N", requires = "demo", value_parser = clap::value_parser!(u32).range(demo::JOBS_MIN..=demo::JOBS_MAX))]
    jobs: u32,
    /// Leave everything running when the demo has ended
    #[arg(long, requires = "demo")]
    keep: bool,
}

/// Runs until it is interrupted, or until the demo has ended.
pub(crate) async fn run(
    args: DevArgs,
    namespace: &Namespace,
    verbose: u8,
) -> anyhow::Result<ExitCode> {
    let quiet = match args.demo {
        None => log::ATTENTION,
        Some(_) => log::ATTENTION_TO_FAULTS,
    };
    log::init(quiet, verbose)?;
    let signals = Shutdown::on_signals()?;
    match &args.demo {
        None => dev(&args, namespace, &signals).await,
        Some(folder) => demo::run(&args, folder.as_deref(), namespace, &signals).await,
    }
}

/// The server, the scheduler and one worker, until a signal comes or one of them fails.
async fn dev(
    args: &DevArgs,
    namespace: &Namespace,
    signals: &Shutdown,
) -> anyhow::Result<ExitCode> {
    let tasks = args.config.as_deref().map(TaskFile::read).transpose();
    let tasks = tasks.map_err(|error| usage(repull_worker::chain(&error)))?;
    let program = nats_server::find().await?;
    let path = args.data.as_deref().unwrap_or(Path::new(DATA_DEFAULT));
    let folder = DataFolder::open(path).await?;
    let started = Stack::start(program, folder, args.port, namespace, signals);
    let Some(mut stack) = started.await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let served = async {
        let worker = worker(&mut stack, args, tasks).await?;
        welcome::print(&stack, args)?;
        serve(&mut stack, Hand::start(worker), signals).await
    }
    .await;
    let stopped = stack.stop().await;
    served.and(stopped)?;
    note("ended; the data stays for the next start");
    Ok(ExitCode::SUCCESS)
}

async fn worker(
    stack: &mut Stack,
    args: &DevArgs,
    tasks: Option<TaskFile>,
) -> anyhow::Result<repull_worker::Worker> {
    let client = stack.connect("repull dev: worker").await?;
    let mut builder = repull_worker::Worker::builder(client).slots(args.slots);
    for queue in &args.queue {
        builder = builder.queue(queue.to_string());
    }
    let builder = match tasks {
        Some(tasks) => builder.task_file(tasks),
        None => builder.builtins(),
    };
    let built = builder.build();
    built.map_err(|problems| usage(problems.to_string()))
}

/// Lets a worker work until a signal comes, and ends it.
async fn serve(stack: &mut Stack, mut hand: Hand, signals: &Shutdown) -> anyhow::Result<()> {
    let served = until_signal(stack, &mut hand, signals).await;
    if served.is_err() {
        // Something that it needs is gone: nothing is worth waiting for.
        hand.abandon().await;
        return served;
    }
    finish(&mut hand, signals).await
}

/// Waits for a signal. Anything else that ends the wait is a failure.
async fn until_signal(
    stack: &mut Stack,
    hand: &mut Hand,
    signals: &Shutdown,
) -> anyhow::Result<()> {
    tokio::select! {
        () = signals.drain.cancelled() => Ok(()),
        error = stack.failed() => Err(error),
        ended = hand.ended() => {
            ended?;
            anyhow::bail!("the worker ended by itself")
        }
    }
}

/// Drains the worker, and says so where that takes a while.
async fn finish(hand: &mut Hand, signals: &Shutdown) -> anyhow::Result<()> {
    let running = hand.monitor().read().running;
    if running > 0 {
        note(format_args!(
            "ending: {running} running jobs may finish first; once more to hand them back at once"
        ));
    }
    hand.finish(signals).await
}
