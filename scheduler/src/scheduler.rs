//! Puts a scheduler together and runs it.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv;
use prometheus_client::registry::Registry;
use repull::client::Client;
use repull::clock;
use repull::id::{QueueName, WorkerId};
use repull::topology::{Bucket, Layout, Topology};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::buckets::Buckets;
use crate::config::Config;
use crate::error::Error;
use crate::failures::{Failures, Watched};
use crate::health::SchedulerHealth;
use crate::housekeeping::Housekeeping;
use crate::later::access::Access;
use crate::lease::{self, Balance, Keeper};
use crate::metrics::Metrics;
use crate::shard::{Parts, Shard};
use crate::sharding::{Board, Share};
use crate::started;
use crate::watermark::{self, Watermark};
use crate::{later, queues, schedules};

/// How many changes may wait for a shard to take them in.
const INPUTS: usize = 4_096;

/// Publishes due fires and later jobs. Any number of them may run against one installation.
#[derive(Debug)]
pub struct Scheduler {
    client: Client,
    config: Config,
    registry: Arc<Registry>,
    metrics: Metrics,
    health: Arc<SchedulerHealth>,
}

/// Sets up a [`Scheduler`].
#[derive(Debug)]
pub struct SchedulerBuilder {
    client: Client,
    config: Config,
    metrics: Option<(Arc<Registry>, Metrics)>,
}

impl SchedulerBuilder {
    /// All options at once.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Its id; one of its own by default.
    #[must_use]
    pub fn id(mut self, id: WorkerId) -> Self {
        self.config.id = id;
        self
    }

    /// How the streams are made where they are absent.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.config.layout = layout;
        self
    }

    /// The lease of a leader; what exists with another one keeps that.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.layout.lease = lease;
        self
    }

    /// Queues whose consumers are made at the start, beside those that have settings.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = QueueName>) -> Self {
        self.config.queues = queues.into_iter().collect();
        self
    }

    /// Into how many shards schedules are split. The first scheduler of an installation decides.
    #[must_use]
    pub fn shards(mut self, shards: NonZeroU16) -> Self {
        self.config.shards = shards;
        self
    }

    /// Metrics that are registered already, so that they can be served before there is a connection.
    #[must_use]
    pub fn metrics(mut self, registry: Arc<Registry>, metrics: Metrics) -> Self {
        self.metrics = Some((registry, metrics));
        self
    }

    /// The scheduler, or what is wrong with its options.
    pub fn build(self) -> Result<Scheduler, Error> {
        self.config.check().map_err(Error::Config)?;
        let (registry, metrics) = self.metrics.unwrap_or_else(|| {
            let mut registry = Registry::default();
            let metrics = Metrics::register(&mut registry);
            (Arc::new(registry), metrics)
        });
        Ok(Scheduler {
            health: Arc::new(SchedulerHealth::new(self.client.clone())),
            client: self.client,
            config: self.config,
            registry,
            metrics,
        })
    }
}

impl Scheduler {
    /// Sets up a scheduler over a connection.
    pub fn builder(client: Client) -> SchedulerBuilder {
        SchedulerBuilder {
            client,
            config: Config::default(),
            metrics: None,
        }
    }

    /// Its metrics, for [`repull::telemetry::serve`].
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// What it says of itself, for [`repull::telemetry::serve`].
    pub fn health(&self) -> Arc<SchedulerHealth> {
        self.health.clone()
    }

