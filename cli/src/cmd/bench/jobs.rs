//! `repull bench jobs`: enqueue a backlog, work it off.
//!
//! Each round enqueues and works off one backlog a side: Repull's, and the raw loop's, which is one
//! process with the slots of all workers. Where outcomes are stored, the raw loop stores them too, and
//! a third side is a raw loop that only acks. Where there are several workers, another side is a single
//! one with the slots of all; where they are processes, one more is as many raw loops in processes.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use repull::connect::ConnectArgs;
use repull::id::QueueName;

use super::Common;
use super::arena::Arena;
use super::fleet::{Fleet, FleetArgs};
use super::raw;
use super::report::{Figure, Report};
use super::work::Durations;

/// Options of `repull bench jobs`.
#[derive(Args, Debug, Clone)]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Jobs of each round
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Bytes of each job's arguments
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Store an outcome for each job
    #[arg(long)]
    results: bool,
    /// Measure one side alone, such as for a profiler
    #[arg(long)]
    only: Option<Only>,
}

/// A side that is measured alone.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    /// Repull
    Repull,
    /// The raw loop
    Raw,
}

/// Who enqueues and works off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The workers as they are asked for.
    Repull,
    /// The raw loop that does the same.
    Raw,
    /// The raw loop that stores no outcomes.
    AcksOnly,
    /// One worker with the slots of all.
    OneWorker,
    /// As many raw loops as there are workers, each a process.
    RawProcesses,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Repull => "repull",
            Self::Raw => "raw",
            Self::AcksOnly => "acks-only",
            Self::OneWorker => "one-worker",
            Self::RawProcesses => "raw-processes",
        }
    }
}

/// The sides of each round.
fn sides(args: &JobsArgs) -> Vec<Side> {
    match args.only {
        Some(Only::Repull) => return vec![Side::Repull],
        Some(Only::Raw) => return vec![Side::Raw],
        None => {}
    }
    let mut sides = vec![Side::Repull, Side::Raw];
    if args.results {
        sides.push(Side::AcksOnly);
    }
    if args.fleet.workers > 1 {
        sides.push(Side::OneWorker);
        if args.fleet.processes {
            sides.push(Side::RawProcesses);
        }
    }
    sides
}

pub(crate) async fn run(args: JobsArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.common.arena, connect).await?;
    let sides = sides(&args);
    let rounds = args.common.rounds();
    let progress = rounds.progress(sides.len(), args.common.json);
    let mut measured: Vec<(Side, Measured)> = Vec::new();
    for round in rounds.each() {
        for side in round.order(&sides) {
            progress.begin(format!("{round}: {}", side.name()));
            let queue = arena
                .queue(&format!("{}-{}", side.name(), round.number))
                .await?;
            let of_round = measure(&arena, &args, side, &queue).await?;
            progress.done();
            progress.note(format_args!("{round}, {}: {of_round}", side.name()));
            if round.counts {
                measured.push((side, of_round));
            }
        }
    }
    drop(progress);
    let mut report = Report::new(what(&args), &arena.server_version);
    figures(&measured, &mut report);
    arena.close().await;
    report.print(args.common.json)
}

fn what(args: &JobsArgs) -> String {
    let results = if args.results { "on" } else { "off" };
    format!(
        "{} jobs of {} bytes that do nothing, {}, results {results}, {} rounds",
        args.jobs, args.payload, args.fleet, args.common.rounds
    )
}

fn figures(measured: &[(Side, Measured)], report: &mut Report) {
    let of = |side: Side, value: fn(&Measured) -> Option<f64>| -> Vec<f64> {
        let of_side = measured.iter().filter(|(found, _)| *found == side);
        of_side.filter_map(|(_, round)| value(round)).collect()
    };
    let enqueue = |round: &Measured| Some(round.enqueue);
    let work_off = |round: &Measured| Some(round.work_off);
    let server_us = |round: &Measured| round.server_us;
    let beside = |figure: Figure, value: fn(&Measured) -> Option<f64>| {
        figure.of(of(Side::Repull, value), of(Side::Raw, value))
    };
    report.add(beside(Figure::new("enqueue many", "jobs/s"), enqueue));
    report.add(beside(Figure::new("work off", "jobs/s"), work_off));
    report.add(beside(
        Figure::new("server time of it", "us a job"),
        server_us,
    ));
    for (name, against, side) in [
        (
            "work off against acks only",
            "raw, acks only",
            Side::AcksOnly,
        ),
        ("work off against one worker", "one worker", Side::OneWorker),
        (
            "work off against raw processes",
            "raw processes",
            Side::RawProcesses,
        ),
    ] {
        let other = of(side, work_off);
        if !other.is_empty() {
            let figure = Figure::new(name, "jobs/s").against(against);
            report.add(figure.of(of(Side::Repull, work_off), other));
        }
    }
}

/// What one side of a round came to.
struct Measured {
    /// Jobs per second.
    enqueue: f64,
    /// Jobs per second.
    work_off: f64,
    /// The server's processor time while jobs were worked off, in microseconds per job.
    server_us: Option<f64>,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            enqueue, work_off, ..
        } = self;
        write!(f, "enqueue {enqueue:.0}, work off {work_off:.0} jobs/s")
    }
}

async fn measure(
    arena: &Arena,
    args: &JobsArgs,
    side: Side,
    queue: &QueueName,
) -> anyhow::Result<Measured> {
    let nothing = Durations::all(Duration::ZERO);
    let jobs = Arena::jobs(queue, args.jobs, &nothing, args.payload)?;
    let started = Instant::now();
    match side {
        Side::Repull | Side::OneWorker => arena.enqueue(jobs).await?,
        Side::Raw | Side::AcksOnly | Side::RawProcesses => {
            raw::publish(&arena.client, jobs).await?
        }
    };
    let enqueued = started.elapsed();
    let server = arena.server_usage();
    let (worked, server) = match side {
        Side::Repull | Side::OneWorker | Side::RawProcesses => {
            let mut fleet = match side {
                Side::RawProcesses => {
                    Fleet::start_processes(arena, args.fleet, queue, args.results, true).await?
                }
                Side::OneWorker => {
                    Fleet::start(arena, args.fleet.as_one(), queue, args.results).await?
                }
                _ => Fleet::start(arena, args.fleet, queue, args.results).await?,
            };
            let worked = fleet.worked_off(args.jobs).await?;
            let server = arena.server_time_since(server);
            fleet.stop().await?;
            (worked, server)
        }
        Side::Raw | Side::AcksOnly => {
            let results = args.results && side == Side::Raw;
            let worked = consume(arena, args, queue, results).await?;
            (worked, arena.server_time_since(server))
        }
    };
    let jobs = args.jobs as f64;
    Ok(Measured {
        enqueue: jobs / enqueued.as_secs_f64(),
        work_off: jobs / worked.as_secs_f64(),
        server_us: server.map(|time| time.as_secs_f64() * 1e6 / jobs),
    })
}

async fn consume(
    arena: &Arena,
    args: &JobsArgs,
    queue: &QueueName,
    results: bool,
) -> anyhow::Result<Duration> {
    let client = arena.connect().await?;
    let (queue, slots, jobs) = (queue.to_string(), args.fleet.slots_of_all(), args.jobs);
    // On a thread of the runtime, as Repull's loop is.
    let consumed = tokio::spawn(async move {
        let work = |_| std::future::ready(());
        raw::consume(&client, &queue, slots, jobs, results, work).await
    });
    consumed.await?
}
