//! Jobs that are enqueued and worked off, spread over queues and tasks.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use repull::id::QueueName;
use repull::job::Job;
use repull::wire::Place;

use super::super::arena::Arena;
use super::super::fleet::{self, Running};
use super::super::work::{Tally, Work, nothing};

/// How many jobs are made at once; a million are many to hold.
const PART: usize = 50_000;

/// Queues of one worker; the most it may serve are 64.
const QUEUES_PER_WORKER: usize = 50;

/// What flows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) jobs: usize,
    pub(super) queues: usize,
    /// Workers that share the queues and the slots.
    pub(super) workers: usize,
    pub(super) tasks: usize,
    pub(super) bytes: usize,
    /// Slots of all workers together.
    pub(super) slots: u32,
}

impl Shape {
    /// As many workers as that many queues need.
    pub(super) fn workers_for(queues: usize) -> usize {
        queues.div_ceil(QUEUES_PER_WORKER)
    }
}

/// Jobs on their way.
pub(super) struct Flow<'a> {
    arena: &'a Arena,
    shape: Shape,
    /// What all its queues' names begin with.
    name: String,
    queues: Vec<QueueName>,
}

/// Jobs per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) enqueue: f64,
    pub(super) work_off: f64,
}

/// Lets jobs flow, and leaves nothing of them behind.
pub(super) async fn through(arena: &Arena, name: String, shape: Shape) -> anyhow::Result<Rates> {
    let flow = Flow::new(arena, name, shape).await?;
    let enqueue = flow.enqueue().await?;
    let work_off = flow.work_off().await?;
    Ok(Rates { enqueue, work_off })
}

impl<'a> Flow<'a> {
    pub(super) async fn new(arena: &'a Arena, name: String, shape: Shape) -> anyhow::Result<Self> {
        let mut queues = Vec::new();
        for number in 0..shape.queues {
            queues.push(arena.queue(&format!("{name}-{number}")).await?);
        }
        Ok(Self {
            arena,
            shape,
            name,
            queues,
        })
    }

    /// Enqueues all jobs; how many a second.
    pub(super) async fn enqueue(&self) -> anyhow::Result<f64> {
        let mut time = Duration::ZERO;
        for from in (0..self.shape.jobs).step_by(PART) {
            let part = from..self.shape.jobs.min(from + PART);
            let jobs: Vec<Job> = part
                .map(|number| self.job(number))
                .collect::<Result<_, _>>()?;
            let started = Instant::now();
            self.arena.enqueue(jobs).await?;
            time += started.elapsed();
        }
        Ok(self.shape.jobs as f64 / time.as_secs_f64())
    }

    fn job(&self, number: usize) -> anyhow::Result<Job> {
        let queue = &self.queues[number % self.queues.len()];
        let task = task(number % self.shape.tasks);
        let work = Work {
            number: number as u64,
            time: Duration::ZERO,
        };
        Arena::job(queue, &task, work.args(self.shape.bytes))
    }

    /// Works all jobs off; how many a second. Its queues are gone afterwards.
    pub(super) async fn work_off(self) -> anyhow::Result<f64> {
        let Shape {
            jobs,
            workers,
            tasks,
            slots,
            ..
        } = self.shape;
        let tally = Tally::new()?;
        let mut built = Vec::new();
        for number in 0..workers {
            let slots = (slots / u32::try_from(workers)?).max(1);
            let mut builder = self.arena.worker(slots, false).await?;
            // Where there are fewer queues than workers they all serve all.
            let served = self
                .queues
                .iter()
                .enumerate()
                .filter(|(at, _)| self.queues.len() < workers || at % workers == number);
            for (_, queue) in served {
                builder = builder.queue(queue.as_str());
            }
            for number in 0..tasks {
                let tally = tally.clone();
                builder = builder.task_raw(task(number), move |_, _| {
                    tally.has_begun();
                    std::future::ready(nothing())
                });
            }
            built.push(builder.build()?);
        }
        let running: Vec<Running> = built.into_iter().map(Running::start).collect();
        fleet::worked_off(&running, jobs as u64).await?;
        let time = tally.since_first();
        fleet::stop(running).await?;
        forget_queues(self.arena, &self.name).await?;
        Ok(jobs as f64 / time.as_secs_f64())
    }
}

/// Deletes the consumers of the queues `<name>-...`, so that they are no load on what follows.
pub(super) async fn forget_queues(arena: &Arena, name: &str) -> anyhow::Result<()> {
    let stream = Place::Jobs.stream(arena.client.namespace());
    let stream = arena.client.stream_handle(&stream).await?;
    let names: Vec<String> = stream.consumer_names().try_collect().await?;
    let own = format!("{name}-");
    for name in names.iter().filter(|name| name.starts_with(&own)) {
        stream.delete_consumer(name).await?;
    }
    Ok(())
}

fn task(number: usize) -> String {
    format!("bench.{number}")
}
