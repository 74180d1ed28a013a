//! `repull bench`: what this machine and these servers give, always beside a raw loop.
//!
//! Each figure is taken twice in the same run on the same server with the same subjects, headers,
//! payloads and slots: once by Repull, once by a bare async-nats loop that does nothing else. Their
//! ratio is what the software costs; the figures alone say more about the machine.

mod arena;
mod fleet;
mod growth;
mod jobs;
mod latencies;
mod latency;
mod pacer;
mod part;
mod progress;
mod raw;
mod recovery;
mod report;
mod rounds;
mod schedules;
mod steady;
mod usage;
mod utilisation;
mod work;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use arena::ArenaArgs;
use rounds::Rounds;

/// The options of `repull bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

/// What is measured.
#[derive(Subcommand, Debug)]
enum What {
    /// Whether jobs flow as fast among many queues, tasks, large bodies, waiting jobs and retries
    Growth(growth::GrowthArgs),
    /// Enqueue many jobs that do nothing, then work them off
    Jobs(jobs::JobsArgs),
    /// Time from enqueueing one job to the start of its handler, on an idle or a loaded worker
    Latency(latency::LatencyArgs),
    /// How long work stands still when a worker, the server or the scheduler is killed
    Recovery(recovery::RecoveryArgs),
    /// How late schedules fire, how fast they catch up, and what a million of them costs
    Schedules(schedules::SchedulesArgs),
    /// Time from a job's moment to the start of its handler, at a rate that is kept up
    Steady(steady::SteadyArgs),
    /// How busy slots are kept by jobs that take a while
    Utilisation(utilisation::UtilisationArgs),
    /// A worker's process of a measurement, started by it
    #[command(hide = true)]
    Part(part::PartArgs),
}

/// Options of every measurement.
#[derive(Args, Debug, Clone)]
struct Common {
    #[command(flatten)]
    arena: ArenaArgs,
    /// Rounds that are counted; the median is what to quote
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Rounds before those that are counted
    #[arg(long, default_value_t = 1)]
    warmup: u32,
    /// Print the raw numbers of every round as JSON, and no progress
    #[arg(long)]
    json: bool,
}

impl Common {
    fn rounds(&self) -> Rounds {
        Rounds::new(self.rounds, self.warmup)
    }
}

/// Runs the measurement.
pub(crate) async fn run(
    args: BenchArgs,
    connect: &repull::connect::ConnectArgs,
) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Growth(args) => Box::pin(growth::run(args, connect)).await?,
        What::Jobs(args) => Box::pin(jobs::run(args, connect)).await?,
        What::Latency(args) => Box::pin(latency::run(args, connect)).await?,
        What::Recovery(args) => Box::pin(recovery::run(args, connect)).await?,
        What::Schedules(args) => Box::pin(schedules::run(args, connect)).await?,
        What::Steady(args) => Box::pin(steady::run(args, connect)).await?,
        What::Utilisation(args) => Box::pin(utilisation::run(args, connect)).await?,
        What::Part(args) => Box::pin(part::run(args, connect)).await?,
    }
    Ok(ExitCode::SUCCESS)
}
