//! `repull bench utilisation`: how busy slots are kept by jobs that take a while.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use repull::connect::ConnectArgs;
use repull::id::QueueName;
use repull_worker::Context;

use super::Common;
use super::arena::Arena;
use super::fleet::{self, Running};
use super::latencies::Percentiles;
use super::raw;
use super::report::{Figure, Report};
use super::work::{Durations, TASK, Tally, Work, WorkArgs, nothing};

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
    #[command(flatten)]
    long: WorkArgs,
}

/// Who works the jobs off.
#[derive(Debug, Clone, Copy)]
enum Side {
    Repull,
    Raw,
}

/// What one side of a round came to.
struct Measured {
    makespan: Duration,
    tally: Arc<Tally>,
}

pub(crate) async fn run(args: UtilisationArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let arena = Arena::open(&args.common.arena, connect).await?;
    let durations = Durations::new(args.work, &args.long);
    let bench = Bench {
        arena,
        durations,
        args,
    };
    let Bench { args, .. } = &bench;
    let what = format!(
        "{} {durations}, {} slots, {} rounds",
        args.jobs, args.slots, args.common.rounds
    );
    let rounds = args.common.rounds();
    let progress = rounds.progress(2, args.common.json);
    let mut makespan = Figure::new("makespan", "s");
    let mut busy = Figure::new("busy slots", "of 1");
    let mut refill = Percentiles::new("free slot to next start", Percentiles::SHORT);
    for round in rounds.each() {
        let mut sides: [Option<Measured>; 2] = [None, None];
        for side in round.order(&[Side::Repull, Side::Raw]) {
            progress.begin(format!("{round}: {side:?}"));
            sides[side as usize] = Some(bench.measure(side, round.number).await?);
            progress.done();
        }
        let [Some(repull), Some(raw)] = sides else {
            continue;
        };
        progress.note(format_args!(
            "{round}: makespan {:?} and {:?} (repull and raw)",
            repull.makespan, raw.makespan
        ));
        if round.counts {
            makespan.push(repull.makespan.as_secs_f64(), raw.makespan.as_secs_f64());
            busy.push(bench.busy(&repull), bench.busy(&raw));
            refill.push(&repull.tally.refills, &raw.tally.refills);
        }
    }
    drop(progress);
    let mut report = Report::new(what, &bench.arena.server_version);
    report.add(makespan);
    report.add(busy);
    refill.into_figures().for_each(|figure| report.add(figure));
    let json = args.common.json;
    bench.arena.close().await;
    report.print(json)
}

struct Bench {
    arena: Arena,
    durations: Durations,
    args: UtilisationArgs,
}

impl Bench {
    /// The share of slot time in which a job ran.
    fn busy(&self, measured: &Measured) -> f64 {
        let slot_time = measured.makespan.as_secs_f64() * f64::from(self.args.slots);
        measured.tally.busy().as_secs_f64() / slot_time
    }

    async fn measure(&self, side: Side, round: u32) -> anyhow::Result<Measured> {
        let queue = self.arena.queue(&format!("{side:?}-{round}")).await?;
        let jobs = Arena::jobs(&queue, self.args.jobs, &self.durations, 0)?;
        self.arena.enqueue(jobs).await?;
        match side {
            Side::Repull => self.repull(&queue).await,
            Side::Raw => self.raw(&queue).await,
        }
    }

    async fn repull(&self, queue: &QueueName) -> anyhow::Result<Measured> {
        let tally = Tally::new()?;
        let noted = tally.clone();
        let builder = self.arena.worker(self.args.slots, false).await?;
        let builder = builder.queue(queue.as_str());
        let worker = builder.task_raw(TASK, move |_: Context, body: bytes::Bytes| {
            let tally = noted.clone();
            async move {
                work(&body, &tally).await;
                nothing()
            }
        });
        let running = [Running::start(worker.build()?)];
        fleet::worked_off(&running, self.args.jobs as u64).await?;
        let makespan = tally.since_first();
        fleet::stop(running.into()).await?;
        Ok(Measured { makespan, tally })
    }

    async fn raw(&self, queue: &QueueName) -> anyhow::Result<Measured> {
        let tally = Tally::new()?;
        let noted = tally.clone();
        let client = self.arena.connect().await?;
        let (queue, slots, count) = (queue.to_string(), self.args.slots, self.args.jobs);
        let consumed = tokio::spawn(async move {
            let work = move |message: async_nats::Message| {
                let tally = noted.clone();
                async move { work(&message.payload, &tally).await }
            };
            raw::consume(&client, &queue, slots, count, false, work).await
        });
        let makespan = consumed.await??;
        Ok(Measured { makespan, tally })
    }
}

/// What the handlers of both sides do.
async fn work(args: &[u8], tally: &Tally) {
    let started = tally.started();
    if let Some(work) = Work::read(args) {
        work.done().await;
    }
    tally.ended(started);
}
