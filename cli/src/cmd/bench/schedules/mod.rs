//! `repull bench schedules`: what schedules and later jobs cost, and how late their fires are.
//!
//! The scheduler is a process of its own among a number of schedules and later jobs whose time is
//! months away. Lateness is the time at which the server stored a fire's job minus the time of the
//! fire, so it counts everything on the way. Rates of catching up are taken from the same stamps, of
//! the scheduler and of a raw pipelined publish of the same messages in the same round.

pub(crate) mod process;
pub(crate) mod store;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::Args;
use repull::connect::ConnectArgs;
use repull::wire::Place;
use rustix::process::Signal;
use serde_json::{Value, json};

use self::process::SchedulerProcess;
use self::store::Stored;
use super::arena::{Arena, ArenaArgs};
use super::report::{Figure, Report};

/// Schedules that catch up.
const CATCHING_UP: usize = 1_000;

/// Their interval.
const CATCH_UP_EVERY: TimeDelta = TimeDelta::milliseconds(50);

/// How long after it was stored a measurement begins, besides what storing takes.
const LEAD: TimeDelta = TimeDelta::seconds(2);

/// How long all fires of a measurement may take to be stored.
const PATIENCE: Duration = Duration::from_secs(300);

/// The lease of its scheduler: longer than it is frozen for, to see it catch up by itself.
const LEASE: Duration = Duration::from_secs(60);

/// Options of `repull bench schedules`.
#[derive(Args, Debug, Clone)]
pub(crate) struct SchedulesArgs {
    #[command(flatten)]
    arena: ArenaArgs,
    /// Schedules that are there, their next fires months away
    #[arg(long, default_value_t = 100_000)]
    schedules: usize,
    /// Later jobs that are there, their time months away
    #[arg(long, default_value_t = 100_000)]
    later: usize,
    /// Steady fires a second, each measured by itself
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 5_000])]
    rates: Vec<usize>,
    /// How long each rate is kept up
    #[arg(long, default_value_t = 10)]
    seconds: usize,
    /// Schedules that are due at the same moment
    #[arg(long, default_value_t = 10_000)]
    burst: usize,
    /// Fires to catch up with, and later jobs that are due at the same moment
    #[arg(long, default_value_t = 50_000)]
    catch_up: usize,
    /// Rounds of each measurement; the median is what to quote
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The scheduler's program [default: `repull-scheduler` beside this one]
    #[arg(long, value_name = "PATH")]
    scheduler: Option<PathBuf>,
    /// Print the raw numbers of every round as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: SchedulesArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.arena, connect).await?;
    let what = format!(
        "{} schedules and {} later jobs, {} rounds; no worker runs",
        args.schedules, args.later, args.rounds
    );
    let mut bench = Bench {
        report: Report::new(what, &arena.server_version),
        known: 0,
        serial: 0,
        arena,
        args,
    };
    bench.measure().await?;
    let Bench {
        arena,
        report,
        args,
        ..
    } = bench;
    arena.close().await;
    report.print(args.json)
}

struct Bench {
    arena: Arena,
    args: SchedulesArgs,
    report: Report,
    /// Schedules that are stored.
    known: usize,
    /// Makes names that were not used before.
    serial: usize,
}

impl Bench {
    async fn measure(&mut self) -> anyhow::Result<()> {
        let mut scheduler = self.start().await?;
        let empty = scheduler.usage();
        self.catch_up(&mut scheduler, "alone").await?;
        scheduler.stop().await?;
        self.fill().await?;
        let mut scheduler = self.starts(empty.map(|usage| usage.memory)).await?;
        self.catch_up(&mut scheduler, "among all").await?;
        for rate in self.args.rates.clone() {
            self.steady(&mut scheduler, rate).await?;
        }
        self.burst(&mut scheduler).await?;
        self.promote().await?;
        let peak = scheduler.usage().map(|usage| usage.memory_peak / 1e6);
        self.figure("memory at most", "MB", peak.into_iter().collect());
        scheduler.stop().await
    }

