//! Pauses schedules whose jobs fail again and again.
//!
//! The leader of the first shard reads the outcomes of the tasks that such schedules make jobs for,
//! and counts per schedule how many failed in a row. The counts are kept with the sequence up to
//! which outcomes were counted, so that a successor goes on from there. Where a task's outcomes are
//! not kept, its failures are not seen.

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, push};
use async_nats::jetstream::kv;
use futures_util::StreamExt;
use repull::client::Client;
use repull::id::{Lane, ScheduleId, TaskName};
use repull::schedule::Schedule;
use repull::wire::{JobEvent, Place};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use self::tally::Tally;
use crate::lease::Tenure;

/// The key of the counts in the bucket of watermarks.
const KEY: &str = "failures";

/// How often the counts are stored where they changed.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// How long to wait before reading again after something went wrong.
const PAUSE: Duration = Duration::from_secs(2);

/// Schedules that pause themselves, with what is needed to read their jobs' outcomes.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    schedules: Mutex<BTreeMap<ScheduleId, Entry>>,
    changed: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    limit: u32,
    lane: Lane,
    task: TaskName,
}

impl Watched {
    /// Takes in a schedule as it is now.
    pub(crate) fn put(&self, schedule: &Schedule) {
        let entry = schedule
            .pause_after_failures
            .filter(|_| schedule.paused.is_none())
            .map(|limit| Entry {
                limit,
                lane: Lane {
                    queue: schedule.job.queue.clone(),
                    priority: schedule.job.priority,
                },
                task: schedule.job.task.clone(),
            });
        let mut schedules = self.lock();
        let before = schedules.get(&schedule.id);
        if before == entry.as_ref() {
            return;
        }
        match entry {
            Some(entry) => schedules.insert(schedule.id.clone(), entry),
            None => schedules.remove(&schedule.id),
        };
        drop(schedules);
        self.changed.notify_one();
    }

