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
use repull_worker::{Output, Shutdown, SlotMonitor, Worker};

use crate::nats_server::NatsServer;

/// The unit of processor times in `/proc`: fixed for programs at 100 on all of Linux's common platforms.
const TICKS_PER_SECOND: u64 = 100;

/// How the arena is laid out.
#[derive(Args, Debug, Clone)]
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
            replicas: args.replicas,
            ..Layout::default()
        };
        let topology = client.ensure_topology(&layout).await?;
        let server_version = client.nats().server_info().version;
        Ok(Self {
            client,
            settings,
            topology,
            server_version,
            server,
        })
    }

    /// Processor time that the arena's own server has used so far; none for a given server, and where
    /// the system does not tell in the way of Linux.
    pub(crate) fn server_time(&self) -> Option<Duration> {
        let pid = self.server.as_ref()?.pid()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name in brackets: user and system time, 11 and 12 fields on, see proc_pid_stat(5).
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(11).map(str::parse::<u64>);
        let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
        Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
    }

    /// Processor time that the server has used since then.
    pub(crate) fn server_time_since(&self, then: Option<Duration>) -> Option<Duration> {
        Some(self.server_time()?.saturating_sub(then?))
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

    /// A job of the measurement.
    pub(crate) fn job(
        queue: &QueueName,
        task: &str,
        payload: &bytes::Bytes,
    ) -> anyhow::Result<Job> {
        let mut job = Job::new(task.parse()?).on(queue.clone());
        job.id = JobId::generate();
        job.args = payload.clone();
        Ok(job)
    }

    /// Enqueues jobs, all confirmed.
    pub(crate) async fn enqueue(&self, jobs: Vec<Job>) -> anyhow::Result<usize> {
        let enqueued = self.client.enqueue_many(futures_util::stream::iter(jobs));
        Ok(Box::pin(enqueued.try_fold(0, |count, _| std::future::ready(Ok(count + 1)))).await?)
    }
}

/// A worker that runs beside the measurement.
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

    /// Waits until `count` jobs have been run and every ack is confirmed.
    pub(crate) async fn worked_off(&self, count: u64) -> anyhow::Result<()> {
        loop {
            let stats = self.monitor.read();
            if stats.started >= count && stats.running == 0 && stats.settling == 0 {
                return Ok(());
            }
            anyhow::ensure!(
                !self.task.is_finished(),
                "the worker ended in the middle of the measurement"
            );
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.drain();
        Ok(self.task.await??)
    }
}

/// What a handler that does nothing returns.
pub(crate) fn nothing() -> Output {
    Output::from(bytes::Bytes::new())
}