    fn figure(&mut self, name: impl Into<String>, unit: &'static str, values: Vec<f64>) {
        let mut figure = Figure::new(name, unit);
        figure.repull = values;
        self.report.figures.push(figure);
    }

    async fn start(&self) -> anyhow::Result<SchedulerProcess> {
        let program = self.args.scheduler.clone();
        SchedulerProcess::start(program, &self.arena.settings, LEASE).await
    }

    fn name(&mut self, what: &str) -> String {
        self.serial += 1;
        format!("{what}{}", self.serial)
    }

    /// Stores the schedules and later jobs among which everything else is measured.
    async fn fill(&mut self) -> anyhow::Result<()> {
        let now = repull::clock::now();
        eprintln!(
            "storing {} schedules and {} later jobs",
            self.args.schedules, self.args.later
        );
        let quiet = (0..self.args.schedules).map(|number| store::quiet(number, now));
        self.known += store::put(&self.arena.client, quiet).await?;
        let run_at = now + TimeDelta::days(180);
        // In parts: a million jobs are many to hold at once.
        for from in (0..self.args.later).step_by(100_000) {
            let part = (self.args.later - from).min(100_000);
            let step = TimeDelta::milliseconds(1);
            let run_at = run_at + TimeDelta::milliseconds(from as i64);
            store::put_later(&self.arena.client, "quiet", part, run_at, step).await?;
        }
        Ok(())
    }

    /// Starts a scheduler several times, and leaves the last one running.
    async fn starts(&mut self, empty: Option<f64>) -> anyhow::Result<SchedulerProcess> {
        let (mut ready, mut memory, mut each) = (Vec::new(), Vec::new(), Vec::new());
        let count = self.args.schedules.max(1) as f64;
        loop {
            let mut scheduler = self.start().await?;
            scheduler.knows(self.known).await?;
            ready.push(scheduler.ready_after.as_secs_f64());
            if let (Some(usage), Some(empty)) = (scheduler.usage(), empty) {
                memory.push(usage.memory / 1e6);
                each.push((usage.memory - empty) / count);
            }
            eprintln!("ready after {:?}", scheduler.ready_after);
            if ready.len() >= self.args.rounds as usize {
                self.figure("start until ready", "s", ready);
                self.figure("memory when ready", "MB", memory);
                self.figure("memory per schedule and later job", "bytes", each);
                return Ok(scheduler);
            }
            scheduler.stop().await?;
        }
    }

    /// Stores schedules and waits until the scheduler knows them.
    async fn add(
        &mut self,
        scheduler: &mut SchedulerProcess,
        schedules: &[Value],
    ) -> anyhow::Result<()> {
        self.known += store::put(&self.arena.client, schedules.iter().cloned()).await?;
        scheduler.knows(self.known).await
    }

