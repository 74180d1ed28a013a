//! The table itself.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType,
};

use crate::beacon::BEACON_AGE_MAX;
use crate::id::{Lane, Namespace};
use crate::wire::Place;

/// How long a job may go without a sign of life from its worker before another gets it.
pub const ACK_WAIT_DEFAULT: Duration = Duration::from_secs(15);

/// Jobs of one lane that may run at once over all workers, where the queue sets no limit: far above
/// all slots, so that it never holds a free one back.
pub const MAX_ACK_PENDING_DEFAULT: u32 = 200_000;

/// Pulls that may wait at one consumer. A server drops a pull above it without a word when the pull
/// asks for heartbeats (nats-server 2.11.5 and later), so it is far above what a fleet opens.
pub const MAX_WAITING: i64 = 16_384;

/// Events kept for one job.
pub const RESULTS_PER_JOB: i64 = 20;

/// What an operator decides when the streams are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Copies of each stream: 1 on a single server, 3 on a cluster.
    pub replicas: usize,
    /// Whether streams are kept in memory: for tests and measurements.
    pub in_memory: bool,
    /// The lease of a running job.
    pub ack_wait: Duration,
    /// How long outcomes are kept.
    pub results_age: Duration,
    /// How long dead jobs are kept.
    pub dead_age: Duration,
    /// How long the ledger of fires is kept.
    pub ledger_age: Duration,
    /// The lease of a scheduler.
    pub lease: Duration,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            replicas: 1,
            in_memory: false,
            ack_wait: ACK_WAIT_DEFAULT,
            results_age: Duration::from_secs(24 * 3600),
            dead_age: Duration::from_secs(90 * 24 * 3600),
            ledger_age: Duration::from_secs(30 * 24 * 3600),
            lease: Duration::from_secs(10),
        }
    }
}

/// The buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Schedules by id.
    Schedules,
    /// Leases of schedulers; entries vanish when not renewed.
    Leader,
    /// How far fires have been published; kept for ever, unlike the leases.
    Watermark,
    /// Settings of queues by name.
    Queues,
    /// Live workers by id; entries vanish when not renewed.
    Workers,
}

impl Bucket {
    /// All of them.
    pub const ALL: [Bucket; 5] = [
        Self::Schedules,
        Self::Leader,
        Self::Watermark,
        Self::Queues,
        Self::Workers,
    ];

    /// The bucket's name in `namespace`.
    pub fn name(self, namespace: &Namespace) -> String {
        namespace.asset(match self {
            Self::Schedules => "SCHEDULES",
            Self::Leader => "LEADER",
            Self::Watermark => "WATERMARK",
            Self::Queues => "QUEUES",
            Self::Workers => "WORKERS",
        })
    }

    /// The stream behind the bucket.
    pub fn stream(self, namespace: &Namespace) -> String {
        format!("KV_{}", self.name(namespace))
    }
}

/// The table for one installation.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The installation.
    pub namespace: Namespace,
    /// The operator's choices.
    pub layout: Layout,
}

impl Topology {
    /// The table of this installation.
    pub fn new(namespace: Namespace, layout: Layout) -> Self {
        Self { namespace, layout }
    }

    /// The ledger's stream: what became of fires that made no job.
    pub fn ledger(namespace: &Namespace) -> String {
        namespace.asset("LEDGER")
    }

    /// The ledger's subject for one schedule.
    pub fn ledger_subject(namespace: &Namespace, schedule: &str) -> String {
        format!("{namespace}.ledger.{schedule}")
    }

