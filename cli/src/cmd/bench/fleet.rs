//! The workers of a measurement: in this process, or as processes of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use repull::id::QueueName;
use repull_worker::{Shutdown, SlotMonitor, SlotStats, Worker};
use tokio::sync::mpsc;

use super::arena::Arena;
use super::part::{Heard, Micros, PartArgs, PartProcess, Said};
use super::work::{TASK, Tally, nothing};

/// How long to wait before looking again at workers that have been at it since then: short beside what
/// is measured, and seldom enough to take nothing from it.
pub(crate) fn look_pause(since: Instant) -> Duration {
    let part = since.elapsed() / 256;
    part.clamp(Duration::from_micros(500), Duration::from_millis(10))
}

/// How often processes that say nothing are looked at.
const LOOK_AT_PROCESSES_EVERY: Duration = Duration::from_millis(200);

/// How many workers there are.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct FleetArgs {
    /// Workers on the queue, each over a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) workers: u32,
    /// Slots of each worker
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slots: u32,
    /// Run each worker as a process of its own
    #[arg(long)]
    pub(crate) processes: bool,
}

impl FleetArgs {
    /// Slots of all workers.
    pub(crate) fn slots_of_all(self) -> u32 {
        self.workers.saturating_mul(self.slots)
    }

    /// One worker in this process with the slots of all.
    pub(crate) fn as_one(self) -> Self {
        Self {
            workers: 1,
            slots: self.slots_of_all(),
            processes: false,
        }
    }
}

impl std::fmt::Display for FleetArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            workers,
            slots,
            processes,
        } = *self;
        match (workers, processes) {
            (1, false) => write!(f, "{slots} slots"),
            (_, false) => write!(f, "{workers} workers of {slots} slots"),
            (_, true) => write!(f, "{workers} worker processes of {slots} slots"),
        }
    }
}

/// A worker in this process.
pub(crate) struct Running {
    pub(crate) monitor: SlotMonitor,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<Result<(), repull_worker::Error>>,
}

impl Running {
    pub(crate) fn start(worker: Worker) -> Self {
        let (monitor, shutdown) = (worker.monitor(), Shutdown::new());
        let task = tokio::spawn(worker.run(shutdown.clone()));
        Self {
            monitor,
            shutdown,
            task,
        }
    }

    /// Waits until it ends by itself, and says why.
    pub(crate) async fn ended(&self) -> anyhow::Error {
        while !self.task.is_finished() {
            tokio::time::sleep(LOOK_AT_PROCESSES_EVERY).await;
        }
        anyhow::anyhow!("the worker ended in the middle of the measurement")
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.drain();
        Ok(self.task.await??)
    }
}

/// Waits until `jobs` jobs have been run by these workers and every ack is confirmed.
pub(crate) async fn worked_off(workers: &[Running], jobs: u64) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        // Once all are started none starts any more, so one look at each is enough.
        let stats: Vec<SlotStats> = workers.iter().map(|it| it.monitor.read()).collect();
        if stats.iter().map(|it| it.started).sum::<u64>() >= jobs
            && stats.iter().all(|it| it.running == 0 && it.settling == 0)
        {
            return Ok(());
        }
        anyhow::ensure!(
            !workers.iter().any(|worker| worker.task.is_finished()),
            "a worker ended in the middle of the measurement"
        );
        tokio::time::sleep(look_pause(since)).await;
    }
}

/// Ends them all.
pub(crate) async fn stop(workers: Vec<Running>) -> anyhow::Result<()> {
    // All at once: a drain waits for what runs.
    workers.iter().for_each(|worker| worker.shutdown.drain());
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

/// The workers that work a backlog of jobs off that do nothing.
pub(crate) enum Fleet {
    Here {
        workers: Vec<Running>,
        tally: Arc<Tally>,
    },
    Processes {
        processes: Vec<PartProcess>,
        heard: mpsc::UnboundedReceiver<Heard>,
    },
}

impl Fleet {
    pub(crate) async fn start(
        arena: &Arena,
        args: FleetArgs,
        queue: &QueueName,
        results: bool,
    ) -> anyhow::Result<Self> {
        if args.processes {
            return Self::start_processes(arena, args, queue, results, false).await;
        }
        let tally = Tally::new()?;
        let mut workers = Vec::new();
        for _ in 0..args.workers {
            let tally = tally.clone();
            let builder = arena.worker(args.slots, results).await?;
            let builder = builder.queue(queue.as_str()).task_raw(TASK, move |_, _| {
                tally.has_begun();
                std::future::ready(nothing())
            });
            workers.push(builder.build()?);
        }
        let workers = workers.into_iter().map(Running::start).collect();
        Ok(Self::Here { workers, tally })
    }

    /// Processes of Repull's workers, or of the raw loop.
    pub(crate) async fn start_processes(
        arena: &Arena,
        args: FleetArgs,
        queue: &QueueName,
        results: bool,
        raw: bool,
    ) -> anyhow::Result<Self> {
        let part = PartArgs {
            queue: queue.to_string(),
            slots: args.slots,
            results,
            raw,
            each: false,
        };
        let (sender, heard) = mpsc::unbounded_channel();
        let mut processes = Vec::new();
        for number in 0..args.workers as usize {
            let started = PartProcess::start(number, &part, &arena.settings, sender.clone());
            processes.push(started.await?);
        }
        for process in &mut processes {
            process.begin().await?;
        }
        Ok(Self::Processes { processes, heard })
    }

    /// Waits until that many jobs have been run and every ack is confirmed; the time from the first
    /// start to then.
    pub(crate) async fn worked_off(&mut self, jobs: usize) -> anyhow::Result<Duration> {
        match self {
            Self::Here { workers, tally } => {
                worked_off(workers, jobs as u64).await?;
                Ok(tally.since_first())
            }
            Self::Processes { processes, heard } => {
                processes_worked_off(processes, heard, jobs as u64).await
            }
        }
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Here { workers, .. } => stop(workers).await,
            Self::Processes { processes, .. } => {
                for process in processes {
                    process.stop().await?;
                }
                Ok(())
            }
        }
    }
}

/// What a process said of its last rest.
#[derive(Clone, Copy)]
struct Rest {
    started: u64,
    first: Micros,
    at: Micros,
}

async fn processes_worked_off(
    processes: &mut [PartProcess],
    heard: &mut mpsc::UnboundedReceiver<Heard>,
    jobs: u64,
) -> anyhow::Result<Duration> {
    let mut rests: Vec<Option<Rest>> = vec![None; processes.len()];
    loop {
        let of_all = rests.iter().flatten();
        if of_all.clone().map(|rest| rest.started).sum::<u64>() >= jobs {
            let first = of_all.clone().map(|rest| rest.first).min();
            let last = of_all.map(|rest| rest.at).max();
            return Ok(first
                .zip(last)
                .map_or(Duration::ZERO, |(first, last)| last.since(first)));
        }
        match tokio::time::timeout(LOOK_AT_PROCESSES_EVERY, heard.recv()).await {
            Ok(Some(Heard {
                from,
                said: Said::Rests { started, first, at },
            })) => {
                if let Some(rest) = rests.get_mut(from) {
                    *rest = Some(Rest { started, first, at });
                }
            }
            Ok(_) => {}
            Err(_) => {
                for process in &mut *processes {
                    process.check()?;
                }
            }
        }
    }
}
