//! `repull bench latency`: from enqueueing one job to the start of its handler, on a worker that is
//! idle, or that works off others that come at a rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::QueueName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Common;
use super::arena::Arena;
use super::fleet::Running;
use super::latencies::{Latencies, Percentiles};
use super::pacer::{Moments, pace};
use super::raw;
use super::report::Report;
use super::work::{TASK, Work, nothing};

/// The number of the jobs that are measured; those that make the load have others.
const MEASURED: u64 = u64::MAX;

/// How long one job may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of `repull bench latency`.
#[derive(Args, Debug, Clone)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    common: Common,
    /// Jobs of each round, one after the other
    #[arg(long, default_value_t = 1_000)]
    jobs: usize,
    /// Slots of the worker
    #[arg(long, default_value_t = 64)]
    slots: u32,
    /// Other jobs a second on the same worker; none: it is idle
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How long each of the other jobs takes
    #[arg(long, default_value = "1ms", requires = "rate", value_parser = humantime::parse_duration)]
    work: Duration,
}

/// Who submits and starts the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Repull,
    Raw,
}

pub(crate) async fn run(args: LatencyArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.common.arena, connect).await?;
    let load = match args.rate {
        Some(rate) => format!(
            "a worker that gets {rate} jobs of {:?} a second,",
            args.work
        ),
        None => "an idle worker".to_owned(),
    };
    let what = format!(
        "{} single jobs on {load} of {} slots, {} rounds",
        args.jobs, args.slots, args.common.rounds
    );
    let rounds = args.common.rounds();
    let progress = rounds.progress(2, args.common.json);
    let mut latency = Percentiles::new("enqueue to start", Percentiles::LONG);
    for round in rounds.each() {
        let mut sides = [Latencies::new()?, Latencies::new()?];
        for side in round.order(&[Side::Repull, Side::Raw]) {
            progress.begin(format!("{round}: {side:?}"));
            let queue = arena.queue(&format!("{side:?}-{}", round.number)).await?;
            sides[side as usize] = match side {
                Side::Repull => repull(&arena, &args, &queue).await?,
                Side::Raw => raw(&arena, &args, &queue).await?,
            };
            progress.done();
        }
        let [repull, raw] = &sides;
        if round.counts {
            latency.push(repull, raw);
        }
    }
    drop(progress);
    let mut report = Report::new(what, &arena.server_version);
    latency.into_figures().for_each(|figure| report.add(figure));
    arena.close().await;
    report.print(args.common.json)
}

async fn repull(arena: &Arena, args: &LatencyArgs, queue: &QueueName) -> anyhow::Result<Latencies> {
    let (sender, starts) = mpsc::unbounded_channel();
    let builder = arena.worker(args.slots, false).await?.queue(queue.as_str());
    let worker = builder.task_raw(TASK, move |_, body: bytes::Bytes| {
        let sender = sender.clone();
        async move {
            work(&body, &sender).await;
            nothing()
        }
    });
    let running = Running::start(worker.build()?);
    let latencies = measure(arena, args, queue, starts, Side::Repull).await?;
    running.stop().await?;
    Ok(latencies)
}

async fn raw(arena: &Arena, args: &LatencyArgs, queue: &QueueName) -> anyhow::Result<Latencies> {
    let (sender, starts) = mpsc::unbounded_channel();
    let client = arena.connect().await?;
    let (name, slots) = (queue.to_string(), args.slots);
    let consumer = tokio::spawn(async move {
        let work = move |message: async_nats::Message| {
            let sender = sender.clone();
            async move { work(&message.payload, &sender).await }
        };
        raw::consume(&client, &name, slots, usize::MAX, false, work).await
    });
    let latencies = measure(arena, args, queue, starts, Side::Raw).await?;
    // How many jobs the load was is known only now.
    consumer.abort();
    Ok(latencies)
}

/// What the handlers of both sides do.
async fn work(args: &[u8], starts: &mpsc::UnboundedSender<Instant>) {
    match Work::read(args) {
        Some(Work {
            number: MEASURED, ..
        }) => drop(starts.send(Instant::now())),
        Some(work) => work.done().await,
        None => {}
    }
}

/// Measures one job after the other, beside the load where there is one.
async fn measure(
    arena: &Arena,
    args: &LatencyArgs,
    queue: &QueueName,
    starts: mpsc::UnboundedReceiver<Instant>,
    side: Side,
) -> anyhow::Result<Latencies> {
    let Some(rate) = args.rate else {
        return one_by_one(arena, args, queue, starts, side).await;
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // Over a connection of its own: one job shall not wait behind the load in our own writer.
    let client = arena.connect().await?;
    let (queue_of_load, time) = (Arc::new(queue.clone()), args.work);
    let load = tokio::spawn(pace(Moments::new(rate, MEASURED), stopped, move |number| {
        let (client, queue) = (client.clone(), queue_of_load.clone());
        async move {
            let job = Arena::job(&queue, TASK, Work { number, time }.args(0))?;
            submit(&client, job, side).await
        }
    }));
    let latencies = one_by_one(arena, args, queue, starts, side).await;
    stop.cancel();
    load.await??;
    latencies
}

async fn submit(client: &Client, job: repull::job::Job, side: Side) -> anyhow::Result<()> {
    match side {
        Side::Repull => drop(client.enqueue(job).await?),
        Side::Raw => raw::publish_one(client, job).await?,
    }
    Ok(())
}

/// Enqueues one job after the other and notes when each starts; the first does not count.
async fn one_by_one(
    arena: &Arena,
    args: &LatencyArgs,
    queue: &QueueName,
    mut starts: mpsc::UnboundedReceiver<Instant>,
    side: Side,
) -> anyhow::Result<Latencies> {
    let latencies = Latencies::new()?;
    let measured = Work {
        number: MEASURED,
        time: Duration::ZERO,
    };
    for index in 0..=args.jobs {
        let job = Arena::job(queue, TASK, measured.args(0))?;
        let enqueued = Instant::now();
        submit(&arena.client, job, side).await?;
        let started = tokio::time::timeout(PATIENCE, starts.recv());
        let started = started
            .await
            .with_context(|| format!("a job did not start within {PATIENCE:?}"))?
            .context("the worker ended")?;
        if index > 0 {
            latencies.record(started.saturating_duration_since(enqueued));
        }
    }
    Ok(latencies)
}
