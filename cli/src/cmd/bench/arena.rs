//! Where a measurement takes place: a server of its own in a temporary folder, or a given one.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::TryStreamExt;
use repull::client::Client;
use repull::connect::{ConnectArgs, Settings};
use repull::id::{JobId, Lane, Namespace, QueueName};
use repull::job::Job;
use repull::topology::{Layout, Topology};
use repull::wire::Place;
use repull_worker::{Worker, WorkerBuilder, WorkerConfig};

use super::usage::Usage;
use super::work::{Durations, TASK};
use crate::nats_server::NatsServer;

/// How the arena is laid out.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct ArenaArgs {
    /// Keep the streams in memory instead of in files
    #[arg(long)]
    memory: bool,
    /// Copies of each stream; more than 1 needs a given cluster
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// Measure on the server of the connection options instead of one of its own
    #[arg(long)]
    given_server: bool,
    /// Remove the pin from the work queue, to see what it saves
    #[arg(long)]
    without_pin: bool,
}

/// A server with the streams on it.
pub(crate) struct Arena {
    pub(crate) client: Client,
    /// A second connection, so that the measured worker has its own.
    pub(crate) settings: Settings,
    pub(crate) topology: Topology,
    pub(crate) server_version: String,
    // Dropped last: the server ends with it.
    server: Option<NatsServer>,
}

impl Arena {
    pub(crate) async fn open(args: &ArenaArgs, connect: &ConnectArgs) -> anyhow::Result<Self> {
        Self::open_with(args, connect, Layout::default()).await
    }

    /// Opens one whose streams are made like this, but for what the arguments say.
    pub(crate) async fn open_with(
        args: &ArenaArgs,
        connect: &ConnectArgs,
        layout: Layout,
    ) -> anyhow::Result<Self> {
        let (mut settings, server) = if args.given_server {
            (connect.resolve()?, None)
        } else {
            let server = NatsServer::temporary()
                .await
                .context("can't start a nats-server to measure on")?;
            (Settings::for_servers(server.url()), Some(server))
        };
        // Never among the jobs of an installation that is in use.
        settings.namespace = Namespace::new(format!("bench{}", std::process::id()))?;
        let client = Client::connect_as(&settings, "repull-bench").await?;
        let layout = Layout {
            in_memory: args.memory,
            replicas: args.replicas.max(1),
            ..layout
        };
        let topology = client.ensure_topology(&layout).await?;
        if args.without_pin {
            remove_pin(&client).await?;
        }
        let server_version = client.nats().server_info().version;
        Ok(Self {
            client,
            settings,
            topology,
            server_version,
            server,
        })
    }

    /// What the arena's own server has used so far; none for a given server, and where the system does
    /// not tell.
    pub(crate) fn server_usage(&self) -> Option<Usage> {
        Usage::of(self.server.as_ref()?.pid()?)
    }

    /// Processor time that the server has used since then.
    pub(crate) fn server_time_since(&self, then: Option<Usage>) -> Option<Duration> {
        Some(self.server_usage()?.cpu.saturating_sub(then?.cpu))
    }

    /// Kills the arena's own server and starts it again on the same store and port.
    pub(crate) async fn restart_server(&mut self) -> anyhow::Result<()> {
        let server = self.server.take();
        let server = server.context("only a server of its own can be killed")?;
        self.server = Some(server.killed_and_started_again().await?);
        Ok(())
    }

    /// Removes the arena's streams from a server that stays.
    pub(crate) async fn close(self) {
        for stream in self.topology.streams() {
            let _ = self.client.jetstream().delete_stream(&stream.name).await;
        }
        for bucket in self.topology.buckets() {
            let _ = self
                .client
                .jetstream()
                .delete_key_value(&bucket.bucket)
                .await;
        }
    }

    /// A client over a connection of its own.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Ok(Client::connect_as(&self.settings, "repull-bench-worker").await?)
    }

    /// Makes the consumer of a queue.
    pub(crate) async fn queue(&self, name: &str) -> anyhow::Result<QueueName> {
        let queue = QueueName::new(name)?;
        let lane = Lane::normal(queue.clone());
        self.topology
            .ensure_consumer(self.client.connection(), &lane, None)
            .await?;
        Ok(queue)
    }

    /// The jobs of a round, numbered from 0.
    pub(crate) fn jobs(
        queue: &QueueName,
        jobs: usize,
        durations: &Durations,
        bytes: usize,
    ) -> anyhow::Result<Vec<Job>> {
        let job = |number: usize| Self::job(queue, TASK, durations.of(number as u64).args(bytes));
        (0..jobs).map(job).collect()
    }

    /// One job.
    pub(crate) fn job(queue: &QueueName, task: &str, args: bytes::Bytes) -> anyhow::Result<Job> {
        let mut job = Job::new(task.parse()?).on(queue.clone());
        job.id = JobId::generate();
        job.args = args;
        Ok(job)
    }

    /// Enqueues jobs, all confirmed.
    pub(crate) async fn enqueue(&self, jobs: Vec<Job>) -> anyhow::Result<usize> {
        let enqueued = self.client.enqueue_many(futures_util::stream::iter(jobs));
        Ok(Box::pin(enqueued.try_fold(0, |count, _| std::future::ready(Ok(count + 1)))).await?)
    }

    /// How many jobs the work queue holds.
    pub(crate) async fn queued(&self) -> anyhow::Result<u64> {
        Ok(self.client.work_queue_messages().await?)
    }

    /// Empties a stream, but for the work queue's pin.
    pub(crate) async fn clear(&self, place: Place) -> anyhow::Result<()> {
        let namespace = self.client.namespace();
        let stream = self.client.stream_handle(&place.stream(namespace)).await?;
        // A job has a queue, a task and an id.
        let jobs = format!("{namespace}.{}.*.*.>", place.token());
        stream.purge().filter(jobs).await?;
        Ok(())
    }

    /// A worker over a connection of its own, without queues and handlers.
    pub(crate) async fn worker(&self, slots: u32, results: bool) -> anyhow::Result<WorkerBuilder> {
        let config = WorkerConfig {
            results_default: results,
            ..WorkerConfig::default()
        };
        let builder = Worker::builder(self.connect().await?);
        Ok(builder.config(config).slots(slots))
    }
}

async fn remove_pin(client: &Client) -> anyhow::Result<()> {
    let stream = Place::Jobs.stream(client.namespace());
    let pin = Topology::pin_subject(client.namespace());
    let stream = client.stream_handle(&stream).await?;
    stream.purge().filter(pin).await?;
    Ok(())
}
