//! `repull bench jobs`: enqueue a backlog, work it off.

use std::time::Instant;

use clap::Args;
use repull::connect::ConnectArgs;
use repull::job::Job;
use repull_worker::{Worker, WorkerConfig};

use super::Common;
use super::arena::{Arena, Running, nothing};
use super::raw;
use super::report::{Figure, Report};

/// Options of `repull bench jobs`.
#[derive(Args, Debug, Clone)]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    common: Common,
    /// Jobs of each round
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Slots of the worker
    #[arg(long, default_value_t = 256)]
    slots: u32,
    /// Bytes of each job's arguments
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Store an outcome for each job
    #[arg(long)]
    results: bool,
}

pub(crate) async fn run(args: JobsArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.common.arena, connect).await?;
    let results = if args.results { "on" } else { "off" };
    let what = format!(
        "{} jobs of {} bytes that do nothing, {} slots, results {results}, {} rounds",
        args.jobs, args.payload, args.slots, args.common.rounds
    );
    let mut report = Report::new(what, &arena.server_version);
    let mut enqueue = Figure::new("enqueue many", "jobs/s");
    let mut work_off = Figure::new("work off", "jobs/s");
    for round in 0..args.common.warmup + args.common.rounds {
        // Who goes first changes from round to round.
        let (repull, raw) = if round % 2 == 0 {
            let repull = repull_round(&arena, &args, round).await?;
            (repull, raw_round(&arena, &args, round).await?)
        } else {
            let raw = raw_round(&arena, &args, round).await?;
            (repull_round(&arena, &args, round).await?, raw)
        };
        if round >= args.common.warmup {
            enqueue.push(repull.0, raw.0);
            work_off.push(repull.1, raw.1);
        }
        eprintln!(
            "round {round}: enqueue {:.0} and {:.0}, work off {:.0} and {:.0} jobs/s (repull and raw)",
            repull.0, raw.0, repull.1, raw.1
        );
    }
    report.figures = vec![enqueue, work_off];
    arena.close().await;
    report.print(args.common.json)
}

fn jobs(args: &JobsArgs, queue: &repull::id::QueueName) -> anyhow::Result<Vec<Job>> {
    let payload = bytes::Bytes::from(vec![b'x'; args.payload]);
    (0..args.jobs)
        .map(|_| Arena::job(queue, "noop", &payload))
        .collect()
}

/// Jobs per second of enqueueing and of working off.
async fn repull_round(arena: &Arena, args: &JobsArgs, round: u32) -> anyhow::Result<(f64, f64)> {
    let queue = arena.queue(&format!("repull-{round}")).await?;
    let jobs = jobs(args, &queue)?;
    let started = Instant::now();
    arena.enqueue(jobs).await?;
    let enqueued = started.elapsed();
    let first = std::sync::Arc::new(std::sync::OnceLock::new());
    let worker = Worker::builder(arena.connect().await?)
        .config(WorkerConfig {
            results_default: args.results,
            ..WorkerConfig::default()
        })
        .queue(queue.as_str())
        .slots(args.slots)
        .task_raw("noop", {
            let first = first.clone();
            move |_, _| {
                first.get_or_init(Instant::now);
                std::future::ready(Ok(nothing()))
            }
        })
        .build()?;
    let running = Running::start(worker);
    running.worked_off(args.jobs as u64).await?;
    let worked = first.get().map_or_else(Default::default, Instant::elapsed);
    running.stop().await?;
    Ok((
        args.jobs as f64 / enqueued.as_secs_f64(),
        args.jobs as f64 / worked.as_secs_f64(),
    ))
}

async fn raw_round(arena: &Arena, args: &JobsArgs, round: u32) -> anyhow::Result<(f64, f64)> {
    let queue = arena.queue(&format!("raw-{round}")).await?;
    let jobs = jobs(args, &queue)?;
    let started = Instant::now();
    raw::publish(&arena.client, jobs).await?;
    let enqueued = started.elapsed();
    let client = arena.connect().await?;
    let consume = raw::consume(
        &client,
        queue.as_str(),
        args.slots,
        args.jobs,
        args.results,
        |_| std::future::ready(()),
    );
    // On a thread of the runtime, as Repull's loop is.
    let consumed = Box::pin(consume).await?;
    Ok((
        args.jobs as f64 / enqueued.as_secs_f64(),
        args.jobs as f64 / consumed.as_secs_f64(),
    ))
}
