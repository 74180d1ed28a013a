//! `repull bench utilisation`: how busy slots are kept by jobs that take a while.

use std::time::{Duration, Instant};

use clap::Args;
use repull::connect::ConnectArgs;
use repull::id::QueueName;
use repull::job::Job;
use repull_worker::{Context, Worker, WorkerConfig};

use super::Common;
use super::arena::{Arena, Running, nothing};
use super::raw;
use super::report::{Figure, Report};

/// Options of `repull bench utilisation`.
#[derive(Args, Debug, Clone)]
pub(crate) struct UtilisationArgs {
    #[command(flatten)]
    common: Common,
    /// Jobs of each round
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// Slots of the worker
    #[arg(long, default_value_t = 64)]
    slots: u32,
    /// How long a job takes
    #[arg(long, default_value = "10ms", value_parser = humantime::parse_duration)]
    work: Duration,
    /// How long each `--long-every`th job takes
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    long_work: Duration,
    /// Which jobs are long; none by default
    #[arg(long)]
    long_every: Option<usize>,
}

pub(crate) async fn run(args: UtilisationArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.common.arena, connect).await?;
    let long = args.long_every.map_or(String::new(), |every| {
        format!(", each {every}th of {:?}", args.long_work)
    });
    let what = format!(
        "{} jobs of {:?}{long}, {} slots, {} rounds",
        args.jobs, args.work, args.slots, args.common.rounds
    );
    let mut report = Report::new(what, &arena.server_version);
    let mut makespan = Figure::new("makespan", "s");
    let mut busy = Figure::new("busy slots", "of 1");
    for round in 0..args.common.warmup + args.common.rounds {
        let repull = repull_round(&arena, &args, round).await?;
        let raw = raw_round(&arena, &args, round).await?;
        if round >= args.common.warmup {
            makespan.push(repull.0, raw.0);
            busy.push(repull.1, raw.1);
        }
    }
    report.figures = vec![makespan, busy];
    arena.close().await;
    report.print(args.common.json)
}

/// The jobs; how long each takes is its arguments, in milliseconds.
fn jobs(args: &UtilisationArgs, queue: &QueueName) -> anyhow::Result<Vec<Job>> {
    let of = |index: usize| match args.long_every {
        Some(every) if index.is_multiple_of(every) => args.long_work,
        _ => args.work,
    };
    (0..args.jobs)
        .map(|index| Arena::job(queue, "sleep", &of(index).as_micros().to_string().into()))
        .collect()
}

fn work_of(body: &[u8]) -> Duration {
    let micros = std::str::from_utf8(body)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    Duration::from_micros(micros)
}

/// The share of slot time that was work, were each job as long as it says.
fn share(args: &UtilisationArgs, makespan: Duration) -> f64 {
    let long = args
        .long_every
        .map_or(0, |every| args.jobs.div_ceil(every.max(1)));
    let work = args.work * u32::try_from(args.jobs - long).unwrap_or(u32::MAX)
        + args.long_work * u32::try_from(long).unwrap_or(u32::MAX);
    work.as_secs_f64() / (makespan.as_secs_f64() * f64::from(args.slots))
}

async fn repull_round(
    arena: &Arena,
    args: &UtilisationArgs,
    round: u32,
) -> anyhow::Result<(f64, f64)> {
    let queue = arena.queue(&format!("repull-{round}")).await?;
    arena.enqueue(jobs(args, &queue)?).await?;
    let first = std::sync::Arc::new(std::sync::OnceLock::new());
    let worker = Worker::builder(arena.connect().await?)
        .config(WorkerConfig {
            results_default: false,
            ..WorkerConfig::default()
        })
        .queue(queue.as_str())
        .slots(args.slots)
        .task_raw("sleep", {
            let first = first.clone();
            move |_: Context, body: bytes::Bytes| {
                first.get_or_init(Instant::now);
                async move {
                    tokio::time::sleep(work_of(&body)).await;
                    Ok(nothing())
                }
            }
        })
        .build()?;
    let running = Running::start(worker);
    running.worked_off(args.jobs as u64).await?;
    let makespan = first.get().map_or_else(Default::default, Instant::elapsed);
    running.stop().await?;
    Ok((makespan.as_secs_f64(), share(args, makespan)))
}

async fn raw_round(
    arena: &Arena,
    args: &UtilisationArgs,
    round: u32,
) -> anyhow::Result<(f64, f64)> {
    let queue = arena.queue(&format!("raw-{round}")).await?;
    arena.enqueue(jobs(args, &queue)?).await?;
    let client = arena.connect().await?;
    let (slots, count) = (args.slots, args.jobs);
    let consumed = tokio::spawn(async move {
        let work = |message: async_nats::Message| async move {
            tokio::time::sleep(work_of(&message.payload)).await;
        };
        raw::consume(&client, queue.as_str(), slots, count, false, work).await
    });
    let consumed = consumed.await??;
    Ok((consumed.as_secs_f64(), share(args, consumed)))
}
