//! Keeps each queue's consumers as its settings say: made where absent, one per lane, with the
//! queue's limit on jobs that run at once.
//!
//! Every scheduler does this, leader or not: it is the same for all and done twice does no harm.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::Message;
use repull::client::{Client, Error, Stored};
use repull::id::{Lane, Priority, QueueName};
use repull::queue::QueueSettings;
use repull::topology::{Bucket, Topology};
use repull::wire::Place;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::follow::{Sink, Source, follow};

/// The settings of all queues that have any.
pub(crate) type AllSettings = BTreeMap<QueueName, QueueSettings>;

struct Queues {
    client: Client,
    topology: Topology,
    prefix: String,
    /// As far as read.
    settings: watch::Sender<AllSettings>,
    /// Whether all of the bucket was read; before that, old values of its history come by, which are
    /// not worth a request each.
    has_all: bool,
    /// Queues that are kept although they have no settings.
    configured: BTreeSet<QueueName>,
}

/// Makes the consumers of `configured` queues and of those in the bucket, and follows the bucket.
pub(crate) async fn keep(
    client: Client,
    topology: Topology,
    configured: Vec<QueueName>,
    settings: watch::Sender<AllSettings>,
    stop: CancellationToken,
) {
    let bucket = Bucket::Queues;
    let source = Source {
        stream: bucket.stream(client.namespace()),
        headers_only: false,
        position: watch::Sender::new(0),
    };
    let queues = Queues {
        prefix: format!("$KV.{}.", bucket.name(client.namespace())),
        settings,
        has_all: false,
        configured: configured.into_iter().collect(),
        client: client.clone(),
        topology,
    };
    follow(client, source, queues, stop).await;
}

impl Sink for Queues {
    async fn message(&mut self, message: Message) {
        let Some(key) = message.subject.strip_prefix(self.prefix.as_str()) else {
            return;
        };
        let Ok(name) = QueueName::new(key) else {
            return warn!(
                key,
                "an entry of the bucket of queues is passed over: it names no queue"
            );
        };
        let settings = match message.payload.is_empty() {
            true => QueueSettings::default(),
            false => match serde_json::from_slice(&message.payload) {
                Ok(settings) => settings,
                Err(error) => {
                    return error!(queue = key, %error, "the queue's settings can't be read; its consumers stay as they are");
                }
            },
        };
        self.settings.send_modify(|all| {
            all.insert(name.clone(), settings.clone());
        });
        if self.has_all {
            self.apply(&name, &settings).await;
        }
    }

    async fn caught_up(&mut self) {
        self.has_all = true;
        let mut all = self.settings.borrow().clone();
        for name in &self.configured {
            all.entry(name.clone()).or_default();
        }
        for (name, settings) in all {
            self.apply(&name, &settings).await;
        }
    }

    async fn restarted(&mut self) {
        self.has_all = false;
        self.settings.send_replace(AllSettings::new());
    }

    /// Only who may write settings can have written it; it is for them to mend.
    async fn unreadable(&mut self, found: &Stored) -> Result<(), Error> {
        error!(
            subject = found.subject,
            "settings of a queue can't be read; they do not apply"
        );
        Ok(())
    }
}

impl Queues {
    async fn apply(&self, name: &QueueName, settings: &QueueSettings) {
        let priorities: &[Priority] = match settings.lanes {
            true => &Priority::ALL,
            false => &[Priority::Normal],
        };
        for &priority in priorities {
            let lane = Lane {
                queue: name.clone(),
                priority,
            };
            if let Err(error) = self.ensure(&lane, settings.limit).await {
                error!(queue = %lane, %error, "the queue's consumer is not as it must be");
            }
        }
    }

    async fn ensure(&self, lane: &Lane, limit: Option<u32>) -> Result<(), anyhow::Error> {
        let connection = self.client.connection();
        let found = self
            .topology
            .ensure_consumer(connection, lane, limit)
            .await?;
        let wanted = self.topology.consumer(lane, limit);
        if found.max_ack_pending == wanted.max_ack_pending {
            return Ok(());
        }
        let (from, to) = (found.max_ack_pending, wanted.max_ack_pending);
        // All else that the operator set stays.
        let changed = async_nats::jetstream::consumer::pull::Config {
            max_ack_pending: to,
            ..found
        };
        let stream = Place::Jobs.stream(self.client.namespace());
        self.client
            .stream_handle(&stream)
            .await?
            .update_consumer(changed)
            .await?;
        info!(queue = %lane, from, to, "changed the queue's limit");
        Ok(())
    }
}
