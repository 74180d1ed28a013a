//! `repull bench growth`: whether jobs flow as fast among many queues, tasks, large bodies, waiting
//! jobs and retries as without them.
//!
//! Each round lets the same jobs flow twice, with and without what has grown, in an order that changes
//! where both are possible. So these ratios are Repull's to itself; only large bodies, which slow
//! everybody, also stand beside the raw loop.

mod cases;
mod flow;

use clap::{Args, ValueEnum};
use repull::connect::ConnectArgs;

use super::Common;
use super::arena::Arena;
use super::progress::Progress;
use super::report::{Figure, Report};

/// Options of `repull bench growth`.
#[derive(Args, Debug, Clone)]
pub(crate) struct GrowthArgs {
    #[command(flatten)]
    common: Common,
    /// What grows
    #[arg(long, value_delimiter = ',', default_values_t = Grown::ALL)]
    of: Vec<Grown>,
    /// Jobs that flow, on each side of a round
    #[arg(long, default_value_t = 50_000, value_parser = jobs)]
    jobs: usize,
    /// Slots of all workers together
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Queues that the jobs spread over
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    queues: u16,
    /// Tasks that the jobs spread over
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    tasks: u16,
    /// Bytes of large arguments; a tenth of the jobs flows then
    #[arg(long, default_value_t = 64 * 1024)]
    payload: usize,
    /// Jobs that wait on another queue
    #[arg(long, default_value_t = 1_000_000, value_parser = jobs)]
    waiting: usize,
    /// Jobs that wait for a retry
    #[arg(long, default_value_t = 100_000, value_parser = jobs)]
    retrying: usize,
}

/// A number of jobs, at least one.
fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number of at least 1".to_owned()),
        Ok(jobs) => Ok(jobs),
    }
}

/// What grows.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Grown {
    /// Queues that workers serve
    Queues,
    /// Tasks that a worker has handlers for
    Tasks,
    /// The arguments of each job
    Payload,
    /// Jobs that wait on another queue
    Waiting,
    /// Jobs that wait for a retry
    Retrying,
}

impl Grown {
    const ALL: [Self; 5] = [
        Self::Queues,
        Self::Tasks,
        Self::Payload,
        Self::Waiting,
        Self::Retrying,
    ];
}

impl std::fmt::Display for Grown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queues => "queues",
            Self::Tasks => "tasks",
            Self::Payload => "payload",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
        })
    }
}

/// The measurement under way.
struct Bench {
    arena: Arena,
    args: GrowthArgs,
    progress: Progress,
    figures: Vec<Figure>,
    /// Whether this round counts.
    counts: bool,
    /// Makes names that were not used before.
    serial: u32,
}

pub(crate) async fn run(args: GrowthArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.common.arena, connect).await?;
    let rounds = args.common.rounds();
    let mut bench = Bench {
        progress: rounds.progress(args.of.len(), args.common.json),
        arena,
        figures: Vec::new(),
        counts: false,
        serial: 0,
        args,
    };
    let scheduler = match bench.args.of.contains(&Grown::Retrying) {
        true => Some(cases::SchedulerTask::start(&bench.arena).await?),
        false => None,
    };
    for round in rounds.each() {
        bench.counts = round.counts;
        for grown in bench.args.of.clone() {
            bench.progress.begin(format!("{round}: {grown}"));
            match grown {
                Grown::Queues => bench.queues(round).await?,
                Grown::Tasks => bench.tasks(round).await?,
                Grown::Payload => bench.payload(round).await?,
                Grown::Waiting => bench.waiting().await?,
                Grown::Retrying => bench.retrying().await?,
            }
            bench.progress.done();
        }
    }
    if let Some(scheduler) = scheduler {
        scheduler.stop().await?;
    }
    let Bench {
        arena,
        args,
        figures,
        progress,
        ..
    } = bench;
    drop(progress);
    let what = format!(
        "{} jobs of 256 bytes that do nothing, {} slots, with what has grown and without, {} rounds",
        args.jobs, args.slots, args.common.rounds
    );
    let mut report = Report::new(what, &arena.server_version);
    report.figures = figures;
    arena.close().await;
    report.print(args.common.json)
}

impl Bench {
    /// Notes a figure of this round beside what it is held against; none where it stands alone.
    fn note(
        &mut self,
        name: String,
        unit: &'static str,
        with: f64,
        against: Option<(&'static str, f64)>,
    ) {
        let shown = against.map_or(String::new(), |(what, value)| {
            format!(", {what} {value:.0}")
        });
        self.progress
            .note(format_args!("{name}: {with:.0}{shown} {unit}"));
        if !self.counts {
            return;
        }
        let at = self.figures.iter().position(|figure| figure.name == name);
        let at = at.unwrap_or_else(|| {
            let figure = Figure::new(name, unit);
            let what = against.map_or("nothing", |(what, _)| what);
            self.figures.push(figure.against(what));
            self.figures.len() - 1
        });
        if let Some(figure) = self.figures.get_mut(at) {
            figure.repull.push(with);
            figure.raw.extend(against.map(|(_, value)| value));
        }
    }

    fn name(&mut self, what: &str) -> String {
        self.serial += 1;
        format!("{what}-{}", self.serial)
    }
}
