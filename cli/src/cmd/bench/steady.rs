//! `repull bench steady`: how soon jobs start that come at a rate.
//!
//! Latency counts from the moment at which a job was due, not from when its submitter got round to it
//! ([`super::pacer`]).

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use repull::connect::ConnectArgs;
use repull::id::QueueName;
use tokio_util::sync::CancellationToken;

use super::Common;
use super::arena::Arena;
use super::fleet::{self, Running};
use super::latencies::{Latencies, Percentiles};
use super::pacer::{Moments, pace};
use super::raw;
use super::report::Report;
use super::work::{Durations, TASK, Work, WorkArgs, nothing};
use crate::ui::report::usage;

/// Options of `repull bench steady`.
#[derive(Args, Debug, Clone)]
pub(crate) struct SteadyArgs {
    #[command(flatten)]
    common: Common,
    /// Jobs a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long the rate is kept up in each round
    #[arg(long = "for", default_value = "10s", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Slots of the worker
    #[arg(long, default_value_t = 256)]
    slots: u32,
    /// Bytes of each job's arguments
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Store an outcome for each job
    #[arg(long)]
    results: bool,
    /// How long a job takes
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    work: Duration,
    #[command(flatten)]
    long: WorkArgs,
}

/// Who submits and works the jobs off.
#[derive(Debug, Clone, Copy)]
enum Side {
    Repull,
    Raw,
}

struct Bench {
    arena: Arena,
    durations: Durations,
    jobs: u64,
    args: SteadyArgs,
}

pub(crate) async fn run(args: SteadyArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let durations = Durations::new(args.work, &args.long);
    let jobs = ((f64::from(args.rate) * args.time.as_secs_f64()) as u64).max(1);
    let busy = durations.sum(jobs).as_secs_f64() / args.time.as_secs_f64();
    if busy >= f64::from(args.slots) {
        return Err(usage(format!(
            "{} {durations} a second keep {busy:.1} slots busy, expected fewer than the {} there are",
            args.rate, args.slots
        )));
    }
    let arena = Arena::open(&args.common.arena, connect).await?;
    let what = format!(
        "{} {durations} a second for {:?}, {} slots, results {}, {} rounds",
        args.rate,
        args.time,
        args.slots,
        if args.results { "on" } else { "off" },
        args.common.rounds
    );
    let bench = Bench {
        arena,
        durations,
        jobs,
        args,
    };
    let rounds = bench.args.common.rounds();
    let progress = rounds.progress(2, bench.args.common.json);
    let mut latency = Percentiles::new("due to start", Percentiles::LONG);
    for round in rounds.each() {
        let mut sides = [Latencies::new()?, Latencies::new()?].map(Arc::new);
        for side in round.order(&[Side::Repull, Side::Raw]) {
            progress.begin(format!("{round}: {side:?}"));
            let queue = bench
                .arena
                .queue(&format!("{side:?}-{}", round.number))
                .await?;
            sides[side as usize] = match side {
                Side::Repull => bench.repull(&queue).await?,
                Side::Raw => bench.raw(&queue).await?,
            };
            progress.done();
        }
        let [repull, raw] = &sides;
        if round.counts {
            latency.push(repull, raw);
        }
    }
    drop(progress);
    let mut report = Report::new(what, &bench.arena.server_version);
    latency.into_figures().for_each(|figure| report.add(figure));
    let json = bench.args.common.json;
    bench.arena.close().await;
    report.print(json)
}

impl Bench {
    async fn repull(&self, queue: &QueueName) -> anyhow::Result<Arc<Latencies>> {
        let latencies = Arc::new(Latencies::new()?);
        let moments = Moments::new(self.args.rate, self.jobs);
        let noted = latencies.clone();
        let builder = self
            .arena
            .worker(self.args.slots, self.args.results)
            .await?;
        let builder = builder.queue(queue.as_str());
        let worker = builder.task_raw(TASK, move |_, body: bytes::Bytes| {
            let latencies = noted.clone();
            async move {
                work(&body, moments, &latencies).await;
                nothing()
            }
        });
        let running = [Running::start(worker.build()?)];
        let client = self.arena.client.clone();
        self.submit(queue, moments, move |job| {
            let client = client.clone();
            async move {
                client.enqueue(job).await?;
                Ok(())
            }
        })
        .await?;
        fleet::worked_off(&running, self.jobs).await?;
        fleet::stop(running.into()).await?;
        Ok(latencies)
    }

    async fn raw(&self, queue: &QueueName) -> anyhow::Result<Arc<Latencies>> {
        let latencies = Arc::new(Latencies::new()?);
        let moments = Moments::new(self.args.rate, self.jobs);
        let noted = latencies.clone();
        let client = self.arena.connect().await?;
        let (name, slots, results) = (queue.to_string(), self.args.slots, self.args.results);
        let count = usize::try_from(self.jobs)?;
        let consumed = tokio::spawn(async move {
            let work = move |message: async_nats::Message| {
                let latencies = noted.clone();
                async move { work(&message.payload, moments, &latencies).await }
            };
            raw::consume(&client, &name, slots, count, results, work).await
        });
        let client = self.arena.client.clone();
        self.submit(queue, moments, move |job| {
            let client = client.clone();
            async move { raw::publish_one(&client, job).await }
        })
        .await?;
        consumed.await??;
        Ok(latencies)
    }

    /// Submits all jobs, each at its moment.
    async fn submit<F, R>(
        &self,
        queue: &QueueName,
        moments: Moments,
        submit: F,
    ) -> anyhow::Result<()>
    where
        F: Fn(repull::job::Job) -> R + Clone + Send + 'static,
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (queue, durations, bytes) = (queue.clone(), self.durations, self.args.payload);
        let sent = pace(moments, CancellationToken::new(), move |number| {
            let job = Arena::job(&queue, TASK, durations.of(number).args(bytes));
            let submit = submit.clone();
            async move { submit(job?).await }
        });
        sent.await?;
        Ok(())
    }
}

/// What the handlers of both sides do.
async fn work(args: &[u8], moments: Moments, latencies: &Latencies) {
    if let Some(work) = Work::read(args) {
        latencies.record(moments.since(work.number));
        work.done().await;
    }
}
