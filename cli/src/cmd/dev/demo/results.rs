//! Reads the stream of results from a point on: what the account is made of.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, push};
use futures_util::StreamExt;
use repull::client::Client;
use repull::wire::{Address, JobEvent, Place};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ledger::Ledger;

/// How long a reading waits for the next message that the stream has for it.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A point in the stream of results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point(u64);

/// An account that is kept up to date. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Live(Arc<Mutex<Ledger>>);

impl Live {
    /// An account with these expectations.
    pub(super) fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Reads it.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the events from `point` on as they come, until the task is aborted.
    pub(super) async fn follow(
        &self,
        client: &Client,
        point: Point,
    ) -> anyhow::Result<JoinHandle<()>> {
        let mut events = Events::open(client, point).await?;
        let live = self.clone();
        Ok(tokio::spawn(async move {
            while let Some((read, _)) = events.next().await {
                let mut ledger = live.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((id, event)) = read {
                    ledger.take(&id, &event);
                }
            }
        }))
    }
}

/// Where the stream of results ends at this moment.
pub(super) async fn end_of_results(client: &Client) -> anyhow::Result<Point> {
    let name = Place::Results.stream(client.namespace());
    let stream = client.jetstream().get_stream(&name).await;
    let stream = stream.with_context(|| format!("can't look up stream `{name}`"))?;
    Ok(Point(stream.cached_info().state.last_sequence + 1))
}

/// Feeds an account with all that the stream holds from `point` to its end.
pub(super) async fn read_through(
    client: &Client,
    point: Point,
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    let mut events = Events::open(client, point).await?;
    let mut is_at_end = events.is_empty;
    while !is_at_end {
        let next = timeout(SILENCE_MAX, events.next()).await.ok().flatten();
        let (read, pending) = next.context("the stream of results can't be read to its end")?;
        if let Some((id, event)) = read {
            ledger.take(&id, &event);
        }
        is_at_end = pending == 0;
    }
    Ok(())
}

struct Events {
    messages: push::Ordered,
    namespace: repull::id::Namespace,
    is_empty: bool,
}

impl Events {
    async fn open(client: &Client, point: Point) -> anyhow::Result<Self> {
        let name = Place::Results.stream(client.namespace());
        let what = || format!("can't read stream `{name}`");
        let stream = client.jetstream().get_stream(&name).await;
        let consumer = stream
            .with_context(what)?
            .create_consumer(push::OrderedConfig {
                deliver_subject: client.nats().new_inbox(),
                description: Some("Repull: the demo's account".to_owned()),
                replay_policy: ReplayPolicy::Instant,
                deliver_policy: DeliverPolicy::ByStartSequence {
                    start_sequence: point.0,
                },
                ..push::OrderedConfig::default()
            })
            .await
            .with_context(what)?;
        Ok(Self {
            is_empty: consumer.cached_info().num_pending == 0,
            messages: consumer.messages().await.with_context(what)?,
            namespace: client.namespace().clone(),
        })
    }

    /// The next message: the event and the id of its job, where it is one, and how many messages
    /// follow it.
    async fn next(&mut self) -> Option<(Option<(String, JobEvent)>, u64)> {
        loop {
            let Ok(message) = self.messages.next().await? else {
                // It makes itself anew when polled again.
                continue;
            };
            let Ok(pending) = message.info().map(|info| info.pending) else {
                continue;
            };
            let message = message.message;
            let address = Address::parse(&self.namespace, Place::Results, &message.subject);
            let event = JobEvent::decode(message.headers.as_ref(), message.payload);
            let read = address.ok().zip(event.ok());
            return Some((
                read.map(|(address, event)| (address.id.to_string(), event)),
                pending,
            ));
        }
    }
}