    /// All streams but those behind buckets.
    pub fn streams(&self) -> Vec<StreamConfig> {
        let place = |place: Place, description: &str| StreamConfig {
            name: place.stream(&self.namespace),
            subjects: vec![place.wildcard(&self.namespace)],
            ..self.stream(description)
        };
        let day = Duration::from_secs(24 * 3600);
        vec![
            StreamConfig {
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                ..place(
                    Place::Jobs,
                    "Repull: jobs that wait or run, one subject each",
                )
            },
            StreamConfig {
                max_messages_per_subject: 1,
                discard: DiscardPolicy::New,
                ..place(
                    Place::Later,
                    "Repull: jobs that wait for a time (header Repull-Run-At)",
                )
            },
            StreamConfig {
                max_age: self.layout.dead_age,
                ..place(
                    Place::Dead,
                    "Repull: jobs that were given up, and why (header Repull-Reason)",
                )
            },
            StreamConfig {
                max_age: self.layout.results_age,
                max_messages_per_subject: RESULTS_PER_JOB,
                duplicate_window: Duration::from_secs(60).min(self.layout.results_age),
                ..place(
                    Place::Results,
                    "Repull: what became of jobs (header Repull-Event); the last is the outcome",
                )
            },
            StreamConfig {
                name: Self::ledger(&self.namespace),
                subjects: vec![format!("{}.ledger.>", self.namespace)],
                max_age: self.layout.ledger_age,
                duplicate_window: Duration::from_secs(120).min(day),
                ..self.stream("Repull: fires of schedules that made no job, and why")
            },
        ]
    }

    fn stream(&self, description: &str) -> StreamConfig {
        StreamConfig {
            description: Some(description.to_owned()),
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: self.storage(),
            num_replicas: self.layout.replicas,
            duplicate_window: Duration::from_secs(120),
            allow_direct: true,
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            max_message_size: -1,
            metadata: HashMap::from([
                (
                    "repull.version".to_owned(),
                    env!("CARGO_PKG_VERSION").to_owned(),
                ),
                ("repull.namespace".to_owned(), self.namespace.to_string()),
            ]),
            ..StreamConfig::default()
        }
    }

    fn storage(&self) -> StorageType {
        if self.layout.in_memory {
            StorageType::Memory
        } else {
            StorageType::File
        }
    }

    /// All buckets.
    pub fn buckets(&self) -> Vec<kv::Config> {
        Bucket::ALL
            .into_iter()
            .map(|bucket| self.bucket(bucket))
            .collect()
    }

    fn bucket(&self, bucket: Bucket) -> kv::Config {
        let (description, max_age, history) = match bucket {
            Bucket::Schedules => ("Repull: schedules by id", Duration::ZERO, 5),
            Bucket::Leader => ("Repull: leases of schedulers", self.layout.lease, 1),
            Bucket::Watermark => (
                "Repull: up to when all fires are published",
                Duration::ZERO,
                1,
            ),
            Bucket::Queues => ("Repull: settings of queues by name", Duration::ZERO, 5),
            Bucket::Workers => ("Repull: live workers by id", BEACON_AGE_MAX, 1),
        };
        kv::Config {
            bucket: bucket.name(&self.namespace),
            description: description.to_owned(),
            max_age,
            history,
            storage: self.storage(),
            num_replicas: self.layout.replicas,
            max_bytes: -1,
            ..kv::Config::default()
        }
    }

    /// The durable consumer of one lane, with the queue's limit where it has one.
    pub fn consumer(&self, lane: &Lane, limit: Option<u32>) -> pull::Config {
        pull::Config {
            durable_name: Some(lane.to_string()),
            name: Some(lane.to_string()),
            description: Some(format!("Repull: workers of `{lane}`")),
            filter_subject: Place::Jobs.lane_wildcard(&self.namespace, lane),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.layout.ack_wait,
            max_deliver: -1,
            max_ack_pending: i64::from(limit.unwrap_or(MAX_ACK_PENDING_DEFAULT)),
            max_waiting: MAX_WAITING,
            metadata: HashMap::from([("repull.lane".to_owned(), lane.to_string())]),
            ..pull::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_queue_refuses_rather_than_forgets() {
        let topology = Topology::new(Namespace::default(), Layout::default());
        let jobs = &topology.streams()[0];
        assert_eq!(jobs.name, "REPULL_JOBS");
        assert_eq!(jobs.retention, RetentionPolicy::WorkQueue);
        assert_eq!(jobs.discard, DiscardPolicy::New);
        assert_eq!(jobs.max_age, Duration::ZERO);
    }

    #[test]
    fn a_consumer_never_gives_a_message_up_by_itself() {
        let topology = Topology::new(Namespace::default(), Layout::default());
        let consumer = topology.consumer(&"default~high".parse().unwrap(), Some(3));
        assert_eq!((consumer.max_deliver, consumer.max_ack_pending), (-1, 3));
        assert_eq!(consumer.filter_subject, "repull.jobs.default~high.>");
        assert_eq!(consumer.inactive_threshold, Duration::ZERO);
    }
}
