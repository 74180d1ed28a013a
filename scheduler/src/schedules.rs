//! Watches the bucket of schedules: all that is there, with its history, and then every change.
//!
//! The history matters after an outage: where a schedule was edited meanwhile, the fires before the
//! edit are those of the version before it.

use std::sync::Arc;

use async_nats::jetstream::Message;
use chrono::{DateTime, Utc};
use repull::client::{Client, Error, Stored};
use repull::id::ScheduleId;
use repull::schedule::Schedule;
use repull::topology::Bucket;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::due::Change;
use crate::failures::Watched;
use crate::follow::{Sink, Source, follow};
use crate::shard::Input;
use crate::sharding::shard_of;
use crate::started::Started;

struct Schedules {
    prefix: String,
    shards: Vec<mpsc::Sender<Input>>,
    watched: Arc<Watched>,
    started: Started,
}

/// Follows the bucket for as long as the process runs.
pub(crate) async fn watch(
    client: Client,
    shards: Vec<mpsc::Sender<Input>>,
    position: watch::Sender<u64>,
    watched: Arc<Watched>,
    started: Started,
    stop: CancellationToken,
) {
    let bucket = Bucket::Schedules;
    let source = Source {
        stream: bucket.stream(client.namespace()),
        headers_only: false,
        position,
    };
    let schedules = Schedules {
        prefix: format!("$KV.{}.", bucket.name(client.namespace())),
        shards,
        watched,
        started,
    };
    follow(client, source, schedules, stop).await;
}

impl Sink for Schedules {
    async fn message(&mut self, message: Message) {
        let Ok(info) = message.info() else { return };
        let (revision, stored) = (info.stream_sequence, info.published);
        let Some(key) = message.subject.strip_prefix(self.prefix.as_str()) else {
            return;
        };
        let Some(change) = read(key, &message, revision, stored) else {
            return;
        };
        match &change {
            Change::Put { schedule, .. } => self.watched.put(schedule),
            Change::Removed { id } => self.watched.remove(id),
        }
        let shard = usize::from(shard_of(key, self.shards.len() as u16));
        // A closed channel means that the process ends.
        let _ = self.shards[shard]
            .send(Input::Schedule(revision, change))
            .await;
    }

    async fn caught_up(&mut self) {
        self.started.done();
    }

    async fn restarted(&mut self) {
        for shard in &self.shards {
            let _ = shard.send(Input::SchedulesRestarted).await;
        }
    }

    /// Only who may write schedules can have written it; it is for them to mend.
    async fn unreadable(&mut self, found: &Stored) -> Result<(), Error> {
        error!(
            subject = found.subject,
            "an entry of the bucket of schedules can't be read; it fires nothing"
        );
        Ok(())
    }
}

/// What an entry says. One that can't be used is told of, and fires no more: what it said before is
/// not what its owner wants now.
fn read(key: &str, message: &Message, revision: u64, stored: DateTime<Utc>) -> Option<Change> {
    let id = match ScheduleId::new(key) {
        Ok(id) => id,
        Err(error) => {
            error!(key, revision, %error, "an entry of the bucket of schedules is passed over");
            return None;
        }
    };
    let headers = message.headers.as_ref();
    let is_removed = headers.is_some_and(|headers| headers.get("KV-Operation").is_some());
    if is_removed {
        return Some(Change::Removed { id });
    }
    match Schedule::from_json(key, &message.payload) {
        Ok(schedule) if schedule.id == id => Some(Change::Put {
            schedule: Box::new(schedule),
            revision,
            stored,
        }),
        Ok(schedule) => {
            error!(schedule = key, revision, id = %schedule.id, "schedule does not fire: its `id` is not the key it is stored under");
            Some(Change::Removed { id })
        }
        Err(error) => {
            error!(schedule = key, revision, %error, "schedule does not fire: it can't be used");
            Some(Change::Removed { id })
        }
    }
}