    /// Waits until that many jobs are stored; reads those of the queue, and empties the work queue.
    async fn stored(&self, queue: &str, jobs: usize) -> anyhow::Result<Vec<Stored>> {
        let waited = tokio::time::timeout(PATIENCE, async {
            // A server that is busy storing may be late to answer.
            while !matches!(self.arena.queued().await, Ok(there) if there >= jobs as u64) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        waited.await.map_err(|_| {
            anyhow::anyhow!(
                "not all of {jobs} jobs of queue `{queue}` were stored within {PATIENCE:?}"
            )
        })?;
        let stored = store::read(&self.arena.client, queue).await?;
        anyhow::ensure!(
            stored.len() == jobs,
            "queue `{queue}` has {} jobs, expected {jobs}",
            stored.len()
        );
        self.arena.clear(Place::Jobs).await?;
        Ok(stored)
    }

    /// A scheduler that was frozen catches up with what it missed.
    async fn catch_up(
        &mut self,
        scheduler: &mut SchedulerProcess,
        name: &str,
    ) -> anyhow::Result<()> {
        let mut rate = Figure::new(format!("catching up, {name}"), "fires/s");
        let mut cost = Vec::new();
        for round in 0..self.args.rounds {
            let repull = self.catch_up_once(scheduler).await?;
            let raw = self.publish_raw().await?;
            eprintln!(
                "round {round}, {name}: {:.0} and {raw:.0} fires/s (repull and raw)",
                repull.0
            );
            rate.push(repull.0, raw);
            cost.extend(repull.1);
        }
        self.report.figures.push(rate);
        self.figure(format!("processor per fire, {name}"), "us", cost);
        Ok(())
    }

    /// Fires per second, and processor time per fire in microseconds.
    async fn catch_up_once(
        &mut self,
        scheduler: &mut SchedulerProcess,
    ) -> anyhow::Result<(f64, Option<f64>)> {
        let queue = self.name("catch-up");
        let times = self.args.catch_up.div_ceil(CATCHING_UP);
        let first = repull::clock::now().trunc_subsecs(0) + LEAD + TimeDelta::seconds(1);
        let schedules = catching_up(&queue, first, times);
        self.add(scheduler, &schedules).await?;
        until(first - CATCH_UP_EVERY).await?;
        scheduler.signal(Signal::STOP)?;
        until(first + CATCH_UP_EVERY * i32::try_from(times)?).await?;
        let before = scheduler.usage();
        scheduler.signal(Signal::CONT)?;
        let fires = times * CATCHING_UP;
        let stored = self.stored(&queue, fires).await?;
        let cpu = before
            .zip(scheduler.usage())
            .map(|(before, after)| after.cpu - before.cpu);
        Ok((
            rate(&stored),
            cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / fires as f64),
        ))
    }

    async fn publish_raw(&mut self) -> anyhow::Result<f64> {
        let queue = self.name("raw");
        let times = self.args.catch_up.div_ceil(CATCHING_UP);
        let first = repull::clock::now().trunc_subsecs(0);
        let schedules = catching_up(&queue, first, times);
        let fires: Vec<DateTime<Utc>> = (0..times)
            .map(|step| first + CATCH_UP_EVERY * i32::try_from(step).unwrap_or(i32::MAX))
            .collect();
        let published = store::publish_raw(&self.arena.client, &schedules, &fires, &queue).await?;
        Ok(rate(&self.stored(&queue, published).await?))
    }

    /// Schedules that fire once a second each, evenly spread over it.
    async fn steady(
        &mut self,
        scheduler: &mut SchedulerProcess,
        rate: usize,
    ) -> anyhow::Result<()> {
        let mut lateness = Lateness::default();
        for _ in 0..self.args.rounds {
            let queue = self.name("steady");
            let seconds = i64::try_from(self.args.seconds)?;
            // Storing them takes a moment too.
            let storing = TimeDelta::milliseconds(i64::try_from(rate)?);
            let first = repull::clock::now().trunc_subsecs(0) + storing + LEAD;
            let schedules: Vec<Value> = (0..rate)
                .map(|number| {
                    let offset = TimeDelta::milliseconds((number * 1_000 / rate) as i64);
                    let every = json!({
                        "every": {"interval": "1s", "anchor": first + offset},
                        "start": first,
                        "end": first + TimeDelta::seconds(seconds) - TimeDelta::milliseconds(1),
                    });
                    store::schedule(
                        &queue,
                        &format!("{queue}x{number}"),
                        every,
                        number,
                        first - LEAD,
                    )
                })
                .collect();
            self.add(scheduler, &schedules).await?;
            anyhow::ensure!(
                repull::clock::now() < first,
                "storing {rate} schedules took too long for this measurement"
            );
            lateness.add(&self.stored(&queue, rate * self.args.seconds).await?);
        }
        lateness.report(self, &format!("{rate} fires/s"));
        Ok(())
    }

    /// Many schedules that are due at the same moment.
    async fn burst(&mut self, scheduler: &mut SchedulerProcess) -> anyhow::Result<()> {
        let mut lateness = Lateness::default();
        for _ in 0..self.args.rounds {
            let queue = self.name("burst");
            let storing = TimeDelta::milliseconds(i64::try_from(self.args.burst)? / 2);
            let now = repull::clock::now().trunc_subsecs(0);
            let at = now + storing + LEAD;
            let schedules: Vec<Value> = (0..self.args.burst)
                .map(|number| {
                    let id = format!("{queue}x{number}");
                    store::schedule(&queue, &id, json!({"at": at}), number, now)
                })
                .collect();
            self.add(scheduler, &schedules).await?;
            anyhow::ensure!(
                repull::clock::now() < at,
                "storing {} schedules took too long for this measurement",
                self.args.burst
            );
            lateness.add(&self.stored(&queue, self.args.burst).await?);
        }
        lateness.report(self, &format!("{} at once", self.args.burst));
        Ok(())
    }

    /// Later jobs that are due at the same moment.
    async fn promote(&mut self) -> anyhow::Result<()> {
        let mut figure = Figure::new("later jobs queued", "jobs/s");
        for _ in 0..self.args.rounds {
            let queue = self.name("later");
            // Stored and in the scheduler's heap by then, even on a slow machine.
            let storing = TimeDelta::milliseconds(i64::try_from(self.args.catch_up)? / 5);
            let at = repull::clock::now() + storing + LEAD;
            let jobs = self.args.catch_up;
            store::put_later(&self.arena.client, &queue, jobs, at, TimeDelta::zero()).await?;
            let repull = rate(&self.stored(&queue, jobs).await?);
            figure.push(repull, self.publish_raw().await?);
        }
        self.report.figures.push(figure);
        Ok(())
    }
}

/// Schedules that fire so many times each, from then on.
fn catching_up(queue: &str, first: DateTime<Utc>, times: usize) -> Vec<Value> {
    let end = first + CATCH_UP_EVERY * i32::try_from(times.saturating_sub(1)).unwrap_or(i32::MAX);
    let trigger = json!({
        "every": {"interval": "50ms", "anchor": first},
        "start": first,
        "end": end,
    });
    (0..CATCHING_UP)
        .map(|number| {
            let id = format!("{queue}x{number}");
            store::schedule(queue, &id, trigger.clone(), number, first - LEAD)
        })
        .collect()
}

async fn until(time: DateTime<Utc>) -> anyhow::Result<()> {
    let wait = (time - repull::clock::now()).to_std();
    let wait = wait.map_err(|_| anyhow::anyhow!("storing took too long for this measurement"))?;
    tokio::time::sleep(wait).await;
    Ok(())
}

/// Jobs a second, from the first to the last that was stored.
fn rate(stored: &[Stored]) -> f64 {
    match stored {
        [first, .., last] => (stored.len() - 1) as f64 / (last.at - first.at).as_seconds_f64(),
        _ => f64::NAN,
    }
}

/// How late fires were stored in each round, in milliseconds.
#[derive(Default)]
struct Lateness {
    p50: Vec<f64>,
    p99: Vec<f64>,
    max: Vec<f64>,
}

impl Lateness {
    fn add(&mut self, stored: &[Stored]) {
        let late = stored.iter().map(|job| {
            let due = DateTime::from_timestamp_millis(job.suffix).unwrap_or(job.at);
            (job.at - due).as_seconds_f64() * 1e3
        });
        let mut late: Vec<f64> = late.collect();
        late.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let index = (late.len() as f64 * quantile) as usize;
            late.get(index.min(late.len().saturating_sub(1))).copied()
        };
        self.p50.extend(at(0.5));
        self.p99.extend(at(0.99));
        self.max.extend(at(1.0));
    }

    fn report(self, bench: &mut Bench, name: &str) {
        bench.figure(format!("late at {name}, p50"), "ms", self.p50);
        bench.figure(format!("late at {name}, p99"), "ms", self.p99);
        bench.figure(format!("late at {name}, most"), "ms", self.max);
    }
}
