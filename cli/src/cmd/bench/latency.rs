//! `repull bench latency`: from enqueueing one job to the start of its handler, on an idle worker.

use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use repull::connect::ConnectArgs;
use repull::id::QueueName;
use repull_worker::{Worker, WorkerConfig};
use tokio::sync::mpsc;

use super::Common;
use super::arena::{Arena, Running, nothing};
use super::raw;
use super::report::{Figure, Report};

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
}

pub(crate) async fn run(args: LatencyArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.common.arena, connect).await?;
    let what = format!(
        "{} single jobs on an idle worker of {} slots, {} rounds",
        args.jobs, args.slots, args.common.rounds
    );
    let mut report = Report::new(what, &arena.server_version);
    let (mut p50, mut p99) = (
        Figure::new("enqueue to start, p50", "us"),
        Figure::new("enqueue to start, p99", "us"),
    );
    for round in 0..args.common.warmup + args.common.rounds {
        let repull = repull_round(&arena, &args, round).await?;
        let raw = raw_round(&arena, &args, round).await?;
        if round >= args.common.warmup {
            p50.push(quantile(&repull, 0.5), quantile(&raw, 0.5));
            p99.push(quantile(&repull, 0.99), quantile(&raw, 0.99));
        }
    }
    report.figures = vec![p50, p99];
    arena.close().await;
    report.print(args.common.json)
}

fn quantile(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64
}

async fn repull_round(
    arena: &Arena,
    args: &LatencyArgs,
    round: u32,
) -> anyhow::Result<Histogram<u64>> {
    let queue = arena.queue(&format!("repull-{round}")).await?;
    let (sender, starts) = mpsc::unbounded_channel();
    let worker = Worker::builder(arena.connect().await?)
        .config(WorkerConfig {
            results_default: false,
            ..WorkerConfig::default()
        })
        .queue(queue.as_str())
        .slots(args.slots)
        .task_raw("noop", move |_, _| {
            let _ = sender.send(Instant::now());
            std::future::ready(Ok(nothing()))
        })
        .build()?;
    let running = Running::start(worker);
    let histogram = one_by_one(arena, args, &queue, starts, false).await?;
    running.stop().await?;
    Ok(histogram)
}

async fn raw_round(
    arena: &Arena,
    args: &LatencyArgs,
    round: u32,
) -> anyhow::Result<Histogram<u64>> {
    let queue = arena.queue(&format!("raw-{round}")).await?;
    let (sender, starts) = mpsc::unbounded_channel();
    let client = arena.connect().await?;
    let (slots, count, name) = (args.slots, args.jobs + 1, queue.to_string());
    let consumer = tokio::spawn(async move {
        let work = move |_| {
            let _ = sender.send(Instant::now());
            std::future::ready(())
        };
        raw::consume(&client, &name, slots, count, false, work).await
    });
    let histogram = one_by_one(arena, args, &queue, starts, true).await?;
    consumer.await??;
    Ok(histogram)
}

/// Enqueues one job after the other and notes when each starts; the first does not count.
async fn one_by_one(
    arena: &Arena,
    args: &LatencyArgs,
    queue: &QueueName,
    mut starts: mpsc::UnboundedReceiver<Instant>,
    raw: bool,
) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3)?;
    let payload = bytes::Bytes::from_static(b"{}");
    for index in 0..=args.jobs {
        let job = Arena::job(queue, "noop", &payload)?;
        let enqueued = Instant::now();
        if raw {
            raw::publish(&arena.client, vec![job]).await?;
        } else {
            arena.client.enqueue(job).await?;
        }
        let started = tokio::time::timeout(Duration::from_secs(30), starts.recv()).await?;
        let started = started.ok_or_else(|| anyhow::anyhow!("the worker ended"))?;
        if index > 0 {
            histogram.record(u64::try_from(started.duration_since(enqueued).as_micros())?)?;
        }
    }
    Ok(histogram)
}