    /// Runs until `shutdown`, or until something ends that never should.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let topology = tokio::select! {
            topology = self.client.ensure_topology(&self.config.layout) => topology?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let buckets = Buckets::open(&self.client).await?;
        let count = self.agree_on_shards(&buckets.watermark).await?;
        let board = Board::new(count, self.metrics.clone());
        self.health.watch(board.clone());
        let mut parts = JoinSet::new();
        // Shards stop first, leases are given back when they have, and all else follows.
        let stop_all = CancellationToken::new();
        let ([schedules, jobs], start) = started::parts::<2>();
        let position = watch::Sender::new(0);
        let reading = Reading {
            position: position.subscribe(),
            start: start.clone(),
            access: Arc::new(Access::new(&self.client)),
        };
        let (shards, inputs) = self
            .start_shards(&buckets, &board, &shutdown, &reading)
            .await?;
        self.health.wait_for(start.clone());
        let client = self.client.clone();
        let watched = Arc::new(Watched::default());
        let watch_schedules = schedules::watch(
            client.clone(),
            inputs.clone(),
            position,
            watched.clone(),
            schedules,
            stop_all.clone(),
        );
        parts.spawn(named("the watch of schedules", watch_schedules));
        let failures = Failures {
            client: client.clone(),
            bucket: buckets.watermark.clone(),
            watched,
            tenure: shards.tenures[0].clone(),
        };
        parts.spawn(named(
            "the count of failures",
            failures.count(stop_all.clone()),
        ));
        parts.spawn(named(
            "the watch of later jobs",
            later::watch(
                client,
                inputs,
                reading.access.clone(),
                jobs,
                stop_all.clone(),
            ),
        ));
        self.start_housekeeping(&mut parts, topology, &shards, &stop_all);
        let attend = lease::attend(
            self.client.clone(),
            buckets.leader.clone(),
            self.config.id.clone(),
            buckets.lease,
            shards.balance.clone(),
            stop_all.clone(),
        );
        parts.spawn(named("the count of schedulers", attend));
        info!(id = %self.config.id, shards = count, lease = ?buckets.lease, "scheduler started");
        let ended = self.supervise(&mut parts, shards, &shutdown).await;
        stop_all.cancel();
        parts.abort_all();
        ended
    }

    /// The number of shards is written down once, so that all schedulers split alike.
    async fn agree_on_shards(&self, bucket: &kv::Store) -> Result<u16, Error> {
        crate::shards::agree(bucket, self.config.shards.get()).await
    }

    async fn start_shards(
        &self,
        buckets: &Buckets,
        board: &Arc<Board>,
        shutdown: &CancellationToken,
        reading: &Reading,
    ) -> Result<(Shards, Vec<mpsc::Sender<crate::shard::Input>>), Error> {
        let mut shards = Shards {
            tasks: JoinSet::new(),
            keepers: JoinSet::new(),
            stop_keepers: CancellationToken::new(),
            tenures: Vec::new(),
            balance: Arc::new(Balance::new(usize::from(board.count()))),
        };
        let mut inputs = Vec::new();
        for index in 0..board.count() {
            let key = crate::shards::key(index, board.count());
            let (sender, receiver) = mpsc::channel(INPUTS);
            let (tenure, tenure_seen) = watch::channel(None);
            let left = Arc::new(Notify::new());
            shards.tenures.push(tenure_seen.clone());
            let entry = watermark::Entry::new(buckets.watermark.clone(), key.clone());
            let mark = self
                .first_watermark(buckets, &entry, board.count())
                .await?
                .mark();
            let shard = Shard::new(Parts {
                client: self.client.clone(),
                id: self.config.id.clone(),
                metrics: self.metrics.clone(),
                inputs: receiver,
                tenure: tenure_seen,
                left: left.clone(),
                watermark: entry,
                mark,
                position: reading.position.clone(),
                sharding: Share::new(index, board.clone()),
                access: reading.access.clone(),
            })
            .await?;
            let shutdown = shutdown.clone();
            shards.tasks.spawn(async move { shard.run(shutdown).await });
            let keeper = Keeper {
                bucket: buckets.leader.clone(),
                key: format!("lease.{key}"),
                id: self.config.id.clone(),
                length: buckets.lease,
                tenure,
                left,
                balance: shards.balance.clone(),
                is_troubled: false,
                stop: shards.stop_keepers.clone(),
            };
            let (mut start, stop) = (reading.start.clone(), shards.stop_keepers.clone());
            shards.keepers.spawn(async move {
                tokio::select! {
                    () = start.wait() => lease::keep(keeper).await,
                    () = stop.cancelled() => {}
                }
            });
            inputs.push(sender);
        }
        crate::shards::forget_others(&buckets.watermark, board.count()).await?;
        Ok((shards, inputs))
    }

    /// The watermark, made where no scheduler ever ran: what was due before that is not caught up
    /// with, and what is in the bucket by now counts from now on.
    async fn first_watermark(
        &self,
        buckets: &Buckets,
        entry: &watermark::Entry,
        shards: u16,
    ) -> Result<Watermark, Error> {
        let failed = |error: watermark::WatermarkError| Error::Bucket {
            action: "use",
            bucket: Bucket::Watermark.name(self.client.namespace()),
            reason: error.to_string(),
        };
        if let Some((_, found)) = entry.read().await.map_err(failed)? {
            return Ok(found);
        }
        let now = clock::now();
        let known = buckets.schedules_revision().await?;
        let inherited = crate::shards::inherit(&buckets.watermark, shards).await?;
        let first = inherited.unwrap_or(Watermark {
            up_to: now,
            horizon: now,
            known,
            held: std::collections::BTreeMap::new(),
            lease_revision: 0,
            writer: self.config.id.to_string(),
        });
        entry.create(&first).await.map_err(failed)?;
        let found = entry.read().await.map_err(failed)?;
        Ok(found.map_or(first, |(_, found)| found))
    }

    fn start_housekeeping(
        &self,
        parts: &mut JoinSet<Part>,
        topology: Topology,
        shards: &Shards,
        stop: &CancellationToken,
    ) {
        let queues = self.config.queues.clone();
        let (settings, settings_seen) = watch::channel(queues::AllSettings::new());
        let client = self.client.clone();
        let keep = queues::keep(client, topology.clone(), queues, settings, stop.clone());
        parts.spawn(named("the watch of queues", keep));
        let housekeeping = Housekeeping {
            client: self.client.clone(),
            topology,
            metrics: self.metrics.clone(),
            tenure: shards.tenures[0].clone(),
            settings: settings_seen,
        };
        parts.spawn(named("housekeeping", housekeeping.keep(stop.clone())));
    }

    /// Waits for the end, and ends what must end in order.
    async fn supervise(
        &self,
        parts: &mut JoinSet<Part>,
        mut shards: Shards,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        let ended = tokio::select! {
            // First: a shard that was told to end may have done so before this is looked at.
            biased;
            () = shutdown.cancelled() => Ok(()),
            Some(part) = parts.join_next() => Err(ended("a part", part)),
            Some(shard) = shards.tasks.join_next() => Err(ended("a shard", shard.map(|()| ("a shard", Ok(()))))),
            Some(keeper) = shards.keepers.join_next() => Err(ended("a lease", keeper.map(|()| ("a lease", Ok(()))))),
        };
        self.health.stopping();
        shutdown.cancel();
        while shards.tasks.join_next().await.is_some() {}
        shards.stop_keepers.cancel();
        while shards.keepers.join_next().await.is_some() {}
        ended
    }
}

/// How far the bucket of schedules and the later jobs have been read.
struct Reading {
    position: watch::Receiver<u64>,
    start: started::Start,
    access: Arc<Access>,
}

/// The shards' tasks.
struct Shards {
    tasks: JoinSet<()>,
    keepers: JoinSet<()>,
    stop_keepers: CancellationToken,
    tenures: Vec<watch::Receiver<Option<lease::Tenure>>>,
    balance: Arc<Balance>,
}

type Part = (&'static str, Result<(), String>);

async fn named(name: &'static str, part: impl Future<Output = ()> + Send) -> Part {
    part.await;
    (name, Ok(()))
}

fn ended(what: &'static str, part: Result<Part, tokio::task::JoinError>) -> Error {
    match part {
        Ok((part, Ok(()))) => Error::Ended {
            part,
            reason: "nobody told it to".to_owned(),
        },
        Ok((part, Err(reason))) => Error::Ended { part, reason },
        Err(error) => Error::Ended {
            part: what,
            reason: error.to_string(),
        },
    }
}
