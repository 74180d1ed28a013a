//! What grows, case by case.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::TryStreamExt;
use repull::job::Job;
use repull::wire::Place;
use repull_scheduler::Scheduler;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::arena::Arena;
use super::super::raw;
use super::super::rounds::Round;
use super::super::work::{Durations, TASK};
use super::Bench;
use super::flow::{self, Flow, Rates, Shape};

/// Bytes of a job's arguments where they are not what grows.
const BYTES: usize = 256;

/// When the retries are due: not while anything is measured.
const RETRY_IN: TimeDelta = TimeDelta::hours(24);

/// A case with what has grown, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    With,
    Without,
}

impl Bench {
    /// The jobs that flow everywhere: one queue, one task.
    fn plain(&self) -> Shape {
        Shape {
            jobs: self.args.jobs,
            queues: 1,
            workers: 1,
            tasks: 1,
            bytes: BYTES,
            slots: self.args.slots,
        }
    }

    pub(super) async fn queues(&mut self, round: Round) -> anyhow::Result<()> {
        let queues = usize::from(self.args.queues);
        let without = Shape {
            workers: Shape::workers_for(queues),
            ..self.plain()
        };
        let with = Shape { queues, ..without };
        let (with_it, without) = self.both(round, with, without).await?;
        let what = format!("over {queues} queues");
        self.rates(&what, "one queue", with_it, without);
        self.beside_raw(&what, with, with_it).await
    }

    pub(super) async fn tasks(&mut self, round: Round) -> anyhow::Result<()> {
        let tasks = usize::from(self.args.tasks);
        let without = self.plain();
        let with = Shape { tasks, ..without };
        let (with, without) = self.both(round, with, without).await?;
        self.rates(&format!("of {tasks} tasks"), "one task", with, without);
        Ok(())
    }

    pub(super) async fn payload(&mut self, round: Round) -> anyhow::Result<()> {
        let bytes = self.args.payload;
        let without = Shape {
            jobs: self.args.jobs.div_ceil(10),
            ..self.plain()
        };
        let with = Shape { bytes, ..without };
        let (with_it, without) = self.both(round, with, without).await?;
        let what = format!("of {bytes} bytes");
        self.rates(&what, "256 bytes", with_it, without);
        self.beside_raw(&what, with, with_it).await
    }

    /// What the server itself makes of the case: the raw loop on it.
    async fn beside_raw(&mut self, what: &str, shape: Shape, rates: Rates) -> anyhow::Result<()> {
        let raw = self.raw(shape).await?;
        let name = format!("work off, {what}, beside raw");
        self.note(name, "jobs/s", rates.work_off, Some(("raw loop", raw)));
        Ok(())
    }

    /// The raw loop's rate of working off: a loop for each queue, the slots shared out among them.
    async fn raw(&mut self, shape: Shape) -> anyhow::Result<f64> {
        let durations = Durations::all(Duration::ZERO);
        let each = shape.jobs / shape.queues;
        let mut queues = Vec::new();
        let mut waiting = Vec::new();
        let name = self.name("raw");
        for number in 0..shape.queues {
            let queue = self.arena.queue(&format!("{name}-{number}")).await?;
            waiting.push(Arena::jobs(&queue, each, &durations, shape.bytes)?.into_iter());
            queues.push(queue);
        }
        // A job of each in turn, as they are enqueued for Repull.
        let jobs = (0..each).flat_map(|_| {
            waiting
                .iter_mut()
                .filter_map(Iterator::next)
                .collect::<Vec<_>>()
        });
        raw::publish(&self.arena.client, jobs.collect()).await?;
        let client = self.arena.connect().await?;
        let slots = (shape.slots / queues.len() as u32).max(1);
        let mut loops = tokio::task::JoinSet::new();
        let started = Instant::now();
        for queue in queues {
            let client = client.clone();
            loops.spawn(async move {
                let work = |_| std::future::ready(());
                raw::consume(&client, queue.as_str(), slots, each, false, work).await
            });
        }
        while let Some(ended) = loops.join_next().await {
            ended??;
        }
        let rate = (each * shape.queues) as f64 / started.elapsed().as_secs_f64();
        flow::forget_queues(&self.arena, &name).await?;
        Ok(rate)
    }

