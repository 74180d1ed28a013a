//! `repull bench jobs`: enqueue a backlog, work it off.

use std::time::{Duration, Instant};

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
    let mut server = Figure::new("server time of it", "us a job");
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
            enqueue.push(repull.enqueue, raw.enqueue);
            work_off.push(repull.work_off, raw.work_off);
            if let (Some(repull), Some(raw)) = (repull.server_us, raw.server_us) {
                server.push(repull, raw);
            }
        }
        eprintln!(
            "round {round}: enqueue {:.0} and {:.0}, work off {:.0} and {:.0} jobs/s (repull and raw)",
            repull.enqueue, raw.enqueue, repull.work_off, raw.work_off
        );
    }
    report.figures = vec![enqueue, work_off];
    if !server.repull.is_empty() {
        report.figures.push(server);
    }
    arena.close().await;
    report.print(args.common.json)
}

fn jobs(args: &JobsArgs, queue: &repull::id::QueueName) -> anyhow::Result<Vec<Job>> {
    let payload = bytes::Bytes::from(vec![b'x'; args.payload]);
    (0..args.jobs)
        .map(|_| Arena::job(queue, "noop", &payload))
        .collect()
}

/// What one round came to.
struct Round {
    /// Jobs per second.
    enqueue: f64,
    /// Jobs per second.
    work_off: f64,
    /// The server's processor time while jobs were worked off, in microseconds per job.
    server_us: Option<f64>,
}

impl Round {
    fn new(jobs: usize, enqueued: Duration, worked: Duration, server: Option<Duration>) -> Self {
        let jobs = jobs as f64;
        Self {
            enqueue: jobs / enqueued.as_secs_f64(),
            work_off: jobs / worked.as_secs_f64(),
            server_us: server.map(|time| time.as_secs_f64() * 1e6 / jobs),
        }
    }
}

async fn repull_round(arena: &Arena, args: &JobsArgs, round: u32) -> anyhow::Result<Round> {
    let queue = arena.queue(&format!("repull-{round}")).await?;
    let jobs = jobs(args, &queue)?;
    let started = Instant::now();
    arena.enqueue(jobs).await?;
    let enqueued = started.elapsed();
    let server = arena.server_time();
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
    let server = arena.server_time_since(server);
    running.stop().await?;
    Ok(Round::new(args.jobs, enqueued, worked, server))
}

async fn raw_round(arena: &Arena, args: &JobsArgs, round: u32) -> anyhow::Result<Round> {
    let queue = arena.queue(&format!("raw-{round}")).await?;
    let jobs = jobs(args, &queue)?;
    let started = Instant::now();
    raw::publish(&arena.client, jobs).await?;
    let enqueued = started.elapsed();
    let server = arena.server_time();
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
    let server = arena.server_time_since(server);
    Ok(Round::new(args.jobs, enqueued, consumed, server))
}
