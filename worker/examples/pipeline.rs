//! A pipeline with fan-out: a job that enqueues further jobs, one for each file of a folder.
//!
//! The further jobs have ids of their own making, so that a second attempt of the first job adds
//! none that is there already.
//!
//! ```text
//! cargo run -p repull-worker --example pipeline -- worker/src
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use repull::client::Client;
use repull::connect::ConnectArgs;
use repull::id::{JobId, QueueName};
use repull::job::Job;
use repull::wire::Address;
use repull_worker::{Context, Shutdown, TaskError, Worker};
use serde::{Deserialize, Serialize};

/// Counts the words of all files in a folder, a job for each file.
#[derive(Parser)]
struct Args {
    /// The folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Serialize, Deserialize)]
struct Folder {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct File {
    path: PathBuf,
}

/// The subject of a further job, as far as the first job's value has to name it.
#[derive(Serialize, Deserialize)]
struct Part {
    id: JobId,
}

/// The first step: finds the files and enqueues a job for each.
async fn split(context: Context, folder: Folder) -> Result<Vec<Part>, TaskError> {
    let files = files_below(&folder.path)?;
    let total = files.len().max(1) as f64;
    let mut parts = Vec::new();
    for (number, path) in files.into_iter().enumerate() {
        let id = JobId::new(format!("{}-{number}", context.id()))?;
        let job = Job::json("text.count", &File { path })?
            .on(context.job().queue.clone())
            .with_id(id.clone());
        context.client().enqueue(job).await?;
        parts.push(Part { id });
        context.progress((number + 1) as f64 / total, "enqueueing");
    }
    Ok(parts)
}

/// The second step: counts the words of one file.
async fn count(_: Context, file: File) -> Result<usize, TaskError> {
    let text = tokio::fs::read(&file.path)
        .await
        .map_err(|error| TaskError::from(error).context(file.path.display()))?;
    Ok(String::from_utf8_lossy(&text).split_whitespace().count())
}

fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::connect(&args.connect.resolve()?).await?;
    let queue = QueueName::new("text")?;
    let worker = Worker::builder(client.clone())
        .queue("text")
        .slots(16)
        .task("text.split", split)
        .task("text.count", count)
        .build()?;
    let shutdown = Shutdown::on_signals()?;
    let running = tokio::spawn(worker.run(shutdown.clone()));

    let folder = Folder {
        path: args.folder.clone(),
    };
    let enqueued = client
        .enqueue(Job::json("text.split", &folder)?.on(queue))
        .await?;
    let address = enqueued.address.clone();
    let outcome = client.wait(&enqueued).await?;
    let parts: Vec<Part> = serde_json::from_slice(&outcome.body)
        .with_context(|| format!("the first step: {}", outcome.text()))?;
    println!("{} files in {}", parts.len(), args.folder.display());

    let counts: BTreeMap<JobId, u64> = stream::iter(parts)
        .map(|part| wait_for(&client, &address, part.id))
        .buffer_unordered(16)
        .try_collect()
        .await?;
    println!("{} words", counts.values().sum::<u64>());

    shutdown.drain();
    running.await??;
    Ok(())
}

/// The outcome of one of the further jobs.
async fn wait_for(client: &Client, first: &Address, id: JobId) -> anyhow::Result<(JobId, u64)> {
    let address = Address {
        lane: first.lane.clone(),
        task: "text.count".parse()?,
        id: id.clone(),
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), client.wait_at(&address, None))
        .await
        .with_context(|| format!("job `{id}` has no outcome yet"))??;
    let words = outcome.value().as_u64();
    Ok((id, words.with_context(|| outcome.text())?))
}
