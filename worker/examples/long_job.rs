//! A long job: tells how far it is, keeps its state, and stops when its worker drains.
//!
//! Counts primes piece by piece. Midway its worker is told to drain, as a rollout would do: the job
//! notes where it is and ends, goes back to the queue without using up an attempt, and the next
//! worker goes on from there.
//!
//! ```text
//! cargo run -p repull-worker --example long_job
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use futures_util::StreamExt;
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::{JobId, QueueName};
use repull::job::Job;
use repull::wire::EventKind;
use repull_worker::{Context, Shutdown, TaskError, TaskOptions, Worker};
use serde::{Deserialize, Serialize};

/// Counts primes with one worker, and to the end with a second one.
#[derive(Parser)]
struct Args {
    /// Count the primes below this number
    #[arg(default_value_t = 2_000_000)]
    below: u64,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Serialize, Deserialize)]
struct Count {
    below: u64,
}

/// How far a job is; stands for a database that all workers reach.
type Notes = Arc<Mutex<HashMap<JobId, Note>>>;

#[derive(Clone, Copy, Default)]
struct Note {
    next: u64,
    found: u64,
}

const PIECES: u64 = 100;

async fn count(context: Context, count: Count) -> Result<u64, TaskError> {
    let notes = context.state::<Notes>()?;
    let lock = || notes.lock().unwrap_or_else(PoisonError::into_inner);
    let mut note = lock().get(context.id()).copied().unwrap_or_default();
    let piece = count.below.div_ceil(PIECES).max(1);
    while note.next < count.below {
        let (from, to) = (note.next, (note.next + piece).min(count.below));
        // Work that keeps a processor busy belongs on a thread of its own; the other jobs share
        // this one.
        note.found += tokio::task::spawn_blocking(move || primes(from, to)).await?;
        note.next = to;
        lock().insert(context.id().clone(), note);
        context.progress(
            to as f64 / count.below as f64,
            format!("{} primes so far", note.found),
        );
        if context.is_cancelled() {
            return Err(TaskError::retry("interrupted, to go on later"));
        }
    }
    Ok(note.found)
}

fn primes(from: u64, to: u64) -> u64 {
    let is_prime = |n: &u64| {
        *n >= 2
            && (2..)
                .take_while(|d| d * d <= *n)
                .all(|d| !n.is_multiple_of(d))
    };
    (from..to).filter(is_prime).count() as u64
}

fn worker(client: &Client, notes: &Notes) -> anyhow::Result<Worker> {
    let worker = Worker::builder(client.clone())
        .queue("primes")
        .slots(1)
        .drain_timeout(Duration::from_millis(100))
        .state(notes.clone())
        .task_with("primes.count", TaskOptions::new().no_timeout(), count)
        .build()?;
    Ok(worker)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::connect(&args.connect.resolve()?).await?;
    let notes = Notes::default();
    let job = Job::json("primes.count", &Count { below: args.below })?;
    let job = job.on(QueueName::new("primes")?);

    let first = Shutdown::new();
    let running = tokio::spawn(worker(&client, &notes)?.run(first.clone()));
    let enqueued = client.enqueue(job).await?;
    let mut events = client.follow_events(&enqueued.address).await?;
    while let Some(event) = events.next().await {
        let percent = event.progress.unwrap_or_default() * 100.0;
        println!("{}: {percent:.0} %, {}", event.worker, event.text());
        if event.kind.is_outcome() || event.progress >= Some(0.3) {
            break;
        }
    }
    first.drain();
    running.await??;
    println!("the first worker is gone");

    let second = Shutdown::new();
    let running = tokio::spawn(worker(&client, &notes)?.run(second.clone()));
    let outcome = client.wait(&enqueued).await?;
    println!(
        "{} at attempt {}: {}",
        outcome.kind,
        outcome.attempt,
        outcome.text()
    );
    ensure!(outcome.kind == EventKind::Succeeded, "expected success");
    second.drain();
    running.await??;
    Ok(())
}
