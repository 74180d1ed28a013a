//! Reads the stream of later jobs, headers only.

pub(crate) mod access;

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Info;
use chrono::{DateTime, Utc};
use repull::client::{Client, Error, Stored};
use repull::clock;
use repull::wire::{Place, headers};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::access::Access;
use crate::follow::{Sink, Source, follow};
use crate::shard::Input;
use crate::sharding::{Share, shard_of};
use crate::started::Started;
use crate::unreadable::{Found, bury};

struct LaterSink {
    client: Client,
    shards: Vec<mpsc::Sender<Input>>,
    access: Arc<Access>,
    started: Started,
}

/// Follows the stream for as long as the process runs.
pub(crate) async fn watch(
    client: Client,
    shards: Vec<mpsc::Sender<Input>>,
    access: Arc<Access>,
    started: Started,
    stop: CancellationToken,
) {
    let source = source(&client);
    let sink = LaterSink {
        client: client.clone(),
        shards,
        access,
        started,
    };
    follow(client, source, sink, stop).await;
}

fn source(client: &Client) -> Source {
    Source {
        stream: Place::Later.stream(client.namespace()),
        headers_only: true,
        position: watch::Sender::new(0),
    }
}

impl Sink for LaterSink {
    async fn message(&mut self, message: async_nats::jetstream::Message) {
        let Ok(sequence) = message.info().map(|info| info.stream_sequence) else {
            return;
        };
        let run_at = run_at(message.headers.as_ref(), &message.subject);
        let shard = shard_of(&message.subject, self.shards.len() as u16);
        // A closed channel means that the process ends.
        let _ = self.shards[usize::from(shard)]
            .send(Input::Later(run_at, sequence))
            .await;
    }

    fn looked_at(&mut self, info: &Info) {
        self.access.look(info);
    }

    async fn caught_up(&mut self) {
        self.started.done();
    }

    async fn restarted(&mut self) {
        for shard in &self.shards {
            let _ = shard.send(Input::LaterRestarted).await;
        }
    }

    async fn unreadable(&mut self, found: &Stored) -> Result<(), Error> {
        let stream = Place::Later.stream(self.client.namespace());
        match Found::unreadable(found, Place::Later) {
            Some(found) => bury(&self.client, &stream, found).await,
            None => Ok(()),
        }
    }
}

/// When a later job's time comes. One that does not say, or not so that we understand, is due now:
/// better early than never.
fn run_at(headers: Option<&HeaderMap>, subject: &str) -> DateTime<Utc> {
    let text = headers.and_then(|headers| headers.get_last(headers::RUN_AT));
    let time = text.map(|text| DateTime::parse_from_rfc3339(text.as_str().trim()));
    match time {
        Some(Ok(time)) => time.to_utc(),
        Some(Err(_)) => {
            let value = text.map(|text| text.as_str().chars().take(100).collect::<String>());
            warn!(
                subject,
                ?value,
                "header `Repull-Run-At` is not a time (RFC 3339); the job is due now"
            );
            clock::now()
        }
        None => clock::now(),
    }
}

/// The jobs of a shard that are overdue at `until`, read from the stream as it is now.
pub(crate) async fn overdue(
    client: &Client,
    share: &Share,
    until: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, u64)> {
    let (sender, mut receiver) = mpsc::channel(1_024);
    let stop = CancellationToken::new();
    let reader = follow(
        client.clone(),
        source(client),
        Overdue {
            share: share.clone(),
            until,
            sender,
            stop: stop.clone(),
        },
        stop,
    );
    let collect = async {
        let mut jobs = Vec::new();
        while let Some(job) = receiver.recv().await {
            jobs.push(job);
        }
        jobs
    };
    let ((), jobs) = tokio::join!(reader, collect);
    jobs
}

struct Overdue {
    share: Share,
    until: DateTime<Utc>,
    sender: mpsc::Sender<(DateTime<Utc>, u64)>,
    stop: CancellationToken,
}

impl Sink for Overdue {
    async fn message(&mut self, message: async_nats::jetstream::Message) {
        let Ok(sequence) = message.info().map(|info| info.stream_sequence) else {
            return;
        };
        let run_at = run_at(message.headers.as_ref(), &message.subject);
        if run_at <= self.until && self.share.has(&message.subject) {
            let _ = self.sender.send((run_at, sequence)).await;
        }
    }

    async fn caught_up(&mut self) {
        self.stop.cancel();
    }

    async fn restarted(&mut self) {}

    /// Who follows the stream all the time moves it to the dead.
    async fn unreadable(&mut self, _: &Stored) -> Result<(), Error> {
        Ok(())
    }
}