    pub(super) async fn waiting(&mut self) -> anyhow::Result<()> {
        let waiting = self.args.waiting;
        let shape = self.plain();
        let name = self.name("flow");
        let without = flow::through(&self.arena, name, shape).await?;
        let many = Shape {
            jobs: waiting,
            ..shape
        };
        let (name, beside) = (self.name("waiting"), self.name("flow"));
        let before = self.arena.server_usage();
        let flow = Flow::new(&self.arena, name, many).await?;
        let enqueue = flow.enqueue().await?;
        let after = self.arena.server_usage();
        let with = flow::through(&self.arena, beside, shape).await?;
        let work_off = flow.work_off().await?;
        self.rates(
            &format!("beside {waiting} waiting"),
            "none waiting",
            with,
            without,
        );
        let all = Rates { enqueue, work_off };
        self.rates(&format!("{waiting} jobs"), "fewer jobs", all, without);
        if let (Some(before), Some(after)) = (before, after) {
            let each = (after.memory - before.memory) / waiting as f64;
            let name = "server memory of a waiting job".to_owned();
            self.note(name, "bytes", each, None);
        }
        Ok(())
    }

    pub(super) async fn retrying(&mut self) -> anyhow::Result<()> {
        let retrying = self.args.retrying;
        let shape = self.plain();
        let (name, beside) = (self.name("flow"), self.name("flow"));
        let without = flow::through(&self.arena, name, shape).await?;
        self.retry_later(retrying).await?;
        let with = flow::through(&self.arena, beside, shape).await?;
        self.arena.clear(Place::Later).await?;
        self.rates(
            &format!("beside {retrying} retrying"),
            "none retrying",
            with,
            without,
        );
        Ok(())
    }

    /// Stores jobs as a worker stores those that have failed once.
    async fn retry_later(&mut self, jobs: usize) -> anyhow::Result<()> {
        let queue = self.name("retrying").parse()?;
        let run_at = repull::clock::now() + RETRY_IN;
        let job = |number: usize| -> anyhow::Result<Job> {
            let mut job = Arena::job(&queue, TASK, vec![b'x'; BYTES].into())?;
            job.attempts_used = 1;
            // A moment of its own each, as the backoff gives them.
            Ok(job.not_before(run_at + TimeDelta::milliseconds(number as i64)))
        };
        let jobs: Vec<Job> = (0..jobs).map(job).collect::<Result<_, _>>()?;
        let stored = self
            .arena
            .client
            .enqueue_many(futures_util::stream::iter(jobs));
        Box::pin(stored.try_for_each(|_| std::future::ready(Ok(())))).await?;
        Ok(())
    }

    /// Lets jobs flow with what has grown and without, in this round's order.
    async fn both(
        &mut self,
        round: Round,
        with: Shape,
        without: Shape,
    ) -> anyhow::Result<(Rates, Rates)> {
        let mut rates: [Option<Rates>; 2] = [None; 2];
        for side in round.order(&[Side::With, Side::Without]) {
            let shape = match side {
                Side::With => with,
                Side::Without => without,
            };
            let name = self.name("flow");
            rates[side as usize] = Some(flow::through(&self.arena, name, shape).await?);
        }
        match rates {
            [Some(with), Some(without)] => Ok((with, without)),
            _ => anyhow::bail!("a side was not measured"),
        }
    }

    fn rates(&mut self, what: &str, against: &'static str, with: Rates, without: Rates) {
        for (name, with, without) in [
            ("enqueue", with.enqueue, without.enqueue),
            ("work off", with.work_off, without.work_off),
        ] {
            let name = format!("{name}, {what}");
            self.note(name, "jobs/s", with, Some((against, without)));
        }
    }
}

/// A scheduler in this process: the one that knows the jobs that wait for a retry.
pub(super) struct SchedulerTask {
    task: JoinHandle<Result<(), repull_scheduler::Error>>,
    stop: CancellationToken,
}

impl SchedulerTask {
    pub(super) async fn start(arena: &Arena) -> anyhow::Result<Self> {
        let scheduler = Scheduler::builder(arena.connect().await?)
            .layout(arena.topology.layout.clone())
            .build()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(scheduler.run(stop.clone()));
        Ok(Self { task, stop })
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.task.await??)
    }
}
