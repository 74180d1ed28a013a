//! `repull bench recovery`: how long work stands still after a fault, and what is lost or runs twice.
//!
//! Workers and schedulers are processes of their own, on a server of the measurement's own, and the
//! fault is SIGKILL. Beside Repull's workers the same fault hits raw loops in the same number of
//! processes; there is nothing to hold a scheduler against.

mod record;
mod scheduler;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use repull::connect::ConnectArgs;
use repull::topology::Layout;

use super::arena::{Arena, ArenaArgs};
use super::report::{Figure, Report};
use super::rounds::Rounds;

/// Options of `repull bench recovery`.
#[derive(Args, Debug, Clone)]
pub(crate) struct RecoveryArgs {
    /// The faults
    #[arg(long, value_delimiter = ',', default_values_t = [Fault::Worker, Fault::Server, Fault::Scheduler])]
    faults: Vec<Fault>,
    /// Worker processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=100))]
    workers: u32,
    /// Slots of each worker
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// How long a job takes
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    work: Duration,
    /// How long a job may go without a sign of life from its worker
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    lease: Duration,
    /// The same for the scheduler that leads
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    scheduler_lease: Duration,
    /// Rounds; the median is what to quote
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The scheduler's program [default: `repull-scheduler` beside this one]
    #[arg(long, value_name = "PATH")]
    scheduler: Option<PathBuf>,
    /// Print the raw numbers of every round as JSON, and no progress
    #[arg(long)]
    json: bool,
}

/// Who is killed.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// One of the workers; the others go on
    Worker,
    /// The server, which starts again at once on the same store
    Server,
    /// The scheduler that leads, another one standing by
    Scheduler,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Server => "server",
            Self::Scheduler => "scheduler",
        })
    }
}

/// Who works the jobs off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Repull,
    Raw,
}

/// The measurement under way.
struct Bench {
    arena: Arena,
    args: RecoveryArgs,
    /// Makes names that were not used before.
    serial: u32,
}

pub(crate) async fn run(args: RecoveryArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.work < args.lease,
        "a job takes {:?}, expected less than the lease of {:?}: the raw loop gives no signs of life",
        args.work,
        args.lease
    );
    let layout = Layout {
        ack_wait: args.lease,
        lease: args.scheduler_lease,
        ..Layout::default()
    };
    // Always a server of its own: it may be killed.
    let arena = Arena::open_with(&ArenaArgs::default(), connect, layout).await?;
    let mut bench = Bench {
        arena,
        args,
        serial: 0,
    };
    let args = bench.args.clone();
    let steps = args.faults.iter().map(|fault| match fault {
        Fault::Scheduler => 1,
        Fault::Worker | Fault::Server => 2,
    });
    let rounds = Rounds::new(args.rounds, 0);
    let progress = rounds.progress(steps.sum(), args.json);
    let mut figures = Figures::default();
    for round in rounds.each() {
        for fault in &args.faults {
            let sides: &[Side] = match fault {
                Fault::Scheduler => &[Side::Repull],
                Fault::Worker | Fault::Server => &[Side::Repull, Side::Raw],
            };
            for side in round.order(sides) {
                progress.begin(format!("{round}: {fault} killed, {side:?}"));
                let measured = match fault {
                    Fault::Worker => bench.worker_killed(side).await?,
                    Fault::Server => bench.server_killed(side).await?,
                    Fault::Scheduler => bench.scheduler_killed().await?,
                };
                progress.done();
                for (name, unit, value) in measured {
                    progress.note(format_args!("{round}, {side:?}: {name} {value:.3} {unit}"));
                    figures.push(side, name, unit, value);
                }
            }
        }
    }
    drop(progress);
    let what = format!(
        "SIGKILL; {} worker processes of {} slots, jobs of {:?}, results on, leases of {:?} (jobs) and {:?} (schedulers), {} rounds",
        args.workers, args.slots, args.work, args.lease, args.scheduler_lease, args.rounds
    );
    let mut report = Report::new(what, &bench.arena.server_version);
    report.figures = figures.all;
    report.print(args.json)
}

/// A figure's name, its unit and its value in one round.
type Measured = Vec<(&'static str, &'static str, f64)>;

/// The figures, in the order in which they first came.
#[derive(Default)]
struct Figures {
    all: Vec<Figure>,
}

impl Figures {
    fn push(&mut self, side: Side, name: &str, unit: &'static str, value: f64) {
        let at = self.all.iter().position(|figure| figure.name == name);
        let at = at.unwrap_or_else(|| {
            self.all.push(Figure::new(name, unit));
            self.all.len() - 1
        });
        if let Some(figure) = self.all.get_mut(at) {
            match side {
                Side::Repull => figure.repull.push(value),
                Side::Raw => figure.raw.push(value),
            }
        }
    }
}

impl Bench {
    fn name(&mut self, what: &str) -> String {
        self.serial += 1;
        format!("{what}-{}", self.serial)
    }
}
