//! Cancelling, wherever the job is.
//!
//! A job that waits is removed from its streams, one that runs is told through its worker. Whoever
//! ends it says so with its outcome: the worker that ran it, else the client.
//!
//! Best effort in one moment only: a job that a worker takes in while it is being removed may run
//! to its end.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::publish::{Expect, Message};
use super::{Client, Error};
use crate::clock;
use crate::id::{JobId, Lane, QueueName, TaskName};
use crate::wire::{self, Address, EventKind, JobEvent, Place};

/// How long a worker has to say that it runs the job.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How many jobs are cancelled at once.
const WINDOW: usize = 64;

/// The name under which the client tells of a job that no worker ran.
pub const CLIENT: &str = "client";

/// A job that was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// Where it was.
    #[serde(skip)]
    pub address: Address,
    /// Its id.
    pub id: JobId,
    /// Whether it waited in the work queue or was taken from it by a worker.
    pub queued: bool,
    /// Whether it waited for a time.
    pub later: bool,
    /// The worker that ran it and now ends it.
    pub worker: Option<String>,
}

impl Cancelled {
    /// Whether there was anything to cancel.
    pub fn was_there(&self) -> bool {
        self.queued || self.later || self.worker.is_some()
    }
}

/// What one job left in its streams.
struct Removed {
    address: Address,
    queued: Option<StreamMessage>,
    later: Option<StreamMessage>,
}

impl Client {
    /// Cancels every job of this id. An empty answer: none is queued, running or later.
    pub async fn cancel(&self, id: &JobId, reason: &str) -> Result<Vec<Cancelled>, Error> {
        let addresses = self.find_addresses(id).await?;
        let cancelled = self.cancel_all(addresses, reason).await?;
        Ok(cancelled.into_iter().filter(Cancelled::was_there).collect())
    }

    /// The addresses of all jobs that are queued, running or later, of a queue and task where given.
    pub async fn live_addresses(
        &self,
        queue: Option<&QueueName>,
        task: Option<&TaskName>,
    ) -> Result<Vec<Address>, Error> {
        let mut addresses = Vec::new();
        for place in [Place::Jobs, Place::Later] {
            let stream = place.stream(self.namespace());
            for filter in self.filters(place, queue, task) {
                let subjects = self.subjects(&stream, &filter).await?;
                addresses.extend(subjects.iter().filter_map(|(subject, _)| {
                    Address::parse(self.namespace(), place, subject).ok()
                }));
            }
        }
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    }

    /// Cancels the jobs at these addresses.
    pub async fn cancel_all(
        &self,
        addresses: impl IntoIterator<Item = Address>,
        reason: &str,
    ) -> Result<Vec<Cancelled>, Error> {
        let mut removals = stream::iter(addresses)
            .map(|address| self.remove(address))
            .buffer_unordered(WINDOW);
        let mut removed = Vec::new();
        while let Some(one) = removals.next().await {
            removed.push(one?);
        }
        let delivered = self.delivered_up_to(&removed).await?;
        let mut endings = stream::iter(removed)
            .map(|removed| {
                // What was never delivered runs nowhere; nobody needs to be asked.
                let waited = match &removed.queued {
                    Some(message) => delivered
                        .get(&removed.address.lane)
                        .is_none_or(|delivered| message.sequence > *delivered),
                    None => removed.later.is_some(),
                };
                self.end(removed, !waited, reason)
            })
            .buffer_unordered(WINDOW);
        let mut cancelled = Vec::new();
        while let Some(one) = endings.next().await {
            cancelled.push(one?);
        }
        Ok(cancelled)
    }

    /// Later first: what the scheduler moves between the two removals is found by the second.
    async fn remove(&self, address: Address) -> Result<Removed, Error> {
        let later = self.take(&address, Place::Later).await?;
        let queued = self.take(&address, Place::Jobs).await?;
        Ok(Removed {
            address,
            queued,
            later,
        })
    }

