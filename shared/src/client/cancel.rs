//! Cancelling, wherever the job is.
//!
//! A job that waits is removed from its streams, one that runs is told through its worker. Whoever
//! ends it says so with its outcome: the worker that ran it, else the client.
//!
//! Best effort in one moment only: a job that a worker takes in while it is being removed may run
//! to its end.

use std::collections::{BTreeSet, HashMap, HashSet};
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

/// How many jobs are removed from their streams at once.
const REMOVED_AT_ONCE: usize = 64;

/// How many jobs' workers are asked at once.
const ENDED_AT_ONCE: usize = 1024;

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

/// How far a lane's consumer has come.
#[derive(Debug, Clone, Copy, Default)]
struct Delivered {
    /// The last stream sequence. A removal of what was to come next moves it as well.
    stream: u64,
    /// How many deliveries there have been in all.
    count: u64,
}

/// The stream sequences of the removed messages that may be with a worker. What was never delivered
/// runs nowhere, and nobody needs to be asked for it: that would cost its time for every one of a
/// long queue.
///
/// Deliveries go by stream sequence, so those between the two looks were at most the first so many
/// behind the first look's.
fn maybe_running(
    removed: &[Removed],
    before: &HashMap<Lane, Delivered>,
    after: &HashMap<Lane, Delivered>,
) -> HashSet<u64> {
    let mut by_lane: HashMap<&Lane, Vec<u64>> = HashMap::new();
    for one in removed {
        if let Some(message) = &one.queued {
            let sequences = by_lane.entry(&one.address.lane).or_default();
            sequences.push(message.sequence);
        }
    }
    let mut maybe = HashSet::new();
    for (lane, mut sequences) in by_lane {
        let then = before.get(lane).copied().unwrap_or_default();
        let now = after.get(lane).copied().unwrap_or_default();
        // Fewer than before: the consumer was made anew, and there is no telling.
        let meanwhile = now.count.checked_sub(then.count).unwrap_or(u64::MAX);
        sequences.sort_unstable();
        let (earlier, later): (Vec<u64>, Vec<u64>) = sequences
            .into_iter()
            .partition(|sequence| *sequence <= then.stream);
        maybe.extend(earlier);
        maybe.extend(
            later
                .into_iter()
                .take(usize::try_from(meanwhile).unwrap_or(usize::MAX)),
        );
    }
    maybe
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
        let addresses: Vec<Address> = addresses.into_iter().collect();
        let lanes: BTreeSet<Lane> = addresses.iter().map(|at| at.lane.clone()).collect();
        let before = self.delivered(&lanes).await?;
        let mut removals = stream::iter(addresses)
            .map(|address| self.remove(address))
            .buffer_unordered(REMOVED_AT_ONCE);
        let mut removed = Vec::new();
        while let Some(one) = removals.next().await {
            removed.push(one?);
        }
        let after = self.delivered(&lanes).await?;
        let asked = maybe_running(&removed, &before, &after);
        let mut endings = stream::iter(removed)
            .map(|removed| {
                let ask = match &removed.queued {
                    Some(message) => asked.contains(&message.sequence),
                    // Not in the work queue and not later either: its message may have been removed
                    // by an earlier cancel whose request got lost.
                    None => removed.later.is_none(),
                };
                self.end(removed, ask, reason)
            })
            .buffer_unordered(ENDED_AT_ONCE);
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

    async fn delivered(&self, lanes: &BTreeSet<Lane>) -> Result<HashMap<Lane, Delivered>, Error> {
        let mut delivered = HashMap::new();
        for lane in lanes {
            if let Some(info) = self.lane_info(lane).await? {
                let last = info.delivered;
                delivered.insert(
                    lane.clone(),
                    Delivered {
                        stream: last.stream_sequence,
                        count: last.consumer_sequence,
                    },
                );
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
    pub(super) async fn tell_cancelled(
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

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;

    fn removed(sequence: u64) -> Removed {
        Removed {
            address: Address {
                lane: "q".parse().unwrap(),
                task: "t".parse().unwrap(),
                id: JobId::new(format!("j{sequence}")).unwrap(),
            },
            queued: Some(StreamMessage {
                subject: "s".into(),
                sequence,
                headers: async_nats::HeaderMap::new(),
                payload: Bytes::new(),
                time: Utc::now(),
            }),
            later: None,
        }
    }

    fn asked(before: Option<(u64, u64)>, after: Option<(u64, u64)>) -> Vec<u64> {
        let look = |at: Option<(u64, u64)>| {
            at.map(|(stream, count)| ("q".parse().unwrap(), Delivered { stream, count }))
                .into_iter()
                .collect()
        };
        let removed: Vec<Removed> = [7, 3, 5, 9].map(removed).into();
        let mut asked: Vec<u64> = maybe_running(&removed, &look(before), &look(after))
            .into_iter()
            .collect();
        asked.sort_unstable();
        asked
    }

    #[test]
    fn only_what_may_have_been_delivered_is_asked_for() {
        assert_eq!(
            asked(Some((5, 4)), Some((9, 4))),
            [3, 5],
            "the purge moved the sequence"
        );
        assert_eq!(
            asked(Some((5, 4)), Some((9, 5))),
            [3, 5, 7],
            "one delivery in between"
        );
        assert_eq!(asked(None, None), [0; 0], "no consumer");
        assert_eq!(
            asked(None, Some((9, 2))),
            [3, 5],
            "a consumer made in between"
        );
        assert_eq!(asked(Some((5, 4)), Some((9, 1))), [3, 5, 7, 9], "made anew");
    }
}