    /// Forgets a schedule.
    pub(crate) fn remove(&self, id: &ScheduleId) {
        if self.lock().remove(id).is_some() {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ScheduleId, Entry>> {
        self.schedules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The subjects on which outcomes of their jobs appear.
    fn subjects(&self, client: &Client) -> BTreeSet<String> {
        let (namespace, place) = (client.namespace(), Place::Results.token());
        let subject =
            |entry: &Entry| format!("{namespace}.{place}.{}.{}.*", entry.lane, entry.task);
        self.lock().values().map(subject).collect()
    }

    fn limit(&self, id: &ScheduleId) -> Option<u32> {
        self.lock().get(id).map(|entry| entry.limit)
    }
}

/// Counts failures while this scheduler leads.
pub(crate) struct Failures {
    pub(crate) client: Client,
    pub(crate) bucket: kv::Store,
    pub(crate) watched: Arc<Watched>,
    /// The lease of the first shard.
    pub(crate) tenure: watch::Receiver<Option<Tenure>>,
}

impl Failures {
    /// Counts until stopped.
    pub(crate) async fn count(self, stop: CancellationToken) {
        loop {
            let mut tenure = self.tenure.clone();
            tokio::select! {
                () = stop.cancelled() => return,
                () = leads(&mut tenure, true) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                read = self.read() => {
                    if let Err(error) = read {
                        debug!(%error, "reading outcomes for schedules that pause themselves was interrupted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Reads outcomes until the lease or the set of subjects changes.
    async fn read(&self) -> Result<(), async_nats::Error> {
        let mut tenure = self.tenure.clone();
        let subjects = self.watched.subjects(&self.client);
        if subjects.is_empty() {
            tokio::select! {
                () = self.watched.changed.notified() => {}
                () = leads(&mut tenure, false) => {}
            }
            return Ok(());
        }
        let mut tally = self.load().await?;
        let mut messages = self.messages(&subjects, &mut tally).await?;
        let mut store = tokio::time::interval(STORE_EVERY);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(Ok(message)) => self.take(&mut tally, &message).await,
                    Some(Err(error)) => debug!(%error, "the reader of outcomes is made anew"),
                    None => return Err("the subscription ended".into()),
                },
                _ = store.tick() => self.store(&mut tally).await,
                () = self.watched.changed.notified() => {
                    if self.watched.subjects(&self.client) != subjects {
                        self.store(&mut tally).await;
                        return Ok(());
                    }
                }
                () = leads(&mut tenure, false) => return Ok(()),
            }
        }
    }

    async fn messages(
        &self,
        subjects: &BTreeSet<String>,
        tally: &mut Tally,
    ) -> Result<push::Ordered, async_nats::Error> {
        let stream = self
            .client
            .jetstream()
            .get_stream(Place::Results.stream(self.client.namespace()))
            .await?;
        let last = stream.cached_info().state.last_sequence;
        if tally.is_new() || tally.position() > last {
            // Never counted, or another stream than before: from now on.
            tally.restart(last);
        }
        let config = push::OrderedConfig {
            deliver_subject: self.client.nats().new_inbox(),
            description: Some("Repull: failures of scheduled jobs".to_owned()),
            filter_subjects: subjects.iter().cloned().collect(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: tally.position() + 1,
            },
            ..push::OrderedConfig::default()
        };
        Ok(stream.create_consumer(config).await?.messages().await?)
    }

    async fn take(&self, tally: &mut Tally, message: &jetstream::Message) {
        let Ok(info) = message.info() else { return };
        let event = JobEvent::decode(message.headers.as_ref(), bytes::Bytes::new()).ok();
        let schedule = event
            .as_ref()
            .and_then(|event| schedule_of(event.nonce.as_deref()?))
            .zip(event.as_ref());
        let Some((schedule, event)) = schedule else {
            return tally.pass(info.stream_sequence);
        };
        let limit = self.watched.limit(&schedule);
        let count = tally.count(info.stream_sequence, &schedule, event.kind, limit.is_some());
        if limit.is_some_and(|limit| count >= limit) {
            self.pause(&schedule, count).await;
            tally.forget(&schedule);
        }
    }

    async fn pause(&self, schedule: &ScheduleId, count: u32) {
        let reason = format!("{count} of its jobs in a row failed");
        match self
            .client
            .pause_schedule(schedule, "scheduler", &reason)
            .await
        {
            Ok(_) => warn!(%schedule, count, "paused the schedule: its jobs fail"),
            Err(error) => {
                error!(%schedule, %error, "the schedule could not be paused after its jobs failed");
            }
        }
    }

    async fn load(&self) -> Result<Tally, async_nats::Error> {
        let stored = self.bucket.get(KEY).await?;
        Ok(stored.map_or_else(Tally::default, |json| {
            serde_json::from_slice(&json).unwrap_or_default()
        }))
    }

    async fn store(&self, tally: &mut Tally) {
        if !tally.is_changed() {
            return;
        }
        let json = serde_json::to_vec(tally).unwrap_or_default();
        match self.bucket.put(KEY, json.into()).await {
            Ok(_) => tally.stored(),
            Err(error) => debug!(%error, "the counts of failures could not be stored yet"),
        }
    }
}

/// Waits until this scheduler leads, or until it does not.
async fn leads(tenure: &mut watch::Receiver<Option<Tenure>>, wanted: bool) {
    let is_closed = tenure
        .wait_for(|tenure| tenure.is_some() == wanted)
        .await
        .is_err();
    if is_closed {
        // No lease any more: the process ends.
        std::future::pending::<()>().await;
    }
}

/// The schedule in the nonce of a job that it made: `<schedule>-<unix milliseconds>`.
fn schedule_of(nonce: &str) -> Option<ScheduleId> {
    let (schedule, millis) = nonce.rsplit_once('-')?;
    millis.parse::<i64>().ok()?;
    ScheduleId::new(schedule).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_of_a_fire_names_its_schedule() {
        let id = |nonce| schedule_of(nonce).map(|id| id.to_string());
        assert_eq!(id("nightly-1795428000000").as_deref(), Some("nightly"));
        assert_eq!(id("a-b-1795428000000").as_deref(), Some("a-b"));
        assert_eq!(id("0190b5e2c1d57b0f8d4e2a6f9c3b1a70"), None);
        assert_eq!(id("nightly-x"), None);
    }
}