    async fn take(&self, address: &Address, place: Place) -> Result<Option<StreamMessage>, Error> {
        let subject = address.subject(self.namespace(), place);
        let Some(message) = self.last_on_subject(place, &subject).await? else {
            return Ok(None);
        };
        let purged = self
            .stream_handle(&place.stream(self.namespace()))
            .await?
            .purge()
            .filter(&subject)
            .await
            .map_err(|error| self.failed(format!("remove `{subject}`"), error))?;
        // Somebody else took it between our look and our removal.
        Ok((purged.purged > 0).then_some(message))
    }

    async fn delivered_up_to(&self, removed: &[Removed]) -> Result<HashMap<Lane, u64>, Error> {
        let mut delivered = HashMap::new();
        for removed in removed.iter().filter(|removed| removed.queued.is_some()) {
            let lane = &removed.address.lane;
            if delivered.contains_key(lane) {
                continue;
            }
            if let Some(info) = self.lane_info(lane).await? {
                delivered.insert(lane.clone(), info.delivered.stream_sequence);
            }
        }
        Ok(delivered)
    }

    async fn end(&self, removed: Removed, ask: bool, reason: &str) -> Result<Cancelled, Error> {
        let address = &removed.address;
        let worker = match ask {
            true => self.request_cancel(&address.id, reason).await?,
            false => None,
        };
        if removed.later.is_some() {
            // The scheduler may have been about to queue it.
            self.take(address, Place::Jobs).await?;
        }
        let message = removed.queued.as_ref().or(removed.later.as_ref());
        if let (None, Some(message)) = (&worker, message) {
            self.tell_cancelled(address, message, reason).await?;
        }
        Ok(Cancelled {
            id: address.id.clone(),
            queued: removed.queued.is_some(),
            later: removed.later.is_some(),
            worker,
            address: removed.address,
        })
    }

    /// Asks the fleet to end a running job; the worker that runs it answers with its id.
    async fn request_cancel(&self, id: &JobId, reason: &str) -> Result<Option<String>, Error> {
        use async_nats::RequestErrorKind::{NoResponders, TimedOut};
        let subject = format!("{}.control.cancel.{id}", self.namespace());
        let request = async_nats::Request::new()
            .payload(Bytes::copy_from_slice(reason.as_bytes()))
            .timeout(Some(ANSWER_TIMEOUT));
        match self.nats().send_request(subject.clone(), request).await {
            Ok(answer) => Ok(Some(String::from_utf8_lossy(&answer.payload).into_owned())),
            // No worker at all, or none that runs it.
            Err(error) if error.kind() == NoResponders => Ok(None),
            Err(error) if error.kind() == TimedOut && self.connection().refusal().is_none() => {
                Ok(None)
            }
            Err(error) => Err(self.failed(format!("ask workers on `{subject}`"), error)),
        }
    }

    /// Stores the outcome of a job that no worker ran.
    async fn tell_cancelled(
        &self,
        address: &Address,
        message: &StreamMessage,
        reason: &str,
    ) -> Result<(), Error> {
        let place = Place::Jobs;
        let subject = address.subject(self.namespace(), place);
        let headers = Some(&message.headers);
        let job = wire::decode(self.namespace(), place, &subject, headers, Bytes::new()).ok();
        if job.as_ref().and_then(|job| job.keep_result) == Some(false) {
            return Ok(());
        }
        let attempts = job.as_ref().map_or(0, |job| job.attempts_used);
        let nonce = job.and_then(|job| job.nonce);
        let kind = EventKind::Cancelled;
        let event = JobEvent {
            nonce: nonce.clone(),
            sequence: Some(message.sequence),
            body: Bytes::copy_from_slice(reason.as_bytes()),
            ..JobEvent::new(kind, attempts, CLIENT, clock::now())
        };
        let stem = nonce.unwrap_or_else(|| format!("{}:{}", address.id, message.sequence));
        let message = Message {
            subject: address.subject(self.namespace(), Place::Results),
            headers: event.encode_headers(),
            body: event.body.clone(),
            id: format!("{stem}:{attempts}:{kind}"),
            expect: Expect::Anything,
        };
        self.publish(&message).await?;
        Ok(())
    }
}
