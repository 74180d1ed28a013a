//! A worker of a measurement as a process of its own: this program, started once more.
//!
//! It says on its standard output what it does, a line of JSON each, with the system's clock, which
//! all processes of a machine share. It begins when it is told to on its standard input, drains when
//! that ends, and so never outlives who started it.

mod process;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull_worker::{Context, Worker, WorkerConfig};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub(crate) use process::{Heard, PartProcess};

use super::fleet::{Running, look_pause};
use super::raw;
use super::work::{TASK, Work, nothing};

/// Options of the process.
#[derive(Args, Debug, Clone)]
pub(crate) struct PartArgs {
    /// The queue it serves
    #[arg(long)]
    pub(crate) queue: String,
    /// Its slots
    #[arg(long)]
    pub(crate) slots: u32,
    /// Store an outcome for each job
    #[arg(long)]
    pub(crate) results: bool,
    /// Be the raw loop instead of a worker
    #[arg(long)]
    pub(crate) raw: bool,
    /// Tell of each job instead of rests
    #[arg(long)]
    pub(crate) each: bool,
}

/// What the process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It is connected and waits for the word.
    Ready,
    /// A job starts.
    Started {
        /// Its number.
        job: u64,
        /// Which attempt the worker takes it for; the raw loop counts none.
        attempt: Option<u32>,
        /// When.
        at: Micros,
    },
    /// A job has run to its end.
    Ended {
        /// Its number.
        job: u64,
        /// When.
        at: Micros,
    },
    /// Nothing runs, and all acks are confirmed.
    Rests {
        /// Jobs it has started so far.
        started: u64,
        /// When the first of them started.
        first: Micros,
        /// Since when.
        at: Micros,
    },
}

/// Microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Micros(u64);

impl Micros {
    /// This moment.
    pub(crate) fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX)))
    }

    #[cfg(test)]
    pub(crate) fn at(micros: u64) -> Self {
        Self(micros)
    }

    /// The time from another moment to this one; zero where that is later.
    pub(crate) fn since(self, other: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(other.0))
    }
}

fn say(said: &Said) {
    if let Ok(mut line) = serde_json::to_string(said) {
        line.push('\n');
        // Nobody reads any more: the process is about to end.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
        let _ = std::io::stdout().lock().flush();
    }
}

/// What the process is told.
struct Told {
    /// The word was given; or it never will be.
    begin: CancellationToken,
    /// Nobody is there any more to say anything.
    end: CancellationToken,
}

impl Told {
    /// Listens on a thread of its own, which the end of the process does not wait for.
    fn listen() -> Self {
        let told = Self {
            begin: CancellationToken::new(),
            end: CancellationToken::new(),
        };
        let (begin, end) = (told.begin.clone(), told.end.clone());
        std::thread::spawn(move || {
            for _ in std::io::stdin().lines().map_while(Result::ok) {
                begin.cancel();
            }
            end.cancel();
            begin.cancel();
        });
        told
    }
}

/// Runs the process.
pub(crate) async fn run(args: PartArgs, connect: &ConnectArgs) -> anyhow::Result<()> {
    let client = Client::connect_as(&connect.resolve()?, "repull-bench-worker").await?;
    let told = Told::listen();
    say(&Said::Ready);
    told.begin.cancelled().await;
    match args.raw {
        true => run_raw(args, client, told.end).await,
        false => run_repull(args, client, told.end).await,
    }
}

/// Says what it does about a job, and does it.
async fn run_job(args: &[u8], attempt: Option<u32>) {
    let Some(work) = Work::read(args) else { return };
    let (job, at) = (work.number, Micros::now());
    say(&Said::Started { job, attempt, at });
    work.done().await;
    let at = Micros::now();
    say(&Said::Ended { job, at });
}

/// What a process that reports its rests counts.
#[derive(Debug, Clone, Default)]
struct Counts {
    first: Arc<OnceLock<Micros>>,
    started: Arc<AtomicU64>,
}

impl Counts {
    fn job_starts(&self) {
        self.first.get_or_init(Micros::now);
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whenever all that was started is done; `resting` answers how many that are, where it is so.
    async fn tell_rests(&self, resting: impl Fn() -> Option<u64>) {
        let since = Instant::now();
        let mut told_of = 0;
        loop {
            tokio::time::sleep(look_pause(since)).await;
            if let Some(started) = resting()
                && started > told_of
                && let Some(first) = self.first.get().copied()
            {
                told_of = started;
                let at = Micros::now();
                say(&Said::Rests { started, first, at });
            }
        }
    }
}

async fn run_raw(args: PartArgs, client: Client, end: CancellationToken) -> anyhow::Result<()> {
    let (counts, confirmed) = (Counts::default(), Arc::new(AtomicU64::new(0)));
    let (begun, each) = (counts.clone(), args.each);
    let work = move |message: async_nats::Message| {
        if !each {
            begun.job_starts();
        }
        async move {
            if each {
                run_job(&message.payload, None).await;
            }
        }
    };
    let so_far = confirmed.clone();
    let consumed = tokio::spawn(async move {
        let PartArgs {
            queue,
            slots,
            results,
            ..
        } = args;
        raw::consume_telling(&client, &queue, slots, usize::MAX, results, &so_far, work).await
    });
    let resting = || {
        let started = counts.started.load(Ordering::Relaxed);
        (confirmed.load(Ordering::Relaxed) == started).then_some(started)
    };
    tokio::select! {
        ended = consumed => { ended??; }
        () = counts.tell_rests(resting), if !each => {}
        () = end.cancelled() => {}
    }
    Ok(())
}

async fn run_repull(args: PartArgs, client: Client, end: CancellationToken) -> anyhow::Result<()> {
    let counts = Counts::default();
    let builder = Worker::builder(client)
        .config(WorkerConfig {
            results_default: args.results,
            ..WorkerConfig::default()
        })
        .queue(&args.queue)
        .slots(args.slots);
    let worker = if args.each {
        builder.task_raw(TASK, |context: Context, body: bytes::Bytes| async move {
            run_job(&body, Some(context.attempt())).await;
            nothing()
        })
    } else {
        let begun = counts.clone();
        builder.task_raw(TASK, move |_, _| {
            begun.job_starts();
            std::future::ready(nothing())
        })
    };
    let running = Running::start(worker.build()?);
    let resting = || {
        let stats = running.monitor.read();
        (stats.running == 0 && stats.settling == 0).then_some(stats.started)
    };
    tokio::select! {
        () = counts.tell_rests(resting), if !args.each => {}
        error = running.ended() => return Err(error),
        () = end.cancelled() => {}
    }
    running.stop().await
}
