//! Every metric of the scheduler, in one table.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A gauge that holds a fraction.
pub type Seconds = Gauge<f64, AtomicU64>;

/// What became of a fire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FireLabels {
    /// `published`, `buffered`, or what the ledger calls it.
    pub result: &'static str,
}

/// One lane of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabels {
    /// The lane as its consumer is named: the queue's name, or `<queue>~high`.
    pub queue: String,
}

/// The metrics. Cloning is a reference count.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Shards that this scheduler leads.
    pub leader: Gauge,
    /// How often that changed.
    pub leader_changes: Counter,
    /// Shards in all.
    pub shards: Gauge,
    /// Schedules.
    pub schedules: Gauge,
    /// Fires by what became of them.
    pub fires: Family<FireLabels, Counter>,
    /// From when a fire was due until the stream had confirmed its job.
    pub fire_lateness: Histogram,
    /// Jobs that wait for a time.
    pub later_jobs: Gauge,
    /// The watermark, the oldest over all shards that this scheduler leads.
    pub watermark: Seconds,
    /// When the loop last went round.
    pub last_tick: Seconds,
    /// The server's clock minus ours.
    pub clock_offset: Seconds,
    /// Publishes that were not confirmed or refused, and tried again.
    pub publish_errors: Counter,
    /// Of each queue.
    pub queues: QueueMetrics,
    /// Dead jobs.
    pub dead_jobs: Gauge,
}

/// The metrics of queues; only the leader's are told.
#[derive(Debug, Clone, Default)]
pub struct QueueMetrics {
    /// Jobs that wait for a worker.
    pub ready: Family<QueueLabels, Gauge>,
    /// Jobs that a worker has.
    pub running: Family<QueueLabels, Gauge>,
    /// For how long the oldest of those that wait has waited.
    pub oldest_ready_age: Family<QueueLabels, Seconds>,
    /// Open pulls.
    pub waiting_pulls: Family<QueueLabels, Gauge>,
    /// The most jobs that may run at once.
    pub ack_pending_limit: Family<QueueLabels, Gauge>,
    /// Jobs in the stream that its consumer does not know of.
    pub orphans: Family<QueueLabels, Gauge>,
    /// 1 where the queue is paused.
    pub paused: Family<QueueLabels, Gauge>,
    /// Slots of the workers that serve it.
    pub worker_slots: Family<QueueLabels, Gauge>,
    /// Workers that serve it.
    pub workers: Family<QueueLabels, Gauge>,
}

impl Metrics {
    /// Makes them and registers them under their names.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            shards: Gauge::default(),
            leader_changes: Counter::default(),
            schedules: Gauge::default(),
            fires: Family::default(),
            // From 0.5 ms up to about half a minute.
            fire_lateness: Histogram::new(exponential_buckets(0.000_5, 2.0, 17)),
            later_jobs: Gauge::default(),
            watermark: Seconds::default(),
            last_tick: Seconds::default(),
            clock_offset: Seconds::default(),
            publish_errors: Counter::default(),
            queues: QueueMetrics::default(),
            dead_jobs: Gauge::default(),
        };
        metrics.register_own(registry);
        metrics.queues.register(registry);
        registry.register(
            "repull_dead_jobs",
            "Jobs that were given up",
            metrics.dead_jobs.clone(),
        );
        metrics
    }

    fn register_own(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("repull_scheduler");
        registry.register(
            "leader",
            "Shards that this scheduler leads",
            self.leader.clone(),
        );
        registry.register(
            "shards",
            "Shards in all, led by this scheduler or by another",
            self.shards.clone(),
        );
        registry.register(
            "leader_changes",
            "How often this scheduler began or ceased to lead a shard",
            self.leader_changes.clone(),
        );
        registry.register("schedules", "Schedules", self.schedules.clone());
        registry.register("fires", "Fires by what became of them", self.fires.clone());
        registry.register(
            "fire_lateness_seconds",
            "From when a fire was due until the stream had confirmed its job",
            self.fire_lateness.clone(),
        );
        registry.register(
            "later_jobs",
            "Jobs that wait for a time",
            self.later_jobs.clone(),
        );
        registry.register(
            "watermark_timestamp_seconds",
            "All fires until then are published",
            self.watermark.clone(),
        );
        registry.register(
            "last_tick_timestamp_seconds",
            "When the scheduler's loop last went round",
            self.last_tick.clone(),
        );
        registry.register(
            "clock_offset_seconds",
            "The NATS server's clock minus this machine's",
            self.clock_offset.clone(),
        );
        registry.register(
            "publish_errors",
            "Publishes that were refused or not confirmed, and tried again",
            self.publish_errors.clone(),
        );
    }

    /// Counts a fire.
    pub(crate) fn fire(&self, result: &'static str, count: u64) {
        self.fires
            .get_or_create(&FireLabels { result })
            .inc_by(count);
    }
}

impl QueueMetrics {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("repull_queue");
        registry.register("ready", "Jobs that wait for a worker", self.ready.clone());
        registry.register("running", "Jobs that a worker has", self.running.clone());
        registry.register(
            "oldest_ready_age_seconds",
            "For how long the oldest of the jobs that wait has waited",
            self.oldest_ready_age.clone(),
        );
        registry.register("waiting_pulls", "Open pulls", self.waiting_pulls.clone());
        registry.register(
            "ack_pending_limit",
            "The most jobs that may run at once",
            self.ack_pending_limit.clone(),
        );
        registry.register(
            "orphans",
            "Jobs in the stream that the queue's consumer does not know of",
            self.orphans.clone(),
        );
        registry.register("paused", "1 where the queue is paused", self.paused.clone());
        registry.register(
            "worker_slots",
            "Slots of the workers that serve the queue",
            self.worker_slots.clone(),
        );
        registry.register(
            "workers",
            "Workers that serve the queue",
            self.workers.clone(),
        );
    }

    /// Forgets one queue: it is gone.
    pub(crate) fn forget(&self, labels: &QueueLabels) {
        self.ready.remove(labels);
        self.running.remove(labels);
        self.oldest_ready_age.remove(labels);
        self.waiting_pulls.remove(labels);
        self.ack_pending_limit.remove(labels);
        self.orphans.remove(labels);
        self.paused.remove(labels);
        self.worker_slots.remove(labels);
        self.workers.remove(labels);
    }

    /// Forgets all queues: another scheduler leads and tells of them.
    pub(crate) fn clear(&self) {
        self.ready.clear();
        self.running.clear();
        self.oldest_ready_age.clear();
        self.waiting_pulls.clear();
        self.ack_pending_limit.clear();
        self.orphans.clear();
        self.paused.clear();
        self.worker_slots.clear();
        self.workers.clear();
    }
}
