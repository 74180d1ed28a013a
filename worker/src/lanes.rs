//! The lanes a worker serves: each is a consumer, and a queue of the engine.

use std::sync::Arc;

use async_nats::Subject;
use repull::client::Client;
use repull::id::{Lane, Namespace, Priority};
use repull::topology::Topology;
use repull::wire::{Address, InvalidSubject, Place};
use tracing::{info, warn};

use crate::config::{Order, WorkerConfig};
use crate::crew::Queues;
use crate::engine::{Millis, QueueConfig, QueueIx};
use crate::error::Error;
use crate::run::Registry;

/// One lane with the subjects its consumer is asked on.
#[derive(Debug, Clone)]
pub(crate) struct ServedLane {
    pub(crate) lane: Lane,
    /// The consumer's name and the label in metrics.
    pub(crate) name: String,
    pub(crate) weight: u32,
    /// Where pulls go.
    pub(crate) next_subject: Subject,
    /// What the subjects of its jobs begin with.
    prefix: String,
}

/// All lanes of a worker, in the engine's order.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    pub(crate) all: Vec<Arc<ServedLane>>,
    /// The shortest lease of their consumers.
    pub(crate) ack_wait: Millis,
}

/// How much more a higher lane of the same queue weighs than the one below, where queues share by
/// weight: enough that a lower lane only gets what the higher ones leave, and never nothing.
const LANE_FACTOR: u32 = 32;

impl Lanes {
    /// Finds the consumers of all lanes, creating what is absent.
    pub(crate) async fn bind(
        client: &Client,
        config: &WorkerConfig,
        queues: &Queues,
    ) -> Result<Self, Error> {
        let topology = Topology::new(client.namespace().clone(), config.layout.clone());
        let mut all = Vec::new();
        let mut ack_wait = None;
        for served in &config.queues {
            let settings = queues.get(&served.name);
            let priorities: &[Priority] = if settings.lanes {
                &Priority::ALL
            } else {
                &[Priority::Normal]
            };
            for &priority in priorities {
                let lane = Lane {
                    queue: served.name.clone(),
                    priority,
                };
                let found = bind_one(client, &topology, &lane, settings.limit).await?;
                ack_wait =
                    Some(ack_wait.map_or(found, |least: std::time::Duration| least.min(found)));
                let weight = weight(config.order, served.weight, priority, settings.lanes);
                all.push(Arc::new(ServedLane::new(client, lane, weight)));
            }
        }
        Ok(Self {
            all,
            ack_wait: ack_wait.unwrap_or(config.layout.ack_wait).into(),
        })
    }

    /// The engine's queue of a consumer.
    pub(crate) fn find(&self, consumer: &str) -> Option<QueueIx> {
        let index = self.all.iter().position(|lane| lane.name == consumer)?;
        u16::try_from(index).ok().map(QueueIx)
    }

    pub(crate) fn get(&self, queue: QueueIx) -> Option<&Arc<ServedLane>> {
        self.all.get(usize::from(queue.0))
    }

    /// What the engine is told of them.
    pub(crate) fn engine_queues(&self) -> Vec<QueueConfig> {
        self.all
            .iter()
            .map(|lane| QueueConfig {
                name: lane.name.clone(),
                weight: lane.weight,
            })
            .collect()
    }
}

impl ServedLane {
    fn new(client: &Client, lane: Lane, weight: u32) -> Self {
        let name = lane.to_string();
        let stream = Place::Jobs.stream(client.namespace());
        let api = client.connection().api_prefix();
        let next_subject = format!("{api}.CONSUMER.MSG.NEXT.{stream}.{name}").into();
        let every = Place::Jobs.lane_wildcard(client.namespace(), &lane);
        Self {
            lane,
            name,
            weight,
            next_subject,
            prefix: every.trim_end_matches('>').to_owned(),
        }
    }

    /// Reads the subject of a job that came from this lane. What is known already, the lane and the
    /// tasks of this worker, is neither checked nor allocated again.
    pub(crate) fn address(
        &self,
        namespace: &Namespace,
        registry: &Registry,
        subject: &str,
    ) -> Result<Address, InvalidSubject> {
        let known = || {
            let (task, id) = subject.strip_prefix(&self.prefix)?.rsplit_once('.')?;
            Some(Address {
                lane: self.lane.clone(),
                task: registry.known(task)?.clone(),
                id: id.parse().ok()?,
            })
        };
        match known() {
            Some(address) => Ok(address),
            None => Address::parse(namespace, Place::Jobs, subject),
        }
    }
}

fn weight(order: Order, weight: u32, priority: Priority, has_lanes: bool) -> u32 {
    if order == Order::Strict || !has_lanes {
        return weight;
    }
    let factor = match priority {
        Priority::High => LANE_FACTOR * LANE_FACTOR,
        Priority::Normal => LANE_FACTOR,
        Priority::Low => 1,
    };
    weight.saturating_mul(factor)
}

/// Finds or creates one consumer; makes the streams where they are absent too. Returns its lease.
pub(crate) async fn bind_one(
    client: &Client,
    topology: &Topology,
    lane: &Lane,
    limit: Option<u32>,
) -> Result<std::time::Duration, Error> {
    let connection = client.connection();
    if let Ok(found) = topology.ensure_consumer(connection, lane, limit).await {
        return Ok(found.ack_wait);
    }
    // No stream yet, or one that is not as it must be: this says which.
    topology
        .ensure(connection)
        .await
        .map_err(repull::client::Error::from)?;
    let found = topology
        .ensure_consumer(connection, lane, limit)
        .await
        .map_err(repull::client::Error::from)?;
    info!(%lane, "bound to its consumer");
    if found.ack_wait < std::time::Duration::from_secs(2) {
        warn!(%lane, ack_wait = ?found.ack_wait, "the consumer's ack wait is very short; jobs may run twice");
    }
    Ok(found.ack_wait)
}
